//! Which items have results, by the checkpoint and the rows behind it, and what else stands in the
//! results file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::IgnoredAny;

use super::Paths;
use super::checkpoint::State;
use super::finished::Finished;
use super::journal::{Journal, Scanned, tail_hash};
use super::recovery::{OpenError, Request, at, refuse_held};
use super::spent::RowCosts;
use crate::words::human::{self, count};

/// What the results file and its checkpoint tell.
pub struct Known {
    pub finished: Finished,
    /// What the rows that were read cost.
    pub rows: RowCosts,
}

/// Finds out which items have results: from the checkpoint and the rows after it, else from all
/// rows.
pub fn known_results(
    request: &Request<'_>,
    state: Option<&State>,
    results: &mut Journal,
    notes: &mut Vec<String>,
) -> Result<Known, OpenError> {
    let mut finished = Finished::default();
    let (mut from, mut rows) = (0, RowCosts::default());
    if let Some(state) = state.filter(|state| is_true_of(state, request, results))
        && let Some(positions) = state.finished()
    {
        finished.positions = positions;
        from = state.results_bytes;
        rows.behind_checkpoint = true;
    } else if let Some(state) = state {
        notes.extend(missing(state, results));
        if state.input.is_some() && request.input.is_some() && state.input != request.input {
            let what = "the input is another than before: an id that has its result keeps it";
            notes.push(what.to_owned());
        }
    }
    let mut strange = Strange::default();
    let scanned = results.scan(from, |line| {
        let Some(head) = &line.head else {
            strange.hear(&line);
            return Ok(());
        };
        // The other form of rows never says, and the checkpoint knew them.
        let is_news = rows.behind_checkpoint || head.index.is_some() || state.is_none();
        rows.known += head.cost.unwrap_or_default();
        rows.unpriced += u64::from(head.cost.is_none() && is_news);
        rows.silent += u64::from(head.index.is_none() && is_news);
        // Its own position may be of another input, so only its id is believed.
        strange.twice += u64::from(!finished.unplaced.insert(head.id.fingerprint()));
        Ok(())
    });
    scanned.map_err(at(results.path()))?;
    strange.put_aside(request.paths, results)?;
    notes.extend(strange.notes(results.path(), &request.paths.torn));
    Ok(Known { finished, rows })
}

/// Says that results were lost of which a checkpoint knows.
fn missing(state: &State, results: &Journal) -> Option<String> {
    let missing = state.results_bytes.checked_sub(results.length())?;
    (missing > 0).then(|| {
        format!(
            "{} is {} shorter than it was; what is missing is asked again",
            results.path().display(),
            human::bytes(missing)
        )
    })
}

/// What stands in a results file and should not.
#[derive(Default)]
struct Strange {
    /// Where lines begin that are not even JSON, and how long they are.
    damaged: BTreeMap<u64, u64>,
    /// Lines that are JSON and no rows.
    foreign: u64,
    /// Rows of items that have one already.
    twice: u64,
}

impl Strange {
    fn hear(&mut self, line: &Scanned<'_>) {
        match serde_json::from_slice::<IgnoredAny>(line.text) {
            Ok(_) => self.foreign += 1,
            Err(_) => drop(self.damaged.insert(line.offset, line.text.len() as u64)),
        }
    }

    /// Takes damaged lines out, so that the file can be read by others, and keeps their bytes.
    fn put_aside(&self, paths: &Paths, results: &mut Journal) -> Result<(), OpenError> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        let parts = self
            .damaged
            .iter()
            .map(|(from, bytes)| (*from, from + bytes));
        let aside = results.set_aside(&paths.torn, parts);
        aside.map_err(at(&paths.torn))?;
        let path = results.path().to_owned();
        let kept = results.rewrite(|line| !self.damaged.contains_key(&line.offset));
        kept.map_err(at(&path))?;
        refuse_held(&results.handle())
    }

    fn notes(&self, results: &Path, torn: &Path) -> Vec<String> {
        let path = results.display();
        let mut notes = Vec::new();
        if !self.damaged.is_empty() {
            let lines = count(self.damaged.len() as u64, "damaged line");
            notes.push(format!(
                "{path}: {lines} set aside in {}; what they held is asked again",
                torn.display()
            ));
        }
        if self.foreign > 0 {
            notes.push(format!(
                "{path}: {} without a row, left as found",
                count(self.foreign, "line")
            ));
        }
        if self.twice > 0 {
            notes.push(format!(
                "{path}: {} of items that have one already",
                count(self.twice, "row")
            ));
        }
        notes
    }
}

/// Tells whether a checkpoint speaks of this input and of this very results file.
fn is_true_of(state: &State, request: &Request<'_>, results: &Journal) -> bool {
    state.input.is_some()
        && state.input == request.input
        && state.results_bytes <= results.length()
        && tail_hash(results.path(), state.results_bytes)
            .is_ok_and(|tail| tail == state.results_tail)
}
