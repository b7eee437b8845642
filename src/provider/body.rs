//! Fields of a request body under another name, where an endpoint spells them differently.
//!
//! Only names at the top level are touched. Every other byte, and the order, stays as the user
//! wrote it: the body is what they asked to be sent.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One name for another.
#[derive(Debug)]
pub(super) struct Rename {
    from: &'static str,
    to: &'static str,
    finder: Finder<'static>,
}

impl Rename {
    pub(super) fn new(from: &'static str, to: &'static str) -> Rename {
        Rename {
            from,
            to,
            finder: Finder::new(from),
        }
    }

    /// Returns the body with the field under its other name; unchanged where the field does not
    /// stand in it, or where the other name stands there too and the user's meaning is unclear.
    pub(super) fn apply(&self, body: Bytes) -> Bytes {
        // Most bodies do not name the field: they are not parsed at all.
        if self.finder.find(&body).is_none() {
            return body;
        }
        let Ok(Keys(keys)) = serde_json::from_slice(&body) else {
            return body;
        };
        if keys.iter().any(|key| is_spelled(key, self.to)) {
            return body;
        }
        let places: Vec<_> = keys
            .iter()
            .filter(|key| is_spelled(key, self.from))
            .map(|key| place_of(key, &body))
            .collect();
        if places.is_empty() {
            return body;
        }
        splice(&body, &places, self.to)
    }
}

fn is_spelled(key: &RawValue, name: &str) -> bool {
    key.get().trim_matches('"') == name
}

/// Finds where in `body` a key that was borrowed from it stands, with its quotes.
fn place_of(key: &RawValue, body: &Bytes) -> Range<usize> {
    let start = key.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + key.get().len()
}

fn splice(body: &Bytes, places: &[Range<usize>], name: &str) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + places.len() * name.len());
    let mut done = 0;
    for place in places {
        out.extend_from_slice(&body[done..place.start]);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        done = place.end;
    }
    out.extend_from_slice(&body[done..]);
    out.into()
}

/// The keys of an object, in order, as they are spelled.
struct Keys<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Keys<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a request body")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys<'de>, A::Error> {
                let mut keys = Vec::with_capacity(16);
                while let Some(key) = map.next_key()? {
                    keys.push(key);
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(body: &str) -> String {
        let rename = Rename::new("max_tokens", "max_completion_tokens");
        String::from_utf8(
            rename
                .apply(Bytes::copy_from_slice(body.as_bytes()))
                .to_vec(),
        )
        .unwrap()
    }

    #[test]
    fn a_top_level_field_changes_its_name_and_nothing_else() {
        assert_eq!(
            renamed(
                " {\"model\" : \"o3\",\r\n \"max_tokens\" :  7,\"messages\":[ ],\"t\":1.0e0}\n"
            ),
            " {\"model\" : \"o3\",\r\n \"max_completion_tokens\" :  7,\"messages\":[ ],\"t\":1.0e0}\n"
        );
    }

    #[test]
    fn a_nested_field_or_a_text_keeps_its_name() {
        for body in [
            r#"{"messages":[{"max_tokens":7}]}"#,
            r#"{"messages":[{"content":"\"max_tokens\": 7"}]}"#,
            r#"{"stop":"max_tokens"}"#,
        ] {
            assert_eq!(renamed(body), body);
        }
    }

    #[test]
    fn a_body_with_both_names_is_left_alone() {
        let body = r#"{"max_tokens":7,"max_completion_tokens":9}"#;
        assert_eq!(renamed(body), body);
    }

    #[test]
    fn a_body_without_the_field_is_the_same_bytes_in_memory() {
        let body = Bytes::from_static(br#"{"model":"o3"}"#);
        let same = Rename::new("max_tokens", "x").apply(body.clone());
        assert_eq!(same.as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_body_that_is_not_an_object_is_left_alone() {
        for body in [r#"["max_tokens"]"#, r#"{"max_tokens":"#, ""] {
            assert_eq!(renamed(body), body);
        }
    }
}
