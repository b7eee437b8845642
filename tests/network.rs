//! What goes wrong on the way to a server, below the meaning of its answers: certificates, proxies,
//! and bodies that do not end, do not fit or are not whole.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use flate2::Compression;
use flate2::write::GzEncoder;

use support::script::{Script, answer, completion, with_headers};
use support::tls::{Flaw, Tls};
use support::{Folder, Outcome, Run, ids, item, item_ids, items, leaks};

const SECRET: &str = "pr0xy-pass";

fn ask(base_url: &str, args: &[&str], code: i32) -> Outcome {
    Run::new()
        .input(items(3))
        .ask(base_url)
        .args(["-c", "1", "--max-retries", "0"])
        .args(args.iter().copied())
        .any_stderr()
        .expect_code(code)
        .run()
}

// Negative control: leaving `tls_certs_merge` out of the transport.
#[test]
fn an_authority_of_the_users_own_is_trusted() {
    let server = Tls::serve(Flaw::None, answer("fine"));
    let folder = Folder::new();
    folder.write("ca.pem", &server.authority);
    let done = Run::inside(&folder)
        .input(items(3))
        .ask(&server.base_url())
        .args(["--ca-file", "ca.pem"])
        .run();
    assert_eq!(ids(&done.results()), item_ids(3));
}

// Negative control: `BadCertificate` becoming a throttle in `classify`; `reason` answering with the
// library's own words.
#[test]
fn a_bad_certificate_ends_the_run_at_once_and_names_the_way_out() {
    for (flaw, trusted, reason) in [
        (Flaw::None, false, "nobody known has signed it"),
        (
            Flaw::Expired,
            true,
            "it expired on 2020-01-01, and the clock here says 20",
        ),
        (
            Flaw::WrongHost,
            true,
            "it is for elsewhere.example and 10.0.0.1, not for localhost",
        ),
        (Flaw::Nameless, true, "it names no server (subjectAltName)"),
        (Flaw::OtherKey, true, "another one of that name signed it"),
        (Flaw::Authority, false, "basicConstraints=critical,CA:FALSE"),
        (Flaw::Authority, true, "basicConstraints=critical,CA:FALSE"),
    ] {
        let server = Tls::serve(flaw, answer("fine"));
        let folder = Folder::new();
        folder.write("ca.pem", &server.authority);
        let run = Run::inside(&folder)
            .input(items(100))
            .ask(&server.base_url())
            .args(["-c", "2"])
            .args(
                trusted
                    .then_some(["--ca-file", "ca.pem"])
                    .into_iter()
                    .flatten(),
            )
            .expect_code(4)
            .expect_stderr([
                "error: the server's certificate is not trusted, stopped after ",
                "hint: check https://localhost:",
            ])
            .run();
        assert!(run.stderr.contains(reason), "{flaw:?}: {}", run.stderr);
        assert!(run.stderr.contains("--ca-file FILE"), "{}", run.stderr);
        let library_words = ["invalid peer", "DnsName", "Other", "EndEntity", "Bad"];
        let said = library_words
            .iter()
            .find(|word| run.stderr.contains(**word));
        assert_eq!(said, None, "{flaw:?}: {}", run.stderr);
        assert_eq!(run.ids(), [] as [&str; 0], "{flaw:?}");
    }
}

#[test]
fn a_server_without_tls_is_told_apart() {
    for (said, reason) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS"),
        ("", "it breaks the TLS handshake off"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(said.as_bytes());
            }
        });
        let run = ask(&format!("https://127.0.0.1:{port}/v1"), &[], 4);
        let expected = format!("no connection: {reason}");
        assert!(run.stderr.contains(&expected), "{}", run.stderr);
    }
}

#[test]
fn a_ca_file_that_is_none_is_refused() {
    let folder = Folder::new();
    folder.write("in.jsonl", item(0));
    folder.write("empty.pem", "");
    folder.write("garbage.pem", [0xff, 0, 7].repeat(99));
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    folder.write("torn.pem", torn);
    for (file, reason) in [
        ("none.pem", "cannot be read"),
        ("empty.pem", "holds no whole certificate"),
        ("garbage.pem", "holds no whole certificate"),
        ("torn.pem", "holds no whole certificate"),
    ] {
        let before = folder.names();
        let run = Run::inside(&folder)
            .args(["in.jsonl", "--ca-file", file])
            .ask("https://127.0.0.1:9/v1")
            .expect_code(2)
            .any_stderr()
            .run();
        let expected = format!("error: --ca-file {file} {reason}");
        assert!(run.stderr.starts_with(&expected), "{}", run.stderr);
        assert_eq!(folder.names(), before);
    }
}

