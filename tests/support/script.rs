//! A server that answers with the bytes it is told to, for what the simulator does not do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Counted from 0, in the order of arrival.
    pub number: usize,
    pub at: Instant,
    /// Request line and headers.
    pub head: String,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Returns the text of the last message.
    pub fn prompt(&self) -> String {
        let body = self.json();
        let last = body["messages"].as_array().unwrap().last().unwrap();
        last["content"].as_str().unwrap().to_owned()
    }
}

/// A server on loopback. Every connection serves one request.
pub struct Script {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
}

impl Script {
    /// Answers each request with the text that `answer` returns.
    pub fn serve(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        Script::play(move |asked, mut stream| {
            let _ = stream.write_all(answer(asked).as_bytes());
        })
    }

    /// Hands the connection of each request to `answer`; it is closed afterwards.
    pub fn play(answer: impl Fn(&Asked, &TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = Script {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            over: Arc::default(),
        };
        let (asked, over) = (script.asked.clone(), script.over.clone());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (asked, answer) = (asked.clone(), answer.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || attend(stream, &asked, &*answer));
            }
        });
        script
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns what was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn attend(stream: TcpStream, asked: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked, &TcpStream)) {
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        // A client may connect ahead of need and leave.
        if !matches!(reader.read_line(&mut head), Ok(1..)) {
            return;
        }
    }
    let length = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let request = {
        let mut asked = asked.lock().unwrap();
        let request = Asked {
            number: asked.len(),
            at: Instant::now(),
            head,
            body: String::from_utf8(body).unwrap(),
        };
        asked.push(request.clone());
        request
    };
    answer(&request, &stream);
}

/// A JSON response with a status such as `429 Too Many Requests`.
pub fn response(status: &str, body: &Value) -> String {
    with_headers(status, "", &body.to_string())
}

/// Any response; `headers` are whole lines.
pub fn with_headers(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// A usable answer.
pub fn answer(content: &str) -> String {
    response("200 OK", &completion(content))
}

/// The body of a usable answer.
pub fn completion(content: &str) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    })
}

/// An error as OpenAI words it.
pub fn refusal(status: &str, code: &str, message: &str) -> String {
    let error = json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": code,
    }});
    response(status, &error)
}
