//! Rules of the protocol that clients hold an agent to, each found by a client that met something else.

mod support;

use serde_json::{Value, json};
use support::{Agent, Reply, exchange, message, post_bytes, request};

/// Posts to `path` with further header lines.
fn post(agent: &Agent, path: &str, headers: &str, body: &str) -> Reply {
    let whole = post_bytes(agent.address, path, body);
    let whole = whole.replacen("\r\n", &format!("\r\n{headers}"), 1);
    exchange(agent.address, whole.as_bytes())
}

/// A JSON-RPC request of 1.0.
fn rpc_1(agent: &Agent, method: &str, params: Value) -> Value {
    post(agent, "/", "A2A-Version: 1.0\r\n", &request(method, params)).json()
}

/// A message of 1.0.
fn message_1(text: &str) -> Value {
    json!({"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}})
}

#[test]
fn a_request_without_an_id_is_told_its_other_mistake_first() {
    let agent = Agent::start(&[], &[]);
    let code = |body: Value| agent.post("/", &body.to_string()).json()["error"]["code"].clone();
    assert_eq!(code(json!({"jsonrpc": "2.0", "method": "message/sent", "params": {}})), -32601);
    assert_eq!(
        code(json!({"jsonrpc": "2.0", "method": "message/send", "params": {"": 1}})),
        -32602
    );
    let whole = json!({"jsonrpc": "2.0", "method": "message/send", "params": message("1+1")});
    assert_eq!(code(whole), -32600);
    assert_eq!(agent.status()["tasks"]["submitted"], 0, "what is refused is not carried out");
}

#[test]
fn a_refused_stream_of_0_3_is_a_stream_of_that_one_error() {
    let agent = Agent::start(&[], &[]);
    let done = agent.send("1+1")["id"].clone();
    let nobody = json!("00000000-0000-4000-8000-000000000000");
    let mut to_nobody = message("1+1");
    to_nobody["message"]["taskId"] = nobody.clone();
    let mut to_nonsense = message("1+1");
    to_nonsense["message"]["taskId"] = json!("nonsense");
    for (method, params, code) in [
        ("tasks/resubscribe", json!({"id": nobody}), -32001),
        ("tasks/resubscribe", json!({"id": "nonsense"}), -32001),
        ("tasks/resubscribe", json!({"id": done}), -32004),
        ("tasks/resubscribe", json!({}), -32602),
        ("message/stream", to_nobody, -32001),
        ("message/stream", to_nonsense, -32001),
        ("message/stream", json!({}), -32602),
    ] {
        let reply = agent.post("/", &request(method, params.clone()));
        assert_eq!(reply.status, 200, "{method} {params}");
        assert_eq!(reply.header("content-type"), Some("text/event-stream"), "{method} {params}");
        let data = reply.body.strip_prefix("data: ").unwrap_or_else(|| panic!("{reply:?}"));
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&event["id"], &event["error"]["code"]), (&json!(1), &json!(code)), "{event}");
    }
}

#[test]
fn a_refused_stream_of_1_0_is_no_stream() {
    let agent = Agent::start(&[], &[]);
    let nobody = json!({"id": "00000000-0000-4000-8000-000000000000"});
    let body = request("SubscribeToTask", nobody);
    let reply = post(&agent, "/", "A2A-Version: 1.0\r\n", &body);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json()["error"]["code"], -32001);
}

