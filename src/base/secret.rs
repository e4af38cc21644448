//! Keys and tokens. A `Secret` is never printed, serialised or compared, and is wiped when it is dropped; what is
//! compared is its [`Digest`], in a time that tells nothing of either side.

use std::fmt;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A key or token. Read it with [`Secret::expose`] only where it goes on the wire.
///
/// It has no `==`: ask its [`digest`](Self::digest).
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Takes the text without surrounding white space (a trailing newline makes an invalid header).
    ///
    /// Returns `None` when nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| Self(Zeroizing::new(trimmed.into())))
    }

    /// The secret itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What to keep of a secret that is only ever compared with what others present.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// Length in bytes: all that may be told about it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: an empty secret cannot be made.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The SHA-256 of a secret: enough to recognise it, not to present it.
///
/// It has no `==` either: [`is`](Self::is) and [`matches`](Self::matches) take the same time whatever differs.
#[derive(Clone, Copy)]
pub struct Digest([u8; SHA256_OUTPUT_LEN]);

impl Digest {
    /// The digest of bytes as they were presented: not trimmed, of any length.
    pub fn of(bytes: &[u8]) -> Self {
        let mut own = [0; SHA256_OUTPUT_LEN];
        own.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(own)
    }

    /// Whether `presented` is, byte for byte, the secret this was made of.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.is(&Self::of(presented))
    }

    /// Whether both were made of the same secret; for one presented token against many known ones.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Keeps the memory of this process out of core files and closed to other processes of its user: it holds keys and
/// everybody's messages.
///
/// Root still gets in; where the kernel refuses, all goes on without.
pub fn seal_process() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    // A core that goes through a pipe, as to systemd, does not ask for the limit.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let secret = Secret::new(" sk-canary\n").unwrap();
        assert_eq!(secret.expose(), "sk-canary");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(format!("{:?}", secret.digest()), "Digest(..)");
    }

    #[test]
    fn white_space_is_no_secret() {
        assert!(Secret::new(" \n").is_none());
    }

    #[test]
    fn the_digest_is_the_sha_256_of_the_trimmed_text() {
        // FIPS 180-4, the example of one block.
        let expected = *b"\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\
            \xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad";
        assert_eq!(Secret::new(" abc\n").unwrap().digest().0, expected);
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let digest = Secret::new("tl_0123456789abcdef").unwrap().digest();
        assert!(digest.matches(b"tl_0123456789abcdef"));
        for other in [
            "",
            "tl_",
            "tl_0123456789abcde",
            "tl_0123456789abcdef0",
            "tl_0123456789abcdef\n",
            " tl_0123456789abcdef",
            "TL_0123456789ABCDEF",
            "tl_0123456789abcdeg",
            "\0tl_0123456789abcdef",
        ] {
            assert!(!digest.matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_change_of_any_byte_is_another_secret() {
        let text = *b"tl_0123456789abcdef0123456789abcdef0123456789";
        let digest = Digest::of(&text);
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut other = text;
                other[at] ^= 1 << bit;
                assert!(!digest.matches(&other), "byte {at}, bit {bit}");
            }
        }
        assert!(digest.is(&Digest::of(&text)));
    }
}
