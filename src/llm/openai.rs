//! The chat-completions form, as `OpenAI` defines it and as compatible hosts bend it.
//!
//! Every member is read as raw JSON and judged on its own, so an odd value where nothing depends on
//! it never fails a reply. What is not accepted: frames that are no JSON object, for an error might
//! hide in them.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::json::Json;
use crate::llm::fault::Fault;
use crate::llm::loose::{count, holds, members, object, word};
use crate::llm::{Delta, Finish, ModelError, NOT_JSON, Role, Stage, State, Turn};

/// The JSON text that asks for `turn` as a stream with its usage.
pub(super) fn body(turn: &Turn) -> String {
    let text: usize = turn.said.iter().map(|said| said.text.len() + 40).sum();
    let system = turn.system.as_deref().filter(|system| !system.trim().is_empty());
    let mut json = Json::with_capacity(text + system.map_or(0, str::len) + 256);
    json.open_object();
    json.member("model", &turn.model);
    json.key("messages");
    json.open_array();
    let said = turn.said.iter().map(|said| (said.role, said.text.as_str()));
    for (role, text) in system.map(|system| (Role::System, system)).into_iter().chain(said) {
        json.open_object();
        json.member(
            "role",
            match role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            },
        );
        json.member("content", text);
        json.close_object();
    }
    json.close_array();
    json.key("stream");
    json.bool(true);
    json.key("stream_options");
    json.raw(r#"{"include_usage":true}"#);
    if turn.max_tokens > 0 {
        json.key(if reasons(&turn.model) { "max_completion_tokens" } else { "max_tokens" });
        json.number(u64::from(turn.max_tokens));
    }
    json.close_object();
    json.into_string()
}

/// Whether the model is one of `OpenAI`'s that refuse `max_tokens`: o1, o3, o4, gpt-5 and later
/// ones of the kind.
fn reasons(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model).as_bytes();
    match name {
        [b'o', b'1'..=b'9'] | [b'o', b'1'..=b'9', b'-', ..] => true,
        _ => name.strip_prefix(b"gpt-").is_some_and(|tail| matches!(tail, [b'5'..=b'9', ..])),
    }
}