#[test]
fn params_are_read_by_the_names_of_the_proto_too() {
    let agent = Agent::start(&[], &[]);
    let task = rpc_1(&agent, "SendMessage", message_1("1+1"))["result"]["task"].take();
    let got = |length: u32| {
        let params = json!({"id": task["id"], "history_length": length});
        rpc_1(&agent, "GetTask", params)["result"].take()
    };
    assert!(got(0)["history"].is_null());
    assert_eq!(got(1)["history"].as_array().map(Vec::len), Some(1));
    let listed =
        rpc_1(&agent, "ListTasks", json!({"context_id": task["contextId"], "page_size": 1}));
    let listed = &listed["result"];
    assert_eq!((&listed["totalSize"], &listed["pageSize"]), (&json!(1), &json!(1)), "{listed}");
    let body = json!({"message": {"message_id": "m", "role": "ROLE_USER",
        "context_id": task["contextId"], "content": [{"text": "2+2"}]},
        "configuration": {"history_length": 0}});
    let reply = agent.post("/v1/message:send", &body.to_string()).json();
    assert_eq!(reply["task"]["contextId"], task["contextId"], "{reply}");
    assert!(reply["task"]["history"].is_null(), "{reply}");
}

#[test]
fn a_list_takes_room_for_what_it_tells_alone() {
    let agent = Agent::configured(
        "[limits]\nstore-bytes = \"2MiB\"\nbody-bytes = \"128KiB\"\nin-flight-bytes = \"512KiB\"\n",
        &[],
    );
    let long = format!("Analyze text: {}", "word ".repeat(20_000));
    for _ in 0..8 {
        agent.send(&long);
    }
    let all = rpc_1(&agent, "ListTasks", json!({"historyLength": 0}));
    assert_eq!(all["result"]["tasks"].as_array().map(Vec::len), Some(8), "{all}");
}

#[test]
fn without_webhooks_that_is_said_before_any_task_is_looked_for() {
    let agent = Agent::configured("[push]\nenabled = false\n", &[]);
    let task = agent.send("1+1")["id"].as_str().unwrap().to_owned();
    for id in ["no-id-of-ours", "00000000-0000-4000-8000-000000000000", &task] {
        let hook = json!({"taskId": id, "id": "h", "url": "http://127.0.0.1:9/"});
        for method in [
            "CreateTaskPushNotificationConfig",
            "GetTaskPushNotificationConfig",
            "ListTaskPushNotificationConfigs",
            "DeleteTaskPushNotificationConfig",
        ] {
            let reply = rpc_1(&agent, method, hook.clone());
            assert_eq!(reply["error"]["code"], -32003, "{method} {id} {reply}");
        }
        let path = format!("/tasks/{id}/pushNotificationConfigs");
        let reply = post(&agent, &path, "A2A-Version: 1.0\r\n", &hook.to_string());
        assert_eq!(reply.status, 400, "{reply:?}");
        let reason = &reply.json()["error"]["details"][0]["reason"];
        assert_eq!(reason, "PUSH_NOTIFICATION_NOT_SUPPORTED", "{id}");
    }
}

#[test]
fn a_webhook_without_id_is_found_as_the_default_one_of_0_3() {
    let agent = Agent::configured("[push]\nallow-private = true\n", &[]);
    let task = agent.send("remember the door code")["id"].clone();
    let set = |url: &str| {
        let config = json!({"taskId": task, "pushNotificationConfig": {"url": url}});
        agent.result("tasks/pushNotificationConfig/set", config)
    };
    set("http://127.0.0.1:9/one");
    set("http://127.0.0.1:9/two");
    let named = json!({"id": task, "pushNotificationConfigId": "default"});
    let found = agent.result("tasks/pushNotificationConfig/get", named);
    assert_eq!(found["pushNotificationConfig"]["url"], "http://127.0.0.1:9/two");
}

#[test]
fn an_empty_authentication_is_none() {
    let agent = Agent::configured("[push]\nallow-private = true\n", &[]);
    let task = agent.send("remember the door code")["id"].as_str().unwrap().to_owned();
    let config = json!({"parent": format!("tasks/{task}"), "config_id": "c", "config": {
        "push_notification_config": {"id": "c", "url": "http://127.0.0.1:9/", "token": "", "authentication": {}}}});
    let path = format!("/v1/tasks/{task}/pushNotificationConfigs");
    let made = agent.post(&path, &config.to_string()).json();
    assert_eq!(made["pushNotificationConfig"], json!({"id": "c", "url": "http://127.0.0.1:9/"}));
}
