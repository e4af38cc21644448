//! Puts the environment on: first the names `CodeTether` and systemd use, then ours, which win.
//!
//! An empty variable counts as not set, as unit files and containers cannot take one away.

use crate::config::Inputs;
use crate::config::draft::{Draft, Family, Field, Section};
use crate::config::keys::{KEYS, Key, Raw, variable};
use crate::config::problems::{Source, hint, shown};
use crate::config::providers::KNOWN;

/// Names of ours that are no keys: the command-line client reads them.
const OTHERS: [&str; 4] =
    ["TETHERLET_CONFIG", "TETHERLET_TOKEN", "TETHERLET_TOKEN_FILE", "TETHERLET_URL"];

const PREFIX: &str = "TETHERLET_";
/// Most warnings about names that nobody reads.
const MAX_WARNINGS: usize = 16;

/// Puts all variables on that set a key of the table or of a provider.
pub fn apply(inputs: &Inputs<'_>, draft: &mut Draft) {
    for (at, key) in KEYS.iter().enumerate() {
        let foreign =
            key.env.iter().find_map(|name| Some(((*name).to_owned(), set(inputs, name)?)));
        let ours = key.variable();
        let ours = set(inputs, &ours).map(|text| (ours, text));
        for (name, text) in foreign.into_iter().chain(ours) {
            let raw = Raw::Loose(translated(&name, &text));
            if let Err(rule) = draft.offer(at, raw, Source::Env(name.clone())) {
                draft.problems.add(Source::Env(name), key.name, rule);
            }
        }
    }
    for known in &KNOWN {
        let found = known.base_env.iter().find_map(|name| Some((*name, set(inputs, name)?)));
        if let Some((name, text)) = found {
            let text = if name == "OLLAMA_HOST" { ollama_base(&text) } else { text };
            offer_field(draft, (Family::Providers, known.name), Field::BaseUrl, &text, name);
        }
    }
    for (family, name) in section_names(&draft.sections) {
        for &field in family.fields() {
            let variable = section_variable(family, &name, field);
            if let Some(text) = set(inputs, &variable) {
                offer_field(draft, (family, &name), field, &text, &variable);
            }
        }
    }
    warn_of_unknown(inputs, draft);
}

/// The value of a variable, unless it is empty.
pub fn set(inputs: &Inputs<'_>, name: &str) -> Option<String> {
    (inputs.env)(name).filter(|text| !text.trim().is_empty())
}

fn offer_field(
    draft: &mut Draft,
    (family, name): (Family, &str),
    field: Field,
    text: &str,
    variable: &str,
) {
    let source = Source::Env(variable.to_owned());
    let outcome = draft
        .section(family, name, &source)
        .and_then(|section| draft.offer_field(section, field, Raw::Loose(text), source.clone()));
    if let Err(rule) = outcome {
        draft.problems.add(source, &format!("{}.{name}.{}", family.name(), field.name()), rule);
    }
}

fn section_variable(family: Family, name: &str, field: Field) -> String {
    variable(&format!("{}.{name}.{}", family.name(), field.name()))
}

/// The built-in providers and the sections of files, providers also by the alias used there.
fn section_names(sections: &[Section]) -> Vec<(Family, String)> {
    let mut names: Vec<(Family, String)> =
        KNOWN.iter().map(|known| (Family::Providers, known.name.to_owned())).collect();
    for section in sections {
        for name in [&section.name, &section.written] {
            let name = (section.family, name.clone());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// What a foreign name's value is called here.
fn translated<'a>(name: &str, text: &'a str) -> &'a str {
    let text = text.trim();
    let is = |other: &str| text.eq_ignore_ascii_case(other);
    match name {
        // systemd joins several folders with colons.
        "STATE_DIRECTORY" => text.split(':').next().unwrap_or(text),
        "A2A_AUTH_ENABLED" if ["true", "1", "yes", "on"].into_iter().any(is) => "required",
        "A2A_AUTH_ENABLED" if ["false", "0", "no"].into_iter().any(is) => "off",
        "A2A_LOG_LEVEL" if is("warning") => "warn",
        "A2A_LOG_LEVEL" if is("critical") || is("fatal") => "error",
        "A2A_LOG_FORMAT" if is("text") => "human",
        _ => text,
    }
}

/// `OLLAMA_HOST` as a base URL: scheme and port may be missing, and a server's "all addresses"
/// means this machine.
fn ollama_base(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    let (scheme, authority, port) = match text.split_once("://") {
        Some((scheme, authority)) => (scheme, authority, ""),
        None => ("http", text, ":11434"),
    };
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside brackets is part of the address.
        Some((host, given)) if !given.contains(']') => (host, format!(":{given}")),
        _ => (authority, port.to_owned()),
    };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    format!("{scheme}://{host}{port}")
}

fn warn_of_unknown(inputs: &Inputs<'_>, draft: &mut Draft) {
    let mut ours = inputs.env_names.iter().filter(|name| name.starts_with(PREFIX)).peekable();
    if ours.peek().is_none() {
        return;
    }
    let mut known: Vec<String> = OTHERS.iter().map(|name| (*name).to_owned()).collect();
    known.extend(KEYS.iter().map(Key::variable));
    for (family, name) in section_names(&draft.sections) {
        let fields = family.fields().iter();
        known.extend(fields.map(|field| section_variable(family, &name, *field)));
    }
    let unknown = ours.filter(|name| !known.contains(name)).take(MAX_WARNINGS);
    for name in unknown {
        // Compared without the prefix, which would make every name look alike.
        let mut tails = known.iter().filter_map(|name| name.strip_prefix(PREFIX));
        let tail = name.strip_prefix(PREFIX).unwrap_or(name);
        let hint = hint(tail, &mut tails).replacen("did you mean ", "did you mean TETHERLET_", 1);
        draft.warnings.push(format!("environment {} is not a setting{hint}", shown(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_hosts_become_base_urls() {
        for (text, base) in [
            ("192.168.1.5", "http://192.168.1.5:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:11434", "http://127.0.0.1:11434"),
            (":11434", "http://127.0.0.1:11434"),
            ("[::]:1", "http://[::1]:1"),
            ("[::1]", "http://[::1]:11434"),
            ("http://nas:8080/", "http://nas:8080"),
            ("https://ollama.example.org", "https://ollama.example.org"),
        ] {
            assert_eq!(ollama_base(text), base, "{text}");
        }
    }

    #[test]
    fn foreign_values_are_translated() {
        assert_eq!(translated("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), "/var/lib/a");
        assert_eq!(translated("A2A_LOG_LEVEL", "WARNING"), "warn");
        assert_eq!(translated("A2A_LOG_LEVEL", "DEBUG"), "DEBUG");
        assert_eq!(translated("TETHERLET_LOG_LEVEL", "WARNING"), "WARNING");
    }
}
