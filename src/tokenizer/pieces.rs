//! Where a text may be cut so that the tokens of its pieces are the tokens of the whole.
//!
//! The vocabularies first part a text into words, by a pattern that looks at most one character
//! ahead, and then count each word by itself. So a cut is exact wherever no word of any pattern
//! can reach across it. The rules hold for the patterns of cl100k and o200k alike; they know ASCII,
//! and of other text only that a blank ends a word. A piece that has no such place for 64 KiB is
//! cut between two characters instead, which may count a token or two more.

/// A piece is at most this long: the time for one long run of letters grows faster than its
/// length, and a million blanks overflow the library's pattern matcher.
pub const LONGEST: usize = 64 << 10;

/// What a byte is to the patterns, as a bit.
const LETTER: u8 = 1;
const DIGIT: u8 = 1 << 1;
const MARK: u8 = 1 << 2;
/// An apostrophe may start the end of a word: `don't`.
const APOSTROPHE: u8 = 1 << 3;
/// A slash may follow a line feed inside a word of o200k.
const SLASH: u8 = 1 << 4;
const BLANK: u8 = 1 << 5;
const LINE_FEED: u8 = 1 << 6;
/// A part of a character that is not ASCII.
const FOREIGN: u8 = 1 << 7;
/// Tabs and control characters: never beside a cut.
const OTHER: u8 = 0;

const CLASS: [u8; 256] = {
    let mut class = [FOREIGN; 256];
    let mut byte = 0;
    while byte < 128 {
        class[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'\'' => APOSTROPHE,
            b'/' => SLASH,
            b' ' => BLANK,
            b'\n' => LINE_FEED,
            b'!'..=b'~' => MARK,
            _ => OTHER,
        };
        byte += 1;
    }
    class
};

/// Returns the classes before which a cut is exact after a byte of this class.
const fn ends_before(class: u8) -> u8 {
    match class {
        LETTER => DIGIT | MARK | SLASH | BLANK | LINE_FEED,
        DIGIT => LETTER | MARK | APOSTROPHE | SLASH | BLANK | LINE_FEED,
        MARK | APOSTROPHE | SLASH => DIGIT | BLANK,
        LINE_FEED => LETTER | DIGIT | MARK | APOSTROPHE,
        // If the character is no blank itself.
        FOREIGN => BLANK,
        _ => 0,
    }
}

/// For each byte, the classes before which a cut is exact.
const ENDS_BEFORE: [u8; 256] = {
    let mut ends = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        ends[byte] = ends_before(CLASS[byte]);
        byte += 1;
    }
    ends
};

/// Cuts a text into pieces of about a word.
pub fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(first_cut(text));
        text = rest;
        Some(piece)
    })
}

fn first_cut(text: &str) -> usize {
    let bytes = text.as_bytes();
    let window = &bytes[..bytes.len().min(LONGEST + 1)];
    let mut from = 1;
    while let Some(at) = next_candidate(window, from) {
        let ascii = window[at - 1].is_ascii();
        let is_cut = ascii || !text[..at].ends_with(char::is_whitespace);
        if is_cut {
            return at;
        }
        from = at + 1;
    }
    match bytes.len() {
        length if length <= LONGEST => length,
        _ => forced_cut(text),
    }
}

fn next_candidate(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len())
        .find(|at| ENDS_BEFORE[bytes[at - 1] as usize] & CLASS[bytes[*at] as usize] != 0)
}

/// Cuts where a sentence of Chinese, Japanese or Korean ends, which is exact, or, where there is
/// no such place, between any two characters.
fn forced_cut(text: &str) -> usize {
    let end = text.floor_char_boundary(LONGEST);
    let mut next = text[end..].chars().next();
    for (at, c) in text[..end].char_indices().rev() {
        let after = at + c.len_utf8();
        if is_ideograph(c) && next.is_some_and(ends_sentence) {
            return after;
        }
        next = Some(c);
    }
    end
}

/// Tells whether a character is a letter and no combining mark in scripts that write no blanks.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

fn ends_sentence(c: char) -> bool {
    "。，、；：！？（）「」『』.,;:!?()\n".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        pieces(text).collect()
    }

    #[test]
    fn words_take_the_blank_before_them() {
        assert_eq!(
            cut("The fox, it's 42!\n  {\"a\": 1}"),
            [
                "The",
                " fox",
                ",",
                " it's",
                " 42",
                "!\n  {\"a",
                "\":",
                " 1",
                "}"
            ]
        );
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_too_long() {
        for text in [
            format!("{} wörd {}", "x".repeat(LONGEST + 5), "é y".repeat(LONGEST)),
            "語".repeat(LONGEST),
            "\u{a0}".repeat(LONGEST),
        ] {
            assert_eq!(pieces(&text).collect::<String>(), text);
            assert!(pieces(&text).all(|piece| piece.len() <= LONGEST));
        }
    }
}
