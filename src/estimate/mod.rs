//! What a file of items will cost and how long it will take, before it is asked.
//!
//! A fold over items: prompts are counted, by as many threads as there are, and summed for each
//! model in question; what answers were like in a pilot or an earlier run says how long the others
//! will be. Memory does not grow with the number of items. This room knows prices as data and
//! reads nothing itself: no file, no flag, no terminal.

mod counting;
mod forecast;
mod interval;
mod lane;
mod load;
mod queue;
mod wall;

use std::sync::Arc;

use crate::tokenizer::Counter;
use crate::words::price::Price;
use crate::words::tokens::Tokens;

pub use counting::{Asked, Counted, Job, count};
pub use forecast::{Experience, Forecast, Seen, Settled, forecast};
pub use interval::Interval;
pub use lane::{Lane, Places};
pub use load::Load;
pub use wall::{Binds, Pace, Wall};

/// One model that items may be sent to.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: Arc<str>,
    pub counter: Counter,
    /// `None` where it is not known.
    pub price: Option<Arc<Price>>,
    pub max_input: Option<Tokens>,
    pub max_output: Option<Tokens>,
}
