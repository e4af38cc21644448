//! Counts what a text is made of: characters, words, sentences, how hard it reads, and the numbers in it.
//!
//! Decides whether a message asks for that and makes the report. Pure: no clock, no input or output. A few passes over
//! the text, in linear time; what is kept is bounded whatever the text, and a report says where a bound cut it short.
//!
//! A word is a run of letters and digits, with apostrophes and hyphens inside; a number keeps its point and commas. In
//! scripts without spaces every ideograph and every kana counts as a word. A sentence ends at `.`, `!`, `?` or an
//! ellipsis before white space, at their wide forms, and at an empty line; the point of an abbreviation or an initial
//! does not end one. Readability: Flesch (1948) and Kincaid (1975), for English, with syllables estimated from groups
//! of vowels.
//!
//! A number is written in digits, with or without a decimal point, with commas before groups of exactly three digits,
//! and with a sign where it cannot be a dash. Digits that touch letters (`4th`, `v2`) and dotted ones (`10.0.0.1`) are
//! names and no numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::base::json::Json;
use crate::base::order::sorted;

/// Different words that are told apart.
const DISTINCT_WORDS: usize = 4096;
/// Characters by which words are told apart, and to which the longest is cut.
const WORD_CHARACTERS: usize = 64;
/// Words listed as the most frequent ones.
const LISTED_WORDS: usize = 10;
/// Numbers kept for the median.
const KEPT_NUMBERS: usize = 4096;
/// Bytes of a number; what is longer is an identifier rather than an amount.
const NUMBER_BYTES: usize = 64;
/// Bytes of a message in which the request has to end with its colon.
const REQUEST_BYTES: usize = 96;
/// Words read in a minute.
const READING_SPEED: u64 = 200;

/// A message that asks for an analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The text to analyze: not empty, without white space around it.
    pub subject: &'a str,
}

/// Reads a message that nobody assigned to this skill.
///
/// `Some` for `Analyze text: ..`, `text analysis: ..`, `word count: ..`, `count the words in: ..` and the like: what
/// stands before the first colon must be such a request and nothing else, and a text must follow.
pub fn claim(message: &str) -> Option<Request<'_>> {
    const FILLERS: [&str; 9] =
        ["please", "the", "this", "these", "following", "in", "of", "my", "a"];
    const REQUESTS: [&[&str]; 12] = [
        &["analyze", "text"],
        &["analyse", "text"],
        &["text", "analysis"],
        &["text", "analyzer"],
        &["text_analyzer"],
        &["text", "statistics"],
        &["word", "count"],
        &["word", "count", "text"],
        &["wordcount"],
        &["count", "words"],
        &["count", "words", "text"],
        &["count", "words", "sentence"],
    ];
    let message = message.trim_start();
    let colon = message.bytes().take(REQUEST_BYTES).position(|b| b == b':')?;
    let (request, subject) = message.split_at(colon);
    let is = |word: &str, other: &&str| word.eq_ignore_ascii_case(other);
    let words = || request.split_whitespace().filter(|w| !FILLERS.iter().any(|f| is(w, f)));
    let asked = REQUESTS.iter().any(|r| {
        words().count() == r.len() && words().zip(*r).all(|(word, expected)| is(word, expected))
    });
    let subject = subject[1..].trim();
    (asked && !subject.is_empty()).then_some(Request { subject })
}

/// The text to analyze when the sender chose this skill: what a request names, else the whole message.
pub fn subject(message: &str) -> &str {
    claim(message).map_or(message, |request| request.subject)
}

/// What was counted in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    characters: u64,
    visible_characters: u64,
    bytes: u64,
    words: u64,
    unique_words: u64,
    /// False when there were more words, or longer ones, than are told apart.
    unique_words_exact: bool,
    sentences: u64,
    paragraphs: u64,
    lines: u64,
    word_characters: u64,
    syllables: u64,
    longest_word: String,
    /// The most frequent first, equals in alphabetical order.
    frequent_words: Vec<(String, u64)>,
    /// `None` when there is no number in the text.
    numbers: Option<Numbers>,
}

/// Statistics of the numbers in a text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbers {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    /// `None` when there were more numbers than are kept.
    median: Option<f64>,
    /// Of the numbers as the whole population.
    deviation: f64,
}

