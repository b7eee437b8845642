//! Prompt templates over a record's fields.                              [the only minijinja]

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::value::RawValue;

use crate::words::fields::Fields;

/// Bounds what one rendering may execute, so that a runaway loop is an error and not a hang.
const FUEL: u64 = 2_000_000;
const NAME: &str = "template";

/// A compiled template, with the record fields it reads.
pub struct Template {
    environment: Environment<'static>,
    /// Top-level names, so that only these are converted for each record.
    names: Vec<String>,
    /// Dotted paths, to name the one that is missing.
    paths: Vec<String>,
    source: String,
}

impl Template {
    /// Compiles a template; the error is a sentence about the place in it.
    pub fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| {
                let line = error
                    .line()
                    .map_or(String::new(), |line| format!("line {line}: "));
                format!("{line}{}", explain(&error))
            })?;
        let template = environment
            .get_template(NAME)
            .expect("it was added just now");
        let sorted = |nested| {
            let mut names: Vec<_> = template.undeclared_variables(nested).into_iter().collect();
            names.sort_unstable();
            names
        };
        let (names, paths) = (sorted(false), sorted(true));
        Ok(Template {
            environment,
            names,
            paths,
            source: source.to_owned(),
        })
    }

    /// Returns the text it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Fills in a record's fields; the error names the field that is missing.
    pub fn render(&self, record: &Fields<'_>) -> Result<String, String> {
        let mut context = BTreeMap::new();
        for name in &self.names {
            if let Some(raw) = record.raw(name) {
                let field = value(raw).map_err(|problem| format!("field {name:?}: {problem}"))?;
                context.insert(name.as_str(), field);
            }
        }
        match self.fill(&context) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == ErrorKind::UndefinedError => {
                Err(match self.culprit(&context) {
                    Some(path) => {
                        format!("the template asks for {path:?}, which this record lacks")
                    }
                    None => format!("the template: {}", explain(&error)),
                })
            }
            Err(error) => Err(format!("the template: {}", explain(&error))),
        }
    }

    fn fill(&self, context: &BTreeMap<&str, Value>) -> Result<String, minijinja::Error> {
        let template = self
            .environment
            .get_template(NAME)
            .expect("it was compiled");
        template.render(Value::from(context.clone()))
    }

    /// Finds the field whose lack is the error. A template may lack others that it guards, so each
    /// is tried with all the others there.
    fn culprit(&self, context: &BTreeMap<&str, Value>) -> Option<&str> {
        let lacks = |path: &str| {
            let mut parts = path.split('.');
            let first = parts.next().and_then(|name| context.get(name)).cloned();
            let found = parts.try_fold(first?, |value, part| value.get_attr(part).ok());
            found.filter(|value| !value.is_undefined())
        };
        let missing: Vec<_> = self
            .paths
            .iter()
            .map(String::as_str)
            .filter(|path| lacks(path).is_none())
            .collect();
        if let [only] = missing[..] {
            return Some(only);
        }
        missing.iter().copied().find(|path| {
            let mut others = context.clone();
            for other in missing
                .iter()
                .filter(|other| *other != path && !other.contains('.'))
            {
                others.insert(other, Value::from(""));
            }
            self.fill(&others)
                .is_err_and(|error| error.kind() == ErrorKind::UndefinedError)
        })
    }
}

fn explain(error: &minijinja::Error) -> Cow<'static, str> {
    match error.detail() {
        Some(detail) => detail.to_owned().into(),
        None => error.kind().to_string().into(),
    }
}

/// Converts a field. Whole numbers keep all their digits; serde_json alone would round them.
fn value(raw: &RawValue) -> Result<Value, String> {
    if let Ok(number) = raw.get().parse::<i128>() {
        return Ok(Value::from(number));
    }
    let json: serde_json::Value = serde_json::from_str(raw.get()).map_err(|e| e.to_string())?;
    Ok(Value::from(Serde(&json)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, record: &str) -> Result<String, String> {
        Template::compile(template)
            .unwrap()
            .render(&Fields::parse(record).unwrap())
    }

    #[test]
    fn fields_fill_the_template() {
        let record = r#"{"text":"Grüße \"x\" <b>","n":12345678901234567890123,"tags":["a","b"]}"#;
        assert_eq!(
            render("{{ text }}|{{ n }}|{{ tags|join(',') }}", record).unwrap(),
            "Grüße \"x\" <b>|12345678901234567890123|a,b"
        );
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = render("{{ text }} {{ titel }}", r#"{"text":"x"}"#).unwrap_err();
        assert_eq!(
            error,
            "the template asks for \"titel\", which this record lacks"
        );
        let error = render("{{ user.name }}", r#"{"user":{"id":1}}"#).unwrap_err();
        assert_eq!(
            error,
            "the template asks for \"user.name\", which this record lacks"
        );
    }

    #[test]
    fn a_guarded_field_may_be_missing() {
        let text = "{% if note is defined %}{{ note }}{% else %}none{% endif %}";
        assert_eq!(render(text, "{}").unwrap(), "none");
        assert_eq!(render("{{ note|default('none') }}", "{}").unwrap(), "none");
    }

    #[test]
    fn a_guarded_field_is_not_blamed_for_another_one() {
        let error = render("{{ note|default('') }} {{ text }}", "{}").unwrap_err();
        assert_eq!(
            error,
            "the template asks for \"text\", which this record lacks"
        );
    }

    #[test]
    fn a_broken_template_says_where() {
        let error = Template::compile("a\n{{ text").map(|_| ()).unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn an_endless_template_is_an_error() {
        let text =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ x }}{% endfor %}{% endfor %}";
        assert!(render(text, r#"{"x":""}"#).is_err());
    }
}
