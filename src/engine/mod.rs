//! The engine: entries in, events out; between them, only attempts.
//!
//! Promises: at most so many requests in flight and items in memory; every entry that it takes
//! ends as one `Settled` event, or stays pending because the run stopped. It knows no files, no
//! flags, no terminal and no provider's name, so it runs in a test on paused time.

mod admission;
mod attempt;
mod backoff;
mod bill;
mod breaker;
pub mod budget;
mod funding;
mod guard;
mod judge;
mod limiter;
mod outputs;
mod patience;
mod pause;
mod route;
mod stop;
mod trouble;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use admission::Admission;
use attempt::{End, Life};
use budget::Budget;
use guard::Guard;
use outputs::Outputs;
use route::Route;
pub use stop::{Phase, Stop};

use crate::provider::Provider;
use crate::schema::Schemas;
use crate::transport::Transport;
use crate::words::event::{Event, Gauges, Hold};
use crate::words::item::{BadLine, Entry};
use crate::words::lengths::Lengths;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tariff::Bill;
use crate::words::verdict::{Failure, FailureKind};

/// What the engine is told to keep to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests in flight at a time.
    pub concurrency: usize,
    pub rpm: Option<NonZeroU32>,
    pub tpm: Option<NonZeroU32>,
    /// Attempts after the first.
    pub max_retries: u32,
    /// Bounds one whole attempt.
    pub timeout: Duration,
    /// Bounds an item: its attempts and the waits between them, without those for the route.
    pub item_timeout: Option<Duration>,
    /// So many failures in a row mean that the route is away; `None` where none do.
    pub breaker: Option<NonZeroU32>,
    /// How long the route may go without a single answer before the run gives up.
    pub max_outage: Duration,
    /// The part of items that may end without a result, from 0 to 1.
    pub max_error_rate: Option<f64>,
    pub seed: u64,
    /// How long the answers of earlier runs were.
    pub lengths: Lengths,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            concurrency: 64,
            rpm: None,
            tpm: None,
            max_retries: 5,
            timeout: Duration::from_secs(60),
            item_timeout: None,
            breaker: NonZeroU32::new(8),
            max_outage: Duration::from_secs(30 * 60),
            max_error_rate: None,
            seed: 0,
            lengths: Lengths::default(),
        }
    }
}

/// How a run ended, beyond its events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// All entries were taken in and settled.
    pub complete: bool,
    /// Why the run stopped itself.
    pub halted: Option<Failure>,
    /// What a task said that ended by a bug of ours; its item stays pending.
    pub panicked: Option<String>,
    /// Items were begun and not settled.
    pub left_pending: bool,
}

/// What all attempts share.
struct Shared<T> {
    settings: Settings,
    provider: Arc<dyn Provider>,
    transport: T,
    admission: Arc<Admission>,
    /// `None` where the run may spend what it will.
    budget: Option<Arc<Budget>>,
    outputs: Outputs,
    schemas: Schemas,
    gauges: Arc<Gauges>,
    stop: Stop,
    events: mpsc::Sender<Event>,
    /// Events of lives that were dropped while they waited for the listeners.
    untold: Mutex<Vec<Event>>,
    random: Mutex<fastrand::Rng>,
}

impl<T> Shared<T> {
    /// Tells the listeners. Their queue is bounded: a slow disk slows the run down.
    async fn emit(&self, event: Event) {
        self.emit_all(vec![event]).await;
    }

    async fn emit_all(&self, events: Vec<Event>) {
        let mut untold = Untold {
            events: events.into_iter(),
            all: &self.untold,
        };
        while untold.events.len() > 0 {
            let Ok(place) = self.events.reserve().await else {
                // Nobody records any more: nothing that is still asked would be kept.
                return self.stop.advance(Phase::Aborting);
            };
            if let Some(event) = untold.events.next() {
                place.send(event);
            }
        }
    }

    fn take_untold(&self) -> Vec<Event> {
        std::mem::take(&mut *locked(&self.untold))
    }

    fn route(&self) -> &Arc<Route> {
        self.admission.route()
    }

    fn random(&self) -> f64 {
        locked(&self.random).f64()
    }
}

/// Events on their way to the listeners. Where their life is dropped meanwhile, they are kept:
/// they may hold a bill.
struct Untold<'a> {
    events: std::vec::IntoIter<Event>,
    all: &'a Mutex<Vec<Event>>,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if self.events.len() > 0 {
            locked(self.all).extend(&mut self.events);
        }
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared
        .lock()
        .expect("no code panics while it holds this lock")
}

/// The engine, ready to run once.
pub struct Engine<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Transport> Engine<T> {
    pub fn new(
        settings: Settings,
        provider: Arc<dyn Provider>,
        transport: T,
        events: mpsc::Sender<Event>,
        gauges: Arc<Gauges>,
        budget: Option<Arc<Budget>>,
        stop: Stop,
    ) -> Self {
        let admission = Arc::new(Admission::new(&settings, gauges.clone()));
        let random = Mutex::new(fastrand::Rng::with_seed(settings.seed));
        let outputs = Outputs::after(settings.lengths.clone());
        Engine {
            shared: Arc::new(Shared {
                settings,
                provider,
                transport,
                admission,
                budget,
                outputs,
                schemas: Schemas::default(),
                gauges,
                stop,
                events,
                untold: Mutex::default(),
                random,
            }),
        }
    }

