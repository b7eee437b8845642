//! A secret, recognized in whatever a server says.
//!
//! A server may repeat a key as it is, escaped as JSON does, or percent-encoded, and each of these
//! inside a text that was escaped before. Other disguises, such as base64, are not looked for.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use memchr::{memchr2_iter, memchr3_iter};

/// Shorter keys are placeholders for servers that want none.
const SHORTEST: usize = 8;
/// Keys of this length do not occur in texts by chance.
const UNMISTAKABLE: usize = 16;
/// A text that was escaped more often than this is no text. Bounds the work on runs of them.
const MOST_BACKSLASHES: usize = 8;
const MOST_PERCENTS: usize = 3;
pub(super) const REDACTED: &str = "[redacted]";

/// A text that must not come back.
pub struct Secret {
    text: Vec<u8>,
    /// The longest part that no encoder has a reason to touch: where it is missing, and no letter
    /// is escaped without a reason, the rest need not be looked at.
    anchor: Finder<'static>,
}

impl Secret {
    /// Takes a secret; one that is too short to be one gives `None`.
    pub fn new(text: impl Into<Vec<u8>>) -> Option<Secret> {
        let text = text.into();
        (text.len() >= SHORTEST).then(|| {
            let anchor = text.split(|byte| !is_unreserved(*byte));
            let anchor = anchor.max_by_key(|part| part.len()).unwrap_or_default();
            Secret {
                anchor: Finder::new(anchor).into_owned(),
                text,
            }
        })
    }

    /// Tells whether it is too long to stand in a text by chance.
    pub fn is_unmistakable(&self) -> bool {
        self.text.len() >= UNMISTAKABLE
    }

    /// Tells whether a text holds it in any spelling.
    pub fn stands_in(&self, text: &[u8]) -> bool {
        self.may_stand_in(text) && self.find(text).is_some()
    }

    /// Replaces it in every spelling. A text without it is not copied.
    pub fn strike(&self, text: Bytes) -> Bytes {
        if !self.stands_in(&text) {
            return text;
        }
        let mut clean = BytesMut::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some(place) = self.find(rest) {
            clean.extend_from_slice(&rest[..place.start]);
            clean.extend_from_slice(REDACTED.as_bytes());
            rest = &rest[place.end..];
        }
        clean.extend_from_slice(rest);
        clean.freeze()
    }

    fn may_stand_in(&self, text: &[u8]) -> bool {
        self.anchor.find(text).is_some() || has_escaped_ascii(text)
    }

    fn find(&self, text: &[u8]) -> Option<Range<usize>> {
        memchr3_iter(self.text[0], b'\\', b'%', text)
            .find_map(|at| Some(at..at + self.spelled_at(&text[at..])?))
    }

    /// Returns the length of the spelling at the start of a text.
    fn spelled_at(&self, text: &[u8]) -> Option<usize> {
        // A key may itself hold what looks like an escape.
        if text.starts_with(&self.text) {
            return Some(self.text.len());
        }
        let spelled = |length, byte: &u8| Some(length + spelling(&text[length..], *byte)?);
        self.text.iter().try_fold(0, spelled)
    }
}

/// Returns the length of one character's spelling at the start of a text.
fn spelling(text: &[u8], byte: u8) -> Option<usize> {
    match text.first()? {
        b'\\' => backslashed(text, byte),
        b'%' => percent_encoded(text, byte).or((byte == b'%').then_some(1)),
        first => (*first == byte).then_some(1),
    }
}

/// Reads `\u002b`, `\/` and what becomes of them when they are escaped again.
fn backslashed(text: &[u8], byte: u8) -> Option<usize> {
    let run = text.iter().take(MOST_BACKSLASHES);
    let slashes = run.take_while(|byte| **byte == b'\\').count();
    let rest = &text[slashes..];
    match rest.strip_prefix(b"u00") {
        Some(digits) if hex(digits) == Some(byte) => Some(slashes + 5),
        _ if byte == b'\\' => Some(slashes),
        _ => (rest.first() == Some(&byte) && !byte.is_ascii_alphanumeric()).then_some(slashes + 1),
    }
}

