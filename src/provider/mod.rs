//! Providers: what goes onto the wire for an item, and what an answer means.
//!
//! Everything here is pure: no tokio, no clock, no retries, no prices. So each wire shape is a
//! one-line synchronous test.

mod body;
mod classify;
mod complaint;
mod completion;
pub mod key;
mod lenient;
pub mod openai;
pub mod preset;
mod refusal;
pub mod retry_after;
#[cfg(test)]
mod tests;
pub mod wait;

use crate::words::item::Item;
use crate::words::tokens::Usage;
use crate::words::verdict::Verdict;
use crate::words::wire::{Exchange, Reply, Request};

/// The questions that the engine asks of a kind of endpoint.
pub trait Provider: Send + Sync {
    /// Returns the request that asks for this item.
    fn request(&self, item: &Item) -> Request;

    /// Returns the name under which the endpoint takes a limit on an answer's tokens.
    fn output_limit_field(&self, model: &str) -> &'static str;

    /// Decides what came back. The only place where status codes and bodies get a meaning.
    fn verdict(&self, exchange: &Exchange) -> Verdict;

    /// Returns what a 2xx reply says it used, also where there is no answer in it.
    fn usage(&self, reply: &Reply) -> Option<Usage>;
}
