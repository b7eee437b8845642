//! What answers were like: those of a pilot, or of an earlier run.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::question::Question;
use crate::cli::args::EstimateArgs;
use crate::cli::refusal::Refusal;
use crate::cli::run::{Chosen, Reservoir};
use crate::cli::validate::unreadable;
use crate::estimate::{Experience, Seen};
use crate::output::{Answered, Paths, read_answered};

/// Answers of an earlier run that are kept, chosen at random: more would not say more.
const KEPT: u64 = 10_000;

/// Answers, and where they are from.
#[derive(Debug, Default)]
pub struct Learnt {
    pub origin: Origin,
    pub experience: Experience,
    /// Fingerprints of the items that have a result already.
    pub settled: HashSet<u128>,
}

/// Where answers are from.
#[derive(Debug, Default)]
pub enum Origin {
    #[default]
    Nowhere,
    Pilot {
        results: PathBuf,
        /// Items that were asked.
        asked: u64,
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
    Ok(learnt)
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
    let read = || -> io::Result<()> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            read_answered(&line).into_iter().for_each(&mut hear);
            line.clear();
        }
        Ok(())
    };
    let mut read = read;
    Ok(read().map_err(|error| unreadable(path, &error))?)
}
