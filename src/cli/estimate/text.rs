//! The estimate as people read it. What is exact, estimated or a bound says so.

use std::collections::BTreeSet;
use std::time::Duration;

use super::experience::Origin;
use super::report::{Answers, Choice, Cost, Report};
use crate::estimate::{Interval, Pace, Places, Wall};
use crate::words::human::{count, duration, thousands, usd};
use crate::words::money::Usd;
use crate::words::tokens::Tokens;

const UNKNOWN: &str = "unknown";
const NONE: &str = "–";

/// Writes the estimate.
pub fn write(report: &Report<'_>) -> String {
    let mut lines = vec![headline(report), answers_line(report), String::new()];
    lines.extend(table(&report.choices, report.answers));
    if !report.parts.is_empty() {
        lines.push("of which".to_owned());
        lines.extend(table(&report.parts, report.answers).into_iter().skip(1));
    }
    lines.push(String::new());
    lines.extend(report.alike.map(|each| {
        let each = thousands(each.0);
        format!(
            "ratio   at answers of the same length, {each} tokens where nothing else bounds them"
        )
    }));
    lines.push(time_line(report));
    lines.extend(fit_lines(report));
    lines.extend(duplicates_line(report));
    lines.extend(basis_lines(report));
    lines.extend(price_lines(report));
    lines.extend(pilot_line(report));
    lines.join("\n")
}

fn headline(report: &Report<'_>) -> String {
    let own = report.own();
    let exactness = match own.exact {
        _ if own.items == 0 => "none",
        exact if exact == own.items => "exact",
        0 => "an estimate",
        _ => "partly an estimate",
    };
    let left_out = match report.left_out {
        0 => String::new(),
        lines => format!(", {} left out", count(lines, "bad line")),
    };
    format!(
        "{}: {}, {} prompt tokens ({exactness}){left_out}",
        report.question.input,
        count(report.items, "item"),
        thousands(own.prompt.0),
    )
}

fn answers_line(report: &Report<'_>) -> String {
    match report.answers {
        Answers::Said { each, all } => format!(
            "answers {} tokens each, as you say: {} in all",
            thousands(each.0),
            thousands(all.0)
        ),
        Answers::Bound { unbounded: 0, all } => format!(
            "answers at most {} tokens, by max_tokens or else by what the model can say: a bound, not an estimate",
            thousands(all.0)
        ),
        Answers::Bound { unbounded, .. } => format!(
            "answers of unknown length: nothing bounds those of {} (--max-tokens N does)",
            count(unbounded, "item")
        ),
        Answers::Forecast(forecast) => {
            let from = match &report.learnt.origin {
                Origin::Results { path, used, rows } => format!(
                    "from {} of {} in {}",
                    thousands(*used),
                    count(*rows, "result"),
                    path.display()
                ),
                _ => format!("from a pilot of {}", count(forecast.answers, "answer")),
            };
            format!(
                "answers {} tokens (90% {}), {from}: {} each (90% {})",
                tokens(forecast.output.mean),
                between(&forecast.output, tokens),
                each(forecast.output_each.mean),
                between(&forecast.output_each, each),
            )
        }
    }
}

fn tokens(figure: f64) -> String {
    thousands(figure.round().max(0.0) as u64)
}

/// One decimal where it says something.
fn each(figure: f64) -> String {
    match figure {
        0.0..100.0 => format!("{figure:.1}"),
        _ => tokens(figure),
    }
}

fn between(interval: &Interval, write: fn(f64) -> String) -> String {
    format!("{} to {}", write(interval.low), write(interval.high))
}

fn table(choices: &[Choice<'_>], answers: Answers<'_>) -> Vec<String> {
    let is_forecast = matches!(answers, Answers::Forecast(_));
    let mut heading = vec!["model", "prompt tokens", "input", "output", "real time"];
    if is_forecast {
        heading.push("90% between");
    }
    heading.extend(["batch API", "ratio"]);
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(choices.iter().map(|choice| row(choice, answers)));
    aligned(&rows)
}

fn row(choice: &Choice<'_>, answers: Answers<'_>) -> Vec<String> {
    let at_most = match answers {
        Answers::Bound { .. } => "≤ ",
        _ => "",
    };
    let money = |amount: Option<Usd>| amount.map_or(NONE.to_owned(), usd);
    let most = |amount: Option<Usd>| {
        amount.map_or(NONE.to_owned(), |amount| {
            format!("{at_most}{}", usd(amount))
        })
    };
    let sum = |cost: Option<Cost>| most(cost.map(|cost| cost.usd));
    let about = if choice.exact == choice.items {
        ""
    } else {
        "~"
    };
    let mut row = vec![
        choice.name.to_owned(),
        format!("{about}{}", thousands(choice.prompt.0)),
        money(choice.input),
        most(choice.output),
        match choice.input {
            None => UNKNOWN.to_owned(),
            Some(_) => sum(choice.real_time),
        },
    ];
    if matches!(answers, Answers::Forecast(_)) {
        let range = choice.real_time.and_then(|cost| cost.range);
        row.push(range.map_or(NONE.to_owned(), |(low, high)| {
            format!("{} and {}", usd(low), usd(high))
        }));
    }
    row.push(sum(choice.batch));
    row.push(choice.ratio.map_or(NONE.to_owned(), |ratio| match ratio {
        0.0..9.95 => format!("{ratio:.1}×"),
        _ => format!("{ratio:.0}×"),
    }));
    row
}

/// Writes columns: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn time_line(report: &Report<'_>) -> String {
    let pace = &report.question.pace;
    let Some((usual, binds)) = report.walls.usual.longest() else {
        return "time    not known: --rpm, --tpm or --pilot say what binds it".to_owned();
    };
    let longest = |wall: Wall| wall.longest().map(|(time, _)| time);
    let (low, high) = (
        longest(report.walls.low),
        report.walls.high.and_then(longest),
    );
    let span = match (report.answers, high) {
        (Answers::Forecast(_), Some(high)) => {
            let low = low.unwrap_or(usual);
            format!("{}{}", duration(usual), spread(low, usual, high))
        }
        (Answers::Bound { .. }, Some(high)) if high > usual => format!(
            "at least {}, at most {} if every answer has its full length",
            duration(usual),
            duration(high)
        ),
        _ => format!("at least {}", duration(usual)),
    };
    let latency = match report.walls.usual.concurrency {
        Some(_) => "",
        None => "; how long an answer takes is not known",
    };
    format!(
        "time    at {}: {span}, bound by {}{latency}",
        limits(pace),
        binds.words()
    )
}

