//! A provider of language models on loopback that misbehaves as told: every request gets the next [`Script`], and
//! everything that happens is kept in one log.
//!
//! A script stops at each gate until the test says [`Provider::go`], so a test decides what its agent can have seen
//! at any moment. Who closed a connection is told apart: [`Event::HungUp`] is the agent, [`Event::Closed`] a script.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "every test file uses its own part; these are tests, with threads and clocks of their own"
)]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two pieces of an endless stream.
const PACE: Duration = Duration::from_millis(5);
/// Longest request head.
const HEAD: usize = 64 * 1024;

/// A running provider. Its threads end when it is dropped.
#[derive(Debug)]
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// What happened. Requests and connections are numbered from 0. Events of one connection stand in their order;
/// those of two may change places when they lie close together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection came in.
    Connected(usize),
    /// A request was read to its end.
    Asked(usize),
    /// The script of a request stands at a gate.
    Waiting(usize),
    /// The script of a request has come to its end.
    Played(usize),
    /// The agent closed or reset the connection.
    HungUp(usize),
    /// A script closed or reset the connection.
    Closed(usize),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// On which connection.
    pub connection: usize,
    pub method: String,
    pub path: String,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// `role: text` of every message, in order.
    pub fn said(&self) -> Vec<String> {
        let body = self.json();
        let messages = body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|one| {
                format!("{}: {}", one["role"].as_str().unwrap(), one["content"].as_str().unwrap())
            })
            .collect()
    }
}

/// What a reply does, step by step.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Gate,
    /// Sends this until the agent is gone, at most for [`DEADLINE`].
    Endless(Vec<u8>),
    /// Does nothing until the agent is gone.
    Hold,
    Close,
    Reset,
}

/// The reply to one request.
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
    chunked: bool,
}

impl Script {
    /// A whole reply with a length.
    pub fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let mut head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        Self::default().raw(format!("{head}\r\n{body}"))
    }

    /// Silence, not even a head.
    pub fn silent() -> Self {
        Self::default().hold()
    }

    /// The head of an event stream in chunks.
    pub fn stream() -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        Self { chunked: true, ..Self::default().raw(head) }
    }

    /// The head of an event stream that ends with its connection.
    pub fn open_stream() -> Self {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        Self::default().raw(head)
    }

    /// A good reply in one stream, without gates.
    pub fn good(form: Form, tokens: &[&str]) -> Self {
        let mut script = Self::stream().piece(form.opening());
        for token in tokens {
            script = script.piece(form.token(token));
        }
        script.piece(form.finish()).end()
    }

    /// A good reply that waits before every token and before its end.
    pub fn gated(form: Form, tokens: &[&str]) -> Self {
        let mut script = Self::stream().piece(form.opening());
        for token in tokens {
            script = script.gate().piece(form.token(token));
        }
        script.gate().piece(form.finish()).end()
    }

    /// Bytes of the body, as one chunk where there are chunks.
    pub fn piece(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        if !self.chunked {
            return self.raw(bytes);
        }
        let framed = in_chunk(bytes);
        self.raw(framed)
    }

    /// Every byte of the body as a piece of its own.
    pub fn bytewise(self, bytes: impl AsRef<[u8]>) -> Self {
        bytes.as_ref().iter().fold(self, |script, byte| script.piece([*byte]))
    }

    /// The end of a body in chunks.
    pub fn end(self) -> Self {
        self.raw("0\r\n\r\n")
    }

    /// Bytes as they are.
    pub fn raw(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Waits for the test.
    pub fn gate(self) -> Self {
        self.then(Step::Gate)
    }

    /// The same script behind a gate of its own.
    pub fn behind_a_gate(mut self) -> Self {
        self.steps.insert(0, Step::Gate);
        self
    }

    /// This piece again and again.
    pub fn endless(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let framed = if self.chunked { in_chunk(bytes) } else { bytes.to_vec() };
        self.then(Step::Endless(framed))
    }

    /// Nothing more, with the connection open.
    pub fn hold(self) -> Self {
        self.then(Step::Hold)
    }

    /// Closes the connection.
    pub fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// Breaks the connection off with a reset.
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn resets(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Reset))
    }
}

