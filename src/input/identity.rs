//! Who a line is: its own id, or one derived from its content, each given once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::words::human::thousands;
use crate::words::item::{ItemId, fingerprint};

/// The name that a line lays claim to.
#[derive(Debug)]
pub struct Claim {
    name: String,
    /// Named by the user, not derived.
    named: bool,
    content: u64,
}

impl Claim {
    /// A line with an id of its own.
    pub fn named(id: String, line: &[u8]) -> Self {
        Claim {
            name: id,
            named: true,
            content: content_hash(line),
        }
    }

    /// A line without a usable id.
    pub fn derived(line: &[u8]) -> Self {
        let content = content_hash(line);
        Claim {
            name: derived_name(content),
            named: false,
            content,
        }
    }

    pub fn fingerprint(&self) -> u128 {
        fingerprint(&self.name)
    }
}

fn content_hash(line: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(line)
}

fn derived_name(content: u64) -> String {
    format!("h-{content:016x}")
}

/// The fingerprints that stand more than once in a file: hardly ever many.
#[derive(Debug, Clone, Default)]
pub struct Repeats(Arc<HashSet<u128>>);

impl Repeats {
    /// Finds what occurs twice, at 16 bytes an entry.
    pub fn among(mut fingerprints: Vec<u128>) -> Self {
        fingerprints.sort_unstable();
        let doubled = fingerprints.windows(2).filter(|pair| pair[0] == pair[1]);
        Repeats(Arc::new(doubled.map(|pair| pair[0]).collect()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, fingerprint: u128) -> bool {
        self.0.contains(&fingerprint)
    }
}

/// Gives out ids in the order of the input.
pub struct Identities {
    /// The only claims worth remembering; `None` remembers all.
    watched: Option<Repeats>,
    seen: HashMap<u128, Seen>,
}

struct Seen {
    first_line: u64,
    times: u64,
}

impl Identities {
    /// For a file whose repeats are known beforehand.
    pub fn watching(repeats: Repeats) -> Self {
        Identities {
            watched: Some(repeats),
            seen: HashMap::new(),
        }
    }

    /// For a stream that is read once: about 50 bytes an item.
    pub fn remembering() -> Self {
        Identities {
            watched: None,
            seen: HashMap::new(),
        }
    }

    /// Returns the line's id, or the line that has it already. Equal lines without an id get a
    /// running suffix instead.
    pub fn assign(&mut self, claim: &Claim, line: u64) -> Result<ItemId, Taken> {
        let fingerprint = claim.fingerprint();
        if self
            .watched
            .as_ref()
            .is_some_and(|repeats| !repeats.0.contains(&fingerprint))
        {
            return Ok(claim.name.as_str().into());
        }
        let seen = self.seen.entry(fingerprint).or_insert(Seen {
            first_line: line,
            times: 0,
        });
        seen.times += 1;
        match (seen.times, claim.named) {
            (1, _) => Ok(claim.name.as_str().into()),
            (_, true) => Err(Taken {
                first_line: seen.first_line,
            }),
            (times, false) => Ok(format!("{}-{times}", claim.name).into()),
        }
    }

    /// Returns an id for a line whose own id is taken. Such names are always remembered: they
    /// were no claims when the repeats were collected.
    pub fn assign_derived(&mut self, claim: Claim) -> ItemId {
        let name = derived_name(claim.content);
        let seen = self.seen.entry(fingerprint(&name)).or_insert(Seen {
            first_line: 0,
            times: 0,
        });
        seen.times += 1;
        match seen.times {
            1 => name.into(),
            times => format!("{name}-{times}").into(),
        }
    }
}

/// The user gave this id to an earlier line too.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    first_line: u64,
}

impl Taken {
    /// Says so, for the finding or the row of the later line.
    pub fn problem(&self, claim: &Claim) -> String {
        format!(
            "id {:?} stands already at line {}",
            claim.name,
            thousands(self.first_line)
        )
    }
}
