//! The Anthropic messages form.
//!
//! Events are told apart by the `type` in their data, the name of the event standing in when it is
//! missing. Unknown events and `ping` say nothing; whatever carries an error fails the reply.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::json::Json;
use crate::llm::fault::Fault;
use crate::llm::loose::{count, members, object, word};
use crate::llm::{Delta, Finish, ModelError, NOT_JSON, Role, Said, State, Turn};

/// The value of the `anthropic-version` header that this form is.
pub const VERSION: &str = "2023-06-01";

/// The form requires a limit; this one is within what every model of the form accepts.
const MAX_TOKENS: u32 = 4096;
/// The form requires that a user speaks first, which a shortened conversation may not begin with.
const OPENING: &str = "(The beginning of the conversation was left out.)";

/// The JSON text that asks for `turn` as a stream.
///
/// System text is moved to the top, blank text is left out, and neighbours of one role become one
/// message: the form refuses the opposite of each.
pub(super) fn body(turn: &Turn) -> String {
    let text: usize = turn.said.iter().map(|said| said.text.len() + 40).sum();
    let system = turn.system.as_deref().unwrap_or_default();
    let mut json = Json::with_capacity(text + system.len() + 256);
    json.open_object();
    json.member("model", &turn.model);
    json.key("max_tokens");
    json.number(u64::from(if turn.max_tokens > 0 { turn.max_tokens } else { MAX_TOKENS }));
    let system = Joined { first: system, said: &turn.said, role: Role::System };
    if system.texts().next().is_some() {
        json.key("system");
        json.string_from(&system);
    }
    json.key("messages");
    json.open_array();
    let mut rest = turn.said.as_slice();
    let mut first = true;
    while let Some(at) = rest.iter().position(is_message) {
        let role = rest[at].role;
        let other = |said: &Said| is_message(said) && said.role != role;
        let end = rest.iter().position(other).unwrap_or(rest.len());
        if first && role == Role::Assistant {
            message(&mut json, Role::User, &OPENING);
        }
        message(&mut json, role, &Joined { first: "", said: &rest[at..end], role });
        rest = &rest[end..];
        first = false;
    }
    json.close_array();
    json.key("stream");
    json.bool(true);
    json.close_object();
    json.into_string()
}

fn is_message(said: &Said) -> bool {
    said.role != Role::System && !said.text.trim().is_empty()
}

fn message(json: &mut Json, role: Role, content: &dyn fmt::Display) {
    json.open_object();
    json.member("role", if role == Role::Assistant { "assistant" } else { "user" });
    json.key("content");
    json.string_from(content);
    json.close_object();
}

/// `first` and everything that `role` said, with a blank line in between.
struct Joined<'a> {
    first: &'a str,
    said: &'a [Said],
    role: Role,
}

impl<'a> Joined<'a> {
    fn texts(&self) -> impl Iterator<Item = &'a str> {
        let role = self.role;
        let said = self.said.iter().filter(move |said| said.role == role);
        std::iter::once(self.first)
            .chain(said.map(|said| said.text.as_str()))
            .filter(|text| !text.trim().is_empty())
    }
}

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, text) in self.texts().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(text)?;
        }
        Ok(())
    }
}

