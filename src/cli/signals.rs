//! Signals become the switch: the first drains, the second drops what is in flight, and a third
//! ends the process whatever it is doing.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::progress::NoteSink;
use crate::engine::{Phase, Stop};
use crate::words::event::Gauges;
use crate::words::human::count;

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// Watches from its making to the end of the program.
pub struct Signals {
    first: Arc<OnceLock<u8>>,
}

impl Signals {
    pub fn watch(
        runtime: &Runtime,
        stop: &Stop,
        gauges: &Arc<Gauges>,
        notes: NoteSink,
    ) -> Result<Self> {
        let first = Arc::new(OnceLock::new());
        let _entered = runtime.enter();
        let mut sources = [SIGINT, SIGTERM, SIGHUP].into_iter().map(|number| {
            signal(SignalKind::from_raw(number.into()))
                .map(|source| (number, source))
                .context("failed to listen for signals")
        });
        let mut next = || sources.next().expect("there are three");
        let (interrupt, terminate, hangup) = (next()?, next()?, next()?);
        let heed = heed(
            [interrupt, terminate, hangup],
            first.clone(),
            stop.clone(),
            gauges.clone(),
            notes,
        );
        runtime.spawn(heed);
        Ok(Signals { first })
    }

    /// Returns the first signal that came.
    pub fn first(&self) -> Option<u8> {
        self.first.get().copied()
    }
}

async fn heed(
    [mut interrupt, mut terminate, mut hangup]: [(u8, Signal); 3],
    first: Arc<OnceLock<u8>>,
    stop: Stop,
    gauges: Arc<Gauges>,
    notes: NoteSink,
) {
    loop {
        let number = tokio::select! {
            _ = interrupt.1.recv() => interrupt.0,
            _ = terminate.1.recv() => terminate.0,
            _ = hangup.1.recv() => hangup.0,
        };
        if first.set(number).is_ok() {
            stop.advance(Phase::Draining);
            match gauges.in_flight.value() {
                0 => notes.note("stopping"),
                calls => notes.note(&format!(
                    "stopping: {} in flight may be paid for, waiting for them (again ^C to drop them)",
                    count(calls, "call")
                )),
            }
        } else if stop.phase() < Phase::Aborting {
            stop.advance(Phase::Aborting);
        } else {
            // Something hangs, a disk perhaps. What was written stays, and recovery mends the end.
            std::process::exit(128 + i32::from(number));
        }
    }
}
