//! Words everyone uses: bytes, time, identity, bounds. Knows nothing of A2A, of sockets or of configuration files.
//!
//! A thing lives here when two layers above need it and it needs neither of them. "Useful" is not a reason.

pub mod base64;
pub mod budget;
pub mod clock;
pub mod ids;
pub mod json;
pub mod jws;
pub mod limits;
pub mod members;
pub mod name;
pub mod net;
pub mod order;
pub mod pem;
pub mod reach;
pub mod redact;
pub mod secret;
pub mod sse;
pub mod x509;
