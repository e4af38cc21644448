//! The bounded task store: slots, leases, eviction of the oldest finished task, and each caller's share.
//!
//! A task's slot is part of its id, so a look-up is one index. Every byte a task holds is leased from one budget;
//! when the budget or the slots run out, the oldest finished task that nobody reads goes first. Unfinished tasks
//! are never evicted: then the answer is "full".

use std::rc::Rc;

use smallvec::smallvec;

use crate::a2a::model::{Artifact, Message, Part, Status, Task, TaskState};
use crate::a2a::op::{Hook, Place, Principal, Scope, Tenant};
use crate::base::budget::{Budget, Lease};
use crate::base::clock::Now;
use crate::base::ids::{Ids, TaskId};
use crate::base::limits::{CALLERS, Limits, TASKS};
use crate::engine::feed::Feed;
use crate::skills::memory::Command;
use crate::work::Lane;

/// Kept free in every task's lease, so that its last status can always be written.
const RESERVE: usize = 512;

/// What an empty slot costs once it is used.
const SLOT: usize = size_of::<Slot>() + RESERVE + 64;

/// What a thread is to do for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Ask the model.
    Turn,
    /// Report about this machine.
    Device,
    /// Analyse a long text.
    Analyze,
}

impl Ask {
    /// The threads that do it.
    pub const fn lane(self) -> Lane {
        match self {
            Self::Turn => Lane::Relay,
            Self::Device | Self::Analyze => Lane::Local,
        }
    }
}

/// A memory command that waits for its missing half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Store needs a key, a value, or both.
    Store {
        /// The key, when it was given.
        key: Option<Box<str>>,
        /// The value, when it was given.
        value: Option<Box<str>>,
    },
    /// Recall needs a key.
    Recall,
    /// Forget needs a key.
    Forget,
}

impl Pending {
    /// Keeps what a command with a missing half has.
    pub fn of(command: &Command<'_>) -> Self {
        match command {
            Command::Store { key, value } => {
                Self::Store { key: key.map(Into::into), value: value.map(Into::into) }
            }
            Command::Forget { .. } => Self::Forget,
            Command::Recall { .. } | Command::List => Self::Recall,
        }
    }

    /// The command again.
    pub fn command(&self) -> Command<'_> {
        match self {
            Self::Store { key, value } => {
                Command::Store { key: key.as_deref(), value: value.as_deref() }
            }
            Self::Recall => Command::Recall { key: None },
            Self::Forget => Command::Forget { key: None },
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Store { key, value } => {
                [key, value].into_iter().flatten().map(|text| text.len() + 32).sum()
            }
            Self::Recall | Self::Forget => 0,
        }
    }
}

/// A task and what the engine knows of it.
#[derive(Debug)]
pub struct Slot {
    /// The task.
    pub task: Task,
    /// Its events.
    pub feed: Feed,
    /// Who sent it.
    pub caller: Principal,
    /// The label under which it is seen.
    pub tenant: Option<Tenant>,
    /// Where its changes are posted.
    pub hooks: Vec<Rc<Hook>>,
    /// Counts tasks: the order they came in.
    pub sequence: u64,
    /// What it waits for a thread to do.
    pub ask: Option<Ask>,
    /// What it waits for in `InputRequired`, and until when.
    pub pending: Option<(Pending, Now)>,
    /// Messages of this agent so far.
    pub own_messages: u32,
    /// Readers attached; a task that is read is not evicted.
    readers: u16,
    tally: usize,
    lease: Lease,
}

/// Why a task was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Only unfinished tasks remain.
    Store,
    /// This caller holds its share.
    Share,
    /// One task cannot be this large.
    Task,
}

#[derive(Debug)]
struct Tally {
    caller: Principal,
    live: usize,
    bytes: usize,
}

/// All tasks.
#[derive(Debug)]
pub struct Store {
    slots: heapless::Vec<Option<Box<Slot>>, TASKS>,
    free: heapless::Vec<u16, TASKS>,
    /// Slots of finished tasks, oldest first.
    finished: heapless::Deque<u16, TASKS>,
    /// Unfinished tasks by caller; callers without any are forgotten.
    tallies: heapless::Vec<Tally, CALLERS>,
    budget: Budget,
    live: usize,
    sequence: u64,
    evicted: u64,
    limits: Limits,
}