fn spread(low: Duration, usual: Duration, high: Duration) -> String {
    match low == usual && high == usual {
        true => String::new(),
        false => format!(" (90% {} to {})", duration(low), duration(high)),
    }
}

fn limits(pace: &Pace) -> String {
    let mut limits = Vec::new();
    limits.extend(pace.rpm.map(|rpm| format!("{} RPM", thousands(rpm.into()))));
    limits.extend(pace.tpm.map(|tpm| format!("{} TPM", thousands(tpm.into()))));
    limits.push(format!("{} in flight", thousands(pace.concurrency)));
    limits.join(", ")
}

fn fit_lines(report: &Report<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for choice in &report.choices {
        for lane in &choice.lanes {
            let Some(window) = lane.model.max_input else {
                continue;
            };
            let model = format!("{}'s {} tokens", lane.model.name, thousands(window.0));
            if lane.too_long.count > 0 {
                let items = count(lane.too_long.count, "item");
                lines.push(format!(
                    "fit     {items} above {model} ({})",
                    places(&lane.too_long)
                ));
            }
            if lane.tight.count > 0 {
                let items = count(lane.tight.count, "item");
                lines.push(format!(
                    "fit     {items} above {model} together with max_tokens ({})",
                    places(&lane.tight)
                ));
            }
        }
    }
    lines
}

fn places(places: &Places) -> String {
    let word = if places.count == 1 { "line" } else { "lines" };
    let numbers: Vec<_> = places.lines().map(thousands).collect();
    let more = match places.count - numbers.len() as u64 {
        0 => String::new(),
        more => format!(" and {} more", thousands(more)),
    };
    format!("{word} {}{more}", numbers.join(" "))
}

fn duplicates_line(report: &Report<'_>) -> Option<String> {
    let repeated = &report.repeated;
    if repeated.items == 0 {
        return None;
    }
    let Tokens(prompt) = repeated.prompt;
    let cost = match (repeated.usd, report.answers) {
        (None, _) => String::new(),
        (Some(cost), Answers::Bound { .. }) => format!(", {} without their answers", usd(cost)),
        (Some(cost), _) => format!(", {}", usd(cost)),
    };
    Some(format!(
        "also    {} equal to an earlier one: a cache would save {} prompt tokens{cost}",
        count(repeated.items, "item"),
        thousands(prompt)
    ))
}

/// Says what counts rest on, once for each basis.
fn basis_lines(report: &Report<'_>) -> Vec<String> {
    let mut bases: Vec<(String, BTreeSet<&str>)> = Vec::new();
    for lane in report.choices.iter().flat_map(|choice| &choice.lanes) {
        let words = lane.model.counter.words();
        match bases.iter_mut().find(|(known, _)| *known == words) {
            Some((_, models)) => drop(models.insert(&lane.model.name)),
            None => bases.push((words, BTreeSet::from([&*lane.model.name]))),
        }
    }
    let line = |(words, models): (String, BTreeSet<&str>)| {
        let shown: Vec<_> = models.iter().take(3).copied().collect();
        let more = match models.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("counts  {}{more}: by {words}", shown.join(", "))
    };
    let mut lines: Vec<_> = bases.into_iter().map(line).collect();
    // Only where the model's own rule is known: what another maker's model counts is a guess anyway.
    let ruled = report.own().lanes.iter().filter(|lane| lane.exact > 0);
    let guessed: u64 = ruled.map(|lane| lane.all.sums().items - lane.exact).sum();
    if guessed > 0 {
        lines.push(format!(
            "counts  {} with pictures, nested tools or schemas: no rule is published",
            count(guessed, "item")
        ));
    }
    lines
}

fn price_lines(report: &Report<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let lanes = || report.choices.iter().flat_map(|choice| &choice.lanes);
    let unknown: BTreeSet<&str> = lanes()
        .filter(|lane| lane.model.price.is_none())
        .map(|lane| &*lane.model.name)
        .collect();
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.into_iter().collect();
        lines.push(format!(
            "prices  unknown for {}: --price-in USD --price-out USD give them per 1M tokens, --prices FILE reads a list",
            names.join(", ")
        ));
    }
    for choice in &report.choices {
        if let Some(day) = choice.retires {
            let is = if day <= report.question.today {
                "is not served since"
            } else {
                "is served until"
            };
            lines.push(format!("prices  {} {is} {day}", choice.name));
        }
    }
    lines
}

fn pilot_line(report: &Report<'_>) -> Option<String> {
    match &report.learnt.origin {
        Origin::Pilot {
            results,
            asked,
            failed,
        } => {
            let failed = match failed {
                0 => String::new(),
                failed => format!(
                    ", {} without a result, counted at what they cost all the same",
                    thousands(*failed)
                ),
            };
            Some(format!(
                "pilot   {} asked{failed}; the answers are in {}, and `run --resume` with the same flags goes on from there",
                count(*asked, "item"),
                results.display()
            ))
        }
        _ => None,
    }
}
