//! Decides what this agent is told to do: from files, environment and flags to one checked
//! [`Config`].
//!
//! Layers, each stronger than the one before: defaults, files, the environment names of
//! `CodeTether` and systemd, `TETHERLET_*`, flags. Every problem is reported, with its place;
//! nothing is half applied. Only this module reads configuration and key files. Environment and
//! flags come in as data, so that no test needs process state.
//!
//! [`keys`] is the table that all of it follows; [`providers`] turns keys and base URLs into what
//! can be called.

pub mod callers;
pub mod changes;
pub mod credentials;
pub mod draft;
pub mod env;
pub mod file;
pub mod keys;
pub mod problems;
pub mod providers;
pub mod tls;
pub mod trust;
pub mod url;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::jws::Signer;
use crate::base::limits::{Limits, PARSE_FACTOR};
use crate::base::secret::{Digest, Secret};
use crate::config::callers::{Caller, Peer, Proof};
use crate::config::draft::Draft;
use crate::config::keys::{KEYS, Raw};
use crate::config::problems::{Problems, Source};
use crate::config::providers::{Provider, Route};
use crate::config::tls::Material;
use crate::config::trust::Trust;

/// Everything that can be configured, checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub agent: Agent,
    pub card: Card,
    pub listen: Listen,
    pub auth: Auth,
    pub tls: Tls,
    pub model: Model,
    pub relay: Relay,
    pub push: Push,
    pub outbound: Outbound,
    pub limits: Limits,
    pub log: Log,
    pub run: Run,
    /// The configured providers, built-in ones first.
    pub providers: Vec<Provider>,
    /// Who may ask, [`callers::MAX_CALLERS`] at most; two of one name are the same caller.
    pub callers: Vec<Caller>,
    /// The agents that the configuration names.
    pub peers: Vec<Peer>,
}

impl Config {
    /// Whether callers must say who they are.
    pub fn wants_credentials(&self) -> bool {
        match self.auth.mode {
            AuthMode::Auto => !self.callers.is_empty() || self.knows_certificates(),
            AuthMode::Required => true,
            AuthMode::Off => false,
        }
    }

    /// Whether any caller has a token.
    pub fn has_tokens(&self) -> bool {
        self.callers.iter().any(|caller| matches!(caller.proof, Proof::Token(_)))
    }

    /// Whether callers may show a certificate.
    pub const fn knows_certificates(&self) -> bool {
        self.tls.client_ca_file.is_some()
    }
}

/// What the agent card says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    pub name: Option<String>,
    pub description: Option<String>,
    pub organization: Option<String>,
    pub organization_url: Option<String>,
    pub documentation_url: Option<String>,
}

/// How the agent card is written and what vouches for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    pub form: CardForm,
    /// Whether there is a second card for those who may ask for it.
    pub extended: bool,
    /// PEM, PKCS#8; [`Loaded::card_key`] is what it holds.
    pub key_file: Option<PathBuf>,
    /// Without it the key's thumbprint.
    pub key_id: Option<String>,
    /// Needed by the three that follow.
    pub agent_identity_id: Option<String>,
    /// Whether callers must know the extension that carries the identity.
    pub agent_identity_required: bool,
    pub persona_id: Option<String>,
    pub spiffe_id: Option<String>,
}

/// The versions of A2A that the card is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CardForm {
    /// The members of both versions side by side.
    #[default]
    Union,
    /// 1.0, and no member that its schema has not.
    V10,
    V03,
}

impl CardForm {
    pub const ALL: [Self; 3] = [Self::Union, Self::V10, Self::V03];

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Union => "union",
            Self::V10 => "1.0",
            Self::V03 => "0.3",
        }
    }
}

/// Where requests are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// An IP address without brackets, or a host name.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
    /// Without `/` at its end.
    pub public_url: Option<String>,
    /// Further names that requests may call this agent by, with commas between.
    pub hosts: Option<String>,
    /// Whether other machines are served although no token is asked for.
    pub trust_lan: bool,
    /// Whether other machines may read `/metrics`.
    pub metrics_open: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 4097,
            public_url: None,
            hosts: None,
            trust_lan: false,
            metrics_open: false,
        }
    }
}

/// Whether and how callers say who they are; [`Config::callers`] are those who can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    pub mode: AuthMode,
    /// A header that may carry a token as well as `Authorization`.
    pub header: Option<String>,
    /// Lines of `NAME:TOKEN`.
    pub tokens_file: Option<PathBuf>,
}

/// Whether callers must show a token or certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// When one is configured.
    #[default]
    Auto,
    Required,
    Off,
}

impl AuthMode {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Required, Self::Off];

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

/// HTTPS on the same port; [`Loaded::tls`] is what the files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the own certificate, then those between it and the root.
    pub cert_file: Option<PathBuf>,
    /// PEM: PKCS#8, SEC 1 or PKCS#1.
    pub key_file: Option<PathBuf>,
    /// PEM: the roots of clients' certificates.
    pub client_ca_file: Option<PathBuf>,
    pub client_cert: ClientCert,
    pub plain: Plain,
}

/// What is asked of clients when there is a CA for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// A certificate that is shown must be good; none is fine.
    #[default]
    Optional,
    /// No connection without one.
    Required,
}

impl ClientCert {
    pub const ALL: [Self; 2] = [Self::Optional, Self::Required];

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// Who may speak plain HTTP on a port that speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// Callers on this machine.
    #[default]
    Local,
    All,
    None,
}

impl Plain {
    pub const ALL: [Self; 3] = [Self::Local, Self::All, Self::None];

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// What is asked of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// As written; [`Loaded::route`] is what it means.
    pub default: Option<String>,
    pub system: Option<String>,
    pub max_tokens: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self { default: None, system: None, max_tokens: 4096 }
    }
}

