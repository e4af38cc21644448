//! `trust`: shows a server's certificate and pins its key to its host and port, in place of any switch that turns
//! verification off. Nothing is sent to the server but a TLS handshake.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt as _};

use crate::base::x509::Certificate;
use crate::cli::fresh::{Fresh, PUBLIC, SECRET};
use crate::cli::{Failure, Settings, note, say};
use crate::config::trust::{
    At, Digest, MAX_PINS, Pin, Trust, digest_of, pins_text, read_pins, sha256, shown,
};
use crate::config::url::Url;
use crate::config::{Reaching, load_reaching};
use crate::outbound::failure::{Failure as Why, date, explain};
use crate::outbound::http::look;
use crate::outbound::tls::Seen;

#[derive(Default)]
struct Options {
    yes: bool,
    list: bool,
    remove: bool,
    fingerprint: Option<String>,
    url: Option<String>,
    settings: Settings,
}

/// `tetherlet trust`
pub fn trust(arguments: &[OsString]) -> Result<(), Failure> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("yes") => options.yes = true,
            Long("list") => options.list = true,
            Long("remove") => options.remove = true,
            Long("fingerprint") => options.fingerprint = Some(parser.value()?.string()?),
            Long("config") => options.settings.file = Some(parser.value()?.into()),
            Value(url) if options.url.is_none() => options.url = Some(url.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let Reaching { trust, warnings, .. } = options
        .settings
        .with(load_reaching)
        .map_err(|problems| Failure::Usage(problems.to_string()))?;
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    if options.list {
        return trust.pins.iter().try_for_each(say);
    }
    let usage =
        || Failure::Usage("usage: tetherlet trust [OPTIONS] https://HOST[:PORT]".to_owned());
    let url = options.url.as_deref().ok_or_else(usage)?;
    let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let at = At::of_url(&url).ok_or_else(usage)?;
    if Url::read(&url).is_some_and(|url| !url.is_https) {
        let what =
            format!("{at} is called over plain http: there is no key to pin; write https://");
        return Err(Failure::Usage(what));
    }
    let file = trust.pins_file.as_deref().ok_or_else(|| {
        let what = "no place for pins: set HOME, or name a file with outbound.pins-file";
        Failure::Failed(what.to_owned())
    })?;
    if options.remove {
        return forget(file, &trust, &at);
    }
    let url = format!("https://{at}");
    let seen = look(&url, &trust)
        .map_err(|why| Failure::Failed(format!("cannot look at {at}: {}", explain(&why, &url))))?;
    let pin = show(&seen, &trust, &at, &url)?;
    if trust.pins.contains(&pin) {
        return say(format_args!("{at} is pinned to this key already"));
    }
    decide(&options, &seen, &pin)?;
    let line = pin.to_string();
    store(file, &at, Some(&line))?;
    let file = file.display();
    say(format_args!("stored in {file}; a running agent reads it on SIGHUP (`kill -HUP PID`)"))
}

/// Prints what the server showed, and returns the pin for it.
fn show(seen: &Seen, trust: &Trust, at: &At, url: &str) -> Result<Pin, Failure> {
    let der = seen.chain.first().filter(|_| seen.proved);
    let it = der.and_then(|der| Some((der, Certificate::read(der)?)));
    let (der, it) = it.ok_or_else(|| {
        Failure::Failed(format!("{at} shows no certificate whose key it has; nothing was stored"))
    })?;
    let key = sha256(it.key);
    let names = it.names();
    say(format_args!("{at} shows this certificate:"))?;
    say(format_args!("  subject      {}", it.subject()))?;
    say(format_args!("  issuer       {}", it.issuer()))?;
    say(format_args!(
        "  names        {}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    ))?;
    say(format_args!("  valid        {} to {}", date(it.not_before), date(it.not_after)))?;
    say(format_args!("  key          {}", shown(&key)))?;
    say(format_args!("  certificate  SHA-256 {}", colons(&sha256(der))))?;
    match &seen.wrong {
        None => say("  unpinned     accepted: an authority that is trusted here vouches for it")?,
        Some(wrong) => {
            let why = explain(&Why::of_tls(wrong), url);
            // What is asked here is the way out.
            let why = why.split("; ").next().unwrap_or_default();
            say(format_args!("  unpinned     refused: {why}"))?;
        }
    }
    if let Some(old) = trust.pins.iter().find(|pin| pin.at == *at && pin.key != key) {
        say(format_args!("  pinned       {}: ANOTHER KEY", shown(&old.key)))?;
    }
    Ok(Pin { at: at.clone(), key })
}

/// Whether the key is to be trusted: by the user's word, or by a fingerprint that was brought along.
fn decide(options: &Options, seen: &Seen, pin: &Pin) -> Result<(), Failure> {
    let at = &pin.at;
    if let Some(given) = &options.fingerprint {
        let certificate = seen.chain.first().map(|der| sha256(der));
        let is_same = if let Some(key) = digest_of(given) {
            key == pin.key
        } else if let Some(digest) = digest_of_colons(given) {
            certificate == Some(digest)
        } else {
            let rule = "--fingerprint: must be sha256/BASE64 of the key, or the certificate's SHA-256 in \
                        hexadecimal";
            return Err(Failure::Usage(rule.to_owned()));
        };
        return if is_same {
            Ok(())
        } else {
            Err(Failure::Failed(format!(
                "the fingerprint of {at} is another one than was given: nothing was stored"
            )))
        };
    }
    if options.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Failed(format!(
            "nothing was stored: nobody to ask; once you have compared the key on the server, \
             `tetherlet trust --fingerprint {} https://{at}` (or --yes to trust it unseen)",
            shown(&pin.key)
        )));
    }
    say("Compare the key on the server itself:\n  \
         openssl x509 -in CERTIFICATE -noout -fingerprint -sha256")?;
    let mut out = io::stdout().lock();
    write!(out, "Accept this key, and no other, from {at}? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    let mut input = io::stdin().lock().take(64);
    io::BufRead::read_line(&mut input, &mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Failed("nothing was stored".to_owned())),
    }
}

