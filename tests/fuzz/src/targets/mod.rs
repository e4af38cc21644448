//! What is fuzzed: one function for every parser that meets the network or the text of strangers, and one for the
//! engine behind them. Each takes any bytes and panics when something is wrong: not only when the code under it
//! panics, but when what it promises does not hold.
//!
//! `main.rs` runs them under libFuzzer, `tests/crashes.rs` with the files that are kept, as plain tests.

use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tetherlet::a2a::binding::Binding;
use tetherlet::a2a::dialect::{Dialect, Version};
use tetherlet::a2a::error::A2aError;
use tetherlet::a2a::jsonrpc::{self, Request};
use tetherlet::a2a::model::{Status, Task, TaskState};
use tetherlet::a2a::op::{Event, Operation, Send};
use tetherlet::a2a::rest::{Method, Target as Resource};
use tetherlet::a2a::write::{View, Writer, task_len};
use tetherlet::base::ids::Ids;
use tetherlet::base::json::Json;

mod card;
mod certificate;
mod engine;
mod front;
mod provider;
mod skills;
mod system;
mod text;

/// Looks at one input.
pub type Target = fn(&[u8]);

/// All targets by name; the folders of seeds and crashes are called the same.
pub const TARGETS: &[(&str, Target)] = &[
    ("jsonrpc", jsonrpc),
    ("depth", text::depth),
    ("card", card::card),
    ("sse", text::sse),
    ("redact", text::redact),
    ("openai", provider::openai),
    ("anthropic", provider::anthropic),
    ("provider_error", provider::error),
    ("config", system::config),
    ("name", system::name),
    ("net", system::net),
    ("device", system::device),
    ("calculator", skills::calculator),
    ("text_analyzer", skills::text_analyzer),
    ("memory", skills::memory),
    ("rest", rest),
    ("engine", engine::engine),
    ("http", front::http),
    ("certificate", certificate::certificate),
];

/// Deeper than the default, so that both sides of it are met by short inputs.
const DEPTH: usize = 12;

/// A request is refused with its own id, or understood in a way that survives being written and read again.
fn jsonrpc(input: &[u8]) {
    let wanted = id_of(input);
    let decoded = match jsonrpc::decode(input, DEPTH, Version::V03) {
        Err(refusal) if matches!(refusal.error, A2aError::VersionNotSupported(_)) => {
            jsonrpc::decode(input, DEPTH, Version::V1)
        }
        decoded => decoded,
    };
    match decoded {
        Ok(request) => {
            let text = std::str::from_utf8(input).expect("a request that is no UTF-8 was taken");
            assert!(text.trim_start().starts_with('{'), "a request is an object");
            assert_eq!(wanted.as_deref(), Some(&*echoed(&request)), "the id is echoed");
            by_name(text, request.dialect);
            if let Operation::Send(send) | Operation::Stream(send) = request.operation {
                assert!(!send.message.parts.is_empty());
                survives(&send, request.dialect);
            }
        }
        Err(refusal) => {
            let reply = jsonrpc::error(&refusal.id, &refusal.error, refusal.dialect);
            let code = refusal.error.wire().code;
            assert!(matches!(code, -32700 | -32602..=-32600 | -32001), "{code}");
            let echo = member(&reply, "id");
            match (&refusal.error, wanted) {
                (A2aError::Parse(_), _) | (_, None) => assert_eq!(echo, "null", "{reply}"),
                (_, Some(wanted)) => assert_eq!(echo, wanted, "{reply}"),
            }
        }
    }
}

/// Panics when an array was taken for an object, its elements for members.
fn by_name(request: &str, dialect: Dialect) {
    let Ok(read) = serde_json::from_str::<Value>(request) else { return };
    let message = &read["params"]["message"];
    let parts = message["parts"].as_array().into_iter().flatten();
    let objects = [&read["params"], message, &read["params"]["configuration"]];
    // In 1.0 nobody knows a member `file`.
    let files = parts.clone().map(|part| &part["file"]).filter(|_| dialect == Dialect::V03);
    for object in objects.into_iter().chain(parts).chain(files) {
        assert!(!object.is_array(), "an array is no object: {request}");
    }
}

/// The id to echo, where the input is an object that has one.
fn id_of(input: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "read to find members that stand there twice")]
    struct Members<'a> {
        jsonrpc: Option<IgnoredAny>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        method: Option<IgnoredAny>,
        params: Option<IgnoredAny>,
    }
    let text = std::str::from_utf8(input).ok()?;
    // By name only: serde would also take the values of an array in their order.
    let text = Some(text).filter(|text| text.trim_start().starts_with('{'))?;
    let id = serde_json::from_str::<Members<'_>>(text).ok()?.id.map_or("null", RawValue::get);
    let fits = id.len() <= 256 && (id == "null" || !id.starts_with(['{', '[', 't', 'f', 'n']));
    Some(if fits { id } else { "null" }.to_owned())
}

