//! Why a connection to somebody failed, told apart by what an operator can do about it, and the sentence that says
//! so: one table for providers, webhooks and the client.

use std::io;

use rustls::{AlertDescription, CertificateError};
use ureq::{Error, Timeout};

use crate::base::clock::rfc3339_into;
use crate::config::trust::{At, shown};
use crate::outbound::http::proxy_variable;
use crate::outbound::tls::{NO_HANDSHAKE, NoProxy, SPEAKS_TLS, Untrusted};

/// Names of a certificate that a sentence has room for.
const NAMES: usize = 8;

/// What went wrong on the way to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host's name cannot be resolved.
    NoAddress,
    /// Nothing listens there, or a firewall says so.
    Refused,
    /// No route, or no network.
    Unreachable,
    /// Nobody took the connection in time.
    NoConnection,
    /// Nothing came over it in time.
    NoAnswer,
    /// The connection was taken, and nothing of TLS came over it in time.
    NoHandshake,
    /// TLS was expected, and something else came.
    NotTls,
    /// Plain HTTP was sent to a server that speaks TLS.
    OnlyTls,
    /// The answer is not HTTP.
    NotHttp,
    /// The certificate's time is over.
    Expired {
        /// Since when, and now, in seconds since 1970.
        since: u64,
        now: u64,
    },
    /// The certificate's time has not come, which mostly says that the clock is wrong.
    NotYetValid {
        /// From when on, and now, in seconds since 1970.
        from: u64,
        now: u64,
    },
    /// The certificate is for others.
    OtherName {
        /// For these.
        names: Vec<String>,
    },
    /// Nobody who is trusted here vouches for the certificate.
    Untrusted(Untrusted),
    /// The certificate cannot be used for another reason.
    BadCertificate(String),
    /// The server wants to know who calls.
    WantsCertificate,
    /// The server does not want this caller.
    RefusesCertificate {
        /// Its alert.
        alert: String,
    },
    /// The server ended the handshake, or something else of TLS failed.
    Tls(String),
    /// The proxy did not connect.
    Proxy {
        /// Where it is.
        at: At,
        /// Why not.
        why: String,
    },
    /// The connection broke off.
    Broken,
    /// Anything else.
    Other(String),
}

