//! JSON read piece by piece: the members of an object, the elements of an array, each as its own text.
//!
//! For texts that are looked into rarely, or that have no fixed shape: no type to derive, and little code.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in their order, also those that stand twice.
#[derive(Debug)]
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object; `None` when `json` is anything else.
    pub fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Whether there is a member of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The JSON of a member; `None` also when it stands twice.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let (_, first) = found.next()?;
        found.next().is_none().then(|| first.get())
    }

    /// The text of a member that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(All).map(Self)
    }
}

/// The elements of an array; `None` when `json` is anything else.
pub fn elements(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_names_once_unescaped() {
        let members = Members::read(r#" {"\u0061": "x\n", "b": [1, 2] , "c":1,"c":2} "#).unwrap();
        assert_eq!(members.text("a").unwrap(), "x\n");
        assert_eq!((members.get("b"), members.text("b")), (Some("[1, 2]"), None));
        assert_eq!((members.get("c"), members.has("c"), members.has("d")), (None, true, false));
    }

    #[test]
    fn only_an_object_has_members_and_only_an_array_elements() {
        for json in ["[]", "1", "\"a\"", "null", "{", "{} x", ""] {
            assert!(Members::read(json).is_none(), "{json}");
        }
        let texts: Vec<&str> = elements("[1, {} ]").unwrap().iter().map(|it| it.get()).collect();
        assert_eq!(texts, ["1", "{}"]);
        assert!(elements("{}").is_none());
    }
}