/// Counts what `text` is made of, in time proportional to its length.
pub fn analyze(text: &str) -> Report {
    let mut table: BTreeMap<String, u64> = BTreeMap::new();
    let mut unique_words_exact = true;
    let (mut words, mut sentences, mut word_characters, mut syllables) = (0, 0, 0, 0);
    let (mut longest, mut longest_characters) = ("", 0);
    let mut before = "";
    let mut key = String::new();
    let mut at = 0;
    while let Some((start, end)) = next_word(text, at) {
        let word = &text[start..end];
        if words == 0 || ends_sentence(before, &text[at..start]) {
            sentences += 1;
        }
        let characters = word.chars().count();
        words += 1;
        word_characters += characters as u64;
        if characters > longest_characters {
            (longest, longest_characters) = (word, characters);
        }
        fold(word, &mut key);
        syllables += count_syllables(&key);
        unique_words_exact &= characters <= WORD_CHARACTERS;
        if let Some(count) = table.get_mut(&key) {
            *count += 1;
        } else if table.len() < DISTINCT_WORDS {
            table.insert(key.clone(), 1);
        } else {
            unique_words_exact = false;
        }
        (before, at) = (word, end);
    }
    let unique_words = table.len() as u64;
    // Equals stay in the table's alphabetical order.
    let mut frequent_words = sorted(table.into_iter().collect(), |a, b| a.1 > b.1);
    frequent_words.truncate(LISTED_WORDS);

    let (lines, paragraphs) = count_lines(text);
    Report {
        characters: text.chars().count() as u64,
        visible_characters: text.chars().filter(|c| !c.is_whitespace()).count() as u64,
        bytes: text.len() as u64,
        words,
        unique_words,
        unique_words_exact,
        sentences,
        paragraphs,
        lines,
        word_characters,
        syllables,
        longest_word: longest.chars().take(WORD_CHARACTERS).collect(),
        frequent_words,
        numbers: Tally::of(text).map(Tally::numbers),
    }
}

impl Report {
    /// The report for people: about twelve lines, without a line break at the end.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(1024);
        let _ = writeln!(
            text,
            "Characters: {} ({} without white space, {} bytes)",
            self.characters, self.visible_characters, self.bytes
        );
        let least = if self.unique_words_exact { "" } else { "at least " };
        let _ = writeln!(text, "Words: {} ({least}{} different)", self.words, self.unique_words);
        let _ = writeln!(text, "Sentences: {}", self.sentences);
        let _ = write!(text, "Paragraphs: {}\nLines: {}", self.paragraphs, self.lines);
        if let Some((ease, grade)) = self.readability() {
            let (word, sentence) = self.averages();
            let _ = write!(text, "\nAverage word: {word} characters");
            let _ = write!(text, "\nAverage sentence: {sentence} words");
            let _ = write!(text, "\nLongest word: {}\nMost frequent words: ", self.longest_word);
            for (nth, (word, count)) in self.frequent_words.iter().enumerate() {
                let _ = write!(text, "{}{word} ({count})", if nth == 0 { "" } else { ", " });
            }
            let _ = write!(
                text,
                "\nReading time: {} s at {READING_SPEED} words a minute",
                self.reading_time_s()
            );
            let _ = write!(text, "\nFlesch reading ease: {ease} (Flesch-Kincaid grade {grade})");
        }
        if let Some(n) = &self.numbers {
            let _ = write!(
                text,
                "\nNumbers: {} (sum {}, minimum {}, maximum {}, mean {}, ",
                n.count, n.sum, n.min, n.max, n.mean
            );
            let _ = match n.median {
                Some(median) => write!(text, "median {median}, "),
                None => write!(text, "median omitted for more than {KEPT_NUMBERS}, "),
            };
            let _ = write!(text, "standard deviation {})", n.deviation);
        }
        text
    }

    /// The report for programs: one JSON object.
    ///
    /// `flesch_reading_ease` and `flesch_kincaid_grade` are left out when there is no word, `numbers` when there is no
    /// number. With `unique_words_exact` false, `unique_words` is a lower bound.
    pub fn json(&self) -> String {
        let mut json = Json::with_capacity(1024);
        json.open_object();
        let (word_length, sentence_length) = self.averages();
        for (name, count) in [
            ("characters", self.characters),
            ("characters_without_whitespace", self.visible_characters),
            ("bytes", self.bytes),
            ("words", self.words),
            ("unique_words", self.unique_words),
            ("sentences", self.sentences),
            ("paragraphs", self.paragraphs),
            ("lines", self.lines),
            ("reading_time_seconds", self.reading_time_s()),
        ] {
            json.key(name);
            json.number(count);
        }
        json.key("unique_words_exact");
        json.bool(self.unique_words_exact);
        write_float(&mut json, "average_word_length", word_length);
        write_float(&mut json, "average_sentence_length", sentence_length);
        json.member("longest_word", &self.longest_word);
        json.key("frequent_words");
        json.open_array();
        for (word, count) in &self.frequent_words {
            json.open_object();
            json.member("word", word);
            json.key("count");
            json.number(*count);
            json.close_object();
        }
        json.close_array();
        if let Some((ease, grade)) = self.readability() {
            write_float(&mut json, "flesch_reading_ease", ease);
            write_float(&mut json, "flesch_kincaid_grade", grade);
        }
        if let Some(numbers) = &self.numbers {
            json.key("numbers");
            numbers.write(&mut json);
        }
        json.close_object();
        json.into_string()
    }

    fn reading_time_s(&self) -> u64 {
        (self.words * 60).div_ceil(READING_SPEED)
    }

    /// Characters per word and words per sentence, to two places; 0 without words.
    fn averages(&self) -> (f64, f64) {
        let word = quotient(self.word_characters, self.words);
        (hundredths(word), hundredths(quotient(self.words, self.sentences)))
    }

    /// Flesch reading ease and Flesch-Kincaid grade, to two places; `None` without words.
    fn readability(&self) -> Option<(f64, f64)> {
        if self.words == 0 {
            return None;
        }
        let sentence = quotient(self.words, self.sentences);
        let syllables = quotient(self.syllables, self.words);
        let ease = 206.835 - 1.015 * sentence - 84.6 * syllables;
        let grade = 0.39 * sentence + 11.8 * syllables - 15.59;
        Some((hundredths(ease), hundredths(grade)))
    }
}

