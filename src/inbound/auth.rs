//! Who asks: a token or a client certificate becomes a caller with rights, or the request is refused before anything
//! is looked up for it (A2A 1.0 §7.4, RFC 6750).
//!
//! Wrong tokens are limited by address. What is kept of a token is its digest.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::a2a::error::A2aError;
use crate::a2a::op::{Operation, Principal};
use crate::base::clock::Now;
use crate::base::net::counted_as;
use crate::base::secret::Digest;
use crate::config::Config;
use crate::config::callers::{self, Proof, Rights};

/// Wrong tokens that an address may show in a row.
const TRIES: u32 = 10;
/// It may show one more each time this has passed.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses whose wrong tokens are counted at a time; the one that has been quiet longest makes room.
const ADDRESSES: usize = 64;
/// Before the name of a certificate that no section names.
const CERTIFICATE: &str = "certificate ";
/// Longest token that is looked at, in bytes.
const TOKEN: usize = 8 * 1024;

/// Who asks, and what they may do.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose tasks these are.
    pub who: Principal,
    /// What is allowed.
    pub rights: Rights,
    /// The token that was shown; `None` without one, and with a certificate.
    pub token: Option<Digest>,
}

impl Caller {
    /// Checks one right.
    ///
    /// # Errors
    /// `Forbidden`, naming it.
    pub fn needs(&self, right: Rights) -> Result<(), A2aError> {
        if self.rights.have(right) {
            return Ok(());
        }
        Err(A2aError::Forbidden(match right {
            Rights::PUSH => "this caller may not have webhooks called (right `push`)",
            Rights::CARD => "this caller may not read the extended card (right `card`)",
            Rights::STATUS => "this caller may not read the status (right `status`)",
            _ => "this caller may not use tasks (right `tasks`)",
        }))
    }

    /// Checks the right to an operation.
    ///
    /// # Errors
    /// `Forbidden`, naming what is missing.
    pub fn may(&self, operation: &Operation) -> Result<(), A2aError> {
        match operation {
            Operation::Send(send) | Operation::Stream(send) => {
                self.needs(Rights::TASKS)?;
                if send.hook.is_some() { self.needs(Rights::PUSH) } else { Ok(()) }
            }
            Operation::Get { .. }
            | Operation::List(_)
            | Operation::Cancel { .. }
            | Operation::Subscribe { .. } => self.needs(Rights::TASKS),
            Operation::SetHook { .. }
            | Operation::GetHook { .. }
            | Operation::ListHooks { .. }
            | Operation::DeleteHook { .. } => self.needs(Rights::PUSH),
            Operation::ExtendedCard => self.needs(Rights::CARD),
        }
    }
}

/// Everyone who may ask. Replaced as a whole when the configuration is read again.
#[derive(Debug, Default)]
pub struct Auth {
    /// Whether callers must say who they are; otherwise everybody may do everything.
    required: bool,
    header: Option<HeaderName>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Rc<str>,
    rights: Rights,
    proof: Known,
    /// Whether the token is so short that it could be guessed.
    is_short: bool,
}

#[derive(Debug)]
enum Known {
    Token(Digest),
    Certificate(String),
}

/// What a request shows as a token.
enum Token<'h> {
    None,
    One(&'h [u8]),
    /// What cannot be one.
    Unfit,
}

/// A client certificate that the handshake has verified.
pub trait Shown {
    /// Whether it has this name, or this fingerprint after `sha256:`.
    fn is(&self, name: &str) -> bool;
    /// The name it is known by when nobody gave it another.
    fn name(&self) -> &str;
}

impl Auth {
    /// Those whom the configuration names.
    pub fn new(config: &Config) -> Self {
        let entry = |caller: &callers::Caller| Entry {
            name: caller.name.as_str().into(),
            rights: caller.rights,
            is_short: matches!(&caller.proof, Proof::Token(token) if token.len() < callers::SHORT),
            proof: match &caller.proof {
                Proof::Token(secret) => Known::Token(secret.digest()),
                Proof::Certificate(name) => Known::Certificate(name.clone()),
            },
        };
        let header = config.auth.header.as_deref();
        Self {
            required: config.wants_credentials(),
            header: header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
            entries: config.callers.iter().map(entry).collect(),
        }
    }

    /// Whether callers must say who they are.
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// Whether somebody who was let in once would be today. Of certificates only the name counts: a connection ends
    /// when others vouch for them.
    pub fn knows(&self, who: &Principal, token: Option<&Digest>) -> bool {
        let Principal::Named(name) = who else { return !self.required };
        name.starts_with(CERTIFICATE)
            || self.entries.iter().any(|entry| {
                entry.name == *name
                    && match (&entry.proof, token) {
                        (Known::Token(digest), Some(token)) => digest.is(token),
                        (Known::Certificate(_), None) => true,
                        (Known::Token(_), None) | (Known::Certificate(_), Some(_)) => false,
                    }
            })
    }

