//! What is said to a model and what comes back, in the words of this program; `openai` and
//! `anthropic` hold the two forms, `fault` reads failures, `loose` single values.
//!
//! Pure text: nothing here opens a connection, waits, reads a clock or counts what a reply may
//! cost. A reply counts as whole only when the model gave a reason for its end; a stream that
//! merely stops is cut, whatever the transport says. Failures become [`ModelError`] from status,
//! codes and headers before any of them is turned into a sentence. Message texts of providers pass
//! `base::redact` on their way in. The forms follow the public API documentation of `OpenAI` and
//! Anthropic and the deviations seen at compatible hosts, each named where it is handled.

pub mod anthropic;
mod fault;
mod loose;
pub mod openai;

use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::base::redact::redact;
use crate::base::secret::Secret;
use crate::llm::fault::{Fault, Sort, is_passing, wait};
use crate::llm::loose::{quoted, unescape};

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One contribution to a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub role: Role,
    pub text: String,
}

/// One request to a model: everything a provider's form needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The model's id as the provider spells it.
    pub model: String,
    /// Standing instructions; blank text counts as none.
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub said: Vec<Said>,
    /// The longest reply in tokens; 0 leaves it to the provider.
    pub max_tokens: u32,
}

/// One piece of a reply as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    /// The next characters of the reply, exactly as the model gave them; never empty.
    Text(&'a str),
    /// The model works but said nothing for the reply: its first sign of life, reasoning, a tool
    /// call.
    Thinking,
}

/// Tokens as the provider counted them; unknown until it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the request, cached ones included.
    pub input: Option<u64>,
    /// Of the reply, reasoning included.
    pub output: Option<u64>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It had said everything.
    Stop,
    /// It reached the token limit; the text is cut.
    Length,
    /// A filter withheld the rest.
    Filtered,
    /// It waits for the results of tool calls.
    Tools,
    /// It declined; the text, if any, says so.
    Refused,
    /// A reason not known here.
    Other,
}

impl Finish {
    /// Its name, as most providers spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Filtered => "content_filter",
            Self::Tools => "tool_calls",
            Self::Refused => "refusal",
            Self::Other => "other",
        }
    }
}

/// A reply that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnEnd {
    pub finish: Finish,
    pub usage: Usage,
}

/// The form of requests and replies that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Chat completions: `OpenAI` and every compatible host.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
}

impl Form {
    /// The path behind a base URL that ends in `/v1` or its like.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/chat/completions",
            Self::Anthropic => "/messages",
        }
    }

    /// Name of the header that carries the key, and what stands in front of the key in its value.
    pub const fn key_header(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAi => ("authorization", "Bearer "),
            Self::Anthropic => ("x-api-key", ""),
        }
    }

    /// Headers that every request of this form needs.
    pub const fn fixed_headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OpenAi => &[],
            Self::Anthropic => &[("anthropic-version", anthropic::VERSION)],
        }
    }

    /// The JSON text that asks for `turn` as a stream.
    pub fn body(self, turn: &Turn) -> String {
        match self {
            Self::OpenAi => openai::body(turn),
            Self::Anthropic => anthropic::body(turn),
        }
    }
}

/// Decoder of one reply.
///
/// Keeps counters and one piece of text, never the reply: memory is bounded by the longest frame.
/// After an error or the form's end mark, further frames are ignored.
#[derive(Debug)]
pub struct Reply {
    form: Form,
    state: State,
}

impl Reply {
    /// A decoder that has seen nothing.
    pub fn new(form: Form) -> Self {
        Self { form, state: State::default() }
    }

