//! How long answers are: what the next one is expected to have where the request sets no limit,
//! and what hardly any exceeds.

use std::sync::Mutex;

use crate::words::lengths::Lengths;
use crate::words::tokens::Tokens;

/// Assumed before the first answer.
const FIRST_GUESS: f64 = 256.0;
/// The weight of the newest answer, once there have been enough.
const NEWEST: f64 = 0.05;

/// Learns the length of answers.
pub struct Outputs(Mutex<Known>);

struct Known {
    answers: u64,
    mean: f64,
    lengths: Lengths,
}

impl Outputs {
    /// Starts with the answers of earlier runs, as far as long ones are concerned.
    pub fn after(lengths: Lengths) -> Self {
        Outputs(Mutex::new(Known {
            answers: 0,
            mean: 0.0,
            lengths,
        }))
    }

    /// Takes in an answer's length: a plain mean at first, a moving one later.
    pub fn learn(&self, length: Tokens) {
        let mut known = self.known();
        known.answers += 1;
        let weight = (1.0 / known.answers as f64).max(NEWEST);
        known.mean += (length.0 as f64 - known.mean) * weight;
        known.lengths.add(length);
    }

    /// Returns the expected length of the next answer.
    pub fn expected(&self) -> Tokens {
        let known = self.known();
        Tokens(if known.answers == 0 {
            FIRST_GUESS
        } else {
            known.mean.ceil()
        } as u64)
    }

    /// Returns a length that hardly any answer exceeds, once there were enough of them.
    pub fn high(&self) -> Option<Tokens> {
        self.known().lengths.high()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expectation_follows_real_answers() {
        let outputs = Outputs::after(Lengths::default());
        assert_eq!(outputs.expected(), Tokens(256));
        (0..10).for_each(|_| outputs.learn(Tokens(100)));
        assert_eq!(outputs.expected(), Tokens(100));
        (0..200).for_each(|_| outputs.learn(Tokens(20)));
        assert_eq!(outputs.expected(), Tokens(21));
    }
}
