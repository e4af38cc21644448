//! JSON of others, read by name. What is missing, unknown or of another type reads as absent: a client has more use
//! for the rest of an answer than for a refusal of it (A2A 1.0 §5.7).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::a2a::read::Str;

/// Members of one object; the next one makes it unreadable.
const MEMBERS: usize = 256;
/// Elements of one array.
pub const ELEMENTS: usize = 65_536;

/// The members of one object, as text.
#[derive(Debug, Default)]
pub struct Members<'a>(Vec<(Str<'a>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object. `None` for anything else.
    pub fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The JSON of the first of these members that is there and not `null`.
    pub fn raw(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|wanted| {
            // The last of two equal names counts, as everywhere.
            let found = self.0.iter().rev().find(|(name, _)| name.as_str() == *wanted);
            found.map(|(_, raw)| raw.get()).filter(|raw| *raw != "null")
        })
    }

    /// A string.
    pub fn text(&self, names: &[&str]) -> Option<String> {
        text(self.raw(names)?)
    }

    /// A string that is not empty: protocol buffers write what is not set so.
    pub fn filled(&self, names: &[&str]) -> Option<String> {
        self.text(names).filter(|text| !text.is_empty())
    }

    /// An object.
    pub fn object(&self, names: &[&str]) -> Option<Self> {
        Self::read(self.raw(names)?)
    }

    /// An object whose members nobody here reads.
    pub fn opaque(&self, names: &[&str]) -> Option<String> {
        self.raw(names).filter(|raw| raw.starts_with('{')).map(str::to_owned)
    }

    /// A whole number.
    pub fn number(&self, names: &[&str]) -> Option<i64> {
        self.raw(names)?.parse().ok()
    }

    /// Whether it is `true`.
    pub fn is(&self, names: &[&str]) -> bool {
        self.raw(names) == Some("true")
    }

    /// The elements of an array; none when there is no array.
    ///
    /// # Errors
    /// There are more than [`ELEMENTS`].
    pub fn list(&self, names: &[&str]) -> Result<Vec<&'a str>, String> {
        let Some(raw) = self.raw(names).filter(|raw| raw.starts_with('[')) else {
            return Ok(Vec::new());
        };
        let elements: Elements<'a> = serde_json::from_str(raw).map_err(|e| e.to_string())?;
        Ok(elements.0)
    }
}

/// A JSON string's text.
pub fn text(json: &str) -> Option<String> {
    serde_json::from_str::<Str<'_>>(json).ok().map(|text| text.0.into_owned())
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MEMBERS {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

struct Elements<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<&RawValue>()? {
                    if elements.len() == ELEMENTS {
                        let what = format_args!("more than {ELEMENTS} elements");
                        return Err(A::Error::custom(what));
                    }
                    elements.push(element.get());
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_reads_as_absent() {
        let json = r#"{"a":1,"b":null,"c":"x\ny","d":{"e":true},"f":[1,[2]],"a":2}"#;
        let members = Members::read(json).unwrap();
        assert_eq!(members.number(&["a"]), Some(2));
        assert_eq!(members.text(&["a"]), None);
        assert_eq!(members.text(&["b", "c"]).as_deref(), Some("x\ny"));
        assert!(members.object(&["d"]).unwrap().is(&["e"]));
        assert!(members.object(&["f"]).is_none() && members.opaque(&["c"]).is_none());
        assert_eq!(members.list(&["f"]).unwrap(), ["1", "[2]"]);
        assert!(members.list(&["d"]).unwrap().is_empty());
        for other in ["[]", "1", "", "{", "null"] {
            assert!(Members::read(other).is_none(), "{other}");
        }
    }

    #[test]
    fn an_array_ends_at_its_bound() {
        let json = format!("{{\"a\":[{}1]}}", "1,".repeat(ELEMENTS));
        let error = Members::read(&json).unwrap().list(&["a"]).unwrap_err();
        assert!(error.contains("more than 65536"), "{error}");
    }
}
