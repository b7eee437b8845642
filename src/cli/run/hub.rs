//! The listener's thread: hears what happens, records, counts and shows it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::EVENT_QUEUE;
use crate::cli::progress::Progress;
use crate::cli::summary::Tally;
use crate::engine::budget::Budget;
use crate::engine::{Phase, Stop};
use crate::output::{Failed, Recorder, Rescue};
use crate::words::event::Event;
use crate::words::tariff::Bill;

/// How long events gather before they are heard. To be woken for each single one costs more than
/// to hear it; slots are taken meanwhile, so this stays far below any server's latency.
const GATHERING: Duration = Duration::from_micros(300);

/// The listener: records, counts and shows events.
pub struct Hub {
    pub recorder: Recorder,
    pub progress: Progress,
    pub tally: Tally,
    pub budget: Option<Arc<Budget>>,
    pub stop: Stop,
}

impl Hub {
    /// Listens on a thread of its own.
    pub fn spawn(self, events: mpsc::Receiver<Event>) -> Result<JoinHandle<Heard>> {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .context("failed to start the runtime")?;
        let listen = move || clock.block_on(self.listen(events));
        Ok(std::thread::spawn(listen))
    }

    async fn listen(mut self, mut events: mpsc::Receiver<Event>) -> Heard {
        let mut heard = Vec::with_capacity(EVENT_QUEUE);
        let mut trouble = None;
        loop {
            let due = self.due(&trouble);
            let from = heard.len();
            let more =
                tokio::time::timeout_at(due.into(), events.recv_many(&mut heard, EVENT_QUEUE))
                    .await;
            heard[from..].iter().for_each(|event| self.record(event));
            // Once the output is broken, the recorder keeps what it takes, and events are held:
            // what they tell is not stored.
            if !is_broken(&trouble) {
                trouble = self.write().err().or(trouble);
            }
            if trouble.is_some() {
                self.stop.advance(Phase::Draining);
            }
            // Only now: nobody may read what is shown, and then it waits.
            heard[from..]
                .iter()
                .for_each(|event| self.progress.hear(event));
            if !is_broken(&trouble) {
                heard.drain(..).for_each(|event| self.tally.hear(&event));
            }
            if more == Ok(0) {
                break;
            }
            self.progress.show(&self.tally, Instant::now());
            std::thread::sleep(GATHERING);
        }
        self.progress.finish();
        let accounts = self.budget.map(|budget| budget.accounts());
        let booked = accounts.map(|accounts| (accounts.spent, accounts.at_risk));
        let files = self.recorder.end(trouble.map(Trouble::into_error), booked);
        let is_lost = |failed: &Failed| matches!(failed.rescue, Rescue::Lost { .. });
        if !files.as_ref().is_err_and(is_lost) {
            heard.iter().for_each(|event| self.tally.hear(event));
        }
        Heard {
            tally: self.tally,
            files,
        }
    }

    /// Returns when to look again though nothing was heard.
    fn due(&self, trouble: &Option<Trouble>) -> Instant {
        let shown = self.progress.due();
        let synced = self.recorder.sync_due().filter(|_| !is_broken(trouble));
        synced.map_or(shown, |synced| synced.min(shown))
    }

    fn record(&mut self, event: &Event) {
        match event {
            Event::Settled(record, _) => self.recorder.take(record),
            Event::Retried { bill, .. }
            | Event::Throttled { bill, .. }
            | Event::Spared { bill, .. }
            | Event::Unanswered(bill) => self.recorder.take_bill(bill),
            // A budget has them on its books already.
            Event::Dropped(requests) if self.budget.is_none() => {
                (0..*requests).for_each(|_| self.recorder.take_bill(&Bill::UNKNOWN));
            }
            _ => {}
        }
    }

    /// Appends what was heard and keeps files and budget in step: what the run may spend stands
    /// in the checkpoint before it may.
    fn write(&mut self) -> std::result::Result<(), Trouble> {
        self.recorder.append().map_err(Trouble::Broken)?;
        if let Some(ceiling) = self
            .budget
            .as_ref()
            .and_then(|budget| budget.wanted_ceiling())
        {
            self.recorder.raise_ceiling(ceiling);
        }
        self.recorder.commit().map_err(Trouble::Broken)?;
        if let Some(budget) = &self.budget
            && let Some(ceiling) = self.recorder.ceiling()
        {
            budget.grant(ceiling);
        }
        self.recorder.make_room().map_err(Trouble::NoRoom)
    }
}

/// What came of listening.
pub struct Heard {
    pub tally: Tally,
    /// How the output was left.
    pub files: std::result::Result<(), Failed>,
}

/// What keeps the output from taking more answers.
enum Trouble {
    /// There is no room for other answers than those on their way.
    NoRoom(io::Error),
    /// It could not be written, or not be made durable.
    Broken(io::Error),
}

fn is_broken(trouble: &Option<Trouble>) -> bool {
    matches!(trouble, Some(Trouble::Broken(_)))
}

impl Trouble {
    fn into_error(self) -> io::Error {
        match self {
            Trouble::NoRoom(error) | Trouble::Broken(error) => error,
        }
    }
}
