//! Bytes as text of 64 letters (RFC 4648): written as signatures and keys have it, read in either alphabet.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The text of `bytes` in the alphabet for URLs, without padding (RFC 7515 §2).
pub fn encode_url(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for at in 0..=group.len() {
            let letter = word >> (18 - 6 * at) & 63;
            out.push(char::from(LETTERS[letter as usize]));
        }
    }
    out
}

/// The text of `bytes` in the usual alphabet, with padding (RFC 4648 §4).
pub fn encode(bytes: &[u8]) -> String {
    let mut out = encode_url(bytes).replace('-', "+").replace('_', "/");
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

/// The bytes that `text` stands for, in either alphabet, with or without padding.
///
/// `None` for other letters and for a length that nothing has.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for &letter in group {
            word = word << 6 | u32::from(value(letter)?);
        }
        let [_, bytes @ ..] = (word << (24 - 6 * group.len())).to_be_bytes();
        // One letter alone is less than a byte.
        out.extend_from_slice(bytes.get(..group.len() - 1).filter(|it| !it.is_empty())?);
    }
    Some(out)
}

const fn value(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'-' | b'+' => Some(62),
        b'_' | b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_read_and_written() {
        // RFC 4648 §10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode_url(bytes.as_bytes()), text.trim_end_matches('='));
            assert_eq!(encode(bytes.as_bytes()), text);
            for text in [text, text.trim_end_matches('=')] {
                assert_eq!(decode(text).unwrap(), bytes.as_bytes(), "{text}");
            }
        }
    }

    #[test]
    fn every_length_and_byte_survives() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..=bytes.len() {
            let text = encode_url(&bytes[..length]);
            assert_eq!(decode(&text).unwrap(), bytes[..length]);
            assert_eq!(decode(&encode(&bytes[..length])).unwrap(), bytes[..length]);
        }
    }

    #[test]
    fn other_letters_and_lone_ones_are_refused() {
        for text in ["A", "AAAAA", "AA=A", "AA A", "AA\n", "é", "A===="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
