//! Who may ask, and with what: tokens and certificates of callers, and the tokens this agent shows to its peers.
//!
//! Tokens come from `[callers.NAME]`, from `auth.tokens-file`, and from the variables that `CodeTether` uses. One
//! name may have several, so that a new one can be given out before the old one is taken back.

use std::fs;

use crate::base::secret::Secret;
use crate::config::credentials::{self, Found};
use crate::config::draft::{Draft, Family, Field, Section};
use crate::config::problems::{Source, shown};
use crate::config::url::{Url, is_private};
use crate::config::{AuthMode, Config, Inputs, Setting};

/// Most tokens and certificates together.
pub const MAX_CALLERS: usize = 64;
/// Tokens of fewer bytes are warned of: they can be guessed.
pub const SHORT: usize = 16;
/// Longest list of tokens in a file, variable or credential, in bytes.
const MAX_LIST: usize = 32 * 1024;
/// Longest name of a caller in such a list.
const MAX_NAME: usize = 64;

/// One way in: a token or a certificate, and whose it is.
#[derive(Clone, Debug)]
pub struct Caller {
    /// As logs, limits and tasks know the caller; several entries may share one.
    pub name: String,
    pub proof: Proof,
    pub rights: Rights,
    /// Where the token is from.
    pub source: Source,
}

/// What a caller shows.
#[derive(Clone, Debug)]
pub enum Proof {
    Token(Secret),
    /// A URI or DNS name in the certificate, or `sha256:` and its fingerprint in lower-case hex.
    Certificate(String),
}

/// What a caller may do: any of `tasks`, `push`, `card` and `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rights(u8);

impl Rights {
    pub const NONE: Self = Self(0);
    /// Send messages, and see and end what came of them.
    pub const TASKS: Self = Self(1);
    /// Have webhooks called.
    pub const PUSH: Self = Self(2);
    /// Read the extended card.
    pub const CARD: Self = Self(4);
    /// Read what the agent does: status and metrics.
    pub const STATUS: Self = Self(8);
    pub const ALL: Self = Self(15);

    const NAMES: [(&'static str, Self); 4] = [
        ("tasks", Self::TASKS),
        ("push", Self::PUSH),
        ("card", Self::CARD),
        ("status", Self::STATUS),
    ];

    /// The rights named in a list with commas.
    ///
    /// # Errors
    ///
    /// What the list must be.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut rights = Self::NONE;
        for word in text.split(',').map(str::trim) {
            let Some((_, right)) = Self::NAMES.iter().find(|(name, _)| *name == word) else {
                return Err("must be a list of tasks, push, card, status".to_owned());
            };
            rights.0 |= right.0;
        }
        Ok(rights)
    }

