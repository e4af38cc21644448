//! One request, one stream item. Every binding and version decodes to and encodes from these.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::str::FromStr;

use crate::a2a::dialect::Dialect;
use crate::a2a::model::{Artifact, Message, Status, Task, TaskState};
use crate::base::ids::{ContextId, TaskId};

/// Who asks. Scopes tasks, the memory skill and the share of the agent that one caller may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Somebody on this machine.
    Local,
    /// Somebody unauthenticated at an address; of IPv6 at its /64.
    Address(IpAddr),
    /// Somebody who proved to be who has this name in the configuration or in a certificate.
    Named(Rc<str>),
}

impl Principal {
    /// Whether they proved who they are.
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Named(_))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Whose tasks a request may touch. What lies outside looks exactly like what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Who asks.
    pub who: Principal,
    /// The label that the request carries; a task made under one is there only under it.
    pub tenant: Option<Tenant>,
}

impl Scope {
    /// Without a label.
    pub const fn of(who: Principal) -> Self {
        Self { who, tenant: None }
    }
}

/// An opaque label that parts the tasks of one agent (A2A 1.0 §5.3: path prefix or member `tenant`).
pub type Tenant = Rc<str>;

/// Bytes of a tenant's label.
pub const TENANT_BYTES: usize = 64;

/// The label that `text` names.
///
/// # Errors
/// What a label must be.
pub fn tenant(text: &str) -> Result<Tenant, &'static str> {
    if text.len() > TENANT_BYTES || text.chars().any(char::is_control) {
        return Err("must be at most 64 bytes without control characters");
    }
    if RESERVED.contains(&text) {
        return Err("is one of this agent's own paths");
    }
    Ok(text.into())
}

/// First segments of this agent's own paths: no tenant can be called so.
const RESERVED: [&str; 14] = [
    ".well-known",
    "a2a",
    "agents",
    "extendedAgentCard",
    "health",
    "healthz",
    "mcp",
    "message:send",
    "message:stream",
    "metrics",
    "readyz",
    "status.json",
    "tasks",
    "v1",
];

/// Where a task's changes are posted (A2A 1.0 §4.3: `TaskPushNotificationConfig`).
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// Unique in its task; empty until the task has it.
    pub id: Box<str>,
    /// An http or https URL.
    pub url: Box<str>,
    /// Sent along, for the receiver to know its own hook by.
    pub token: Option<Box<str>>,
    /// Scheme and credentials of the `Authorization` header.
    pub authentication: Option<(Box<str>, Box<str>)>,
    /// The dialect in which the hook was made, and which its receiver therefore reads.
    pub dialect: Dialect,
}

impl Hook {
    /// Bytes it holds on the heap, itself included.
    pub fn heap_bytes(&self) -> usize {
        let authentication = self.authentication.as_ref().map_or(0, |(a, b)| a.len() + b.len());
        let token = self.token.as_ref().map_or(0, |token| token.len());
        size_of::<Self>() + self.id.len() + self.url.len() + token + authentication + 6 * 32
    }
}

/// Token and credentials are for the receiver alone, and the URL may hold a secret too.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Which tasks to list (A2A 1.0 §3.1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Of this conversation.
    pub context: Option<ContextId>,
    /// In this state.
    pub state: Option<TaskState>,
    /// Whose state is as old as this, in milliseconds since 1970, or newer.
    pub since_ms: Option<u64>,
    /// Tasks in one page, 1 to [`PAGE_MAX`].
    pub page_size: usize,
    /// Where the last page ended.
    pub after: Option<Place>,
    /// Most recent messages wanted.
    pub history: Option<usize>,
    /// Whether artifacts are wanted.
    pub artifacts: bool,
}

/// Tasks in a page when the caller names no number (A2A 1.0 §3.1.4).
pub const PAGE: usize = 50;
/// Most tasks in a page (A2A 1.0 §3.1.4).
pub const PAGE_MAX: usize = 100;

/// A task's place in the list: newest state first, and of equal ones the task that came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When its state was set, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Its number.
    pub sequence: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.unix_ms, self.sequence)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (unix_ms, sequence) = text.split_once('-').ok_or(())?;
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| ());
        Ok(Self { unix_ms: number(unix_ms)?, sequence: number(sequence)? })
    }
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
    /// Where its changes are to be posted.
    pub hook: Option<Box<Hook>>,
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
    /// The caller's tasks.
    List(Box<Filter>),
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
    /// Post the task's changes there.
    SetHook {
        /// Which task's.
        id: TaskId,
        /// Where.
        hook: Box<Hook>,
    },
    /// One of the task's hooks; the first when none is named.
    GetHook {
        /// Which task's.
        id: TaskId,
        /// Its id.
        hook: Option<Box<str>>,
    },
    /// All of the task's hooks.
    ListHooks {
        /// Which task's.
        id: TaskId,
    },
    /// Forget a hook, or that there was one.
    DeleteHook {
        /// Which task's.
        id: TaskId,
        /// Its id.
        hook: Box<str>,
    },
    /// The card that strangers do not see.
    ExtendedCard,
}

impl Operation {
    /// What is asked, without its details.
    pub const fn call(&self) -> Call {
        match self {
            Self::Send(_) => Call::Send,
            Self::Stream(_) => Call::Stream,
            Self::Get { .. } => Call::Get,
            Self::List(_) => Call::List,
            Self::Cancel { .. } => Call::Cancel,
            Self::Subscribe { .. } => Call::Subscribe,
            Self::SetHook { .. } => Call::SetHook,
            Self::GetHook { .. } => Call::GetHook,
            Self::ListHooks { .. } => Call::ListHooks,
            Self::DeleteHook { .. } => Call::DeleteHook,
            Self::ExtendedCard => Call::ExtendedCard,
        }
    }

    /// The task it names.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::Send(send) | Self::Stream(send) => send.task,
            Self::Get { id, .. }
            | Self::Cancel { id }
            | Self::Subscribe { id }
            | Self::SetHook { id, .. }
            | Self::GetHook { id, .. }
            | Self::ListHooks { id }
            | Self::DeleteHook { id, .. } => Some(*id),
            Self::List(_) | Self::ExtendedCard => None,
        }
    }
}

/// A method of the protocol, whatever its version and binding call it (A2A 1.0 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Send a message; one reply.
    Send,
    /// Send a message; a stream of events.
    Stream,
    /// A task as it stands.
    Get,
    /// Tasks.
    List,
    /// End a task.
    Cancel,
    /// A task's events.
    Subscribe,
    /// Post a task's changes somewhere.
    SetHook,
    /// One hook of a task.
    GetHook,
    /// All hooks of a task.
    ListHooks,
    /// Forget a hook.
    DeleteHook,
    /// The card that strangers do not see.
    ExtendedCard,
}

impl Call {
    /// What 1.0 calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "SendMessage",
            Self::Stream => "SendStreamingMessage",
            Self::Get => "GetTask",
            Self::List => "ListTasks",
            Self::Cancel => "CancelTask",
            Self::Subscribe => "SubscribeToTask",
            Self::SetHook => "CreateTaskPushNotificationConfig",
            Self::GetHook => "GetTaskPushNotificationConfig",
            Self::ListHooks => "ListTaskPushNotificationConfigs",
            Self::DeleteHook => "DeleteTaskPushNotificationConfig",
            Self::ExtendedCard => "GetExtendedAgentCard",
        }
    }
}

/// One item of an event stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// The task as it stands.
    Task(&'a Task),
    /// A message that answers without a task.
    Message {
        /// This one.
        message: &'a Message,
        /// In this conversation.
        context: &'a ContextId,
    },
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
