//! The least time that a run can take, and what it is bound by.

use std::time::Duration;

/// The limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub rpm: Option<u32>,
    pub tpm: Option<u32>,
    pub concurrency: u64,
}

/// What a run waits for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binds {
    RequestsPerMinute,
    TokensPerMinute,
    Concurrency,
}

impl Binds {
    pub fn words(self) -> &'static str {
        match self {
            Binds::RequestsPerMinute => "requests per minute",
            Binds::TokensPerMinute => "tokens per minute",
            Binds::Concurrency => "requests in flight at a time",
        }
    }

    /// Returns the name that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            Binds::RequestsPerMinute => "rpm",
            Binds::TokensPerMinute => "tpm",
            Binds::Concurrency => "concurrency",
        }
    }
}

/// The least time under each limit; `None` where there is no limit or its load is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Wall {
    pub requests: Option<Duration>,
    pub tokens: Option<Duration>,
    pub concurrency: Option<Duration>,
}

impl Wall {
    /// Returns the times for so many requests, tokens in all, and seconds for each answer.
    pub fn of(pace: &Pace, requests: f64, tokens: Option<f64>, latency: Option<f64>) -> Self {
        let minutes = |amount: f64, limit: u32| time(amount / f64::from(limit) * 60.0);
        Wall {
            requests: pace.rpm.map(|limit| minutes(requests, limit)),
            tokens: pace
                .tpm
                .zip(tokens)
                .map(|(limit, tokens)| minutes(tokens, limit)),
            concurrency: latency.map(|each| time(requests * each / pace.concurrency.max(1) as f64)),
        }
    }

    /// Returns the time of the limit that binds.
    pub fn longest(&self) -> Option<(Duration, Binds)> {
        let times = [
            (self.requests, Binds::RequestsPerMinute),
            (self.tokens, Binds::TokensPerMinute),
            (self.concurrency, Binds::Concurrency),
        ];
        let known = times
            .into_iter()
            .filter_map(|(time, binds)| Some((time?, binds)));
        known.max_by_key(|(time, _)| *time)
    }
}

fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(rpm: u32, tpm: u32, latency: f64) -> (u64, Binds) {
        let pace = Pace {
            rpm: Some(rpm),
            tpm: Some(tpm),
            concurrency: 10,
        };
        let wall = Wall::of(&pace, 1000.0, Some(100_000.0), Some(latency));
        let (time, binds) = wall.longest().unwrap();
        (time.as_secs(), binds)
    }

    #[test]
    fn the_slowest_limit_binds() {
        assert_eq!(binds(500, 1_000_000, 0.1), (120, Binds::RequestsPerMinute));
        assert_eq!(binds(5000, 10_000, 0.1), (600, Binds::TokensPerMinute));
        assert_eq!(binds(5000, 1_000_000, 2.0), (200, Binds::Concurrency));
    }

    #[test]
    fn without_limits_nothing_is_said() {
        let pace = Pace {
            rpm: None,
            tpm: None,
            concurrency: 64,
        };
        assert_eq!(Wall::of(&pace, 10.0, Some(1.0), None).longest(), None);
    }
}
