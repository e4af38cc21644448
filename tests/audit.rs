//! The audit log: a line for every operation, allowed or refused, that nobody can forge.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, as everything else here does"
)]

mod support;

use serde_json::{Value, json};
use support::{Agent, Home, exchange, message, post_bytes, request};

/// An agent that writes the audit log as JSON, and else only errors.
fn audited() -> Agent {
    let home = Home::new();
    let toml = "listen.port = 0\nlog.format = \"json\"\nlog.audit = true\n\
        push.allow-private = true";
    home.file("agent.toml", toml);
    let mut agent = Agent::start_as(home, &["run", "--config", "agent.toml"], &[]);
    agent.home.file("agent.toml", &format!("{toml}\nlog.level = \"error\""));
    agent.signal(rustix::process::Signal::HUP);
    agent.wait_for("configuration reloaded");
    agent
}

/// The next line of the audit log without what changes from run to run.
fn next(agent: &mut Agent) -> Value {
    let mut line: Value = serde_json::from_str(&agent.wait_for("")).unwrap();
    let line_of = line.as_object_mut().unwrap();
    assert_eq!((&line_of["level"], &line_of["target"]), (&json!("INFO"), &json!("audit")));
    // Who asks is not looked at before the request is one.
    if line_of.get("error").is_none_or(|error| error != "bad_http" && error != "wrong_site") {
        assert_eq!(line_of["caller"], "local");
    }
    assert!(line_of["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    for name in ["ts", "level", "target", "caller", "peer"] {
        line_of.remove(name);
    }
    line
}

/// A call of 0.3 over JSON-RPC, and its line.
fn told(agent: &mut Agent, method: &str, params: Value) -> Value {
    agent.post("/", &request(method, params));
    next(agent)
}

#[test]
fn every_operation_that_is_allowed_is_told_with_its_task() {
    let mut agent = audited();
    let task = agent.send("remember");
    let task = &task["id"];
    let line = |operation: &str| {
        json!({"msg": "allowed", "binding": "jsonrpc", "version": "0.3",
            "operation": operation, "task": task})
    };
    assert_eq!(next(&mut agent), line("SendMessage"));
    let hook = json!({"taskId": task, "pushNotificationConfig": {"url": "http://127.0.0.1:1/"}});
    let one = json!({"id": task, "pushNotificationConfigId": "default"});
    for (method, params, operation) in [
        ("tasks/get", json!({"id": task}), "GetTask"),
        ("tasks/pushNotificationConfig/set", hook, "CreateTaskPushNotificationConfig"),
        ("tasks/pushNotificationConfig/get", one.clone(), "GetTaskPushNotificationConfig"),
        (
            "tasks/pushNotificationConfig/list",
            json!({"id": task}),
            "ListTaskPushNotificationConfigs",
        ),
        ("tasks/pushNotificationConfig/delete", one, "DeleteTaskPushNotificationConfig"),
    ] {
        assert_eq!(told(&mut agent, method, params), line(operation), "{method}");
    }
    let mut events = agent.stream("tasks/resubscribe", json!({"id": task}));
    events.next().unwrap();
    assert_eq!(next(&mut agent), line("SubscribeToTask"));
    assert_eq!(told(&mut agent, "tasks/cancel", json!({"id": task})), line("CancelTask"));
    let mut events = agent.stream("message/stream", message("25*4"));
    let id = events.next().unwrap()["id"].take();
    let mut streamed = line("SendStreamingMessage");
    streamed["task"] = id;
    assert_eq!(next(&mut agent), streamed);
    // Through the other binding, under a label.
    let head = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nA2A-Version: 1.0\r\nConnection: close\r\n\r\n"
        )
    };
    let reply = exchange(agent.address, head("GET", "/lab/tasks").as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    let list = json!({"msg": "allowed", "binding": "rest", "version": "1.0",
        "operation": "ListTasks", "tenant": "lab"});
    assert_eq!(next(&mut agent), list);
    // Pages are no operations.
    agent.get("/health");
    agent.get("/.well-known/agent-card.json");
    let (_, log) = agent.stop();
    assert!(
        !log.lines()
            .skip_while(|line| !line.contains("\"lab\""))
            .any(|line| line.contains("health"))
    );
}

