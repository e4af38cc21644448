//! Reads what a provider says about a failure, sorts it, and finds how long it asks to wait.
//!
//! Decides by status and codes first and by words last, and only by words of the message itself:
//! error bodies also echo requests. Codes and texts are those of the providers named beside them;
//! an unknown body is kept as plain text.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::redact::redact;
use crate::llm::ModelError;
use crate::llm::loose::{members, object, quoted, unescape};

/// The longest wait that is passed on.
const LONGEST_S: f64 = 3600.0;

/// What an error body says, each part possibly empty. Not redacted yet.
#[derive(Debug, Default)]
pub(super) struct Fault {
    pub(super) kind: String,
    pub(super) code: String,
    pub(super) message: String,
}

/// What a failure means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Unauthorized,
    Refused,
    RateLimited,
    Quota,
    Overloaded,
    ContextTooLong,
    ModelNotFound,
}

impl Fault {
    /// Reads an error body of any provider. Text that is no JSON, or cut JSON, becomes the message.
    pub(super) fn of_body(body: &str) -> Self {
        let body = body.trim_start_matches('\u{feff}').trim();
        let mut fault = Self::default();
        if let Some(said) = object(body).and_then(|json| serde_json::from_str(json).ok()) {
            fault.take(&said, 0);
        }
        if fault.message.is_empty() {
            body.clone_into(&mut fault.message);
        }
        fault
    }

    /// Reads the value of an `error` member. `None` when it reports nothing: some hosts always send
    /// the member.
    pub(super) fn of_error(error: Option<&RawValue>) -> Option<Self> {
        let mut fault = Self::default();
        fault.take(&Body { error, ..Body::default() }, 0);
        let said = [&fault.message, &fault.kind, &fault.code];
        said.iter()
            .any(|part| !matches!(part.as_str(), "" | "false" | "{}" | "[]"))
            .then_some(fault)
    }

    /// Outer members first, then those of the nested error, which overwrite them.
    fn take(&mut self, body: &Body<'_>, depth: u8) {
        let set = |to: &mut String, value: Option<&RawValue>| {
            let text = value.map(plain).unwrap_or_default();
            if !text.is_empty() {
                *to = text;
            }
        };
        set(&mut self.kind, body.status);
        set(&mut self.kind, body.kind);
        set(&mut self.code, body.code);
        // FastAPI hosts list what is wrong with a request, and echo the request beside it.
        let detail = body.detail.map_or("", RawValue::get);
        match object(detail).and_then(|json| serde_json::from_str(json).ok()) {
            Some(nested) if depth < 3 => self.take(&nested, depth + 1),
            _ => set(&mut self.message, body.detail),
        }
        set(&mut self.message, body.msg);
        set(&mut self.message, body.message);
        if let Some(error) = body.error {
            // Gateways wrap the errors of gateways; three levels were seen at most.
            if error.get().starts_with('{') && depth < 3 {
                let nested: Body<'_> = members(Some(error)).unwrap_or_default();
                self.take(&nested, depth + 1);
                if self.message.is_empty() && nested.message.is_none() {
                    set(&mut self.message, Some(error));
                }
            } else if self.message.is_empty() {
                set(&mut self.message, Some(error));
            } else {
                set(&mut self.kind, Some(error));
            }
        }
        // OpenRouter: "Provider returned error", and what the provider said.
        let metadata: Metadata<'_> = members(body.metadata).unwrap_or_default();
        if let Some(raw) = metadata.raw.map(plain).filter(|raw| !raw.is_empty()) {
            self.message.push_str(": ");
            self.message.push_str(&raw);
        }
        // MiniMax answers errors with 200 and this.
        let base: BaseResp<'_> = members(body.base_resp).unwrap_or_default();
        if base.status_code.is_some_and(|code| code.get() != "0") {
            set(&mut self.code, base.status_code);
            set(&mut self.message, base.status_msg);
        }
    }

