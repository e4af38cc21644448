//! One model behind the agent, played by a provider that does what each test tells it: streaming, cancelling,
//! failing, waiting, ending.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, as everything else here does"
)]

mod support;

#[path = "support/provider.rs"]
mod provider;

use std::io::{Read, Write};
use std::time::Duration;

use provider::{Blackhole, Event, Form, Provider, Script, frame};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Agent, Events, Home, message, program, reply_of, request, streamed};

/// Of no known shape, so that only its value can give it away.
const KEY: &str = "canary7f3a9c51e0b2d846";

/// The shortest timers there are.
const QUICK: &str = "max = 1\nconnect-s = 1\nfirst-local-s = 1\nidle-s = 1";

/// Cancelling closes the upstream socket within a tenth of this.
const CLOSED: Duration = Duration::from_secs(1);

/// A connection that is not ready for the next turn is given up within a tenth of this.
const GIVEN_UP: Duration = Duration::from_millis(2500);

/// An agent whose model is at `url`, with these settings below `[relay]`.
fn agent_at(form: Form, url: &str, relay: &str) -> Agent {
    let (key, base) = match form {
        Form::OpenAi => ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        Form::Anthropic => ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    };
    Agent::configured(&format!("[relay]\n{relay}\n"), &[(key, KEY), (base, url)])
}

fn agent_of(provider: &Provider, relay: &str) -> Agent {
    agent_at(Form::OpenAi, &provider.url(), relay)
}

fn good(tokens: &[&str]) -> Script {
    Script::good(Form::OpenAi, tokens)
}

fn gated(tokens: &[&str]) -> Script {
    Script::gated(Form::OpenAi, tokens)
}

fn token(text: &str) -> String {
    Form::OpenAi.token(text)
}

/// The beginning of a reply: a head and one token.
fn begun() -> Script {
    Script::stream().piece(Form::OpenAi.opening()).piece(token("one "))
}

/// The same params for a caller that does not wait.
fn at_once(mut params: Value) -> Value {
    params["configuration"]["blocking"] = json!(false);
    params
}

fn in_context(text: &str, context: &str) -> Value {
    let mut params = message(text);
    params["message"]["contextId"] = json!(context);
    params
}

fn state(task: &Value) -> &str {
    task["status"]["state"].as_str().unwrap_or_default()
}

/// What the agent says about a task.
fn said(task: &Value) -> &str {
    task["status"]["message"]["parts"][0]["text"].as_str().unwrap_or_default()
}

fn text_of(event: &Value) -> &str {
    assert_eq!(event["kind"], "artifact-update", "{event}");
    event["artifact"]["parts"][0]["text"].as_str().unwrap_or_default()
}

/// Opens a stream for a new message and takes its first event, the task.
fn begin(agent: &Agent, text: &str) -> (Events, Value) {
    let mut events = agent.stream("message/stream", message(text));
    let task = events.next().unwrap();
    assert_eq!((task["kind"].as_str(), state(&task)), (Some("task"), "working"), "{task}");
    (events, task)
}

fn get(agent: &Agent, task: &Value) -> Value {
    agent.result("tasks/get", json!({"id": task["id"]}))
}

fn cancel(agent: &Agent, task: &Value) -> Value {
    agent.result("tasks/cancel", json!({"id": task["id"]}))
}

fn subscribe(agent: &Agent, task: &Value) -> Events {
    agent.stream("tasks/resubscribe", json!({"id": task["id"]}))
}

/// The last event of a stream, which must say so.
fn last(events: &[Value]) -> &Value {
    let last = events.last().unwrap();
    assert_eq!((&last["kind"], &last["final"]), (&json!("status-update"), &json!(true)), "{last}");
    last
}

/// Sends a message to a provider that plays `script`; afterwards the agent must serve as if nothing had been.
fn reply_to(script: Script, relay: &str) -> Value {
    let provider = Provider::start([script]);
    let agent = agent_of(&provider, relay);
    let task = agent.send("Tell me about tides");
    assert_still_serves(&agent);
    task
}

fn assert_still_serves(agent: &Agent) {
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    let next = agent.send("Tell me more");
    assert_eq!((state(&next), reply_of(&next)), ("completed", "fine"), "{next}");
}

/// The task fails, says `what`, and keeps the text that came before.
fn assert_fails(script: Script, relay: &str, what: &str, partial: &str) {
    let task = reply_to(script, relay);
    assert_eq!(state(&task), "failed", "{task}");
    assert!(said(&task).contains(what), "{}", said(&task));
    assert_eq!(reply_of(&task), partial, "{task}");
}

#[test]
fn the_fault_server_resets_where_it_says_so() {
    let provider = Provider::start([begun().reset()]);
    let mut stream = support::connect(provider.address);
    stream.write_all(support::post_bytes(provider.address, "/", "{}").as_bytes()).unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(provider.asked(0).body, "{}");
}

// Streaming.

