//! A request of the protocol from its head to its reply: media type, version, body, decode, engine, encode.
//!
//! Errors are the protocol's own in the binding that the request came through, never plain text. JSON-RPC errors go
//! out with HTTP 200; "busy" with 503 and `Retry-After` on both bindings.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{sleep, timeout};

use crate::a2a::binding::Binding;
use crate::a2a::card::{Card, Extension};
use crate::a2a::dialect::{Dialect, Version};
use crate::a2a::error::{A2aError, Busy};
use crate::a2a::jsonrpc::{self, Id};
use crate::a2a::op::{Event, Operation, Principal, Scope};
use crate::a2a::rest::{self, Query, Target};
use crate::a2a::write::{View, event_len, hook_len, task_len};
use crate::base::ids::TaskId;
use crate::base::sse;
use crate::engine::feed::Cursor;
use crate::engine::{Engine, Outcome};
use crate::inbound::audit;
use crate::inbound::auth::Caller;
use crate::inbound::body::{
    self, BodyError, Collected, Feed, Reader, Reply, Room, StreamPermit, held,
};
use crate::inbound::service::{Front, JSON, Peer, closing, hinted, with_type};

const A2A_JSON: HeaderValue = HeaderValue::from_static("application/a2a+json");
/// 1.0's name of the header that lists extensions, and 0.3's.
const EXTENSIONS: [HeaderName; 2] =
    [HeaderName::from_static("a2a-extensions"), HeaderName::from_static("x-a2a-extensions")];
const A2A_VERSION: HeaderName = HeaderName::from_static("a2a-version");

/// Said where nothing is served.
const WHAT_IS_WHERE: &str = "the agent card is at /.well-known/agent-card.json; post JSON-RPC to / \
    (methods SendMessage, or message/send of 0.3), REST to /message:send, or to /v1/message:send of 0.3";

/// A reply waits this long before it looks for room again.
const ROOM_RETRY: Duration = Duration::from_millis(50);

/// Bytes around the elements of a list or a card, a request id of the longest included.
const LIST_HEAD: usize = 1024;

/// How the reply to one request goes.
#[derive(Debug)]
pub struct Way {
    binding: Binding,
    /// Whether the caller asked for 1.0's own media type.
    wants_a2a: bool,
    /// Whether a refusal goes out as the only event of the stream that was asked for. Clients of 0.3 JSON-RPC look for
    /// its code nowhere else, and the official servers put it there.
    in_stream: bool,
    /// For the audit log.
    asked: audit::Asked,
}

impl Way {
    /// As far as the head of a request tells.
    pub fn of(request: &Request<Incoming>) -> Self {
        Self::in_version(request, version(request))
    }

    fn in_version(request: &Request<Incoming>, version: Version) -> Self {
        let path = request.uri().path();
        if is_rpc(path) {
            let dialect = match version {
                Version::V03 => Dialect::V03,
                Version::V1 | Version::Other => Dialect::V1,
            };
            let binding = Binding::rpc(Id::null(), dialect);
            return Self {
                binding,
                wants_a2a: false,
                in_stream: false,
                asked: audit::Asked::default(),
            };
        }
        let dialect = Target::dialect_at(path);
        let wants_a2a = dialect == Dialect::V1
            && request
                .headers()
                .get_all(ACCEPT)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .any(accepts_a2a);
        let (binding, asked) = (Binding::rest(dialect), audit::Asked::default());
        Self { binding, wants_a2a, in_stream: false, asked }
    }

    fn media_type(&self) -> HeaderValue {
        if self.wants_a2a { A2A_JSON } else { JSON }
    }
}

/// Whether an `Accept` header asks for 1.0's own media type, which others only allow by a wildcard.
fn accepts_a2a(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_asked =
            parts.next().is_some_and(|it| it.eq_ignore_ascii_case("application/a2a+json"));
        let mut weight =
            parts.filter_map(|part| part.split_once('=')).filter(|(name, _)| *name == "q");
        is_asked && weight.all(|(_, weight)| weight.parse().is_ok_and(|weight: f32| weight > 0.0))
    })
}

/// Whether JSON-RPC is spoken at `path`.
fn is_rpc(path: &str) -> bool {
    matches!(path, "/" | "/a2a/jsonrpc" | "/a2a/jsonrpc/")
}

/// What a request says of the protocol's version, in its header or else in its query (A2A 1.0 §3.6.1).
fn version(request: &Request<Incoming>) -> Version {
    if let Some(value) = request.headers().get(A2A_VERSION) {
        return value.to_str().map_or(Version::Other, Version::parse);
    }
    let query = request.uri().query().and_then(|query| Query::of(query).ok());
    let value = query.as_ref().and_then(|query| query.value("A2A-Version"));
    value.map_or(Version::V03, Version::parse)
}

