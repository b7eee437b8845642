//! The laws of a run, held against an accountant outside the process: the simulator's ledger.
//!
//! A world is a simulator with its own latency and faults, an input, and a life of kills and
//! interrupts at moments drawn from what can be seen of the run: rows in the file, charges in the
//! ledger, a new checkpoint, the lock taken. In the end the faults stop and the run must come to
//! its end. All laws are checked at every death and once more at the end:
//!
//! - L1: each id of the input has one row in the end, and never more than one.
//! - L2: no charge beyond the rows that the runs did not tell of.
//! - L3: each row holds, byte for byte, an answer that the ledger sent for that row's question.
//! - L4: the checkpoint claims no more than the results file holds.
//! - L7: the key stands in no file and no stream.
//! - L8: recovering twice leaves the same bytes as once, also where the first one was killed.
//! - L9: once faults stop, the run ends.
//!
//! Each law was seen to turn red by one change of the program:
//!
//! - L1, twice: `known_results` not inserting the positions of the rows behind the checkpoint.
//! - L1, lost: `Finished::has_result` saying yes for one position too many.
//! - L2: `resume` not extending its notes by `abrupt_end`, or `Summary::possibly_charged` leaving out
//!   what was dropped.
//! - L3: `one_line` parsing a body and writing it again.
//! - L4: `Recorder::append` holding rows back until they are 4,000 bytes, or `Recorder::take` counting
//!   items with an error row as finished.
//! - L7: `opening_line` showing the key.
//! - L8: the last checkpoint of a run not being `clean`.
//! - L9: `ErrorStatus::is_kept_on_resume` keeping every status.
//!
//! Two hundred kills by default; `LLMBATCH_KILLS=2000 cargo test --test laws` makes it more, and
//! `LLMBATCH_WORLD=SEED` lives one world again, as far as the machine's timing repeats.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use support::death::{Death, Moment, holds_lock};
use support::evidence::{CHECKPOINT, Claim, ERRORS, RESULTS, Rows};
use support::server::Server;
use support::{Folder, Run, Said, ids, item_ids, items, tag, wait_until};

const KEY: &str = "sk-canary-4b1d9e77c2a05f36";
const ITEMS: usize = 90;

/// What the runs themselves said of charges that no row stands for.
#[derive(Default)]
struct Reports {
    charges: u64,
    /// By question: how often the item was tried again or given up.
    of_item: HashMap<String, u64>,
    /// Runs that left without a word on what was in flight, and may each have lost one of any item.
    ends: u64,
    /// A kill whose resume has not spoken yet.
    awaits_note: bool,
}

/// What came of a world.
#[derive(Default)]
struct Lived {
    kills: u64,
    /// Charges without a row, and how many the runs told of.
    extra: u64,
    told: u64,
}

