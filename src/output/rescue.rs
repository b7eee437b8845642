//! Rows that the output could not take: written to a file of their own, and taken in by the next
//! run.
//!
//! After a sync that failed, the end of the results file is not to be believed: it may look whole
//! today and be gone tomorrow. So a rescue file holds everything that no sync made durable, and
//! taking it in begins with cutting that end off, if it is still there.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Paths;
use super::answered::each_row;
use super::disk::{Disk, folder};
use super::journal::{Journal, set_aside};
use super::rows;
use crate::words::human::count;

/// Rows are appended in pieces of this size.
const PIECE: usize = 256 << 10;

/// What became of the rows that the output did not take.
#[derive(Debug, PartialEq, Eq)]
pub struct Rescue {
    pub rows: u64,
    /// Where they are; `None` where no disk took them.
    pub file: Option<PathBuf>,
}

impl Rescue {
    /// Tells whether rows are nowhere.
    pub fn is_lost(&self) -> bool {
        self.rows > 0 && self.file.is_none()
    }
}

/// Passes lines on, piece by piece.
type Lines<'a> = dyn Fn(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> + 'a;

/// Writes lines to a new file beside the output or, where that fails, in the system's folder for
/// temporary files.
pub fn save(paths: &Paths, disk: &Disk, lines: &Lines<'_>) -> Rescue {
    let mut rows = 0;
    let counted = lines(&mut |piece| {
        rows += memchr::memchr_iter(b'\n', piece).count() as u64;
        Ok(())
    });
    if rows == 0 && counted.is_ok() {
        return Rescue { rows, file: None };
    }
    let elsewhere = |path: PathBuf| std::env::temp_dir().join(path.file_name().unwrap_or_default());
    let file = save_as(&|number| paths.rescue(number), disk, lines)
        .or_else(|_| save_as(&|number| elsewhere(paths.rescue(number)), disk, lines));
    Rescue {
        rows,
        file: file.ok(),
    }
}

