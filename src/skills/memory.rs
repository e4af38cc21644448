//! The words of the memory skill: which messages are its commands, what is still missing in one,
//! and how its answers read.
//!
//! A small key-value store that callers talk to in plain English. The table itself, its bounds and
//! whom an entry belongs to are the engine's; nothing here keeps anything.
//!
//! How a message is claimed when nobody chose the skill. Ordinary prose begins with the same verbs,
//! so the signs of a command are counted:
//! * a key has at most [`BARE_KEY`] words when only a verb stands before it, [`STORE_KEY`] when a
//!   store command has no value at all, [`CLOSE_KEY`] before `:` or `is`, [`LONG_KEY`] before `=`,
//!   after `that` or after `stored under`; a leading `the` or `my` is counted. A key in quotes may
//!   have any number;
//! * no word of it is one of [`PROSE`];
//! * `store the ...` and `save the ...` without a value are left alone (files and whales), and so
//!   is a store command that ends in a question mark, unless it has a `=`.

use std::fmt;

/// A command, whole or with parts still missing. Keys are as written; see [`normal_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Store { key: Option<&'a str>, value: Option<&'a str> },
    Recall { key: Option<&'a str> },
    List,
    Forget { key: Option<&'a str> },
}

impl Command<'_> {
    /// The part to ask for next, the key first; `None` when the command can be carried out.
    pub fn missing(&self) -> Option<Missing> {
        match self {
            Self::Store { key: None, .. }
            | Self::Recall { key: None }
            | Self::Forget { key: None } => Some(Missing::Key),
            Self::Store { key: Some(_), value: None } => Some(Missing::Value),
            Self::Store { key: Some(_), value: Some(_) }
            | Self::Recall { key: Some(_) }
            | Self::Forget { key: Some(_) }
            | Self::List => None,
        }
    }

    /// Asks for what is missing; empty when nothing is.
    pub fn question(&self) -> String {
        match self {
            Self::Store { key: None, value: None } => "what should be stored, under which key?",
            Self::Store { key: None, value: Some(_) } => "under which key should it be stored?",
            Self::Store { key: Some(key), value: None } => {
                return match normal_key(key) {
                    Ok(key) => format!("what should be stored under `{key}`?"),
                    Err(_) => "what should be stored?".to_owned(),
                };
            }
            Self::Recall { key: None } => "which key should be recalled?",
            Self::Forget { key: None } => "which key should be forgotten?",
            Self::Store { key: Some(_), value: Some(_) }
            | Self::Recall { key: Some(_) }
            | Self::Forget { key: Some(_) }
            | Self::List => "",
        }
        .to_owned()
    }
}

/// The part of a command that a question has to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Key,
    Value,
}

/// The command in a message that nobody sent to this skill, if the whole message is one.
pub fn claim(message: &str) -> Option<Command<'_>> {
    command(message, Reading::Wary)
}

/// The command in a message for which the caller chose this skill.
///
/// Takes everything that [`claim`] takes without counting words, and besides `KEY = VALUE`,
/// `KEY: VALUE`, `KEY is VALUE`, `what is KEY?` and a key alone, which is recalled.
///
/// # Errors
/// [`MemoryError::NotUnderstood`]; its text names the commands.
pub fn parse(message: &str) -> Result<Command<'_>, MemoryError> {
    if let Some(command) = command(message, Reading::Willing) {
        return Ok(command);
    }
    let text = without_please(message);
    for question in ["what is", "what's"] {
        if let Some(rest) = after_words(text, question) {
            return lone_key(rest).map(|key| Command::Recall { key: Some(key) });
        }
    }
    if let Some(pair) = Pair::find(text) {
        let (key, value) = (Key::read(pair.key).text(), value_of(pair.value));
        return match (key, value) {
            (None, None) => Err(MemoryError::NotUnderstood),
            (key, value) => Ok(Command::Store { key, value }),
        };
    }
    lone_key(text).map(|key| Command::Recall { key: Some(key) })
}

