//! Formats: nesting and members of JSON, event streams, redaction.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tetherlet::a2a::read::{depth_within, member_at};
use tetherlet::base::redact::redact as redacted;
use tetherlet::base::secret::Secret;
use tetherlet::base::sse::{Item, Parser, write_data};

/// Nesting is counted as a parser counts it, and every place of a document has a member that is there.
pub fn depth(input: &[u8]) {
    for limit in 0..3 {
        let _ = depth_within(input, limit);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let tree = serde_json::from_str::<Tree>(text).ok();
    if let Some(tree) = &tree {
        let depth = tree.depth();
        assert!(depth_within(input, depth), "{depth} levels are refused");
        assert!(depth == 0 || !depth_within(input, depth - 1), "{depth} levels pass as fewer");
    }
    let tree = tree.filter(|tree| tree.is_plain() && tree.depth() <= 16);
    for offset in (0..text.len() + 3).take(600) {
        let path = member_at(text, offset);
        if let Some(tree) = &tree {
            assert!(tree.has(&path), "no `{path}` in {text}, found at {offset}");
        }
    }
}

/// The shape of a JSON value, with members that stand there twice.
enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Leaf,
}

impl Tree {
    fn children(&self) -> Box<dyn Iterator<Item = &Tree> + '_> {
        match self {
            Self::Object(members) => Box::new(members.iter().map(|(_, value)| value)),
            Self::Array(elements) => Box::new(elements.iter()),
            Self::Leaf => Box::new(std::iter::empty()),
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Leaf => 0,
            Self::Object(_) | Self::Array(_) => {
                1 + self.children().map(Self::depth).max().unwrap_or(0)
            }
        }
    }

    /// Whether all names can be told apart in a path.
    fn is_plain(&self) -> bool {
        let plain = |name: &str| {
            (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let names = match self {
            Self::Object(members) => members.iter().all(|(name, _)| plain(name)),
            Self::Array(_) | Self::Leaf => true,
        };
        names && self.children().all(Self::is_plain)
    }

    /// Whether `path` leads somewhere; the first place of an empty array counts.
    fn has(&self, path: &str) -> bool {
        if path.is_empty() {
            return true;
        }
        match self {
            Self::Object(members) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                let end = path.find(['.', '[']).unwrap_or(path.len());
                let (name, rest) = path.split_at(end);
                members.iter().any(|(own, value)| own == name && value.has(rest))
            }
            Self::Array(elements) => {
                let index = path.strip_prefix('[').and_then(|path| path.split_once(']'));
                index.is_some_and(|(index, rest)| {
                    let index: usize = index.parse().expect("an index is a number");
                    let first = index == 0 && elements.is_empty() && rest.is_empty();
                    first || elements.get(index).is_some_and(|element| element.has(rest))
                })
            }
            Self::Leaf => false,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Tree::Array(elements))
            }
            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A stream reads as the standard says, however it is cut; nothing passes the cap; what is written reads back.
pub fn sse(input: &[u8]) {
    let Some((cap, stream)) = input.split_first() else { return };
    let cap = 8 + usize::from(*cap);
    let wanted = model(stream, cap);
    for step in [1, 2, 3, 7, stream.len().max(1)] {
        assert_eq!(parsed(stream.chunks(step), cap), wanted, "{step} bytes at a time");
    }
    for at in (0..stream.len()).take(48) {
        let (first, second) = stream.split_at(at);
        assert_eq!(parsed([first, second].into_iter(), cap), wanted, "cut at {at}");
    }
    let Ok(text) = std::str::from_utf8(stream) else { return };
    let mut out = String::new();
    write_data(&mut out, text);
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let whole = std::iter::once(out.as_bytes());
    assert_eq!(parsed(whole, out.len() + 1), [format!("|{lines}")], "{out:?}");
}

/// Frames as `event|data`, comments as `#`, an error as its text.
fn parsed<'a>(pieces: impl Iterator<Item = &'a [u8]>, cap: usize) -> Vec<String> {
    let mut parser = Parser::new(cap);
    let mut items = Vec::new();
    for mut piece in pieces {
        loop {
            match parser.read(&mut piece) {
                Ok(Some(Item::Frame { event, data })) => {
                    assert!(event.len() <= cap && data.len() <= cap, "the cap holds");
                    items.push(format!("{event}|{data}"));
                }
                Ok(Some(Item::Comment)) => items.push("#".to_owned()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(parser.read(&mut &b"\n\ndata: x\n\n"[..]), Err(error));
                    items.push(error.to_string());
                    return items;
                }
            }
        }
        assert!(piece.is_empty(), "bytes were left");
    }
    items
}

