//! Reads single JSON values of replies whose exact shape no host keeps to.
//!
//! A value of another type than expected is taken as absent; only text that is no JSON fails.
//! Strings are unescaped here and not by `serde_json`, for the reason given at [`unescape`].

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::llm::{ModelError, NOT_JSON};

/// The JSON object in `json`, or the first one of an array: Gemini hosts wrap their errors so.
///
/// The check matters, because a derived `Deserialize` also takes an array, by position.
pub(super) fn object(json: &str) -> Option<&str> {
    if json.starts_with('[') {
        let all: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        return all.first().map(|first| first.get()).filter(|first| first.starts_with('{'));
    }
    json.starts_with('{').then_some(json)
}

/// The members of a nested object; none of them when it is absent, or null, or an empty list, as
/// PHP hosts write it.
pub(super) fn members<'a, T: Deserialize<'a> + Default>(
    json: Option<&'a RawValue>,
) -> Result<T, ModelError> {
    match json.map(RawValue::get).filter(|json| json.starts_with('{')) {
        Some(json) => serde_json::from_str(json).map_err(|_| NOT_JSON),
        None => Ok(T::default()),
    }
}

/// What stands between the quotes of a JSON string, escapes included.
pub(super) fn quoted(json: &RawValue) -> Option<&str> {
    json.get().strip_prefix('"')?.strip_suffix('"')
}

/// A short word such as a type or a reason; none when it is absent, empty, or not plain.
pub(super) fn word(json: Option<&RawValue>) -> Option<&str> {
    json.and_then(quoted).filter(|word| !word.is_empty() && *word != "null")
}

/// A count; some hosts write it with a fraction.
pub(super) fn count(json: Option<&RawValue>) -> Option<u64> {
    let json = json?.get();
    let whole = json.split_once('.').map_or(json, |(whole, _)| whole);
    whole.parse().ok()
}

/// Whether a value is there and is more than `null`, `""`, `[]` or `{}`.
pub(super) fn holds(json: Option<&RawValue>) -> bool {
    json.is_some_and(|json| {
        let open = ['[', '{', '"'];
        let close = [']', '}', '"'];
        let text = json.get();
        text.strip_prefix(open)
            .and_then(|inner| inner.strip_suffix(close))
            .map_or(!matches!(text, "null" | "false"), |inner| !inner.trim().is_empty())
    })
}

/// Appends the text of a JSON string whose inside is `inner`.
///
/// `serde_json` refuses half a surrogate pair, which hosts that cut text by UTF-16 units do send:
/// `half` carries the first one over to the next piece. A half without its other becomes U+FFFD.
pub(super) fn unescape(inner: &str, out: &mut String, half: &mut u16) {
    let lone = |out: &mut String, half: &mut u16| {
        if std::mem::take(half) != 0 {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    };
    let mut rest = inner;
    while !rest.is_empty() {
        let plain = rest.find('\\').unwrap_or(rest.len());
        if plain > 0 {
            lone(out, half);
            out.push_str(&rest[..plain]);
            rest = &rest[plain..];
            continue;
        }
        let mut chars = rest[1..].chars();
        let escape = chars.next().unwrap_or('\\');
        rest = chars.as_str();
        if escape != 'u' {
            lone(out, half);
            out.push(match escape {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                other => other,
            });
            continue;
        }
        let Some((digits, tail)) = rest.split_at_checked(4) else { break };
        rest = tail;
        let unit = u16::from_str_radix(digits, 16).unwrap_or(0xfffd);
        match unit {
            0xd800..=0xdbff => {
                lone(out, half);
                *half = unit;
            }
            0xdc00..=0xdfff => {
                let first = std::mem::take(half);
                let pair = char::decode_utf16([first, unit]).next().and_then(Result::ok);
                out.push(pair.filter(|_| first != 0).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => {
                lone(out, half);
                out.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn half_pairs_join_across_pieces_and_lone_ones_are_replaced() {
        let table: [(&[&str], &str); 8] = [
            (&[r"\ud83d\ude00"], "😀"),
            (&[r"a\ud83d", r"\ude00b"], "a😀b"),
            (&[r"\ud83d", "x"], "\u{fffd}x"),
            (&[r"\ude00"], "\u{fffd}"),
            (&[r"\ud83d\ud83d\ude00\n"], "\u{fffd}😀\n"),
            (&[r"\ud83d\n"], "\u{fffd}\n"),
            (&[r#"\"\\\/\b\f\n\r\t\u0041\u00e9"#], "\"\\/\u{8}\u{c}\n\r\tAé"),
            (&[r"\u12", r"\"], "\\"),
        ];
        for (pieces, expected) in table {
            let (mut text, mut half) = (String::new(), 0);
            for piece in pieces {
                unescape(piece, &mut text, &mut half);
            }
            assert_eq!(text, expected, "{pieces:?}");
        }
    }

    #[test]
    fn counts_are_whole_and_never_negative() {
        let table = [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("-7", None),
            ("1e3", None),
            ("\"7\"", None),
            ("null", None),
            ("99999999999999999999999", None),
        ];
        for (json, expected) in table {
            assert_eq!(count(Some(raw(json))), expected, "{json}");
        }
    }

    #[test]
    fn empty_values_hold_nothing() {
        for json in ["null", "false", "\"\"", "[]", "[ ]", "{}"] {
            assert!(!holds(Some(raw(json))), "{json}");
        }
        for json in ["0", "true", "\"x\"", "[0]", "{\"a\":null}"] {
            assert!(holds(Some(raw(json))), "{json}");
        }
    }
}
