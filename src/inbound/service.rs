//! What every request meets first: whether it is HTTP as it should be, and whether its path is a page. What is none
//! is a request of the protocol.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER, TRANSFER_ENCODING,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::Notify;

use crate::a2a::card::{Card, JWKS_PATH};
use crate::a2a::error::{A2aError, Busy};
use crate::a2a::op::Principal;
use crate::base::clock::{Now, is_http_date_since};
use crate::base::limits::Limits;
use crate::config::callers::Rights;
use crate::inbound::auth::{Auth, Caller, Shown, Tries, challenge};
use crate::inbound::body::{Bodies, Reply};
use crate::inbound::cell::EngineCell;
use crate::inbound::counters::Counters;
use crate::inbound::hosts::{Authority, Hosts};
use crate::inbound::io::Progress;
use crate::inbound::live::Live;
use crate::inbound::protocol::{Way, call, refusal};
use crate::inbound::tls::{Certificate, Tls};
use crate::inbound::{audit, metrics, pages};

/// What every connection serves. A reload exchanges what is [`Live`].
#[derive(Debug)]
pub struct Front {
    /// The engine.
    pub cell: EngineCell,
    /// The agent card.
    pub card: Live<Card>,
    /// Who may ask.
    pub auth: Live<Auth>,
    /// How often that changed.
    pub auth_changes: Cell<u32>,
    /// Who asked with wrong tokens.
    pub tries: RefCell<Tries>,
    /// The names that requests may call this agent by.
    pub hosts: Live<Hosts>,
    /// What pages tell about the agent.
    pub about: Live<pages::About>,
    /// The terms of connections.
    pub tls: Tls,
    /// The bounds. Those of a connection are the ones it began with.
    pub limits: Live<Limits>,
    /// What the status warns of: a reload that failed, and what waits for a restart.
    pub warnings: Live<Vec<String>>,
    /// Bytes of request bodies.
    pub in_flight: Bodies,
    /// Whether the audit log is written.
    pub audit: Cell<bool>,
    /// Event streams open now.
    pub streams: Cell<usize>,
    /// Connections open now.
    pub connections: Cell<usize>,
    /// Rung when there may be room for a connection.
    pub left: Notify,
    /// Requests since the start.
    pub requests: Cell<u64>,
    /// What `/metrics` tells of them.
    pub counters: Counters,
}

impl Front {
    /// A front that has served nobody, and would serve everybody.
    pub fn new(cell: EngineCell, card: Card, about: pages::About, limits: Limits) -> Self {
        Self {
            cell,
            card: Live::new(card),
            auth: Live::default(),
            auth_changes: Cell::new(0),
            tries: RefCell::default(),
            hosts: Live::default(),
            tls: Tls::default(),
            about: Live::new(about),
            in_flight: Bodies::new(limits.in_flight_bytes),
            limits: Live::new(limits),
            warnings: Live::default(),
            audit: Cell::new(false),
            streams: Cell::new(0),
            connections: Cell::new(0),
            left: Notify::new(),
            requests: Cell::new(0),
            counters: Counters::default(),
        }
    }

    /// Who sent a request.
    fn caller(&self, peer: &Peer, request: &Request<Incoming>) -> Result<Caller, A2aError> {
        let mut tries = self.tries.borrow_mut();
        let certificate = peer.certificate.as_deref().map(|it| -> &dyn Shown { it });
        let auth = self.auth.get();
        auth.caller(request.headers(), peer.ip(), certificate, &mut tries, Now::read())
    }

    /// Puts other callers in force. The streams of tokens that are no longer known end, and nothing of a task is posted
    /// any more for a caller who is gone.
    pub fn set_auth(&self, auth: Auth) {
        self.cell.with(|engine, _| engine.keep_hooks(|who| auth.has(who)));
        self.auth.replace(auth);
        self.auth_changes.set(self.auth_changes.get() + 1);
        self.cell.wake_all();
    }

    /// Puts other bounds in force. What is above them stays, and nothing new is taken until it fits.
    pub fn set_limits(&self, limits: Limits) {
        self.in_flight.set_limit(limits.in_flight_bytes);
        self.limits.replace(limits);
        self.left.notify_one();
    }
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Where it came to, with IPv4 in its own form.
    pub local: IpAddr,
    /// Whether it is encrypted.
    pub is_tls: bool,
    /// What it is doing.
    pub progress: Rc<Progress>,
    /// Accepted above the limit, only to say so: monitors are still answered.
    pub surplus: bool,
    /// The client's, verified.
    pub certificate: Option<Rc<Certificate>>,
    /// It speaks plain HTTP and may not: every request is answered with that.
    pub unwelcome: bool,
}

