//! The HTTP front door over a connection in memory: all that a connection runs through, without socket or clock.

use std::cell::Cell;
use std::future::Future as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tetherlet::a2a::card::{Card, Facts, Form, Identity, Security};
use tetherlet::base::ids::Ids;
use tetherlet::base::limits::Limits;
use tetherlet::config::Listen;
use tetherlet::engine::queue::Bounds;
use tetherlet::engine::skills::available;
use tetherlet::engine::{Engine, Settings};
use tetherlet::inbound::cell::EngineCell;
use tetherlet::inbound::hosts::Hosts;
use tetherlet::inbound::io::{Progress, Socket, Waits, scratch};
use tetherlet::inbound::listen::connection;
use tetherlet::inbound::pages::About;
use tetherlet::inbound::service::{Front, Peer};
use tetherlet::work::{End, Lane, Update};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::must_be_json;

/// The most a connection may take, whatever it is fed: it comes byte by byte, every other time not at all.
const POLLS: usize = 16 * 1024;

/// Every connection ends, with whole replies of known status, no more of them than there are requests, and gives
/// back what it held.
///
/// The first byte says in what pieces the rest arrives.
pub fn http(input: &[u8]) {
    let Some((step, stream)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    // The timers of streams and bodies want a runtime around them; none of them ever fires here.
    let runtime = runtime.expect("a runtime without threads can be made");
    let _entered = runtime.enter();

    let front = front();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let progress = Progress::new();
    let peer = Rc::new(Peer {
        address,
        local: address.ip(),
        is_tls: false,
        progress,
        surplus: false,
        certificate: None,
        unwelcome: false,
    });
    let said = Rc::new(Cell::new(Vec::new()));
    let pieces = Pieces::by(*step);
    let pipe = Pipe { input: stream.to_vec(), at: 0, pieces, pause: false, said: said.clone() };
    let hour = Duration::from_hours(1);
    let waits = Waits { idle: hour, header: hour, write: hour };
    let socket = Socket::new(pipe, scratch(), peer.progress.clone(), waits);
    let (_stop, stopping) = watch::channel(false);
    {
        let mut connection =
            pin!(connection(front.clone(), peer, socket, stopping, front.tls.changes()));
        let mut context = Context::from_waker(Waker::noop());
        let mut polls = 0;
        while connection.as_mut().poll(&mut context).is_pending() {
            polls += 1;
            assert!(polls < POLLS, "the connection does not end");
            work(&front);
        }
    }
    let told = replies(&said.take());
    let served = usize::try_from(front.requests.get()).expect("a few requests");
    assert!(told <= served + 1, "{told} replies, {served} requests");
    let allowed = allowed(stream);
    assert!(told <= allowed, "{told} replies where {allowed} are allowed");
    assert_eq!(front.in_flight.used(), 0, "bytes of a body are still held");
    assert_eq!(front.streams.get(), 0, "a stream is still counted");
}

fn front() -> Rc<Front> {
    let limits = Limits {
        tasks: 8,
        body_bytes: 2048,
        in_flight_bytes: 8192,
        streams: 2,
        json_depth: 16,
        ..Limits::default()
    };
    let settings = Settings {
        limits: limits.clone(),
        bounds: Bounds { relays: 1, queue: 1 },
        reply_bytes: 1024,
        context_bytes: 1024,
        brain: None,
        push: None,
    };
    let identity = Identity {
        name: "box".to_owned(),
        description: "a box".to_owned(),
        url: "http://127.0.0.1:4097".to_owned(),
        organization: "o".to_owned(),
        organization_url: "http://o".to_owned(),
        documentation_url: None,
    };
    let about = About {
        name: "box".to_owned(),
        url: identity.url.clone(),
        listen: "127.0.0.1:4097".to_owned(),
        exposure: None,
        model: None,
        started: Duration::ZERO,
        pid: 1,
        metrics_open: false,
    };
    let ids = Ids::new(Box::new(|bytes| bytes.fill(0x5a)));
    let card = Card::new(&Facts {
        identity: &identity,
        skills: &available(false),
        form: Form::Union,
        push: false,
        security: Security::default(),
        extensions: &[],
        inside: None,
        signer: None,
        start_unix_ms: 0,
    });
    let cell = EngineCell::new(Engine::new(settings, ids));
    let front = Front::new(cell, card, about, limits);
    // Those of the seeds.
    front
        .hosts
        .replace(Hosts::new("box", &Listen { hosts: Some("x".to_owned()), ..Listen::default() }));
    Rc::new(front)
}

/// Does what a thread would do.
fn work(front: &Front) {
    while let Some(job) = front.cell.with(|engine, now| engine.next_job(Lane::Local, now)) {
        front.cell.with(|engine, now| {
            let (text, json) = ("load: 1".to_owned(), "{}".to_owned());
            engine.apply(Update::Ended(job.run, End::Local { text, json }), now);
            engine.apply(Update::Free(job.run), now);
        });
    }
}

/// Reads what was said as a sequence of replies, and counts those that end a request.
fn replies(mut said: &[u8]) -> usize {
    let mut count = 0;
    while !said.is_empty() {
        let end = said.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("a reply has a whole head") + 4;
        let head = std::str::from_utf8(&said[..end]).expect("a head is ASCII");
        let status = head.get(..12).and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.or_else(|| head.get(..12)?.strip_prefix("HTTP/1.0 "));
        let status: u16 = status.and_then(|s| s.parse().ok()).expect("a reply has a status");
        assert!(
            matches!(status, 100 | 200 | 304 | 400 | 403 | 404 | 405 | 408 | 413 | 414 | 431 | 503),
            "{head}"
        );
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("access-control-"), "{head}");
        said = &said[end..];
        count += usize::from(status >= 200);
        let length = head.split_once("content-length: ").and_then(|(_, rest)| {
            rest.split_once('\r').map(|(number, _)| number.parse::<usize>().expect("a number"))
        });
        if let Some(length) = length {
            // The reply to HEAD has the length only, and the next one, or nothing, follows.
            if said.starts_with(b"HTTP/1.") || said.is_empty() {
                continue;
            }
            let (body, rest) = said.split_at_checked(length).expect("a reply has a whole body");
            if head.contains("content-type: application/json") {
                must_be_json(std::str::from_utf8(body).expect("JSON is UTF-8"));
            }
            said = rest;
        } else if head.contains("transfer-encoding: chunked") {
            // Cut off when the caller is gone.
            said = after_chunks(said).unwrap_or_default();
        } else if head.contains("text/event-stream") {
            return count;
        }
    }
    count
}

