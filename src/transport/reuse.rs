//! Whether connections are used again.
//!
//! A server may close a connection right after its answer without saying so. A request that was
//! already on its way then gets no answer, and nobody can tell whether it was processed. So such
//! loss is not called harmless; it is made rare: requests get connections of their own for a while.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Requests with a connection of their own after the first loss; twice as many after the next.
const FIRST_WHILE: u32 = 100;
const MOST_DOUBLINGS: u32 = 10;

#[derive(Debug, Default)]
pub struct Reuse {
    losses: AtomicU32,
    /// Requests that still get a connection of their own.
    alone: AtomicU32,
}

impl Reuse {
    /// Tells whether the next request may take a connection that was used before.
    pub fn is_wise(&self) -> bool {
        let alone = self
            .alone
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        alone.is_err()
    }

    /// Hears that a connection was lost before any answer. Those that were lost beside it say nothing
    /// new.
    pub fn lost(&self) {
        if self.alone.load(Relaxed) == 0 {
            let losses = self.losses.fetch_add(1, Relaxed).min(MOST_DOUBLINGS);
            self.alone.store(FIRST_WHILE << losses, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(reuse: &Reuse) -> usize {
        (0..1_000_000).take_while(|_| !reuse.is_wise()).count()
    }

    #[test]
    fn each_loss_keeps_connections_apart_for_longer() {
        let reuse = Reuse::default();
        assert_eq!(alone(&reuse), 0);
        for requests in [100, 200, 400] {
            reuse.lost();
            assert_eq!(alone(&reuse), requests);
        }
        for _ in 0..100 {
            reuse.lost();
            reuse.lost();
            alone(&reuse);
        }
        reuse.lost();
        assert_eq!(alone(&reuse), 102_400);
    }
}
