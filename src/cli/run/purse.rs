//! Money before the first request: what each model costs, and whether a budget can hold.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::cli::refusal::Refusal;
use crate::cli::settings::{BudgetSettings, RunSettings, Target};
use crate::cli::validate::unreadable;
use crate::engine::budget::{Budget, Limits};
use crate::input::{Census, ModelUse, Reader};
use crate::output::{Opened, Spent, each_row, read_answered};
use crate::words::human::{count, thousands, usd};
use crate::words::item::Item;
use crate::words::money::Usd;
use crate::words::price::Service;
use crate::words::tariff::{Boundless, Bounds, Tariff};
use crate::words::tokens::Tokens;

/// Prices of the models of one run, each looked up once.
pub struct Tariffs<'s> {
    settings: &'s RunSettings,
    known: HashMap<Arc<str>, Option<Arc<Tariff>>>,
}

impl<'s> Tariffs<'s> {
    pub fn new(settings: &'s RunSettings) -> Self {
        Tariffs {
            settings,
            known: HashMap::new(),
        }
    }

    /// Returns what is known of a model's money, if its price is.
    pub fn of(&mut self, model: &Arc<str>) -> Option<Arc<Tariff>> {
        if let Some(known) = self.known.get(model) {
            return known.clone();
        }
        let found = self.look_up(model).map(Arc::new);
        self.known.insert(model.clone(), found.clone());
        found
    }

    fn look_up(&self, model: &Arc<str>) -> Option<Tariff> {
        let (provider, most) = match &self.settings.target {
            Target::Endpoint { preset, .. } => (Some(preset.name), None),
            // Whatever model it plays, its answers have this limit.
            Target::Simulator(sim) => (None, Some(Tokens(sim.max_output))),
        };
        let quote = self.settings.pricing.quote(provider, model);
        Some(Tariff {
            model: model.clone(),
            price: quote.price?,
            max_input: quote.max_input,
            max_output: most.or(quote.max_output),
        })
    }
}

/// Refuses a budget that cannot hold, before any file is touched.
pub fn check_budget(settings: &RunSettings, census: Option<&Census>) -> Result<()> {
    let Some(budget) = &settings.budget else {
        return Ok(());
    };
    let mut tariffs = Tariffs::new(settings);
    if let Some(model) = &budget.downgrade {
        if model.is_empty() {
            return Err(Refusal::new("--downgrade names no model").into());
        }
        let tariff = tariffs.of(model).ok_or_else(|| unpriced(model, None))?;
        if tariff.max_output.is_none() && settings.max_tokens.is_none() {
            return Err(unlimited(model, None).into());
        }
        let asked = census.into_iter().flat_map(|census| census.models.keys());
        let asked: Vec<_> = asked.filter_map(|model| tariffs.of(model)).collect();
        refuse_dearer(&asked, &tariff)?;
    }
    let Some(census) = census else {
        return Ok(());
    };
    for (model, wanted) in &census.models {
        check_model(&mut tariffs, model, wanted)?;
    }
    if settings.mode != crate::output::StartMode::Resume {
        check_any_item_fits(settings, budget, census, &mut tariffs)?;
    }
    Ok(())
}

/// Refuses a model whose price, or whose most expensive answer, is not known.
fn check_model(tariffs: &mut Tariffs<'_>, model: &Arc<str>, wanted: &ModelUse) -> Result<()> {
    let tariff = tariffs
        .of(model)
        .ok_or_else(|| unpriced(model, Some(wanted.line)))?;
    let plain = Bounds::default();
    if wanted.unlimited.is_some() && tariff.worst_case(&plain) == Err(Boundless::Output) {
        return Err(unlimited(model, wanted.unlimited).into());
    }
    if let Some(line) = wanted.priority
        && tariff.price.tiers(Service::Priority).is_none()
    {
        let what = format!(
            "line {line}: --budget needs a price, and that of priority service by the model {model} is not known"
        );
        return Err(Refusal::new(what).hint(PRICE_HINT).into());
    }
    if let Some(line) = wanted.extras {
        let what = format!(
            "line {line}: --budget cannot hold where sound or a search is asked for, which are not priced by text tokens"
        );
        return Err(Refusal::new(what)
            .hint("run these lines by themselves, without --budget")
            .into());
    }
    Ok(())
}

/// Refuses a model that is cheaper than none of those that the lines ask for.
fn refuse_dearer(asked: &[Arc<Tariff>], other: &Tariff) -> Result<()> {
    let million = |tariff: &Tariff| {
        let rates = tariff.price.standard.base();
        (rates.input.million(), rates.output.million())
    };
    let (other_input, other_output) = million(other);
    let is_cheaper = |usual: &Arc<Tariff>| {
        let (input, output) = million(usual);
        other_input <= input
            && other_output <= output
            && (other_input, other_output) != (input, output)
    };
    let Some(usual) = asked.first().filter(|_| !asked.iter().any(is_cheaper)) else {
        return Ok(());
    };
    let (input, output) = million(usual);
    let what = format!(
        "--downgrade {} is not cheaper than {}",
        other.model, usual.model
    );
    let hint = format!(
        "per million tokens it costs {} in and {} out, against {} and {}",
        usd(other_input),
        usd(other_output),
        usd(input),
        usd(output)
    );
    Err(Refusal::new(what).hint(hint).into())
}

const PRICE_HINT: &str = "--price-in USD --price-out USD give it per million tokens; --prices FILE reads a table; llmbatch models lists what is known";

fn unpriced(model: &str, line: Option<u64>) -> Refusal {
    let place = line.map_or(String::new(), |line| format!("line {line}: "));
    Refusal::new(format!(
        "{place}--budget needs a price, and that of the model {model} is not known"
    ))
    .hint(PRICE_HINT)
}

