//! Decides what a connection is and under which terms: its first byte tells TLS from plain HTTP, so that both share one
//! port; the configuration tells who may still speak plain HTTP and which client certificates are good.
//!
//! The terms can be replaced while the agent runs; connections end when they might not be let in any more.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::base::clock::Now;
use crate::base::limits::{TLS_SESSION_BYTES, TLS_SESSIONS};
use crate::base::x509::{self, Name, fingerprint};
use crate::config::tls::Material;
use crate::config::{ClientCert, Plain};
use crate::inbound::auth::Shown;
use crate::inbound::live::Live;
use crate::inbound::service::Peer;
use crate::inbound::wire::{Records, Wire};

/// The first byte of a TLS record with a handshake in it (RFC 8446 §5.1), and of no HTTP request.
const HANDSHAKE: u8 = 0x16;

/// The terms in force, if TLS is spoken at all.
#[derive(Debug, Default)]
pub struct Tls {
    terms: Live<Option<Terms>>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct Terms {
    material: Arc<Material>,
    server: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// A verified certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// URIs, such as `spiffe://domain/workload`, and host names, in lower case: a name with `:` in it is a URI.
    pub names: Vec<String>,
    /// SHA-256 of the certificate, in lower-case hex.
    pub fingerprint: String,
}

impl Certificate {
    fn read(der: &[u8]) -> Self {
        let names = x509::Certificate::read(der).map_or(vec![], |it| it.alt_names());
        let names = names.into_iter().filter_map(|name| match name {
            Name::Dns(name) | Name::Uri(name) => Some(name),
            Name::Ip(_) => None,
        });
        Self { names: names.collect(), fingerprint: fingerprint(der) }
    }
}

impl Shown for Certificate {
    fn is(&self, name: &str) -> bool {
        match name.strip_prefix("sha256:") {
            Some(fingerprint) => self.fingerprint == fingerprint,
            None => self.names.iter().any(|known| known == name),
        }
    }

    fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.fingerprint)
    }
}

impl Tls {
    /// From now on these terms hold; without material only plain HTTP is spoken. Sessions of the terms before cannot be
    /// resumed, and when callers would be let in otherwise now, open connections end with what they are doing.
    ///
    /// # Errors
    /// When TLS cannot be spoken with the material; nothing has changed then.
    pub fn replace(&self, material: Option<Arc<Material>>) -> io::Result<()> {
        let is_alike = match (&self.material(), &material) {
            (Some(old), Some(new)) => old.admits_like(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let terms = material.map(Terms::new).transpose().map_err(io::Error::other)?;
        self.terms.replace(terms);
        if !is_alike {
            self.changes.send_replace(());
        }
        Ok(())
    }

    /// Tells when callers are let in otherwise than before.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// What TLS is spoken with.
    pub fn material(&self) -> Option<Arc<Material>> {
        (*self.terms.get()).as_ref().map(|terms| terms.material.clone())
    }

    /// Looks at the first byte of a connection and, when it is TLS, shakes hands, all of that within `wait`. What is
    /// learnt of the client then stands in `peer`.
    ///
    /// # Errors
    /// When there is nothing to serve: the client left, was too slow, or the handshake failed.
    pub async fn welcome(
        &self,
        stream: TcpStream,
        peer: &mut Peer,
        wait: Duration,
    ) -> io::Result<Wire> {
        let terms = self.terms.get();
        let Some(terms) = &*terms else { return Ok(Wire::Plain(stream)) };
        tokio::time::timeout(wait, terms.welcome(stream, peer)).await?
    }
}

impl Terms {
    fn new(material: Arc<Material>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(default_provider());
        let clients = match &material.clients {
            None => Arc::new(NoClientAuth),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
                let verifier = match material.client_cert {
                    ClientCert::Optional => verifier.allow_unauthenticated(),
                    ClientCert::Required => verifier,
                };
                verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?
            }
        };
        let mut server = ServerConfig::builder_with_details(provider, Arc::new(Clock))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients.clone())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified.clone())));
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Kept here, not sealed into tickets: no key to rotate by a clock that may be wrong, and none that opens
        // recorded connections.
        server.session_storage = Arc::new(Sessions(ServerSessionMemoryCache::new(TLS_SESSIONS)));
        server.send_tls13_tickets = 1;
        Ok(Self { material, server: Arc::new(server), clients })
    }

    async fn welcome(&self, stream: TcpStream, peer: &mut Peer) -> io::Result<Wire> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE] {
            peer.unwelcome = match self.material.plain {
                Plain::Local => !peer.is_here(),
                Plain::All => false,
                Plain::None => true,
            };
            return Ok(Wire::Plain(stream));
        }
        let tls = ServerConnection::new(self.server.clone()).map_err(io::Error::other)?;
        let records = Records::begin(stream, tls, peer.progress.clone()).await?;
        peer.is_tls = true;
        peer.certificate = self.certificate(records.session())?.map(Rc::new);
        if let Some(Certificate { names, fingerprint }) = peer.certificate.as_deref() {
            log::debug!("peer={} certificate={fingerprint} names={names:?}", peer.address);
        }
        Ok(Wire::Tls(Box::new(records)))
    }

    /// The client's certificate, if it showed one.
    fn certificate(&self, tls: &ServerConnection) -> io::Result<Option<Certificate>> {
        let Some([own, between @ ..]) = tls.peer_certificates() else { return Ok(None) };
        // rustls takes it from the session then, and does not look at its time again.
        if tls.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.still_good(own, between)?;
        }
        Ok(Some(Certificate::read(own)))
    }

    fn still_good(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
    ) -> io::Result<()> {
        self.clients
            .verify_client_cert(own, between, time())
            .map(|_| ())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The wall clock. Unlike rustls' own it does not panic before 1970.
#[derive(Debug)]
struct Clock;

fn time() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(Now::read().unix_ms))
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(time())
    }
}

/// A bounded number of sessions of bounded size.
#[derive(Debug)]
struct Sessions(Arc<ServerSessionMemoryCache>);

impl StoresServerSessions for Sessions {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        session.len() <= TLS_SESSION_BYTES && self.0.put(id, session)
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.get(id)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.0.take(id)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
