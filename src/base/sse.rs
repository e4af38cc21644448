//! Event streams as text, both directions: bytes to events, and text to the lines of one event.
//!
//! Follows WHATWG HTML §9.2 with three differences. Text that is not UTF-8 is an error, because a
//! replaced character would silently change a reply; sizes are capped; and a field called `error`,
//! which older llama.cpp servers send in place of `data`, reads as an event of that name. `id` and
//! `retry` are ignored: nothing here reconnects.

use std::fmt;
use std::mem;

/// A comment that keeps a connection awake and carries nothing.
pub const PING: &str = ": ping\n\n";

/// Byte-fed reader of one event stream.
///
/// Holds at most one unfinished line and one event, each up to the cap, in buffers that are used
/// again.
#[derive(Debug)]
pub struct Parser {
    cap: usize,
    /// The start of a line whose end has not arrived.
    line: Vec<u8>,
    event: String,
    data: String,
    /// `data` lines of the event so far: an event without one is never given out.
    lines: usize,
    /// The event in the buffers was given out and goes with the next call.
    given: bool,
    /// The last line ended in CR, so that an LF right behind belongs to it.
    after_cr: bool,
    /// A line was read: a byte order mark is no longer expected.
    started: bool,
    failed: Option<SseError>,
}

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A complete event. An empty `event` stands for the default name, `message`.
    Frame { event: &'a str, data: &'a str },
    /// A comment line: the connection lives, nothing was said.
    Comment,
}

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SseError {
    /// A line or an event is longer than `cap` bytes.
    TooLong { cap: usize },
    /// A line is not UTF-8.
    NotUtf8,
}

impl Parser {
    /// A reader at the start of a stream. Lines and events may have `cap` bytes each.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            line: Vec::new(),
            event: String::new(),
            data: String::new(),
            lines: 0,
            given: false,
            after_cr: false,
            started: false,
            failed: None,
        }
    }

    /// Takes bytes off the front of `input` until an item is complete; `None` when the input is
    /// used up first.
    ///
    /// Call it again with the same `input` until it gives `None`, then with the next bytes. Bytes
    /// may be cut anywhere. An event whose closing blank line never arrives is not given out
    /// (§9.2.6).
    ///
    /// # Errors
    /// The stream is lost: every later call gives the same error.
    pub fn read<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<Item<'a>>, SseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if mem::take(&mut self.given) {
            self.forget_event();
        }
        match self.advance(input) {
            Ok(Some(Line::Blank)) => {
                self.given = true;
                Ok(Some(Item::Frame { event: &self.event, data: &self.data }))
            }
            Ok(Some(Line::Comment)) => Ok(Some(Item::Comment)),
            Ok(Some(Line::Field) | None) => Ok(None),
            Err(error) => {
                self.failed = Some(error);
                self.line = Vec::new();
                Err(error)
            }
        }
    }

    /// Reads lines until one of them completes an item.
    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Line>, SseError> {
        loop {
            if self.after_cr
                && let Some((first, rest)) = input.split_first()
            {
                self.after_cr = false;
                if *first == b'\n' {
                    *input = rest;
                }
            }
            let end = input.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, tail) = input.split_at(end.unwrap_or(input.len()));
            if self.line.len() + part.len() > self.cap {
                return Err(SseError::TooLong { cap: self.cap });
            }
            let Some((end, rest)) = tail.split_first() else {
                self.line.extend_from_slice(part);
                *input = &[];
                return Ok(None);
            };
            self.after_cr = *end == b'\r';
            *input = rest;
            let line = if self.line.is_empty() {
                self.take_line(part)?
            } else {
                let mut whole = mem::take(&mut self.line);
                whole.extend_from_slice(part);
                let line = self.take_line(&whole)?;
                whole.clear();
                self.line = whole;
                line
            };
            match line {
                Line::Field => {}
                Line::Blank if self.lines == 0 => self.forget_event(),
                Line::Blank | Line::Comment => return Ok(Some(line)),
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Line, SseError> {
        let mut line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        if !mem::replace(&mut self.started, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(Line::Blank);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.is_empty() && line.starts_with(':') {
            return Ok(Line::Comment);
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => self.add_data(value)?,
            "event" => value.clone_into(&mut self.event),
            "error" => {
                name.clone_into(&mut self.event);
                self.add_data(value)?;
            }
            _ => {}
        }
        Ok(Line::Field)
    }

    fn add_data(&mut self, value: &str) -> Result<(), SseError> {
        if self.data.len() + value.len() + 1 > self.cap {
            return Err(SseError::TooLong { cap: self.cap });
        }
        if self.lines > 0 {
            self.data.push('\n');
        }
        self.data.push_str(value);
        self.lines += 1;
        Ok(())
    }

    fn forget_event(&mut self) {
        self.event.clear();
        self.data.clear();
        self.lines = 0;
    }
}

/// Appends one event that carries `data`, with the default name.
///
/// Every line of `data` becomes a line of the event; the reader joins them with LF, whatever ended
/// them here.
pub fn write_data(out: &mut String, data: &str) {
    let mut rest = data;
    loop {
        out.push_str("data: ");
        let Some(end) = rest.find(['\n', '\r']) else {
            out.push_str(rest);
            out.push_str("\n\n");
            return;
        };
        let (line, tail) = rest.split_at(end);
        out.push_str(line);
        out.push('\n');
        rest = tail.strip_prefix("\r\n").unwrap_or(&tail[1..]);
    }
}

impl fmt::Display for SseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { cap } => write!(f, "event stream has a line or event over {cap} bytes"),
            Self::NotUtf8 => f.write_str("event stream has a line that is not UTF-8"),
        }
    }
}

