//! A thread that makes things durable, so that appending never waits for a disk to sync.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// One thing to make durable.
pub type Job = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Does one job at a time.
pub struct Syncer {
    jobs: SyncSender<Job>,
    outcomes: Receiver<io::Result<()>>,
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
    pub fn ended(&mut self) -> Option<io::Result<()>> {
        match self.outcomes.try_recv() {
            Err(TryRecvError::Empty) => None,
            outcome => Some(self.take(outcome.map_err(|_| gone()))),
        }
    }

    /// Waits for the job that is being done, if there is one.
    pub fn wait(&mut self) -> Option<io::Result<()>> {
        self.busy.then(|| {
            let outcome = self.outcomes.recv();
            self.take(outcome.map_err(|_| gone()))
        })
    }

    fn take(&mut self, outcome: io::Result<io::Result<()>>) -> io::Result<()> {
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
            .begin(Box::new(|| Err(io::Error::other("no"))))
            .unwrap();
        assert_eq!(syncer.wait().unwrap().unwrap_err().to_string(), "no");
        assert!(!syncer.is_busy());
    }

    #[test]
    fn a_job_that_panics_is_an_error() {
        let mut syncer = Syncer::start().unwrap();
        syncer.begin(Box::new(|| panic!("on purpose"))).unwrap();
        assert!(syncer.wait().unwrap().is_err());
    }
}
