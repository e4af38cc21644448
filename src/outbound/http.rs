//! The only place that builds a `ureq::Agent`: timeouts, proxy, buffer sizes.

use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::{Agent, Proxy, ProxyProtocol};

use crate::config::trust::Trust;
use crate::config::url::{Url, is_private};
use crate::outbound::failure::Failure;
use crate::outbound::tls::{Seen, Tls};

/// Idle connections are closed after this long; servers commonly close theirs at sixty seconds.
pub const KEEP_ALIVE: Duration = Duration::from_secs(50);

/// A webhook's connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// The body of a webhook's answer is read this long, for politeness alone.
const TIDY: Duration = Duration::from_millis(250);

/// Buffers of a connection; ureq's own defaults are 128 KiB each.
const INPUT: usize = 16 * 1024;
const OUTPUT: usize = 8 * 1024;

/// How long to wait for the other side.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For each read from the socket, whatever comes.
    pub read: Duration,
    /// For each write to the socket.
    pub write: Duration,
}

/// An agent for requests to `url`'s host. Statuses are not errors, redirects are not followed (a key must not
/// travel), and neither loopback nor plain http to the private network goes through a proxy, which would read the key.
pub fn agent(url: &str, timeouts: Timeouts, tls: &Tls) -> Agent {
    let proxy = if stays_near(url) { None } else { Proxy::try_from_env() };
    let config = settings(proxy)
        .timeout_connect(Some(timeouts.connect))
        .timeout_per_read(Some(timeouts.read))
        .timeout_per_write(Some(timeouts.write))
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .max_idle_age(KEEP_ALIVE)
        .build();
    Agent::with_parts(config, tls.connector(), DefaultResolver::default())
}

/// An agent for one request to a webhook, wherever `resolver` lets it go: no proxy, no redirect, no connection kept.
/// `whole` is for everything up to the answer's head, [`CONNECT`] of it for the connection.
pub fn webhook_agent(whole: Duration, resolver: impl Resolver, tls: &Tls) -> Agent {
    let config = settings(None)
        .timeout_global(Some(whole))
        .timeout_connect(Some(CONNECT.min(whole)))
        .timeout_recv_body(Some(TIDY))
        .max_idle_connections(0)
        .build();
    Agent::with_parts(config, tls.connector(), resolver)
}

/// What a server shows when a connection is opened to it; no byte of HTTP is sent.
///
/// # Errors
/// Why nothing was seen.
pub fn look(url: &str, trust: &Trust) -> Result<Seen, Failure> {
    let (tls, witness) = Tls::looking(trust).map_err(|error| Failure::of_tls(&error))?;
    // A proxy with TLS of its own would be seen in place of the server.
    let proxy = Proxy::try_from_env().filter(|it| it.protocol() == ProxyProtocol::Http);
    let proxy = proxy.filter(|_| !is_loopback(url));
    let config = settings(proxy).timeout_connect(Some(CONNECT)).max_idle_connections(0).build();
    let agent = Agent::with_parts(config, tls.connector(), DefaultResolver::default());
    let outcome = agent.head(url).call();
    match (witness.take(), outcome) {
        (Some(seen), _) => Ok(seen),
        (None, Err(error)) => Err(Failure::of(&error)),
        (None, Ok(_)) => Err(Failure::NotTls),
    }
}

/// The variable that names the proxy: the first that ureq can read, in its order.
pub fn proxy_variable() -> &'static str {
    let all = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY"];
    #[expect(clippy::disallowed_methods, reason = "ureq reads the same variables by itself")]
    let names = |name: &&str| std::env::var(name).is_ok_and(|text| Proxy::new(&text).is_ok());
    all.into_iter().find(names).unwrap_or("http_proxy")
}

/// What all agents share.
fn settings(proxy: Option<Proxy>) -> ConfigBuilder<AgentScope> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    Agent::config_builder()
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .input_buffer_size(INPUT)
        .output_buffer_size(OUTPUT)
        .user_agent(concat!("tetherlet/", env!("CARGO_PKG_VERSION")))
}

fn stays_near(url: &str) -> bool {
    let in_clear = Url::read(url).filter(|url| !url.is_https);
    is_loopback(url) || in_clear.is_some_and(|url| is_private(url.host))
}

/// Whether the URL's host is this machine by its name or number.
fn is_loopback(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or(url);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    is_here(match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    })
}

/// Whether a host, without brackets and port, is this machine by its name or number.
pub fn is_here(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_clear_goes_through_no_proxy() {
        for url in ["http://nas.lan:8080", "http://192.168.1.2/v1", "https://localhost"] {
            assert!(stays_near(url), "{url}");
        }
        for url in ["https://nas.lan:8080", "https://192.168.1.2", "http://example.org"] {
            assert!(!stays_near(url), "{url}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for url in
            ["http://localhost:1/x", "http://127.0.0.1", "http://[::1]:80/", "https://LOCALHOST."]
        {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://localhost.example", "http://192.0.2.1:127", "https://api.openai.com/v1"]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