impl Numbers {
    fn write(&self, json: &mut Json) {
        json.open_object();
        json.key("count");
        json.number(self.count);
        write_float(json, "sum", self.sum);
        write_float(json, "min", self.min);
        write_float(json, "max", self.max);
        write_float(json, "mean", self.mean);
        if let Some(median) = self.median {
            write_float(json, "median", median);
        } else {
            json.key("median_omitted");
            json.bool(true);
        }
        write_float(json, "standard_deviation", self.deviation);
        json.close_object();
    }
}

fn write_float(json: &mut Json, name: &str, value: f64) {
    json.key(name);
    json.float(value);
}

/// Where the first word from `from` on starts and ends.
fn next_word(text: &str, from: usize) -> Option<(usize, usize)> {
    let start = from + text[from..].find(char::is_alphanumeric)?;
    let mut characters = text[start..].chars().peekable();
    let mut last = characters.next()?;
    let mut end = start + last.len_utf8();
    if stands_alone(last) {
        return Some((start, end));
    }
    while let Some(c) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        let belongs = match c {
            '\'' | '\u{2019}' | '-' | '_' => next.is_alphanumeric() && !stands_alone(next),
            '.' | ',' => last.is_ascii_digit() && next.is_ascii_digit(),
            _ => (c.is_alphanumeric() && !stands_alone(c)) || is_mark(c),
        };
        if !belongs {
            break;
        }
        end += c.len_utf8();
        last = c;
    }
    Some((start, end))
}

/// Whether `c` is a word by itself: ideographs and kana.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether `c` modifies the letter before it without being one: accents, joiners, and the dots and strokes that the
/// scripts of India have at like places of their blocks.
fn is_mark(c: char) -> bool {
    let indic = ('\u{900}'..'\u{e00}').contains(&c) && matches!(u32::from(c) & 0x7f, 0x3c | 0x4d);
    indic || matches!(c, '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}')
}

