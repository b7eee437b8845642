//! A durable append-only JSONL file: repair the tail, append whole lines, sync in groups.
//!
//! Promises: a line is written with one buffer; after an error the file ends with a whole line;
//! nothing is called synced that was not. A failed sync is never tried again on the same file,
//! since the second one would succeed without the data.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rows::{self, RowHead};

/// The bytes in front of an offset whose hash tells whether the file is still the same.
const TAIL: u64 = 4096;

/// A file of lines, open for appending by this process alone.
pub struct Journal {
    file: Arc<File>,
    path: PathBuf,
    length: u64,
    synced: u64,
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
    /// Creates the file, or empties it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = options().create(true).open(path)?;
        file.set_len(0)?;
        sync_folder(path)?;
        Ok(Journal {
            file: Arc::new(file),
            path: path.to_owned(),
            length: 0,
            synced: 0,
        })
    }

    /// Opens an existing file and makes its end whole: a complete row without its line feed is
    /// kept, a torn one is cut after its bytes are safe in the file `torn`.
    pub fn open(path: &Path, torn: &Path) -> io::Result<(Self, Tail)> {
        let mut file = options().open(path)?;
        let length = file.metadata()?.len();
        let whole = end_of_last_line(&mut file, length)?;
        let mut journal = Journal {
            file: Arc::new(file),
            path: path.to_owned(),
            length,
            synced: length,
        };
        let tail = journal.mend(whole, torn)?;
        Ok((journal, tail))
    }

    /// Opens a file that is known to end with a whole line.
    pub fn open_whole(path: &Path) -> io::Result<Self> {
        let file = options().open(path)?;
        let length = file.metadata()?.len();
        Ok(Journal {
            file: Arc::new(file),
            path: path.to_owned(),
            length,
            synced: length,
        })
    }

    fn mend(&mut self, whole: u64, torn: &Path) -> io::Result<Tail> {
        if whole == self.length {
            return Ok(Tail::Whole);
        }
        let mut rest = Vec::new();
        (&*self.file).seek(SeekFrom::Start(whole))?;
        (&*self.file).read_to_end(&mut rest)?;
        if rows::read_head(&rest).is_some() {
            self.append(b"\n")?;
            self.sync()?;
            return Ok(Tail::Completed);
        }
        let mut aside = OpenOptions::new().create(true).append(true).open(torn)?;
        rest.push(b'\n');
        aside.write_all(&rest)?;
        aside.sync_all()?;
        sync_folder(torn)?;
        self.file.set_len(whole)?;
        self.file.sync_all()?;
        (self.length, self.synced) = (whole, whole);
        Ok(Tail::Torn(rest.len() as u64 - 1))
    }

    /// Appends whole lines. After an error the file is cut back to its last whole line.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match (&*self.file).write_all(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Best effort: recovery cuts a torn line all the same.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.synced < self.length {
            self.file.sync_data()?;
            self.synced = self.length;
        }
        Ok(())
    }

    /// Returns a handle with which another thread can sync what is appended so far.
    pub fn handle(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Notes that a sync which began at this length has succeeded.
    pub fn mark_synced(&mut self, length: u64) {
        self.synced = self.synced.max(length);
    }

    pub fn path(&self) -> &Path {
        &self.path
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
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let (mut text, mut number) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut text)? > 0 {
            take(Scanned {
                number,
                head: rows::read_head(&text),
                text: &text,
            })?;
            number += 1;
            text.clear();
        }
        Ok(())
    }
}

/// A line of a file that is being read again.
pub struct Scanned<'a> {
    /// Counted from 0 at the scan's start.
    pub number: u64,
    /// `None` where the line is no row.
    pub head: Option<RowHead>,
    /// The whole line, with its line feed.
    pub text: &'a [u8],
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

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// Returns the offset behind the last line feed, reading backwards.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Makes a created, renamed or removed name durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()) {
        // Some file systems have no such thing; there is nothing better to do on them.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Replaces a file's content in one step: after a crash it is the old or the new one.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    // A name of its own and always the same, which the lock makes safe: what a killed process left
    // behind goes away with the next replacement.
    let folder = folder.unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    if let Err(error) = std::fs::remove_file(folder.join(&name))
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut temporary = tempfile::Builder::new()
        .prefix(&name)
        .rand_bytes(0)
        .tempfile_in(folder)?;
    let mut buffered = io::BufWriter::new(temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    if let Ok(old) = std::fs::metadata(path) {
        temporary.as_file().set_permissions(old.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_folder(path)
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
        let (mut journal, tail) = Journal::open(&path, &torn).unwrap();
        journal
            .append(b"{\"id\":\"z\",\"status\":\"ok\"}\n")
            .unwrap();
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

    #[test]
    fn a_replaced_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        std::fs::write(&path, "old").unwrap();
        let failed = replace(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        replace(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        std::fs::write(folder.path().join(".c.tmp"), "left by a killed process").unwrap();
        replace(&path, |out| out.write_all(b"newer")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
