//! `token new`: makes a token for one caller, and says where each of both sides puts it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt};
use zeroize::Zeroizing;

use crate::base::base64::encode_url;
use crate::base::ids::random;
use crate::base::secret::Secret;
use crate::cli::fresh::{Fresh, SECRET};
use crate::cli::{Failure, quoted, say, subcommand, toml_text};
use crate::config::callers::Rights;
use crate::config::draft::Family;

/// What tokens begin with, so that scanners of repositories and logs find those that have got there.
const PREFIX: &str = "tl_";

/// `tetherlet token`
pub fn token(arguments: &[OsString]) -> Result<(), Failure> {
    new(subcommand("token", "new", arguments)?)
}

fn new(arguments: &[OsString]) -> Result<(), Failure> {
    let (mut name, mut file, mut rights, mut force) = (None, None, None, false);
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("file") => file = Some(std::path::absolute(PathBuf::from(parser.value()?))?),
            Long("rights") => rights = Some(parser.value()?.string()?),
            Long("force") => force = true,
            Value(word) if name.is_none() => name = Some(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let name = name.unwrap_or_else(|| "client".to_owned());
    let wrong = |what: &str, rule: String| Failure::Usage(format!("{}: {rule}", quoted(what)));
    Family::Callers.check_name(&name).map_err(|rule| wrong(&name, rule))?;
    if let Some(rights) = &rights {
        Rights::read(rights).map_err(|rule| wrong(rights, rule))?;
    }
    let token = generate().ok_or_else(|| Failure::Failed("no token".to_owned()))?;
    let Some(file) = file else {
        say(token.expose())?;
        let place = PathBuf::from(format!("/etc/tetherlet/{name}.token"));
        let advice = advice(&name, &place, rights.as_deref());
        let keep = "Keep it in a file that only the agent's user can read (--file makes one).\n";
        // The token is out: advice that nobody reads is no failure.
        let _ = writeln!(std::io::stderr(), "\n{keep}{advice}");
        return Ok(());
    };
    let line = Zeroizing::new(format!("{}\n", token.expose()));
    Fresh::write(&file, line.as_bytes(), SECRET, force)?.place()?;
    say(format_args!(
        "wrote {}: a token of {} characters, readable by its owner alone\n\
         (chown it if the agent runs as another user)\n{}",
        file.display(),
        token.len(),
        advice(&name, &file, rights.as_deref())
    ))
}

/// 32 random bytes as text.
fn generate() -> Option<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    random(bytes.as_mut());
    let text = Zeroizing::new(encode_url(bytes.as_ref()));
    Secret::new(&Zeroizing::new(format!("{PREFIX}{}", text.as_str())))
}

/// What either side does with the token in `file`.
fn advice(name: &str, file: &Path, rights: Option<&str>) -> String {
    let copy = quoted(&file.file_name().unwrap_or_default().to_string_lossy());
    let mut text = format!(
        "\nOn the agent's side, in its configuration (then restart it or send it SIGHUP):\n\
        \x20   [callers.{name}]\n\
        \x20   token-file = {}\n",
        toml_text(&file.to_string_lossy())
    );
    if let Some(rights) = rights {
        let _ = writeln!(text, "    rights = {}", toml_text(rights));
    }
    let _ = write!(
        text,
        "On the caller's side, with a copy of that file:\n\
        \x20   tetherlet send --token-file {copy} http://HOST:4097 'Calculate 25 * 4'\n\
        \x20   curl -H \"Authorization: Bearer $(cat {copy})\" -H 'A2A-Version: 1.0' http://HOST:4097/tasks"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_mark_and_32_random_bytes() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        let body = one.expose().strip_prefix("tl_").unwrap();
        assert_eq!(crate::base::base64::decode(body).unwrap().len(), 32);
        assert!(!one.digest().is(&other.digest()));
    }
}