/// Whether a sentence ends in the `gap` after the word `before`.
fn ends_sentence(before: &str, gap: &str) -> bool {
    if gap.contains(['\u{3002}', '\u{ff01}', '\u{ff1f}']) || has_empty_line(gap) {
        return true;
    }
    let stop = gap.find(['.', '!', '?', '\u{2026}']);
    let Some(tail) = stop.map(|at| &gap[at..]) else { return false };
    let abbreviated = gap.starts_with('.') && !gap.starts_with("..") && is_abbreviation(before);
    tail.contains(char::is_whitespace) && !abbreviated
}

fn has_empty_line(gap: &str) -> bool {
    // The first and last pieces belong to the lines of the words.
    let breaks = gap.bytes().filter(|b| *b == b'\n').count();
    breaks > 1 && gap.lines().skip(1).take(breaks - 1).any(|line| line.trim().is_empty())
}

fn is_abbreviation(word: &str) -> bool {
    const KNOWN: [&str; 11] =
        ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "fig", "jr", "sr", "approx"];
    let initial = word.len() == 1 && word.bytes().all(|b| b.is_ascii_alphabetic());
    initial || KNOWN[..].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Lines, and groups of lines that are not blank.
fn count_lines(text: &str) -> (u64, u64) {
    let (mut lines, mut paragraphs) = (0, 0);
    let mut inside = false;
    for line in text.lines() {
        let blank = line.trim().is_empty();
        lines += 1;
        paragraphs += u64::from(!blank && !inside);
        inside = !blank;
    }
    (lines, paragraphs)
}

/// Writes to `key` what tells `word` apart from others: small letters, at most 64 characters.
fn fold(word: &str, key: &mut String) {
    key.clear();
    for c in word.chars().take(WORD_CHARACTERS) {
        match c {
            '\u{2019}' => key.push('\''),
            _ => key.extend(c.to_lowercase()),
        }
    }
}

/// An estimate for an English word in small letters: its groups of vowels, less a silent `e`, and at least one.
fn count_syllables(word: &str) -> u64 {
    let mut groups = 0;
    let mut in_vowels = false;
    for c in word.chars() {
        let vowel = matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y' | '\u{e0}'..='\u{e6}'
            | '\u{e8}'..='\u{ef}' | '\u{f2}'..='\u{f6}' | '\u{f8}'..='\u{fd}' | '\u{153}');
        groups += u64::from(vowel && !in_vowels);
        in_vowels = vowel;
    }
    let stem = word.strip_suffix("'s").unwrap_or(word);
    if has_silent_e(stem) {
        groups = groups.saturating_sub(1);
    }
    groups.max(1)
}

/// Whether the `e` of a final `e`, `es` or `ed` is not spoken: it follows a consonant that does without it.
fn has_silent_e(word: &str) -> bool {
    let before = |suffix: &str| {
        let stem = word.strip_suffix(suffix)?.as_bytes();
        let last = stem.last().filter(|b| b.is_ascii_alphabetic() && !b"aeiouy".contains(b))?;
        let second = stem.len().checked_sub(2).map(|at| stem[at]);
        // The l of "table" and "apples" carries the syllable, that of "whole" does not.
        let syllabic = *last == b'l' && second.is_some_and(|b| !b"aeiouyl".contains(&b));
        Some((*last, syllabic))
    };
    if let Some((last, _)) = before("ed") {
        !matches!(last, b't' | b'd')
    } else if let Some((last, syllabic)) = before("es") {
        !matches!(last, b's' | b'z' | b'x' | b'c' | b'g' | b'h') && !syllabic
    } else if let Some((_, syllabic)) = before("e") {
        !syllabic
    } else {
        false
    }
}

/// Numbers as they are met in a text.
#[derive(Default)]
struct Tally {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    /// Sum of the squared distances to the mean, after Welford.
    squares: f64,
    /// The first of them.
    kept: Vec<f64>,
}

impl Tally {
    /// The numbers of `text`, `None` if there are none.
    fn of(text: &str) -> Option<Self> {
        let mut tally = Self::default();
        let mut at = 0;
        while let Some(found) = text[at..].find(|c: char| c.is_ascii_digit()) {
            let (number, end) = read_number(text, at + found);
            if let Some(value) = number {
                tally.add(value);
            }
            at = end;
        }
        (tally.count > 0).then_some(tally)
    }

