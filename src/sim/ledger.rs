//! The ledger: every charge with the question it is for and the answer that was sent, so that an
//! accountant outside the client can hold its files against it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::answer;

/// The charges, by the number of the request; nothing is ever taken out.
pub(super) struct Ledger(Mutex<BTreeMap<u64, Charge>>);

/// One charge; a line of `GET /sim/ledger`.
#[derive(Serialize)]
struct Charge {
    /// The tag of the question: what [`echo_tag`](super::echo_tag) makes of the user's text.
    question: String,
    /// XXH3-128 of the bytes that were sent as the answer, if any were.
    answer: Option<String>,
    /// All of these bytes were handed to the connection.
    whole: bool,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger(Mutex::default())
    }

    /// Enters a charge for the question of this hash.
    pub(super) fn charge(&self, request: u64, echo: u64) {
        let charge = Charge {
            question: answer::tag(echo),
            answer: None,
            whole: false,
        };
        self.lock().insert(request, charge);
    }

    /// Notes what was sent for a charge.
    pub(super) fn answer(&self, request: u64, sent: &[u8], whole: bool) {
        if let Some(charge) = self.lock().get_mut(&request) {
            charge.answer = Some(format!("{:032x}", xxh3_128(sent)));
            charge.whole = whole;
        }
    }

    /// Writes a line for each charge, in the order in which the requests came.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        for charge in self.lock().values() {
            serde_json::to_writer(&mut lines, charge).expect("a vector takes all bytes");
            lines.push(b'\n');
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Charge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