impl Store {
    /// An empty store within `limits`, whose bytes come from `budget`.
    pub fn new(limits: &Limits, budget: Budget) -> Self {
        Self {
            slots: heapless::Vec::new(),
            free: heapless::Vec::new(),
            finished: heapless::Deque::new(),
            tallies: heapless::Vec::new(),
            budget,
            live: 0,
            sequence: 0,
            evicted: 0,
            limits: limits.clone(),
        }
    }

    /// Puts other bounds in force; the bytes are the budget's. Finished tasks go until the rest fits; unfinished ones
    /// stay and may still grow as far as they might when they came.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.limits = limits.clone();
        let is_over =
            |it: &Self| it.len() > it.limits.tasks || it.budget.used() > it.budget.limit();
        while is_over(self) && self.evict() {}
    }

    /// Stores a task that `make` builds from its fresh id.
    ///
    /// # Errors
    /// When the caller holds its share, or only unfinished tasks remain.
    pub fn insert(
        &mut self,
        ids: &mut Ids,
        scope: &Scope,
        bytes: usize,
        make: impl FnOnce(TaskId, &mut Ids) -> Task,
    ) -> Result<usize, Full> {
        let bytes = bytes + SLOT + scope.tenant.as_ref().map_or(0, |tenant| tenant.len() + 32);
        if bytes > self.limits.task_bytes() {
            return Err(Full::Task);
        }
        let tally = self.tally(&scope.who, bytes)?;
        let at = self.free_slot().ok_or(Full::Store)?;
        let Some(lease) = self.take(bytes) else {
            self.give_back(at);
            return Err(Full::Store);
        };
        self.tallies[tally].live += 1;
        self.tallies[tally].bytes += bytes;
        self.live += 1;
        self.sequence += 1;
        let slot = Slot {
            task: make(ids.task(at), ids),
            feed: Feed::default(),
            caller: scope.who.clone(),
            tenant: scope.tenant.clone(),
            hooks: Vec::new(),
            sequence: self.sequence,
            ask: None,
            pending: None,
            own_messages: 0,
            readers: 0,
            tally,
            lease,
        };
        self.slots[at] = Some(Box::new(slot));
        Ok(at)
    }

    /// The tally of `caller`, made when it has none; too many callers share the last one.
    fn tally(&mut self, caller: &Principal, bytes: usize) -> Result<usize, Full> {
        let known = self.tallies.iter().position(|tally| tally.caller == *caller && tally.live > 0);
        let unused = || self.tallies.iter().position(|tally| tally.live == 0);
        let at = known.or_else(unused).unwrap_or_else(|| {
            let tally = Tally { caller: caller.clone(), live: 0, bytes: 0 };
            // When all are taken by others, the last one counts for several callers.
            let _ = self.tallies.push(tally);
            self.tallies.len() - 1
        });
        let tally = &mut self.tallies[at];
        if tally.live == 0 {
            tally.caller = caller.clone();
            tally.bytes = 0;
        }
        let full = tally.live >= self.limits.caller_tasks
            || tally.bytes + bytes > self.limits.store_bytes / 4 * 3;
        if full { Err(Full::Share) } else { Ok(at) }
    }

    fn free_slot(&mut self) -> Option<usize> {
        // More than one too many only after a bound was lowered.
        while self.len() >= self.limits.tasks.min(TASKS) {
            if !self.evict() {
                return None;
            }
        }
        if let Some(at) = self.free.pop() {
            return Some(usize::from(at));
        }
        self.slots.push(None).ok()?;
        Some(self.slots.len() - 1)
    }

    fn give_back(&mut self, at: usize) {
        let at = u16::try_from(at).expect("slots are numbered in ten bits");
        self.free.push(at).expect("a slot is free once");
    }

    fn take(&mut self, bytes: usize) -> Option<Lease> {
        loop {
            if let Some(lease) = self.budget.take(bytes) {
                return Some(lease);
            }
            if !self.evict() {
                return None;
            }
        }
    }

    /// Drops the oldest finished task that nobody reads. `false` when there is none.
    fn evict(&mut self) -> bool {
        for _ in 0..self.finished.len() {
            let Some(at) = self.finished.pop_front() else { return false };
            let slot = &mut self.slots[usize::from(at)];
            if slot.as_ref().is_some_and(|slot| slot.readers > 0) {
                self.finished.push_back(at).expect("it was just taken out");
                continue;
            }
            *slot = None;
            self.evicted += 1;
            self.give_back(usize::from(at));
            return true;
        }
        false
    }

    /// Makes room for bytes that are leased by others from the same budget. `false` when there is none.
    pub fn make_room(&mut self, bytes: usize) -> bool {
        while self.budget.limit().saturating_sub(self.budget.used()) < bytes {
            if !self.evict() {
                return false;
            }
        }
        true
    }

    /// The slot of a task, or `None` when there is no such task.
    pub fn find(&self, id: TaskId) -> Option<usize> {
        self.slot(id.slot()).filter(|slot| slot.task.id == id).map(|_| id.slot())
    }

    /// The slot of a task that `scope` may see, or `None`: under its label, and of a caller who said who they are only
    /// for that caller. Of those who did not, whoever knows its id, which cannot be guessed, may see it.
    pub fn seen(&self, id: TaskId, scope: &Scope) -> Option<usize> {
        let is_seen = |slot: &Slot| {
            let is_own =
                slot.caller == scope.who || !slot.caller.is_known() && !scope.who.is_known();
            is_own && slot.tenant == scope.tenant
        };
        self.find(id).filter(|at| self.slot(*at).is_some_and(is_seen))
    }

    /// The slot of a task that `scope` sent, or `None`.
    pub fn owned(&self, id: TaskId, scope: &Scope) -> Option<usize> {
        self.seen(id, scope)
            .filter(|at| self.slot(*at).is_some_and(|slot| slot.caller == scope.who))
    }

    /// What is in a slot.
    pub fn slot(&self, at: usize) -> Option<&Slot> {
        self.slots.get(at)?.as_deref()
    }

    /// What is in a slot, to change it.
    pub fn slot_mut(&mut self, at: usize) -> Option<&mut Slot> {
        self.slots.get_mut(at)?.as_deref_mut()
    }

    /// All tasks.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.as_deref()?)))
    }

    /// Leases `more` bytes for the task in slot `at`.
    ///
    /// # Errors
    /// When the task, its caller's share or the store would be full; nothing has changed then.
    pub fn grow(&mut self, at: usize, more: usize) -> Result<(), Full> {
        let Some(slot) = self.slot(at) else { return Err(Full::Task) };
        let (tally, store_bytes) = (slot.tally, slot.lease.within());
        if slot.lease.bytes() + more > store_bytes / 4 {
            return Err(Full::Task);
        }
        // A share is of unfinished tasks; by now the tally may be another caller's.
        let counts = !slot.task.status.state.is_final();
        if counts && self.tallies[tally].bytes + more > store_bytes / 4 * 3 {
            return Err(Full::Share);
        }
        loop {
            let slot = self.slot_mut(at).ok_or(Full::Task)?;
            if slot.lease.grow(more) {
                if counts {
                    self.tallies[tally].bytes += more;
                }
                return Ok(());
            }
            if !self.evict() {
                return Err(Full::Store);
            }
        }
    }

    /// Gives back `less` of the bytes that the task in slot `at` has leased, for what it holds no longer.
    pub fn shrink(&mut self, at: usize, less: usize) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_deref_mut) else { return };
        let left = slot.lease.bytes().saturating_sub(less);
        if !slot.task.status.state.is_final() {
            let tally = &mut self.tallies[slot.tally];
            tally.bytes = tally.bytes.saturating_sub(slot.lease.bytes() - left);
        }
        slot.lease.shrink_to(left);
    }

    /// Moves a task to `status`, into its feed and, when that is final, among the finished.
    ///
    /// Returns `false`, changing nothing, when the task may not go there.
    pub fn set_status(&mut self, at: usize, status: Status) -> bool {
        let Some(slot) = self.slot_mut(at) else { return false };
        if !slot.task.status.state.may_become(status.state) {
            return false;
        }
        let is_final = status.state.is_final();
        if slot.is_read() {
            slot.feed.status(status.clone());
        }
        slot.task.status = status;
        if is_final {
            slot.pending = None;
            slot.ask = None;
            self.settle(at);
            self.finished
                .push_back(u16::try_from(at).expect("slots are numbered in ten bits"))
                .expect("a task finishes once");
        }
        true
    }

    /// Ends a task's part in its caller's share and gives back what it no longer needs.
    fn settle(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_deref_mut) else { return };
        let tally = &mut self.tallies[slot.tally];
        tally.live -= 1;
        tally.bytes = tally.bytes.saturating_sub(slot.lease.bytes());
        self.live -= 1;
        slot.trim();
    }

    /// A reader holds on to the task until [`Store::detach`].
    pub fn attach(&mut self, id: TaskId) -> bool {
        let Some(at) = self.find(id) else { return false };
        let Some(slot) = self.slot_mut(at) else { return false };
        slot.readers = slot.readers.saturating_add(1);
        true
    }

    /// The reader is gone.
    pub fn detach(&mut self, id: TaskId) {
        let Some(at) = self.find(id) else { return };
        let Some(slot) = self.slot_mut(at) else { return };
        slot.readers = slot.readers.saturating_sub(1);
        slot.trim();
    }

    /// Fails no task, but says which waited too long for input, and when the next one will have.
    pub fn expired(&self, now: Now) -> (Option<usize>, Option<std::time::Duration>) {
        let wait = self.limits.input_wait;
        let mut next = None;
        for (at, slot) in self.iter() {
            let Some((_, since)) = &slot.pending else { continue };
            let deadline = since.mono + wait;
            if deadline <= now.mono {
                return (Some(at), None);
            }
            next = Some(next.map_or(deadline, |next: std::time::Duration| next.min(deadline)));
        }
        (None, next)
    }

    /// Tasks that are not finished.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Tasks in all.
    pub fn len(&self) -> usize {
        self.live + self.finished.len()
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finished tasks that had to go.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The bytes of all tasks.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Tasks in `state`.
    pub fn count(&self, state: TaskState) -> usize {
        self.iter().filter(|(_, slot)| slot.task.status.state == state).count()
    }
}

