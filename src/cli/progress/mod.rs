//! Progress on standard error: a bar, plain lines, or JSON.              [the only indicatif]

mod counting;
mod state;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

pub use counting::CountingProgress;
use state::{cells, fit};

use super::args::ProgressArg;
use super::summary::Tally;
use super::terminal::{self, QuietEcho};
use crate::words::event::{Event, Gauges};
use crate::words::human::{count, duration, one_line, thousands, usd};
use crate::words::money::Usd;
use crate::words::record::ErrorStatus;

/// Rates are means over this time.
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// What the oldest request may take of a plain line, since an id may be long.
const LOG_WIDTH: usize = 80;
/// Between facts that stand in one line.
const GAP: &str = "   ";

/// How much is told beside the progress itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    Usual,
    /// Also every retry and every push-back.
    Verbose,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bar,
    Log,
    Json,
    Silent,
}

impl Style {
    /// Chooses: a bar on a terminal, plain lines elsewhere.
    pub fn choose(typed: ProgressArg, quiet: bool) -> Self {
        match typed {
            _ if quiet => Style::Silent,
            ProgressArg::None => Style::Silent,
            ProgressArg::Bar => Style::Bar,
            ProgressArg::Log => Style::Log,
            ProgressArg::Json => Style::Json,
            ProgressArg::Auto if std::io::stderr().is_terminal() => Style::Bar,
            ProgressArg::Auto => Style::Log,
        }
    }

    fn interval(self) -> Duration {
        match self {
            Style::Bar => Duration::from_millis(100),
            Style::Json => Duration::from_secs(1),
            Style::Log => Duration::from_secs(30),
            Style::Silent => Duration::from_secs(3600),
        }
    }
}

/// What was counted at a moment.
struct Sample {
    at: Instant,
    sent: u64,
    tokens: u64,
    settled: u64,
}

/// Figures of the recent past.
struct Rates {
    requests_per_minute: f64,
    tokens_per_minute: f64,
    items_per_second: f64,
}

/// The money that a run began with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Purse {
    /// What earlier runs of the same output spent.
    pub spent_before: Usd,
    pub limit: Option<Usd>,
}

/// Shows how a run is going.
pub struct Progress {
    style: Style,
    verbosity: Verbosity,
    bar: ProgressBar,
    /// Held while a bar stands.
    echo: Option<QuietEcho>,
    gauges: Arc<Gauges>,
    /// Items to be done in this run, if the input can be counted.
    total: Option<u64>,
    purse: Purse,
    samples: VecDeque<Sample>,
    next: Instant,
}