/// Whether a request lists the extension (A2A 1.0 §3.2.6).
fn offers(request: &Request<Incoming>, extension: &str) -> bool {
    EXTENSIONS
        .iter()
        .flat_map(|name| request.headers().get_all(name))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == extension)
}

/// Answers a request of the protocol.
pub async fn call(
    front: &Rc<Front>,
    peer: &Peer,
    caller: &Caller,
    request: Box<Request<Incoming>>,
) -> Response<Reply> {
    let (missing, active) = extensions(&front.card.get(), &request);
    let mut response = answer(front, peer, caller, request, missing).await;
    if let Ok(active) = HeaderValue::from_str(&active.join(", "))
        && !active.is_empty()
    {
        for name in EXTENSIONS {
            response.headers_mut().insert(name, active.clone());
        }
    }
    response
}

/// The first extension that a request had to list and does not, and those that it lists.
fn extensions(
    card: &Card,
    request: &Request<Incoming>,
) -> (Option<&'static str>, Vec<&'static str>) {
    let offered = |extension: &&Extension| offers(request, extension.uri);
    let known = card.extensions();
    let missing = known.iter().find(|extension| extension.required && !offered(extension));
    let active = known.iter().filter(offered).map(|active| active.uri).collect();
    (missing.map(|extension| extension.uri), active)
}

/// `missing` is an extension that the request had to list; its refusal waits until it can name the request.
async fn answer(
    front: &Rc<Front>,
    peer: &Peer,
    caller: &Caller,
    mut request: Box<Request<Incoming>>,
    missing: Option<&'static str>,
) -> Response<Reply> {
    let (method, version) = (method(&request), version(&request));
    let mut way = Way::in_version(&request, version);
    way.asked.who = Some(caller.who.clone());
    // Kept beside the request, whose body is read while this is needed.
    let address = match request.uri().path_and_query() {
        Some(address) if way.binding.rpc.is_none() => address.as_str().to_owned(),
        _ => String::new(),
    };
    let (path, query) = address.split_once('?').unwrap_or((&address, ""));
    let target = if way.binding.rpc.is_none() {
        let Some(target) = Target::parse(path) else {
            return refusal(front, peer, &way, &A2aError::NoSuchPath(WHAT_IS_WHERE));
        };
        if !target.allows(method) {
            return not_allowed(front, peer, &way, target.allowed());
        }
        if let Err(error) = version.allows(target.dialect) {
            return closing(refusal(front, peer, &way, &error));
        }
        Some(target)
    } else {
        if method != rest::Method::Post {
            return not_allowed(front, peer, &way, "POST");
        }
        None
    };
    let collected = match collect(front, &mut request, target.is_none()).await {
        Ok(collected) => collected,
        Err(error) => return closing(refusal(front, peer, &way, &error)),
    };
    drop(request);
    let body = collected.as_ref().map_or(&[][..], |collected| &collected.bytes);
    let asked = match target {
        Some(target) => Asked::Rest(target, method, query),
        None => Asked::Rpc(version),
    };
    // Decided before anything is waited for, so that no request is kept in what waits.
    let said = ask(front, caller, &mut way, (&asked, body), missing);
    drop((asked, collected));
    if said.is_ok() {
        audit::allowed(front, peer, &way.binding, &mut way.asked);
    }
    let said = match said {
        Ok(Said::Wait(id, history, is_send)) => settled(front, &way, id, history, is_send).await,
        said => said,
    };
    match said {
        Ok(Said::Reply(text, room)) => {
            front.counters.done(&way.binding);
            with_type(peer, StatusCode::OK, way.media_type(), held(text, room))
        }
        Ok(Said::Frame(frame)) => streaming(with_type(peer, StatusCode::OK, JSON, frame)),
        Ok(Said::Stream(begin)) => {
            front.counters.done(&way.binding);
            front.counters.stream();
            let reader = Reader::attached(front, begin.id);
            let first = held(begin.first, begin.room);
            let (cursor, until_final) = (begin.cursor, begin.until_final);
            event_stream(
                peer,
                Feed::new(
                    reader,
                    way.binding,
                    cursor,
                    until_final,
                    first,
                    (begin.permit, caller.token),
                ),
            )
        }
        Ok(Said::Wait(..)) => refusal(front, peer, &way, &A2aError::Internal("a task waits twice")),
        Err(error) => refusal(front, peer, &way, &error),
    }
}

