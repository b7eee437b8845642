//! The errors file, with the rows of earlier runs whose items are asked again.

use std::io;

use crate::output::finished::OldErrors;
use crate::output::journal::Journal;

/// The errors file, with the rows of earlier runs whose items are asked again.
pub struct ErrorLog {
    pub journal: Journal,
    old: OldErrors,
    /// Lines that stood there at the start.
    old_lines: u64,
}

impl ErrorLog {
    pub fn fresh(journal: Journal) -> Self {
        Self::resumed(journal, OldErrors::default(), 0)
    }

    pub fn resumed(journal: Journal, old: OldErrors, old_lines: u64) -> Self {
        ErrorLog {
            journal,
            old,
            old_lines,
        }
    }

    /// Notes that another row speaks of an item now.
    pub fn supersede(&self, fingerprint: u128) {
        self.old.supersede(fingerprint);
    }

    /// Drops the old rows that gave way. Until now they stood beside the new ones, so that a
    /// crash never lost the only word about an item.
    pub fn drop_superseded(&mut self) -> io::Result<()> {
        self.journal.sync()?;
        let superseded = self.old.take_superseded();
        if superseded.is_empty() {
            return Ok(());
        }
        let old_lines = self.old_lines;
        self.journal.rewrite(|line| match line.error_row() {
            Some((row, _)) => {
                line.number >= old_lines || !superseded.contains(&row.id.fingerprint())
            }
            None => true,
        })
    }
}