impl Progress {
    pub fn new(
        style: Style,
        verbosity: Verbosity,
        total: Option<u64>,
        purse: Purse,
        gauges: Arc<Gauges>,
    ) -> Self {
        let bar = match style {
            Style::Bar => {
                ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10))
            }
            _ => ProgressBar::hidden(),
        };
        let template = match total {
            Some(_) => "{spinner} {prefix}  {wide_bar}  {msg}",
            None => "{spinner} {prefix}  {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        let now = Instant::now();
        let start = Sample {
            at: now,
            sent: 0,
            tokens: 0,
            settled: 0,
        };
        Progress {
            style,
            verbosity,
            bar,
            echo: (style == Style::Bar).then(QuietEcho::start).flatten(),
            gauges,
            total,
            purse,
            samples: VecDeque::from([start]),
            next: now + style.interval(),
        }
    }

    /// Returns when the next showing is due.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Tells of single events where the user asked for it, and of pauses always.
    pub fn hear(&mut self, event: &Event) {
        // The closing error says why; this says what the run still waits for.
        let in_flight = self.gauges.in_flight.value();
        if matches!(event, Event::Halted(_)) && in_flight > 0 {
            let calls = count(in_flight, "call");
            self.note(&format!(
                "stopping: waiting for {calls} in flight, which may be paid for"
            ));
        }
        if let Event::BudgetLow {
            spent,
            limit,
            downgrade,
        } = event
        {
            self.warn_of_budget(*spent, *limit, downgrade.as_deref());
        }
        self.tell_of_outage(event);
        if self.verbosity != Verbosity::Verbose {
            return;
        }
        match event {
            Event::Retried {
                id, failure, delay, ..
            } => self.note(&format!(
                "{id}: {}, again in {}: {}",
                failure.kind.words(),
                duration(*delay),
                failure.message
            )),
            Event::Throttled { id, failure, .. } => {
                self.note(&format!(
                    "{id}: pushed back ({}): {}",
                    failure.kind.words(),
                    failure.message
                ));
            }
            Event::Spared { id, failure, .. } => self.note(&format!(
                "{id}: {} in an outage, which costs it no attempt: {}",
                failure.kind.words(),
                failure.message
            )),
            Event::Paused { wait, failure } => {
                self.note(&format!(
                    "all requests pause for {} ({})",
                    duration(*wait),
                    failure.kind.words()
                ));
            }
            Event::Settled(..)
            | Event::OutageBegan(_)
            | Event::OutageEnded { .. }
            | Event::BudgetLow { .. }
            | Event::CeilingWanted
            | Event::Dropped(_)
            | Event::Unanswered(_)
            | Event::Halted(_) => {}
        }
    }

    /// Tells of an outage also where nobody asked for details: nothing else goes on meanwhile.
    fn tell_of_outage(&self, event: &Event) {
        match event {
            Event::OutageBegan(failure) => self.note(&format!(
                "outage: {}; items keep their attempts, single probes go out: {}",
                failure.cause(),
                failure.message
            )),
            Event::OutageEnded { lasted, probes } => self.note(&state::recovered(*lasted, *probes)),
            _ => {}
        }
    }

    fn warn_of_budget(&self, spent: Usd, limit: Usd, downgrade: Option<&str>) {
        let percent = spent.picodollars().saturating_mul(100) / limit.picodollars().max(1);
        let part = match percent {
            0..=100 => format!("{percent}%"),
            _ => "more than all".to_owned(),
        };
        let mut warning = format!(
            "warning: {part} of the budget is used ({} of {})",
            usd(spent),
            usd(limit)
        );
        if let Some(model) = downgrade {
            warning.push_str(&format!("; items that have not started go to {model} now"));
        }
        match self.style {
            // Also where no progress is wanted: money is no progress.
            Style::Silent if self.verbosity != Verbosity::Quiet => {
                terminal::line(&one_line(&warning));
            }
            _ => self.note(&warning),
        }
    }

    /// Returns a way to write notes from other tasks.
    pub fn sink(&self) -> NoteSink {
        NoteSink {
            style: self.style,
            bar: self.bar.clone(),
        }
    }

    fn note(&self, text: &str) {
        self.sink().note(text);
    }

    /// Shows the state of things if it is time to.
    pub fn show(&mut self, tally: &Tally, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.style.interval();
        let rates = self.rates(tally, now);
        match self.style {
            Style::Bar => self.draw(tally, &rates),
            Style::Log => terminal::line(&one_line(&self.log_line(tally, &rates))),
            Style::Json => terminal::json(&self.json_line(tally, &rates)),
            Style::Silent => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.echo = None;
    }

    fn rates(&mut self, tally: &Tally, now: Instant) -> Rates {
        let sample = Sample {
            at: now,
            sent: self.gauges.sent.value(),
            tokens: self.gauges.tokens.value(),
            settled: tally.settled(),
        };
        while self.samples.len() > 1 && now - self.samples[0].at > RATE_WINDOW {
            self.samples.pop_front();
        }
        let first = self.samples.front().unwrap_or(&sample);
        let seconds = (now - first.at).as_secs_f64().max(0.1);
        let rates = Rates {
            requests_per_minute: sample.sent.saturating_sub(first.sent) as f64 * 60.0 / seconds,
            tokens_per_minute: sample.tokens.saturating_sub(first.tokens) as f64 * 60.0 / seconds,
            items_per_second: (sample.settled - first.settled) as f64 / seconds,
        };
        // Ten samples a second would be more than the window needs.
        if self
            .samples
            .back()
            .is_none_or(|last| now - last.at >= Duration::from_millis(500))
        {
            self.samples.push_back(sample);
        }
        rates
    }

    fn eta(&self, tally: &Tally, rates: &Rates) -> Option<Duration> {
        let left = self.total?.saturating_sub(tally.settled());
        (rates.items_per_second > 0.0)
            .then(|| Duration::from_secs_f64(left as f64 / rates.items_per_second))
    }

    /// Returns what is spent and what all of it will come to, if costs are known.
    fn money(&self, tally: &Tally) -> Option<(Usd, Option<Usd>)> {
        let each = tally.cost_per_item()?;
        let spent = self.purse.spent_before + tally.spent.cost;
        let left = self
            .total
            .map(|total| total.saturating_sub(tally.settled()));
        Some((spent, left.map(|left| spent + each.times(left))))
    }

    fn money_words(&self, tally: &Tally) -> Option<String> {
        let (spent, projected) = self.money(tally)?;
        let mut words = format!("spent {}", usd(spent));
        if let Some(projected) = projected {
            words.push_str(&format!(", projected {}", usd(projected)));
        }
        if let Some(limit) = self.purse.limit {
            words.push_str(&format!(" of {}", usd(limit)));
        }
        Some(words)
    }

    fn draw(&self, tally: &Tally, rates: &Rates) {
        let width = terminal::width();
        let done = tally.settled();
        self.bar.set_position(done);
        let of = match self.total {
            Some(total) => {
                let percent = (done * 100).checked_div(total).unwrap_or(100);
                format!("{}/{}  {percent}%", thousands(done), thousands(total))
            }
            None => thousands(done),
        };
        let eta = match self.eta(tally, rates) {
            Some(eta) => format!("eta {}", duration(eta)),
            None => "eta –".to_owned(),
        };
        // Beside them stand a spinner, the bar and the gaps between them.
        let room = width.saturating_sub(8);
        let eta = if cells(&of) + cells(&eta) <= room {
            eta
        } else {
            String::new()
        };
        let mut message = eta;
        for line in self.lines(tally, rates, width) {
            message.push_str(&format!("\n{}", fit(&line, width)));
        }
        self.bar.set_prefix(fit(&of, room));
        self.bar.set_message(message);
        self.bar.tick();
    }

    /// Returns what stands below the bar.
    fn lines(&self, tally: &Tally, rates: &Rates, width: usize) -> Vec<String> {
        let mut lines = vec![format!("  {}", self.pace(rates))];
        let room = width.saturating_sub(cells(&lines[0]) + GAP.len());
        append(&mut lines, &state::in_flight(&self.gauges, room), width);
        lines.push(format!("  {}", outcomes(tally)));
        if let Some(money) = self.money_words(tally) {
            append(&mut lines, &money, width);
        }
        lines.extend(state::waiting(&self.gauges).map(|waiting| format!("  {waiting}")));
        lines
    }

    fn pace(&self, rates: &Rates) -> String {
        let mut pace = format!("{} req/min", thousands(rates.requests_per_minute as u64));
        if rates.tokens_per_minute > 0.0 {
            pace.push_str(&format!(
                "  {} tok/min",
                thousands(rates.tokens_per_minute as u64)
            ));
        }
        pace
    }

    fn log_line(&self, tally: &Tally, rates: &Rates) -> String {
        let done = tally.settled();
        let of = match self.total {
            Some(total) => format!("{} of {} items", thousands(done), thousands(total)),
            None => format!("{} items", thousands(done)),
        };
        let flight = state::in_flight(&self.gauges, LOG_WIDTH);
        let mut parts = vec![of, outcomes(tally), self.pace(rates), flight];
        parts.extend(
            self.eta(tally, rates)
                .map(|eta| format!("eta {}", duration(eta))),
        );
        parts.extend(self.money_words(tally));
        parts.extend(state::waiting(&self.gauges));
        parts.join("   ")
    }

    fn json_line(&self, tally: &Tally, rates: &Rates) -> Value {
        let money = self.money(tally);
        json!({
            "event": "progress",
            "done": tally.settled(),
            "total": self.total,
            "ok": tally.ok,
            "errors": tally.failed(),
            "retries": tally.retries,
            "push_backs": tally.push_backs,
            "in_flight": self.gauges.in_flight.value(),
            "oldest": state::oldest_json(&self.gauges),
            "backing_off": self.gauges.backing_off.value(),
            "requests_per_minute": rates.requests_per_minute,
            "tokens_per_minute": rates.tokens_per_minute,
            "eta_seconds": self.eta(tally, rates).map(|eta| eta.as_secs_f64()),
            "waiting": state::waiting(&self.gauges),
            "outage": state::outage_json(&self.gauges),
            "spent_usd": money.map(|(spent, _)| spent.as_f64()),
            "projected_usd": money.and_then(|(_, projected)| Some(projected?.as_f64())),
            "budget_usd": self.purse.limit.map(Usd::as_f64),
        })
    }
}