/// The id of the reply to a request.
fn echoed(request: &Request) -> String {
    let mut json = Json::default();
    jsonrpc::begin(&mut json, &request.id);
    json.bool(true);
    jsonrpc::finish(&mut json);
    member(json.as_str(), "id")
}

/// Writes a message as part of a task, sends it once more, and compares.
fn survives(send: &Send, dialect: Dialect) {
    let mut ids = Ids::new(Box::new(|bytes| bytes.fill(0x5a)));
    let task = Task {
        id: send.task.unwrap_or_else(|| ids.task(1)),
        context: send.context.clone().unwrap_or_else(|| ids.context()),
        status: Status { state: TaskState::Working, message: None, unix_ms: 0 },
        history: vec![send.message.clone()].into(),
        artifacts: Vec::new().into(),
        metadata: None,
        loose: send.loose,
    };
    let mut json = Json::default();
    Writer::new(&mut json, dialect).task(&task, View::WHOLE);
    assert!(json.len() <= task_len(&task, View::WHOLE), "a task is longer than it was measured");
    let frame = Binding::rest(dialect).frame(&Event::Task(&task), false);
    assert!(frame.len() <= task_len(&task, View::WHOLE), "a frame is longer than it was measured");
    assert_eq!(frame.lines().count(), 2, "a frame is one line and an empty one");
    let history = member(json.as_str(), "history");
    let message = history.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let message = message.expect("the history is an array of one message");
    let again = match dialect {
        Dialect::Proto03 => {
            let target = Resource::parse("/v1/message:send").expect("a path of ours");
            let body = format!(r#"{{"message":{message}}}"#);
            target.operation(Method::Post, "", body.as_bytes(), DEPTH).map(|(again, _)| again)
        }
        Dialect::V03 | Dialect::V1 => {
            let (version, method) = match dialect {
                Dialect::V1 => (Version::V1, "SendMessage"),
                _ => (Version::V03, "message/send"),
            };
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"message":{message}}}}}"#
            );
            let again = jsonrpc::decode(body.as_bytes(), DEPTH, version);
            again.map(|again| again.operation).map_err(|refusal| refusal.error)
        }
    };
    let Ok(Operation::Send(again)) = again else {
        panic!("what was written is not understood: {message}: {again:?}");
    };
    assert_eq!(again.message, send.message);
    assert_eq!((again.task, again.context), (Some(task.id), Some(task.context)));
    assert!(!again.loose, "written strictly, however it came");
}

/// `METHOD PATH?QUERY`, a line break, a body: refused with an error that is JSON, or understood in a way that survives
/// being written and read again.
fn rest(input: &[u8]) {
    let at = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (line, body) = input.split_at(at);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (method, address) = line.split_once(' ').unwrap_or(("GET", line));
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        _ => Method::Other,
    };
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let Some(target) = Resource::parse(path) else { return };
    match target.operation(method, query, body.get(1..).unwrap_or_default(), DEPTH) {
        Ok((operation, _)) => {
            assert!(target.allows(method));
            if let Operation::Send(send) | Operation::Stream(send) = operation {
                survives(&send, target.dialect);
            }
        }
        Err(error) => {
            let (status, reply) = Binding::rest(target.dialect).error(&error);
            assert!(matches!(status, 400 | 404 | 405), "{status}");
            let reply: Value = serde_json::from_str(&reply).expect("an error is JSON");
            match target.dialect {
                Dialect::V1 => assert_eq!(reply["error"]["code"], status),
                Dialect::V03 | Dialect::Proto03 => assert_eq!(reply["code"], error.wire().code),
            }
        }
    }
}

/// The JSON of a member of an object, which must be one.
fn member(object: &str, name: &str) -> String {
    let members: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    members.get(name).map_or(String::new(), |value| value.get().to_owned())
}

/// Panics unless `text` is one JSON value.
fn must_be_json(text: &str) {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        panic!("{error}: {text}");
    }
}

/// What the calling thread has computed, in processor time: another load on the machine does not count.
#[expect(clippy::disallowed_methods, reason = "the clock of a thread is none of the agent's")]
fn spent() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Takes an input apart, byte by byte; an input that is used up gives zeros.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`: `0` to `9` stand for themselves, so that seeds can be written by hand.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte() & 0x3f ^ 0x30) % bound
    }

    /// Up to the next `end`, which is taken too, or all that is left.
    fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.0.iter().position(|byte| *byte == end).unwrap_or(self.0.len());
        let (found, rest) = self.0.split_at(at);
        self.0 = rest.get(1..).unwrap_or_default();
        found
    }

    /// The same as text.
    fn text(&mut self, end: u8) -> String {
        String::from_utf8_lossy(self.until(end)).into_owned()
    }
}
