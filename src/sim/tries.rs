//! A bounded memory of failed tries, so that asking again can bring something else.
//!
//! Only a body whose last try met a passing fault is remembered, and at most `2 * GENERATION` of them:
//! when the younger generation is full, it becomes the older one and the older one is forgotten.
//! A forgotten body starts over with its first try. Any other try forgets its body, so a
//! second run over the same items meets the same faults.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many bodies one generation holds: about a megabyte.
const GENERATION: usize = 1 << 16;

/// Counts the tries of bodies that keep failing.
#[derive(Default)]
pub(super) struct Tries {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    younger: HashMap<u64, u32>,
    older: HashMap<u64, u32>,
}

impl Tries {
    /// Plays the next try of this body. `play` gets its number, from 0, and tells whether it failed.
    pub(super) fn next<T>(&self, body: u64, play: impl FnOnce(u32) -> (T, bool)) -> T {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = generations.forget(body).unwrap_or(0);
        let (result, failed) = play(number);
        if failed {
            generations.remember(body, number.saturating_add(1));
        }
        result
    }
}

impl Generations {
    fn forget(&mut self, body: u64) -> Option<u32> {
        self.younger
            .remove(&body)
            .or_else(|| self.older.remove(&body))
    }

    fn remember(&mut self, body: u64, tries: u32) {
        if self.younger.len() >= GENERATION {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(body, tries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(tries: &Tries, body: u64, failed: bool) -> u32 {
        tries.next(body, |number| (number, failed))
    }

    #[test]
    fn tries_count_up_until_one_succeeds() {
        let tries = Tries::default();
        assert_eq!(number(&tries, 9, true), 0);
        assert_eq!(number(&tries, 9, true), 1);
        assert_eq!(number(&tries, 9, false), 2);
        assert_eq!(number(&tries, 9, true), 0);
    }

    #[test]
    fn good_bodies_leave_no_trace() {
        let tries = Tries::default();
        number(&tries, 1, false);
        assert!(tries.generations.lock().unwrap().younger.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let tries = Tries::default();
        for body in 0..3 * GENERATION as u64 {
            number(&tries, body, true);
        }
        assert_eq!(number(&tries, 0, true), 0, "the oldest is forgotten");
        assert_eq!(number(&tries, 3 * GENERATION as u64 - 1, true), 1);
        let generations = tries.generations.lock().unwrap();
        assert!(generations.younger.len() + generations.older.len() <= 2 * GENERATION);
    }
}
