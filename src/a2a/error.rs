//! The closed set of protocol failures and the one table that puts them on the wire (A2A 1.0.1 §5.4).

use std::fmt;

use crate::a2a::dialect::Dialect;
use crate::a2a::model::TaskState;
use crate::base::json::Json;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum A2aError {
    /// The body is not JSON.
    Parse(String),
    /// The body is JSON, but no request.
    InvalidRequest(String),
    /// Nobody here knows this method.
    MethodNotFound(String),
    /// Nothing is served at this path; the text says what is.
    NoSuchPath(&'static str),
    /// The path takes other methods.
    MethodNotAllowed(&'static str),
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
    /// The request's media type is not JSON.
    MediaType(String),
    /// A part's media type is not one that the skill takes.
    ContentTypeNotSupported(String),
    /// No extended card.
    ExtendedCardNotConfigured,
    /// The caller does not speak an extension that this agent requires: its URI.
    ExtensionSupportRequired(&'static str),
    /// Another version of the protocol, or a request of another version than it says.
    VersionNotSupported(&'static str),
    /// The body is longer than so many bytes.
    TooLarge(usize),
    /// The body broke off.
    BodyBroken,
    /// The body came too slowly.
    BodyTooSlow,
    /// The caller must say who they are.
    Unauthenticated {
        /// Whether they did, and it is not true.
        is_wrong: bool,
    },
    /// Too many wrong tokens came from the caller's address.
    TooManyTries {
        /// Seconds until one more is looked at.
        retry_after_s: u32,
    },
    /// The caller may not do this.
    Forbidden(&'static str),
    /// The request calls for another host, or a page of another site makes it; the text names the fix.
    WrongSite(String),
    /// The request is not HTTP as it should be.
    BadHttp(&'static str),
    /// No room; asking again later helps.
    Busy {
        /// Seconds until it is worth another try.
        retry_after_s: u32,
        /// What is full.
        what: Busy,
    },
}

/// What is full when the answer is "busy".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Nothing is: the agent takes no more because it stops.
    Stopping,
    /// The connections.
    Connections,
    /// The event streams.
    Streams,
    /// The bytes for requests.
    Requests,
    /// The bytes for large replies.
    Replies,
    /// The queue for a thread.
    Queue,
    /// The store, of tasks that have not ended.
    Store,
    /// The store, for what a task would add to itself.
    Growth,
    /// The caller's share of the store.
    Share,
    /// The webhooks of one task.
    Hooks,
    /// The places for webhooks of tasks that have not ended.
    Webhooks,
}

impl Busy {
    /// One word for each, in the order of the variants.
    pub const NAMES: [&'static str; 11] = [
        "stopping",
        "connections",
        "streams",
        "requests",
        "replies",
        "queue",
        "store",
        "growth",
        "share",
        "hooks",
        "webhooks",
    ];
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopping => "the agent is stopping",
            Self::Connections => "too many connections",
            Self::Streams => "too many event streams",
            Self::Requests => "too many requests in flight",
            Self::Replies => "too many large replies under way",
            Self::Queue => "too many tasks wait already",
            Self::Store => "the task store is full of unfinished tasks",
            Self::Growth => "the task store is full",
            Self::Share => "this caller has its share of tasks already",
            Self::Hooks => "a task has at most 4 push notification configs",
            Self::Webhooks => "too many unfinished tasks have push notification configs",
        })
    }
}

/// What an error is called on each binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The JSON-RPC code.
    pub code: i32,
    /// The HTTP status of the REST binding.
    pub status: u16,
    /// The canonical name of that status (google.rpc.Code).
    pub name: &'static str,
    /// The reason in 1.0's `ErrorInfo`: A2A's own, and for those of JSON-RPC what the official SDKs call them.
    pub reason: Option<&'static str>,
}

const INVALID: &str = "INVALID_ARGUMENT";
const PRECONDITION: &str = "FAILED_PRECONDITION";

impl A2aError {
    /// A name for each sort of error, at the place that [`A2aError::number`] gives.
    pub const NAMES: [&'static str; 25] = [
        "parse",
        "invalid_request",
        "method_not_found",
        "no_such_path",
        "method_not_allowed",
        "invalid_params",
        "internal",
        "task_not_found",
        "task_not_cancelable",
        "push_notification_not_supported",
        "unsupported_operation",
        "media_type",
        "content_type_not_supported",
        "extended_card_not_configured",
        "extension_support_required",
        "version_not_supported",
        "too_large",
        "body_broken",
        "body_too_slow",
        "unauthenticated",
        "too_many_tries",
        "forbidden",
        "bad_http",
        "wrong_site",
        "busy",
    ];

    /// Which sort of error this is, for counting.
    pub const fn number(&self) -> usize {
        match self {
            Self::Parse(_) => 0,
            Self::InvalidRequest(_) => 1,
            Self::MethodNotFound(_) => 2,
            Self::NoSuchPath(_) => 3,
            Self::MethodNotAllowed(_) => 4,
            Self::InvalidParams(_) => 5,
            Self::Internal(_) => 6,
            Self::TaskNotFound => 7,
            Self::TaskNotCancelable(_) => 8,
            Self::PushNotificationNotSupported => 9,
            Self::UnsupportedOperation(_) => 10,
            Self::MediaType(_) => 11,
            Self::ContentTypeNotSupported(_) => 12,
            Self::ExtendedCardNotConfigured => 13,
            Self::ExtensionSupportRequired(_) => 14,
            Self::VersionNotSupported(_) => 15,
            Self::TooLarge(_) => 16,
            Self::BodyBroken => 17,
            Self::BodyTooSlow => 18,
            Self::Unauthenticated { .. } => 19,
            Self::TooManyTries { .. } => 20,
            Self::Forbidden(_) => 21,
            Self::BadHttp(_) => 22,
            Self::WrongSite(_) => 23,
            Self::Busy { .. } => 24,
        }
    }

    /// The error's codes.
    pub const fn wire(&self) -> Wire {
        let (code, status, name, reason) = match self {
            Self::Parse(_) => (-32700, 400, INVALID, Some("PARSE_ERROR")),
            Self::InvalidRequest(_) | Self::BodyBroken | Self::BadHttp(_) => {
                (-32600, 400, INVALID, Some("INVALID_REQUEST"))
            }
            Self::MethodNotFound(_) | Self::NoSuchPath(_) => {
                (-32601, 404, "NOT_FOUND", Some("METHOD_NOT_FOUND"))
            }
            Self::MethodNotAllowed(_) => (-32601, 405, "UNIMPLEMENTED", None),
            Self::InvalidParams(_) => (-32602, 400, INVALID, Some("INVALID_PARAMS")),
            Self::Internal(_) => (-32603, 500, "INTERNAL", Some("INTERNAL_ERROR")),
            Self::TaskNotFound => (-32001, 404, "NOT_FOUND", Some("TASK_NOT_FOUND")),
            Self::TaskNotCancelable(_) => (-32002, 400, PRECONDITION, Some("TASK_NOT_CANCELABLE")),
            Self::PushNotificationNotSupported => {
                (-32003, 400, PRECONDITION, Some("PUSH_NOTIFICATION_NOT_SUPPORTED"))
            }
            Self::UnsupportedOperation(_) => {
                (-32004, 400, PRECONDITION, Some("UNSUPPORTED_OPERATION"))
            }
            Self::MediaType(_) => (-32005, 415, INVALID, Some("CONTENT_TYPE_NOT_SUPPORTED")),
            Self::ContentTypeNotSupported(_) => {
                (-32005, 400, INVALID, Some("CONTENT_TYPE_NOT_SUPPORTED"))
            }
            Self::ExtendedCardNotConfigured => {
                (-32007, 400, PRECONDITION, Some("EXTENDED_AGENT_CARD_NOT_CONFIGURED"))
            }
            Self::ExtensionSupportRequired(_) => {
                (-32008, 400, PRECONDITION, Some("EXTENSION_SUPPORT_REQUIRED"))
            }
            Self::VersionNotSupported(_) => {
                (-32009, 400, PRECONDITION, Some("VERSION_NOT_SUPPORTED"))
            }
            Self::TooLarge(_) => (-32600, 413, "OUT_OF_RANGE", None),
            Self::BodyTooSlow => (-32600, 408, "DEADLINE_EXCEEDED", None),
            Self::Unauthenticated { .. } => (-32600, 401, "UNAUTHENTICATED", None),
            Self::TooManyTries { .. } => (-32600, 429, "RESOURCE_EXHAUSTED", None),
            Self::Forbidden(_) | Self::WrongSite(_) => (-32600, 403, "PERMISSION_DENIED", None),
            Self::Busy { .. } => (-32000, 503, "UNAVAILABLE", None),
        };
        Wire { code, status, name, reason }
    }

    /// The HTTP status of a JSON-RPC reply: 200, unless it is HTTP's own business.
    pub const fn rpc_status(&self) -> u16 {
        match self {
            Self::TooLarge(_)
            | Self::BodyBroken
            | Self::BadHttp(_)
            | Self::BodyTooSlow
            | Self::NoSuchPath(_)
            | Self::MethodNotAllowed(_)
            | Self::Unauthenticated { .. }
            | Self::TooManyTries { .. }
            | Self::Forbidden(_)
            | Self::WrongSite(_)
            | Self::Busy { .. } => self.wire().status,
            _ => 200,
        }
    }

    /// Writes the members `code` and `message`, and `data` where the dialect has something to say there, of a
    /// JSON-RPC error object.
    pub fn rpc_into(&self, json: &mut Json, dialect: Dialect) {
        json.key("code");
        json.signed(i64::from(self.wire().code));
        json.key("message");
        json.string_from(self);
        match dialect {
            Dialect::V1 => {
                let has_details = matches!(self, Self::InvalidParams(_) | Self::Busy { .. });
                if has_details || self.wire().reason.is_some() {
                    json.key("data");
                    self.details_into(json);
                }
            }
            Dialect::V03 | Dialect::Proto03 => {
                if let Self::Busy { retry_after_s, .. } = self {
                    json.key("data");
                    json.open_object();
                    json.key("retryAfterS");
                    json.number(u64::from(*retry_after_s));
                    json.close_object();
                }
            }
        }
    }

    /// Writes the body of a REST error: 1.0's (§11.6; AIP-193), or the error object of JSON-RPC by itself, as
    /// clients of 0.3 read it.
    pub fn rest_into(&self, json: &mut Json, dialect: Dialect) {
        let wire = self.wire();
        json.open_object();
        if dialect != Dialect::V1 {
            self.rpc_into(json, dialect);
            json.close_object();
            return;
        }
        json.key("error");
        json.open_object();
        json.key("code");
        json.number(u64::from(wire.status));
        json.word("status", wire.name);
        json.key("message");
        json.string_from(self);
        json.key("details");
        self.details_into(json);
        json.close_object();
        json.close_object();
    }

    /// Writes an array of typed objects: `ErrorInfo`, `BadRequest`, `RetryInfo` (google.rpc).
    fn details_into(&self, json: &mut Json) {
        json.open_array();
        if let Some(reason) = self.wire().reason {
            json.open_object();
            json.word("@type", "type.googleapis.com/google.rpc.ErrorInfo");
            json.word("reason", reason);
            json.word("domain", "a2a-protocol.org");
            json.close_object();
        }
        match self {
            Self::InvalidParams(what) => {
                let (field, description) = match what.split_once(": ") {
                    Some((field, rest)) if !field.contains(' ') => (field, rest),
                    _ => ("", what.as_str()),
                };
                json.open_object();
                json.word("@type", "type.googleapis.com/google.rpc.BadRequest");
                json.key("fieldViolations");
                json.open_array();
                json.open_object();
                json.member("field", field);
                json.member("description", description);
                json.close_object();
                json.close_array();
                json.close_object();
            }
            Self::Busy { retry_after_s, .. } => {
                json.open_object();
                json.word("@type", "type.googleapis.com/google.rpc.RetryInfo");
                json.key("retryDelay");
                json.string_from(&format_args!("{retry_after_s}s"));
                json.close_object();
            }
            _ => {}
        }
        json.close_array();
    }
}

impl fmt::Display for A2aError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(what) => write!(f, "Parse error: {what}"),
            Self::InvalidRequest(what) => write!(f, "Invalid request: {what}"),
            Self::MethodNotFound(method) => write!(f, "Method not found: {method}"),
            Self::NoSuchPath(what) => write!(f, "Not found: {what}"),
            Self::MethodNotAllowed(allowed) => write!(f, "Method not allowed: use {allowed} here"),
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
            Self::MediaType(what) | Self::ContentTypeNotSupported(what) => {
                write!(f, "Content type not supported: {what}")
            }
            Self::ExtendedCardNotConfigured => f.write_str("No extended agent card is configured"),
            Self::ExtensionSupportRequired(uri) => {
                write!(f, "Extension support required: name {uri} in the header A2A-Extensions")
            }
            Self::VersionNotSupported(what) => write!(f, "Version not supported: {what}"),
            Self::TooLarge(limit) => write!(f, "The body is longer than {limit} bytes"),
            Self::BodyBroken => f.write_str("The body is broken"),
            Self::BadHttp(what) => write!(f, "Bad HTTP: {what}"),
            Self::BodyTooSlow => f.write_str("The body came too slowly"),
            Self::Unauthenticated { is_wrong: false } => f.write_str(
                "Authentication required: send the header `Authorization: Bearer TOKEN`",
            ),
            Self::Unauthenticated { is_wrong: true } => {
                f.write_str("Authentication failed: this token is not known here")
            }
            Self::TooManyTries { .. } => {
                f.write_str("Too many wrong tokens came from this address")
            }
            Self::Forbidden(what) => write!(f, "Forbidden: {what}"),
            Self::WrongSite(what) => write!(f, "Forbidden: {what}"),
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
        TaskState::AuthRequired => "auth-required",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(error: &A2aError, dialect: Dialect) -> String {
        let mut json = Json::default();
        error.rest_into(&mut json, dialect);
        json.into_string()
    }

    #[test]
    fn wrong_params_have_a_reason_beside_the_member() {
        let body =
            rest(&A2aError::InvalidParams("pageSize: must be 1 to 100".to_owned()), Dialect::V1);
        assert!(body.contains(r#""reason":"INVALID_PARAMS""#), "{body}");
        assert!(body.contains(r#""field":"pageSize""#), "{body}");
    }

    #[test]
    fn rest_clients_of_each_version_find_the_code_where_they_read_it() {
        assert_eq!(
            rest(&A2aError::TaskNotFound, Dialect::Proto03),
            r#"{"code":-32001,"message":"Task not found"}"#
        );
        assert_eq!(
            rest(&A2aError::TaskNotFound, Dialect::V1),
            r#"{"error":{"code":404,"status":"NOT_FOUND","message":"Task not found","details":["#
                .to_owned()
                + r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"TASK_NOT_FOUND","domain":"a2a-protocol.org"}]}}"#
        );
    }

    #[test]
    fn every_sort_of_error_is_counted_under_its_own_name() {
        let all = [
            A2aError::Parse(String::new()),
            A2aError::InvalidRequest(String::new()),
            A2aError::MethodNotFound(String::new()),
            A2aError::NoSuchPath(""),
            A2aError::MethodNotAllowed(""),
            A2aError::InvalidParams(String::new()),
            A2aError::Internal(""),
            A2aError::TaskNotFound,
            A2aError::TaskNotCancelable(TaskState::Completed),
            A2aError::PushNotificationNotSupported,
            A2aError::UnsupportedOperation(String::new()),
            A2aError::MediaType(String::new()),
            A2aError::ContentTypeNotSupported(String::new()),
            A2aError::ExtendedCardNotConfigured,
            A2aError::ExtensionSupportRequired(""),
            A2aError::VersionNotSupported(""),
            A2aError::TooLarge(0),
            A2aError::BodyBroken,
            A2aError::BodyTooSlow,
            A2aError::Unauthenticated { is_wrong: true },
            A2aError::TooManyTries { retry_after_s: 1 },
            A2aError::Forbidden(""),
            A2aError::BadHttp(""),
            A2aError::WrongSite(String::new()),
            A2aError::Busy { retry_after_s: 0, what: Busy::Hooks },
        ];
        let names: Vec<&str> = all.iter().map(|error| A2aError::NAMES[error.number()]).collect();
        assert_eq!(names, A2aError::NAMES);
        for (error, name) in all.iter().zip(names) {
            let variant = format!("{error:?}").to_ascii_lowercase();
            assert!(variant.starts_with(&name.replace('_', "")), "{variant} is no {name}");
        }
    }

    #[test]
    fn whatever_is_full_is_counted_under_its_own_name() {
        let all = [
            Busy::Stopping,
            Busy::Connections,
            Busy::Streams,
            Busy::Requests,
            Busy::Replies,
            Busy::Queue,
            Busy::Store,
            Busy::Growth,
            Busy::Share,
            Busy::Hooks,
            Busy::Webhooks,
        ];
        assert_eq!(all.map(|what| format!("{what:?}").to_ascii_lowercase()), Busy::NAMES);
        assert_eq!(all.map(|what| Busy::NAMES[what as usize]), Busy::NAMES);
    }
}
