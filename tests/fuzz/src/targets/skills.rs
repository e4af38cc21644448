//! The skills that read a message: calculator, text analysis, memory.

use std::time::Duration;

use serde_json::Value;
use tetherlet::skills::calculator::Expression;
use tetherlet::skills::memory::{Command, claim, complete, normal_key, parse};
use tetherlet::skills::text_analyzer;

use super::{Bytes, spent};

/// Far more than a message may cost, and far less than anybody would notice in a loop; builds for fuzzing and tests
/// are several times slower than a release.
const PATIENCE: Duration = Duration::from_millis(500);

/// Every message has an answer soon; an exact answer is read as the same number.
pub fn calculator(input: &[u8]) {
    let message = String::from_utf8_lossy(input);
    let begun = spent();
    let claimed = Expression::claim(&message);
    let outcome = Expression::parse(&message);
    let value = outcome.and_then(|expression| expression.evaluate());
    let text = match &value {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    let took = spent().saturating_sub(begun);
    assert!(took < PATIENCE, "{took:?}");
    assert!(!text.is_empty());
    if let Some(claimed) = claimed {
        let again = claimed.evaluate().map_or_else(|error| error.to_string(), |v| v.to_string());
        assert_eq!(again, text, "claimed and parsed are two calculations");
    }
    if let Ok(value) = value {
        assert!(text.bytes().all(|b| b.is_ascii_digit() || b"-.e".contains(&b)), "{text}");
        // A rounded number may be too small, or too near to nothing, to be read exactly.
        if value.is_exact() {
            let again = Expression::parse(&text).and_then(|expression| expression.evaluate());
            let again = again.unwrap_or_else(|error| panic!("{text} is no number: {error}"));
            assert!(again.to_string() == text, "{text} reads as {again}");
        }
    }
}

/// The report counts what is there, and is JSON.
pub fn text_analyzer(input: &[u8]) {
    let message = String::from_utf8_lossy(input);
    let begun = spent();
    if let Some(request) = text_analyzer::claim(&message) {
        assert!(!request.subject.is_empty() && request.subject.trim() == request.subject);
        assert!(message.trim_end().ends_with(request.subject));
        assert_eq!(text_analyzer::subject(&message), request.subject);
    } else {
        assert_eq!(text_analyzer::subject(&message), &*message);
    }
    let report = text_analyzer::analyze(&message);
    assert!(!report.text().is_empty());
    let json = report.json();
    let took = spent().saturating_sub(begun);
    assert!(took < PATIENCE, "{took:?}");
    let read: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    let count = |name: &str| read[name].as_u64().unwrap_or_else(|| panic!("{name}: {json}"));
    assert_eq!(count("characters"), message.chars().count() as u64);
    assert_eq!(count("bytes"), message.len() as u64);
    assert_eq!(count("lines"), message.lines().count() as u64);
    assert!(count("unique_words") <= count("words") && count("sentences") <= count("words"));
    assert!(count("paragraphs") <= count("lines"));
    assert_eq!(count("words") == 0, count("sentences") == 0);
    if let Some(numbers) = read.get("numbers") {
        let number = |name: &str| numbers[name].as_f64().unwrap_or_else(|| panic!("{json}"));
        let (least, most) = (number("min"), number("max"));
        // A mean is rounded, and so may pass the largest of equals by its last digit.
        let slack = 1e-9 * least.abs().max(most.abs()).max(1e-9);
        let within = least - slack..=most + slack;
        assert!(within.contains(&number("mean")), "{json}");
        assert!(numbers["median"].as_f64().is_none_or(|median| within.contains(&median)), "{json}");
        assert!(number("standard_deviation") >= 0.0, "{json}");
    }
}

/// A claimed message is the same command for the skill that was chosen; answers complete a command and change
/// nothing that was given; keys have one form.
pub fn memory(input: &[u8]) {
    let mut bytes = Bytes(input);
    let (message, answer) = (bytes.text(0), bytes.text(0));
    let claimed = claim(&message);
    let parsed = parse(&message);
    if let Some(command) = claimed {
        assert_eq!(parsed, Ok(command), "chosen, it is another command");
    }
    let Ok(command) = parsed else { return };
    assert_eq!(command.missing().is_none(), command.question().is_empty());
    let (key, value) = parts(&command);
    for part in [key, value].into_iter().flatten() {
        assert!(!part.is_empty() && message.contains(part), "{part:?} is not of the message");
    }
    let full = complete(command, &answer);
    let (full_key, full_value) = parts(&full);
    assert!(key.is_none_or(|key| full_key == Some(key)), "a given key was changed");
    assert!(value.is_none_or(|value| full_value == Some(value)), "a given value was changed");
    if command.missing().is_none() {
        assert_eq!(full, command);
    }
    for part in [full_key, full_value].into_iter().flatten() {
        let own = [key, value].into_iter().flatten().any(|given| given == part);
        assert!(!part.is_empty() && (own || answer.contains(part)), "{part:?} came from nowhere");
    }
    if let Some(Ok(normal)) = full_key.map(normal_key) {
        assert!((1..=128).contains(&normal.len()) && !normal.contains(char::is_control));
        assert_eq!(normal_key(&normal).as_ref(), Ok(&normal), "a normal key stays as it is");
        assert_eq!(normal_key(&format!(" the  {normal} ")).as_ref(), Ok(&normal));
    }
}

fn parts<'a>(command: &Command<'a>) -> (Option<&'a str>, Option<&'a str>) {
    match *command {
        Command::Store { key, value } => (key, value),
        Command::Recall { key } | Command::Forget { key } => (key, None),
        Command::List => (None, None),
    }
}