    /// Takes one event of the stream and calls `each` for every piece of the reply in it.
    ///
    /// # Errors
    /// [`ModelError::InStream`] when the provider reports a failure, [`ModelError::Malformed`] when
    /// the frame is not of the form. Pieces given to `each` before stand.
    pub fn frame(
        &mut self,
        event: &str,
        data: &str,
        each: &mut dyn FnMut(Delta<'_>),
    ) -> Result<(), ModelError> {
        if self.state.stage >= Stage::Closed {
            return Ok(());
        }
        let data = data.trim();
        let outcome = match self.form {
            Form::OpenAi => openai::frame(&mut self.state, event, data, each),
            Form::Anthropic => anthropic::frame(&mut self.state, event, data, each),
        };
        self.settle(outcome)
    }

    /// Takes a whole reply: some hosts answer a request for a stream with one JSON document.
    ///
    /// # Errors
    /// Those of [`Reply::frame`], and [`ModelError::Truncated`] when the document is cut.
    pub fn whole(&mut self, json: &str, each: &mut dyn FnMut(Delta<'_>)) -> Result<(), ModelError> {
        if self.state.stage >= Stage::Closed {
            return Ok(());
        }
        // DeepSeek sends empty lines while the request waits.
        let json = json.trim_start_matches('\u{feff}').trim();
        if json.is_empty() {
            return self.settle(Err(ModelError::Truncated));
        }
        let outcome = match self.form {
            Form::OpenAi => openai::whole(&mut self.state, json, each),
            Form::Anthropic => anthropic::whole(&mut self.state, json, each),
        };
        self.settle(outcome)
    }

    fn settle(&mut self, outcome: Result<(), ModelError>) -> Result<(), ModelError> {
        if outcome.is_err() {
            self.state.stage = Stage::Broken;
        }
        outcome
    }

    /// Whether the reply is whole: only counts, or nothing, can follow, and [`Reply::end`] would
    /// succeed.
    pub fn is_finished(&self) -> bool {
        self.state.finish.is_some() && self.state.stage != Stage::Broken
    }

    /// Whether the form's end mark came, so that reading on is pointless.
    pub fn is_closed(&self) -> bool {
        self.state.stage == Stage::Closed
    }

    /// Tokens counted so far, for replies that do not come to their end.
    pub fn usage(&self) -> Usage {
        self.state.usage
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// [`ModelError::Truncated`] unless the model gave a reason to stop (`[DONE]` counts as one in
    /// the form that has it).
    pub fn end(&self) -> Result<TurnEnd, ModelError> {
        let State { stage, finish, usage, tools, refused, .. } = self.state;
        let finish = match finish {
            Some(_) if stage == Stage::Broken => return Err(ModelError::Truncated),
            None => return Err(ModelError::Truncated),
            // Some hosts say "stop" although they delivered tool calls, and OpenAI does so for
            // refusals.
            Some(Finish::Stop) if tools => Finish::Tools,
            Some(Finish::Stop) if refused => Finish::Refused,
            Some(finish) => finish,
        };
        Ok(TurnEnd { finish, usage })
    }
}

/// Why a turn failed. Texts of the provider in it are redacted and at most 500 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// The key is wrong, missing, or not allowed to do this.
    Unauthorized { status: u16, message: String },
    /// The request itself was refused; sending it again cannot help. `kind` is the provider's code,
    /// possibly empty.
    Refused { status: u16, kind: String, message: String },
    /// Too many requests or tokens for now. `again` is false when the provider forbids another try.
    RateLimited { retry_after: Option<Duration>, again: bool, message: String },
    /// The account has nothing left to spend, or not today.
    Quota { message: String },
    /// The provider fails or has no capacity. `again` is false when it forbids another try.
    Overloaded { status: u16, retry_after: Option<Duration>, again: bool, message: String },
    /// The conversation does not fit the model.
    ContextTooLong { message: String },
    /// The provider does not offer this model to this key.
    ModelNotFound { message: String },
    /// A failure reported after the stream began; `status` is what it would have been in front of
    /// it, if that is known.
    InStream { status: Option<u16>, message: String },
    /// The stream ended without a reason.
    Truncated,
    /// The provider broke the form.
    Malformed { what: &'static str },
    /// The reply passes `limit` bytes.
    TooLarge { limit: usize },
    /// Nothing of the reply came for `after`; `first` when nothing had come before.
    Stalled { after: Duration, first: bool },
    /// The whole turn took `after`.
    TurnTooLong { after: Duration },
    /// The caller asked to stop.
    Canceled,
    /// No connection came about.
    Connect { what: String },
    /// The connection broke.
    Transport { what: String },
}

impl ModelError {
    /// Sorts a failed response. `header` gives the value of a header by its lower-case name; `body`
    /// may be cut.
    pub fn from_status(
        status: u16,
        header: &dyn Fn(&str) -> Option<String>,
        body: &str,
        secrets: &[&Secret],
    ) -> Self {
        let fault = Fault::of_body(body);
        let sort = fault.sort(status, body);
        let message = redact(&fault.message, secrets);
        let again = header("x-should-retry").map(|word| word.trim() == "true");
        match sort {
            Sort::Unauthorized => Self::Unauthorized { status, message },
            Sort::Quota => Self::Quota { message },
            Sort::ContextTooLong => Self::ContextTooLong { message },
            Sort::ModelNotFound => Self::ModelNotFound { message },
            Sort::RateLimited => {
                let retry_after = wait(header, body);
                Self::RateLimited { retry_after, again: again.unwrap_or(true), message }
            }
            Sort::Refused if again != Some(true) => {
                let kind = if fault.code.is_empty() { &fault.kind } else { &fault.code };
                Self::Refused { status, kind: redact(kind, secrets), message }
            }
            Sort::Overloaded | Sort::Refused => {
                let retry_after = wait(header, body);
                Self::Overloaded { status, retry_after, again: again.unwrap_or(true), message }
            }
        }
    }

    /// Whether the same request to the same provider may succeed after a while.
    ///
    /// True only of failures before the first piece of text: once text was forwarded, a second
    /// reply must never be glued to it. How often and after which wait is the caller's to decide.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { again, .. } | Self::Overloaded { again, .. } => *again,
            Self::InStream { status, .. } => status.is_some_and(is_passing),
            Self::Connect { .. } | Self::Transport { .. } => true,
            Self::Unauthorized { .. }
            | Self::Refused { .. }
            | Self::Quota { .. }
            | Self::ContextTooLong { .. }
            | Self::ModelNotFound { .. }
            | Self::Truncated
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Stalled { .. }
            | Self::TurnTooLong { .. }
            | Self::Canceled => false,
        }
    }

    /// Whether another provider may succeed where this one failed; the same condition on forwarded
    /// text holds.
    pub fn may_fail_over(&self) -> bool {
        match self {
            Self::Unauthorized { .. }
            | Self::RateLimited { .. }
            | Self::Quota { .. }
            | Self::Overloaded { .. }
            | Self::ModelNotFound { .. }
            | Self::Truncated
            | Self::Malformed { .. }
            | Self::Stalled { .. }
            | Self::Connect { .. }
            | Self::Transport { .. } => true,
            Self::InStream { status, .. } => {
                status.is_none_or(|status| is_passing(status) || matches!(status, 401..=404))
            }
            Self::Refused { .. }
            | Self::ContextTooLong { .. }
            | Self::TooLarge { .. }
            | Self::TurnTooLong { .. }
            | Self::Canceled => false,
        }
    }

    /// How long the provider asked to wait, at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Overloaded { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Hides `secrets` in the provider's words; for failures inside a stream, which are redacted by
    /// shape only.
    #[must_use]
    pub fn without(mut self, secrets: &[&Secret]) -> Self {
        match &mut self {
            Self::Refused { message, .. }
            | Self::Unauthorized { message, .. }
            | Self::RateLimited { message, .. }
            | Self::Quota { message }
            | Self::Overloaded { message, .. }
            | Self::ContextTooLong { message }
            | Self::ModelNotFound { message }
            | Self::InStream { message, .. }
            | Self::Connect { what: message }
            | Self::Transport { what: message } => *message = redact(message, secrets),
            Self::Truncated
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Stalled { .. }
            | Self::TurnTooLong { .. }
            | Self::Canceled => {}
        }
        self
    }

    /// The sentence about this failure that names where the key comes from, such as
    /// `OPENAI_API_KEY`.
    pub fn explain<'a>(&'a self, key_source: &'a str) -> Explained<'a> {
        Explained { error: self, key_source }
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain("the key").fmt(f)
    }
}

impl std::error::Error for ModelError {}

/// A failure with the name of the key's source, for display.
#[derive(Debug)]
pub struct Explained<'a> {
    error: &'a ModelError,
    key_source: &'a str,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self.error {
            ModelError::Unauthorized { status, message } => {
                write!(f, "the provider refused the key ({status}): check {}", self.key_source)?;
                message
            }
            ModelError::Refused { status, kind, message } => {
                write!(f, "the provider refused the request ({status}")?;
                if !kind.is_empty() {
                    write!(f, ", {kind}")?;
                }
                f.write_str(")")?;
                if matches!(status, 300..=399 | 404 | 405) {
                    f.write_str(": check the base URL")?;
                }
                message
            }
            ModelError::RateLimited { retry_after, message, .. } => {
                f.write_str("the provider limits the rate: try again ")?;
                match retry_after {
                    Some(wait) => write!(f, "in {} s", wait.as_secs_f64().ceil())?,
                    None => f.write_str("later")?,
                }
                message
            }
            ModelError::Quota { message } => {
                f.write_str("the provider account has no quota or credit left: check its plan")?;
                message
            }
            ModelError::Overloaded { status, message, .. } => {
                write!(f, "the provider failed or is overloaded ({status}): try again later")?;
                message
            }
            ModelError::ContextTooLong { message } => {
                f.write_str("the conversation is too long for the model: start a new one")?;
                message
            }
            ModelError::ModelNotFound { message } => {
                f.write_str("the provider does not offer the model: check its name")?;
                message
            }
            ModelError::InStream { status, message } => {
                f.write_str("the provider broke off the reply")?;
                if let Some(status) = status {
                    write!(f, " ({status})")?;
                }
                message
            }
            ModelError::Connect { what } => {
                f.write_str("no connection to the provider")?;
                what
            }
            ModelError::Transport { what } => {
                f.write_str("the connection to the provider broke")?;
                what
            }
            ModelError::Truncated => {
                return f.write_str("the reply ended without a finish reason and may be cut");
            }
            ModelError::Malformed { what } => return write!(f, "the provider sent {what}"),
            ModelError::TooLarge { limit } => {
                return write!(f, "the reply is larger than {limit} bytes");
            }
            ModelError::Stalled { after, first: true } => {
                return write!(f, "the model did not begin to reply within {} s", after.as_secs());
            }
            ModelError::Stalled { after, first: false } => {
                return write!(f, "the model fell silent for {} s", after.as_secs());
            }
            ModelError::TurnTooLong { after } => {
                return write!(f, "the reply took longer than {} s", after.as_secs());
            }
            ModelError::Canceled => return f.write_str("the turn was canceled"),
        };
        let message = message.trim().trim_end_matches('.');
        if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
    }
}