/// WHATWG HTML §9.2.6 read word by word, with the differences that `base::sse` names.
fn model(stream: &[u8], cap: usize) -> Vec<String> {
    let too_long = || format!("event stream has a line or event over {cap} bytes");
    let (mut items, mut line, mut first, mut after_cr) = (Vec::new(), Vec::new(), true, false);
    let (mut event, mut data) = (String::new(), None::<String>);
    for &byte in stream {
        if std::mem::replace(&mut after_cr, byte == b'\r') && byte == b'\n' {
            continue;
        }
        if byte != b'\n' && byte != b'\r' {
            line.push(byte);
            if line.len() > cap {
                items.push(too_long());
                return items;
            }
            continue;
        }
        let Ok(text) = String::from_utf8(std::mem::take(&mut line)) else {
            items.push("event stream has a line that is not UTF-8".to_owned());
            return items;
        };
        let mark = std::mem::take(&mut first).then(|| text.strip_prefix('\u{feff}')).flatten();
        let text = mark.unwrap_or(&text);
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if text.is_empty() => {
                if let Some(data) = data.take() {
                    items.push(format!("{event}|{data}"));
                }
                event.clear();
            }
            "" => items.push("#".to_owned()),
            "event" => value.clone_into(&mut event),
            "data" | "error" => {
                if name == "error" {
                    name.clone_into(&mut event);
                }
                let held = data.as_ref().map_or(0, String::len);
                if held + value.len() + 1 > cap {
                    items.push(too_long());
                    return items;
                }
                match &mut data {
                    Some(data) => data.extend(["\n", value]),
                    None => data = Some(value.to_owned()),
                }
            }
            _ => {}
        }
    }
    items
}

/// The first line is a secret, byte 1 of the rest stands for it: no run of eight of its bytes is left.
pub fn redact(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some((key, rest)) = text.split_once('\n') else { return };
    let key = key.trim();
    let Some(secret) = Secret::new(key).filter(|_| is_key(key)) else {
        check_form(&redacted(&text, &[]));
        return;
    };
    let clean = redacted(&rest.replace('\u{1}', key), &[&secret]);
    check_form(&clean);
    assert!(!gives_away(&clean, key), "{clean}");
}

fn check_form(clean: &str) {
    assert!(clean.chars().count() <= 500, "{clean}");
    assert!(!clean.contains(|c: char| c.is_control() || "\u{2028}\u{2029}".contains(c)), "{clean}");
}

/// Keys are made of such characters. A digit in every run tells them from the names in front of keys, which
/// `redact` shows; stars are what it writes itself.
fn is_key(key: &str) -> bool {
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte));
    let run = key.len().min(8);
    let mixed = || key.as_bytes().windows(run).all(|run| run.iter().any(u8::is_ascii_digit));
    key.len() >= 4 && plain && mixed()
}

/// Whether `text` holds eight bytes of `key`, or all of it.
pub fn gives_away(text: &str, key: &str) -> bool {
    let run = key.len().min(8);
    key.as_bytes().windows(run).any(|run| text.as_bytes().windows(run.len()).any(|own| own == run))
}

/// Whether serde reads `text` as JSON; values it does not look at count.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}
