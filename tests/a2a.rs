//! The protocol over a socket: what a message becomes, and how it is told.

mod support;

use serde_json::json;
use support::{Agent, message, reply_of, streamed};

#[test]
fn a_calculation_is_answered_in_artifact_and_status() {
    let agent = Agent::start(&[], &[]);
    let task = agent.send("Calculate 25 * 4");
    assert_eq!(task["status"]["state"], "completed", "{task}");
    assert_eq!(reply_of(&task), "100");
    assert_eq!(task["status"]["message"]["parts"][0]["text"], "100");
    assert_eq!(task["history"][0]["parts"][0]["text"], "Calculate 25 * 4");
    let again = agent.result("tasks/get", json!({"id": task["id"]}));
    assert_eq!(again, task);
}

#[test]
fn a_stream_begins_with_the_task_and_ends_with_its_final_state() {
    let agent = Agent::start(&[], &[]);
    let stream = agent.stream("message/stream", message("25*4"));
    assert!(stream.head.contains("content-type: text/event-stream"));
    assert!(stream.head.contains("cache-control: no-cache, no-transform"));
    assert!(stream.head.contains("x-accel-buffering: no"));
    let events = stream.rest();
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["task", "artifact-update", "status-update"]);
    assert_eq!(events[0]["status"]["state"], "working");
    assert_eq!(streamed(&events), "100");
    assert_eq!(events[2]["final"], true);
    assert_eq!(events[2]["status"]["state"], "completed");
}
