//! A TCP connection as hyper wants it, with the deadlines that hyper has not: idle, slow head, slow reader.
//!
//! The service tells through [`Progress`] what the connection is doing. All connections read through one shared
//! buffer, because hyper's own can only be filled in place by unsafe code.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
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
}

impl Progress {
    /// A connection that has not begun a request.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { phase: Cell::new(Phase::Idle), changes: Cell::new(0) })
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.changes.set(self.changes.get().wrapping_add(1));
    }

    /// The service has a request.
    pub fn busy(&self) {
        self.enter(Phase::Busy);
    }

    /// The reply is out.
    pub fn idle(&self) {
        self.enter(Phase::Idle);
    }
}

/// A connection's socket.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    scratch: Scratch,
    progress: Rc<Progress>,
    waits: Waits,
    /// Fires when the phase it was armed for, at that change, has lasted too long.
    reading: Option<(u32, Phase, Pin<Box<Sleep>>)>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Wraps an accepted connection.
    pub fn new(stream: TcpStream, scratch: Scratch, progress: Rc<Progress>, waits: Waits) -> Self {
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

impl hyper::rt::Read for Socket {
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
                if !filled.is_empty() && this.progress.phase.get() == Phase::Idle {
                    this.progress.enter(Phase::Head);
                }
                buffer.put_slice(filled);
                Poll::Ready(result)
            }
            Poll::Pending => {
                drop(scratch);
                this.poll_silence(context)
            }
        }
    }
}

impl hyper::rt::Write for Socket {
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

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
