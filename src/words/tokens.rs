//! Token amounts and what a provider says it used.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use super::money::Usd;
use super::price::Service;

/// An amount of model tokens.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tokens(pub u64);

impl Tokens {
    /// Returns the difference, or nothing where `other` is more.
    pub fn less(self, other: Tokens) -> Tokens {
        Tokens(self.0.saturating_sub(other.0))
    }

    pub fn times(self, factor: u64) -> Tokens {
        Tokens(self.0.saturating_mul(factor))
    }
}

impl Add for Tokens {
    type Output = Tokens;
    fn add(self, other: Tokens) -> Tokens {
        Tokens(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Tokens) {
        *self = *self + other;
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Tokens>>(amounts: I) -> Tokens {
        amounts.fold(Tokens(0), Add::add)
    }
}

/// What one answer used, in OpenAI's convention: cached tokens are part of `prompt`, reasoning
/// tokens are part of `completion`. Never add a part to its whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: Tokens,
    pub completion: Tokens,
    /// As the provider states it; some count hidden tokens only here.
    pub total: Tokens,
    pub cached: Option<Tokens>,
    /// Prompt tokens that were put into a cache, for its usual time and for a longer one.
    pub cache_write: Option<Tokens>,
    pub cache_write_long: Option<Tokens>,
    pub reasoning: Option<Tokens>,
    /// Sound, in the prompt and in the answer, which text prices say nothing of.
    pub audio: Tokens,
    /// How the request was served.
    pub service: Service,
    /// What the answer cost by the provider's own words.
    pub stated_cost: Option<Usd>,
}

impl Usage {
    /// Returns the output that is paid for: some providers show hidden reasoning in the total
    /// only.
    pub fn billed_output(&self) -> Tokens {
        self.completion.max(self.total.less(self.prompt))
    }
}

/// The row's `usage` object: the three figures everyone knows, and the parts only where given.
impl Serialize for Usage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("prompt_tokens", &self.prompt)?;
        map.serialize_entry("completion_tokens", &self.completion)?;
        map.serialize_entry("total_tokens", &self.total)?;
        if let Some(cached) = self.cached {
            map.serialize_entry("cached_tokens", &cached)?;
        }
        if let Some(reasoning) = self.reasoning {
            map.serialize_entry("reasoning_tokens", &reasoning)?;
        }
        map.end()
    }
}
