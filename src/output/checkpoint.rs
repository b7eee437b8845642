//! The checkpoint: what is known about a results file, so that resuming need not read it all.
//!
//! It is a cache. The results file is the truth; a checkpoint that is missing, damaged, of
//! another version or at odds with the file costs a scan, never a result and never a start.
//!
//! Layout (version 1): `{"version":1,"checksum":"…","state":{…}}`, where the checksum is the
//! XXH3-64 of the state's text. Unknown fields of the state are ignored by older readers;
//! anything that changes the meaning of a field takes a new version, which older readers treat
//! as no checkpoint at all. It is rewritten whole, never edited.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::disk::Disk;
use super::rows::Format;
use super::spent::Spent;
use crate::words::lengths::Lengths;

const VERSION: u32 = 1;

/// What a run was asked for. Another value of any of these makes another run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdentity {
    pub model: Option<String>,
    pub prompt: Option<String>,
    pub system: Option<String>,
    /// Parameters by name, as JSON text.
    pub params: BTreeMap<String, String>,
    pub format: Format,
    pub lean: bool,
}

impl RunIdentity {
    /// Lists what differs, in words for the user.
    pub fn differences(&self, now: &RunIdentity) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, before: Option<&str>, now: Option<&str>| {
            if before != now {
                let show = |value: Option<&str>| match value {
                    Some(value) => shortened(value),
                    None => "none".to_owned(),
                };
                found.push(format!("{what} was {}, is {}", show(before), show(now)));
            }
        };
        compare("model", self.model.as_deref(), now.model.as_deref());
        compare("prompt", self.prompt.as_deref(), now.prompt.as_deref());
        compare("system", self.system.as_deref(), now.system.as_deref());
        let names: std::collections::BTreeSet<_> =
            self.params.keys().chain(now.params.keys()).collect();
        for name in names {
            let value = |run: &RunIdentity| run.params.get(name).cloned();
            compare(name, value(self).as_deref(), value(now).as_deref());
        }
        let format = |run: &RunIdentity| match (run.format, run.lean) {
            (Format::Openai, _) => "openai",
            (Format::Native, true) => "native, lean",
            (Format::Native, false) => "native",
        };
        compare("format", Some(format(self)), Some(format(now)));
        found
    }
}

fn shortened(value: &str) -> String {
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Where positions in the input are still true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputIdentity {
    pub bytes: u64,
    #[serde(with = "hex")]
    pub hash: u128,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{hash:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// A snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    pub run: RunIdentity,
    /// `None` for standard input, which has no second reading.
    pub input: Option<InputIdentity>,
    /// Bytes of the results file that are synced.
    pub results_bytes: u64,
    /// Bytes of the errors file at that moment: what later rows cost is not counted here.
    #[serde(default)]
    pub errors_bytes: u64,
    /// Hash of the last bytes before that: another file, or an edited one, has another.
    pub results_tail: u64,
    /// Positions of the items with a result, as a serialized Roaring bitmap in base64; `None`
    /// where positions are not known.
    pub finished: Option<String>,
    pub finished_count: u64,
    pub spent: Spent,
    /// How long answers were, so that a budget's limits need not be learnt again.
    #[serde(default)]
    pub lengths: Lengths,
    /// The run came to an orderly end.
    pub clean: bool,
    /// Requests that may have been on their way if the end was not orderly.
    pub in_flight: u64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    version: u32,
    checksum: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

fn checksum(state: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(state.as_bytes()))
}

impl State {
    /// Writes the snapshot: a temporary file, synced, renamed, the folder synced.
    pub fn save(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        let state = serde_json::to_string(self)?;
        let checksum = checksum(&state);
        let state = RawValue::from_string(state)?;
        let envelope = Envelope {
            version: VERSION,
            checksum,
            state: &state,
        };
        disk.replace(path, |out| {
            serde_json::to_writer(&mut *out, &envelope)?;
            out.write_all(b"\n")
        })
    }

    /// Reads a snapshot; the error says why there is none that can be used.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "is missing".to_owned(),
            _ => format!("cannot be read: {error}"),
        })?;
        let envelope: Envelope<'_> =
            serde_json::from_str(&text).map_err(|_| "is damaged".to_owned())?;
        if envelope.version != VERSION {
            return Err(format!(
                "has version {}, this is {VERSION}",
                envelope.version
            ));
        }
        if envelope.checksum != checksum(envelope.state.get()) {
            return Err("is damaged".to_owned());
        }
        serde_json::from_str(envelope.state.get()).map_err(|_| "is damaged".to_owned())
    }

    /// Returns the positions of finished items, if they are known and intact.
    pub fn finished(&self) -> Option<RoaringTreemap> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(self.finished.as_ref()?)
            .ok()?;
        RoaringTreemap::deserialize_from(&bytes[..])
            .ok()
            .filter(|positions| positions.len() == self.finished_count)
    }

    /// Takes in the positions of finished items.
    pub fn set_finished(&mut self, positions: &RoaringTreemap) {
        let mut bytes = Vec::with_capacity(positions.serialized_size());
        positions
            .serialize_into(&mut bytes)
            .expect("a vector takes all bytes");
        self.finished = Some(base64::engine::general_purpose::STANDARD.encode(bytes));
        self.finished_count = positions.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State {
            run: RunIdentity {
                model: Some("m".into()),
                ..RunIdentity::default()
            },
            input: Some(InputIdentity {
                bytes: 7,
                hash: u128::MAX - 1,
            }),
            results_bytes: 99,
            clean: true,
            ..State::default()
        };
        state.set_finished(&(0..1000).filter(|n| n % 7 != 0).collect());
        state
    }

    #[test]
    fn a_saved_state_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        state().save(&Disk::default(), &path).unwrap();
        let loaded = State::load(&path).unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{:?}", state()));
        assert_eq!(loaded.finished().unwrap().len(), 857);
    }

    #[test]
    fn damage_at_any_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        state().save(&Disk::default(), &path).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(State::load(&path).is_err(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(State::load(&path).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn differences_are_named() {
        let before = state().run;
        let mut now = before.clone();
        assert!(before.differences(&now).is_empty());
        now.model = Some("other".into());
        now.params.insert("temperature".into(), "0".into());
        now.lean = true;
        assert_eq!(
            before.differences(&now),
            [
                "model was \"m\", is \"other\"",
                "temperature was none, is \"0\"",
                "format was \"native\", is \"native, lean\""
            ]
        );
    }
}