impl Slot {
    /// Whether anybody reads the feed. Readers begin at its end, so what happened before them need not be kept.
    pub fn is_read(&self) -> bool {
        self.readers > 0
    }

    /// How many hold on to the task.
    pub const fn readers(&self) -> u16 {
        self.readers
    }

    /// A message of the agent's own.
    pub fn say(&mut self, part: Part) -> Rc<Message> {
        self.own_messages += 1;
        Rc::new(Message::own(self.own_messages, smallvec![part]))
    }

    /// Bytes leased for it.
    pub fn bytes(&self) -> usize {
        self.lease.bytes()
    }

    /// Where it stands in a list.
    pub const fn place(&self) -> Place {
        Place { unix_ms: self.task.status.unix_ms, sequence: self.sequence }
    }

    /// What the task holds, counted anew.
    fn recount(&self) -> usize {
        let task = &self.task;
        let history: usize = task.history.iter().map(|message| message.heap_bytes() + 16).sum();
        let artifacts: usize = task.artifacts.iter().map(Artifact::heap_bytes).sum();
        let status = match &task.status.message {
            // The text of a result is its artifact's, shared.
            Some(_) if task.status.state == TaskState::Completed => size_of::<Message>() + 64,
            Some(message) => message.heap_bytes(),
            None => 0,
        };
        let metadata = task.metadata.as_ref().map_or(0, |json| json.len() + 32);
        let pending = self.pending.as_ref().map_or(0, |(pending, _)| pending.heap_bytes());
        let tenant = self.tenant.as_ref().map_or(0, |tenant| tenant.len() + 32);
        let hooks: usize = self.hooks.iter().map(|hook| hook.heap_bytes() + 16).sum();
        SLOT - RESERVE
            + pending
            + tenant
            + hooks
            + task.context.heap_bytes()
            + history
            + artifacts
            + status
            + metadata
            + self.feed.heap_bytes()
    }