/// Bounds of the calls to providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Calls at the same time.
    pub max: usize,
    /// Tasks that wait for a call.
    pub queue: usize,
    /// Name, connection and TLS together.
    pub connect: Duration,
    /// First piece of an answer.
    pub first: Duration,
    /// The same for a provider with [`Provider::local`].
    pub first_local: Duration,
    /// Between two pieces.
    pub idle: Duration,
    /// A whole answer.
    pub turn: Duration,
    /// Longest answer; at most a quarter of the task store.
    pub reply_bytes: usize,
    /// Longest conversation sent along.
    pub context_bytes: usize,
}

impl Relay {
    /// How long `provider` may take to the first piece of an answer.
    pub const fn first_payload(&self, provider: &Provider) -> Duration {
        if provider.local { self.first_local } else { self.first }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            max: 4,
            queue: 96,
            connect: Duration::from_secs(10),
            first: Duration::from_mins(1),
            first_local: Duration::from_mins(5),
            idle: Duration::from_mins(1),
            turn: Duration::from_mins(10),
            reply_bytes: 512 * 1024,
            context_bytes: 32 * 1024,
        }
    }
}

/// How changes of tasks are posted to webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Whether callers may name webhooks at all.
    pub enabled: bool,
    /// Whether a webhook may lie on this machine or in a private network.
    pub allow_private: bool,
    /// How often one notification is tried.
    pub attempts: usize,
    /// One try, from the connection to the answer; the name's look-up counts, but is not cut short.
    pub timeout: Duration,
}

impl Default for Push {
    fn default() -> Self {
        Self { enabled: true, allow_private: false, attempts: 5, timeout: Duration::from_secs(15) }
    }
}

/// What connections to others trust; [`Loaded::trust`] is what the files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Certificates of further authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// In place of the usual files.
    pub pins_file: Option<PathBuf>,
}

/// What is written to standard error, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub level: Level,
    pub format: Format,
    /// Whether every operation is told in a line of its own, whatever the level.
    pub audit: bool,
}

/// The least important messages to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `Journal` when standard error goes there, else `Human`.
    #[default]
    Auto,
    Human,
    Journal,
    Json,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Auto, Self::Human, Self::Journal, Self::Json];

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Journal => "journal",
            Self::Json => "json",
        }
    }
}

/// The process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Nothing outlives a restart without it.
    pub state_dir: Option<PathBuf>,
    /// How long running tasks may finish when the agent stops.
    pub grace: Duration,
}

impl Default for Run {
    fn default() -> Self {
        Self { state_dir: None, grace: Duration::from_secs(20) }
    }
}

/// What [`load`] reads from.
pub struct Inputs<'a> {
    /// The only file to read, in place of the search.
    pub file: Option<&'a Path>,
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// All names in the environment, to find misspelt ones of ours.
    pub env_names: &'a [String],
    /// Key, value and flag, in the order given; the last one of a key wins.
    pub flags: &'a [(&'static str, String, &'static str)],
    /// Whether the effective user is root: no file of a user is read then.
    pub root: bool,
    /// The system's folder, `/etc/tetherlet`.
    pub etc: &'a Path,
}

/// What [`load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// What answers messages no skill takes; `None` without any provider.
    pub route: Option<Route>,
    /// What signs the agent card.
    pub card_key: Option<Arc<Signer>>,
    /// Whom connections to others trust beyond the built-in roots.
    pub trust: Arc<Trust>,
    /// What HTTPS is served with; `None` for plain HTTP alone.
    pub tls: Option<Arc<Material>>,
    /// Every key with its value and origin, for people.
    pub settings: Vec<Setting>,
    /// Keys whose value is a secret or a file, and what that holds: only to tell whether it has changed.
    pub contents: Vec<(String, Digest)>,
    /// The files read, in the order of the layers.
    pub files: Vec<PathBuf>,
    /// What is probably a mistake but hinders nothing.
    pub warnings: Vec<String>,
}

/// One line of `status --config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// A secret is shown as `set (51 bytes)`, a key without value as `not set`.
    pub value: String,
    pub source: Source,
}

/// Reads all layers and checks the result.
///
/// # Errors
///
/// All problems found, [`problems::MAX_PROBLEMS`] at most. A caller that reloads keeps what it had.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, Problems> {
    let (mut draft, files) = layered(inputs);
    check_across(&mut draft);
    let card_key = card_key(inputs, &mut draft);
    let trust = Arc::new(trust::resolve(inputs, &mut draft));
    let tls = tls::load(inputs, &mut draft);
    let candidates = providers::resolve(inputs, &mut draft);
    let chosen = providers::choose(&candidates, inputs, &mut draft);
    let mut named = Vec::new();
    callers::resolve(inputs, &mut draft, &mut named);
    if !draft.problems.is_empty() {
        return Err(draft.problems);
    }

    let mut settings: Vec<Setting> = Vec::with_capacity(KEYS.len() + 4 * candidates.len());
    for (key, source) in KEYS.iter().zip(&draft.sources) {
        let value = key.show(&mut draft.config).unwrap_or_else(|| "not set".to_owned());
        settings.push(Setting { key: key.name.to_owned(), value, source: source.clone() });
    }
    let signer = card_key.as_ref().map(|signer| Digest::of(signer.jwks().as_bytes()));
    let mut contents: Vec<(String, Digest)> =
        signer.map(|held| ("card.key-file".to_owned(), held)).into_iter().collect();
    for candidate in &candidates {
        candidate.settings(&mut settings);
        let Provider { name, key, .. } = &candidate.provider;
        let held = key.as_ref().map(Secret::digest);
        contents.extend(held.map(|held| (format!("providers.{name}.api-key"), held)));
        let is_chosen = chosen.as_ref().is_some_and(|route| &route.provider.name == name);
        if !is_chosen && !candidate.is_usable() {
            draft.warnings.push(format!("providers.{name}: no key found, so it cannot be used"));
        }
    }
    settings.append(&mut named);
    for (key, held) in tls.iter().flat_map(|tls| tls.contents()) {
        contents.push((key.to_owned(), held));
    }
    let pins = trust.pins.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    contents.push(("outbound.ca-file".to_owned(), Digest::of(trust.given.as_flattened())));
    contents.push(("outbound.pins-file".to_owned(), Digest::of(pins.as_bytes())));
    for Caller { name, proof, .. } in &draft.config.callers {
        if let Proof::Token(secret) = proof {
            contents.push((format!("callers.{name}.token"), secret.digest()));
        }
    }
    for Peer { name, token, .. } in &draft.config.peers {
        contents.extend(token.iter().map(|it| (format!("peers.{name}.token"), it.digest())));
    }
    draft.config.providers = candidates.into_iter().map(|it| it.provider).collect();
    let Draft { config, warnings, .. } = draft;
    let route = chosen;
    Ok(Loaded { config, route, card_key, trust, tls, settings, contents, files, warnings })
}

