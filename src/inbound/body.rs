//! Bodies: a request's, collected under a lease, and a reply's: bytes, or a feed that pulls events as they come.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::a2a::binding::Binding;
use crate::a2a::error::{A2aError, Busy};
use crate::a2a::model::TaskState;
use crate::a2a::op::Event;
use crate::a2a::write::event_len;
use crate::base::budget::{Budget, Lease};
use crate::base::ids::TaskId;
use crate::base::limits::{PARSE_FACTOR, SMALL_BODY, SMALL_REPLY, SPARE_BODIES};
use crate::base::secret::Digest;
use crate::base::sse::PING;
use crate::engine::feed::{Cursor, Read};
use crate::inbound::io::Progress;
use crate::inbound::service::Front;

/// A stream whose next event finds no room looks again so soon.
const ROOM_RETRY: Duration = Duration::from_millis(50);

/// A stream without events shows that it lives this often.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Why a request's body was not collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than allowed.
    TooLarge,
    /// No bytes are left for bodies.
    NoRoom,
    /// It ended before its end.
    Broken,
}

/// A request's body and the bytes leased for it and for what is made of it.
#[derive(Debug)]
pub struct Collected {
    /// The body.
    pub bytes: Bytes,
    _lease: Option<Lease>,
}

/// Where the bytes of bodies come from.
#[derive(Debug)]
pub struct Bodies {
    all: Budget,
    /// For small bodies when all else is taken, so that large ones cannot shut everybody out.
    spare: Budget,
    /// What replies may hold of all: readers take as long as they like, and requests must find room beside them.
    replies: Budget,
}

/// Room for a large reply.
#[derive(Debug)]
pub struct Room([Lease; 2]);

impl Room {
    /// Gives back what is over `bytes`.
    fn shrink_to(&mut self, bytes: usize) {
        for lease in &mut self.0 {
            debug_assert!(bytes <= lease.bytes(), "a reply is longer than it was measured");
            lease.shrink_to(bytes);
        }
    }
}

impl Bodies {
    /// `bytes` for all bodies, and a little beside for small ones.
    pub fn new(bytes: usize) -> Self {
        let replies = Budget::new(share_of_replies(bytes));
        Self { all: Budget::new(bytes), spare: Budget::new(SPARE_BODIES), replies }
    }

    /// From now on `bytes` for all bodies. What is held above them stays until it is sent.
    pub fn set_limit(&self, bytes: usize) {
        self.all.set_limit(bytes);
        self.replies.set_limit(share_of_replies(bytes));
    }

    /// Bytes leased now.
    pub fn used(&self) -> usize {
        self.all.used() + self.spare.used()
    }

    /// Bytes that can be leased.
    pub fn limit(&self) -> usize {
        self.all.limit() + self.spare.limit()
    }

    /// Room for a reply of at most `bytes`, until the reader has it; small ones need none of their own.
    ///
    /// # Errors
    /// `Busy` when other replies and requests hold what there is, `UnsupportedOperation` for a reply that is longer
    /// than all of them together may be.
    pub fn room(&self, bytes: usize) -> Result<Option<Room>, A2aError> {
        if bytes <= SMALL_REPLY {
            return Ok(None);
        }
        let limit = self.replies.limit();
        if bytes > limit {
            return Err(A2aError::UnsupportedOperation(format!(
                "the reply could be longer than {limit} bytes; ask for less of the task"
            )));
        }
        let leases = self.replies.take(bytes).zip(self.all.take(bytes));
        let room = leases.map(|(reply, all)| Some(Room([reply, all])));
        room.ok_or(A2aError::Busy { retry_after_s: 1, what: Busy::Replies })
    }

    /// Whether there is room for a reply of `bytes` now; cheaper to ask again and again than to measure the reply.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.room(bytes).is_ok()
    }

    /// Makes `lease` cover a body of `total` bytes and what is made of it.
    fn cover(&self, lease: &mut Option<Lease>, total: usize) -> Result<(), BodyError> {
        let wanted = total * PARSE_FACTOR;
        let covered = match lease {
            Some(lease) => {
                let more = wanted.saturating_sub(lease.bytes());
                more == 0 || lease.grow(more)
            }
            None => false,
        };
        if covered {
            return Ok(());
        }
        let small = || (total <= SMALL_BODY).then(|| self.spare.take(wanted)).flatten();
        // Given back first: it may be what is missing.
        *lease = None;
        *lease = self.all.take(wanted).or_else(small);
        if lease.is_some() { Ok(()) } else { Err(BodyError::NoRoom) }
    }
}

const fn share_of_replies(bytes: usize) -> usize {
    bytes / 8 * 5
}

