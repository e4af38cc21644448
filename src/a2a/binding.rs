//! How one request came, and so how its reply goes: JSON-RPC with the id to echo, or REST, each in a dialect.

use std::borrow::Cow;

use crate::a2a::dialect::Dialect;
use crate::a2a::error::A2aError;
use crate::a2a::jsonrpc::{self, Id};
use crate::a2a::op::Event;
use crate::a2a::write::Writer;
use crate::base::json::Json;
use crate::base::sse;

/// The way back to one caller.
#[derive(Clone, Debug)]
pub struct Binding {
    /// How it is spelled.
    pub dialect: Dialect,
    /// The id to echo; `None` for REST, where replies stand for themselves.
    pub rpc: Option<Id>,
}

impl Binding {
    /// JSON-RPC.
    pub const fn rpc(id: Id, dialect: Dialect) -> Self {
        Self { dialect, rpc: Some(id) }
    }

    /// REST.
    pub const fn rest(dialect: Dialect) -> Self {
        Self { dialect, rpc: None }
    }

    /// A whole reply whose result `write` writes.
    pub fn reply(&self, write: impl FnOnce(&mut Writer<'_>)) -> String {
        self.written(1024, write).into_string()
    }

    fn written(&self, capacity: usize, write: impl FnOnce(&mut Writer<'_>)) -> Json {
        let mut json = Json::with_capacity(capacity);
        if let Some(id) = &self.rpc {
            jsonrpc::begin(&mut json, id);
        }
        write(&mut Writer::new(&mut json, self.dialect));
        if self.rpc.is_some() {
            jsonrpc::finish(&mut json);
        }
        json
    }

    /// A reply whose result is `result`, JSON already.
    pub fn raw(&self, result: &str) -> String {
        let mut json = Json::with_capacity(result.len() + 64);
        if let Some(id) = &self.rpc {
            jsonrpc::begin(&mut json, id);
        }
        json.raw(result);
        if self.rpc.is_some() {
            jsonrpc::finish(&mut json);
        }
        json.into_string()
    }

    /// The reply to what leaves nothing to say.
    pub fn done(&self) -> String {
        self.raw(if self.rpc.is_some() { "null" } else { "{}" })
    }

    /// One event as a frame of a stream; `last` when the stream ends with it.
    pub fn frame(&self, event: &Event<'_>, last: bool) -> String {
        let json = self.written(512, |writer| writer.event(event, last));
        let mut out = String::with_capacity(json.len() + 8);
        sse::write_data(&mut out, &on_one_line(json.as_str()));
        out
    }

    /// The HTTP status and body of an error.
    pub fn error(&self, error: &A2aError) -> (u16, String) {
        if let Some(id) = &self.rpc {
            return (error.rpc_status(), jsonrpc::error(id, error, self.dialect));
        }
        let mut json = Json::with_capacity(256);
        error.rest_into(&mut json, self.dialect);
        (error.wire().status, json.into_string())
    }
}

/// What ends a line to readers that split event streams as Unicode does, and how JSON spells it.
const ENDS_OF_LINES: [(char, &str); 3] =
    [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];

/// JSON text that is one line to every reader. The event stream format ends lines at CR and LF alone, but a2a-sdk
/// 1.3.0 for Python does at these too, and fails in the middle of a reply that holds one.
fn on_one_line(json: &str) -> Cow<'_, str> {
    // Between values, where a client may have put them, they are white space; in strings they are escaped already.
    let mut json = if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    };
    // The first bytes of the three: most text has neither.
    if !json.bytes().any(|byte| matches!(byte, 0xc2 | 0xe2)) {
        return json;
    }
    for (end, spelled) in ENDS_OF_LINES {
        // Outside of strings JSON has none of them, so each can be escaped where it stands.
        if json.contains(end) {
            json = Cow::Owned(json.replace(end, spelled));
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_grows_by_no_line_that_a_client_wrote() {
        assert_eq!(
            on_one_line("{\"a\":{\n\r\n\"b\":\"\\n\u{2028}\"\n}}"),
            "{\"a\":{   \"b\":\"\\n\\u2028\" }}"
        );
    }

    #[test]
    fn a_frame_has_no_line_end_that_only_some_readers_know() {
        assert_eq!(on_one_line("{\"a\":\"é – “\u{a0}\"}"), "{\"a\":\"é – “\u{a0}\"}");
        let text = "one\u{85}two\u{2028}three\u{2029}";
        let json = serde_json::to_string(text).unwrap();
        assert_eq!(on_one_line(&json), r#""one\u0085two\u2028three\u2029""#);
        assert_eq!(serde_json::from_str::<String>(&on_one_line(&json)).unwrap(), text);
    }
}