fn in_chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The words of the two kinds of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    OpenAi,
    Anthropic,
}

impl Form {
    /// What comes before the first token.
    pub fn opening(self) -> String {
        match self {
            Self::OpenAi => {
                frame(&json!({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}))
            }
            Self::Anthropic => {
                let usage = json!({"input_tokens": 11, "output_tokens": 1});
                named(&json!({"type": "message_start", "message": {"usage": usage}}))
            }
        }
    }

    /// One piece of the text.
    pub fn token(self, text: &str) -> String {
        match self {
            Self::OpenAi => frame(
                &json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}),
            ),
            Self::Anthropic => named(&json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": text}})),
        }
    }

    /// The finish reason, the counts (11 tokens in, 7 out) and the end mark.
    pub fn finish(self) -> String {
        match self {
            Self::OpenAi => {
                let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
                let usage = json!({"choices": [],
                    "usage": {"prompt_tokens": 11, "completion_tokens": 7}});
                format!("{}{}data: [DONE]\n\n", frame(&last), frame(&usage))
            }
            Self::Anthropic => {
                let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                    "usage": {"output_tokens": 7}});
                format!("{}{}", named(&delta), named(&json!({"type": "message_stop"})))
            }
        }
    }

    /// The same reply as one document.
    pub fn document(self, text: &str) -> String {
        match self {
            Self::OpenAi => json!({"choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7}})
            .to_string(),
            Self::Anthropic => json!({"type": "message", "role": "assistant",
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 11, "output_tokens": 7}})
            .to_string(),
        }
    }
}

