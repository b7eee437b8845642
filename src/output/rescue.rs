//! Rows that the output could not take: written to a file of their own, and taken in by the next
//! run.
//!
//! After a sync that failed, the end of the results file is not to be believed: it may look whole
//! today and be gone tomorrow. So a rescue file holds everything that no sync made durable, and
//! taking it in begins with cutting that end off, if it is still there.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Paths;
use super::disk::{Disk, folder};
use super::journal::{Journal, Pass};
use crate::words::human::count;

/// Rows are appended in pieces of this size.
const PIECE: usize = 256 << 10;

/// What became of the rows that the output did not take.
#[derive(Debug, PartialEq, Eq)]
pub enum Rescue {
    /// There were none.
    NotNeeded,
    Saved {
        rows: u64,
        file: PathBuf,
    },
    /// No disk took them.
    Lost {
        rows: u64,
    },
}

/// Passes lines on, piece by piece.
type Lines<'a> = dyn Fn(&mut Pass<'_>) -> io::Result<()> + 'a;

/// Writes lines to a new file beside the output or, where that fails, in the system's folder for
/// temporary files.
pub fn save(paths: &Paths, disk: &Disk, lines: &Lines<'_>) -> Rescue {
    let mut rows = 0;
    let counted = lines(&mut |piece| {
        rows += memchr::memchr_iter(b'\n', piece).count() as u64;
        Ok(())
    });
    if rows == 0 && counted.is_ok() {
        return Rescue::NotNeeded;
    }
    let file = save_as(&|number| paths.rescue(number), disk, lines)
        .or_else(|_| save_as(&|number| paths.rescue_elsewhere(number), disk, lines));
    match file {
        Ok(file) => Rescue::Saved { rows, file },
        Err(_) => Rescue::Lost { rows },
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
    let beside = numbered(&|number| paths.rescue(number));
    let elsewhere = numbered(&|number| paths.rescue_elsewhere(number));
    // There anybody may leave a file of any name.
    let own = elsewhere.into_iter().filter(|path| is_own(path));
    beside.into_iter().chain(own).collect()
}

fn is_own(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.uid() == user)
}

/// Returns the files that have such names, by their numbers.
fn numbered(name: &dyn Fn(u32) -> PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder(&name(1))) else {
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
    let named = numbers.into_iter().map(name);
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
    let rescue = Journal::as_it_is(results.disk().open(path)?)?;
    let rows = Rescued::read(&rescue)?;
    let results_there = make_way(results, &rows.results)?;
    let errors_there = make_way(errors, &rows.errors)?;
    let (mut ok, mut bad) = (Vec::new(), Vec::new());
    let (mut taken, mut foreign) = (0, Vec::new());
    rescue.scan(0, |line| {
        let Some(head) = &line.head else {
            foreign.push((line.offset, line.offset + line.text.len() as u64));
            return Ok(());
        };
        let id = head.id.fingerprint();
        let (stands, buffer) = match head.error {
            // An item that was asked again meanwhile keeps its newer result.
            None => (results_there.any.contains(&id), &mut ok),
            Some(_) => (errors_there.same.contains(&id), &mut bad),
        };
        if stands {
            return Ok(());
        }
        taken += 1;
        buffer.extend_from_slice(line.text.trim_ascii_end());
        buffer.push(b'\n');
        match ok.len() + bad.len() > PIECE {
            true => append(results, &mut ok).and_then(|()| append(errors, &mut bad)),
            false => Ok(()),
        }
    })?;
    append(results, &mut ok)?;
    append(errors, &mut bad)?;
    if !foreign.is_empty() {
        rescue.set_aside(&paths.torn, foreign)?;
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

/// The hash of a row, by its item's fingerprint.
type Hashes = HashMap<u128, u64>;

/// The rows of a rescue file.
#[derive(Default)]
struct Rescued {
    results: Hashes,
    errors: Hashes,
}

impl Rescued {
    fn read(rescue: &Journal) -> io::Result<Self> {
        let mut rescued = Rescued::default();
        rescue.scan(0, |line| {
            if let Some(head) = &line.head {
                let hashes = match head.error {
                    None => &mut rescued.results,
                    Some(_) => &mut rescued.errors,
                };
                hashes.insert(head.id.fingerprint(), hash(line.text));
            }
            Ok(())
        })?;
        Ok(rescued)
    }
}

fn hash(row: &[u8]) -> u64 {
    xxh3_64(row.trim_ascii_end())
}

/// Which rescued items have a row in a file all the same.
#[derive(Default)]
struct Standing {
    any: HashSet<u128>,
    /// It is the very row that was rescued.
    same: HashSet<u128>,
}

impl Standing {
    fn forget(&mut self, id: u128) {
        self.any.remove(&id);
        self.same.remove(&id);
    }
}

/// Cuts the end that a rescue file holds anew off a file, if there is one.
fn make_way(journal: &mut Journal, rescued: &Hashes) -> io::Result<Standing> {
    let mut standing = Standing::default();
    let mut repeated_from = None;
    journal.scan(0, |line| {
        let Some(head) = &line.head else {
            return Ok(());
        };
        let id = head.id.fingerprint();
        let rescued = rescued.get(&id);
        if rescued.is_some() {
            standing.any.insert(id);
        }
        if rescued == Some(&hash(line.text)) {
            standing.same.insert(id);
            repeated_from.get_or_insert(line.offset);
        } else {
            // What follows is of another run: nothing may be cut off.
            repeated_from = None;
        }
        Ok(())
    })?;
    if let Some(offset) = repeated_from {
        journal.scan(offset, |line| {
            line.head
                .iter()
                .for_each(|head| standing.forget(head.id.fingerprint()));
            Ok(())
        })?;
        journal.cut(offset)?;
    }
    Ok(standing)
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
    fn an_error_row_that_the_file_holds_too_stands_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("out.jsonl"));
        let rows = [failed("a"), failed("b")].concat();
        std::fs::write(&paths.errors, &rows).unwrap();
        std::fs::write(paths.rescue(1), failed("b")).unwrap();
        let open = |path: &Path| Disk::default().open_or_create(path).unwrap();
        let results = open(paths.results.as_deref().unwrap());
        let mut results = Journal::emptied(results).unwrap();
        let mut errors = Journal::as_it_is(open(&paths.errors)).unwrap();
        take_in(&paths, &mut results, &mut errors).unwrap();
        assert_eq!(std::fs::read_to_string(&paths.errors).unwrap(), rows);
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
    fn a_link_among_temporary_files_is_not_taken_in() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("out.jsonl"));
        let elsewhere = paths.rescue_elsewhere(1);
        let others = folder.path().join("others");
        std::fs::write(&others, row("a", "1")).unwrap();
        std::os::unix::fs::symlink(&others, &elsewhere).unwrap();
        assert!(files(&paths).is_empty());
        std::fs::remove_file(&elsewhere).unwrap();
        std::fs::write(&elsewhere, row("a", "1")).unwrap();
        assert_eq!(files(&paths), std::slice::from_ref(&elsewhere));
        std::fs::remove_file(&elsewhere).unwrap();
    }

    #[test]
    fn a_rescue_file_has_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("out.jsonl"));
        let disk = Disk::default();
        let lines = |pass: &mut Pass<'_>| pass(b"{}\n{}\n");
        for number in 1..3 {
            let rescue = save(&paths, &disk, &lines);
            let file = paths.rescue(number);
            assert_eq!(rescue, Rescue::Saved { rows: 2, file });
        }
        assert_eq!(files(&paths).len(), 2);
        assert_eq!(save(&paths, &disk, &|_| Ok(())), Rescue::NotNeeded);
    }
}
