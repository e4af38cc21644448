//! The listening socket, the accept loop, and the end of it.
//!
//! Connections above the limit are accepted up to a small reserve, only to answer monitors and to say "busy".
//! Above that they wait in the kernel. One address holds a share of the connections; loopback is exempt.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::base::limits::CONNECTIONS;
use crate::inbound::io::{Progress, Scratch, Socket, Waits, scratch};
use crate::inbound::service::{Front, Peer, serve};

/// Connections accepted above the limit.
const RESERVE: usize = 8;

/// Header lines of a request.
const HEADERS: usize = 64;

/// After a failed accept (no file descriptor left, say) the next try waits this long.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the listening socket at the first of `addresses` that can be had.
///
/// # Errors
/// The last address's.
pub async fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    TcpListener::bind(addresses).await
}

/// Who is connected.
#[derive(Debug)]
struct Door {
    front: Rc<Front>,
    scratch: Scratch,
    /// Open connections of each address but loopback.
    addresses: RefCell<heapless::LinearMap<IpAddr, usize, CONNECTIONS>>,
}

/// One open connection.
struct Permit {
    door: Rc<Door>,
    /// Counted for its address.
    address: Option<IpAddr>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let open = &self.door.front.connections;
        open.set(open.get() - 1);
        if let Some(address) = self.address {
            let mut addresses = self.door.addresses.borrow_mut();
            let left = addresses.get_mut(&address).map_or(0, |open| {
                *open -= 1;
                *open
            });
            if left == 0 {
                addresses.remove(&address);
            }
        }
        self.door.front.left.notify_one();
    }
}

/// Accepts until `stop` turns true. Open connections see it as well: each ends after the reply it is writing.
pub async fn run(listener: TcpListener, front: Rc<Front>, mut stop: watch::Receiver<bool>) {
    let door = Rc::new(Door {
        front,
        scratch: scratch(),
        addresses: RefCell::new(heapless::LinearMap::new()),
    });
    loop {
        let full = door.front.connections.get() >= door.front.limits.get().connections + RESERVE;
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = door.front.left.notified(), if full => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, address)) => admit(&door, stream, address, &stop),
                Err(error) => {
                    log::debug!("accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

fn admit(door: &Rc<Door>, stream: TcpStream, address: SocketAddr, stop: &watch::Receiver<bool>) {
    let limits = door.front.limits.get();
    let ip = address.ip().to_canonical();
    let mut counted = None;
    if !ip.is_loopback() {
        let mut addresses = door.addresses.borrow_mut();
        let open = addresses.get(&ip).copied().unwrap_or(0);
        if open >= limits.per_address || addresses.insert(ip, open + 1).is_err() {
            log::debug!("peer={address} has its share of connections");
            door.front.counters.connections.add(1);
            return;
        }
        counted = Some(ip);
    }
    door.front.counters.connections.add(0);
    let open = door.front.connections.get() + 1;
    door.front.connections.set(open);
    let permit = Permit { door: door.clone(), address: counted };
    // An address that cannot be asked for is nobody's.
    let local = stream.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |local| local.ip());
    let peer = Rc::new(Peer {
        address,
        local: local.to_canonical(),
        is_tls: false,
        progress: Progress::new(),
        surplus: open > limits.connections,
    });
    // Events are small and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let waits =
        Waits { idle: limits.idle_wait, header: limits.header_wait, write: limits.write_wait };
    let socket = Socket::new(stream, door.scratch.clone(), peer.progress.clone(), waits);
    let (front, stop) = (door.front.clone(), stop.clone());
    tokio::task::spawn_local(async move {
        connection(front, peer, socket, stop).await;
        drop(permit);
    });
}

/// Serves one connection to its end, which comes after the reply under way when `stop` turns true.
pub async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    front: Rc<Front>,
    peer: Rc<Peer>,
    socket: Socket<S>,
    mut stop: watch::Receiver<bool>,
) {
    let header_bytes = front.limits.get().header_bytes;
    let address = peer.address;
    let service = service_fn(move |request| {
        // Said at once: hyper polls the socket before it polls the future.
        peer.progress.busy();
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(serve(front, peer, request).await) }
    });
    let mut server = http1::Builder::new();
    server.max_headers(HEADERS).max_buf_size(header_bytes.max(8 * 1024)).half_close(false);
    let mut connection = std::pin::pin!(server.serve_connection(socket, service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("peer={address} connection: {error}");
    }
}
