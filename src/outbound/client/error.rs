//! Why a call brought no result, told apart by what its caller can do, and how agents say it on each binding.

use std::fmt;

use crate::outbound::client::card::Version;
use crate::outbound::client::members::{Members, text};
use crate::outbound::failure::{Failure, explain};

/// Why a call brought no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The URL, the card or the call cannot be used. Another URL or another wish helps.
    Unusable(String),
    /// Nobody answers there. Starting the agent helps, or another URL.
    Connect {
        /// Where.
        url: String,
        /// Why.
        why: Failure,
    },
    /// No room. The same call later helps.
    Busy {
        /// Seconds until it is worth another try, when the agent says so.
        retry_after_s: Option<u32>,
        /// The agent's text.
        message: String,
    },
    /// The agent wants credentials, or others.
    Denied {
        /// 401, 403, or 429 when too many wrong ones came.
        status: u16,
        /// The agent's text; may be empty.
        message: String,
        /// Where the token was from that it was shown.
        sent: Option<String>,
        /// Whether there was a client certificate that the agent did not ask for.
        unasked: bool,
        /// Seconds until it is worth another try, when the agent says so.
        retry_after_s: Option<u32>,
    },
    /// The agent has moved, and redirects are not followed. The new URL helps, if it is to be trusted.
    Moved {
        /// Its status.
        status: u16,
        /// Where to, as it was sent.
        to: String,
    },
    /// The agent does not speak the version that it was asked in. Asking in another helps.
    Version {
        /// What it was asked in.
        asked: Version,
        /// The agent's text.
        message: String,
    },
    /// The agent's own error. Another request helps; the same one brings the same error.
    Refused {
        /// The JSON-RPC code (A2A 1.0 §5.4), on REST by its reason; 0.3 REST has none.
        code: Option<i64>,
        /// The HTTP status.
        status: u16,
        /// The agent's text.
        message: String,
    },
    /// The answer is not A2A: something else listens there.
    Http {
        /// Its status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// The answer broke off, is too long or makes no sense.
    Broken(String),
    /// A stream ended before its task did. The task goes on: subscribing to it, or getting it, helps.
    Lost(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(what) => f.write_str(what),
            Self::Connect { url, why } => {
                write!(f, "cannot talk to the agent at {url}: {}", explain(why, url))?;
                match why {
                    Failure::Refused => f.write_str(" (`tetherlet run` starts one)"),
                    _ => Ok(()),
                }
            }
            Self::Busy { retry_after_s: Some(seconds), message } => {
                write!(f, "{message} (busy; again in {seconds} s)")
            }
            Self::Busy { retry_after_s: None, message } => write!(f, "{message} (busy)"),
            Self::Denied { status, message, sent, unasked, retry_after_s } => {
                // What a tetherlet says there is for programs, and here said in other words.
                let is_known = *status == 401 && message.starts_with("Authentication ");
                let message = if is_known { "" } else { message.as_str() };
                let colon = if message.is_empty() { "" } else { ": " };
                match (status, sent) {
                    (429, _) => {
                        let source = sent.as_deref().unwrap_or("this caller");
                        write!(
                            f,
                            "the agent does not take the token from {source}: too many wrong ones came from this \
                             address (HTTP status 429); check that it is the right one, and try again"
                        )?;
                        retry_after_s.map_or(Ok(()), |seconds| write!(f, " in {seconds} s"))
                    }
                    (403, Some(source)) => write!(
                        f,
                        "the token from {source} may not do this{colon}{message} (HTTP status 403); ask the \
                         agent's operator for the right (rights of [callers.NAME])"
                    ),
                    (403, None) => write!(
                        f,
                        "the agent does not permit this without credentials{colon}{message} (HTTP status 403); \
                         {GIVE}"
                    ),
                    (_, Some(source)) => write!(
                        f,
                        "the agent does not know the token from {source}{colon}{message} (HTTP status {status}); \
                         is it whole, still valid, and meant for this agent?"
                    ),
                    (_, None) => write!(
                        f,
                        "the agent wants a token{colon}{message} (HTTP status {status}); {GIVE}"
                    ),
                }?;
                if *unasked { f.write_str(UNASKED) } else { Ok(()) }
            }
            Self::Moved { status, to } => write!(
                f,
                "the agent's URL has moved to {to} (HTTP status {status}), and redirects are not followed: \
                 give that URL, if you trust it"
            ),
            Self::Version { asked, message } => {
                write!(f, "the agent does not speak A2A {asked}: {message} (-32009)")
            }
            Self::Refused { code: Some(code), message, .. } => write!(f, "{message} ({code})"),
            Self::Refused { code: None, status, message } => {
                write!(f, "{message} (HTTP status {status})")
            }
            Self::Http { status, body } if body.is_empty() => write!(f, "HTTP status {status}"),
            Self::Http { status, body } => write!(f, "HTTP status {status}: {body}"),
            Self::Broken(what) => write!(f, "the agent's answer cannot be used: {what}"),
            Self::Lost(what) => write!(f, "the stream broke off: {what}"),
        }
    }
}

