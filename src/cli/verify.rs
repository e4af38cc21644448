//! `card`: prints an agent's card, or says whether its signatures hold, and with whose key.
//!
//! A card names the place of its keys itself. Keys are fetched only from where the card came from, since a card that
//! vouches for itself with a key from anywhere proves nothing; other keys have to be named by the user.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::Arg::{Long, Value};
use lexopt::Parser;

use crate::a2a::signed::{Reading, Signature, Signed};
use crate::base::jws::{KEYS_BYTES, Keys};
use crate::cli::reach::no_token;
use crate::cli::{Failure, remote, say};
use crate::config::file::slurp;
use crate::config::problems::shown;
use crate::outbound::client::{Client, Credentials, origin};

/// `tetherlet card`
pub fn card(arguments: &[OsString]) -> Result<(), Failure> {
    let (mut verifies, mut file, mut rest) = (false, None, Vec::new());
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("verify") => verifies = true,
            Long("key") => file = Some(PathBuf::from(parser.value()?)),
            Long("token") => return Err(no_token()),
            Long("json") => rest.push("--json".into()),
            Long(name @ ("config" | "token-file" | "ca" | "cert")) => {
                rest.push(format!("--{name}").into());
                rest.push(parser.value()?);
            }
            Value(word) => rest.push(word),
            other => return Err(other.unexpected().into()),
        }
    }
    if !verifies && file.is_some() {
        return Err(Failure::Usage("--key goes with --verify".to_owned()));
    }
    let given = file.as_deref().map(key_file).transpose()?;
    let (client, json, credentials) = remote::fetch_card(&rest)?;
    if verifies { verify(&client, &credentials, &json, given) } else { say(json) }
}

/// Keys, and where they are from.
type Source = (String, Keys);

fn key_file(path: &Path) -> Result<Source, Failure> {
    let name = path.display().to_string();
    let keys = match slurp(path, KEYS_BYTES) {
        Ok((bytes, _)) => Keys::read(&String::from_utf8_lossy(&bytes)).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    keys.map(|keys| (name.clone(), keys)).map_err(|what| Failure::Failed(format!("{name} {what}")))
}

fn verify(
    client: &Client,
    credentials: &Credentials,
    json: &str,
    given: Option<Source>,
) -> Result<(), Failure> {
    let card = Signed::read(json).map_err(Failure::Failed)?;
    let name = shown(&card.name);
    if card.signatures.is_empty() {
        return Err(Failure::Failed(format!("the card of {name} is not signed")));
    }
    let (mut valid, mut reasons) = (Vec::new(), Vec::new());
    let is_given = given.is_some();
    // The keys fetched last: mostly all signatures are by one.
    let mut source = given;
    for signature in &card.signatures {
        let verdict = if is_given {
            Ok(())
        } else {
            fetch_keys(client.url(), credentials, signature, &mut source)
        };
        let verdict = verdict.and_then(|()| {
            let (_, keys) = source.as_ref().ok_or_else(|| "no keys".to_owned())?;
            card.verify(signature, keys).map_err(|refused| match refused {
                Some(refused) => refused.to_string(),
                None => "it demands what is not understood here".to_owned(),
            })
        });
        match verdict {
            Ok(reading) => {
                let from = source.as_ref().map_or("", |(from, _)| from);
                valid.push((signature, reading, from.to_owned()));
            }
            Err(what) => {
                let reason = format!("{}: {what}", key_of(signature));
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
    if valid.is_empty() {
        let reasons = reasons.join("; ");
        return Err(Failure::Failed(format!(
            "no signature on the card of {name} holds: {reasons}"
        )));
    }
    say(format_args!("{name} at {}", client.url()))?;
    for (signature, reading, from) in &valid {
        say(format_args!("  valid    {reading}; {}, from {}", key_of(signature), shown(from)))?;
    }
    for reason in &reasons {
        say(format_args!("  invalid  {reason}"))?;
    }
    // Whoever reads it as 0.3 goes by members that a signature for 1.0 says nothing about.
    if card.has_url && valid.iter().all(|(_, reading, _)| *reading == Reading::V10) {
        say("  note     no valid signature covers its members of A2A 0.3, such as url")?;
    }
    Ok(())
}

fn key_of(signature: &Signature) -> String {
    signature.header.as_ref().map_or_else(
        || "a signature".to_owned(),
        |it| {
            let id = it.kid.as_deref().map_or_else(|| "without name".to_owned(), shown);
            format!("key {id} ({})", shown(&it.alg))
        },
    )
}

/// Makes `source` the keys that a signature names.
fn fetch_keys(
    card_url: &str,
    credentials: &Credentials,
    signature: &Signature,
    source: &mut Option<Source>,
) -> Result<(), String> {
    let jku = signature.header.as_ref().and_then(|header| header.jku.as_deref());
    let jku = jku.ok_or("it does not say where its key is: name a file with --key")?;
    if source.as_ref().is_some_and(|(from, _)| from == jku) {
        return Ok(());
    }
    if origin(jku).is_none() || origin(jku) != origin(card_url) {
        return Err(format!(
            "its key is said to be at {}, which is not where the card is from ({card_url}); \
             ask for the card there, or name a file with the key with --key",
            shown(jku)
        ));
    }
    // A page's path follows its agent's URL, which is all there is here.
    let there = Client::at(jku, credentials);
    let text = there.and_then(|it| it.page("")).map_err(|error| error.to_string())?;
    let keys = Keys::read(&text).map_err(|error| format!("{} {error}", shown(jku)))?;
    *source = Some((jku.to_owned(), keys));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (one, other) in [
            ("http://host/a", "HTTP://Host:80"),
            ("https://host:443/a?b", "https://host#c"),
            ("http://[::1]:1/", "http://[::1]:1?x"),
        ] {
            assert_eq!(origin(one), origin(other));
        }
        for (one, other) in [
            ("http://host", "https://host"),
            ("http://host", "http://host.evil"),
            ("http://host", "http://host@evil"),
            ("http://host", "http://host:443"),
            ("http://host:8", "http://host:80"),
            ("http://host?@evil/", "http://evil"),
            ("x", "http://host"),
        ] {
            assert_ne!(origin(one), origin(other));
        }
    }
}
