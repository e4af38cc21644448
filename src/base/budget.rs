//! The one counter of bytes. Whatever grows with input holds a [`Lease`]; no lease, no growth.
//!
//! Thread safe, because request bodies and stored tasks live on the runtime thread and jobs on others.
//! Leases count what their holder says; the holder says what it allocated, overhead included.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that may be held at once.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes, all free.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Counter { limit, used: AtomicUsize::new(0) }))
    }

    /// Reserves `bytes` until the lease is dropped.
    ///
    /// Returns `None`, changing nothing, when the sum would pass the budget. Never waits.
    pub fn take(&self, bytes: usize) -> Option<Lease> {
        self.reserve(bytes).then(|| Lease { budget: self.clone(), bytes })
    }

    /// Bytes leased now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that can be leased in all.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    fn reserve(&self, bytes: usize) -> bool {
        self.0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.0.limit)
            })
            .is_ok()
    }
}

/// Bytes reserved from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Lease {
    budget: Budget,
    bytes: usize,
}

impl Lease {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves `more` bytes on top. `false`, changing nothing, when the budget has no room.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let granted = self.budget.reserve(more);
        if granted {
            self.bytes += more;
        }
        granted
    }

    /// Gives back what is held above `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.budget.0.used.fetch_sub(surplus, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_lease_changes_nothing() {
        let budget = Budget::new(10);
        let mut held = budget.take(8).unwrap();
        assert!(budget.take(3).is_none());
        assert!(!held.grow(3));
        assert_eq!((budget.used(), held.bytes()), (8, 8));
        assert!(held.grow(2));
        assert_eq!(budget.used(), 10);
    }

    #[test]
    fn dropped_and_shrunk_leases_come_back() {
        let budget = Budget::new(10);
        let mut held = budget.take(8).unwrap();
        held.shrink_to(3);
        assert_eq!(budget.used(), 3);
        held.shrink_to(5);
        assert_eq!(budget.used(), 3);
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_sum_past_the_largest_number_is_refused() {
        let budget = Budget::new(usize::MAX);
        let _held = budget.take(usize::MAX).unwrap();
        assert!(budget.take(1).is_none());
    }
}
