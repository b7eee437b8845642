//! Reading JSON from servers that keep to no schema: a field of the wrong type counts as absent
//! and never costs its neighbours.
//!
//! Derived structs refuse a whole answer for one odd type or a repeated key; an answer that was
//! paid for deserves better. Only broken JSON is an error here.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::words::fields::Key;

/// A struct that picks its fields from an object, in any order. A repeated key: the last one wins.
pub(super) trait Fields<'de>: Default {
    /// Takes the value of `key` from the map, or leaves it and returns `false`.
    fn take<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Names the keys from which the fields of a struct are read.
macro_rules! fields {
    ($name:ident { $($($key:literal)|+ => $field:ident),* $(,)? }) => {
        impl<'de> $crate::provider::lenient::Fields<'de> for $name<'de> {
            fn take<A: serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match key {
                    $($($key)|+ => self.$field = map.next_value()?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}
pub(super) use fields;

/// An object with the fields of `T`; `None` where something else stood in its place.
pub(super) struct Object<T>(pub Option<T>);

/// A list of `T`; empty where something else stood in its place.
pub(super) struct List<T>(pub Vec<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Object(None)
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

struct Visit<T>(PhantomData<T>);

/// Everything that is not the expected shape counts as absent.
macro_rules! scalars_count_as {
    ($absent:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON")
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($absent)
        }
    };
}

impl<'de, T: Fields<'de>> Visitor<'de> for Visit<Object<T>> {
    type Value = Object<T>;
    scalars_count_as!(Object(None));

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
        let mut fields = T::default();
        while let Some(Key(key)) = map.next_key()? {
            if !fields.take(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Object(Some(fields)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Object(None))
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Visit<List<T>> {
    type Value = List<T>;
    scalars_count_as!(List(Vec::new()));

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(Object(element)) = seq.next_element()? {
            list.push(element.unwrap_or_default());
        }
        Ok(List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<T>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(List(Vec::new()))
    }
}

impl<'de, T: Fields<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visit::<Object<T>>(PhantomData))
    }
}

impl<'de, T: Fields<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visit::<List<T>>(PhantomData))
    }
}

/// Any value, as it is written.
pub(super) type Raw<'de> = Option<&'de RawValue>;

/// Reads a string, or the digits of a number where a string was expected.
pub(super) fn text(raw: Raw<'_>) -> Option<String> {
    let json = raw?.get();
    match json.as_bytes().first()? {
        b'"' => Some(string(json)),
        b'n' | b'{' | b'[' => None,
        _ => Some(json.to_owned()),
    }
}

/// Reads a JSON string. Half of a surrogate pair, which a cut emoji leaves behind, becomes U+FFFD.
fn string(json: &str) -> String {
    serde_json::from_str(json)
        .or_else(|_| serde_json::from_str(&without_half_pairs(json)))
        .unwrap_or_else(|_| json.trim_matches('"').to_owned())
}

/// Replaces each `\uD800`…`\uDFFF` escape that has no partner.
fn without_half_pairs(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(0xD800..0xE000), _) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// Reads the UTF-16 unit that an escape with four hex digits at the front of `text` stands for.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// A whole number as servers write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Amount(u64),
    Negative,
}

/// Reads a count from a number, a float or digits in quotes; anything else is `None`.
pub(super) fn count(raw: Raw<'_>) -> Option<Count> {
    let digits = raw?.get().trim_matches('"').trim();
    if let Ok(amount) = digits.parse() {
        return Some(Count::Amount(amount));
    }
    let number: f64 = digits
        .parse()
        .ok()
        .filter(|number: &f64| !number.is_nan())?;
    if number < 0.0 {
        return Some(Count::Negative);
    }
    // `as` stops at the largest amount.
    Some(Count::Amount(number.ceil() as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn any_scalar_is_read_as_text() {
        assert_eq!(text(Some(raw(r#""a\nb""#))).as_deref(), Some("a\nb"));
        assert_eq!(text(Some(raw("429"))).as_deref(), Some("429"));
        assert_eq!(text(Some(raw("true"))).as_deref(), Some("true"));
        for nothing in ["null", "{}", "[1]"] {
            assert_eq!(text(Some(raw(nothing))), None);
        }
    }

    #[test]
    fn half_a_surrogate_pair_costs_one_character_and_not_the_text() {
        let read = |json| text(Some(raw(json))).unwrap();
        assert_eq!(read(r#""cut \ud83d""#), "cut \u{fffd}");
        assert_eq!(
            read(r#""\ude00 whole \ud83d\ude00 \\ud83d""#),
            "\u{fffd} whole 😀 \\ud83d"
        );
    }

    #[test]
    fn counts_are_read_from_numbers_floats_and_strings() {
        for (json, amount) in [
            ("7", 7),
            ("7.0", 7),
            ("6.2", 7),
            ("\"7\"", 7),
            ("1e3", 1000),
            ("1e99", u64::MAX),
        ] {
            assert_eq!(
                count(Some(raw(json))),
                Some(Count::Amount(amount)),
                "{json}"
            );
        }
        assert_eq!(count(Some(raw("-1"))), Some(Count::Negative));
        for nothing in ["null", "\"many\"", "{}", "\"nan\"", "true"] {
            assert_eq!(count(Some(raw(nothing))), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn repairing_escapes_never_panics(text in r#"(\\u[dD][89a-fA-F][0-9]{2}|\\["\\n]|\\|é|u|d){0,12}"#) {
            let _ = string(&format!("\"{text}\""));
        }
    }
}
