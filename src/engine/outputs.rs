//! What an answer's length will be where the request sets no limit: a moving average.

use std::sync::Mutex;

use crate::words::tokens::Tokens;

/// Assumed before the first answer.
const FIRST_GUESS: f64 = 256.0;
/// The weight of the newest answer, once there have been enough.
const NEWEST: f64 = 0.05;

/// Learns the length of answers.
#[derive(Default)]
pub struct Outputs(Mutex<(u64, f64)>);

impl Outputs {
    /// Takes in an answer's length: a plain mean at first, a moving one later.
    pub fn learn(&self, length: Tokens) {
        let mut known = self
            .0
            .lock()
            .expect("no code panics while it holds this lock");
        known.0 += 1;
        let weight = (1.0 / known.0 as f64).max(NEWEST);
        known.1 += (length.0 as f64 - known.1) * weight;
    }

    /// Returns the expected length of the next answer.
    pub fn expected(&self) -> Tokens {
        let known = self
            .0
            .lock()
            .expect("no code panics while it holds this lock");
        Tokens(if known.0 == 0 {
            FIRST_GUESS
        } else {
            known.1.ceil()
        } as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expectation_follows_real_answers() {
        let outputs = Outputs::default();
        assert_eq!(outputs.expected(), Tokens(256));
        (0..10).for_each(|_| outputs.learn(Tokens(100)));
        assert_eq!(outputs.expected(), Tokens(100));
        (0..200).for_each(|_| outputs.learn(Tokens(20)));
        assert_eq!(outputs.expected(), Tokens(21));
    }
}
