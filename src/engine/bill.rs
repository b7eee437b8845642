//! What an attempt used and cost, by what came back of it.

use crate::provider::Provider;
use crate::words::item::Item;
use crate::words::money::Usd;
use crate::words::price::{Bill, Charge};
use crate::words::tokens::{Tokens, Usage};
use crate::words::verdict::Verdict;
use crate::words::wire::{Exchange, Reply};

/// Returns the bill of an attempt.
///
/// An answer is charged, also one that cannot be used. An error is not, unless the server gave up
/// on a request that may have been at work behind it. And whoever hears nothing must reckon with
/// everything.
pub fn bill(provider: &dyn Provider, item: &Item, verdict: &Verdict, exchange: &Exchange) -> Bill {
    let reply = match exchange {
        Ok(reply) => reply,
        Err(error) if error.kind.may_be_charged() => return uncertain(item.worst_case()),
        Err(_) => return Bill::default(),
    };
    match (verdict, reply.status.as_u16()) {
        (Verdict::Done(answer), _) => answered(item, answer.usage, reply),
        (Verdict::Malformed(_) | Verdict::Filter(_) | Verdict::Retry(_), 200..300) => {
            answered(item, provider.usage(reply), reply)
        }
        // The gateway lost patience, not necessarily the model behind it.
        (_, 408 | 504 | 520..=524) => uncertain(item.worst_case()),
        _ => Bill::default(),
    }
}

fn answered(item: &Item, usage: Option<Usage>, reply: &Reply) -> Bill {
    let Some(usage) = usage else {
        // What can be seen of an answer has no more tokens than bytes.
        let seen = item.most(Tokens(reply.body.len() as u64));
        let worst = item.worst_case();
        return uncertain(worst.zip(seen).map(|(a, b)| a.min(b)).or(seen));
    };
    let by_price = || item.tariff.as_ref()?.price.cost(&usage);
    let cost = usage.stated_cost.or_else(by_price);
    Bill {
        usage: Some(usage),
        charge: cost.map_or(Charge::Unpriced, Charge::Known),
    }
}

fn uncertain(most: Option<Usd>) -> Bill {
    Bill {
        usage: None,
        charge: most.map_or(Charge::Unpriced, Charge::AtMost),
    }
}
