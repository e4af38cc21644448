//! How one request came, and so how its reply goes: JSON-RPC with the id to echo, or REST, each in a dialect.

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
        sse::write_data(&mut out, json.as_str());
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