/// The layers put on each other, and the files read.
fn layered(inputs: &Inputs<'_>) -> (Draft, Vec<PathBuf>) {
    let mut draft = Draft::default();
    let files = file::read_all(inputs, &mut draft);
    env::apply(inputs, &mut draft);
    for (name, text, flag) in inputs.flags {
        let source = Source::Flag(flag);
        let outcome = match keys::position(name) {
            Some(at) => draft.offer(at, Raw::Loose(text), source.clone()),
            None => Err("is no key".to_owned()),
        };
        if let Err(rule) = outcome {
            draft.problems.add(source, name, rule);
        }
    }
    (draft, files)
}

/// Where the agent of this machine is reached. Reads no other file: whoever may not read its keys can still call it.
///
/// # Errors
///
/// Problems with any line.
pub fn load_local(inputs: &Inputs<'_>) -> Result<(Listen, Tls), Problems> {
    let (draft, _) = layered(inputs);
    if draft.problems.is_empty() {
        Ok((draft.config.listen, draft.config.tls))
    } else {
        Err(draft.problems)
    }
}

/// What a client of others needs of a configuration.
#[derive(Clone, Debug)]
pub struct Reaching {
    pub trust: Arc<Trust>,
    pub peers: Vec<Peer>,
    /// What is probably a mistake but hinders nothing.
    pub warnings: Vec<String>,
}

/// Reads that part alone: whoever may not read the agent's own configuration can still use its client.
///
/// # Errors
///
/// Problems with the section `outbound`; with anything else only when `inputs.file` names the file.
pub fn load_reaching(inputs: &Inputs<'_>) -> Result<Reaching, Problems> {
    let (mut draft, _) = layered(inputs);
    draft.warnings.clear();
    let trust = trust::resolve(inputs, &mut draft);
    let counts = draft.problems.mention("outbound.") || inputs.file.is_some();
    if counts && !draft.problems.is_empty() {
        return Err(draft.problems);
    }
    // A token of one peer that cannot be read does not keep anybody from another.
    draft.problems = Problems::default();
    let sections = std::mem::take(&mut draft.sections);
    callers::peers(&sections, inputs, &mut draft);
    let Draft { config, mut warnings, problems, .. } = draft;
    warnings.extend(problems.list().iter().map(ToString::to_string));
    Ok(Reaching { trust: Arc::new(trust), peers: config.peers, warnings })
}

/// A token that the agent of this configuration accepts, of the caller with most rights, and where it is from; `None`
/// when there is none that may be read.
pub fn own_token(inputs: &Inputs<'_>) -> Option<(Secret, String)> {
    let (mut draft, _) = layered(inputs);
    callers::resolve(inputs, &mut draft, &mut Vec::new());
    let tokens = draft.config.callers.into_iter().filter_map(|caller| match caller.proof {
        Proof::Token(token) => Some((caller.rights, token, caller.source.to_string())),
        Proof::Certificate(_) => None,
    });
    tokens.max_by_key(|(rights, ..)| *rights).map(|(_, token, source)| (token, source))
}

/// The key in `card.key-file`, if that is set.
fn card_key(inputs: &Inputs<'_>, draft: &mut Draft) -> Option<Arc<Signer>> {
    let Card { key_file, key_id, .. } = &draft.config.card;
    let signer = credentials::signer(key_file.as_deref()?, key_id.as_deref(), inputs);
    draft.keep("card.key-file", signer).map(Arc::new)
}

