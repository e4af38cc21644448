//! PEM texts (RFC 7468): what stands between their BEGIN and END lines, and in which line a mistake is.
//!
//! What a section's bytes mean is the caller's business. No error repeats a line: it could be of a private key.

use std::fmt;

use crate::base::base64::decode;

/// One section of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// `CERTIFICATE`, `PRIVATE KEY` and so on.
    pub label: &'a str,
    /// The line of its BEGIN, counted from 1.
    pub line: usize,
    pub bytes: Vec<u8>,
}

/// Why a text is no PEM, and in which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemError {
    /// No section in it.
    Nothing,
    /// The section that begins there has no END line of the same label.
    Unfinished(usize),
    /// A line that is not base64.
    Letters(usize),
    /// The base64 of the section that begins there has a length that nothing has.
    Length(usize),
    /// The section that begins there is locked with a pass phrase.
    Encrypted(usize),
}

impl PemError {
    /// The line, if one is to blame.
    pub const fn line(self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Unfinished(line)
            | Self::Letters(line)
            | Self::Length(line)
            | Self::Encrypted(line) => Some(line),
        }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "no line begins with -----BEGIN, so this is not PEM",
            Self::Unfinished(_) => "what begins here has no -----END line: the file is cut off",
            Self::Letters(_) => "this line is not base64: the file is damaged",
            Self::Length(_) => "characters are missing in what begins here: the file is damaged",
            Self::Encrypted(_) => {
                "this key is locked with a pass phrase; `openssl pkey -in OLD -out NEW` unlocks it"
            }
        })
    }
}

impl std::error::Error for PemError {}

/// The sections of a text in their order, at least one. Text around them is skipped.
///
/// # Errors
/// The first mistake.
pub fn sections(text: &str) -> Result<Vec<Section<'_>>, PemError> {
    let mut found = Vec::new();
    // Editors of some systems put a mark before the first line.
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().zip(1..).map(|(line, at)| (line.trim(), at));
    while let Some((line, begin)) = lines.next() {
        let Some(label) = between(line, "-----BEGIN ") else { continue };
        if label.starts_with("ENCRYPTED") {
            return Err(PemError::Encrypted(begin));
        }
        let mut letters = String::new();
        loop {
            let (line, at) = lines.next().ok_or(PemError::Unfinished(begin))?;
            match between(line, "-----END ") {
                Some(end) if end == label => break,
                Some(_) => return Err(PemError::Unfinished(begin)),
                None if line.starts_with("-----BEGIN ") => return Err(PemError::Unfinished(begin)),
                // Headers of the form before PKCS#8 (RFC 1421 §4.6) stand only in locked keys.
                None if line.starts_with("Proc-Type:") => return Err(PemError::Encrypted(begin)),
                None if !line.bytes().all(is_letter) => return Err(PemError::Letters(at)),
                None => letters.push_str(line),
            }
        }
        let bytes = decode(&letters).ok_or(PemError::Length(begin))?;
        found.push(Section { label, line: begin, bytes });
    }
    if found.is_empty() { Err(PemError::Nothing) } else { Ok(found) }
}

fn between<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_with_their_lines() {
        let text = "\u{feff}subject=CN = box\r\n-----BEGIN CERTIFICATE-----\r\nAAEC\r\nAwQ=\r\n\
                    -----END CERTIFICATE-----\r\n\n-----BEGIN EC PARAMETERS-----\nBg==\n-----END EC PARAMETERS-----";
        let found = sections(text).unwrap();
        assert_eq!(
            found,
            [
                Section { label: "CERTIFICATE", line: 2, bytes: vec![0, 1, 2, 3, 4] },
                Section { label: "EC PARAMETERS", line: 7, bytes: vec![6] },
            ]
        );
    }

    #[test]
    fn a_mistake_has_its_line() {
        for (text, error) in [
            ("", PemError::Nothing),
            ("0\u{82}\nMIIB\n", PemError::Nothing),
            ("\n-----BEGIN X-----\nAAEC\n", PemError::Unfinished(2)),
            ("-----BEGIN X-----\nAAEC\n-----END Y-----\n", PemError::Unfinished(1)),
            ("-----BEGIN X-----\n-----BEGIN X-----\n-----END X-----\n", PemError::Unfinished(1)),
            ("-----BEGIN X-----\nAAEC\nA-EC\n-----END X-----\n", PemError::Letters(3)),
            ("-----BEGIN X-----\nAAEC\nA€\n-----END X-----\n", PemError::Letters(3)),
            ("-----BEGIN X-----\nAAECA\n-----END X-----\n", PemError::Length(1)),
            ("-----BEGIN X-----\nAA=C\n-----END X-----\n", PemError::Length(1)),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", PemError::Encrypted(1)),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", PemError::Encrypted(1)),
        ] {
            assert_eq!(sections(text), Err(error), "{text}");
        }
    }
}
