//! What answers were like: those of a pilot, or of an earlier run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::question::Question;
use crate::cli::args::EstimateArgs;
use crate::cli::refusal::Refusal;
use crate::cli::run::{Chosen, Reservoir};
use crate::cli::validate::unreadable;
use crate::estimate::{Experience, Seen};
use crate::output::{Answered, Paths, each_row, read_answered, read_failed};
use crate::words::money::Usd;

/// Answers of an earlier run that are kept, chosen at random: more would not say more.
const KEPT: u64 = 10_000;

/// Answers, and where they are from.
#[derive(Debug, Default)]
pub struct Learnt {
    pub origin: Origin,
    pub experience: Experience,
    /// Fingerprints of the items that are asked already.
    pub settled: HashSet<u128>,
}

/// Where answers are from.
#[derive(Debug, Default)]
pub enum Origin {
    #[default]
    Nowhere,
    Pilot {
        results: PathBuf,
        /// Items that were asked, and those of them that got no result.
        asked: u64,
        failed: u64,
    },
    Results {
        path: PathBuf,
        /// Rows with tokens, and all rows.
        used: u64,
        rows: u64,
    },
}

/// Reads the answers of a pilot, and what else stands in its output.
pub fn of_pilot(args: &EstimateArgs, question: &Question, chosen: &Chosen) -> Result<Learnt> {
    let default = || Paths::default_results(&args.run.input);
    let results = args.run.output.clone().unwrap_or_else(default);
    let shared = question
        .defaults
        .model
        .as_ref()
        .map(|name| question.own_model(name));
    let price = shared.and_then(|model| model.price);
    let mut learnt = Learnt {
        origin: Origin::Pilot {
            results: results.clone(),
            asked: chosen.count().unwrap_or_default(),
            failed: 0,
        },
        ..Learnt::default()
    };
    each_answer(&results, |answered| {
        if !learnt.settled.insert(answered.id) {
            return;
        }
        let stated = answered.cost;
        let priced = || price.as_ref()?.cost(answered.usage.as_ref()?);
        let cost = stated.or_else(priced);
        let settled = &mut learnt.experience.settled;
        settled.items += 1;
        match cost {
            Some(cost) => settled.cost += cost,
            None => settled.without_cost += 1,
        }
        if let Some(usage) = answered.usage {
            settled.prompt += usage.prompt;
            settled.output += usage.billed_output();
        }
        if chosen.ids.contains(&answered.id) {
            learnt.experience.sample.extend(seen(&answered, true));
        }
    })?;
    let errors = Paths::beside(&results).errors;
    learn_failures(&mut learnt, &errors, chosen)?;
    Ok(learnt)
}

/// Takes in the items of a pilot that got no result, at what they cost all the same, and lays what
/// attempts without a result cost on all of its items: the others will have them too.
fn learn_failures(learnt: &mut Learnt, errors: &Path, chosen: &Chosen) -> Result<()> {
    let Learnt {
        origin,
        experience,
        settled,
    } = learnt;
    let answered: HashSet<u128> = experience.sample.iter().map(|seen| seen.id).collect();
    if errors.exists() {
        let read = each_row(errors, |line| {
            let failed = read_failed(line).filter(|row| chosen.ids.contains(&row.id));
            let Some(row) = failed.filter(|row| !answered.contains(&row.id)) else {
                return;
            };
            // It is done as far as this estimate goes, even if a resumed run may ask it again.
            settled.insert(row.id);
            experience.settled.items += 1;
            experience.settled.prompt += row.usage.prompt;
            experience.settled.output += row.usage.billed_output();
            experience.settled.cost += row.cost;
            experience.sample.push(Seen {
                id: row.id,
                usage: row.usage,
                cost: Some(row.cost),
                latency: None,
            });
            if let Origin::Pilot { failed, .. } = origin {
                *failed += 1;
            }
        });
        read.map_err(|error| unreadable(errors, &error))?;
    }
    let known: Usd = experience.sample.iter().filter_map(|seen| seen.cost).sum();
    let lost = chosen.spent.less(known);
    experience.settled.cost += lost;
    let each = lost.share(1, experience.sample.len() as u64);
    for seen in &mut experience.sample {
        seen.cost = seen.cost.map(|cost| cost + each);
    }
    Ok(())
}

/// Reads the answers of an earlier run, whose items may be these or others.
pub fn of_results(path: &Path, seed: u64) -> Result<Learnt> {
    let mut reservoir = Reservoir::new(KEPT, seed);
    let (mut rows, mut used) = (0, 0);
    each_answer(path, |answered| {
        rows += 1;
        // The cost may have been at other prices.
        if let Some(seen) = seen(&answered, false) {
            used += 1;
            reservoir.offer(seen);
        }
    })?;
    if used < 2 {
        let what = format!(
            "{} has no two results that say what they used",
            path.display()
        );
        let hint = "--from reads a results file of run, in either format";
        return Err(Refusal::new(what).hint(hint).into());
    }
    Ok(Learnt {
        origin: Origin::Results {
            path: path.to_owned(),
            used,
            rows,
        },
        experience: Experience {
            sample: reservoir.kept,
            ..Experience::default()
        },
        settled: HashSet::new(),
    })
}

fn seen(answered: &Answered, with_cost: bool) -> Option<Seen> {
    Some(Seen {
        id: answered.id,
        usage: answered.usage?,
        cost: answered.cost.filter(|_| with_cost),
        latency: answered.latency,
    })
}

fn each_answer(path: &Path, mut hear: impl FnMut(Answered)) -> Result<()> {
    let read = each_row(path, |line| {
        read_answered(line).into_iter().for_each(&mut hear)
    });
    Ok(read.map_err(|error| unreadable(path, &error))?)
}
