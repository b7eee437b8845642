//! The end of an output: everything durable, or saved elsewhere.

use std::collections::HashSet;
use std::io;

use xxhash_rust::xxh3::xxh3_64;

use super::{Ended, FileLengths, Recorder, Sink};
use crate::output::answered::each_row;
use crate::output::journal::{Journal, tail_hash};
use crate::output::rescue::{self, Rescue};
use crate::output::rows::read_head;
use crate::words::money::Usd;

/// Why an output does not hold what it should, and where the rest is.
#[derive(Debug)]
pub struct Failed {
    pub error: io::Error,
    /// Rows that are not, or not for certain, in their file.
    pub rescue: Rescue,
}

impl Recorder {
    /// Ends the output: makes everything durable and leaves the files as the next run expects them
    /// or, where that fails, saves what they did not take. `failure` is what the output has suffered
    /// already. `booked` is what was spent and what may have been, where somebody keeps accounts of
    /// all runs.
    pub fn end(
        mut self,
        failure: Option<io::Error>,
        booked: Option<(Usd, Usd)>,
    ) -> Result<(), Failed> {
        // Once more, now that nothing else comes: there may be room again.
        let error = match (self.finish(booked), failure) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some(error)) | (Err(_), Some(error)) | (Err(error), None) => error,
        };
        // What was appended may yet become durable, also where the rest could not be appended.
        let _ = self.finish_sync();
        if !self.is_distrusted() {
            let _ = self.begin_sync(None).and_then(|()| self.finish_sync());
        }
        let rescue = self.rescue();
        // Best effort: without it, the next run takes this one for killed.
        let _ = self.take_stock(&rescue, booked);
        Err(Failed { error, rescue })
    }

    /// Leaves a snapshot of what is safe in the files. The next run reads the other rows where they
    /// are now, and counts their costs then.
    fn take_stock(&mut self, rescue: &Rescue, booked: Option<(Usd, Usd)>) -> io::Result<()> {
        let Sink {
            paths,
            results: Some(results),
            errors,
            ..
        } = &self.sink
        else {
            return Ok(());
        };
        let path = results.path().to_owned();
        let changed = [results, &errors.journal].map(|journal| {
            let path = journal.path().to_owned();
            journal.is_changed().then_some(path)
        });
        let (results, errors) = (results.durable(), errors.journal.durable());
        self.syncing = FileLengths { results, errors };
        let checkpoint = paths.checkpoint.clone();
        self.book_accounts(booked);
        if let Some(finished) = self.settings.finished.as_mut().filter(|_| results == 0) {
            finished.clear();
        }
        let saved = match rescue {
            Rescue::NotNeeded => None,
            Rescue::Saved { file, .. } => Some(file.clone()),
            // Their costs stand nowhere else, so they stay in the accounts of a killed run.
            Rescue::Lost { .. } => return Ok(()),
        };
        let mut forgotten = HashSet::new();
        for file in changed.into_iter().flatten().chain(saved) {
            each_row(&file, |line| self.forget(line, &mut forgotten))?;
        }
        let mut state = self.state(Ended::Orderly);
        state.results_tail = match results {
            0 => xxh3_64(&[]),
            _ => tail_hash(&path, results)?,
        };
        state.save(self.sink.errors.journal.disk(), &checkpoint)
    }

    /// Takes a row out of the snapshot that the next run will read elsewhere.
    fn forget(&mut self, row: &[u8], forgotten: &mut HashSet<u128>) {
        let Some(head) = read_head(row) else {
            return;
        };
        if !forgotten.insert(head.id.fingerprint()) {
            return;
        }
        match head.cost {
            Some(cost) => self.spent.cost = self.spent.cost.less(cost),
            None => self.spent.unpriced = self.spent.unpriced.saturating_sub(1),
        }
        if head.error.is_none()
            && let (Some(finished), Some(index)) = (&mut self.settings.finished, head.index)
        {
            finished.remove(index);
        }
    }

    fn book_accounts(&mut self, booked: Option<(Usd, Usd)>) {
        if let Some((cost, at_risk)) = booked {
            // They include what attempts of an unknown price can have cost.
            (self.spent.cost, self.spent.at_risk) = (cost, at_risk);
            self.spent.unpriced = 0;
        }
        self.spent.ceiling = None;
    }

    fn finish(&mut self, booked: Option<(Usd, Usd)>) -> io::Result<()> {
        self.finish_sync()?;
        if self.is_distrusted() {
            return Err(io::Error::other("a sync has failed before"));
        }
        self.book_accounts(booked);
        self.check_places()?;
        self.append()?;
        self.release();
        self.begin_sync(Some(Ended::Orderly))?;
        self.finish_sync()?;
        let errors = &mut self.sink.errors;
        errors.drop_superseded()?;
        // Beside piped results an empty file would only be in the way.
        if self.sink.results.is_none() && errors.journal.length() == 0 {
            errors.journal.disk().remove(errors.journal.path())?;
        }
        Ok(())
    }

    fn is_distrusted(&self) -> bool {
        let results = self.sink.results.as_ref();
        results.is_some_and(Journal::is_distrusted) || self.sink.errors.journal.is_distrusted()
    }

    /// Lets go of the space that no answer came for.
    fn release(&mut self) {
        self.sink.results.iter_mut().for_each(Journal::release);
        self.sink.errors.journal.release();
    }

    /// Saves the rows that are not, or not for certain, in their files.
    fn rescue(&self) -> Rescue {
        let Sink {
            paths,
            results,
            errors,
            ..
        } = &self.sink;
        rescue::save(paths, errors.journal.disk(), &|pass| {
            for journal in results.iter().chain([&errors.journal]) {
                journal.endangered(pass)?;
            }
            pass(&self.results_buffer)?;
            pass(&self.errors_buffer)
        })
    }
}
