//! What a request costs: CPU time, requests a second and peak memory of `llmbatch run` against a
//! simulator in a process of its own, beside a bare loop that posts the same bodies and drops the
//! answers. One command prints the table:
//!
//! ```text
//! cargo bench --bench throughput
//! ```
//!
//! Figures are those of the whole child process, as the operating system accounts for it.

mod measure;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use measure::{Figures, measure};

/// The program under test, built with the benchmark's own profile.
const LLMBATCH: &str = env!("CARGO_BIN_EXE_llmbatch");
/// The word that makes this program the yardstick.
const YARDSTICK: &str = "--yardstick";
const LATENCY: Duration = Duration::from_millis(50);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == YARDSTICK) {
        return yardstick(
            &args[at + 1],
            &args[at + 2],
            args[at + 3].parse().expect("a number"),
        );
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_simulator, url) = start_simulator();
    println!("server: 50 ms, about 1 KB in and 1 KB out, in a process of its own on this machine");
    println!(
        "{:<34}{:>9}{:>11}{:>10}{:>14}{:>12}{:>9}",
        "", "items", "in flight", "items/s", "of the ideal", "CPU/request", "peak"
    );
    let small = write_input(folder.path(), 10_000);
    let large = write_input(folder.path(), 100_000);
    for (name, input, items, in_flight) in [
        ("llmbatch run", &small, 10_000, 100),
        ("llmbatch run", &small, 10_000, 256),
        ("llmbatch run", &large, 100_000, 256),
    ] {
        let output = folder.path().join(format!("out-{items}-{in_flight}.jsonl"));
        let mut command = Command::new(LLMBATCH);
        command
            .arg("run")
            .arg(input)
            .arg("-o")
            .arg(&output)
            .args(["-q", "--base-url", &url]);
        command.args(["-c", &in_flight.to_string()]);
        row(name, items, in_flight, &measure(command));
        let results = BufReader::new(std::fs::File::open(&output).expect("results"));
        assert_eq!(
            results.split(b'\n').count(),
            items,
            "every item has a result"
        );
        std::fs::remove_file(&output).expect("the results can be removed");
    }
    for (input, items, in_flight) in [
        (&small, 10_000, 100),
        (&small, 10_000, 256),
        (&large, 100_000, 256),
    ] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args([YARDSTICK, &url])
            .arg(input)
            .arg(in_flight.to_string());
        row(
            "yardstick: a bare reqwest loop",
            items,
            in_flight,
            &measure(command),
        );
    }
    let mut counted = Command::new(LLMBATCH);
    let output = folder.path().join("counted.jsonl");
    counted
        .arg("run")
        .arg(&small)
        .arg("-o")
        .arg(&output)
        .args(["-q", "--base-url", &url]);
    counted.args(["-c", "256", "--tpm", "4000000000"]);
    row(
        "llmbatch run, counting tokens",
        10_000,
        256,
        &measure(counted),
    );
}

fn row(name: &str, items: usize, in_flight: usize, figures: &Figures) {
    let rate = items as f64 / figures.wall.as_secs_f64();
    let ideal = in_flight as f64 / LATENCY.as_secs_f64();
    println!(
        "{name:<34}{items:>9}{in_flight:>11}{rate:>10.0}{:>12.1} %{:>9.1} µs{:>5} MiB",
        rate / ideal * 100.0,
        figures.cpu.as_secs_f64() * 1e6 / items as f64,
        figures.peak_bytes >> 20,
    );
}

struct Simulator(Child);

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_simulator() -> (Simulator, String) {
    let spec = "latency=50ms,latency-p99=50ms,output-tokens=120";
    let mut child = Command::new(LLMBATCH)
        .args(["simulate", "--port", "0", spec])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the simulator starts");
    let mut url = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout)
        .read_line(&mut url)
        .expect("the simulator says where it listens");
    (Simulator(child), url.trim().to_owned())
}

/// Writes lines whose request bodies are about 1 KB.
fn write_input(folder: &Path, items: usize) -> std::path::PathBuf {
    let path = folder.join(format!("in-{items}.jsonl"));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("an input file"));
    let text = "Sort this ticket into a category and say why in one sentence. ".repeat(14);
    for n in 0..items {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{n}: {text}"}}],"max_tokens":200}}"#
        );
        writeln!(
            file,
            r#"{{"custom_id":"item-{n}","method":"POST","url":"/v1/chat/completions","body":{body}}}"#
        )
        .expect("the disk takes it");
    }
    path
}

/// Posts each line's body and drops the answer: the least that a client of this kind can do.
fn yardstick(url: &str, input: &str, in_flight: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let url = format!("{url}/chat/completions");
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .build()
            .expect("a client");
        let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(in_flight));
        let file = std::fs::File::open(input).expect("the input");
        let mut posts = tokio::task::JoinSet::new();
        for line in BufReader::new(file).lines() {
            let line = line.expect("a line");
            let body =
                line[line.find(r#""body":"#).expect("a body") + 7..line.len() - 1].to_owned();
            let slot = slots.clone().acquire_owned().await.expect("it stays open");
            let (client, url) = (client.clone(), url.clone());
            posts.spawn(async move {
                let request = client
                    .post(url)
                    .header("content-type", "application/json")
                    .body(body);
                let reply = request.send().await.expect("an answer");
                reply.bytes().await.expect("a body");
                drop(slot);
            });
            while posts.try_join_next().is_some() {}
        }
        while posts.join_next().await.is_some() {}
    });
}