struct World {
    random: fastrand::Rng,
    server: Server,
    folder: Arc<Folder>,
    args: Vec<String>,
    reports: Reports,
    kills: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        // In a third of the worlds only the kills go wrong.
        let is_calm = random.u8(..3) == 0;
        let faults = [
            "429",
            "500",
            "503",
            "reset",
            "stall",
            "truncated",
            "html",
            "bad-json",
            "no-usage",
        ]
        .map(|fault| {
            let rate = if is_calm { 0.0 } else { random.f64() * 0.05 };
            format!("{fault}={rate:.3}")
        })
        .join(",");
        // Slow worlds live long enough for checkpoints in mid-run.
        let (latency, slots) = match random.u8(..4) {
            0 => (random.u64(40..90), random.u64(1..4)),
            _ => (random.u64(0..25), random.u64(1..16)),
        };
        let server = Server::with_key(
            &format!("seed={seed},ledger=on,latency={latency}ms,{faults}"),
            KEY,
        );
        let folder = Folder::new();
        folder.write("in.jsonl", items(ITEMS));
        let every = random.u64(1..20).to_string();
        let retries = random.u64(0..4).to_string();
        let args = [
            "-c",
            &slots.to_string(),
            "--timeout",
            "0.5",
            "--checkpoint-every",
            &every,
            "--max-retries",
            &retries,
        ];
        World {
            random,
            server,
            folder,
            args: args.map(str::to_owned).to_vec(),
            reports: Reports::default(),
            kills: 0,
        }
    }

    fn run(&self, folder: &Arc<Folder>, server: &Server) -> Run {
        Run::inside(folder)
            .resume()
            .ask(server.base_url())
            .args(self.args.iter().map(String::as_str))
            .args(["-v", "--progress", "log", "--json"])
            .env("OPENAI_API_KEY", KEY)
            .loud()
            .any_stderr()
    }

    fn live(mut self) -> Lived {
        for _ in 0..self.random.u8(6..16) {
            if self.live_once() == Some(0) {
                break;
            }
            if self.random.u8(..4) == 0 {
                self.recover_twice();
            }
        }
        let extra = self.end_in_peace();
        Lived {
            kills: self.kills,
            extra,
            told: self.reports.charges,
        }
    }

    /// Lets one run live until its moment comes. Returns its exit code, if it came to have one.
    fn live_once(&mut self) -> Option<i32> {
        let moment = Moment::draw(&mut self.random);
        let death = Death::draw(&mut self.random);
        let charged = self.server.count("charged_answers");
        let before = Rows::of(&self.folder);
        let mut running = self.run(&self.folder, &self.server).start();
        moment.come(&mut running, &self.folder, &self.server);
        let said = death.strike(running);
        self.kills += u64::from(said.code.is_none());
        self.check_secrecy(&said);
        self.check_rows();
        self.check_checkpoint();
        self.listen(&said, &before);
        if !self.reports.awaits_note || said.stderr.contains("ended abruptly") {
            let known = before.results.len() as u64 + self.reports.charges;
            assert!(charged <= known, "L2: {charged} charges, {known} known of");
        }
        self.reports.awaits_note = said.code.is_none();
        said.code
    }

    /// Takes down what a run, or the one after it, says of charges without a row.
    fn listen(&mut self, said: &Said, before: &Rows) {
        let reports = &mut self.reports;
        if let Some(number) = noted_in_flight(&said.stderr) {
            reports.charges += number;
        }
        for line in said
            .stderr
            .lines()
            .filter(|line| line.contains(", again in "))
        {
            if let Some((id, _)) = line.split_once(": ") {
                *reports.of_item.entry(id.to_owned()).or_default() += 1;
            }
        }
        let after = Rows::of(&self.folder);
        for id in after.errors.iter().collect::<HashSet<_>>() {
            *reports.of_item.entry(id.clone()).or_default() += 1;
        }
        if let Ok(summary) = serde_json::from_str::<Value>(&said.stdout) {
            let dropped = summary["possibly_charged"].as_u64().expect("a number");
            reports.charges += dropped;
            reports.ends += u64::from(dropped > 0);
            return;
        }
        // A killed run has told of what it retried and what it gave up.
        reports.ends += 1;
        let may_be_charged =
            |line: &&str| line.contains(", again in ") && !line.contains(": server error, ");
        let retries = said.stderr.lines().filter(may_be_charged).count();
        let given_up = after.errors.len().saturating_sub(before.errors_that_stay());
        reports.charges += (retries + given_up) as u64;
    }

    fn check_secrecy(&self, said: &Said) {
        let leaks = |text: &[u8]| text.windows(KEY.len()).any(|part| part == KEY.as_bytes());
        for (name, bytes) in self.folder.content() {
            assert!(!leaks(&bytes), "L7: the key stands in {name}");
        }
        for stream in [&said.stdout, &said.stderr] {
            assert!(
                !leaks(stream.as_bytes()),
                "L7: the key was printed: {stream}"
            );
        }
    }

    fn check_rows(&self) {
        let rows = Rows::of(&self.folder);
        let distinct: HashSet<_> = rows.results.iter().collect();
        assert_eq!(distinct.len(), rows.results.len(), "L1: an id stands twice");
    }

    /// Reads the checkpoint without the program's own code.
    fn check_checkpoint(&self) {
        let Some(claim) = Claim::read(&self.folder) else {
            return;
        };
        let results = self.folder.bytes(RESULTS);
        let claimed = results.get(..claim.results_bytes as usize);
        let claimed = claimed
            .unwrap_or_else(|| panic!("L4: {} bytes of {}", claim.results_bytes, results.len()));
        assert!(
            claimed.last().is_none_or(|byte| *byte == b'\n'),
            "L4: half a row"
        );
        let rows: HashSet<u64> = claimed
            .split_inclusive(|byte| *byte == b'\n')
            .map(|row| serde_json::from_slice::<Value>(row).expect("L4: no row"))
            .map(|row| row["index"].as_u64().expect("an index"))
            .collect();
        assert_eq!(claim.positions(), rows, "L4: other items than the rows'");
    }

    /// Recovers a copy of the files as they are: twice, and once behind a kill.
    fn recover_twice(&mut self) {
        let charged = self.server.count("charged_answers");
        let recover = |folder: &Arc<Folder>| {
            let said = self
                .run(folder, &self.server)
                .args(["--limit", "0"])
                .start()
                .said();
            assert_eq!(said.code, Some(0), "L8: {}", said.stderr);
            folder.content()
        };
        let (copy, crashed) = (self.folder.copy(), self.folder.copy());
        let once = recover(&copy);
        let twice = recover(&copy);
        assert!(
            once == twice,
            "L8: recovering again changed {:?}",
            differing(&once, &twice)
        );
        let mut running = self
            .run(&crashed, &self.server)
            .args(["--limit", "0"])
            .start();
        wait_until("the lock", || {
            holds_lock(running.pid()) || running.has_ended()
        });
        running.kill();
        let behind_a_crash = recover(&crashed);
        let differ = differing(&once, &behind_a_crash);
        // The other accounts what both of its predecessors may have had in flight.
        let rows: Vec<_> = differ.iter().filter(|name| *name != CHECKPOINT).collect();
        assert!(
            rows.is_empty(),
            "L8: a crash while recovering changed {rows:?}"
        );
        if self.reports.awaits_note {
            // What reached the server late is not of these runs.
            return;
        }
        assert_eq!(
            self.server.count("charged_answers"),
            charged,
            "L8: recovering asked"
        );
    }

    /// The faults stop, and so do the kills. Returns how many charges have no row.
    fn end_in_peace(&mut self) -> u64 {
        let peaceful = Server::with_key("latency=1ms,ledger=on", KEY);
        let before = Rows::of(&self.folder);
        let said = self.run(&self.folder, &peaceful).start().said();
        assert_eq!(said.code, Some(0), "L9: {}", said.stderr);
        self.check_secrecy(&said);
        self.check_checkpoint();
        self.listen(&said, &before);
        let text = self.folder.read(RESULTS);
        assert_eq!(ids(&support::parse_rows(&text)), item_ids(ITEMS), "L1");
        assert_eq!(self.folder.lines(ERRORS), 0, "L1");
        let mut ledger = self.server.ledger();
        ledger.extend(peaceful.ledger());
        self.check_fidelity(&text, &ledger);
        self.check_charges(&ledger)
    }

    fn check_fidelity(&self, results: &str, ledger: &[Value]) {
        #[derive(Deserialize)]
        struct Row<'a> {
            id: &'a str,
            #[serde(borrow)]
            response: &'a RawValue,
        }
        let sent: HashSet<(&str, &str)> = ledger
            .iter()
            .filter(|charge| charge["whole"] == true)
            .map(|charge| {
                let text = |name: &str| charge[name].as_str().unwrap_or_default();
                (text("question"), text("answer"))
            })
            .collect();
        for line in results.lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let answer = format!("{:032x}", xxh3_128(row.response.get().as_bytes()));
            assert!(
                sent.contains(&(question_of(row.id).as_str(), answer.as_str())),
                "L3: {line} was never sent for {}",
                row.id
            );
        }
    }

    fn check_charges(&self, ledger: &[Value]) -> u64 {
        let reports = &self.reports;
        let extra = ledger.len() as u64 - ITEMS as u64;
        assert!(
            extra <= reports.charges,
            "L2: {extra} charges without a row, {} told of",
            reports.charges
        );
        let mut charges: HashMap<&str, u64> = HashMap::new();
        for charge in ledger {
            *charges
                .entry(charge["question"].as_str().unwrap())
                .or_default() += 1;
        }
        for id in item_ids(ITEMS) {
            let paid = charges.get(question_of(&id).as_str()).copied().unwrap_or(0);
            let told = reports.of_item.get(&id).copied().unwrap_or(0) + reports.ends;
            assert!(
                (1..=1 + told).contains(&paid),
                "L2: {id} was paid {paid} times, {told} told of"
            );
        }
        extra
    }
}

