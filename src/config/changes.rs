//! What differs between two configurations, in words for the operator.

use crate::base::secret::Digest;
use crate::config::keys::KEYS;
use crate::config::{Loaded, Setting};

/// The keys whose values differ, each once, in the order of the table. A secret or a file counts by what it holds.
pub fn changed(old: &Loaded, new: &Loaded) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for Setting { key, .. } in new.settings.iter().chain(&old.settings) {
        if !keys.contains(key) && !is_same(old, new, key) {
            keys.push(key.clone());
        }
    }
    keys
}

/// Whether a key, which may stand there several times, has the same values.
fn is_same(old: &Loaded, new: &Loaded, key: &str) -> bool {
    let held = |loaded: &Loaded| -> Vec<Digest> {
        let contents = loaded.contents.iter().filter(|(name, _)| name == key);
        contents.map(|(_, held)| *held).collect()
    };
    let (was, is) = (held(old), held(new));
    values(&old.settings, key).eq(values(&new.settings, key))
        && was.len() == is.len()
        && was.iter().zip(&is).all(|(was, is)| was.is(is))
}

/// The keys that only a restart changes and that no longer stand as they did at the `start`, one line each.
pub fn waiting(start: &[Setting], new: &Loaded) -> Vec<String> {
    let fixed = KEYS.iter().filter(|key| key.at_start);
    fixed
        .filter_map(|key| {
            Some((
                key.name,
                values(start, key.name).next()?,
                values(&new.settings, key.name).next()?,
            ))
        })
        .filter(|(_, was, is)| was != is)
        .map(|(key, was, is)| {
            format!("{key} changed from {was} to {is}: takes effect after a restart")
        })
        .collect()
}

fn values<'a>(settings: &'a [Setting], key: &'a str) -> impl Iterator<Item = &'a String> {
    settings.iter().filter(move |setting| setting.key == key).map(|setting| &setting.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Fixture;

    #[test]
    fn a_change_is_named_by_its_key_and_a_secret_by_what_it_holds() {
        let fixture = Fixture::with("[limits]\nstreams = 4\n[log]\nlevel = \"warn\"\n")
            .env("OPENAI_API_KEY", "sk-one");
        let old = fixture.load().unwrap();
        assert_eq!(changed(&old, &fixture.load().unwrap()), [""; 0]);
        fixture.write("tetherlet.toml", "[limits]\nstreams = 5\n", 0o644);
        let new = fixture.env("OPENAI_API_KEY", "sk-two").load().unwrap();
        let keys = ["limits.streams", "log.level", "providers.openai.api-key"];
        assert_eq!(changed(&old, &new), keys);
        assert_eq!(changed(&new, &old), keys);
    }

    #[test]
    fn a_file_is_named_when_it_holds_something_else() {
        let pin = |letter: &str| format!("pi.local:1 sha256/{}=\n", letter.repeat(43));
        let fixture = Fixture::new();
        let path = fixture.write("pins", &pin("A"), 0o644);
        let fixture = fixture.env("TETHERLET_OUTBOUND_PINS_FILE", path.to_str().unwrap());
        let old = fixture.load().unwrap();
        assert_eq!(changed(&old, &fixture.load().unwrap()), [""; 0]);
        fixture.write("pins", &pin("Q"), 0o644);
        assert_eq!(changed(&old, &fixture.load().unwrap()), ["outbound.pins-file"]);
    }

    #[test]
    fn a_provider_that_comes_or_goes_is_named() {
        let bare = Fixture::new().load().unwrap();
        let with = Fixture::new().env("OPENAI_API_KEY", "sk-one").load().unwrap();
        assert_eq!(changed(&bare, &with), changed(&with, &bare));
        assert!(changed(&bare, &with).contains(&"providers.openai.api-key".to_owned()));
    }

    #[test]
    fn what_waits_for_a_restart_is_told_until_it_is_taken_back() {
        let old = Fixture::new().load().unwrap();
        let new = Fixture::with("[listen]\nport = 4098\n[limits]\nstreams = 4\n").load().unwrap();
        assert_eq!(
            waiting(&old.settings, &new),
            ["listen.port changed from 4097 to 4098: takes effect after a restart"]
        );
        assert_eq!(waiting(&old.settings, &old), [""; 0]);
    }
}
