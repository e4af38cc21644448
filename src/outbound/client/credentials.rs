//! What a client shows an agent about itself, and where it may show it: only at the scheme, host and port that its
//! user named, never in clear to a host that is not near, never behind a redirect.

use ureq::http::HeaderValue;
use ureq::http::header::{AUTHORIZATION, HeaderName};

use crate::base::secret::Secret;
use crate::config::trust::At;
use crate::config::url::{Url, is_private};
use crate::outbound::client::error::ClientError;
use crate::outbound::tls::Tls;

/// Who calls, and whom the caller trusts; by default nobody in particular, and the built-in roots.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A token or key.
    pub token: Option<Secret>,
    /// The header that carries it as it is, such as `X-API-Key`. Without it, it goes as `Authorization: Bearer`.
    pub header: Option<String>,
    /// Where it was found, in words: `--token-file x`, `TETHERLET_TOKEN`.
    pub source: String,
    /// Whom the client trusts, and its certificate.
    pub tls: Tls,
}

impl Credentials {
    /// The header for requests to `url`, if any.
    ///
    /// # Errors
    /// It must not be sent there, or cannot be.
    pub(super) fn for_url(
        &self,
        url: &str,
    ) -> Result<Option<(HeaderName, HeaderValue)>, ClientError> {
        let Some(token) = &self.token else { return Ok(None) };
        let is_safe = Url::read(url).is_some_and(|url| url.is_https || is_private(url.host));
        if !is_safe {
            let at = At::of_url(url).map_or_else(String::new, |at| format!(" ({at})"));
            return Err(ClientError::Unusable(format!(
                "the token from {} is not sent over plain http beyond the private network{at}: \
                 write https:// in the URL, or call without token",
                self.source
            )));
        }
        let (name, text) = match &self.header {
            Some(name) => (HeaderName::from_bytes(name.as_bytes()).ok(), token.expose().to_owned()),
            None => (Some(AUTHORIZATION), format!("Bearer {}", token.expose())),
        };
        let (Some(name), Ok(mut value)) = (name, HeaderValue::from_str(&text)) else {
            let what = format!("the token from {} cannot be sent in its header", self.source);
            return Err(ClientError::Unusable(what));
        };
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }

    /// Whether they may go to `other` when they were given for `url`.
    ///
    /// # Errors
    /// What to do instead.
    pub(super) fn stay(&self, url: &str, other: &str) -> Result<(), ClientError> {
        let shows = self.token.is_some() || self.tls.has_identity();
        if !shows || origin(url) == origin(other) {
            return Ok(());
        }
        let at = origin(other).map_or_else(String::new, |(is_https, at)| {
            format!("{}://{at}", if is_https { "https" } else { "http" })
        });
        Err(ClientError::Unusable(format!(
            "the agent's card names {at}, another place than {url}, and credentials go only where they were \
             meant for: if they are meant for {at}, give that URL, otherwise call without them"
        )))
    }
}

/// Scheme, host and port of a URL (RFC 6454 §4).
pub fn origin(url: &str) -> Option<(bool, At)> {
    Some((Url::read(url)?.is_https, At::of_url(url)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token() -> Credentials {
        let token = Secret::new("canary");
        Credentials { token, source: "X".to_owned(), ..Credentials::default() }
    }

    #[test]
    fn a_token_never_goes_in_clear_beyond_the_private_network() {
        for url in
            ["https://a.example", "http://127.0.0.1:1", "http://pi.local", "http://[fd00::1]"]
        {
            let (name, value) = with_token().for_url(url).unwrap().unwrap();
            assert_eq!((name, value.to_str().unwrap()), (AUTHORIZATION, "Bearer canary"), "{url}");
            assert!(!format!("{value:?}").contains("canary"));
        }
        for url in ["http://a.example", "http://8.8.8.8", "http://2130706433", "http://0x7f.1"] {
            let error = with_token().for_url(url).unwrap_err().to_string();
            assert!(error.contains("write https://") && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_key_goes_into_the_header_it_is_for() {
        let header = Some("X-API-Key".to_owned());
        let it = Credentials { header, ..with_token() }.for_url("https://a").unwrap().unwrap();
        assert_eq!((it.0.as_str(), it.1.to_str().unwrap()), ("x-api-key", "canary"));
        assert!(Credentials::default().for_url("http://a.example").unwrap().is_none());
    }

    #[test]
    fn credentials_stay_at_scheme_host_and_port() {
        let it = with_token();
        for (url, other) in
            [("https://host", "https://HOST:443/x"), ("http://[::1]:1/", "http://[0:0::1]:1/rpc")]
        {
            assert_eq!(it.stay(url, other), Ok(()), "{url} {other}");
        }
        for (url, other) in [
            ("https://host", "http://host:443"),
            ("https://host", "https://host:444"),
            ("https://host", "https://host.evil"),
            ("http://127.0.0.1:1", "http://localhost:1"),
            ("https://host", "nonsense"),
        ] {
            assert!(it.stay(url, other).is_err(), "{url} {other}");
            assert_eq!(Credentials::default().stay(url, other), Ok(()));
        }
    }
}
