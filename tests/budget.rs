//! Costs and budgets, checked by an accountant outside the process: the simulator's own ledger.

mod support;

use std::sync::Arc;

use llmbatch::words::money::Usd;
use support::server::Server;
use support::{Folder, Run, item, item_ids, items, row, wait_until};

/// Prices that the simulator charges and the run is told.
const SIM: &str = "latency=0,price-in=1,price-out=10";
const PRICES: [&str; 4] = ["--price-in", "1", "--price-out", "10"];
const LIMITED: [&str; 2] = ["--max-tokens", "500"];

fn usd(text: &str) -> Usd {
    Usd::parse(text).unwrap()
}

/// What the simulator charged so far.
fn charged(server: &Server) -> Usd {
    usd(server.stats()["charged_usd"].as_str().expect("an amount"))
}

fn amount(value: &serde_json::Value) -> Usd {
    usd(&value.to_string())
}

fn run(folder: &Arc<Folder>, server: &Server) -> Run {
    Run::inside(folder)
        .ask(server.base_url())
        .args(PRICES)
        .args(["--json"])
}

#[test]
fn every_row_says_what_its_answer_cost() {
    let server = Server::start(&format!("{SIM},cached=0.5,price-cached=0.25"));
    let done = run(&Folder::new(), &server).input(items(20)).run();
    let rows = done.results();
    let sum: Usd = rows.iter().map(|row| amount(&row["cost_usd"])).sum();
    // The run is told no price of cached tokens, so they cost as the others.
    for row in &rows {
        let used = &row["usage"];
        let tokens = |name: &str| used[name].as_u64().unwrap();
        let cost = tokens("prompt_tokens") + 10 * tokens("completion_tokens");
        assert_eq!(amount(&row["cost_usd"]), usd("0.000001").times(cost));
    }
    assert_eq!(amount(&done.json()["cost_usd"]), sum);
}

#[test]
fn the_total_is_the_ledgers_when_no_answer_is_lost() {
    let server = Server::start(&format!(
        "{SIM},bad-json=0.1,empty-choices=0.1,500=0.1,429=0.1,no-usage=0,reasoning=20"
    ));
    let done = run(&Folder::new(), &server)
        .input(items(300))
        .args(LIMITED)
        .args(["--max-retries", "9"])
        .expect_code(3)
        .run();
    let summary = done.json();
    let unseen = amount(&summary["possibly_charged_usd"]);
    let known = amount(&summary["cost_usd"]);
    let ledger = charged(&server);
    assert!(known <= ledger, "{known} > {ledger}");
    // Broken JSON hides what it used: it is at risk, and never more than that.
    assert!(ledger <= known + unseen, "{ledger} > {known} + {unseen}");
    assert!(amount(&summary["cost_without_result_usd"]) > Usd::ZERO);
}

#[test]
fn the_total_is_exact_when_every_answer_says_what_it_used() {
    let server = Server::start(&format!(
        "{SIM},empty-choices=0.1,500=0.1,429=0.1,reasoning=20"
    ));
    let done = run(&Folder::new(), &server)
        .input(items(300))
        .args(["--max-retries", "9"])
        .any_stderr()
        .expect_code(3)
        .run();
    assert_eq!(amount(&done.json()["cost_usd"]), charged(&server));
}

#[test]
fn a_cost_that_is_not_known_is_null_and_never_zero() {
    let done = Run::new().input(items(2)).simulate().args(["--json"]).run();
    assert!(row(&done.results(), "t-0")["cost_usd"].is_null());
    assert!(done.json()["cost_usd"].is_null());
}

