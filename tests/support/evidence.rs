//! What the files of a run say, read without any of the program's own code.

use std::collections::HashSet;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

use super::Folder;

pub const RESULTS: &str = "in.results.jsonl";
pub const ERRORS: &str = "in.results.errors.jsonl";
pub const CHECKPOINT: &str = "in.results.checkpoint.json";

/// The ids of the rows that stand there, whole ones only.
pub struct Rows {
    pub results: Vec<String>,
    pub errors: Vec<String>,
}

impl Rows {
    pub fn of(folder: &Folder) -> Rows {
        let read = |name: &str| {
            let bytes = folder.bytes(name);
            let whole = bytes
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|row| row.ends_with(b"\n"));
            whole
                .map(|row| serde_json::from_slice::<Value>(row).expect("a whole line is a row"))
                .map(|row| row["id"].as_str().expect("an id").to_owned())
                .collect()
        };
        Rows {
            results: read(RESULTS),
            errors: read(ERRORS),
        }
    }

    /// Returns how many of the error rows are there for sure when the next run has opened the
    /// file: one of each item without a result.
    pub fn errors_that_stay(&self) -> usize {
        let done: HashSet<_> = self.results.iter().collect();
        let stay: HashSet<_> = self.errors.iter().filter(|id| !done.contains(id)).collect();
        stay.len()
    }
}

/// What a checkpoint claims.
#[derive(Deserialize)]
pub struct Claim {
    pub results_bytes: u64,
    finished: String,
    pub finished_count: u64,
}

impl Claim {
    pub fn read(folder: &Folder) -> Option<Claim> {
        let envelope: Value = serde_json::from_slice(&folder.bytes(CHECKPOINT)).ok()?;
        serde_json::from_value(envelope["state"].clone()).expect("a checkpoint is never torn")
    }

    pub fn positions(&self) -> HashSet<u64> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&self.finished)
            .unwrap();
        let positions = roaring::RoaringTreemap::deserialize_from(&bytes[..]).unwrap();
        positions.into_iter().collect()
    }
}
