//! The simulator as a process of its own, with its counters.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running simulator; it is killed with its test.
pub struct Server {
    child: Child,
    base_url: String,
    /// Kept open, so that the simulator never writes into a closed pipe.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one that takes any key.
    pub fn start(spec: &str) -> Self {
        Server::launch(spec, None)
    }

    /// Starts one that takes this key only.
    pub fn with_key(spec: &str, key: &str) -> Self {
        Server::launch(spec, Some(key))
    }

    fn launch(spec: &str, key: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmbatch"));
        command.args(["simulate", "--port", "0", spec]).env_clear();
        if let Some(key) = key {
            command.args(["--api-key-env", "KEY"]).env("KEY", key);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Server {
            child,
            base_url: line.trim_end().to_owned(),
            _stdout: stdout,
        }
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sends it a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        super::signal(self.child.id(), name);
    }

    /// Returns one of the counters.
    pub fn count(&self, name: &str) -> u64 {
        self.stats()[name].as_u64().expect("a counter's name")
    }

    /// Returns how often a fault was played.
    pub fn faults(&self, name: &str) -> u64 {
        self.stats()["faults"][name].as_u64().expect("a fault")
    }

    /// Returns all counters.
    pub fn stats(&self) -> Value {
        serde_json::from_str(&self.get("/sim/stats")).unwrap()
    }

    /// Returns every charge so far; the spec must hold `ledger=on`.
    pub fn ledger(&self) -> Vec<Value> {
        super::parse_rows(&self.get("/sim/ledger"))
    }

    fn get(&self, path: &str) -> String {
        let address = self.base_url.trim_start_matches("http://");
        let address = address.trim_end_matches("/v1");
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
