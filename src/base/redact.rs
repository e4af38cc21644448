//! Makes text from outside fit to be logged or sent on: no keys, no control characters, a bounded
//! length.
//!
//! Providers echo parts of keys in their error bodies, and proxies echo whole headers. A known
//! secret is found by value, whole or any run of eight of its bytes; an unknown one by its shape.
//! Where in doubt, text is hidden.

use crate::base::secret::Secret;

/// The most characters that are kept.
const CAP: usize = 500;
const MASK: &str = "***";
/// A run of this many bytes of a secret gives it away; fewer are found by chance.
const PIECE: usize = 8;
/// Shorter secrets are not searched for: the text would lose ordinary words, and they protect
/// nothing.
const SHORTEST: usize = 4;
/// How far a token is read to decide whether it looks like a key; the whole token is hidden then.
const JUDGED: usize = 64;

/// Copies `text` with everything that is or looks like one of `secrets`, or like any key, replaced
/// by `***`.
///
/// The copy has at most 500 characters; control characters and line separators become blanks.
pub fn redact(text: &str, secrets: &[&Secret]) -> String {
    let mut out = Clean { text: String::with_capacity(text.len().min(CAP)), room: CAP };
    let mut rest = text;
    let mut before = ' ';
    while out.room > 0 && !rest.is_empty() {
        let hidden = known(rest, secrets).max(shaped(rest, before));
        if hidden > 0 {
            out.mask();
            rest = &rest[hidden..];
            before = '*';
        } else if let Some((shown, hidden)) = announced(rest, before) {
            rest[..shown].chars().for_each(|c| out.push(c));
            out.mask();
            rest = &rest[shown + hidden..];
            before = '*';
        } else {
            let mut chars = rest.chars();
            before = chars.next().unwrap_or(' ');
            out.push(before);
            rest = chars.as_str();
        }
    }
    out.text
}

struct Clean {
    text: String,
    room: usize,
}

impl Clean {
    fn push(&mut self, c: char) {
        if self.room > 0 {
            let blank = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            self.text.push(if blank { ' ' } else { c });
            self.room -= 1;
        }
    }

    fn mask(&mut self) {
        if !self.text.ends_with(MASK) {
            MASK.chars().for_each(|c| self.push(c));
        }
    }
}

/// Bytes at the front of `text` that belong to one of `secrets`, or 0.
fn known(text: &str, secrets: &[&Secret]) -> usize {
    let mut longest = 0;
    for secret in secrets {
        longest = longest.max(shared(text.as_bytes(), secret.expose().as_bytes()));
    }
    while !text.is_char_boundary(longest) {
        longest -= 1;
    }
    if longest == 0 {
        return 0;
    }
    // The echo of a part is often followed by stars and the last characters.
    longest + token(&text[longest..])
}

/// Length of the secret, or of the longest run of at least [`PIECE`] bytes of it, at the front of
/// `text`.
fn shared(text: &[u8], secret: &[u8]) -> usize {
    if secret.len() < SHORTEST {
        return 0;
    }
    if text.starts_with(secret) {
        return secret.len();
    }
    let Some(head) = text.get(..PIECE) else { return 0 };
    let mut longest = 0;
    for (at, piece) in secret.windows(PIECE).enumerate() {
        if piece == head {
            let same = secret[at..].iter().zip(text).take_while(|(a, b)| a == b).count();
            longest = longest.max(same);
        }
    }
    longest
}

/// Key prefixes, the characters that must follow, and whether a digit, a capital or a star must be
/// among them.
const SHAPES: [(&str, usize, bool); 9] = [
    ("sk-", 4, false),
    ("key-", 6, true),
    ("AIza", 6, false),
    ("gsk_", 6, false),
    ("xai-", 6, false),
    ("hf_", 6, true),
    ("ghp_", 6, false),
    ("github_pat_", 6, false),
    ("eyJ", 16, false),
];

/// Bytes at the front of `text` that look like a key, or 0. `before` is the character in front.
fn shaped(text: &str, before: char) -> usize {
    if before.is_ascii_alphanumeric() {
        return 0;
    }
    for (prefix, least, mixed) in SHAPES {
        let Some(tail) = text.strip_prefix(prefix) else { continue };
        let judged = || tail.chars().take(JUDGED).take_while(|c| in_token(*c));
        if judged().count() >= least && (!mixed || judged().any(is_key_like)) {
            return prefix.len() + token(tail);
        }
    }
    0
}