    /// Whether there is still a caller of that name.
    pub fn has(&self, who: &Principal) -> bool {
        match who {
            Principal::Named(name) => {
                name.starts_with(CERTIFICATE) || self.entries.iter().any(|it| it.name == *name)
            }
            Principal::Local | Principal::Address(_) => !self.required,
        }
    }

    /// Who sent a request with these headers from `address`.
    ///
    /// # Errors
    /// `Unauthenticated` without credentials or with wrong ones, `TooManyTries` when the address has shown too many
    /// wrong ones. A right one counts even then, because neighbours share addresses, unless it is so short that it
    /// could be guessed.
    pub fn caller(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        certificate: Option<&dyn Shown>,
        tries: &mut Tries,
        now: Now,
    ) -> Result<Caller, A2aError> {
        let is_here = address.to_canonical().is_loopback();
        let address = counted_as(address);
        if !self.required {
            let who = if is_here { Principal::Local } else { Principal::Address(address) };
            return Ok(Caller { who, rights: Rights::ALL, token: None });
        }
        let shown = self.token(headers);
        if let (Token::None, Some(certificate)) = (&shown, certificate) {
            return Ok(self.holder(certificate));
        }
        if matches!(shown, Token::None) {
            return Err(A2aError::Unauthenticated { is_wrong: false });
        }
        let entry = match shown {
            Token::One(token) => self.bearer_of(token),
            Token::None | Token::Unfit => None,
        };
        if let Some(entry) = entry.filter(|entry| is_here || !entry.is_short) {
            return Ok(entry.caller());
        }
        tries.allow(address, now)?;
        if let Some(entry) = entry {
            return Ok(entry.caller());
        }
        tries.count(address, now);
        Err(A2aError::Unauthenticated { is_wrong: true })
    }

    fn token<'h>(&self, headers: &'h HeaderMap) -> Token<'h> {
        let bearers = headers.get_all(AUTHORIZATION).iter().map(bearer);
        let own = self.header.iter().flat_map(|name| headers.get_all(name));
        let mut all = bearers.chain(own.map(|value| Some(value.as_bytes())));
        match (all.next(), all.next()) {
            (None, _) => Token::None,
            (Some(Some(token)), None) if token.len() <= TOKEN => Token::One(token),
            // Whoever shows two means neither.
            (Some(_), _) => Token::Unfit,
        }
    }

    fn bearer_of(&self, token: &[u8]) -> Option<&Entry> {
        let shown = Digest::of(token);
        // All are compared: the time must not tell which one it was.
        self.entries.iter().fold(None, |found, entry| match &entry.proof {
            Known::Token(digest) if digest.is(&shown) => Some(entry),
            Known::Token(_) | Known::Certificate(_) => found,
        })
    }

    /// Whose certificate it is; one that no section names speaks for itself, and may use tasks.
    fn holder(&self, certificate: &dyn Shown) -> Caller {
        let named = self.entries.iter().find(|entry| match &entry.proof {
            Known::Certificate(name) => certificate.is(name),
            Known::Token(_) => false,
        });
        match named {
            Some(entry) => entry.caller(),
            None => Caller {
                who: Principal::Named(format!("{CERTIFICATE}{}", certificate.name()).into()),
                rights: Rights::TASKS,
                token: None,
            },
        }
    }
}

impl Entry {
    fn caller(&self) -> Caller {
        let token = match &self.proof {
            Known::Token(digest) => Some(*digest),
            Known::Certificate(_) => None,
        };
        Caller { who: Principal::Named(self.name.clone()), rights: self.rights, token }
    }
}

/// The token of an `Authorization` header: one scheme, in any case (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// The challenge that goes with a refusal (RFC 6750 §3).
pub const fn challenge(is_wrong: bool) -> HeaderValue {
    if is_wrong {
        HeaderValue::from_static("Bearer realm=\"tetherlet\", error=\"invalid_token\"")
    } else {
        HeaderValue::from_static("Bearer realm=\"tetherlet\"")
    }
}

/// Wrong tokens, by address.
#[derive(Debug, Default)]
pub struct Tries {
    addresses: heapless::LinearMap<IpAddr, Failed, ADDRESSES>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    tries: u32,
    /// When the last of them was counted or taken off.
    since: Duration,
}

