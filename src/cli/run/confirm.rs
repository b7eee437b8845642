//! `--confirm-above`: what a run can cost is shown, and asked about, before it begins.

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use anyhow::Result;

use super::purse::Tariffs;
use crate::cli::args::RunArgs;
use crate::cli::progress::{CountingProgress, Style};
use crate::cli::refusal::Refusal;
use crate::cli::settings::RunSettings;
use crate::cli::terminal;
use crate::cli::validate::unreadable;
use crate::estimate::{Asked, Counted, Job, Model, count};
use crate::input::{Census, Reader};
use crate::output::Finished;
use crate::tokenizer::Counter;
use crate::words::human::{self, thousands, usd};
use crate::words::money::Usd;
use crate::words::tariff::Tariff;
use crate::words::tokens::Tokens;

/// What a run can cost.
struct Outlook {
    items: u64,
    prompt: Tokens,
    /// What the prompts cost, and the most that all of it can; `None` where it is not known.
    input: Option<Usd>,
    most: Option<Usd>,
}

/// Asks whether the run may begin, where it can cost more than the user allowed. On a terminal a
/// person answers; elsewhere the run is refused.
pub fn confirm(
    args: &RunArgs,
    settings: &RunSettings,
    census: Option<&Census>,
    finished: &Finished,
) -> Result<()> {
    let Some(threshold) = settings.confirm_above.filter(|_| !args.yes) else {
        return Ok(());
    };
    let Some(census) = census else {
        let what = "--confirm-above needs a file: what can be read only once cannot be estimated";
        return Err(Refusal::new(what)
            .hint("--yes goes on without an estimate")
            .into());
    };
    let outlook = look_ahead(args, settings, census, finished)?;
    if outlook.most.is_some_and(|most| most <= threshold) {
        return Ok(());
    }
    let what = describe(&outlook, threshold);
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let hint = "there is no terminal to ask on; --yes goes on all the same";
        return Err(Refusal::new(what).hint(hint).into());
    }
    terminal::line(&what);
    match ask("go on? [y/N] ") {
        true => Ok(()),
        false => Err(Refusal::new("not confirmed, so nothing was sent").into()),
    }
}

/// Counts what is left to be asked.
fn look_ahead(
    args: &RunArgs,
    settings: &RunSettings,
    census: &Census,
    finished: &Finished,
) -> Result<Outlook> {
    let mut tariffs = Tariffs::new(settings);
    let models: HashMap<_, _> = census
        .models
        .keys()
        .map(|name| (name.clone(), model(name, tariffs.of(name).as_deref())))
        .collect();
    let job = Job {
        // A name that the check did not see is of a file that changed, which reading finds out.
        model: &|name| {
            models
                .get(name)
                .cloned()
                .unwrap_or_else(|| model(name, None))
        },
        compared: &[],
        said: None,
        alike: None,
        settled: &HashSet::new(),
        sampled: &HashSet::new(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let cannot = |error| unreadable(&settings.input, &error);
    let mut reader = Reader::open(&settings.input, &settings.defaults, census).map_err(cannot)?;
    let limit = settings.limit.unwrap_or(u64::MAX);
    let source = || {
        while let Some(item) = reader.next_item(limit)? {
            if finished.row(item.index, &item.id).is_none() {
                return Ok(Some(Asked {
                    item,
                    is_repeated: false,
                }));
            }
        }
        Ok(None)
    };
    let style = Style::choose(args.progress, args.quiet);
    let mut progress = CountingProgress::new(style, census.lines.min(limit));
    let counted = count(&job, source, |done| progress.tell(done));
    progress.finish();
    Ok(Outlook::of(&counted.map_err(cannot)?))
}

/// Returns what the count needs to know of a model.
fn model(name: &Arc<str>, tariff: Option<&Tariff>) -> Model {
    Model {
        name: name.clone(),
        counter: Counter::of(name),
        price: tariff.map(|tariff| tariff.price.clone()),
        max_input: tariff.and_then(|tariff| tariff.max_input),
        max_output: tariff.and_then(|tariff| tariff.max_output),
    }
}

impl Outlook {
    fn of(counted: &Counted) -> Self {
        let lanes = || counted.own.values();
        let input = lanes()
            .map(|lane| lane.all.input_cost(lane.model.price.as_ref()?, false))
            .sum::<Option<Usd>>();
        let answers = lanes()
            .map(|lane| lane.all.most_output_cost(lane.model.price.as_ref()?, false))
            .sum::<Option<Usd>>();
        Outlook {
            items: counted.items,
            prompt: lanes().map(|lane| lane.all.sums().prompt).sum(),
            input,
            most: input.zip(answers).map(|(input, answers)| input + answers),
        }
    }
}

fn describe(outlook: &Outlook, threshold: Usd) -> String {
    let asked = format!(
        "{}, {} prompt tokens",
        human::count(outlook.items, "item"),
        thousands(outlook.prompt.0)
    );
    match (outlook.input, outlook.most) {
        (_, Some(most)) => format!(
            "{asked}: this can cost up to about {}, and --confirm-above is {}",
            usd(most),
            usd(threshold)
        ),
        (Some(input), None) => format!(
            "{asked}: the prompts cost about {}, and nothing limits the answers (--max-tokens does)",
            usd(input)
        ),
        (None, None) => format!("{asked}: what this costs is not known, since a price is missing"),
    }
}

fn ask(question: &str) -> bool {
    let mut stderr = io::stderr();
    let mut answer = String::new();
    let asked = write!(stderr, "{question}").and_then(|()| stderr.flush());
    let heard = asked.and_then(|()| io::stdin().read_line(&mut answer));
    heard.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}