    /// Runs until the entries end or the switch is thrown. Entries come in small batches, since
    /// waking the reader for every single one would cost more than reading it.
    pub async fn run(self, mut batches: mpsc::Receiver<Vec<Entry>>) -> Ending {
        let shared = &self.shared;
        let window = window(shared.settings.concurrency);
        let mut lives = JoinSet::new();
        let mut ending = Ending::default();
        let mut guard = Guard::new(shared.settings.max_error_rate);
        let mut batch = Vec::new().into_iter();
        let mut exhausted = false;
        loop {
            let running = shared.stop.phase() == Phase::Running;
            while running
                && lives.len() < window
                && let Some(entry) = batch.next()
            {
                self.begin(entry, &mut lives).await;
            }
            let wants_more = running && !exhausted && lives.len() < window;
            if lives.is_empty() && !wants_more {
                break;
            }
            tokio::select! {
                () = shared.stop.reached(Phase::Aborting) => break,
                () = shared.stop.reached(Phase::Draining), if running => {}
                Some(end) = lives.join_next() => self.take_end(end, &mut guard, &mut ending).await,
                next = batches.recv(), if wants_more => match next {
                    Some(entries) => batch = entries.into_iter(),
                    None => exhausted = true,
                },
            }
        }
        // Answers that have arrived are paid for, also when the rest is dropped.
        while let Some(end) = lives.try_join_next() {
            self.take_end(end, &mut guard, &mut ending).await;
        }
        ending.left_pending |= batch.len() > 0 || !lives.is_empty();
        let dropped = shared.gauges.in_flight.value();
        // Ends them here: nothing may run, or hold the listener's queue open, after this.
        lives.shutdown().await;
        shared.emit_all(shared.take_untold()).await;
        if dropped > 0 {
            shared.emit(Event::Dropped(dropped)).await;
        }
        ending.complete = exhausted && !ending.left_pending;
        ending
    }

    async fn begin(&self, entry: Entry, lives: &mut JoinSet<Life>) {
        match entry {
            Entry::Item(item) => {
                let shared = self.shared.clone();
                lives.spawn(async move {
                    let _stop = StopOnPanic(&shared.stop);
                    attempt::live(&shared, item).await
                });
            }
            Entry::Bad(line) => {
                self.shared
                    .emit(Event::Settled(
                        Box::new(bad_line_record(line)),
                        Hold::default(),
                    ))
                    .await;
            }
        }
    }

    async fn take_end(
        &self,
        life: Result<Life, JoinError>,
        guard: &mut Guard,
        ending: &mut Ending,
    ) {
        let Life { events, end } = match life {
            Ok(life) => life,
            Err(error) => return self.give_up(error, ending).await,
        };
        self.shared.emit_all(events).await;
        match end {
            End::Settled(record, slot) => {
                // What ends after the run was stopped says nothing new.
                let running = self.shared.stop.phase() == Phase::Running;
                let objection = running.then(|| guard.settled(&record)).flatten();
                if objection.is_some() {
                    // Now, since the listener may be slow.
                    self.shared.stop.advance(Phase::Draining);
                }
                self.shared
                    .emit(Event::Settled(record, Hold::of(slot)))
                    .await;
                if let Some(failure) = objection {
                    self.halt(failure, ending).await;
                }
            }
            End::Unasked(record) => {
                let settled = Event::Settled(record, Hold::default());
                self.shared.emit(settled).await;
            }
            End::Pending | End::Unaffordable(_) => ending.left_pending = true,
            End::Halted(failure) => {
                ending.left_pending = true;
                self.halt(failure, ending).await;
            }
        }
    }

    /// Starts nothing new, and tells why, once.
    async fn halt(&self, failure: Failure, ending: &mut Ending) {
        self.shared.stop.advance(Phase::Draining);
        if ending.halted.is_none() {
            self.shared.emit(Event::Halted(failure.clone())).await;
            ending.halted = Some(failure);
        }
    }

    /// A bug of ours in one item's life: what is in flight is still waited for, and nothing else
    /// is asked in doubt.
    async fn give_up(&self, error: JoinError, ending: &mut Ending) {
        ending.left_pending = true;
        // Its request may have been on its way.
        self.shared.emit(Event::Dropped(1)).await;
        ending.panicked.get_or_insert_with(|| words_of(error));
    }
}

/// Stops the run where a task panics, before its slot is used by another request.
struct StopOnPanic<'a>(&'a Stop);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.advance(Phase::Draining);
        }
    }
}

/// Returns what a panic said.
fn words_of(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "a task was cancelled".to_owned();
    };
    match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or_else(|| "a panic without words".to_owned(), ToString::to_string),
    }
}

/// Returns how many items may be alive at a time. Those that sleep between attempts count, so
/// memory stays bounded; there is room for some, so that sleepers do not starve the slots.
fn window(concurrency: usize) -> usize {
    concurrency + (3 * concurrency).min(2048) + 16
}

fn bad_line_record(line: BadLine) -> Record {
    Record {
        id: line.id,
        index: line.index,
        metadata: None,
        attempts: 0,
        latency: Duration::ZERO,
        model: "".into(),
        bill: Bill::default(),
        outcome: Outcome::Error {
            status: ErrorStatus::InvalidInput,
            failure: Failure {
                kind: FailureKind::InvalidInput,
                message: format!("line {}: {}", line.line, line.problem),
                http_status: None,
                code: None,
            },
            kept: None,
        },
    }
}

#[cfg(test)]
mod tests;
