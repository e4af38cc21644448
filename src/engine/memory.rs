//! The table behind the memory skill: a few short texts per caller, apart under each of its labels, leased from the task store's budget.

use crate::a2a::op::Scope;
use crate::base::budget::{Budget, Lease};
use crate::base::limits::CALLERS;

/// Entries of all callers together.
const ENTRIES: usize = 512;

/// The part of the task store's bytes that entries may hold: one in so many.
pub const SHARE: usize = 4;

/// What an entry costs beside its texts.
const OVERHEAD: usize = size_of::<Entry>() + 64;

#[derive(Debug)]
struct Entry {
    scope: Scope,
    key: Box<str>,
    value: Box<str>,
    lease: Lease,
}

/// Why nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFull {
    /// The caller has as many keys as it may.
    Keys,
    /// The value is longer than it may be.
    Value,
    /// No bytes, or no entries, are left for anybody.
    Bytes,
}

/// Keys and values of all callers.
#[derive(Debug)]
pub struct Memory {
    entries: Vec<Entry>,
    keys_per_caller: usize,
    value_bytes: usize,
    budget: Budget,
}

impl Memory {
    /// An empty table.
    pub fn new(keys_per_caller: usize, value_bytes: usize, budget: Budget) -> Self {
        const { assert!(ENTRIES >= CALLERS) };
        Self { entries: Vec::new(), keys_per_caller, value_bytes, budget }
    }

    /// Puts other bounds in force; what is stored stays.
    pub fn set_limits(&mut self, keys_per_caller: usize, value_bytes: usize) {
        (self.keys_per_caller, self.value_bytes) = (keys_per_caller, value_bytes);
    }

    /// Bytes leased for what is stored.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.lease.bytes()).sum()
    }

    /// Bytes that storing `key` and `value` leases.
    pub fn cost(key: &str, value: &str) -> usize {
        key.len() + value.len() + OVERHEAD
    }

    /// Stores `value`; `true` when it replaced another.
    ///
    /// # Errors
    /// When the caller or the table is full; nothing has changed then.
    pub fn store(&mut self, scope: &Scope, key: &str, value: &str) -> Result<bool, MemoryFull> {
        if value.len() > self.value_bytes {
            return Err(MemoryFull::Value);
        }
        let known = self.position(scope, key);
        // Under whatever label: labels cost a caller nothing.
        let own = self.entries.iter().filter(|entry| entry.scope.who == scope.who).count();
        let full = own >= self.keys_per_caller;
        if known.is_none() && full {
            return Err(MemoryFull::Keys);
        }
        if known.is_none() && self.entries.len() >= ENTRIES {
            return Err(MemoryFull::Bytes);
        }
        let cost = Self::cost(key, value);
        // Nothing here is ever evicted: without a bound of their own, entries would drive out every task for good.
        if self.bytes() + cost > self.budget.limit() / SHARE {
            return Err(MemoryFull::Bytes);
        }
        let lease = self.budget.take(cost).ok_or(MemoryFull::Bytes)?;
        let entry = Entry { scope: scope.clone(), key: key.into(), value: value.into(), lease };
        match known {
            Some(at) => self.entries[at] = entry,
            None => self.entries.push(entry),
        }
        Ok(known.is_some())
    }

    /// What is stored under `key`.
    pub fn recall(&self, scope: &Scope, key: &str) -> Option<&str> {
        self.position(scope, key).map(|at| &*self.entries[at].value)
    }

    /// The caller's keys, in the order they came.
    pub fn keys<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a str> {
        self.entries.iter().filter(move |entry| entry.scope == *scope).map(|entry| &*entry.key)
    }

    /// Forgets `key`; `false` when nothing was stored under it.
    pub fn forget(&mut self, scope: &Scope, key: &str) -> bool {
        let known = self.position(scope, key);
        if let Some(at) = known {
            self.entries.remove(at);
        }
        known.is_some()
    }

    fn position(&self, scope: &Scope, key: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.scope == *scope && *entry.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::op::Principal;

    const HERE: Scope = Scope::of(Principal::Local);

    fn other() -> Scope {
        Scope::of(Principal::Address([192, 0, 2, 9].into()))
    }

    #[test]
    fn callers_do_not_see_each_other() {
        let mut memory = Memory::new(4, 100, Budget::new(10_000));
        assert_eq!(memory.store(&HERE, "k", "mine"), Ok(false));
        assert_eq!(memory.store(&other(), "k", "theirs"), Ok(false));
        assert_eq!(memory.recall(&HERE, "k"), Some("mine"));
        assert!(memory.forget(&other(), "k"));
        assert_eq!(memory.recall(&other(), "k"), None);
        assert_eq!(memory.recall(&HERE, "k"), Some("mine"));
    }

    #[test]
    fn labels_do_not_see_each_other_and_share_their_callers_bound() {
        let mut memory = Memory::new(2, 100, Budget::new(10_000));
        let north = Scope { tenant: Some("north".into()), ..HERE };
        memory.store(&north, "k", "1").unwrap();
        assert_eq!(memory.recall(&HERE, "k"), None);
        memory.store(&HERE, "k", "2").unwrap();
        assert_eq!(memory.recall(&north, "k"), Some("1"));
        assert_eq!(memory.store(&north, "l", "3"), Err(MemoryFull::Keys));
    }

    #[test]
    fn every_bound_is_an_answer_and_forgetting_makes_room() {
        let budget = Budget::new(10_000);
        let mut memory = Memory::new(2, 10, budget.clone());
        assert_eq!(memory.store(&HERE, "a", "12345678901"), Err(MemoryFull::Value));
        memory.store(&HERE, "a", "1").unwrap();
        memory.store(&HERE, "b", "2").unwrap();
        assert_eq!(memory.store(&HERE, "c", "3"), Err(MemoryFull::Keys));
        assert_eq!(memory.store(&HERE, "b", "4"), Ok(true));
        assert!(memory.forget(&HERE, "a") && memory.forget(&HERE, "b"));
        assert_eq!(budget.used(), 0);
        let _held = budget.take(10_000).unwrap();
        assert_eq!(memory.store(&HERE, "c", "3"), Err(MemoryFull::Bytes));
    }

    #[test]
    fn all_callers_together_leave_most_of_the_store_to_tasks() {
        let budget = Budget::new(100_000);
        let mut memory = Memory::new(64, 4096, budget.clone());
        let outcomes = (0..64).map(|host| {
            let who = Scope::of(Principal::Address([192, 0, 2, host].into()));
            memory.store(&who, "k", &"v".repeat(4096))
        });
        assert_eq!(outcomes.last(), Some(Err(MemoryFull::Bytes)));
        assert!(budget.used() <= budget.limit() / 4);
    }
}