impl Failed {
    /// As it is now that time has passed.
    fn at(self, now: Now) -> Self {
        let passed = now.mono.saturating_sub(self.since).as_millis() / REFILL.as_millis();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        Self {
            tries: self.tries.saturating_sub(passed),
            since: self.since + REFILL.saturating_mul(passed.min(self.tries)),
        }
    }
}

impl Tries {
    /// Whether an address may show another token.
    fn allow(&self, address: IpAddr, now: Now) -> Result<(), A2aError> {
        let Some(failed) = self.addresses.get(&address).map(|failed| failed.at(now)) else {
            return Ok(());
        };
        if failed.tries < TRIES {
            return Ok(());
        }
        let wait = (failed.since + REFILL).saturating_sub(now.mono).as_secs() + 1;
        Err(A2aError::TooManyTries { retry_after_s: u32::try_from(wait).unwrap_or(u32::MAX) })
    }

    fn count(&mut self, address: IpAddr, now: Now) {
        let failed = self.addresses.get(&address).map(|failed| failed.at(now));
        let tries = failed.map_or(0, |failed| failed.tries) + 1;
        let since = failed.filter(|failed| failed.tries > 0).map_or(now.mono, |it| it.since);
        if tries == TRIES {
            log::warn!("peer={address} showed {TRIES} wrong tokens, and is now heard more slowly");
        }
        if failed.is_none() && self.addresses.is_full() {
            let quietest = self.addresses.iter().min_by_key(|(_, failed)| failed.at(now).tries);
            if let Some(address) = quietest.map(|(address, _)| *address) {
                self.addresses.remove(&address);
            }
        }
        let _ = self.addresses.insert(address, Failed { tries, since });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "tl_aaaaaaaaaaaaaaaa";

    struct Certificate;

    impl Shown for Certificate {
        fn is(&self, name: &str) -> bool {
            name == "box.local"
        }
        fn name(&self) -> &'static str {
            "box.local"
        }
    }

