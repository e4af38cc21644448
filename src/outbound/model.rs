//! One turn with a provider: send the request, read the reply as it comes, say how it ended.
//!
//! The timers of a reply (first payload, silence, whole turn) are the engine's; it fires the job's `Cancel`, which
//! shuts this thread's ureq agent down and with it the socket. `timeout_per_read` is the second line of defence.
//! An agent that was shut down, or that failed, is not used again.

use std::io::Read;
use std::time::Duration;

use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderMap, HeaderValue, Response};
use ureq::{Agent, Body};

use crate::base::budget::Lease;
use crate::base::secret::Secret;
use crate::base::sse::{Item, Parser, SseError};
use crate::config::Relay;
use crate::config::providers::{Form as Spoken, Route, endpoint};
use crate::llm::{Delta, Form, ModelError, Reply, Turn, TurnEnd};
use crate::outbound::failure::{Failure, Place};
use crate::outbound::http::{Timeouts, agent};
use crate::outbound::tls::Tls;
use crate::work::Cancel;

/// Bytes read at once.
const CHUNK: usize = 8 * 1024;
/// Longest line or event of a stream: many times what a token takes, and a whole reply of a modest host. A thread
/// may hold one of each, and `base::limits::RELAY_BYTES` counts them.
const LINE: usize = 128 * 1024;
/// Bytes of an error's body that are looked at.
const ERROR_BODY: u64 = 4 * 1024;
/// For each write of the request.
const WRITE: Duration = Duration::from_secs(30);
/// A read of the socket outlives every timer of the engine by this much: the engine knows better what was missed.
const SPARE: Duration = Duration::from_secs(5);
/// Bytes read after the reply's end, so that the connection can be used again.
const TAIL: usize = 64 * 1024;

/// What a reply is made of.
#[derive(Debug)]
pub enum Piece<'a> {
    /// The next text.
    Text(&'a str),
    /// A sign of life without text.
    Alive,
    /// The model gave a reason to end; only counts and the form's end mark can follow.
    Whole(TurnEnd),
    /// The reply is complete; what follows only tidies the connection.
    End(Result<TurnEnd, ModelError>),
}

/// One thread's line to the provider; keeps its connection between turns.
#[derive(Debug)]
pub struct Line {
    route: Route,
    relay: Relay,
    tls: Tls,
    agent: Option<Agent>,
}

impl Line {
    /// A line that connects when it is first used.
    pub fn new(route: Route, relay: Relay, tls: Tls) -> Self {
        Self { route, relay, tls, agent: None }
    }

