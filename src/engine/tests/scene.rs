//! A stage for one run: items, an endpoint that plays its script, a listener, and what was seen.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::budget::Budget;
use super::super::{Ending, Engine, Phase, Settings, Stop, Transport};
use super::script::{Ask, Reader, Say, spoken};

use crate::words::event::{Event, Gauges, Hold};
use crate::words::item::{BadLine, Entry, Item};
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tariff::Bounds;
use crate::words::verdict::FailureKind;
use crate::words::wire::{Exchange, Request};

/// One request, as it was seen on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub item: u64,
    pub start: Duration,
    /// When its slot came free; `None` while it is on its way.
    pub end: Option<Duration>,
}

type Script = dyn Fn(Ask) -> (Duration, Say) + Send + Sync;

/// One run, before it begins.
pub struct Scene {
    pub settings: Settings,
    pub entries: Vec<Entry>,
    pub stops: Vec<(Duration, Phase)>,
    pub event_queue: usize,
    /// How long the listener takes over each event.
    pub listening: Duration,
    pub budget: Option<Arc<Budget>>,
    /// When the process is stopped, and for how long.
    pub sleeps: Vec<(Duration, Duration)>,
    /// How often others must run before an answer that has arrived is read.
    pub hops: usize,
    script: Arc<Script>,
}

/// One run, after its end.
pub struct Seen {
    pub ending: Ending,
    pub took: Duration,
    pub events: Vec<(Duration, Event)>,
    pub sent: Vec<Sent>,
    pub peak: usize,
    /// The most entries that the engine had taken and not settled.
    pub most_open: usize,
    items: usize,
}

pub fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

pub fn seconds(time: u64) -> Duration {
    Duration::from_secs(time)
}

pub fn item(index: u64) -> Item {
    Item {
        id: index.to_string().into(),
        index,
        line: index + 1,
        model: "scripted".into(),
        model_is_shared: false,
        body: index.to_string().into(),
        metadata: None,
        prompt_tokens: None,
        bounds: Bounds::default(),
        expects_json: false,
        tariff: None,
    }
}

pub fn bad_line(index: u64) -> Entry {
    Entry::Bad(BadLine {
        id: index.to_string().into(),
        index,
        line: index + 1,
        problem: "not JSON".into(),
    })
}

impl Scene {
    /// Sets up so many plain items and an endpoint that takes `latency` over every request.
    pub fn new(
        items: u64,
        latency: Duration,
        script: impl Fn(Ask) -> Say + Send + Sync + 'static,
    ) -> Self {
        Scene {
            settings: Settings::default(),
            entries: (0..items).map(|index| Entry::Item(item(index))).collect(),
            stops: Vec::new(),
            event_queue: 64,
            listening: Duration::ZERO,
            budget: None,
            sleeps: Vec::new(),
            hops: 0,
            script: Arc::new(move |ask| (latency, script(ask))),
        }
    }

    /// Lets the script choose the latency of each request, too.
    pub fn timed(
        mut self,
        script: impl Fn(Ask) -> (Duration, Say) + Send + Sync + 'static,
    ) -> Self {
        self.script = Arc::new(script);
        self
    }

    pub fn concurrency(mut self, slots: usize) -> Self {
        self.settings.concurrency = slots;
        self
    }

    pub fn max_retries(mut self, retries: u32) -> Self {
        self.settings.max_retries = retries;
        self
    }

    /// Leaves every failure to its item.
    pub fn without_breaker(mut self) -> Self {
        self.settings.breaker = None;
        self
    }

    pub fn rpm(mut self, limit: u32) -> Self {
        self.settings.rpm = NonZeroU32::new(limit);
        self
    }

    pub fn tpm(mut self, limit: u32) -> Self {
        self.settings.tpm = NonZeroU32::new(limit);
        self
    }

    pub fn stop_at(mut self, time: Duration, phase: Phase) -> Self {
        self.stops.push((time, phase));
        self
    }

    /// Changes every item.
    pub fn with_items(mut self, change: impl Fn(&mut Item)) -> Self {
        for entry in &mut self.entries {
            if let Entry::Item(item) = entry {
                change(item);
            }
        }
        self
    }

    pub async fn play(self) -> Seen {
        let wire = Arc::new(Wire {
            start: Instant::now(),
            script: self.script,
            hops: self.hops,
            state: Mutex::default(),
        });
        let (start, items) = (wire.start, self.entries.len());
        let stop = Stop::default();
        let (events_in, events) = mpsc::channel(self.event_queue);
        // A queue of one: what has been fed, less one, has been taken.
        let (entries_in, entries) = mpsc::channel(1);
        let engine = Engine::new(
            self.settings,
            Arc::new(Reader),
            Scripted(wire.clone()),
            events_in,
            Arc::new(Gauges::default()),
            self.budget.clone(),
            stop.clone(),
        );
        let run = async { (engine.run(entries).await, start.elapsed()) };
        let feeding = feed(self.entries, entries_in, wire.clone());
        let listening = listen(events, self.listening, wire.clone());
        let stopping = throw(self.stops, start, stop);
        let sleeping = oversleep(self.sleeps, start);
        let ((ending, took), (), events, (), ()) =
            tokio::join!(run, feeding, listening, stopping, sleeping);
        let state = wire.lock();
        Seen {
            ending,
            took,
            events,
            sent: state.sent.clone(),
            peak: state.peak,
            most_open: state.most_open,
            items,
        }
    }
}

