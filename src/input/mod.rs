//! The door that lines come in by: bytes to items or bad lines, and the check of a whole file.
//!
//! Promises: line numbers are true; an id is given once; a derived id depends on the line's
//! content alone; memory holds one line, and 16 bytes an item while a file is being checked.
//! Knows nothing of output files, requests or time.

mod bounds;
mod identity;
mod lines;
mod parameters;
mod shape;
mod template;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Take};
use std::path::Path;
use std::sync::Arc;

pub use identity::Repeats;
use identity::{Claim, Identities};
pub use lines::MAX_LINE;
use lines::{Line, Lines};
pub use shape::{Defaults, MAX_ID, Problem, Shaped, shape};
pub use template::Template;

use crate::words::human::thousands;
use crate::words::item::{BadLine, Entry, Item, ItemId};
use crate::words::price::Service;
use crate::words::tariff::Bounds;

/// Reads a stream's lines one by one into entries.
pub struct Reader<'d, R> {
    lines: Lines<R>,
    defaults: &'d Defaults,
    identities: Identities,
    next_index: u64,
    /// Length and hash of the bytes that were checked.
    expected: Option<(u64, u128)>,
}

impl<'d> Reader<'d, Take<File>> {
    /// Opens a file that [`check`] has seen, and reads what was checked: not what has been
    /// appended since, and with an error at the end if the bytes are others now.
    pub fn open(path: &Path, defaults: &'d Defaults, census: &Census) -> io::Result<Self> {
        Ok(Reader {
            lines: Lines::new(File::open(path)?.take(census.bytes)),
            defaults,
            identities: Identities::watching(census.repeats.clone()),
            next_index: 0,
            expected: Some((census.bytes, census.hash)),
        })
    }
}

impl<'d, R: Read> Reader<'d, R> {
    /// Reads a stream that can be read once only, such as standard input. Every id is remembered.
    pub fn streaming(source: R, defaults: &'d Defaults) -> Self {
        let lines = Lines::new(source);
        Reader {
            lines,
            defaults,
            identities: Identities::remembering(),
            next_index: 0,
            expected: None,
        }
    }

    /// Tells whether the next entry may be a while in coming.
    pub fn may_wait(&self) -> bool {
        self.lines.may_wait()
    }

    /// Returns the next good item that stands before this position, or `None` when there is none.
    pub fn next_item(&mut self, end: u64) -> io::Result<Option<Item>> {
        while self.next_index < end
            && let Some(entry) = self.next_entry()?
        {
            if let Entry::Item(item) = entry {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn end(&self) -> io::Result<Option<Entry>> {
        match self.expected {
            Some(expected) if expected != self.lines.digest() => Err(changed()),
            _ => Ok(None),
        }
    }

    /// Returns the next entry, or `None` at the end; blank lines are passed over.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let (line, claim, shaped) = loop {
            let Some((number, line)) = self.lines.next_line()? else {
                return self.end();
            };
            if let Some((claim, shaped)) = read_line(line, self.defaults) {
                break (number, claim, shaped);
            }
        };
        let index = self.next_index;
        self.next_index += 1;
        let (id, problem) = match (self.identities.assign(&claim, line), shaped) {
            (Ok(id), Ok(shaped)) => return Ok(Some(Entry::Item(item(shaped, id, index, line)))),
            (Ok(id), Err(problem)) => (id, problem.to_string()),
            (Err(taken), shaped) => {
                let problem = match shaped {
                    Ok(_) => taken.problem(&claim),
                    Err(problem) => problem.to_string(),
                };
                (self.identities.assign_derived(claim), problem)
            }
        };
        Ok(Some(Entry::Bad(BadLine {
            id,
            index,
            line,
            problem,
        })))
    }
}

fn changed() -> io::Error {
    io::Error::other("it changed since it was checked")
}

fn item(shaped: Shaped, id: ItemId, index: u64, line: u64) -> Item {
    Item {
        id,
        index,
        line,
        model: shaped.model,
        model_is_shared: shaped.model_is_shared,
        body: shaped.body,
        metadata: shaped.metadata,
        prompt_tokens: None,
        bounds: shaped.bounds,
        expects_json: shaped.expects_json,
        tariff: None,
    }
}

/// Reads one line; `None` for a blank one.
fn read_line(line: Line<'_>, defaults: &Defaults) -> Option<(Claim, Result<Shaped, Problem>)> {
    let bytes = match line {
        Line::Text([]) => return None,
        Line::Text(bytes) => bytes,
        Line::TooLong { bytes } => {
            let problem = format!(
                "the line is {} bytes long, the limit is {} MiB",
                thousands(bytes),
                MAX_LINE >> 20
            );
            return Some((
                Claim::derived(&bytes.to_le_bytes()),
                Err(Problem::Other(problem)),
            ));
        }
    };
    let shaped = match std::str::from_utf8(bytes) {
        Ok(text) => shape(text, defaults),
        Err(error) => Err(not_utf8(bytes, error.valid_up_to())),
    };
    let named = match &shaped {
        Ok(shaped) => shaped.id.clone(),
        Err(_) => shape::id_of_bad_line(bytes),
    };
    let claim = match named {
        Some(id) => Claim::named(id, bytes),
        None => Claim::derived(bytes),
    };
    Some((claim, shaped))
}

fn not_utf8(bytes: &[u8], at: usize) -> Problem {
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let hint = if utf16 {
        ", it looks like UTF-16: convert it with iconv"
    } else {
        ""
    };
    Problem::Other(format!("not UTF-8 at byte {}{hint}", at + 1))
}

/// One finding of the whole-file check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub line: u64,
    pub problem: String,
    /// The line lacks nothing but a model.
    pub lacks_model: bool,
}

