//! From a request to its reply: Host and path, media type, body, decode, engine, encode.
//!
//! Plain HTTP refusals (400, 404, 405, 408, 413, 415) come before anything of A2A; from there on errors are the
//! protocol's own. JSON-RPC errors go out with HTTP 200, "busy" with 503 and `Retry-After` as well.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue,
    IF_NONE_MATCH, RETRY_AFTER, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::timeout;

use crate::a2a::card::Card;
use crate::a2a::error::A2aError;
use crate::a2a::jsonrpc::{self, Id};
use crate::a2a::model::Task;
use crate::a2a::op::{Event, Operation, Principal};
use crate::a2a::v03;
use crate::base::json::Json;
use crate::base::limits::Limits;
use crate::engine::Outcome;
use crate::inbound::body::{self, Bodies, BodyError, Feed, Reader, Reply, StreamPermit};
use crate::inbound::cell::EngineCell;
use crate::inbound::io::Progress;
use crate::inbound::pages;

/// What every connection serves.
#[derive(Debug)]
pub struct Front {
    /// The engine.
    pub cell: EngineCell,
    /// The agent card.
    pub card: Card,
    /// What pages tell about the agent.
    pub about: pages::About,
    /// The bounds.
    pub limits: Limits,
    /// Bytes of request bodies.
    pub in_flight: Bodies,
    /// Event streams open now.
    pub streams: Cell<usize>,
    /// Connections open now.
    pub connections: Cell<usize>,
    /// Requests since the start.
    pub requests: Cell<u64>,
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it is doing.
    pub progress: Rc<Progress>,
    /// Accepted above the limit, only to say so: health checks are still answered.
    pub surplus: bool,
}

impl Peer {
    fn principal(&self) -> Principal {
        match self.ip() {
            address if address.is_loopback() => Principal::Local,
            address => Principal::Address(address),
        }
    }

    /// The address, with IPv4 in its own form.
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// Answers one request.
pub async fn serve(
    front: Rc<Front>,
    peer: Rc<Peer>,
    request: Request<Incoming>,
) -> Response<Reply> {
    front.requests.set(front.requests.get() + 1);
    // A future holds its arguments twice, and three of them hold this one.
    let mut response = answer(&front, &peer, Box::new(request)).await;
    if front.cell.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answer(
    front: &Rc<Front>,
    peer: &Peer,
    request: Box<Request<Incoming>>,
) -> Response<Reply> {
    if let Err(what) = well_formed(&request) {
        return closing(plain(peer, StatusCode::BAD_REQUEST, what));
    }
    let path = request.uri().path();
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    match path {
        "/health" | "/healthz" if get => plain(peer, StatusCode::OK, "ok"),
        "/health/ready" | "/readyz" if get => {
            if front.cell.is_draining() {
                plain(peer, StatusCode::SERVICE_UNAVAILABLE, "stopping")
            } else {
                plain(peer, StatusCode::OK, "ready")
            }
        }
        _ if peer.surplus => {
            let busy = A2aError::Busy { retry_after_s: 1, what: "too many connections" };
            closing(refusal(peer, &Id::null(), &busy))
        }
        "/.well-known/agent-card.json" | "/.well-known/agent.json" if get => {
            card(front, peer, &request)
        }
        "/health/detail" if get => with_type(peer, StatusCode::OK, JSON, pages::detail(front)),
        "/status.json" if get && peer.ip().is_loopback() => {
            with_type(peer, StatusCode::OK, JSON, pages::status(front))
        }
        "/status.json" if get => {
            plain(peer, StatusCode::FORBIDDEN, "the status is told to callers on this machine only")
        }
        "/agents" if get => {
            let agents = format!("[{}]", front.card.json);
            with_type(peer, StatusCode::OK, JSON, agents)
        }
        "/" | "/a2a/jsonrpc" | "/a2a/jsonrpc/" => {
            if request.method() == Method::POST {
                rpc(front, peer, request).await
            } else {
                not_allowed(
                    peer,
                    "POST",
                    "this is a JSON-RPC endpoint of an A2A agent: use POST; \
                    its card is at /.well-known/agent-card.json",
                )
            }
        }
        "/.well-known/agent-card.json"
        | "/.well-known/agent.json"
        | "/health"
        | "/healthz"
        | "/health/ready"
        | "/readyz"
        | "/health/detail"
        | "/status.json"
        | "/agents" => not_allowed(peer, "GET, HEAD", "only GET and HEAD here"),
        "/v1/message/send" | "/v1/message/stream" => plain(
            peer,
            StatusCode::NOT_FOUND,
            "not found: post JSON-RPC to / with method message/send or message/stream",
        ),
        _ => plain(
            peer,
            StatusCode::NOT_FOUND,
            "not found: the agent card is at /.well-known/agent-card.json, JSON-RPC at /",
        ),
    }
}

/// What hyper lets through and RFC 9112 does not: no Host, several, or one that is none (§3.2), a target that
/// names another host (§3.2.2), transfer codings beside `chunked` (§6.1). Of a length beside a transfer coding
/// nothing is seen here: hyper goes by the coding and ends the connection after the reply, as §6.1 has it.
fn well_formed(request: &Request<Incoming>) -> Result<(), &'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host header");
    }
    if host.is_none() && request.version() >= Version::HTTP_11 {
        return Err("the Host header is missing");
    }
    if host.is_some_and(|host| !is_authority(host.as_bytes())) {
        return Err("the Host header is not a host");
    }
    if let (Some(authority), Some(host)) = (request.uri().authority(), host)
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return Err("the request target and the Host header name different hosts");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(is_chunked) || codings.next().is_some() {
        return Err("the Transfer-Encoding must be chunked and nothing else");
    }
    Ok(())
}

