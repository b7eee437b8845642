//! How a model may be spelled, and where else it may stand.

use std::borrow::Cow;

/// Servers on the user's own machines. What a model costs elsewhere says nothing of them.
const LOCAL: &[&str] = &["ollama", "vllm", "llamacpp"];

/// Providers whose models are looked for at them and nowhere else.
const NAMED: &[&str] = &[
    "openai",
    "azure",
    "gemini",
    "mistral",
    "groq",
    "together",
    "fireworks",
    "openrouter",
    "deepseek",
    "anthropic",
    "xai",
];

/// What stands before a slash in names that gateways understand, and the provider that it means.
const PREFIXES: &[(&str, &str)] = &[
    ("openai", "openai"),
    ("azure", "azure"),
    ("gemini", "gemini"),
    ("google", "gemini"),
    ("models", "gemini"),
    ("mistral", "mistral"),
    ("mistralai", "mistral"),
    ("groq", "groq"),
    ("together_ai", "together"),
    ("together", "together"),
    ("fireworks_ai", "fireworks"),
    ("fireworks", "fireworks"),
    ("openrouter", "openrouter"),
    ("deepseek", "deepseek"),
    ("anthropic", "anthropic"),
    ("xai", "xai"),
    ("x-ai", "xai"),
];

/// Where to look for a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// `None` stands for every provider.
    pub provider: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
}

pub(super) fn is_local(provider: &str) -> bool {
    is_among(LOCAL, provider)
}

/// Returns the names under which a model may be listed: its own, and the one without its date.
/// A fine-tuned model has the price of its kind and never that of the model it is made from.
pub(super) fn spellings(model: &str) -> Vec<Cow<'_, str>> {
    let mut names = vec![Cow::Borrowed(model)];
    if let Some(tuned) = model.strip_prefix("ft:") {
        let base = tuned.split(':').next().unwrap_or(tuned);
        names.push(Cow::Owned(format!("ft:{base}")));
        names.extend(undated(base).map(|base| Cow::Owned(format!("ft:{base}"))));
    } else {
        names.extend(undated(model).map(Cow::Borrowed));
    }
    names
}

/// Returns where a name is looked for, in this order.
pub(super) fn places<'a>(provider: Option<&'a str>, name: &'a str) -> Vec<Place<'a>> {
    let prefix = || split(name).into_iter();
    match provider {
        Some(local) if is_local(local) => vec![place(local, name)],
        Some(provider) if is_among(NAMED, provider) => {
            let mut places = at(provider, name);
            let trusted = |maker: &str| {
                ["openrouter", maker]
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(provider))
            };
            let of_maker = prefix().filter(|(maker, _)| trusted(maker));
            places.extend(of_maker.flat_map(|(maker, rest)| at(maker, rest)));
            places
        }
        _ => {
            let anywhere = Place {
                provider: None,
                name: name.into(),
            };
            let named = provider.map(|provider| place(provider, name));
            let of_maker = prefix().flat_map(|(maker, rest)| at(maker, rest));
            named
                .into_iter()
                .chain([anywhere])
                .chain(of_maker)
                .collect()
        }
    }
}

/// Returns the places at one provider. Azure serves OpenAI's models at OpenAI's prices; gateways
/// write Anthropic's versions with a point.
fn at<'a>(provider: &'a str, name: &'a str) -> Vec<Place<'a>> {
    let mut places = vec![place(provider, name)];
    if provider.eq_ignore_ascii_case("azure") {
        places.push(place("openai", name));
    }
    if provider.eq_ignore_ascii_case("anthropic") && name.contains('.') {
        places.push(Place {
            provider: Some(provider.into()),
            name: name.replace('.', "-").into(),
        });
    }
    places
}

fn place<'a>(provider: &'a str, name: &'a str) -> Place<'a> {
    Place {
        provider: Some(provider.into()),
        name: name.into(),
    }
}

fn is_among(known: &[&str], provider: &str) -> bool {
    known.iter().any(|name| name.eq_ignore_ascii_case(provider))
}

/// Splits a name into the provider that stands before its first slash, and the rest.
fn split(name: &str) -> Option<(&'static str, &str)> {
    let (prefix, rest) = name.split_once('/')?;
    let known = |(spelled, _): &&(&str, &str)| spelled.eq_ignore_ascii_case(prefix);
    let (_, provider) = PREFIXES.iter().find(known)?;
    Some((provider, rest))
}

