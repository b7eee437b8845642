//! An output of made-up answers, written and taken up again as a run does it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::super::checkpoint::{InputIdentity, RunIdentity};
use super::super::recovery::{self, Request, StartMode};
use super::super::{
    Change, Disk, Failed, Finished, Format, OpenError, Paths, Recorder, RecorderSettings, Witness,
};
use crate::words::event::Gauges;
use crate::words::money::Usd;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tariff::{Bill, Charge};
use crate::words::verdict::{Answer, Failure, FailureKind};

/// A snapshot is asked for after so many items.
const ITEMS_A_SNAPSHOT: u64 = 10;
const INPUT: InputIdentity = InputIdentity { bytes: 1, hash: 2 };

/// The outputs of a made-up run stand in this folder.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub items: u64,
}

/// How far a run came.
#[derive(Debug)]
pub struct Ran {
    pub ended: Result<(), Failed>,
    /// Items that were taken in.
    pub taken: u64,
}

impl Scene {
    pub fn new(items: u64) -> Self {
        // Syncing costs nothing in memory, and the witness sees it all the same.
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Scene {
            folder: folder.unwrap(),
            items,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn paths(&self) -> Paths {
        Paths::beside(&self.path("out.jsonl"))
    }

    /// Records what is left on a healthy disk.
    pub fn finish(&self) {
        let ran = self.record(&disk(), None, |_| {});
        ran.unwrap().ended.unwrap();
    }

    /// Opens the output and records what is not finished. `synced` hears, after each snapshot that
    /// is durable, how many items were taken in.
    pub fn run(&self, disk: &Disk, synced: impl FnMut(u64)) -> Result<Ran, OpenError> {
        self.record(disk, Some(ITEMS_A_SNAPSHOT), synced)
    }

    fn record(
        &self,
        disk: &Disk,
        items_a_snapshot: Option<u64>,
        mut synced: impl FnMut(u64),
    ) -> Result<Ran, OpenError> {
        let (mut recorder, finished) = self.open(disk)?;
        let mut taken = 0;
        for index in 0..self.items {
            let record = record(index);
            if finished.row(index, &record.id).is_some() {
                continue;
            }
            recorder.take(&record);
            taken += 1;
            let Some(items_a_snapshot) = items_a_snapshot else {
                continue;
            };
            let snapshot = taken % items_a_snapshot == 0;
            let written = recorder.append().and_then(|()| match snapshot {
                true => take_snapshot(&mut recorder, ceiling_for(taken)),
                false => Ok(()),
            });
            if let Err(error) = written {
                let ended = recorder.end(Some(error), None);
                return Ok(Ran { ended, taken });
            }
            if snapshot {
                synced(taken);
            }
        }
        let ended = recorder.end(None, None);
        Ok(Ran { ended, taken })
    }

    /// Takes the output up and ends it at once.
    pub fn touch(&self, disk: &Disk) {
        let (recorder, _) = self.open(disk).unwrap();
        recorder.end(None, None).unwrap();
    }

    pub fn open(&self, disk: &Disk) -> Result<(Recorder, Finished), OpenError> {
        let identity = RunIdentity::default();
        let opened = recovery::open(&Request {
            paths: &self.paths(),
            mode: match self.content().is_empty() {
                true => StartMode::New,
                false => StartMode::Resume,
            },
            input_path: Path::new("/nowhere"),
            input: Some(INPUT),
            run: &identity,
            allow_changes: true,
            retry: &[],
            disk: disk.clone(),
            room: 0,
        })?;
        let mut finished = opened.finished;
        if finished.lacks_positions() {
            (0..self.items).for_each(|index| finished.place(index, &record(index).id));
            finished.all_placed();
        }
        let settings = RecorderSettings {
            format: Format::Native,
            lean: false,
            checkpoint_every: 1,
            run: identity,
            input: Some(INPUT),
            finished: Some(finished.positions().clone()),
            spent_before: opened.spent_before,
            lengths_before: opened.lengths_before,
            ceiling: Some(Usd::ZERO),
            in_flight: 4,
            gauges: Arc::new(Gauges::default()),
        };
        let recorder = Recorder::start(opened.sink, settings);
        let recorder = recorder.map_err(|error| OpenError::Io {
            path: self.path("out.jsonl"),
            error,
        })?;
        Ok((recorder, finished))
    }

    /// Checks that each item stands once, and as it was recorded.
    pub fn assert_whole(&self, case: &str) {
        let mut rows = read_rows(&self.path("out.jsonl"));
        for (id, row) in read_rows(&self.path("out.errors.jsonl")) {
            assert!(rows.insert(id.clone(), row).is_none(), "{case}: {id} twice");
        }
        assert_eq!(rows.len() as u64, self.items, "{case}");
        for index in 0..self.items {
            let row = &rows[&format!("t-{index}")];
            match is_error(index) {
                true => assert_eq!(row["status"], "rejected", "{case}"),
                false => assert_eq!(row["content"], content(index), "{case}"),
            }
        }
        assert_eq!(self.spent(), costs(self.items), "{case}: what was spent");
    }

    /// Returns how many of the first items have their row.
    pub fn rows_before(&self, items: u64) -> u64 {
        let mut rows = read_rows(&self.path("out.jsonl"));
        rows.extend(read_rows(&self.path("out.errors.jsonl")));
        let has_row = |index: &u64| rows.contains_key(&format!("t-{index}"));
        (0..items).filter(has_row).count() as u64
    }

    /// Checks that the checkpoint, read without our code, claims no row that the results lack.
    pub fn assert_checkpoint_is_not_ahead(&self, case: &str) {
        let Ok(text) = std::fs::read_to_string(self.path("out.checkpoint.json")) else {
            return;
        };
        let checkpoint: Value = serde_json::from_str(&text).expect("a checkpoint is never torn");
        let state = &checkpoint["state"];
        let claimed = state["results_bytes"].as_u64().unwrap() as usize;
        let results = std::fs::read(self.path("out.jsonl")).unwrap_or_default();
        assert!(claimed <= results.len(), "{case}: the checkpoint is ahead");
        let rows: Vec<_> = results[..claimed]
            .split_inclusive(|b| *b == b'\n')
            .collect();
        let whole = rows
            .iter()
            .all(|row| serde_json::from_slice::<Value>(row).is_ok());
        assert!(whole, "{case}: the checkpoint counts on damaged rows");
        assert_eq!(state["finished_count"], rows.len(), "{case}");
    }

    /// Returns what the checkpoint says was spent.
    pub fn spent(&self) -> Usd {
        let text = std::fs::read_to_string(self.path("out.checkpoint.json")).unwrap();
        let checkpoint: Value = serde_json::from_str(&text).unwrap();
        Usd::parse(checkpoint["state"]["spent"]["cost"].as_str().unwrap()).unwrap()
    }

    /// Tells whether the checkpoint knows of no request that may have been on its way.
    pub fn ended_in_order(&self) -> bool {
        let text = std::fs::read_to_string(self.path("out.checkpoint.json")).unwrap();
        let checkpoint: Value = serde_json::from_str(&text).unwrap();
        checkpoint["state"]["clean"] == true
    }

    /// Checks that the checkpoint names at least the ceiling that was granted after so many items,
    /// unless the run has ended.
    pub fn assert_ceiling_holds(&self, items: u64, case: &str) {
        if items == 0 {
            return;
        }
        let text = std::fs::read_to_string(self.path("out.checkpoint.json"));
        let text = text.unwrap_or_else(|error| panic!("{case}: no checkpoint: {error}"));
        let checkpoint: Value = serde_json::from_str(&text).expect("a checkpoint is never torn");
        if self.ended_in_order() {
            return;
        }
        let ceiling = checkpoint["state"]["spent"]["ceiling"].as_str();
        let ceiling = Usd::parse(ceiling.expect("a ceiling")).unwrap();
        let granted = ceiling_for(items);
        assert!(ceiling >= granted, "{case}: the ceiling is {ceiling}");
    }

    /// Returns every file with its bytes, but for the lock.
    pub fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let kept = paths.filter(|path| !path.ends_with("out.lock"));
        kept.map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }
}

/// Returns a healthy disk. Setting megabytes of memory aside would take most of a test's time, so
/// it cannot do that.
pub fn disk() -> Disk {
    struct Healthy;
    impl Witness for Healthy {
        fn before(&self, change: Change<'_>) -> io::Result<()> {
            match change {
                Change::Reserve(..) => Err(io::ErrorKind::Unsupported.into()),
                _ => Ok(()),
            }
        }
    }
    Disk::watched(Arc::new(Healthy))
}

/// Asks for a snapshot and waits until it is durable.
fn take_snapshot(recorder: &mut Recorder, ceiling: Usd) -> io::Result<()> {
    recorder.raise_ceiling(ceiling);
    while recorder.ceiling() < Some(ceiling) {
        recorder.commit()?;
        std::thread::yield_now();
    }
    Ok(())
}

/// Reads rows by id; none may stand twice or be torn.
fn read_rows(path: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let row: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let id = row["id"].as_str().unwrap().to_owned();
        assert!(rows.insert(id.clone(), row).is_none(), "{id} stands twice");
    }
    rows
}

