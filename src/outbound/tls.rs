//! TLS of every connection to others: whom it trusts, the key it shows, and what ureq needs to use it.
//!
//! A server is trusted by an authority, built in or configured; as itself, when its own certificate was configured;
//! or by a pin, which goes over all else: the host then has that one key at that port, whatever name, dates or
//! issuer its certificate bears, and no other key is accepted. There is no way to trust anybody.
//!
//! Configurations are built when they are first needed and shared by all agents. A clock before 1970 makes
//! certificates not yet valid, not a panic.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, OtherError,
    RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::time::{self, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, LazyBuffers, NextTimeout,
    TcpConnector, Transport, TransportAdapter,
};

use crate::base::clock::Now;
use crate::base::x509::Certificate;
use crate::config::trust::{At, Digest, Identity, Trust, sha256, shown};

/// Servers whose sessions are resumed, times the eight tickets that rustls keeps of each.
const SESSIONS: usize = 4 * 8;
/// When a request cannot be written, the reason may lie in front of us, or arrive within this time.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// The error for a server that speaks TLS where plain HTTP was asked for.
pub const SPEAKS_TLS: &str = "the server speaks TLS";
/// The error for a server that takes the connection and then says nothing.
pub const NO_HANDSHAKE: &str = "no TLS handshake in time";

/// What all connections share; a clone is the same.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    trust: Arc<Trust>,
    identity: Option<Identity>,
    ordinary: OnceLock<Arc<ClientConfig>>,
    /// One for each pin.
    pinned: Vec<OnceLock<Arc<ClientConfig>>>,
    /// Set only to look at a server.
    witness: Option<Arc<Witness>>,
    /// Whether a server has asked who calls.
    asked: Arc<AtomicBool>,
}

impl Tls {
    /// Without `identity` no server learns who calls.
    pub fn new(trust: Arc<Trust>, identity: Option<Identity>) -> Self {
        let pinned = trust.pins.iter().map(|_| OnceLock::new()).collect();
        let ordinary = OnceLock::new();
        let asked = Arc::default();
        Self(Arc::new(Inner { trust, identity, ordinary, pinned, witness: None, asked }))
    }

    /// Trusts nobody: every connection ends after the handshake with [`Looked`], and what the server showed is kept.
    ///
    /// # Errors
    /// The built-in roots cannot be used.
    pub fn looking(trust: &Trust) -> Result<(Self, Arc<Witness>), rustls::Error> {
        let witness = Arc::new(Witness { seen: Mutex::default(), judge: Judge::new(trust)? });
        let inner = Inner {
            trust: Arc::default(),
            identity: None,
            ordinary: OnceLock::new(),
            pinned: Vec::new(),
            witness: Some(witness.clone()),
            asked: Arc::default(),
        };
        Ok((Self(Arc::new(inner)), witness))
    }

    /// Whether servers that ask learn who calls.
    pub fn has_identity(&self) -> bool {
        self.0.identity.is_some()
    }

    /// Whether a server has asked who calls, when there is something to show.
    pub fn was_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Builds the configuration now, to see whether certificate and key can be used.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), rustls::Error> {
        self.ordinary().map(|_| ())
    }

    fn config(&self, at: &At) -> Result<Arc<ClientConfig>, rustls::Error> {
        let ordinary = self.ordinary()?;
        let pins = self.0.trust.pins.iter().zip(&self.0.pinned);
        let Some((pin, slot)) = pins.into_iter().find(|(pin, _)| pin.at == *at) else {
            return Ok(ordinary.clone());
        };
        let pinned = slot.get_or_init(|| {
            let mut config = ClientConfig::clone(ordinary);
            config.dangerous().set_certificate_verifier(Arc::new(Pinned { key: pin.key }));
            // Sessions are kept by host name, and another port may be another server.
            config.resumption = Resumption::in_memory_sessions(1);
            Arc::new(config)
        });
        Ok(pinned.clone())
    }

    fn ordinary(&self) -> Result<&Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.0.ordinary.get() {
            return Ok(config);
        }
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &self.0.witness {
            Some(witness) => witness.clone(),
            None => Arc::new(Judge::new(&self.0.trust)?),
        };
        let config = ClientConfig::builder_with_details(provider.clone(), Arc::new(Clock))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.0.identity {
            Some(it) => {
                let key = CertifiedKey::from_der(it.chain.clone(), it.key.clone_key(), &provider)?;
                let (own, asked) = (Arc::new(key), self.0.asked.clone());
                config.with_client_cert_resolver(Arc::new(Own { own, asked }))
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(self.0.ordinary.get_or_init(|| Arc::new(config)))
    }

    /// The way to a server: through a proxy when there is one, by TCP, and with TLS where the URL wants it.
    pub fn connector(&self) -> impl Connector<(), Out = Box<dyn Transport>> {
        ().chain(ByProxy(ConnectProxyConnector::default()))
            .chain(TcpConnector::default())
            .chain(self.clone())
    }
}

