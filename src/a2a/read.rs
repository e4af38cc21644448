//! Reading JSON from strangers: strings without a copy where there is nothing to unescape, lists with a bound,
//! nesting with a bound, and the name of the member that did not fit.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Characters of what a parser says about a value.
const QUOTED: usize = 256;
/// Parts of one message, and elements of any other list.
pub const LIST: usize = 64;

/// A string, borrowed from the text when it holds no escapes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str<'a>(pub Cow<'a, str>);

impl std::borrow::Borrow<str> for Str<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Str<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Self)
    }
}

/// A member that only some dialects know: `None` when it is no string, which is for those dialects to refuse.
#[derive(Debug)]
pub struct Loose<'a>(pub Option<Str<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Option<Str<'de>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Some(Str(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Some(Str(Cow::Owned(text.to_owned()))))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
        deserializer.deserialize_any(Anything).map(Self)
    }
}

/// A string that nobody reads: checked, not kept.
#[derive(Debug)]
pub struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Str::deserialize(deserializer).map(|_| Self)
    }
}

/// At most [`LIST`] elements; the next one is an error before it is stored.
#[derive(Debug)]
pub struct List<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                // Mostly there is one.
                let mut list = Vec::with_capacity(1);
                while let Some(element) = seq.next_element()? {
                    if list.len() == LIST {
                        return Err(A::Error::custom(format_args!("more than {LIST} elements")));
                    }
                    list.push(element);
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(Elements(std::marker::PhantomData)).map(Self)
    }
}

/// A struct that is written as an object; a derived `Deserialize` alone also takes an array, by position.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData)).map(Self)
    }
}

/// A member that may be absent; unlike an `Option`, a `null` is present.
#[derive(Debug, Default)]
pub struct Present<'a>(pub Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

/// An object whose members nobody here reads, kept as text.
pub fn object<'a>(raw: &'a RawValue, member: &str) -> Result<&'a str, String> {
    let text = raw.get();
    if text.starts_with('{') { Ok(text) } else { Err(format!("{member}: expected an object")) }
}

/// Whether no value in `json` is nested deeper than `limit` arrays and objects.
///
/// `json` need not be valid: the parser that follows decides that.
pub fn depth_within(json: &[u8], limit: usize) -> bool {
    // Most requests have fewer brackets in all than the limit allows in depth.
    if opened(json) <= limit {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// How many bytes of `json` are an opening bracket, counted eight at a time.
fn opened(json: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const LOW: u64 = ONES * 0x7f;
    let (words, rest) = json.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let count = |word: &[u8; 8]| {
        // The two brackets differ in one bit. Seven bits are summed with no carry into the next byte.
        let differs = (u64::from_ne_bytes(*word) | (ONES << 5)) ^ (ONES * u64::from(b'{'));
        let equal = !(((differs & LOW) + LOW) | differs | LOW) >> 7;
        (equal.wrapping_mul(ONES) >> 56) as usize
    };
    words.iter().map(count).sum::<usize>() + count(&last)
}

/// Whether `text` is one JSON value and nothing else.
pub fn is_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}

/// The path of the value that holds, or ends at, byte `offset` of the valid JSON text `json`: `message.parts[0].text`.
///
/// `serde_json` says where in the text a value did not fit, not which member it is.
pub fn member_at(json: &str, offset: usize) -> String {
    enum Level<'a> {
        Object(&'a str),
        Array(usize),
    }
    let bytes = json.as_bytes();
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut at = 0;
    while at < bytes.len().min(offset) {
        match bytes[at] {
            b'{' => levels.push(Level::Object("")),
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' => {
                // The value that ends here is the one that was meant when the error stands right behind it.
                if at + 1 >= offset {
                    if let Some(Level::Object(name)) = levels.last_mut() {
                        *name = "";
                    }
                    break;
                }
                levels.pop();
            }
            b',' => match levels.last_mut() {
                Some(Level::Array(index)) => *index += 1,
                Some(Level::Object(name)) => *name = "",
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = string_end(bytes, start);
                let is_key = matches!(levels.last(), Some(Level::Object("")));
                if is_key
                    && bytes[at..].iter().skip(1).find(|b| !b.is_ascii_whitespace()) == Some(&b':')
                    && let Some(Level::Object(name)) = levels.last_mut()
                {
                    *name = json.get(start..at).unwrap_or_default();
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in levels.iter().take(16) {
        match level {
            Level::Object("") => {}
            Level::Object(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(name.chars().take(64));
            }
            Level::Array(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
        }
    }
    path
}

/// Index of the quote that ends the string whose text begins at `start`, or the end of the text.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Byte offset of a line and column as `serde_json` counts them: from one, columns in bytes.
pub fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column
}

/// What `serde_json` says, without its position.
pub fn without_position(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" at line ") {
        text.truncate(at);
    }
    // It quotes what it did not expect, and that can be as long as the request.
    if let Some((end, _)) = text.char_indices().nth(QUOTED) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_a_long_value() {
        let long = format!("\"{}\"", "é\\b".repeat(10_000));
        let error = serde_json::from_str::<i64>(&long).unwrap_err();
        let text = without_position(&error);
        assert!(
            text.starts_with("invalid type: string \"é\\u{8}") && text.ends_with("..."),
            "{text}"
        );
        assert!(text.chars().count() <= QUOTED + 3, "{text}");
    }

    #[test]
    fn depth_counts_what_is_open_at_once() {
        assert!(depth_within(b"[[],[],[]]", 2));
        assert!(!depth_within(b"[[[]]]", 2));
        assert!(depth_within(br#"["[[[[[[","\"[[[["]"#, 1));
        assert!(!depth_within("[".repeat(100_000).as_bytes(), 64));
    }

    #[test]
    fn every_byte_but_a_bracket_is_told_from_it() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(opened(&all), 2);
        for length in 0..20 {
            assert_eq!(opened(&vec![b'['; length]), length);
        }
    }

    fn path_of<'a, T: Deserialize<'a>>(json: &'a str) -> String {
        let error = serde_json::from_str::<T>(json).err().expect("must not fit");
        member_at(json, offset_of(json, error.line(), error.column()))
    }

    #[test]
    fn the_member_that_did_not_fit_is_named() {
        #[derive(serde::Deserialize, Debug)]
        struct Outer {
            #[expect(dead_code, reason = "only its type matters")]
            list: Vec<Inner>,
        }
        #[derive(serde::Deserialize, Debug)]
        struct Inner {
            #[expect(dead_code, reason = "only its type matters")]
            name: String,
        }
        assert_eq!(path_of::<Outer>(r#"{"list":[{"name":"a"},{"name":5}]}"#), "list[1].name");
        assert_eq!(
            path_of::<Outer>("{\n \"list\": [ {\"name\": \"a\"},\n {\"x\": 1} ] }"),
            "list[1]"
        );
        assert_eq!(path_of::<Outer>(r#"{"list":"x"}"#), "list");
        assert_eq!(path_of::<Outer>(r#"{"a\"b":{"c":[]},"list":[{"name":{}}]}"#), "list[0].name");
    }

    #[test]
    fn a_list_ends_at_its_bound() {
        let json = format!("[{}1]", "1,".repeat(LIST));
        let error = serde_json::from_str::<List<u8>>(&json).unwrap_err();
        assert!(error.to_string().contains("more than 64"), "{error}");
    }
}