fn through(proxy: &str, base_url: &str, code: i32) -> Outcome {
    let run = Run::new()
        .input(items(2))
        .ask(base_url)
        .args(["-v", "-c", "1", "--progress", "log"])
        .env("HTTP_PROXY", proxy)
        .env("HTTPS_PROXY", proxy)
        .loud()
        .any_stderr()
        .expect_code(code)
        .run();
    assert_eq!(leaks(&run, SECRET), [] as [&str; 0]);
    run
}

/// Returns the address of a server as a proxy with a password.
fn as_proxy(base_url: &str) -> String {
    let address = base_url
        .trim_start_matches("http://")
        .trim_end_matches("/v1");
    format!("http://user:{SECRET}@{address}")
}

#[test]
fn the_environments_proxy_is_used_with_its_password() {
    let proxy = Script::serve(|_| answer("fine"));
    through(&as_proxy(&proxy.base_url()), "http://llm.invalid/v1", 0);
    let head = proxy.asked()[0].head.clone();
    assert!(
        head.starts_with("POST http://llm.invalid/v1/chat/completions "),
        "{head}"
    );
    assert!(head.contains("proxy-authorization: Basic "), "{head}");
    for base_url in ["http://127.0.0.1:9/v1", "http://localhost:9/v1"] {
        through(&as_proxy(&proxy.base_url()), base_url, 4);
    }
    assert_eq!(proxy.asked().len(), 2, "this machine needs no proxy");
}

#[test]
fn no_proxy_is_heeded() {
    let proxy = Script::serve(|_| answer("fine"));
    Run::new()
        .input(items(1))
        .ask("http://llm.invalid/v1")
        .env("HTTP_PROXY", &as_proxy(&proxy.base_url()))
        .env("NO_PROXY", "invalid")
        .any_stderr()
        .expect_code(4)
        .run();
    assert_eq!(proxy.asked().len(), 0);
}

/// Else what is meant to go through the proxy goes around it.
// Negative control: leaving `refuse_bad_proxy` out.
#[test]
fn a_proxy_that_cannot_be_used_is_refused_by_its_variable() {
    for value in [
        "::bad",
        "ftp://user:pr0xy-pass@h",
        "http://user:pr0xy-pass@h:x",
    ] {
        for (variable, base_url) in [
            ("HTTPS_PROXY", "https://llm.invalid/v1"),
            ("http_proxy", "http://llm.invalid/v1"),
            ("ALL_PROXY", "https://llm.invalid/v1"),
        ] {
            let run = Run::new()
                .input(items(1))
                .ask(base_url)
                .env(variable, value)
                .expect_code(2)
                .expect_stderr([
                    &format!("error: the proxy of {variable} cannot be used")[..],
                    "hint: http://HOST:PORT",
                ])
                .run();
            assert!(!run.stderr.contains(value), "{}", run.stderr);
            assert_eq!(leaks(&run, SECRET), [] as [&str; 0]);
            assert_eq!(run.folder.names(), ["in.jsonl"]);
        }
    }
    let script = Script::serve(|_| answer("fine"));
    let on_this_machine = Run::new().input(items(1)).ask(&script.base_url());
    on_this_machine.env("HTTP_PROXY", "::bad").run();
}

// Negative control: leaving 407 out of `classify`.
#[test]
fn a_proxy_that_refuses_is_named() {
    let proxy = Script::serve(|_| with_headers("407 Proxy Authentication Required", "", "no"));
    let run = through(&as_proxy(&proxy.base_url()), "http://llm.invalid/v1", 4);
    assert!(
        run.stderr.contains("the proxy on the way wants another"),
        "{}",
        run.stderr
    );
    assert_eq!(proxy.asked().len(), 1);
    let run = through(&as_proxy(&proxy.base_url()), "https://llm.invalid/v1", 4);
    assert!(run.stderr.contains("environment's proxy"), "{}", run.stderr);
}

#[test]
fn a_dead_proxy_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let run = through(&as_proxy(&address), "http://llm.invalid/v1", 4);
    let said = "no connection through the environment's proxy";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

