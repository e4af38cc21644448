//! Everything we call: straight-line blocking code on a few named threads. Never sees the engine.
//!
//! A thread may block only with a bound: `http` sets connect and read timeouts on every socket, and the job's
//! `Cancel` closes it from outside. Name look-ups are bounded by the system's resolver.

pub mod client;
pub mod device;
pub mod failure;
pub mod http;
pub mod model;
pub mod push;
pub mod tls;
