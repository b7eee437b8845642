//! The history of a disk: every change in order, and what a crash after any of them leaves.
//!
//! The model is harsher than real file systems: what was not synced is gone, names that no folder
//! sync made durable are gone, or a file has its new length and no content.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::disk::{Change, Disk, Witness, folder};

/// A change, kept.
#[derive(Debug, Clone)]
enum Kept {
    Create(PathBuf),
    Append(PathBuf, Vec<u8>),
    Cut(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder(PathBuf),
}

/// Writes down what happens to a disk.
#[derive(Default)]
pub struct History {
    changes: Mutex<Vec<Kept>>,
}

impl Witness for History {
    fn before(&self, change: Change<'_>) -> io::Result<()> {
        let kept = match change {
            Change::Create(path) => Kept::Create(path.into()),
            Change::Append(path, bytes) => Kept::Append(path.into(), bytes.to_vec()),
            Change::Cut(path, length) => Kept::Cut(path.into(), length),
            Change::Reserve(..) => return Err(io::ErrorKind::Unsupported.into()),
            Change::Sync(path) => Kept::Sync(path.into()),
            Change::Rename(from, to) => Kept::Rename(from.into(), to.into()),
            Change::Remove(path) => Kept::Remove(path.into()),
            Change::SyncFolder(path) => Kept::SyncFolder(path.into()),
        };
        self.changes.lock().unwrap().push(kept);
        Ok(())
    }
}

/// What is lost with the machine, or with the process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A killed process: the system still writes all that was handed to it.
    Nothing,
    /// Killed in the middle of the next write.
    HalfOfTheNext,
    /// A power cut: all that was not synced is gone, names included.
    Unsynced,
    /// A power cut: names are there, content that was not synced is not.
    UnsyncedContent,
    /// A power cut: unsynced content is as long as it was, and nothing but NUL bytes.
    UnsyncedIsNul,
    /// A power cut: half of the unsynced content is there.
    HalfOfUnsynced,
}

impl Loss {
    pub const ALL: [Loss; 6] = [
        Loss::Nothing,
        Loss::HalfOfTheNext,
        Loss::Unsynced,
        Loss::UnsyncedContent,
        Loss::UnsyncedIsNul,
        Loss::HalfOfUnsynced,
    ];
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// Files by name; a file keeps its content over renames.
#[derive(Default)]
struct Model {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
}

impl History {
    pub fn disk(self: &Arc<Self>) -> Disk {
        Disk::watched(self.clone())
    }

    /// Returns how many changes there were so far.
    pub fn len(&self) -> usize {
        self.changes.lock().unwrap().len()
    }

    /// Returns the files that a crash after so many changes leaves of those that were there.
    pub fn image(
        &self,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        changes: usize,
        loss: Loss,
    ) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut model = Model::default();
        for (path, bytes) in before {
            let id = model.file(path);
            model.contents[id].now = bytes.clone();
            model.contents[id].durable = bytes.clone();
        }
        model.durable_names = model.names.clone();
        let kept = self.changes.lock().unwrap();
        kept[..changes].iter().for_each(|change| model.make(change));
        if loss == Loss::HalfOfTheNext
            && let Some(Kept::Append(path, bytes)) = kept.get(changes)
        {
            let half = bytes[..bytes.len() / 2].to_vec();
            model.make(&Kept::Append(path.clone(), half));
        }
        model.after(loss)
    }
}

impl Model {
    fn file(&mut self, path: &Path) -> usize {
        let next = self.contents.len();
        let id = *self.names.entry(path.to_owned()).or_insert(next);
        if id == next {
            self.contents.push(Content::default());
        }
        id
    }

    fn make(&mut self, change: &Kept) {
        match change {
            Kept::Create(path) => drop(self.file(path)),
            Kept::Append(path, bytes) => {
                let id = self.file(path);
                self.contents[id].now.extend_from_slice(bytes);
            }
            Kept::Cut(path, length) => {
                let id = self.file(path);
                self.contents[id].now.resize(*length as usize, 0);
            }
            Kept::Sync(path) => {
                let id = self.file(path);
                self.contents[id].durable = self.contents[id].now.clone();
            }
            Kept::Rename(from, to) => {
                let id = self.file(from);
                self.names.remove(from);
                self.names.insert(to.clone(), id);
            }
            Kept::Remove(path) => drop(self.names.remove(path)),
            Kept::SyncFolder(synced) => {
                self.durable_names.retain(|path, _| folder(path) != synced);
                let there = self.names.iter().filter(|(path, _)| folder(path) == synced);
                self.durable_names
                    .extend(there.map(|(path, id)| (path.clone(), *id)));
            }
        }
    }

    fn after(self, loss: Loss) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = match loss {
            Loss::Unsynced => &self.durable_names,
            _ => &self.names,
        };
        let content = |id: &usize| {
            let Content { now, durable } = &self.contents[*id];
            let unsynced = now.len().saturating_sub(durable.len());
            let mut bytes = durable.clone();
            match loss {
                Loss::Nothing | Loss::HalfOfTheNext => bytes.clone_from(now),
                Loss::Unsynced | Loss::UnsyncedContent => {}
                Loss::UnsyncedIsNul => bytes.resize(bytes.len() + unsynced, 0),
                Loss::HalfOfUnsynced => {
                    let half = bytes.len() + unsynced / 2;
                    bytes.extend_from_slice(now.get(bytes.len()..half).unwrap_or_default());
                }
            }
            bytes
        };
        let names = names.iter();
        names
            .map(|(path, id)| (path.clone(), content(id)))
            .collect()
    }
}