/// Names whose value is a secret, and whether the value must look like a key, the name being
/// ordinary words too.
const NAMES: [(&str, bool); 8] = [
    ("authorization", false),
    ("api-key", false),
    ("api_key", false),
    ("apikey", false),
    ("access_token", false),
    ("api key", true),
    ("?key", false),
    ("&key", false),
];

/// What may follow `Bearer` in a sentence about it.
const PROSE: [&str; 9] =
    ["auth", "authentication", "authorization", "header", "is", "or", "scheme", "token", "tokens"];

/// Bytes to show and then to hide, when `text` begins with a word that announces a secret.
fn announced(text: &str, before: char) -> Option<(usize, usize)> {
    if before.is_ascii_alphanumeric() {
        return None;
    }
    if let Some(tail) = after_name(text, "bearer ") {
        let tail = skip(tail, &[' ']);
        let value = word(tail);
        let prose = PROSE.iter().any(|prose| tail[..value].eq_ignore_ascii_case(prose));
        return (value > 0 && !prose).then(|| (text.len() - tail.len(), value));
    }
    for (name, mixed) in NAMES {
        let Some(tail) = after_name(text, name) else { continue };
        let tail = skip(tail, &['\\', '"', '\'', ' ']);
        let Some(tail) = tail.strip_prefix([':', '=']) else { continue };
        let tail = skip(tail, &['\\', '"', '\'', ' ']);
        if after_name(tail, "bearer ").is_some() {
            return None;
        }
        let mut value = word(tail);
        let key_like = || tail[..value].chars().take(JUDGED).any(is_key_like);
        if value == 0 || (mixed && !key_like()) {
            continue;
        }
        // A scheme's name and then the credentials: `Basic dXNlcjpwYXNz`.
        if name == "authorization" && value < 10 && tail[value..].starts_with(' ') {
            value += 1 + word(&tail[value + 1..]);
        }
        return Some((text.len() - tail.len(), value));
    }
    None
}

fn after_name<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then_some(tail)
}

/// `text` without up to four of `skipped` at its front.
fn skip<'a>(text: &'a str, skipped: &[char]) -> &'a str {
    let mut rest = text;
    for _ in 0..4 {
        rest = rest.strip_prefix(skipped).unwrap_or(rest);
    }
    rest
}

/// Length of the key-like token at the front, without the full stops that end a sentence.
fn token(text: &str) -> usize {
    let end = text.find(|c| !in_token(c)).unwrap_or(text.len());
    text[..end].trim_end_matches('.').len()
}

/// Length of the value at the front: up to a blank or what encloses values in headers, JSON, HTML
/// and addresses.
fn word(text: &str) -> usize {
    let ends = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '"' | '\'' | '`' | ',' | ';' | '&' | '<' | '>' | '\\' | ')' | ']' | '}')
    };
    text.find(ends).unwrap_or(text.len())
}

fn in_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | '•' | '…')
}

