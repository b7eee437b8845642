//! What an attempt used and cost, by what came back of it.

use crate::provider::Provider;
use crate::words::item::Item;
use crate::words::tariff::{Bill, Charge};
use crate::words::tokens::{Tokens, Usage};
use crate::words::verdict::Verdict;
use crate::words::wire::{Exchange, Reply};

/// Returns the bill of an attempt.
///
/// An answer is charged, also one that cannot be used. An error is not, unless the server gave up
/// on a request that may have been at work behind it, or says what it used. And whoever hears
/// nothing must reckon with everything.
pub fn bill(provider: &dyn Provider, item: &Item, verdict: &Verdict, exchange: &Exchange) -> Bill {
    let reply = match exchange {
        Ok(reply) => reply,
        Err(error) if error.kind.may_be_charged() => return uncertain(item),
        Err(_) => return Bill::default(),
    };
    let usage = match verdict {
        Verdict::Done(answer) => answer.usage,
        _ => provider.usage(reply),
    };
    match (usage, verdict, reply.status.as_u16()) {
        (Some(usage), ..) => charged(item, usage),
        (None, Verdict::Done(_) | Verdict::Malformed(_) | Verdict::Filter(_), _)
        | (None, Verdict::Retry(_), 200..300) => untold(item, reply),
        // The gateway lost patience, not necessarily the model behind it.
        (None, _, 408 | 504 | 520..=524) => uncertain(item),
        _ => Bill::default(),
    }
}

fn charged(item: &Item, usage: Usage) -> Bill {
    let by_price = || item.tariff.as_ref()?.price.cost(&usage);
    let cost = usage.stated_cost.or_else(by_price);
    Bill {
        usage: Some(usage),
        charge: cost.map_or(Charge::Unpriced, Charge::Known),
    }
}

/// Returns the bill of an answer that does not say what it used: what can be seen of it has no
/// more tokens than bytes, but a model may have thought unseen up to its limit.
fn untold(item: &Item, reply: &Reply) -> Bill {
    let seen = || item.most(Tokens(reply.body.len() as u64)).ok();
    let most = item.worst_case().ok().or_else(seen);
    Bill {
        usage: None,
        charge: most.map_or(Charge::Unpriced, Charge::AtMost),
    }
}

fn uncertain(item: &Item) -> Bill {
    Bill {
        usage: None,
        charge: item.worst_case().map_or(Charge::Unpriced, Charge::AtMost),
    }
}