/// Whether every byte may stand in a Host header: `host:port`, `[address]:port`, or nothing.
fn is_authority(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte))
}

fn card(front: &Rc<Front>, peer: &Peer, request: &Request<Incoming>) -> Response<Reply> {
    let card = &front.card;
    let known = request
        .headers()
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == card.etag || tag == "*");
    let mut response = if known {
        let mut response = with_type(peer, StatusCode::NOT_MODIFIED, JSON, Bytes::new());
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        with_type(peer, StatusCode::OK, JSON, card.json.clone())
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    if let Ok(etag) = HeaderValue::from_str(&card.etag) {
        headers.insert(ETAG, etag);
    }
    response
}

async fn rpc(
    front: &Rc<Front>,
    peer: &Peer,
    mut request: Box<Request<Incoming>>,
) -> Response<Reply> {
    let media_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !media_type.is_some_and(is_json) {
        let got = media_type.map_or("none".into(), |media_type| {
            String::from_utf8_lossy(&media_type[..media_type.len().min(64)]).into_owned()
        });
        let error = A2aError::ContentTypeNotSupported(format!("{got}; send application/json"));
        return closing(refusal(peer, &Id::null(), &error));
    }
    let limit = front.limits.body_bytes;
    let collected = {
        let mut collecting = pin!(body::collect(request.body_mut(), limit, &front.in_flight));
        // Most bodies come with their head: then there is nothing to time.
        match poll_fn(|context| Poll::Ready(collecting.as_mut().poll(context))).await {
            Poll::Ready(collected) => Ok(collected),
            Poll::Pending => timeout(front.limits.body_wait, collecting).await,
        }
    };
    drop(request);
    let collected = match collected {
        Ok(Ok(collected)) => collected,
        Ok(Err(BodyError::TooLarge)) => {
            let what = format!("the body is longer than {limit} bytes");
            return closing(plain(peer, StatusCode::PAYLOAD_TOO_LARGE, what));
        }
        Ok(Err(BodyError::NoRoom)) => {
            let busy = A2aError::Busy { retry_after_s: 1, what: "too many requests in flight" };
            return closing(refusal(peer, &Id::null(), &busy));
        }
        Ok(Err(BodyError::Broken)) => {
            return closing(plain(peer, StatusCode::BAD_REQUEST, "the body is broken"));
        }
        Err(_) => {
            return closing(plain(peer, StatusCode::REQUEST_TIMEOUT, "the body came too slowly"));
        }
    };
    let decoded = jsonrpc::decode(&collected.bytes, front.limits.json_depth);
    drop(collected);
    let request = match decoded {
        Ok(request) => request,
        Err(refused) => return refusal(peer, &refused.id, &refused.error),
    };
    let (id, who) = (request.id, peer.principal());
    let operation = request.operation;
    // Taken before the engine hears of it: a message that cannot be streamed must not become a task.
    let permit = match &operation {
        Operation::Stream(_) | Operation::Subscribe { .. } => match StreamPermit::take(front) {
            None => return refusal(peer, &id, &streams_full()),
            permit => permit,
        },
        Operation::Send(_) | Operation::Get { .. } | Operation::Cancel { .. } => None,
    };
    // What can be said at once is written in the same borrow, before the engine goes on.
    let said = front.cell.with(|engine, now| {
        let outcome = engine.handle(operation, &who, now)?;
        let task = |id| engine.task(id).ok_or(A2aError::TaskNotFound);
        Ok(match outcome {
            Outcome::Task { id: task_id, history } => {
                Said::Reply(encode(&id, task(task_id)?, history))
            }
            Outcome::Settle { id: task_id, history } => {
                let task = task(task_id)?;
                if task.status.state.is_settled() {
                    Said::Reply(encode(&id, task, history))
                } else {
                    Said::Wait(task_id, history)
                }
            }
            Outcome::Follow { id: task_id, cursor, until_final } => {
                let first = body::frame(&id, &Event::Task(task(task_id)?), false);
                // Attached here, so that the task cannot go before its stream begins.
                engine.attach(task_id);
                Said::Stream { task_id, cursor, until_final, first }
            }
        })
    });
    match said {
        Ok(Said::Reply(json)) => with_type(peer, StatusCode::OK, JSON, json),
        Ok(Said::Wait(task_id, history)) => {
            let settled = match Reader::attach(front, task_id) {
                Some(reader) => reader.settled(|task| encode(&id, task, history)).await,
                None => None,
            };
            match settled {
                Some(json) => with_type(peer, StatusCode::OK, JSON, json),
                None => refusal(peer, &id, &A2aError::TaskNotFound),
            }
        }
        Ok(Said::Stream { task_id, cursor, until_final, first }) => {
            let reader = Reader::attached(front, task_id);
            match permit {
                Some(permit) => {
                    let feed = Feed::new(reader, id, cursor, until_final, first, permit);
                    event_stream(peer, feed)
                }
                None => refusal(peer, &id, &streams_full()),
            }
        }
        Err(error) => refusal(peer, &id, &error),
    }
}