    /// Gives back what a finished task that nobody reads does not need.
    fn trim(&mut self) {
        if self.task.status.state.is_final() && self.readers == 0 {
            self.feed = Feed::default();
            self.task.history.shrink_to_fit();
            self.task.artifacts.shrink_to_fit();
            self.lease.shrink_to(self.recount());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ContextId;

    /// A seeded source of numbers (xorshift64*).
    pub struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
        }
    }

    fn ids() -> Ids {
        let mut random = Random(7);
        Ids::new(Box::new(move |bytes| {
            bytes.fill_with(|| u8::try_from(random.below(256)).unwrap());
        }))
    }

    fn limits(tasks: usize, store_bytes: usize) -> Limits {
        Limits { tasks, store_bytes, caller_tasks: 100, ..Limits::default() }
    }

    fn add(store: &mut Store, ids: &mut Ids, text: &str) -> Result<usize, Full> {
        add_for(store, ids, text, &Principal::Local)
    }

    fn add_for(
        store: &mut Store,
        ids: &mut Ids,
        text: &str,
        who: &Principal,
    ) -> Result<usize, Full> {
        let message = Rc::new(Message::own(1, smallvec![Part::plain(text)]));
        store.insert(ids, &Scope::of(who.clone()), message.heap_bytes() + 64, |id, ids| Task {
            id,
            context: ids.context(),
            status: Status { state: TaskState::Working, message: None, unix_ms: 0 },
            history: smallvec![message],
            artifacts: smallvec![],
            metadata: None,
            loose: false,
        })
    }