    /// The failure as it is reported inside a stream.
    pub(super) fn in_stream(self) -> ModelError {
        ModelError::InStream { status: self.status(), message: redact(&self.message, &[]) }
    }

    /// The status that would have said the same.
    fn status(&self) -> Option<u16> {
        let table: [(u16, &[&str]); 11] = [
            (402, QUOTA),
            (413, TOO_LONG),
            (529, &["overloaded_error", "overloaded"]),
            (
                429,
                &[
                    "rate_limit_error",
                    "rate_limit_exceeded",
                    "resource_exhausted",
                    "too_many_requests",
                    "1002",
                    "1039",
                ],
            ),
            (401, &["authentication_error", "invalid_api_key", "1004"]),
            (403, &["permission_error"]),
            (404, &["not_found_error", "model_not_found"]),
            (400, &["invalid_request_error"]),
            (
                500,
                &[
                    "api_error",
                    "server_error",
                    "internal_error",
                    "internal_server_error",
                    "1000",
                    "1001",
                    "1013",
                    "1033",
                ],
            ),
            (503, &["service_unavailable", "unavailable"]),
            (504, &["timeout_error"]),
        ];
        let number = self.code.parse().ok().filter(|code| (400..600).contains(code));
        // A general type such as `invalid_request_error` stands beside a precise code.
        let quota = self.is(QUOTA).then_some(402);
        quota
            .or(number)
            .or_else(|| table.iter().find(|(_, names)| self.is(names)).map(|(status, _)| *status))
    }

    /// Sorts the failure of a response with `status`. `body` is searched for names of quotas only.
    pub(super) fn sort(&self, status: u16, body: &str) -> Sort {
        let message = self.message.to_ascii_lowercase();
        // A body that was not understood may echo the request, whose words mean nothing here.
        let clear = !message.starts_with(['{', '[']);
        let says = |words: &[&str]| clear && words.iter().any(|words| message.contains(words));
        let client = (400..500).contains(&status);
        // Gemini names the quota that ran out; one per day is not worth a wait.
        let per_day = status == 429 && body.contains("PerDay");
        if status == 402 || per_day || client && (self.is(QUOTA) || says(QUOTA_WORDS)) {
            return Sort::Quota;
        }
        let too_long = match status {
            413 => true,
            400 | 422 | 500 => self.is(TOO_LONG) || says(TOO_LONG_WORDS),
            // OpenAI: one request is larger than a minute's tokens, so no wait helps.
            429 => message.starts_with("request too large"),
            _ => false,
        };
        if too_long {
            return Sort::ContextTooLong;
        }
        match status {
            // OpenRouter's moderation has nothing to do with the key.
            403 if says(&["moderation", "flagged"]) => Sort::Refused,
            401 | 403 => Sort::Unauthorized,
            // Gemini and xAI answer a wrong key so.
            400 if self.is(&["invalid_api_key"])
                || says(&["api key not valid", "incorrect api key", "invalid api key"]) =>
            {
                Sort::Unauthorized
            }
            404 if self.is(NO_MODEL) || says(&["model", "no endpoints found"]) => {
                Sort::ModelNotFound
            }
            400 | 422 if self.is(NO_MODEL) || says(NO_MODEL_WORDS) => Sort::ModelNotFound,
            429 => Sort::RateLimited,
            _ if is_passing(status) => Sort::Overloaded,
            _ => Sort::Refused,
        }
    }

    fn is(&self, names: &[&str]) -> bool {
        let has = |own: &str| names.iter().any(|name| name.eq_ignore_ascii_case(own));
        has(&self.code) || has(&self.kind)
    }
}

/// Statuses of a state that passes: rate limits, failures of the server, Groq's 498 and Anthropic's
/// 529 among them.
pub(super) const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 498 | 500..=599)
}

