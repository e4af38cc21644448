//! Webhooks over sockets: what they are told and how, what happens when they do not listen, and where none may be.

#[path = "support/provider.rs"]
mod provider;
mod support;

use std::time::Duration;

use provider::{Asked, Event, Provider, Script};
use serde_json::{Value, json};
use support::{Agent, DEADLINE, Reply, exchange, message, request};
use tetherlet::base::clock::Now;

/// An agent that may call webhooks on this machine.
fn agent() -> Agent {
    Agent::configured("[push]\nallow-private = true\n", &[])
}

fn ok() -> Script {
    Script::reply(200, &[], "thanks")
}

/// A request of 1.0.
fn call(agent: &Agent, method: &str, params: Value) -> Value {
    post(agent, "/", &request(method, params)).json()
}

fn post(agent: &Agent, path: &str, body: &str) -> Reply {
    let address = agent.address;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         A2A-Version: 1.0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    exchange(address, format!("{head}{body}").as_bytes())
}

/// `SendMessage` params with a webhook.
fn told(text: &str, hook: &Value) -> Value {
    json!({"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]},
        "configuration": {"taskPushNotificationConfig": hook}})
}

/// Sends a text with a webhook and returns the task.
fn send(agent: &Agent, text: &str, hook: &Value) -> Value {
    let mut reply = call(agent, "SendMessage", told(text, hook));
    assert!(reply["error"].is_null(), "{reply}");
    reply["result"]["task"].take()
}

/// A task that waits for its answer and tells `hook` of everything from now on.
fn asking(agent: &Agent, hook: &Value) -> Value {
    let mut params = told("remember", hook);
    params["configuration"] = json!({});
    let id = call(agent, "SendMessage", params)["result"]["task"]["id"].take();
    let mut config = hook.clone();
    config["taskId"] = id.clone();
    let reply = call(agent, "CreateTaskPushNotificationConfig", config);
    assert!(reply["error"].is_null(), "{reply}");
    id
}

/// Gives the task what it asked for.
fn answer(agent: &Agent, id: &Value) -> Value {
    let params = json!({"message": {"messageId": "m2", "role": "ROLE_USER", "taskId": id,
        "parts": [{"text": "door code = 4711"}]}});
    call(agent, "SendMessage", params)["result"]["task"].take()
}

/// Waits until the agent's counters of notifications are these.
fn counts(agent: &Agent, wanted: &[(&str, u64)]) {
    let end = Now::read().mono + DEADLINE;
    loop {
        let push = agent.status()["push"].take();
        if wanted.iter().all(|(name, count)| push[name] == *count) {
            return;
        }
        assert!(Now::read().mono < end, "{push} is not {wanted:?}");
    }
}

/// Waits until so many notifications were taken and given up, and none is under way.
fn counted(agent: &Agent, pushed: u64, failed: u64) {
    counts(agent, &[("pushed", pushed), ("failed", failed), ("running", 0)]);
}

fn state(asked: &Asked) -> Value {
    asked.json()["task"]["status"]["state"].take()
}

#[test]
fn a_webhook_of_1_0_gets_the_finished_task_as_an_item_of_a_stream() {
    let (agent, hooks) = (agent(), Provider::start([ok()]));
    let task = send(
        &agent,
        "25*4",
        &json!({"url": format!("{}/in?key=a%20b", hooks.url()), "token": "tok",
            "authentication": {"scheme": "Bearer", "credentials": "s3cret"}}),
    );
    let asked = hooks.asked(0);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/in?key=a%20b"));
    assert_eq!(asked.header("host"), Some(hooks.address.to_string().as_str()));
    assert_eq!(asked.header("content-type"), Some("application/a2a+json"));
    assert_eq!(asked.header("a2a-version"), Some("1.0"));
    assert_eq!(asked.header("x-a2a-notification-token"), Some("tok"));
    assert_eq!(asked.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(asked.json(), json!({"task": task}));
    assert_eq!(task["status"]["state"], "TASK_STATE_COMPLETED");
    counted(&agent, 1, 0);
    let (_, log) = agent.stop();
    assert!(!log.contains("s3cret") && !log.contains("tok\"") && !log.contains("key=a"), "{log}");
}

#[test]
fn a_webhook_of_0_3_gets_the_task_itself() {
    let (agent, hooks) = (agent(), Provider::start([ok(), ok()]));
    let mut params = message("25*4");
    params["configuration"] = json!({"pushNotificationConfig": {"url": hooks.url(), "token": "t",
        "authentication": {"schemes": ["Basic"], "credentials": "dTpw"}}});
    let task = agent.result("message/send", params);
    let asked = hooks.asked(0);
    assert_eq!(asked.path, "/");
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("a2a-version"), None);
    assert_eq!(asked.header("x-a2a-notification-token"), Some("t"));
    assert_eq!(asked.header("authorization"), Some("Basic dTpw"));
    assert_eq!(asked.json(), task);
    assert_eq!(task["kind"], "task");

    let rest = json!({"message": {"messageId": "m", "role": "ROLE_USER",
            "content": [{"text": "25*4"}]},
        "configuration": {"pushNotification": {"url": hooks.url()}}});
    let sent = agent.post("/v1/message:send", &rest.to_string()).json();
    let asked = hooks.asked(1);
    assert_eq!(asked.json()["id"], sent["task"]["id"]);
    assert_eq!(asked.json()["kind"], "task", "the SDKs of 0.3 post the same over both bindings");
    assert_eq!(asked.header("authorization"), None);
}

