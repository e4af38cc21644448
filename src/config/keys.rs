//! The table of keys: the one place that knows a key's name, its bounds, where its value lives, and
//! its words.
//!
//! Files, environment names, flags, defaults, `status --config` and help all come from it, so no
//! key can exist in one of them only. Bounds never pass the ceilings of `base::limits`.
//! Long because it is one table, which reads best whole.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits;
use crate::config::url::{Url, is_host};
use crate::config::{AuthMode, CardForm, ClientCert, Config, Format, Level, Plain};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// `section.key`, in kebab case.
    pub name: &'static str,
    pub kind: Kind,
    /// Where its value lives.
    pub place: for<'a> fn(&'a mut Config) -> Place<'a>,
    /// Names that `CodeTether` and systemd use for it, the stronger one first.
    pub env: &'static [&'static str],
    /// Its meaning in one line.
    pub help: &'static str,
    /// Whether a running agent cannot change it: a reload says so and leaves it to the next start.
    pub at_start: bool,
}

impl Key {
    /// The same key, which a running agent cannot change.
    const fn at_start(self) -> Self {
        Self { at_start: true, ..self }
    }

    /// The environment variable of ours that sets it.
    pub fn variable(&self) -> String {
        variable(self.name)
    }

    /// Puts a checked value in its place.
    pub fn set(&self, config: &mut Config, value: Value) {
        // A kind that does not fit its place is a mistake in the table, which a test excludes.
        match ((self.place)(config), value) {
            (Place::Bool(place), Value::Bool(value)) => *place = value,
            (Place::Text(place), Value::Text(value)) => *place = value,
            (Place::MaybeText(place), Value::Text(value)) => *place = Some(value),
            (Place::MaybePath(place), Value::Text(value)) => *place = Some(PathBuf::from(value)),
            (Place::Port(place), Value::Number(value)) => {
                *place = u16::try_from(value).unwrap_or(u16::MAX);
            }
            (Place::Tokens(place), Value::Number(value)) => {
                *place = u32::try_from(value).unwrap_or(u32::MAX);
            }
            (Place::Size(place), Value::Number(value)) => {
                *place = usize::try_from(value).unwrap_or(usize::MAX);
            }
            (Place::Wait(place), Value::Number(value)) => *place = Duration::from_secs(value),
            (Place::Level(place), Value::Text(value)) => {
                *place = Level::ALL.into_iter().find(|it| it.name() == value).unwrap_or(*place);
            }
            (Place::Format(place), Value::Text(value)) => {
                *place = Format::ALL.into_iter().find(|it| it.name() == value).unwrap_or(*place);
            }
            (Place::AuthMode(place), Value::Text(value)) => {
                *place = AuthMode::ALL.into_iter().find(|it| it.name() == value).unwrap_or(*place);
            }
            (Place::CardForm(place), Value::Text(value)) => {
                *place = CardForm::ALL.into_iter().find(|it| it.name() == value).unwrap_or(*place);
            }
            (Place::ClientCert(place), Value::Text(value)) => {
                *place =
                    ClientCert::ALL.into_iter().find(|it| it.name() == value).unwrap_or(*place);
            }
            (Place::Plain(place), Value::Text(value)) => {
                *place = Plain::ALL.into_iter().find(|it| it.name() == value).unwrap_or(*place);
            }
            (_, Value::Bool(_) | Value::Number(_) | Value::Text(_)) => {}
        }
    }

    /// Its value as one would write it, or `None` when it has none.
    ///
    /// `config` is borrowed mutably only because the table has one way to a place; nothing changes.
    pub fn show(&self, config: &mut Config) -> Option<String> {
        Some(match (self.place)(config) {
            Place::Bool(value) => value.to_string(),
            Place::Text(value) => value.clone(),
            Place::MaybeText(value) => return value.clone(),
            Place::MaybePath(value) => return value.as_ref().map(|it| it.display().to_string()),
            Place::Port(value) => value.to_string(),
            Place::Tokens(value) => value.to_string(),
            Place::Size(value) if matches!(self.kind, Kind::Bytes { .. }) => {
                bytes_text(*value as u64)
            }
            Place::Size(value) => value.to_string(),
            Place::Wait(value) => value.as_secs().to_string(),
            Place::Level(value) => value.name().to_owned(),
            Place::Format(value) => value.name().to_owned(),
            Place::AuthMode(value) => value.name().to_owned(),
            Place::CardForm(value) => value.name().to_owned(),
            Place::ClientCert(value) => value.name().to_owned(),
            Place::Plain(value) => value.name().to_owned(),
        })
    }
}

