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
        (Some(usage), ..) if is_believable(&usage, verdict) => charged(item, usage),
        (Some(usage), ..) => Bill {
            usage: Some(usage),
            ..untold(item, reply)
        },
        (
            None,
            Verdict::Done(_) | Verdict::Malformed(_) | Verdict::Foreign(_) | Verdict::Filter(_),
            _,
        )
        | (None, Verdict::Retry(_), 200..300) => untold(item, reply),
        // The gateway lost patience, not necessarily the model behind it.
        (None, _, 408 | 504 | 520..=524) => uncertain(item),
        _ => Bill::default(),
    }
}

/// Tells whether a usage can be what an answer cost: no prompt is free, no words come from no
/// tokens, and no model takes ten million of them.
fn is_believable(usage: &Usage, verdict: &Verdict) -> bool {
    const ABSURD: Tokens = Tokens(10_000_000);
    let has_words = match verdict {
        Verdict::Done(answer) => answer.content.as_ref().is_some_and(|text| !text.is_empty()),
        _ => false,
    };
    let output = usage.billed_output();
    let is_whole = usage.prompt > Tokens(0) && (output > Tokens(0) || !has_words);
    usage.stated_cost.is_some() || is_whole && usage.prompt < ABSURD && output < ABSURD
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
