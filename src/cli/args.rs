//! Flags exactly as typed.                                                    [the only clap]

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "llmbatch",
    version,
    about = "Run a file of LLM calls: bounded, durable, resumable.",
    after_help = "Try it without a key:\n  llmbatch run examples/tickets.jsonl --prompt-file examples/classify.txt --simulate",
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask every item of a file, and write one row for each
    Run(Box<RunArgs>),
    /// Check a file as `run` would, and list every bad line
    Validate(ValidateArgs),
    /// Say what a file will cost and how long it will take, before it is asked
    Estimate(Box<EstimateArgs>),
    /// List what models cost, and how much they take in
    Models(ModelsArgs),
    /// Serve a made-up model on this machine, with limits and faults
    Simulate(SimulateArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Try it without a key:\n  llmbatch run examples/tickets.jsonl --prompt-file examples/classify.txt --simulate\n\nExit codes: 0 every item has a result, 1 the output could not be written,\n2 bad usage or input (nothing was sent), 3 some items are in the errors file,\n4 stopped by a guard (budget, key, quota, outage, errors), 130/143 interrupted; --resume continues"
)]
pub struct RunArgs {
    /// JSONL file of items, or - for standard input
    pub input: PathBuf,

    #[command(flatten)]
    pub shape: ShapeArgs,

    /// Run only the first N items of the input
    #[arg(long, value_name = "N", help_heading = "Input")]
    pub limit: Option<u64>,
    /// Put bad lines into the errors file and run the others
    #[arg(long, help_heading = "Input")]
    pub skip_invalid: bool,

    /// Results file, or - for standard output [default: INPUT.results.jsonl]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Go on where an earlier run of this output ended
    #[arg(long, conflicts_with = "overwrite", help_heading = "Output")]
    pub resume: bool,
    /// Start over; the old output is lost
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,
    /// With --resume: ask items of this status again too (failed and invalid ones always are)
    #[arg(
        long,
        value_name = "STATUS",
        value_enum,
        value_delimiter = ',',
        requires = "resume",
        help_heading = "Output"
    )]
    pub retry: Vec<RetryStatus>,
    /// With --resume: accept another model, template or parameter than before
    #[arg(long, requires = "resume", help_heading = "Output")]
    pub allow_changes: bool,
    /// Form of the results file
    #[arg(long, value_enum, default_value_t = FormatArg::Native, help_heading = "Output")]
    pub format: FormatArg,
    /// Leave the raw response out of the rows
    #[arg(long, help_heading = "Output")]
    pub lean: bool,
    /// Write the checkpoint after N rows, once a second at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Output")]
    pub checkpoint_every: u64,

    /// Known endpoint: openai, azure, gemini, mistral, groq, together, fireworks, openrouter,
    /// deepseek, ollama, vllm or llamacpp
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    pub provider: Option<String>,
    /// Base URL, taken literally; /chat/completions is added [env: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL", help_heading = "Endpoint")]
    pub base_url: Option<String>,
    /// Environment variable that holds the key [default: the provider's, OPENAI_API_KEY]
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    pub api_key_env: Option<String>,
    /// File that holds the key
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "api_key_env",
        help_heading = "Endpoint"
    )]
    pub api_key_file: Option<PathBuf>,
    /// Command that prints the key; run by `sh -c`
    #[arg(long, value_name = "CMD", conflicts_with_all = ["api_key_env", "api_key_file"], help_heading = "Endpoint")]
    pub api_key_command: Option<String>,
    /// Send the key over http:// to other machines too, where everyone on the way can read it
    #[arg(long, help_heading = "Endpoint")]
    pub allow_http: bool,
    /// Certificates (PEM) of authorities to trust besides the system's
    #[arg(long, value_name = "FILE", help_heading = "Endpoint")]
    pub ca_file: Option<PathBuf>,
    /// Ask a simulator inside this process instead, e.g. --simulate=latency=50ms,429=0.05
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with_all = ["provider", "base_url", "api_key_env", "api_key_file", "api_key_command"], help_heading = "Endpoint")]
    pub simulate: Option<String>,

    /// Requests in flight at a time [default: 64, fewer for small local servers]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Limits")]
    pub concurrency: Option<u32>,
    /// Requests a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub rpm: Option<u32>,
    /// Tokens a minute, prompt and answer together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub tpm: Option<u32>,
    /// Attempts after the first, for failures of an item
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Limits")]
    pub max_retries: u32,
    /// Seconds that a whole attempt may take
    #[arg(
        long,
        value_name = "S",
        default_value_t = 60.0,
        help_heading = "Limits"
    )]
    pub timeout: f64,
    /// Seconds that an item may take with its retries; waiting for limits and outages does not count
    #[arg(long, value_name = "S", help_heading = "Limits")]
    pub item_timeout: Option<f64>,

    /// Send single probes only after N failures of the server in a row
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Guards")]
    pub breaker: u32,
    /// Stop when nobody was answered for so many seconds
    #[arg(
        long,
        value_name = "S",
        default_value_t = 1800.0,
        help_heading = "Guards"
    )]
    pub max_outage: f64,
    /// Stop when more of the last 100 items than this have no result, e.g. 5%
    #[arg(
        long,
        value_name = "P",
        allow_hyphen_values = true,
        help_heading = "Guards"
    )]
    pub max_error_rate: Option<String>,

    /// Never spend more than this, over all runs of this output, whatever happens
    #[arg(
        long,
        value_name = "USD",
        allow_hyphen_values = true,
        help_heading = "Money"
    )]
    pub budget: Option<String>,
    /// Warn when so many percent of the budget are spent
    #[arg(long, value_name = "P", default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..=100), requires = "budget", help_heading = "Money")]
    pub budget_warn: u64,
    /// From the warning on, send items that have not started to this model
    #[arg(
        long,
        value_name = "MODEL",
        requires = "budget",
        help_heading = "Money"
    )]
    pub downgrade: Option<String>,
    /// Show what the run can cost and ask, where that is more than this; without a terminal, refuse
    #[arg(
        long,
        value_name = "USD",
        allow_hyphen_values = true,
        help_heading = "Money"
    )]
    pub confirm_above: Option<String>,
    /// Take the answer to --confirm-above for granted
    #[arg(short = 'y', long, help_heading = "Money")]
    pub yes: bool,
    #[command(flatten)]
    pub prices: PriceArgs,

    /// How to show progress on standard error
    #[arg(long, value_enum, default_value_t = ProgressArg::Auto, help_heading = "Reporting")]
    pub progress: ProgressArg,
    /// Print the closing summary as JSON on standard output
    #[arg(long, help_heading = "Reporting")]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Reporting")]
    pub quiet: bool,
    /// Also tell of every retry and every push-back
    #[arg(short, long, help_heading = "Reporting")]
    pub verbose: bool,
}