/// The most replies that RFC 9112 allows to these bytes: one to each request that ends in them, and one to what
/// cannot be read as a request, or not to its end, after which nothing may be read.
fn allowed(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    loop {
        // §2.2
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or(bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
        if bytes.is_empty() {
            return count;
        }
        count += 1;
        let Some(rest) = after_request(bytes) else { return count };
        bytes = rest;
    }
}

/// What follows the first request, if its end can be told.
fn after_request(mut bytes: &[u8]) -> Option<&[u8]> {
    let (mut lengths, mut codings, mut is_old) = (Vec::new(), Vec::new(), None);
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        bytes = &bytes[end + 1..];
        if line.is_empty() {
            break;
        }
        if is_old.is_none() {
            is_old = Some(line.ends_with(b" HTTP/1.0"));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = line[colon + 1..].trim_ascii();
        match line[..colon].to_ascii_lowercase().as_slice() {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some(bytes),
        ([], [coding]) if coding == b"chunked" && is_old == Some(false) => after_chunks(bytes),
        ([length, more @ ..], []) if more.iter().all(|other| other == length) => {
            let length = std::str::from_utf8(length).ok()?;
            let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
            bytes.get(is_number.then_some(length.parse::<usize>().ok()?)?..)
        }
        _ => None,
    }
}

/// What follows a body in chunks (§7.1).
fn after_chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    let line = |bytes: &mut &[u8]| {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = bytes[..end].to_vec();
        *bytes = &bytes[end + 2..];
        Some(line)
    };
    loop {
        let size = line(&mut bytes)?;
        let end = size.iter().position(|byte| b"; \t".contains(byte)).unwrap_or(size.len());
        let is_sound = !size.contains(&b'\n') && size[..end].iter().all(u8::is_ascii_hexdigit);
        let digits = is_sound.then(|| std::str::from_utf8(&size[..end]).ok())??;
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            break;
        }
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
    while !line(&mut bytes)?.is_empty() {}
    Some(bytes)
}

/// A connection whose other side sends `input` and then closes.
struct Pipe {
    input: Vec<u8>,
    at: usize,
    pieces: Pieces,
    pause: bool,
    said: Rc<Cell<Vec<u8>>>,
}

/// How many bytes come at once.
enum Pieces {
    Same(usize),
    /// The state of a generator.
    Mixed(u32),
}

impl Pieces {
    fn by(byte: u8) -> Self {
        match byte {
            0x80.. => Self::Mixed(byte.into()),
            _ if byte.trailing_zeros() >= 4 => Self::Same(usize::MAX),
            _ => Self::Same((byte & 0x0f).into()),
        }
    }

    fn next(&mut self) -> usize {
        match self {
            Self::Same(step) => *step,
            Self::Mixed(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 17;
                *state ^= *state << 5;
                1 + (*state >> 8) as usize % 40
            }
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Every other time nothing has come yet; whoever polls comes again.
        self.pause = !self.pause;
        if self.pause {
            return Poll::Pending;
        }
        let step = self.pieces.next();
        let rest = &self.input[self.at..];
        let taken = rest.len().min(step).min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut said = self.said.take();
        said.extend_from_slice(bytes);
        self.said.set(said);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