pub(super) fn frame(
    state: &mut State,
    event: &str,
    data: &str,
    each: &mut dyn FnMut(Delta<'_>),
) -> Result<(), ModelError> {
    if data == "[DONE]" {
        state.finish.get_or_insert(Finish::Stop);
        state.close();
        return Ok(());
    }
    if event == "error" {
        return Err(Fault::of_body(data).in_stream());
    }
    if data.is_empty() || matches!(event, "ping" | "heartbeat" | "keepalive" | "keep-alive") {
        return Ok(());
    }
    let chunk: Chunk<'_> =
        object(data).and_then(|json| serde_json::from_str(json).ok()).ok_or(NOT_JSON)?;
    chunk.check(data)?;
    for choice in chunk.choices.iter().flatten() {
        choice.take(state, each)?;
    }
    chunk.count(state);
    Ok(())
}

pub(super) fn whole(
    state: &mut State,
    json: &str,
    each: &mut dyn FnMut(Delta<'_>),
) -> Result<(), ModelError> {
    let Some(json) = object(json) else { return Err(NOT_JSON) };
    let chunk: Chunk<'_> = serde_json::from_str(json)
        .map_err(|error| if error.is_eof() { ModelError::Truncated } else { NOT_JSON })?;
    chunk.check(json)?;
    let mut choices = chunk.choices.iter().flatten().peekable();
    if choices.peek().is_none() {
        return Err(ModelError::Malformed { what: "a reply without choices" });
    }
    for choice in choices {
        choice.take(state, each)?;
    }
    chunk.count(state);
    // The document is complete, so the reply is, whether or not the host gives a reason.
    state.finish.get_or_insert(Finish::Stop);
    state.close();
    Ok(())
}

impl Chunk<'_> {
    /// Fails when the chunk reports a failure instead of, or beside, a piece of the reply.
    fn check(&self, json: &str) -> Result<(), ModelError> {
        // vLLM and FastAPI hosts put the members of the error at the top.
        let bare = self.choices.is_none()
            && (word(self.object) == Some("error") || word(self.kind) == Some("error"));
        let minimax: BaseResp<'_> = members(self.base_resp).unwrap_or_default();
        if bare || count(minimax.status_code).is_some_and(|code| code > 0) {
            return Err(Fault::of_body(json).in_stream());
        }
        match Fault::of_error(self.error) {
            Some(fault) => Err(fault.in_stream()),
            None => Ok(()),
        }
    }

    /// Usage comes in a last chunk without choices, in the last one with them, or in each one,
    /// growing.
    fn count(&self, state: &mut State) {
        let usage: Tokens<'_> = members(self.usage).unwrap_or_default();
        state.usage.input = count(usage.prompt_tokens).or(state.usage.input);
        state.usage.output = count(usage.completion_tokens).or(state.usage.output);
    }
}

impl Choice<'_> {
    fn take(&self, state: &mut State, each: &mut dyn FnMut(Delta<'_>)) -> Result<(), ModelError> {
        if count(self.index).is_some_and(|index| index > 0) {
            return Ok(());
        }
        if let Some(fault) = Fault::of_error(self.error) {
            return Err(fault.in_stream());
        }
        state.begin(each);
        // Perplexity repeats the text so far as `message` beside each delta.
        let whole = self.message.filter(|_| state.stage < Stage::Speaking);
        let piece: Piece<'_> = members(self.delta.or(whole))?;
        let tools = holds(piece.tool_calls) || holds(piece.function_call);
        state.tools |= tools;
        // Some hosts send the reasoning under both names.
        if tools || holds(piece.reasoning_content) || holds(piece.reasoning) {
            each(Delta::Thinking);
        }
        match piece.content {
            Some(parts) if parts.get().starts_with('[') => say_parts(state, parts, each)?,
            text => {
                state.say(text, each);
            }
        }
        state.refused |= state.say(piece.refusal, each);
        if let Some(reason) = word(self.finish_reason) {
            state.finish = Some(finish(reason)?);
        }
        Ok(())
    }
}

/// Mistral's reasoning models send content as a list of parts, text and thoughts.
fn say_parts(
    state: &mut State,
    parts: &RawValue,
    each: &mut dyn FnMut(Delta<'_>),
) -> Result<(), ModelError> {
    let parts: Vec<&RawValue> = serde_json::from_str(parts.get()).map_err(|_| NOT_JSON)?;
    for part in parts {
        let part: Part<'_> = members(Some(part))?;
        if holds(part.thinking) {
            each(Delta::Thinking);
        }
        state.say(part.text, each);
    }
    Ok(())
}

fn finish(reason: &str) -> Result<Finish, ModelError> {
    let broken =
        |status, message: &str| Err(ModelError::InStream { status, message: message.to_owned() });
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(reason));
    if is(&["stop", "eos", "eos_token", "end_turn", "stop_sequence"]) {
        Ok(Finish::Stop)
    } else if is(&["length", "max_tokens", "model_length"]) {
        Ok(Finish::Length)
    } else if is(&["content_filter", "sensitive", "safety"]) {
        Ok(Finish::Filtered)
    } else if is(&["tool_calls", "function_call"]) {
        Ok(Finish::Tools)
    } else if is(&["refusal"]) {
        Ok(Finish::Refused)
    } else if is(&["error", "network_error"]) {
        // OpenRouter; Z.ai.
        broken(None, "it ended with an error")
    } else if is(&["insufficient_system_resource", "abort"]) {
        // DeepSeek; vLLM and SGLang. The text is cut although a reason is given.
        broken(Some(503), "it ran out of resources")
    } else {
        Ok(Finish::Other)
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    base_resp: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Piece<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BaseResp<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::tests::{no_beginning_counts, play, play_whole, survives_damage, turn};
    use crate::llm::{Form, Reply, Usage};

    const OPENAI: &str = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Hel\"lo\n"},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" wörld 😀 "},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":0}}}"#,
        "\n\ndata: [DONE]\n\n"
    );

    const OPENROUTER: &str = concat!(
        ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n",
        r#"data: {"id":"gen-1","provider":"P","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm"}]},"finish_reason":null,"native_finish_reason":null}]}"#,
        "\n\n: OPENROUTER PROCESSING\n\n",
        r#"data: {"id":"gen-1","choices":[{"index":0,"delta":{"role":"assistant","content":"yes"},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"id":"gen-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop","native_finish_reason":"STOP"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"cost":0.0001}}"#,
        "\n\ndata: [DONE]\n\n"
    );

    const LLAMA: &str = concat!(
        "data:{\"choices\": [{\"finish_reason\": null, \"index\": 0, \"delta\": {\"role\": \"assistant\", \"content\": null, \"tool_calls\": null}}], \"object\": \"chat.completion.chunk\"}\n\n",
        "data:{\"choices\": [{\"delta\": {\"content\": null, \"function_call\": {\"name\": \"f\", \"arguments\": \"{}  \"}, \"tool_calls\": [{\"index\": 0, \"id\": \"c\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{}  \"}}]}}]}\n\n",
        "data: {\"choices\": [{\"index\": 0, \"delta\": {}, \"finish_reason\": \"tool_calls\"}], \"timings\": {\"prompt_n\": 1}}\n\ndata: [DONE]\n\n"
    );

    const LITELLM: &str = concat!(
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"par\",\"role\":\"assistant\"}}]}\n\n",
        "data: {\"error\": {\"message\": \"litellm.RateLimitError: slow down, key sk-1234567890\", \"type\": null, \"param\": null, \"code\": \"429\"}}\n\n",
        "data: [DONE]\n\n"
    );

    fn chunk(choice: &str) -> String {
        format!("data: {{\"choices\":[{choice}]}}\n\n")
    }

    fn in_stream(status: Option<u16>, message: &str) -> ModelError {
        ModelError::InStream { status, message: message.to_owned() }
    }

    #[test]
    fn a_stream_of_openai_gives_its_exact_text() {
        let played = play(Form::OpenAi, OPENAI);
        assert_eq!(played.text, "Hel\"lo\n wörld 😀 ");
        assert_eq!(played.finish(), Some(Finish::Stop));
        assert_eq!(played.usage(), (Some(9), Some(4)));
    }

    #[test]
    fn comments_reasoning_and_repeated_roles_of_openrouter_are_no_text() {
        let played = play(Form::OpenAi, OPENROUTER);
        assert_eq!((played.text.as_str(), played.thought), ("yes", true));
        assert_eq!(played.finish(), Some(Finish::Stop));
        assert_eq!(played.usage(), (Some(5), Some(2)));
    }

    #[test]
    fn null_members_and_repeated_calls_of_llama_cpp_pass() {
        let played = play(Form::OpenAi, LLAMA);
        assert_eq!((played.text.as_str(), played.thought), ("", true));
        assert_eq!(played.finish(), Some(Finish::Tools));
    }

    #[test]
    fn an_error_inside_the_stream_fails_it_whatever_follows() {
        let played = play(Form::OpenAi, LITELLM);
        assert_eq!(played.text, "par");
        let expected = in_stream(Some(429), "litellm.RateLimitError: slow down, key ***");
        assert!(expected.is_retryable() && expected.may_fail_over());
        assert_eq!(played.end, Err(expected));
    }

    #[test]
    fn errors_inside_the_stream_have_many_shapes() {
        let table = [
            ("data: {\"error\":\"boom\"}\n\n", None, "boom"),
            (
                "data: {\"error\":{\"message\":\"m\",\"code\":502},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
                Some(502),
                "m",
            ),
            (
                "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\",\"error\":{\"code\":429,\"message\":\"m\"}}]}\n\n",
                Some(429),
                "m",
            ),
            (
                "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
                None,
                "it ended with an error",
            ),
            (
                "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\"}]}\n\n",
                Some(503),
                "it ran out of resources",
            ),
            (
                "data: {\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}\n\n",
                Some(400),
                "m",
            ),
            (
                "data: {\"error\":{\"message\":\"m\",\"type\":\"insufficient_quota\",\"code\":null}}\n\n",
                Some(402),
                "m",
            ),
            (
                "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}\n\n",
                Some(500),
                "m",
            ),
            ("data: [{\"error\":{\"message\":\"m\",\"code\":503}}]\n\n", Some(503), "m"),
            ("event: error\ndata: oops\n\n", None, "oops"),
            (
                "error: {\"code\":500,\"message\":\"m\",\"type\":\"server_error\"}\n\n",
                Some(500),
                "m",
            ),
            (
                "data: {\"base_resp\":{\"status_code\":1008,\"status_msg\":\"insufficient balance\"}}\n\n",
                Some(402),
                "insufficient balance",
            ),
            (
                "data: {\"choices\":null,\"base_resp\":{\"status_code\":1002,\"status_msg\":\"limit\"}}\n\n",
                Some(429),
                "limit",
            ),
        ];
        for (stream, status, message) in table {
            let played = play(Form::OpenAi, stream);
            assert_eq!(played.end, Err(in_stream(status, message)), "{stream}");
        }
    }

    #[test]
    fn empty_error_members_report_nothing() {
        for error in ["null", "\"\"", "{}", "false", "{\"message\":\"\",\"code\":null}"] {
            let stream = format!(
                "data: {{\"error\":{error},\"choices\":[{{\"delta\":{{\"content\":\"x\"}},\"finish_reason\":\"stop\"}}],\"base_resp\":{{\"status_code\":0,\"status_msg\":\"\"}}}}\n\n"
            );
            assert_eq!(play(Form::OpenAi, &stream).finish(), Some(Finish::Stop), "{error}");
        }
    }

    #[test]
    fn finish_reasons_are_told_apart() {
        let table = [
            (r#"{"delta":{},"finish_reason":"length"}"#, Finish::Length),
            (r#"{"delta":{},"finish_reason":"MAX_TOKENS"}"#, Finish::Length),
            (r#"{"delta":{},"finish_reason":"content_filter"}"#, Finish::Filtered),
            (r#"{"delta":{},"finish_reason":"function_call"}"#, Finish::Tools),
            (r#"{"delta":{},"finish_reason":"end_turn"}"#, Finish::Stop),
            (r#"{"delta":{},"finish_reason":"novel"}"#, Finish::Other),
            (r#"{"delta":{"tool_calls":[{"id":"a"}]},"finish_reason":"stop"}"#, Finish::Tools),
            (r#"{"delta":{"tool_calls":[{"id":"a"}]},"finish_reason":"length"}"#, Finish::Length),
            (r#"{"delta":{"tool_calls":[ ]},"finish_reason":"stop"}"#, Finish::Stop),
            (r#"{"delta":{"refusal":"I cannot"},"finish_reason":"stop"}"#, Finish::Refused),
        ];
        for (choice, finish) in table {
            assert_eq!(play(Form::OpenAi, &chunk(choice)).finish(), Some(finish), "{choice}");
        }
    }

    #[test]
    fn a_stream_without_a_reason_is_cut_and_done_is_a_reason() {
        let text = chunk(r#"{"delta":{"content":"x"},"finish_reason":null}"#);
        assert_eq!(play(Form::OpenAi, &text).end, Err(ModelError::Truncated));
        for none in [r#""""#, r#""null""#] {
            let text = chunk(&format!(r#"{{"delta":{{"content":"x"}},"finish_reason":{none}}}"#));
            assert_eq!(play(Form::OpenAi, &text).end, Err(ModelError::Truncated));
        }
        assert_eq!(play(Form::OpenAi, "").end, Err(ModelError::Truncated));
        assert_eq!(
            play(Form::OpenAi, &format!("{text}data: [DONE]\n\n")).finish(),
            Some(Finish::Stop)
        );
        no_beginning_counts(Form::OpenAi, OPENAI, "\"stop\"");
        no_beginning_counts(Form::OpenAi, OPENROUTER, "\"stop\"");
    }

    #[test]
    fn a_reason_finishes_a_reply_and_only_the_mark_closes_it() {
        let mut reply = Reply::new(Form::OpenAi);
        let signs = |reply: &mut Reply, data: &str| {
            let mut signs = 0;
            reply.frame("", data, &mut |_| signs += 1).unwrap();
            (reply.is_finished(), reply.is_closed(), signs)
        };
        let text = r#"{"choices":[{"delta":{"content":"x"}}]}"#;
        assert_eq!(signs(&mut reply, text), (false, false, 2));
        let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        assert_eq!(signs(&mut reply, stop), (true, false, 0));
        let usage = r#"{"choices":[],"usage":{"completion_tokens":1}}"#;
        assert_eq!(signs(&mut reply, usage), (true, false, 0));
        assert_eq!(signs(&mut reply, " [DONE] "), (true, true, 0));
        assert_eq!(signs(&mut reply, text), (true, true, 0));
        assert_eq!(reply.usage(), Usage { input: None, output: Some(1) });
    }

    #[test]
    fn odd_deltas_keep_their_text() {
        let table = [
            (r#"{"delta":[],"finish_reason":null}"#, "", true),
            (r#"{"delta":null}"#, "", true),
            (r#"{"index":1,"delta":{"content":"other"}}"#, "", false),
            (r#"{"index":null,"delta":{"content":"x"}}"#, "x", true),
            (r#"{"message":{"role":"assistant","content":"x"}}"#, "x", true),
            (r#"{"delta":{"content":"x"},"message":{"content":"so far x"}}"#, "x", true),
            (
                r#"{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"no"}]},{"type":"text","text":"x"}]}}"#,
                "x",
                true,
            ),
            (r#"{"delta":{"reasoning":"a","reasoning_content":"a","content":null}}"#, "", true),
            (r#"{"delta":{"content":"\u003cb\u003e\ud83d\ude00"}}"#, "<b>😀", true),
        ];
        for (choice, text, thought) in table {
            let played = play(Form::OpenAi, &chunk(choice));
            assert_eq!((played.text.as_str(), played.thought), (text, thought), "{choice}");
            assert_eq!(played.end, Err(ModelError::Truncated));
        }
    }

    #[test]
    fn a_pair_cut_between_two_chunks_is_joined() {
        let stream = chunk(r#"{"delta":{"content":"a\ud83d"}}"#)
            + &chunk(r#"{"delta":{"content":""}}"#)
            + &chunk(r#"{"delta":{"content":"\ude00b"},"finish_reason":"stop"}"#);
        assert_eq!(play(Form::OpenAi, &stream).text, "a😀b");
    }

    #[test]
    fn what_only_keeps_awake_is_no_sign_of_the_model() {
        let mut state = State::default();
        let mut signs = 0;
        let awake = [
            ("", ""),
            ("ping", "{}"),
            ("keepalive", "not json"),
            ("", "{}"),
            ("", r#"{"choices":[]}"#),
            ("", r#"{"choices":null,"usage":{"prompt_tokens":1}}"#),
        ];
        for (event, data) in awake {
            frame(&mut state, event, data, &mut |_| signs += 1).unwrap();
        }
        assert_eq!(signs, 0);
        for _ in 0..3 {
            let role =
                r#"{"choices":[{"delta":{"role":"assistant","content":"","reasoning":""}}]}"#;
            frame(&mut state, "", role, &mut |_| signs += 1).unwrap();
        }
        assert_eq!(signs, 1);
    }

    #[test]
    fn frames_that_are_no_object_fail_the_reply() {
        for data in
            ["nonsense", "7", "null", "\"x\"", "[1]", "{\"choices\":[{]}", "{\"choices\":7}"]
        {
            let played = play(Form::OpenAi, &format!("data: {data}\n\n"));
            assert_eq!(played.end, Err(NOT_JSON), "{data}");
        }
    }

    #[test]
    fn a_document_instead_of_a_stream_is_read_whole() {
        let json = r#"

          {"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi\n","refusal":null,"tool_calls":null},"finish_reason":"length"}],"usage":{"prompt_tokens":3.0,"completion_tokens":1}}"#;
        let (text, end) = play_whole(Form::OpenAi, json);
        assert_eq!(text, "hi\n");
        let usage = Usage { input: Some(3), output: Some(1) };
        assert_eq!(end, Ok(crate::llm::TurnEnd { finish: Finish::Length, usage }));

        let unreasoned = r#"{"choices":[{"message":{"content":"hi"}}]}"#;
        assert_eq!(play_whole(Form::OpenAi, unreasoned).1.unwrap().finish, Finish::Stop);
        let table = [
            ("", ModelError::Truncated),
            (&json[..json.len() - 5], ModelError::Truncated),
            ("{}", ModelError::Malformed { what: "a reply without choices" }),
            (r#"{"choices":[]}"#, ModelError::Malformed { what: "a reply without choices" }),
            ("<html>", NOT_JSON),
            (r#"{"error":{"message":"m","code":429}}"#, in_stream(Some(429), "m")),
            (r#"{"error":"m"}"#, in_stream(None, "m")),
            (
                r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#,
                in_stream(Some(401), "login fail"),
            ),
        ];
        for (json, error) in table {
            assert_eq!(play_whole(Form::OpenAi, json).1, Err(error), "{json}");
        }
    }

    #[test]
    fn a_damaged_stream_never_panics() {
        survives_damage(Form::OpenAi, &[OPENAI, OPENROUTER, LLAMA, LITELLM]);
    }

    #[test]
    fn the_request_asks_for_a_stream_with_usage() {
        let turn =
            turn("llama", &[(Role::User, "hi\n"), (Role::Assistant, "yes"), (Role::User, "a")]);
        assert_eq!(
            body(&turn),
            concat!(
                r#"{"model":"llama","messages":[{"role":"system","content":"be \"brief\""},"#,
                r#"{"role":"user","content":"hi\n"},{"role":"assistant","content":"yes"},"#,
                r#"{"role":"user","content":"a"}],"stream":true,"#,
                r#""stream_options":{"include_usage":true},"max_tokens":100}"#
            )
        );
    }

    #[test]
    fn reasoning_models_take_the_newer_limit() {
        for model in ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5.1-mini", "openai/gpt-5-codex"] {
            assert!(body(&turn(model, &[])).contains("\"max_completion_tokens\":100"), "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "gpt-oss-20b", "o", "o1x", "qwen/qwen3", "olmo-2"] {
            assert!(body(&turn(model, &[])).contains("\"max_tokens\":100"), "{model}");
        }
        let open = Turn { max_tokens: 0, ..turn("m", &[]) };
        assert!(!body(&open).contains("tokens"));
    }

    #[test]
    fn blank_instructions_are_left_out() {
        let turn = Turn { system: Some(" \n".to_owned()), ..turn("m", &[]) };
        assert!(body(&turn).contains(r#""messages":[]"#));
    }
}
