//! Whole exchanges with the simulator, over plain sockets: what a client really sees.

mod exchanges;
mod faults;
mod limits;
mod money;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Fault, Faults, SimSettings, Simulator, Stats, echo_tag};

/// A simulator at work, which ends when this is dropped.
struct Bench {
    address: SocketAddr,
    stats: Arc<Stats>,
    _serving: JoinSet<()>,
}

/// A response, taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// Settings under which answers come at once.
fn prompt() -> SimSettings {
    SimSettings {
        latency: Duration::ZERO,
        ..SimSettings::default()
    }
}

fn always(fault: Fault) -> SimSettings {
    SimSettings {
        faults: Faults::default().with(fault, 1.0),
        ..prompt()
    }
}

fn body(text: &str) -> String {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": text }] }).to_string()
}

impl Bench {
    async fn start(settings: SimSettings) -> Bench {
        let simulator = Simulator::bind(0, settings).await.unwrap();
        let (address, stats) = (simulator.address(), simulator.stats());
        let mut serving = JoinSet::new();
        serving.spawn(simulator.serve());
        Bench {
            address,
            stats,
            _serving: serving,
        }
    }

    async fn send(&self, line: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn exchange(&self, line: &str, headers: &str, body: &str) -> io::Result<Reply> {
        let mut stream = self.send(line, headers, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(Reply::read(&bytes))
    }

    async fn post(&self, body: &str) -> Reply {
        let line = "POST /v1/chat/completions";
        self.exchange(line, "", body).await.unwrap()
    }

    async fn ask(&self, text: &str) -> Reply {
        self.post(&body(text)).await
    }

    async fn get(&self, path: &str) -> Reply {
        let line = format!("GET {path}");
        self.exchange(&line, "", "").await.unwrap()
    }

    fn struck(&self, fault: Fault) -> u64 {
        self.stats.counts().faults[fault.name()]
    }
}

impl Reply {
    fn read(bytes: &[u8]) -> Reply {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn length(&self) -> usize {
        self.header("content-length").unwrap().parse().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> Value {
        self.json()["error"].clone()
    }

    fn content(&self) -> String {
        let answer = self.json();
        let content = &answer["choices"][0]["message"]["content"];
        content.as_str().unwrap().to_owned()
    }
}

/// Lets the simulator work until this holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, waiting)
        .await
        .expect("it should have happened by now");
}
