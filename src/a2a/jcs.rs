//! JSON in its one canonical spelling (RFC 8785), of a whole text or of the part of it that a [`Shape`] keeps.
//!
//! What is signed is this spelling: no blanks, members in the order of their UTF-16 names, numbers and strings as
//! ECMAScript writes them. A name that stands twice in an object is refused, as readers differ about which counts.

use std::fmt;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::base::members::{Members, elements};
use crate::base::order::sorted;

/// Deepest nesting of arrays and objects.
const DEPTH: usize = 64;

/// Which part of a JSON value is kept.
///
/// An array has the shape of its elements. All but `Whole` leave out what is empty: `""`, `[]`, `{}`, `null`, and
/// what is only made of these.
#[derive(Debug)]
pub enum Shape {
    /// All of it.
    Whole,
    /// All that is not empty.
    Filled,
    /// The same without `false`: the default that protobuf's JSON does not write.
    Flag,
    /// These members of an object.
    Members(&'static [(&'static str, Self)]),
    /// Every member, all in the same shape.
    Each(&'static Self),
    /// Every member in the second shape, except for these.
    Except(&'static [(&'static str, Rule)], &'static Self),
}

/// What becomes of a member that is an exception.
#[derive(Debug)]
pub enum Rule {
    /// It is left out.
    Drop,
    /// It is left out when it is this JSON.
    DropIf(&'static str),
    /// It has a shape of its own.
    As(Shape),
}

impl Shape {
    /// The shape of a member, or `None` when it is left out.
    fn of_member(&self, name: &str, value: &str) -> Option<&Self> {
        match self {
            Self::Whole | Self::Filled | Self::Flag => Some(self),
            Self::Each(shape) => Some(shape),
            Self::Members(members) => {
                members.iter().find(|(known, _)| *known == name).map(|(_, shape)| shape)
            }
            Self::Except(exceptions, others) => {
                match exceptions.iter().find(|(known, _)| *known == name) {
                    Some((_, Rule::Drop)) => None,
                    Some((_, Rule::DropIf(default))) => (value != *default).then_some(others),
                    Some((_, Rule::As(shape))) => Some(shape),
                    None => Some(others),
                }
            }
        }
    }

    const fn keeps_empty(&self) -> bool {
        matches!(self, Self::Whole | Self::Except(_, Self::Whole))
    }
}

/// Why a text has no canonical spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JcsError {
    /// It is not JSON, or holds a text that is not Unicode.
    Broken,
    /// A name stands twice in one object.
    Twice,
    /// It is nested too deeply.
    Deep,
    /// It holds a number that no double can hold.
    Number,
}

impl fmt::Display for JcsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "it is not valid JSON",
            Self::Twice => "a member stands twice in one object",
            Self::Deep => "it is nested too deeply",
            Self::Number => "it holds a number that is too large",
        })
    }
}

impl std::error::Error for JcsError {}

/// The canonical spelling of what `shape` keeps of `json`.
///
/// With `ascii` all other characters are escaped, as Python's `json` does it.
///
/// # Errors
/// When there is none.
pub fn canonical(json: &str, shape: &Shape, ascii: bool) -> Result<String, JcsError> {
    // Checked as a whole: from here on every part is known to be a value.
    let json = serde_json::from_str::<&RawValue>(json).map_err(|_| JcsError::Broken)?.get();
    let mut writer = Writer { out: String::with_capacity(json.len()), ascii };
    writer.value(json, shape, 1)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    ascii: bool,
}

