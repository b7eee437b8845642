//! A disk that is full or fails, at every call that it can fail at, of a run of 200 items; and a
//! power cut right after the run has said what became of it.
//!
//! Negative controls, each of which turns a test here red: in `Recorder::note_sync`, marking rows
//! synced although the sync failed; in `Recorder::finish`, another sync after a failed one; in
//! `Recorder::end`, no last sync; in `Recorder::rescue`, leaving out what is endangered; in
//! `Journal::append`, no cut after an error, and appending behind what could not be cut; in
//! `rescue::save_as`, no sync.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

use super::super::disk::{Change, Disk, Witness};
use super::super::{OpenError, Rescue};
use super::scene::{self, Scene};

const ITEMS: u64 = 200;

/// What the disk cannot do from a certain call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Appends write their first half and fail; nothing can be created.
    Full,
    /// As before, but other disks have room for a rescue file.
    FullHere,
    /// As the first, for one call only.
    FullOnce,
    /// As before, and the half cannot be cut off at once.
    FullOnceUncut,
    /// None of the output's own files can be made durable.
    NoSync,
    /// One sync fails and takes its bytes with it; later ones succeed without them.
    NoSyncOnce,
    /// One change of a name or a length fails.
    NoNameOnce,
}

/// Fails from its call number `at` on.
struct Failing {
    fault: Fault,
    at: u64,
    calls: AtomicU64,
    cuts_to_fail: AtomicU64,
    /// How long files were when a sync of theirs succeeded.
    durable: Mutex<HashMap<PathBuf, u64>>,
    /// What a failed sync lost: the part between two lengths of a file.
    lost: Mutex<Vec<(PathBuf, u64, u64)>>,
}