fn method(request: &Request<Incoming>) -> rest::Method {
    match *request.method() {
        Method::GET | Method::HEAD => rest::Method::Get,
        Method::POST => rest::Method::Post,
        Method::DELETE => rest::Method::Delete,
        _ => rest::Method::Other,
    }
}

/// Reads the body of a POST whose media type is JSON; what is no POST has none. A REST request may leave out a body
/// that has nothing to say, and its type with it.
async fn collect(
    front: &Rc<Front>,
    request: &mut Request<Incoming>,
    is_rpc: bool,
) -> Result<Option<Collected>, A2aError> {
    if request.method() != Method::POST || !is_rpc && request.body().is_end_stream() {
        return Ok(None);
    }
    let media_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !media_type.is_some_and(is_json) {
        let got = media_type.map_or("none".into(), |media_type| {
            String::from_utf8_lossy(&media_type[..media_type.len().min(64)]).into_owned()
        });
        return Err(A2aError::MediaType(format!("{got}; send application/json")));
    }
    let limits = front.limits.get();
    let limit = limits.body_bytes;
    let collected = {
        let mut collecting = pin!(body::collect(request.body_mut(), limit, &front.in_flight));
        // Most bodies come with their head: then there is nothing to time.
        match poll_fn(|context| Poll::Ready(collecting.as_mut().poll(context))).await {
            Poll::Ready(collected) => Ok(collected),
            Poll::Pending => timeout(limits.body_wait, collecting).await,
        }
    };
    match collected {
        Ok(Ok(collected)) => Ok(Some(collected)),
        Ok(Err(BodyError::TooLarge)) => Err(A2aError::TooLarge(limit)),
        Ok(Err(BodyError::NoRoom)) => {
            Err(A2aError::Busy { retry_after_s: 1, what: Busy::Requests })
        }
        Ok(Err(BodyError::Broken)) => Err(A2aError::BodyBroken),
        Err(_) => Err(A2aError::BodyTooSlow),
    }
}

/// What is asked, and where.
enum Asked<'r> {
    Rpc(Version),
    /// A resource, the method and the query.
    Rest(Target<'r>, rest::Method, &'r str),
}

/// What there is to say.
enum Said {
    Reply(String, Option<Room>),
    /// Once the task is settled: so many messages of it, and whether it is the result of a message.
    Wait(TaskId, Option<usize>, bool),
    /// A stream of one event.
    Frame(String),
    Stream(Box<Begin>),
}

/// How a stream begins.
struct Begin {
    id: TaskId,
    cursor: Cursor,
    until_final: bool,
    first: String,
    room: Option<Room>,
    permit: StreamPermit,
}

