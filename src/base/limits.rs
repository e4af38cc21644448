//! Every bound of the agent in one place: its default, its compile-time ceiling, and the sum of them all.
//!
//! Configuration can lower or raise a bound up to its ceiling, never past it. `worst_case` adds the bytes up;
//! `check-config` prints the table and a test drives the agent to every bound and compares.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Slots of the task store, and its ceiling: ids carry the slot in 10 bits.
pub const TASKS: usize = 1024;
/// Ceiling of [`Limits::connections`].
pub const CONNECTIONS: usize = 512;
/// Ceiling of `relay.max`: agent threads that talk to providers.
pub const RELAYS: usize = 32;
/// Ceiling of `relay.queue`: relayed tasks that wait for a thread.
pub const QUEUE: usize = 256;
/// Webhooks of unfinished tasks, and deliveries that wait or are under way.
pub const PUSHES: usize = 64;
/// Threads that deliver to webhooks.
pub const PUSH_THREADS: usize = 4;
/// Distinct callers whose shares are counted one by one; further ones share one count.
pub const CALLERS: usize = 64;

/// Bytes taken in flight for every byte of a request body: the body itself, and what parsing makes of it.
pub const PARSE_FACTOR: usize = 3;
/// A body of so many bytes finds room even when large ones hold all there is.
pub const SMALL_BODY: usize = 4 * KIB;
/// A reply of so many bytes is part of what its connection costs; a larger one takes its room from what is in flight.
pub const SMALL_REPLY: usize = 16 * KIB;
/// Bytes kept for small bodies.
pub const SPARE_BODIES: usize = 96 * KIB;
/// What a connection costs: hyper's read and write buffers, its task and its timers (measured by `tests/run`).
pub const CONNECTION_BYTES: usize = 16 * KIB;
/// What TLS adds to that at its worst: half a record that came, one that waits for its reader, keys (measured: 7 KiB
/// idle, 29 KiB with half a record).
pub const TLS_BYTES: usize = 48 * KIB;
/// Sessions that clients may resume, and the longest that is kept: it holds the client's certificates.
pub const TLS_SESSIONS: usize = 128;
pub const TLS_SESSION_BYTES: usize = 4 * KIB;
/// What an agent thread costs: stack, a TLS session, a line and an event of the provider's stream.
pub const RELAY_BYTES: usize = 416 * KIB;
/// What a thread that delivers to a webhook costs: stack, a TLS session, two buffers.
pub const PUSH_BYTES: usize = 160 * KIB;
/// Program, allocator and runtime before the first connection.
pub const PROGRAM_BYTES: usize = 3 * MIB;

/// The bounds in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; a few more are accepted only to answer monitors and "busy".
    pub connections: usize,
    /// Event streams open at once, of those connections.
    pub streams: usize,
    /// Connections from one address; loopback is exempt.
    pub per_address: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// From the first byte of a request's head to its end.
    pub header_wait: Duration,
    /// From the end of the head to the end of the body.
    pub body_wait: Duration,
    /// An open connection without a request.
    pub idle_wait: Duration,
    /// A reply that the reader does not take.
    pub write_wait: Duration,
    /// Nesting of arrays and objects in a request.
    pub json_depth: usize,
    /// Tasks kept, running and finished.
    pub tasks: usize,
    /// Bytes of all stored tasks together; one task may hold a quarter.
    pub store_bytes: usize,
    /// Bytes of request bodies being read and answered, parsing included.
    pub in_flight_bytes: usize,
    /// Bytes handed to agent threads.
    pub work_bytes: usize,
    /// Unfinished tasks of one caller.
    pub caller_tasks: usize,
    /// How long a task waits for the input it asked for.
    pub input_wait: Duration,
    /// Keys of the memory skill, per caller.
    pub memory_keys: usize,
    /// Bytes of one value of the memory skill.
    pub memory_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 96,
            streams: 80,
            per_address: 16,
            header_bytes: 8 * KIB,
            body_bytes: 256 * KIB,
            header_wait: Duration::from_secs(10),
            body_wait: Duration::from_secs(30),
            idle_wait: Duration::from_mins(1),
            write_wait: Duration::from_secs(30),
            json_depth: 64,
            tasks: TASKS,
            store_bytes: 2 * MIB,
            in_flight_bytes: 2 * MIB,
            work_bytes: MIB,
            caller_tasks: 64,
            input_wait: Duration::from_hours(1),
            memory_keys: 64,
            memory_value_bytes: 4 * KIB,
        }
    }
}

impl Limits {
    /// Bytes that one task may hold: a quarter of the store.
    pub const fn task_bytes(&self) -> usize {
        self.store_bytes / 4
    }

    /// The most memory each part can take, in the order it is printed, for `relays` agent threads and `pushes` threads
    /// that deliver to webhooks, with or without TLS on the listening side.
    pub const fn worst_case(
        &self,
        relays: usize,
        pushes: usize,
        tls: bool,
    ) -> [(&'static str, usize); 8] {
        let tls =
            if tls { self.connections * TLS_BYTES + TLS_SESSIONS * TLS_SESSION_BYTES } else { 0 };
        [
            ("program, allocator, runtime", PROGRAM_BYTES),
            ("connections", self.connections * CONNECTION_BYTES),
            ("TLS of connections", tls),
            ("agent threads", relays * RELAY_BYTES),
            ("webhook threads", pushes * PUSH_BYTES),
            ("task store", self.store_bytes),
            ("requests in flight", self.in_flight_bytes + SPARE_BODIES),
            ("work", self.work_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_sum_stays_within_the_promise() {
        let parts = Limits::default().worst_case(4, PUSH_THREADS, false);
        let sum: usize = parts.iter().map(|(_, bytes)| bytes).sum();
        assert!(sum <= 12 * MIB, "{sum}");
    }
}