/// Fills the missing part of a command with the answer to its question.
///
/// A store command that misses both parts takes `KEY = VALUE` at once. An answer without content
/// leaves the command as it was, and so does an answer to a command that misses nothing.
pub fn complete<'a>(pending: Command<'a>, answer: &'a str) -> Command<'a> {
    match pending {
        Command::Store { key: None, value: None } => match Pair::find(answer.trim()) {
            Some(pair) => {
                Command::Store { key: Key::read(pair.key).text(), value: value_of(pair.value) }
            }
            None => Command::Store { key: Key::read(answer).text(), value: None },
        },
        Command::Store { key: None, value } => {
            Command::Store { key: Key::read(answer).text(), value }
        }
        Command::Store { key, value: None } => Command::Store { key, value: value_of(answer) },
        Command::Recall { key: None } => Command::Recall { key: Key::read(answer).text() },
        Command::Forget { key: None } => Command::Forget { key: Key::read(answer).text() },
        Command::Store { key: Some(_), value: Some(_) }
        | Command::Recall { key: Some(_) }
        | Command::Forget { key: Some(_) }
        | Command::List => pending,
    }
}

/// The form of a key under which its value is found again.
///
/// Lower case, one blank between words, without leading `the` or `my` (so that "remember that my
/// door code is 4711" and "recall the door code" meet), 1 to 128 bytes, no control characters.
/// Normal keys stay as they are.
pub fn normal_key(key: &str) -> Result<String, MemoryError> {
    let mut normal = String::new();
    let mut words = key.split_whitespace().peekable();
    while let Some(word) = words.next() {
        // A key that consists of articles keeps the last one.
        if normal.is_empty() && is_article(word) && words.peek().is_some() {
            continue;
        }
        if !normal.is_empty() {
            normal.push(' ');
        }
        for char in word.chars() {
            if char.is_control() {
                return Err(MemoryError::KeyControl);
            }
            normal.extend(char.to_lowercase());
            if normal.len() > KEY_BYTES {
                return Err(MemoryError::KeyTooLong);
            }
        }
    }
    if normal.is_empty() { Err(MemoryError::KeyEmpty) } else { Ok(normal) }
}

/// What the skill replies. Keys are in their normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Stored {
        key: &'a str,
        /// Whether the key had a value before.
        replaced: bool,
    },
    Recalled {
        key: &'a str,
        value: &'a str,
    },
    /// Nothing to recall or to forget under this key.
    Unknown {
        key: &'a str,
        known: &'a [&'a str],
    },
    Listed(&'a [&'a str]),
    Forgotten {
        key: &'a str,
    },
    /// No further key fits.
    Full {
        keys: usize,
    },
    /// The value is longer than a value may be.
    ValueTooLong {
        limit_bytes: usize,
    },
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored { key, replaced: false } => write!(f, "stored `{key}`"),
            Self::Stored { key, replaced: true } => write!(f, "stored `{key}` anew"),
            Self::Recalled { key, value } => write!(f, "`{key}` is {value}"),
            Self::Unknown { key, known: [] } => write!(f, "nothing is stored under `{key}`"),
            Self::Unknown { key, known } => {
                write!(f, "nothing is stored under `{key}`; known keys: ")?;
                write_keys(f, known)
            }
            Self::Listed([]) => f.write_str("nothing is stored"),
            Self::Listed(keys) => {
                f.write_str("stored keys: ")?;
                write_keys(f, keys)
            }
            Self::Forgotten { key } => write!(f, "forgot `{key}`"),
            Self::Full { keys } => {
                write!(f, "all {keys} keys are in use; forget one to store another")
            }
            Self::ValueTooLong { limit_bytes } => {
                write!(f, "a value must not be longer than {limit_bytes} bytes")
            }
        }
    }
}

