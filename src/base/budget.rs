//! The one counter of bytes. Whatever grows with input holds a [`Lease`]; no lease, no growth.
//!
//! Thread safe, because request bodies and stored tasks live on the runtime thread and jobs on others.
//! Leases count what their holder says; the holder says what it allocated, overhead included.
//!
//! A budget can be lowered below what is held. Nobody loses anything by that: new leases are refused until enough has
//! come back, and a lease that was taken before may still grow within the bound of its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that may be held at once.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes, all free.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Counter { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) }))
    }

    /// Reserves `bytes` until the lease is dropped.
    ///
    /// Returns `None`, changing nothing, when the sum would pass the budget. Never waits.
    pub fn take(&self, bytes: usize) -> Option<Lease> {
        self.take_within(bytes, self.limit())
    }

    /// The same, but the sum may reach `limit` bytes.
    pub fn take_within(&self, bytes: usize, limit: usize) -> Option<Lease> {
        self.reserve(bytes, limit).then(|| Lease { budget: self.clone(), bytes, within: limit })
    }

    /// Bytes leased now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that can be leased in all.
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// From now on `limit` bytes can be leased in all.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    fn reserve(&self, bytes: usize, limit: usize) -> bool {
        self.0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .is_ok()
    }
}

/// Bytes reserved from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Lease {
    budget: Budget,
    bytes: usize,
    /// The budget's limit when this was taken.
    within: usize,
}

impl Lease {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of all leases within which this one may grow: the budget's limit now or when this was taken,
    /// whichever is more.
    pub fn within(&self) -> usize {
        self.within.max(self.budget.limit())
    }

    /// Reserves `more` bytes on top. `false`, changing nothing, when the budget has no room.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let granted = self.budget.reserve(more, self.within());
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
    fn a_lowered_budget_takes_nothing_new_and_lets_what_it_took_go_on() {
        let budget = Budget::new(10);
        let mut held = budget.take(6).unwrap();
        budget.set_limit(4);
        assert!(budget.take(1).is_none());
        assert!(held.grow(4) && !held.grow(1));
        held.shrink_to(3);
        let mut late = budget.take(1).unwrap();
        assert!(!late.grow(1));
        budget.set_limit(20);
        assert!(late.grow(16));
        assert_eq!(budget.used(), 20);
    }

    #[test]
    fn a_sum_past_the_largest_number_is_refused() {
        let budget = Budget::new(usize::MAX);
        let _held = budget.take(usize::MAX).unwrap();
        assert!(budget.take(1).is_none());
    }
}
