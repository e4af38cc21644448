//! The Agent2Agent protocol as pure text: bytes in, typed requests out, and back. No sockets, no state, no clock.
//!
//! The model is in the terms of A2A 1.0. A request is read by `params` and a reply written by `write`, each in one of
//! three dialects; `jsonrpc` and `rest` are the two bindings around them. A request without a version header is a
//! 0.3 request (1.0 §3.6.2).
//! Out of scope: gRPC, OAuth flows, and what a tenant means.

pub mod binding;
pub mod card;
pub mod dialect;
pub mod error;
pub mod jcs;
pub mod jsonrpc;
pub mod model;
pub mod op;
pub mod params;
pub mod read;
pub mod rest;
pub mod signed;
pub mod write;
