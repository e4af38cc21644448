//! What the agent can do without any model, as pure functions of their input. No state, no I/O, no clock.

pub mod calculator;
pub mod device;
pub mod memory;
pub mod text_analyzer;
