//! What counting tokens costs: MB/s for one and for two threads beside a plain loop over the
//! tokenizer library, `llmbatch estimate` on a file of 100 MB with its peak memory, and inputs
//! that bring tokenizers to their knees. One command prints the tables:
//!
//! ```text
//! cargo bench --bench counting
//! ```
//!
//! The text is made up from 50,000 words that are as frequent as words of a language are (Zipf's
//! law), with names, numbers and marks. `cargo bench --bench counting -- FILE` takes the texts of
//! a JSONL file's `text` or `prompt` fields instead.

mod measure;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use llmbatch::tokenizer::Encoding;
use measure::measure;

/// The program under test, built with the benchmark's own profile.
const LLMBATCH: &str = env!("CARGO_BIN_EXE_llmbatch");
const TEXT_BYTES: usize = 20_000_000;
const FILE_BYTES: usize = 100_000_000;
const RECORD: usize = 2000;

/// The word that makes this program count in one way and say how long it took.
const LOOP: &str = "--loop";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|arg| arg == LOOP) {
        return count_in_loop(&args[at + 1], &args[at + 2], args.get(at + 3));
    }
    // First, while this process is small: a child's peak memory starts from its parent's.
    estimate_file();
    let given = args.iter().find(|arg| !arg.starts_with("--"));
    println!("\ntexts of about 2 KB, o200k_base, in a fresh process each");
    println!("{:<34}{:>10}{:>12}{:>14}", "", "MB/s", "seconds", "tokens");
    let mut expected = None;
    for (name, way) in [
        ("a plain loop over tiktoken-rs", "plain"),
        ("the same, 2 threads", "plain2"),
        ("llmbatch, 1 thread", "ours"),
        ("llmbatch, 2 threads", "ours2"),
    ] {
        let tokens = row(name, way, given);
        assert_eq!(*expected.get_or_insert(tokens), tokens, "all count alike");
    }
    count_odd_texts();
}

/// Prints the best of three processes.
fn row(name: &str, way: &str, given: Option<&String>) -> u64 {
    let run = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args([LOOP, way, &TEXT_BYTES.to_string()])
            .args(given);
        let output = command.output().expect("the program runs");
        let text = String::from_utf8(output.stdout).expect("numbers are text");
        let mut words = text
            .split_whitespace()
            .map(|word| word.parse::<f64>().expect("a number"));
        let mut next = || words.next().expect("three numbers");
        (next(), next(), next())
    };
    let runs: Vec<_> = (0..3).map(|_| run()).collect();
    let (seconds, bytes, tokens) = *runs
        .iter()
        .min_by(|one, other| one.0.total_cmp(&other.0))
        .expect("three runs");
    println!(
        "{name:<34}{:>10.1}{seconds:>12.2}{tokens:>14}",
        bytes / 1e6 / seconds
    );
    tokens as u64
}

/// Counts texts once, with the vocabulary loaded and nothing remembered, and prints seconds, bytes
/// and tokens.
fn count_in_loop(way: &str, bytes: &str, given: Option<&String>) {
    let texts = match given {
        Some(path) => texts_of(Path::new(path)),
        None => made_up_texts(bytes.parse().expect("a number")),
    };
    let bytes: usize = texts.iter().map(String::len).sum();
    let vocabulary = tiktoken_rs::o200k_base_singleton();
    let plain = |text: &String| vocabulary.encode_ordinary(text).len() as u64;
    let ours = |text: &String| Encoding::O200kBase.count(text).0;
    let started = Instant::now();
    let tokens = match way {
        "plain" => sum(&texts, plain),
        "plain2" => parallel_sum(&texts, 2, plain),
        "ours" => sum(&texts, ours),
        _ => parallel_sum(&texts, 2, ours),
    };
    println!("{} {bytes} {tokens}", started.elapsed().as_secs_f64());
}

fn sum(texts: &[String], count: impl Fn(&String) -> u64) -> u64 {
    texts.iter().map(count).sum()
}