/// What both forms keep about a reply.
#[derive(Debug, Default)]
struct State {
    stage: Stage,
    finish: Option<Finish>,
    usage: Usage,
    /// A tool call came.
    tools: bool,
    /// Text of a refusal came.
    refused: bool,
    /// Unescaped text, used again for every piece.
    text: String,
    /// The first half of a surrogate pair whose second half was cut into the next piece, or 0.
    half: u16,
}

/// How far a reply is. The order matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Waiting,
    Begun,
    Speaking,
    Closed,
    Broken,
}

impl State {
    /// The model is there. Only the first time counts: hosts repeat the role to keep a connection
    /// awake.
    fn begin(&mut self, each: &mut dyn FnMut(Delta<'_>)) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Begun;
            each(Delta::Thinking);
        }
    }

    /// Gives out a JSON string as text. Anything else is no text and says nothing.
    ///
    /// Returns whether there was any.
    fn say(&mut self, json: Option<&RawValue>, each: &mut dyn FnMut(Delta<'_>)) -> bool {
        let Some(inner) = json.and_then(quoted) else { return false };
        if inner.is_empty() {
            return false;
        }
        self.stage = self.stage.max(Stage::Speaking);
        if self.half == 0 && !inner.contains('\\') {
            each(Delta::Text(inner));
            return true;
        }
        self.text.clear();
        unescape(inner, &mut self.text, &mut self.half);
        if !self.text.is_empty() {
            each(Delta::Text(&self.text));
        }
        true
    }

    /// The end mark of the form, or of a whole document.
    fn close(&mut self) {
        self.stage = Stage::Closed;
        self.text = String::new();
    }
}

const NOT_JSON: ModelError = ModelError::Malformed { what: "a frame that is not JSON of its form" };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sse::{Item, Parser};