async fn feed(entries: Vec<Entry>, queue: mpsc::Sender<Vec<Entry>>, wire: Arc<Wire>) {
    for (fed, entry) in entries.into_iter().enumerate() {
        let Ok(place) = queue.reserve().await else {
            return;
        };
        // The place is free, so everything fed before has been taken.
        let mut state = wire.lock();
        state.most_open = state.most_open.max(fed - state.settled);
        place.send(vec![entry]);
    }
}

async fn listen(
    mut events: mpsc::Receiver<Event>,
    pace: Duration,
    wire: Arc<Wire>,
) -> Vec<(Duration, Event)> {
    let mut heard = Vec::new();
    while let Some(mut event) = events.recv().await {
        let at = wire.start.elapsed();
        if matches!(event, Event::Settled(..)) {
            wire.lock().settled += 1;
        }
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        // The record is written now.
        if let Event::Settled(_, hold) = &mut event {
            *hold = Hold::default();
        }
        heard.push((at, event));
    }
    heard
}

async fn throw(stops: Vec<(Duration, Phase)>, start: Instant, stop: Stop) {
    for (time, phase) in stops {
        tokio::time::sleep_until(start + time).await;
        stop.advance(phase);
    }
}

async fn oversleep(sleeps: Vec<(Duration, Duration)>, start: Instant) {
    for (time, span) in sleeps {
        tokio::time::sleep_until(start + time).await;
        tokio::time::advance(span).await;
    }
}

/// The scripted endpoint and what was seen at it.
struct Wire {
    start: Instant,
    script: Arc<Script>,
    hops: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: HashMap<u64, u32>,
    sent: Vec<Sent>,
    in_flight: usize,
    peak: usize,
    settled: usize,
    most_open: usize,
}

impl Wire {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct Scripted(Arc<Wire>);

impl Transport for Scripted {
    async fn send(&self, request: Request) -> Exchange {
        let (latency, say, _flight) = self.depart(&request);
        if say == Say::Silence {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(latency).await;
        for _ in 0..self.0.hops {
            tokio::task::yield_now().await;
        }
        spoken(say)
    }
}

impl Scripted {
    fn depart(&self, request: &Request) -> (Duration, Say, Flight) {
        let item = std::str::from_utf8(&request.body).unwrap().parse().unwrap();
        let at = self.0.start.elapsed();
        let mut state = self.0.lock();
        let requests = state.requests.entry(item).or_default();
        *requests += 1;
        let request = *requests;
        let (latency, said) = (self.0.script)(Ask { item, request, at });
        state.sent.push(Sent {
            item,
            start: at,
            end: None,
        });
        state.in_flight += 1;
        state.peak = state.peak.max(state.in_flight);
        let flight = Flight {
            wire: self.0.clone(),
            place: state.sent.len() - 1,
        };
        (latency, said, flight)
    }
}

/// A request on its way; ends also when it is dropped halfway.
struct Flight {
    wire: Arc<Wire>,
    place: usize,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = self.wire.start.elapsed();
        let mut state = self.wire.lock();
        state.in_flight -= 1;
        state.sent[self.place].end = Some(now);
    }
}

impl Seen {
    /// Returns the outcomes by the items' positions; each item has at most one.
    pub fn records(&self) -> HashMap<u64, &Record> {
        let mut records = HashMap::new();
        for (_, event) in &self.events {
            if let Event::Settled(record, _) = event {
                let before = records.insert(record.index, &**record);
                assert!(before.is_none(), "item {} settled twice", record.index);
            }
        }
        records
    }

    pub fn record(&self, item: u64) -> &Record {
        self.records()[&item]
    }

    /// Tells how an item ended, with the kind of its failure.
    pub fn status(&self, item: u64) -> Option<(ErrorStatus, FailureKind)> {
        match &self.record(item).outcome {
            Outcome::Ok { .. } => None,
            Outcome::Error {
                status, failure, ..
            } => Some((*status, failure.kind)),
        }
    }

    /// Returns the answer that an item's error row keeps.
    pub fn kept(&self, item: u64) -> Option<Bytes> {
        match &self.record(item).outcome {
            Outcome::Ok { .. } => None,
            Outcome::Error { kept, .. } => kept.clone(),
        }
    }

    /// Counts the items that have no result.
    pub fn failed(&self) -> usize {
        let failed = |record: &&&Record| matches!(record.outcome, Outcome::Error { .. });
        self.records().values().filter(failed).count()
    }

    pub fn assert_all_ok(&self) {
        assert_eq!(self.failed(), 0, "items failed");
        assert_eq!(self.records().len(), self.items, "items are missing");
        assert!(self.ending.complete);
    }

    pub fn requests_of(&self, item: u64) -> Vec<Sent> {
        let of_item = |sent: &&Sent| sent.item == item;
        self.sent.iter().filter(of_item).copied().collect()
    }

    /// Counts the requests that began in this span.
    pub fn started(&self, from: Duration, before: Duration) -> usize {
        let within = |sent: &&Sent| from <= sent.start && sent.start < before;
        self.sent.iter().filter(within).count()
    }

    /// Counts the requests whose answer was not waited for.
    pub fn dropped(&self) -> u64 {
        let dropped = |(_, event): &(Duration, Event)| match event {
            Event::Dropped(requests) => *requests,
            _ => 0,
        };
        self.events.iter().map(dropped).sum()
    }

    pub fn halts(&self) -> usize {
        let halts = |(_, event): &&(Duration, Event)| matches!(event, Event::Halted(_));
        self.events.iter().filter(halts).count()
    }
}