#[test]
fn a_spent_budget_ends_the_run_with_4_and_can_be_raised() {
    let server = Server::start(SIM);
    let folder = Folder::new();
    let budget = |usd: &'static str| run(&folder, &server).args(LIMITED).args(["--budget", usd]);
    let first = budget("0.05")
        .input(items(300))
        .loud()
        .expect_code(4)
        .any_stderr()
        .run();
    let summary = first.json();
    assert!(charged(&server) <= usd("0.05"));
    assert!(summary["pending"].as_u64().unwrap() > 0);
    assert!(amount(&summary["cost_of_the_rest_usd"]) > Usd::ZERO);
    for part in [
        "error: the budget is used up",
        "--budget",
        "items may cost about $",
    ] {
        assert!(first.stderr.contains(part), "{part}\n{}", first.stderr);
    }
    let again = budget("0.05").resume().any_stderr().expect_code(4).run();
    assert_eq!(again.json()["requests"], 0);
    let last = budget("10").resume().run();
    assert_eq!(last.ids(), item_ids(300));
    assert_eq!(
        amount(&last.json()["cost_of_all_runs_usd"]),
        charged(&server)
    );
}

#[test]
fn a_budget_far_below_the_worst_case_of_all_is_used_up_all_the_same() {
    // One answer can cost 0.164 dollars, all 300 of them together cost about 0.13.
    let done = Run::new()
        .input(items(300))
        .args(["--simulate=latency=0", "--budget", "0.2", "--json"])
        .args(PRICES)
        .run();
    assert_eq!(done.ids(), item_ids(300));
    assert!(amount(&done.json()["cost_usd"]) < usd("0.2"));
}

#[test]
fn no_answer_is_lost_to_a_limit_that_the_budget_set() {
    // Forty short answers teach a low limit, which the ten longest then meet.
    let spec = "--simulate=latency=5ms,output-tokens=20,output-spread=2";
    let run = |input: String| Run::new().args([spec, "--json"]).args(PRICES).input(input);
    let all = run(items(300)).run();
    let mut rows = all.results();
    rows.sort_by_key(|row| row["usage"]["completion_tokens"].as_u64());
    let order = (0..40).chain(290..300).chain(40..290);
    let input = order.map(|at| {
        let id = rows[at]["id"].as_str().unwrap();
        item(id.trim_start_matches("t-").parse().unwrap())
    });
    let budget = amount(&all.json()["cost_usd"]).share(18, 10).to_string();
    let done = run(input.collect())
        .args(["--budget", &budget])
        .any_stderr()
        .start()
        .finish_with([0, 4]);
    assert_eq!(done.errors(), Vec::<serde_json::Value>::new());
    assert!(done.results().len() >= 50, "{}", done.results().len());
    let summary = done.json();
    assert!(
        amount(&summary["cost_without_result_usd"]) > Usd::ZERO,
        "nothing was cut"
    );
    assert!(amount(&summary["budget"]["spent_usd"]) <= usd(&budget));
    let cut = done
        .results()
        .iter()
        .filter(|row| row["finish_reason"] == "length")
        .count();
    assert_eq!(cut, 0, "cut answers were stored");
}

#[test]
fn answers_that_hide_what_they_used_are_reckoned_with_in_full() {
    let server = Server::start(&format!("{SIM},reasoning=400,output-tokens=5,no-usage=0.5"));
    let done = run(&Folder::new(), &server)
        .input(items(60))
        .args(LIMITED)
        .args(["--budget", "0.15"])
        .any_stderr()
        .start()
        .finish_with([0, 4]);
    let ledger = charged(&server);
    assert!(ledger <= usd("0.15"), "{ledger}");
    assert!(done.json()["tokens"]["answers_without_usage"].as_u64() > Some(5));
}

#[test]
fn a_cost_that_nobody_tells_is_not_zero() {
    let server = Server::start(&format!("{SIM},no-usage=1"));
    let done = run(&Folder::new(), &server)
        .input(items(3))
        .args(LIMITED)
        .loud()
        .any_stderr()
        .run();
    assert!(done.json()["cost_usd"].is_null());
    for part in ["cost     not known", "for 3 answers without usage"] {
        assert!(done.stderr.contains(part), "{part}\n{}", done.stderr);
    }
}