/// Finds how many requests of the run before may have been on their way.
fn noted_in_flight(stderr: &str) -> Option<u64> {
    let note = stderr
        .lines()
        .find(|line| line.contains("ended abruptly"))?;
    let (_, rest) = note.split_once("up to ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Returns the tag of an item's question.
fn question_of(id: &str) -> String {
    tag(&format!("question {}", id.trim_start_matches("t-")))
}

fn differing(
    one: &std::collections::BTreeMap<String, Vec<u8>>,
    other: &std::collections::BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differs = |name: &&&String| one.get(**name) != other.get(**name);
    names
        .iter()
        .filter(differs)
        .map(|name| (*name).clone())
        .collect()
}

/// Says which world it was that broke a law.
struct Announced(u64);

impl Drop for Announced {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of LLMBATCH_WORLD={}", self.0);
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

#[test]
fn no_kill_and_no_fault_breaks_a_law() {
    if let Some(seed) = setting("LLMBATCH_WORLD") {
        World::new(seed).live();
        return;
    }
    let goal = setting("LLMBATCH_KILLS").unwrap_or(200);
    let seeds = AtomicU64::new(0);
    let all = Mutex::new(Lived::default());
    let live = || {
        while all.lock().unwrap().kills < goal {
            let seed = Announced(seeds.fetch_add(1, Ordering::Relaxed));
            let lived = World::new(seed.0).live();
            let mut all = all.lock().unwrap();
            all.kills += lived.kills;
            all.extra += lived.extra;
            all.told += lived.told;
        }
    };
    // Worlds are mostly asleep, so some of them go side by side.
    std::thread::scope(|scope| (0..6).for_each(|_| drop(scope.spawn(live))));
    let (worlds, all) = (seeds.into_inner(), all.into_inner().unwrap());
    println!(
        "{} kills in {worlds} worlds: {} charges without a row, {} told of",
        all.kills, all.extra, all.told
    );
}
