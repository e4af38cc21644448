//! Finds keys: a provider's in the variable, file or systemd credential that names it, the card's in its file.
//!
//! What the configuration names comes before what the environment happens to hold, so that a key
//! never goes to a server it was not meant for. Keys are trimmed, checked to fit a header, and
//! never repeated in a problem.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::base::jws::{KeyError, Signer};
use crate::base::secret::Secret;
use crate::config::Inputs;
use crate::config::draft::{Family, Field, Section};
use crate::config::env;
use crate::config::file::{FileError, slurp};
use crate::config::problems::{Problems, Source};
use crate::config::providers::Known;

/// Largest key file, and longest key, in bytes.
pub const MAX_KEY: usize = 8 * 1024;
/// Mode bits by which group or others could read or change a file.
const OPEN_TO_OTHERS: u32 = 0o066;

/// A key and where it was.
#[derive(Debug)]
pub struct Found {
    pub secret: Secret,
    pub source: Source,
    /// The base URL this very key belongs to, when it is not the provider's usual one.
    pub base: Option<&'static str>,
}

impl Found {
    /// `OPENAI_API_KEY`, `file /x` or `credential openai_api_key`.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Env(name) => name.clone(),
            other => other.to_string(),
        }
    }
}

/// The key of a provider, if there is one; problems on the way are added.
pub fn find(
    known: Option<&Known>,
    section: Option<&Section>,
    inputs: &Inputs<'_>,
    problems: &mut Problems,
) -> Option<Found> {
    if let Some(section) = section {
        let fields = [Field::ApiKeyFile, Field::ApiKeyEnv];
        if fields.iter().any(|field| section.value(*field).is_some()) {
            return named(section, inputs, problems);
        }
    }
    if env::set(inputs, "CODETETHER_DISABLE_ENV_FALLBACK")
        .is_some_and(|text| matches!(text.trim(), "1" | "true" | "yes" | "on"))
    {
        return None;
    }
    let known = known?;
    for &(name, base) in known.keys {
        match look_up(name, inputs) {
            Ok(Some((secret, source))) => return Some(Found { secret, source, base }),
            Ok(None) => {}
            Err((place, rule)) => {
                problems.add(place, &format!("providers.{}", known.name), rule);
                return None;
            }
        }
    }
    None
}

/// The secret that a section names by file or variable, if it names one; problems on the way are added.
pub fn named(section: &Section, inputs: &Inputs<'_>, problems: &mut Problems) -> Option<Found> {
    let [in_file, in_variable] = match section.family {
        Family::Providers => [Field::ApiKeyFile, Field::ApiKeyEnv],
        Family::Callers | Family::Peers => [Field::TokenFile, Field::TokenEnv],
    };
    let variable = section.value(in_variable);
    if let Some((path, source)) = section.value(in_file) {
        if variable.is_some() {
            let rule = format!("give this or {}, not both", in_variable.name());
            problems.add(source.clone(), &section.key(in_file), rule);
            return None;
        }
        return match read(Path::new(path), inputs) {
            Ok(secret) => {
                Some(Found { secret, source: Source::Store(format!("file {path}")), base: None })
            }
            Err(rule) => {
                problems.add(source.clone(), &section.key(in_file), rule);
                None
            }
        };
    }
    let (name, source) = variable?;
    match look_up(name, inputs) {
        Ok(Some((secret, source))) => Some(Found { secret, source, base: None }),
        Ok(None) => {
            // The name itself is not repeated: a pasted key looks like one.
            let rule = "the variable it names is not set".to_owned();
            problems.add(source.clone(), &section.key(in_variable), rule);
            None
        }
        Err((place, rule)) => {
            problems.add(place, &section.key(in_variable), rule);
            None
        }
    }
}

/// The secret of a variable: its value, the file `NAME_FILE` points at, or the credential of the
/// same name.
fn look_up(name: &str, inputs: &Inputs<'_>) -> Result<Option<(Secret, Source)>, (Source, String)> {
    match text(name, MAX_KEY, inputs)? {
        Some((text, source)) => match usable(&text) {
            Ok(secret) => Ok(Some((secret, source))),
            Err(rule) => Err((source, rule)),
        },
        None => Ok(None),
    }
}