impl Failure {
    /// Sorts a failure of ureq.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Io(cause) => Self::of_io(cause),
            Error::Other(cause) => {
                if let Some(cause) = cause.downcast_ref::<rustls::Error>() {
                    return Self::of_tls(cause);
                }
                match cause.downcast_ref::<NoProxy>() {
                    Some(NoProxy { at, cause }) => Self::of_proxy(at, cause),
                    None => Self::Other(cause.to_string()),
                }
            }
            Error::Timeout(Timeout::Resolve) | Error::HostNotFound => Self::NoAddress,
            Error::Timeout(Timeout::Connect) => Self::NoConnection,
            Error::Timeout(_) => Self::NoAnswer,
            Error::Tls(SPEAKS_TLS) => Self::OnlyTls,
            Error::Tls(NO_HANDSHAKE) => Self::NoHandshake,
            Error::Tls(what) => Self::Tls((*what).to_owned()),
            Error::Protocol(_) | Error::LargeResponseHeader(..) => Self::NotHttp,
            other => Self::Other(other.to_string()),
        }
    }

    fn of_proxy(at: &At, cause: &Error) -> Self {
        let why = match cause {
            Error::ConnectProxyFailed(what) => what.clone(),
            cause => Self::of(cause).brief().to_owned(),
        };
        Self::Proxy { at: at.clone(), why }
    }

    /// Sorts a failure of a read or a write.
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        if let Some(inner) = error.get_ref() {
            if let Some(cause) = inner.downcast_ref::<rustls::Error>() {
                return Self::of_tls(cause);
            }
            if let Some(cause) = inner.downcast_ref::<Error>() {
                return Self::of(cause);
            }
        }
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied => Self::Unreachable,
            Kind::TimedOut => Self::NoConnection,
            Kind::UnexpectedEof
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected => Self::Broken,
            // The standard library has no kind for it.
            _ if error.to_string().starts_with("failed to lookup address") => Self::NoAddress,
            _ => Self::Other(error.to_string()),
        }
    }

    /// Sorts a failure of TLS.
    pub fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => Self::of_certificate(why),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Self::WantsCertificate
            }
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => Self::RefusesCertificate { alert: format!("{alert:?}") },
            // With TLS 1.2 a missing client certificate is one reason of several.
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
                let what = "it shares no version or cipher with this program, or it wants a client \
                            certificate (--cert FILE --key FILE)";
                Self::Tls(what.to_owned())
            }
            other => Self::Tls(other.to_string()),
        }
    }

    fn of_certificate(why: &CertificateError) -> Self {
        match why {
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { since: not_after.as_secs(), now: time.as_secs() }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { from: not_before.as_secs(), now: time.as_secs() }
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::OtherName { names: presented.iter().take(NAMES).map(|it| bare(it)).collect() }
            }
            CertificateError::Other(other) => match other.0.downcast_ref::<Untrusted>() {
                Some(why) => Self::Untrusted(why.clone()),
                None => Self::BadCertificate(match other.to_string() {
                    old if old.contains("UnsupportedCertVersion") => {
                        "it is of version 1 of X.509; make it with extensions \
                         (`openssl x509 -req -extfile FILE`)"
                            .to_owned()
                    }
                    other => other,
                }),
            },
            other => Self::BadCertificate(other.to_string()),
        }
    }

    /// Whether no connection came about, so that the request was not sent.
    pub const fn is_before_request(&self) -> bool {
        !matches!(self, Self::NoAnswer | Self::NotHttp | Self::Broken | Self::Other(_))
    }

    /// The failure in words that are always the same, for places where nothing of the other side may stand.
    pub const fn brief(&self) -> &'static str {
        match self {
            Self::NoAddress => "the host name cannot be resolved: check it with `getent hosts`",
            Self::Refused => "connection refused: nothing listens there",
            Self::Unreachable => "unreachable: there is no route to it",
            Self::NoConnection => {
                "no connection in time: the host is down or a firewall is between"
            }
            Self::NoAnswer => "no answer in time",
            Self::NoHandshake => "connected, but no TLS handshake in time",
            Self::NotTls => "it does not speak TLS: its URL should begin with http://",
            Self::OnlyTls => "it speaks TLS: its URL should begin with https://",
            Self::NotHttp => "the answer is not HTTP",
            Self::Expired { .. } => "TLS: its certificate has expired: it must be renewed there",
            Self::NotYetValid { .. } => {
                "TLS: its certificate is not yet valid: check this machine's clock with `date`"
            }
            Self::OtherName { .. } => {
                "TLS: its certificate is for another name: pin it with `tetherlet trust`, or have it renewed"
            }
            Self::Untrusted(Untrusted::SelfSigned) => {
                "TLS: its certificate is self-signed: pin it with `tetherlet trust`"
            }
            Self::Untrusted(Untrusted::Alone { .. }) => {
                "TLS: it does not send its issuer's certificate: it must serve the full chain"
            }
            Self::Untrusted(Untrusted::Unknown { .. }) => {
                "TLS: its certificate is from an unknown issuer: see outbound.ca-file, or pin it with `tetherlet trust`"
            }
            Self::Untrusted(Untrusted::Changed { .. }) => {
                "TLS: it has another key than the pinned one: if that is right, `tetherlet trust` again"
            }
            Self::BadCertificate(_) => "TLS: its certificate cannot be used",
            Self::WantsCertificate => "TLS: it wants a client certificate",
            Self::RefusesCertificate { .. } => "TLS: it refuses this agent's certificate",
            Self::Tls(_) => "TLS: the handshake failed",
            Self::Proxy { .. } => "the proxy did not connect: check HTTPS_PROXY and NO_PROXY",
            Self::Broken => "the connection broke off",
            Self::Other(_) => "no answer",
        }
    }

    /// The sentence for an operator: what is wrong with `place`, and what to do.
    pub fn explain(&self, place: &Place<'_>) -> String {
        let Place { url, who, host, spot, shows_proxy: proxy } = place;
        let pin = format!("`tetherlet trust {url}`");
        match self {
            Self::NoAddress if host.rsplit('.').next() == Some("local") => format!(
                "the name {host} cannot be resolved: this program itself does not look up .local names (mDNS); \
                 give the address instead (`avahi-resolve -n {host}` prints it), or write it into /etc/hosts"
            ),
            Self::NoAddress => format!(
                "the name {host} cannot be resolved; check its spelling, and the DNS of this machine \
                 with `getent hosts {host}`"
            ),
            Self::Refused => format!(
                "connection refused: nothing listens at {spot}, or a firewall rejects it; is it running, and is the \
                 port right?"
            ),
            Self::Unreachable => format!(
                "{who} is unreachable; check the network of this machine with `ip route get {host}`"
            ),
            Self::NoConnection => format!(
                "no connection in time; is {who} up (`ping {host}`), and does every firewall let {spot} through?"
            ),
            Self::NoAnswer => format!(
                "connected, but no answer in time; is {who} overloaded, or is the port another service's?"
            ),
            Self::NoHandshake => format!(
                "connected, but no TLS handshake in time; does {spot} speak TLS at all (if not, write http:// in \
                 the URL), or is {who} overloaded?"
            ),
            Self::NotTls => format!(
                "{spot} does not speak TLS; write http:// in the URL, or name the port that does"
            ),
            Self::OnlyTls => {
                format!("{spot} speaks TLS; write https:// in the URL")
            }
            Self::NotHttp => {
                format!("what listens at {spot} does not answer in HTTP; is the port right?")
            }
            Self::Expired { since, now } => format!(
                "its certificate expired on {} (the clock of this machine says {}); renew it on the server, \
                 or pin it as it is with {pin}",
                date(*since),
                date(*now)
            ),
            Self::NotYetValid { from, now } => format!(
                "its certificate is valid from {}, but the clock of this machine says {}; set the clock \
                 (`timedatectl set-ntp true`, or `date -u -s 'YYYY-MM-DD hh:mm'`)",
                date(*from),
                date(*now)
            ),
            Self::OtherName { names } => {
                let names =
                    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
                format!(
                    "its certificate is for {names}, not for {host}; write a name it has in the URL, have it \
                     renewed with subjectAltName {host}, or pin it with {pin}"
                )
            }
            Self::Untrusted(Untrusted::SelfSigned) => format!(
                "its certificate is self-signed; pin it with {pin}, or give the certificate with --ca FILE \
                 (for the agent: outbound.ca-file)"
            ),
            Self::Untrusted(Untrusted::Unknown { issuer }) => format!(
                "its certificate is from {issuer}, an authority that is not known here; give that authority's \
                 certificate with --ca FILE (for the agent: outbound.ca-file), or pin the server with {pin}"
            ),
            Self::Untrusted(Untrusted::Alone { issuer }) => format!(
                "it sends its certificate without the one of its issuer, {issuer}; have it serve the full chain \
                 (`cat server.pem intermediate.pem > fullchain.pem`), or pin it with {pin}"
            ),
            Self::Untrusted(Untrusted::Changed { key }) => format!(
                "it has another key than the one that was pinned, now {}; if you know that it was renewed, \
                 {pin}, otherwise somebody may be in between",
                shown(key)
            ),
            Self::BadCertificate(what) => format!("its certificate cannot be used: {what}"),
            Self::WantsCertificate => {
                "it wants a client certificate; give one with --cert FILE --key FILE".to_owned()
            }
            Self::RefusesCertificate { alert } => format!(
                "it refuses the client certificate ({alert}); is it from an authority that the server knows, \
                 and in date (`openssl x509 -noout -issuer -dates -in FILE`)?"
            ),
            Self::Tls(what) => format!("the TLS handshake failed: {what}"),
            Self::Proxy { at, why } => {
                let (at, variable) = (proxy.then(|| format!(" {at}")), proxy_variable());
                format!(
                    "the proxy{} that {variable} names did not connect: {why}; check {variable}, or pass it by \
                     with NO_PROXY={host}",
                    at.unwrap_or_default()
                )
            }
            Self::Broken => {
                "the other side closed or reset the connection; its log may say why".to_owned()
            }
            Self::Other(what) => what.clone(),
        }
    }
}