fn is_error(index: u64) -> bool {
    index % 7 == 3
}

fn content(index: u64) -> String {
    format!("answer {index} {}", "x".repeat(index as usize % 50))
}

/// A ceiling that so many items need.
fn ceiling_for(items: u64) -> Usd {
    cost(0).times(2 * items)
}

/// Returns what the first items cost.
pub fn costs(items: u64) -> Usd {
    (0..items).map(cost).fold(Usd::ZERO, |sum, cost| sum + cost)
}

fn cost(index: u64) -> Usd {
    Usd::from_picodollars(1_000_000 + u128::from(index))
}

fn record(index: u64) -> Record {
    let outcome = match is_error(index) {
        true => Outcome::Error {
            status: ErrorStatus::Rejected,
            failure: Failure {
                kind: FailureKind::BadRequest,
                message: "no".into(),
                http_status: Some(400),
                code: None,
            },
            kept: None,
        },
        false => Outcome::Ok {
            answer: Box::new(Answer {
                content: Some(content(index)),
                ..Answer::default()
            }),
            http_status: 200,
            body: "{}".into(),
        },
    };
    Record {
        id: format!("t-{index}").into(),
        index,
        metadata: None,
        attempts: 1,
        latency: Duration::ZERO,
        model: "m".into(),
        bill: Bill {
            usage: None,
            charge: Charge::Known(cost(index)),
        },
        outcome,
    }
}