pub(super) fn frame(
    state: &mut State,
    event: &str,
    data: &str,
    each: &mut dyn FnMut(Delta<'_>),
) -> Result<(), ModelError> {
    // The mark of the other form, which gateways add.
    if data.is_empty() || data == "[DONE]" || event == "ping" {
        return Ok(());
    }
    if event == "error" {
        return Err(Fault::of_body(data).in_stream());
    }
    let told: Event<'_> =
        object(data).and_then(|json| serde_json::from_str(json).ok()).ok_or(NOT_JSON)?;
    told.check(data)?;
    match word(told.kind).unwrap_or(event) {
        "message_start" => {
            state.begin(each);
            let message: Message<'_> = members(told.message)?;
            add_usage(state, message.usage);
        }
        "content_block_start" => {
            state.begin(each);
            block(state, told.content_block, each)?;
        }
        "content_block_delta" => {
            state.begin(each);
            let delta: Piece<'_> = members(told.delta)?;
            if word(delta.kind) == Some("text_delta") {
                state.say(delta.text, each);
            } else {
                each(Delta::Thinking);
            }
        }
        "message_delta" => {
            let delta: Message<'_> = members(told.delta)?;
            add_finish(state, delta.stop_reason);
            add_usage(state, told.usage);
        }
        "message_stop" => state.close(),
        _ => {}
    }
    Ok(())
}

pub(super) fn whole(
    state: &mut State,
    json: &str,
    each: &mut dyn FnMut(Delta<'_>),
) -> Result<(), ModelError> {
    let Some(json) = object(json) else { return Err(NOT_JSON) };
    let cut =
        |error: serde_json::Error| if error.is_eof() { ModelError::Truncated } else { NOT_JSON };
    serde_json::from_str::<Event<'_>>(json).map_err(cut)?.check(json)?;
    let message: Message<'_> = serde_json::from_str(json).map_err(cut)?;
    let Some(content) = message.content else {
        return Err(ModelError::Malformed { what: "a reply without content" });
    };
    state.begin(each);
    if content.get().starts_with('[') {
        let blocks: Vec<&RawValue> = serde_json::from_str(content.get()).map_err(|_| NOT_JSON)?;
        for one in blocks {
            block(state, Some(one), each)?;
        }
    } else {
        state.say(Some(content), each);
    }
    add_finish(state, message.stop_reason);
    add_usage(state, message.usage);
    // The document is complete, so the reply is, whether or not the host gives a reason.
    state.finish.get_or_insert(Finish::Stop);
    state.close();
    Ok(())
}

impl Event<'_> {
    fn check(&self, json: &str) -> Result<(), ModelError> {
        if word(self.kind) == Some("error") {
            return Err(Fault::of_body(json).in_stream());
        }
        match Fault::of_error(self.error) {
            Some(fault) => Err(fault.in_stream()),
            None => Ok(()),
        }
    }
}

/// A block of content: text, a thought, a tool call, or something newer.
fn block(
    state: &mut State,
    json: Option<&RawValue>,
    each: &mut dyn FnMut(Delta<'_>),
) -> Result<(), ModelError> {
    let piece: Piece<'_> = members(json)?;
    match word(piece.kind) {
        Some("text") => {
            state.say(piece.text, each);
        }
        Some("tool_use") => {
            state.tools = true;
            each(Delta::Thinking);
        }
        _ => each(Delta::Thinking),
    }
    Ok(())
}

fn add_finish(state: &mut State, reason: Option<&RawValue>) {
    state.finish = match word(reason) {
        Some("end_turn" | "stop_sequence") => Some(Finish::Stop),
        Some("max_tokens" | "model_context_window_exceeded") => Some(Finish::Length),
        Some("tool_use") => Some(Finish::Tools),
        Some("refusal") => Some(Finish::Refused),
        Some(_) => Some(Finish::Other),
        None => state.finish,
    };
}

/// Counts are cumulative. Compatible hosts begin with zeros and give the input at the end, or give
/// it only once.
fn add_usage(state: &mut State, json: Option<&RawValue>) {
    let tokens: Tokens<'_> = members(json).unwrap_or_default();
    let input = count(tokens.input).map(|input| {
        [tokens.cached_now, tokens.cached_before]
            .into_iter()
            .filter_map(count)
            .fold(input, u64::saturating_add)
    });
    state.usage.input = state.usage.input.max(input);
    state.usage.output = state.usage.output.max(count(tokens.output));
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A message, and the end of one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// A block of content, and a piece of one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Piece<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens<'a> {
    #[serde(borrow, rename = "input_tokens")]
    input: Option<&'a RawValue>,
    #[serde(borrow, rename = "cache_creation_input_tokens")]
    cached_now: Option<&'a RawValue>,
    #[serde(borrow, rename = "cache_read_input_tokens")]
    cached_before: Option<&'a RawValue>,
    #[serde(borrow, rename = "output_tokens")]
    output: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::tests::{no_beginning_counts, play, play_whole, survives_damage, turn};
    use crate::llm::{Form, TurnEnd, Usage};

    const THINKING: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"cache_creation_input_tokens":3,"cache_read_input_tokens":2,"output_tokens":1}}}"#,
        "\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me see"}}"#,
        "\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
        "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: content_block_start\n",
        r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        "\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"It is \"4\""}}"#,
        "\n\nevent: some_new_event\ndata: {\"type\":\"some_new_event\",\"x\":[1]}\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":", naïve 😀"}}"#,
        "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
        "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );

    const OVERLOADED: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"usage":{"input_tokens":20,"output_tokens":1}}}"#,
        "\n\nevent: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"par"}}"#,
        "\n\nevent: error\n",
        r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#,
        "\n\n"
    );

    const TOOLS: &str = concat!(
        r#"data: {"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":0}}}"#,
        "\n\n",
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        "\n\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"input_tokens":7,"output_tokens":5}}"#,
        "\n\ndata: {\"type\":\"message_stop\"}\n\ndata: [DONE]\n\n"
    );

    fn in_stream(status: Option<u16>, message: &str) -> ModelError {
        ModelError::InStream { status, message: message.to_owned() }
    }

    #[test]
    fn a_stream_with_thinking_and_pings_gives_its_exact_text() {
        let played = play(Form::Anthropic, THINKING);
        assert_eq!((played.text.as_str(), played.thought), ("It is \"4\", naïve 😀", true));
        assert_eq!(played.finish(), Some(Finish::Stop));
        assert_eq!(played.usage(), (Some(25), Some(15)));
        no_beginning_counts(Form::Anthropic, THINKING, "\"end_turn\"");
    }

    #[test]
    fn an_error_event_fails_the_reply_and_keeps_its_class() {
        let played = play(Form::Anthropic, OVERLOADED);
        let expected = in_stream(Some(529), "Overloaded");
        assert!(expected.is_retryable());
        assert_eq!((played.text.as_str(), played.end), ("par", Err(expected)));
        for stream in [
            "data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}\n\n",
            "event: new\ndata: {\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}\n\n",
            "event: error\ndata: {\"type\":\"rate_limit_error\",\"message\":\"m\"}\n\n",
        ] {
            assert_eq!(play(Form::Anthropic, stream).end, Err(in_stream(Some(429), "m")));
        }
    }

    #[test]
    fn tool_calls_without_event_names_pass_and_late_counts_hold() {
        let played = play(Form::Anthropic, TOOLS);
        assert_eq!((played.text.as_str(), played.finish()), ("", Some(Finish::Tools)));
        assert_eq!(played.usage(), (Some(7), Some(5)));
    }

    #[test]
    fn stop_reasons_are_told_apart() {
        let table = [
            ("end_turn", Finish::Stop),
            ("stop_sequence", Finish::Stop),
            ("max_tokens", Finish::Length),
            ("model_context_window_exceeded", Finish::Length),
            ("tool_use", Finish::Tools),
            ("refusal", Finish::Refused),
            ("pause_turn", Finish::Other),
        ];
        for (reason, finish) in table {
            // The event's name stands in for the missing type.
            let stream = format!(
                "event: message_delta\ndata: {{\"delta\":{{\"stop_reason\":\"{reason}\"}}}}\n\n"
            );
            assert_eq!(play(Form::Anthropic, &stream).finish(), Some(finish));
        }
    }

    #[test]
    fn an_end_without_a_reason_is_a_cut() {
        for stream in [
            "data: {\"type\":\"message_stop\"}\n\n",
            "data: [DONE]\n\n",
            "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
        ] {
            assert_eq!(play(Form::Anthropic, stream).end, Err(ModelError::Truncated));
        }
    }

    #[test]
    fn a_ping_is_no_sign_of_the_model() {
        let mut state = State::default();
        let mut signs = 0;
        for (event, data) in
            [("ping", ""), ("ping", "x"), ("", r#"{"type":"ping"}"#), ("novel", "{}"), ("", "")]
        {
            frame(&mut state, event, data, &mut |_| signs += 1).unwrap();
        }
        assert_eq!(signs, 0);
    }

    #[test]
    fn frames_that_are_no_object_fail_the_reply() {
        for data in ["nonsense", "7", "{\"type\":", "[1]"] {
            let stream = format!("event: message_delta\ndata: {data}\n\n");
            assert_eq!(play(Form::Anthropic, &stream).end, Err(NOT_JSON), "{data}");
        }
    }

    #[test]
    fn a_document_instead_of_a_stream_is_read_whole() {
        let json = r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"no"},{"type":"text","text":"a"},{"type":"text","text":"b"}],"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":2}}"#;
        let usage = Usage { input: Some(3), output: Some(2) };
        let end = Ok(TurnEnd { finish: Finish::Length, usage });
        assert_eq!(play_whole(Form::Anthropic, json), ("ab".to_owned(), end));
        let table = [
            (&json[..90], ModelError::Truncated),
            (r#"{"type":"message"}"#, ModelError::Malformed { what: "a reply without content" }),
            (
                r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#,
                in_stream(Some(500), "m"),
            ),
        ];
        for (json, error) in table {
            assert_eq!(play_whole(Form::Anthropic, json).1, Err(error), "{json}");
        }
    }

    #[test]
    fn a_damaged_stream_never_panics() {
        survives_damage(Form::Anthropic, &[THINKING, OVERLOADED, TOOLS]);
    }

    #[test]
    fn the_request_has_the_system_on_top_and_alternating_roles() {
        let turn = turn(
            "claude",
            &[
                (Role::Assistant, "hello"),
                (Role::System, "never \"shout\""),
                (Role::User, "a"),
                (Role::User, " \n"),
                (Role::System, " "),
                (Role::User, "b\n"),
                (Role::Assistant, ""),
                (Role::User, "c"),
                (Role::Assistant, "d"),
                (Role::User, "e"),
            ],
        );
        assert_eq!(
            body(&turn),
            concat!(
                r#"{"model":"claude","max_tokens":100,"#,
                r#""system":"be \"brief\"\n\nnever \"shout\"","#,
                r#""messages":[{"role":"user","content":"(The beginning of the conversation was left out.)"},"#,
                r#"{"role":"assistant","content":"hello"},{"role":"user","content":"a\n\nb\n\n\nc"},"#,
                r#"{"role":"assistant","content":"d"},{"role":"user","content":"e"}],"stream":true}"#
            )
        );
    }

    #[test]
    fn what_the_form_requires_is_never_missing() {
        let turn = Turn { system: None, max_tokens: 0, ..turn("claude", &[(Role::User, "a")]) };
        assert_eq!(
            body(&turn),
            r#"{"model":"claude","max_tokens":4096,"messages":[{"role":"user","content":"a"}],"stream":true}"#
        );
    }

    #[test]
    fn a_long_conversation_is_written_in_linear_time() {
        let said: Vec<_> = (0..20_000)
            .map(|at| (if at % 2 == 0 { Role::User } else { Role::Assistant }, "x"))
            .collect();
        assert_eq!(body(&turn("m", &said)).matches("\"role\"").count(), 20_000);
        let blank = vec![(Role::User, " "); 20_000];
        assert!(body(&turn("m", &blank)).contains("\"messages\":[]"));
    }
}