/// Rules between two keys. One that has a problem already is left alone: its value is not what was
/// meant.
fn check_across(draft: &mut Draft) {
    let Config { card, limits, relay, tls, .. } = &draft.config;
    let tripled = limits.body_bytes.saturating_mul(PARSE_FACTOR);
    let has_identity = card.agent_identity_id.is_some();
    let rules: [(bool, &'static str, &'static str, &str); 14] = [
        (
            card.key_id.is_none() || card.key_file.is_some(),
            "card.key-id",
            "card.key-file",
            "card.key-id names the key in card.key-file",
        ),
        (
            has_identity || !card.agent_identity_required,
            "card.agent-identity-required",
            "card.agent-identity-id",
            "card.agent-identity-required needs card.agent-identity-id",
        ),
        (
            has_identity || card.persona_id.is_none(),
            "card.persona-id",
            "card.agent-identity-id",
            "card.persona-id needs card.agent-identity-id",
        ),
        (
            has_identity || card.spiffe_id.is_none(),
            "card.spiffe-id",
            "card.agent-identity-id",
            "card.spiffe-id needs card.agent-identity-id",
        ),
        (
            tls.cert_file.is_none() || tls.key_file.is_some(),
            "tls.cert-file",
            "tls.key-file",
            "tls.cert-file needs tls.key-file",
        ),
        (
            tls.key_file.is_none() || tls.cert_file.is_some(),
            "tls.key-file",
            "tls.cert-file",
            "tls.key-file needs tls.cert-file",
        ),
        (
            tls.client_ca_file.is_none() || tls.cert_file.is_some(),
            "tls.client-ca-file",
            "tls.cert-file",
            "tls.client-ca-file needs tls.cert-file",
        ),
        (
            tls.client_cert == ClientCert::Optional || tls.client_ca_file.is_some(),
            "tls.client-cert",
            "tls.client-ca-file",
            "tls.client-cert = \"required\" needs tls.client-ca-file",
        ),
        (
            tls.plain != Plain::None || tls.cert_file.is_some(),
            "tls.plain",
            "tls.cert-file",
            "tls.plain = \"none\" needs tls.cert-file",
        ),
        (
            limits.streams <= limits.connections,
            "limits.streams",
            "limits.connections",
            "limits.streams must be at most limits.connections",
        ),
        (
            limits.per_address <= limits.connections,
            "limits.per-address",
            "limits.connections",
            "limits.per-address must be at most limits.connections",
        ),
        (
            tripled <= limits.in_flight_bytes,
            "limits.body-bytes",
            "limits.in-flight-bytes",
            "three times limits.body-bytes must fit into limits.in-flight-bytes",
        ),
        (
            relay.reply_bytes <= limits.task_bytes(),
            "relay.reply-bytes",
            "limits.store-bytes",
            "relay.reply-bytes must be at most a quarter of limits.store-bytes",
        ),
        (
            relay.context_bytes <= limits.work_bytes,
            "relay.context-bytes",
            "limits.work-bytes",
            "relay.context-bytes must be at most limits.work-bytes",
        ),
    ];
    let mut broken = Vec::new();
    for (holds, first, second, rule) in rules {
        if holds || draft.problems.mention(first) || draft.problems.mention(second) {
            continue;
        }
        // Whoever set only one of the two looks for the mistake there.
        let blamed = if *draft.source(first) == Source::Default { second } else { first };
        broken.push((blamed, format!("{rule} ({}, {})", draft.shown(first), draft.shown(second))));
    }
    // Added at the end: one rule of a key must not hide the next.
    for (blamed, rule) in broken {
        draft.problems.add(draft.source(blamed).clone(), blamed, rule);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::providers::KNOWN;

    /// A folder of files, an environment and flags of its own; the folder goes with it.
    pub struct Fixture {
        pub folder: PathBuf,
        pub env: BTreeMap<String, String>,
        pub flags: Vec<(&'static str, String, &'static str)>,
        pub file: Option<PathBuf>,
        pub root: bool,
    }

    impl Fixture {
        pub fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tetherlet-config-{}-{count}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(folder.join("conf.d")).unwrap();
            let (env, flags) = (BTreeMap::new(), Vec::new());
            Self { folder, env, flags, file: None, root: false }
        }

        /// A fixture whose system file holds `text`.
        pub fn with(text: &str) -> Self {
            let fixture = Self::new();
            fixture.write("tetherlet.toml", text, 0o644);
            fixture
        }

        pub fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        pub fn env(mut self, name: &str, value: &str) -> Self {
            self.env.insert(name.to_owned(), value.to_owned());
            self
        }

        pub fn flag(mut self, key: &'static str, value: &str, flag: &'static str) -> Self {
            self.flags.push((key, value.to_owned(), flag));
            self
        }

        pub fn load(&self) -> Result<Loaded, Problems> {
            let names: Vec<String> = self.env.keys().cloned().collect();
            load(&Inputs {
                file: self.file.as_deref(),
                env: &|name| self.env.get(name).cloned(),
                env_names: &names,
                flags: &self.flags,
                root: self.root,
                etc: &self.folder,
            })
        }

        /// The problems, with the folder left out of their places.
        pub fn problems(&self) -> Vec<String> {
            let folder = format!("{}/", self.folder.display());
            let text = self.load().unwrap_err().to_string().replace(&folder, "");
            text.lines().map(str::to_owned).collect()
        }

        pub fn setting(&self, key: &str) -> (String, String) {
            let loaded = self.load().unwrap();
            let found = loaded.settings.into_iter().find(|setting| setting.key == key).unwrap();
            let folder = format!("{}/", self.folder.display());
            (found.value, found.source.to_string().replace(&folder, ""))
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn sample(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
    }

    #[test]
    fn every_sample_file_loads_without_warnings() {
        let mut count = 0;
        for entry in fs::read_dir(sample("")).unwrap() {
            let mut fixture = Fixture::new();
            fixture.file = Some(entry.unwrap().path());
            let loaded = fixture.load().unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(loaded.warnings, [""; 0]);
            count += 1;
        }
        assert!(count >= 2);
    }

    #[test]
    fn the_sample_sets_every_key_to_its_default() {
        let mut fixture = Fixture::new();
        fixture.file = Some(sample("tetherlet.toml"));
        let loaded = fixture.load().unwrap();
        for (key, setting) in KEYS.iter().zip(&loaded.settings) {
            let default = key.show(&mut Config::default());
            assert_eq!(setting.value, default.clone().unwrap_or("not set".to_owned()));
            let is_set = matches!(setting.source, Source::File { .. });
            assert_eq!(is_set, default.is_some(), "{} in config/tetherlet.toml", key.name);
        }
    }

    #[test]
    fn the_sample_mentions_every_name_and_its_examples_are_valid() {
        let text = fs::read_to_string(sample("tetherlet.toml")).unwrap();
        // An example is a comment that would be TOML without its `# `.
        let is_example = |line: &str| {
            line.starts_with("# [")
                || line.split_once(" = ").is_some_and(|(key, _)| {
                    key.strip_prefix("# ").is_some_and(|key| !key.contains(' '))
                })
        };
        let mut whole = String::new();
        for line in text.lines() {
            let line = if is_example(line) { line.trim_start_matches("# ") } else { line };
            // Only one of the two may be given, and the file is not there.
            let is_file = ["api-key-file", "token-file", "tokens-file"];
            if !is_file.iter().any(|key| line.starts_with(key)) {
                whole.push_str(line);
            }
            whole.push('\n');
        }
        let keys = Fixture::new();
        let card_key = keys.write("card.key", CARD_KEY, 0o600);
        let tokens = keys.write("tokens", "a:0123456789abcdefg", 0o600);
        let ca = keys.write("ca.pem", CERTIFICATE, 0o644);
        let whole = whole.replace("/etc/tetherlet/card.key", card_key.to_str().unwrap());
        let whole = whole.replace("/etc/tetherlet/ca.pem", ca.to_str().unwrap());
        let whole = whole
            .replace(
                "/etc/tetherlet/tls.key",
                keys.write("k", tls::tests::KEY, 0o600).to_str().unwrap(),
            )
            .replace(
                "/etc/tetherlet/tls.crt",
                keys.write("c", tls::tests::CERT, 0o644).to_str().unwrap(),
            )
            .replace(
                "/etc/tetherlet/clients.crt",
                keys.write("a", tls::tests::CERT, 0o644).to_str().unwrap(),
            );
        let fixture = Fixture::new();
        fixture.write("tetherlet.toml", &whole, 0o600);
        let fixture = fixture
            .env("HOUSE_API_KEY", "k")
            .env("OPENAI_API_KEY", "k")
            .env("WORKSHOP_TOKEN", "0123456789abcdef")
            .env("ATTIC_TOKEN", "0123456789abcdef")
            .env("TETHERLET_AUTH_TOKENS_FILE", tokens.to_str().unwrap());
        let loaded = fixture.load().unwrap_or_else(|problems| panic!("{problems}"));
        for (key, setting) in KEYS.iter().zip(&loaded.settings) {
            let is_set = matches!(setting.source, Source::File { .. } | Source::Env(_));
            assert!(is_set, "{} is missing", key.name);
            assert!(text.contains(&key.variable()), "{}", key.variable());
            for name in key.env {
                assert!(text.contains(name), "{name}");
            }
        }
        for family in draft::Family::ALL {
            let (_, section) = text.split_once(&format!("\n# [{}.", family.name())).unwrap();
            for field in family.fields() {
                assert!(section.contains(&format!("\n# {} = ", field.name())), "{}", field.name());
            }
        }
        for known in &KNOWN {
            assert!(text.contains(&format!(" {} ", known.name)), "{}", known.name);
            let variables = known.keys.iter().map(|it| it.0).chain(known.base_env.iter().copied());
            for name in variables {
                assert!(text.contains(name), "{name}");
            }
        }
    }

    #[test]
    fn each_layer_overrides_the_one_before() {
        let mut fixture = Fixture::new().env("HOME", "/nowhere");
        let port = |fixture: &Fixture| fixture.setting("listen.port");
        assert_eq!(port(&fixture), ("4097".to_owned(), "default".to_owned()));
        fixture.write("tetherlet.toml", "[listen]\nport = 1\n", 0o644);
        assert_eq!(port(&fixture), ("1".to_owned(), "tetherlet.toml:2:1".to_owned()));
        fixture.write("conf.d/20-b.toml", "\n\n  listen.port = 3\n", 0o644);
        fixture.write("conf.d/10-a.toml", "listen.port = 2\n", 0o644);
        fixture.write("conf.d/.30-c.toml", "listen.port = 9\n", 0o644);
        fixture.write("conf.d/30-d.toml.bak", "listen.port = 9\n", 0o644);
        assert_eq!(port(&fixture), ("3".to_owned(), "conf.d/20-b.toml:3:10".to_owned()));
        fixture.write("home/.config/tetherlet/tetherlet.toml", "listen.port = 4\n", 0o644);
        fixture = fixture.home("home");
        assert_eq!(port(&fixture).0, "4");
        fixture.write("xdg/tetherlet/tetherlet.toml", "listen.port = 5\n", 0o644);
        let folder = fixture.folder.join("xdg").display().to_string();
        fixture = fixture.env("XDG_CONFIG_HOME", &folder);
        assert_eq!(port(&fixture).0, "5");
        fixture.root = true;
        assert_eq!(port(&fixture).0, "3");
        fixture = fixture.env("A2A_PORT", "6");
        assert_eq!(port(&fixture), ("6".to_owned(), "environment A2A_PORT".to_owned()));
        fixture = fixture.env("TETHERLET_LISTEN_PORT", "7");
        assert_eq!(port(&fixture).1, "environment TETHERLET_LISTEN_PORT");
        fixture = fixture.flag("listen.port", "8", "--port");
        assert_eq!(port(&fixture), ("8".to_owned(), "--port".to_owned()));
        assert_eq!(fixture.load().unwrap().config.listen.port, 8);
    }

    impl Fixture {
        fn home(self, name: &str) -> Self {
            let folder = self.folder.join(name).display().to_string();
            self.env("HOME", &folder)
        }
    }

    #[test]
    fn a_named_file_replaces_the_search() {
        let mut fixture = Fixture::with("[listen]\nport = 1\n");
        fixture.file = Some(fixture.write("other.toml", "log.level = \"warn\"\n", 0o644));
        let loaded = fixture.load().unwrap();
        assert_eq!((loaded.config.listen.port, loaded.config.log.level), (4097, Level::Warn));
        assert_eq!(loaded.files, [fixture.folder.join("other.toml")]);
    }

    #[test]
    fn a_named_file_that_is_missing_is_a_problem_and_a_searched_one_is_not() {
        let mut fixture = Fixture::new();
        assert!(fixture.load().unwrap().files.is_empty());
        fixture.file = Some(fixture.folder.join("missing.toml"));
        let problems = fixture.problems();
        assert!(problems[0].starts_with("missing.toml: cannot be read: "), "{problems:?}");
        fixture.file = Some(fixture.folder.clone());
        assert!(fixture.problems()[0].ends_with(": is not a regular file"));
    }

    #[test]
    fn all_problems_of_a_file_are_reported_with_their_place() {
        let fixture = Fixture::with(
            "port = 80\n\
             [listen]\n\
             prot = 80\n  \
               port = 99999\n\
             host = \"a b\"\n\
             trust-lan = 1\n\
             [limits]\n\
             tasks = \"many\"\n\
             body-bytes = \"2GiB\"\n\
             connections.x = 1\n\
             [listn]\n\
             port = 1\n\
             [log]\n\
             level = \"loud\"\n\
             [[run]]\n",
        );
        assert_eq!(
            fixture.problems(),
            [
                "tetherlet.toml:1:1: port: is not a known section, did you mean listen.port?",
                "tetherlet.toml:3:1: listen.prot: is not a known key, did you mean listen.port?",
                "tetherlet.toml:4:3: listen.port: must be a whole number, 0 to 65535",
                "tetherlet.toml:5:1: listen.host: must be an IP address or a host name",
                "tetherlet.toml:6:1: listen.trust-lan: must be true or false",
                "tetherlet.toml:8:1: limits.tasks: must be a whole number, 4 to 1024, without quotes",
                "tetherlet.toml:9:1: limits.body-bytes: must be 1KiB to 1MiB, \
                 as a number of bytes or like \"256KiB\"",
                "tetherlet.toml:10:1: limits.connections: must be a whole number, 4 to 512",
                "tetherlet.toml:11:2: listn: is not a known section, did you mean [listen]?",
                "tetherlet.toml:14:1: log.level: must be one of error, warn, info, debug, trace",
                "tetherlet.toml:15:3: run: must be a section, [run]",
            ]
        );
    }

    #[test]
    fn mistakes_in_the_syntax_are_reported_beside_the_others_and_once_a_line() {
        let fixture = Fixture::with(
            "[listen]\nport = eighty\nhost = \nprot = 1\n[log]\nlevel = info\n[run]\n\
             state-dir = \"/x\ngrace-s = 9\ngrace-s = 9\n",
        );
        let problems = fixture.problems();
        for (problem, start) in problems.iter().zip([
            "tetherlet.toml:2:8: listen.port: must be a whole number, 0 to 65535 \
             (not valid TOML: ",
            "tetherlet.toml:3:8: listen.host: must be an IP address or a host name (not valid",
            "tetherlet.toml:4:1: listen.prot: is not a known key",
            "tetherlet.toml:6:9: log.level: must be one of error, warn, info, debug, trace, in quotes (",
            "tetherlet.toml:8:16: not valid TOML: invalid basic string",
            "tetherlet.toml:10:1: not valid TOML: duplicate key",
        ]) {
            assert!(problem.starts_with(start), "{start}: {problems:#?}");
        }
        assert_eq!(problems.len(), 6);
    }

    #[test]
    fn problems_of_the_environment_and_of_flags_name_them() {
        let fixture = Fixture::new()
            .env("A2A_PORT", "http")
            .env("TETHERLET_LOG_LEVEL", "loud")
            .flag("listen.port", "0x50", "--port")
            .flag("listen.public-url", "http://user@host", "--public-url");
        assert_eq!(
            fixture.problems(),
            [
                "environment A2A_PORT: listen.port: must be a whole number, 0 to 65535",
                "environment TETHERLET_LOG_LEVEL: log.level: \
                 must be one of error, warn, info, debug, trace",
                "--port: listen.port: must be a whole number, 0 to 65535",
                "--public-url: listen.public-url: must be an http or https URL without user name, \
                 query, fragment or API path, at most 512 bytes",
            ]
        );
    }

    #[test]
    fn names_of_codetether_and_systemd_are_read() {
        let config = Fixture::new()
            .env("A2A_HOST", "::1")
            .env("A2A_LOG_LEVEL", "WARNING")
            .env("A2A_LOG_FORMAT", "json")
            .env("A2A_AGENT_NAME", "pi")
            .env("A2A_AGENT_DESCRIPTION", "a box")
            .env("A2A_AGENT_ORG", "us")
            .env("CODETETHER_DEFAULT_MODEL", "ollama/qwen3")
            .env("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")
            .env("TETHERLET_RUN_GRACE_S", "")
            .load()
            .unwrap()
            .config;
        assert_eq!(config.listen.host, "::1");
        assert_eq!(config.log, Log { level: Level::Warn, format: Format::Json, audit: false });
        assert_eq!(config.agent.name.as_deref(), Some("pi"));
        assert_eq!(config.agent.description.as_deref(), Some("a box"));
        assert_eq!(config.agent.organization.as_deref(), Some("us"));
        assert_eq!(config.model.default.as_deref(), Some("ollama/qwen3"));
        assert_eq!(config.run.state_dir.as_deref(), Some(Path::new("/var/lib/a")));
        assert_eq!(config.run.grace, Duration::from_secs(20));
    }

    #[test]
    fn unknown_names_of_ours_are_warned_about() {
        let loaded =
            Fixture::with("[providers.house]\nbase-url = \"http://10.0.0.1\"\nmodel = \"m\"\n")
                .env("TETHERLET_LISTEN_PROT", "1")
                .env("TETHERLET_TOKEN", "x")
                .env("TETHERLET_PROVIDERS_HOUSE_MODEL", "other")
                .env("TETHERLET_PROVIDERS_OPENAI_BASE", "x")
                .env("TETHERLETTER", "x")
                .load()
                .unwrap();
        assert_eq!(
            loaded.warnings,
            [
                "environment TETHERLET_LISTEN_PROT is not a setting, \
                 did you mean TETHERLET_LISTEN_PORT?",
                "environment TETHERLET_PROVIDERS_OPENAI_BASE is not a setting, \
                 did you mean TETHERLET_PROVIDERS_OPENAI_BASE_URL?",
            ]
        );
        assert_eq!(loaded.route.unwrap().model, "other");
    }

    #[test]
    fn keys_that_contradict_each_other_are_reported_where_one_was_set() {
        let fixture = Fixture::with(
            "[limits]\nconnections = 8\nbody-bytes = \"1MiB\"\nstore-bytes = \"64KiB\"\nwork-bytes = \"64KiB\"\n\
             [relay]\ncontext-bytes = \"1MiB\"\n",
        );
        assert_eq!(
            fixture.problems(),
            [
                "tetherlet.toml:2:1: limits.connections: limits.streams must be at most \
                 limits.connections (limits.streams is 80, limits.connections is 8)",
                "tetherlet.toml:2:1: limits.connections: limits.per-address must be at most \
                 limits.connections (limits.per-address is 16, limits.connections is 8)",
                "tetherlet.toml:3:1: limits.body-bytes: three times limits.body-bytes must fit into \
                 limits.in-flight-bytes (limits.body-bytes is 1MiB, limits.in-flight-bytes is 2MiB)",
                "tetherlet.toml:4:1: limits.store-bytes: relay.reply-bytes must be at most a quarter \
                 of limits.store-bytes (relay.reply-bytes is 512KiB, limits.store-bytes is 64KiB)",
                "tetherlet.toml:7:1: relay.context-bytes: relay.context-bytes must be at most \
                 limits.work-bytes (relay.context-bytes is 1MiB, limits.work-bytes is 64KiB)",
            ]
        );
    }

    #[test]
    fn keys_of_the_card_that_need_another_say_so() {
        let fixture = Fixture::with(
            "[card]\nkey-id = \"k\"\nagent-identity-required = true\npersona-id = \"p\"\n\
             spiffe-id = \"s\"\n",
        );
        let names = ["key-id", "agent-identity-required", "persona-id", "spiffe-id"];
        let problems = fixture.problems();
        assert_eq!(problems.len(), names.len(), "{problems:#?}");
        for (at, (problem, name)) in problems.iter().zip(names).enumerate() {
            let start = format!("tetherlet.toml:{}:1: card.{name}: card.{name} n", at + 2);
            assert!(problem.starts_with(&start), "{problem}");
        }
    }

    /// Made with openssl: CN=pi.local, until 2056.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIB2jCCAX+gAwIBAgIUQ426hzmP8mNU2IwXrWif2mm+Ff4wCgYIKoZIzj0EAwIw\n\
        JjERMA8GA1UEAwwIcGkubG9jYWwxETAPBgNVBAoMCFdvcmtzaG9wMCAXDTI2MDEw\n\
        MjAwMDAwMFoYDzIwNTYwMTAyMDAwMDAwWjAmMREwDwYDVQQDDAhwaS5sb2NhbDER\n\
        MA8GA1UECgwIV29ya3Nob3AwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQpyc1P\n\
        t5YnwfKZFRL5nONU3nQABvpuVbgQdVCPtKU+nfZ+B3w1oyH7qS0oVpx0bYCkN5yo\n\
        H0Fk83KsPc3Ac1CFo4GIMIGFMDIGA1UdEQQrMCmCCHBpLmxvY2FsggUqLmxhbocE\n\
        wAACB4cQ/QAAAAAAAAAAAAAAAAAABzAwBggrBgEFBQcBAQQkMCIwIAYIKwYBBQUH\n\
        MAKGFGh0dHA6Ly9jYS5sYW4vY2EuY3J0MB0GA1UdDgQWBBS0IyCYmNYQ5sMmf+l4\n\
        QfL4W+OtaDAKBggqhkjOPQQDAgNJADBGAiEAqfFOkdEflyZrIefT22m3kBl7d6gS\n\
        f5oON8/H4ZmPjaUCIQCEocMAqrvIb2berrVC8zLZdZS/wldaeJV6yWYllOT8LA==\n\
        -----END CERTIFICATE-----\n";

    fn pins_of(fixture: &Fixture) -> Vec<String> {
        fixture.load().unwrap().trust.pins.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn authorities_come_from_the_file_and_from_the_environment_together() {
        let fixture = Fixture::new();
        let path = fixture.write("ca.pem", CERTIFICATE, 0o644);
        let path = path.to_str().unwrap();
        let of = |fixture: &Fixture| {
            let loaded = fixture.load().unwrap();
            (loaded.trust.roots.len(), loaded.trust.given.len(), loaded.warnings.len())
        };
        assert_eq!(of(&fixture), (0, 0, 0));
        let fixture = fixture.env("NODE_EXTRA_CA_CERTS", path);
        assert_eq!(of(&fixture), (1, 1, 0));
        // The same one again is no further authority.
        let fixture = fixture.env("TETHERLET_OUTBOUND_CA_FILE", path);
        assert_eq!(of(&fixture), (1, 2, 0));
        let fixture = fixture.env("SSL_CERT_FILE", "/nonexistent/ca.pem");
        assert_eq!(of(&fixture), (1, 2, 1));
        let warning = &fixture.load().unwrap().warnings[0];
        let start = "environment SSL_CERT_FILE is not used: /nonexistent/ca.pem cannot be read: ";
        assert!(warning.starts_with(start), "{warning}");
    }

    #[test]
    fn a_configured_file_of_authorities_that_cannot_be_used_is_a_problem() {
        let broken = CERTIFICATE.replace("MII", "AAA");
        let twice = format!("{CERTIFICATE}{broken}");
        for (text, rule) in [
            ("", "ca.pem holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"),
            (&twice, "ca.pem: certificate 2: "),
        ] {
            let fixture = Fixture::new();
            let path = fixture.write("ca.pem", text, 0o644);
            let text = format!("[outbound]\nca-file = \"{}\"\n", path.display());
            fixture.write("tetherlet.toml", &text, 0o644);
            let problems = fixture.problems();
            let start = format!("tetherlet.toml:2:1: outbound.ca-file: {rule}");
            assert!(problems[0].starts_with(&start), "{problems:?}");
        }
    }

    #[test]
    fn pins_are_read_from_both_files_and_the_users_own_goes() {
        let key = |letter: &str| format!("sha256/{}=", letter.repeat(43));
        let mut fixture = Fixture::new().home("home");
        let text = format!("# ours\n\npi.local:1 {}\nHUB.:2 {} # the hub\n", key("A"), key("E"));
        fixture.write("pins", &text, 0o644);
        assert_eq!(
            pins_of(&fixture),
            [format!("pi.local:1 {}", key("A")), format!("hub:2 {}", key("E"))]
        );
        let text = format!("pi.local:1 {}\n[fd00::0:1]:3 {}\n", key("I"), key("A"));
        fixture.write("home/.config/tetherlet/pins", &text, 0o600);
        let all = [
            format!("hub:2 {}", key("E")),
            format!("pi.local:1 {}", key("I")),
            format!("[fd00::1]:3 {}", key("A")),
        ];
        assert_eq!(pins_of(&fixture), all);
        fixture.root = true;
        assert_eq!(pins_of(&fixture).len(), 2);
        let other = fixture.folder.join("nothing").display().to_string();
        assert!(pins_of(&fixture.env("TETHERLET_OUTBOUND_PINS_FILE", &other)).is_empty());
    }

    #[test]
    fn pins_that_say_nothing_or_that_others_can_change_are_a_problem() {
        let fixture = Fixture::new();
        for (line, rule) in [
            ("pi.local sha256/AAAA", "must be `host:port sha256/BASE64`"),
            ("pi.local:1 sha1/AAAA", "must be `host:port sha256/BASE64`"),
            ("pi.local:1", "must be `host:port sha256/BASE64`"),
            ("pi.local:0 sha256/AAAA", "must be `host:port sha256/BASE64`"),
        ] {
            fixture.write("pins", &format!("# x\n{line}\n"), 0o644);
            assert_eq!(fixture.problems(), [format!("pins:2:1: outbound.pins-file: {rule}")]);
        }
        let pin = |at: usize| format!("h{at}:1 sha256/{}=\n", "A".repeat(43));
        fixture.write("pins", &(0..=256).map(pin).collect::<String>(), 0o644);
        let rule = "is one pin more than 256";
        assert_eq!(fixture.problems(), [format!("pins:257:1: outbound.pins-file: {rule}")]);
        fixture.write("pins", &pin(0), 0o664);
        let rule = "pins can be changed by group or others: chmod go-w pins";
        assert_eq!(fixture.problems(), [format!("pins: outbound.pins-file: {rule}")]);
    }

    /// Ed25519, the seed of RFC 8037 appendix A.1.
    const CARD_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn the_key_of_the_card_is_read_when_nobody_else_can() {
        let fixture = Fixture::new();
        let path = fixture.write("card.key", CARD_KEY, 0o600);
        let path = path.to_str().unwrap();
        fixture.write("tetherlet.toml", &format!("card.key-file = \"{path}\"\n"), 0o644);
        let key = fixture.load().unwrap().card_key.unwrap();
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let fixture = fixture.env("TETHERLET_CARD_KEY_ID", "k");
        assert_eq!(fixture.load().unwrap().card_key.unwrap().id(), "k");
        let start = "tetherlet.toml:1:6: card.key-file: card.key ";
        for (text, mode, rule) in [
            (CARD_KEY, 0o640, "is open to group or others: chmod 600 card.key"),
            ("", 0o600, "holds no unencrypted private key in PEM"),
            (&CARD_KEY.replace("MC4C", "AAAA"), 0o600, "holds neither an Ed25519 nor a P-256 key"),
        ] {
            fixture.write("card.key", text, mode);
            let problems = fixture.problems();
            assert!(problems[0].starts_with(&format!("{start}{rule}")), "{problems:?}");
            assert_eq!(problems.len(), 1);
        }
        fs::remove_file(path).unwrap();
        assert!(fixture.problems()[0].starts_with(&format!("{start}cannot be read: ")));
    }

    #[test]
    fn a_key_with_a_problem_is_not_compared() {
        let fixture = Fixture::with("[limits]\nstreams = \"x\"\nconnections = 16\n");
        assert_eq!(fixture.problems().len(), 1);
    }

    #[test]
    fn sizes_of_files_and_their_number_are_bounded() {
        let fixture = Fixture::with(&" ".repeat(256 * 1024));
        assert!(fixture.load().is_ok());
        fixture.write("tetherlet.toml", &" ".repeat(256 * 1024 + 1), 0o644);
        assert_eq!(fixture.problems(), ["tetherlet.toml: is larger than 262144 bytes"]);
        fixture.write("tetherlet.toml", "", 0o644);
        for at in 0..65 {
            fixture.write(&format!("conf.d/{at:02}.toml"), "", 0o644);
        }
        assert_eq!(fixture.problems(), ["conf.d: holds more than 64 files"]);
    }

    #[test]
    fn text_that_is_not_utf8_is_a_problem() {
        let fixture = Fixture::new();
        fs::write(fixture.folder.join("tetherlet.toml"), b"# \xff\n").unwrap();
        assert_eq!(fixture.problems(), ["tetherlet.toml: is not UTF-8 text"]);
    }

    #[test]
    fn columns_count_characters() {
        let fixture = Fixture::with("agent = { description = \"ü😀\", nmae = \"x\" }\n");
        assert_eq!(
            fixture.problems(),
            ["tetherlet.toml:1:31: agent.nmae: is not a known key, did you mean agent.name?"]
        );
    }

    #[test]
    fn no_text_makes_the_reader_panic_or_crawl() {
        let seeds = [
            fs::read_to_string(sample("tetherlet.toml")).unwrap(),
            "[a.b]\nc = [1, {d = 'é'}]\n\"\"\"x".to_owned(),
        ];
        let mut state = 0x9e37_79b9_u32;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as usize % below
        };
        let fixture = Fixture::new();
        for round in 0..300 {
            let mut text: Vec<char> = seeds[round % 2].chars().take(3000).collect();
            for _ in 0..=random(8) {
                let at = random(text.len());
                text[at] =
                    ['[', ']', '=', '"', '\'', '\n', '.', '{', '}', ',', '\u{0}', '😀'][random(12)];
            }
            fixture.write("tetherlet.toml", &text.into_iter().collect::<String>(), 0o644);
            let _ = fixture.load();
        }
        for piece in
            ["x=1\n", "[", "[a]\n", "a.", "{", "=\n", "\"", "a={a=", "[providers.a]\n", "é,"]
        {
            fixture.write("tetherlet.toml", &piece.repeat(256 * 1024 / piece.len()), 0o644);
            assert!(fixture.load().unwrap_err().list().len() <= problems::MAX_PROBLEMS, "{piece}");
        }
    }
}
