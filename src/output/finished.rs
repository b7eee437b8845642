//! What need not be asked: items with a result, and error rows that stay.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use roaring::RoaringTreemap;

use crate::words::item::ItemId;

/// What need not be asked.
#[derive(Debug, Default)]
pub struct Finished {
    /// Positions of items with a result, as far as they are known.
    pub(super) positions: RoaringTreemap,
    /// Fingerprints of results whose position is not known.
    pub(super) unplaced: HashSet<u128>,
    /// Fingerprints of error rows that stay.
    pub(super) errors: HashSet<u128>,
    pub(super) old_errors: OldErrors,
}

/// The rows that stood in the errors file at the start, and those of them that gave way since.
#[derive(Debug, Clone, Default)]
pub struct OldErrors {
    ids: Arc<HashSet<u128>>,
    superseded: Arc<Mutex<HashSet<u128>>>,
}

impl OldErrors {
    pub fn of(ids: HashSet<u128>) -> Self {
        OldErrors {
            ids: Arc::new(ids),
            superseded: Arc::default(),
        }
    }

    /// Notes that another row speaks of an item now.
    pub fn supersede(&self, fingerprint: u128) {
        if self.ids.contains(&fingerprint) {
            self.lock().insert(fingerprint);
        }
    }

    /// Takes out the items whose old row gave way.
    pub fn take_superseded(&self) -> HashSet<u128> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u128>> {
        self.superseded
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// The final row that an item has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalRow {
    Result,
    Error,
}

impl Finished {
    /// Tells whether an item has its final row already.
    pub fn row(&self, index: u64, id: &ItemId) -> Option<FinalRow> {
        if self.has_result(index, id) {
            // A crash can leave both rows behind; the result is the one that counts.
            self.old_errors.supersede(id.fingerprint());
            return Some(FinalRow::Result);
        }
        let is_error = !self.errors.is_empty() && self.errors.contains(&id.fingerprint());
        is_error.then_some(FinalRow::Error)
    }

    fn has_result(&self, index: u64, id: &ItemId) -> bool {
        self.positions.contains(index)
            || !self.unplaced.is_empty() && self.unplaced.contains(&id.fingerprint())
    }

    /// Tells whether one reading of the input would put results in their positions.
    pub fn lacks_positions(&self) -> bool {
        !self.unplaced.is_empty()
    }

    /// Puts an item of the input in its position.
    pub fn place(&mut self, index: u64, id: &ItemId) {
        if self.unplaced.remove(&id.fingerprint()) {
            self.positions.insert(index);
        }
    }

    /// Ends the placing: results of items that are not in the input have no position.
    pub fn all_placed(&mut self) {
        self.unplaced = HashSet::new();
    }

    /// Returns how many of the first items of the input have a result.
    pub fn results_before(&self, end: u64) -> u64 {
        end.checked_sub(1)
            .map_or(0, |last| self.positions.rank(last))
    }

    /// Returns how many error rows stay.
    pub fn errors(&self) -> u64 {
        self.errors.len() as u64
    }

    pub fn positions(&self) -> &RoaringTreemap {
        &self.positions
    }
}