fn assert_streams_token_by_token(form: Form, model: &str) {
    let tokens = ["The ", "sea ", "rises."];
    let provider = Provider::start([Script::gated(form, &tokens)]);
    let agent = agent_at(form, &provider.url(), "");
    let (mut events, task) = begin(&agent, "Tell me about tides");
    for (at, token) in tokens.iter().enumerate() {
        provider.go(0);
        let event = events.next().unwrap();
        assert_eq!(text_of(&event), *token);
        assert_eq!(event["append"], at > 0, "{event}");
    }
    provider.go(0);
    let rest = events.rest();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(state(last(&rest)), "completed");
    let whole = get(&agent, &task);
    assert_eq!((reply_of(&whole), said(&whole)), ("The sea rises.", "The sea rises."));
    let metadata = json!({"model": model, "finishReason": "stop", "inputTokens": 11,
        "outputTokens": 7});
    assert_eq!(whole["metadata"], metadata);
}

#[test]
fn each_token_is_seen_before_openai_sends_the_next() {
    assert_streams_token_by_token(Form::OpenAi, "openai/gpt-4o");
}

#[test]
fn each_token_is_seen_before_anthropic_sends_the_next() {
    assert_streams_token_by_token(Form::Anthropic, "anthropic/claude-sonnet-4-20250514");
}

#[test]
fn openai_gets_path_model_and_key_and_is_asked_for_a_plain_stream() {
    let provider = Provider::start([]);
    let agent = agent_of(&provider, "");
    agent.send("Tell me about tides");
    let asked = provider.asked(0);
    assert_eq!((&*asked.method, &*asked.path), ("POST", "/v1/chat/completions"));
    assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(asked.header("x-api-key"), None);
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let body = asked.json();
    assert_eq!((&body["model"], &body["stream"]), (&json!("gpt-4o"), &json!(true)));
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!(asked.said(), ["user: Tell me about tides"]);
}

#[test]
fn anthropic_gets_path_model_version_and_key_and_is_asked_for_a_plain_stream() {
    let provider = Provider::start([Script::good(Form::Anthropic, &["fine"])]);
    let agent = agent_at(Form::Anthropic, &provider.url(), "");
    agent.send("Tell me about tides");
    let asked = provider.asked(0);
    assert_eq!((&*asked.method, &*asked.path), ("POST", "/v1/messages"));
    assert_eq!(asked.header("x-api-key"), Some(KEY));
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    let body = asked.json();
    assert_eq!(body["model"], "claude-sonnet-4-20250514");
    assert_eq!((&body["stream"], &body["max_tokens"]), (&json!(true), &json!(4096)));
    assert_eq!(asked.said(), ["user: Tell me about tides"]);
}

#[test]
fn without_a_key_no_key_is_sent() {
    let provider = Provider::start([good(&["fine"]), Script::good(Form::Anthropic, &["fine"])]);
    for base in ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"] {
        let agent = Agent::start(&[], &[(base, &provider.url())]);
        assert_eq!(reply_of(&agent.send("Tell me about tides")), "fine");
    }
    for asked in provider.requests() {
        assert_eq!((asked.header("authorization"), asked.header("x-api-key")), (None, None));
    }
}

#[test]
fn a_blocking_message_returns_the_whole_reply() {
    let provider = Provider::start([good(&["The ", "sea ", "rises."])]);
    let task = agent_of(&provider, "").send("Tell me about tides");
    assert_eq!((state(&task), reply_of(&task)), ("completed", "The sea rises."));
    assert_eq!(said(&task), "The sea rises.");
    assert_eq!(task["status"]["message"]["role"], "agent");
}

#[test]
fn a_caller_that_does_not_wait_gets_a_working_task_from_a_silent_provider() {
    let headers = [("Content-Type", "application/json")];
    let document = Form::OpenAi.document("The sea rises.");
    let provider = Provider::start([Script::reply(200, &headers, &document).behind_a_gate()]);
    let agent = agent_of(&provider, "");
    let task = agent.result("message/send", at_once(message("Tell me about tides")));
    assert_eq!((state(&task), said(&task)), ("working", "Tell me about tides"));
    assert!(task["artifacts"].is_null(), "{task}");
    let events = subscribe(&agent, &task);
    provider.go(0);
    events.rest();
    let task = get(&agent, &task);
    assert_eq!((state(&task), reply_of(&task)), ("completed", "The sea rises."));
}

// Cancelling.

#[test]
fn a_cancelled_stream_keeps_its_text_and_closes_the_providers_socket() {
    let provider = Provider::start([gated(&["one ", "two "])]);
    let agent = agent_of(&provider, "max = 1");
    let (mut events, task) = begin(&agent, "Tell me about tides");
    provider.go(0);
    assert_eq!(text_of(&events.next().unwrap()), "one ");
    let canceled = cancel(&agent, &task);
    provider.wait_within(Event::HungUp(0), CLOSED);
    assert_eq!((state(&canceled), reply_of(&canceled)), ("canceled", "one "));
    let rest = events.rest();
    assert_eq!((rest.len(), state(last(&rest))), (1, "canceled"));
    // What the provider would still say comes too late.
    provider.go(0);
    assert_still_serves(&agent);
    assert_eq!(get(&agent, &task), canceled);
    assert_eq!(provider.requests()[1].connection, 1);
}

#[test]
fn words_on_their_way_do_not_overwrite_a_cancelled_task() {
    let provider = Provider::start([begun().endless(token("more "))]);
    let agent = agent_of(&provider, "max = 1");
    let (mut events, task) = begin(&agent, "Tell me about tides");
    for _ in 0..3 {
        text_of(&events.next().unwrap());
    }
    let canceled = cancel(&agent, &task);
    assert_eq!(state(&canceled), "canceled");
    provider.wait_within(Event::HungUp(0), CLOSED);
    // Only one thread: once it answers again, it has said all it had to say about the first task.
    assert_still_serves(&agent);
    assert_eq!(get(&agent, &task), canceled);
    let rest = events.rest();
    assert_eq!(state(last(&rest)), "canceled");
}

