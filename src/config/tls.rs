//! Reads what TLS needs on the listening side: certificate, private key, and the CAs of clients.
//!
//! A file that cannot be used is a problem with its line; one whose time is over or has not come is only a warning,
//! because on many small boxes it is the clock that is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::base::clock::{Now, rfc3339_into};
use crate::base::pem::{PemError, Section, sections};
use crate::base::secret::Digest;
use crate::base::x509::{Certificate, Name};
use crate::config::credentials::{MAX_KEY, rooted};
use crate::config::draft::Draft;
use crate::config::file::{FileError, slurp};
use crate::config::{ClientCert, Inputs, Plain, Tls};

/// Largest file with a chain, and with the CAs of clients, in bytes.
const MAX_CHAIN: usize = 32 * 1024;
const MAX_CLIENT_CA: usize = 256 * 1024;
/// Most certificates in one file.
const MAX_CERTIFICATES: usize = 64;

const DAY_MS: u64 = 86_400_000;
/// An end that is nearer is told.
const SOON_MS: u64 = 14 * DAY_MS;

/// Checked material for TLS.
#[derive(Debug)]
pub struct Material {
    /// The chain, own certificate first, and the key that belongs to it.
    pub certified: Arc<CertifiedKey>,
    /// The own certificate's names.
    pub names: Vec<Name>,
    /// Its dates, in milliseconds since 1970.
    not_before_ms: u64,
    not_after_ms: u64,
    /// Those who vouch for clients.
    pub clients: Option<Arc<RootCertStore>>,
    pub client_cert: ClientCert,
    pub plain: Plain,
    /// The chain's file, for messages.
    path: PathBuf,
}

impl Material {
    /// What the files hold, by their keys. The private key is known by its certificate, to which it belongs.
    pub fn contents(&self) -> impl Iterator<Item = (&'static str, Digest)> {
        let chain: Vec<u8> = self.certified.cert.iter().flat_map(|it| it.to_vec()).collect();
        let clients = self.clients.iter().map(|roots| {
            let keys = roots.roots.iter().flat_map(|it| it.subject_public_key_info.to_vec());
            ("tls.client-ca-file", Digest::of(&keys.collect::<Vec<u8>>()))
        });
        std::iter::once(("tls.cert-file", Digest::of(&chain))).chain(clients)
    }

    /// Whether the same callers are let in, whatever certificate they see.
    pub fn admits_like(&self, other: &Self) -> bool {
        let roots = |it: &Self| it.clients.as_ref().map(|clients| clients.roots.clone());
        (self.plain, self.client_cert) == (other.plain, other.client_cert)
            && roots(self) == roots(other)
    }

    /// Whole days until the certificate ends, zero when it has.
    pub const fn days_left(&self, unix_ms: u64) -> u64 {
        self.not_after_ms.saturating_sub(unix_ms) / DAY_MS
    }

    /// The day on which the certificate ends.
    pub fn end(&self) -> String {
        day(self.not_after_ms)
    }

    /// What an operator must know of the certificate at this time.
    pub fn complaint(&self, unix_ms: u64) -> Option<String> {
        let Self { not_before_ms, not_after_ms, .. } = *self;
        let path = self.path.display();
        let (begin, end, today) = (day(not_before_ms), day(not_after_ms), day(unix_ms));
        if unix_ms < not_before_ms {
            Some(format!(
                "the TLS certificate in {path} is not valid before {begin}, and this machine's clock says {today}: \
                 clients refuse it; compare the clock with `date -u`"
            ))
        } else if unix_ms > not_after_ms {
            Some(format!(
                "the TLS certificate in {path} ended on {end}, and this machine's clock says {today}: clients refuse \
                 it; put a new one there, then reload or restart the agent"
            ))
        } else if not_after_ms - unix_ms < SOON_MS {
            Some(format!(
                "the TLS certificate in {path} ends on {end}, in {} days; put a new one there, then reload or \
                 restart the agent",
                self.days_left(unix_ms)
            ))
        } else {
            None
        }
    }
}