    fn finish(store: &mut Store, at: usize) {
        assert!(
            store.set_status(at, Status { state: TaskState::Completed, message: None, unix_ms: 0 })
        );
    }

    #[test]
    fn a_finished_task_is_evicted_before_a_running_one() {
        let (mut store, mut ids) = (Store::new(&limits(3, 1 << 20), Budget::new(1 << 20)), ids());
        let slots: Vec<_> = (0..3).map(|_| add(&mut store, &mut ids, "x").unwrap()).collect();
        finish(&mut store, slots[2]);
        finish(&mut store, slots[1]);
        let oldest_running = store.slot(slots[0]).unwrap().task.id;
        add(&mut store, &mut ids, "new").unwrap();
        assert!(store.slot(slots[1]).is_some(), "the first to finish goes first");
        add(&mut store, &mut ids, "new").unwrap();
        assert_eq!(store.find(oldest_running), Some(slots[0]));
        assert_eq!(add(&mut store, &mut ids, "new"), Err(Full::Store));
    }

    #[test]
    fn a_task_that_is_read_stays() {
        let (mut store, mut ids) = (Store::new(&limits(2, 1 << 20), Budget::new(1 << 20)), ids());
        let slots: Vec<_> = (0..2).map(|_| add(&mut store, &mut ids, "x").unwrap()).collect();
        let read = store.slot(slots[0]).unwrap().task.id;
        assert!(store.attach(read));
        finish(&mut store, slots[0]);
        finish(&mut store, slots[1]);
        add(&mut store, &mut ids, "new").unwrap();
        assert!(store.find(read).is_some());
        assert_eq!(add(&mut store, &mut ids, "new"), Err(Full::Store));
        store.detach(read);
        add(&mut store, &mut ids, "new").unwrap();
        assert!(store.find(read).is_none());
    }

    #[test]
    fn a_caller_cannot_hold_more_than_its_share() {
        let limits = Limits { caller_tasks: 2, ..limits(10, 1 << 20) };
        let (mut store, mut ids) = (Store::new(&limits, Budget::new(1 << 20)), ids());
        let greedy = Principal::Address([192, 0, 2, 1].into());
        let first = add_for(&mut store, &mut ids, "x", &greedy).unwrap();
        add_for(&mut store, &mut ids, "x", &greedy).unwrap();
        assert_eq!(add_for(&mut store, &mut ids, "x", &greedy), Err(Full::Share));
        add_for(&mut store, &mut ids, "x", &Principal::Local).unwrap();
        finish(&mut store, first);
        add_for(&mut store, &mut ids, "x", &greedy).unwrap();
    }

    #[test]
    fn one_task_gets_a_quarter_of_the_store_and_no_more() {
        let (mut store, mut ids) = (Store::new(&limits(10, 1 << 16), Budget::new(1 << 16)), ids());
        assert_eq!(add(&mut store, &mut ids, &"x".repeat(1 << 14)), Err(Full::Task));
        let at = add(&mut store, &mut ids, "x").unwrap();
        assert_eq!(store.grow(at, 1 << 14), Err(Full::Task));
        assert_eq!(store.grow(at, 1 << 12), Ok(()));
    }