/// An event without a name.
pub fn frame(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// An event whose name is its type.
pub fn named(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

impl Provider {
    /// A provider that gives each request, in the order they come, one of these scripts. When they are used up it
    /// answers `fine` in the `OpenAI` form.
    pub fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { scripts: scripts.into_iter().collect(), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let house = shared.clone();
        std::thread::spawn(move || accept(&listener, &house));
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens the next gate of a request's script.
    pub fn go(&self, request: usize) {
        let mut state = self.shared.lock();
        let at = request + 1;
        if state.open.len() < at {
            state.open.resize(at, 0);
        }
        state.open[request] += 1;
        self.shared.changed.notify_all();
    }

    /// Waits for an event and returns its place in the log.
    pub fn wait(&self, event: Event) -> usize {
        self.wait_within(event, DEADLINE)
    }

    /// [`Provider::wait`] with a deadline of its own.
    pub fn wait_within(&self, event: Event, deadline: Duration) -> usize {
        let place = |state: &mut State| state.log.iter().position(|seen| *seen == event);
        self.shared.until(deadline, place).unwrap_or_else(|| {
            panic!("no {event:?} within {deadline:?}; log: {:?}", self.log());
        })
    }

    /// Waits for a request and returns it.
    pub fn asked(&self, request: usize) -> Asked {
        self.wait(Event::Asked(request));
        self.shared.lock().requests[request].clone()
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Asked> {
        self.shared.lock().requests.clone()
    }

    /// Everything so far.
    pub fn log(&self) -> Vec<Event> {
        self.shared.lock().log.clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        for stream in state.streams.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
        drop(state);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

#[derive(Debug, Default)]
struct State {
    scripts: VecDeque<Script>,
    log: Vec<Event>,
    requests: Vec<Asked>,
    /// Gates opened and not yet passed, by request.
    open: Vec<usize>,
    /// By connection: whether it is over, whoever ended it.
    over: Vec<bool>,
    streams: Vec<Weak<TcpStream>>,
    stopped: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, event: Event) {
        self.lock().log.push(event);
        self.changed.notify_all();
    }

    /// Waits until `look` finds something, or returns `None` when it is too late.
    fn until<T>(
        &self,
        deadline: Duration,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl State {
    fn is_over(&self, connection: usize) -> bool {
        self.stopped || self.over[connection]
    }

    /// Whether a script goes on behind its gate; `None` while it is to wait.
    fn pass(&mut self, request: usize, connection: usize) -> Option<bool> {
        match self.open.get_mut(request) {
            Some(open) if *open > 0 => {
                *open -= 1;
                Some(true)
            }
            _ => self.is_over(connection).then_some(false),
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(DEADLINE));
        let stream = Arc::new(stream);
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        let number = state.over.len();
        state.over.push(false);
        state.streams.push(Arc::downgrade(&stream));
        state.log.push(Event::Connected(number));
        drop(state);
        shared.changed.notify_all();
        let shared = shared.clone();
        std::thread::spawn(move || converse(&shared, number, stream));
    }
}

/// One connection: reads requests until it ends. Each script plays on a thread of its own, so that the end is seen
/// while one plays.
fn converse(shared: &Arc<Shared>, number: usize, stream: Arc<TcpStream>) {
    let mut players = Vec::new();
    let mut resets = false;
    while !resets && let Ok((request, script)) = read_request(shared, number, &stream) {
        resets = script.resets();
        let (house, line) = (shared.clone(), stream.clone());
        players.push(std::thread::spawn(move || play(&house, request, number, &line, &script)));
    }
    let mut hung_up = false;
    if !resets {
        let mut state = shared.lock();
        hung_up = !state.over[number];
        if hung_up {
            state.over[number] = true;
            state.log.push(Event::HungUp(number));
        }
        drop(state);
        shared.changed.notify_all();
    }
    for player in players {
        let _ = player.join();
    }
    drop(stream);
    if !hung_up {
        shared.note(Event::Closed(number));
    }
}

fn play(shared: &Shared, request: usize, number: usize, stream: &TcpStream, script: &Script) {
    let mut stream = stream;
    for step in &script.steps {
        let goes_on = match step {
            Step::Send(bytes) => stream.write_all(bytes).is_ok(),
            Step::Gate => {
                shared.note(Event::Waiting(request));
                shared.until(DEADLINE, |state| state.pass(request, number)) == Some(true)
            }
            Step::Endless(bytes) => {
                let end = Instant::now() + DEADLINE;
                while Instant::now() < end
                    && shared.until(PACE, |state| state.is_over(number).then_some(())).is_none()
                    && stream.write_all(bytes).is_ok()
                {}
                false
            }
            Step::Hold => {
                shared.until(DEADLINE, |state| state.is_over(number).then_some(()));
                false
            }
            Step::Close | Step::Reset => {
                shared.lock().over[number] = true;
                if matches!(step, Step::Close) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                false
            }
        };
        if !goes_on {
            return;
        }
    }
    shared.note(Event::Played(request));
}

/// Reads one request and takes the script for it.
fn read_request(
    shared: &Shared,
    connection: usize,
    mut stream: &TcpStream,
) -> io::Result<(usize, Script)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let mut asked = Asked {
        connection,
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: String::new(),
    };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut state = shared.lock();
    let request = state.requests.len();
    state.requests.push(asked.clone());
    let good = || Script::good(Form::OpenAi, &["fine"]);
    let script = state.scripts.pop_front().unwrap_or_else(good);
    drop(state);
    let mut body = vec![0; length];
    if let Some((last, rest)) = body.split_last_mut() {
        stream.read_exact(rest)?;
        if script.resets() {
            // Left in the socket: closing it with bytes unread resets the connection.
            stream.peek(std::slice::from_mut(last))?;
        } else {
            stream.read_exact(std::slice::from_mut(last))?;
        }
    }
    asked.body = String::from_utf8_lossy(&body).into_owned();
    let mut state = shared.lock();
    state.requests[request] = asked;
    state.log.push(Event::Asked(request));
    drop(state);
    shared.changed.notify_all();
    Ok((request, script))
}

/// An address where connecting never comes to an end: it listens, and its queue is full.
#[derive(Debug)]
pub struct Blackhole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Blackhole {
    pub fn start() -> Self {
        // The standard library asks for a queue of 128.
        const MANY: usize = 600;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_millis(300);
        let queue: Vec<_> =
            (0..MANY).map_while(|_| TcpStream::connect_timeout(&address, patience).ok()).collect();
        assert!(queue.len() < MANY, "the queue does not fill");
        Self { address, _listener: listener, _queue: queue }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
