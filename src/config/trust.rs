//! Whom connections to others trust beyond the built-in roots: further certificate authorities, and keys that were
//! pinned to one host and port.
//!
//! What the environment names (`SSL_CERT_FILE`, `NODE_EXTRA_CA_CERTS`) adds to the configured file and to the
//! built-in roots, never replaces them. Pins are lines `host:port sha256/BASE64`, the SHA-256 of the key
//! (`SubjectPublicKeyInfo`, as RFC 7469 §2.4 has it); `tetherlet trust` writes them.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::base::base64;
use crate::config::draft::Draft;
use crate::config::env;
use crate::config::file::{FileError, slurp, user_folder};
use crate::config::problems::Source;
use crate::config::url::{Url, is_host};
use crate::config::{Inputs, credentials};

/// Variables that name files with further certificates.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"];
/// Largest file of certificates, in bytes: a distribution's whole bundle has a quarter.
const MAX_BUNDLE: usize = 1024 * 1024;
const NO_CERTIFICATE: &str = "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
const NO_KEY: &str = "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)";
/// How the line before a private key ends, whatever its form.
const KEY_LINE: &[u8] = b"PRIVATE KEY-----";
/// Largest file of a chain or a key, in bytes.
const MAX_CHAIN: usize = 64 * 1024;
/// Certificates that are read of one file.
const MAX_CERTIFICATES: usize = 512;
/// Largest file of pins, in bytes, and most pins in it.
const MAX_PINS_FILE: usize = 64 * 1024;
pub const MAX_PINS: usize = 256;
/// Mode bits by which group or others could change a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A SHA-256.
pub type Digest = [u8; 32];

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// What is trusted beyond the built-in roots.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Further authorities; none of them built in.
    pub roots: RootCertStore,
    /// Digests of all certificates that were given: a server's own, named as an authority, is trusted as itself.
    pub given: Vec<Digest>,
    /// At most one for each host and port.
    pub pins: Vec<Pin>,
    /// Where further pins are kept; `None` without a home.
    pub pins_file: Option<PathBuf>,
}

impl Default for Trust {
    fn default() -> Self {
        let (given, pins) = (Vec::new(), Vec::new());
        Self { roots: RootCertStore::empty(), given, pins, pins_file: None }
    }
}

impl Trust {
    /// Adds the certificates in a file, PEM or one in DER. `lenient` passes over those that cannot be used.
    ///
    /// # Errors
    /// What is wrong with the file; what was added before stays.
    pub fn add_file(&mut self, path: &Path, lenient: bool) -> Result<(), String> {
        let shown = path.display();
        let (bytes, _) = slurp(path, MAX_BUNDLE).map_err(|error| match error {
            FileError::Io(error) => format!("{shown} cannot be read: {error}"),
            other => format!("{shown} {other}"),
        })?;
        let der = (bytes.first() == Some(&0x30)).then(|| CertificateDer::from(bytes.clone()));
        let all = der.into_iter().map(Ok).chain(CertificateDer::pem_slice_iter(&bytes));
        let (mut count, mut usable) = (0, 0);
        for certificate in all.take(MAX_CERTIFICATES) {
            count += 1;
            let certificate = match certificate {
                Ok(certificate) => certificate,
                Err(_) if lenient => continue,
                Err(error) => return Err(format!("{shown}: certificate {count}: {error}")),
            };
            match self.roots.add(CertificateDer::from(&*certificate)) {
                Ok(()) => {
                    usable += 1;
                    self.given.push(sha256(&certificate));
                }
                Err(_) if lenient => continue,
                Err(error) => return Err(format!("{shown}: certificate {count}: {error}")),
            }
            // A distribution's bundle is mostly what is built in.
            if let Some(last) = self.roots.roots.pop()
                && !webpki_roots::TLS_SERVER_ROOTS.contains(&last)
                && !self.roots.roots.contains(&last)
            {
                self.roots.roots.push(last);
            }
        }
        if count == 0 {
            return Err(format!("{shown} {NO_CERTIFICATE}"));
        }
        if usable == 0 {
            return Err(format!("{shown} holds no certificate that can be used: it is damaged"));
        }
        Ok(())
    }
}

/// A certificate chain and its key, for servers that ask their clients who they are.
#[derive(Debug)]
pub struct Identity {
    /// Its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM files, from one when `key` is `None`; what holds the key must be closed to group and others.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn read(chain: &Path, key: Option<&Path>) -> Result<Self, String> {
        let path = chain.display();
        let (bytes, _) = slurp(chain, MAX_CHAIN).map_err(|error| format!("{path} {error}"))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = certificates.map_err(|error| format!("{path}: {error}"))?;
        if certificates.is_empty() {
            return Err(format!("{path} {NO_CERTIFICATE}"));
        }
        let file = key.unwrap_or(chain);
        let path = file.display();
        let (bytes, _) = slurp(file, MAX_CHAIN).map_err(|error| format!("{path} {error}"))?;
        // What holds no key may be open to everybody; an encrypted one counts as one.
        if !bytes.windows(KEY_LINE.len()).any(|part| part == KEY_LINE) {
            return Err(match key {
                None => format!("{path} holds no private key; give --key FILE"),
                Some(_) => format!("{path} {NO_KEY}"),
            });
        }
        let bytes = credentials::closed(file, None, MAX_CHAIN)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
            format!("{path} holds no unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----)")
        })?;
        Ok(Self { chain: certificates, key })
    }
}

