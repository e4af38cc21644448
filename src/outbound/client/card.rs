//! Reads an agent card, of 1.0, 0.3 or CodeTether's spelling, and chooses the interface to talk to.
//!
//! A card is a stranger's word about where to send what its reader types, so its URLs are followed by rule:
//!
//! - Only absolute http and https URLs without user names; an address in a spelling that readers take for a name
//!   (`127.1`) is none.
//! - A wildcard address is replaced by the host and port that the card came from. So is a loopback address on a card
//!   that came from elsewhere, and every other host on a card that came from this machine: whoever names loopback
//!   means this machine, or a tunnel that ends here.
//! - https is never left for http: on the card's own host the scheme, host and port stay as they were typed, on
//!   another host the interface is passed over.

use std::fmt;
use std::net::IpAddr;

use crate::config::url::Url;
use crate::outbound::client::error::ClientError;
use crate::outbound::client::members::Members;
use crate::outbound::http::is_here;

/// Interfaces and skills of a card that are read.
const LISTED: usize = 64;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 0.3, and 0.2, whose calls are the same.
    V0_3,
    /// 1.0 and its successors that keep its major number.
    V1_0,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_3 => "0.3",
            Self::V1_0 => "1.0",
        })
    }
}

/// How calls are put into HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Every call is a POST to one URL.
    JsonRpc,
    /// HTTP+JSON: every call has a path of its own below the URL.
    Rest,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonRpc => "JSON-RPC",
            Self::Rest => "REST",
        })
    }
}

/// Where and how an agent is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Of the JSON-RPC endpoint, or what REST paths are appended to.
    pub url: String,
    /// The version spoken there.
    pub version: Version,
    /// The binding spoken there.
    pub binding: Binding,
    /// Whom of several agents behind one URL is meant (A2A 1.0 §4.4.6); 0.3 has none.
    pub tenant: Option<String>,
}

/// What a caller insists on; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only this version.
    pub version: Option<Version>,
    /// Only this binding.
    pub binding: Option<Binding>,
    /// This tenant, whatever the card says. Implies 1.0.
    pub tenant: Option<String>,
    /// Talk to the URL given, whatever URL the card names: the caller knows better, for example because the card
    /// names the agent's public URL and the caller is on the same machine.
    pub here: bool,
}

/// From the most to the least liked.
const PREFERENCE: [(Version, Binding); 4] = [
    (Version::V1_0, Binding::JsonRpc),
    (Version::V1_0, Binding::Rest),
    (Version::V0_3, Binding::JsonRpc),
    (Version::V0_3, Binding::Rest),
];

impl Wanted {
    fn allows(&self, version: Version, binding: Binding) -> bool {
        self.version.is_none_or(|wanted| wanted == version)
            && self.binding.is_none_or(|wanted| wanted == binding)
            && (self.tenant.is_none() || version == Version::V1_0)
    }

    /// The interface of an agent without a card: what is wanted, else 0.3 over JSON-RPC, at the URL itself.
    pub(super) fn assumed(&self, url: &str) -> Interface {
        let version = match self.tenant {
            Some(_) => Version::V1_0,
            None => self.version.unwrap_or(Version::V0_3),
        };
        let binding = self.binding.unwrap_or(Binding::JsonRpc);
        Interface { url: url.to_owned(), version, binding, tenant: self.tenant.clone() }
    }
}

/// An interface as a card names it, whether or not it can be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// As written.
    pub url: String,
    /// `JSONRPC`, `HTTP+JSON`, `GRPC` or anything else.
    pub binding: String,
    /// As written: `1.0`, `0.3.0`.
    pub version: String,
    /// Only in 1.0.
    pub tenant: Option<String>,
}

impl Offer {
    fn means(&self, version: Version, binding: Binding) -> bool {
        let major = self.version.trim().split('.').next();
        let is_version = match version {
            Version::V1_0 => major == Some("1"),
            Version::V0_3 => major == Some("0") || major == Some(""),
        };
        let name = match binding {
            Binding::JsonRpc => "JSONRPC",
            Binding::Rest => "HTTP+JSON",
        };
        is_version && self.binding.eq_ignore_ascii_case(name)
    }
}

/// One thing that an agent can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSkill {
    /// Unique on its card.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it does.
    pub description: String,
    /// For search.
    pub tags: Vec<String>,
}

