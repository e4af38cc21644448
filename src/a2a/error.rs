//! The closed set of protocol failures and the one table that puts them on the wire (A2A 1.0.1 §5.4).

use std::fmt;

use crate::a2a::model::TaskState;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum A2aError {
    /// The body is not JSON.
    Parse(String),
    /// The body is JSON, but no request.
    InvalidRequest(String),
    /// Nobody here knows this method.
    MethodNotFound(String),
    /// The request's members do not fit; the text names the member.
    InvalidParams(String),
    /// Our own fault.
    Internal(&'static str),
    /// No such task.
    TaskNotFound,
    /// The task has ended already.
    TaskNotCancelable(TaskState),
    /// This agent delivers no push notifications.
    PushNotificationNotSupported,
    /// Known, but not possible here or now.
    UnsupportedOperation(String),
    /// The request's media type, or a part's, is not understood.
    ContentTypeNotSupported(String),
    /// No extended card.
    ExtendedCardNotConfigured,
    /// No room; asking again later helps.
    Busy {
        /// Seconds until it is worth another try.
        retry_after_s: u32,
        /// What is full.
        what: &'static str,
    },
}

/// What an error is called on each binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The JSON-RPC code.
    pub code: i32,
    /// The HTTP status of the REST binding.
    pub status: u16,
}

impl A2aError {
    /// The error's codes.
    pub const fn wire(&self) -> Wire {
        let (code, status) = match self {
            Self::Parse(_) => (-32700, 400),
            Self::InvalidRequest(_) => (-32600, 400),
            Self::MethodNotFound(_) => (-32601, 404),
            Self::InvalidParams(_) => (-32602, 400),
            Self::Internal(_) => (-32603, 500),
            Self::TaskNotFound => (-32001, 404),
            Self::TaskNotCancelable(_) => (-32002, 400),
            Self::PushNotificationNotSupported => (-32003, 400),
            Self::UnsupportedOperation(_) => (-32004, 400),
            Self::ContentTypeNotSupported(_) => (-32005, 400),
            Self::ExtendedCardNotConfigured => (-32007, 400),
            Self::Busy { .. } => (-32000, 503),
        };
        Wire { code, status }
    }
}

impl fmt::Display for A2aError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(what) => write!(f, "Parse error: {what}"),
            Self::InvalidRequest(what) => write!(f, "Invalid request: {what}"),
            Self::MethodNotFound(method) => write!(f, "Method not found: {method}"),
            Self::InvalidParams(what) => write!(f, "Invalid params: {what}"),
            Self::Internal(what) => write!(f, "Internal error: {what}"),
            Self::TaskNotFound => f.write_str("Task not found"),
            Self::TaskNotCancelable(state) => {
                write!(f, "Task cannot be canceled: it is already {}", spoken(*state))
            }
            Self::PushNotificationNotSupported => {
                f.write_str("Push notifications are not supported")
            }
            Self::UnsupportedOperation(what) => write!(f, "Unsupported operation: {what}"),
            Self::ContentTypeNotSupported(what) => write!(f, "Content type not supported: {what}"),
            Self::ExtendedCardNotConfigured => f.write_str("No extended agent card is configured"),
            Self::Busy { retry_after_s, what } => {
                write!(f, "Busy: {what}; try again in {retry_after_s} s")
            }
        }
    }
}

impl std::error::Error for A2aError {}

/// The state as people say it.
pub const fn spoken(state: TaskState) -> &'static str {
    match state {
        TaskState::Submitted => "submitted",
        TaskState::Working => "working",
        TaskState::InputRequired => "input-required",
        TaskState::Completed => "completed",
        TaskState::Failed => "failed",
        TaskState::Canceled => "canceled",
        TaskState::Rejected => "rejected",
    }
}