/// Why a message is no command, or a text no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    NotUnderstood,
    KeyEmpty,
    KeyTooLong,
    KeyControl,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUnderstood => f.write_str(
                "not a memory command; understood are `remember KEY = VALUE`, `recall KEY`, \
                 `list memory` and `forget KEY`",
            ),
            Self::KeyEmpty => f.write_str("the key is empty"),
            Self::KeyTooLong => write!(f, "the key is longer than {KEY_BYTES} bytes"),
            Self::KeyControl => f.write_str("the key contains a control character"),
        }
    }
}

impl std::error::Error for MemoryError {}

/// How much a message must look like a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It may be prose for somebody else.
    Wary,
    /// It is for this skill.
    Willing,
}

const KEY_BYTES: usize = 128;
/// Keys named in an answer.
const SHOWN_KEYS: usize = 64;

/// Words of a key in `store KEY`.
const STORE_KEY: usize = 3;
/// Words of a key in `recall KEY` and `forget KEY`.
const BARE_KEY: usize = 4;
/// Words of a key in `save KEY: VALUE` and `remember KEY is VALUE`.
const CLOSE_KEY: usize = 4;
/// Words of a key in `store KEY = VALUE`, `remember that KEY is VALUE` and `stored under KEY`.
const LONG_KEY: usize = 6;

/// Words that a sentence has and a key has not.
const PROSE: &[&str] = &[
    "a",
    "about",
    "all",
    "an",
    "and",
    "anything",
    "are",
    "as",
    "because",
    "but",
    "could",
    "every",
    "everything",
    "he",
    "her",
    "him",
    "how",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "me",
    "or",
    "previous",
    "she",
    "so",
    "that",
    "them",
    "these",
    "they",
    "this",
    "those",
    "to",
    "us",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "whether",
    "which",
    "who",
    "whose",
    "why",
    "with",
    "you",
    "your",
    "yourself",
];

const LISTS: &[&str] = &[
    "list memory",
    "list memories",
    "list the memory",
    "list your memory",
    "list keys",
    "list the keys",
    "list all keys",
    "list stored keys",
    "list memory keys",
    "show memory",
    "show memories",
    "show keys",
    "show stored keys",
    "what do you remember",
    "what have you stored",
    "what is stored",
    "what's stored",
    "what is in memory",
    "what is in your memory",
    "which keys are stored",
    "which keys do you know",
];

/// Questions that end in a key.
const UNDER: &[&str] = &[
    "what is stored under",
    "what's stored under",
    "what is saved under",
    "what's saved under",
    "what is stored for",
    "what's stored for",
    "what did i store under",
    "what did i save under",
    "what do you have stored under",
    "what have you stored under",
];

fn command(message: &str, reading: Reading) -> Option<Command<'_>> {
    let text = without_please(message);
    let question = Key::read(text).text().unwrap_or_default();
    if LISTS.iter().any(|phrase| after_words(question, phrase) == Some("")) {
        return Some(Command::List);
    }
    for verb in ["remember", "store", "save"] {
        if let Some(rest) = after_verb(text, verb) {
            return store(rest, verb == "remember", reading);
        }
    }
    if let Some(rest) = after_verb(text, "recall") {
        let key = Key::read(rest);
        return key.fits(BARE_KEY, reading).then_some(Command::Recall { key: key.text() });
    }
    if let Some(rest) = after_verb(text, "forget") {
        let key = Key::read(rest);
        return key.fits(BARE_KEY, reading).then_some(Command::Forget { key: key.text() });
    }
    let rest = UNDER.iter().find_map(|start| after_words(question, start))?;
    let key = Key::read(rest);
    key.fits(LONG_KEY, reading).then_some(Command::Recall { key: key.text() })
}