#[test]
fn a_task_that_waits_for_the_providers_first_word_is_cancelled_at_once() {
    let provider = Provider::start([Script::silent()]);
    let agent = agent_of(&provider, "max = 1");
    let task = agent.result("message/send", at_once(message("Tell me about tides")));
    provider.asked(0);
    let canceled = cancel(&agent, &task);
    provider.wait_within(Event::HungUp(0), CLOSED);
    assert_eq!(state(&canceled), "canceled");
    assert!(canceled["artifacts"].is_null(), "{canceled}");
    assert_still_serves(&agent);
    assert_eq!(get(&agent, &task), canceled);
    assert_eq!(provider.requests()[1].connection, 1);
}

#[test]
fn a_task_that_waits_for_a_connection_is_cancelled_at_once() {
    let hole = Blackhole::start();
    let agent = agent_at(Form::OpenAi, &hole.url(), "max = 1\nconnect-s = 2");
    let task = agent.result("message/send", at_once(message("Tell me about tides")));
    let canceled = cancel(&agent, &task);
    assert_eq!(state(&canceled), "canceled");
    // The next one has the only thread once connecting has come to its end.
    let next = agent.send("Tell me more");
    assert!(said(&next).contains("no connection to the provider"), "{next}");
    assert_eq!(get(&agent, &task), canceled);
}

#[test]
fn a_queued_task_that_is_cancelled_never_reaches_the_provider() {
    let provider = Provider::start([gated(&["one "])]);
    let agent = agent_of(&provider, "max = 1");
    let (events, _) = begin(&agent, "Tell me about tides");
    provider.asked(0);
    let queued = agent.result("message/send", at_once(message("Tell me about ships")));
    assert_eq!(state(&queued), "working");
    assert_eq!(state(&cancel(&agent, &queued)), "canceled");
    provider.go(0);
    provider.go(0);
    events.rest();
    assert_eq!(reply_of(&agent.send("Tell me about sails")), "fine");
    let asked: Vec<_> = provider.requests().iter().map(provider::Asked::said).collect();
    assert_eq!(asked, [["user: Tell me about tides"], ["user: Tell me about sails"]]);
}

// Several readers.

#[test]
fn readers_who_come_later_get_a_snapshot_and_then_only_what_is_new() {
    let provider = Provider::start([gated(&["one ", "two ", "three ", "four"])]);
    let agent = agent_of(&provider, "");
    let (mut first, task) = begin(&agent, "Tell me about tides");
    let mut readers = Vec::new();
    let mut so_far = String::new();
    for token in ["one ", "two "] {
        provider.go(0);
        so_far.push_str(token);
        assert_eq!(text_of(&first.next().unwrap()), token);
        let mut reader = subscribe(&agent, &task);
        let snapshot = reader.next().unwrap();
        assert_eq!((&snapshot["kind"], state(&snapshot)), (&json!("task"), "working"));
        assert_eq!(reply_of(&snapshot), so_far);
        readers.push((reader, so_far.clone()));
    }
    for _ in 0..3 {
        provider.go(0);
    }
    let rest = first.rest();
    assert_eq!((&*streamed(&rest), state(last(&rest))), ("three four", "completed"));
    for (reader, seen) in readers {
        let rest = reader.rest();
        assert_eq!(seen + &streamed(&rest), "one two three four");
        assert_eq!(state(last(&rest)), "completed");
        assert_eq!(rest.iter().filter(|event| event["kind"] == "task").count(), 0);
    }
}

#[test]
fn a_flood_of_tokens_reaches_every_reader_whole() {
    let tokens: Vec<String> = (0..2000).map(|number| format!("{number} ")).collect();
    let flood: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let provider = Provider::start([good(&flood).behind_a_gate()]);
    let agent = agent_of(&provider, "");
    let (first, task) = begin(&agent, "Tell me about tides");
    let mut second = subscribe(&agent, &task);
    second.next().unwrap();
    let third = subscribe(&agent, &task);
    provider.go(0);
    let whole = tokens.concat();
    assert_eq!(streamed(&first.rest()), whole);
    assert_eq!(streamed(&second.rest()), whole);
    assert_eq!(streamed(&third.rest()), whole);
    assert_eq!(reply_of(&get(&agent, &task)), whole);
}

#[test]
fn a_reader_may_come_before_the_first_token() {
    let provider = Provider::start([gated(&["one ", "two"])]);
    let agent = agent_of(&provider, "");
    let (_first, task) = begin(&agent, "Tell me about tides");
    let mut second = subscribe(&agent, &task);
    assert!(second.next().unwrap()["artifacts"].is_null());
    for _ in 0..3 {
        provider.go(0);
    }
    assert_eq!(streamed(&second.rest()), "one two");
}