#[test]
fn every_operation_that_is_refused_is_told_with_its_error() {
    let mut agent = audited();
    let nobodys = "00000000-0000-4000-8000-000000000000";
    let none = json!({"id": nobodys});
    let hook = json!({"taskId": nobodys, "pushNotificationConfig": {"url": "http://127.0.0.1:1/"}});
    for (method, params, operation, error) in [
        ("tasks/get", none.clone(), "GetTask", "task_not_found"),
        ("tasks/cancel", none.clone(), "CancelTask", "task_not_found"),
        ("tasks/resubscribe", none.clone(), "SubscribeToTask", "task_not_found"),
        (
            "tasks/pushNotificationConfig/set",
            hook,
            "CreateTaskPushNotificationConfig",
            "task_not_found",
        ),
        (
            "tasks/pushNotificationConfig/list",
            none,
            "ListTaskPushNotificationConfigs",
            "task_not_found",
        ),
    ] {
        let expected = json!({"msg": "refused", "binding": "jsonrpc", "version": "0.3",
            "operation": operation, "task": nobodys, "error": error});
        assert_eq!(told(&mut agent, method, params), expected, "{method}");
    }
    for (method, params, operation, error) in [
        ("message/send", json!({}), json!("SendMessage"), "invalid_params"),
        ("message/stream", message(" "), json!("SendStreamingMessage"), "invalid_params"),
        ("tasks/get", json!({"id": "x"}), json!("GetTask"), "task_not_found"),
        (
            "agent/getAuthenticatedExtendedCard",
            json!({}),
            json!("GetExtendedAgentCard"),
            "extended_card_not_configured",
        ),
        ("SendMessage", json!({}), json!("SendMessage"), "version_not_supported"),
        ("no/such", json!({}), Value::Null, "method_not_found"),
    ] {
        let line = told(&mut agent, method, params);
        assert_eq!((&line["msg"], &line["operation"]), (&json!("refused"), &operation), "{line}");
        assert_eq!(line["error"], error, "{line}");
    }
    for (bytes, error) in [
        (post_bytes(agent.address, "/", "{"), "parse"),
        (post_bytes(agent.address, "/", &" ".repeat(300_000)), "too_large"),
        (
            post_bytes(agent.address, "/", "{}").replace("application/json", "text/plain"),
            "media_type",
        ),
        (
            "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            "no_such_path",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), "bad_http"),
        (
            "PUT /v1/tasks/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            "method_not_allowed",
        ),
    ] {
        exchange(agent.address, bytes.as_bytes());
        let line = next(&mut agent);
        assert_eq!((&line["msg"], &line["error"]), (&json!("refused"), &json!(error)), "{line}");
    }
}

#[test]
fn a_task_of_another_label_looks_missing_and_the_line_says_who_tried() {
    let mut agent = audited();
    let task = agent.send("25*4");
    next(&mut agent);
    let id = task["id"].as_str().unwrap();
    let head = format!(
        "POST /lab/tasks/{id}:cancel HTTP/1.1\r\nHost: localhost\r\nA2A-Version: 1.0\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(exchange(agent.address, head.as_bytes()).status, 404);
    let expected = json!({"msg": "refused", "binding": "rest", "version": "1.0",
        "operation": "CancelTask", "task": id, "tenant": "lab", "error": "task_not_found"});
    assert_eq!(next(&mut agent), expected);
}

/// One request of 1.0 with a token, and the line about it without the time.
fn shown(agent: &mut Agent, token: &str, first: &str, body: &str) -> Value {
    let text = format!(
        "{first} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n\
         Content-Length: {}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n{body}",
        body.len()
    );
    exchange(agent.address, text.as_bytes());
    serde_json::from_str(&agent.wait_for("")).unwrap()
}

#[test]
fn callers_have_their_names_and_their_tokens_stay_out_of_it() {
    const ANNA: &str = "tl_canary_anna_0123456789";
    const BERT: &str = "tl_canary_bert_0123456789";
    let home = Home::new();
    home.file(
        "agent.toml",
        &format!(
            "listen.port = 0\n[callers.anna]\ntoken = \"{ANNA}\"\n\
             [callers.bert]\ntoken = \"{BERT}\"\nrights = \"tasks\"\n[card]\nextended = true\n\
             [log]\naudit = true\nformat = \"json\"\n"
        ),
    );
    let mut agent = Agent::start_as(home, &["run", "--config", "agent.toml"], &[]);
    agent.wait_for("no model is configured");
    let send = json!({"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "remember"}]});
    let send = json!({"message": send}).to_string();
    let line = shown(&mut agent, ANNA, "POST /message:send", &send);
    let task = line["task"].as_str().unwrap().to_owned();
    assert_eq!((&line["msg"], &line["caller"]), (&json!("allowed"), &json!("anna")));
    for (first, operation, error) in [
        (format!("GET /tasks/{task}"), "GetTask", "task_not_found"),
        (format!("POST /tasks/{task}:cancel"), "CancelTask", "task_not_found"),
        (format!("POST /tasks/{task}:subscribe"), "SubscribeToTask", "task_not_found"),
        (
            format!("GET /tasks/{task}/pushNotificationConfigs"),
            "ListTaskPushNotificationConfigs",
            "forbidden",
        ),
    ] {
        let line = shown(&mut agent, BERT, &first, "");
        assert_eq!((&line["msg"], &line["caller"]), (&json!("refused"), &json!("bert")), "{line}");
        assert_eq!(
            (&line["operation"], &line["error"]),
            (&json!(operation), &json!(error)),
            "{line}"
        );
        assert_eq!(line["task"], *task, "{line}");
    }
    let line = shown(&mut agent, BERT, "GET /extendedAgentCard", "");
    assert_eq!((&line["caller"], &line["error"]), (&json!("bert"), &json!("forbidden")), "{line}");
    let line = shown(&mut agent, BERT, "GET /status.json", "");
    assert_eq!((&line["path"], &line["error"]), (&json!("/status.json"), &json!("forbidden")));
    assert_eq!((&line["msg"], &line["caller"]), (&json!("refused"), &json!("bert")), "{line}");
    for (first, place) in [
        ("GET /metrics".to_owned(), ("path", "/metrics")),
        (format!("GET /tasks/{task}"), ("binding", "rest")),
    ] {
        let line = shown(&mut agent, "tl_canary_wrong", &first, "");
        assert_eq!(line["error"], "unauthenticated", "{line}");
        assert_eq!((&line[place.0], &line["caller"]), (&json!(place.1), &Value::Null), "{line}");
    }
    for _ in 0..10 {
        shown(&mut agent, "tl_canary_wrong", "GET /metrics", "");
    }
    let line = shown(&mut agent, "tl_canary_wrong", "GET /metrics", "");
    assert_eq!(line["error"], "too_many_tries", "{line}");
    let (_, log) = agent.stop();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn nothing_is_written_unless_it_is_asked_for_and_a_reload_asks() {
    let mut agent = Agent::configured("", &[]);
    agent.send("25*4");
    agent.get("/nowhere");
    agent.home.file("agent.toml", "log.audit = true");
    agent.signal(rustix::process::Signal::HUP);
    let line = agent.wait_for("configuration reloaded");
    assert!(line.ends_with("changed: log.audit"), "{line}");
    assert!(!agent.log.contains("audit:"), "{}", agent.log);
    agent.send("25*4");
    let line = agent.wait_for("audit: ");
    let (_, told) = line.split_once(" INFO  audit: allowed caller=local peer=127.0.0.1:").unwrap();
    let (_, told) = told.split_once(' ').unwrap();
    assert!(told.starts_with("binding=jsonrpc version=0.3 operation=SendMessage task="), "{line}");
}

#[test]
fn a_label_with_quotes_and_line_ends_forges_nothing() {
    let home = Home::new();
    let flags = ["run", "--port", "0", "--log-format", "journal"];
    let mut agent = Agent::start_as(home, &flags, &[("TETHERLET_LOG_AUDIT", "1")]);
    let forged = "x\" caller=root\u{2028}<6>audit: allowed \u{1b}[2J\u{202e}";
    let mut params = message("25*4");
    params["message"]["messageId"] = json!("m\n<6>audit: allowed caller=root");
    params["tenant"] = json!(forged);
    params["message"]["role"] = json!("ROLE_USER");
    params["message"]["parts"] = json!([{"text": "25*4"}]);
    let body = request("SendMessage", params).replace("\"kind\":\"message\",", "");
    let bytes = post_bytes(agent.address, "/", &body).replacen(
        "Host:",
        "A2A-Version: 1.0\r\nUser-Agent: x\ty\r\nHost:",
        1,
    );
    let reply = exchange(agent.address, bytes.as_bytes());
    let line = agent.wait_for("audit: ");
    // Control characters are refused before they are a label; with those cut out it is one.
    assert!(line.starts_with("<6>audit: refused caller=local "), "{line} {reply:?}");
    let bytes = bytes.replace("\\u001b", "");
    let length = body.len() - "\\u001b".len();
    let bytes = bytes.replace(&format!("Length: {}", body.len()), &format!("Length: {length}"));
    let reply = exchange(agent.address, bytes.as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    let line = agent.wait_for("audit: ");
    assert!(line.starts_with("<6>audit: allowed caller=local "), "{line}");
    let tenant = r#" tenant="x\" caller=root\u{2028}<6>audit: allowed [2J\u{202e}""#;
    assert!(line.ends_with(tenant), "{line}");
    let (_, log) = agent.stop();
    assert!(!log.contains('\u{2028}') && !log.contains('\u{1b}'), "{log}");
}
