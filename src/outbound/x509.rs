//! Reads what an operator wants to know of a certificate (RFC 5280 §4.1): names, dates, key. Judges nothing; that is
//! done by `rustls` alone.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::base::clock::unix_ms_of;

/// Longest text of a name, in characters.
const NAME: usize = 200;
/// Names of one certificate that are shown.
const NAMES: usize = 16;

/// Parts of names that are shown: the last byte of 2.5.4.x, and how it is written (RFC 4514 §3).
const PARTS: [(u8, &str); 6] = [(3, "CN"), (10, "O"), (11, "OU"), (7, "L"), (8, "ST"), (6, "C")];
/// 2.5.29.17, the names that the certificate is for.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// 1.3.6.1.5.5.7.48.2, where the issuer's certificate can be fetched, as an element.
const CA_ISSUERS: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];

/// The parts of a certificate, as they stand in it.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
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
        let version_1 = fields.0.first() != Some(&0xa0);
        if !version_1 {
            fields.next()?;
        }
        // Serial number and algorithm.
        fields.one(0x02)?;
        fields.one(0x30)?;
        let issuer = fields.one(0x30)?.whole;
        let mut dates = Der(fields.one(0x30)?.inside);
        let (not_before, not_after) = (date(dates.next()?), date(dates.next()?));
        let subject = fields.one(0x30)?.whole;
        let key = fields.one(0x30)?.whole;
        let extensions = fields.find(|it| it.tag == 0xa3).map_or(&[][..], |it| it.inside);
        Some(Self { issuer, subject, not_before, not_after, key, extensions })
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
        let list = Der(self.extensions).one(0x30).map_or(Der(&[]), |it| Der(it.inside));
        let names = list.into_iter().find_map(|extension| {
            let mut fields = Der(extension.inside);
            if fields.one(0x06)?.inside != SUBJECT_ALT_NAME {
                return None;
            }
            let value = fields.find(|it| it.tag == 0x04)?;
            Der(value.inside).one(0x30).map(|it| Der(it.inside))
        });
        let name = |it: Element<'_>| match it.tag {
            0x82 => Some(shown(it.inside)),
            0x87 => match it.inside.len() {
                4 => <[u8; 4]>::try_from(it.inside).ok().map(|ip| IpAddr::from(ip).to_string()),
                _ => <[u8; 16]>::try_from(it.inside).ok().map(|ip| IpAddr::from(ip).to_string()),
            },
            _ => None,
        };
        names.into_iter().flatten().filter_map(name).take(NAMES).collect()
    }
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

    #[test]
    fn no_bytes_make_it_panic() {
        let der = base64::decode(SAMPLE).unwrap();
        let look = |der: &[u8]| {
            if let Some(it) = Certificate::read(der) {
                let _ = (it.subject(), it.issuer(), it.names(), it.names_issuers_place());
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