/// Servers close connections without saying so. Where a request is lost by that, nobody can tell
/// whether it was processed, so it counts as one; but then requests get connections of their own.
// Negative control: `Reuse::lost` doing nothing.
#[test]
fn a_server_that_closes_without_a_word_costs_next_to_nothing() {
    let script = Script::play(|_, mut stream: &TcpStream| {
        let kept_alive = answer("fine").replace("connection: close\r\n", "");
        let _ = stream.write_all(kept_alive.as_bytes());
        // The worst case: it closes just when the next request arrives.
        let _ = stream.read(&mut [0]);
    });
    let done = Run::new()
        .input(items(400))
        .ask(&script.base_url())
        .args(["-c", "4", "--json"])
        .run();
    assert_eq!(ids(&done.results()), item_ids(400));
    let requests = done.json()["requests"].as_u64().unwrap();
    // Those in flight when the habit shows, and as many whenever connections are kept again.
    assert!(requests <= 400 + 3 * 4, "{requests}");
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Answers everyone with these bytes, compressed by this coding.
fn coded(coding: &'static str, body: Vec<u8>) -> Script {
    Script::play(move |_, mut stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&body);
    })
}

fn message(outcome: &Outcome) -> String {
    let errors = outcome.errors();
    assert_eq!(errors.len(), 3);
    errors[0]["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn compressed_answers_are_read() {
    let whole = gzip(completion("fine").to_string().as_bytes());
    let done = ask(&coded("gzip", whole).base_url(), &[], 0);
    assert_eq!(done.results()[0]["content"], "fine");
}

// Negative control: leaving the cap out of `next_chunk`.
#[test]
fn an_answer_that_unpacks_without_end_is_cut_at_the_cap() {
    let bomb = gzip(&vec![b' '; 33 << 20]);
    assert!(bomb.len() < 100_000);
    let script = coded("gzip", bomb);
    let done = ask(&script.base_url(), &[], 3);
    assert_eq!(message(&done), "the answer is larger than 32 MiB");
    assert_eq!(script.asked().len(), 3, "it is not asked for again");
    let script = Script::play(|_, mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        while stream.write_all(&[b' '; 65536]).is_ok() {}
    });
    let done = ask(&script.base_url(), &[], 3);
    assert_eq!(message(&done), "the answer is larger than 32 MiB");
}

#[test]
fn an_answer_that_does_not_unpack_is_broken_off() {
    let whole = gzip(completion("fine").to_string().as_bytes());
    let torn = whole[..whole.len() / 2].to_vec();
    let done = ask(&coded("gzip", torn).base_url(), &[], 3);
    assert!(message(&done).starts_with("the answer broke off: "));
    let done = ask(
        &coded("gzip", b"plain after all".to_vec()).base_url(),
        &[],
        3,
    );
    assert!(message(&done).starts_with("the answer broke off: "));
}

/// A server that never ends its answer: a byte at a time, as fast as the client takes them. Within a
/// short attempt that is far from any limit of size.
fn trickle(head: &'static str, endless: &'static str) -> Script {
    Script::play(move |_, mut stream| {
        for byte in head.bytes().chain(endless.bytes().cycle()) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn an_answer_that_trickles_ends_with_the_attempt() {
    for (head, endless) in [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"),
    ] {
        let script = trickle(head, endless);
        let done = ask(&script.base_url(), &["--timeout", "0.3"], 3);
        let said = message(&done);
        let is_bounded =
            said == "no answer within 0.3 s" || said.starts_with("the connection broke");
        assert!(is_bounded, "{said}");
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let script = Script::serve(|_| {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
        format!("{interim}{}", answer("fine"))
    });
    let done = ask(&script.base_url(), &[], 0);
    assert_eq!(ids(&done.results()), item_ids(3));
}

#[test]
fn heads_that_are_none_break_the_connection_only() {
    for head in [
        "HTTP/9.9 200 OK\r\n\r\n".to_owned(),
        "hello\r\n\r\n".to_owned(),
        "HTTP/1.1 999999 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(5000)),
    ] {
        let script = Script::serve(move |_| head.clone());
        let done = ask(&script.base_url(), &[], 3);
        assert_eq!(done.errors()[0]["error"]["kind"], "network");
    }
}
