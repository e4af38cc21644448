//! A stream of events: pulled one at a time by its reader, told apart at its end from one that broke off.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Body, BodyReader};

use crate::base::clock::Now;
use crate::base::sse::{Item, Parser};
use crate::outbound::client::error::{ClientError, refusal};
use crate::outbound::client::types::{Event, Mark, Raw, State};
use crate::outbound::client::{Interface, REPLY, result_of};

/// Bytes read at a time.
const CHUNK: usize = 8 * 1024;
/// Events that were written so far apart and come within a burst were held back.
const HELD: Duration = Duration::from_secs(3);
const BURST: Duration = Duration::from_millis(500);

/// What happens to a task, as it happens. Each item waits for the agent; an error is the last one.
///
/// The stream ends with a message, with a final state, or where the agent closes it while it waits for its caller.
/// Closed anywhere else it is [`ClientError::Lost`].
pub struct Events {
    at: Interface,
    source: Source,
    /// The last state that came.
    state: Option<State>,
    watch: Watch,
}

enum Source {
    Stream(Box<Stream>),
    /// An agent that answers a stream's call with one object.
    One(Raw),
    Over,
}

struct Stream {
    body: BodyReader<'static>,
    parser: Parser,
    chunk: Vec<u8>,
    /// What is read and not parsed yet.
    from: usize,
    to: usize,
}

impl Events {
    pub(super) fn stream(response: Response<Body>, at: Interface, watch: Watch) -> Self {
        let stream = Stream {
            body: response.into_body().into_reader(),
            parser: Parser::new(REPLY),
            chunk: vec![0; CHUNK],
            from: 0,
            to: 0,
        };
        Self { at, source: Source::Stream(Box::new(stream)), state: None, watch }
    }

    pub(super) fn one(raw: Raw, at: Interface) -> Self {
        Self { at, source: Source::One(raw), state: None, watch: Watch::default() }
    }

    /// The items as the agent sent them.
    pub fn raw(&mut self) -> impl Iterator<Item = Result<Raw, ClientError>> {
        std::iter::from_fn(|| self.next_raw())
    }

    /// Whether what came was kept somewhere on the way until the task was over, as proxies do that collect an answer
    /// before they pass it on. Known at the end of the stream.
    pub fn were_held_back(&self) -> bool {
        self.state.is_some_and(State::is_final) && self.watch.is_held()
    }

    /// The next item as the agent sent it; `None` at the end.
    pub fn next_raw(&mut self) -> Option<Result<Raw, ClientError>> {
        match std::mem::replace(&mut self.source, Source::Over) {
            Source::Over => None,
            // What goes on with an unfinished task is not this stream's matter.
            Source::One(raw) => Some(Ok(raw)),
            Source::Stream(mut stream) => {
                let raw = match stream.next(&self.at) {
                    Ok(Some(raw)) => raw,
                    Ok(None) if self.state.is_some_and(|it| it.is_final() || it.is_waiting()) => {
                        return None;
                    }
                    Ok(None) => {
                        let what = "it ended before the task did".to_owned();
                        return Some(Err(ClientError::Lost(what)));
                    }
                    Err(error) => return Some(Err(error)),
                };
                let mark = raw.mark();
                self.state = mark.state.or(self.state);
                self.watch.see(mark, Now::read().mono);
                if !mark.last {
                    self.source = Source::Stream(stream);
                }
                Some(Ok(raw))
            }
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_raw()?.and_then(|raw| raw.event()))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("at", &self.at).finish_non_exhaustive()
    }
}

/// When items were written, and when they came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    /// When the call was made.
    asked: Duration,
    /// Whether the task may be older than the call.
    is_late: bool,
    /// When the first item came, and whether it was a task at work, which agents send at once.
    first: Option<(Duration, bool)>,
    last: Duration,
    /// The first and the last time that stands in an item.
    written: Option<(u64, u64)>,
}

impl Watch {
    pub(super) fn new(asked: Duration, is_late: bool) -> Self {
        Self { asked, is_late, ..Self::default() }
    }

    fn see(&mut self, mark: Mark, now: Duration) {
        self.last = now;
        let is_first = self.first.is_none();
        if is_first {
            let begins = matches!(mark.state, Some(State::Submitted | State::Working));
            self.first = Some((now, mark.is_task && begins));
        }
        if let Some(at) = mark.unix_ms
            && !(is_first && self.is_late)
        {
            let (from, to) = self.written.unwrap_or((at, at));
            self.written = Some((from.min(at), to.max(at)));
        }
    }

    fn is_held(&self) -> bool {
        let Some((first, begins)) = self.first else { return false };
        let took = self.last.saturating_sub(first);
        let written = self.written.map_or(0, |(from, to)| to - from);
        let waited = first.saturating_sub(self.asked);
        u128::from(written) >= HELD.as_millis() && took < BURST
            || begins && waited >= HELD && took < BURST
    }
}

impl Stream {
    fn next(&mut self, at: &Interface) -> Result<Option<Raw>, ClientError> {
        loop {
            let mut input = &self.chunk[self.from..self.to];
            let item = self.parser.read(&mut input);
            self.from = self.to - input.len();
            match item.map_err(|error| ClientError::Broken(error.to_string()))? {
                Some(Item::Frame { event: "error", data }) => {
                    return Err(refusal(data, 200, None, at.version));
                }
                Some(Item::Frame { data, .. }) => {
                    return result_of(data, 200, None, at).map(Some);
                }
                Some(Item::Comment) => continue,
                None => {}
            }
            let read = self.body.read(&mut self.chunk);
            (self.from, self.to) = (0, read.map_err(|error| ClientError::Lost(error.to_string()))?);
            if self.to == 0 {
                return Ok(None);
            }
        }
    }
}