fn forget(file: &Path, trust: &Trust, at: &At) -> Result<(), Failure> {
    if trust.pins.iter().all(|pin| pin.at != *at) {
        return Err(Failure::Failed(format!("{at} is not pinned; see `tetherlet trust --list`")));
    }
    if store(file, at, None)? {
        say(format_args!("{at} is no longer pinned in {}", file.display()))
    } else {
        let file = file.display();
        let what = format!("{at} is not pinned in {file} but for everybody: try again with sudo");
        Err(Failure::Failed(what))
    }
}

/// Replaces the pin of `at` in the file, at once or not at all; everything else in it stays. Whether there was one.
fn store(file: &Path, at: &At, line: Option<&str>) -> Result<bool, Failure> {
    let shown = file.display();
    let old = pins_text(file).map_err(Failure::Failed)?.unwrap_or_default();
    // A file that cannot be read is not overwritten.
    let pins = read_pins(&old)
        .map_err(|(line, rule)| Failure::Failed(format!("{shown}:{line}: {rule}")))?;
    let had = pins.iter().any(|pin| pin.at == *at);
    if line.is_some() && !had && pins.len() >= MAX_PINS {
        let what = format!("{shown} holds {MAX_PINS} pins already: remove one with --remove");
        return Err(Failure::Failed(what));
    }
    let mut text = String::with_capacity(old.len() + 128);
    for kept in old.lines().filter(|line| Pin::read(line).is_none_or(|pin| pin.at != *at)) {
        let _ = writeln!(text, "{kept}");
    }
    if let Some(line) = line {
        let _ = writeln!(text, "{line}");
    }
    // A link stays one.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    // Nothing in it is secret, and an agent of another user reads what root stores.
    let mode = if rustix::process::geteuid().is_root() { PUBLIC } else { SECRET };
    Fresh::write(&file, text.as_bytes(), mode, true)?.place()?;
    Ok(had)
}

/// `AB:CD:...`, as openssl prints it.
fn colons(digest: &Digest) -> String {
    let mut out = String::with_capacity(digest.len() * 3);
    for byte in digest {
        let separator = if out.is_empty() { "" } else { ":" };
        let _ = write!(out, "{separator}{byte:02X}");
    }
    out
}

/// Reads what [`colons`] writes, with or without the colons.
fn digest_of_colons(text: &str) -> Option<Digest> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let pair = str::from_utf8(pair).ok().filter(|it| !it.starts_with('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_openssl_prints_it() {
        let digest = sha256(b"x");
        let text = colons(&digest);
        assert_eq!(text.len(), 95);
        assert_eq!(digest_of_colons(&text), Some(digest));
        assert_eq!(digest_of_colons(&text.replace(':', "").to_lowercase()), Some(digest));
        for bad in ["", "AB:CD", &text[3..], &text.replace('A', "+"), &format!("{text}:00")] {
            assert!(digest_of_colons(bad).is_none() || !text.contains('A'), "{bad}");
        }
    }
}
