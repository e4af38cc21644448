//! Everything that others open: async, on the runtime thread. Never calls `outbound`, never blocks.
//!
//! From accept to reply: `listen` takes a permit and accepts; `tls` decides what speaks there, and `wire` is what it
//! speaks over; `io` adds the deadlines; hyper parses the head; `service` has `hosts` check whom it calls and `auth`
//! say who asks, and serves pages; `protocol` collects the body under a lease, decodes it to an operation and hands
//! that to the engine through `cell`; the reply is bytes, or a `body::Feed` that pulls events as they come.

pub mod audit;
pub mod auth;
pub mod body;
pub mod cell;
pub mod counters;
pub mod hosts;
pub mod io;
pub mod listen;
pub mod live;
pub mod metrics;
pub mod pages;
pub mod process;
pub mod protocol;
pub mod service;
pub mod tls;
pub mod wire;
