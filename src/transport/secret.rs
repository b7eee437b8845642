//! A secret, recognized in whatever a server says.
//!
//! A server may repeat a key as it is, escaped as JSON or HTML does, or percent-encoded, each of these
//! inside a text that was escaped before, and with blanks or line breaks in between. Other disguises,
//! such as base64, are not looked for.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::{memchr_iter, memchr3_iter};

/// Shorter keys are placeholders for servers that want none.
const SHORTEST: usize = 8;
/// Keys of this length do not occur in texts by chance.
const UNMISTAKABLE: usize = 16;
/// A text that was escaped more often than this is no text. Bounds the work on runs of them.
const MOST_BACKSLASHES: usize = 8;
const MOST_PERCENTS: usize = 3;
const MOST_AMPERSANDS: usize = 3;
/// A line break with an indentation, or a gap in a table.
const MOST_BLANKS: usize = 64;
/// So many first characters of a key, unescaped, make a text worth a closer look.
const TELLING: usize = 4;
pub(super) const REDACTED: &str = "[redacted]";

/// A text that must not come back.
pub struct Secret {
    text: Vec<u8>,
}

impl Secret {
    /// Takes a secret; one that is too short to be one gives `None`.
    pub fn new(text: impl Into<Vec<u8>>) -> Option<Secret> {
        let text = text.into();
        (text.len() >= SHORTEST).then_some(Secret { text })
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

    /// Takes a quick look: where no character is escaped without a reason, the key begins with
    /// itself.
    fn may_stand_in(&self, text: &[u8]) -> bool {
        let beginning = &self.text[..TELLING];
        let begins = |text: &[u8]| {
            // Most texts end here, at the second character.
            let second = text.get(1).copied().unwrap_or_default();
            (second == beginning[1] || may_be_spelled(second))
                && (text.starts_with(beginning) || spelled(beginning, text).is_some())
        };
        has_escaped_ascii(text) || memchr_iter(beginning[0], text).any(|at| begins(&text[at..]))
    }

    fn find(&self, text: &[u8]) -> Option<Range<usize>> {
        let may_begin = |byte: u8| byte == self.text[0] || matches!(byte, b'\\' | b'%' | b'&');
        let places = (0..text.len()).filter(|at| may_begin(text[*at]));
        places
            .map(|at| (at, &text[at..]))
            .find_map(|(at, rest)| Some(at..at + self.spelled_at(rest)?))
    }

    /// Returns the length of the spelling at the start of a text.
    fn spelled_at(&self, text: &[u8]) -> Option<usize> {
        // A key may itself hold what looks like an escape.
        match text.starts_with(&self.text) {
            true => Some(self.text.len()),
            false => spelled(&self.text, text),
        }
    }
}

/// Tells whether a character may begin the spelling of another, or a gap.
fn may_be_spelled(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&') || byte.is_ascii_whitespace()
}

/// Returns the length of the characters at the start of a text, each in any spelling.
fn spelled(characters: &[u8], text: &[u8]) -> Option<usize> {
    let one_more = |length: usize, byte: &u8| {
        let rest = &text[length..];
        let whole = spelling(rest, *byte).or_else(|| {
            let gap = (length > 0).then(|| gap(rest))?;
            Some(gap + spelling(&rest[gap..], *byte)?)
        });
        Some(length + whole?)
    };
    characters.iter().try_fold(0, one_more)
}

/// Returns the length of the white space at the start of a text.
fn gap(text: &[u8]) -> usize {
    let mut length = 0;
    for _ in 0..MOST_BLANKS {
        match blank(&text[length..]) {
            Some(one) => length += one,
            None => break,
        }
    }
    length
}

/// Reads one blank or line break in any spelling.
fn blank(text: &[u8]) -> Option<usize> {
    match text.first()? {
        byte if byte.is_ascii_whitespace() => Some(1),
        b'\\' | b'%' | b'&' => {
            let spelled = BLANKS.iter().find_map(|blank| spelling(text, *blank));
            spelled.or_else(|| {
                let slashes = backslashes(text);
                let letter = text.get(slashes).filter(|_| slashes > 0)?;
                b"nrt".contains(letter).then_some(slashes + 1)
            })
        }
        _ => None,
    }
}

const BLANKS: [u8; 4] = *b" \n\r\t";

/// Returns the length of one character's spelling at the start of a text.
fn spelling(text: &[u8], byte: u8) -> Option<usize> {
    match text.first()? {
        b'\\' => entity(text, byte).or_else(|| backslashed(text, byte)),
        b'%' => percent_encoded(text, byte).or((byte == b'%').then_some(1)),
        b'&' => entity(text, byte).or((byte == b'&').then_some(1)),
        first => (*first == byte).then_some(1),
    }
}

fn backslashes(text: &[u8]) -> usize {
    let run = text.iter().take(MOST_BACKSLASHES);
    run.take_while(|byte| **byte == b'\\').count()
}

/// Reads `\u002b`, `\/` and what becomes of them when they are escaped again.
fn backslashed(text: &[u8], byte: u8) -> Option<usize> {
    let slashes = backslashes(text);
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

/// The names that HTML has for characters of ASCII which an encoder may write so.
const NAMES: [(&[u8], u8); 22] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"lowbar", b'_'),
    (b"period", b'.'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"comma", b','),
    (b"num", b'#'),
    (b"percnt", b'%'),
    (b"commat", b'@'),
    (b"dollar", b'$'),
    (b"excl", b'!'),
    (b"quest", b'?'),
    (b"ast", b'*'),
    (b"verbar", b'|'),
];