enum Said {
    Reply(String),
    Wait(crate::base::ids::TaskId, Option<usize>),
    Stream {
        task_id: crate::base::ids::TaskId,
        cursor: crate::engine::feed::Cursor,
        until_final: bool,
        first: Bytes,
    },
}

const fn streams_full() -> A2aError {
    A2aError::Busy { retry_after_s: 5, what: "too many event streams" }
}

fn encode(id: &Id, task: &Task, history: Option<usize>) -> String {
    let mut json = Json::with_capacity(1024);
    jsonrpc::begin(&mut json, id);
    v03::task_into(&mut json, task, history);
    jsonrpc::finish(&mut json);
    json.into_string()
}

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
    let mut response = Response::new(Reply::feed(feed, peer.progress.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that buffer or compress would hold events back.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn refusal(peer: &Peer, id: &Id, error: &A2aError) -> Response<Reply> {
    log::debug!("peer={} refused: {error}", peer.address);
    let mut response = with_type(peer, StatusCode::OK, JSON, jsonrpc::error(id, error));
    if let A2aError::Busy { retry_after_s, .. } = error {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after_s));
    }
    response
}

fn plain(peer: &Peer, status: StatusCode, text: impl Into<Bytes>) -> Response<Reply> {
    with_type(peer, status, TEXT, text)
}

fn not_allowed(peer: &Peer, allowed: &'static str, text: &'static str) -> Response<Reply> {
    let mut response = plain(peer, StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The rest of the request is not read: the connection ends with the reply.
fn closing(mut response: Response<Reply>) -> Response<Reply> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn with_type(
    peer: &Peer,
    status: StatusCode,
    media_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(body, peer.progress.clone()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

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
