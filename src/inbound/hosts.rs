//! Which names a request may call this agent by, and which pages of a browser may make it.
//!
//! Keeps out what an operator's own browser would carry in: a page whose name was made to point here (DNS rebinding)
//! says so in `Host`, a page of another site in `Origin` and `Sec-Fetch-Site`, and no page can change these. An
//! address of this machine is good as a name, because no answer of DNS leads to it under another one.

use std::net::{IpAddr, Ipv6Addr};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, ORIGIN};

use crate::config::Listen;
use crate::config::url::is_host;
use crate::inbound::service::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names of this agent, beside those that every connection brings along.
#[derive(Debug, Default)]
pub struct Hosts {
    /// In lower case; one that begins with `*.` stands for every name with one label more.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// The public URL, whose pages are this agent's own.
    public_url: Option<String>,
}

impl Hosts {
    /// What `listen` and the machine's name allow.
    pub fn new(hostname: &str, listen: &Listen) -> Self {
        let mut hosts = Self {
            names: Vec::new(),
            addresses: Vec::new(),
            public_url: listen.public_url.clone(),
        };
        let short = hostname.split('.').next().unwrap_or_default();
        hosts.add(hostname);
        hosts.add(short);
        hosts.add(&format!("{short}.local"));
        hosts.add(&listen.host);
        for host in listen.hosts.iter().flat_map(|hosts| hosts.split(',')) {
            hosts.add(host.trim());
        }
        if let Some(public) = listen.public_url.as_deref().and_then(Origin::read) {
            match public.authority.host {
                Host::Address(address) => hosts.addresses.push(address),
                Host::Name(name) => hosts.add(name),
            }
        }
        hosts
    }

    fn add(&mut self, host: &str) {
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            self.addresses.push(address.to_canonical());
        } else if is_host(host.strip_prefix("*.").unwrap_or(host)) {
            self.names.push(host.to_ascii_lowercase());
        }
    }

    /// Whether a request that names `host`, if it names one, may be answered.
    ///
    /// # Errors
    /// The reason and what to do about it. It repeats a host or an origin that was well formed, and nothing else.
    pub fn check(
        &self,
        host: Option<Authority<'_>>,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<(), String> {
        if let Some(authority) = host
            && !self.know(authority.host, peer)
        {
            return Err(match authority.host {
                Host::Address(address) if address.is_unspecified() => {
                    format!("{address} is no address to call; use the agent's own")
                }
                Host::Address(address) => refused_host(&address),
                Host::Name(name) => refused_host(&name),
            });
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().ok().and_then(Origin::read);
            if !origin.is_some_and(|origin| self.is_own(origin, host, peer)) {
                return Err(refused_origin(origin));
            }
        }
        let is_foreign =
            |site: &HeaderValue| matches!(site.as_bytes(), b"cross-site" | b"same-site");
        if headers.get_all(SEC_FETCH_SITE).iter().any(is_foreign) {
            return Err("the browser says that a page of another site asks; open the address by \
                        hand, or ask from outside a browser"
                .to_owned());
        }
        Ok(())
    }

    /// Whether this agent is called so, by this caller.
    fn know(&self, host: Host<'_>, peer: &Peer) -> bool {
        let is_local = peer.ip().is_loopback();
        match host {
            Host::Address(address) => {
                let is_here = address == peer.local || (is_local && address.is_loopback());
                !address.is_unspecified() && (is_here || self.addresses.contains(&address))
            }
            Host::Name(name) => {
                let name = name.to_ascii_lowercase();
                let is_loopback = name == "localhost" || name.ends_with(".localhost");
                (is_local && is_loopback) || self.names.iter().any(|known| fits(known, &name))
            }
        }
    }

    /// Whether pages of `origin` are this agent's own.
    fn is_own(&self, origin: Origin<'_>, host: Option<Authority<'_>>, peer: &Peer) -> bool {
        let here = host.map(|authority| Origin { is_https: peer.is_tls, authority });
        let public = self.public_url.as_deref().and_then(Origin::read);
        [here, public].into_iter().flatten().any(|own| origin.is(own))
    }
}

