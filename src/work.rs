//! The contract between the engine and the threads: what crosses, what comes back, how to stop.
//!
//! Everything here is `Send` and owns its bytes. A thread answers every job with exactly one [`Update::Ended`] and
//! then exactly one [`Update::Free`], whatever happens to it on the way.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::a2a::op::Hook;
use crate::base::budget::Lease;
use crate::llm::{ModelError, Turn, TurnEnd};

/// Which try of which task: an update whose run is no longer current is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose threads do it; each lane's engine part counts by itself.
    pub lane: Lane,
    /// The task's slot.
    pub slot: u16,
    /// Counts the jobs that were ever started there.
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
    /// Tell a webhook.
    Post(Box<Post>),
}

/// A notification on its way to a webhook.
#[derive(Debug)]
pub struct Post {
    /// Where it goes, and what the receiver knows it by.
    pub hook: Hook,
    /// JSON.
    pub body: String,
}

/// Which threads do it: relays and webhooks can be slow for minutes, local work never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Threads that talk to a provider.
    Relay,
    /// One thread for work on this machine.
    Local,
    /// Threads that talk to webhooks.
    Push,
}

impl Work {
    /// Its lane.
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Turn(_) => Lane::Relay,
            Self::Device | Self::Analyze(_) => Lane::Local,
            Self::Post(_) => Lane::Push,
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
    /// Whether the webhook took the notification.
    Post(Result<(), PostError>),
}

/// Why a webhook did not take a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostError {
    /// No connection, or no answer; another try may help.
    Failed(&'static str),
    /// It answered with another status than 2xx.
    Refused {
        /// This one.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It is not to be called at all.
    Forbidden(&'static str),
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(what) | Self::Forbidden(what) => f.write_str(what),
            Self::Refused { status, .. } => write!(f, "status {status}"),
        }
    }
}

impl std::error::Error for PostError {}

/// Stops a job from outside. Clones stop the same job.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fired: AtomicBool,
    hook: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
