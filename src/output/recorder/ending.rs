//! The end of an output: everything durable, or saved elsewhere.

use std::io;

use super::{Ended, Recorder, Sink};
use crate::output::journal::Journal;
use crate::output::rescue::{self, Rescue};
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
        Err(Failed { error, rescue })
    }

    fn finish(&mut self, booked: Option<(Usd, Usd)>) -> io::Result<()> {
        self.finish_sync()?;
        if self.is_distrusted() {
            return Err(io::Error::other("a sync has failed before"));
        }
        if let Some((cost, at_risk)) = booked {
            // They include what attempts of an unknown price can have cost.
            (self.spent.cost, self.spent.at_risk) = (cost, at_risk);
            self.spent.unpriced = 0;
        }
        self.spent.ceiling = None;
        self.append()?;
        self.check_places()?;
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
