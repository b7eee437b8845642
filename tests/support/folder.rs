//! A folder for one test, and what can be asked of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::parse_rows;

/// A temporary folder, the working directory of its runs.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Arc<Folder> {
        Arc::new(Folder(tempfile::tempdir().unwrap()))
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn append(&self, name: &str, content: &str) {
        self.write(name, self.read(name) + content);
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Returns a file's bytes; none where there is no file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_default()
    }

    /// Returns a file's whole lines; none where there is no file yet.
    pub fn lines(&self, name: &str) -> usize {
        let bytes = std::fs::read(self.path(name)).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Returns a JSONL file's rows; none where there is no file.
    pub fn rows(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        parse_rows(&text)
    }

    /// Returns the names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.content().into_keys().collect()
    }

    /// Copies it with all its files.
    pub fn copy(&self) -> Arc<Folder> {
        let copy = Folder::new();
        for (name, bytes) in self.content() {
            copy.write(&name, bytes);
        }
        copy
    }

    /// Returns every file with its bytes.
    pub fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            Some((name, std::fs::read(entry.path()).ok()?))
        };
        entries.filter_map(file).collect()
    }
}
