//! The HTTP front door over a connection in memory: hyper and the service as they run, without socket or clock.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tetherlet::a2a::card::{Card, Facts, Form, Identity, Security};
use tetherlet::base::ids::Ids;
use tetherlet::base::limits::Limits;
use tetherlet::config::Listen;
use tetherlet::engine::queue::Bounds;
use tetherlet::engine::skills::available;
use tetherlet::engine::{Engine, Settings};
use tetherlet::inbound::cell::EngineCell;
use tetherlet::inbound::hosts::Hosts;
use tetherlet::inbound::io::Progress;
use tetherlet::inbound::pages::About;
use tetherlet::inbound::service::{Front, Peer, serve};
use tetherlet::work::{End, Lane, Update};

use super::must_be_json;

/// The most a connection may take, whatever it is fed.
const POLLS: usize = 4096;

/// Every connection ends, with whole replies of known status, and gives back what it held.
///
/// The first byte says in what pieces the rest arrives.
pub fn http(input: &[u8]) {
    let Some((step, stream)) = input.split_first() else { return };
    let step = match step & 0x0f {
        0 => usize::MAX,
        step => usize::from(step),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    // The timers of streams and bodies want a runtime around them; none of them ever fires here.
    let runtime = runtime.expect("a runtime without threads can be made");
    let _entered = runtime.enter();

    let front = front();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let progress = Progress::new();
    let peer =
        Rc::new(Peer { address, local: address.ip(), is_tls: false, progress, surplus: false });
    let said = Rc::new(Cell::new(Vec::new()));
    let pipe = Pipe { input: stream.to_vec(), at: 0, step, pause: false, said: said.clone() };
    let service = {
        let front = front.clone();
        service_fn(move |request| {
            let (front, peer) = (front.clone(), peer.clone());
            async move { Ok::<_, Infallible>(serve(front, peer, request).await) }
        })
    };
    let mut server = http1::Builder::new();
    server.max_headers(64).max_buf_size(8 * 1024).half_close(false);
    {
        let mut connection = pin!(server.serve_connection(pipe, service));
        let mut context = Context::from_waker(Waker::noop());
        let mut polls = 0;
        while connection.as_mut().poll(&mut context).is_pending() {
            polls += 1;
            assert!(polls < POLLS, "the connection does not end");
            work(&front);
        }
    }
    let said = said.take();
    replies(&said);
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
        open: false,
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

/// Reads what was said as a sequence of replies.
fn replies(mut said: &[u8]) {
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
        said = &said[end..];
        let is = |what: &str| head.to_ascii_lowercase().contains(what);
        let length = head.to_ascii_lowercase();
        let length = length.split_once("content-length: ").and_then(|(_, rest)| {
            rest.split_once('\r').map(|(number, _)| number.parse::<usize>().expect("a number"))
        });
        if let Some(length) = length {
            // The reply to HEAD has the length only, and the next one, or nothing, follows.
            if said.starts_with(b"HTTP/1.") || said.is_empty() {
                continue;
            }
            let (body, rest) = said.split_at_checked(length).expect("a reply has a whole body");
            if is("content-type: application/json") {
                must_be_json(std::str::from_utf8(body).expect("JSON is UTF-8"));
            }
            said = rest;
        } else if is("text/event-stream") || is("connection: close") {
            // Chunks, or all the rest.
            return;
        }
    }
}

/// A connection whose other side sends `input` and then closes.
struct Pipe {
    input: Vec<u8>,
    at: usize,
    step: usize,
    pause: bool,
    said: Rc<Cell<Vec<u8>>>,
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Every other time nothing has come yet; whoever polls comes again.
        self.pause = !self.pause;
        if self.pause {
            return Poll::Pending;
        }
        let rest = &self.input[self.at..];
        let taken = rest.len().min(self.step).min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}

impl Write for Pipe {
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