    /// Whether all of `needed` are among them.
    pub const fn have(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    fn show(self) -> String {
        let names = Self::NAMES.iter().filter(|(_, right)| self.have(*right));
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// Another agent, and what it is shown.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    /// Without `/` at its end.
    pub url: String,
    pub token: Option<Secret>,
    /// `file /x` or the name of a variable; empty without a token.
    pub token_source: String,
}

/// Everyone with a token or certificate, and all peers; problems on the way are added.
pub fn resolve(inputs: &Inputs<'_>, draft: &mut Draft, settings: &mut Vec<Setting>) {
    let sections = std::mem::take(&mut draft.sections);
    for section in sections.iter().filter(|section| section.family == Family::Callers) {
        caller(section, inputs, draft);
    }
    lists(inputs, draft);
    // The section of a name is where its rights stand, wherever its tokens are.
    for section in sections.iter().filter(|section| section.family == Family::Callers) {
        let rights = section.value(Field::Rights).and_then(|(text, _)| Rights::read(text).ok());
        let mine = draft.config.callers.iter_mut().filter(|caller| caller.name == section.name);
        let mut is_somebody = false;
        for caller in mine {
            is_somebody = true;
            caller.rights = rights.unwrap_or(Rights::ALL);
        }
        let key = format!("callers.{}", section.written);
        if !is_somebody && !draft.problems.mention(&format!("{key}.")) {
            let rule = "has no token-file, token-env, token or certificate, and no token of that \
                        name is listed elsewhere, so nobody can be it";
            draft.problems.add(section.source.clone(), &key, rule.to_owned());
        }
    }
    check(draft);
    peers(&sections, inputs, draft);
    draft.sections = sections;
    show(&draft.config, settings);
}

fn caller(section: &Section, inputs: &Inputs<'_>, draft: &mut Draft) {
    let mut proofs = Vec::new();
    if let Some((text, source)) = section.value(Field::Token) {
        match inline(text, source) {
            Ok(secret) => proofs.push((Proof::Token(secret), source.clone())),
            Err(rule) => draft.problems.add(source.clone(), &section.key(Field::Token), rule),
        }
    }
    if let Some(Found { secret, source, .. }) =
        credentials::named(section, inputs, &mut draft.problems)
    {
        proofs.push((Proof::Token(secret), source));
    }
    if let Some((text, source)) = section.value(Field::Certificate) {
        match certificate(text) {
            Ok(_) if !draft.config.knows_certificates() => {
                let rule =
                    "needs tls.client-ca-file, the certificates of those who vouch for clients";
                draft.problems.add(
                    source.clone(),
                    &section.key(Field::Certificate),
                    rule.to_owned(),
                );
            }
            Ok(name) => proofs.push((Proof::Certificate(name), source.clone())),
            Err(rule) => {
                draft.problems.add(source.clone(), &section.key(Field::Certificate), rule);
            }
        }
    }
    if let Some((text, source)) = section.value(Field::Rights)
        && let Err(rule) = Rights::read(text)
    {
        draft.problems.add(source.clone(), &section.key(Field::Rights), rule);
    }
    for (proof, source) in proofs {
        admit(draft, &section.name, proof, source);
    }
}

/// A token that stands in the configuration itself, which others must not be able to read then.
fn inline(text: &str, source: &Source) -> Result<Secret, String> {
    if let Source::File { path, .. } = source
        && fs::metadata(path).is_ok_and(|metadata| credentials::is_open(&metadata))
    {
        let path = path.display();
        return Err(format!("stands in a file that group or others can read: chmod 600 {path}"));
    }
    credentials::usable(text)
}

/// A name as certificates have it, or a fingerprint in the one spelling that is compared.
fn certificate(text: &str) -> Result<String, String> {
    let Some(hex) = text.strip_prefix("sha256:") else {
        return Ok(if text.contains(':') { text.to_owned() } else { text.to_ascii_lowercase() });
    };
    let hex: String = hex.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("must be a name in the certificate, or sha256: and 64 hex digits".to_owned());
    }
    Ok(format!("sha256:{hex}"))
}

/// The tokens of `auth.tokens-file` and of `CodeTether`'s variables.
fn lists(inputs: &Inputs<'_>, draft: &mut Draft) {
    const KEY: &str = "auth.tokens-file";
    if let Some(path) = draft.config.auth.tokens_file.clone() {
        match credentials::list(&path, MAX_LIST, inputs) {
            Ok(text) => list(&text, &Source::Store(format!("file {}", path.display())), KEY, draft),
            Err(rule) => draft.problems.add(draft.source(KEY).clone(), KEY, rule),
        }
    }
    for (name, is_list) in [("A2A_AUTH_TOKENS", true), ("CODETETHER_AUTH_TOKEN", false)] {
        match credentials::text(name, MAX_LIST, inputs) {
            Ok(Some((text, source))) if is_list => list(&text, &source, name, draft),
            Ok(Some((text, source))) => match credentials::usable(&text) {
                Ok(secret) => admit(draft, "codetether", Proof::Token(secret), source),
                Err(rule) => draft.problems.add(source, name, rule),
            },
            Ok(None) => {}
            Err((source, rule)) => draft.problems.add(source, name, rule),
        }
    }
}

/// `name:token` pairs, parted by commas or line ends; a line that begins with `#` is a comment.
fn list(text: &str, source: &Source, key: &str, draft: &mut Draft) {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
    let pairs = lines.flat_map(|(at, line)| line.split(',').map(move |pair| (at + 1, pair.trim())));
    for (line, pair) in pairs.filter(|(_, pair)| !pair.is_empty()) {
        let named = pair.split_once(':').filter(|(name, _)| {
            (1..=MAX_NAME).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
        });
        let outcome = match named {
            Some((name, token)) => credentials::usable(token).map(|secret| (name, secret)),
            None => Err("must be NAME:TOKEN".to_owned()),
        };
        match outcome {
            Ok((name, secret)) => admit(draft, name, Proof::Token(secret), source.clone()),
            Err(rule) => draft.problems.add(source.clone(), key, format!("line {line}: {rule}")),
        }
    }
}

fn admit(draft: &mut Draft, name: &str, proof: Proof, source: Source) {
    let key = format!("callers.{}", shown(name));
    if draft.config.callers.len() >= MAX_CALLERS {
        let rule = format!("at most {MAX_CALLERS} tokens and certificates");
        draft.problems.add(source, &key, rule);
        return;
    }
    let shares = |other: &&Caller| match (&other.proof, &proof) {
        (Proof::Token(old), Proof::Token(new)) => old.digest().matches(new.expose().as_bytes()),
        (Proof::Certificate(old), Proof::Certificate(new)) => old == new,
        (Proof::Token(_), Proof::Certificate(_)) | (Proof::Certificate(_), Proof::Token(_)) => {
            false
        }
    };
    if let Some(other) = draft.config.callers.iter().find(shares) {
        if other.name != name {
            let rule = format!("shows the same as {}: give each caller its own", other.name);
            draft.problems.add(source, &key, rule);
        }
        return;
    }
    if let Proof::Token(secret) = &proof
        && secret.len() < SHORT
    {
        draft.warnings.push(format!(
            "{key}: a token of {} bytes can be guessed; `tetherlet token new` makes a better one",
            secret.len()
        ));
    }
    let rights = Rights::ALL;
    draft.config.callers.push(Caller { name: name.to_owned(), proof, rights, source });
}

/// Rules between the mode and what there is to show.
fn check(draft: &mut Draft) {
    const MODE: &str = "auth.mode";
    const HEADER: &str = "auth.header";
    if let Some(header) = &draft.config.auth.header {
        let fits = header.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if header.eq_ignore_ascii_case("authorization") {
            // That is where tokens are looked for anyway.
            draft.config.auth.header = None;
        } else if !fits || TAKEN.iter().any(|taken| header.eq_ignore_ascii_case(taken)) {
            let rule = "must be the name of a header that means nothing else, such as X-API-Key";
            draft.problems.add(draft.source(HEADER).clone(), HEADER, rule.to_owned());
        }
    }
    let nobody = draft.config.callers.is_empty() && !draft.problems.mention("callers.");
    if draft.config.auth.mode == AuthMode::Required && nobody && !draft.config.knows_certificates()
    {
        let rule = "is required, but nobody has a token: `tetherlet token new` makes one, and \
                    [callers.NAME] with token-file or A2A_AUTH_TOKENS=NAME:TOKEN gives it to a caller";
        draft.problems.add(draft.source(MODE).clone(), MODE, rule.to_owned());
    }
    if draft.config.auth.mode == AuthMode::Off && !draft.config.callers.is_empty() {
        draft.warnings.push("auth.mode is off: the configured tokens are not asked for".to_owned());
    }
}

/// Headers with a meaning of their own.
const TAKEN: [&str; 9] = [
    "host",
    "cookie",
    "accept",
    "content-type",
    "content-length",
    "connection",
    "transfer-encoding",
    "origin",
    "a2a-version",
];

/// All peers among the sections; problems on the way are added.
pub fn peers(sections: &[Section], inputs: &Inputs<'_>, draft: &mut Draft) {
    for section in sections.iter().filter(|section| section.family == Family::Peers) {
        peer(section, inputs, draft);
    }
}

fn peer(section: &Section, inputs: &Inputs<'_>, draft: &mut Draft) {
    let Some((url, source)) = section.value(Field::Url) else {
        let key = section.key(Field::Url);
        draft.problems.add(section.source.clone(), &key, "is missing".to_owned());
        return;
    };
    let found = credentials::named(section, inputs, &mut draft.problems);
    let is_open = Url::read(url).is_some_and(|url| !url.is_https && !is_private(url.host));
    if found.is_some() && is_open {
        let rule = "would send the token unencrypted: use https".to_owned();
        draft.problems.add(source.clone(), &section.key(Field::Url), rule);
    }
    draft.config.peers.push(Peer {
        name: section.name.clone(),
        url: url.clone(),
        token_source: found.as_ref().map_or_else(String::new, Found::origin),
        token: found.map(|found| found.secret),
    });
}

fn show(config: &Config, settings: &mut Vec<Setting>) {
    for Caller { name, proof, rights, source } in &config.callers {
        let (field, value) = match proof {
            Proof::Token(secret) => ("token", format!("set ({} bytes)", secret.len())),
            Proof::Certificate(name) => ("certificate", name.clone()),
        };
        let key = format!("callers.{name}.{field}");
        settings.push(Setting { key, value, source: source.clone() });
        let key = format!("callers.{name}.rights");
        settings.push(Setting { key, value: rights.show(), source: Source::Default });
    }
    for peer in &config.peers {
        let source = Source::Default;
        let key = format!("peers.{}.url", peer.name);
        settings.push(Setting { key, value: peer.url.clone(), source: source.clone() });
        let key = format!("peers.{}.token", peer.name);
        let value = peer.token.as_ref().map_or_else(
            || "not set".to_owned(),
            |token| format!("set ({} bytes, from {})", token.len(), peer.token_source),
        );
        settings.push(Setting { key, value, source });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Fixture;

    const A: &str = "tl_aaaaaaaaaaaaaaaa";
    const B: &str = "tl_bbbbbbbbbbbbbbbb";

    fn names(fixture: &Fixture) -> Vec<String> {
        let loaded = fixture.load().unwrap_or_else(|problems| panic!("{problems}"));
        loaded.config.callers.into_iter().map(|caller| caller.name).collect()
    }

    fn problems(fixture: &Fixture) -> String {
        fixture.load().unwrap_err().to_string()
    }

    #[test]
    fn tokens_come_from_sections_files_and_variables() {
        let fixture = Fixture::new();
        let token = fixture.write("a.token", &format!("{A}\n"), 0o600);
        let tokens = fixture.write("tokens", &format!("# two\nb:{B}\n\nb:{A}2,c:{B}3\n"), 0o600);
        let text = format!(
            "auth.tokens-file = {tokens:?}\n[callers.a]\ntoken-file = {token:?}\n\
             [callers.cert]\ncertificate = 'spiffe://x/y'\n"
        );
        // Who vouches for certificates is another test's matter.
        let text = text.replace("[callers.cert]\ncertificate = 'spiffe://x/y'\n", "");
        fixture.write("tetherlet.toml", &text, 0o644);
        let fixture = fixture
            .env("A2A_AUTH_TOKENS", &format!("d.1:{A}4, e:{A}5"))
            .env("CODETETHER_AUTH_TOKEN", &format!("{A}6"));
        assert_eq!(names(&fixture), ["a", "b", "b", "c", "d.1", "e", "codetether"]);
        let settings = fixture.load().unwrap().settings;
        let shown: Vec<_> = settings.iter().map(|it| format!("{} {}", it.key, it.value)).collect();
        assert!(shown.contains(&"callers.d.1.token set (20 bytes)".to_owned()), "{shown:?}");
    }

    #[test]
    fn the_section_of_a_name_holds_its_rights_wherever_its_token_is() {
        let fixture = Fixture::with("[callers.a]\ntoken-env = 'X'\nrights = 'tasks, status'\n")
            .env("X", A)
            .env("A2A_AUTH_TOKENS", &format!("a:{B},b:{B}2"));
        let callers = fixture.load().unwrap().config.callers;
        let rights: Vec<_> =
            callers.iter().map(|it| (it.name.as_str(), it.rights.show())).collect();
        let all = "tasks, push, card, status".to_owned();
        let some = "tasks, status".to_owned();
        assert_eq!(rights, [("a", some.clone()), ("a", some), ("b", all)]);
    }

    #[test]
    fn what_cannot_be_a_caller_is_a_problem_that_shows_no_secret() {
        for (text, says) in [
            ("[callers.a]\n", "nobody can be it"),
            ("[callers.a]\ntoken = 'tl_canary0123456789'", "chmod 600"),
            ("[callers.a]\ncertificate = 'sha256:12'", "64 hex digits"),
            ("[callers.a]\ncertificate = 'x'", "needs tls.client-ca-file"),
            ("[callers.a]\ntoken-env = 'X'\nrights = 'all'", "must be a list of tasks"),
            ("[callers.A]\ntoken-env = 'X'", "lower-case"),
            ("[callers.a]\ntokn-file = '/x'", "did you mean token-file"),
            ("auth.mode = 'required'", "tetherlet token new"),
            ("auth.header = 'Cookie'", "means nothing else"),
            ("auth.header = 'X Y'", "means nothing else"),
            ("[peers.a]\n", "peers.a.url: is missing"),
            ("[peers.a]\nurl = 'http://x'\ntoken = 'tl_canary'", "token-file or token-env"),
            ("[peers.a]\nurl = 'http://example.org'\ntoken-env = 'X'", "use https"),
        ] {
            let said = problems(&Fixture::with(text).env("X", "0123456789abcdef"));
            assert!(said.contains(says), "{text}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
        for (list, says) in [
            ("canary", "line 1: must be NAME:TOKEN"),
            ("a:canary b", "line 1: does not hold a key"),
            ("a/b:canary", "NAME:TOKEN"),
            ("a:canary,b:canary", "callers.b: shows the same as a"),
        ] {
            let said = problems(&Fixture::new().env("A2A_AUTH_TOKENS", list));
            assert!(said.contains(says), "{list}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn a_file_of_tokens_that_others_can_read_is_refused() {
        let fixture = Fixture::new();
        let tokens = fixture.write("tokens", &format!("a:{A}"), 0o640);
        let fixture = fixture.env("A2A_AUTH_TOKENS_FILE", tokens.to_str().unwrap());
        assert!(problems(&fixture).contains("chmod 600"));
    }

    #[test]
    fn short_tokens_are_warned_of() {
        let loaded = Fixture::new().env("A2A_AUTH_TOKENS", "a:secret").load().unwrap();
        assert!(loaded.warnings[0].contains("callers.a: a token of 6 bytes can be guessed"));
    }

    #[test]
    fn credentials_are_asked_for_when_somebody_has_one() {
        let asked = |fixture: Fixture| fixture.load().unwrap().config.wants_credentials();
        let tokens = || Fixture::new().env("A2A_AUTH_TOKENS", &format!("a:{A}"));
        assert!(!asked(Fixture::new()));
        assert!(asked(tokens()));
        assert!(asked(tokens().env("A2A_AUTH_ENABLED", "true")));
        assert!(!asked(tokens().env("A2A_AUTH_ENABLED", "False")));
    }

    #[test]
    fn a_header_called_authorization_is_the_usual_one() {
        let fixture = Fixture::new().env("A2A_AUTH_HEADER", "Authorization");
        assert_eq!(fixture.load().unwrap().config.auth.header, None);
    }

    #[test]
    fn fingerprints_have_one_spelling() {
        let hex = "AB:".repeat(31) + "cd";
        assert_eq!(
            certificate(&format!("sha256:{hex}")).unwrap(),
            format!("sha256:{}cd", "ab".repeat(31))
        );
        assert_eq!(certificate("Box.Local").unwrap(), "box.local");
        assert_eq!(certificate("spiffe://X/y").unwrap(), "spiffe://X/y");
    }
}