/// `2026-11-20`.
fn day(unix_ms: u64) -> String {
    let mut text = String::new();
    rfc3339_into(&mut text, unix_ms);
    text.truncate(10);
    text
}

/// What the section `tls` names; `None` without certificate, and when something is wrong, which is then a problem.
pub fn load(inputs: &Inputs<'_>, draft: &mut Draft) -> Option<Arc<Material>> {
    let Tls { cert_file, key_file, client_ca_file, client_cert, plain } = draft.config.tls.clone();
    let (path, key_file) = (cert_file?, key_file?);
    let chain = draft.keep("tls.cert-file", chain(&path));
    let key = draft.keep("tls.key-file", private_key(&key_file, inputs));
    let clients = client_ca_file.map(|path| draft.keep("tls.client-ca-file", client_roots(&path)));
    let (chain, (key_line, key)) = (chain?, key?);
    let certified = paired(&chain, &path, &key)
        .map_err(|rule| format!("{}:{key_line}: {rule}", key_file.display()));
    let certified = draft.keep("tls.key-file", certified)?;
    let clients = match clients {
        Some(roots) => Some(roots?),
        None => None,
    };
    let own = Certificate::read(&chain.first()?.der)?;
    let material = Material {
        names: own.alt_names(),
        not_before_ms: own.not_before.saturating_mul(1000),
        not_after_ms: own.not_after.saturating_mul(1000),
        certified: Arc::new(certified),
        clients,
        client_cert,
        plain,
        path,
    };
    draft.warnings.extend(material.complaint(Now::read().unix_ms));
    Some(Arc::new(material))
}

/// One certificate of a file.
struct Link {
    line: usize,
    version: u8,
    der: CertificateDer<'static>,
}

fn chain(path: &Path) -> Result<Vec<Link>, String> {
    let chain = certificates(path, MAX_CHAIN)?;
    match chain.iter().find(|link| link.version < 3) {
        None => Ok(chain),
        Some(Link { line, version, .. }) => Err(format!(
            "{}:{line}: a certificate of X.509 version {version}, which clients refuse; `openssl x509 -req` makes \
             version 3 with -extfile, where subjectAltName belongs",
            path.display()
        )),
    }
}

/// The certificates in a PEM file that holds nothing else.
fn certificates(path: &Path, max: usize) -> Result<Vec<Link>, String> {
    let bytes = read(path, max)?;
    let mut links = Vec::new();
    for Section { label, line, bytes } in pem(path, &bytes)? {
        let at = || format!("{}:{line}", path.display());
        if label.ends_with("PRIVATE KEY") {
            return Err(format!(
                "{}: a private key, where only certificates belong: it goes into a file of its own, tls.key-file",
                at()
            ));
        }
        if !matches!(label, "CERTIFICATE" | "X509 CERTIFICATE") {
            return Err(format!("{}: neither a certificate nor anything else that is known", at()));
        }
        if links.len() == MAX_CERTIFICATES {
            return Err(format!("{}: more than {MAX_CERTIFICATES} certificates", at()));
        }
        let version = Certificate::read(&bytes)
            .ok_or_else(|| format!("{}: this certificate is damaged", at()))?
            .version;
        links.push(Link { line, version, der: bytes.into() });
    }
    Ok(links)
}

fn client_roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for Link { line, der, .. } in certificates(path, MAX_CLIENT_CA)? {
        roots
            .add(der)
            .map_err(|_| format!("{}:{line}: this certificate is damaged", path.display()))?;
    }
    Ok(Arc::new(roots))
}