/// Returns a name without the date at its end: `-2024-08-06`, `@20240806`, `-20240806`, `-0806`.
fn undated(name: &str) -> Option<&str> {
    const DAY: &str = "-dddd-dd-dd";
    let forms = [DAY, "@dddddddd", "-dddddddd", "-dddd"];
    let (rest, digits) = forms.iter().find_map(|form| cut(name, form))?;
    let (month, day) = digits[digits.len() - 4..].split_at(2);
    let within = |text: &str, most: u32| text.parse().is_ok_and(|n: u32| (1..=most).contains(&n));
    (!rest.is_empty() && within(month, 12) && within(day, 31)).then_some(rest)
}

/// Cuts an ending of this form off, in which `d` stands for a digit; returns the rest and the
/// digits.
fn cut<'a>(name: &'a str, form: &str) -> Option<(&'a str, String)> {
    let at = name.len().checked_sub(form.len())?;
    let (rest, end) = (name.get(..at)?, name.get(at..)?);
    let fits = |(c, wanted): (u8, u8)| match wanted {
        b'd' => c.is_ascii_digit(),
        _ => c == wanted,
    };
    let digits = || end.chars().filter(char::is_ascii_digit).collect();
    end.bytes()
        .zip(form.bytes())
        .all(fits)
        .then(|| (rest, digits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(model: &str) -> Vec<String> {
        spellings(model).into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn a_date_at_the_end_is_cut_off() {
        for dated in [
            "m-2024-08-06",
            "m@20240806",
            "m-20240806",
            "m-0806",
            "m-1231",
        ] {
            assert_eq!(spelled(dated), [dated, "m"]);
        }
    }

    #[test]
    fn other_numbers_are_no_dates() {
        for name in [
            "mistral-large-2512",
            "m-2024-13-01",
            "m-0800",
            "m-0832",
            "m-20241301",
            "m-120b",
            "gpt-4o",
            "-0806",
            "ä0806",
            "",
        ] {
            assert_eq!(spelled(name), [name]);
        }
    }

    #[test]
    fn a_tuned_model_is_never_spelled_as_its_base() {
        assert_eq!(
            spelled("ft:gpt-4o-2024-08-06:acme::x1"),
            [
                "ft:gpt-4o-2024-08-06:acme::x1",
                "ft:gpt-4o-2024-08-06",
                "ft:gpt-4o"
            ]
        );
    }

    fn looked_for(provider: Option<&str>, name: &str) -> Vec<String> {
        let places = places(provider, name).into_iter();
        places
            .map(|place| {
                format!(
                    "{} {}",
                    place.provider.as_deref().unwrap_or("*"),
                    place.name
                )
            })
            .collect()
    }

    #[test]
    fn a_named_provider_is_asked_alone() {
        assert_eq!(looked_for(Some("groq"), "llama"), ["groq llama"]);
        assert_eq!(
            looked_for(Some("groq"), "openai/gpt-oss"),
            ["groq openai/gpt-oss"]
        );
        assert_eq!(
            looked_for(Some("groq"), "groq/llama"),
            ["groq groq/llama", "groq llama"]
        );
        assert_eq!(
            looked_for(Some("gemini"), "models/gemini-x"),
            ["gemini models/gemini-x", "gemini gemini-x"]
        );
    }

    #[test]
    fn azure_falls_back_to_openai() {
        assert_eq!(
            looked_for(Some("Azure"), "gpt-4o"),
            ["Azure gpt-4o", "openai gpt-4o"]
        );
    }

    #[test]
    fn openrouter_falls_back_to_the_maker() {
        assert_eq!(
            looked_for(Some("openrouter"), "anthropic/claude-sonnet-4.5"),
            [
                "openrouter anthropic/claude-sonnet-4.5",
                "anthropic claude-sonnet-4.5",
                "anthropic claude-sonnet-4-5"
            ]
        );
        assert_eq!(
            looked_for(Some("openrouter"), "x-ai/grok-4.7"),
            ["openrouter x-ai/grok-4.7", "xai grok-4.7"]
        );
    }

    #[test]
    fn at_an_endpoint_of_which_nothing_is_known_the_name_decides() {
        assert_eq!(looked_for(None, "m"), ["* m"]);
        assert_eq!(looked_for(Some("generic"), "m"), ["generic m", "* m"]);
        assert_eq!(
            looked_for(None, "together_ai/openai/gpt-oss"),
            ["* together_ai/openai/gpt-oss", "together openai/gpt-oss"]
        );
    }

    #[test]
    fn a_local_server_is_asked_alone() {
        for local in ["ollama", "vLLM", "llamacpp"] {
            assert_eq!(
                looked_for(Some(local), "openai/m"),
                [format!("{local} openai/m")]
            );
        }
    }
}
