//! Reads of a certificate what `rustls` does not tell (RFC 5280 §4.1): names, dates, key. Judges nothing; that is done
//! by `rustls` alone.

use std::fmt::Write as _;
use std::net::IpAddr;

use ring::digest::{SHA256, digest};

use crate::base::clock::unix_ms_of;

/// Longest text of a name, in characters.
const NAME: usize = 200;
/// Names of one certificate that are shown.
const NAMES: usize = 16;
/// Names of one certificate that are compared, and the longest, in bytes; others are left out.
const ALT_NAMES: usize = 64;
const ALT_NAME: usize = 2048;

/// Parts of names that are shown: the last byte of 2.5.4.x, and how it is written (RFC 4514 §3).
const PARTS: [(u8, &str); 6] = [(3, "CN"), (10, "O"), (11, "OU"), (7, "L"), (8, "ST"), (6, "C")];
/// 2.5.29.17, the names that the certificate is for.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// 1.3.6.1.5.5.7.48.2, where the issuer's certificate can be fetched, as an element.
const CA_ISSUERS: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];

/// The parts of a certificate, as they stand in it.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// Of X.509: 3, unless it is an old one.
    pub version: u8,
    issuer: &'a [u8],
    subject: &'a [u8],
    /// Seconds since 1970; 0 for what is no date, or before that.
    pub not_before: u64,
    pub not_after: u64,
    /// `SubjectPublicKeyInfo`, as pins digest it.
    pub key: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER. `None` when it is none.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut fields = Der(Der(der).one(0x30)?.inside).one(0x30).map(|it| Der(it.inside))?;
        // Left out in the first version, and counted from zero.
        let version = if fields.0.first() == Some(&0xa0) {
            Der(fields.next()?.inside).one(0x02)?.inside.last()?.saturating_add(1)
        } else {
            1
        };
        // Serial number and algorithm.
        fields.one(0x02)?;
        fields.one(0x30)?;
        let issuer = fields.one(0x30)?.whole;
        let mut dates = Der(fields.one(0x30)?.inside);
        let (not_before, not_after) = (date(dates.next()?), date(dates.next()?));
        let subject = fields.one(0x30)?.whole;
        let key = fields.one(0x30)?.whole;
        let extensions = fields.find(|it| it.tag == 0xa3).map_or(&[][..], |it| it.inside);
        Some(Self { version, issuer, subject, not_before, not_after, key, extensions })
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether it says where its issuer's certificate is.
    pub fn names_issuers_place(&self) -> bool {
        self.extensions.windows(CA_ISSUERS.len()).any(|it| it == CA_ISSUERS)
    }

    /// As `CN=pi.local, O=Workshop`; other parts are left out.
    pub fn subject(&self) -> String {
        distinguished(self.subject)
    }

    pub fn issuer(&self) -> String {
        distinguished(self.issuer)
    }

    /// The host names and addresses it is for.
    pub fn names(&self) -> Vec<String> {
        let name = |it: Element<'_>| match it.tag {
            0x82 => Some(shown(it.inside)),
            0x87 => address(it.inside).map(|ip| ip.to_string()),
            _ => None,
        };
        self.alternatives().filter_map(name).take(NAMES).collect()
    }

    /// What it is known by, as far as it is well-formed: no kind of name can look like another.
    pub fn alt_names(&self) -> Vec<Name> {
        let name = |it: Element<'_>| match it.tag {
            0x82 => written(it.inside, b"-_.*").map(|name| Name::Dns(name.to_ascii_lowercase())),
            0x86 => written(it.inside, b"-_.~:/?#[]@!$&'()*+,;=%")
                .filter(|uri| uri.contains(':'))
                .map(Name::Uri),
            0x87 => address(it.inside).map(Name::Ip),
            _ => None,
        };
        self.alternatives().filter_map(name).take(ALT_NAMES).collect()
    }

    /// The elements of `subjectAltName`.
    fn alternatives(&self) -> impl Iterator<Item = Element<'a>> {
        let list = Der(self.extensions).one(0x30).map_or(Der(&[]), |it| Der(it.inside));
        let names = list.into_iter().find_map(|extension| {
            let mut fields = Der(extension.inside);
            if fields.one(0x06)?.inside != SUBJECT_ALT_NAME {
                return None;
            }
            let value = fields.find(|it| it.tag == 0x04)?;
            Der(value.inside).one(0x30).map(|it| Der(it.inside))
        });
        names.into_iter().flatten()
    }
}

/// A name of the extension `subjectAltName` (RFC 5280 §4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host in lower case, perhaps with `*` as its first label. Never holds `:`.
    Dns(String),
    /// For example `spiffe://domain/workload`. Always holds `:`.
    Uri(String),
    Ip(IpAddr),
}