/// The one key that a host has at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub at: At,
    /// SHA-256 of the key.
    pub key: Digest,
}

impl Pin {
    /// Reads `host:port sha256/BASE64`.
    pub fn read(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (at, key) = (words.next()?, words.next()?);
        let ends = words.next().is_none_or(|word| word.starts_with('#'));
        let (at, key) = (At::read(at)?, digest_of(key)?);
        ends.then_some(Self { at, key })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, shown(&self.key))
    }
}

/// `sha256/` and the digest in Base64.
pub fn shown(digest: &Digest) -> String {
    let url = base64::encode_url(digest);
    format!("sha256/{}=", url.replace('-', "+").replace('_', "/"))
}

/// Reads what [`shown`] writes.
pub fn digest_of(text: &str) -> Option<Digest> {
    base64::decode(text.strip_prefix("sha256/")?)?.try_into().ok()
}

/// A host and a port, in the one spelling that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Lower case, without brackets and without a dot at its end.
    pub host: String,
    pub port: u16,
}

impl At {
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let bare = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
        // One address has many spellings.
        let host = bare.parse().map_or(bare, |ip: std::net::IpAddr| ip.to_string());
        Self { host, port }
    }

    /// Of a URL, with its scheme's own port when it names none.
    pub fn of_url(url: &str) -> Option<Self> {
        let url = Url::read(url)?;
        Some(Self::new(url.host, url.port()))
    }

    /// Reads `host:port`, an IPv6 address in brackets.
    fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (is_host(bare) && bare.contains(':') == host.starts_with('['))
            .then(|| Self::new(bare, port))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads the pins in a text: one a line, `#` begins a comment, and of two for one place the later one goes.
///
/// # Errors
/// The line, counted from 1, and the rule that it breaks.
pub fn read_pins(text: &str) -> Result<Vec<Pin>, (usize, String)> {
    let mut pins: Vec<Pin> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let pin = Pin::read(line)
            .ok_or_else(|| (at + 1, "must be `host:port sha256/BASE64`".to_owned()))?;
        pins.retain(|other| other.at != pin.at);
        if pins.len() == MAX_PINS {
            return Err((at + 1, format!("is one pin more than {MAX_PINS}")));
        }
        pins.push(pin);
    }
    Ok(pins)
}

/// The text of a file of pins that only its owner can change; `None` when there is none.
///
/// # Errors
/// Why it cannot be used.
pub fn pins_text(path: &Path) -> Result<Option<String>, String> {
    let (bytes, metadata) = match slurp(path, MAX_PINS_FILE) {
        Ok(read) => read,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(format!("{} {error}", path.display())),
    };
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        let path = path.display();
        return Err(format!("{path} can be changed by group or others: chmod go-w {path}"));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}

/// What the layers say about trust. Problems and warnings on the way are added to the draft.
pub fn resolve(inputs: &Inputs<'_>, draft: &mut Draft) -> Trust {
    let mut trust = Trust::default();
    let crate::config::Outbound { ca_file, pins_file } = draft.config.outbound.clone();
    if let Some(path) = ca_file
        && let Err(rule) = trust.add_file(&path, false)
    {
        draft.problems.add(draft.source("outbound.ca-file").clone(), "outbound.ca-file", rule);
    }
    for name in VARIABLES {
        if let Some(path) = env::set(inputs, name)
            && let Err(rule) = trust.add_file(Path::new(path.trim()), true)
        {
            draft.warnings.push(format!("environment {name} is not used: {rule}"));
        }
    }
    let user = || user_folder(inputs).map(|folder| folder.join("tetherlet/pins"));
    let everybody = inputs.etc.join("pins");
    let (source, files) = match pins_file {
        Some(path) => (Some(draft.source("outbound.pins-file").clone()), vec![path]),
        None if inputs.root => (None, vec![everybody]),
        None => (None, std::iter::once(everybody).chain(user()).collect()),
    };
    for path in &files {
        let read = match pins_text(path) {
            Ok(None) => continue,
            Ok(Some(text)) => read_pins(&text).map_err(|(line, rule)| {
                (Source::File { path: path.clone(), line, column: 1 }, rule)
            }),
            Err(rule) => {
                let whole = || Source::File { path: path.clone(), line: 0, column: 0 };
                Err((source.clone().unwrap_or_else(whole), rule))
            }
        };
        match read {
            Ok(pins) => {
                // The user's own go over everybody's.
                trust.pins.retain(|old| pins.iter().all(|pin| pin.at != old.at));
                trust.pins.extend(pins);
            }
            Err((source, rule)) => draft.problems.add(source, "outbound.pins-file", rule),
        }
    }
    let is_own = source.is_some() || inputs.root;
    trust.pins_file = if is_own { files.into_iter().next() } else { user() };
    trust
}