#[test]
fn a_caller_that_hangs_up_does_not_cancel() {
    let provider = Provider::start([gated(&["one ", "two"])]);
    let agent = agent_of(&provider, "");
    let (mut caller, task) = begin(&agent, "Tell me about tides");
    provider.go(0);
    text_of(&caller.next().unwrap());
    caller.hang_up();
    let mut reader = subscribe(&agent, &task);
    assert_eq!(reply_of(&reader.next().unwrap()), "one ");
    provider.go(0);
    provider.go(0);
    assert_eq!(state(last(&reader.rest())), "completed");
    assert_eq!(reply_of(&get(&agent, &task)), "one two");
}

#[test]
fn a_finished_task_cannot_be_followed() {
    let provider = Provider::start([]);
    let agent = agent_of(&provider, "");
    let task = agent.send("Tell me about tides");
    let reply = agent.rpc("tasks/resubscribe", json!({"id": task["id"]}));
    assert_eq!(reply["error"]["code"], -32004, "{reply}");
}

// Replies in odd but good shapes.

#[test]
fn line_ends_of_two_bytes_are_read() {
    let text =
        [Form::OpenAi.opening(), token("one "), token("two"), Form::OpenAi.finish()].concat();
    let script = Script::stream().piece(text.replace('\n', "\r\n")).end();
    assert_eq!(reply_of(&reply_to(script, "")), "one two");
}

#[test]
fn characters_cut_anywhere_are_put_together() {
    let text = [token("Grüße, 世界 "), token("😀"), Form::OpenAi.finish()].concat();
    let script = Script::stream().bytewise(text).end();
    assert_eq!(reply_of(&reply_to(script, "")), "Grüße, 世界 😀");
}

#[test]
fn a_character_whose_halves_come_apart_waits_for_the_second_one() {
    let text = token("ü");
    let at = text.find('ü').unwrap() + 1;
    let script = begun()
        .piece(&text.as_bytes()[..at])
        .gate()
        .piece(&text.as_bytes()[at..])
        .piece(Form::OpenAi.finish())
        .end();
    let provider = Provider::start([script]);
    let agent = agent_of(&provider, "");
    let (mut events, task) = begin(&agent, "Tell me about tides");
    assert_eq!(text_of(&events.next().unwrap()), "one ");
    provider.wait(Event::Waiting(0));
    assert_eq!(reply_of(&get(&agent, &task)), "one ");
    provider.go(0);
    assert_eq!(text_of(&events.next().unwrap()), "ü");
    assert_eq!(state(last(&events.rest())), "completed");
}

#[test]
fn data_without_a_blank_behind_it_is_read() {
    let text = [token("one "), Form::OpenAi.finish()].concat().replace("data: ", "data:");
    assert_eq!(reply_of(&reply_to(Script::stream().piece(text).end(), "")), "one ");
}

#[test]
fn comments_between_tokens_are_no_text() {
    let script = begun().piece(": keep-alive\n\n").piece(Form::OpenAi.finish()).end();
    assert_eq!(reply_of(&reply_to(script, "")), "one ");
}

#[test]
fn a_whole_document_instead_of_a_stream_is_a_reply() {
    for form in [Form::OpenAi, Form::Anthropic] {
        let headers = [("Content-Type", "application/json")];
        let script = Script::reply(200, &headers, &form.document("The sea rises."));
        let provider = Provider::start([script]);
        let task = agent_at(form, &provider.url(), "").send("Tell me about tides");
        assert_eq!((state(&task), reply_of(&task)), ("completed", "The sea rises."));
        assert_eq!(task["metadata"]["outputTokens"], 7);
    }
}

#[test]
fn a_reply_with_a_finish_reason_needs_no_end_mark() {
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]});
    let script = Script::open_stream().piece(token("one ")).piece(frame(&finish)).close();
    let task = reply_to(script, "");
    assert_eq!((state(&task), reply_of(&task)), ("completed", "one "));
    assert_eq!(task["metadata"]["finishReason"], "length");
}

#[test]
fn a_reply_with_a_finish_reason_is_whole_although_its_stream_does_not_end() {
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let task = reply_to(begun().piece(frame(&finish)).hold(), "max = 1\nidle-s = 3600");
    assert_eq!((state(&task), reply_of(&task)), ("completed", "one "), "{task}");
}

// Faults.

#[test]
fn a_stream_that_ends_without_a_finish_reason_failed() {
    assert_fails(begun().end(), "", "without a finish reason", "one ");
}

#[test]
fn a_connection_that_ends_without_a_finish_reason_failed() {
    let script = Script::open_stream().piece(token("one ")).close();
    assert_fails(script, "", "without a finish reason", "one ");
}

#[test]
fn a_stream_cut_between_chunks_failed() {
    assert_fails(begun().close(), "", "the connection to the provider broke", "one ");
}

#[test]
fn a_stream_that_is_reset_failed_and_keeps_its_text() {
    let provider = Provider::start([begun().gate().reset()]);
    let agent = agent_of(&provider, "");
    let (mut events, task) = begin(&agent, "Tell me about tides");
    assert_eq!(text_of(&events.next().unwrap()), "one ");
    provider.go(0);
    assert_eq!(state(last(&events.rest())), "failed");
    let task = get(&agent, &task);
    assert!(said(&task).contains("the connection to the provider broke"), "{task}");
    assert_eq!(reply_of(&task), "one ");
    assert_still_serves(&agent);
}

#[test]
fn a_fresh_connection_that_is_reset_before_the_reply_failed() {
    assert_fails(Script::default().reset(), "", "the connection to the provider broke", "");
}

