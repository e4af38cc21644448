//! The contract between the engine and the threads: what crosses, what comes back, how to stop.
//!
//! Everything here is `Send` and owns its bytes. A thread answers every job with exactly one [`Update::Ended`] and
//! then exactly one [`Update::Free`], whatever happens to it on the way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::budget::Lease;
use crate::llm::{ModelError, Turn, TurnEnd};

/// Which try of which task: an update whose run is no longer current is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The task's slot.
    pub slot: u16,
    /// Counts every job this agent ever started.
    pub number: u32,
}

/// What a thread is asked to do.
#[derive(Debug)]
pub enum Work {
    /// Ask the model.
    Turn(Turn),
    /// Read the state of this machine.
    Device,
    /// Analyse a text that is too long for the runtime thread.
    Analyze(String),
}

/// Which threads do it: relays can be slow for minutes, local work never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Threads that talk to a provider.
    Relay,
    /// One thread for work on this machine.
    Local,
}

impl Work {
    /// Its lane.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Turn(_) => Lane::Relay,
            Self::Device | Self::Analyze(_) => Lane::Local,
        }
    }
}

/// One piece of work for a thread.
#[derive(Debug)]
pub struct Job {
    /// Whose it is.
    pub run: Run,
    /// What it is.
    pub work: Work,
    /// How it is stopped.
    pub cancel: Cancel,
    /// The bytes of `work`.
    pub lease: Lease,
}

/// What a thread reports.
#[derive(Debug)]
pub enum Update {
    /// More text of the reply.
    Text(Run, String),
    /// The model works, without text for the reply.
    Alive(Run),
    /// The reply is whole; its counts and the stream's end may still come.
    Whole(Run, TurnEnd),
    /// The job is over; its thread may still tidy up.
    Ended(Run, End),
    /// The thread is free.
    Free(Run),
}

/// How a job ended.
#[derive(Debug)]
pub enum End {
    /// The model's reply, or what became of it.
    Turn(Result<TurnEnd, ModelError>),
    /// A local result: text for people, and one JSON object.
    Local {
        /// What a person reads.
        text: String,
        /// The same for programs.
        json: String,
    },
}

/// Stops a job from outside. Clones stop the same job.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fired: AtomicBool,
    hook: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel(fired: {})", self.fired.load(Ordering::Relaxed))
    }
}

impl Cancel {
    /// Whether the job is to stop.
    pub fn is_fired(&self) -> bool {
        self.0.fired.load(Ordering::Acquire)
    }

    /// Stops the job: runs the thread's hook, which wakes it from a blocking read. Never waits.
    pub fn fire(&self) {
        self.0.fired.store(true, Ordering::Release);
        let hook = self.0.hook.lock().ok().and_then(|mut hook| hook.take());
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Sets what `fire` runs; runs it at once when the job was stopped already.
    pub fn on_fire(&self, hook: impl FnOnce() + Send + 'static) {
        if let Ok(mut slot) = self.0.hook.lock() {
            *slot = Some(Box::new(hook));
        }
        // Stored before the flag is read: a `fire` in between finds the hook or is seen here.
        if self.is_fired() {
            self.fire();
        }
    }

    /// Forgets the hook: the job no longer waits for anything.
    pub fn clear(&self) {
        if let Ok(mut slot) = self.0.hook.lock() {
            slot.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_set_too_late_still_runs() {
        let (cancel, ran) = (Cancel::default(), Arc::new(AtomicBool::new(false)));
        cancel.fire();
        let seen = ran.clone();
        cancel.on_fire(move || seen.store(true, Ordering::Relaxed));
        assert!(ran.load(Ordering::Relaxed));
    }

    #[test]
    fn a_cleared_hook_does_not_run() {
        let (cancel, ran) = (Cancel::default(), Arc::new(AtomicBool::new(false)));
        let seen = ran.clone();
        cancel.on_fire(move || seen.store(true, Ordering::Relaxed));
        cancel.clear();
        cancel.fire();
        assert!(cancel.is_fired() && !ran.load(Ordering::Relaxed));
    }
}
