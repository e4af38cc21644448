//! tetherlet: an A2A agent for small boxes.
//!
//! Reading order and layers; a module may use those above it in this list, never those below, and never its
//! neighbours in the same row (`tests/layers.rs` checks it):
//!
//! | layer | modules | what they do |
//! |---|---|---|
//! | 0 | `base` | words everyone uses: bytes, time, identity, bounds, JSON and event-stream text |
//! | 1 | `a2a`, `config`, `llm`, `skills` | formats and pure functions: the protocol, the settings, the providers' forms, what needs no model |
//! | 2 | `work` | what crosses between engine and threads |
//! | 3 | `engine` | all decisions, all state; no I/O, no clock |
//! | 4 | `inbound`, `outbound` | sockets others open (async, one thread); calls we make (blocking, own threads) |
//! | 5 | `bridge`, `logs` | the only channels and thread spawns; lines on stderr, which never wait |
//! | 6 | `daemon` | builds and runs it all, and puts a changed configuration in force |
//! | 7 | `cli` | arguments, help, exit codes |
//!
//! One message, socket to model and back: `inbound::listen` accepts, `inbound::service` checks and decodes,
//! `engine` stores the task and lets it wait for a thread, `bridge` hands the job to one, `outbound::model` reads
//! the provider's stream, every piece comes back as a `work::Update`, the engine appends it to the task, and
//! `inbound::body` pulls it from the task's feed into the caller's stream.
//!
//! Other programs may use [`outbound::client`], a client of A2A agents.
//!
//! Four rules: inbound is async and outbound is blocking; decisions are synchronous; readers pull; bytes are leased.

pub mod a2a;
pub mod base;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod inbound;
pub mod llm;
pub mod logs;
pub mod outbound;
pub mod skills;
pub mod work;