/// The flags of `run`, so that a command line serves for both, and what to learn of answers.
#[derive(Debug, Args)]
pub struct EstimateArgs {
    /// Set other models beside it: names, or all-PROVIDER, e.g. all-openai
    #[arg(
        long,
        value_name = "MODELS",
        value_delimiter = ',',
        help_heading = "Estimate"
    )]
    pub compare: Vec<String>,
    /// Tokens of an answer, where you know them
    #[arg(long, value_name = "N", help_heading = "Estimate")]
    pub output_tokens: Option<u64>,
    /// Really ask N random items and learn from their answers [default: 50 items]; the answers stay in
    /// the output, so that `run --resume` with the same flags does not pay for them again
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "50", value_parser = clap::value_parser!(u64).range(2..), conflicts_with = "output_tokens", help_heading = "Estimate")]
    pub pilot: Option<u64>,
    /// Learn from an earlier run's results file instead
    #[arg(long, value_name = "RESULTS", conflicts_with_all = ["output_tokens", "pilot"], help_heading = "Estimate")]
    pub from: Option<PathBuf>,
    /// Chooses the items of --pilot
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Estimate")]
    pub seed: u64,

    #[command(flatten)]
    pub run: RunArgs,
}

const ESTIMATE_AFTER_HELP: &str = "Try it without a key:
  llmbatch estimate examples/tickets.jsonl --prompt-file examples/classify.txt -m gpt-4o-mini

Nothing is sent without --pilot. The length of answers is the unknown part of a price: without
--output-tokens, --pilot or --from it is bounded, by max_tokens or by what the model can say.
Exit codes: 0 estimated, 2 bad usage or input (nothing was sent); with --pilot those of run";

/// Returns the command line's grammar.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommand("estimate", |estimate| {
        let hidden = [
            "retry",
            "checkpoint_every",
            "item_timeout",
            "breaker",
            "max_outage",
            "max_error_rate",
            "budget_warn",
            "downgrade",
            "confirm_above",
            "yes",
        ];
        let with_pilot = |estimate: clap::Command, id: &'static str| {
            estimate.mut_arg(id, |flag| {
                let help = flag.get_help().map(ToString::to_string);
                let mut help = help.unwrap_or_default();
                if let Some(first) = help.get_mut(..1) {
                    first.make_ascii_lowercase();
                }
                flag.help(format!("With --pilot: {help}"))
            })
        };
        let estimate = hidden.into_iter().fold(estimate, |estimate, id| {
            estimate.mut_arg(id, |flag| flag.hide(true))
        });
        let of_pilot = [
            "output",
            "overwrite",
            "format",
            "lean",
            "max_retries",
            "timeout",
            "budget",
        ];
        of_pilot
            .into_iter()
            .fold(estimate, with_pilot)
            .about("Say what a file will cost and how long it will take, before it is asked")
            .after_help(ESTIMATE_AFTER_HELP)
            .mut_arg("limit", |flag| {
                flag.help("Only the first N items of the input")
            })
            .mut_arg("skip_invalid", |flag| flag.help("Leave bad lines out"))
            .mut_arg("resume", |flag| {
                flag.help("With --pilot: add to the output of an earlier run")
            })
            .mut_arg("json", |flag| flag.help("Print the estimate as JSON"))
    })
}

