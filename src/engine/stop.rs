//! The switch that ends a run: first gently, then at once.

use tokio::sync::watch;

/// How far a run is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// Start nothing new; wait for what is in flight, since it is paid for.
    Draining,
    /// Drop what is in flight.
    Aborting,
}

/// A shared switch that only moves forward.
#[derive(Debug, Clone)]
pub struct Stop(std::sync::Arc<watch::Sender<Phase>>);

impl Default for Stop {
    fn default() -> Self {
        Stop(std::sync::Arc::new(watch::Sender::new(Phase::Running)))
    }
}

impl Stop {
    /// Moves to `phase`, or stays where it is further already.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let forward = phase > *current;
            *current = phase.max(*current);
            forward
        });
    }

    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the run is at `phase` or further.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so the wait ends only by reaching the phase.
        let _ = self
            .0
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await;
    }
}