impl Failing {
    fn new(fault: Fault, at: u64) -> Arc<Self> {
        Arc::new(Failing {
            fault,
            at,
            calls: AtomicU64::new(0),
            cuts_to_fail: AtomicU64::new(0),
            durable: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    fn applies(&self, change: Change<'_>) -> bool {
        match self.fault {
            Fault::Full | Fault::FullOnce | Fault::FullOnceUncut => {
                matches!(change, Change::Append(..) | Change::Create(_))
            }
            Fault::FullHere => matches!(
                change,
                Change::Append(path, _) | Change::Create(path) if !is_rescue(path)
            ),
            // The new file for rescued rows stands on healthy ground.
            Fault::NoSync | Fault::NoSyncOnce => {
                matches!(change, Change::Sync(path) if !is_rescue(path))
            }
            Fault::NoNameOnce => matches!(
                change,
                Change::Cut(..) | Change::Rename(..) | Change::Remove(_) | Change::SyncFolder(_)
            ),
        }
    }

    fn is_hit(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::Full | Fault::FullHere | Fault::NoSync => call >= self.at,
            _ => call == self.at,
        }
    }

    fn note_sync(&self, path: &Path) -> io::Result<()> {
        let length = std::fs::metadata(path)?.len();
        self.durable.lock().unwrap().insert(path.into(), length);
        Ok(())
    }

    fn fail(&self, change: Change<'_>) -> io::Result<()> {
        match change {
            Change::Append(path, bytes) => {
                append_half(path, bytes)?;
                let uncut = u64::from(self.fault == Fault::FullOnceUncut);
                self.cuts_to_fail.store(uncut, Ordering::Relaxed);
                Err(io::ErrorKind::StorageFull.into())
            }
            Change::Sync(path) => {
                let from = self.durable.lock().unwrap().get(path).copied();
                let lost = (
                    path.into(),
                    from.unwrap_or(0),
                    std::fs::metadata(path)?.len(),
                );
                self.lost.lock().unwrap().push(lost);
                Err(io::Error::other("input/output error"))
            }
            Change::Create(_) => Err(io::ErrorKind::StorageFull.into()),
            _ => Err(io::Error::other("input/output error")),
        }
    }
}

impl Witness for Failing {
    fn before(&self, change: Change<'_>) -> io::Result<()> {
        if let Change::Reserve(..) = change {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if let Change::Cut(..) = change
            && self.cuts_to_fail.swap(0, Ordering::Relaxed) > 0
        {
            return Err(io::Error::other("input/output error"));
        }
        if self.applies(change) && self.is_hit() {
            return self.fail(change);
        }
        match change {
            Change::Sync(path) => self.note_sync(path),
            _ => Ok(()),
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

/// How a run on a failing disk went.
enum Survived {
    /// The fault was never met, or did not matter.
    Unharmed,
    /// It was refused before anything was asked.
    Refused,
    Failed(Rescue),
}

/// Runs on a failing disk, cuts the power, and goes on with a healthy one.
fn survive(fault: Fault, at: u64) -> Survived {
    let case = format!("{fault:?} from call {at} on");
    let scene = Scene::new(ITEMS);
    let failing = Failing::new(fault, at);
    let ran = match scene.run(&Disk::watched(failing.clone()), |_| {}) {
        Ok(ran) => ran,
        Err(OpenError::Io { .. }) => {
            scene.finish();
            scene.assert_whole(&case);
            return Survived::Refused;
        }
        Err(other) => panic!("{case}: {other:?}"),
    };
    let Err(failed) = ran.ended else {
        scene.assert_whole(&case);
        return Survived::Unharmed;
    };
    assert_ne!(
        fault,
        Fault::Full,
        "{case}: a full disk takes no rescue file"
    );
    cut_the_power(&scene, &failing);
    scene.touch(&scene::disk());
    // Not one answer of those that were taken in was lost.
    assert_eq!(scene.rows_before(ran.taken), ran.taken, "{case}");
    scene.assert_checkpoint_is_not_ahead(&case);
    scene.finish();
    scene.assert_whole(&case);
    Survived::Failed(failed.rescue)
}

/// Makes NUL bytes of everything that no sync made durable, and of what failed syncs lost.
fn cut_the_power(scene: &Scene, failing: &Failing) {
    let durable = failing.durable.lock().unwrap();
    let lost = failing.lost.lock().unwrap();
    for (path, mut bytes) in scene.content() {
        if path.extension().is_none_or(|ending| ending != "jsonl") {
            continue;
        }
        let kept = durable.get(&path).copied().unwrap_or(0) as usize;
        bytes.iter_mut().skip(kept).for_each(|byte| *byte = 0);
        for (_, from, to) in lost.iter().filter(|(of, ..)| *of == path) {
            let to = (*to as usize).min(bytes.len());
            bytes[(*from as usize).min(to)..to].fill(0);
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// Lets the disk fail at every call in turn, and returns how many runs failed and how many of them
/// saved rows elsewhere.
fn sweep(fault: Fault, calls: u64) -> (u32, u32) {
    let (mut failed, mut saved) = (0, 0);
    for at in 0..calls {
        if let Survived::Failed(rescue) = survive(fault, at) {
            failed += 1;
            saved += u32::from(matches!(rescue, Rescue::Saved { .. }));
        }
    }
    assert!(
        matches!(survive(fault, calls), Survived::Unharmed),
        "more than {calls} calls"
    );
    (failed, saved)
}

/// Returns how many calls a run makes that this fault applies to.
fn calls(fault: Fault) -> u64 {
    let failing = Failing::new(fault, u64::MAX);
    let ran = Scene::new(ITEMS).run(&Disk::watched(failing.clone()), |_| {});
    assert!(ran.unwrap().ended.is_ok());
    failing.calls.load(Ordering::Relaxed)
}

#[test]
fn a_disk_that_is_full_once_at_any_call_costs_no_answer() {
    let (failed, _) = sweep(Fault::FullOnce, calls(Fault::FullOnce));
    assert!(failed > 200, "{failed} failures");
}

#[test]
fn a_disk_that_stays_full_from_any_call_on_costs_no_answer() {
    let (failed, saved) = sweep(Fault::FullHere, calls(Fault::FullHere));
    assert!(
        failed > 200 && saved > 150,
        "{failed} failures, {saved} saved"
    );
}

#[test]
fn half_a_row_that_cannot_be_cut_off_at_once_spoils_no_other() {
    let (failed, _) = sweep(Fault::FullOnceUncut, calls(Fault::FullOnceUncut));
    assert!(failed > 200, "{failed} failures");
}

#[test]
fn a_sync_that_fails_at_any_call_costs_no_answer_although_its_rows_are_gone() {
    for fault in [Fault::NoSync, Fault::NoSyncOnce] {
        let (failed, saved) = sweep(fault, calls(fault));
        assert!(
            failed > 50 && saved > 20,
            "{fault:?}: {failed} failures, {saved} saved"
        );
    }
}

#[test]
fn a_name_or_a_length_that_cannot_be_changed_costs_no_answer() {
    let (failed, _) = sweep(Fault::NoNameOnce, calls(Fault::NoNameOnce));
    assert!(failed > 20, "{failed} failures");
}

#[test]
fn rows_that_no_disk_takes_are_said_to_be_lost_and_asked_again() {
    let scene = Scene::new(ITEMS);
    let ran = scene.run(&Disk::watched(Failing::new(Fault::Full, 150)), |_| {});
    let ran = ran.unwrap();
    let failed = ran.ended.unwrap_err();
    let Rescue::Lost { rows } = failed.rescue else {
        panic!("{:?}", failed.rescue);
    };
    assert_eq!(failed.error.kind(), io::ErrorKind::StorageFull);
    scene.touch(&scene::disk());
    assert_eq!(scene.rows_before(ran.taken), ran.taken - rows);
    scene.finish();
    scene.assert_whole("after a full disk");
}

/// Runs while something happens to the results file, and takes the output up again.
fn survive_misfortune(expected: &str, happens: impl Fn(&Scene)) {
    let scene = Scene::new(ITEMS);
    let ran = scene.run(&scene::disk(), |taken| {
        if taken == 100 {
            happens(&scene);
        }
    });
    let ran = ran.unwrap();
    let failed = ran.ended.unwrap_err();
    assert!(failed.error.to_string().contains(expected));
    assert!(matches!(failed.rescue, Rescue::Saved { .. }));
    assert!(scene.ended_in_order());
    scene.touch(&scene::disk());
    assert_eq!(scene.rows_before(ran.taken), ran.taken);
    scene.finish();
    scene.assert_whole(expected);
}

#[test]
fn a_results_file_that_is_deleted_during_the_run_is_saved_whole() {
    survive_misfortune("was deleted", |scene| {
        std::fs::remove_file(scene.path("out.jsonl")).unwrap();
    });
}

#[test]
fn a_results_file_that_is_moved_away_is_saved_whole() {
    survive_misfortune("was moved", |scene| {
        std::fs::rename(scene.path("out.jsonl"), scene.path("moved.jsonl")).unwrap();
        std::fs::write(scene.path("out.jsonl"), "").unwrap();
    });
}

#[test]
fn what_a_file_cost_that_was_emptied_is_not_forgotten() {
    let scene = Scene::new(ITEMS);
    let path = scene.path("out.jsonl");
    let ran = scene.run(&scene::disk(), |taken| {
        if taken == 100 {
            std::fs::write(&path, "").unwrap();
        }
    });
    let taken = ran.unwrap().taken;
    assert!(scene.ended_in_order());
    scene.touch(&scene::disk());
    let spent = scene.spent();
    assert_eq!(spent, scene::costs(taken), "of {taken} items");
}

#[test]
fn a_results_file_that_is_put_back_has_its_rows_once() {
    let scene = Scene::new(ITEMS);
    let (path, moved) = (scene.path("out.jsonl"), scene.path("moved.jsonl"));
    let ran = scene.run(&scene::disk(), |taken| {
        if taken == 100 {
            std::fs::rename(&path, &moved).unwrap();
        }
    });
    let taken = ran.unwrap().taken;
    std::fs::rename(&moved, &path).unwrap();
    scene.touch(&scene::disk());
    assert_eq!(scene.rows_before(taken), taken);
    scene.finish();
    scene.assert_whole("put back");
}
