//! A connection as hyper wants it, with the deadlines that hyper has not: idle, slow head, slow reader.
//!
//! The service tells through [`Progress`] what the connection is doing, and learns from it what hyper keeps to itself.
//! All connections read through one shared buffer, because hyper's own can only be filled in place by unsafe code.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes read at once.
const CHUNK: usize = 8 * 1024;

/// The buffer that all connections of the runtime thread read through.
pub type Scratch = Rc<RefCell<Box<[u8; CHUNK]>>>;

/// A buffer for [`Socket::new`].
pub fn scratch() -> Scratch {
    Rc::new(RefCell::new(Box::new([0; CHUNK])))
}

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Without a request.
    pub idle: Duration,
    /// From the first byte of a head to its end.
    pub header: Duration,
    /// For a reader that takes nothing.
    pub write: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// A head has begun.
    Head,
    /// The service has the request.
    Busy,
}

/// What a connection is doing, shared between its socket and its service.
#[derive(Debug)]
pub struct Progress {
    phase: Cell<Phase>,
    /// Counts the changes of phase.
    changes: Cell<u32>,
    /// Lines that began as [`LENGTH`] and belong to no request yet.
    lengths: Cell<u32>,
    /// How much of [`LENGTH`] the last bytes read were.
    matched: Cell<usize>,
}

/// The beginning of a header line that gives a body's length, in lower case.
const LENGTH: &[u8] = b"\ncontent-length:";

impl Progress {
    /// A connection that has not begun a request.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Idle),
            changes: Cell::new(0),
            lengths: Cell::new(0),
            matched: Cell::new(0),
        })
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.changes.set(self.changes.get().wrapping_add(1));
    }

    /// Something came.
    pub fn begin(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// The service has a request.
    pub fn busy(&self) {
        self.enter(Phase::Busy);
    }

    /// The reply is out.
    pub fn idle(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether the head of the next request has a length that hyper does not show; `shown` says whether it shows one.
    ///
    /// hyper hides a length beside a transfer coding, so lines with a length are counted as they pass. Every request
    /// takes off the line that it shows; what is left is hidden, or belongs to a request that was sent
    /// before this one was answered. No JSON text has such a line.
    pub fn hides_length(&self, shown: bool) -> bool {
        let left = self.lengths.get().saturating_sub(u32::from(shown));
        self.lengths.set(left);
        left > 0
    }

    fn look(&self, mut bytes: &[u8]) {
        let mut matched = self.matched.get();
        while let Some(byte) = bytes.first() {
            if matched == 0 {
                let Some(end) = memchr(b'\n', bytes) else { break };
                bytes = &bytes[end + 1..];
                matched = 1;
            } else if byte.eq_ignore_ascii_case(&LENGTH[matched]) {
                bytes = &bytes[1..];
                matched += 1;
                if matched == LENGTH.len() {
                    self.lengths.set(self.lengths.get().saturating_add(1));
                    matched = 0;
                }
            } else {
                matched = 0;
            }
        }
        self.matched.set(matched);
    }
}

/// A connection's socket.
#[derive(Debug)]
pub struct Socket<S> {
    stream: S,
    scratch: Scratch,
    progress: Rc<Progress>,
    waits: Waits,
    /// Fires when the phase it was armed for, at that change, has lasted too long.
    reading: Option<(u32, Phase, Pin<Box<Sleep>>)>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    /// Wraps an accepted connection.
    pub fn new(stream: S, scratch: Scratch, progress: Rc<Progress>, waits: Waits) -> Self {
        Self { stream, scratch, progress, waits, reading: None, writing: None }
    }

    /// Nothing came: is that too long already?
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let changes = self.progress.changes.get();
        let phase = self.progress.phase.get();
        let wait = match phase {
            // A busy connection may be idle the next moment, and nobody polls it then: its timer runs already.
            Phase::Idle | Phase::Busy => self.waits.idle,
            Phase::Head => self.waits.header,
        };
        let (armed_at, armed_for, timer) =
            self.reading.get_or_insert_with(|| (changes, phase, Box::pin(sleep(wait))));
        // Idle time is only looked at when the timer fires, so that a busy connection does not set it anew for
        // every request; it may last up to twice as long. A half-sent head is rare and timed exactly.
        if *armed_at != changes && (*armed_for == Phase::Head || phase == Phase::Head) {
            (*armed_at, *armed_for) = (changes, phase);
            timer.as_mut().reset(Instant::now() + wait);
        }
        while timer.as_mut().poll(context).is_ready() {
            if *armed_at == changes && phase != Phase::Busy {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            (*armed_at, *armed_for) = (changes, phase);
            timer.as_mut().reset(Instant::now() + wait);
        }
        Poll::Pending
    }

    /// The reader takes nothing: is that too long already?
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wait = self.waits.write;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep(wait)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut scratch = this.scratch.borrow_mut();
        let room = buffer.remaining().min(CHUNK);
        // Not `try_read`: this one knows that a short read has emptied the socket, and spares a system call.
        let mut read = ReadBuf::new(&mut scratch[..room]);
        match Pin::new(&mut this.stream).poll_read(context, &mut read) {
            Poll::Ready(result) => {
                let filled = read.filled();
                if !filled.is_empty() {
                    this.progress.begin();
                }
                this.progress.look(filled);
                buffer.put_slice(filled);
                Poll::Ready(result)
            }
            Poll::Pending => {
                drop(scratch);
                let silence = this.poll_silence(context);
                if silence.is_ready() {
                    // The end is said, if the client takes that at once.
                    let _ = Pin::new(&mut this.stream).poll_shutdown(context);
                }
                silence
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Socket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(context, bytes) {
            Poll::Ready(result) => {
                this.writing = None;
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_stall(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write_vectored(context, bytes) {
            Poll::Ready(result) => {
                this.writing = None;
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_stall(context),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Ready(result) => {
                this.writing = None;
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_stall(context).map_ok(|_| ()),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is hidden of `stream`, read in pieces of `step` bytes, once `shown` requests have shown their length.
    fn hides(stream: &str, step: usize, shown: usize) -> bool {
        let progress = Progress::new();
        for piece in stream.as_bytes().chunks(step) {
            progress.look(piece);
        }
        for _ in 0..shown {
            progress.hides_length(true);
        }
        progress.hides_length(false)
    }

    #[test]
    fn a_length_that_nobody_shows_is_noticed_however_it_is_cut() {
        let stream =
            "POST / HTTP/1.1\r\nHost: x\r\ncOntent-LENGTH:5\r\nTransfer-Encoding: chunked\r\n\r\n";
        for step in 1..=stream.len() {
            assert!(hides(stream, step, 0), "{step}");
            assert!(!hides(stream, step, 1), "{step}");
            assert!(hides(&stream.replace('\r', ""), step, 0), "{step}");
            assert!(hides(&stream.repeat(2), step, 1), "{step}");
            assert!(!hides(&stream.repeat(2), step, 2), "{step}");
            assert!(
                hides(&stream.replace("\r\nc", "\r\n\n\ncontent-lenC:\r\nc"), step, 0),
                "{step}"
            );
        }
    }

    #[test]
    fn other_lines_are_no_lengths() {
        for line in
            ["X-Content-Length: 5", "Content-Length-X: 5", "Content-Type: 5", " Content-Length: 5"]
        {
            let stream = format!(
                "POST / HTTP/1.1\r\n{line}\r\n\r\n{{\n \"content-length:\": 5,\n\"x\": 1}}"
            );
            for step in 1..=stream.len() {
                assert!(!hides(&stream, step, 0), "{line} {step}");
            }
        }
    }
}
