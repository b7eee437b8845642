//! Whether connections are used again.
//!
//! A server may close a connection right after its answer without saying so. A request that was
//! already on its way then gets no answer, and nobody can tell whether it was processed. So such
//! loss is not called harmless; it is made rare: requests get connections of their own for a while.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Requests with a connection of their own after the first loss; twice as many after the next.
const FIRST_WHILE: u32 = 100;
const MOST_DOUBLINGS: u32 = 10;
/// So many requests in a row that lose no connection halve the next while: a server that restarts
/// now and then is none that closes always.
const FORGIVING: u32 = 1000;

#[derive(Debug, Default)]
pub struct Reuse {
    /// How often the next while is doubled.
    doublings: AtomicU32,
    /// Requests that still get a connection of their own.
    alone: AtomicU32,
    /// Requests since the last loss, or since one was forgiven, that took any connection.
    kept: AtomicU32,
}

impl Reuse {
    /// Tells whether the next request may take a connection that was used before.
    pub fn is_wise(&self) -> bool {
        let one_less = |number: u32| number.checked_sub(1);
        if self.alone.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
            return false;
        }
        if self.kept.fetch_add(1, Relaxed) + 1 == FORGIVING {
            self.kept.store(0, Relaxed);
            let _ = self.doublings.fetch_update(Relaxed, Relaxed, one_less);
        }
        true
    }

    /// Hears that a connection was lost before any answer. Those that were lost beside it say nothing
    /// new.
    pub fn lost(&self) {
        if self.alone.load(Relaxed) != 0 {
            return;
        }
        let doublings = self.doublings.load(Relaxed);
        self.alone.store(FIRST_WHILE << doublings, Relaxed);
        self.kept.store(0, Relaxed);
        let more = (doublings + 1).min(MOST_DOUBLINGS);
        self.doublings.store(more, Relaxed);
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

    // Negative control: leaving `doublings` as it is in `is_wise`.
    #[test]
    fn losses_of_long_ago_are_forgiven() {
        let reuse = Reuse::default();
        for _ in 0..20 {
            reuse.lost();
            assert_eq!(alone(&reuse), 100);
            let kept = (0..FORGIVING).filter(|_| reuse.is_wise()).count();
            assert_eq!(kept, FORGIVING as usize);
        }
        for requests in [100, 200, 400, 800] {
            reuse.lost();
            assert_eq!(alone(&reuse), requests);
            // `alone` asked once more.
            assert!((2..FORGIVING).all(|_| reuse.is_wise()), "one too few");
        }
    }
}