/// How a token is given.
const GIVE: &str = "give one with --token-file FILE, TETHERLET_TOKEN, or token-file in [peers.NAME] of the configuration";

const UNASKED: &str =
    "; it did not ask for the client certificate: its operator sets tls.client-ca-file";

impl std::error::Error for ClientError {}

/// What REST says instead of a code (A2A 1.0.1 §5.4).
const REASONS: [(&str, i64); 9] = [
    ("TASK_NOT_FOUND", -32001),
    ("TASK_NOT_CANCELABLE", -32002),
    ("PUSH_NOTIFICATION_NOT_SUPPORTED", -32003),
    ("UNSUPPORTED_OPERATION", -32004),
    ("CONTENT_TYPE_NOT_SUPPORTED", -32005),
    ("INVALID_AGENT_RESPONSE", -32006),
    ("EXTENDED_AGENT_CARD_NOT_CONFIGURED", -32007),
    ("EXTENSION_SUPPORT_REQUIRED", -32008),
    ("VERSION_NOT_SUPPORTED", VERSION),
];
const VERSION: i64 = -32009;

/// By this a tetherlet that was shown too many wrong tokens is told from one that is busy.
const WRONG_TOKENS: &str = "wrong tokens";

/// The agent's refusal in `body`: a JSON-RPC error, a 1.0 REST error, the bare message that 0.3 REST servers send,
/// or what a web framework says on its own.
pub fn refusal(body: &str, status: u16, retry_after: Option<&str>, asked: Version) -> ClientError {
    let top = Members::read(body).unwrap_or_default();
    let error = top.object(&["error"]);
    let of = error.as_ref().unwrap_or(&top);
    let message = of.text(&["message"]).or_else(|| top.text(&["detail", "title", "error"]));
    let said = message.is_some();
    let message = cut(&message.unwrap_or_default());
    // Pages are refused in plain words.
    let words = || if said || body.starts_with(['<', '{', '[']) { "" } else { body.trim() };
    let details = of.list(&["details", "data"]).unwrap_or_default();
    let by_reason = details.iter().find_map(|detail| {
        let reason = Members::read(detail)?.text(&["reason"])?;
        REASONS.iter().find(|(name, _)| *name == reason).map(|(_, code)| *code)
    });
    let is_invalid = of.text(&["status"]).as_deref() == Some("INVALID_ARGUMENT");
    let by_reason = by_reason.or_else(|| is_invalid.then_some(-32602));
    // On REST `code` is the HTTP status, which an error inside a stream has nowhere else.
    let (code, status) = match of.number(&["code"]) {
        Some(code) if code < 0 => (Some(code), status),
        Some(code) => (by_reason, u16::try_from(code).unwrap_or(status)),
        None => (by_reason, status),
    };
    let retry_after_s = retry_after.and_then(|text| text.trim().parse().ok()).or_else(|| {
        let seconds = of.object(&["data"])?.number(&["retryAfterS"])?;
        u32::try_from(seconds).ok()
    });
    match status {
        401 | 403 => {
            let message = message + &cut(words());
            ClientError::Denied { status, message, sent: None, unasked: false, retry_after_s: None }
        }
        429 if message.contains(WRONG_TOKENS) || words().contains(WRONG_TOKENS) => {
            let message = message + &cut(words());
            ClientError::Denied { status, message, sent: None, unasked: false, retry_after_s }
        }
        429 | 503 => {
            let message = if said { message } else { format!("HTTP status {status}") };
            ClientError::Busy { retry_after_s, message }
        }
        _ if retry_after_s.is_some() && said => ClientError::Busy { retry_after_s, message },
        _ if code == Some(VERSION) => ClientError::Version { asked, message },
        _ if said || code.is_some() => ClientError::Refused { code, status, message },
        _ => ClientError::Http { status, body: cut(&text(body).unwrap_or_else(|| body.into())) },
    }
}

