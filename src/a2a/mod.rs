//! The Agent2Agent protocol as pure text: bytes in, typed requests out, and back. No sockets, no state, no clock.
//!
//! The model is in the terms of A2A 1.0; version 0.3 is a codec at the edge (`v03`), and 1.0 becomes another.
//! A request without a version header is a 0.3 request (1.0 §3.6.2).
//! Out of scope: gRPC, OAuth flows, and what a tenant means.

pub mod card;
pub mod error;
pub mod jsonrpc;
pub mod model;
pub mod op;
pub mod read;
pub mod v03;
