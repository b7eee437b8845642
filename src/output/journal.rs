//! A durable append-only JSONL file: repair the tail, append whole lines, sync in groups.
//!
//! Promises: a line is written with one buffer; after an error the file ends with a whole line;
//! nothing is called synced that was not, and what is not synced is kept in memory. A failed sync
//! is never tried again on the same file, since the second one would succeed without the data.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, Place};
use super::rows::{self, RowHead};
use crate::words::record::ErrorStatus;

/// The bytes in front of an offset whose hash tells whether the file is still the same.
const TAIL: u64 = 4096;
/// Space is set aside in steps of this size, where the disk has it.
const RESERVE_STEP: u64 = 4 << 20;

/// What is longer is no row of ours: an answer has 32 MiB at most, six times that when escaped.
const LONGEST_ROW: u64 = 256 << 20;

/// Takes pieces of a file.
pub type Pass<'p> = dyn FnMut(&[u8]) -> io::Result<()> + 'p;

/// A file of lines, open for appending by this process alone.
pub struct Journal {
    file: Arc<DiskFile>,
    length: u64,
    synced: u64,
    /// What was appended since the last sync that succeeded.
    unsynced: VecDeque<Appended>,
    /// A sync failed: what the file holds behind `synced` is not to be believed.
    distrusted: bool,
    /// Up to here there is room on the disk.
    reserved: u64,
    /// Part of a line stands behind the end, and could not be cut off.
    is_torn: bool,
}

/// Lines that one call appended, and the file's length behind them.
struct Appended {
    end: u64,
    lines: Vec<u8>,
}

/// What became of a file while it was open.
enum Fate {
    Ours,
    Deleted,
    Moved,
    /// It is not as long as it was made.
    Changed,
}

/// What the end of a file looked like when it was opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Tail {
    Whole,
    /// A complete row that lacked its line feed was completed.
    Completed,
    /// So many bytes of a torn line were set aside.
    Torn(u64),
}

impl Journal {
    /// Begins a file anew.
    pub fn emptied(file: DiskFile) -> io::Result<Self> {
        file.cut(0)?;
        file.disk().sync_folder(file.path())?;
        Ok(Self::over(file, 0))
    }

    /// Takes a file up and makes its end whole: a complete row without its line feed is kept, a
    /// torn one is cut after its bytes are safe in the file `torn`.
    pub fn open(file: DiskFile, torn: &Path) -> io::Result<(Self, Tail)> {
        let length = file.length()?;
        if length == 0 {
            file.disk().sync_folder(file.path())?;
        }
        let whole = end_of_last_line(&file, length)?;
        let mut journal = Self::over(file, length);
        let tail = journal.mend(whole, torn)?;
        Ok((journal, tail))
    }

    /// Takes a file up as it is.
    pub fn as_it_is(file: DiskFile) -> io::Result<Self> {
        let length = file.length()?;
        Ok(Self::over(file, length))
    }

    fn over(file: DiskFile, length: u64) -> Self {
        Journal {
            file: Arc::new(file),
            length,
            synced: length,
            unsynced: VecDeque::new(),
            distrusted: false,
            reserved: length,
            is_torn: false,
        }
    }

    fn mend(&mut self, whole: u64, torn: &Path) -> io::Result<Tail> {
        if whole == self.length {
            return Ok(Tail::Whole);
        }
        let bytes = self.length - whole;
        if bytes <= LONGEST_ROW {
            let mut rest = vec![0; bytes as usize];
            self.file.read_exact_at(&mut rest, whole)?;
            if rows::read_head(&rest).is_some() {
                self.append(b"\n".to_vec()).map_err(|(error, _)| error)?;
                self.sync()?;
                return Ok(Tail::Completed);
            }
        }
        self.set_aside(torn, [(whole, self.length)])?;
        self.cut(whole)?;
        Ok(Tail::Torn(bytes))
    }

    /// Keeps parts of the file that are no rows, before they are cut out of it.
    pub fn set_aside(
        &self,
        torn: &Path,
        parts: impl IntoIterator<Item = (u64, u64)>,
    ) -> io::Result<()> {
        let aside = self.disk().open_or_create(torn)?;
        for (from, to) in parts {
            let mut last = b'\n';
            self.read(from, to, &mut |piece| {
                last = *piece.last().unwrap_or(&last);
                aside.append(piece)
            })?;
            if last != b'\n' {
                aside.append(b"\n")?;
            }
        }
        aside.sync()?;
        self.disk().sync_folder(torn)
    }