/// What turns lines into requests; the same for `run` and `validate`.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Model for lines that name none
    #[arg(short, long, value_name = "NAME", help_heading = "Input")]
    pub model: Option<String>,
    /// Make each line a record that fills this template, e.g. 'Classify: {{ text }}'
    #[arg(
        long,
        value_name = "TEMPLATE",
        conflicts_with = "prompt_file",
        help_heading = "Input"
    )]
    pub prompt: Option<String>,
    /// Read that template from a file
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub prompt_file: Option<PathBuf>,
    /// System prompt (a template too) for lines that have none
    #[arg(long, value_name = "TEXT", help_heading = "Input")]
    pub system: Option<String>,
    /// Limit of an answer's tokens, for lines that set none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Input")]
    pub max_tokens: Option<u64>,
    /// Sampling temperature, for lines that set none
    #[arg(long, value_name = "X", help_heading = "Input")]
    pub temperature: Option<f64>,
    /// Any other request parameter, for lines that do not set it; may be repeated
    #[arg(long, value_name = "KEY=JSON", help_heading = "Input")]
    pub param: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// JSONL file of items, or - for standard input
    pub input: PathBuf,

    #[command(flatten)]
    pub shape: ShapeArgs,

    /// Print the findings as JSON on standard output
    #[arg(long, help_heading = "Reporting")]
    pub json: bool,
}

/// What tokens cost; the same for every command that asks a model.
#[derive(Debug, Default, Args)]
pub struct PriceArgs {
    /// Prices from a file, before the built-in ones (llmbatch's own layout, or LiteLLM's JSON)
    #[arg(long, value_name = "FILE", help_heading = "Money")]
    pub prices: Option<PathBuf>,
    /// USD per 1M prompt tokens, for every model of the run
    #[arg(
        long,
        value_name = "USD",
        requires = "price_out",
        allow_hyphen_values = true,
        help_heading = "Money"
    )]
    pub price_in: Option<String>,
    /// USD per 1M tokens of answers, for every model of the run
    #[arg(
        long,
        value_name = "USD",
        requires = "price_in",
        allow_hyphen_values = true,
        help_heading = "Money"
    )]
    pub price_out: Option<String>,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Only models whose name or provider holds this, in any case
    pub pattern: Option<String>,

    /// Prices from a file, before the built-in ones (llmbatch's own layout, or LiteLLM's JSON)
    #[arg(long, value_name = "FILE", help_heading = "Money")]
    pub prices: Option<PathBuf>,

    /// Print a JSON object, which --prices reads again
    #[arg(long, help_heading = "Reporting")]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "SPEC is a comma-separated list, for instance latency=50ms,rpm=600,429=0.02,stall=0.01.\nKeys: seed, latency, latency-p99, rpm, tpm, max-in-flight, output-tokens, output-spread (standard\ndeviation of the length's logarithm; default 0.5), max-output (longest answer in tokens; default\n16384), reasoning (hidden tokens of each choice), cached (rate of half cached prompts).\nPrices in USD per 1M tokens: price-in and price-out, price-cached; price.MODEL.in, price.MODEL.out\nand price.MODEL.cached for one model.\nFaults, each with a rate from 0 to 1: 429, 500, 503, reset, stall, truncated, html, bad-json,\nempty-choices, content-filter, no-usage. GET /sim/stats counts what happened and what it cost;\nwith ledger=on, GET /sim/ledger lists every charge."
)]
pub struct SimulateArgs {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "P", default_value_t = 8080)]
    pub port: u16,
    /// How it behaves
    #[arg(value_name = "SPEC", default_value = "")]
    pub spec: String,
    /// Refuse any other key
    #[arg(
        long,
        value_name = "NAME",
        help = "Environment variable with the only key to accept [default: any key]"
    )]
    pub api_key_env: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RetryStatus {
    Filtered,
    Rejected,
    Failed,
    Invalid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    Native,
    Openai,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    Auto,
    Bar,
    Log,
    Json,
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        prices: PriceArgs,
    }

    fn parse(args: &str) -> Result<PriceArgs, String> {
        let args = std::iter::once("probe").chain(args.split_whitespace());
        let probe = Probe::try_parse_from(args).map_err(|error| error.to_string())?;
        Ok(probe.prices)
    }

    #[test]
    fn a_price_for_prompts_needs_one_for_answers() {
        for (one, other) in [("--price-in", "--price-out"), ("--price-out", "--price-in")] {
            let error = parse(&format!("{one} 1")).unwrap_err();
            assert!(error.contains(other), "{error}");
            assert!(parse(&format!("{one} 1 {other} 2")).is_ok());
        }
    }

    #[test]
    fn a_negative_price_is_no_unknown_flag() {
        let prices = parse("--price-in -1 --price-out 2").unwrap();
        assert_eq!(prices.price_in.as_deref(), Some("-1"));
    }
}