#[test]
fn a_provider_that_never_begins_failed_by_its_own_timer() {
    // Connecting is allowed its second on top.
    assert_fails(Script::silent(), QUICK, "did not begin to reply within 2 s", "");
}

#[test]
fn a_stream_without_a_first_token_failed_by_the_same_timer() {
    assert_fails(Script::stream().hold(), QUICK, "did not begin to reply within 2 s", "");
}

#[test]
fn a_stream_that_stalls_after_the_first_token_failed_and_keeps_it() {
    assert_fails(begun().hold(), QUICK, "fell silent for 1 s", "one ");
}

#[test]
fn a_stalled_provider_sees_its_connection_closed() {
    let provider = Provider::start([begun().hold()]);
    let agent = agent_of(&provider, QUICK);
    assert_eq!(state(&agent.send("Tell me about tides")), "failed");
    provider.wait_within(Event::HungUp(0), CLOSED);
}

#[test]
fn comments_do_not_stand_in_for_a_first_token() {
    let script = Script::stream().endless(": keep-alive\n\n");
    assert_fails(script, QUICK, "did not begin to reply within 2 s", "");
}

#[test]
fn comments_do_not_stand_in_for_a_next_token() {
    assert_fails(begun().endless(": keep-alive\n\n"), QUICK, "fell silent for 1 s", "one ");
}

#[test]
fn a_reply_without_end_failed_by_the_timer_of_the_whole_turn() {
    let relay = "turn-s = 1";
    let task = reply_to(begun().endless(token("more ")), relay);
    assert_eq!(state(&task), "failed");
    assert!(said(&task).contains("took longer than 1 s"), "{}", said(&task));
    assert!(reply_of(&task).starts_with("one more "), "{task}");
}

#[test]
fn an_error_inside_the_stream_failed_and_is_told() {
    let error = frame(&json!({"error": {"message": "the model ran hot", "code": 503}}));
    let script = begun().piece(error).piece("data: [DONE]\n\n").end();
    assert_fails(script, "", "the provider broke off the reply (503): the model ran hot", "one ");
}

#[test]
fn a_refused_key_names_the_variable_it_came_from() {
    let body = json!({"error": {"message": "bad key", "code": "invalid_api_key"}}).to_string();
    let script = Script::reply(401, &[("Content-Type", "application/json")], &body);
    assert_fails(script, "", "refused the key (401): check OPENAI_API_KEY", "");
}

#[test]
fn a_rate_limit_tells_how_long_to_wait() {
    let body = json!({"error": {"message": "slow down"}}).to_string();
    let script = Script::reply(429, &[("Retry-After", "7")], &body);
    assert_fails(script, "", "limits the rate: try again in 7 s", "");
}

#[test]
fn a_page_instead_of_an_error_failed_as_its_status_says() {
    let page = "<html><head><title>500</title></head><body>oops</body></html>";
    let script = Script::reply(500, &[("Content-Type", "text/html")], page);
    assert_fails(script, "", "failed or is overloaded (500)", "");
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Provider::start([]);
    let location = format!("{}/v1/chat/completions", elsewhere.url());
    let script = Script::reply(307, &[("Location", &location)], "");
    assert_fails(script, "", "check the base URL", "");
    assert_eq!(elsewhere.log(), []);
}

#[test]
fn a_frame_that_is_no_json_failed() {
    assert_fails(begun().piece("data: {\"choices\n\n").end(), "", "the provider sent", "one ");
}

#[test]
fn bytes_that_are_no_text_failed() {
    assert_fails(begun().piece(b"data: {\"\xff\"}\n\n").end(), "", "not UTF-8", "one ");
}

#[test]
fn an_answer_that_is_no_http_failed() {
    let script = Script::default().raw("ICY 200 OK\r\n\r\n").close();
    assert_fails(script, "", "the connection to the provider broke", "");
}

#[test]
fn a_reply_longer_than_allowed_failed_with_what_fits() {
    let relay = "reply-bytes = \"4KiB\"";
    let long = "x".repeat(1024);
    let task = reply_to(begun().endless(token(&long)), relay);
    assert_eq!(state(&task), "failed");
    assert!(said(&task).contains("larger than 4096 bytes"), "{}", said(&task));
    assert_eq!(reply_of(&task).len(), 4 + 3 * 1024);
}

#[test]
fn a_line_without_end_failed() {
    let script = Script::stream().endless(vec![b'x'; 64 * 1024]);
    assert_fails(script, "", "larger than 131072 bytes", "");
}

#[test]
fn a_provider_that_is_not_there_failed_at_once() {
    // The near end of a connection: nobody listens there, and nobody else gets the port.
    let provider = Provider::start([]);
    let taken = support::connect(provider.address);
    let url = format!("http://{}", taken.local_addr().unwrap());
    let agent = agent_at(Form::OpenAi, &url, "");
    let task = agent.send("Tell me about tides");
    assert_eq!(state(&task), "failed");
    assert!(said(&task).contains("no connection to the provider"), "{task}");
    assert_eq!(reply_of(&agent.send("25*4")), "100");
}

// A slow provider is nobody else's problem.

