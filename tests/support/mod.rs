//! The whole program as its user meets it: a process, a folder, and servers on loopback.
//!
//! Strict by default: a run must exit with 0 and say nothing on standard error unless the test
//! names what it expects. Every process is bounded in time and gone when its test ends.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod death;
pub mod evidence;
mod folder;
pub mod script;
pub mod server;
pub mod tls;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use folder::Folder;

/// A process that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(90);

/// Waits for a condition; the one place where tests wait.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Returns the opening of the simulator's answer to this text.
pub fn tag(prompt: &str) -> String {
    llmbatch::sim::echo_tag(prompt)
}

/// Writes so many prompt lines: `t-0` asks "question 0".
pub fn items(number: usize) -> String {
    (0..number).map(item).collect()
}

/// Writes one prompt line.
pub fn item(number: usize) -> String {
    format!("{{\"id\":\"t-{number}\",\"prompt\":\"question {number}\"}}\n")
}

/// Returns the sorted ids of the lines that [`items`] writes.
pub fn item_ids(number: usize) -> Vec<String> {
    let mut ids: Vec<_> = (0..number).map(|number| format!("t-{number}")).collect();
    ids.sort();
    ids
}

/// Returns the sorted ids of rows, each as often as it stands there.
pub fn ids(rows: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> = rows.iter().map(id).collect();
    ids.sort();
    ids
}

fn id(row: &Value) -> String {
    let id = row.get("custom_id").unwrap_or(&row["id"]);
    id.as_str().expect("an id is a string").to_owned()
}

/// Finds the row of an id.
pub fn row<'r>(rows: &'r [Value], wanted: &str) -> &'r Value {
    let mut found = rows.iter().filter(|row| id(row) == wanted);
    let row = found.next().unwrap_or_else(|| panic!("no row {wanted}"));
    assert!(found.next().is_none(), "{wanted} stands twice");
    row
}

/// Parses JSONL; every line must be whole.
pub fn parse_rows(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text:?}");
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    text.lines().map(parse).collect()
}

/// One call of the program, with what it must do.
pub struct Run {
    folder: Arc<Folder>,
    args: Vec<String>,
    env: HashMap<String, String>,
    stdin: Option<Vec<u8>>,
    keeps_stdin: bool,
    stdout: Option<PathBuf>,
    quiet: bool,
    results: String,
    code: i32,
    /// `None` takes anything.
    stderr: Option<Vec<String>>,
}

impl Run {
    /// `llmbatch run` in a folder of its own.
    pub fn new() -> Self {
        Run::inside(&Folder::new())
    }

    /// `llmbatch run in.jsonl` in a folder that is there already.
    pub fn inside(folder: &Arc<Folder>) -> Self {
        Run {
            quiet: true,
            ..Run::command(folder, &["run"])
        }
    }

    /// Any command in a folder.
    pub fn command(folder: &Arc<Folder>, args: &[&str]) -> Self {
        Run {
            folder: folder.clone(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: HashMap::new(),
            stdin: None,
            keeps_stdin: false,
            stdout: None,
            quiet: false,
            results: "in.results".to_owned(),
            code: 0,
            stderr: Some(Vec::new()),
        }
    }

    /// Writes `in.jsonl` and passes it.
    pub fn input(self, text: impl AsRef<[u8]>) -> Self {
        self.folder.write("in.jsonl", text);
        self.args(["in.jsonl"])
    }

    /// Passes the `in.jsonl` that is there already, with `--resume`.
    pub fn resume(self) -> Self {
        self.args(["in.jsonl", "--resume"])
    }

    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// Asks a simulator inside the process, without latency.
    pub fn simulate(self) -> Self {
        self.args(["--simulate=latency=0"])
    }

    /// Asks a server, by its base URL, for the model `m`.
    pub fn ask(self, base_url: &str) -> Self {
        self.args(["--base-url", base_url, "-m", "m"])
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Some(bytes.as_ref().to_owned());
        self
    }

    /// Writes to standard input and does not close it while the process lives.
    pub fn stdin_left_open(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.keeps_stdin = true;
        self.stdin(bytes)
    }

    /// Sends standard output into this file.
    pub fn stdout(mut self, path: &str) -> Self {
        self.stdout = Some(path.into());
        self
    }

    /// Writes the results to `STEM.jsonl`.
    pub fn output(mut self, stem: &str) -> Self {
        self.results = stem.to_owned();
        self.args(["-o", &format!("{stem}.jsonl")])
    }

    /// Leaves `-q` out.
    pub fn loud(mut self) -> Self {
        self.quiet = false;
        self
    }

    pub fn expect_code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// Expects exactly so many lines on standard error, each with its part in it.
    pub fn expect_stderr<'a>(mut self, parts: impl IntoIterator<Item = &'a str>) -> Self {
        self.stderr = Some(parts.into_iter().map(str::to_owned).collect());
        self
    }

