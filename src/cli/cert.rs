//! `cert self-signed`: a key and a certificate for this machine or for one client, made on the spot, and what either
//! side does with them.
//!
//! Valid from 1970 on, because a small box may wake up there, and never for less than it says when the clock is
//! behind. It is no authority: whoever trusts it trusts this one key.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
    date_time_ymd,
};
use ring::digest::{SHA256, digest};
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::base::base64::encode;
use crate::base::clock::{Now, rfc3339_into};
use crate::base::ids::random;
use crate::cli::fresh::{Fresh, PUBLIC, SECRET};
use crate::cli::{Failure, quoted, say, subcommand, toml_text};
use crate::config::draft::Family;
use crate::config::url::is_host;
use crate::outbound::device;

/// Days that a certificate is valid when nobody says otherwise: ten years.
const DAYS: u64 = 3652;
/// Most days.
const MAX_DAYS: u64 = 36_525;
/// No clock that is right shows an earlier time: 2026-01-01.
const EARLIEST_MS: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 86_400_000;
/// Most names and addresses in one certificate.
const MAX_NAMES: usize = 64;
/// Longest common name (RFC 5280, ub-common-name).
const COMMON_NAME: usize = 64;

/// `tetherlet cert`
pub fn cert(arguments: &[OsString]) -> Result<(), Failure> {
    let wanted = Wanted::read(subcommand("cert", "self-signed", arguments)?)?;
    let made = wanted.make(Now::read().unix_ms)?;
    // Both are written before either is in its place: a pair that does not fit helps nobody.
    let key = Fresh::write(&wanted.place("key.pem"), made.key.as_bytes(), SECRET, wanted.force)?;
    let cert =
        Fresh::write(&wanted.place("cert.pem"), made.certificate.as_bytes(), PUBLIC, wanted.force)?;
    key.place()?;
    cert.place()?;
    say(wanted.advice(&made))
}

/// What the command line asks for.
struct Wanted {
    /// Names and addresses for a machine, the one name for a client.
    names: Vec<String>,
    is_client: bool,
    folder: PathBuf,
    days: u64,
    force: bool,
}

/// A key and its certificate, as texts.
struct Made {
    key: Zeroizing<String>,
    certificate: String,
    /// When it ends.
    until_ms: u64,
    /// SHA-256 of the certificate, as openssl prints it.
    fingerprint: String,
    /// SHA-256 of the public key, as pins have it (RFC 7469).
    pin: String,
}

impl Wanted {
    fn read(arguments: &[OsString]) -> Result<Self, Failure> {
        let (mut names, mut more, mut client) = (Vec::new(), Vec::new(), None);
        let (mut folder, mut days, mut force) = (PathBuf::from("."), DAYS, false);
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("out") => folder = parser.value()?.into(),
                Long("days") => days = parser.value()?.parse()?,
                Long("ip") => more.push(address(&parser.value()?)?),
                Long("client") => client = Some(parser.value()?.string()?),
                Long("force") => force = true,
                Value(word) => names.push(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Failure::Usage(format!("--days: must be 1 to {MAX_DAYS}")));
        }
        let is_client = client.is_some();
        match client {
            Some(_) if !(names.is_empty() && more.is_empty()) => {
                let rule = "a client has one name and no address";
                return Err(Failure::Usage(format!("--client: {rule}")));
            }
            Some(name) => names.push(name),
            None if names.is_empty() => names = own_names(),
            None => {}
        }
        for name in more {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if let Some(wrong) = names.iter().find(|name| !fits(name, is_client)) {
            let rule = "is neither a host name nor an address";
            return Err(Failure::Usage(format!("{} {rule}", quoted(wrong))));
        }
        if names.len() > MAX_NAMES {
            return Err(Failure::Usage(format!("at most {MAX_NAMES} names and addresses")));
        }
        let folder = std::path::absolute(folder)?;
        Ok(Self { names, is_client, folder, days, force })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(if self.is_client { format!("client-{name}") } else { name.to_owned() })
    }

    fn make(&self, now_ms: u64) -> Result<Made, Failure> {
        let until_ms = now_ms.max(EARLIEST_MS) + self.days * DAY_MS;
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = params.not_before + Duration::from_millis(until_ms);
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = if self.is_client {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        } else {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        };
        params.distinguished_name = DistinguishedName::new();
        let common = self.names.iter().find(|name| name.len() <= COMMON_NAME);
        let common = common.map_or("tetherlet", String::as_str);
        params.distinguished_name.push(DnType::CommonName, common);
        for name in &self.names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if is_uri(name) => SanType::URI(name.as_str().try_into()?),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let (key, pkcs8) = Key::generate()?;
        let id = digest(&SHA256, key.der_bytes()).as_ref()[..20].to_vec();
        params.key_identifier_method = KeyIdMethod::PreSpecified(id);
        let mut serial = [0; 16];
        random(&mut serial);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.self_signed(&key)?;
        let hash = digest(&SHA256, certificate.der());
        let mut fingerprint = String::with_capacity(96);
        for byte in hash.as_ref() {
            let colon = if fingerprint.is_empty() { "" } else { ":" };
            let _ = write!(fingerprint, "{colon}{byte:02X}");
        }
        Ok(Made {
            key: Zeroizing::new(pem("PRIVATE KEY", &pkcs8)),
            certificate: pem("CERTIFICATE", certificate.der()),
            until_ms,
            fingerprint,
            pin: encode(digest(&SHA256, &key.subject_public_key_info()).as_ref()),
        })
    }

