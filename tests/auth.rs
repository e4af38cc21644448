//! Who may ask: tokens over real sockets, what strangers learn, and what callers see of one another.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::process::Stdio;

use serde_json::{Value, json};
use support::{Agent, Home, Reply, exchange, message, program, request};

const ANNA: &str = "tl_anna0123456789abcdef";
const BERT: &str = "tl_bert0123456789abcdef";
const CARD: &str = "/.well-known/agent-card.json";

/// An agent with callers `anna` (two tokens), `bert`, and `guest`, who may only use tasks.
fn agent(more: &str) -> Agent {
    let tokens = format!("anna:{ANNA},bert:{BERT},anna:{ANNA}-new,guest:tl_guest0123456789abcd");
    let toml = format!(
        "{more}\n[callers.guest]\ntoken-env = \"GUEST\"\nrights = \"tasks\"\n[card]\nextended = true\n"
    );
    let guest = ("GUEST", "tl_guest0123456789abcdef");
    Agent::configured(&toml, &[("A2A_AUTH_TOKENS", &tokens), guest])
}

/// One request with these header lines.
fn ask(agent: &Agent, first: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let text = format!(
        "{first} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n\
         Content-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}",
        agent.address
    );
    exchange(agent.address, text.as_bytes())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn rpc(agent: &Agent, token: &str, method: &str, params: Value) -> Value {
    let reply = ask(agent, "POST /", &bearer(token), &request(method, params));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

/// The id of a task that waits for more, sent with 1.0.
fn waiting_task(agent: &Agent, token: &str) -> String {
    let params = json!({"message": {
        "messageId": "m", "role": "ROLE_USER", "parts": [{"text": "remember the door code"}]}});
    let reply = rpc(agent, token, "SendMessage", params);
    reply["result"]["task"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn strangers_learn_the_public_card_and_health_and_nothing_else() {
    let agent = agent("");
    for path in [CARD, "/.well-known/agent.json", "/health", "/healthz", "/readyz"] {
        assert_eq!(ask(&agent, &format!("GET {path}"), "", "").status, 200, "{path}");
    }
    let send = request("message/send", message("25*4"));
    for (first, body) in [
        ("GET /health/detail", ""),
        ("GET /status.json", ""),
        ("GET /metrics", ""),
        ("GET /agents", ""),
        ("POST /", send.as_str()),
        ("POST /", "no JSON at all"),
        ("POST /a2a/jsonrpc", &send),
        ("POST /message:send", "{}"),
        ("GET /tasks", ""),
        ("GET /tasks/00000000-0000-4000-8000-000000000000", ""),
        ("GET /v1/tasks/1", ""),
        ("GET /v1/card", ""),
        ("GET /extendedAgentCard", ""),
        ("GET /nothing/here", ""),
        ("PUT /", "{}"),
    ] {
        let reply = ask(&agent, first, "", body);
        assert_eq!(reply.status, 401, "{first}: {}", reply.body);
        assert_eq!(reply.header("www-authenticate"), Some("bearer realm=\"tetherlet\""));
        let reply = ask(&agent, first, &bearer("tl_wrong"), body);
        // The tenth wrong one in a row is the last that is looked at.
        if reply.status != 429 {
            assert_eq!(reply.status, 401, "{first}: {}", reply.body);
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
    }
}

#[test]
fn a_refusal_has_the_form_of_its_binding() {
    let agent = agent("");
    let reply = ask(&agent, "POST /", "", &request("message/send", message("1")));
    assert_eq!(reply.json()["error"]["code"], -32600);
    assert_eq!(reply.json()["id"], Value::Null);
    let reply = ask(&agent, "GET /tasks", "", "");
    assert_eq!(reply.json()["error"]["code"], 401);
    assert_eq!(reply.json()["error"]["status"], "UNAUTHENTICATED");
    let guest = bearer("tl_guest0123456789abcdef");
    let reply = ask(&agent, "GET /extendedAgentCard", &guest, "");
    assert_eq!(reply.status, 403, "{}", reply.body);
    assert_eq!(reply.json()["error"]["status"], "PERMISSION_DENIED");
    let reply = ask(&agent, "POST /", &guest, &request("GetExtendedAgentCard", json!({})));
    assert_eq!((reply.status, reply.json()["error"]["code"].as_i64()), (403, Some(-32600)));
}

#[test]
fn a_task_of_another_caller_looks_missing() {
    let agent = agent("push.allow-private = true");
    let id = waiting_task(&agent, ANNA);
    let hook = json!({"taskId": id, "url": "http://127.0.0.1:9/", "id": "h"});
    assert!(rpc(&agent, ANNA, "CreateTaskPushNotificationConfig", hook.clone())["error"].is_null());
    let missing = "00000000-0000-4000-8000-000000000000";
    let by_id = |id: &str| {
        [
            ("GetTask", json!({"id": id})),
            ("SubscribeToTask", json!({"id": id})),
            ("CancelTask", json!({"id": id})),
            ("ListTaskPushNotificationConfigs", json!({"taskId": id})),
            ("GetTaskPushNotificationConfig", json!({"taskId": id, "id": "h"})),
            ("DeleteTaskPushNotificationConfig", json!({"taskId": id, "id": "h"})),
            (
                "CreateTaskPushNotificationConfig",
                json!({"taskId": id, "url": "http://127.0.0.1:9/", "id": "h"}),
            ),
            (
                "SendMessage",
                json!({"message": {"messageId": "m", "role": "ROLE_USER",
                "taskId": id, "parts": [{"text": "4711"}]}}),
            ),
        ]
    };
    for ((method, foreign), (_, none)) in by_id(&id).into_iter().zip(by_id(missing)) {
        let foreign = rpc(&agent, BERT, method, foreign);
        assert_eq!(foreign["error"]["code"], -32001, "{method}: {foreign}");
        assert_eq!(foreign, rpc(&agent, BERT, method, none), "{method}");
    }
    assert_eq!(rpc(&agent, BERT, "ListTasks", json!({}))["result"]["totalSize"], 0);
    // Both tokens of one name are the same caller.
    let renewed = format!("{ANNA}-new");
    assert_eq!(rpc(&agent, &renewed, "ListTasks", json!({}))["result"]["totalSize"], 1);
    let task = rpc(&agent, &renewed, "GetTask", json!({"id": id}));
    assert_eq!(task["result"]["status"]["state"], "TASK_STATE_INPUT_REQUIRED");
    let hooks = rpc(&agent, ANNA, "ListTaskPushNotificationConfigs", json!({"taskId": id}));
    assert_eq!(hooks["result"]["configs"].as_array().unwrap().len(), 1);
}

#[test]
fn what_one_caller_remembers_another_does_not_recall() {
    let agent = agent("");
    let say = |token: &str, text: &str| {
        let params = json!({"message": {
            "messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}});
        rpc(&agent, token, "SendMessage", params)["result"].to_string()
    };
    say(ANNA, "remember door code = 4711");
    assert!(say(ANNA, "recall door code").contains("4711"));
    assert!(!say(BERT, "recall door code").contains("4711"));
}

#[test]
fn rights_bound_what_a_caller_may_do() {
    let agent = agent("push.allow-private = true");
    let guest = bearer("tl_guest0123456789abcdef");
    let id = waiting_task(&agent, "tl_guest0123456789abcdef");
    let hook = json!({"taskId": id, "url": "http://127.0.0.1:9/"});
    for (first, body) in [
        ("GET /status.json", String::new()),
        ("GET /metrics", String::new()),
        ("GET /health/detail", String::new()),
        ("POST /", request("CreateTaskPushNotificationConfig", hook)),
        (
            "POST /",
            request(
                "SendMessage",
                json!({"message": {"messageId": "m",
            "role": "ROLE_USER", "parts": [{"text": "1"}]}, "configuration": {
            "taskPushNotificationConfig": {"url": "http://127.0.0.1:9/"}}}),
            ),
        ),
    ] {
        let reply = ask(&agent, first, &guest, &body);
        assert_eq!(reply.status, 403, "{first} {body}: {}", reply.body);
    }
    for first in ["GET /status.json", "GET /metrics", "GET /health/detail", "GET /agents"] {
        assert_eq!(ask(&agent, first, &bearer(ANNA), "").status, 200, "{first}");
    }
    assert_eq!(ask(&agent, "GET /extendedAgentCard", &bearer(ANNA), "").status, 200);
}

#[test]
fn the_card_says_what_is_enforced() {
    let agent = agent("auth.header = \"X-API-Key\"");
    let card = ask(&agent, &format!("GET {CARD}"), "", "").json();
    assert_eq!(
        card["securitySchemes"],
        json!({
            "bearer": {"type": "http", "scheme": "bearer",
                "httpAuthSecurityScheme": {"scheme": "bearer"}},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key",
                "apiKeySecurityScheme": {"location": "header", "name": "X-API-Key"}}
        })
    );
    assert_eq!(card["security"], json!([{"bearer": []}, {"apiKey": []}]));
    assert_eq!(
        card["securityRequirements"],
        json!([{"schemes": {"bearer": {"list": []}}}, {"schemes": {"apiKey": {"list": []}}}])
    );
    let key = format!("X-API-Key: {ANNA}\r\n");
    assert_eq!(ask(&agent, "GET /tasks", &key, "").status, 200);
    let open = Agent::start(&[], &[]);
    assert!(open.get(CARD).json()["securitySchemes"].is_null());
    let off = [("A2A_AUTH_TOKENS", "anna:tl_anna0123456789abcdef"), ("A2A_AUTH_ENABLED", "false")];
    let off = Agent::start(&[], &off);
    assert!(off.get(CARD).json()["securitySchemes"].is_null());
    assert_eq!(off.send("25*4")["status"]["state"], "completed");
}

#[test]
fn wrong_tokens_are_no_longer_looked_at_after_a_while() {
    let mut agent = agent("");
    let statuses: Vec<u16> =
        (0..12).map(|_| ask(&agent, "GET /tasks", &bearer("tl_wrong"), "").status).collect();
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10..], [429; 2]);
    let reply = ask(&agent, "GET /tasks", &bearer("tl_wrong"), "");
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() <= 7);
    // From this machine others may come through the same proxy.
    assert_eq!(ask(&agent, "GET /tasks", &bearer(ANNA), "").status, 200);
    assert!(!agent.wait_for("wrong tokens").contains("tl_"));
}

#[test]
fn a_lan_address_is_bound_with_a_token_and_refused_without() {
    let run = |variables: &[(&str, &str)]| {
        let home = Home::new();
        program(&home.0)
            .args(["run", "--hostname", "0.0.0.0", "--port", "0"])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("tetherlet token new"), "{said}");
    // Configured tokens that nobody is asked for let nobody in.
    let off = [("A2A_AUTH_TOKENS", "a:tl_0123456789abcdef"), ("A2A_AUTH_ENABLED", "0")];
    assert_eq!(run(&off).status.code(), Some(2));
    let required = run(&[("A2A_AUTH_ENABLED", "true")]);
    assert_eq!(required.status.code(), Some(2));
    let tokens = [("A2A_AUTH_TOKENS", "a:tl_0123456789abcdef")];
    let mut open = Agent::start(&["--hostname", "0.0.0.0"], &tokens);
    let address = ([127, 0, 0, 1], open.address.port()).into();
    open.address = address;
    assert_eq!(ask(&open, "GET /tasks", "", "").status, 401);
    assert_eq!(ask(&open, "GET /tasks", &bearer("tl_0123456789abcdef"), "").status, 200);
    assert!(!open.log.contains("without authentication"), "{}", open.log);
}

#[test]
fn the_body_of_a_stranger_is_not_read() {
    let agent = agent("");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n",
        agent.address
    );
    // Not one byte of it comes, and the refusal does all the same.
    let reply = exchange(agent.address, head.as_bytes());
    assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
}

#[test]
fn whoever_may_read_the_agents_configuration_may_talk_to_it() {
    let agent = agent("");
    let port = agent.address.port();
    let tokens =
        agent.home.file("tokens", &format!("guest:tl_guest0123456789abcdef\nanna:{ANNA}\n"));
    let text = format!(
        "listen.port = {port}\nauth.tokens-file = {tokens:?}\ncallers.guest.rights = \"tasks\"\n"
    );
    let client = agent.home.file("client.toml", &text);
    let run = |arguments: &[&str]| {
        program(&agent.home.0)
            .args(arguments)
            .env("TETHERLET_CONFIG", &client)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let done = run(&["status"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = run(&["send", "25*4"]);
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "100\n");
    // The same place by its URL may be somebody else's agent.
    let elsewhere = run(&["send", &agent.url(), "25*4"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    let said = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(said.contains("401") && said.contains("--token-file"), "{said}");
}