#[test]
fn rows_of_an_unpriced_run_are_priced_once_their_price_is_known() {
    for form in ["native", "openai"] {
        let server = Server::start(SIM);
        let folder = Folder::new();
        let base = || {
            Run::inside(&folder)
                .ask(server.base_url())
                .args(["--format", form])
        };
        base().args(["--limit", "20"]).input(items(30)).run();
        let last = base()
            .resume()
            .args(PRICES)
            .args(LIMITED)
            .args(["--allow-changes", "--budget", "5", "--json"])
            .run();
        assert_eq!(
            amount(&last.json()["budget"]["spent_usd"]),
            charged(&server),
            "{form}"
        );
    }
}

#[test]
fn error_rows_that_cost_something_count_after_a_kill() {
    let server =
        Server::start(&format!("{SIM},empty-choices=0.9").replace("latency=0", "latency=20ms"));
    let folder = Folder::new();
    let base = || {
        Run::inside(&folder)
            .ask(server.base_url())
            .args(PRICES)
            .args(LIMITED)
            .args(["--max-retries", "0", "-c", "4"])
            .any_stderr()
    };
    let killed = base().input(items(200)).start();
    wait_until("error rows", || {
        folder.lines("in.results.errors.jsonl") > 60
    });
    killed.kill();
    let next = base()
        .resume()
        .args(["--budget", "5", "--json"])
        .start()
        .finish_with([0, 3]);
    let ledger = charged(&server);
    let accounts = &next.json()["budget"];
    let booked = amount(&accounts["spent_usd"]) + amount(&accounts["possibly_charged_usd"]);
    assert!(ledger <= booked, "{ledger} charged, {booked} booked");
}

#[test]
fn a_resumed_run_knows_how_long_answers_are() {
    // With 40 answers there, 0.02 dollars are left, and one answer can cost 0.164.
    let folder = Folder::new();
    let run = || {
        Run::inside(&folder)
            .args(["--simulate=latency=0", "--json"])
            .args(PRICES)
    };
    let first = run().args(["--limit", "40"]).input(items(60)).run();
    let spent = amount(&first.json()["cost_usd"]);
    let budget = (spent + usd("0.02")).to_string();
    let last = run().resume().args(["--budget", &budget]).run();
    assert_eq!(last.ids(), item_ids(60));
}

#[test]
fn from_the_warning_on_items_go_to_the_cheaper_model() {
    let spec = format!("{SIM},price.cheap.in=0.1,price.cheap.out=1");
    let server = Server::start(&spec);
    let folder = Folder::new();
    folder.write(
        "prices.json",
        r#"{"version":1,"date":"2026-11-22","source":"here","models":[
            {"provider":"any","model":"m","input":1,"output":10,"max_output":500},
            {"provider":"any","model":"cheap","input":0.1,"output":1,"max_output":500}]}"#,
    );
    let done = Run::inside(&folder)
        .ask(server.base_url())
        .input(items(300))
        .args(["--prices", "prices.json", "--budget", "0.06", "--json"])
        .args(["--downgrade", "cheap", "--budget-warn", "50", "-c", "4"])
        .loud()
        .any_stderr()
        .run();
    let model = |row: &serde_json::Value| row["model"].as_str().unwrap().to_owned();
    let cheap = done
        .results()
        .iter()
        .filter(|row| model(row).starts_with("cheap"))
        .count();
    assert!(
        (50..290).contains(&cheap),
        "{cheap} went to the cheaper model"
    );
    assert_eq!(done.json()["budget"]["downgraded_items"], cheap);
    assert_eq!(
        done.stderr.matches("warning: ").count(),
        1,
        "{}",
        done.stderr
    );
    assert!(
        done.stderr
            .contains("items that have not started go to cheap now")
    );
    assert_eq!(amount(&done.json()["cost_usd"]), charged(&server));
}