    /// Carries out one turn. `each` gets every piece in order, and [`Piece::End`] exactly once.
    ///
    /// What a provider sends at once, instead of as a stream, is held on `lease`.
    pub fn turn(
        &mut self,
        turn: &Turn,
        cancel: &Cancel,
        lease: &mut Lease,
        each: &mut dyn FnMut(Piece<'_>),
    ) {
        let pooled = self.agent.is_some();
        let mut outcome = self.attempt(turn, cancel, lease, each);
        // A kept connection may have been closed by the other side while nobody looked.
        if let Err(Attempt::NoReply(_)) = outcome
            && pooled
            && !cancel.is_fired()
        {
            self.agent = None;
            outcome = self.attempt(turn, cancel, lease, each);
        }
        cancel.clear();
        if outcome.is_err() || cancel.is_fired() {
            self.agent = None;
        }
        if let Err(Attempt::NoReply(error) | Attempt::Failed(error)) = outcome {
            let error = if cancel.is_fired() { ModelError::Canceled } else { error };
            let key = self.route.provider.key.as_ref();
            each(Piece::End(Err(error.without(key.as_slice()))));
        }
    }

    fn attempt(
        &mut self,
        turn: &Turn,
        cancel: &Cancel,
        lease: &mut Lease,
        each: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), Attempt> {
        let provider = &self.route.provider;
        let form = match provider.form {
            Spoken::OpenAi => Form::OpenAi,
            Spoken::Anthropic => Form::Anthropic,
        };
        let url = endpoint(&provider.base_url, form.path());
        let relay = &self.relay;
        let first = relay.first_payload(provider);
        let line = self.agent.get_or_insert_with(|| {
            let read = relay.connect + first.max(relay.idle) + SPARE;
            agent(&url, Timeouts { connect: relay.connect, read, write: WRITE }, &self.tls)
        });
        let stopper = line.clone();
        cancel.on_fire(move || stopper.shutdown());
        if cancel.is_fired() {
            return Err(Attempt::Failed(ModelError::Canceled));
        }
        let mut request = line
            .post(&url)
            .header("content-type", "application/json")
            .header("accept", "text/event-stream, application/json")
            .header("accept-encoding", "identity");
        for (name, value) in form.fixed_headers() {
            request = request.header(*name, *value);
        }
        if let Some(key) = &provider.key {
            let (name, before) = form.key_header();
            let mut value = HeaderValue::from_str(&format!("{before}{}", key.expose()))
                .map_err(|_| Attempt::Failed(unusable_key()))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let response = request.send(form.body(turn)).map_err(|error| no_reply(&error))?;
        read_reply(form, response, provider.key.as_ref(), self.relay.reply_bytes, lease, each)
    }
}

/// How a try went wrong.
enum Attempt {
    /// Not a byte of a reply came.
    NoReply(ModelError),
    /// Something came.
    Failed(ModelError),
    /// The end was told already; only the connection is not to be used again.
    Untidy,
}

impl From<ModelError> for Attempt {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

fn unusable_key() -> ModelError {
    let message = "the key holds characters that cannot be sent".to_owned();
    ModelError::Unauthorized { status: 401, message }
}

/// Sorts a failure in front of the reply. The text goes to callers as well, so it does not name the host.
fn no_reply(error: &ureq::Error) -> Attempt {
    let failure = Failure::of(error);
    let what = failure.explain(&PROVIDER);
    if failure.is_before_request() {
        Attempt::Failed(ModelError::Connect { what })
    } else if failure == Failure::NoAnswer {
        Attempt::Failed(ModelError::Transport { what })
    } else {
        Attempt::NoReply(ModelError::Transport { what })
    }
}

/// The operator knows what stands in the configuration.
const PROVIDER: Place<'_> = Place {
    url: "BASE-URL",
    who: "the provider",
    host: "HOST",
    spot: "the provider's base URL",
    shows_proxy: false,
};

fn read_reply(
    form: Form,
    mut response: Response<Body>,
    key: Option<&Secret>,
    reply_bytes: usize,
    lease: &mut Lease,
    each: &mut dyn FnMut(Piece<'_>),
) -> Result<(), Attempt> {
    if response.status() != 200 {
        return Err(refusal(&mut response, key).into());
    }
    let is_stream = text_of(response.headers(), CONTENT_TYPE.as_str())
        .is_none_or(|media_type| !media_type.trim_start().starts_with("application/json"));
    let body = response.body_mut().as_reader();
    if is_stream {
        read_stream(form, body, each)
    } else {
        read_document(form, body, reply_bytes + LINE, lease, each)
    }
}

/// What a status other than 200 means.
fn refusal(response: &mut Response<Body>, key: Option<&Secret>) -> ModelError {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // What can be read of it is good enough.
    let _ = response.body_mut().as_reader().take(ERROR_BODY).read_to_end(&mut body);
    let headers = response.headers();
    let header = |name: &str| text_of(headers, name);
    ModelError::from_status(status, &header, &String::from_utf8_lossy(&body), key.as_slice())
}

/// Some hosts answer a request for a stream with one document, which may have `limit` bytes.
fn read_document(
    form: Form,
    mut body: impl Read,
    limit: usize,
    lease: &mut Lease,
    each: &mut dyn FnMut(Piece<'_>),
) -> Result<(), Attempt> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK].into_boxed_slice();
    loop {
        let read = body.read(&mut chunk).map_err(|error| broken(&error))?;
        if read == 0 {
            break;
        }
        if bytes.len() + read > limit || !lease.grow(read) {
            return Err(ModelError::TooLarge { limit: bytes.len() }.into());
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
    let json = String::from_utf8(bytes)
        .map_err(|_| ModelError::Malformed { what: "the reply is not UTF-8" })?;
    let mut reply = Reply::new(form);
    reply.whole(&json, &mut |delta| each(piece(delta)))?;
    each(Piece::End(reply.end()));
    Ok(())
}

fn read_stream(
    form: Form,
    mut body: impl Read,
    each: &mut dyn FnMut(Piece<'_>),
) -> Result<(), Attempt> {
    let mut reply = Reply::new(form);
    let mut parser = Parser::new(LINE);
    let mut chunk = vec![0; CHUNK].into_boxed_slice();
    let mut is_whole = false;
    while !reply.is_closed() {
        let read = match body.read(&mut chunk) {
            Ok(read) => read,
            // A connection that breaks behind a complete reply has done its duty.
            Err(_) if reply.is_finished() => 0,
            Err(error) => return Err(broken(&error).into()),
        };
        if read == 0 {
            each(Piece::End(Ok(reply.end()?)));
            return Ok(());
        }
        let mut input = &chunk[..read];
        while let Some(item) = parser.read(&mut input).map_err(unreadable)? {
            if let Item::Frame { event, data } = item {
                reply.frame(event, data, &mut |delta| each(piece(delta)))?;
            }
        }
        if !is_whole && reply.is_finished() && !reply.is_closed() {
            is_whole = true;
            each(Piece::Whole(reply.end()?));
        }
    }
    each(Piece::End(Ok(reply.end()?)));
    // The engine has its answer; only the last chunk's end is missing, and it gives this little time.
    let mut tail = 0;
    while tail < TAIL {
        match body.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => tail += read,
            Err(_) => break,
        }
    }
    Err(Attempt::Untidy)
}

fn piece(delta: Delta<'_>) -> Piece<'_> {
    match delta {
        Delta::Text(text) => Piece::Text(text),
        Delta::Thinking => Piece::Alive,
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn broken(error: &std::io::Error) -> ModelError {
    ModelError::Transport { what: Failure::of_io(error).explain(&PROVIDER) }
}

fn unreadable(error: SseError) -> ModelError {
    match error {
        SseError::TooLong { cap } => ModelError::TooLarge { limit: cap },
        SseError::NotUtf8 => ModelError::Malformed { what: "the stream is not UTF-8" },
    }
}