impl std::error::Error for SseError {}

/// What a line did.
#[derive(Clone, Copy)]
enum Line {
    Blank,
    Comment,
    Field,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 1024;

    /// Frames as `event|data`, comments as `#`, an error as its text; `step` bytes per feed.
    fn read_all(stream: &[u8], step: usize, cap: usize) -> Vec<String> {
        let mut parser = Parser::new(cap);
        let mut items = Vec::new();
        for mut piece in stream.chunks(step) {
            loop {
                match parser.read(&mut piece) {
                    Ok(Some(Item::Frame { event, data })) => items.push(format!("{event}|{data}")),
                    Ok(Some(Item::Comment)) => items.push("#".to_owned()),
                    Ok(None) => break,
                    Err(error) => {
                        items.push(error.to_string());
                        return items;
                    }
                }
            }
            assert!(piece.is_empty());
        }
        items
    }

    fn items(stream: &[u8]) -> Vec<String> {
        let whole = read_all(stream, stream.len().max(1), CAP);
        for step in 1..stream.len() {
            assert_eq!(read_all(stream, step, CAP), whole, "step {step}");
        }
        whole
    }

    #[test]
    fn all_three_line_ends_read_alike_however_the_bytes_are_cut() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                format!("event: a{end}data: 1{end}data:2{end}{end}: c{end}data: é😀{end}{end}");
            // Behind a CR the next byte is needed only to skip an LF, so the item must not wait for
            // it.
            assert_eq!(items(text.as_bytes()), ["a|1\n2", "#", "|é😀"], "{end:?}");
        }
    }

    #[test]
    fn shapes_of_the_standard() {
        let table: [(&str, &[&str]); 14] = [
            ("\u{feff}data: x\n\n", &["|x"]),
            ("data: x\n\n\u{feff}data: y\n\ndata: z\n\n", &["|x", "|z"]),
            ("data:x\n\n", &["|x"]),
            ("data:  x \n\n", &["| x "]),
            ("data\n\n", &["|"]),
            ("data:\ndata:\n\n", &["|\n"]),
            ("event: gone\n\ndata: x\n\n", &["|x"]),
            ("event: a\nevent: b\ndata: x\n\n", &["b|x"]),
            ("event: a\ndata: x\n\ndata: y\n\n", &["a|x", "|y"]),
            ("id: 7\nretry: 10\nnonsense\ndata: x\n\n", &["|x"]),
            (":\n:ok\n\n\n\n", &["#", "#"]),
            ("data: a:b: c\n\n", &["|a:b: c"]),
            ("data: cut", &[]),
            ("data: cut\n", &[]),
        ];
        for (stream, expected) in table {
            assert_eq!(items(stream.as_bytes()), expected, "{stream:?}");
        }
    }

    #[test]
    fn an_error_field_reads_as_an_error_event() {
        assert_eq!(items(b"error: {\"code\":500}\n\n"), ["error|{\"code\":500}"]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_an_error_and_stay_one() {
        assert_eq!(items(b"data: \xff\n\n"), ["event stream has a line that is not UTF-8"]);
        assert_eq!(items(b"data: \xc3\n\xa9\n\n"), ["event stream has a line that is not UTF-8"]);
        let mut parser = Parser::new(CAP);
        assert_eq!(parser.read(&mut &b"\xff\n"[..]), Err(SseError::NotUtf8));
        assert_eq!(parser.read(&mut &b"data: x\n\n"[..]), Err(SseError::NotUtf8));
    }

    #[test]
    fn a_long_line_is_refused_before_it_ends() {
        let mut parser = Parser::new(16);
        let mut failed_after = 0;
        for fed in 1..100 {
            if parser.read(&mut &b"x"[..]).is_err() {
                failed_after = fed;
                break;
            }
        }
        assert_eq!(failed_after, 17);
    }

    #[test]
    fn an_event_of_many_short_lines_is_refused() {
        let text = "data: 12\n".repeat(10);
        let error = SseError::TooLong { cap: 16 }.to_string();
        assert_eq!(read_all(text.as_bytes(), 7, 16), [error]);
    }

    #[test]
    fn a_line_of_exactly_the_cap_passes() {
        assert_eq!(read_all(b"data: 0123456789\n\n", 1, 16), ["|0123456789"]);
    }

    #[test]
    fn written_text_reads_back_with_its_lines() {
        let table = [
            ("{}", "data: {}\n\n"),
            ("", "data: \n\n"),
            ("a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            ("a\n\n", "data: a\ndata: \ndata: \n\n"),
            ("a\n\rb", "data: a\ndata: \ndata: b\n\n"),
        ];
        for (text, wire) in table {
            let mut out = String::new();
            write_data(&mut out, text);
            assert_eq!(out, wire);
            let lines = text.replace("\r\n", "\n").replace('\r', "\n");
            assert_eq!(items(wire.as_bytes()), [format!("|{lines}")]);
        }
    }

    #[test]
    fn a_ping_is_a_comment() {
        assert_eq!(items(PING.as_bytes()), ["#"]);
    }

    #[test]
    fn any_bytes_read_the_same_however_they_are_cut() {
        const PARTS: [&[u8]; 16] = [
            b"data:",
            b"data: x",
            b"event: e",
            b"error: y",
            b"\n",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b": c",
            b":",
            b"\xef\xbb\xbf",
            "é".as_bytes(),
            b"\xff",
            b"0123456789",
            b" ",
        ];
        for seed in 1..400_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                usize::try_from(state >> 33).unwrap()
            };
            let mut stream = Vec::new();
            for _ in 0..random() % 40 {
                let part = PARTS[random() % PARTS.len()];
                // Bytes that are not UTF-8 are rare, or no stream would get far.
                if part != b"\xff" || random() % 8 == 0 {
                    stream.extend_from_slice(part);
                }
            }
            let whole = read_all(&stream, stream.len().max(1), 24);
            for step in [1, 2, 3, 7] {
                assert_eq!(read_all(&stream, step, 24), whole, "seed {seed}, step {step}");
            }
        }
    }
}