/// How long a provider asks to wait, at most an hour. Dates are not understood, for there is no
/// clock here.
pub(super) fn wait(header: &dyn Fn(&str) -> Option<String>, body: &str) -> Option<Duration> {
    let number = |name: &str| header(name)?.trim().parse::<f64>().ok();
    number("retry-after-ms")
        .and_then(|ms| bounded(ms / 1000.0))
        .or_else(|| number("retry-after").and_then(bounded))
        .or_else(|| reset(header))
        .or_else(|| asked(&body.to_ascii_lowercase()))
}

/// When the exhausted limit, or else the slower one, is restored.
fn reset(header: &dyn Fn(&str) -> Option<String>) -> Option<Duration> {
    let mut slowest = None;
    for (left, until) in [
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ] {
        // Plain numbers are left alone: OpenRouter puts a date in milliseconds here.
        let wait = header(until).and_then(|text| span(&text.to_ascii_lowercase()));
        if wait.is_some() && header(left).is_some_and(|left| left.trim() == "0") {
            return wait;
        }
        slowest = slowest.max(wait);
    }
    slowest
}

/// A wait in the text of the body: Gemini's `RetryInfo`, or a sentence.
fn asked(body: &str) -> Option<Duration> {
    const LEADS: [&str; 4] = ["retrydelay", "try again in ", "retry in ", "retry after "];
    LEADS.iter().find_map(|lead| {
        body.match_indices(lead).find_map(|(at, _)| {
            let tail = &body[at + lead.len()..];
            // The body may stand escaped in another one.
            span(tail.trim_start_matches(['\\', '"', ':', ' ']))
        })
    })
}

/// Reads a span such as `28ms`, `1.898s`, `6m0s` or `20 seconds` at the front of `text`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut sum = None;
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != '.') {
        let (digits, tail) = rest.split_at(end);
        let tail = tail.strip_prefix(' ').unwrap_or(tail);
        let unit = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let Ok(number) = digits.parse::<f64>() else { break };
        let unit_s = match unit {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => break,
        };
        sum = Some(sum.unwrap_or(0.0) + number * unit_s);
        rest = tail;
    }
    sum.and_then(bounded)
}

fn bounded(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST_S)))
}

/// A value as text: a string unescaped, anything else as it is written.
fn plain(json: &RawValue) -> String {
    let Some(inner) = quoted(json) else {
        let text = json.get();
        return if text == "null" { String::new() } else { text.to_owned() };
    };
    let mut text = String::with_capacity(inner.len());
    let mut half = 0;
    unescape(inner, &mut text, &mut half);
    if half != 0 {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text
}

// OpenAI, Anthropic, Moonshot, then Z.ai's numbers and MiniMax's.
const QUOTA: &[&str] = &[
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "exceeded_current_quota_error",
    "insufficient_balance",
    "1113",
    "1309",
    "1311",
    "1008",
];
// "exceeded your current quota" is absent: Gemini says it of every limit per minute.
const QUOTA_WORDS: &[&str] =
    &["credit balance is too low", "insufficient balance", "insufficient credit"];
const TOO_LONG: &[&str] =
    &["context_length_exceeded", "exceed_context_size_error", "request_too_large"];
// OpenAI and its like, Anthropic, llama.cpp, Gemini.
const TOO_LONG_WORDS: &[&str] = &[
    "context length",
    "maximum context",
    "context window",
    "context limit",
    "context size",
    "prompt is too long",
    "input is too long",
    "input token count",
];
const NO_MODEL: &[&str] = &["model_not_found", "1211"];
// OpenRouter, Mistral and LiteLLM, DeepSeek, Z.ai, compatible hosts.
const NO_MODEL_WORDS: &[&str] = &[
    "not a valid model",
    "invalid model",
    "model not exist",
    "unknown model",
    "model not found",
    "model does not exist",
];

/// An error body, or the error inside it; the names of all providers together.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    base_resp: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    raw: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BaseResp<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow)]
    status_msg: Option<&'a RawValue>,
}
