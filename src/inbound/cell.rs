//! The one door to the engine: borrow it, let it settle, wake who waits.
//!
//! The borrow lives inside a synchronous closure, so it cannot be held across an `await`.

use std::cell::RefCell;
use std::task::{Context, Waker};

use tokio::sync::Notify;

use crate::base::clock::Now;
use crate::engine::{Engine, SHARDS};

/// The engine and those who wait for it.
#[derive(Debug)]
pub struct EngineCell {
    engine: RefCell<Engine>,
    /// Readers by their task's slot, none of them gone: bounded by the connections that can be open.
    waiting: RefCell<[Vec<Waker>; SHARDS]>,
    /// Rung when a thread could start something.
    pub jobs: Notify,
    /// Rung when the engine wants [`Engine::tick`] earlier than it did.
    pub timer: Notify,
}

impl EngineCell {
    /// Puts the engine behind its door.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine: RefCell::new(engine),
            waiting: RefCell::new([const { Vec::new() }; SHARDS]),
            jobs: Notify::new(),
            timer: Notify::new(),
        }
    }

    /// Does something with the engine, then finishes what became due and wakes the readers of what changed.
    ///
    /// `act` must not call this again.
    pub fn with<R>(&self, act: impl FnOnce(&mut Engine, Now) -> R) -> R {
        let now = Now::read();
        let mut engine = self.engine.borrow_mut();
        let armed = engine.deadline();
        let result = act(&mut engine, now);
        engine.run_due(now);
        let touched = engine.take_touched();
        let (has_job, deadline) = (engine.has_job(), engine.deadline());
        drop(engine);
        self.wake(touched);
        if has_job {
            self.jobs.notify_one();
        }
        if deadline.is_some_and(|wanted| armed.is_none_or(|armed| wanted < armed)) {
            self.timer.notify_one();
        }
        result
    }

    /// Whether the agent is about to stop. Reads no clock, unlike [`EngineCell::with`].
    pub fn is_draining(&self) -> bool {
        self.engine.borrow().is_draining()
    }

    /// Has `context` woken when the task in `slot` changes. Register first, then look: nothing is missed.
    pub fn register(&self, slot: usize, context: &Context<'_>) {
        let shard = &mut self.waiting.borrow_mut()[slot % SHARDS];
        if !shard.iter().any(|waker| waker.will_wake(context.waker())) {
            shard.push(context.waker().clone());
        }
    }

    /// A reader of the task in `slot` is gone, and its waker must go too. Wakers do not tell whose they are, so the
    /// others of the slot's shard are woken and register again.
    pub fn forget(&self, slot: usize) {
        self.wake(1 << (slot % SHARDS));
    }

    /// Has every reader look again.
    pub fn wake_all(&self) {
        self.wake(u64::MAX);
    }

    fn wake(&self, mut touched: u64) {
        while touched != 0 {
            let shard = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            // Taken out first: a waker may run anything.
            let waiting = std::mem::take(&mut self.waiting.borrow_mut()[shard]);
            for waker in waiting {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::base::ids::Ids;
    use crate::base::limits::Limits;
    use crate::engine::Settings;
    use crate::engine::queue::Bounds;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn cell() -> EngineCell {
        let settings = Settings {
            limits: Limits::default(),
            bounds: Bounds { relays: 1, queue: 1 },
            reply_bytes: 1024,
            context_bytes: 1024,
            brain: None,
            push: None,
        };
        EngineCell::new(Engine::new(settings, Ids::new(Box::new(|bytes| bytes.fill(1)))))
    }

    #[test]
    fn nothing_is_kept_of_a_reader_that_is_gone() {
        let (cell, reader) = (cell(), Arc::new(Woken::default()));
        cell.register(5, &Context::from_waker(&Waker::from(reader.clone())));
        assert_eq!(Arc::strong_count(&reader), 2);
        cell.forget(5);
        assert_eq!(Arc::strong_count(&reader), 1);
    }

    #[test]
    fn those_who_stay_when_a_reader_goes_look_again() {
        let (cell, stays) = (cell(), Arc::new(Woken::default()));
        cell.register(5, &Context::from_waker(&Waker::from(stays.clone())));
        cell.forget(5 + SHARDS);
        assert_eq!(stays.0.load(Ordering::Relaxed), 1);
    }
}
