//! A refusal: what is wrong and the way out, before anything was sent.

use std::fmt;

/// An error of usage, configuration or input. Ends the program with exit code 2.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong, and where; further lines list the places.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Refusal {
    pub fn new(what: impl Into<String>) -> Self {
        Refusal {
            what: what.into(),
            hint: None,
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Refusal {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refusal {}
