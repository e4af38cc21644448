//! Tells one webhook, once: where it may be reached, one request, its status. What follows is the engine's to decide.
//!
//! A webhook is named by a caller, who must not be able to use this machine's place in its network: a name is looked
//! up once, here, and the connection goes to one of the addresses that were found fit, so no second look-up can give
//! another answer. Nothing is redirected, and no proxy looks names up for us (A2A 1.0 §13.2).

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderValue, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

use crate::a2a::dialect::Dialect;
use crate::base::clock::Now;
use crate::base::reach::{Reach, reach};
use crate::config::Push;
use crate::outbound::failure::Failure;
use crate::outbound::http::webhook_agent;
use crate::outbound::tls::Tls;
use crate::work::{Cancel, Post, PostError};

/// Bytes of an answer that are read, so that a webhook can say them without being cut off.
const ANSWER: u64 = 4 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// Posts a notification and says whether it was taken.
///
/// # Errors
/// Why not, without a word of the URL, of the token or of the credentials.
pub fn post(post: &Post, settings: &Push, tls: &Tls, cancel: &Cancel) -> Result<(), PostError> {
    let Post { hook, body } = post;
    let guard = Guard { allow_private: settings.allow_private };
    let line = webhook_agent(settings.timeout, guard, tls);
    let stopper = line.clone();
    cancel.on_fire(move || stopper.shutdown());
    let mut request = line.post(&*hook.url);
    request = match hook.dialect {
        Dialect::V03 | Dialect::Proto03 => request.header(CONTENT_TYPE, "application/json"),
        // A2A 1.0 §4.3.3.
        Dialect::V1 => {
            request.header(CONTENT_TYPE, "application/a2a+json").header("a2a-version", "1.0")
        }
    };
    if let Some(token) = &hook.token {
        request = request.header("x-a2a-notification-token", secret(token)?);
    }
    if let Some((scheme, credentials)) = &hook.authentication
        && !credentials.is_empty()
    {
        request = request.header(AUTHORIZATION, secret(&format!("{scheme} {credentials}"))?);
    }
    let answer = if cancel.is_fired() {
        Err(PostError::Failed("no longer wanted"))
    } else {
        request.send(body).map_err(|error| reason(&error))
    };
    let outcome = answer.and_then(|mut answer| {
        let status = answer.status().as_u16();
        let later = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = later.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let _ =
            io::copy(&mut io::Read::take(answer.body_mut().as_reader(), ANSWER), &mut io::sink());
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Err(PostError::Refused { status, retry_after })
        }
    });
    cancel.clear();
    outcome
}

fn secret(text: &str) -> Result<HeaderValue, PostError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| PostError::Forbidden("a header cannot carry its token or credentials"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What went wrong, in words of our own: those of others may repeat the URL.
fn reason(error: &Error) -> PostError {
    match error {
        Error::Other(inner) if let Some(PostError::Forbidden(what)) = inner.downcast_ref() => {
            PostError::Forbidden(what)
        }
        Error::BadUri(_) | Error::Http(_) => PostError::Forbidden("the URL is malformed"),
        _ => PostError::Failed(Failure::of(error).brief()),
    }
}

/// Looks names up and lets only fit addresses through.
#[derive(Debug)]
pub struct Guard {
    /// Whether they may lie in a private network.
    pub allow_private: bool,
}

impl Guard {
    /// The address as it is called, when it may be.
    fn fit(&self, address: IpAddr) -> Option<IpAddr> {
        let fits = match reach(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private,
            Reach::Never => false,
        };
        fits.then(|| address.to_canonical())
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let started = Now::read().mono;
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let mut fit = self.empty();
        let mut unfit = false;
        let mut look = |address: SocketAddr| match self.fit(address.ip()) {
            Some(_) if fit.len() == ADDRESSES => {}
            Some(ip) => fit.push(SocketAddr::new(ip, port)),
            None => unfit = true,
        };
        match host.parse::<IpAddr>() {
            Ok(ip) => look(SocketAddr::new(ip, port)),
            // On this thread, as long as the system's resolver takes: nobody else waits for it.
            Err(_) => match (host, port).to_socket_addrs() {
                Ok(found) => found.for_each(&mut look),
                Err(_) => return Err(Error::HostNotFound),
            },
        }
        if Now::read().mono.saturating_sub(started) >= *timeout.after {
            return Err(Error::Timeout(Timeout::Resolve));
        }
        if !fit.is_empty() {
            return Ok(fit);
        }
        Err(if unfit {
            Error::Other(Box::new(PostError::Forbidden(
                "its address is private or reserved (push.allow-private)",
            )))
        } else {
            Error::HostNotFound
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, allow_private: bool) -> Result<Vec<String>, PostError> {
        let guard = Guard { allow_private };
        guard
            .resolve(&url.parse().unwrap(), &Config::default(), NextTimeout::default())
            .map(|found| found.iter().map(ToString::to_string).collect())
            .map_err(|error| reason(&error))
    }

    #[test]
    fn every_spelling_of_this_machine_is_seen_through_when_it_is_called() {
        for host in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "0",
            "0.0.0.0",
            "[::]",
        ] {
            let found = resolve(&format!("http://{host}:80/x"), false);
            assert!(matches!(found, Err(PostError::Forbidden(_))), "{host}: {found:?}");
        }
    }

    #[test]
    fn what_is_permitted_is_called_at_the_address_that_was_judged() {
        let found = |url| resolve(url, true).unwrap();
        assert_eq!(found("http://[::ffff:127.0.0.1]:81/x"), ["127.0.0.1:81"]);
        assert_eq!(found("https://192.168.1.1/x"), ["192.168.1.1:443"]);
        assert_eq!(found("http://[fd00::1]"), ["[fd00::1]:80"]);
        assert!(found("http://localhost:82").contains(&"127.0.0.1:82".to_owned()));
        assert_eq!(resolve("http://8.8.8.8", false).unwrap(), ["8.8.8.8:80"]);
        assert!(matches!(resolve("http://224.0.0.1", true), Err(PostError::Forbidden(_))));
        assert!(matches!(resolve("http://169.254.169.254", true), Err(PostError::Forbidden(_))));
    }
}