#[test]
fn a_budget_that_cannot_hold_is_refused_before_the_first_request() {
    let server = Server::start(SIM);
    let folder = Folder::new();
    let refuse = |args: &[&str], parts: [&str; 2]| {
        let refused = Run::inside(&folder)
            .ask(server.base_url())
            .input(items(3))
            .args(args.iter().copied())
            .any_stderr()
            .expect_code(2)
            .run();
        for part in parts {
            assert!(
                refused.stderr.contains(part),
                "{args:?}: {}",
                refused.stderr
            );
        }
        assert_eq!(folder.names(), ["in.jsonl"], "it left files");
    };
    refuse(
        &["--budget", "1"],
        ["that of the model m is not known", "--price-in"],
    );
    let priced = |amount: &'static str| [&["--budget", amount][..], &PRICES].concat();
    refuse(&priced("1"), ["nothing limits", "--max-tokens"]);
    let limited = |amount: &'static str| [&priced(amount)[..], &LIMITED].concat();
    refuse(&limited("0.0001"), ["smaller than one item", "line 1"]);
    refuse(&limited("0"), ["--budget 0", "above 0"]);
    refuse(&limited("-1"), ["--budget -1", "negative"]);
    refuse(&limited("NaN"), ["--budget NaN", "not a number"]);
    refuse(&limited("inf"), ["--budget inf", "not a number"]);
    assert_eq!(server.count("requests"), 0);
}

#[test]
fn a_dear_run_is_not_begun_unasked() {
    let folder = Folder::new();
    let above = |usd: &'static str| {
        Run::inside(&folder)
            .simulate()
            .args(PRICES)
            .args(LIMITED)
            .args(["--confirm-above", usd])
    };
    // 20 items with at most 500 tokens each cost up to 0.10 dollars and a little.
    above("0.1")
        .input(items(20))
        .expect_code(2)
        .expect_stderr([
            "error: 20 items, 240 prompt tokens: this can cost up to about $0.1002",
            "--yes",
        ])
        .run();
    assert_eq!(folder.names(), ["in.jsonl"]);
    above("0.11").input(items(20)).run();
    above("0.01")
        .args(["--yes", "--overwrite", "in.jsonl"])
        .run();
    // What is done costs nothing any more.
    folder.append("in.jsonl", "{\"id\":\"new\",\"prompt\":\"p\"}\n");
    above("0.001").resume().any_stderr().expect_code(2).run();
    above("0.02").resume().any_stderr().run();
}

#[test]
fn a_run_whose_cost_is_not_known_is_not_begun_unasked() {
    Run::new()
        .input(items(2))
        .simulate()
        .args(["--confirm-above", "5"])
        .expect_code(2)
        .expect_stderr(["a price is missing", "--yes"])
        .run();
    Run::new()
        .args(["-", "--confirm-above", "5"])
        .stdin(items(2))
        .simulate()
        .args(PRICES)
        .expect_code(2)
        .expect_stderr(["needs a file", "--yes"])
        .run();
}

#[test]
fn what_an_earlier_run_without_a_budget_may_have_spent_counts() {
    let server = Server::start(&format!("{SIM},latency=300ms").replace("latency=0,", ""));
    let folder = Folder::new();
    let run = || {
        Run::inside(&folder)
            .ask(server.base_url())
            .args(LIMITED)
            .args(["-c", "5"])
            .any_stderr()
    };
    // Its price is not known, and its requests are killed on their way.
    let killed = run().input(items(30)).start();
    wait_until("rows", || folder.lines("in.results.jsonl") >= 5);
    killed.kill();
    let last = run()
        .resume()
        .loud()
        .args(PRICES)
        .args(["--budget", "10", "--json"])
        .run();
    let accounts = &last.json()["budget"];
    let booked = amount(&accounts["spent_usd"]) + amount(&accounts["possibly_charged_usd"]);
    let ledger = charged(&server);
    assert!(ledger <= booked, "{ledger} charged, {booked} booked");
    assert!(
        last.stderr.contains("of earlier runs cost is not known"),
        "{}",
        last.stderr
    );
    let again = run()
        .resume()
        .args(PRICES)
        .args(["--budget", "10", "--json"])
        .run();
    assert_eq!(again.json()["budget"], last.json()["budget"]);
}

