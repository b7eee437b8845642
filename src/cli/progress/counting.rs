//! How far the counting of tokens has come.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::Style;
use crate::cli::terminal;
use crate::words::human::thousands;

/// Shows how far the counting of a file's tokens has come.
pub struct CountingProgress {
    style: Style,
    bar: ProgressBar,
    total: u64,
    next: Instant,
}

impl CountingProgress {
    pub fn new(style: Style, total: u64) -> Self {
        let bar = match style {
            Style::Bar => {
                ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10))
            }
            _ => ProgressBar::hidden(),
        };
        let template = "{spinner} counting {prefix}  {wide_bar}  eta {eta}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        CountingProgress {
            style,
            bar,
            total,
            next: Instant::now() + style.interval(),
        }
    }

    /// Tells how many items are counted.
    pub fn tell(&mut self, done: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + self.style.interval();
        let of = format!("{}/{}", thousands(done), thousands(self.total));
        match self.style {
            Style::Bar => {
                self.bar.set_prefix(of);
                self.bar.set_position(done);
            }
            Style::Log => terminal::line(&format!("counting tokens: {of} items")),
            Style::Json => {
                terminal::json(&json!({"event": "counting", "done": done, "total": self.total}))
            }
            Style::Silent => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
