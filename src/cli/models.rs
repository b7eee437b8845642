//! `llmbatch models`: what models cost and how much they take in, as a table or as a price file.

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::args::ModelsArgs;
use super::refusal::Refusal;
use super::{Exit, pricing, terminal};
use crate::prices::{self, Book, Model};
use crate::words::human::{count, printable};
use crate::words::money::Rate;
use crate::words::price::Price;
use crate::words::tokens::Tokens;

/// The columns of a usual wide terminal.
const WIDTH: usize = 120;
const GAP: &str = "  ";

/// The headings, in two lines.
const HEADINGS: [[&str; 10]; 2] = [
    ["", "", "", "", "", "batch", "batch", "max", "max", ""],
    [
        "model", "provider", "input", "cached", "output", "input", "output", "input", "output",
        "note",
    ],
];

/// Lists the models whose name or provider holds a pattern.
pub fn models(args: &ModelsArgs) -> Result<Exit> {
    let book = pricing::book(args.prices.as_deref())?;
    let pattern = args.pattern.as_deref().unwrap_or_default().to_lowercase();
    let holds = |text: &str| text.to_lowercase().contains(&pattern);
    let fits = |model: &&Model| holds(&model.name) || model.provider.as_deref().is_some_and(holds);
    let models: Vec<_> = book.models().filter(fits).collect();
    if models.is_empty() {
        let all = count(book.models().count() as u64, "model");
        let refusal = Refusal::new(format!("none of {all} holds {pattern:?}"));
        return Err(refusal.hint("llmbatch models lists them all").into());
    }
    let text = match args.json {
        true => prices::to_json(&models, book.date(), &sources(&book, args)),
        false => {
            let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
            printable(&format!(
                "{}\n{}",
                table(&models, today),
                footer(&book, models.len(), args)
            ))
        }
    };
    terminal::print(&text).context("failed to print the models")?;
    Ok(Exit::Done)
}

/// Lays the models out in columns. A name too long for its column stands on a line of its own.
fn table(models: &[&Model], today: Date) -> String {
    let cells = models.iter().map(|model| row(model, today));
    let headings = HEADINGS.map(|line| line.map(str::to_owned));
    let rows: Vec<_> = headings.into_iter().chain(cells).collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let mut widths: [usize; 10] = std::array::from_fn(width);
    let others: usize = widths[1..].iter().map(|width| width + GAP.len()).sum();
    widths[0] = widths[0].min(WIDTH.saturating_sub(others).max(20));
    rows.iter().map(|row| line(row, &widths) + "\n").collect()
}

fn line(row: &[String; 10], widths: &[usize; 10]) -> String {
    let name = &row[0];
    let mut line = format!("{name:<0$}", widths[0]);
    if name.chars().count() > widths[0] {
        line.push('\n');
        line.push_str(&" ".repeat(widths[0]));
    }
    for (column, (cell, width)) in row.iter().zip(widths).enumerate().skip(1) {
        line.push_str(GAP);
        match column {
            1 | 9 => line.push_str(&format!("{cell:<width$}")),
            _ => line.push_str(&format!("{cell:>width$}")),
        }
    }
    line.trim_end().to_owned()
}

fn row(model: &Model, today: Date) -> [String; 10] {
    let price = model.price.as_deref();
    let standard = price.map(|price| price.standard.base());
    let batch = price.and_then(|price| Some(price.batch.as_ref()?.base()));
    let cost = |rate: Option<Rate>| rate.map_or("-".into(), |rate| rate.million().to_string());
    let size = |tokens: Option<Tokens>| tokens.map_or("-".into(), short);
    [
        model.name.clone(),
        model.provider.clone().unwrap_or("any".into()),
        cost(standard.map(|rates| rates.input)),
        cost(standard.and_then(|rates| rates.cached)),
        cost(standard.map(|rates| rates.output)),
        cost(batch.map(|rates| rates.input)),
        cost(batch.map(|rates| rates.output)),
        size(model.max_input),
        size(model.max_output),
        note(model, price, today),
    ]
}

/// Tells of prices for long prompts, and of the last day.
fn note(model: &Model, price: Option<&Price>, today: Date) -> String {
    let steps = price.map_or(&[][..], |price| price.standard.above());
    let mut notes: Vec<_> = steps
        .iter()
        .map(|(border, rates)| {
            let (input, output) = (rates.input.million(), rates.output.million());
            format!(">{}: {input}/{output}", short(*border))
        })
        .collect();
    if let Some(date) = model.retires {
        let verb = if date > today { "retires" } else { "retired" };
        notes.push(format!("{verb} {date}"));
    }
    notes.join(", ")
}

/// Writes an amount of tokens in three digits: `8.19k`, `128k`, `1.05M`.
fn short(tokens: Tokens) -> String {
    let (unit, sign) = match tokens.0 {
        0..1_000 => return tokens.0.to_string(),
        1_000..999_500 => (1_000, "k"),
        _ => (1_000_000, "M"),
    };
    let decimals = match tokens.0 / unit {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    let number = format!("{:.decimals$}", tokens.0 as f64 / unit as f64);
    let number = match decimals {
        0 => &number,
        _ => number.trim_end_matches('0').trim_end_matches('.'),
    };
    format!("{number}{sign}")
}

/// Tells where the figures of a price file that is printed are from.
fn sources(book: &Book, args: &ModelsArgs) -> String {
    let path = args.prices.iter().map(|path| path.display().to_string());
    let all: Vec<_> = path.chain([book.source().to_owned()]).collect();
    all.join("; then ")
}

fn footer(book: &Book, listed: usize, args: &ModelsArgs) -> String {
    let mut lines = vec![format!(
        "{}, USD per 1M tokens; - is unknown, which is not zero",
        count(listed as u64, "model")
    )];
    if let (Some(file), Some(path)) = (book.file(), &args.prices) {
        let date = file.date.map(|date| date.to_string());
        let about: Vec<_> = [date, file.source.clone()].into_iter().flatten().collect();
        let about = match about.is_empty() {
            true => String::new(),
            false => format!(" ({})", about.join(", ")),
        };
        let models = count(file.models().len() as u64, "model");
        let path = path.display();
        lines.push(format!(
            "{models} of {path}{about} before the built-in ones"
        ));
    }
    let date = book
        .date()
        .map_or("no date".into(), |date| date.to_string());
    lines.push(format!("built-in prices of {date}: {}", book.source()));
    lines.push("prices change: --prices FILE puts your own before these".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_limits_are_short() {
        for (tokens, text) in [
            (512, "512"),
            (1_000, "1k"),
            (8_191, "8.19k"),
            (16_384, "16.4k"),
            (100_000, "100k"),
            (272_000, "272k"),
            (999_999, "1M"),
            (1_047_576, "1.05M"),
            (10_000_000, "10M"),
        ] {
            assert_eq!(short(Tokens(tokens)), text);
        }
    }

    #[test]
    fn a_last_day_is_told_from_both_sides() {
        let model = Book::builtin().find(Some("openai"), "gpt-5").unwrap();
        let note = |day: &str| note(model, None, day.parse().unwrap());
        assert_eq!(note("2026-12-10"), "retires 2026-12-11");
        assert_eq!(note("2026-12-11"), "retired 2026-12-11");
    }

    #[test]
    fn the_table_fits_a_wide_terminal() {
        let models: Vec<_> = Book::builtin().models().collect();
        let text = table(&models, "2026-11-22".parse().unwrap());
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
