//! The top level of a JSON object, in order, with every value left as it was written.
//!
//! A parsed-and-printed number, string or key order is no longer what the user wrote, so values
//! stay raw text from the input line to the wire and to the row.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of one JSON object, borrowed from its text.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Parses an object; any other JSON value, and a key that stands twice, is an error.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the raw value of a field.
    pub fn raw(&self, key: &str) -> Option<&'a RawValue> {
        self.entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| *value)
    }

    /// Tells whether a field is there and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|value| value.get() != "null")
    }

    /// Iterates over the fields in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_ref(), *value))
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = (Cow<'a, str>, &'a RawValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = deserializer.deserialize_map(Entries { unique: true })?;
        Ok(Fields { entries })
    }
}

/// The fields of an object that others keep: nothing of it is refused, and of a key that stands
/// twice the last one counts.
#[derive(Debug, Default)]
pub struct LenientFields<'a> {
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> LenientFields<'a> {
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Iterates over the fields in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        let entries = self.entries.iter();
        entries.map(|(name, value)| (name.as_ref(), *value))
    }

    /// Returns how many fields there are, repeated ones included.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the raw value of a field.
    pub fn raw(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.entries.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| *value)
    }

    /// Returns a field's text, where it is one.
    pub fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.raw(key)?.get()).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LenientFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = deserializer.deserialize_map(Entries { unique: false })?;
        Ok(LenientFields { entries })
    }
}

/// Collects the fields of an object in the order of the text.
struct Entries {
    /// A key that stands twice is an error.
    unique: bool,
}

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Self::Value = Vec::with_capacity(8);
        while let Some(Key(key)) = map.next_key()? {
            if self.unique && entries.iter().any(|(name, _)| *name == key) {
                return Err(A::Error::custom(format_args!("field {key:?} stands twice")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}

/// A key, borrowed where it has no escapes. (Serde's own `Cow<str>` always copies.)
pub struct Key<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Writes one object from keys and raw JSON values.
#[derive(Debug)]
pub struct ObjectWriter {
    text: String,
}

impl ObjectWriter {
    /// Starts an object whose text will take about `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('{');
        ObjectWriter { text }
    }

    /// Appends a field; `value` must be JSON.
    pub fn field(&mut self, key: &str, value: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push_str(&quoted(key));
        self.text.push(':');
        self.text.push_str(value);
    }

    /// Returns the finished object.
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// Returns a string as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serializes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_written_and_in_order() {
        let fields = Fields::parse(r#"{"b": 1.10, "a":12345678901234567890123, "k\n":"\ud800"}"#);
        let pairs: Vec<_> = fields
            .unwrap()
            .iter()
            .map(|(key, value)| (key.to_owned(), value.get().to_owned()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("b".into(), "1.10".into()),
                ("a".into(), "12345678901234567890123".into()),
                ("k\n".into(), r#""\ud800""#.into())
            ]
        );
    }

    #[test]
    fn a_doubled_key_is_an_error() {
        let error = Fields::parse(r#"{"a":1,"a":2}"#).unwrap_err().to_string();
        assert!(error.contains(r#"field "a" stands twice"#), "{error}");
    }

    #[test]
    fn what_others_keep_may_double_a_key() {
        let fields = LenientFields::parse(r#"{"a":1,"b":"x","a":2}"#).unwrap();
        assert_eq!(fields.raw("a").unwrap().get(), "2");
        assert_eq!(fields.text("b").as_deref(), Some("x"));
        assert_eq!((fields.text("a"), fields.count()), (None, 3));
    }

    #[test]
    fn written_objects_parse_again() {
        let mut writer = ObjectWriter::with_capacity(0);
        writer.field("a\"b", "1");
        writer.field("c", "[2]");
        assert_eq!(writer.finish(), r#"{"a\"b":1,"c":[2]}"#);
    }
}