/// Writes the lines under the first name that is free.
fn save_as(name: &dyn Fn(u32) -> PathBuf, disk: &Disk, lines: &Lines<'_>) -> io::Result<PathBuf> {
    for path in (1..).map(name) {
        let file = match disk.create_private(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            file => file?,
        };
        let saved = lines(&mut |piece| file.append(piece))
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_folder(&path));
        if let Err(error) = saved {
            let _ = disk.remove(&path);
            return Err(error);
        }
        return Ok(path);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Returns the rescue files of an output, in the order of their making.
pub fn files(paths: &Paths) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder(&paths.lock)) else {
        return Vec::new();
    };
    let number = |name: &str| {
        name.rsplit_once(".rescue-")?
            .1
            .strip_suffix(".jsonl")?
            .parse()
            .ok()
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut numbers: Vec<u32> = names.filter_map(|name| number(&name)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let named = numbers.into_iter().map(|number| paths.rescue(number));
    named.filter(|path| path.exists()).collect()
}

/// Removes the rescue files of an output that is started over.
pub fn remove_all(paths: &Paths, disk: &Disk) -> io::Result<()> {
    files(paths).iter().try_for_each(|path| disk.remove(path))
}

/// Takes the rows of all rescue files in and says so. A crash on the way costs nothing: a file
/// goes away only when all of its rows are durable, and what was taken in before is known again.
pub fn take_in(
    paths: &Paths,
    results: &mut Journal,
    errors: &mut Journal,
) -> io::Result<Vec<String>> {
    let disk = results.disk().clone();
    let mut notes = Vec::new();
    for path in files(paths) {
        let rows = take_in_file(paths, &path, results, errors)?;
        disk.remove(&path)?;
        disk.sync_folder(&path)?;
        let rows = count(rows, "rescued row");
        notes.push(format!("{rows} taken in from {}", path.display()));
    }
    Ok(notes)
}

fn take_in_file(
    paths: &Paths,
    path: &Path,
    results: &mut Journal,
    errors: &mut Journal,
) -> io::Result<u64> {
    let rescued = Rescued::read(path)?;
    let present = rescued.make_way(results)?;
    let (mut ok, mut bad, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    let mut outcome = Ok(());
    let mut taken = 0;
    each_row(path, |line| {
        let end = if line.ends_with(b"\n") { "" } else { "\n" };
        let put = |buffer: &mut Vec<u8>| {
            buffer.extend_from_slice(line);
            buffer.extend_from_slice(end.as_bytes());
        };
        match rows::read_head(line) {
            Some(head) if head.error.is_some() => put(&mut bad),
            Some(head) if present.contains(&head.id.fingerprint()) => return,
            Some(_) => put(&mut ok),
            None => return put(&mut foreign),
        }
        taken += 1;
        if ok.len() + bad.len() > PIECE && outcome.is_ok() {
            outcome = append(results, &mut ok).and_then(|()| append(errors, &mut bad));
        }
    })?;
    outcome?;
    append(results, &mut ok)?;
    append(errors, &mut bad)?;
    if !foreign.is_empty() {
        set_aside(results.disk(), &paths.torn, &foreign)?;
    }
    results.sync()?;
    errors.sync()?;
    Ok(taken)
}

fn append(journal: &mut Journal, lines: &mut Vec<u8>) -> io::Result<()> {
    let lines = std::mem::take(lines);
    match lines.is_empty() {
        true => Ok(()),
        false => journal.append(lines).map_err(|(error, _)| error),
    }
}

/// The results of a rescue file: the hash of each row by its item's fingerprint.
struct Rescued(HashMap<u128, u64>);

impl Rescued {
    fn read(path: &Path) -> io::Result<Self> {
        let mut hashes = HashMap::new();
        each_row(path, |line| {
            if let Some(head) = rows::read_head(line).filter(|head| head.error.is_none()) {
                hashes.insert(head.id.fingerprint(), xxh3_64(line.trim_ascii_end()));
            }
        })?;
        Ok(Rescued(hashes))
    }

    /// Cuts the end that the rescue file holds anew off the results, if there is one. Returns the
    /// rescued items that stand there all the same.
    fn make_way(&self, results: &mut Journal) -> io::Result<HashSet<u128>> {
        let mut repeated_from = None;
        let mut present = HashSet::new();
        results.scan(0, |line| {
            let Some(head) = &line.head else {
                return Ok(());
            };
            let fingerprint = head.id.fingerprint();
            match self.0.get(&fingerprint) {
                Some(hash) if *hash == xxh3_64(line.text.trim_ascii_end()) => {
                    repeated_from.get_or_insert(line.offset);
                    present.insert(fingerprint);
                }
                // What follows is of another run: nothing may be cut off.
                other => {
                    repeated_from = None;
                    present.extend(other.map(|_| fingerprint));
                }
            }
            Ok(())
        })?;
        if let Some(offset) = repeated_from {
            let mut cut = HashSet::new();
            results.scan(offset, |line| {
                cut.extend(line.head.map(|head| head.id.fingerprint()));
                Ok(())
            })?;
            present.retain(|fingerprint| !cut.contains(fingerprint));
            results.cut(offset)?;
        }
        Ok(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, content: &str) -> String {
        format!("{{\"id\":\"{id}\",\"status\":\"ok\",\"content\":\"{content}\"}}\n")
    }

    fn failed(id: &str) -> String {
        format!("{{\"id\":\"{id}\",\"status\":\"failed\"}}\n")
    }

    /// Takes a rescue file into results, and returns results, errors and what was set aside.
    fn after(results: &str, rescued: &str) -> (String, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("out.jsonl"));
        let path = paths.results.clone().unwrap();
        std::fs::write(&path, results).unwrap();
        std::fs::write(paths.rescue(1), rescued).unwrap();
        let disk = Disk::default();
        let open = |path: &Path| disk.open_or_create(path).unwrap();
        let mut journal = Journal::open(open(&path), &paths.torn).unwrap().0;
        let mut errors = Journal::emptied(open(&paths.errors)).unwrap();
        take_in(&paths, &mut journal, &mut errors).unwrap();
        assert!(files(&paths).is_empty());
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        (read(&path), read(&paths.errors), read(&paths.torn))
    }

    #[test]
    fn rescued_rows_stand_once_whether_the_end_was_lost_or_not() {
        let all = [row("a", "1"), row("b", "2"), row("c", "3")].concat();
        let rescued = [row("b", "2"), row("c", "3")].concat();
        for lost in ["", "b", "\0\0\0\0\n"] {
            let results = match lost {
                "" => row("a", "1"),
                "b" => all.clone(),
                nul => row("a", "1") + nul,
            };
            let (results, ..) = after(&results, &rescued);
            assert_eq!(results.replace("\0\0\0\0\n", ""), all);
        }
    }

    #[test]
    fn an_item_that_was_asked_again_meanwhile_keeps_its_row() {
        let results = [row("a", "1"), row("b", "new"), row("d", "4")].concat();
        let rescued = [row("b", "2"), row("c", "3")].concat();
        let (results, ..) = after(&results, &rescued);
        let expected = [row("a", "1"), row("b", "new"), row("d", "4"), row("c", "3")];
        assert_eq!(results, expected.concat());
    }

    #[test]
    fn rows_go_where_they_belong_and_nothing_is_thrown_away() {
        let rescued = [row("a", "1"), failed("b"), "{\"id\":\"c\",\"sta".to_owned()].concat();
        let (results, errors, torn) = after("", &rescued);
        assert_eq!((results, errors), (row("a", "1"), failed("b")));
        assert_eq!(torn, "{\"id\":\"c\",\"sta\n");
    }

    #[test]
    fn a_rescue_file_has_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("out.jsonl"));
        let disk = Disk::default();
        let lines = |pass: &mut dyn FnMut(&[u8]) -> io::Result<()>| pass(b"{}\n{}\n");
        for number in 1..3 {
            let rescue = save(&paths, &disk, &lines);
            assert_eq!(rescue.file, Some(paths.rescue(number)));
            assert_eq!(rescue.rows, 2);
        }
        assert_eq!(files(&paths).len(), 2);
        let nothing = save(&paths, &disk, &|_| Ok(()));
        assert_eq!((nothing.rows, nothing.file), (0, None));
    }
}
