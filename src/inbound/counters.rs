//! What the front counts: requests by how they came and how they went, and why some were refused.
//!
//! Everything here belongs to the runtime thread, and counting is one addition. No count has a name that a caller
//! chose, so there are as many counts at the end as at the start.

use std::cell::Cell;

use hyper::StatusCode;

use crate::a2a::binding::Binding;
use crate::a2a::dialect::Dialect;
use crate::a2a::error::{A2aError, Busy};

/// Counts of `N` sorts of one thing.
#[derive(Debug)]
pub struct Tally<const N: usize>([Cell<u64>; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self([const { Cell::new(0) }; N])
    }
}

impl<const N: usize> Tally<N> {
    /// One more of sort `at`.
    pub fn add(&self, at: usize) {
        if let Some(count) = self.0.get(at) {
            count.set(count.get().wrapping_add(1));
        }
    }

    /// All counts.
    pub fn counts(&self) -> [u64; N] {
        std::array::from_fn(|at| self.0[at].get())
    }
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// JSON-RPC of 0.3.
    Rpc03,
    /// JSON-RPC of 1.0.
    Rpc1,
    /// REST of 0.3.
    Rest03,
    /// REST of 1.0.
    Rest1,
    /// For a page, or for nothing that exists in HTTP.
    Page,
}

impl Came {
    /// Binding and version of each, in the order of the variants.
    pub const NAMES: [(&'static str, &'static str); 5] = [
        ("jsonrpc", "0.3"),
        ("jsonrpc", "1.0"),
        ("rest", "0.3"),
        ("rest", "1.0"),
        ("page", "none"),
    ];

    /// What came through `binding`.
    pub const fn by(binding: &Binding) -> Self {
        match (&binding.rpc, binding.dialect) {
            (Some(_), Dialect::V03 | Dialect::Proto03) => Self::Rpc03,
            (Some(_), Dialect::V1) => Self::Rpc1,
            (None, Dialect::V03 | Dialect::Proto03) => Self::Rest03,
            (None, Dialect::V1) => Self::Rest1,
        }
    }
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// As it was asked for.
    Ok,
    /// Refused for what it was.
    Refused,
    /// Refused for now.
    Busy,
    /// Not done by our own fault.
    Failed,
}

impl Went {
    /// One word for each, in the order of the variants.
    pub const NAMES: [&'static str; 4] = ["ok", "refused", "busy", "failed"];

    const fn with(error: &A2aError) -> Self {
        match error {
            A2aError::Busy { .. } => Self::Busy,
            A2aError::Internal(_) => Self::Failed,
            _ => Self::Refused,
        }
    }

    fn of_page(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::Busy,
            status if status.is_server_error() => Self::Failed,
            status if status.is_client_error() => Self::Refused,
            _ => Self::Ok,
        }
    }
}

/// All counts of the front since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that were answered: [`Came::NAMES`], and of each [`Went::NAMES`].
    pub requests: [Tally<{ Went::NAMES.len() }>; Came::NAMES.len()],
    /// Errors that callers were told: [`A2aError::NAMES`].
    pub errors: Tally<{ A2aError::NAMES.len() }>,
    /// What was full when they were told "busy": [`Busy::NAMES`].
    pub busy: Tally<{ Busy::NAMES.len() }>,
    /// Event streams that were begun.
    pub streams: Cell<u64>,
    /// Connections: accepted, and closed at once because their address has its share.
    pub connections: Tally<2>,
    /// When this process started, in hundredths of a second since 1970, as it was told last.
    pub started: Cell<u64>,
}

impl Counters {
    fn request(&self, came: Came, went: Went) {
        self.requests[came as usize].add(went as usize);
    }

    /// A request of the protocol is answered as it was asked for.
    pub fn done(&self, binding: &Binding) {
        self.request(Came::by(binding), Went::Ok);
    }

    /// A request of the protocol is answered with an error.
    pub fn refused(&self, binding: &Binding, error: &A2aError) {
        self.request(Came::by(binding), Went::with(error));
        self.errors.add(error.number());
        if let A2aError::Busy { what, .. } = error {
            self.busy.add(*what as usize);
        }
    }

    /// A request for a page is answered.
    pub fn page(&self, status: StatusCode) {
        self.request(Came::Page, Went::of_page(status));
    }

    /// An event stream begins.
    pub fn stream(&self) {
        self.streams.set(self.streams.get().wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::jsonrpc::Id;

    #[test]
    fn a_request_is_counted_once_where_it_came_in() {
        let counters = Counters::default();
        counters.done(&Binding::rest(Dialect::Proto03));
        counters.refused(
            &Binding::rpc(Id::null(), Dialect::V1),
            &A2aError::Busy { retry_after_s: 1, what: Busy::Webhooks },
        );
        counters.page(StatusCode::NOT_MODIFIED);
        let counts: Vec<_> = counters.requests.iter().map(Tally::counts).collect();
        assert_eq!(counts, [[0; 4], [0, 0, 1, 0], [1, 0, 0, 0], [0; 4], [1, 0, 0, 0]]);
        assert_eq!(counters.errors.counts().last(), Some(&1));
        assert_eq!(counters.busy.counts().last(), Some(&1));
    }
}