    /// What a stream came to: its text, whether there was thinking, and its end.
    #[derive(Debug, PartialEq)]
    pub(super) struct Played {
        pub(super) text: String,
        pub(super) thought: bool,
        pub(super) end: Result<TurnEnd, ModelError>,
    }

    impl Played {
        pub(super) fn finish(&self) -> Option<Finish> {
            self.end.as_ref().ok().map(|end| end.finish)
        }

        pub(super) fn usage(&self) -> (Option<u64>, Option<u64>) {
            self.end.as_ref().map_or((None, None), |end| (end.usage.input, end.usage.output))
        }
    }

    fn play_pieces<'a>(form: Form, pieces: impl Iterator<Item = &'a [u8]>) -> Played {
        let mut parser = Parser::new(64 * 1024);
        let mut reply = Reply::new(form);
        let mut played =
            Played { text: String::new(), thought: false, end: Err(ModelError::Canceled) };
        for mut piece in pieces {
            loop {
                let (event, data) = match parser.read(&mut piece) {
                    Ok(Some(Item::Frame { event, data })) => (event, data),
                    Ok(Some(Item::Comment)) => continue,
                    Ok(None) => break,
                    Err(_) => {
                        played.end = Err(ModelError::Malformed { what: "no event stream" });
                        return played;
                    }
                };
                let outcome = reply.frame(event, data, &mut |delta| match delta {
                    Delta::Text(text) => {
                        assert!(!text.is_empty());
                        played.text.push_str(text);
                    }
                    Delta::Thinking => played.thought = true,
                });
                if let Err(error) = outcome {
                    assert!(!reply.is_finished() && !reply.is_closed());
                    assert_eq!(reply.frame("", "[DONE]", &mut |_| ()), Ok(()));
                    assert_eq!(reply.end(), Err(ModelError::Truncated));
                    played.end = Err(error);
                    return played;
                }
            }
        }
        assert_eq!(reply.is_finished(), reply.finish_seen());
        played.end = reply.end();
        played
    }

    impl Reply {
        fn finish_seen(&self) -> bool {
            self.state.finish.is_some()
        }
    }

    /// Plays a stream in one piece, byte by byte, cut in two at every place, and with CRLF; all
    /// must come to the same.
    pub(super) fn play(form: Form, stream: &str) -> Played {
        let bytes = stream.as_bytes();
        let whole = play_pieces(form, std::iter::once(bytes));
        assert_eq!(play_pieces(form, bytes.chunks(1)), whole);
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(play_pieces(form, [first, second].into_iter()), whole, "cut at {at}");
        }
        let crlf = stream.replace('\n', "\r\n");
        assert_eq!(play_pieces(form, crlf.as_bytes().chunks(3)), whole);
        whole
    }

    /// The text and the end of a document.
    pub(super) fn play_whole(form: Form, json: &str) -> (String, Result<TurnEnd, ModelError>) {
        let mut reply = Reply::new(form);
        let mut text = String::new();
        let outcome = reply.whole(json, &mut |delta| {
            if let Delta::Text(more) = delta {
                text.push_str(more);
            }
        });
        (text, outcome.and_then(|()| reply.end()))
    }

    /// Checks that no beginning of `stream` that ends before `mark` counts as a reply.
    pub(super) fn no_beginning_counts(form: Form, stream: &str, mark: &str) {
        let mark = stream.find(mark).unwrap();
        for at in 0..=mark {
            let played = play_pieces(form, std::iter::once(&stream.as_bytes()[..at]));
            assert_eq!(played.end, Err(ModelError::Truncated), "cut at {at}");
        }
    }

    /// Damages `streams` in many ways; nothing may panic.
    pub(super) fn survives_damage(form: Form, streams: &[&str]) {
        for seed in 1..1500_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                usize::try_from(state >> 33).unwrap() % below.max(1)
            };
            let mut bytes = streams[random(streams.len())].as_bytes().to_vec();
            for _ in 0..=random(6) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes.truncate(at),
                    1 => bytes
                        .splice(at..at, b"\"{[\\u:,]}\nnull"[random(8)..].iter().copied())
                        .for_each(drop),
                    2 => drop(bytes.drain(at..(at + random(20)).min(bytes.len()))),
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = b"\"\\{}[]:,0nud \n\xff"[random(15)];
                        }
                    }
                }
            }
            let one = play_pieces(form, std::iter::once(bytes.as_slice()));
            assert_eq!(play_pieces(form, bytes.chunks(1)), one, "seed {seed}");
            let text = String::from_utf8_lossy(&bytes);
            for line in text.lines() {
                let line = line.trim_start_matches("data:").trim_start();
                let _ = play_whole(form, line);
                for status in [400, 404, 429, 500] {
                    let error =
                        ModelError::from_status(status, &|_| Some(line.to_owned()), line, &[]);
                    assert!(error.to_string().chars().count() < 1300, "seed {seed}");
                }
            }
        }
    }

    fn said(role: Role, text: &str) -> Said {
        Said { role, text: text.to_owned() }
    }

    pub(super) fn turn(model: &str, conversation: &[(Role, &str)]) -> Turn {
        Turn {
            model: model.to_owned(),
            system: Some("be \"brief\"".to_owned()),
            said: conversation.iter().map(|(role, text)| said(*role, text)).collect(),
            max_tokens: 100,
        }
    }

    fn from(status: u16, headers: &[(&str, &str)], body: &str) -> ModelError {
        let header = |name: &str| {
            headers.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        };
        ModelError::from_status(status, &header, body, &[])
    }

    /// Status, body, and what they mean.
    const FAILURES: [(u16, &str, &str); 33] = [
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-proj-12345678","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            "key",
        ),
        (
            403,
            r#"{"error":{"code":"unsupported_country_region_territory","message":"Country not supported"}}"#,
            "key",
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            "key",
        ),
        (
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: ab***cd."}"#,
            "key",
        ),
        (
            403,
            r#"{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"]}}}"#,
            "refused",
        ),
        (402, r#"{"error":{"message":"Insufficient credits","code":402}}"#, "quota"),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            "quota",
        ),
        (
            429,
            r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. Please retry in 34.07s.","status":"RESOURCE_EXHAUSTED","details":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}]"#,
            "rate",
        ),
        (
            429,
            r#"[{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"},{"retryDelay":"34s"}]}}]"#,
            "quota",
        ),
        (
            429,
            r#"{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}"#,
            "quota",
        ),
        (429, r#"{"error":{"code":1309,"message":"Your plan has expired"}}"#, "quota"),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
            "quota",
        ),
        (
            429,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}"#,
            "rate",
        ),
        (
            429,
            r#"{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.","type":"tokens","code":"rate_limit_exceeded"}}"#,
            "long",
        ),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "overloaded",
        ),
        (498, r#"{"error":{"message":"flex tier capacity exceeded"}}"#, "overloaded"),
        (408, "", "overloaded"),
        (524, "<html><title>524</title></html>", "overloaded"),
        (500, r#"{"error":{"message":"Internal"}}"#, "overloaded"),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            "long",
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_ctx":4096}}"#,
            "long",
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            "long",
        ),
        (413, "<html>Request Entity Too Large</html>", "long"),
        (
            404,
            r#"{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            "model",
        ),
        (
            404,
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#,
            "model",
        ),
        (404, r#"{"error":"model 'llama9' not found, try pulling it first"}"#, "model"),
        (404, r#"{"error":{"message":"No endpoints found for x/y.","code":404}}"#, "model"),
        (400, r#"{"error":{"message":"foo is not a valid model ID","code":400}}"#, "model"),
        (
            400,
            r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
            "model",
        ),
        (404, "404 page not found", "refused"),
        (
            400,
            r#"{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 completion tokens","code":null}}"#,
            "refused",
        ),
        (
            422,
            r#"{"detail":[{"loc":["body","messages"],"msg":"field required","input":"insufficient_quota context length"}]}"#,
            "refused",
        ),
        (302, "", "refused"),
    ];

    #[test]
    fn statuses_and_codes_are_sorted_before_they_are_words() {
        for (status, body, expected) in FAILURES {
            let error = from(status, &[], body);
            let sorted = match &error {
                ModelError::Unauthorized { .. } => "key",
                ModelError::Refused { .. } => "refused",
                ModelError::RateLimited { .. } => "rate",
                ModelError::Quota { .. } => "quota",
                ModelError::Overloaded { .. } => "overloaded",
                ModelError::ContextTooLong { .. } => "long",
                ModelError::ModelNotFound { .. } => "model",
                _ => "other",
            };
            assert_eq!(sorted, expected, "{status} {body}");
            assert_eq!(error.is_retryable(), matches!(expected, "rate" | "overloaded"), "{body}");
            assert_eq!(error.may_fail_over(), !matches!(expected, "refused" | "long"), "{body}");
        }
    }

    #[test]
    fn error_bodies_of_every_shape_give_their_message() {
        let table = [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, "c", "m"),
            (r#"{"error":{"message":"m","type":"t","param":null,"code":null}}"#, "t", "m"),
            (r#"{"error":{"message":"m","code":418}}"#, "418", "m"),
            (r#"{"error":"m"}"#, "", "m"),
            (r#"{"error":"Bad Request","message":"m"}"#, "Bad Request", "m"),
            (r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, "400", "m"),
            (r#"{"detail":"m"}"#, "", "m"),
            (r#"{"detail":[{"type":"missing","msg":"m","input":"x"}]}"#, "missing", "m"),
            (
                r#"{"type":"error","error":{"type":"error","error":{"type":"t","message":"m"}}}"#,
                "t",
                "m",
            ),
            (
                r#"{"error":{"message":"Provider returned error","code":418,"metadata":{"raw":"{\"a\":1}","provider_name":"p"}}}"#,
                "418",
                "Provider returned error: {\"a\":1}",
            ),
            (r#"[{"error":{"code":418,"message":"m","status":"TEAPOT"}}]"#, "418", "m"),
            (r#"{"error":{"odd":1}}"#, "", r#"{"odd":1}"#),
            (r#"{"error":null}"#, "", r#"{"error":null}"#),
            ("<html>\r\n<b>x</b>", "", "<html>  <b>x</b>"),
            (r#"{"error":{"message":"cut "#, "", r#"{"error":{"message":"cut"#),
            ("\u{feff} {\"error\":\"caf\\u00e9 \\ud83d\"}", "", "café \u{fffd}"),
            ("", "", ""),
            ("[]", "", "[]"),
            ("7", "", "7"),
        ];
        for (body, code, text) in table {
            let ModelError::Refused { status: 418, kind, message } = from(418, &[], body) else {
                panic!("{body}")
            };
            assert_eq!((kind.as_str(), message.as_str()), (code, text), "{body}");
        }
    }

    #[test]
    fn waits_are_found_in_their_order_and_capped() {
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let ms = |ms| Some(Duration::from_millis(ms));
        let table: [(Headers<'_>, &str, Option<Duration>); 21] = [
            (&[("retry-after-ms", "1500"), ("retry-after", "9")], "", ms(1500)),
            (&[("retry-after", "9")], "try again in 1s", ms(9000)),
            (&[("retry-after", " 0.5 ")], "", ms(500)),
            (&[("retry-after", "502923")], "", ms(3_600_000)),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], "", None),
            (&[("retry-after", "-3")], "", None),
            (&[("retry-after", "NaN")], "", None),
            (&[("retry-after", "inf")], "", None),
            (
                &[("x-ratelimit-reset-requests", "28ms"), ("x-ratelimit-reset-tokens", "6m0s")],
                "",
                ms(360_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                "",
                ms(1000),
            ),
            (&[("x-ratelimit-reset", "1s")], "", ms(1000)),
            (&[("x-ratelimit-reset", "1741305600000")], "", None),
            (&[], r#"{"details":[{"retryDelay": "34s"}]}"#, ms(34_000)),
            (&[], r#"{"raw":"{\"retryDelay\":\"34.5s\"}"}"#, ms(34_500)),
            (&[], "Please try again in 1.898s. Visit", ms(1898)),
            (&[], "Please Try Again In 28ms.", ms(28)),
            (&[], "Please retry in 34.5s.", ms(34_500)),
            (&[], "Please retry after 20 seconds.", ms(20_000)),
            (&[], "try again in a moment, or try again in 1h2m3s", ms(3_600_000)),
            (&[], "try again in 99999999999999999999999999 days", ms(3_600_000)),
            (&[], "try again in ", None),
        ];
        for (headers, body, expected) in table {
            assert_eq!(from(429, headers, body).retry_after(), expected, "{headers:?} {body}");
            assert_eq!(from(503, headers, body).retry_after(), expected, "{headers:?} {body}");
        }
    }

    #[test]
    fn the_provider_may_forbid_or_allow_another_try() {
        assert!(!from(429, &[("x-should-retry", "false")], "").is_retryable());
        assert!(!from(503, &[("x-should-retry", "false")], "").is_retryable());
        assert!(from(503, &[("x-should-retry", "false")], "").may_fail_over());
        assert!(from(409, &[("x-should-retry", "true")], "").is_retryable());
        assert!(!from(401, &[("x-should-retry", "true")], "").is_retryable());
        assert!(!from(409, &[], "").is_retryable());
    }

    #[test]
    fn no_key_passes_into_an_error() {
        let key = Secret::new("plain0123456789secret").unwrap();
        let body = r#"{"error":{"message":"bad key plain0123456789secret or plain012345, sk-proj-abcdef","code":"plain0123456789secret"}}"#;
        for status in [400, 401, 402, 404, 413, 429, 503] {
            let error = ModelError::from_status(status, &|_| None, body, &[&key]);
            for text in [error.to_string(), format!("{error:?}"), error.explain("X").to_string()] {
                assert!(!text.contains("plain012") && !text.contains("abcdef"), "{text}");
            }
        }
        let message = "echo plain0123456789secret".to_owned();
        let error = ModelError::InStream { status: None, message }.without(&[&key]);
        assert_eq!(error.to_string(), "the provider broke off the reply: echo ***");
    }

    #[test]
    fn every_failure_is_one_sentence() {
        let s = Duration::from_secs;
        let what = "w".to_owned();
        let table = [
            (
                from(401, &[], r#"{"error":"Bad."}"#),
                "the provider refused the key (401): check OPENAI_API_KEY: Bad",
            ),
            (from(401, &[], ""), "the provider refused the key (401): check OPENAI_API_KEY"),
            (from(404, &[], ""), "the provider refused the request (404): check the base URL"),
            (
                from(400, &[], r#"{"error":{"code":"c","message":"m."}}"#),
                "the provider refused the request (400, c): m",
            ),
            (
                from(429, &[("retry-after", "1.2")], ""),
                "the provider limits the rate: try again in 2 s",
            ),
            (
                from(429, &[], "slow down"),
                "the provider limits the rate: try again later: slow down",
            ),
            (ModelError::Truncated, "the reply ended without a finish reason and may be cut"),
            (
                ModelError::Stalled { after: s(60), first: true },
                "the model did not begin to reply within 60 s",
            ),
            (ModelError::Stalled { after: s(9), first: false }, "the model fell silent for 9 s"),
            (ModelError::TurnTooLong { after: s(9) }, "the reply took longer than 9 s"),
            (ModelError::TooLarge { limit: 9 }, "the reply is larger than 9 bytes"),
            (ModelError::Connect { what: what.clone() }, "no connection to the provider: w"),
            (ModelError::Transport { what }, "the connection to the provider broke: w"),
            (ModelError::Canceled, "the turn was canceled"),
            (NOT_JSON, "the provider sent a frame that is not JSON of its form"),
        ];
        for (error, expected) in table {
            assert_eq!(error.explain("OPENAI_API_KEY").to_string(), expected);
        }
        assert!(from(401, &[], "").to_string().ends_with("check the key"));
    }

    #[test]
    fn a_form_knows_its_path_and_headers() {
        assert_eq!(Form::OpenAi.path(), "/chat/completions");
        assert_eq!(Form::OpenAi.key_header(), ("authorization", "Bearer "));
        assert!(Form::OpenAi.fixed_headers().is_empty());
        assert_eq!(Form::Anthropic.path(), "/messages");
        assert_eq!(Form::Anthropic.key_header(), ("x-api-key", ""));
        assert_eq!(Form::Anthropic.fixed_headers(), [("anthropic-version", "2023-06-01")]);
    }

    #[test]
    fn a_large_body_is_sorted_in_linear_time() {
        for unit in
            ["try again in ", "[", "{\"error\":", "retrydelay\\\\\\\\", "1m", "sk-", "model "]
        {
            let body = unit.repeat(256 * 1024 / unit.len());
            let _ = from(429, &[("retry-after", &body)], &body);
        }
    }
}