    /// Cuts the file back to a length that it had, durably.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.cut(length)?;
        self.file.sync()?;
        (self.length, self.synced, self.reserved) = (length, length, length);
        self.unsynced.clear();
        Ok(())
    }

    /// Appends whole lines. After an error the file is cut back to its last whole line, and the
    /// lines come back.
    pub fn append(&mut self, lines: Vec<u8>) -> Result<(), (io::Error, Vec<u8>)> {
        if self.is_torn {
            // Nothing may be appended behind half a line: two rows would become one.
            if let Err(error) = self.file.cut(self.length) {
                return Err((error, lines));
            }
            self.is_torn = false;
        }
        match self.file.append(&lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                let end = self.length;
                self.unsynced.push_back(Appended { end, lines });
                Ok(())
            }
            Err(error) => {
                self.is_torn = self.file.cut(self.length).is_err();
                self.reserved = self.length;
                Err((error, lines))
            }
        }
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.synced == self.length {
            return Ok(());
        }
        self.file.sync().inspect_err(|_| self.distrusted = true)?;
        self.mark_synced(self.length);
        Ok(())
    }

    /// Returns a handle with which another thread can sync what is appended so far.
    pub fn handle(&self) -> Arc<DiskFile> {
        self.file.clone()
    }

    /// Notes that a sync which began at this length has succeeded.
    pub fn mark_synced(&mut self, length: u64) {
        self.synced = self.synced.max(length);
        while let Some(first) = self.unsynced.front()
            && first.end <= self.synced
        {
            self.unsynced.pop_front();
        }
    }

    /// Notes that a sync failed.
    pub fn distrust(&mut self) {
        self.distrusted = true;
    }

    pub fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// Sets space aside, so that this many bytes can be appended. Where the file system cannot do
    /// so, at least looks that they are there at the moment.
    pub fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let target = self.length + bytes;
        if self.reserved >= target {
            return Ok(());
        }
        let generous = self.reserve_exactly(bytes.max(RESERVE_STEP));
        let reserved = generous.or_else(|error| match is_shortage(&error) {
            true => self.reserve_exactly(bytes),
            false => Err(error),
        });
        match reserved {
            Err(error) if !is_shortage(&error) => self.look_for_space(bytes),
            reserved => reserved,
        }
    }

    fn reserve_exactly(&mut self, bytes: u64) -> io::Result<()> {
        self.file.reserve(self.length, bytes)?;
        self.reserved = self.length + bytes;
        Ok(())
    }

    fn look_for_space(&mut self, bytes: u64) -> io::Result<()> {
        let free = self.file.free()?;
        if free < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Others fill the disk too, so this holds for a while only.
        self.reserved = self.length + bytes.max(RESERVE_STEP.min(free / 2));
        Ok(())
    }

    /// Lets go of the space that nothing came for.
    pub fn release(&mut self) {
        let is_ours = self.file.length().is_ok_and(|length| length == self.length);
        if self.reserved > self.length && is_ours && self.file.cut(self.length).is_ok() {
            self.reserved = self.length;
        }
    }

    /// Refuses a file that is no longer where its name leads, or that somebody else has changed:
    /// nobody would find what is appended.
    pub fn check_place(&self) -> io::Result<()> {
        let what = match self.fate()? {
            Fate::Ours => return Ok(()),
            Fate::Deleted => "was deleted",
            Fate::Moved => "was moved or replaced",
            Fate::Changed => "was changed by somebody else",
        };
        let path = self.path().display();
        Err(io::Error::other(format!(
            "{path} {what} while the run was writing it"
        )))
    }

    /// Returns how much of the file is there for certain.
    pub fn durable(&self) -> u64 {
        match self.fate() {
            Ok(Fate::Ours) => self.synced,
            _ => 0,
        }
    }

    /// Tells whether somebody else changed the file.
    pub fn is_changed(&self) -> bool {
        matches!(self.fate(), Ok(Fate::Changed))
    }

    fn fate(&self) -> io::Result<Fate> {
        Ok(match self.file.place()? {
            Place::Deleted => Fate::Deleted,
            Place::Moved => Fate::Moved,
            Place::Kept if self.file.length()? != self.length => Fate::Changed,
            Place::Kept => Fate::Ours,
        })
    }

    /// Passes on, piece by piece, the lines that nobody will find under the file's name: all of
    /// one that is no longer there; of another, where a sync failed, what no sync made durable.
    pub fn endangered(&self, pass: &mut Pass<'_>) -> io::Result<()> {
        let fate = self.fate();
        if matches!(fate, Ok(Fate::Deleted | Fate::Moved)) {
            return self.read(0, self.file.length()?, pass);
        }
        let is_doubtful = self.distrusted || !matches!(fate, Ok(Fate::Ours));
        let mut kept = self.unsynced.iter().filter(|_| is_doubtful);
        kept.try_for_each(|appended| pass(&appended.lines))
    }

    /// Reads a part of the file by its handle, whatever became of its name.
    fn read(&self, from: u64, to: u64, pass: &mut Pass<'_>) -> io::Result<()> {
        let mut chunk = vec![0; 256 << 10];
        let mut at = from;
        while at < to {
            let part = (to - at).min(chunk.len() as u64);
            let part = &mut chunk[..part as usize];
            self.file.read_exact_at(part, at)?;
            pass(part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn disk(&self) -> &Disk {
        self.file.disk()
    }

    /// Bytes appended and not yet synced.
    pub fn unsynced(&self) -> u64 {
        self.length - self.synced
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads the lines from an offset on.
    pub fn scan(
        &self,
        from: u64,
        mut take: impl FnMut(Scanned<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut file = File::open(self.path())?;
        file.seek(SeekFrom::Start(from))?;
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let (mut text, mut number, mut offset) = (Vec::new(), 0, from);
        while reader.read_until(b'\n', &mut text)? > 0 {
            take(Scanned {
                number,
                offset,
                head: rows::read_head(&text),
                text: &text,
            })?;
            number += 1;
            offset += text.len() as u64;
            text.clear();
        }
        Ok(())
    }

    /// Rewrites the file with only those lines that `keep` says.
    pub fn rewrite(&mut self, mut keep: impl FnMut(&Scanned<'_>) -> bool) -> io::Result<()> {
        let disk = self.disk().clone();
        disk.replace(self.path(), |out| {
            self.scan(0, |line| match keep(&line) {
                true => out.write_all(line.text),
                false => Ok(()),
            })
        })?;
        *self = Self::as_it_is(disk.open(self.path())?)?;
        Ok(())
    }
}

/// A line of a file that is being read again.
pub struct Scanned<'a> {
    /// Counted from 0 at the scan's start.
    pub number: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// `None` where the line is no row.
    pub head: Option<RowHead>,
    /// The whole line, with its line feed.
    pub text: &'a [u8],
}

impl Scanned<'_> {
    /// Returns the row of an item without a result. Results may stand in an errors file that was
    /// another run's output, and are nothing to be thrown away.
    pub fn error_row(&self) -> Option<(&RowHead, ErrorStatus)> {
        let head = self.head.as_ref()?;
        Some((head, head.error?))
    }
}

/// Returns a hash of the bytes of a file in front of an offset.
pub fn tail_hash(path: &Path, offset: u64) -> io::Result<u64> {
    let start = offset.saturating_sub(TAIL);
    let mut bytes = Vec::new();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    file.take(offset - start).read_to_end(&mut bytes)?;
    Ok(xxhash_rust::xxh3::xxh3_64(&bytes))
}

/// Tells whether an error means that there is no room.
fn is_shortage(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Returns the offset behind the last line feed, reading backwards.
fn end_of_last_line(file: &DiskFile, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "{\"id\":\"a\",\"status\":\"ok\"}\n{\"id\":\"b\",\"status\":\"ok\"}\n";

    fn ids(journal: &Journal) -> Vec<String> {
        let mut ids = Vec::new();
        let show = |head: Option<RowHead>| head.map_or("?".into(), |head| head.id.to_string());
        journal
            .scan(0, |line| {
                ids.push(show(line.head));
                Ok(())
            })
            .unwrap();
        ids
    }

    /// Opens a file with this content and returns its rows, its new content and what was cut.
    fn recover(content: &[u8]) -> (Vec<String>, Vec<u8>, Tail) {
        let folder = tempfile::tempdir().unwrap();
        let (path, torn) = (folder.path().join("r"), folder.path().join("t"));
        std::fs::write(&path, content).unwrap();
        let (mut journal, tail) =
            Journal::open(Disk::default().open(&path).unwrap(), &torn).unwrap();
        let row = b"{\"id\":\"z\",\"status\":\"ok\"}\n";
        assert!(journal.append(row.to_vec()).is_ok());
        if let Tail::Torn(bytes) = tail {
            assert_eq!(std::fs::metadata(&torn).unwrap().len(), bytes + 1);
        }
        (ids(&journal), std::fs::read(&path).unwrap(), tail)
    }

    #[test]
    fn a_file_cut_at_any_byte_keeps_its_whole_rows_and_takes_new_ones() {
        for cut in 0..=ROWS.len() {
            let (ids, content, tail) = recover(&ROWS.as_bytes()[..cut]);
            let whole = if cut + 1 >= ROWS.len() {
                2
            } else {
                usize::from(cut + 1 >= ROWS.len() / 2)
            };
            let expected: Vec<&str> = ["a", "b"][..whole].iter().copied().chain(["z"]).collect();
            assert_eq!(ids, expected, "cut at {cut}");
            assert!(content.ends_with(b"\n"));
            let torn = !matches!(tail, Tail::Torn(_)) || !ids.contains(&"?".to_owned());
            assert!(torn, "cut at {cut}");
        }
    }

    #[test]
    fn a_tail_of_nul_bytes_is_cut() {
        let mut content = ROWS.as_bytes().to_vec();
        content.extend_from_slice(&[0; 10_000]);
        let (ids, _, tail) = recover(&content);
        assert_eq!(ids, ["a", "b", "z"]);
        assert_eq!(tail, Tail::Torn(10_000));
    }

    #[test]
    fn a_damaged_line_in_the_middle_hides_no_other() {
        let (ids, ..) =
            recover(b"{\"id\":\"a\",\"status\":\"ok\"}\n\0\0\n{\"id\":\"b\",\"status\":\"ok\"}\n");
        assert_eq!(ids, ["a", "?", "b", "z"]);
    }
}