/// Whether `host`, a name or an address without brackets, is one of the names (RFC 9525 §6.3).
pub fn is_host(names: &[Name], host: &str) -> bool {
    let ip: Option<IpAddr> = host.parse().ok();
    names.iter().any(|name| match name {
        Name::Ip(known) => ip == Some(*known),
        Name::Uri(_) => false,
        Name::Dns(pattern) => match pattern.strip_prefix("*.") {
            Some(domain) => host
                .split_once('.')
                .is_some_and(|(_, rest)| ip.is_none() && rest.eq_ignore_ascii_case(domain)),
            None => pattern.eq_ignore_ascii_case(host),
        },
    })
}

/// SHA-256 over a certificate in DER, in lower-case hex: `openssl x509 -fingerprint -sha256` without its colons.
pub fn fingerprint(der: &[u8]) -> String {
    digest(&SHA256, der).as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A name of letters, digits and `others`.
fn written(bytes: &[u8], others: &[u8]) -> Option<String> {
    let fits = (1..=ALT_NAME).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || others.contains(byte));
    fits.then(|| bytes.iter().copied().map(char::from).collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn distinguished(name: &[u8]) -> String {
    let sets = Der(name).one(0x30).map_or(Der(&[]), |it| Der(it.inside));
    let mut out = String::new();
    for set in sets.take(NAMES) {
        let mut fields = Der(Der(set.inside).next().map_or(&[][..], |it| it.inside));
        let (Some(id), Some(value)) = (fields.one(0x06), fields.next()) else { continue };
        let [0x55, 0x04, part] = id.inside else { continue };
        if let Some((_, label)) = PARTS.iter().find(|(number, _)| number == part) {
            let separator = if out.is_empty() { "" } else { ", " };
            let _ = write!(out, "{separator}{label}={}", shown(value.inside));
        }
    }
    if out.is_empty() { "(no name)".to_owned() } else { out }
}

/// A stranger's text, fit for a terminal.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `UTCTime` or `GeneralizedTime` as RFC 5280 §4.1.2.5 allows them.
fn date(element: Element<'_>) -> u64 {
    let Ok(text) = str::from_utf8(element.inside) else { return 0 };
    let century = match (element.tag, text.as_bytes().first()) {
        (0x17, Some(b'5'..=b'9')) => "19",
        (0x17, _) => "20",
        _ => "",
    };
    let digits = format!("{century}{text}");
    let Some((day, time)) = digits.split_at_checked(8) else { return 0 };
    // `unix_ms_of` refuses what is none.
    let part = |text: &str, at: usize| text.get(at..at + 2).unwrap_or_default().to_owned();
    let year = day.get(..4).unwrap_or_default();
    let [month, day] = [4, 6].map(|at| part(day, at));
    let [hour, minute, second] = [0, 2, 4].map(|at| part(time, at));
    unix_ms_of(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).unwrap_or(0) / 1000
}

/// One element: tag, contents, and both with the length between them.
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    inside: &'a [u8],
    whole: &'a [u8],
}

/// Elements behind each other; ends where something is none.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next one, when it has this tag.
    fn one(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|it| it.tag == tag)
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, &first) = (self.0.first()?, self.0.get(1)?);
        let (start, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            // Longer ones are in no handshake.
            0x81..=0x83 => {
                let start = 2 + usize::from(first & 0x7f);
                let bytes = self.0.get(2..start)?;
                (start, bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
            }
            _ => return None,
        };
        let (whole, rest) = self.0.split_at_checked(start + length)?;
        self.0 = rest;
        Some(Element { tag, inside: &whole[start..], whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::base64;

    /// Made with openssl: P-256, CN=pi.local, O=Workshop, 2026-01-02 to 2056-01-02, for pi.local, *.lan, 192.0.2.7
    /// and `fd00::7`, issued by itself, with a place of its issuer.
    const SAMPLE: &str = "MIIB2jCCAX+gAwIBAgIUQ426hzmP8mNU2IwXrWif2mm+Ff4wCgYIKoZIzj0EAwIwJjERMA8GA1UEAwwIcGkubG9jYWwxETAPBgNV\
        BAoMCFdvcmtzaG9wMCAXDTI2MDEwMjAwMDAwMFoYDzIwNTYwMTAyMDAwMDAwWjAmMREwDwYDVQQDDAhwaS5sb2NhbDERMA8GA1UE\
        CgwIV29ya3Nob3AwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQpyc1Pt5YnwfKZFRL5nONU3nQABvpuVbgQdVCPtKU+nfZ+B3w1\
        oyH7qS0oVpx0bYCkN5yoH0Fk83KsPc3Ac1CFo4GIMIGFMDIGA1UdEQQrMCmCCHBpLmxvY2FsggUqLmxhbocEwAACB4cQ/QAAAAAA\
        AAAAAAAAAAAABzAwBggrBgEFBQcBAQQkMCIwIAYIKwYBBQUHMAKGFGh0dHA6Ly9jYS5sYW4vY2EuY3J0MB0GA1UdDgQWBBS0IyCY\
        mNYQ5sMmf+l4QfL4W+OtaDAKBggqhkjOPQQDAgNJADBGAiEAqfFOkdEflyZrIefT22m3kBl7d6gSf5oON8/H4ZmPjaUCIQCEocMA\
        qrvIb2berrVC8zLZdZS/wldaeJV6yWYllOT8LA==";

    #[test]
    fn names_dates_and_key_are_read() {
        let der = base64::decode(SAMPLE).unwrap();
        let it = Certificate::read(&der).unwrap();
        assert_eq!(it.subject(), "CN=pi.local, O=Workshop");
        assert_eq!(it.issuer(), it.subject());
        assert!(it.is_self_issued() && it.names_issuers_place());
        assert_eq!(it.names(), ["pi.local", "*.lan", "192.0.2.7", "fd00::7"]);
        // 2050 and later are written in the other form.
        assert_eq!((it.not_before, it.not_after), (1_767_312_000, 2_713_996_800));
        assert_eq!(it.key.len(), 91);
    }

    fn alternatives(names: &[u8]) -> Vec<Name> {
        let mut extensions = vec![0x30, 0x82, 0, 0, 0x30, 0x82, 0, 0, 0x06, 0x03];
        extensions.extend(SUBJECT_ALT_NAME);
        let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        extensions.extend([&[0x04, 0x82][..], &length(names.len() + 4), &[0x30, 0x82]].concat());
        extensions.extend([&length(names.len())[..], names].concat());
        for at in [2, 6] {
            let rest = length(extensions.len() - at - 2);
            extensions[at..at + 2].copy_from_slice(&rest);
        }
        let der = base64::decode(SAMPLE).unwrap();
        Certificate { extensions: &extensions, ..Certificate::read(&der).unwrap() }.alt_names()
    }

    #[test]
    fn names_to_compare_are_of_one_kind_each() {
        let der = base64::decode(SAMPLE).unwrap();
        let it = Certificate::read(&der).unwrap();
        assert_eq!(it.version, 3);
        let dns = |name: &str| Name::Dns(name.to_owned());
        let names = it.alt_names();
        assert_eq!(names[..2], [dns("pi.local"), dns("*.lan")]);
        assert_eq!(names[2..], ["192.0.2.7", "fd00::7"].map(|ip| Name::Ip(ip.parse().unwrap())));
        assert_eq!(
            alternatives(b"\x82\x03BOX\x86\x0cspiffe://d/w\x81\x03a@b"),
            [dns("box"), Name::Uri("spiffe://d/w".to_owned())]
        );
        // A host that looks like a URI, a URI without scheme, nothing at all, an address of three bytes.
        assert_eq!(
            alternatives(b"\x82\x0cspiffe://d/w\x86\x03box\x82\x00\x87\x03\x01\x02\x03"),
            []
        );
        let mut long = b"\x82\x82\x08\x01".to_vec();
        long.extend([b'a'; ALT_NAME + 1]);
        long.extend(b"\x82\x01b".repeat(1000));
        assert_eq!(alternatives(&long), vec![dns("b"); ALT_NAMES]);
    }

    #[test]
    fn hosts_are_compared_as_clients_do() {
        let der = base64::decode(SAMPLE).unwrap();
        let names = Certificate::read(&der).unwrap().alt_names();
        for host in ["pi.local", "PI.local", "a.lan", "192.0.2.7", "fd00::7", "fd00:0::7"] {
            assert!(is_host(&names, host), "{host}");
        }
        for host in ["lan", "a.b.lan", "x.pi.local", "192.0.2.8", "", "*.lan."] {
            assert!(!is_host(&names, host), "{host}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_one_that_openssl_prints() {
        let der = base64::decode(SAMPLE).unwrap();
        assert_eq!(
            fingerprint(&der),
            "c1dd70babca2564b3a5d5d67bcf5e14d9a124aa347d14bcca0a3a8c3f35e944a"
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let der = base64::decode(SAMPLE).unwrap();
        let look = |der: &[u8]| {
            if let Some(it) = Certificate::read(der) {
                let _ = (it.subject(), it.issuer(), it.names(), it.names_issuers_place());
                let _ = it.alt_names();
            }
        };
        for at in 0..der.len() {
            look(&der[..at]);
            for byte in [0, 0x30, 0x7f, 0x80, 0x83, 0xff] {
                let mut broken = der.clone();
                broken[at] = byte;
                look(&broken);
            }
        }
    }
}