/// Decodes a request, has the engine carry it out and writes what can be said at once.
fn ask(
    front: &Rc<Front>,
    caller: &Caller,
    way: &mut Way,
    (asked, body): (&Asked<'_>, &[u8]),
    missing: Option<&'static str>,
) -> Result<Said, A2aError> {
    let depth = front.limits.get().json_depth;
    let (operation, tenant) = match asked {
        Asked::Rest(target, method, query) => {
            way.asked.call = Some(target.call(*method));
            way.asked.tenant.clone_from(&target.tenant);
            target.operation(*method, query, body, depth)?
        }
        Asked::Rpc(version) => match jsonrpc::decode(body, depth, *version) {
            Ok(request) => {
                way.binding = Binding::rpc(request.id, request.dialect);
                (request.operation, request.tenant)
            }
            Err(refused) => {
                way.binding = Binding::rpc(refused.id, refused.dialect);
                way.in_stream = refused.in_stream;
                way.asked.call = refused.call;
                // Who does not speak a required extension may well spell its request otherwise.
                return Err(match (refused.error, missing) {
                    (A2aError::InvalidParams(_) | A2aError::TaskNotFound, Some(missing)) => {
                        A2aError::ExtensionSupportRequired(missing)
                    }
                    (error, _) => error,
                });
            }
        },
    };
    way.in_stream = way.binding.dialect == Dialect::V03
        && matches!(operation, Operation::Stream(_) | Operation::Subscribe { .. });
    way.asked.call = Some(operation.call());
    way.asked.task = operation.task();
    way.asked.tenant.clone_from(&tenant);
    if let Some(missing) = missing {
        return Err(A2aError::ExtensionSupportRequired(missing));
    }
    caller.may(&operation)?;
    let scope = Scope { who: caller.who.clone(), tenant };
    let is_send = matches!(operation, Operation::Send(_));
    // Taken before the engine hears of it: a message that cannot be streamed must not become a task.
    let permit = match &operation {
        Operation::Stream(_) | Operation::Subscribe { .. } => {
            Some(StreamPermit::take(front).ok_or(STREAMS_FULL)?)
        }
        _ => None,
    };
    // Written in the same borrow, before the engine goes on.
    front.cell.with(|engine, now| {
        // The reply tells the message again, and likewise must find room before there is a task.
        let room = match &operation {
            Operation::Send(send) | Operation::Stream(send) => {
                front.in_flight.room(engine.reply_len(send, &scope))?
            }
            _ => None,
        };
        let outcome = engine.handle(operation, &scope, now)?;
        if let Outcome::Task { id, .. } | Outcome::Settle { id, .. } | Outcome::Follow { id, .. } =
            &outcome
        {
            way.asked.task = Some(*id);
        }
        say(front, engine, way, outcome, &scope, (is_send, permit, room))
    })
}

/// Waits until a task is settled, and then for room to say so.
async fn settled(
    front: &Rc<Front>,
    way: &Way,
    id: TaskId,
    history: Option<usize>,
    is_send: bool,
) -> Result<Said, A2aError> {
    let reader = Reader::attach(front, id).ok_or(A2aError::TaskNotFound)?;
    if !reader.settled().await {
        return Err(A2aError::TaskNotFound);
    }
    loop {
        let said = front
            .cell
            .with(|engine, _| say_task(front, engine, &way.binding, (id, history), is_send));
        match said {
            Err(A2aError::Busy { .. }) => {}
            said => return said,
        }
        let view = View::with(history);
        let len =
            front.cell.with(|engine, _| engine.task(id).map_or(0, |task| task_len(task, view)));
        sleep(ROOM_RETRY).await;
        while !front.in_flight.has_room(len) {
            sleep(ROOM_RETRY).await;
        }
    }
}

/// Writes what the engine made of a request.
fn say(
    front: &Front,
    engine: &mut Engine,
    way: &Way,
    outcome: Outcome,
    scope: &Scope,
    (is_send, permit, room): (bool, Option<StreamPermit>, Option<Room>),
) -> Result<Said, A2aError> {
    let binding = &way.binding;
    let reply = |text| Ok(Said::Reply(text, None));
    match outcome {
        Outcome::Task { id, history } if is_send => {
            let task = engine.task(id).ok_or(A2aError::TaskNotFound)?;
            let text = binding.reply(|writer| writer.sent(task, View::with(history)));
            Ok(Said::Reply(text, room))
        }
        Outcome::Task { id, history } => say_task(front, engine, binding, (id, history), false),
        Outcome::Settle { id, history } => {
            let task = engine.task(id).ok_or(A2aError::TaskNotFound)?;
            if !task.status.state.is_settled() {
                return Ok(Said::Wait(id, history, is_send));
            }
            drop(room);
            match say_task(front, engine, binding, (id, history), is_send) {
                Err(A2aError::Busy { .. }) => Ok(Said::Wait(id, history, is_send)),
                said => said,
            }
        }
        Outcome::Follow { id, cursor, until_final } => {
            let permit = permit.ok_or(STREAMS_FULL)?;
            let task = engine.task(id).ok_or(A2aError::TaskNotFound)?;
            let room = match room {
                Some(room) => Some(room),
                None => front.in_flight.room(task_len(task, View::WHOLE))?,
            };
            let first = binding.frame(&Event::Task(task), false);
            // Attached here, so that the task cannot go before its stream begins.
            engine.attach(id);
            Ok(Said::Stream(Box::new(Begin { id, cursor, until_final, first, room, permit })))
        }
        // A message is all of its stream (A2A 1.0 §3.1.2).
        Outcome::Message { message, context } if permit.is_some() => {
            let event = Event::Message { message: &message, context: &context };
            Ok(Said::Frame(binding.frame(&event, true)))
        }
        Outcome::Message { message, context } => {
            let event = Event::Message { message: &message, context: &context };
            let room = front.in_flight.room(event_len(&event))?;
            Ok(Said::Reply(binding.reply(|writer| writer.answered(&message, &context)), room))
        }
        Outcome::Page(page) => {
            let filter = &page.filter;
            let view = View { history: filter.history, artifacts: filter.artifacts };
            let tasks = page.tasks.iter().filter_map(|id| engine.task(*id));
            // A comma behind each.
            let room = front.in_flight.room(page.bytes + page.tasks.len() + LIST_HEAD)?;
            let next = page.next.as_ref().map(|next| next as &dyn std::fmt::Display);
            let sizes = (filter.page_size, page.total);
            let text = binding.reply(|writer| writer.page(tasks, view, sizes, next));
            Ok(Said::Reply(text, room))
        }
        Outcome::Hook(id, hook) => reply(binding.reply(|writer| writer.hook(id, &hook))),
        Outcome::Hooks(id) => {
            let hooks = engine.hooks(id).iter().map(|hook| &**hook);
            let room =
                front.in_flight.room(hooks.clone().map(hook_len).sum::<usize>() + LIST_HEAD)?;
            Ok(Said::Reply(binding.reply(|writer| writer.hooks(id, hooks)), room))
        }
        Outcome::Done => reply(binding.done()),
        Outcome::ExtendedCard => {
            let card = front.card.get();
            let card = match binding.dialect {
                Dialect::V1 => &card.extended,
                Dialect::V03 | Dialect::Proto03 => &card.extended_v03,
            };
            match card {
                // What it tells is for who is known, by name or for being on this machine.
                Some(_) if matches!(scope.who, Principal::Address(_)) => Err(A2aError::Forbidden(
                    "the extended card is told to callers on this machine, or with a token",
                )),
                Some(card) => {
                    let room = front.in_flight.room(card.len() + LIST_HEAD)?;
                    Ok(Said::Reply(binding.raw(card), room))
                }
                None if binding.dialect == Dialect::V1 => Err(A2aError::UnsupportedOperation(
                    "this agent has no extended card, as its capabilities say".to_owned(),
                )),
                None => Err(A2aError::ExtendedCardNotConfigured),
            }
        }
    }
}

/// Writes a task, as the result of a message or for itself, and takes room for it.
fn say_task(
    front: &Front,
    engine: &Engine,
    binding: &Binding,
    (id, history): (TaskId, Option<usize>),
    is_send: bool,
) -> Result<Said, A2aError> {
    let task = engine.task(id).ok_or(A2aError::TaskNotFound)?;
    let view = View::with(history);
    let room = front.in_flight.room(task_len(task, view))?;
    let text = binding
        .reply(|writer| if is_send { writer.sent(task, view) } else { writer.task(task, view) });
    Ok(Said::Reply(text, room))
}

const STREAMS_FULL: A2aError = A2aError::Busy { retry_after_s: 5, what: Busy::Streams };

/// `application/json`, `application/*+json`, with or without parameters.
fn is_json(media_type: &[u8]) -> bool {
    if media_type == b"application/json" {
        return true;
    }
    let end = media_type.iter().position(|&byte| byte == b';').unwrap_or(media_type.len());
    let essence = media_type[..end].trim_ascii();
    let begins = |with: &[u8]| {
        essence.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let ends = essence.len() >= 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json");
    essence.eq_ignore_ascii_case(b"application/json") || (begins(b"application/") && ends)
}

fn event_stream(peer: &Peer, feed: Feed) -> Response<Reply> {
    streaming(Response::new(Reply::feed(feed, peer.progress.clone())))
}

fn streaming(mut response: Response<Reply>) -> Response<Reply> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that buffer or compress would hold events back.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// An error in the binding and dialect of its request.
pub fn refusal(front: &Front, peer: &Peer, way: &Way, error: &A2aError) -> Response<Reply> {
    front.counters.refused(&way.binding, error);
    audit::refused(front, peer, &way.binding, &way.asked, error);
    log::debug!("peer={} refused: {error}", peer.address);
    let (status, text) = way.binding.error(error);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if way.in_stream && status == StatusCode::OK {
        let mut frame = String::with_capacity(text.len() + 8);
        sse::write_data(&mut frame, &text);
        return streaming(with_type(peer, status, JSON, frame));
    }
    hinted(with_type(peer, status, way.media_type(), Bytes::from(text)), error)
}

fn not_allowed(front: &Front, peer: &Peer, way: &Way, allowed: &'static str) -> Response<Reply> {
    let mut response = refusal(front, peer, way, &A2aError::MethodNotAllowed(allowed));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_of_1_0_is_given_to_who_asks_for_it() {
        for asks in ["application/a2a+json", "text/html, Application/A2A+JSON ;q=0.5"] {
            assert!(accepts_a2a(asks), "{asks}");
        }
        for asks_not in
            ["*/*", "application/json", "application/a2a+json;q=0", "x/application/a2a+json"]
        {
            assert!(!accepts_a2a(asks_not), "{asks_not}");
        }
    }

    #[test]
    fn json_media_types_are_told_from_others() {
        for good in ["application/json", "application/json; charset=utf-8", "Application/A2A+JSON"]
        {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "text/json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
    }
}