/// What a variable, the file that `NAME_FILE` points at, or the credential of the same name holds: at most `max` bytes.
///
/// # Errors
///
/// Where it should be, and the rule that is broken there.
pub fn text(
    name: &str,
    max: usize,
    inputs: &Inputs<'_>,
) -> Result<Option<(String, Source)>, (Source, String)> {
    if let Some(text) = env::set(inputs, name) {
        return Ok(Some((text, Source::Env(name.to_owned()))));
    }
    let file = format!("{name}_FILE");
    if let Some(path) = env::set(inputs, &file) {
        let path = path.trim();
        return match list(Path::new(path), max, inputs) {
            Ok(text) => Ok(Some((text, Source::Store(format!("file {path}"))))),
            Err(rule) => Err((Source::Env(file), rule)),
        };
    }
    let Some(folder) = credentials(inputs) else { return Ok(None) };
    let credential = name.to_ascii_lowercase();
    let source = Source::Store(format!("credential {credential}"));
    match slurp(&folder.join(&credential), max) {
        Ok((bytes, _)) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((text, source))),
            Err(_) => Err((source, UNFIT.to_owned())),
        },
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err((source, error.to_string())),
    }
}

fn credentials(inputs: &Inputs<'_>) -> Option<PathBuf> {
    env::set(inputs, "CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|it| it.is_absolute())
}

/// The private key of a pair, in a PEM file that nobody else can read or change.
pub fn signer(path: &Path, id: Option<&str>, inputs: &Inputs<'_>) -> Result<Signer, String> {
    let bytes = rooted(path, MAX_KEY, inputs)?;
    let text = str::from_utf8(&bytes).map_err(|_| KeyError::NotPkcs8);
    text.and_then(|text| Signer::from_pem(text, id))
        .map_err(|error| format!("{} {error}", path.display()))
}

/// The key in a file that nobody else can read or change.
fn read(path: &Path, inputs: &Inputs<'_>) -> Result<Secret, String> {
    usable(&list(path, MAX_KEY, inputs)?)
}

/// The text of a file that nobody else can read or change, at most `max` bytes.
///
/// # Errors
///
/// The rule that the file breaks.
pub fn list(path: &Path, max: usize, inputs: &Inputs<'_>) -> Result<String, String> {
    String::from_utf8(rooted(path, max, inputs)?).map_err(|_| UNFIT.to_owned())
}

/// Whether group or others could read or change a file.
pub fn is_open(metadata: &Metadata) -> bool {
    metadata.mode() & OPEN_TO_OTHERS != 0
}

/// What is in a file that nobody else can read or change.
pub fn rooted(path: &Path, max: usize, inputs: &Inputs<'_>) -> Result<Vec<u8>, String> {
    if !path.is_absolute() {
        return Err("must be a path that begins with /".to_owned());
    }
    closed(path, credentials(inputs).as_deref(), max)
}

/// At most `max` bytes of a file that nobody else can read or change, or that lies in `folder`, where systemd keeps
/// it safe by other means.
pub fn closed(path: &Path, folder: Option<&Path>, max: usize) -> Result<Vec<u8>, String> {
    let (bytes, metadata) = slurp(path, max).map_err(|error| match error {
        FileError::Io(error) => format!("{} cannot be read: {error}", path.display()),
        other => format!("{} {other}", path.display()),
    })?;
    let is_credential = folder.is_some_and(|folder| path.starts_with(folder))
        && !path.components().any(|part| part == Component::ParentDir);
    if is_open(&metadata) && !is_credential {
        let path = path.display();
        return Err(format!("{path} is open to group or others: chmod 600 {path}"));
    }
    Ok(bytes)
}

/// A token in a file that nobody else can read or change.
///
/// # Errors
/// What is wrong with the file.
pub fn token_file(path: &Path, inputs: &Inputs<'_>) -> Result<Secret, String> {
    let bytes = closed(path, credentials(inputs).as_deref(), MAX_KEY)?;
    let secret = str::from_utf8(&bytes).map_err(|_| UNFIT.to_owned()).and_then(usable);
    secret.map_err(|rule| format!("{} {rule}", path.display()))
}

/// The token that the environment has for a client, and where: `TETHERLET_TOKEN` or `A2A_API_KEY`, each as it is, as
/// the file that `NAME_FILE` points at, or as the systemd credential of the same name in lower case.
///
/// # Errors
/// What is wrong with the first that is set.
pub fn token(inputs: &Inputs<'_>) -> Result<Option<(Secret, String)>, String> {
    for name in ["TETHERLET_TOKEN", "A2A_API_KEY"] {
        match look_up(name, inputs) {
            Ok(Some((secret, source))) => {
                let found = Found { secret, source, base: None };
                let origin = found.origin();
                return Ok(Some((found.secret, origin)));
            }
            Ok(None) => {}
            Err((source, rule)) => return Err(format!("{source}: {rule}")),
        }
    }
    Ok(None)
}

/// A text as a key or token.
///
/// # Errors
///
/// What it must be.
pub fn usable(text: &str) -> Result<Secret, String> {
    let secret = Secret::new(text).ok_or_else(|| "holds no key".to_owned())?;
    if secret.len() > MAX_KEY || !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UNFIT.to_owned());
    }
    Ok(secret)
}

const UNFIT: &str = "does not hold a key: one line without blanks, at most 8192 bytes";
