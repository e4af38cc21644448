//! A client of other A2A agents over JSON-RPC 0.3: one call, or one event stream. The command line uses it.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::a2a::read::Str;
use crate::base::json::Json;
use crate::base::sse::{Item, Parser};
use crate::outbound::http::{Timeouts, agent};

/// Bytes of a reply, and of one event.
const REPLY: usize = 8 * 1024 * 1024;

/// A task may take its time: this is for one read, and streams show every fifteen seconds that they live.
const READ: Duration = Duration::from_mins(15);

/// Why a call brought no result.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody answers there.
    Connect {
        /// Where.
        url: String,
        /// Why.
        what: String,
    },
    /// The answer is not JSON-RPC.
    Http {
        /// Its status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// The agent's own error.
    Rpc {
        /// Its code.
        code: i64,
        /// Its text.
        message: String,
    },
    /// The answer makes no sense, or broke off.
    Broken(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { url, what } => write!(f, "no agent answers at {url}: {what}"),
            Self::Http { status, body } if body.is_empty() => write!(f, "HTTP status {status}"),
            Self::Http { status, body } => write!(f, "HTTP status {status}: {body}"),
            Self::Rpc { code, message } => write!(f, "{message} ({code})"),
            Self::Broken(what) => write!(f, "the agent's answer broke off: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// A line to one agent.
#[derive(Debug)]
pub struct Client {
    url: String,
    agent: Agent,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<Refusal<'a>>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    code: i64,
    #[serde(borrow)]
    message: Option<Str<'a>>,
}

impl Client {
    /// A client of the agent at `url`; connects when it is first used.
    pub fn new(url: &str) -> Self {
        let (connect, write) = (Duration::from_secs(10), Duration::from_secs(30));
        let agent = agent(url, Timeouts { connect, read: READ, write });
        Self { url: url.trim_end_matches('/').to_owned(), agent }
    }

    /// Where the agent is, without `/` at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Fetches a page below the agent's URL.
    pub fn page(&self, path: &str) -> Result<String, ClientError> {
        let response = self
            .agent
            .get(format!("{}{path}", self.url))
            .call()
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let body = whole(response)?;
        if status == 200 { Ok(body) } else { Err(ClientError::Http { status, body: cut(&body) }) }
    }

    /// Calls a method; the result is JSON.
    pub fn call(&self, method: &str, params: &str) -> Result<String, ClientError> {
        let response = self.post(method, params)?;
        let status = response.status().as_u16();
        result_of(&whole(response)?, status).map(str::to_owned)
    }

    /// Calls a method that streams; `each` gets the result of every event, and says whether to go on.
    pub fn stream(
        &self,
        method: &str,
        params: &str,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), ClientError> {
        let mut response = self.post(method, params)?;
        let status = response.status().as_u16();
        let is_stream = response
            .headers()
            .get("content-type")
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if !is_stream {
            // CodeTether's spawn answers a stream request with one task.
            each(result_of(&whole(response)?, status)?);
            return Ok(());
        }
        let mut body = response.body_mut().as_reader();
        let mut parser = Parser::new(REPLY);
        let mut chunk = vec![0; 8 * 1024];
        loop {
            let read = body.read(&mut chunk).map_err(|e| ClientError::Broken(e.to_string()))?;
            if read == 0 {
                return Ok(());
            }
            let mut input = &chunk[..read];
            loop {
                match parser.read(&mut input) {
                    Ok(Some(Item::Frame { data, .. })) => {
                        if !each(result_of(data, status)?) {
                            return Ok(());
                        }
                    }
                    Ok(Some(Item::Comment)) => {}
                    Ok(None) => break,
                    Err(error) => return Err(ClientError::Broken(error.to_string())),
                }
            }
        }
    }

    fn post(&self, method: &str, params: &str) -> Result<Response<Body>, ClientError> {
        let mut json = Json::with_capacity(params.len() + 96);
        json.open_object();
        json.member("jsonrpc", "2.0");
        json.key("id");
        json.number(1);
        json.member("method", method);
        json.key("params");
        json.raw(params);
        json.close_object();
        self.agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .send(json.as_str())
            .map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        let what = match error {
            ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection refused".to_owned()
            }
            other => other.to_string(),
        };
        ClientError::Connect { url: self.url.clone(), what }
    }
}

fn whole(mut response: Response<Body>) -> Result<String, ClientError> {
    let mut bytes = Vec::new();
    response
        .body_mut()
        .as_reader()
        .take(REPLY as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ClientError::Broken(error.to_string()))?;
    if bytes.len() > REPLY {
        return Err(ClientError::Broken(format!("longer than {REPLY} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| ClientError::Broken("not UTF-8".to_owned()))
}

fn result_of(body: &str, status: u16) -> Result<&str, ClientError> {
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(body) else {
        return Err(ClientError::Http { status, body: cut(body) });
    };
    match (answer.result, answer.error) {
        (_, Some(error)) => Err(ClientError::Rpc {
            code: error.code,
            message: error.message.map(|text| text.0.into_owned()).unwrap_or_default(),
        }),
        (Some(result), None) => Ok(result.get()),
        (None, None) => Err(ClientError::Http { status, body: cut(body) }),
    }
}

/// The beginning of a stranger's text, in one line.
fn cut(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