/// The beginning of a stranger's text, in one line.
pub fn cut(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, status: u16) -> ClientError {
        refusal(body, status, None, Version::V1_0)
    }

    fn refused(code: Option<i64>, status: u16, message: &str) -> ClientError {
        ClientError::Refused { code, status, message: message.to_owned() }
    }

    #[test]
    fn every_binding_says_the_same_error() {
        let rpc = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"gone"}}"#;
        assert_eq!(read(rpc, 200), refused(Some(-32001), 200, "gone"));
        let rest = r#"{"error":{"code":404,"status":"NOT_FOUND","message":"gone","details":[
            {"@type":"type.googleapis.com/google.rpc.Help"},{"reason":"TASK_NOT_FOUND"}]}}"#;
        assert_eq!(read(rest, 404), refused(Some(-32001), 404, "gone"));
        let bad =
            r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"no","details":[]}}"#;
        assert_eq!(read(bad, 400), refused(Some(-32602), 400, "no"));
        // Inside a stream.
        assert_eq!(read(rest, 200), refused(Some(-32001), 404, "gone"));
        assert_eq!(read(r#"{"message":"gone"}"#, 404), refused(None, 404, "gone"));
        assert_eq!(read(r#"{"detail":"Not Found"}"#, 404), refused(None, 404, "Not Found"));
    }

    #[test]
    fn busy_comes_with_its_seconds_from_header_or_data() {
        let busy = |body: &str, status, header| refusal(body, status, header, Version::V0_3);
        let data = r#"{"error":{"code":-32000,"message":"full","data":{"retryAfterS":5}}}"#;
        let full = |seconds| ClientError::Busy { retry_after_s: seconds, message: "full".into() };
        assert_eq!(busy(data, 200, None), full(Some(5)));
        assert_eq!(busy(data, 503, Some("7")), full(Some(7)));
        assert_eq!(busy(r#"{"message":"full"}"#, 429, Some("Wed, 21 Oct")), full(None));
        let silent =
            ClientError::Busy { retry_after_s: Some(2), message: "HTTP status 503".into() };
        assert_eq!(busy("", 503, Some(" 2")), silent);
    }

    #[test]
    fn what_no_agent_says_is_told_apart() {
        let denied = |message: &str| {
            let message = message.to_owned();
            ClientError::Denied {
                status: 401,
                message,
                sent: None,
                unasked: false,
                retry_after_s: None,
            }
        };
        assert_eq!(read("", 401), denied(""));
        assert_eq!(read("<html>", 401), denied(""));
        assert_eq!(read("go away\n", 401), denied("go away"));
        let page = read("<html>\u{1b}[2J", 502);
        assert_eq!(page, ClientError::Http { status: 502, body: "<html> [2J".to_owned() });
        let version = read(r#"{"error":{"code":-32009,"message":"no"}}"#, 200);
        assert_eq!(version.to_string(), "the agent does not speak A2A 1.0: no (-32009)");
    }
}