impl Peer {
    /// The address, with IPv4 in its own form.
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// Whether it can only be on this machine: the kernel takes no packet from outside that says it is from here.
    pub fn is_here(&self) -> bool {
        self.ip().is_loopback() || self.ip() == self.local
    }
}

/// The media type of what programs read.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// To those who speak plain HTTP and may not.
const HTTPS_ONLY: &str = "plain HTTP is not spoken with you here: use https://";

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
    let path = request.uri().path();
    if let Err(refused) = admissible(front, peer, &request) {
        if !is_page(path) {
            return closing(refusal(front, peer, &Way::of(&request), &refused));
        }
        audit::page(front, peer, None, path, Some(&refused));
        let (status, what) = match refused {
            A2aError::BadHttp(what) => (StatusCode::BAD_REQUEST, what.into()),
            refused => (StatusCode::FORBIDDEN, refused.to_string()),
        };
        front.counters.page(status);
        return closing(plain(peer, status, what));
    }
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    let caller = || front.caller(peer, &request);
    let response = match path {
        "/health" | "/healthz" if get => plain(peer, StatusCode::OK, "ok"),
        "/health/ready" | "/readyz" if get => {
            if front.cell.is_draining() {
                plain(peer, StatusCode::SERVICE_UNAVAILABLE, "stopping")
            } else {
                plain(peer, StatusCode::OK, "ready")
            }
        }
        "/metrics" if get && front.about.get().metrics_open => metrics::reply(front, peer),
        "/health/detail" | "/status.json" | "/metrics" | "/agents" if get => match caller() {
            Ok(caller) => match may_read(path, &caller) {
                Ok(()) => {
                    audit::page(front, peer, Some(&caller.who), path, None);
                    inside(front, peer, path)
                }
                Err(error) => denied(front, peer, Some(&caller), path, &error),
            },
            Err(error) => denied(front, peer, None, path, &error),
        },
        _ if peer.surplus => {
            let busy = A2aError::Busy { retry_after_s: 1, what: Busy::Connections };
            return closing(refusal(front, peer, &Way::of(&request), &busy));
        }
        "/.well-known/agent-card.json" | "/.well-known/agent.json" if get => {
            card(front, peer, &request)
        }
        JWKS_PATH if get => match &front.card.get().jwks {
            Some(jwks) => with_type(peer, StatusCode::OK, JSON, jwks.clone()),
            None => plain(peer, StatusCode::NOT_FOUND, "not found: the agent card is not signed"),
        },
        _ if is_page(path) => not_allowed(peer, "GET, HEAD", "only GET and HEAD here"),
        _ => {
            return match caller() {
                Ok(caller) => call(front, peer, &caller, request).await,
                // The body of a stranger is not read.
                Err(error) => closing(refusal(front, peer, &Way::of(&request), &error)),
            };
        }
    };
    front.counters.page(response.status());
    response
}

/// A page that not everybody may read.
fn inside(front: &Rc<Front>, peer: &Peer, path: &str) -> Response<Reply> {
    let json = |text| with_type(peer, StatusCode::OK, JSON, text);
    match path {
        "/agents" => json(format!("[{}]", front.card.get().json)),
        "/health/detail" => json(pages::detail(front)),
        "/metrics" => metrics::reply(front, peer),
        _ => json(pages::status(front)),
    }
}

/// Whether a caller may read the page at `path`. Where nobody is asked who they are, what is about this machine is for
/// callers on this machine.
fn may_read(path: &str, caller: &Caller) -> Result<(), A2aError> {
    match (path, &caller.who) {
        ("/agents", _) | ("/health/detail", Principal::Local | Principal::Address(_)) => Ok(()),
        (_, Principal::Named(_) | Principal::Local) => caller.needs(Rights::STATUS),
        ("/metrics", Principal::Address(_)) => Err(A2aError::Forbidden(
            "the metrics are told to callers on this machine only (listen.metrics-open)",
        )),
        (_, Principal::Address(_)) => {
            Err(A2aError::Forbidden("the status is told to callers on this machine only"))
        }
    }
}

/// A page's refusal, in words.
fn denied(
    front: &Front,
    peer: &Peer,
    caller: Option<&Caller>,
    path: &str,
    error: &A2aError,
) -> Response<Reply> {
    audit::page(front, peer, caller.map(|caller| &caller.who), path, Some(error));
    let status = StatusCode::from_u16(error.wire().status).unwrap_or(StatusCode::FORBIDDEN);
    log::debug!("peer={} refused: {error}", peer.address);
    hinted(plain(peer, status, error.to_string()), error)
}

