//! How long to wait before asking again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);

/// Returns the wait after so many failures (1 for the first): exponential from one second,
/// doubling, capped at a minute, with full jitter, so that failures at one moment do not return
/// at one moment. `random` lies between 0 and 1.
pub fn delay(failures: u32, random: f64) -> Duration {
    ceiling(failures).mul_f64(random)
}

fn ceiling(failures: u32) -> Duration {
    FIRST
        .saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)))
        .min(CAP)
}

/// Returns what is added to a wait that the server asked for, so that clients which were told
/// the same do not return together: up to a tenth of it, at least up to a quarter of a second.
pub fn stagger(asked: Duration, random: f64) -> Duration {
    (asked / 10)
        .clamp(Duration::from_millis(250), CAP)
        .mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_from_one_second_to_a_minute() {
        let seconds: Vec<u64> = (1..9).map(|failures| ceiling(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(ceiling(u32::MAX), CAP);
        assert_eq!(ceiling(0), FIRST);
    }

    #[test]
    fn jitter_is_full() {
        assert_eq!(delay(4, 0.0), Duration::ZERO);
        assert_eq!(delay(4, 0.5), Duration::from_secs(4));
        assert!(delay(4, 0.999) < Duration::from_secs(8));
    }
}