fn is_key_like(c: char) -> bool {
    c.is_ascii_digit() || c.is_ascii_uppercase() || matches!(c, '*' | '•' | '…')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    #[test]
    fn a_known_secret_goes_whole_or_in_parts() {
        let key = secret("Zq81-plainly.unshaped/0123456789wxyz");
        let table = [
            ("got Zq81-plainly.unshaped/0123456789wxyz here", "got *** here"),
            ("got Zq81-plain... here", "got ***... here"),
            ("got Zq81-pla****wxyz here", "got *** here"),
            ("got ...56789wxyz here", "got ...*** here"),
            ("(unshaped/0123)", "(***)"),
            ("got Zq81-pl here", "got Zq81-pl here"),
            ("<Zq81-plainly.unshaped/0123456789wxyzZq81-plainly.unshaped/0123456789wxyz>", "<***>"),
        ];
        for (text, expected) in table {
            assert_eq!(redact(text, &[&secret("other-secret"), &key]), expected);
        }
    }

    #[test]
    fn a_short_secret_goes_only_whole_and_a_tiny_one_stays() {
        assert_eq!(redact("use hunt2 or hunt", &[&secret("hunt2")]), "use *** or hunt");
        assert_eq!(redact("box of xxx", &[&secret("x")]), "box of xxx");
    }

    #[test]
    fn a_secret_outside_ascii_is_cut_between_characters() {
        let key = secret("пароль-секрет");
        assert_eq!(redact("a пароль-секрет b", &[&key]), "a *** b");
        // "о" and "р" share their first byte with other letters of the alphabet.
        assert_eq!(redact("парода b", &[&key]), "***да b");
        for end in 0..30 {
            let text: String = "xпароль-секрит".chars().take(end).collect();
            assert!(!redact(&text, &[&key]).contains("парол"), "{text}");
        }
    }

    #[test]
    fn unknown_keys_go_by_their_shape() {
        let table = [
            (
                "Incorrect API key provided: sk-proj-abcd1234... You can find it",
                "Incorrect API key provided: ***... You can find it",
            ),
            ("Incorrect API key provided: sk-abc***xyz.", "Incorrect API key provided: ***."),
            ("\"sk-ant-api03-AbC_d-e\"", "\"***\""),
            ("sk-••••1234!", "***!"),
            ("(key-0123456789abcdef)", "(***)"),
            ("?key=AIzaSyA-1234567890_abc&x=1", "?key=***&x=1"),
            ("gsk_abcdefghij xai-abcdefghij hf_AbCdEfGhIj", "*** *** ***"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "jwt ***"),
            ("Authorization: Bearer xyz", "Authorization: Bearer ***"),
            ("{\"authorization\":\"Bearer a.b-c_d\"}", "{\"authorization\":\"Bearer ***\"}"),
            ("authorization: Basic dXNlcjpwYXNz, x", "authorization: ***, x"),
            ("x-api-key: whatever-it-is\nnext", "x-api-key: *** next"),
            ("X-Goog-Api-Key=abc", "X-Goog-Api-Key=***"),
            (r#"{\"api_key\": \"abc\"}"#, r#"{\"api_key\": \"***\"}"#),
            ("Invalid API key: ab12cd34", "Invalid API key: ***"),
        ];
        for (text, expected) in table {
            assert_eq!(redact(text, &[]), expected);
            assert_eq!(redact(expected, &[]), expected, "a second pass changes nothing");
        }
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "task-1234567890 on disk-abcdefgh, risk-averse",
            "a key-value store, my_key-based-lookup",
            "using Bearer auth (i.e. Authorization header), bearer token is missing",
            "invalid x-api-key",
            "{\"message\":\"invalid x-api-key\"},\"a\":1",
            "Invalid API key: please check",
            "locale sk-SK, hf_hub_download",
            "The model `gpt-5` does not exist",
            "größer 😀 …",
        ] {
            assert_eq!(redact(text, &[]), text);
        }
    }

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(redact("a\r\nb\tc\u{0}\u{1b}[31m\u{2028}d", &[]), "a  b c  [31m d");
    }

    #[test]
    fn the_copy_ends_after_500_characters() {
        assert_eq!(redact(&"é".repeat(600), &[]), "é".repeat(500));
        let text = format!("{}sk-0123456789", "x".repeat(496));
        assert_eq!(redact(&format!("{text} tail"), &[]).len(), 500);
        let text = format!("{} sk-0123456789", "x".repeat(498));
        assert_eq!(redact(&text, &[]), format!("{} *", "x".repeat(498)));
    }

    #[test]
    fn hostile_text_costs_little_and_never_panics() {
        let key = secret("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab");
        for unit in [
            "key-",
            "sk-",
            "a",
            "aaaaaaab",
            "api_key    ",
            "bearer ",
            "authorization:",
            "é",
            "\u{0}",
        ] {
            let text = unit.repeat(256 * 1024 / unit.len());
            assert!(redact(&text, &[&key]).chars().count() <= 500);
        }
        let parts = [
            "sk-",
            "key-",
            "bearer ",
            "authorization",
            ":",
            "=",
            " ",
            "\"",
            "é",
            "•",
            "…",
            "api key",
            "AIza",
            "12345678",
            "a",
            "*",
            "пароль",
            "\n",
            ".",
        ];
        let cyrillic = secret("пароль-секрет");
        let mut state = 7_u64;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push_str(parts[usize::try_from(state >> 40).unwrap() % parts.len()]);
            }
            redact(&text, &[&key, &cyrillic]);
        }
    }
}