/// Reads a request's body to its end. Only what has come is leased, not what was announced.
///
/// # Errors
/// See [`BodyError`]; nothing is kept then.
pub async fn collect(
    body: &mut Incoming,
    limit: usize,
    bodies: &Bodies,
) -> Result<Collected, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge);
    }
    let mut lease = None;
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    while let Some(frame) = next_frame(body).await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let total = first.len() + rest.len() + data.len();
        if total > limit {
            return Err(BodyError::TooLarge);
        }
        bodies.cover(&mut lease, total)?;
        // Most bodies come in one piece, which is then used as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(total);
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    let bytes = if rest.is_empty() { first } else { Bytes::from(rest) };
    Ok(Collected { bytes, _lease: lease })
}

async fn next_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// A reply's text, with the room it takes until it is sent.
pub fn held(text: String, room: Option<Room>) -> Bytes {
    struct Held(String, #[expect(dead_code, reason = "held until it is sent")] Room);
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    match room {
        Some(mut room) if text.len() > SMALL_REPLY => {
            room.shrink_to(text.len());
            Bytes::from_owner(Held(text, room))
        }
        _ => {
            debug_assert!(text.len() <= SMALL_REPLY, "a large reply without room");
            Bytes::from(text)
        }
    }
}

/// A reply's body. The connection is idle again once it is dropped.
#[derive(Debug)]
pub struct Reply {
    kind: Kind,
    progress: Rc<Progress>,
}

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Feed(Box<Feed>),
}

impl Reply {
    /// A body that is there already.
    pub fn whole(bytes: impl Into<Bytes>, progress: Rc<Progress>) -> Self {
        Self { kind: Kind::Whole(bytes.into()), progress }
    }

    /// A body that is read from a task's events.
    pub fn feed(feed: Feed, progress: Rc<Progress>) -> Self {
        Self { kind: Kind::Feed(Box::new(feed)), progress }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.progress.idle();
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut self.get_mut().kind {
            Kind::Whole(bytes) if bytes.is_empty() => None,
            Kind::Whole(bytes) => Some(std::mem::take(bytes)),
            Kind::Feed(feed) => match feed.poll(context) {
                Poll::Ready(data) => data,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.kind, Kind::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Feed(_) => SizeHint::default(),
        }
    }
}

/// A task's reader: holds on to the task until it is dropped.
#[derive(Debug)]
pub struct Reader {
    front: Rc<Front>,
    /// The task.
    pub id: TaskId,
}

impl Reader {
    /// Attaches to a task; the caller holds no borrow of the engine. `None` when there is no such task.
    pub fn attach(front: &Rc<Front>, id: TaskId) -> Option<Self> {
        let attached = front.cell.with(|engine, _| engine.attach(id));
        attached.then(|| Self { front: front.clone(), id })
    }

    /// Takes over an attachment that was made in the engine already.
    pub fn attached(front: &Rc<Front>, id: TaskId) -> Self {
        Self { front: front.clone(), id }
    }

