//! What models cost and how much they take in: a table of our own, and files of the user's.
//!
//! A price that is not known stays unknown and is never taken for zero; only a zero that is
//! written down is free. This room knows no run, no flag and no network, and reads one file: the
//! one that it is given.

mod list;
mod litellm;
mod names;
mod own;
mod sheet;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use jiff::civil::Date;

use crate::words::fields::LenientFields;
use crate::words::price::Price;
use crate::words::tokens::Tokens;
pub use list::List;

/// What is known of one model at one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The word for `--provider`, or another provider's name; `None` holds at every provider.
    pub provider: Option<String>,
    /// The name that is sent to that provider.
    pub name: String,
    /// `None` where it is not known.
    pub price: Option<Arc<Price>>,
    pub max_input: Option<Tokens>,
    pub max_output: Option<Tokens>,
    /// The day from which it is no longer served.
    pub retires: Option<Date>,
    pub from: Origin,
}

/// How much a model takes in and puts out; `None` where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub input: Option<Tokens>,
    pub output: Option<Tokens>,
}

/// Whose figures they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Builtin,
    File,
}

/// All models that are known: those of the user's file, then the built-in ones.
#[derive(Debug, Clone)]
pub struct Book {
    file: Option<Arc<List>>,
    builtin: Arc<List>,
}

static BUILTIN: LazyLock<Book> = LazyLock::new(|| {
    let table = own::read(include_str!("table.json"), Origin::Builtin);
    Book {
        file: None,
        builtin: Arc::new(table.expect("the built-in table is tested")),
    }
});

impl Book {
    /// Returns the built-in table, which is parsed once.
    pub fn builtin() -> &'static Book {
        &BUILTIN
    }

    /// Puts a file in front of the built-in table: its models are looked for first, and hide
    /// built-in ones of the same name.
    pub fn with_file(path: &Path) -> Result<Book, Unusable> {
        let refuse = |why| Unusable {
            what: format!("the price file {} {why}", path.display()),
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let list = read(&text).map_err(refuse)?;
        Ok(Book {
            file: Some(Arc::new(list)),
            builtin: BUILTIN.builtin.clone(),
        })
    }

    /// Finds what is known of a model at a provider. Without a provider, or at one of which
    /// nothing is known, the name alone decides, and the dearest of several wins.
    pub fn find(&self, provider: Option<&str>, model: &str) -> Option<&Model> {
        let found = self.spelled(provider, model);
        let known: Vec<_> = found.filter_map(|models| models.first().copied()).collect();
        let priced = known.iter().find(|model| model.price.is_some());
        priced.or(known.first()).copied()
    }

    /// Returns the longest prompt that a model takes, and the longest answer that it gives. Of
    /// several providers the largest limits count; what the file leaves out, the table fills in.
    pub fn limits(&self, provider: Option<&str>, model: &str) -> Limits {
        let mut limits = Limits::default();
        for models in self.spelled(provider, model) {
            let largest = |limit: fn(&Model) -> Option<Tokens>| {
                models.iter().filter_map(|model| limit(model)).max()
            };
            limits.input = limits.input.or(largest(|model| model.max_input));
            limits.output = limits.output.or(largest(|model| model.max_output));
        }
        limits
    }

    /// Returns the models that a name may mean: those of its closest spelling first, and of each
    /// spelling those of the user's file before the built-in ones.
    fn spelled<'a, 'n>(
        &'a self,
        provider: Option<&'n str>,
        model: &'n str,
    ) -> impl Iterator<Item = Vec<&'a Model>> + use<'a, 'n> {
        let spellings = names::spellings(model).into_iter();
        spellings.flat_map(move |spelling| {
            let lists = self.file.iter().chain([&self.builtin]);
            let found: Vec<_> = lists.map(|list| list.find(provider, &spelling)).collect();
            found
        })
    }

    /// Iterates over all models, without built-in ones that the file hides.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        let of_file = self.file.as_ref().map_or(&[][..], |list| list.models());
        let key = |model: &Model| (model.provider.clone(), model.name.clone());
        let hidden: HashSet<_> = of_file.iter().map(key).collect();
        let builtin = self.builtin.models().iter();
        of_file
            .iter()
            .chain(builtin.filter(move |model| !hidden.contains(&key(model))))
    }

    /// Returns the day of the built-in figures.
    pub fn date(&self) -> Option<Date> {
        self.builtin.date
    }

    /// Tells where the built-in figures are from.
    pub fn source(&self) -> &str {
        self.builtin.source.as_deref().unwrap_or_default()
    }

    /// Returns the user's file, if there is one.
    pub fn file(&self) -> Option<&List> {
        self.file.as_deref()
    }
}

/// Writes models as a price file, which [`Book::with_file`] reads again.
pub fn to_json(models: &[&Model], date: Option<Date>, source: &str) -> String {
    own::write(models, date, source)
}

/// Reads a file of either layout, told apart by its content.
fn read(text: &str) -> Result<List, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let top = LenientFields::parse(text).map_err(|error| match error.is_data() {
        true => "is not a JSON object".to_owned(),
        false => format!("is not JSON: {error}"),
    })?;
    if own::is_own(&top) {
        own::read(text, Origin::File)
    } else {
        litellm::read(top)
    }
}

/// A price file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub what: String,
}

impl Unusable {
    /// What a price file should look like.
    pub const HINT: &str = r#"{"version": 1, "models": [{"provider": "openai", "model": "gpt-4o", "input": 2.5, "output": 10}]} is one, in USD per 1M tokens; LiteLLM's JSON is read as it is"#;
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Unusable {}

#[cfg(test)]
mod tests;
