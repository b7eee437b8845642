//! Counts of texts that were counted a moment ago: most words of a text, and its system prompt,
//! have been seen before.
//!
//! Each thread has a memory of its own, of a fixed size: about a megabyte for each vocabulary in
//! use. A place holds the last text that fell on it, and is believed only if the text is equal.

use std::cell::RefCell;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Encoding;

/// The longest word that is remembered, and how many are.
const WORD: usize = 27;
const WORDS: usize = 1 << 15;
/// Texts from this length on are remembered as a whole, by their hash.
const TEXT: usize = 128;
const TEXTS: usize = 256;

thread_local! {
    static MEMORIES: RefCell<[Option<Box<Memory>>; Encoding::ALL.len()]> =
        const { RefCell::new([const { None }; Encoding::ALL.len()]) };
}

/// What one thread remembers of one vocabulary.
pub struct Memory {
    words: Box<[Word]>,
    texts: Box<[(u128, u64)]>,
}

#[derive(Clone, Copy)]
struct Word {
    text: [u8; WORD],
    length: u8,
    tokens: u32,
}

impl Memory {
    /// Lends the calling thread's memory of a vocabulary.
    pub fn with<T>(encoding: Encoding, work: impl FnOnce(&mut Memory) -> T) -> T {
        MEMORIES.with_borrow_mut(|memories| {
            let memory = memories[encoding as usize].get_or_insert_with(Memory::new);
            work(memory)
        })
    }

    fn new() -> Box<Self> {
        let empty = Word {
            text: [0; WORD],
            length: 0,
            tokens: 0,
        };
        Box::new(Memory {
            words: vec![empty; WORDS].into(),
            texts: vec![(0, 0); TEXTS].into(),
        })
    }

    /// Returns the tokens of a word: remembered, or counted now.
    pub fn word(&mut self, text: &str, count: impl FnOnce(&str) -> u64) -> u64 {
        let bytes = text.as_bytes();
        if bytes.len() > WORD {
            return count(text);
        }
        let place = xxh3_64(bytes) as usize % WORDS;
        let word = &self.words[place];
        if usize::from(word.length) == bytes.len() && word.text[..bytes.len()] == *bytes {
            return u64::from(word.tokens);
        }
        let tokens = count(text);
        let word = &mut self.words[place];
        word.text[..bytes.len()].copy_from_slice(bytes);
        word.length = bytes.len() as u8;
        word.tokens = tokens as u32;
        tokens
    }

    /// Returns the tokens of a whole text: remembered, or counted now. Texts are compared by a
    /// hash of 128 bits.
    pub fn text(&mut self, text: &str, count: impl FnOnce(&mut Self, &str) -> u64) -> u64 {
        if text.len() < TEXT {
            return count(self, text);
        }
        let hash = xxh3_128(text.as_bytes());
        let place = hash as usize % TEXTS;
        let (known, tokens) = self.texts[place];
        if known == hash {
            return tokens;
        }
        let tokens = count(self, text);
        self.texts[place] = (hash, tokens);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_counted_once() {
        let mut memory = Memory::new();
        assert_eq!(memory.word("abc", |_| 3), 3);
        assert_eq!(memory.word("abc", |_| unreachable!("it is known")), 3);
        assert_eq!(memory.word("abcd", |_| 4), 4);
        assert_eq!(
            memory.word("", |_| unreachable!("nothing has no tokens")),
            0
        );
    }

    #[test]
    fn a_long_text_is_counted_once() {
        let mut memory = Memory::new();
        let long = "x".repeat(TEXT);
        assert_eq!(memory.text(&long, |_, _| 7), 7);
        assert_eq!(memory.text(&long, |_, _| unreachable!("it is known")), 7);
    }
}