/// What the good lines of a file ask of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelUse {
    /// The first line that asks it.
    pub line: u64,
    /// A request that bounds all of them: as long as the longest, and so on.
    pub bounds: Bounds,
    /// The first lines that do not limit the answer, that ask for a dearer service, and that ask
    /// for more than text.
    pub unlimited: Option<u64>,
    pub priority: Option<u64>,
    pub extras: Option<u64>,
}

impl ModelUse {
    fn add(&mut self, line: u64, asked: &Bounds) {
        let all = &mut self.bounds;
        all.prompt = all.prompt.max(asked.prompt);
        all.output = all.output.max(asked.output);
        all.choices = all.choices.max(asked.choices);
        let note = |place: &mut Option<u64>, is_so: bool| {
            if is_so {
                place.get_or_insert(line);
            }
        };
        note(&mut self.unlimited, asked.output.is_none());
        note(&mut self.priority, asked.service == Service::Priority);
        note(&mut self.extras, asked.has_extras);
    }
}

/// What the check of a whole file found.
#[derive(Debug, Default)]
pub struct Census {
    /// Lines that are not blank, good or bad.
    pub lines: u64,
    pub bytes: u64,
    /// Hash of the whole file: equal hashes mean that positions are still true.
    pub hash: u128,
    /// All bad lines, of which `findings` holds the first ones.
    pub bad: u64,
    /// Lines that lack nothing but a model.
    pub lacking_model: u64,
    pub findings: Vec<Finding>,
    pub repeats: Repeats,
    pub models: BTreeMap<Arc<str>, ModelUse>,
}

impl Census {
    fn note_model(&mut self, line: u64, shaped: &Shaped) {
        if let Some(known) = self.models.get_mut(&shaped.model) {
            return known.add(line, &shaped.bounds);
        }
        let mut first = ModelUse {
            line,
            ..ModelUse::default()
        };
        first.add(line, &shaped.bounds);
        self.models.insert(shaped.model.clone(), first);
    }
}

/// Checks every line of a regular file and keeps the first `keep` findings.
pub fn check(path: &Path, defaults: &Defaults, keep: usize) -> io::Result<Census> {
    check_each(path, defaults, keep, |_, _| {})
}

/// Checks as [`check`] does, and shows each request that is good by itself, with its position.
pub fn check_each(
    path: &Path,
    defaults: &Defaults,
    keep: usize,
    mut show: impl FnMut(u64, &Shaped),
) -> io::Result<Census> {
    let mut lines = Lines::new(File::open(path)?);
    let mut census = Census::default();
    let mut fingerprints = Vec::new();
    let mut findings = Findings::new(keep);
    while let Some((number, line)) = lines.next_line()? {
        let Some((claim, shaped)) = read_line(line, defaults) else {
            continue;
        };
        census.lines += 1;
        fingerprints.push(claim.fingerprint());
        match shaped {
            Ok(shaped) => {
                show(census.lines - 1, &shaped);
                census.note_model(number, &shaped);
            }
            Err(problem) => {
                let lacks_model = problem == Problem::NoModel;
                census.lacking_model += u64::from(lacks_model);
                findings.add(Finding {
                    line: number,
                    problem: problem.to_string(),
                    lacks_model,
                });
            }
        }
    }
    (census.bytes, census.hash) = lines.digest();
    census.repeats = Repeats::among(fingerprints);
    if !census.repeats.is_empty() {
        find_duplicates(path, defaults, &census.repeats, &mut findings)?;
    }
    (census.bad, census.findings) = findings.finish();
    Ok(census)
}

/// Reads the file again, which costs time only where an id or a line does repeat.
fn find_duplicates(
    path: &Path,
    defaults: &Defaults,
    repeats: &Repeats,
    findings: &mut Findings,
) -> io::Result<()> {
    let mut lines = Lines::new(File::open(path)?);
    let mut identities = Identities::watching(repeats.clone());
    while let Some((number, line)) = lines.next_line()? {
        let Some((claim, shaped)) = read_line(line, defaults) else {
            continue;
        };
        if let Err(taken) = identities.assign(&claim, number)
            && shaped.is_ok()
        {
            let problem = taken.problem(&claim);
            findings.add(Finding {
                line: number,
                problem,
                lacks_model: false,
            });
        }
    }
    Ok(())
}

/// The first findings by line number, and the count of all.
struct Findings {
    keep: usize,
    count: u64,
    first: BTreeMap<u64, Finding>,
}

impl Findings {
    fn new(keep: usize) -> Self {
        Findings {
            keep,
            count: 0,
            first: Default::default(),
        }
    }

    fn add(&mut self, finding: Finding) {
        self.count += 1;
        self.first.insert(finding.line, finding);
        if self.first.len() > self.keep {
            self.first.pop_last();
        }
    }

    fn finish(self) -> (u64, Vec<Finding>) {
        (self.count, self.first.into_values().collect())
    }
}

#[cfg(test)]
mod tests;