    /// Waits until the task is settled. `false` when it is gone.
    pub async fn settled(&self) -> bool {
        std::future::poll_fn(|context| {
            self.front.cell.register(self.id.slot(), context);
            self.front.cell.with(|engine, _| match engine.task(self.id) {
                None => Poll::Ready(false),
                Some(task) if task.status.state.is_settled() => Poll::Ready(true),
                Some(_) => Poll::Pending,
            })
        })
        .await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.front.cell.with(|engine, _| engine.detach(self.id));
        self.front.cell.forget(self.id.slot());
    }
}

/// An event stream: the task as it stood, then its events until it settles.
#[derive(Debug)]
pub struct Feed {
    reader: Reader,
    binding: Binding,
    cursor: Cursor,
    until_final: bool,
    /// The first event, already written.
    first: Option<Bytes>,
    ended: bool,
    /// Changes of the callers that this stream has outlived.
    auth_changes: u32,
    /// The token by which its caller was let in.
    token: Option<Digest>,
    /// Bytes of the next event, which found no room when it was measured.
    wanted: usize,
    ping: Pin<Box<Sleep>>,
    _stream: StreamPermit,
}

/// One of the streams that may be open at once.
#[derive(Debug)]
pub struct StreamPermit(Rc<Front>);

impl StreamPermit {
    /// `None` when as many streams are open as may be.
    pub fn take(front: &Rc<Front>) -> Option<Self> {
        let open = front.streams.get();
        (open < front.limits.get().streams).then(|| {
            front.streams.set(open + 1);
            Self(front.clone())
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

impl Feed {
    /// A stream that begins with `first`, an event that is written already.
    pub fn new(
        reader: Reader,
        binding: Binding,
        cursor: Cursor,
        until_final: bool,
        first: Bytes,
        (permit, token): (StreamPermit, Option<Digest>),
    ) -> Self {
        let ping = Box::pin(sleep(PING_EVERY));
        let auth_changes = reader.front.auth_changes.get();
        let first = Some(first);
        Self {
            reader,
            binding,
            cursor,
            until_final,
            first,
            ended: false,
            auth_changes,
            token,
            wanted: 0,
            ping,
            _stream: permit,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let id = self.reader.id;
        let front = &self.reader.front;
        front.cell.register(id.slot(), context);
        let auth_changes = front.auth_changes.get();
        if self.auth_changes != auth_changes {
            self.auth_changes = auth_changes;
            let auth = front.auth.get();
            let token = self.token.as_ref();
            // Who follows a task of a known caller is that caller.
            let knows = |who: &_| auth.knows(who, token);
            if !front.cell.with(|engine, _| engine.owner(id).is_some_and(knows)) {
                self.ended = true;
                return Poll::Ready(None);
            }
        }
        if !front.in_flight.has_room(self.wanted) {
            return self.wait_for_room(context);
        }
        let (binding, cursor) = (&self.binding, &mut self.cursor);
        let wanted = &mut self.wanted;
        let until_final = self.until_final;
        let read = front.cell.with(|engine, _| {
            // Moved for good only once there is room for the event.
            let mut after = *cursor;
            // The frame to send, and whether the stream ends after it.
            Ok(match engine.read(id, &mut after) {
                None => (None, true),
                Some(Read::Event(event)) => {
                    *wanted = event_len(&event);
                    let room = front.in_flight.room(*wanted)?;
                    *wanted = 0;
                    *cursor = after;
                    let ends = match &event {
                        Event::Status { status, .. } => ends(status.state, until_final),
                        Event::Task(task) => ends(task.status.state, until_final),
                        Event::Artifact { .. } => false,
                        Event::Message { .. } => true,
                    };
                    (Some(held(binding.frame(&event, ends), room)), ends)
                }
                Some(Read::Pending) => {
                    *cursor = after;
                    let state = engine.task(id).map(|task| task.status.state);
                    (None, state.is_none_or(|state| ends(state, until_final)))
                }
            })
        });
        let (data, ended) = match read {
            Ok(read) => read,
            Err(A2aError::Busy { .. }) => return self.wait_for_room(context),
            Err(_) => (None, true),
        };
        self.ended = ended;
        match data {
            Some(data) => {
                self.ping.as_mut().reset(Instant::now() + PING_EVERY);
                Poll::Ready(Some(data))
            }
            None if ended => Poll::Ready(None),
            None => {
                if self.ping.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.ping.as_mut().reset(Instant::now() + PING_EVERY);
                Poll::Ready(Some(Bytes::from_static(PING.as_bytes())))
            }
        }
    }
}

impl Feed {
    fn wait_for_room(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.ping.as_mut().reset(Instant::now() + ROOM_RETRY);
        let _ = self.ping.as_mut().poll(context);
        Poll::Pending
    }
}

/// Whether a stream that shows `state` has shown everything.
const fn ends(state: TaskState, until_final: bool) -> bool {
    if until_final { state.is_final() } else { state.is_settled() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_room_beside_all_the_replies_that_are_under_way() {
        let bodies = Bodies::new(1024 * 1024);
        let mut held = Vec::new();
        while let Ok(room) = bodies.room(100_000) {
            held.push(room);
        }
        assert_eq!(held.len(), 6);
        bodies.cover(&mut None, 128 * 1024).unwrap();
        held.pop();
        assert!(bodies.has_room(100_000));
    }

    #[test]
    fn a_reply_that_never_finds_room_is_not_told_to_wait() {
        let bodies = Bodies::new(1024 * 1024);
        assert!(matches!(bodies.room(700_000), Err(A2aError::UnsupportedOperation(_))));
        let _held = bodies.room(600_000).unwrap();
        assert!(matches!(bodies.room(600_000), Err(A2aError::Busy { .. })));
    }

    #[test]
    fn lowered_bounds_leave_what_is_held_and_refuse_what_is_new() {
        let bodies = Bodies::new(1024 * 1024);
        let room = bodies.room(600_000).unwrap();
        let mut lease = None;
        bodies.cover(&mut lease, 30_000).unwrap();
        bodies.set_limit(64 * 1024);
        assert!(matches!(bodies.room(20_000), Err(A2aError::Busy { .. })));
        assert_eq!(bodies.cover(&mut None, 10_000), Err(BodyError::NoRoom));
        bodies.cover(&mut lease, 60_000).unwrap();
        drop((room, lease));
        assert!(bodies.room(20_000).is_ok());
    }

    #[test]
    fn a_reply_holds_what_it_has_until_it_is_gone() {
        let bodies = Bodies::new(1024 * 1024);
        let room = bodies.room(500_000).unwrap();
        let bytes = held("x".repeat(20_000), room);
        assert_eq!(bodies.used(), 20_000);
        drop(bytes);
        assert_eq!((bodies.used(), bodies.replies.used()), (0, 0));
    }
}