/// The headers that tell a caller what to do about an error.
pub fn hinted(mut response: Response<Reply>, error: &A2aError) -> Response<Reply> {
    let headers = response.headers_mut();
    match error {
        A2aError::Busy { retry_after_s, .. } | A2aError::TooManyTries { retry_after_s } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*retry_after_s));
        }
        A2aError::Unauthenticated { is_wrong } => {
            headers.insert(WWW_AUTHENTICATE, challenge(*is_wrong));
        }
        _ => {}
    }
    response
}

/// Whether a request is HTTP, and meant for this agent.
fn admissible(front: &Front, peer: &Peer, request: &Request<Incoming>) -> Result<(), A2aError> {
    if peer.unwelcome {
        return Err(A2aError::BadHttp(HTTPS_ONLY));
    }
    let host = well_formed(peer, request).map_err(A2aError::BadHttp)?;
    let hosts = front.hosts.get();
    hosts.check(host, request.headers(), peer).map_err(A2aError::WrongSite)
}

/// Whether a page is at `path`, and not the protocol.
fn is_page(path: &str) -> bool {
    matches!(
        path,
        "/.well-known/agent-card.json"
            | "/.well-known/agent.json"
            | JWKS_PATH
            | "/health"
            | "/healthz"
            | "/health/ready"
            | "/readyz"
            | "/health/detail"
            | "/status.json"
            | "/metrics"
            | "/agents"
    )
}

/// What hyper lets through and RFC 9112 does not: no Host, several, or one that is none (§3.2), a target that
/// names another host (§3.2.2), transfer codings beside `chunked`, and a length beside these (§6.1). Returns the host.
fn well_formed<'r>(
    peer: &Peer,
    request: &'r Request<Incoming>,
) -> Result<Option<Authority<'r>>, &'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host header");
    }
    if host.is_none() && request.version() >= Version::HTTP_11 {
        return Err("the Host header is missing");
    }
    let target = request.uri().authority().map(|target| target.as_str().as_bytes());
    if let (Some(target), Some(host)) = (target, host)
        && !host.as_bytes().eq_ignore_ascii_case(target)
    {
        return Err("the request target and the Host header name different hosts");
    }
    let named = host.map(HeaderValue::as_bytes).or(target);
    let authority =
        named.map(|named| Authority::read(named).ok_or("the Host header is not a host"));
    let authority = authority.transpose()?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let hides_length = peer.progress.hides_length(headers.contains_key(CONTENT_LENGTH));
    if let Some(coding) = codings.next() {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err("the Transfer-Encoding must be chunked and nothing else");
        }
        if hides_length {
            return Err("a Content-Length beside a Transfer-Encoding");
        }
    }
    Ok(authority)
}

fn card(front: &Rc<Front>, peer: &Peer, request: &Request<Incoming>) -> Response<Reply> {
    let card = front.card.get();
    let headers = request.headers();
    // The date counts only without tags (RFC 9110 §13.1.3).
    let known = if headers.contains_key(IF_NONE_MATCH) {
        headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == card.etag || tag == "*")
    } else {
        headers
            .get(IF_MODIFIED_SINCE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|date| is_http_date_since(date, &card.last_modified))
    };
    let mut response = if known {
        let mut response = with_type(peer, StatusCode::NOT_MODIFIED, JSON, Bytes::new());
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        with_type(peer, StatusCode::OK, JSON, card.json.clone())
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    for (name, value) in [(ETAG, &card.etag), (LAST_MODIFIED, &card.last_modified)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// A reply of text.
pub fn plain(peer: &Peer, status: StatusCode, text: impl Into<Bytes>) -> Response<Reply> {
    with_type(peer, status, TEXT, text)
}

fn not_allowed(peer: &Peer, allowed: &'static str, text: &'static str) -> Response<Reply> {
    let mut response = plain(peer, StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The rest of the request is not read: the connection ends with the reply.
pub fn closing(mut response: Response<Reply>) -> Response<Reply> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A reply of one piece.
pub fn with_type(
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
    fn what_is_about_this_machine_is_for_those_on_it_and_those_who_are_known() {
        let ask = |path, who: Principal, rights| {
            may_read(path, &Caller { who, rights, token: None }).is_ok()
        };
        let far = || Principal::Address(IpAddr::from([192, 0, 2, 7]));
        let named = || Principal::Named("a".into());
        for path in ["/status.json", "/metrics"] {
            assert!(ask(path, Principal::Local, Rights::ALL), "{path}");
            assert!(!ask(path, far(), Rights::ALL), "{path}");
            assert!(ask(path, named(), Rights::STATUS), "{path}");
            assert!(!ask(path, named(), Rights::TASKS), "{path}");
        }
        assert!(ask("/health/detail", far(), Rights::ALL));
        assert!(!ask("/health/detail", named(), Rights::TASKS));
        assert!(ask("/agents", named(), Rights::TASKS));
    }
}
