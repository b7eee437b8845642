//! A pause of all requests, and the ramp after it.

use std::time::Duration;

use tokio::time::Instant;

/// After a pause, requests return spread over this time instead of all at once.
const RAMP: Duration = Duration::from_secs(1);

/// Nothing goes out until its end, and then one request after the other for a while.
pub struct Pause {
    until: Instant,
    /// When the next request may follow the one before it.
    next: Instant,
    /// What to tell people; nothing of a mere ramp.
    pub why: Option<String>,
}

impl Pause {
    pub fn new(until: Instant, why: Option<String>) -> Self {
        Pause {
            until,
            next: until,
            why,
        }
    }

    /// Tells whether it lasts longer than another one.
    pub fn outlasts(&self, other: &Self) -> bool {
        self.until > other.until
    }

    /// Tells whether nothing is left of it.
    pub fn is_past(&self) -> bool {
        Instant::now() >= self.until + RAMP
    }

    /// Returns when the next request may go out.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Notes that a request goes out; as many as there are slots make up a ramp.
    pub fn send(&mut self, slots: usize) {
        self.next = Instant::now() + RAMP / u32::try_from(slots.max(1)).unwrap_or(u32::MAX);
    }
}