/// What a key holds, and its bounds, both ends included.
///
/// `Display` is the rule in words, for problems and for help.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    /// One line of text, at most this many bytes.
    Line {
        max: usize,
    },
    /// Text with line ends and tabs, at most this many bytes.
    Text {
        max: usize,
    },
    /// A file or folder.
    Path,
    /// A path from the root.
    RootedPath,
    /// An address or host name to listen on.
    Host,
    /// Names and addresses with commas between, at most so many; a name may begin with `*.`.
    Hosts {
        max: usize,
    },
    /// An http or https URL.
    Url,
    /// An http or https URL that paths are appended to: no query, no `/` at its end.
    Base,
    /// The name of an environment variable.
    Variable,
    Number {
        min: u64,
        max: u64,
    },
    Seconds {
        min: u64,
        max: u64,
    },
    /// A number of bytes, or a text like `256KiB` or `2MiB`.
    Bytes {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
}

impl Kind {
    /// The value that `raw` stands for, or `None` when it has the wrong type or breaks the bounds.
    pub fn check(self, raw: Raw<'_>) -> Option<Value> {
        match self {
            Self::Bool => match raw {
                Raw::Bool(value) => Some(Value::Bool(value)),
                Raw::Loose(text) => bool_of(text.trim()).map(Value::Bool),
                Raw::Number(_) | Raw::Text(_) | Raw::Other => None,
            },
            Self::Line { max } => {
                let text = raw.text()?;
                is_line(text, max).then(|| Value::Text(text.to_owned()))
            }
            Self::Text { max } => {
                let text = raw.text()?;
                let fits = (1..=max).contains(&text.len())
                    && !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
                fits.then(|| Value::Text(text.to_owned()))
            }
            Self::Path => {
                let text = raw.text()?;
                is_line(text, MAX_PATH).then(|| Value::Text(text.to_owned()))
            }
            Self::RootedPath => {
                let text = raw.text()?;
                (is_line(text, MAX_PATH) && text.starts_with('/'))
                    .then(|| Value::Text(text.to_owned()))
            }
            Self::Host => {
                let text = raw.text()?;
                let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
                let host = bare.unwrap_or(text);
                (is_host(host) && (bare.is_none() || host.contains(':')))
                    .then(|| Value::Text(host.to_owned()))
            }
            Self::Hosts { max } => {
                let text = raw.text()?;
                let is_named = |host: &str| {
                    let host = host.trim();
                    let is_any = host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
                    is_host(host.strip_prefix("*.").unwrap_or(host)) && !is_any
                };
                let fits = text.split(',').count() <= max && text.split(',').all(is_named);
                fits.then(|| Value::Text(text.to_owned()))
            }
            Self::Url => {
                let text = raw.text()?;
                (text.len() <= MAX_URL && Url::read(text).is_some())
                    .then(|| Value::Text(text.to_owned()))
            }
            Self::Base => {
                let text = raw.text()?;
                let fits = text.len() <= MAX_URL
                    && Url::read(text).is_some_and(|url| !url.has_query)
                    && !API_PATHS.iter().any(|path| text.trim_end_matches('/').ends_with(path));
                fits.then(|| Value::Text(text.trim_end_matches('/').to_owned()))
            }
            Self::Variable => {
                let text = raw.text()?;
                let fits = (1..=128).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && !text.starts_with(|first: char| first.is_ascii_digit());
                fits.then(|| Value::Text(text.to_owned()))
            }
            Self::Number { min, max } | Self::Seconds { min, max } => {
                let value = match raw {
                    Raw::Number(value) => value?,
                    Raw::Loose(text) => digits(text.trim())?,
                    Raw::Bool(_) | Raw::Text(_) | Raw::Other => return None,
                };
                (min..=max).contains(&value).then_some(Value::Number(value))
            }
            Self::Bytes { min, max } => {
                let value = match raw {
                    Raw::Number(value) => value?,
                    Raw::Text(text) | Raw::Loose(text) => bytes_of(text.trim())?,
                    Raw::Bool(_) | Raw::Other => return None,
                };
                (min..=max).contains(&value).then_some(Value::Number(value))
            }
            Self::Choice(names) => {
                let text = raw.text()?;
                let found = match raw {
                    Raw::Loose(_) => names.iter().find(|name| name.eq_ignore_ascii_case(text)),
                    Raw::Bool(_) | Raw::Number(_) | Raw::Text(_) | Raw::Other => {
                        names.iter().find(|name| **name == text)
                    }
                };
                found.map(|name| Value::Text((*name).to_owned()))
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("must be true or false"),
            Self::Line { max } => write!(f, "must be one line of text, 1 to {max} bytes"),
            Self::Text { max } => write!(f, "must be text of 1 to {max} bytes"),
            Self::Path => f.write_str("must be a path"),
            Self::RootedPath => f.write_str("must be a path that begins with /"),
            Self::Host => f.write_str("must be an IP address or a host name"),
            Self::Hosts { max } => write!(
                f,
                "must be 1 to {max} host names or addresses, without port, with commas between; \
                 *.NAME stands for every name just below NAME"
            ),
            Self::Url => {
                f.write_str("must be an http or https URL without user name, at most 512 bytes")
            }
            Self::Base => f.write_str(
                "must be an http or https URL without user name, query, fragment or API path, \
                 at most 512 bytes",
            ),
            Self::Variable => {
                f.write_str("must be the name of an environment variable, such as MY_API_KEY")
            }
            Self::Number { min, max } => write!(f, "must be a whole number, {min} to {max}"),
            Self::Seconds { min, max } => {
                write!(f, "must be a whole number of seconds, {min} to {max}")
            }
            Self::Bytes { min, max } => {
                let (min, max) = (bytes_text(*min), bytes_text(*max));
                write!(f, "must be {min} to {max}, as a number of bytes or like \"256KiB\"")
            }
            Self::Choice(names) => write!(f, "must be one of {}", names.join(", ")),
        }
    }
}

/// A value as a layer gives it, not yet checked.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    Bool(bool),
    /// `None`: negative, or more than 64 bits.
    Number(Option<u64>),
    Text(&'a str),
    /// Text that may stand for any type, from the environment or a flag.
    Loose(&'a str),
    /// A type that no key has.
    Other,
}

impl<'a> Raw<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Loose(text) => Some(text.trim()),
            Self::Bool(_) | Self::Number(_) | Self::Other => None,
        }
    }
}