/// Adds a fact to the last line, or starts another where there is no room.
fn append(lines: &mut Vec<String>, fact: &str, width: usize) {
    match lines.last_mut() {
        Some(last) if cells(last) + cells(GAP) + cells(fact) <= width => {
            last.push_str(GAP);
            last.push_str(fact);
        }
        _ => lines.push(format!("  {fact}")),
    }
}

/// Writes lines above the bar, each note one line, whatever ids and servers say in it.
#[derive(Clone)]
pub struct NoteSink {
    style: Style,
    bar: ProgressBar,
}

impl NoteSink {
    pub fn note(&self, text: &str) {
        match self.style {
            Style::Silent => {}
            Style::Json => terminal::json(&json!({"event": "note", "text": text})),
            _ => self.bar.suspend(|| terminal::line(&one_line(text))),
        }
    }
}

/// Counts by outcome: `ok 23,790   filtered 41   failed 15   retries 212`.
fn outcomes(tally: &Tally) -> String {
    let mut parts = vec![format!("ok {}", thousands(tally.ok))];
    for status in ErrorStatus::ALL {
        if let Some(number) = tally.errors.get(&status) {
            parts.push(format!("{} {}", status.word(), thousands(*number)));
        }
    }
    if tally.retries > 0 {
        parts.push(format!("retries {}", thousands(tally.retries)));
    }
    if tally.push_backs > 0 {
        parts.push(format!("push-backs {}", thousands(tally.push_backs)));
    }
    parts.join("   ")
}
