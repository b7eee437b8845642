//! How long answers are: what the next one is expected to have where the request sets no limit,
//! and what hardly any exceeds.

use std::sync::Mutex;

use crate::words::tokens::Tokens;

/// Assumed before the first answer.
const FIRST_GUESS: f64 = 256.0;
/// The weight of the newest answer, once there have been enough.
const NEWEST: f64 = 0.05;
/// Answers before anything is said of long ones.
const ENOUGH: u64 = 30;
/// What is added to the 99th percentile, as a factor, and the least that comes of it.
const MARGIN: u64 = 2;
const LEAST: u64 = 64;
/// Steps to each doubling of a length.
const STEPS: usize = 8;

/// Learns the length of answers.
pub struct Outputs(Mutex<Known>);

struct Known {
    answers: u64,
    mean: f64,
    /// Answers by length, in steps of an eighth.
    lengths: [u32; 64 * STEPS],
}

impl Default for Outputs {
    fn default() -> Self {
        Outputs(Mutex::new(Known {
            answers: 0,
            mean: 0.0,
            lengths: [0; 64 * STEPS],
        }))
    }
}

impl Outputs {
    /// Takes in an answer's length: a plain mean at first, a moving one later.
    pub fn learn(&self, length: Tokens) {
        let mut known = self.known();
        known.answers += 1;
        let weight = (1.0 / known.answers as f64).max(NEWEST);
        known.mean += (length.0 as f64 - known.mean) * weight;
        known.lengths[step(length.0)] += 1;
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

    /// Returns twice the length that 99 of 100 answers stayed below, once there were enough.
    pub fn high(&self) -> Option<Tokens> {
        let known = self.known();
        if known.answers < ENOUGH {
            return None;
        }
        let mut above = known.answers / 100;
        let from_the_top = known.lengths.iter().enumerate().rev();
        let (highest, _) = from_the_top.into_iter().find(|(_, answers)| {
            let reached = u64::from(**answers) > above;
            above = above.saturating_sub((**answers).into());
            reached
        })?;
        Some(Tokens((end_of(highest) * MARGIN).max(LEAST)))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// Returns the step of a length: its power of two and the three bits behind the first.
fn step(length: u64) -> usize {
    let power = length.max(1).ilog2();
    let bits = (length << (63 - power)) >> 60;
    power as usize * STEPS + (bits as usize % STEPS)
}

/// Returns the length at which a step ends.
fn end_of(step: usize) -> u64 {
    let (power, bits) = (step / STEPS, step % STEPS);
    let end = ((STEPS + bits + 1) as u128) << power;
    u64::try_from(end.div_ceil(STEPS as u128)).unwrap_or(u64::MAX / MARGIN)
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

    #[test]
    fn hardly_any_answer_is_longer_than_the_high_one() {
        let outputs = Outputs::default();
        (0..29).for_each(|_| outputs.learn(Tokens(100)));
        assert_eq!(outputs.high(), None);
        outputs.learn(Tokens(100));
        assert_eq!(outputs.high(), Some(Tokens(208)));
        (0..69).for_each(|_| outputs.learn(Tokens(100)));
        outputs.learn(Tokens(10_000));
        assert_eq!(outputs.high(), Some(Tokens(208)));
        outputs.learn(Tokens(10_000));
        assert_eq!(outputs.high(), Some(Tokens(20_480)));
    }

    #[test]
    fn every_length_has_a_step_that_ends_behind_it() {
        for length in [0, 1, 2, 7, 8, 9, 1023, 1 << 40, u64::MAX] {
            let end = end_of(step(length));
            assert!(end > length || length > u64::MAX / 4, "{length}: {end}");
        }
    }
}
