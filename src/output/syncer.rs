//! A thread that makes things durable, so that appending never waits for a disk to sync.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// One thing to make durable.
pub type Job = Box<dyn FnOnce() -> Result<(), SyncError> + Send>;

/// What did not become durable.
#[derive(Debug)]
pub enum SyncError {
    /// Rows; nobody knows which of them did.
    Rows(io::Error),
    /// Only the snapshot behind them.
    Checkpoint(io::Error),
}

/// Does one job at a time.
pub struct Syncer {
    jobs: SyncSender<Job>,
    outcomes: Receiver<Result<(), SyncError>>,
    busy: bool,
}

impl Syncer {
    pub fn start() -> io::Result<Self> {
        let (jobs, inbox) = sync_channel::<Job>(1);
        let (outbox, outcomes) = sync_channel(1);
        std::thread::Builder::new()
            .name("sync".to_owned())
            .spawn(move || {
                // Ends when the syncer is dropped.
                for job in inbox {
                    if outbox.send(job()).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Syncer {
            jobs,
            outcomes,
            busy: false,
        })
    }

    /// Begins a job; the one before must have ended.
    pub fn begin(&mut self, job: Job) -> io::Result<()> {
        assert!(!self.busy, "one job at a time");
        self.jobs.send(job).map_err(|_| gone())?;
        self.busy = true;
        Ok(())
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Returns the outcome of a job that has ended since the last look.
    pub fn ended(&mut self) -> Option<Result<(), SyncError>> {
        match self.outcomes.try_recv() {
            Err(TryRecvError::Empty) => None,
            outcome => Some(self.take(outcome.map_err(|_| SyncError::Rows(gone())))),
        }
    }

    /// Waits for the job that is being done, if there is one.
    pub fn wait(&mut self) -> Option<Result<(), SyncError>> {
        self.busy.then(|| {
            let outcome = self.outcomes.recv();
            self.take(outcome.map_err(|_| SyncError::Rows(gone())))
        })
    }

    fn take(&mut self, outcome: Result<Result<(), SyncError>, SyncError>) -> Result<(), SyncError> {
        self.busy = false;
        outcome.flatten()
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that syncs files has died")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_in_turn() {
        let mut syncer = Syncer::start().unwrap();
        assert!(syncer.wait().is_none());
        syncer.begin(Box::new(|| Ok(()))).unwrap();
        assert!(syncer.is_busy());
        assert!(syncer.wait().unwrap().is_ok());
        syncer
            .begin(Box::new(|| {
                Err(SyncError::Checkpoint(io::Error::other("no")))
            }))
            .unwrap();
        assert!(matches!(syncer.wait(), Some(Err(SyncError::Checkpoint(_)))));
        assert!(!syncer.is_busy());
    }

    #[test]
    fn a_job_that_panics_is_an_error() {
        let mut syncer = Syncer::start().unwrap();
        syncer.begin(Box::new(|| panic!("on purpose"))).unwrap();
        assert!(syncer.wait().unwrap().is_err());
    }
}