/// The one private key in a file that nobody else can read, and its line.
fn private_key(
    path: &Path,
    inputs: &Inputs<'_>,
) -> Result<(usize, PrivateKeyDer<'static>), String> {
    let bytes = rooted(path, MAX_KEY, inputs)?;
    let mut found = None;
    for Section { label, line, bytes } in pem(path, &bytes)? {
        let key = match label {
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(bytes.into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(bytes.into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(bytes.into()),
            "EC PARAMETERS" => continue,
            "CERTIFICATE" => {
                let path = path.display();
                return Err(format!(
                    "{path}:{line}: a certificate, where only a private key belongs: it goes into tls.cert-file"
                ));
            }
            _ => return Err(format!("{}:{line}: no private key", path.display())),
        };
        if found.replace((line, key)).is_some() {
            return Err(format!("{}:{line}: a second private key", path.display()));
        }
    }
    found.ok_or_else(|| format!("{} holds no private key", path.display()))
}

/// The chain with the key, if that belongs to the first certificate.
fn paired(chain: &[Link], path: &Path, key: &PrivateKeyDer<'_>) -> Result<CertifiedKey, String> {
    let key = any_supported_type(key).map_err(|_| {
        "the key is damaged or of a kind that TLS has no use for here: ECDSA (P-256, P-384), Ed25519 and RSA \
         (2048 to 8192 bits) work"
            .to_owned()
    })?;
    let owner = key.public_key().map(|key| chain.iter().position(|link| holds(&link.der, &key)));
    let path = path.display();
    match owner {
        Some(Some(0)) => {}
        Some(Some(at)) => {
            let line = chain[at].line;
            return Err(format!(
                "the key belongs to the certificate at {path}:{line}, which must come first in that file"
            ));
        }
        Some(None) | None => {
            return Err(format!("the key does not belong to the certificate in {path}"));
        }
    }
    Ok(CertifiedKey::new(chain.iter().map(|link| link.der.clone()).collect(), key))
}

fn holds(der: &CertificateDer<'_>, key: &SubjectPublicKeyInfoDer<'_>) -> bool {
    ParsedCertificate::try_from(der)
        .is_ok_and(|certificate| certificate.subject_public_key_info() == *key)
}

fn read(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    match slurp(path, max) {
        Ok((bytes, _)) => Ok(bytes),
        Err(FileError::Io(error)) => Err(format!("{} cannot be read: {error}", path.display())),
        Err(error) => Err(format!("{} {error}", path.display())),
    }
}

/// The sections of a file, or where it is wrong.
fn pem<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<Section<'a>>, String> {
    let path = path.display();
    let Ok(text) = str::from_utf8(bytes) else {
        return Err(format!(
            "{path} is not text; if it is DER, `openssl x509 -inform DER -in OLD -out NEW` makes PEM of a certificate \
             and `openssl pkey` of a key"
        ));
    };
    sections(text).map_err(|error| match (error, error.line()) {
        (PemError::Nothing, _) if text.trim().is_empty() => format!("{path} is empty"),
        (_, Some(line)) => format!("{path}:{line}: {error}"),
        (_, None) => format!("{path}: {error}"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::x509::is_host;
    use crate::config::Loaded;
    use crate::config::problems::Problems;
    use crate::config::tests::Fixture;

    /// For `box.local` and `127.0.0.1` among others, from 2026 to 2051.
    pub const CERT: &str = "-----BEGIN CERTIFICATE-----\n\
         MIIBwDCCAWegAwIBAgIUI0SBscju952x3YJh4J78pQQtiXswCgYIKoZIzj0EAwIw\n\
         DDEKMAgGA1UEAwwBeDAgFw0yNjExMjAxNTM2MDBaGA8yMDUxMDcxMjE1MzYwMFow\n\
         DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNU5nwDXOQwU\n\
         I3sQOW9YJjv+K8NnNG208RpqAOC4lAprKpn1i4V5yfIG5MCYrekeEY7eutt3MJjq\n\
         QJoswAhVkgKjgaQwgaEwHQYDVR0OBBYEFGKehI3zxwy28zT+xvljLv08V7qAMB8G\n\
         A1UdIwQYMBaAFGKehI3zxwy28zT+xvljLv08V7qAMA8GA1UdEwEB/wQFMAMBAf8w\n\
         TgYDVR0RBEcwRYIJYm94LmxvY2Fsgg0qLmV4YW1wbGUub3JnhgxzcGlmZmU6Ly9k\n\
         L3eHBH8AAAGHEAAAAAAAAAAAAAAAAAAAAAGBA2FAYjAKBggqhkjOPQQDAgNHADBE\n\
         AiBsrHJmCdUBniq0JG3K/ypUR9k+p4amvFMXCAQjdRO46AIgOZuD1+H3/ppbEX3n\n\
         Gi+NeOyDyxUN0NYkpn317coHX1M=\n\
         -----END CERTIFICATE-----\n";
    /// Its key.
    pub const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
         MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQggamJB5MZx69n6Tdy\n\
         CJhABT63WlXUUWQ0UMuqntifsv6hRANCAATVOZ8A1zkMFCN7EDlvWCY7/ivDZzRt\n\
         tPEaagDguJQKayqZ9YuFecnyBuTAmK3pHhGO3rrbdzCY6kCaLMAIVZIC\n\
         -----END PRIVATE KEY-----\n";
    /// The same in its older form.
    const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----\n\
         MHcCAQEEIIGpiQeTGcevZ+k3cgiYQAU+t1pV1FFkNFDLqp7Yn7L+oAoGCCqGSM49\n\
         AwEHoUQDQgAE1TmfANc5DBQjexA5b1gmO/4rw2c0bbTxGmoA4LiUCmsqmfWLhXnJ\n\
         8gbkwJit6R4Rjt6623cwmOpAmizACFWSAg==\n\
         -----END EC PRIVATE KEY-----\n";
    /// Another pair, `other.local`.
    const OTHER: &str = "-----BEGIN CERTIFICATE-----\n\
         MIIBjzCCATWgAwIBAgIUNVwiz6behJLbDP9YJQPl3uRvU0owCgYIKoZIzj0EAwIw\n\
         EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTIwMTU0NTEyWhgPMjA1MTA3MTIxNTQ1\n\
         MTJaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
         pNt7v1JY2VViJZVXNDthVTqbDS0SXORsaaa5Zax/kZn9grn4aoDcDU0rNgnz6cJV\n\
         Tu56vS3Qb3vDzZX8IlVpcqNrMGkwHQYDVR0OBBYEFF+VBCDKQ4SjAp65E7IOA4UA\n\
         wpKRMB8GA1UdIwQYMBaAFF+VBCDKQ4SjAp65E7IOA4UAwpKRMA8GA1UdEwEB/wQF\n\
         MAMBAf8wFgYDVR0RBA8wDYILb3RoZXIubG9jYWwwCgYIKoZIzj0EAwIDSAAwRQIh\n\
         AM/Y3XmhQVCHSW9vDGuXYbPygRzlnQ/52QhDNUXhGSRVAiBM0wUIQge0XmHwJ8uF\n\
         Izb7KoPEWdwaZxmXa3EmbhKFYQ==\n\
         -----END CERTIFICATE-----\n";
    /// As `openssl x509 -req` makes them without extensions.
    const V1: &str = "-----BEGIN CERTIFICATE-----\n\
         MIIBFzCBvQIUCzuFWn4QUYtv/ni3osz1HydvjrwwCgYIKoZIzj0EAwIwDTELMAkG\n\
         A1UEAwwCdjEwIBcNMjYxMTIwMTU0NTEyWhgPMjA1MTA3MTIxNTQ1MTJaMA0xCzAJ\n\
         BgNVBAMMAnYxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErJsISK+kJEzZ51ln\n\
         gzZGS6hhBAMjbfzPvsx4nSSjgys8GJhd+C5+IRc0rfSbSFRxH2iiT3Ml9P1yIL2c\n\
         9RIWZDAKBggqhkjOPQQDAgNJADBGAiEArF5C3OSY7VMXbBWMQvw3asVrRoiU/eHL\n\
         Dp4pq5xzESMCIQD7MTeqMtQ2FPI+wwJ1f+Qj6kP0XZOua562lmmdsi26pA==\n\
         -----END CERTIFICATE-----\n";
    /// Its key.
    const V1_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
         MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg23zrmc+1BhSodHmz\n\
         zct6lCc7zIL1pBaEGFC4ogQ5ieGhRANCAASsmwhIr6QkTNnnWWeDNkZLqGEEAyNt\n\
         /M++zHidJKODKzwYmF34Ln4hFzSt9JtIVHEfaKJPcyX0/XIgvZz1EhZk\n\
         -----END PRIVATE KEY-----\n";

    const UNKNOWN: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

    /// What comes of these files.
    fn loaded(cert: &str, key: &str, ca: Option<&str>) -> Result<Loaded, Problems> {
        let fixture = Fixture::new();
        let cert = fixture.write("tls.crt", cert, 0o644);
        let key = fixture.write("tls.key", key, 0o600);
        let ca = ca.map(|ca| fixture.write("ca.crt", ca, 0o644));
        let line = |key: &str, path: &Path| format!("tls.{key}-file = \"{}\"\n", path.display());
        let ca = ca.map_or_else(String::new, |ca| line("client-ca", &ca));
        let text = line("cert", &cert) + &line("key", &key) + &ca;
        fixture.write("tetherlet.toml", &text, 0o644);
        fixture.load()
    }

    /// The problems without the names of folders.
    fn told(cert: &str, key: &str, ca: Option<&str>) -> Vec<String> {
        let problems = loaded(cert, key, ca).map(|loaded| loaded.warnings).unwrap_err();
        let short = |text: &str| -> String {
            text.split(' ')
                .map(|word| word.rsplit('/').next().unwrap_or(word))
                .collect::<Vec<_>>()
                .join(" ")
        };
        problems.to_string().lines().map(short).collect()
    }

    #[test]
    fn a_certificate_and_its_key_are_read_in_every_form() {
        let chain = format!("of the box\n{CERT}{OTHER}");
        for key in [
            KEY,
            SEC1,
            &format!(
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{SEC1}"
            ),
        ] {
            let loaded = loaded(&chain, key, Some(OTHER)).unwrap();
            let tls = loaded.tls.unwrap();
            assert_eq!(tls.certified.cert.len(), 2);
            assert_eq!(tls.end(), "2051-07-12");
            assert!(is_host(&tls.names, "box.local"));
            assert_eq!(tls.clients.as_ref().unwrap().len(), 1);
            assert_eq!((tls.client_cert, tls.plain), (ClientCert::Optional, Plain::Local));
        }
    }

    #[test]
    fn a_wrong_file_is_told_with_its_line_and_its_reason() {
        let cut = &CERT[..CERT.len() / 2];
        let damaged = CERT.replacen("\nL3eH", "\nL*eH", 1);
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let locked = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert_ne!(damaged, CERT);
        for (cert, key, rule) in [
            ("", KEY, "1:5: tls.cert-file: tls.crt is empty"),
            ("hello", KEY, "1:5: tls.cert-file: tls.crt: no line begins with -----BEGIN"),
            (cut, KEY, "1:5: tls.cert-file: tls.crt:1: what begins here has no -----END line"),
            (&damaged, KEY, "1:5: tls.cert-file: tls.crt:9: this line is not base64"),
            (empty, KEY, "1:5: tls.cert-file: tls.crt:1: this certificate is damaged"),
            (
                &format!("{CERT}{KEY}"),
                KEY,
                "1:5: tls.cert-file: tls.crt:13: a private key, where only certificates",
            ),
            (
                V1,
                V1_KEY,
                "1:5: tls.cert-file: tls.crt:1: a certificate of X.509 version 1, which clients refuse",
            ),
            (&CERT.repeat(65), KEY, "1:5: tls.cert-file: tls.crt is larger than 32768 bytes"),
            (CERT, "", "2:5: tls.key-file: tls.key is empty"),
            (CERT, &locked, "2:5: tls.key-file: tls.key:1: this key is locked with a pass phrase"),
            (
                CERT,
                CERT,
                "2:5: tls.key-file: tls.key:1: a certificate, where only a private key belongs",
            ),
            (CERT, &KEY.repeat(2), "2:5: tls.key-file: tls.key:6: a second private key"),
            (CERT, UNKNOWN, "2:5: tls.key-file: tls.key:1: the key is damaged or of a kind"),
            (
                CERT,
                V1_KEY,
                "2:5: tls.key-file: tls.key:1: the key does not belong to the certificate in tls.crt",
            ),
            (
                &format!("{OTHER}{CERT}"),
                KEY,
                "2:5: tls.key-file: tls.key:1: the key belongs to the certificate at tls.crt:12, which must come first",
            ),
        ] {
            let told = told(cert, key, None);
            assert!(told.len() == 1 && told[0].contains(rule), "{rule}: {told:?}");
        }
        for (ca, rule) in [
            (
                KEY,
                "3:5: tls.client-ca-file: ca.crt:1: a private key, where only certificates belong",
            ),
            (empty, "3:5: tls.client-ca-file: ca.crt:1: this certificate is damaged"),
        ] {
            let told = told(CERT, KEY, Some(ca));
            assert!(told.len() == 1 && told[0].contains(rule), "{rule}: {told:?}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let fixture = Fixture::new();
        let cert = fixture.write("tls.crt", CERT, 0o644);
        let key = fixture.write("tls.key", KEY, 0o644);
        let fixture = fixture
            .env("TETHERLET_TLS_CERT_FILE", cert.to_str().unwrap())
            .env("TETHERLET_TLS_KEY_FILE", key.to_str().unwrap());
        let told = fixture.load().unwrap_err().to_string();
        assert!(
            told.contains("is open to group or others: chmod 600 ") && !told.contains('\n'),
            "{told}"
        );
    }

    #[test]
    fn half_a_setting_is_a_problem() {
        for (name, value, rule) in [
            ("CERT_FILE", "/x", "tls.cert-file needs tls.key-file"),
            ("KEY_FILE", "/x", "tls.key-file needs tls.cert-file"),
            ("CLIENT_CA_FILE", "/x", "tls.client-ca-file needs tls.cert-file"),
            ("CLIENT_CERT", "required", "needs tls.client-ca-file"),
            ("PLAIN", "none", "needs tls.cert-file"),
        ] {
            let fixture = Fixture::new().env(&format!("TETHERLET_TLS_{name}"), value);
            let told = fixture.load().map(|loaded| loaded.warnings).unwrap_err().to_string();
            assert!(told.contains(rule) && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn the_time_of_a_certificate_is_told_when_it_matters() {
        let tls = loaded(CERT, KEY, None).unwrap().tls.unwrap();
        let at = |text: &str| crate::base::clock::unix_ms_of(text).unwrap();
        let complaint = |text: &str| tls.complaint(at(text));
        assert_eq!(complaint("2030-01-01T00:00:00Z"), None);
        assert_eq!(complaint("2051-06-28T15:36:00Z"), None);
        assert!(
            complaint("2051-06-29T15:36:00Z").unwrap().contains("ends on 2051-07-12, in 13 days")
        );
        assert!(complaint("2051-07-12T15:36:01Z").unwrap().contains("ended on 2051-07-12"));
        let early = complaint("1970-01-01T00:00:07Z").unwrap();
        assert!(
            early.contains("not valid before 2026-11-20, and this machine's clock says 1970-01-01"),
            "{early}"
        );
        assert_eq!(tls.days_left(at("2051-07-10T15:36:00Z")), 2);
        assert_eq!(tls.days_left(at("2060-01-01T00:00:00Z")), 0);
    }
}
