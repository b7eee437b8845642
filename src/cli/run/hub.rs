//! The listener's thread: hears what happens, records, counts and shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::EVENT_QUEUE;
use crate::cli::progress::Progress;
use crate::cli::summary::Tally;
use crate::engine::budget::Budget;
use crate::engine::{Phase, Stop};
use crate::output::Recorder;
use crate::words::event::Event;
use crate::words::human::count;
use crate::words::price::{Bill, Charge};

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
    pub async fn listen(mut self, mut events: mpsc::Receiver<Event>) -> (Tally, Result<()>) {
        let mut heard = Vec::with_capacity(EVENT_QUEUE);
        let mut failure = None;
        loop {
            let due = self
                .recorder
                .sync_due()
                .map_or(self.progress.due(), |sync| sync.min(self.progress.due()));
            let from = heard.len();
            let more =
                tokio::time::timeout_at(due.into(), events.recv_many(&mut heard, EVENT_QUEUE))
                    .await;
            heard[from..].iter().for_each(|event| self.hear(event));
            // After a failure, events are held until the end: what they tell is not stored.
            if failure.is_none() {
                match self.write() {
                    Ok(()) => heard.drain(..).for_each(|event| self.tally.hear(&event)),
                    Err(error) => {
                        self.stop.advance(Phase::Draining);
                        failure = Some(error);
                    }
                }
            }
            if more == Ok(0) {
                break;
            }
            self.progress.show(&self.tally, Instant::now());
            std::thread::sleep(GATHERING);
        }
        self.progress.finish();
        match failure {
            None => {
                let at_risk = self.budget.map(|budget| budget.accounts().at_risk);
                let finished = self.recorder.finish(at_risk);
                (self.tally, finished.context("failed to write the output"))
            }
            Some(error) => self.write_at_last(&heard, error),
        }
    }

    fn hear(&mut self, event: &Event) {
        self.progress.hear(event);
        match event {
            Event::Settled(record, _) => self.recorder.take(record),
            Event::Retried { bill, .. } => self.recorder.take_bill(bill),
            // A budget has them on its books already.
            Event::Dropped(requests) if self.budget.is_none() => {
                let unknown = Bill {
                    usage: None,
                    charge: Charge::Unpriced,
                };
                (0..*requests).for_each(|_| self.recorder.take_bill(&unknown));
            }
            _ => {}
        }
    }

    /// Appends what was heard and keeps files and budget in step: what the run may spend stands
    /// in the checkpoint before it may.
    fn write(&mut self) -> std::io::Result<()> {
        self.recorder.append()?;
        let Some(budget) = &self.budget else {
            return self.recorder.commit();
        };
        if let Some(ceiling) = budget.wanted_ceiling() {
            self.recorder.raise_ceiling(ceiling);
        }
        self.recorder.commit()?;
        if let Some(ceiling) = self.recorder.ceiling() {
            budget.grant(ceiling);
        }
        Ok(())
    }

    /// Tries once more to append what could not be written, now that nothing else comes.
    fn write_at_last(mut self, held: &[Event], error: std::io::Error) -> (Tally, Result<()>) {
        let answers = held
            .iter()
            .filter(|event| matches!(event, Event::Settled(..)))
            .count();
        let mut what = "failed to write the output".to_owned();
        if self.recorder.append().is_ok() {
            held.iter().for_each(|event| self.tally.hear(event));
        } else if answers > 0 {
            what = format!(
                "{what} ({} could not be stored and will be asked again)",
                count(answers as u64, "answer")
            );
        }
        (self.tally, Err(error).context(what))
    }
}
