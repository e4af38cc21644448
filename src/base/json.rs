//! Writes JSON text, and nothing else: one growing buffer, no tree, no second pass.
//!
//! Replies are written once into the buffer that goes to the socket (`design.md` rule: one encode per delivered
//! event). Reading JSON is `serde_json`'s work. Escaping follows RFC 8259 §7.

use std::fmt::Write as _;
use std::ops::Range;

/// Appends JSON to a buffer and puts the commas where they belong.
///
/// The caller opens and closes in pairs; nothing here checks that the text is complete.
#[derive(Debug, Default)]
pub struct Json {
    text: String,
    /// Whether the next value or key needs a comma before it.
    comma: bool,
}

impl Json {
    /// An empty text with room for `bytes` before it has to grow.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), comma: false }
    }

    /// The text so far.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The finished text.
    pub fn into_string(self) -> String {
        self.text
    }

    #[inline]
    fn separate(&mut self) {
        if self.comma {
            self.text.push(',');
        }
        self.comma = true;
    }

    /// `{`
    pub fn open_object(&mut self) {
        self.separate();
        self.text.push('{');
        self.comma = false;
    }

    /// `}`
    pub fn close_object(&mut self) {
        self.text.push('}');
        self.comma = true;
    }

    /// `[`
    pub fn open_array(&mut self) {
        self.separate();
        self.text.push('[');
        self.comma = false;
    }

    /// `]`
    pub fn close_array(&mut self) {
        self.text.push(']');
        self.comma = true;
    }

    /// Text of ours as it is, punctuation included; the next value follows without a comma.
    #[inline]
    pub fn literal(&mut self, text: &'static str) {
        self.text.push_str(text);
        self.comma = false;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Writes again what stands in `range`.
    pub fn again(&mut self, range: Range<usize>) {
        self.text.extend_from_within(range);
        self.comma = true;
    }

    /// A member's name; the next call writes its value. `name` is one of ours and needs no escaping.
    pub fn key(&mut self, name: &str) {
        if self.comma {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
        self.comma = false;
    }

    /// A member's name that came from outside, escaped.
    pub fn key_escaped(&mut self, name: &str) {
        self.string(name);
        self.text.push(':');
        self.comma = false;
    }

    /// A string value, escaped.
    pub fn string(&mut self, value: &str) {
        self.separate();
        self.text.push('"');
        escape_into(&mut self.text, value);
        self.text.push('"');
    }

    /// A value that is JSON already: checked text of a client, or a constant of ours.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.text.push_str(json);
    }

    /// An unsigned number.
    pub fn number(&mut self, value: u64) {
        self.separate();
        let _ = write!(self.text, "{value}");
    }

    /// A signed number.
    pub fn signed(&mut self, value: i64) {
        self.separate();
        let _ = write!(self.text, "{value}");
    }

    /// A fractional number; JSON has no NaN or infinity, so those become `null`.
    pub fn float(&mut self, value: f64) {
        if value.is_finite() {
            self.separate();
            let _ = write!(self.text, "{value}");
        } else {
            self.raw("null");
        }
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// A name and a string value.
    pub fn member(&mut self, name: &str, value: &str) {
        self.key(name);
        self.string(value);
    }

    /// A string value that `write` appends and that needs no escaping: an id, a date.
    pub fn plain(&mut self, write: impl FnOnce(&mut String)) {
        self.separate();
        self.text.push('"');
        write(&mut self.text);
        self.text.push('"');
    }

    /// A name and a constant of ours, which needs no escaping.
    pub fn word(&mut self, name: &str, value: &'static str) {
        self.key(name);
        self.plain(|text| text.push_str(value));
    }

    /// A string value whose `Display` is escaped as it is written.
    pub fn string_from(&mut self, value: &dyn std::fmt::Display) {
        self.separate();
        self.text.push('"');
        let _ = write!(Escaped(&mut self.text), "{value}");
        self.text.push('"');
    }
}

struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        escape_into(self.0, part);
        Ok(())
    }
}

/// Appends `value` with quotes, backslashes and control characters escaped.
pub fn escape_into(out: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| ESCAPED[usize::from(byte)]) {
        // Every escaped byte is ASCII, so these cuts are character boundaries.
        out.push_str(&rest[..at]);
        let byte = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(rest);
}

/// Bytes of JSON text once every end of a line that some readers see in it is escaped.
pub fn raw_len(json: &str) -> usize {
    let bytes = json.as_bytes();
    let grown = |at: usize| match bytes[at] {
        // U+0085, U+2028 and U+2029 become six characters each.
        0xc2 if bytes.get(at + 1) == Some(&0x85) => 4,
        0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => 3,
        _ => 0,
    };
    bytes.len() + (0..bytes.len()).map(grown).sum::<usize>()
}

/// Bytes of `text` as a JSON string, its quotes included, escaped as far as any reader needs it.
pub fn string_len(text: &str) -> usize {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    2 + raw_len(text) + text.bytes().map(escape).sum::<usize>()
}

/// The bytes that JSON text may not hold as they are (RFC 8259 §7).
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = true;
        control += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_values_only() {
        let mut json = Json::default();
        json.open_object();
        json.member("a", "x");
        json.key("b");
        json.open_array();
        json.number(1);
        json.open_object();
        json.close_object();
        json.signed(-2);
        json.close_array();
        json.key("c");
        json.bool(true);
        json.close_object();
        assert_eq!(json.as_str(), r#"{"a":"x","b":[1,{},-2],"c":true}"#);
    }

    #[test]
    fn escaped_text_reads_back_as_it_was() {
        let text = "quote \" slash \\ tab \t nul \u{0} é 😀 \r\n \u{1f} \u{7f}";
        let mut json = Json::default();
        json.string(text);
        assert_eq!(serde_json::from_str::<String>(json.as_str()).unwrap(), text);
        let mut json = Json::default();
        json.string_from(&format_args!("{text}"));
        assert_eq!(serde_json::from_str::<String>(json.as_str()).unwrap(), text);
    }

    #[test]
    fn the_length_of_a_string_is_known_before_it_is_written() {
        let text = "quote \" slash \\ tab \t nul \u{0} \u{8}\u{1f} é 😀 \r\n \u{7f} \u{a0} “";
        let mut json = Json::default();
        json.string(text);
        assert_eq!(string_len(text), json.len());
        assert_eq!(string_len("\u{85}\u{2028}\u{2029}"), 2 + 3 * 6);
    }

    #[test]
    fn numbers_json_cannot_hold_become_null() {
        let mut json = Json::default();
        json.open_array();
        json.float(f64::NAN);
        json.float(0.5);
        json.close_array();
        assert_eq!(json.as_str(), "[null,0.5]");
    }
}