    fn auth(header: Option<&str>) -> Auth {
        let entry = |name: &str, rights, token: &[u8]| Entry {
            name: name.into(),
            rights,
            proof: Known::Token(Digest::of(token)),
            is_short: token.len() < callers::SHORT,
        };
        Auth {
            required: true,
            header: header.map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap()),
            entries: vec![
                entry("a", Rights::ALL, GOOD.as_bytes()),
                entry("b", Rights::TASKS, b"tl_bbbbbbbbbbbbbbbb"),
                entry("short", Rights::ALL, b"guess"),
            ],
        }
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), unix_ms: 0 }
    }

    fn who(auth: &Auth, all: &[(&'static str, &str)]) -> Result<String, A2aError> {
        let address = IpAddr::from([192, 0, 2, 1]);
        let caller = auth.caller(&headers(all), address, None, &mut Tries::default(), at(0))?;
        match caller.who {
            Principal::Named(name) => Ok(name.to_string()),
            other => panic!("{other:?}"),
        }
    }

    const NONE: A2aError = A2aError::Unauthenticated { is_wrong: false };
    const WRONG: A2aError = A2aError::Unauthenticated { is_wrong: true };

    #[test]
    fn a_token_names_its_caller_and_nothing_else_does() {
        let auth = auth(None);
        let bearer = |value: &str| who(&auth, &[("authorization", value)]);
        for value in ["Bearer tl_aaaaaaaaaaaaaaaa", "bEARER  tl_aaaaaaaaaaaaaaaa "] {
            assert_eq!(bearer(value).unwrap(), "a", "{value}");
        }
        assert_eq!(bearer("Bearer tl_bbbbbbbbbbbbbbbb").unwrap(), "b");
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "tl_aaaaaaaaaaaaaaaa",
            "Basic tl_aaaaaaaaaaaaaaaa",
            "Bearertl_aaaaaaaaaaaaaaaa",
            "Bearer tl_aaaaaaaaaaaaaaa",
            "Bearer tl_aaaaaaaaaaaaaaaa2",
            "Bearer TL_AAAAAAAAAAAAAAAA",
            "Bearer tl_aaaaaaaaaaaaaaaa, Bearer x",
        ] {
            assert_eq!(bearer(value).unwrap_err(), WRONG, "{value}");
        }
        assert_eq!(who(&auth, &[]).unwrap_err(), NONE);
        assert_eq!(who(&auth, &[("x-api-key", GOOD)]).unwrap_err(), NONE);
        assert_eq!(bearer(&format!("Bearer {}", "x".repeat(TOKEN + 1))).unwrap_err(), WRONG);
    }

    #[test]
    fn a_header_of_its_own_may_carry_the_token() {
        let auth = auth(Some("X-API-Key"));
        assert_eq!(who(&auth, &[("x-api-key", GOOD)]).unwrap(), "a");
        let good = format!("Bearer {GOOD}");
        assert_eq!(who(&auth, &[("authorization", &good)]).unwrap(), "a");
        for both in [
            [("x-api-key", GOOD), ("authorization", good.as_str())],
            [("x-api-key", GOOD), ("x-api-key", GOOD)],
            [("authorization", good.as_str()), ("authorization", good.as_str())],
        ] {
            assert_eq!(who(&auth, &both).unwrap_err(), WRONG, "{both:?}");
        }
    }

    #[test]
    fn a_certificate_counts_where_no_token_is_shown() {
        let mut auth = auth(None);
        let address = IpAddr::from([192, 0, 2, 1]);
        let ask = |auth: &Auth, all: &[(&'static str, &str)]| {
            let tries = &mut Tries::default();
            let caller = auth.caller(&headers(all), address, Some(&Certificate), tries, at(0));
            caller.map(|caller| caller.who)
        };
        let own = Principal::Named("certificate box.local".into());
        assert_eq!(ask(&auth, &[]), Ok(own));
        auth.entries.push(Entry {
            name: "c".into(),
            rights: Rights::TASKS,
            proof: Known::Certificate("box.local".to_owned()),
            is_short: false,
        });
        assert_eq!(ask(&auth, &[]), Ok(Principal::Named("c".into())));
        assert_eq!(ask(&auth, &[("authorization", "Bearer x")]), Err(WRONG));
    }

    #[test]
    fn an_address_that_guesses_is_heard_more_slowly_and_its_neighbours_are_not_locked_out() {
        let auth = auth(None);
        let mut tries = Tries::default();
        let (wrong, right) = ("Bearer tl_wrong".to_owned(), format!("Bearer {GOOD}"));
        let mut ask = |value: &str, last: u8, seconds| {
            let headers = headers(&[("authorization", value)]);
            let address = IpAddr::from([192, 0, 2, last]);
            auth.caller(&headers, address, None, &mut tries, at(seconds)).map(|caller| caller.who)
        };
        for _ in 0..TRIES {
            assert_eq!(ask(&wrong, 1, 0), Err(WRONG));
        }
        let slow = |retry_after_s| Err(A2aError::TooManyTries { retry_after_s });
        assert_eq!(ask(&wrong, 1, 0), slow(7));
        assert_eq!(ask("Bearer guess", 1, 5), slow(2), "as if it were wrong");
        assert!(ask(&right, 1, 5).is_ok(), "nobody guesses this");
        assert!(ask("Bearer guess", 2, 0).is_ok(), "another address");
        assert!(ask("Bearer guess", 1, 6).is_ok(), "one is allowed again");
        assert_eq!(ask(&wrong, 1, 6), Err(WRONG));
        assert_eq!(ask("Bearer guess", 1, 6), slow(7));
        assert!(ask("Bearer guess", 1, 600).is_ok());
    }

    #[test]
    fn a_stream_goes_on_while_the_very_token_is_good() {
        let mut auth = auth(None);
        let named = |name: &str| Principal::Named(name.into());
        let token = Digest::of(GOOD.as_bytes());
        assert!(auth.knows(&named("a"), Some(&token)));
        assert!(!auth.knows(&named("b"), Some(&token)));
        auth.entries[0].proof = Known::Token(Digest::of(b"tl_renewed_0123456789"));
        assert!(!auth.knows(&named("a"), Some(&token)) && auth.has(&named("a")));
        assert!(!auth.has(&named("c")) && !auth.has(&Principal::Local));
    }

    #[test]
    fn on_this_machine_a_right_token_always_counts() {
        let auth = auth(None);
        let mut tries = Tries::default();
        let mut ask = |value: &str| {
            let headers = headers(&[("authorization", value)]);
            auth.caller(&headers, IpAddr::from([127, 0, 0, 1]), None, &mut tries, at(0))
                .map(|caller| caller.who)
        };
        for _ in 0..TRIES {
            assert_eq!(ask("Bearer tl_wrong"), Err(WRONG));
        }
        assert!(matches!(ask("Bearer tl_wrong"), Err(A2aError::TooManyTries { .. })));
        assert!(ask(&format!("Bearer {GOOD}")).is_ok());
    }

    #[test]
    fn the_addresses_that_are_counted_are_bounded_and_the_worst_stay() {
        let mut tries = Tries::default();
        let worst = IpAddr::from([198, 51, 100, 1]);
        for _ in 0..TRIES {
            tries.count(worst, at(0));
        }
        for last in 0..=255 {
            tries.count(IpAddr::from([192, 0, 2, last]), at(0));
        }
        assert_eq!(tries.addresses.len(), ADDRESSES);
        assert!(tries.allow(worst, at(0)).is_err());
    }
}
