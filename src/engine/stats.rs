//! What the engine counts: tasks by how they ended, and model calls by what became of them.

use crate::llm::{Finish, ModelError, Usage};

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks taken.
    pub submitted: u64,
    /// Tasks by how they ended.
    pub completed: u64,
    /// Ended without a result.
    pub failed: u64,
    /// Ended by their caller.
    pub canceled: u64,
    /// Nobody here could do them.
    pub rejected: u64,
    /// Messages refused because something was full.
    pub busy: u64,
    /// Notifications that webhooks took.
    pub pushed: u64,
    /// Notifications that were given up.
    pub push_failed: u64,
    /// Relays that got a thread; each ends once, in [`Stats::relay_ends`].
    pub relays: u64,
    /// Relays by how they ended: [`RelayEnd::NAMES`].
    pub relay_ends: [u64; RelayEnd::NAMES.len()],
    /// Tokens of requests and of replies, as far as providers count them.
    pub tokens: [u64; 2],
}

impl Stats {
    /// A relay is over.
    pub fn relay_ended(&mut self, end: RelayEnd) {
        self.relay_ends[end as usize] += 1;
    }

    /// A provider has counted a turn.
    pub fn spent(&mut self, usage: Usage) {
        for (sum, more) in self.tokens.iter_mut().zip([usage.input, usage.output]) {
            // Theirs is any number.
            *sum = sum.saturating_add(more.unwrap_or(0));
        }
    }
}

/// What became of a relay, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// The reply is whole.
    Ok,
    /// The provider's filter, the model itself, or its wish for a tool stopped the reply.
    Declined,
    /// It ended without a word.
    Empty,
    /// The caller or the end of this agent stopped it.
    Canceled,
    /// Nothing came for too long.
    Stalled,
    /// The whole turn took too long.
    Timeout,
    /// No connection came about.
    Connect,
    /// The connection broke.
    Transport,
    /// The stream ended in its middle.
    Truncated,
    /// The provider broke the form.
    Malformed,
    /// The reply is larger than it may be.
    TooLarge,
    /// The provider failed after the stream began.
    InStream,
    /// The provider fails or has no capacity.
    Overloaded,
    /// Too many requests or tokens.
    RateLimited,
    /// Nothing left to spend.
    Quota,
    /// The key is not accepted.
    Unauthorized,
    /// The conversation does not fit the model.
    ContextTooLong,
    /// No such model.
    ModelNotFound,
    /// The request was refused for another reason.
    Refused,
}

impl RelayEnd {
    /// One word for each, in the order of the variants.
    pub const NAMES: [&'static str; 19] = [
        "ok",
        "declined",
        "empty",
        "canceled",
        "stalled",
        "timeout",
        "connect",
        "transport",
        "truncated",
        "malformed",
        "too_large",
        "in_stream",
        "overloaded",
        "rate_limited",
        "quota",
        "unauthorized",
        "context_too_long",
        "model_not_found",
        "refused",
    ];

    /// The end of a relay whose provider ended its reply so.
    pub const fn finished(finish: Finish) -> Self {
        match finish {
            Finish::Stop | Finish::Length | Finish::Other => Self::Ok,
            Finish::Filtered | Finish::Refused | Finish::Tools => Self::Declined,
        }
    }

    /// The end of a relay that failed.
    pub const fn failed(error: &ModelError) -> Self {
        match error {
            ModelError::Unauthorized { .. } => Self::Unauthorized,
            ModelError::Refused { .. } => Self::Refused,
            ModelError::RateLimited { .. } => Self::RateLimited,
            ModelError::Quota { .. } => Self::Quota,
            ModelError::Overloaded { .. } => Self::Overloaded,
            ModelError::ContextTooLong { .. } => Self::ContextTooLong,
            ModelError::ModelNotFound { .. } => Self::ModelNotFound,
            ModelError::InStream { .. } => Self::InStream,
            ModelError::Truncated => Self::Truncated,
            ModelError::Malformed { .. } => Self::Malformed,
            ModelError::TooLarge { .. } => Self::TooLarge,
            ModelError::Stalled { .. } => Self::Stalled,
            ModelError::TurnTooLong { .. } => Self::Timeout,
            ModelError::Canceled => Self::Canceled,
            ModelError::Connect { .. } => Self::Connect,
            ModelError::Transport { .. } => Self::Transport,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_under_its_own_name() {
        let all = [
            RelayEnd::Ok,
            RelayEnd::Declined,
            RelayEnd::Empty,
            RelayEnd::Canceled,
            RelayEnd::Stalled,
            RelayEnd::Timeout,
            RelayEnd::Connect,
            RelayEnd::Transport,
            RelayEnd::Truncated,
            RelayEnd::Malformed,
            RelayEnd::TooLarge,
            RelayEnd::InStream,
            RelayEnd::Overloaded,
            RelayEnd::RateLimited,
            RelayEnd::Quota,
            RelayEnd::Unauthorized,
            RelayEnd::ContextTooLong,
            RelayEnd::ModelNotFound,
            RelayEnd::Refused,
        ];
        assert_eq!(all.map(|end| RelayEnd::NAMES[end as usize]), RelayEnd::NAMES);
        let spelled = RelayEnd::NAMES.map(|name| name.replace('_', ""));
        assert_eq!(all.map(|end| format!("{end:?}").to_ascii_lowercase()), spelled);
    }

    #[test]
    fn a_provider_that_counts_without_end_stops_no_counter() {
        let mut stats = Stats::default();
        for _ in 0..2 {
            stats.spent(Usage { input: Some(u64::MAX), output: None });
        }
        stats.spent(Usage { input: None, output: Some(7) });
        assert_eq!(stats.tokens, [u64::MAX, 7]);
    }
}