impl Default for Tls {
    /// The built-in roots alone.
    fn default() -> Self {
        Self::new(Arc::default(), None)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("pins", &self.0.trust.pins.len()).finish_non_exhaustive()
    }
}

/// Shows the one certificate, and notes that a server wanted to see it.
#[derive(Debug)]
struct Own {
    own: Arc<CertifiedKey>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(self.own.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The machine's clock, 1970 when it stands before that.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time())
    }
}

fn unix_time() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(Now::read().unix_ms))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

/// Why a certificate is not accepted, where rustls has no word for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// It vouches for itself, and nobody here knows it.
    SelfSigned,
    /// It came alone, and its issuer is no authority that is known here but most likely one of theirs.
    Alone {
        /// Whose certificate is missing.
        issuer: String,
    },
    /// Its chain ends with an authority that is not known here.
    Unknown {
        /// That authority.
        issuer: String,
    },
    /// The host has another key than the one that was pinned.
    Changed {
        /// The key it shows now.
        key: Digest,
    },
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfSigned => f.write_str("self-signed"),
            Self::Alone { issuer } => write!(f, "came without the certificate of {issuer}"),
            Self::Unknown { issuer } => write!(f, "from {issuer}, who is not known here"),
            Self::Changed { key } => write!(f, "has another key now: {}", shown(key)),
        }
    }
}

impl std::error::Error for Untrusted {}

impl From<Untrusted> for rustls::Error {
    fn from(why: Untrusted) -> Self {
        CertificateError::Other(OtherError(Arc::new(why))).into()
    }
}

/// Judges by authorities, and says why not.
#[derive(Debug)]
struct Judge {
    ordinary: Arc<WebPkiServerVerifier>,
    given: Vec<Digest>,
    /// Whether authorities were configured.
    has_own: bool,
}

impl Judge {
    fn new(trust: &Trust) -> Result<Self, rustls::Error> {
        let mut roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        roots.extend_from_slice(&trust.roots.roots);
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(RootCertStore { roots });
        let ordinary = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let ordinary = ordinary.map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { ordinary, given: trust.given.clone(), has_own: !trust.roots.is_empty() })
    }

    /// A certificate that was configured is good for its names and dates, whoever it is from.
    fn judge_given(
        der: &CertificateDer<'_>,
        name: &ServerName<'_>,
        time: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let it = Certificate::read(der).ok_or(CertificateError::BadEncoding)?;
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (not_before, not_after) = (at(it.not_before), at(it.not_after));
        if time < not_before {
            return Err(CertificateError::NotValidYetContext { time, not_before }.into());
        }
        if time > not_after {
            return Err(CertificateError::ExpiredContext { time, not_after }.into());
        }
        verify_server_name(&ParsedCertificate::try_from(der)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn reason(
        &self,
        error: rustls::Error,
        der: &[u8],
        others: &[CertificateDer<'_>],
    ) -> rustls::Error {
        let rustls::Error::InvalidCertificate(why) = &error else { return error };
        let Some(it) = Certificate::read(der) else { return error };
        let last = others.last().and_then(|last| Certificate::read(last)).unwrap_or(it);
        let issuer = last.issuer();
        match why {
            // An authority's certificate used as a server's, as `openssl req -x509` makes them.
            CertificateError::UnknownIssuer | CertificateError::Other(_) if it.is_self_issued() => {
                Untrusted::SelfSigned.into()
            }
            CertificateError::UnknownIssuer
                if others.is_empty() && (it.names_issuers_place() || self.has_own) =>
            {
                Untrusted::Alone { issuer }.into()
            }
            CertificateError::UnknownIssuer => Untrusted::Unknown { issuer }.into(),
            _ => error,
        }
    }
}

/// Handshakes are signed with the certificate's key; the same for all judges.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.ordinary.verify_server_cert(certificate, others, name, ocsp, now);
        judged.or_else(|error| {
            if self.given.contains(&sha256(certificate)) {
                Self::judge_given(certificate, name, now)
            } else {
                Err(self.reason(error, certificate, others))
            }
        })
    }

    signatures!();
}

/// Accepts one key.
#[derive(Debug)]
struct Pinned {
    key: Digest,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let it = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let key = sha256(it.key);
        // Public values: there is nothing to learn from the time this takes.
        if key == self.key {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Untrusted::Changed { key }.into())
        }
    }

    signatures!();
}

/// What a server showed, to decide whether to trust it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What is wrong with it for everybody who has not pinned it.
    pub wrong: Option<rustls::Error>,
    /// Whether the server has proved that it holds the key.
    pub proved: bool,
}

/// Writes down what a server shows.
#[derive(Debug)]
pub struct Witness {
    seen: Mutex<Option<Seen>>,
    judge: Judge,
}

