//! Counts of texts that were counted a moment ago: most words of a text, and its system prompt,
//! have been seen before.
//!
//! Words share one table for each vocabulary, of a fixed size. A place holds the hash of the last
//! word that fell on it and its count, in one number, so that all threads read and write it
//! without a lock. Words are compared by a hash of 64 bits: among a million different words, the
//! odds that any two are taken for each other are 3 in 100 million. Whole texts are compared by
//! 128 bits.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Encoding;

/// The longest word that is remembered, and how many are: 4 MiB for each vocabulary in use.
const WORD: usize = 128;
const WORDS: usize = 1 << 19;
/// Bits of a place that hold the count; the others hold those of the hash that do not choose the
/// place, and some that do.
const COUNT_BITS: u32 = 16;
/// Texts from this length on are remembered as a whole, so many by each thread.
const TEXT: usize = 128;
const TEXTS: usize = 256;

static TABLES: [OnceLock<Words>; Encoding::ALL.len()] =
    [const { OnceLock::new() }; Encoding::ALL.len()];

thread_local! {
    static LONG: RefCell<[Texts; Encoding::ALL.len()]> = const { RefCell::new([const { Texts(Vec::new()) }; Encoding::ALL.len()]) };
}

/// What is remembered of words.
pub struct Words(Box<[AtomicU64]>);

impl Words {
    /// Returns the memory of a vocabulary.
    pub fn of(encoding: Encoding) -> &'static Self {
        TABLES[encoding as usize].get_or_init(Words::new)
    }

    fn new() -> Self {
        Words((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns the tokens of a word: remembered, or counted now.
    pub fn count(&self, word: &str, count: impl FnOnce(&str) -> u64) -> u64 {
        if word.len() > WORD {
            return count(word);
        }
        const COUNT: u64 = (1 << COUNT_BITS) - 1;
        let hash = xxh3_64(word.as_bytes());
        let place = &self.0[hash as usize % WORDS];
        let known = place.load(Ordering::Relaxed);
        // No word has no tokens, so an empty place is never taken for one.
        if known & !COUNT == hash & !COUNT && known & COUNT > 0 {
            return known & COUNT;
        }
        let tokens = count(word);
        place.store(hash & !COUNT | tokens & COUNT, Ordering::Relaxed);
        tokens
    }
}

/// Hashes and counts of long texts.
struct Texts(Vec<(u128, u64)>);

/// Returns the tokens of a whole text: remembered by this thread, or counted now.
pub fn whole(encoding: Encoding, text: &str, count: impl FnOnce(&str) -> u64) -> u64 {
    if text.len() < TEXT {
        return count(text);
    }
    let hash = xxh3_128(text.as_bytes());
    let place = hash as usize % TEXTS;
    let known = LONG.with_borrow(|long| long[encoding as usize].0.get(place).copied());
    if let Some((known, tokens)) = known
        && known == hash
    {
        return tokens;
    }
    let tokens = count(text);
    LONG.with_borrow_mut(|long| {
        let texts = &mut long[encoding as usize].0;
        texts.resize(TEXTS, (0, 0));
        texts[place] = (hash, tokens);
    });
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_counted_once() {
        let words = Words::new();
        assert_eq!(words.count("abc", |_| 3), 3);
        assert_eq!(words.count("abc", |_| unreachable!("it is known")), 3);
        assert_eq!(words.count("abcd", |_| 4), 4);
    }

    #[test]
    fn a_long_text_is_counted_once() {
        let long = "x".repeat(TEXT);
        let encoding = Encoding::O200kHarmony;
        assert_eq!(whole(encoding, &long, |_| 7), 7);
        assert_eq!(whole(encoding, &long, |_| unreachable!("it is known")), 7);
    }
}