/// Whom a sentence is about.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As an operator would write it behind `tetherlet trust`.
    pub url: &'a str,
    /// In a sentence.
    pub who: &'a str,
    /// In a command.
    pub host: &'a str,
    /// Host and port.
    pub spot: &'a str,
    /// Whether readers may learn where the proxy is.
    pub shows_proxy: bool,
}

/// The sentence about `url`, which is not repeated whole: a path may be a secret.
pub fn explain(failure: &Failure, url: &str) -> String {
    let Some(at) = At::of_url(url) else { return failure.brief().to_owned() };
    let spot = at.to_string();
    let secure = format!("https://{spot}");
    let (who, host) = (at.host.as_str(), at.host.as_str());
    let place = Place { url: &secure, who, host, spot: &spot, shows_proxy: true };
    let mut text = failure.explain(&place);
    if *failure == Failure::Broken {
        let is_https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        text.push_str(if is_https {
            "; if it speaks no TLS, write http:// in the URL"
        } else {
            "; if it speaks TLS, write https:// in the URL"
        });
    }
    text
}

/// `2026-11-20 09:16:50 UTC`
pub fn date(seconds: u64) -> String {
    let mut out = String::with_capacity(24);
    rfc3339_into(&mut out, seconds.saturating_mul(1000));
    out.truncate(19);
    out.replace('T', " ") + " UTC"
}