/// Whether `name`, in lower case, is `known`, or below it if that begins with `*.`.
fn fits(known: &str, name: &str) -> bool {
    match known.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == known,
    }
}

fn refused_host(host: &dyn std::fmt::Display) -> String {
    format!(
        "`{host}` is no name of this agent; if it shall be one, add it to listen.hosts in the \
         agent's configuration"
    )
}

fn refused_origin(origin: Option<Origin<'_>>) -> String {
    let Some(Origin { is_https, authority: Authority { host, port } }) = origin else {
        return "the page that asks has no origin that this agent could trust".to_owned();
    };
    let scheme = if is_https { "https" } else { "http" };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let origin = match host {
        Host::Address(IpAddr::V6(address)) => format!("{scheme}://[{address}]{port}"),
        Host::Address(address) => format!("{scheme}://{address}{port}"),
        Host::Name(name) => format!("{scheme}://{name}{port}"),
    };
    format!(
        "pages of {origin} may not use this agent; if that is the agent itself behind a proxy, set \
         listen.public-url in its configuration"
    )
}

/// `host[:port]`, as in a `Host` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host<'a> {
    /// IPv4 in its own form.
    Address(IpAddr),
    /// Without the dot at its end; not empty.
    Name(&'a str),
}

impl<'a> Authority<'a> {
    /// Reads a host and an optional port, without user (RFC 9110 §4.2, RFC 3986 §3.2).
    ///
    /// Returns `None` for anything else, also for an empty host. Spellings of an IPv4 address beside the one with four decimal numbers are
    /// names, and no machine's.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let in_name =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, after) = rest.split_once(']')?;
            // A zone says where to send, not whom to (RFC 6874).
            let (address, zone) = address.split_once('%').unwrap_or((address, ""));
            let address = address.parse::<Ipv6Addr>().ok()?;
            let is_zone = zone.bytes().all(|byte| in_name(&byte));
            let after = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (is_zone.then_some(Host::Address(IpAddr::V6(address).to_canonical()))?, after)
        } else {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() || !name.bytes().all(|byte| in_name(&byte)) {
                return None;
            }
            (name.parse().map_or(Host::Name(name), Host::Address), port)
        };
        let port = match port {
            None | Some("") => None,
            // `parse` alone would take a plus sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port > 0)?)
            }
            Some(_) => return None,
        };
        Some(Self { host, port })
    }
}

