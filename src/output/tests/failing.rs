//! A disk that is full or fails at every storage call of a run of 200 items.
//!
//! Negative controls: in `Recorder::note_sync`, marking rows synced although the sync failed; in
//! `Journal::append`, no cut after an error; in `Recorder::rescue`, leaving out what is endangered.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::OpenError;
use super::super::disk::{Change, Disk, Witness};
use super::scene::{self, Scene};

const ITEMS: u64 = 200;

/// What the disk cannot do any more from a certain call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Appends write their first half and fail; nothing can be created.
    Full,
    /// As before, for one call only.
    FullOnce,
    /// Nothing of the output's own files can be made durable.
    NoSync,
}

/// Fails from its call number `at` on.
struct Failing {
    fault: Fault,
    at: u64,
    calls: AtomicU64,
    /// A sync has failed: what it should have made durable is gone.
    failed_sync: AtomicBool,
    /// How long files were when a sync of theirs succeeded.
    durable: Mutex<HashMap<PathBuf, u64>>,
}

impl Failing {
    fn new(fault: Fault, at: u64) -> Arc<Self> {
        Arc::new(Failing {
            fault,
            at,
            calls: AtomicU64::new(0),
            failed_sync: AtomicBool::new(false),
            durable: Mutex::default(),
        })
    }

    fn is_hit(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::FullOnce => call == self.at,
            Fault::Full | Fault::NoSync => call >= self.at,
        }
    }
}

impl Witness for Failing {
    fn before(&self, change: Change<'_>) -> io::Result<()> {
        if let Change::Reserve(..) = change {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let applies = match self.fault {
            Fault::Full | Fault::FullOnce => {
                matches!(change, Change::Append(..) | Change::Create(_))
            }
            // The new file for rescued rows stands on healthy ground.
            Fault::NoSync => matches!(change, Change::Sync(path) if !is_rescue(path)),
        };
        if !applies || !self.is_hit() {
            if let Change::Sync(path) = change {
                let length = std::fs::metadata(path)?.len();
                self.durable.lock().unwrap().insert(path.into(), length);
            }
            return Ok(());
        }
        match change {
            Change::Append(path, bytes) => {
                append_half(path, bytes)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            Change::Sync(_) => {
                self.failed_sync.store(true, Ordering::Relaxed);
                Err(io::Error::other("input/output error"))
            }
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

fn is_rescue(path: &Path) -> bool {
    path.to_string_lossy().contains(".rescue-")
}

fn append_half(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(&bytes[..bytes.len() / 2])
}

/// Runs on a failing disk, then on a healthy one, and returns what the first run saved elsewhere.
/// `None` where the fault was never met.
fn survive(fault: Fault, at: u64) -> Option<Option<PathBuf>> {
    let case = format!("{fault:?} from call {at} on");
    let scene = Scene::new(ITEMS);
    let failing = Failing::new(fault, at);
    let ran = match scene.run(&Disk::watched(failing.clone()), |_| {}) {
        Ok(ran) => ran,
        // Before anything was asked.
        Err(OpenError::Io { .. }) => {
            scene.finish();
            scene.assert_whole(&case);
            return Some(None);
        }
        Err(other) => panic!("{case}: {other:?}"),
    };
    let Err(failed) = ran.ended else {
        scene.assert_whole(&case);
        return None;
    };
    assert!(ran.taken < ITEMS || failed.rescue.rows <= ITEMS, "{case}");
    if failing.failed_sync.load(Ordering::Relaxed) {
        lose_unsynced(&scene, &failing.durable.lock().unwrap());
    }
    let file = failed.rescue.file.clone();
    assert_eq!(failed.rescue.rows > 0, file.is_some(), "{case}");
    bring_back(&scene, file.as_deref());
    scene.touch(&scene::disk());
    // Not one answer of those that were taken in was lost.
    assert_eq!(scene.rows_before(ran.taken), ran.taken, "{case}");
    scene.finish();
    scene.assert_whole(&case);
    Some(file)
}

/// Does what a kernel may do after a failed sync: what is not durable becomes NUL bytes.
fn lose_unsynced(scene: &Scene, durable: &HashMap<PathBuf, u64>) {
    for name in ["out.jsonl", "out.errors.jsonl"] {
        let path = scene.path(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let kept = durable.get(&path).copied().unwrap_or(0) as usize;
        bytes.iter_mut().skip(kept).for_each(|byte| *byte = 0);
        std::fs::write(path, bytes).unwrap();
    }
}

/// Moves a rescue file beside the output, as its user is told to.
fn bring_back(scene: &Scene, file: Option<&Path>) {
    if let Some(file) = file.filter(|file| file.parent() != Some(scene.folder.path())) {
        let name = file.file_name().unwrap().to_str().unwrap();
        std::fs::copy(file, scene.path(name)).unwrap();
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_disk_that_is_full_once_at_any_call_costs_no_answer() {
    let mut at = 0;
    while survive(Fault::FullOnce, at).is_some() {
        at += 1;
    }
    assert!(at > 200, "{at} calls");
}

#[test]
fn a_sync_that_fails_at_any_call_costs_no_answer_although_its_rows_are_gone() {
    let mut at = 0;
    let mut rescued = 0;
    while let Some(file) = survive(Fault::NoSync, at) {
        rescued += u32::from(file.is_some());
        at += 1;
    }
    assert!(at > 50, "{at} syncs");
    assert!(rescued > 20, "{rescued} rescues");
}

#[test]
fn rows_that_no_disk_takes_are_said_to_be_lost_and_asked_again() {
    let scene = Scene::new(ITEMS);
    let ran = scene.run(&Disk::watched(Failing::new(Fault::Full, 150)), |_| {});
    let ran = ran.ok().unwrap();
    let failed = ran.ended.unwrap_err();
    assert!(failed.rescue.is_lost());
    assert_eq!(failed.error.kind(), io::ErrorKind::StorageFull);
    scene.touch(&scene::disk());
    assert_eq!(scene.rows_before(ran.taken), ran.taken - failed.rescue.rows);
    scene.finish();
    scene.assert_whole("after a full disk");
}

#[test]
fn a_results_file_that_is_deleted_during_the_run_is_saved_whole() {
    let scene = Scene::new(ITEMS);
    let path = scene.path("out.jsonl");
    let ran = scene.run(&scene::disk(), |taken| {
        if taken == 100 {
            std::fs::remove_file(&path).unwrap();
        }
    });
    let ran = ran.ok().unwrap();
    let failed = ran.ended.unwrap_err();
    assert!(failed.error.to_string().contains("was deleted"));
    assert!(failed.rescue.file.is_some());
    scene.touch(&scene::disk());
    assert_eq!(scene.rows_before(ran.taken), ran.taken);
    scene.finish();
    scene.assert_whole("after a deletion");
}

#[test]
fn a_results_file_that_is_moved_away_keeps_its_rows_and_stops_the_run() {
    let scene = Scene::new(ITEMS);
    let (path, moved) = (scene.path("out.jsonl"), scene.path("moved.jsonl"));
    let ran = scene.run(&scene::disk(), |taken| {
        if taken == 100 {
            std::fs::rename(&path, &moved).unwrap();
            std::fs::write(&path, "").unwrap();
        }
    });
    let ran = ran.ok().unwrap();
    let failed = ran.ended.unwrap_err();
    assert!(failed.error.to_string().contains("was moved"));
    std::fs::rename(&moved, &path).unwrap();
    scene.touch(&scene::disk());
    assert_eq!(scene.rows_before(ran.taken), ran.taken);
}
