//! The reader's thread: entries in small batches, without those that have their final row.

use std::fs::File;
use std::io::Read;
use std::sync::Mutex;

use anyhow::Result;
use tokio::sync::mpsc;

use super::opening::is_stdin;
use super::portion::Chosen;
use super::purse::Tariffs;
use crate::cli::settings::RunSettings;
use crate::cli::validate::unreadable;
use crate::input::{Census, Reader};
use crate::output::{FinalRow, Finished};
use crate::tokenizer::Encoding;
use crate::words::item::Entry;

/// Entries that the reader hands over at a time, at most.
const BATCH: usize = 32;

/// What the reader works on. It owns its share, since a read of standard input can outlive the
/// run.
pub struct Job {
    pub settings: RunSettings,
    /// `None` for an input that can be read only once.
    pub census: Option<Census>,
    pub finished: Finished,
    /// The items that the run is about.
    pub chosen: Chosen,
    pub fed: Mutex<Fed>,
}

/// What the reader passed on and what it left out.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fed {
    /// Entries read, of all kinds.
    pub entries: u64,
    pub results_before: u64,
    pub errors_before: u64,
}

/// Reads the input and passes on what is not finished, until the end, the limit, or the engine
/// takes no more.
pub fn feed(job: &Job, entries: &mpsc::Sender<Vec<Entry>>) -> Result<()> {
    let Job {
        settings, census, ..
    } = job;
    let defaults = &settings.defaults;
    let result = match census {
        Some(census) => Reader::open(&settings.input, defaults, census)
            .and_then(|reader| pass_on(reader, job, entries)),
        None if is_stdin(&settings.input) => {
            pass_on(Reader::streaming(std::io::stdin(), defaults), job, entries)
        }
        None => File::open(&settings.input)
            .and_then(|file| pass_on(Reader::streaming(file, defaults), job, entries)),
    };
    Ok(result.map_err(|error| unreadable(&settings.input, &error))?)
}

fn pass_on<R: Read>(
    mut reader: Reader<'_, R>,
    job: &Job,
    entries: &mpsc::Sender<Vec<Entry>>,
) -> std::io::Result<()> {
    let settings = &job.settings;
    let counts_tokens = settings.engine.tpm.is_some();
    let mut tariffs = Tariffs::new(settings);
    let mut fed = Fed::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut read = 0;
    while settings.limit.is_none_or(|limit| read < limit)
        && let Some(mut entry) = reader.next_entry()?
    {
        read += 1;
        if !job.chosen.contains(entry.index()) {
            continue;
        }
        fed.entries += 1;
        match job.finished.row(entry.index(), entry.id()) {
            Some(FinalRow::Result) => fed.results_before += 1,
            Some(FinalRow::Error) => fed.errors_before += 1,
            None => {
                if let Entry::Item(item) = &mut entry {
                    item.tariff = tariffs.of(&item.model);
                    item.prompt_tokens =
                        counts_tokens.then(|| Encoding::of(&item.model).count_chat(&item.body));
                }
                batch.push(entry);
            }
        }
        // What is read must not wait for a line that is still being written.
        if (batch.len() == BATCH || reader.may_wait()) && !hand_over(&mut batch, entries, job, fed)
        {
            return Ok(());
        }
    }
    hand_over(&mut batch, entries, job, fed);
    Ok(())
}

/// Passes a batch to the engine; false where it takes no more.
fn hand_over(
    batch: &mut Vec<Entry>,
    entries: &mpsc::Sender<Vec<Entry>>,
    job: &Job,
    fed: Fed,
) -> bool {
    *job.fed
        .lock()
        .expect("no code panics while it holds this lock") = fed;
    if batch.is_empty() {
        return !entries.is_closed();
    }
    let full = std::mem::replace(batch, Vec::with_capacity(BATCH));
    entries.blocking_send(full).is_ok()
}