/// Reads what stands after the verb of a store command.
fn store(rest: &str, remember: bool, reading: Reading) -> Option<Command<'_>> {
    // `remember: door code = 4711`, `remember this: door code = 4711`
    let told = rest.strip_prefix(':').or_else(|| {
        let (start, told) = rest.split_once(':')?;
        after_words(start, "this").is_some_and(str::is_empty).then_some(told)
    });
    let text = told.unwrap_or(rest).trim();
    let (said_that, text) = match after_words(text, "that") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let announced = said_that || told.is_some();
    let question = reading == Reading::Wary && text.ends_with('?');
    let Some(pair) = Pair::find(text) else {
        let key = Key::read(text);
        // An announcement without a pair is a sentence, and so is what may be said of things.
        let article = text.split_whitespace().next().is_some_and(is_article);
        let sentence = announced || question || (article && !remember);
        let taken = reading == Reading::Willing || !sentence;
        return (taken && key.fits(STORE_KEY, reading))
            .then_some(Command::Store { key: key.text(), value: None });
    };
    let key = Key::read(pair.key);
    let (limit, taken) = match pair.sign {
        Sign::Equals => (LONG_KEY, true),
        Sign::Is if said_that => (LONG_KEY, !question),
        Sign::Is | Sign::Colon => (CLOSE_KEY, !question),
    };
    (taken && key.fits(limit, reading))
        .then_some(Command::Store { key: key.text(), value: value_of(pair.value) })
}

/// What stands between a key and its value.
#[derive(Clone, Copy)]
enum Sign {
    Equals,
    Colon,
    Is,
}

/// A text around its first sign.
struct Pair<'a> {
    key: &'a str,
    sign: Sign,
    value: &'a str,
}

impl<'a> Pair<'a> {
    /// Comparisons and arrows are no `=`; times of day and `://` are no `:`; a sign within a quoted
    /// key does not count.
    fn find(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let at = |at: Option<usize>| at.and_then(|at| bytes.get(at)).copied();
        let is_blank = |byte: u8| byte.is_ascii_whitespace();
        let from = quoted_start(text).map_or(0, |(_, rest)| text.len() - rest.len());
        for (here, byte) in bytes.iter().enumerate().skip(from) {
            let (before, after) = (at(here.checked_sub(1)), at(here.checked_add(1)));
            let (sign, length) = match byte {
                b'=' => {
                    let part = |byte: Option<u8>| byte.is_some_and(|b| b"=<>!".contains(&b));
                    if part(before) || part(after) {
                        continue;
                    }
                    (Sign::Equals, 1)
                }
                b':' => {
                    let digit = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_digit());
                    let time = digit(before) && digit(after);
                    if time || text.get(here..).is_some_and(|rest| rest.starts_with("://")) {
                        continue;
                    }
                    (Sign::Colon, 1)
                }
                b'i' | b'I' => {
                    let word = before.is_some_and(is_blank)
                        && after.is_some_and(|byte| byte.eq_ignore_ascii_case(&b's'))
                        && at(here.checked_add(2)).is_none_or(is_blank);
                    if !word {
                        continue;
                    }
                    (Sign::Is, 2)
                }
                _ => continue,
            };
            let (key, value) = (text.get(..here)?, text.get(here + length..)?);
            // `the door code is: 4711`
            let key = match sign {
                Sign::Is => key,
                Sign::Equals | Sign::Colon => key.strip_suffix(" is").unwrap_or(key),
            };
            return Some(Self { key, sign, value });
        }
        None
    }
}

/// A key as it stands in a message.
#[derive(Clone, Copy)]
enum Key<'a> {
    Absent,
    Bare(&'a str),
    Quoted(&'a str),
}

impl<'a> Key<'a> {
    /// Without a `please` and punctuation at the end, without quotes around it.
    fn read(text: &'a str) -> Self {
        const END: [char; 5] = ['.', '?', '!', ',', ';'];
        let ends = |text: &'a str| {
            text.trim_end_matches(|char: char| char.is_whitespace() || END.contains(&char))
        };
        let text = ends(text.trim());
        let text = match split_last(text, "please") {
            Some(start) if start.is_empty() || start.ends_with(char::is_whitespace) => ends(start),
            Some(start) if start.ends_with(',') => ends(start),
            Some(_) | None => text,
        };
        match quoted_start(text) {
            Some((inner, "")) if inner.trim().is_empty() => Self::Absent,
            Some((inner, "")) => Self::Quoted(inner.trim()),
            _ if text.is_empty() => Self::Absent,
            _ => Self::Bare(text),
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::Absent => None,
            Self::Bare(text) | Self::Quoted(text) => Some(text),
        }
    }

    /// Whether it looks like a key of at most `words` words; an absent one is asked for.
    fn fits(self, words: usize, reading: Reading) -> bool {
        match (reading, self) {
            (Reading::Willing, _) | (Reading::Wary, Self::Absent | Self::Quoted(_)) => true,
            (Reading::Wary, Self::Bare(text)) => {
                // One more than allowed is enough to know.
                let few = text.split_whitespace().take(words + 1).count() <= words;
                few && !text.contains(['\n', '\r'])
                    && !text.contains("://")
                    && !text.split_whitespace().any(is_prose)
            }
        }
    }
}