/// Who an agent is, what it can do and where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCard {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: String,
    /// The agent's own version, not the protocol's.
    pub version: String,
    /// Where it is reached, in the card's order; at most 64.
    pub interfaces: Vec<Offer>,
    /// Whether it says that it streams.
    pub streaming: bool,
    /// What it can do; at most 64.
    pub skills: Vec<AgentSkill>,
    /// The card as it was sent.
    pub json: String,
}

impl AgentCard {
    /// Reads a card of either version, in camelCase or in CodeTether's `snake_case`.
    ///
    /// # Errors
    /// `json` is no JSON object. Whatever else is missing stays empty.
    pub fn read(json: &str) -> Result<Self, ClientError> {
        let broken = |what: &str| ClientError::Broken(format!("the agent card is {what}"));
        let card = Members::read(json).ok_or_else(|| broken("no JSON object"))?;
        let list = |names: &[&str]| -> Result<Vec<Members<'_>>, ClientError> {
            let list = card.list(names).map_err(|what| broken(&what))?;
            Ok(list.into_iter().filter_map(Members::read).take(LISTED).collect())
        };
        let mut interfaces = Vec::new();
        let mut offer = |url: Option<String>, binding, version: Option<String>, tenant| {
            if let Some(url) = url {
                let version = version.unwrap_or_default();
                interfaces.push(Offer { url, binding, version, tenant });
            }
        };
        for one in list(&["supportedInterfaces", "supported_interfaces"])? {
            let binding = one.text(&["protocolBinding", "protocol_binding"]).unwrap_or_default();
            let version = one.text(&["protocolVersion", "protocol_version"]);
            offer(one.filled(&["url"]), binding, version, one.filled(&["tenant"]));
        }
        let version = || card.text(&["protocolVersion", "protocol_version"]);
        let main = card.filled(&["preferredTransport", "preferred_transport"]);
        let main = main.unwrap_or_else(|| "JSONRPC".to_owned());
        offer(card.filled(&["url"]), main, version(), None);
        for one in list(&["additionalInterfaces", "additional_interfaces"])? {
            let binding = one.text(&["transport"]).unwrap_or_default();
            offer(one.filled(&["url"]), binding, version(), None);
        }
        let skill = |one: Members<'_>| AgentSkill {
            id: one.text(&["id"]).unwrap_or_default(),
            name: one.text(&["name"]).unwrap_or_default(),
            description: one.text(&["description"]).unwrap_or_default(),
            tags: one
                .list(&["tags"])
                .unwrap_or_default()
                .into_iter()
                .filter_map(super::members::text)
                .collect(),
        };
        let capabilities = card.object(&["capabilities"]).unwrap_or_default();
        Ok(Self {
            name: card.text(&["name"]).unwrap_or_default(),
            description: card.text(&["description"]).unwrap_or_default(),
            version: card.text(&["version"]).unwrap_or_default(),
            interfaces,
            streaming: capabilities.is(&["streaming"]),
            skills: list(&["skills"])?.into_iter().map(skill).collect(),
            json: json.to_owned(),
        })
    }

    /// The interface to use: 1.0 before 0.3, JSON-RPC before REST, among those that are wanted and may be followed
    /// from `url`, where the card came from. A card without any is one of 0.3 over JSON-RPC there.
    ///
    /// # Errors
    /// `Unusable`, with what the card offers.
    pub fn choose(&self, url: &str, wanted: &Wanted) -> Result<Interface, ClientError> {
        if self.interfaces.is_empty() {
            return Ok(wanted.assumed(url));
        }
        let mut passed_over = None;
        for (version, binding) in PREFERENCE {
            if !wanted.allows(version, binding) {
                continue;
            }
            for offer in self.interfaces.iter().filter(|offer| offer.means(version, binding)) {
                let followed =
                    if wanted.here { Ok(url.to_owned()) } else { follow(&offer.url, url) };
                match followed {
                    Ok(url) if binding == Binding::Rest && url.contains('?') => {
                        passed_over = Some(format!("{url} has a query, REST needs a path"));
                    }
                    Ok(url) => {
                        let tenant = wanted.tenant.clone().or_else(|| offer.tenant.clone());
                        return Ok(Interface { url, version, binding, tenant });
                    }
                    Err(why) => {
                        let url = super::error::cut(&offer.url);
                        passed_over = Some(format!("{url} {why}"));
                    }
                }
            }
        }
        let offers: Vec<String> = self
            .interfaces
            .iter()
            .map(|offer| super::error::cut(&format!("{} {}", offer.version, offer.binding)))
            .collect();
        let offers = offers.join(", ");
        Err(ClientError::Unusable(match passed_over {
            Some(why) => format!("the agent's card names no interface that may be used: {why}"),
            None => format!("the agent's card names no interface that fits; it has: {offers}"),
        }))
    }
}

