//! The built-in table against the providers' price lists, and the search in it.

mod file;

use super::*;
use crate::words::money::{Rate, Usd};
use crate::words::price::{Rates, Service, Tiers};
use crate::words::tokens::Usage;

fn found(provider: Option<&str>, model: &str) -> Option<String> {
    let model = Book::builtin().find(provider, model)?;
    Some(format!("{} {}", model.provider.as_deref()?, model.name))
}

fn price(provider: &str, model: &str) -> Arc<Price> {
    let model = Book::builtin().find(Some(provider), model).unwrap();
    model.price.clone().unwrap()
}

/// Writes rates as the providers' lists do: input/output, then what else is known.
fn shown(rates: &Rates) -> String {
    let mut text = format!("{}/{}", rates.input.million(), rates.output.million());
    for (name, rate) in [
        ("cached", rates.cached),
        ("write", rates.cache_write),
        ("long", rates.cache_write_long),
    ] {
        if let Some(rate) = rate {
            text.push_str(&format!(" {name} {}", rate.million()));
        }
    }
    text
}

fn long(tiers: &Tiers) -> String {
    let step = |(border, rates): &(Tokens, Rates)| format!(">{} {}", border.0, shown(rates));
    tiers
        .above()
        .iter()
        .map(step)
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn prices_are_those_of_the_providers_lists() {
    for (provider, model, standard, batch) in [
        ("openai", "gpt-4o", "2.5/10 cached 1.25", "1.25/5"),
        (
            "openai",
            "gpt-4o-mini",
            "0.15/0.6 cached 0.075",
            "0.075/0.3",
        ),
        ("openai", "gpt-4.1-nano", "0.1/0.4 cached 0.025", "0.05/0.2"),
        (
            "openai",
            "gpt-5-nano",
            "0.05/0.4 cached 0.005",
            "0.025/0.2 cached 0.0025",
        ),
        ("openai", "gpt-5.5", "5/30 cached 0.5", "2.5/15 cached 0.25"),
        (
            "openai",
            "gpt-6.1-sol",
            "2/10 cached 0.1 write 2.5 long 5",
            "1/5 cached 0.05 write 1.25 long 2.5",
        ),
        ("openai", "o4-mini", "1.1/4.4 cached 0.275", "0.55/2.2"),
        ("openai", "text-embedding-3-small", "0.02/0", "0.01/0"),
        (
            "anthropic",
            "claude-sonnet-4-6",
            "3/15 cached 0.3 write 3.75 long 6",
            "1.5/7.5 cached 0.15 write 1.875 long 3",
        ),
        (
            "gemini",
            "gemini-2.5-pro",
            "1.25/10 cached 0.125",
            "0.625/5 cached 0.125",
        ),
    ] {
        is_priced(provider, model, standard, batch);
    }
}

#[test]
fn hosts_of_open_models_have_no_batch_price_that_is_known() {
    for (provider, model, standard) in [
        ("mistral", "mistral-small-latest", "0.15/0.6 cached 0.015"),
        ("deepseek", "deepseek-v4-flash", "0.3/1.2 cached 0.006"),
        ("groq", "openai/gpt-oss-20b", "0.075/0.3 cached 0.0375"),
        (
            "together",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "1.04/1.04",
        ),
        (
            "fireworks",
            "accounts/fireworks/models/gpt-oss-120b",
            "0.15/0.6 cached 0.015",
        ),
    ] {
        is_priced(provider, model, standard, "");
    }
}

fn is_priced(provider: &str, model: &str, standard: &str, batch: &str) {
    let price = price(provider, model);
    assert_eq!(shown(price.standard.base()), standard, "{model}");
    let known = price.batch.as_ref();
    let known = known.map_or(String::new(), |tiers| shown(tiers.base()));
    assert_eq!(known, batch, "batch of {model}");
}

#[test]
fn long_prompts_have_their_own_prices() {
    for (provider, model, standard, batch) in [
        (
            "openai",
            "gpt-5.5",
            ">272000 10/45 cached 1",
            ">272000 5/22.5 cached 0.5",
        ),
        (
            "gemini",
            "gemini-2.5-pro",
            ">200000 2.5/15 cached 0.25",
            ">200000 1.25/7.5 cached 0.25",
        ),
        (
            "anthropic",
            "claude-haiku-5-5",
            ">100000 0.5/2.5 cached 0.05 write 0.625 long 1",
            ">100000 0.25/1.25 cached 0.025 write 0.3125 long 0.5",
        ),
        ("openai", "gpt-4.1", "", ""),
    ] {
        let price = price(provider, model);
        assert_eq!(long(&price.standard), standard, "{model}");
        assert_eq!(
            long(price.batch.as_ref().unwrap()),
            batch,
            "batch of {model}"
        );
    }
}

#[test]
fn limits_and_last_days_are_in_the_table() {
    let model = |name| Book::builtin().find(Some("openai"), name).unwrap();
    let gpt_5 = model("gpt-5");
    assert_eq!(gpt_5.max_input, Some(Tokens(272_000)));
    assert_eq!(gpt_5.max_output, Some(Tokens(128_000)));
    assert_eq!(gpt_5.retires.unwrap().to_string(), "2026-12-11");
    assert_eq!(model("gpt-4o").retires, None);
    assert_eq!(model("text-embedding-3-small").max_output, None);
}

#[test]
fn the_table_is_of_moderate_size_and_holds_no_model_twice() {
    let models: Vec<_> = Book::builtin().models().collect();
    assert!((70..=100).contains(&models.len()), "{}", models.len());
    let keys = models
        .iter()
        .map(|model| (&model.provider, model.name.to_lowercase()));
    assert_eq!(keys.collect::<HashSet<_>>().len(), models.len());
    assert_eq!(Book::builtin().date().unwrap().to_string(), "2026-11-22");
    assert!(!Book::builtin().source().is_empty());
}

#[test]
fn every_price_in_the_table_is_plausible() {
    for model in Book::builtin().models() {
        let name = &model.name;
        let price = model.price.as_ref().unwrap();
        assert!(model.max_input.is_some(), "{name}");
        assert!(price.standard.base().input > Rate::default(), "{name}");
        for service in [
            Service::Standard,
            Service::Batch,
            Service::Flex,
            Service::Priority,
        ] {
            let Some(tiers) = price.tiers(service) else {
                continue;
            };
            is_ascending(tiers, name);
            let steps = tiers.above().iter().map(|(border, rates)| (*border, rates));
            for (border, rates) in steps.chain([(Tokens(0), tiers.base())]) {
                let usual = price.standard.rates(border + Tokens(1));
                is_plausible(rates, name);
                let (cheaper, dearer) = match service {
                    Service::Priority => (usual, rates),
                    _ => (rates, usual),
                };
                assert!(cheaper.input <= dearer.input, "{name} {service:?}");
                assert!(cheaper.output <= dearer.output, "{name} {service:?}");
            }
        }
    }
}

fn is_plausible(rates: &Rates, name: &str) {
    assert!(rates.input.million() < Usd::parse("500").unwrap(), "{name}");
    assert!(
        rates.cached.is_none_or(|rate| rate <= rates.input),
        "{name}"
    );
    let write = rates.cache_write.unwrap_or(rates.input);
    assert!(write >= rates.input, "{name}");
    assert!(
        rates.cache_write_long.is_none_or(|rate| rate >= write),
        "{name}"
    );
}

fn is_ascending(tiers: &Tiers, name: &str) {
    let inputs = tiers.above().iter().map(|(_, rates)| rates.input);
    let inputs: Vec<_> = [tiers.base().input].into_iter().chain(inputs).collect();
    assert!(inputs.is_sorted(), "{name}");
}

#[test]
fn names_are_found_in_any_case() {
    assert_eq!(
        found(Some("OpenAI"), "GPT-4o").as_deref(),
        Some("openai gpt-4o")
    );
}

#[test]
fn azure_has_the_models_of_openai() {
    assert_eq!(
        found(Some("azure"), "gpt-4o").as_deref(),
        Some("openai gpt-4o")
    );
    assert_eq!(found(Some("openai"), "mistral-small-latest"), None);
}

#[test]
fn a_router_has_the_makers_price() {
    let router = Some("openrouter");
    for (name, maker) in [
        ("openai/gpt-4o-mini", "openai gpt-4o-mini"),
        ("openai/gpt-4o-2024-11-20", "openai gpt-4o"),
        ("anthropic/claude-sonnet-4.6", "anthropic claude-sonnet-4-6"),
        ("google/gemini-2.5-pro", "gemini gemini-2.5-pro"),
        ("mistralai/mistral-large-4", "mistral mistral-large-4"),
        ("x-ai/grok-4.7", "xai grok-4.7"),
    ] {
        assert_eq!(found(router, name).as_deref(), Some(maker));
    }
    assert_eq!(found(router, "openai/gpt-4o:free"), None);
    assert_eq!(found(router, "gpt-4o"), None);
}

#[test]
fn a_prefix_names_the_provider() {
    for (name, model) in [
        ("groq/openai/gpt-oss-20b", "groq openai/gpt-oss-20b"),
        ("gemini/gemini-2.5-flash", "gemini gemini-2.5-flash"),
        ("together_ai/zai-org/GLM-5.3", "together zai-org/GLM-5.3"),
        (
            "fireworks_ai/accounts/fireworks/models/kimi-k3",
            "fireworks accounts/fireworks/models/kimi-k3",
        ),
        ("azure/gpt-4.1", "openai gpt-4.1"),
        ("anthropic/claude-opus-5", "anthropic claude-opus-5"),
        ("mistral/codestral-latest", "mistral codestral-latest"),
        ("deepseek/deepseek-v4-pro", "deepseek deepseek-v4-pro"),
        ("xai/grok-4.7", "xai grok-4.7"),
        ("openai/gpt-4o", "openai gpt-4o"),
    ] {
        assert_eq!(found(None, name).as_deref(), Some(model));
    }
    assert_eq!(found(None, "groq/gpt-4o"), None);
    assert_eq!(found(None, "nobody/gpt-4o"), None);
    assert_eq!(
        found(Some("gemini"), "models/gemini-2.5-pro").as_deref(),
        Some("gemini gemini-2.5-pro")
    );
}

#[test]
fn a_snapshot_has_the_price_of_its_model_unless_it_has_its_own() {
    let openai = Some("openai");
    for (dated, model) in [
        ("gpt-4o-mini-2024-07-18", "openai gpt-4o-mini"),
        ("gpt-4o-2024-05-13", "openai gpt-4o-2024-05-13"),
        ("gpt-3.5-turbo-0125", "openai gpt-3.5-turbo"),
        ("gpt-3.5-turbo-1106", "openai gpt-3.5-turbo-1106"),
    ] {
        assert_eq!(found(openai, dated).as_deref(), Some(model));
    }
    let anthropic = found(Some("anthropic"), "claude-haiku-4-5-20251001");
    assert_eq!(anthropic.as_deref(), Some("anthropic claude-haiku-4-5"));
    let vertex = found(None, "claude-haiku-4-5@20251001");
    assert_eq!(vertex.as_deref(), Some("anthropic claude-haiku-4-5"));
    assert_eq!(found(openai, "unheard-of-2024-07-18"), None);
}

#[test]
fn a_tuned_model_never_has_the_price_of_its_base() {
    assert_eq!(
        found(Some("openai"), "ft:gpt-4o-mini-2024-07-18:acme::x1").as_deref(),
        Some("openai ft:gpt-4o-mini-2024-07-18")
    );
    assert_eq!(found(Some("openai"), "ft:gpt-5:acme::x1"), None);
}

#[test]
fn local_servers_have_no_built_in_price() {
    for local in ["ollama", "vllm", "llamacpp"] {
        assert_eq!(found(Some(local), "openai/gpt-oss-20b"), None);
        assert_eq!(found(Some(local), "gpt-4o"), None);
    }
}

#[test]
fn an_endpoint_of_which_nothing_is_known_goes_by_the_name() {
    let gpt_4o = found(Some("generic"), "gpt-4o");
    assert_eq!(gpt_4o.as_deref(), Some("openai gpt-4o"));
}

#[test]
fn of_several_providers_the_largest_limit_counts() {
    let output = |provider| {
        Book::builtin()
            .limits(provider, "openai/gpt-oss-120b")
            .output
    };
    assert_eq!(output(Some("groq")), Some(Tokens(65_536)));
    assert_eq!(output(None), Some(Tokens(131_072)));
}

#[test]
fn the_worked_examples_of_the_price_lists_come_out() {
    let used = |prompt, cached, written, completion, service| Usage {
        prompt: Tokens(prompt),
        completion: Tokens(completion),
        total: Tokens(prompt + completion),
        cached: Some(Tokens(cached)),
        cache_write: Some(Tokens(written)),
        service,
        ..Usage::default()
    };
    for (provider, model, usage, cost) in [
        (
            "openai",
            "gpt-4o",
            used(10_000, 4_000, 0, 500, Service::Standard),
            "0.025",
        ),
        (
            "openai",
            "gpt-4o",
            used(10_000, 0, 0, 500, Service::Batch),
            "0.015",
        ),
        (
            "openai",
            "gpt-5.5",
            used(300_000, 0, 0, 1_000, Service::Standard),
            "3.045",
        ),
        (
            "openai",
            "gpt-5.5",
            used(272_000, 0, 0, 1_000, Service::Standard),
            "1.39",
        ),
        (
            "anthropic",
            "claude-sonnet-4-6",
            used(13_000, 10_000, 2_000, 500, Service::Standard),
            "0.021",
        ),
    ] {
        let known = price(provider, model).cost(&usage).unwrap();
        assert_eq!(known.to_string(), cost, "{model}");
    }
}