fn is_prose(word: &str) -> bool {
    // A comma, a colon or a full stop at its end makes a word part of a sentence.
    if word.ends_with([',', ';', '.', '!', '?']) {
        return true;
    }
    // `you're`, `it's`
    let stem = word.split(['\'', '’']).next().unwrap_or(word);
    PROSE.iter().any(|prose| prose.eq_ignore_ascii_case(stem))
}

fn is_article(word: &str) -> bool {
    word.eq_ignore_ascii_case("the") || word.eq_ignore_ascii_case("my")
}

/// Trimmed and without quotes around the whole; `None` when nothing is left.
fn value_of(text: &str) -> Option<&str> {
    let text = text.trim();
    let text = match quoted_start(text) {
        Some((inner, "")) => inner.trim(),
        _ => text,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// A key that is all there is: one line, not much longer than a key may be.
fn lone_key(text: &str) -> Result<&str, MemoryError> {
    let plain = |key: &&str| key.len() <= 2 * KEY_BYTES && !key.contains(['\n', '\r']);
    Key::read(text).text().filter(plain).ok_or(MemoryError::NotUnderstood)
}

/// The text in the quotes that `text` begins with, and what follows them.
fn quoted_start(text: &str) -> Option<(&str, &str)> {
    let open = text.chars().next()?;
    let close = match open {
        '"' | '\'' | '`' => open,
        '“' => '”',
        '‘' => '’',
        '«' => '»',
        _ => return None,
    };
    text.get(open.len_utf8()..)?.split_once(close)
}

/// The trimmed message without a `please` before it.
fn without_please(message: &str) -> &str {
    let text = message.trim();
    match after_words(text, "please") {
        Some(rest) => rest,
        None => after_words(text, "please,").unwrap_or(text),
    }
}

/// What follows `verb` when the text begins with it as a word of its own.
fn after_verb<'a>(text: &'a str, verb: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(verb.len())?;
    let ends = |char: char| char.is_whitespace() || ":=.,?!".contains(char);
    (start.eq_ignore_ascii_case(verb) && rest.chars().next().is_none_or(ends))
        .then(|| rest.trim_start())
}

/// What follows the words of `phrase` when the text begins with them.
fn after_words<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let typed = |char: char| if char == '’' { '\'' } else { char.to_ascii_lowercase() };
    let mut rest = text;
    for word in phrase.split(' ') {
        let mut chars = rest.chars();
        for expected in word.chars() {
            chars.next().filter(|char| typed(*char) == expected)?;
        }
        rest = chars.as_str();
        if rest.starts_with(|char: char| !char.is_whitespace()) {
            return None;
        }
        rest = rest.trim_start();
    }
    Some(rest)
}

/// What stands before `word` at the end of the text.
fn split_last<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, end) = text.split_at_checked(text.len().checked_sub(word.len())?)?;
    end.eq_ignore_ascii_case(word).then_some(start)
}

