//! What runs over a TCP connection: HTTP itself, or TLS with HTTP in it. Moves bytes and records.
//!
//! Under which terms TLS is spoken `tls` decides; deadlines are the business of `io`. Nothing waits here without a
//! bound: so many bytes for a handshake, so many encrypted ones for a reader that takes none.

use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::inbound::io::Progress;

/// Bytes that a client may send before the handshake is done: its certificates are the largest part.
const HANDSHAKE: usize = 32 * 1024;

/// Bytes that wait encrypted for the reader before no more are taken, beside those of one record.
const OUTGOING: usize = 16 * 1024;

/// A connection.
#[derive(Debug)]
pub enum Wire {
    /// HTTP itself.
    Plain(TcpStream),
    /// HTTP in TLS. Boxed: plain connections are most, and small.
    Tls(Box<Records>),
}

/// A TLS connection.
#[derive(Debug)]
pub struct Records {
    stream: TcpStream,
    tls: ServerConnection,
    /// Told of every byte: half a record is the beginning of a request.
    progress: Rc<Progress>,
}

impl Records {
    /// Shakes hands. When that fails, the client has been told why, as far as it listens. Has no deadline of its own.
    ///
    /// # Errors
    /// What went wrong, on the socket or in the handshake.
    pub async fn begin(
        stream: TcpStream,
        mut tls: ServerConnection,
        progress: Rc<Progress>,
    ) -> io::Result<Self> {
        tls.set_buffer_limit(Some(OUTGOING));
        let mut records = Self { stream, tls, progress };
        let mut received = 0;
        let ended = poll_fn(|context| records.poll_handshake(context, &mut received)).await;
        if ended.is_err() {
            records.say_why().await;
        } else {
            // Whoever has shaken hands has not yet asked for anything.
            records.progress.idle();
        }
        ended.map(|()| records)
    }

    /// What was agreed upon.
    pub const fn session(&self) -> &ServerConnection {
        &self.tls
    }

    fn poll_handshake(
        &mut self,
        context: &mut Context<'_>,
        received: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            // What the client does not take now, later writes will send.
            if let Poll::Ready(Err(error)) = self.poll_drain(context) {
                return Poll::Ready(Err(error));
            }
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_records(context))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => *received += read,
            }
            if *received > HANDSHAKE {
                return Poll::Ready(Err(io::Error::other("a handshake without end")));
            }
        }
    }

    /// Sends the alert of a failed handshake. A socket that is closed with unread bytes in it resets the connection,
    /// and the reset may overtake the alert: what the client still sends is read away until it leaves.
    async fn say_why(&mut self) {
        let told = poll_fn(|context| {
            ready!(self.poll_drain(context))?;
            Pin::new(&mut self.stream).poll_shutdown(context)
        });
        if told.await.is_err() {
            return;
        }
        let mut left = HANDSHAKE;
        while left > 0 {
            match poll_fn(|context| self.poll_discard(context)).await {
                Ok(read) if read > 0 => left = left.saturating_sub(read),
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 1024];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Reads records, and understands those that are whole. Returns how many bytes came, zero at the end.
    fn poll_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(later(self.tls.read_tls(&mut Socket(&mut self.stream, context))))?;
        self.progress.begin();
        let understood = self.tls.process_new_packets();
        let understood =
            understood.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        Poll::Ready(understood.map(|_| read))
    }

    /// Sends what is encrypted already.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            ready!(later(self.tls.write_tls(&mut Socket(&mut self.stream, context))))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.tls.reader().read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // The end of TLS is the end, said or not: HTTP/1.1 knows itself whether a request is whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let read = self.poll_records(context);
            // An alert, or the answer to a request for new keys.
            if let Poll::Ready(Err(error)) = self.poll_drain(context) {
                return Poll::Ready(Err(error));
            }
            ready!(read)?;
        }
    }

    /// Encrypts as much as may wait for the reader.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let taken = self.tls.writer().write_vectored(bytes)?;
            let drained = self.poll_drain(context);
            if let Poll::Ready(Err(error)) = drained {
                return Poll::Ready(Err(error));
            }
            if taken > 0 || bytes.iter().all(|bytes| bytes.is_empty()) {
                return Poll::Ready(Ok(taken));
            }
            ready!(drained)?;
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(records) => records.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(records) => records.poll_write(context, &[io::IoSlice::new(bytes)]),
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
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(records) => records.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // A TCP socket keeps nothing back.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(records) => records.poll_drain(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(records) => {
                // Said once, however often this is polled.
                records.tls.send_close_notify();
                ready!(records.poll_drain(context))?;
                Pin::new(&mut records.stream).poll_shutdown(context)
            }
        }
    }
}

/// The socket as rustls wants it: "not now" is an error, and the task is woken later.
struct Socket<'a, 'b>(&'a mut TcpStream, &'a mut Context<'b>);

impl io::Read for Socket<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut read = ReadBuf::new(bytes);
        now(Pin::new(&mut *self.0).poll_read(self.1, &mut read))?;
        Ok(read.filled().len())
    }
}

impl io::Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.0).poll_write(self.1, bytes))
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.0).poll_write_vectored(self.1, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now<T>(result: Poll<io::Result<T>>) -> io::Result<T> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The opposite of [`now`].
fn later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}