    fn advice(&self, made: &Made) -> String {
        let (key, cert) = (self.place("key.pem"), self.place("cert.pem"));
        let mut until = String::new();
        rfc3339_into(&mut until, made.until_ms);
        let until = until.get(..10).unwrap_or_default();
        let mut text = format!(
            "wrote {}: stays here, readable by its owner alone\n\
             (chown it if the agent runs as another user)\n\
             wrote {}: for {}, until {until}\n\
             SHA-256 fingerprint {}\n\
             public key sha256/{}\n\n",
            key.display(),
            cert.display(),
            self.names.join(", "),
            made.fingerprint,
            made.pin,
        );
        if self.is_client {
            self.client_advice(&mut text);
        } else {
            self.server_advice(made, &mut text);
        }
        text
    }

    fn server_advice(&self, made: &Made, text: &mut String) {
        let (key, cert) = (self.place("key.pem"), self.place("cert.pem"));
        let host = self.names.iter().find(|name| name.strip_suffix(".local").is_some());
        let host = host.or(self.names.first()).map_or("localhost", String::as_str);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let _ = write!(
            text,
            "On the agent's side, in its configuration (then restart it or send it SIGHUP):\n\
            \x20   [tls]\n\
            \x20   cert-file = {}\n\
            \x20   key-file = {}\n\
            On the callers' side, once:\n\
            \x20   tetherlet trust --fingerprint sha256/{} https://{host}:4097\n\
            or with a copy of cert.pem:\n\
            \x20   tetherlet send --ca cert.pem https://{host}:4097 'Calculate 25 * 4'\n\
            \x20   curl --cacert cert.pem https://{host}:4097/health",
            toml_text(&cert.to_string_lossy()),
            toml_text(&key.to_string_lossy()),
            made.pin,
        );
    }

    fn client_advice(&self, text: &mut String) {
        let name = self.names.first().map_or("", String::as_str);
        let section = if Family::Callers.check_name(name).is_ok() { name } else { "client" };
        let (key, cert) = (self.place("key.pem"), self.place("cert.pem"));
        let shown = |path: &Path| quoted(&path.to_string_lossy());
        let _ = write!(
            text,
            "On the agent's side, with a copy of client-cert.pem (one file may hold several):\n\
            \x20   [tls]\n\
            \x20   client-ca-file = \"/etc/tetherlet/client-cert.pem\"\n\
            \x20   [callers.{section}]\n\
            \x20   certificate = {}\n\
            On the caller's side:\n\
            \x20   tetherlet send --cert {} --key {} https://HOST:4097 'Calculate 25 * 4'",
            toml_text(name),
            shown(&cert),
            shown(&key),
        );
    }
}

/// What this machine is called, and its addresses.
fn own_names() -> Vec<String> {
    let host = device::hostname().to_ascii_lowercase();
    let mut names = Vec::new();
    let label = host.split('.').next().unwrap_or_default();
    for name in [host.clone(), format!("{label}.local"), "localhost".to_owned()] {
        if is_host(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    for local in device::addresses() {
        // Nobody can call a link-local IPv6 address by a URL.
        let is_link_local = matches!(local.addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let address = local.addr.to_string();
        if !is_link_local && !names.contains(&address) {
            names.push(address);
        }
    }
    names
}

/// An address in the one spelling that is compared.
fn address(text: &OsStr) -> Result<String, Failure> {
    let address = text.to_string_lossy().parse::<IpAddr>().map_err(|_| {
        let text = quoted(&text.to_string_lossy());
        Failure::Usage(format!("--ip: {text} is no address; 192.0.2.7 and 2001:db8::7 are"))
    })?;
    Ok(address.to_string())
}

/// Whether a certificate may carry this name.
fn fits(name: &str, is_client: bool) -> bool {
    let is_plain = name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_host(name.strip_prefix("*.").unwrap_or(name)) || is_client && is_plain && is_uri(name)
}

fn is_uri(name: &str) -> bool {
    name.contains("://")
}

/// Bytes as a text between two lines that say what they are (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(encode(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    // Room for all of it at once: a text that moves leaves a copy of itself behind.
    text.reserve_exact(body.len() + body.len() / 64 + label.len() + 20);
    for line in body.as_bytes().chunks(64) {
        text.push_str(str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

/// The new key, for the one signature.
struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Key {
    /// A new key, and its PKCS#8 form.
    fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), rcgen::Error> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(refused)?;
        let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &random)
            .map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok((Self { pair, random }, pkcs8))
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&self.random, message).map_err(refused)?;
        Ok(signature.as_ref().to_vec())
    }
}

fn refused(_: Unspecified) -> rcgen::Error {
    rcgen::Error::RingUnspecified
}

impl From<rcgen::Error> for Failure {
    fn from(error: rcgen::Error) -> Self {
        Self::Failed(format!("cannot make a certificate: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_shortens_no_certificate() {
        let wanted = Wanted::read(&["box".into(), "--days".into(), "30".into()]).unwrap();
        let until = |now_ms| wanted.make(now_ms).unwrap().until_ms;
        assert_eq!(until(0), EARLIEST_MS + 30 * DAY_MS);
        assert_eq!(until(EARLIEST_MS + 7), EARLIEST_MS + 7 + 30 * DAY_MS);
    }

    #[test]
    fn every_length_of_a_name_has_a_certificate() {
        for length in [1, 63, 64, 65, 253] {
            let name =
                vec!["a".repeat(15); 17].join(".")[..length].trim_end_matches('.').to_owned();
            let wanted = Wanted::read(&[name.into()]).unwrap();
            assert!(
                wanted.make(0).unwrap().certificate.starts_with("-----BEGIN CERTIFICATE-----\n")
            );
        }
    }
}
