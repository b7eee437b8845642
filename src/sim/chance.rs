//! Chance that repeats itself: seeded generators and the log-normal law.

use fastrand::Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many standard deviations lie between the median and the 99th percentile.
const P99_DEVIATIONS: f64 = 2.326_347_874;

/// Returns the generator for the n-th try of one body under one seed.
pub(super) fn generator(seed: u64, body: u64, tries: u32) -> Rng {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&body.to_le_bytes());
    key[8..].copy_from_slice(&tries.to_le_bytes());
    Rng::with_seed(xxh3_64_with_seed(&key, seed))
}

/// Draws from the log-normal law with this median and this spread of the logarithm.
pub(super) fn log_normal(rng: &mut Rng, median: f64, spread: f64) -> f64 {
    median * (spread * normal(rng)).exp()
}

/// Returns the spread of the log-normal law that has this median and 99th percentile.
pub(super) fn spread(median: f64, p99: f64) -> f64 {
    if median > 0.0 && p99 > median {
        (p99 / median).ln() / P99_DEVIATIONS
    } else {
        0.0
    }
}

/// Draws from the standard normal law (Box-Muller).
fn normal(rng: &mut Rng) -> f64 {
    // One minus a draw from [0, 1), because the logarithm of zero is infinite.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted_draws(median: f64, p99: f64) -> Vec<f64> {
        let mut rng = Rng::with_seed(7);
        let spread = spread(median, p99);
        let mut draws: Vec<f64> = (0..20_000)
            .map(|_| log_normal(&mut rng, median, spread))
            .collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    #[test]
    fn log_normal_meets_its_median_and_p99() {
        let draws = sorted_draws(200.0, 800.0);
        assert!((draws[10_000] - 200.0).abs() < 10.0, "{}", draws[10_000]);
        assert!((draws[19_800] - 800.0).abs() < 80.0, "{}", draws[19_800]);
    }

    #[test]
    fn p99_at_the_median_is_a_constant() {
        assert_eq!(sorted_draws(50.0, 50.0)[19_999], 50.0);
    }

    #[test]
    fn generator_differs_by_seed_body_and_try() {
        let first = |seed, body, tries| generator(seed, body, tries).u64(..);
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        assert_ne!(first(1, 2, 3), first(2, 2, 3));
        assert_ne!(first(1, 2, 3), first(1, 3, 3));
        assert_ne!(first(1, 2, 3), first(1, 2, 4));
    }
}