/// `DnsName("pi.local")`, as rustls has it, without what is not the name.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    let inner = inner.strip_suffix(')').unwrap_or(inner).trim_matches('"');
    inner.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &Error) -> String {
        explain(&Failure::of(error), "https://Pi.Lan./secret?path")
    }

    fn io(kind: io::ErrorKind) -> Error {
        Error::Io(kind.into())
    }

    #[test]
    fn every_failure_of_the_network_names_what_to_look_at() {
        let lookup =
            io::Error::other("failed to lookup address information: Name does not resolve");
        for (error, text) in [
            (
                Error::Io(lookup),
                "the name pi.lan cannot be resolved; check its spelling, and the DNS of this \
                                 machine with `getent hosts pi.lan`",
            ),
            (Error::HostNotFound, "the name pi.lan cannot be resolved; "),
            (Error::Timeout(Timeout::Resolve), "the name pi.lan cannot be resolved; "),
            (
                io(io::ErrorKind::ConnectionRefused),
                "connection refused: nothing listens at pi.lan:443, or",
            ),
            (
                io(io::ErrorKind::NetworkUnreachable),
                "pi.lan is unreachable; check the network of this machine",
            ),
            (
                Error::Timeout(Timeout::Connect),
                "no connection in time; is pi.lan up (`ping pi.lan`), and does",
            ),
            (
                Error::Timeout(Timeout::PerRead),
                "connected, but no answer in time; is pi.lan overloaded",
            ),
            (
                Error::Tls(NO_HANDSHAKE),
                "connected, but no TLS handshake in time; does pi.lan:443 speak TLS",
            ),
            (Error::Tls(SPEAKS_TLS), "pi.lan:443 speaks TLS; write https:// in the URL"),
            (
                io(io::ErrorKind::ConnectionReset),
                "the other side closed or reset the connection; its log may say why; if it speaks no TLS, write http:// in the URL",
            ),
            (
                Error::Other(Box::new(NoProxy {
                    at: At::new("fd00::1", 3128),
                    cause: io(io::ErrorKind::ConnectionRefused),
                })),
                "the proxy [fd00::1]:3128 that ",
            ),
        ] {
            let all = said(&error);
            assert!(all.starts_with(text), "{all}");
            assert!(!all.contains("secret"), "{all}");
        }
    }

    #[test]
    fn names_of_mdns_are_not_looked_up() {
        let said = explain(&Failure::NoAddress, "https://Pi.Local./x");
        assert!(said.contains("does not look up .local names"), "{said}");
        assert!(said.contains("give the address instead"), "{said}");
    }

    #[test]
    fn what_tls_says_is_found_however_it_is_wrapped() {
        let alert = || rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let within = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for error in [
            Error::Io(within(alert())),
            Error::Other(Box::new(alert())),
            Error::Io(io::Error::other(Error::Io(within(alert())))),
        ] {
            assert_eq!(Failure::of(&error), Failure::WantsCertificate, "{error:?}");
        }
        let changed: rustls::Error = Untrusted::Changed { key: [0; 32] }.into();
        assert!(said(&Error::Io(within(changed))).contains("`tetherlet trust https://pi.lan:443`"));
    }

    #[test]
    fn names_of_strangers_are_tamed() {
        assert_eq!(bare("DnsName(\"a.b\")"), "a.b");
        assert_eq!(bare("IpAddress(::1)"), "::1");
        assert_eq!(bare("DnsName(\"a\u{1b}[2J\")"), "a?[2J");
    }
}
