//! How long answers were: a histogram that says what hardly any exceeds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tokens::Tokens;

/// Answers before anything is said of long ones.
const ENOUGH: u64 = 30;
/// What is added to the 99th percentile, as a factor, and the least that comes of it.
const MARGIN: u64 = 2;
const LEAST: u64 = 64;
/// Steps to each doubling of a length.
const STEPS: usize = 8;

/// Answers by length, in steps of an eighth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths {
    answers: u64,
    steps: Box<[u32; 64 * STEPS]>,
}

impl Default for Lengths {
    fn default() -> Self {
        Lengths {
            answers: 0,
            steps: Box::new([0; 64 * STEPS]),
        }
    }
}

impl Lengths {
    pub fn add(&mut self, length: Tokens) {
        self.add_to(step(length.0), 1);
    }

    fn add_to(&mut self, step: usize, answers: u32) {
        self.answers += u64::from(answers);
        self.steps[step] = self.steps[step].saturating_add(answers);
    }

    /// Returns twice the length that 99 of 100 answers stayed below, once there were enough.
    pub fn high(&self) -> Option<Tokens> {
        if self.answers < ENOUGH {
            return None;
        }
        let mut above = self.answers / 100;
        let highest = (0..self.steps.len()).rev().find(|step| {
            let answers = u64::from(self.steps[*step]);
            let reached = answers > above;
            above = above.saturating_sub(answers);
            reached
        })?;
        Some(Tokens((end_of(highest) * MARGIN).max(LEAST)))
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

/// On disk: pairs of step and answers, without empty steps.
impl Serialize for Lengths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = self.steps.iter().enumerate();
        serializer.collect_seq(steps.filter(|(_, answers)| **answers > 0))
    }
}

impl<'de> Deserialize<'de> for Lengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(usize, u32)>::deserialize(deserializer)?;
        let mut lengths = Lengths::default();
        for (step, answers) in pairs {
            if step >= lengths.steps.len() {
                return Err(serde::de::Error::custom("no such step"));
            }
            lengths.add_to(step, answers);
        }
        Ok(lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answers: u64, length: u64) -> Lengths {
        let mut lengths = Lengths::default();
        (0..answers).for_each(|_| lengths.add(Tokens(length)));
        lengths
    }

    #[test]
    fn hardly_any_answer_is_longer_than_the_high_one() {
        let mut lengths = of(29, 100);
        assert_eq!(lengths.high(), None);
        lengths.add(Tokens(100));
        assert_eq!(lengths.high(), Some(Tokens(208)));
        (0..69).for_each(|_| lengths.add(Tokens(100)));
        lengths.add(Tokens(10_000));
        assert_eq!(lengths.high(), Some(Tokens(208)));
        lengths.add(Tokens(10_000));
        assert_eq!(lengths.high(), Some(Tokens(20_480)));
    }

    #[test]
    fn every_length_has_a_step_that_ends_behind_it() {
        for length in [0, 1, 2, 7, 8, 9, 1023, 1 << 40, u64::MAX] {
            let end = end_of(step(length));
            assert!(end > length || length > u64::MAX / 4, "{length}: {end}");
        }
    }

    #[test]
    fn lengths_on_disk_read_the_same() {
        let mut lengths = of(40, 100);
        lengths.add(Tokens(3000));
        let text = serde_json::to_string(&lengths).unwrap();
        assert_eq!(text, "[[52,40],[91,1]]");
        assert_eq!(serde_json::from_str::<Lengths>(&text).unwrap(), lengths);
        assert!(serde_json::from_str::<Lengths>("[[512,1]]").is_err());
    }
}