/// The URL to use for an interface that the card from `card_url` places at `offered`, by the module's rules.
fn follow(offered: &str, card_url: &str) -> Result<String, &'static str> {
    let offered = offered.split('#').next().unwrap_or_default();
    let theirs = Url::read(offered).ok_or("is no http or https URL")?;
    let ours = Url::read(card_url).ok_or("cannot be compared")?;
    if theirs.host.parse::<IpAddr>().is_err() && ends_in_a_number(theirs.host) {
        return Err("is an address in disguise");
    }
    let (theirs_here, ours_here) = (is_here(theirs.host), is_here(ours.host));
    let is_wildcard =
        theirs.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified());
    let is_downgrade = ours.is_https && !theirs.is_https;
    if is_wildcard
        || theirs_here != ours_here
        || (is_downgrade && theirs.host.eq_ignore_ascii_case(ours.host))
    {
        let at = |url: &str| {
            let start = url.find("://").map_or(0, |at| at + 3);
            url[start..].find(['/', '?']).map_or(url.len(), |at| start + at)
        };
        return Ok(format!("{}{}", &card_url[..at(card_url)], &offered[at(offered)..]));
    }
    if is_downgrade { Err("would leave https") } else { Ok(offered.to_owned()) }
}

/// Whether resolvers may take a name for an IPv4 address: `127.1`, `0x7f000001`, `2130706433`.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit())
        || last.starts_with("0x")
        || last.starts_with("0X")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(card: &str, wanted: &Wanted) -> Result<(String, Version, Binding), String> {
        let card = AgentCard::read(card).unwrap();
        let chosen = card.choose("https://agent.example", wanted).map_err(|e| e.to_string())?;
        Ok((chosen.url, chosen.version, chosen.binding))
    }

    const DUAL: &str = r#"{"name":"n","supportedInterfaces":[
        {"url":"https://a/grpc","protocolBinding":"GRPC","protocolVersion":"1.0"},
        {"url":"https://a/old","protocolBinding":"JSONRPC","protocolVersion":"0.3"},
        {"url":"https://a/rest","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"},
        {"url":"https://a/rpc","protocolBinding":"JSONRPC","protocolVersion":"1.0","tenant":"t"}],
        "url":"https://a/old","protocolVersion":"0.3.0","preferredTransport":"JSONRPC",
        "additionalInterfaces":[{"url":"https://a/old/rest","transport":"HTTP+JSON"}]}"#;

    #[test]
    fn the_newest_version_wins_and_then_json_rpc() {
        let any = Wanted::default();
        let of = |version, binding| Wanted { version, binding, ..Wanted::default() };
        let rpc = |url: &str, version| (url.to_owned(), version, Binding::JsonRpc);
        let rest = |url: &str, version| (url.to_owned(), version, Binding::Rest);
        let (old, new) = (Version::V0_3, Version::V1_0);
        assert_eq!(chosen(DUAL, &any), Ok(rpc("https://a/rpc", new)));
        let cases = [
            (of(None, Some(Binding::Rest)), rest("https://a/rest", new)),
            (of(Some(old), None), rpc("https://a/old", old)),
            (of(Some(old), Some(Binding::Rest)), rest("https://a/old/rest", old)),
        ];
        for (wanted, expected) in cases {
            assert_eq!(chosen(DUAL, &wanted), Ok(expected));
        }
        let card = AgentCard::read(DUAL).unwrap();
        let tenant = |wanted| card.choose("https://a", wanted).unwrap().tenant;
        assert_eq!(tenant(&any).as_deref(), Some("t"));
        let other = Wanted { tenant: Some("u".to_owned()), ..any };
        assert_eq!(tenant(&other).as_deref(), Some("u"));
    }

    #[test]
    fn codetethers_card_is_read_in_its_own_spelling() {
        let card = r#"{"name":"hub","url":"https://h","protocol_version":"0.3","additional_interfaces":[
            {"transport":"livekit","url":"/v1/livekit/token"},{"transport":"HTTP+JSON","url":"https://h/r"}],
            "capabilities":{"streaming":false},"skills":[{"id":"a","name":"A","tags":["x",1]}]}"#;
        let read = AgentCard::read(card).unwrap();
        assert_eq!((read.interfaces.len(), read.skills[0].tags.len()), (3, 1));
        let any = chosen(card, &Wanted::default()).unwrap();
        assert_eq!(any, ("https://h".to_owned(), Version::V0_3, Binding::JsonRpc));
        let rest = Wanted { binding: Some(Binding::Rest), ..Wanted::default() };
        assert_eq!(chosen(card, &rest).unwrap().0, "https://h/r");
        let snake = r#"{"supported_interfaces":[{"url":"https://h/x","protocol_binding":"JSONRPC",
            "protocol_version":"1.0"}]}"#;
        assert_eq!(chosen(snake, &Wanted::default()).unwrap().1, Version::V1_0);
        // Nothing about interfaces at all.
        let bare = chosen("{}", &Wanted::default()).unwrap();
        assert_eq!(bare, ("https://agent.example".to_owned(), Version::V0_3, Binding::JsonRpc));
    }

    #[test]
    fn a_refusal_says_what_the_card_has() {
        let grpc = r#"{"url":"https://a","preferredTransport":"GRPC","protocolVersion":"0.3.0"}"#;
        assert!(chosen(grpc, &Wanted::default()).unwrap_err().ends_with("it has: 0.3.0 GRPC"));
        let new = Wanted { version: Some(Version::V1_0), ..Wanted::default() };
        let old = r#"{"url":"https://a","protocolVersion":"0.3.0"}"#;
        assert!(chosen(old, &new).unwrap_err().ends_with("it has: 0.3.0 JSONRPC"));
        let tenant = Wanted { tenant: Some("t".to_owned()), ..Wanted::default() };
        assert!(chosen(old, &tenant).is_err());
        let file = r#"{"url":"file:///etc/passwd"}"#;
        let error = chosen(file, &Wanted::default()).unwrap_err();
        assert!(error.ends_with("file:///etc/passwd is no http or https URL"), "{error}");
        assert!(AgentCard::read("<html>").is_err());
    }

    #[test]
    fn a_cards_url_is_followed_by_rule() {
        for (card_url, offered, wanted) in [
            ("http://a", "http://b:1/x", Ok("http://b:1/x")),
            ("http://a", "https://b/x", Ok("https://b/x")),
            ("https://a", "https://b/x", Ok("https://b/x")),
            ("https://a", "http://b/x", Err("would leave https")),
            ("https://a:8443/base", "http://A:1/x", Ok("https://a:8443/x")),
            ("http://a:1", "http://127.0.0.1:2/x", Ok("http://a:1/x")),
            ("http://a:1", "http://localhost:2", Ok("http://a:1")),
            ("http://a:1", "http://[::]:2/x?y=1", Ok("http://a:1/x?y=1")),
            ("http://a:1", "http://[::ffff:127.0.0.1]:2/x", Ok("http://a:1/x")),
            ("http://127.0.0.1:1", "http://0.0.0.0:2/x", Ok("http://127.0.0.1:1/x")),
            ("http://127.0.0.1:1", "http://localhost:2/x", Ok("http://localhost:2/x")),
            ("http://localhost:1/base", "https://b/x", Ok("http://localhost:1/x")),
            ("http://a", "http://127.1/x", Err("is an address in disguise")),
            ("http://a", "http://2130706433/x", Err("is an address in disguise")),
            ("http://a", "http://0x7f.1/x", Err("is an address in disguise")),
            ("http://a", "ftp://b", Err("is no http or https URL")),
            ("http://a", "http://user:pass@b", Err("is no http or https URL")),
            ("http://a", "/relative", Err("is no http or https URL")),
            ("http://a", "http://b/x#y", Ok("http://b/x")),
        ] {
            let wanted = wanted.map(str::to_owned);
            assert_eq!(follow(offered, card_url), wanted, "{offered} from {card_url}");
        }
    }
}