fn unlimited(model: &str, line: Option<u64>) -> Refusal {
    let place = line.map_or(String::new(), |line| format!("line {line}: "));
    Refusal::new(format!(
        "{place}--budget needs a limit on answers, and nothing limits those of the model {model}"
    ))
    .hint("--max-tokens N sets one")
}

/// Refuses a budget that is too small for every item. Where only some are too dear, they become
/// rows of the errors file.
fn check_any_item_fits(
    settings: &RunSettings,
    budget: &BudgetSettings,
    census: &Census,
    tariffs: &mut Tariffs<'_>,
) -> Result<()> {
    let cannot = |error| unreadable(&settings.input, &error);
    let reader = Reader::open(&settings.input, &settings.defaults, census);
    let mut reader = reader.map_err(cannot)?;
    let mut first = None;
    let limit = settings.limit.unwrap_or(u64::MAX);
    while let Some(mut item) = reader.next_item(limit).map_err(cannot)? {
        item.tariff = tariffs.of(&item.model);
        match item.worst_case() {
            Ok(worst) if worst > budget.limit => drop(first.get_or_insert((item, worst))),
            _ => return Ok(()),
        }
    }
    first.map_or(Ok(()), |(item, worst)| {
        Err(too_small(budget, item, worst).into())
    })
}

fn too_small(budget: &BudgetSettings, item: Item, worst: Usd) -> Refusal {
    let what = format!(
        "a budget of {} is smaller than one item: line {} can cost {}",
        usd(budget.limit),
        item.line,
        usd(worst)
    );
    let longest = item.tariff.and_then(|tariff| tariff.max_output);
    let hint = match (item.bounds.output, longest) {
        (None, Some(longest)) => format!(
            "--max-tokens N limits the answer, which can have {} tokens otherwise",
            thousands(longest.0)
        ),
        _ => "a larger --budget, or a smaller limit on the answer's tokens".to_owned(),
    };
    Refusal::new(what).hint(hint)
}

/// Opens the accounts of a run with a budget, with what earlier runs of this output spent. Where
/// nobody knows what that was, the most counts, and the output's notes say so.
pub fn open_budget(
    settings: &RunSettings,
    census: Option<&Census>,
    opened: &mut Opened,
) -> Result<Option<Arc<Budget>>> {
    let Some(budget) = &settings.budget else {
        return Ok(None);
    };
    let mut tariffs = Tariffs::new(settings);
    let limits = Limits {
        limit: budget.limit,
        warn_at: budget.limit.share(budget.warn_percent, 100),
        slots: settings.engine.concurrency as u64,
        downgrade: budget
            .downgrade
            .as_ref()
            .and_then(|model| tariffs.of(model)),
    };
    let before = &mut opened.spent_before;
    if let (Some(results), Some(census)) = (&settings.paths.results, census) {
        price_rows(results, census, &mut tariffs, before)?;
    }
    if before.unpriced > 0 {
        let requests = count(before.unpriced, "request");
        let census = census.ok_or_else(|| {
            Refusal::new(format!(
                "what {requests} of earlier runs cost is not known, and nothing bounds it without a file of items"
            ))
            .hint("go on without --budget, or from a file")
        })?;
        let lost = dearest(census, &mut tariffs).times(before.unpriced);
        opened.notes.push(format!(
            "what {requests} of earlier runs cost is not known; up to {} counts as spent",
            usd(lost)
        ));
        before.at_risk += lost;
        before.unpriced = 0;
    }
    Ok(Some(Budget::open(limits, before.cost, before.at_risk)))
}

/// Gives rows of earlier runs their price where it was not known then, or their form does not say.
/// Only where all items ask one model is it certain which one a row is of.
fn price_rows(
    results: &Path,
    census: &Census,
    tariffs: &mut Tariffs<'_>,
    before: &mut Spent,
) -> Result<()> {
    let mut models = census.models.keys();
    let (Some(model), None) = (models.next(), models.next()) else {
        return Ok(());
    };
    let Some(tariff) = tariffs.of(model).filter(|_| before.unpriced > 0) else {
        return Ok(());
    };
    let all_forms = before.cost == Usd::ZERO;
    let read = each_row(results, |line| {
        let row = read_answered(line).filter(|row| row.cost.is_none());
        let row = row.filter(|row| all_forms || row.latency.is_some());
        let cost = row.and_then(|row| tariff.price.cost(&row.usage?));
        if let Some(cost) = cost.filter(|_| before.unpriced > 0) {
            before.cost += cost;
            before.unpriced -= 1;
        }
    });
    Ok(read.map_err(|error| unreadable(results, &error))?)
}

/// Returns the most that any request of the file can cost.
fn dearest(census: &Census, tariffs: &mut Tariffs<'_>) -> Usd {
    let most = |(model, wanted): (&Arc<str>, &ModelUse)| {
        let tariff = tariffs.of(model)?;
        let bounds = &wanted.bounds;
        let by_model = || Some(tariff.max_output?.times(bounds.choices));
        let unlimited = wanted.unlimited.and_then(|_| by_model());
        let output = unlimited
            .unwrap_or_default()
            .max(bounds.output.unwrap_or_default());
        let services = [
            Some(Service::Standard),
            wanted.priority.map(|_| Service::Priority),
        ];
        let cost = |service| {
            let bounds = Bounds { service, ..*bounds };
            tariff.most(&bounds, output).ok()
        };
        services.into_iter().flatten().filter_map(cost).max()
    };
    let models = census.models.iter();
    models.filter_map(most).max().unwrap_or_default()
}