/// Reads `%2B`, `%2b` and `%252B`.
fn percent_encoded(text: &[u8], byte: u8) -> Option<usize> {
    let mut rest = text.strip_prefix(b"%")?;
    for _ in 0..MOST_PERCENTS {
        if hex(rest) == Some(byte) {
            return Some(text.len() - rest.len() + 2);
        }
        rest = rest.strip_prefix(b"25")?;
    }
    None
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

/// Tells whether a text escapes a character of ASCII by its number.
fn has_escaped_ascii(text: &[u8]) -> bool {
    memchr2_iter(b'\\', b'%', text).any(|at| {
        let digits = match text[at] {
            b'%' => &text[at + 1..],
            _ => text[at + 1..].strip_prefix(b"u00").unwrap_or_default(),
        };
        matches!(digits.first(), Some(b'2'..=b'7'))
    })
}

/// The characters that neither JSON nor an address ever needs to escape.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(Sensitive)")
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-ab/cd+ef=0123";

    fn struck(key: &str, text: &str) -> String {
        let text = Bytes::copy_from_slice(text.as_bytes());
        let clean = Secret::new(key).unwrap().strike(text);
        String::from_utf8(clean.to_vec()).unwrap()
    }

    // Negative control: leaving `backslashed` or `percent_encoded` out of `spelling`.
    #[test]
    fn every_usual_spelling_is_struck() {
        for spelled in [
            KEY,
            r"sk-ab\/cd+ef=0123",
            r"sk-ab\/cd\u002Bef\u003d0123",
            r"sk-ab\u002fcd\u002bef\u003D0123",
            r"\u0073\u006b\u002d\u0061b/cd+ef=0123",
            r"sk-ab\\/cd\\u002bef=0123",
            "sk-ab%2Fcd%2Bef%3D0123",
            "sk-ab%2fcd%2bef=0123",
            "sk-ab%252Fcd%252Bef%253D0123",
            "%73%6b-ab/cd+ef=0123",
        ] {
            let text = format!(r#"{{"a":"x {spelled}","b":"{spelled}y"}}"#);
            let clean = r#"{"a":"x [redacted]","b":"[redacted]y"}"#;
            assert_eq!(struck(KEY, &text), clean, "{spelled}");
        }
    }

    #[test]
    fn what_only_resembles_it_stays() {
        for text in [
            "",
            "sk-ab/cd+ef=012",
            r"sk-ab\/cd\u002Bef\u003d012",
            "sk-ab%2Fcd%2Bef%3D012",
            r"\u0073 \\ \ % %2 \u00 \u002",
            "sk-ab//cd+ef=0123",
        ] {
            assert_eq!(struck(KEY, text), text);
        }
    }

    #[test]
    fn a_key_that_looks_escaped_itself_is_struck() {
        for key in [r"sk-%2Bab\u002b", "%25%25%25%25", r"\\\\\\\\\"] {
            assert_eq!(struck(key, &format!("x{key}y")), "x[redacted]y", "{key}");
        }
    }

    #[test]
    fn a_text_without_it_is_not_copied() {
        let text = Bytes::from(r#"{"content":"caf\u00e9, 50 % of \"it\"\n"}"#);
        let clean = Secret::new(KEY).unwrap().strike(text.clone());
        assert_eq!(clean.as_ptr(), text.as_ptr());
    }

    #[test]
    fn a_placeholder_is_no_secret_and_none_is_printed() {
        assert!(Secret::new("test").is_none());
        assert!(!Secret::new("12345678").unwrap().is_unmistakable());
        assert!(!format!("{:?}", Secret::new(KEY)).contains("sk-"));
    }

    proptest! {
        // Negative control: an anchor that holds what is escaped.
        #[test]
        fn no_mix_of_spellings_hides_it(
            key in "[!-~]{8,40}", ways in proptest::collection::vec(0..4u8, 40),
            around in "[ -~]{0,30}",
        ) {
            let mut spelled = String::new();
            for (c, way) in key.chars().zip(ways) {
                match way {
                    0 => write!(spelled, "\\u{:04x}", c as u32).unwrap(),
                    1 => write!(spelled, "%{:02X}", c as u32).unwrap(),
                    2 if c == '\\' || c == '%' => write!(spelled, "\\u{:04X}", c as u32).unwrap(),
                    _ if c == '\\' || c == '%' => write!(spelled, "%{:02x}", c as u32).unwrap(),
                    2 if !c.is_ascii_alphanumeric() => spelled.extend(['\\', c]),
                    _ => spelled.push(c),
                }
            }
            let text = format!("{around} {spelled}{around}");
            prop_assert!(Secret::new(key).unwrap().stands_in(text.as_bytes()));
        }

        #[test]
        fn no_text_makes_it_panic(key in "[!-~]{8,20}", text in "[\\\\%u0-9a-f]{0,80}") {
            let secret = Secret::new(key).unwrap();
            let clean = secret.strike(Bytes::from(text));
            prop_assert!(std::str::from_utf8(&clean).is_ok());
        }
    }
}
