//! Which URLs and hosts a configuration may name. Looks at text only: no name is resolved here.

use std::net::IpAddr;

/// An http or https URL, cut into the parts that rules ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub is_https: bool,
    /// Without brackets and port.
    pub host: &'a str,
    /// As written; [`Url::port`] knows the scheme's own.
    port: Option<u16>,
    /// From the first `/` on, without query; may be empty.
    pub path: &'a str,
    /// Whether a query or fragment follows.
    pub has_query: bool,
}

impl<'a> Url<'a> {
    /// Reads an absolute http or https URL without user name.
    ///
    /// Returns `None` for anything else, also for blanks, control and non-ASCII characters, and
    /// backslashes.
    pub fn read(text: &'a str) -> Option<Self> {
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (rest, has_query) = match rest.find(['?', '#']) {
            Some(at) => (rest.get(..at)?, true),
            None => (rest, false),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
            let (host, after) = inner.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        // The characters of a port and of a host leave no room for `user@`.
        let port = match port {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(text.parse().ok().filter(|port| *port != 0)?)
            }
            Some(_) => return None,
            None => None,
        };
        is_host(host).then_some(Self { is_https, host, port, path, has_query })
    }

    /// The port that is called.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_https { 443 } else { 80 })
    }
}

/// Whether `text` is an IP address (without brackets) or a well-formed host name.
pub fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether traffic to `host` stays on this machine or in a private network, as far as its spelling
/// tells.
///
/// Loopback, private, link-local and shared (100.64/10) addresses, names without a dot and the
/// suffixes that no public name has. Spellings of an address as a single number are not private.
pub fn is_private(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [first, second, ..] = v4.octets();
                v4.is_loopback()
                    || v4.is_private()
                    || v4.is_link_local()
                    || (first == 100 && (64..128).contains(&second))
            }
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
            }
        };
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !name.contains('.') {
        return name.starts_with(|first: char| first.is_ascii_lowercase());
    }
    [".localhost", ".local", ".lan", ".internal", ".home.arpa"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_into_parts() {
        let url = Url::read("https://Example.org:8443/a/b").unwrap();
        assert_eq!((url.is_https, url.host, url.path), (true, "Example.org", "/a/b"));
        let url = Url::read("http://[::1]:8080").unwrap();
        assert_eq!((url.is_https, url.host, url.path, url.has_query), (false, "::1", "", false));
        assert!(Url::read("http://host/x?y=1").unwrap().has_query);
        assert!(Url::read("http://host#top").unwrap().has_query);
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused() {
        for text in [
            "",
            "host",
            "//host",
            "ftp://host",
            "http://",
            "http:///path",
            "http://user@host",
            "http://user:pass@host",
            "http://host:0",
            "http://host:65536",
            "http://host:+80",
            "http://host:",
            "http://host:8 0",
            "http://ho st",
            "http://-host",
            "http://a..b",
            "http://[::1",
            "http://[::1]x",
            "http://[127.0.0.1]",
            "http://host\\@evil",
            "http://hö.st",
            "http://host/\n",
        ] {
            assert!(Url::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn private_hosts_are_told_by_their_spelling() {
        for host in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "localhost",
            "ollama",
            "nas.LOCAL",
            "box.lan.",
        ] {
            assert!(is_private(host), "{host}");
        }
        for host in
            ["8.8.8.8", "2001:db8::1", "example.org", "134744072", "0x08080808", "local.example"]
        {
            assert!(!is_private(host), "{host}");
        }
    }
}
