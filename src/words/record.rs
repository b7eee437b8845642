//! A record: the final outcome of one item in this run, on its way to a file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::item::ItemId;
use super::price::Bill;
use super::verdict::{Answer, Failure};

/// How an item ended.
#[derive(Debug)]
pub struct Record {
    pub id: ItemId,
    pub index: u64,
    pub metadata: Option<Box<RawValue>>,
    /// Attempts that count against the item's retries, and the one that settled it.
    pub attempts: u32,
    /// Duration of the attempt that brought the answer.
    pub latency: Duration,
    /// The model that was asked.
    pub model: Arc<str>,
    /// What that attempt used and cost; those before it have told theirs when they were retried.
    pub bill: Bill,
    pub outcome: Outcome,
}

/// A result, or the reason why there is none.
#[derive(Debug)]
pub enum Outcome {
    /// Goes to the results file.
    Ok {
        answer: Box<Answer>,
        http_status: u16,
        /// The response as received.
        body: Bytes,
    },
    /// Goes to the errors file.
    Error {
        status: ErrorStatus,
        failure: Failure,
        /// The answer that was paid for and could not be used, as received.
        kept: Option<Bytes>,
    },
}

/// The `status` of a row in the errors file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorStatus {
    /// Gave up after retries.
    Failed,
    /// Refused by a content policy.
    Filtered,
    /// The provider says that the request itself is wrong.
    Rejected,
    /// An answer came, and was not usable.
    Invalid,
    /// The input line itself is bad.
    InvalidInput,
}

impl ErrorStatus {
    /// Every status, in the order in which summaries list them.
    pub const ALL: [ErrorStatus; 5] = [
        Self::Filtered,
        Self::Rejected,
        Self::Failed,
        Self::Invalid,
        Self::InvalidInput,
    ];

    /// Returns the word that stands in the file and in summaries.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Filtered => "filtered",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
            Self::InvalidInput => "invalid_input",
        }
    }

    /// Tells whether `--resume` leaves such a row alone unless `--retry` names it.
    pub fn is_kept_on_resume(self) -> bool {
        matches!(self, Self::Filtered | Self::Rejected)
    }
}