#[test]
fn the_provider_hears_nothing_before_the_first_message() {
    let provider = Provider::start([]);
    let mut agent = agent_of(&provider, "");
    let line = agent.wait_for("messages that no skill takes go to");
    let told = format!("openai/gpt-4o at {}/v1 (key from OPENAI_API_KEY)", provider.url());
    assert!(line.contains(&told), "{line}");
    assert_eq!(agent.get("/.well-known/agent-card.json").status, 200);
    assert_eq!(agent.get("/health/ready").status, 200);
    agent.status();
    agent.send("25*4");
    let (status, _) = agent.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(provider.log(), []);
}

#[test]
fn relays_that_hang_hold_up_nobody_else() {
    let provider = Provider::start(std::iter::repeat_n(Script::silent(), 4));
    let agent = agent_of(&provider, "max = 4");
    for at in 0..4 {
        agent.result("message/send", at_once(message("Tell me about tides")));
        provider.asked(at);
    }
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    assert_eq!(state(&agent.send("device status")), "completed");
    assert_eq!(agent.get("/.well-known/agent-card.json").status, 200);
    assert_eq!(agent.get("/health").body, "ok");
}

#[test]
fn a_provider_that_cannot_be_reached_holds_up_nobody_else() {
    let hole = Blackhole::start();
    let agent = agent_at(Form::OpenAi, &hole.url(), "max = 1\nconnect-s = 1");
    assert_eq!(agent.get("/.well-known/agent-card.json").status, 200);
    let task = agent.result("message/send", at_once(message("Tell me about tides")));
    let events = subscribe(&agent, &task);
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    assert_eq!(state(&get(&agent, &task)), "working");
    assert_eq!(state(last(&events.rest())), "failed");
    let task = get(&agent, &task);
    let reason = said(&task);
    assert!(
        reason.starts_with("no connection to the provider: no connection in time; "),
        "{reason}"
    );
}

#[test]
fn when_threads_and_queue_are_full_the_caller_is_told_to_come_back() {
    let provider = Provider::start([gated(&["one "])]);
    let agent = agent_of(&provider, "max = 1\nqueue = 1");
    let (running, _) = begin(&agent, "Tell me about tides");
    provider.asked(0);
    let queued = agent.result("message/send", at_once(message("Tell me about ships")));
    let refused = agent.post("/", &request("message/send", message("Tell me about sails")));
    assert_eq!(refused.status, 503, "{refused:?}");
    let error = &refused.json()["error"];
    assert_eq!(error["code"], -32000);
    let wait = error["data"]["retryAfterS"].as_u64().unwrap();
    assert!(wait > 0);
    assert_eq!(refused.header("retry-after"), Some(&*wait.to_string()));
    let refused = agent.post("/", &request("message/stream", message("Tell me about sails")));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    let waiting = subscribe(&agent, &queued);
    provider.go(0);
    provider.go(0);
    running.rest();
    assert_eq!(state(last(&waiting.rest())), "completed");
    assert_eq!(reply_of(&agent.send("Tell me about sails")), "fine");
}

// Conversation.

#[test]
fn a_context_brings_its_earlier_messages_along_and_another_does_not() {
    let provider = Provider::start([good(&["They ", "rise."]), good(&["They fall."])]);
    let agent = agent_of(&provider, "");
    let tell = |text, context| agent.result("message/send", in_context(text, context));
    tell("Tell me about tides", "sea");
    tell("Tell me more", "sea");
    tell("Tell me about ships", "land");
    tell("What was that again?", "sea");
    let first = ["user: Tell me about tides", "assistant: They rise.", "user: Tell me more"];
    assert_eq!(provider.asked(1).said(), first);
    assert_eq!(provider.asked(2).said(), ["user: Tell me about ships"]);
    let all = [&first[..], &["assistant: They fall.", "user: What was that again?"]].concat();
    assert_eq!(provider.asked(3).said(), all);
}

#[test]
fn anthropic_gets_the_conversation_in_turns_and_the_instruction_apart() {
    let reply = Script::good(Form::Anthropic, &["They rise."]);
    let provider = Provider::start([reply.clone(), reply]);
    let agent = Agent::configured(
        "[model]\nsystem = \"Be brief.\"\n",
        &[("ANTHROPIC_API_KEY", KEY), ("ANTHROPIC_BASE_URL", &provider.url())],
    );
    agent.result("message/send", in_context("Tell me about tides", "sea"));
    agent.result("message/send", in_context("Tell me more", "sea"));
    let asked = provider.asked(1);
    let said = ["user: Tell me about tides", "assistant: They rise.", "user: Tell me more"];
    assert_eq!(asked.said(), said);
    assert_eq!(asked.json()["system"], "Be brief.");
}

#[test]
fn a_reply_that_failed_is_no_part_of_the_conversation() {
    let provider = Provider::start([begun().end()]);
    let agent = agent_of(&provider, "");
    let failed = agent.result("message/send", in_context("Tell me about tides", "sea"));
    assert_eq!(state(&failed), "failed");
    agent.result("message/send", in_context("Tell me more", "sea"));
    assert_eq!(provider.asked(1).said(), ["user: Tell me more"]);
}