/// A value that fits its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
}

/// Where a key's value lives.
#[derive(Debug)]
pub enum Place<'a> {
    Bool(&'a mut bool),
    Text(&'a mut String),
    MaybeText(&'a mut Option<String>),
    MaybePath(&'a mut Option<PathBuf>),
    Port(&'a mut u16),
    Tokens(&'a mut u32),
    Size(&'a mut usize),
    Wait(&'a mut Duration),
    Level(&'a mut Level),
    Format(&'a mut Format),
    AuthMode(&'a mut AuthMode),
    CardForm(&'a mut CardForm),
    ClientCert(&'a mut ClientCert),
    Plain(&'a mut Plain),
}

/// `TETHERLET_SECTION_KEY` for `section.key`.
pub fn variable(name: &str) -> String {
    let mut out = String::from("TETHERLET_");
    out.extend(name.chars().map(|c| match c {
        '-' | '.' => '_',
        other => other.to_ascii_uppercase(),
    }));
    out
}

/// The sections of the table, each once, in its order.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().filter_map(move |key| {
        let section = key.name.split_once('.').map_or(key.name, |(section, _)| section);
        let is_new = section != last;
        last = section;
        is_new.then_some(section)
    })
}

/// Position of a key in [`KEYS`].
pub fn position(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

const MAX_PATH: usize = 4096;
const MAX_URL: usize = 512;
/// Ends of URLs that people copy from a provider's examples in place of its base.
const API_PATHS: [&str; 3] = ["/chat/completions", "/responses", "/v1/messages"];

const fn key(
    name: &'static str,
    kind: Kind,
    place: for<'a> fn(&'a mut Config) -> Place<'a>,
    env: &'static [&'static str],
    help: &'static str,
) -> Key {
    Key { name, kind, place, env, help, at_start: false }
}

const fn number(min: u64, max: usize) -> Kind {
    Kind::Number { min, max: max as u64 }
}

const fn seconds(max: u64) -> Kind {
    Kind::Seconds { min: 1, max }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max }
}

/// Every key outside `[providers.NAME]`, section by section, in the order of
/// `config/tetherlet.toml`.
pub static KEYS: &[Key] = &[
    key(
        "agent.name",
        Kind::Line { max: 128 },
        |c| Place::MaybeText(&mut c.agent.name),
        &["A2A_AGENT_NAME"],
        "name on the agent card; without it HOST-DIRECTORY-PID",
    ),
    key(
        "agent.description",
        Kind::Text { max: 2048 },
        |c| Place::MaybeText(&mut c.agent.description),
        &["A2A_AGENT_DESCRIPTION"],
        "what this agent is for, on the agent card",
    ),
    key(
        "agent.organization",
        Kind::Line { max: 128 },
        |c| Place::MaybeText(&mut c.agent.organization),
        &["A2A_AGENT_ORG"],
        "who runs this agent, on the agent card",
    ),
    key(
        "agent.organization-url",
        Kind::Url,
        |c| Place::MaybeText(&mut c.agent.organization_url),
        &[],
        "web page of that organization",
    ),
    key(
        "agent.documentation-url",
        Kind::Url,
        |c| Place::MaybeText(&mut c.agent.documentation_url),
        &[],
        "web page that describes this agent",
    ),
    key(
        "card.form",
        Kind::Choice(&["union", "1.0", "0.3"]),
        |c| Place::CardForm(&mut c.card.form),
        &[],
        "versions of A2A that the agent card is written for",
    ),
    key(
        "card.extended",
        Kind::Bool,
        |c| Place::Bool(&mut c.card.extended),
        &[],
        "keep a second card, with model and limits, for those who may ask for it",
    ),
    key(
        "card.key-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.card.key_file),
        &[],
        "private key that signs the agent card",
    ),
    key(
        "card.key-id",
        Kind::Line { max: 128 },
        |c| Place::MaybeText(&mut c.card.key_id),
        &[],
        "name of that key; without it its thumbprint",
    ),
    key(
        "card.agent-identity-id",
        Kind::Line { max: 256 },
        |c| Place::MaybeText(&mut c.card.agent_identity_id),
        &[],
        "identity of this agent in CodeTether, offered as an extension",
    ),
    key(
        "card.agent-identity-required",
        Kind::Bool,
        |c| Place::Bool(&mut c.card.agent_identity_required),
        &[],
        "refuse callers that do not know that extension",
    ),
    key(
        "card.persona-id",
        Kind::Line { max: 256 },
        |c| Place::MaybeText(&mut c.card.persona_id),
        &[],
        "persona that belongs to the identity",
    ),
    key(
        "card.spiffe-id",
        Kind::Line { max: 2048 },
        |c| Place::MaybeText(&mut c.card.spiffe_id),
        &[],
        "SPIFFE id that belongs to the identity",
    ),
    key(
        "listen.host",
        Kind::Host,
        |c| Place::Text(&mut c.listen.host),
        &["A2A_HOST"],
        "address to listen on; 0.0.0.0 or :: for all",
    )
    .at_start(),
    key(
        "listen.port",
        Kind::Number { min: 0, max: 65535 },
        |c| Place::Port(&mut c.listen.port),
        &["A2A_PORT"],
        "TCP port; 0 lets the system choose",
    )
    .at_start(),
    key(
        "listen.public-url",
        Kind::Base,
        |c| Place::MaybeText(&mut c.listen.public_url),
        &[],
        "URL that others reach this agent at, on the agent card",
    ),
    key(
        "listen.hosts",
        Kind::Hosts { max: 16 },
        |c| Place::MaybeText(&mut c.listen.hosts),
        &[],
        "further names that requests may call this agent by",
    ),
    key(
        "listen.trust-lan",
        Kind::Bool,
        |c| Place::Bool(&mut c.listen.trust_lan),
        &[],
        "serve other machines although no token is asked for",
    ),
    key(
        "listen.metrics-open",
        Kind::Bool,
        |c| Place::Bool(&mut c.listen.metrics_open),
        &[],
        "tell /metrics to other machines as well",
    ),
    key(
        "auth.mode",
        Kind::Choice(&["auto", "required", "off"]),
        |c| Place::AuthMode(&mut c.auth.mode),
        &["A2A_AUTH_ENABLED"],
        "whether callers must show a token or certificate; auto: when one is configured",
    ),
    key(
        "auth.header",
        Kind::Line { max: 64 },
        |c| Place::MaybeText(&mut c.auth.header),
        &["A2A_AUTH_HEADER"],
        "header that may carry a token in place of Authorization",
    ),
    key(
        "auth.tokens-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.auth.tokens_file),
        &[],
        "file of NAME:TOKEN lines",
    ),
    key(
        "tls.cert-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.tls.cert_file),
        &[],
        "certificate chain for HTTPS, own certificate first",
    ),
    key(
        "tls.key-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.tls.key_file),
        &[],
        "private key of that certificate",
    ),
    key(
        "tls.client-ca-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.tls.client_ca_file),
        &[],
        "certificates of those who vouch for clients",
    ),
    key(
        "tls.client-cert",
        Kind::Choice(&["optional", "required"]),
        |c| Place::ClientCert(&mut c.tls.client_cert),
        &[],
        "whether a client must show a certificate",
    ),
    key(
        "tls.plain",
        Kind::Choice(&["local", "all", "none"]),
        |c| Place::Plain(&mut c.tls.plain),
        &[],
        "who may still speak plain HTTP once there is a certificate",
    ),
    key(
        "model.default",
        Kind::Line { max: 256 },
        |c| Place::MaybeText(&mut c.model.default),
        &["CODETETHER_DEFAULT_MODEL"],
        "provider/model that answers what no skill takes",
    ),
    key(
        "model.system",
        Kind::Text { max: 16 * 1024 },
        |c| Place::MaybeText(&mut c.model.system),
        &[],
        "instruction put before every conversation",
    ),
    key(
        "model.max-tokens",
        Kind::Number { min: 1, max: 1024 * 1024 },
        |c| Place::Tokens(&mut c.model.max_tokens),
        &[],
        "longest answer to ask the model for, in tokens",
    ),
    key(
        "relay.max",
        number(1, limits::RELAYS),
        |c| Place::Size(&mut c.relay.max),
        &[],
        "model calls at the same time",
    ),
    key(
        "relay.queue",
        number(1, limits::QUEUE),
        |c| Place::Size(&mut c.relay.queue),
        &[],
        "tasks that may wait for a model call",
    ),
    key(
        "relay.connect-s",
        seconds(120),
        |c| Place::Wait(&mut c.relay.connect),
        &[],
        "wait for name, connection and TLS",
    ),
    key(
        "relay.first-s",
        seconds(3600),
        |c| Place::Wait(&mut c.relay.first),
        &[],
        "wait for the first piece of an answer",
    ),
    key(
        "relay.first-local-s",
        seconds(3600),
        |c| Place::Wait(&mut c.relay.first_local),
        &[],
        "the same for a local provider, which may have to load its model",
    ),
    key(
        "relay.idle-s",
        seconds(3600),
        |c| Place::Wait(&mut c.relay.idle),
        &[],
        "wait for the next piece of an answer",
    ),
    key(
        "relay.turn-s",
        seconds(86400),
        |c| Place::Wait(&mut c.relay.turn),
        &[],
        "longest answer in time, from start to end",
    ),
    key(
        "relay.reply-bytes",
        bytes(4 * KIB, 64 * MIB),
        |c| Place::Size(&mut c.relay.reply_bytes),
        &[],
        "longest answer in bytes; at most a quarter of limits.store-bytes",
    ),
    key(
        "relay.context-bytes",
        bytes(KIB, 4 * MIB),
        |c| Place::Size(&mut c.relay.context_bytes),
        &[],
        "conversation sent along with a message; at most limits.work-bytes",
    ),
    key(
        "push.enabled",
        Kind::Bool,
        |c| Place::Bool(&mut c.push.enabled),
        &[],
        "post changes of tasks to webhooks that callers name",
    ),
    key(
        "push.allow-private",
        Kind::Bool,
        |c| Place::Bool(&mut c.push.allow_private),
        &[],
        "webhooks may lie on this machine and in private networks",
    ),
    key(
        "push.attempts",
        Kind::Number { min: 1, max: 10 },
        |c| Place::Size(&mut c.push.attempts),
        &[],
        "how often one notification is tried",
    ),
    key(
        "push.timeout-s",
        seconds(60),
        |c| Place::Wait(&mut c.push.timeout),
        &[],
        "one try, from the connection to the answer",
    ),
    key(
        "outbound.ca-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.outbound.ca_file),
        &[],
        "certificates of further authorities that servers may have theirs from",
    ),
    key(
        "outbound.pins-file",
        Kind::RootedPath,
        |c| Place::MaybePath(&mut c.outbound.pins_file),
        &[],
        "keys that `tetherlet trust` pinned, in place of the usual files",
    ),
    key(
        "limits.connections",
        number(4, limits::CONNECTIONS),
        |c| Place::Size(&mut c.limits.connections),
        &[],
        "open connections",
    ),
    key(
        "limits.streams",
        number(1, limits::CONNECTIONS),
        |c| Place::Size(&mut c.limits.streams),
        &[],
        "event streams, of those connections",
    ),
    key(
        "limits.per-address",
        number(1, limits::CONNECTIONS),
        |c| Place::Size(&mut c.limits.per_address),
        &[],
        "connections from one address; loopback is exempt",
    ),
    key(
        "limits.header-bytes",
        bytes(8 * KIB, 64 * KIB),
        |c| Place::Size(&mut c.limits.header_bytes),
        &[],
        "request head",
    ),
    key(
        "limits.body-bytes",
        bytes(KIB, MIB),
        |c| Place::Size(&mut c.limits.body_bytes),
        &[],
        "request body; three times it must fit limits.in-flight-bytes",
    ),
    key(
        "limits.header-wait-s",
        seconds(120),
        |c| Place::Wait(&mut c.limits.header_wait),
        &[],
        "from the first byte of a request head to its end",
    ),
    key(
        "limits.body-wait-s",
        seconds(600),
        |c| Place::Wait(&mut c.limits.body_wait),
        &[],
        "from the end of the head to the end of the body",
    ),
    key(
        "limits.idle-wait-s",
        seconds(3600),
        |c| Place::Wait(&mut c.limits.idle_wait),
        &[],
        "an open connection without a request",
    ),
    key(
        "limits.write-wait-s",
        seconds(600),
        |c| Place::Wait(&mut c.limits.write_wait),
        &[],
        "a reply that the reader does not take",
    ),
    key(
        "limits.json-depth",
        number(8, 120),
        |c| Place::Size(&mut c.limits.json_depth),
        &[],
        "nesting of arrays and objects in a request",
    ),
    key(
        "limits.tasks",
        number(4, limits::TASKS),
        |c| Place::Size(&mut c.limits.tasks),
        &[],
        "tasks kept, running and finished",
    ),
    key(
        "limits.store-bytes",
        bytes(64 * KIB, 256 * MIB),
        |c| Place::Size(&mut c.limits.store_bytes),
        &[],
        "all stored tasks together; one may take a quarter",
    ),
    key(
        "limits.in-flight-bytes",
        bytes(16 * KIB, 256 * MIB),
        |c| Place::Size(&mut c.limits.in_flight_bytes),
        &[],
        "request bodies being read and answered",
    ),
    key(
        "limits.work-bytes",
        bytes(64 * KIB, 256 * MIB),
        |c| Place::Size(&mut c.limits.work_bytes),
        &[],
        "messages and conversations on their way to a model",
    ),
    key(
        "limits.caller-tasks",
        number(1, limits::TASKS),
        |c| Place::Size(&mut c.limits.caller_tasks),
        &[],
        "unfinished tasks of one caller",
    ),
    key(
        "limits.input-wait-s",
        seconds(604_800),
        |c| Place::Wait(&mut c.limits.input_wait),
        &[],
        "how long a task waits for the input it asked for",
    ),
    key(
        "limits.memory-keys",
        number(1, 1024),
        |c| Place::Size(&mut c.limits.memory_keys),
        &[],
        "keys of the memory skill, per caller",
    ),
    key(
        "limits.memory-value-bytes",
        bytes(64, 64 * KIB),
        |c| Place::Size(&mut c.limits.memory_value_bytes),
        &[],
        "one value of the memory skill",
    ),
    key(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        |c| Place::Level(&mut c.log.level),
        &["A2A_LOG_LEVEL"],
        "least important messages to write",
    ),
    key(
        "log.format",
        Kind::Choice(&["auto", "human", "journal", "json"]),
        |c| Place::Format(&mut c.log.format),
        &["A2A_LOG_FORMAT"],
        "form of a log line; auto follows where it goes",
    )
    .at_start(),
    key(
        "log.audit",
        Kind::Bool,
        |c| Place::Bool(&mut c.log.audit),
        &[],
        "a line for every operation: who asked for what, allowed or refused",
    ),
    key(
        "run.state-dir",
        Kind::Path,
        |c| Place::MaybePath(&mut c.run.state_dir),
        &["STATE_DIRECTORY"],
        "folder for what must outlive a restart",
    )
    .at_start(),
    key(
        "run.grace-s",
        seconds(600),
        |c| Place::Wait(&mut c.run.grace),
        &[],
        "how long running tasks may finish when the agent stops",
    ),
];

fn is_line(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn bool_of(text: &str) -> Option<bool> {
    let is = |names: [&str; 4]| names.iter().any(|name| name.eq_ignore_ascii_case(text));
    if is(["true", "1", "yes", "on"]) {
        Some(true)
    } else if is(["false", "0", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// A decimal number without sign or blanks.
fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take "+5".
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn bytes_of(text: &str) -> Option<u64> {
    let cut = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(cut);
    let factor = match unit.trim_start() {
        "" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        _ => return None,
    };
    digits(count)?.checked_mul(factor)
}

fn bytes_text(value: u64) -> String {
    if value >= MIB && value.is_multiple_of(MIB) {
        format!("{}MiB", value / MIB)
    } else if value >= KIB && value.is_multiple_of(KIB) {
        format!("{}KiB", value / KIB)
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_fits_its_place_and_every_default_its_bounds() {
        for key in KEYS {
            let mut config = Config::default();
            let text = key.show(&mut config);
            let example = match key.kind {
                Kind::RootedPath => "/x",
                Kind::Hosts { .. } => "host, *.other",
                _ => "http://host/x",
            };
            let sample = text.clone().unwrap_or_else(|| example.to_owned());
            let value = key.kind.check(Raw::Loose(&sample));
            key.set(&mut config, value.unwrap_or_else(|| panic!("{}: {sample}", key.name)));
            assert_eq!(key.show(&mut config).unwrap(), sample, "{}", key.name);
        }
    }

    #[test]
    fn setting_a_key_changes_that_key_only() {
        for key in KEYS {
            let mut config = Config::default();
            let value = match key.kind {
                Kind::Bool => Value::Bool(key.show(&mut config).as_deref() == Some("false")),
                Kind::Choice(names) => Value::Text(names[1].to_owned()),
                Kind::Number { max, .. } | Kind::Seconds { max, .. } | Kind::Bytes { max, .. } => {
                    Value::Number(max - 1)
                }
                _ => Value::Text("http://other/y".to_owned()),
            };
            key.set(&mut config, value);
            for other in KEYS {
                let same = other.show(&mut config) == other.show(&mut Config::default());
                assert_eq!(same, other.name != key.name, "{} by {}", other.name, key.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_grouped_by_section() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        let mut sections: Vec<_> = sections().collect();
        assert_eq!(
            sections,
            [
                "agent", "card", "listen", "auth", "tls", "model", "relay", "push", "outbound",
                "limits", "log", "run"
            ]
        );
        sections.dedup();
        assert_eq!(sections.len(), 12);
    }

    #[test]
    fn variables_are_upper_case_with_underscores() {
        assert_eq!(variable("limits.header-wait-s"), "TETHERLET_LIMITS_HEADER_WAIT_S");
    }

    #[test]
    fn bytes_are_numbers_or_binary_units() {
        let kind = Kind::Bytes { min: 1024, max: 4 * MIB };
        for (text, want) in [
            ("2048", Some(2048)),
            ("256KiB", Some(256 * KIB)),
            ("2 MiB", Some(2 * MIB)),
            ("4MiB", Some(4 * MIB)),
            ("5MiB", None),
            ("1023", None),
            ("1KB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("", None),
            ("KiB", None),
            ("99999999999999999999KiB", None),
            ("18446744073709551615MiB", None),
        ] {
            assert_eq!(kind.check(Raw::Text(text)), want.map(Value::Number), "{text}");
        }
    }

    #[test]
    fn a_quoted_number_is_a_number_outside_files_only() {
        let kind = Kind::Number { min: 1, max: 9 };
        assert_eq!(kind.check(Raw::Text("5")), None);
        assert_eq!(kind.check(Raw::Loose(" 5 ")), Some(Value::Number(5)));
        assert_eq!(kind.check(Raw::Loose("+5")), None);
        assert_eq!(kind.check(Raw::Number(None)), None);
    }

    #[test]
    fn hosts_lose_their_brackets() {
        let host = |text| Kind::Host.check(Raw::Text(text));
        assert_eq!(host("[::1]"), Some(Value::Text("::1".to_owned())));
        assert_eq!(host("0.0.0.0"), Some(Value::Text("0.0.0.0".to_owned())));
        assert_eq!(host("pi.local"), Some(Value::Text("pi.local".to_owned())));
        for text in ["", "[pi]", "a b", "host:80", "[::1]:80", "http://host"] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_are_names_and_addresses_without_ports() {
        let hosts = |text| Kind::Hosts { max: 3 }.check(Raw::Text(text)).is_some();
        for good in ["pi.lan", "*.lan", "a, b ,10.0.0.1", "fd00::1", "PI.lan."] {
            assert!(hosts(good), "{good}");
        }
        for bad in
            ["", ",", "a,", "a,b,c,d", "*", "*.*.lan", "a*", "pi:80", "http://pi", "0.0.0.0", "::"]
        {
            assert!(!hosts(bad), "{bad}");
        }
    }

    #[test]
    fn a_base_is_not_the_address_of_a_call() {
        let base = |text| Kind::Base.check(Raw::Text(text));
        assert_eq!(base("http://host/v1/"), Some(Value::Text("http://host/v1".to_owned())));
        for text in ["https://host/v1/chat/completions", "http://host?x=1", "http://u:p@host"] {
            assert_eq!(base(text), None, "{text}");
        }
    }

    #[test]
    fn switches_have_the_usual_spellings() {
        assert_eq!(Kind::Bool.check(Raw::Loose("Yes")), Some(Value::Bool(true)));
        assert_eq!(Kind::Bool.check(Raw::Loose("0")), Some(Value::Bool(false)));
        assert_eq!(Kind::Bool.check(Raw::Loose("maybe")), None);
        assert_eq!(Kind::Bool.check(Raw::Text("true")), None);
    }
}