impl Writer {
    /// Writes a value; `false`: it was empty and is to be left out.
    fn value(&mut self, json: &str, shape: &Shape, depth: usize) -> Result<bool, JcsError> {
        if depth > DEPTH {
            return Err(JcsError::Deep);
        }
        Ok(match json.as_bytes().first() {
            Some(b'{') => {
                let members = Members::read(json).ok_or(JcsError::Broken)?.0;
                let members = sorted(members, |a, b| a.0.encode_utf16().lt(b.0.encode_utf16()));
                if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(JcsError::Twice);
                }
                self.out.push('{');
                let mut is_first = true;
                for (name, value) in members {
                    let Some(shape) = shape.of_member(&name, value.get()) else {
                        continue;
                    };
                    let start = self.out.len();
                    if !is_first {
                        self.out.push(',');
                    }
                    self.string(&name);
                    self.out.push(':');
                    if self.value(value.get(), shape, depth + 1)? {
                        is_first = false;
                    } else {
                        self.out.truncate(start);
                    }
                }
                self.out.push('}');
                !is_first || shape.keeps_empty()
            }
            Some(b'[') => {
                self.out.push('[');
                let mut is_first = true;
                for element in elements(json).ok_or(JcsError::Broken)? {
                    let start = self.out.len();
                    if !is_first {
                        self.out.push(',');
                    }
                    if self.value(element.get(), shape, depth + 1)? {
                        is_first = false;
                    } else {
                        self.out.truncate(start);
                    }
                }
                self.out.push(']');
                !is_first || shape.keeps_empty()
            }
            Some(b'"') => {
                let text: String = serde_json::from_str(json).map_err(|_| JcsError::Broken)?;
                self.string(&text);
                !text.is_empty() || shape.keeps_empty()
            }
            Some(b'-' | b'0'..=b'9') => {
                // The standard library's reading is exact, the parser's may be off by the last bit.
                self.number(json.parse().map_err(|_| JcsError::Broken)?)?;
                true
            }
            _ => {
                self.out.push_str(json);
                match json {
                    "false" => !matches!(shape, Shape::Flag),
                    "null" => shape.keeps_empty(),
                    _ => true,
                }
            }
        })
    }

    /// RFC 8785 §3.2.2.2.
    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\u{8}' => self.out.push_str("\\b"),
                '\t' => self.out.push_str("\\t"),
                '\n' => self.out.push_str("\\n"),
                '\u{c}' => self.out.push_str("\\f"),
                '\r' => self.out.push_str("\\r"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    /// RFC 8785 §3.2.2.3, that is ECMA-262 §6.1.6.1.20: the fewest digits that read back as the same number, as
    /// whole or fraction between 1e-6 and 1e21, else with exponent.
    fn number(&mut self, value: f64) -> Result<(), JcsError> {
        if !value.is_finite() {
            return Err(JcsError::Number);
        }
        if value == 0.0 {
            self.out.push('0');
            return Ok(());
        }
        if value < 0.0 {
            self.out.push('-');
        }
        let size = value.abs();
        let mut scientific = format!("{size:e}");
        // Of two texts that are equally near, ECMAScript has the even one.
        let places = scientific.find('e').map_or(0, |at| at.saturating_sub(2));
        let nearest = format!("{size:.places$e}");
        if nearest.parse() == Ok(size) {
            scientific = nearest;
        }
        let (mantissa, exponent) = scientific.split_once('e').ok_or(JcsError::Number)?;
        let exponent: i32 = exponent.parse().map_err(|_| JcsError::Number)?;
        let digits = mantissa.replace('.', "");
        let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
        // Digits before the point.
        let whole = exponent + 1;
        match (usize::try_from(whole), whole) {
            (Ok(at @ 1..), ..=21) => {
                let (before, after) = digits.split_at(at.min(digits.len()));
                self.out.push_str(before);
                if after.is_empty() {
                    self.out.push_str(&"0".repeat(at - before.len()));
                } else {
                    self.out.push('.');
                    self.out.push_str(after);
                }
            }
            (_, -5..=0) => {
                self.out.push_str("0.");
                self.out.push_str(&zeros(-whole));
                self.out.push_str(&digits);
            }
            _ => {
                self.out.push_str(mantissa);
                let _ = write!(self.out, "e{exponent:+}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(json: &str) -> String {
        canonical(json, &Shape::Whole, false).unwrap()
    }

    #[test]
    fn the_example_of_the_standard_comes_out_as_printed() {
        // RFC 8785 §3.2.2 to §3.2.3.
        let json = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let want = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                    \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(whole(json), want);
    }

    #[test]
    fn members_are_in_the_order_of_utf_16() {
        // RFC 8785 §3.2.3.
        let json = r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"}"#;
        let text = whole(json);
        let mut last = 0;
        for value in ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"] {
            let at = text.find(value).unwrap();
            assert!(at > last, "{value}");
            last = at;
        }
    }

    #[test]
    fn numbers_are_those_of_the_standard() {
        // RFC 8785 appendix B.
        for (bits, want) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let value = f64::from_bits(bits);
            assert_eq!(whole(&format!("{value:e}")), want);
        }
        for (json, want) in [("1", "1"), ("-1.50", "-1.5"), ("100", "100"), ("12.5e1", "125")] {
            assert_eq!(whole(json), want);
        }
        assert_eq!(canonical("1e999", &Shape::Whole, false), Err(JcsError::Number));
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_number() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let text = whole(&format!("{value:e}"));
                assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{text}");
            }
        }
    }

    const KNOWN: Shape = Shape::Members(&[
        ("c", Shape::Filled),
        ("g", Shape::Flag),
        ("h", Shape::Members(&[("g", Shape::Filled)])),
    ]);

    const LESS: Shape = Shape::Except(
        &[
            ("g", Rule::DropIf("false")),
            ("h", Rule::As(Shape::Except(&[("x", Rule::Drop)], &Shape::Filled))),
        ],
        &Shape::Filled,
    );

    #[test]
    fn empty_values_and_unknown_members_are_left_out_where_the_shape_says_so() {
        let json =
            r#"{"a":"","b":[],"c":{"d":null,"e":[{"f":""}]},"g":false,"h":{"g":false,"x":1}}"#;
        assert_eq!(whole(json), json);
        let filled = canonical(json, &Shape::Filled, false).unwrap();
        assert_eq!(filled, r#"{"g":false,"h":{"g":false,"x":1}}"#);
        assert_eq!(canonical(json, &KNOWN, false).unwrap(), r#"{"h":{"g":false}}"#);
        assert_eq!(canonical(json, &LESS, false).unwrap(), r#"{"h":{"g":false}}"#);
    }

    #[test]
    fn what_readers_would_differ_about_is_refused() {
        let refused = |json: &str| canonical(json, &Shape::Whole, false).unwrap_err();
        assert_eq!(refused(r#"{"a":1,"b":2,"\u0061":3}"#), JcsError::Twice);
        assert_eq!(refused(r#"{"a":"\ud800"}"#), JcsError::Broken);
        assert_eq!(refused(&"[".repeat(70)), JcsError::Broken);
        assert_eq!(refused(&format!("{}{}", "[".repeat(70), "]".repeat(70))), JcsError::Deep);
        for json in ["", "nul", "{", "01", "+1", "1 2", "\"", "tru e", "{\"a\" 1}"] {
            assert_eq!(refused(json), JcsError::Broken, "{json}");
        }
    }

    #[test]
    fn ascii_escapes_everything_else() {
        let text = canonical("\"é😀\u{7f}~\"", &Shape::Whole, true).unwrap();
        assert_eq!(text, r#""\u00e9\ud83d\ude00\u007f~""#);
    }
}