/// Scheme, host and port: whose page something is (RFC 6454).
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    is_https: bool,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    /// Reads an `Origin` header, or a URL up to its path.
    fn read(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        Some(Self { is_https, authority: Authority::read(authority.as_bytes())? })
    }

    fn is(self, other: Self) -> bool {
        let same_host = match (self.authority.host, other.authority.host) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        self.is_https == other.is_https && same_host && self.port() == other.port()
    }

    fn port(self) -> u16 {
        self.authority.port.unwrap_or(if self.is_https { 443 } else { 80 })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::inbound::io::Progress;

    /// A caller from `from` who reached us at `local`.
    fn peer(from: &str, local: &str) -> Peer {
        let address = SocketAddr::new(from.parse().unwrap(), 40_000);
        let local = local.parse::<IpAddr>().unwrap().to_canonical();
        Peer {
            address,
            local,
            is_tls: false,
            progress: Progress::new(),
            surplus: false,
            certificate: None,
            unwelcome: false,
        }
    }

    fn here() -> Peer {
        peer("127.0.0.1", "127.0.0.1")
    }

    fn neighbour() -> Peer {
        peer("::ffff:192.168.1.9", "::ffff:192.168.1.5")
    }

    fn hosts() -> Hosts {
        let listen = Listen {
            host: "0.0.0.0".to_owned(),
            hosts: Some("Agent.example, *.lab.example,10.9.8.7 , fd00::1".to_owned()),
            public_url: Some("https://Pi.example.org:8443/base".to_owned()),
            ..Listen::default()
        };
        Hosts::new("garden.lan", &listen)
    }

    fn called(host: &str, peer: &Peer) -> bool {
        let authority = Authority::read(host.as_bytes());
        authority.is_some() && hosts().check(authority, &HeaderMap::new(), peer).is_ok()
    }

    #[test]
    fn names_of_this_agent_are_known_in_every_spelling_and_with_every_port() {
        for host in [
            "garden",
            "garden.lan",
            "GARDEN.local",
            "garden.local.",
            "agent.example:1",
            "x.lab.example:65535",
            "pi.example.org",
            "10.9.8.7:4097",
            "[fd00::1]",
            "[FD00:0::0001]:80",
        ] {
            assert!(called(host, &here()) && called(host, &neighbour()), "{host}");
        }
    }

    #[test]
    fn this_machine_is_called_localhost_by_itself_alone() {
        for host in [
            "localhost",
            "localhost.",
            "LocalHost:4097",
            "a.localhost",
            "a.b.localhost:9",
            "127.0.0.1",
            "127.0.0.1.",
            "127.9.9.9:80",
            "[::1]:4097",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]:80",
        ] {
            assert!(called(host, &here()), "{host}");
            assert!(!called(host, &neighbour()), "{host}");
        }
    }

    #[test]
    fn an_address_is_good_for_the_connection_that_came_to_it() {
        assert!(called("192.168.1.5:4097", &neighbour()));
        assert!(called("[::ffff:192.168.1.5]", &neighbour()));
        let near = peer("fe80::2", "fe80::1");
        assert!(called("[fe80::1]", &near) && called("[fe80::1%25eth0]:80", &near));
        for host in ["192.168.1.6", "192.168.1.5.nip.io", "[fe80::1]", "8.8.8.8"] {
            assert!(!called(host, &neighbour()) && !called(host, &here()), "{host}");
        }
    }

    #[test]
    fn names_that_only_look_like_this_machine_are_strangers() {
        let long = format!("{}.localhost", "a".repeat(300));
        for host in [
            "evil.example",
            "localhost.evil.example",
            "localhost.evil",
            "evil.localhost.example",
            "evil-localhost",
            "localhost..",
            "127.0.0.1.nip.io",
            "127.0.0.1.evil.example",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "0x7f000001",
            "0x7f.1",
            "127.1",
            "127.0.0.01",
            "0.0.0.0",
            "0.0.0.0:4097",
            "0",
            "[::]",
            "[::ffff:0.0.0.0]",
            "xn--lcalhost-54a",
            "%6cocalhost",
            "localhost%00",
            "localhost,evil",
            "lab.example",
            "a.b.lab.example",
            "agent.example.evil",
            "xagent.example",
            "garden.example",
            "*",
            "*.lab.example.",
            &long[..299],
        ] {
            let is_known = host == "*.lab.example.";
            assert_eq!(called(host, &here()), is_known, "{host}");
            assert_eq!(called(host, &neighbour()), is_known, "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_told_from_a_strange_one() {
        for text in [
            "",
            ".",
            ":80",
            " ",
            "a b",
            "user@localhost",
            "localhost@evil",
            "localhost/x",
            "localhost#",
            "localhost?",
            "localhost\\",
            "localhost:0",
            "localhost:65536",
            "localhost:+80",
            "localhost:80:80",
            "localhost:8o",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "[v1.x]",
            "[::1]80",
            "[::1]:",
            "[::1%]]",
            "[]",
            "localhost\0",
            "localhost\u{7f}",
            "h\u{f6}st",
            "localhost\t",
        ] {
            let is_read = text == "[::1]:";
            assert_eq!(Authority::read(text.as_bytes()).is_some(), is_read, "{text:?}");
        }
        assert_eq!(Authority::read(b"\xff"), None);
    }

    /// Whether a request with these headers is answered.
    fn asked(host: Option<&str>, headers: &[(&str, &str)], peer: &Peer) -> Result<(), String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let authority = host.map(|host| Authority::read(host.as_bytes()).unwrap());
        hosts().check(authority, &map, peer)
    }

    #[test]
    fn only_pages_of_the_agent_itself_may_ask() {
        let from = |host, origin| asked(Some(host), &[("Origin", origin)], &here());
        for (host, origin) in [
            ("localhost:4097", "http://localhost:4097"),
            ("localhost:4097", "HTTP://LOCALHOST:4097"),
            ("127.0.0.1", "http://127.0.0.1:80"),
            ("garden.local:80", "http://garden.local"),
            ("[::1]:4097", "http://[::1]:4097"),
            ("localhost:4097", "https://pi.example.org:8443"),
        ] {
            assert_eq!(from(host, origin), Ok(()), "{host} {origin}");
        }
        for (host, origin) in [
            ("localhost:4097", "null"),
            ("localhost:4097", ""),
            ("localhost:4097", "http://localhost"),
            ("localhost:4097", "http://localhost:4098"),
            ("localhost:4097", "https://localhost:4097"),
            ("localhost:4097", "http://127.0.0.1:4097"),
            ("localhost:4097", "http://evil.example"),
            ("localhost:4097", "http://localhost:4097.evil.example"),
            ("localhost:4097", "http://user@localhost:4097"),
            ("localhost:4097", "http://localhost:4097 http://evil.example"),
            ("localhost:4097", "localhost:4097"),
            ("localhost:4097", "file://"),
            ("localhost:4097", "chrome-extension://abcdef"),
            ("localhost:4097", "https://pi.example.org"),
            ("localhost:4097", "http://pi.example.org:8443"),
            ("pi.example.org", "https://pi.example.org"),
            ("localhost:4097", "http://h\u{e9}"),
        ] {
            assert!(from(host, origin).is_err(), "{host} {origin}");
        }
        let two = [("Origin", "http://localhost"), ("Origin", "http://evil.example")];
        assert!(asked(Some("localhost"), &two, &here()).is_err());
        // HTTP/1.0 without Host: nothing is the same as nothing.
        assert_eq!(asked(None, &[], &here()), Ok(()));
        assert!(asked(None, &[("Origin", "http://localhost")], &here()).is_err());
    }

    #[test]
    fn over_tls_the_agents_own_pages_are_https() {
        let peer = Peer { is_tls: true, ..here() };
        let from = |origin| asked(Some("localhost"), &[("Origin", origin)], &peer);
        assert_eq!(from("https://localhost"), Ok(()));
        assert_eq!(from("https://localhost:443"), Ok(()));
        assert!(from("http://localhost").is_err() && from("https://localhost:80").is_err());
    }

    #[test]
    fn a_browser_that_tells_of_another_site_is_believed() {
        let site = |site| asked(Some("localhost"), &[("Sec-Fetch-Site", site)], &here());
        for good in ["same-origin", "none", "x"] {
            assert_eq!(site(good), Ok(()), "{good}");
        }
        for bad in ["cross-site", "same-site"] {
            assert!(site(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_names_the_fix() {
        let said = asked(Some("Box.example:81"), &[], &here()).unwrap_err();
        assert!(said.contains("`Box.example`") && said.contains("listen.hosts"), "{said}");
        let origin = [("Origin", "https://[fd00::9]:81")];
        let said = asked(Some("localhost"), &origin, &here()).unwrap_err();
        assert!(said.contains("https://[fd00::9]:81 "), "{said}");
        assert!(said.contains("listen.public-url"), "{said}");
    }

    #[test]
    fn a_name_to_listen_at_and_a_public_address_are_names() {
        let listen = Listen {
            host: "eth0.garden.lan".to_owned(),
            public_url: Some("http://203.0.113.7:8080".to_owned()),
            ..Listen::default()
        };
        let hosts = Hosts::new("", &listen);
        let known = |host: &str| {
            hosts.check(Authority::read(host.as_bytes()), &HeaderMap::new(), &neighbour()).is_ok()
        };
        assert!(known("eth0.garden.lan") && known("203.0.113.7"));
        assert!(!known(".local") && !known("203.0.113.8"));
    }
}