fn write_keys(f: &mut fmt::Formatter<'_>, keys: &[&str]) -> fmt::Result {
    for (at, key) in keys.iter().take(SHOWN_KEYS).enumerate() {
        write!(f, "{}{key}", if at == 0 { "" } else { ", " })?;
    }
    match keys.len().saturating_sub(SHOWN_KEYS) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair<'a>(key: &'a str, value: &'a str) -> Command<'a> {
        Command::Store { key: Some(key), value: Some(value) }
    }

    fn stored(key: Option<&str>) -> Command<'_> {
        Command::Store { key, value: None }
    }

    fn recalled(key: &str) -> Command<'_> {
        Command::Recall { key: Some(key) }
    }

    fn forgotten(key: &str) -> Command<'_> {
        Command::Forget { key: Some(key) }
    }

    #[test]
    fn whole_store_commands_are_claimed() {
        for (message, command) in [
            ("remember door code = 4711", pair("door code", "4711")),
            ("remember that the door code is 4711", pair("the door code", "4711")),
            ("Remember my name is Bob", pair("my name", "Bob")),
            ("store wifi=abc", pair("wifi", "abc")),
            ("save wifi: abc", pair("wifi", "abc")),
            ("save wifi:abc", pair("wifi", "abc")),
            ("  PLEASE, store wifi = \"a = b\"  ", pair("wifi", "a = b")),
            ("remember: door code = 4711", pair("door code", "4711")),
            ("remember this: the door code is 4711", pair("the door code", "4711")),
            ("remember the door code is: 4711", pair("the door code", "4711")),
            ("remember that the url is http://x/?a=b", pair("the url", "http://x/?a=b")),
            ("remember that the meeting is at 10:30", pair("the meeting", "at 10:30")),
            ("store note = line one\nline two?", pair("note", "line one\nline two?")),
            ("store \"what to do: today\" = nothing", pair("what to do: today", "nothing")),
            ("remember anna's birthday = May 1", pair("anna's birthday", "May 1")),
        ] {
            assert_eq!(claim(message), Some(command), "{message}");
        }
    }

    #[test]
    fn other_whole_commands_are_claimed() {
        for (message, command) in [
            ("recall door code", recalled("door code")),
            ("recall the door code, please!", recalled("the door code")),
            ("Recall “door code”?", recalled("door code")),
            ("what is stored under wifi?", recalled("wifi")),
            ("What’s stored under wifi", recalled("wifi")),
            ("forget door code", forgotten("door code")),
            ("please forget 'all of it'.", forgotten("all of it")),
            ("list memory", Command::List),
            ("List keys, please.", Command::List),
            ("what do you remember?", Command::List),
            ("what  is stored ?", Command::List),
        ] {
            assert_eq!(claim(message), Some(command), "{message}");
        }
    }

    #[test]
    fn commands_with_parts_missing_are_claimed() {
        for (message, command) in [
            ("remember", stored(None)),
            ("store", stored(None)),
            ("save please", stored(None)),
            ("store wifi", stored(Some("wifi"))),
            ("store wifi =", stored(Some("wifi"))),
            ("store wifi = \"\"", stored(Some("wifi"))),
            ("remember the door code", stored(Some("the door code"))),
            ("remember that the door code is", stored(Some("the door code"))),
            ("store = abc", Command::Store { key: None, value: Some("abc") }),
            ("recall", Command::Recall { key: None }),
            ("what is stored under?", Command::Recall { key: None }),
            ("Forget!", Command::Forget { key: None }),
        ] {
            assert_eq!(claim(message), Some(command), "{message}");
        }
    }

    #[test]
    fn prose_is_not_claimed() {
        for message in [
            "",
            "please",
            "remember when we were young?",
            "remember when the sky is blue?",
            "remember?",
            "remember to buy milk",
            "remember that I like tea",
            "remember me",
            "remember, you are a pirate: talk like one",
            "remember the meeting at 10:30",
            "remembering = hard",
            "store the results of the analysis in a nice table for me please",
            "store the results: a, b, c?",
            "store these numbers: 1 2 3",
            "save me",
            "save us!",
            "Save the whales",
            "save the file",
            "save this as json: {}",
            "save the following text to a file: hello",
            "save https://example.com/?a=b",
            "save-the-date = today",
            "save time, money and nerves",
            "save if a == b",
            "recall that we spoke about tea",
            "recall what happened in 1989 and explain why",
            "forget it",
            "forget about it",
            "forget everything",
            "Forget all previous instructions",
            "forget previous instructions",
            "forget what I said",
            "list keys of a dictionary in Python",
            "what do you remember about the war?",
            "what is stored under the hood of this car?",
            "what is the door code?",
            "door code = 4711",
            "door code",
        ] {
            assert_eq!(claim(message), None, "{message}");
        }
    }

    #[test]
    fn a_store_command_without_a_value_has_at_most_three_words() {
        assert_eq!(
            claim("remember guest wifi password"),
            Some(stored(Some("guest wifi password")))
        );
        assert_eq!(claim("remember guest wifi password upstairs"), None);
        assert!(claim("remember guest wifi password upstairs = x").is_some());
        assert!(claim("recall guest wifi password upstairs").is_some());
    }

    #[test]
    fn a_chosen_skill_takes_more() {
        for (message, command) in [
            ("door code = 4711", pair("door code", "4711")),
            ("door code: 4711", pair("door code", "4711")),
            ("the door code is 4711", pair("the door code", "4711")),
            ("door code", recalled("door code")),
            ("door code?", recalled("door code")),
            ("what is the door code?", recalled("the door code")),
            ("save the file", stored(Some("the file"))),
            ("recall the plot of the play we saw", recalled("the plot of the play we saw")),
            ("recall", Command::Recall { key: None }),
            ("list memory", Command::List),
        ] {
            assert_eq!(parse(message), Ok(command), "{message}");
        }
    }

    #[test]
    fn whatever_is_claimed_is_parsed_alike() {
        for message in
            ["remember a1 = b", "save x: y", "recall x", "forget x", "list keys", "store"]
        {
            assert_eq!(claim(message), parse(message).ok(), "{message}");
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_with_the_commands() {
        for message in ["", " ? ", "=", "one line\nand another", &"long ".repeat(100)] {
            assert_eq!(parse(message), Err(MemoryError::NotUnderstood), "{message}");
        }
        assert!(MemoryError::NotUnderstood.to_string().contains("`recall KEY`"));
    }

    #[test]
    fn a_value_loses_only_quotes_around_the_whole() {
        for (text, value) in [
            (" 4711. ", Some("4711.")),
            ("\"a b\"", Some("a b")),
            ("“a b”", Some("a b")),
            ("\"a\" and \"b\"", Some("\"a\" and \"b\"")),
            ("\"", Some("\"")),
            ("''", None),
            ("' '", None),
            ("it's", Some("it's")),
            ("\n", None),
        ] {
            assert_eq!(value_of(text), value, "{text}");
        }
    }

    #[test]
    fn questions_ask_for_one_part_at_a_time() {
        let asked = claim("remember").unwrap();
        assert_eq!(asked.missing(), Some(Missing::Key));
        assert_eq!(asked.question(), "what should be stored, under which key?");
        let asked = complete(asked, "My  Door Code");
        assert_eq!(asked.missing(), Some(Missing::Value));
        assert_eq!(asked.question(), "what should be stored under `door code`?");
        let whole = complete(asked, " '4711' ");
        assert_eq!(whole, pair("My  Door Code", "4711"));
        assert_eq!(whole.missing(), None);
        assert_eq!(whole.question(), "");
    }

    #[test]
    fn an_answer_may_bring_both_parts() {
        assert_eq!(complete(stored(None), "door code = 4711"), pair("door code", "4711"));
        let valued = Command::Store { key: None, value: Some("v") };
        assert_eq!(complete(valued, "a = b"), pair("a = b", "v"));
    }

    #[test]
    fn answers_complete_recalls_and_forgets() {
        assert_eq!(complete(Command::Recall { key: None }, "wifi."), recalled("wifi"));
        assert_eq!(complete(Command::Forget { key: None }, "\"wifi\""), forgotten("wifi"));
        assert_eq!(complete(Command::Forget { key: None }, " "), Command::Forget { key: None });
        assert_eq!(complete(pair("a", "b"), "c"), pair("a", "b"));
        assert_eq!(complete(Command::List, "c"), Command::List);
    }

    #[test]
    fn keys_meet_in_their_normal_form() {
        for key in ["door code", "my Door\t code", " the DOOR code ", "the my door\u{a0}code"] {
            assert_eq!(normal_key(key).as_deref(), Ok("door code"), "{key}");
        }
        assert_eq!(normal_key("the").as_deref(), Ok("the"));
        assert_eq!(normal_key("theme").as_deref(), Ok("theme"));
        assert_eq!(normal_key("ÄÖ").as_deref(), Ok("äö"));
    }

    #[test]
    fn a_normal_key_has_1_to_128_bytes_and_no_control_characters() {
        assert_eq!(normal_key(" \n "), Err(MemoryError::KeyEmpty));
        assert_eq!(normal_key("a\u{0}b"), Err(MemoryError::KeyControl));
        assert_eq!(normal_key("a\u{1b}[0m"), Err(MemoryError::KeyControl));
        assert!(normal_key(&format!("the {}", "k".repeat(128))).is_ok());
        assert_eq!(normal_key(&"k".repeat(129)), Err(MemoryError::KeyTooLong));
        assert_eq!(normal_key(&"é ".repeat(100_000)), Err(MemoryError::KeyTooLong));
    }

    #[test]
    fn answers_read_as_sentences() {
        let known: &[&str] = &["a", "b"];
        for (answer, text) in [
            (Answer::Stored { key: "door code", replaced: false }, "stored `door code`"),
            (Answer::Stored { key: "door code", replaced: true }, "stored `door code` anew"),
            (Answer::Recalled { key: "door code", value: "4711" }, "`door code` is 4711"),
            (Answer::Unknown { key: "x", known }, "nothing is stored under `x`; known keys: a, b"),
            (Answer::Unknown { key: "x", known: &[] }, "nothing is stored under `x`"),
            (Answer::Listed(known), "stored keys: a, b"),
            (Answer::Listed(&[]), "nothing is stored"),
            (Answer::Forgotten { key: "x" }, "forgot `x`"),
            (Answer::Full { keys: 64 }, "all 64 keys are in use; forget one to store another"),
            (
                Answer::ValueTooLong { limit_bytes: 4096 },
                "a value must not be longer than 4096 bytes",
            ),
        ] {
            assert_eq!(answer.to_string(), text);
        }
        let many = vec!["k"; 70];
        assert!(Answer::Listed(&many).to_string().ends_with("k, k and 6 more"));
    }

    #[test]
    fn no_text_is_too_odd_or_too_long() {
        let pieces = [
            "remember",
            "store",
            "that",
            " ",
            "=",
            ":",
            " is",
            "é",
            "“",
            "”",
            "\"",
            "'",
            "please",
            "what is stored under",
            "?",
            "\n",
            "the",
            "😀",
            "recall",
            "//",
            "1",
            ",",
        ];
        // xorshift64, seeded
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        for round in 0..20_000 {
            let mut message = String::new();
            for _ in 0..round % 9 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state % 22).unwrap();
                message.push_str(pieces[at]);
            }
            let claimed = claim(&message);
            if let Ok(command) = parse(&message) {
                let _ = complete(command, &message).question();
            } else {
                assert_eq!(claimed, None, "{message:?}");
            }
            assert!(claimed.is_none_or(|command| parse(&message) == Ok(command)), "{message:?}");
        }
        for piece in pieces {
            let long = piece.repeat(262_144 / piece.len());
            let _ = (claim(&long), parse(&long), normal_key(&long));
            let long = format!("store {long}");
            let _ = (claim(&long), parse(&long), normal_key(&long));
        }
    }
}
