//! Signals become the switch: the first drains, the second drops what is in flight. Whoever
//! terminates or hangs up will not wait, so there the second stage also comes by itself. Where even
//! that does not end the program, because a disk or a pipe hangs, a third one or a short time does.
//!
//! They are heard on a thread of their own, which nothing else can keep busy.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::progress::NoteSink;
use crate::engine::{Phase, Stop};
use crate::words::event::Gauges;
use crate::words::human::count;

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;
/// A file would grow past the limit of the process.
const SIGXFSZ: u8 = 25;
/// How long what is in flight may take where nobody at a keyboard waits for it; service managers
/// kill after 30 s or more.
const GRACE: Duration = Duration::from_secs(20);
/// How long the program may take to end once it should do so at once.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Makes a write that would pass the limit of file sizes fail instead of killing the program, so that
/// it is told like any other failure of a disk. Holds to the end of the program.
pub fn outlive_file_limit() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let _entered = runtime.enter();
    // Who listens once is never killed by it again.
    source(SIGXFSZ).map(drop)
}

/// Watches from its making to the end of the program.
pub struct Signals {
    first: Arc<OnceLock<u8>>,
}

impl Signals {
    pub fn watch(stop: &Stop, gauges: &Arc<Gauges>, notes: NoteSink) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the runtime")?;
        let first = Arc::new(OnceLock::new());
        let entered = runtime.enter();
        let watch = Watch {
            sources: Sources {
                interrupt: source(SIGINT)?,
                terminate: source(SIGTERM)?,
                hangup: source(SIGHUP)?,
            },
            first: first.clone(),
            stop: stop.clone(),
            gauges: gauges.clone(),
            notes,
        };
        drop(entered);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watch.heed()))
            .context("failed to listen for signals")?;
        Ok(Signals { first })
    }

    /// Returns the first signal that came.
    pub fn first(&self) -> Option<u8> {
        self.first.get().copied()
    }
}

/// Listens for a signal. A hangup that whoever started the program has ignored stays ignored, as
/// `nohup` asks; an interrupt does not, since shells ignore it for everything in the background,
/// where `kill -INT` is still meant.
fn source(number: u8) -> Result<Option<Signal>> {
    if number == SIGHUP && is_ignored(number) {
        return Ok(None);
    }
    let source = signal(SignalKind::from_raw(number.into()));
    source.map(Some).context("failed to listen for signals")
}

/// Asks the system; where it cannot say, nothing is ignored.
fn is_ignored(number: u8) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

struct Watch {
    sources: Sources,
    first: Arc<OnceLock<u8>>,
    stop: Stop,
    gauges: Arc<Gauges>,
    notes: NoteSink,
}

impl Watch {
    async fn heed(mut self) {
        let first = self.sources.next().await;
        // Nobody else sets it.
        let _ = self.first.set(first);
        self.tell(first);
        self.stop.advance(Phase::Draining);
        self.sources.patience(first).await;
        self.stop.advance(Phase::Aborting);
        tokio::select! {
            _ = self.sources.next() => {}
            () = tokio::time::sleep(LAST_WORDS) => {}
        }
        // Something hangs. What was written stays, and recovery mends the end.
        std::process::exit(128 + i32::from(first));
    }

    /// Says what happens now, from a thread of its own: a terminal that takes nothing must not keep
    /// the next signal from being heard.
    fn tell(&self, first: u8) {
        let note = stopping(self.gauges.in_flight.value(), first);
        let notes = self.notes.clone();
        let teller = std::thread::Builder::new().name("note".to_owned());
        // Where no thread is to be had, the signal matters more than the note.
        let _ = teller.spawn(move || notes.note(&note));
    }
}

/// Says what becomes of so many calls in flight.
fn stopping(in_flight: u64, first: u8) -> String {
    if in_flight == 0 {
        return "stopping".to_owned();
    }
    let calls = count(in_flight, "call");
    let wait = match first {
        SIGINT => "waiting for them (again ^C to drop them)".to_owned(),
        _ => format!(
            "waiting for them, at most {} s (a second signal drops them)",
            GRACE.as_secs()
        ),
    };
    format!("stopping: {calls} in flight may be paid for, {wait}")
}

/// The signals that end a run.
#[derive(Default)]
struct Sources {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Sources {
    /// Waits until what is in flight is to be dropped. A further hangup only sets the time: when a
    /// terminal closes, both the system and the shell send one.
    async fn patience(&mut self, first: u8) {
        let mut end = (first != SIGINT).then(|| Instant::now() + GRACE);
        loop {
            tokio::select! {
                signal = self.next() => match signal {
                    SIGHUP => end = end.or_else(|| Some(Instant::now() + GRACE)),
                    _ => return,
                },
                () = passing(end) => return,
            }
        }
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            () = arrival(&mut self.interrupt) => SIGINT,
            () = arrival(&mut self.terminate) => SIGTERM,
            () = arrival(&mut self.hangup) => SIGHUP,
        }
    }
}

async fn passing(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn arrival(source: &mut Option<Signal>) {
    match source {
        Some(source) => drop(source.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether patience outlasts a time in which no further signal comes.
    async fn lasts(first: u8, time: Duration) -> bool {
        let mut sources = Sources::default();
        tokio::time::timeout(time, sources.patience(first))
            .await
            .is_err()
    }

    // Negative control: `end` being always or never set.
    #[tokio::test(start_paused = true)]
    async fn only_who_interrupts_waits_longer_than_the_grace() {
        let hour = Duration::from_secs(3600);
        assert!(lasts(SIGINT, hour).await);
        for signal in [SIGTERM, SIGHUP] {
            assert!(lasts(signal, GRACE - Duration::from_millis(1)).await);
            assert!(!lasts(signal, GRACE + Duration::from_millis(1)).await);
        }
    }
}