    #[test]
    fn lowered_bounds_evict_what_is_finished_and_let_the_rest_end() {
        let budget = Budget::new(1 << 18);
        let (mut store, mut ids) = (Store::new(&limits(6, 1 << 18), budget.clone()), ids());
        let text = "x".repeat(1 << 14);
        let slots: Vec<_> = (0..6).map(|_| add(&mut store, &mut ids, &text).unwrap()).collect();
        for at in &slots[..3] {
            finish(&mut store, *at);
        }
        budget.set_limit(1 << 16);
        store.set_limits(&limits(2, 1 << 16));
        assert_eq!((store.len(), store.live()), (3, 3));
        assert_eq!(store.grow(slots[5], 1 << 15), Ok(()));
        let other = Principal::Address([192, 0, 2, 1].into());
        assert_eq!(add_for(&mut store, &mut ids, "x", &other), Err(Full::Store));
        for at in &slots[3..] {
            finish(&mut store, *at);
        }
        let late = add(&mut store, &mut ids, "x").unwrap();
        assert_eq!((store.len(), store.live()), (2, 1));
        assert_eq!(store.grow(late, 1 << 14), Err(Full::Task));
        budget.set_limit(1 << 18);
        store.set_limits(&limits(6, 1 << 18));
        assert_eq!(store.grow(late, 1 << 14), Ok(()));
        assert!((0..4).all(|_| add(&mut store, &mut ids, "x").is_ok()));
    }

    #[test]
    fn an_old_id_does_not_find_the_slots_next_task() {
        let (mut store, mut ids) = (Store::new(&limits(1, 1 << 20), Budget::new(1 << 20)), ids());
        let at = add(&mut store, &mut ids, "x").unwrap();
        let old = store.slot(at).unwrap().task.id;
        finish(&mut store, at);
        let at = add(&mut store, &mut ids, "y").unwrap();
        assert_eq!(store.find(old), None);
        assert!(store.find(store.slot(at).unwrap().task.id).is_some());
    }

    #[test]
    fn whatever_happens_the_lease_covers_what_is_held() {
        for seed in 1..200 {
            let mut random = Random(seed);
            let budget = Budget::new(96 << 10);
            let mut store = Store::new(&limits(24, 96 << 10), budget.clone());
            let mut ids = ids();
            let callers = [Principal::Local, Principal::Address([192, 0, 2, 1].into())];
            for _ in 0..200 {
                let at = random.below(24);
                let is_live = store.slot(at).is_some_and(|slot| !slot.task.status.state.is_final());
                match random.below(6) {
                    5 => {
                        let (tasks, bytes) = (4 + random.below(20), (16 + random.below(80)) << 10);
                        budget.set_limit(bytes);
                        store.set_limits(&limits(tasks, bytes));
                    }
                    0 | 1 => {
                        let text = "x".repeat(random.below(4000));
                        let _ = add_for(&mut store, &mut ids, &text, &callers[random.below(2)]);
                    }
                    2 if is_live => finish(&mut store, at),
                    3 => {
                        if let Some(id) = store.slot(at).map(|slot| slot.task.id) {
                            if random.below(2) == 0 {
                                store.attach(id);
                            } else {
                                store.detach(id);
                            }
                        }
                    }
                    _ if is_live => {
                        let _ = store.grow(at, random.below(3000));
                    }
                    _ => {}
                }
                let leased: usize = store.iter().map(|(_, slot)| slot.lease.bytes()).sum();
                assert_eq!(leased, budget.used(), "seed {seed}");
                let held = store
                    .iter()
                    .all(|(_, slot)| slot.recount() <= slot.lease.bytes() + slot.feed.heap_bytes());
                assert!(held, "seed {seed}");
                let live = store.iter().filter(|(_, s)| !s.task.status.state.is_final()).count();
                assert_eq!(live, store.live(), "seed {seed}");
                assert_eq!(live, store.tallies.iter().map(|tally| tally.live).sum::<usize>());
            }
        }
    }

    #[test]
    fn contexts_of_clients_are_leased_too() {
        let context = ContextId::parse("a conversation").unwrap();
        assert!(context.heap_bytes() > 0);
    }
}