/// One run of the law: random prices, budget, latency and faults, killed at random moments and
/// resumed; the ledger outside never shows more than the budget.
fn spend_under_law(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (price_in, price_out) = (random.u64(0..4), random.u64(1..60));
    let faults = [
        "reset",
        "truncated",
        "bad-json",
        "no-usage",
        "empty-choices",
        "500",
        "429",
    ]
    .map(|fault| format!("{fault}={}", random.u64(0..8) as f64 / 100.0))
    .join(",");
    let latency = random.u64(0..40);
    let server = Server::start(&format!(
        "seed={seed},latency={latency}ms,{faults},price-in={price_in},price-out={price_out},\
         max-output=400,reasoning={},output-tokens={},output-spread=1",
        [0, 0, 150][random.usize(..3)],
        // From answers far below their limit to answers that nearly all reach it.
        [10, 300, 5000][seed as usize % 3]
    ));
    // From the worst case of a few items up to more than all of them can cost.
    let worst = usd("0.000001").times(price_in * 700 + price_out * 400);
    let budget = worst.times(random.u64(2..220));
    let budget_text = budget.to_string();
    let folder = Folder::new();
    folder.write("in.jsonl", items(200));
    folder.write(
        "prices.json",
        format!(
            r#"{{"version":1,"models":[{{"model":"m","input":{price_in},"output":{price_out},"max_output":400}}]}}"#
        ),
    );
    // The limit of answers is the run's own, or the model's.
    let limit: &[&str] = [&["--max-tokens", "400"][..], &[]][random.usize(..2)];
    let slots = random.u64(1..24).to_string();
    let run = |resume: bool| {
        Run::inside(&folder)
            .ask(server.base_url())
            .args(["in.jsonl", "--budget", &budget_text, "-c", &slots])
            .args(["--prices", "prices.json"])
            .args(limit.iter().copied())
            .args(["--checkpoint-every", "7"])
            .args(resume.then_some("--resume"))
            .any_stderr()
    };
    let mut resume = false;
    for _ in 0..random.u64(1..6) {
        let goal = server.count("requests") + random.u64(1..60);
        let mut killed = run(resume).start();
        wait_until("requests before the kill", || {
            server.count("requests") >= goal || killed.has_ended()
        });
        killed.kill();
        resume = folder.path("in.results.jsonl").exists();
        let ledger = charged(&server);
        assert!(ledger <= budget, "seed {seed}: {ledger} of {budget}");
    }
    let last = run(resume).args(["--json"]).start().finish_with([0, 3, 4]);
    let ledger = charged(&server);
    assert!(ledger <= budget, "seed {seed}: {ledger} of {budget}");
    let accounts = &last.json()["budget"];
    let booked = amount(&accounts["spent_usd"]) + amount(&accounts["possibly_charged_usd"]);
    assert!(
        ledger <= booked,
        "seed {seed}: {ledger} charged, {booked} booked"
    );
    assert!(booked <= budget, "seed {seed}: {booked} booked of {budget}");
}

/// Runs are mostly asleep between attempts, so four of them go side by side.
fn under_law(seeds: std::ops::Range<u64>) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if !seeds.contains(&seed) {
                    return;
                }
                spend_under_law(seed);
            }
        };
        (0..4).for_each(|_| drop(scope.spawn(work)));
    });
}

#[test]
fn no_kill_and_no_fault_passes_a_budget() {
    under_law(0..12);
}

/// The same law at length: `cargo test --test budget -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn no_kill_and_no_fault_passes_a_budget_at_length() {
    under_law(100..220);
}