impl Witness {
    /// What was shown, once.
    pub fn take(&self) -> Option<Seen> {
        self.seen.lock().ok()?.take()
    }

    fn prove(&self, valid: HandshakeSignatureValid) -> HandshakeSignatureValid {
        if let Ok(mut seen) = self.seen.lock()
            && let Some(seen) = &mut *seen
        {
            seen.proved = true;
        }
        valid
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let wrong = self.judge.verify_server_cert(certificate, others, name, ocsp, now).err();
        let all = std::iter::once(certificate).chain(others);
        let chain = all.map(|it| it.clone().into_owned()).collect();
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Some(Seen { chain, wrong, proved: false });
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = verify_tls12_signature(message, certificate, signed, &algorithms())?;
        Ok(self.prove(valid))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = verify_tls13_signature(message, certificate, signed, &algorithms())?;
        Ok(self.prove(valid))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// How a connection that was opened only to look at the server ends: before a byte of HTTP is sent.
#[derive(Debug)]
pub struct Looked;

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seen enough")
    }
}

impl std::error::Error for Looked {}

/// Tells what fails on the way to the proxy, and there, from what fails behind it.
#[derive(Debug)]
struct ByProxy(ConnectProxyConnector);

impl<In: Transport> Connector<In> for ByProxy {
    type Out = <ConnectProxyConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained).map_err(|cause| match details.config.proxy() {
            Some(proxy) => {
                let at = At::new(proxy.host(), proxy.port());
                Error::Other(Box::new(NoProxy { at, cause }))
            }
            None => cause,
        })
    }
}

/// A proxy did not connect.
#[derive(Debug)]
pub struct NoProxy {
    /// Where it is; its URL may hold credentials.
    pub at: At,
    /// Why not.
    pub cause: Error,
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} did not connect", self.at)
    }
}

impl std::error::Error for NoProxy {}

impl<In: Transport> Connector<In> for Tls {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let transport = chained.ok_or(Error::ConnectionFailed)?;
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Box::new(Plain { transport, is_checked: false })));
        }
        let uri = details.uri;
        let host = uri.host().unwrap_or_default();
        let at = At::new(host, uri.port_u16().unwrap_or(443));
        let name = ServerName::try_from(at.host.clone())
            .map_err(|_| Error::Tls("the URL has no host that a certificate could be for"))?;
        let new = || ClientConnection::new(self.config(&at)?, name);
        let mut conn = new().map_err(|error| Error::Other(Box::new(error)))?;
        let mut sock = TransportAdapter::new(
            Box::new(transport) as Box<dyn Transport>,
            details.current_time.clone(),
        );
        sock.set_timeout(rest(details));
        if let Err(error) = conn.complete_io(&mut sock) {
            // Only the first record of an alert has gone out.
            while conn.wants_write() && conn.write_tls(&mut sock).is_ok_and(|bytes| bytes > 0) {}
            return Err(match Error::from(error) {
                Error::Timeout(_) => Error::Tls(NO_HANDSHAKE),
                error => error,
            });
        }
        if self.0.witness.is_some() {
            return Err(Error::Other(Box::new(Looked)));
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Box::new(Encrypted { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// What is left of the time for the connection.
fn rest(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (time::Duration::Exact(after), Instant::Exact(started), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        let spent = now.saturating_duration_since(started);
        timeout.after = time::Duration::Exact(after.saturating_sub(spent));
    }
    timeout
}

/// A connection without TLS, which tells a server that speaks it by its first bytes.
#[derive(Debug)]
struct Plain<In> {
    transport: In,
    is_checked: bool,
}

impl<In: Transport> Transport for Plain<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let came = self.transport.await_input(timeout)?;
        if came && !self.is_checked {
            self.is_checked = true;
            // An alert of any version of TLS (RFC 8446 §5.1).
            if self.transport.buffers().input().starts_with(&[0x15, 0x03]) {
                return Err(Error::Tls(SPEAKS_TLS));
            }
        }
        Ok(came)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

/// A connection with TLS.
struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Encrypted {
    /// Why the server closed: with TLS 1.3 a client learns only now that its certificate is missing or refused.
    fn last_words(&mut self, mut timeout: NextTimeout) -> Option<io::Error> {
        let StreamOwned { conn, sock } = &mut self.stream;
        timeout.after = time::Duration::Exact(LAST_WORDS);
        sock.set_timeout(timeout);
        while conn.wants_read() && conn.read_tls(sock).is_ok_and(|bytes| bytes > 0) {
            if let Err(error) = conn.process_new_packets() {
                return Some(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        None
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let written = self.stream.write_all(&self.buffers.output()[..amount]);
        written.map_err(|error| self.last_words(timeout).unwrap_or(error).into())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encrypted").field(&self.stream.sock.inner()).finish()
    }
}