fn parallel_sum(texts: &[String], threads: usize, count: impl Fn(&String) -> u64 + Sync) -> u64 {
    let count = &count;
    std::thread::scope(|scope| {
        let share = |part| scope.spawn(move || sum(part, count));
        let parts: Vec<_> = texts
            .chunks(texts.len().div_ceil(threads))
            .map(share)
            .collect();
        parts
            .into_iter()
            .map(|part| part.join().expect("it counts"))
            .sum()
    })
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Runs the whole command on a large file, with one core and with two.
fn estimate_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("in.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("an input file"));
    let (mut written, mut number) = (0, 0);
    let mut author = Author::new();
    while written < FILE_BYTES {
        let prompt = serde_json::to_string(&author.text()).expect("a string is JSON");
        let line = format!("{{\"id\":\"t-{number}\",\"prompt\":{prompt}}}\n");
        number += 1;
        written += line.len();
        file.write_all(line.as_bytes()).expect("the disk takes it");
    }
    file.flush().expect("the disk takes it");
    println!(
        "\n{:.1} MB of JSONL through llmbatch estimate",
        megabytes(written)
    );
    println!(
        "{:<34}{:>10}{:>12}{:>14}",
        "", "MB/s", "seconds", "peak memory"
    );
    for (name, models) in [
        ("one vocabulary", "gpt-4o-mini"),
        ("two vocabularies", "gpt-4o-mini,gpt-4"),
    ] {
        let mut command = Command::new(LLMBATCH);
        command.arg("estimate").arg(&path);
        command.args(["-q", "--compare", models]);
        let figures = measure(command);
        let seconds = figures.wall.as_secs_f64();
        let rate = megabytes(written) / seconds;
        println!(
            "{name:<34}{rate:>10.1}{seconds:>12.2}{:>10} MiB",
            figures.peak_bytes >> 20
        );
    }
}

/// A megabyte each of what splits into nothing, or into very much.
fn count_odd_texts() {
    println!("\n1 MB of                                   seconds        tokens");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut random = |letters: &[u8]| -> String {
        (0..1_000_000)
            .map(|_| letters[rng.usize(..letters.len())] as char)
            .collect()
    };
    let odd = [
        ("one letter", "a".repeat(1_000_000)),
        ("blanks", " ".repeat(1_000_000)),
        ("line feeds", "\n".repeat(1_000_000)),
        ("no-break blanks", "\u{a0}".repeat(500_000)),
        ("one Chinese character", "語".repeat(333_333)),
        ("random letters", random(b"abcdefghijklmnopqrstuvwxyz")),
        (
            "random base64",
            random(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"),
        ),
        ("random marks", random(b"!#$%&()*+,-.:;<=>?@[]^_`{|}~")),
    ];
    for (name, text) in odd {
        let started = Instant::now();
        let tokens = Encoding::O200kBase.count(&text).0;
        println!(
            "{name:<34}{:>15.2}{tokens:>14}",
            started.elapsed().as_secs_f64()
        );
    }
}

fn texts_of(path: &Path) -> Vec<String> {
    let lines = std::fs::read_to_string(path).expect("the file can be read");
    let text = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(row.get("text").or(row.get("prompt"))?.as_str()?.to_owned())
    };
    lines.lines().filter_map(text).collect()
}

fn made_up_texts(bytes: usize) -> Vec<String> {
    let mut author = Author::new();
    let mut total = 0;
    let mut texts = Vec::new();
    while total < bytes {
        texts.push(author.text());
        total += texts.last().map_or(0, String::len);
    }
    texts
}

/// Writes texts of about 2 KB.
struct Author {
    rng: fastrand::Rng,
    words: Vec<String>,
}

impl Author {
    fn new() -> Self {
        let mut rng = fastrand::Rng::with_seed(7);
        Author {
            words: (0..50_000).map(|rank| word(&mut rng, rank)).collect(),
            rng,
        }
    }

    fn text(&mut self) -> String {
        let mut text = String::with_capacity(RECORD + 200);
        while text.len() < RECORD {
            self.write_sentence(&mut text);
        }
        text
    }

    fn write_sentence(&mut self, text: &mut String) {
        let length = 5 + self.rng.usize(..20);
        for at in 1..=length {
            self.write_word(text);
            text.push_str(match (at == length, self.rng.u8(..15)) {
                (true, 0) => "!\n\n",
                (true, _) => ". ",
                (false, 0) => ", ",
                (false, 1) => " (see) ",
                (false, _) => " ",
            });
        }
    }

    fn write_word(&mut self, text: &mut String) {
        // The rank of a word whose frequency falls with it.
        let rank = (self.words.len() as f64).powf(self.rng.f64()) as usize - 1;
        let word = &self.words[rank.min(self.words.len() - 1)];
        match self.rng.u8(..40) {
            0 => text.push_str(&self.rng.u32(..10_000).to_string()),
            1 => text.push_str(&word.to_uppercase()),
            2..5 => {
                text.extend(word.chars().take(1).flat_map(char::to_uppercase));
                text.push_str(&word[1..]);
            }
            _ => text.push_str(word),
        }
    }
}

/// Frequent words are short.
fn word(rng: &mut fastrand::Rng, rank: usize) -> String {
    const SYLLABLES: [&str; 32] = [
        "the", "a", "in", "er", "on", "re", "st", "en", "al", "ti", "or", "is", "un", "com", "pre",
        "tion", "ing", "ed", "ment", "ly", "con", "pro", "ex", "ter", "ver", "man", "ble", "tain",
        "ough", "cal", "sub", "ity",
    ];
    let syllables = 1 + rng.usize(..2) + usize::from(rank > 200) + usize::from(rank > 5000);
    (0..syllables)
        .map(|_| SYLLABLES[rng.usize(..SYLLABLES.len())])
        .collect()
}