#[test]
fn the_oldest_exchanges_go_when_the_conversation_grows_too_long() {
    let provider = Provider::start([]);
    let agent = agent_of(&provider, "context-bytes = \"1KiB\"");
    let long = |name: &str| format!("Tell me about {name} {}", "x".repeat(400));
    for name in ["tides", "ships", "sails"] {
        agent.result("message/send", in_context(&long(name), "sea"));
    }
    let expected = [format!("user: {}", long("ships")), "assistant: fine".to_owned()];
    assert_eq!(provider.asked(2).said()[..2], expected);
    assert_eq!(provider.asked(2).said().len(), 3);
}

// Connections.

#[test]
fn two_turns_use_one_connection() {
    let provider = Provider::start([]);
    let agent = agent_of(&provider, "max = 1");
    agent.send("Tell me about tides");
    agent.send("Tell me more");
    let connections: Vec<_> = provider.requests().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0]);
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced_silently() {
    let provider = Provider::start([good(&["one"]).close()]);
    let agent = agent_of(&provider, "max = 1");
    agent.send("Tell me about tides");
    provider.wait(Event::Closed(0));
    assert_eq!(reply_of(&agent.send("Tell me more")), "fine");
    assert_eq!(provider.requests().len(), 2);
}

#[test]
fn a_kept_connection_that_dies_before_the_reply_is_tried_again_once() {
    let dies = Script::default().close();
    let provider =
        Provider::start([good(&["one"]), dies.clone(), good(&["two"]), dies.clone(), dies]);
    let agent = agent_of(&provider, "max = 1");
    agent.send("Tell me about tides");
    assert_eq!(reply_of(&agent.send("Tell me more")), "two");
    let requests = provider.requests();
    assert_eq!(requests[1].body, requests[2].body);
    let connections: Vec<_> = requests.iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    let failed = agent.send("Tell me all");
    assert_eq!(state(&failed), "failed");
    assert_eq!(provider.requests().len(), 5);
    assert_still_serves(&agent);
}

#[test]
fn a_silent_provider_is_not_asked_twice_on_a_kept_connection() {
    let provider = Provider::start([good(&["one"]), Script::silent()]);
    let agent = agent_of(&provider, QUICK);
    agent.send("Tell me about tides");
    let stalled = agent.send("Tell me more");
    assert!(said(&stalled).contains("did not begin to reply"), "{stalled}");
    assert_eq!(provider.requests().len(), 2);
    assert_still_serves(&agent);
}

#[test]
fn a_missing_end_of_the_body_delays_neither_the_reply_nor_the_next_one() {
    let withheld = begun().piece(Form::OpenAi.finish()).hold();
    let provider = Provider::start([withheld]);
    let agent = agent_of(&provider, "max = 1");
    let task = agent.send("Tell me about tides");
    assert_eq!((state(&task), reply_of(&task)), ("completed", "one "));
    provider.wait_within(Event::HungUp(0), GIVEN_UP);
    assert_eq!(reply_of(&agent.send("Tell me more")), "fine");
    assert_eq!(provider.requests()[1].connection, 1);
    assert_eq!(get(&agent, &task), task);
}

// Secrets.

#[test]
fn the_key_is_nowhere_to_be_seen() {
    let echo = format!("key {KEY} is not known, Bearer {KEY}");
    let error = json!({"error": {"message": echo, "code": KEY, "type": KEY}}).to_string();
    for level in ["debug", "trace"] {
        let json_type = [("Content-Type", "application/json")];
        let provider = Provider::start([
            Script::reply(401, &json_type, &error),
            Script::reply(400, &json_type, &error),
            Script::reply(429, &json_type, &error),
            Script::reply(500, &[("Content-Type", "text/html")], &format!("<p>{echo}</p>")),
            begun().piece(format!("data: {error}\n\n")).end(),
            Script::reply(200, &json_type, &error),
            Script::default().raw(format!("{echo}\r\n\r\n")).close(),
            good(&["fine"]),
        ]);
        let agent = Agent::start(
            &["--log-level", level],
            &[("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", &provider.url())],
        );
        let mut seen = String::new();
        for at in 0..8 {
            let task = agent.send("Tell me about tides");
            assert_eq!(state(&task), if at < 7 { "failed" } else { "completed" }, "{task}");
            seen.push_str(&task.to_string());
        }
        assert!(seen.contains("check OPENAI_API_KEY"), "{seen}");
        for page in ["/.well-known/agent-card.json", "/status.json", "/health/detail", "/agents"] {
            seen.push_str(&agent.get(page).body);
        }
        let command = std::fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
        seen.push_str(&String::from_utf8_lossy(&command));
        let (_, log) = agent.stop();
        assert!(log.contains("key from OPENAI_API_KEY"), "{log}");
        seen.push_str(&log);
        assert!(!seen.contains(KEY), "{level}: {seen}");
        assert_eq!(provider.requests().len(), 8);
    }
}

#[test]
fn a_key_that_is_cut_off_with_its_text_is_hidden_too() {
    let lengths = [480, 490, 500, 4080, 4090];
    let scripts = lengths.map(|length| {
        let text = format!("{}{KEY}", "x ".repeat(length / 2));
        Script::reply(401, &[("Content-Type", "text/plain")], &text)
    });
    let blank = format!("{}{KEY}", " ".repeat(4086));
    let provider = Provider::start(scripts.into_iter().chain([Script::reply(401, &[], &blank)]));
    let agent = agent_of(&provider, "");
    for _ in 0..=lengths.len() {
        let task = agent.send("Tell me about tides").to_string();
        assert!(!task.contains(&KEY[..8]), "{task}");
    }
}

