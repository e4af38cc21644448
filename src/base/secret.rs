//! Keys and tokens. A `Secret` is never printed, serialised or compared in a way that leaks its length of match.

use std::fmt;

/// A key or token. Read it with [`Secret::expose`] only where it goes on the wire.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text without surrounding white space (a trailing newline makes an invalid header).
    ///
    /// Returns `None` when nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| Self(trimmed.into()))
    }

    /// The secret itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let secret = Secret::new(" sk-canary\n").unwrap();
        assert_eq!(secret.expose(), "sk-canary");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn white_space_is_no_secret() {
        assert!(Secret::new(" \n").is_none());
    }
}
