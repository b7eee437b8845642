//! Money before the first request: what each model costs, and whether a budget can hold.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;

use crate::cli::refusal::Refusal;
use crate::cli::settings::{BudgetSettings, RunSettings, Target};
use crate::engine::budget::{Budget, Limits};
use crate::input::{Census, ModelUse, Reader};
use crate::output::Opened;
use crate::words::human::{count, thousands, usd};
use crate::words::item::{Entry, Item};
use crate::words::money::Usd;
use crate::words::price::{Service, Tariff};
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
        let tariff = tariffs.of(model).ok_or_else(|| unpriced(model))?;
        if tariff.max_output.is_none() && settings.max_tokens.is_none() {
            return Err(unlimited(model, None).into());
        }
        let usual = settings.defaults.model.as_ref();
        if let Some(usual) = usual.and_then(|usual| tariffs.of(usual)) {
            refuse_dearer(&usual, &tariff)?;
        }
    }
    let Some(census) = census else {
        return Ok(());
    };
    for (model, wanted) in &census.models {
        let tariff = tariffs.of(model).ok_or_else(|| unpriced(model))?;
        if tariff.max_output.is_none() && wanted.first_unlimited.is_some() {
            return Err(unlimited(model, wanted.first_unlimited).into());
        }
    }
    if settings.mode != crate::output::StartMode::Resume {
        check_first_item(settings, budget, census, &mut tariffs)?;
    }
    Ok(())
}

fn refuse_dearer(usual: &Tariff, other: &Tariff) -> Result<()> {
    let million = |tariff: &Tariff| {
        let rates = tariff.price.standard.base();
        (rates.input.million(), rates.output.million())
    };
    let ((input, output), (other_input, other_output)) = (million(usual), million(other));
    if other_input < input || other_output < output {
        return Ok(());
    }
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

fn unpriced(model: &str) -> Refusal {
    Refusal::new(format!(
        "--budget needs a price, and that of the model {model} is not known"
    ))
    .hint(
        "--price-in USD --price-out USD give it per million tokens; --prices FILE reads a table; \
         llmbatch models lists what is known",
    )
}

fn unlimited(model: &str, line: Option<u64>) -> Refusal {
    let place = line.map_or(String::new(), |line| format!("line {line}: "));
    Refusal::new(format!(
        "{place}--budget needs a limit on answers, and nothing limits those of the model {model}"
    ))
    .hint("--max-tokens N sets one")
}

fn check_first_item(
    settings: &RunSettings,
    budget: &BudgetSettings,
    census: &Census,
    tariffs: &mut Tariffs<'_>,
) -> Result<()> {
    let Some(mut item) = first_item(settings, census)? else {
        return Ok(());
    };
    item.tariff = tariffs.of(&item.model);
    let Some(worst) = item.worst_case() else {
        let what = format!(
            "--budget needs a price, and line {} asks for a service of the model {} whose price is not known",
            item.line, item.model
        );
        return Err(Refusal::new(what).into());
    };
    if worst <= budget.limit {
        return Ok(());
    }
    let what = format!(
        "a budget of {} is smaller than one item: line {} can cost {}",
        usd(budget.limit),
        item.line,
        usd(worst)
    );
    let hint = match item.max_output {
        Some(_) => "a larger --budget, or a smaller limit on the answer's tokens".to_owned(),
        None => format!(
            "--max-tokens N limits the answer, which can have {} tokens otherwise",
            thousands(item.output_bound().unwrap_or_default().0)
        ),
    };
    Err(Refusal::new(what).hint(hint).into())
}

fn first_item(settings: &RunSettings, census: &Census) -> Result<Option<Item>> {
    let cannot = |error| crate::cli::validate::unreadable(&settings.input, &error);
    let reader = Reader::open(&settings.input, &settings.defaults, census);
    let mut reader = reader.map_err(cannot)?;
    while let Some(entry) = reader.next_entry().map_err(cannot)? {
        if let Entry::Item(item) = entry {
            return Ok(Some(item));
        }
    }
    Ok(None)
}

/// Opens the accounts of a run with a budget, with what earlier runs of this output spent. Where
/// nobody knows what that was, the most counts, and the output's notes say so.
pub fn open_budget(
    settings: &RunSettings,
    census: Option<&Census>,
    opened: &mut Opened,
) -> Option<Arc<Budget>> {
    let budget = settings.budget.as_ref()?;
    let mut tariffs = Tariffs::new(settings);
    let limits = Limits {
        limit: budget.limit,
        warn_at: budget.limit.share(budget.warn_percent, 100),
        downgrade: budget
            .downgrade
            .as_ref()
            .and_then(|model| tariffs.of(model)),
    };
    let lost = census.map_or(Usd::ZERO, |census| {
        dearest(census, &mut tariffs).times(opened.unaccounted)
    });
    if lost > Usd::ZERO {
        opened.notes.push(format!(
            "what {} of earlier runs cost is not known; up to {} counts as spent",
            count(opened.unaccounted, "request"),
            usd(lost)
        ));
    }
    let before = &mut opened.spent_before;
    before.at_risk += lost;
    before.unpriced = 0;
    Some(Budget::open(limits, before.cost, before.at_risk))
}

/// Returns the most that any request of the file can cost.
fn dearest(census: &Census, tariffs: &mut Tariffs<'_>) -> Usd {
    let most = |(model, wanted): (&Arc<str>, &ModelUse)| {
        let tariff = tariffs.of(model)?;
        let output = tariff
            .max_output
            .filter(|_| wanted.first_unlimited.is_some());
        let output = output.unwrap_or_default().max(wanted.highest_limit);
        let prompt = Tokens(wanted.longest);
        tariff.price.most(prompt, output, Service::Standard)
    };
    census
        .models
        .iter()
        .filter_map(most)
        .max()
        .unwrap_or_default()
}