// Which model.

#[test]
fn several_keys_and_no_model_are_refused_with_their_names() {
    let home = Home::new();
    let output = program(&home.0)
        .args(["run", "--port", "0"])
        .envs([("OPENAI_API_KEY", KEY), ("ANTHROPIC_API_KEY", KEY)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("openai") && told.contains("anthropic"), "{told}");
    assert!(!told.contains(KEY), "{told}");
}

#[test]
fn several_keys_and_a_model_go_to_the_one_named() {
    let provider = Provider::start([Script::good(Form::Anthropic, &["fine"])]);
    let agent = Agent::configured(
        "[model]\ndefault = \"anthropic/claude-x\"\n",
        &[
            ("OPENAI_API_KEY", "other"),
            ("ANTHROPIC_API_KEY", KEY),
            ("ANTHROPIC_BASE_URL", &provider.url()),
        ],
    );
    let task = agent.send("Tell me about tides");
    assert_eq!(task["metadata"]["model"], "anthropic/claude-x");
    assert_eq!(provider.asked(0).json()["model"], "claude-x");
}

#[test]
fn the_model_gets_what_no_skill_takes_and_what_is_meant_for_it() {
    let provider = Provider::start([]);
    let agent = agent_of(&provider, "");
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    assert_eq!(provider.log(), []);
    assert_eq!(reply_of(&agent.send("calculate my taxes")), "fine");
    let mut meant = message("25*4");
    meant["message"]["metadata"] = json!({"skill": "chat"});
    assert_eq!(reply_of(&agent.result("message/send", meant)), "fine");
    let mut meant = message("25*4");
    meant["metadata"] = json!({"skill": "chat"});
    assert_eq!(reply_of(&agent.result("message/send", meant)), "fine");
    let asked: Vec<_> = provider.requests().iter().map(provider::Asked::said).collect();
    assert_eq!(asked, [["user: calculate my taxes"], ["user: 25*4"], ["user: 25*4"]]);
}

// The end.

#[test]
fn a_running_reply_may_finish_when_the_agent_is_told_to_stop() {
    let provider = Provider::start([gated(&["one ", "two"])]);
    let mut agent = agent_of(&provider, "");
    let (mut events, _) = begin(&agent, "Tell me about tides");
    provider.go(0);
    assert_eq!(text_of(&events.next().unwrap()), "one ");
    agent.signal(Signal::TERM);
    agent.wait_for("SIGTERM: stopping");
    provider.go(0);
    provider.go(0);
    let rest = events.rest();
    assert_eq!((&*streamed(&rest), state(last(&rest))), ("two", "completed"));
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn running_and_waiting_tasks_get_a_last_event_after_the_grace_time() {
    let provider = Provider::start([begun().hold()]);
    let agent = Agent::configured(
        "[run]\ngrace-s = 1\n[relay]\nmax = 1\n",
        &[("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", &provider.url())],
    );
    let (mut events, _) = begin(&agent, "Tell me about tides");
    assert_eq!(text_of(&events.next().unwrap()), "one ");
    let (waiting, _) = begin(&agent, "Tell me more");
    agent.signal(Signal::TERM);
    for events in [events, waiting] {
        let rest = events.rest();
        assert_eq!((rest.len(), state(last(&rest))), (1, "failed"));
        assert!(said(last(&rest)).contains("stop"), "{rest:?}");
    }
    provider.wait(Event::HungUp(0));
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_second_signal_ends_the_agent_at_once() {
    let provider = Provider::start([begun().hold()]);
    let mut agent = Agent::configured(
        "[run]\ngrace-s = 600\n",
        &[("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", &provider.url())],
    );
    let (mut events, _) = begin(&agent, "Tell me about tides");
    assert_eq!(text_of(&events.next().unwrap()), "one ");
    agent.signal(Signal::TERM);
    agent.wait_for("SIGTERM: stopping");
    agent.signal(Signal::INT);
    let (status, log) = agent.wait();
    // Whatever the code is, it is one: the signal did not kill the agent.
    assert!(status.code().is_some(), "{status}");
    assert!(log.contains("second signal"), "{log}");
    provider.wait(Event::HungUp(0));
}

#[test]
fn messages_whose_bytes_do_not_fit_at_once_wait_and_hold_up_nobody() {
    let held = || good(&["done"]).behind_a_gate();
    let provider = Provider::start([held(), held(), held()]);
    let agent = agent_of(&provider, "max = 4");
    let long = "tell me ".repeat(25_000);
    let streams: Vec<Events> = (0..3).map(|_| begin(&agent, &long).0).collect();
    assert_eq!(agent.status()["relays"], json!({"running": 2, "waiting": 1}));
    assert_eq!(reply_of(&agent.send("Calculate 25 * 4")), "100");
    (0..3).for_each(|request| provider.go(request));
    for stream in streams {
        let events = stream.rest();
        assert_eq!(state(last(&events)), "completed", "{events:?}");
    }
}

#[test]
fn a_stall_after_the_first_token_is_noticed_although_a_first_one_may_take_long() {
    let slow_to_begin = "max = 1\nconnect-s = 1\nfirst-local-s = 3600\nidle-s = 1";
    assert_fails(begun().hold(), slow_to_begin, "fell silent for 1 s", "one ");
}