    /// Takes anything on standard error, for tests that look at it themselves.
    pub fn any_stderr(mut self) -> Self {
        self.stderr = None;
        self
    }

    /// Runs to the end and checks what was expected.
    pub fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Starts the process and leaves it running.
    pub fn start(self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmbatch"));
        command
            .args(&self.args)
            .args(self.quiet.then_some("-q"))
            .current_dir(self.folder.root())
            .env_clear()
            .env("HOME", self.folder.root())
            .envs(&self.env)
            .stdin(match self.stdin {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(match &self.stdout {
                Some(path) => {
                    let file = std::fs::OpenOptions::new().write(true).open(path);
                    file.unwrap().into()
                }
                None => Stdio::piped(),
            })
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let writer = child.stdin.take().map(|mut pipe| {
            let bytes = self.stdin.clone().unwrap_or_default();
            std::thread::spawn(move || {
                // A program that refuses does not read its input to the end.
                let _ = pipe.write_all(&bytes);
                pipe
            })
        });
        let open_stdin = writer
            .filter(|_| self.keeps_stdin)
            .and_then(|writer| writer.join().ok());
        let stdout = child.stdout.take().map(Stream::read).unwrap_or_default();
        let stderr = child.stderr.take().map(Stream::read).unwrap_or_default();
        Running {
            child,
            stdout,
            stderr,
            run: self,
            _stdin: open_stdin,
        }
    }
}

/// What a process has written so far.
#[derive(Default)]
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let text = text.clone();
            move || {
                let mut chunk = vec![0; 4096];
                while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                    text.lock().unwrap().extend_from_slice(&chunk[..length]);
                }
            }
        });
        Stream {
            text,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }
}

/// A process at work. It is killed if the test lets go of it.
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
    run: Run,
    _stdin: Option<ChildStdin>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// Sends a signal by name, such as `INT`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Ends it without any warning, and returns what it had said.
    pub fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.said()
    }

    /// Waits for its end, whatever the exit code, and returns what it said.
    pub fn said(mut self) -> Said {
        let status = self.wait();
        Said {
            code: status.code(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        }
    }

    /// Waits for the end and checks what was expected.
    pub fn finish(self) -> Outcome {
        let code = self.run.code;
        self.finish_with([code])
    }

    /// Waits for the end, which may be any of these exit codes.
    pub fn finish_with<const N: usize>(mut self, codes: [i32; N]) -> Outcome {
        let status = self.wait();
        let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
        let said = format!("args: {:?}\nstderr:\n{stderr}", self.run.args);
        let expected = status.code().is_some_and(|code| codes.contains(&code));
        assert!(expected, "{status}, not one of {codes:?}\n{said}");
        if let Some(parts) = &self.run.stderr {
            assert!(
                is_as_expected(&stderr, parts),
                "expected stderr: {parts:#?}\n{said}"
            );
        }
        Outcome {
            folder: self.run.folder.clone(),
            stdout,
            stderr,
            name: self.run.results.clone(),
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "it hangs: {:?}\nstderr:\n{}",
                self.run.args,
                self.stderr.so_far()
            );
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// The streams of a process that is gone, and its exit code if no signal killed it.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn is_as_expected(stderr: &str, parts: &[String]) -> bool {
    let lines: Vec<_> = stderr.lines().collect();
    lines.len() == parts.len()
        && lines
            .iter()
            .zip(parts)
            .all(|(line, part)| line.contains(part))
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run left behind.
pub struct Outcome {
    pub folder: Arc<Folder>,
    pub stdout: String,
    pub stderr: String,
    name: String,
}

impl Outcome {
    pub fn results(&self) -> Vec<Value> {
        self.folder.rows(&format!("{}.jsonl", self.name))
    }

    pub fn errors(&self) -> Vec<Value> {
        self.folder.rows(&format!("{}.errors.jsonl", self.name))
    }

    /// Returns the sorted ids of both files, each as often as it stands there.
    pub fn ids(&self) -> Vec<String> {
        let mut all = self.results();
        all.extend(self.errors());
        ids(&all)
    }

    /// Reads standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Sends a process a signal by name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Tells whether a file or stream of a run holds a text.
pub fn leaks(outcome: &Outcome, secret: &str) -> Vec<String> {
    let mut places: Vec<String> = outcome
        .folder
        .content()
        .into_iter()
        .filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains(secret))
        .map(|(name, _)| name)
        .collect();
    for (name, text) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
        if text.contains(secret) {
            places.push(name.to_owned());
        }
    }
    places
}
