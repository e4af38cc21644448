//! One request, one stream item. Every binding and version decodes to and encodes from these.

use std::net::IpAddr;
use std::rc::Rc;

use crate::a2a::model::{Artifact, Message, Status, Task};
use crate::base::ids::{ContextId, TaskId};

/// Who asks. Scopes the memory skill and the share of the agent that one caller may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Somebody on this machine.
    Local,
    /// Somebody unauthenticated at an address.
    Address(IpAddr),
}

/// A message sent to the agent (A2A 1.0 §3.2.1).
#[derive(Debug)]
pub struct Send {
    /// The message.
    pub message: Rc<Message>,
    /// The task it continues.
    pub task: Option<TaskId>,
    /// The conversation it belongs to.
    pub context: Option<ContextId>,
    /// Whether the caller waits for the result.
    pub blocking: bool,
    /// Most recent messages wanted in the reply; all when absent.
    pub history: Option<usize>,
    /// The skill the caller chose.
    pub skill: Option<Box<str>>,
    /// Whether the caller wrote CodeTether's looser dialect.
    pub loose: bool,
}

/// A request (A2A 1.0 §5.3).
#[derive(Debug)]
pub enum Operation {
    /// Send a message; one reply.
    Send(Send),
    /// Send a message; a stream of events.
    Stream(Send),
    /// The task as it stands.
    Get {
        /// Which.
        id: TaskId,
        /// Most recent messages wanted.
        history: Option<usize>,
    },
    /// End the task.
    Cancel {
        /// Which.
        id: TaskId,
    },
    /// The task as it stands, then its events.
    Subscribe {
        /// Which.
        id: TaskId,
    },
}

/// One item of an event stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// The task as it stands.
    Task(&'a Task),
    /// The state changed.
    Status {
        /// Of this task.
        task: &'a Task,
        /// To this.
        status: &'a Status,
    },
    /// An artifact came, or grew.
    Artifact {
        /// Of this task.
        task: &'a Task,
        /// This one.
        artifact: &'a Artifact,
        /// The text that was added, or `None`: the whole artifact as it is.
        chunk: Option<&'a str>,
        /// Whether `chunk` continues what was sent before.
        append: bool,
    },
}
