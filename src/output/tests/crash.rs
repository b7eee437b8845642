//! A crash at every storage call of a run of 200 items, and of taking it up again.
//!
//! Negative controls, each of which turns a test here red: in `Recorder::begin_sync`, no sync of
//! the rows; in `Disk::write_whole`, no sync of the folder; in `Journal::open`, no mending of the end; in `Disk::replace`, no sync of the new
//! content; in `rescue::take_in_file`, no sync before the file goes away.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use super::history::{History, Loss};
use super::scene::{self, Scene};

const ITEMS: u64 = 200;

/// A folder's files.
type Image = BTreeMap<PathBuf, Vec<u8>>;

/// A run that went through, with all that it did to the disk.
struct Whole {
    scene: Scene,
    history: Arc<History>,
    /// After so many changes, so many items were said to be safe.
    safe: Vec<(usize, u64)>,
}

impl Whole {
    fn record() -> Self {
        let scene = Scene::new(ITEMS);
        let history = Arc::<History>::default();
        let mut safe = Vec::new();
        let ran = scene.run(&history.disk(), |taken| safe.push((history.len(), taken)));
        assert!(ran.is_ok_and(|ran| ran.ended.is_ok()));
        scene.assert_whole("without a crash");
        assert!(history.len() > 300, "{} changes", history.len());
        Whole {
            scene,
            history,
            safe,
        }
    }

    fn safe_after(&self, changes: usize) -> u64 {
        let reached = self.safe.iter().filter(|(at, _)| *at <= changes);
        reached.map(|(_, items)| *items).max().unwrap_or(0)
    }

    fn set_up(&self, image: &Image) {
        for path in self.scene.content().keys() {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in image {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_crash_at_any_storage_call_loses_nothing_that_was_safe_and_doubles_nothing() {
    let whole = Whole::record();
    let scene = &whole.scene;
    let mut seen = HashSet::new();
    for changes in 0..=whole.history.len() {
        for loss in Loss::ALL {
            let case = format!("crash after change {changes}, lost: {loss:?}");
            let image = whole.history.image(&Image::new(), changes, loss);
            if !seen.insert((fingerprint(&image), whole.safe_after(changes))) {
                continue;
            }
            whole.set_up(&image);
            scene.assert_checkpoint_is_not_ahead(&case);
            let safe = whole.safe_after(changes);
            scene.assert_ceiling_holds(safe, &case);
            scene.touch(&scene::disk());
            assert_eq!(scene.rows_before(safe), safe, "{case}: rows that were safe");
            scene.assert_checkpoint_is_not_ahead(&case);
            let once = scene.content();
            scene.touch(&scene::disk());
            assert_eq!(scene.content(), once, "{case}: taken up twice");
            scene.finish();
            scene.assert_whole(&case);
        }
    }
}

#[test]
fn a_crash_while_a_crash_is_mended_costs_no_more() {
    let whole = Whole::record();
    let scene = &whole.scene;
    let mut seen = HashSet::new();
    for changes in (5..=whole.history.len()).step_by(31) {
        for loss in [Loss::HalfOfTheNext, Loss::UnsyncedIsNul] {
            let image = whole.history.image(&Image::new(), changes, loss);
            whole.set_up(&image);
            let mending = Arc::<History>::default();
            scene.touch(&mending.disk());
            for again in 0..=mending.len() {
                for loss_again in [Loss::Nothing, Loss::Unsynced, Loss::UnsyncedIsNul] {
                    let case = format!("{changes} {loss:?}, then {again} {loss_again:?}");
                    let image = mending.image(&image, again, loss_again);
                    if !seen.insert((fingerprint(&image), whole.safe_after(changes))) {
                        continue;
                    }
                    whole.set_up(&image);
                    scene.assert_checkpoint_is_not_ahead(&case);
                    scene.touch(&scene::disk());
                    let safe = whole.safe_after(changes);
                    assert_eq!(scene.rows_before(safe), safe, "{case}");
                    scene.finish();
                    scene.assert_whole(&case);
                }
            }
        }
    }
}

#[test]
fn a_crash_while_rescued_rows_are_taken_in_loses_none() {
    let whole = Whole::record();
    let scene = &whole.scene;
    // The end of the results is doubtful, and stands in a rescue file.
    let changes = whole.history.len() / 2;
    let mut image = whole.history.image(&Image::new(), changes, Loss::Nothing);
    let results = image[&scene.path("out.jsonl")].clone();
    let rescued = rows_from(&results, 50);
    image.insert(scene.path("out.rescue-1.jsonl"), rescued.to_vec());
    let rows = results.split_inclusive(|byte| *byte == b'\n').count();
    let durable = results.len() - rescued.len();
    for doubtful in [durable, results.len()] {
        image.insert(scene.path("out.jsonl"), results[..doubtful].to_vec());
        whole.set_up(&image);
        let taking = Arc::<History>::default();
        scene.touch(&taking.disk());
        for again in 0..=taking.len() {
            for loss in Loss::ALL {
                let case = format!("{doubtful} bytes, then {again} {loss:?}");
                whole.set_up(&taking.image(&image, again, loss));
                scene.touch(&scene::disk());
                let text = std::fs::read_to_string(scene.path("out.jsonl")).unwrap();
                assert_eq!(text.lines().count(), rows, "{case}");
                assert!(!scene.path("out.rescue-1.jsonl").exists(), "{case}");
                scene.finish();
                scene.assert_whole(&case);
            }
        }
    }
}

fn fingerprint(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

/// Returns everything from the row at this position on.
fn rows_from(file: &[u8], row: usize) -> &[u8] {
    let rows: Vec<_> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let skipped: usize = rows[..row].iter().map(|row| row.len()).sum();
    &file[skipped..]
}
