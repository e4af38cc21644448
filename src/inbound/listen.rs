//! The listening socket, the accept loop, and the end of it.
//!
//! Connections above the limit are accepted into a small reserve, only to answer monitors and to say "busy". Whoever
//! comes when that is full as well takes the place of the one who has been in it longest, so that monitors are
//! answered however many wait for nothing. One address holds a share of the connections; loopback is exempt.

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
use tokio::task::AbortHandle;

use crate::base::limits::CONNECTIONS;
use crate::base::net::counted_as;
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
    shares: RefCell<Shares>,
    /// Those above the limit, the oldest first, and perhaps some that have ended.
    reserve: RefCell<heapless::Deque<AbortHandle, RESERVE>>,
}

/// Open connections of each address but loopback.
#[derive(Debug, Default)]
struct Shares(heapless::LinearMap<IpAddr, usize, CONNECTIONS>);

impl Shares {
    /// Counts one more for `address`; `false`, counting nothing, when it has `limit` already.
    fn take(&mut self, address: IpAddr, limit: usize) -> bool {
        if address.to_canonical().is_loopback() {
            return true;
        }
        let address = counted_as(address);
        let open = self.0.get(&address).copied().unwrap_or(0);
        open < limit && self.0.insert(address, open + 1).is_ok()
    }

    /// Counts one less for `address`.
    fn give(&mut self, address: IpAddr) {
        let address = counted_as(address);
        let Some(open) = self.0.get_mut(&address) else { return };
        *open -= 1;
        if *open == 0 {
            self.0.remove(&address);
        }
    }
}

/// One open connection.
struct Permit {
    door: Rc<Door>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let open = &self.door.front.connections;
        open.set(open.get() - 1);
        self.door.shares.borrow_mut().give(self.address);
        self.door.front.left.notify_one();
    }
}

/// Accepts until `stop` turns true. Open connections see it as well: each ends after the reply it is writing.
pub async fn run(listener: TcpListener, front: Rc<Front>, mut stop: watch::Receiver<bool>) {
    let door = Rc::new(Door {
        front,
        scratch: scratch(),
        shares: RefCell::default(),
        reserve: RefCell::default(),
    });
    loop {
        let open = door.front.connections.get();
        // One more than there is room for: whose place it takes has still to be told.
        let full = open > door.front.limits.get().connections + RESERVE;
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = door.front.left.notified(), if full => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, address)) => {
                    admit(&door, stream, address, &stop);
                    if open >= door.front.limits.get().connections {
                        // Its question may be here already, and is answered before others crowd it out.
                        tokio::task::yield_now().await;
                    }
                }
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
    if !door.shares.borrow_mut().take(address.ip(), limits.per_address) {
        log::debug!("peer={address} has its share of connections");
        door.front.counters.connections.add(1);
        return;
    }
    door.front.counters.connections.add(0);
    let open = door.front.connections.get() + 1;
    door.front.connections.set(open);
    let permit = Permit { door: door.clone(), address: address.ip() };
    // An address that cannot be asked for is nobody's.
    let local = stream.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |local| local.ip());
    let mut peer = Peer {
        address,
        local: local.to_canonical(),
        is_tls: false,
        progress: Progress::new(),
        surplus: open > limits.connections,
        certificate: None,
        unwelcome: false,
    };
    let surplus = peer.surplus;
    // Events are small and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let waits =
        Waits { idle: limits.idle_wait, header: limits.header_wait, write: limits.write_wait };
    let (front, scratch, mut stop) = (door.front.clone(), door.scratch.clone(), stop.clone());
    let mut terms = front.tls.changes();
    let served = tokio::task::spawn_local(async move {
        let welcome = tokio::select! {
            welcome = front.tls.welcome(stream, &mut peer, waits.header) => welcome,
            _ = stop.changed() => return,
            _ = terms.changed() => return,
        };
        match welcome {
            Ok(wire) => {
                let socket = Socket::new(wire, scratch, peer.progress.clone(), waits);
                connection(front, Rc::new(peer), socket, stop, terms).await;
            }
            Err(error) => log::debug!("peer={address} connection: {error}"),
        }
        drop(permit);
    });
    if surplus {
        let mut reserve = door.reserve.borrow_mut();
        if reserve.is_full() {
            // Those that have ended first: they stand between others.
            for _ in 0..RESERVE {
                if let Some(open) = reserve.pop_front()
                    && !open.is_finished()
                {
                    let _ = reserve.push_back(open);
                }
            }
        }
        if reserve.is_full()
            && let Some(oldest) = reserve.pop_front()
        {
            oldest.abort();
        }
        let _ = reserve.push_back(served.abort_handle());
    }
}

/// Serves one connection to its end, which comes after the reply under way when `stop` turns true or other `terms` of
/// TLS come into force: who was let in under the old ones has proved nothing under the new.
pub async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    front: Rc<Front>,
    peer: Rc<Peer>,
    socket: Socket<S>,
    mut stop: watch::Receiver<bool>,
    mut terms: watch::Receiver<()>,
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
        () = async { tokio::select! { _ = stop.changed() => {}, _ = terms.changed() => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("peer={address} connection: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_loopback_all() {
        let mut shares = Shares::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = address("192.0.2.1");
        assert!((0..16).all(|_| shares.take(one, 16)));
        assert!(!shares.take(one, 16) && !shares.take(address("::ffff:192.0.2.1"), 16));
        assert!(shares.take(address("192.0.2.2"), 16));
        shares.give(address("::ffff:192.0.2.1"));
        assert!(shares.take(one, 16) && !shares.take(one, 16));
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!((0..100).all(|_| shares.take(address(own), 16)), "{own}");
            shares.give(address(own));
        }
        (0..16).for_each(|_| shares.give(one));
        shares.give(address("192.0.2.2"));
        assert!(shares.0.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_has_one_share() {
        let mut shares = Shares::default();
        let mut taken = 0;
        for host in 1..=20 {
            let address = format!("2001:db8::{host}").parse().unwrap();
            taken += usize::from(shares.take(address, 16));
        }
        assert_eq!(taken, 16);
        assert!(shares.take("2001:db8:0:1::1".parse().unwrap(), 16));
    }

    #[test]
    fn more_addresses_than_can_be_counted_are_refused() {
        let mut shares = Shares::default();
        let taken = (0..600_u32).filter(|at| shares.take(Ipv4Addr::from_bits(*at).into(), 16));
        assert_eq!(taken.count(), CONNECTIONS);
    }
}