#[test]
fn a_task_that_asks_and_is_answered_tells_both() {
    let (agent, hooks) = (agent(), Provider::start([ok(), ok()]));
    let task = send(&agent, "remember", &json!({"url": hooks.url()}));
    assert_eq!(state(&hooks.asked(0)), "TASK_STATE_INPUT_REQUIRED");
    counted(&agent, 1, 0);
    answer(&agent, &task["id"]);
    assert_eq!(state(&hooks.asked(1)), "TASK_STATE_COMPLETED");
    counted(&agent, 2, 0);
}

#[test]
fn what_changes_while_a_webhook_is_told_is_told_next() {
    let (agent, hooks) = (agent(), Provider::start([ok().behind_a_gate(), ok()]));
    let task = send(&agent, "remember", &json!({"url": hooks.url()}));
    assert_eq!(state(&hooks.asked(0)), "TASK_STATE_INPUT_REQUIRED");
    answer(&agent, &task["id"]);
    assert_eq!(hooks.requests().len(), 1, "one at a time");
    hooks.go(0);
    assert_eq!(state(&hooks.asked(1)), "TASK_STATE_COMPLETED");
    counted(&agent, 2, 0);
}

#[test]
fn every_webhook_of_a_task_is_told() {
    let (agent, first, second) = (agent(), Provider::start([ok()]), Provider::start([ok()]));
    let id = asking(&agent, &json!({"id": "a", "url": first.url()}));
    let config = json!({"id": "b", "url": second.url(), "taskId": id});
    call(&agent, "CreateTaskPushNotificationConfig", config);
    answer(&agent, &id);
    assert_eq!(first.asked(0).json(), second.asked(0).json());
}

#[test]
fn a_failing_webhook_is_told_again() {
    let scripts = [Script::reply(500, &[], "oops"), ok()];
    let (agent, hooks) = (agent(), Provider::start(scripts));
    let task = send(&agent, "25*4", &json!({"url": hooks.url()}));
    assert_eq!(hooks.asked(1).json()["task"]["id"], task["id"]);
    counted(&agent, 1, 0);
}

#[test]
fn a_webhook_that_is_gone_is_not_told_again_and_the_log_names_its_host_alone() {
    let (mut agent, hooks) = (agent(), Provider::start([Script::reply(410, &[], "")]));
    let url = format!("{}/secret?key=1", hooks.url());
    let task = send(&agent, "25*4", &json!({"url": url, "token": "hush"}));
    let line = agent.wait_for("given up");
    assert!(line.contains(task["id"].as_str().unwrap()), "{line}");
    assert!(line.contains(&hooks.address.to_string()) && line.contains("status 410"), "{line}");
    counted(&agent, 0, 1);
    assert_eq!(hooks.requests().len(), 1);
    let (_, log) = agent.stop();
    assert!(!log.contains("secret") && !log.contains("hush"), "{log}");
}

#[test]
fn no_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (agent, other) = (agent(), Provider::start([ok()]));
        let location = format!("{}/other", other.url());
        let redirect = Script::reply(status, &[("Location", &location)], "");
        let hooks = Provider::start([redirect]);
        send(&agent, "25*4", &json!({"url": hooks.url()}));
        counted(&agent, 0, 1);
        assert_eq!((hooks.requests().len(), other.requests().len()), (1, 0), "{status}");
    }
}