    fn add(&mut self, value: f64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let distance = value - self.mean;
        self.mean += distance / quotient(self.count, 1);
        self.squares += distance * (value - self.mean);
        if self.kept.len() < KEPT_NUMBERS {
            self.kept.push(value);
        }
    }

    fn numbers(mut self) -> Numbers {
        let count = quotient(self.count, 1);
        let median = (self.count == self.kept.len() as u64).then(|| {
            self.kept = sorted(std::mem::take(&mut self.kept), |a, b| a.total_cmp(b).is_lt());
            let upper = self.kept.len() / 2;
            let lower = self.kept.len().saturating_sub(1) / 2;
            f64::midpoint(self.kept[lower], self.kept[upper])
        });
        Numbers {
            count: self.count,
            sum: tidy(self.sum),
            min: self.min,
            max: self.max,
            mean: tidy(self.sum / count),
            median: median.map(tidy),
            deviation: tidy((self.squares / count).sqrt()),
        }
    }
}

/// The number whose first digit is at `digit`, and where to look for the next one. Everything before `digit` that could
/// belong to a number has been looked at.
fn read_number(text: &str, digit: usize) -> (Option<f64>, usize) {
    let bytes = text.as_bytes();
    let digits =
        |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let in_name = |c: char| (c.is_alphanumeric() && !stands_alone(c)) || c == '_' || is_mark(c);

    let mut start = digit;
    let mut end = digits(digit);
    let has_point = text[..start].ends_with('.');
    if has_point {
        start -= 1;
    } else {
        while end - start < NUMBER_BYTES
            && bytes[start] != b'0'
            && (end - start <= 3 || bytes[end - 4] == b',')
            && bytes.get(end) == Some(&b',')
            && is_digit(end + 1)
            && digits(end + 1) == end + 4
        {
            end += 4;
        }
        if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
            end = digits(end + 1);
        }
    }
    let before = text[..start].chars().next_back();
    let dotted = bytes.get(end) == Some(&b'.') && is_digit(end + 1);
    if dotted || text[end..].starts_with(in_name) || before.is_some_and(|c| in_name(c) || c == '.')
    {
        let more = |c: char| in_name(c) || c == '.';
        return (None, end + text[end..].find(|c| !more(c)).unwrap_or(text.len() - end));
    }
    if end - start > NUMBER_BYTES {
        return (None, end);
    }
    let plain: String = text[start..end].chars().filter(|c| *c != ',').collect();
    let value: Option<f64> = plain.parse().ok();
    let signed = before.filter(|c| matches!(c, '-' | '\u{2212}')).is_some_and(|sign| {
        let earlier = text[..start - sign.len_utf8()].chars().next_back();
        earlier.is_none_or(|c| {
            c.is_whitespace() || matches!(c, '(' | '[' | '{' | '=' | ':' | ',' | ';' | '"')
        })
    });
    (value.map(|v| if signed && v != 0.0 { -v } else { v }), end)
}