/// Reads `&#x2F;`, `&#47;`, `&sol;` and `&amp;#47;`, where the first `&` may be escaped as in JSON.
fn entity(text: &[u8], byte: u8) -> Option<usize> {
    let start = match text.first()? {
        b'&' => 1,
        _ => backslashed(text, b'&')?,
    };
    let mut rest = &text[start..];
    let mut longest = None;
    for _ in 0..MOST_AMPERSANDS {
        let length = named(rest, byte).or_else(|| numbered(rest, byte));
        longest = length
            .map(|length| text.len() - rest.len() + length)
            .or(longest);
        match rest.strip_prefix(b"amp;") {
            Some(inner) => rest = inner,
            None => break,
        }
    }
    longest
}

/// Reads `sol;`.
fn named(text: &[u8], byte: u8) -> Option<usize> {
    let (name, _) = NAMES.iter().find(|(_, named)| *named == byte)?;
    text.strip_prefix(*name)?
        .starts_with(b";")
        .then_some(name.len() + 1)
}

/// Reads `#x2F;`, `#47;` and `#0047`.
fn numbered(text: &[u8], byte: u8) -> Option<usize> {
    let number = text.strip_prefix(b"#")?;
    let (digits, radix) = match number.first()? {
        b'x' | b'X' => (&number[1..], 16),
        _ => (number, 10),
    };
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let length = digits.iter().take(8).take_while(is_digit).count();
    let value = std::str::from_utf8(&digits[..length]).ok()?;
    let is_it = u32::from_str_radix(value, radix).ok()? == u32::from(byte);
    let end = usize::from(digits.get(length) == Some(&b';'));
    is_it.then_some(text.len() - digits.len() + length + end)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

/// Tells whether a text escapes a character of ASCII by its number, or as HTML does.
fn has_escaped_ascii(text: &[u8]) -> bool {
    memchr3_iter(b'\\', b'%', b'&', text).any(|at| {
        let rest = &text[at + 1..];
        let digits = match text[at] {
            b'&' => return is_reference(rest),
            b'%' => rest,
            _ => rest.strip_prefix(b"u00").unwrap_or_default(),
        };
        matches!(digits.first(), Some(b'2'..=b'7'))
    })
}

fn is_reference(text: &[u8]) -> bool {
    text.first() == Some(&b'#') || NAMES.iter().any(|(name, _)| text.starts_with(name))
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

    // Negative control: leaving `backslashed`, `percent_encoded` or `entity` out of `spelling`, or `gap` out
    // of `spelled`.
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
            "sk-ab&#x2F;cd&#43;ef&#x3d;0123",
            "sk-ab&#47;cd&#x2B;ef&#0061;0123",
            "sk-ab&sol;cd&plus;ef&equals;0123",
            "sk-ab&amp;#x2F;cd&amp;amp;#43;ef=0123",
            r"sk-ab\u0026#47;cd\u0026plus;ef=0123",
            "&#115;k-ab/cd+ef=0123",
            "sk-ab/cd\n+ef=0123",
            "sk-ab/cd\r\n        +ef=01 23",
            r"sk-ab/cd\n+ef=0\r\n123",
            r"sk-ab/cd\\n+ef=0\u000a123",
            "sk-ab/cd%0A+ef=0%20123",
            "s k - a b / c d + e f = 0 1 2 3",
            "sk-ab/cd&#10;+ef=0123",
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
            "sk-ab&#x2F;cd&#43;ef&#x3d;012",
            "sk-ab&#48;cd+ef=0123",
            "& && &# &#x &#; &amp; &am &sol",
            "sk-ab/cd + ef = 012 4",
        ] {
            assert_eq!(struck(KEY, text), text);
        }
    }

    #[test]
    fn a_key_that_looks_escaped_itself_is_struck() {
        for key in [
            r"sk-%2Bab\u002b",
            "%25%25%25%25",
            r"\\\\\\\\\",
            "&amp;&#38;x",
        ] {
            assert_eq!(struck(key, &format!("x{key}y")), "x[redacted]y", "{key}");
        }
    }

    #[test]
    fn a_text_without_it_is_not_copied() {
        let text = Bytes::from(r#"{"content":"caf\u00e9, 50 % of \"it\" & more\n"}"#);
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
        // Negative control: `has_escaped_ascii` being always false.
        #[test]
        fn no_mix_of_spellings_hides_it(
            key in "[!-~]{8,40}", ways in proptest::collection::vec(0..8u8, 40),
            around in "[ -~]{0,30}",
        ) {
            let mut spelled = String::new();
            for (c, way) in key.chars().zip(ways) {
                match way {
                    0 => write!(spelled, "\\u{:04x}", c as u32).unwrap(),
                    1 => write!(spelled, "%{:02X}", c as u32).unwrap(),
                    2 if c == '\\' || c == '%' => write!(spelled, "\\u{:04X}", c as u32).unwrap(),
                    _ if c == '\\' || c == '%' => write!(spelled, "%{:02x}", c as u32).unwrap(),
                    4 => write!(spelled, "&#{};", c as u32).unwrap(),
                    5 => write!(spelled, "\\u0026#x{:X};", c as u32).unwrap(),
                    2 if !c.is_ascii_alphanumeric() => spelled.extend(['\\', c]),
                    6 if !"\\%&".contains(c) && !spelled.is_empty() => {
                        spelled.extend(['\n', ' ', c]);
                    }
                    _ if c == '&' => spelled.push_str("&amp;"),
                    _ => spelled.push(c),
                }
            }
            let text = format!("{around} {spelled}{around}");
            prop_assert!(Secret::new(key).unwrap().stands_in(text.as_bytes()));
        }

        #[test]
        fn no_text_makes_it_panic(key in "[!-~]{8,20}", text in "[\\\\%&#;xmp un0-9a-f]{0,80}") {
            let secret = Secret::new(key).unwrap();
            let clean = secret.strike(Bytes::from(text));
            prop_assert!(std::str::from_utf8(&clean).is_ok());
        }
    }
}