#[test]
fn no_proxy_is_asked() {
    let (proxy, hooks) = (Provider::start([]), Provider::start([ok()]));
    let url = proxy.url();
    let variables = ["http_proxy", "HTTP_PROXY", "ALL_PROXY"].map(|name| (name, url.as_str()));
    let agent = Agent::configured("[push]\nallow-private = true\n", &variables);
    send(&agent, "25*4", &json!({"url": format!("http://localhost:{}/", hooks.address.port())}));
    assert_eq!(state(&hooks.asked(0)), "TASK_STATE_COMPLETED");
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn a_stalled_webhook_delays_nobody_else() {
    let (agent, hooks) = (agent(), Provider::start([ok()]));
    let stalled = Provider::start([(); 4].map(|()| Script::silent()));
    for _ in 0..4 {
        send(&agent, "25*4", &json!({"url": stalled.url()}));
    }
    stalled.asked(1);
    send(&agent, "remember", &json!({"url": hooks.url()}));
    assert_eq!(state(&hooks.asked(0)), "TASK_STATE_INPUT_REQUIRED");
    assert_eq!(agent.get("/health").status, 200);
    counts(&agent, &[("pushed", 1), ("running", 2), ("pending", 4), ("failed", 0)]);
    assert_eq!(stalled.requests().len(), 2, "two threads stay for other hosts");
}

#[test]
fn a_webhook_that_never_answers_is_given_up_in_time() {
    let hooks = Provider::start([Script::silent()]);
    let config = "[push]\nallow-private = true\nattempts = 1\ntimeout-s = 1\n";
    let mut agent = Agent::configured(config, &[]);
    send(&agent, "25*4", &json!({"url": hooks.url()}));
    assert!(agent.wait_for("given up").contains("no answer in time"));
    hooks.wait(Event::HungUp(0));
    counted(&agent, 0, 1);
}

#[test]
fn an_answer_without_end_keeps_no_thread() {
    let endless = Script::default()
        .raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        .endless("x".repeat(1000));
    let silent = Script::default().raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").hold();
    let (agent, hooks) = (agent(), Provider::start([endless, silent]));
    for _ in 0..2 {
        send(&agent, "25*4", &json!({"url": hooks.url()}));
    }
    for connection in 0..2 {
        hooks.wait_within(Event::HungUp(connection), Duration::from_secs(10));
    }
    counted(&agent, 2, 0);
}

#[test]
fn a_deleted_webhook_is_told_no_more() {
    let (agent, hooks) = (agent(), Provider::start([ok().behind_a_gate()]));
    let task = send(&agent, "remember", &json!({"id": "h", "url": hooks.url()}));
    hooks.asked(0);
    let named = json!({"taskId": task["id"], "id": "h"});
    let reply = call(&agent, "DeleteTaskPushNotificationConfig", named);
    assert!(reply["error"].is_null(), "{reply}");
    hooks.wait(Event::HungUp(0));
    answer(&agent, &task["id"]);
    counts(&agent, &[("webhooks", 0), ("pending", 0), ("running", 0), ("pushed", 0)]);
    assert_eq!(hooks.requests().len(), 1);
}

#[test]
fn a_finished_task_is_kept_until_its_webhook_was_told() {
    let config = "[push]\nallow-private = true\n[limits]\ntasks = 4\n";
    let (agent, hooks) = (Agent::configured(config, &[]), Provider::start([ok().behind_a_gate()]));
    let task = send(&agent, "25*4", &json!({"url": hooks.url()}));
    hooks.asked(0);
    let get = || agent.rpc("tasks/get", json!({"id": task["id"]}));
    for _ in 0..8 {
        agent.send("25*4");
    }
    assert_eq!(get()["result"]["id"], task["id"]);
    hooks.go(0);
    counted(&agent, 1, 0);
    for _ in 0..8 {
        agent.send("25*4");
    }
    assert_eq!(get()["error"]["code"], -32001);
}

#[test]
fn a_task_too_long_for_a_notification_is_told_by_its_state() {
    let config = "[push]\nallow-private = true\n[limits]\nwork-bytes = \"64KiB\"\n[relay]\ncontext-bytes = \"4KiB\"\n";
    let (agent, hooks) = (Agent::configured(config, &[]), Provider::start([ok()]));
    let text = format!("remember {}= x", " ".repeat(20_000));
    let task = send(&agent, &text, &json!({"url": hooks.url()}));
    let told = hooks.asked(0).json();
    assert_eq!(told["task"]["id"], task["id"]);
    assert_eq!(told["task"]["status"]["state"], task["status"]["state"]);
    assert!(told["task"]["history"].is_null() && !task["history"].is_null(), "{told}");
}

#[test]
fn private_webhooks_are_refused_and_the_key_that_permits_them_is_named() {
    let agent = Agent::start(&[], &[]);
    let hooks = Provider::start([]);
    let port = hooks.address.port();
    for host in ["127.0.0.1", "localhost", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1"]
    {
        let url = format!("http://{host}:{port}/");
        let error = call(&agent, "SendMessage", told("25*4", &json!({"url": url})))["error"].take();
        assert_eq!(error["code"], -32602, "{host}");
        let text = error["message"].as_str().unwrap();
        let member = "configuration.taskPushNotificationConfig.url: ";
        assert!(text.contains(member) && text.contains("push.allow-private"), "{text}");
    }
    let id = agent.send("remember")["id"].take();
    let config = json!({"taskId": id, "pushNotificationConfig": {"url": hooks.url()}});
    let error = agent.rpc("tasks/pushNotificationConfig/set", config)["error"].take();
    assert_eq!(error["code"], -32602);
    assert!(error["message"].as_str().unwrap().contains("pushNotificationConfig.url: "), "{error}");
    for host in ["2130706433", "0x7f.1", "user@example.org", "169.254.169.254", "224.0.0.1"] {
        let config = json!({"taskId": id, "url": format!("http://{host}/")});
        let error = call(&agent, "CreateTaskPushNotificationConfig", config)["error"].take();
        assert_eq!(error["code"], -32602, "{host}");
        assert!(error["message"].as_str().unwrap().contains("url: "), "{error}");
    }
    assert_eq!((agent.status()["push"]["webhooks"].as_u64(), hooks.log().len()), (Some(0), 0));
}

#[test]
fn switched_off_there_are_no_webhooks_at_all() {
    let agent = Agent::configured("[push]\nenabled = false\n", &[]);
    let id = agent.send("remember")["id"].take();
    let url = "https://example.org/";
    let of = json!({"taskId": id, "id": "h", "url": url});
    let unknown = json!({"taskId": "none-of-ours", "id": "h", "url": url});
    for (method, params) in [
        ("CreateTaskPushNotificationConfig", unknown.clone()),
        ("GetTaskPushNotificationConfig", unknown.clone()),
        ("ListTaskPushNotificationConfigs", unknown.clone()),
        ("DeleteTaskPushNotificationConfig", unknown.clone()),
        ("SendMessage", told("25*4", &json!({"url": url}))),
        ("CreateTaskPushNotificationConfig", of.clone()),
        ("GetTaskPushNotificationConfig", of.clone()),
        ("ListTaskPushNotificationConfigs", of.clone()),
        ("DeleteTaskPushNotificationConfig", of.clone()),
    ] {
        assert_eq!(call(&agent, method, params)["error"]["code"], -32003, "{method}");
    }
    let card = agent.get("/.well-known/agent-card.json").json();
    assert_ne!(card["capabilities"]["pushNotifications"], true);
    let card = self::agent().get("/.well-known/agent-card.json").json();
    assert_eq!(card["capabilities"]["pushNotifications"], true);
}

#[test]
fn what_is_being_told_when_the_agent_stops_is_told_to_the_end() {
    let (mut agent, hooks) = (agent(), Provider::start([ok().behind_a_gate(), ok()]));
    send(&agent, "25*4", &json!({"url": hooks.url()}));
    hooks.asked(0);
    agent.signal(rustix::process::Signal::TERM);
    agent.wait_for("stopping");
    hooks.go(0);
    let (status, log) = agent.wait();
    assert!(status.success() && !log.contains("given up"), "{log}");
    hooks.wait(Event::Played(0));
}

#[test]
fn tasks_that_a_stop_ends_are_told_once() {
    let scripts = [ok(), Script::reply(503, &[], "")];
    let (agent, hooks) = (agent(), Provider::start(scripts));
    send(&agent, "remember", &json!({"url": hooks.url()}));
    hooks.asked(0);
    counted(&agent, 1, 0);
    let (status, _) = agent.stop();
    assert!(status.success());
    assert_eq!(state(&hooks.asked(1)), "TASK_STATE_FAILED");
    assert_eq!(hooks.requests().len(), 2, "no retry holds the stop up");
}

#[test]
fn a_dead_webhook_does_not_hold_up_a_stop() {
    let config = "[push]\nallow-private = true\n[run]\ngrace-s = 1\n";
    let (agent, hooks) = (Agent::configured(config, &[]), Provider::start([Script::silent()]));
    send(&agent, "25*4", &json!({"url": hooks.url()}));
    hooks.asked(0);
    let (status, _) = agent.stop();
    assert!(status.success());
}