/// The quotient, 0 if `divisor` is 0.
#[expect(clippy::cast_precision_loss, reason = "counts of a bounded text are far below 2^53")]
fn quotient(dividend: u64, divisor: u64) -> f64 {
    if divisor == 0 { 0.0 } else { dividend as f64 / divisor as f64 }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// `value` to 15 significant digits, so that 0.1 and 0.2 add up to 0.3.
fn tidy(value: f64) -> f64 {
    // Outside these, the scale would not be exact.
    if !(1e-7..1e15).contains(&value.abs()) {
        return value;
    }
    let mut scale = 1.0;
    while (value * scale).abs() < 1e14 {
        scale *= 10.0;
    }
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOX: &str = "The quick brown fox jumps over the lazy dog. It's done!";

    #[test]
    fn requests_with_a_text_are_claimed() {
        for (message, subject) in [
            ("Analyze text: hello", "hello"),
            ("analyse this text:  a: b \n", "a: b"),
            ("Text analysis: x", "x"),
            ("WORD COUNT: one two", "one two"),
            ("count the words in: one two", "one two"),
            ("Please count the words in this sentence: one", "one"),
            ("Analyze the following text:\nfirst\nsecond", "first\nsecond"),
            ("text_analyzer: x", "x"),
        ] {
            assert_eq!(claim(message), Some(Request { subject }), "{message}");
        }
    }

    #[test]
    fn other_messages_are_left_alone() {
        for message in [
            "",
            ":",
            "Analyze text",
            "Analyze text:   ",
            "Analyze: hello",
            "analyze the text of the law and tell me: is it good?",
            "text: hello",
            "word count",
            "countwords: x",
            "Analyze the log: text",
            "\u{e9}\u{e9} text: x",
        ] {
            assert_eq!(claim(message), None, "{message}");
        }
    }

    #[test]
    fn a_chosen_skill_takes_the_whole_message() {
        assert_eq!(subject(" plain words "), " plain words ");
        assert_eq!(subject("word count: plain words"), "plain words");
    }

    #[test]
    fn everything_is_counted() {
        let report = analyze("One two.\r\nThree four five?\n\n\nOne, h\u{e9}!\n");
        assert_eq!((report.characters, report.bytes, report.visible_characters), (38, 39, 28));
        assert_eq!((report.words, report.unique_words, report.sentences), (7, 6, 3));
        assert_eq!((report.lines, report.paragraphs), (5, 2));
        assert_eq!(report.longest_word, "Three");
        assert_eq!(report.frequent_words[0], ("one".to_owned(), 2));
        assert_eq!(report.frequent_words[1], ("five".to_owned(), 1));
        assert_eq!(report.numbers, None);
    }

    #[test]
    fn words_keep_apostrophes_hyphens_and_numbers_together() {
        let words = |text: &str| {
            let mut found = Vec::new();
            let mut at = 0;
            while let Some((start, end)) = next_word(text, at) {
                found.push(text[start..end].to_owned());
                at = end;
            }
            found.join("|")
        };
        assert_eq!(words("don\u{2019}t 'stop' -- well-known"), "don\u{2019}t|stop|well-known");
        assert_eq!(words("costs 1,234.50, or 3.5."), "costs|1,234.50|or|3.5");
        assert_eq!(words("e\u{301}te\u{301} na\u{ef}ve"), "e\u{301}te\u{301}|na\u{ef}ve");
        assert_eq!(words("\u{4f60}\u{597d}, world"), "\u{4f60}|\u{597d}|world");
        assert_eq!(words("\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}").matches('|').count(), 0);
        assert_eq!(words("\u{1f600} ... --"), "");
    }

    #[test]
    fn sentences_end_where_readers_stop() {
        for (text, expected) in [
            ("", 0),
            ("...", 0),
            ("No stop", 1),
            ("Dr. Smith met J. Doe at 3.30 p.m. today. Then he left.", 2),
            ("Wait... What?! Yes.", 3),
            ("\"Stop.\" He ran.", 2),
            ("A title\n\nA text.", 2),
            ("A title\n  \r\nA text.", 2),
            ("one line\nanother line", 1),
            ("see example.org for more", 1),
            ("lower case. still two", 2),
            ("\u{4f60}\u{597d}\u{3002}\u{4f60}\u{597d}\u{3002}", 2),
        ] {
            assert_eq!(analyze(text).sentences, expected, "{text}");
        }
    }

    #[test]
    fn syllables_are_estimated() {
        for (word, expected) in [
            ("the", 1),
            ("cat", 1),
            ("table", 2),
            ("whole", 1),
            ("apples", 2),
            ("lazy", 2),
            ("jumped", 1),
            ("wanted", 2),
            ("boxes", 2),
            ("makes", 1),
            ("quick", 1),
            ("over", 2),
            ("beautiful", 3),
            ("rhythm", 1),
            ("42", 1),
            ("na\u{ef}ve", 1),
            ("reading", 2),
            ("be", 1),
            ("see", 1),
            ("e", 1),
            ("ed", 1),
            ("es", 1),
            ("le", 1),
        ] {
            assert_eq!(count_syllables(word), expected, "{word}");
        }
    }

    #[test]
    fn readability_follows_the_formulas() {
        let report = analyze("The cat sat on the mat.");
        assert_eq!(report.readability(), Some((116.15, -1.45)));
        assert_eq!(analyze("?!").readability(), None);
    }

    #[test]
    fn numbers_are_found_and_described() {
        let numbers = |text| analyze(text).numbers;
        let all = numbers("2, 4, 4, 4, 5, 5, 7 and 9").unwrap();
        assert_eq!((all.count, all.sum, all.min, all.max), (8, 40.0, 2.0, 9.0));
        assert_eq!((all.mean, all.median, all.deviation), (5.0, Some(4.5), 2.0));
        let sum = |text| numbers(text).map(|n| (n.count, n.sum));
        assert_eq!(sum("0.1 and 0.2"), Some((2, 0.3)));
        assert_eq!(sum("$1,234.50 -4 (\u{2212}6) +1"), Some((4, 1225.5)));
        assert_eq!(sum("-1,000,000.25"), Some((1, -1_000_000.25)));
        assert_eq!(sum("2024-01-02"), Some((3, 2027.0)));
        assert_eq!(sum(".5 and -.5 and 3."), Some((3, 3.0)));
        assert_eq!(sum("1,2,3"), Some((3, 6.0)));
        assert_eq!(sum("1234,567"), Some((2, 1801.0)));
        assert_eq!(sum("21.5\u{b0}C 10%"), Some((2, 31.5)));
        assert_eq!(sum("\u{6211}\u{6709}3\u{4e2a}"), Some((1, 3.0)));
        assert_eq!(sum("4th v2 x86_64 10.0.0.1 1e5 a.5 3\u{301}"), None);
        assert_eq!(sum(&"9".repeat(100)), None);
    }

    #[test]
    fn the_text_is_readable() {
        let text = analyze(&format!("{FOX} 1 and 2.")).text();
        assert_eq!(text.lines().count(), 12, "{text}");
        assert!(text.contains("Most frequent words: the (2), 1 (1), 2 (1), and (1)"), "{text}");
        assert!(text.ends_with("mean 1.5, median 1.5, standard deviation 0.5)"), "{text}");
        assert_eq!(analyze("").text().lines().count(), 5);
    }

    #[test]
    fn the_json_is_one_object() {
        let parse =
            |text| -> serde_json::Value { serde_json::from_str(&analyze(text).json()).unwrap() };
        let json = parse("say \"hi\" 3");
        assert_eq!(json["words"], 3);
        assert_eq!(json["unique_words_exact"], true);
        assert_eq!(json["frequent_words"][0]["word"], "3");
        assert_eq!(json["numbers"]["median"], 3.0);
        assert_eq!(json["reading_time_seconds"], 1);
        let empty = parse("");
        assert!(empty.get("numbers").is_none() && empty.get("flesch_reading_ease").is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: String = (0..5000).fold(String::new(), |text, n| text + &format!("w{n} {n} "));
        let report = analyze(&many);
        assert_eq!((report.unique_words, report.unique_words_exact), (4096, false));
        let numbers = report.numbers.unwrap();
        assert_eq!((numbers.count, numbers.max, numbers.median), (5000, 4999.0, None));
        assert!(report.json().contains("\"median_omitted\":true"));
        assert!(report.text().contains("at least 4096 different"));
        let long = analyze(&"\u{df}".repeat(1000));
        assert_eq!((long.longest_word.chars().count(), long.unique_words_exact), (64, false));
    }

    #[test]
    fn every_text_is_analyzed_in_linear_time() {
        const PARTS: [&str; 24] = [
            "a",
            "E",
            "7",
            "1,000",
            ".",
            ",",
            "-",
            "'",
            "\u{2019}",
            " ",
            "\n",
            "\r\n",
            "!",
            "_",
            "\u{301}",
            "\u{94d}",
            "\u{4e00}",
            "\u{1f468}\u{200d}\u{1f469}",
            "\u{130}",
            "\u{2212}",
            "\u{3002}",
            "\u{feff}",
            "\u{661}",
            "\u{10ffff}",
        ];
        for part in PARTS {
            let text = part.repeat(256 * 1024 / part.len());
            let report = analyze(&text);
            assert_eq!(report.bytes, text.len() as u64);
        }
        for seed in 1..3000_u64 {
            let mut state = seed;
            let mut text = String::new();
            for _ in 0..seed % 40 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(PARTS[usize::try_from(state % 24).unwrap()]);
            }
            let report = analyze(&text);
            assert!(report.sentences <= report.words && report.unique_words <= report.words);
            assert!(serde_json::from_str::<serde_json::Value>(&report.json()).is_ok(), "{text}");
            assert!(!report.text().contains("NaN"), "{text}");
            claim(&text);
        }
    }
}
