//! From an accepted socket to a request over HTTP/1: EDGE §5, Q4, Q13.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::support::client::{Connection, EventSource, get};
use super::support::gateway::TestGateway;
use super::support::process::{Process, program};
use super::support::upstream::{TestUpstream, json};
use super::support::{PATIENCE, eventually, soon};

fn serving(url: &str, more: &str) -> String {
    format!(
        "upstreams: {{legacy: {{url: \"{url}\"}}}}\n\
         streams: [{{path: /value, http: {{upstream: legacy, path: /polled}}}}]\n\
         routes: [{{prefix: /, upstream: legacy}}]\n{more}"
    )
}

/// Sends these bytes; gives the answer's status and type, once the connection has ended behind it.
async fn refused(gateway: &TestGateway, bytes: &[u8]) -> (u16, bool) {
    let mut connection = Connection::open(gateway.address).await;
    connection.send(bytes).await;
    let answer = connection.response(bytes.starts_with(b"HEAD")).await;
    let head = &answer.head;
    assert_eq!(head.header("connection"), Some("close"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
    let id = head.header("x-request-id").expect("an id");
    let is_problem = head.header("content-type") == Some("application/problem+json")
        && (answer.body.is_empty() || answer.body.contains(id));
    assert!(!connection.fill().await, "the connection ended");
    (head.status, is_problem)
}

/// EDGE P2, P3, P8, P9, P10: refused with the end of the connection, whatever follows, and no upstream sees it.
#[tokio::test(flavor = "multi_thread")]
async fn heads_are_read_strictly() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&serving(&upstream.url(), ""));
    let long = "x".repeat(8200);
    let many = "x: y\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(8000)).repeat(5);
    for (head, status) in [
        ("GET /a HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx: a\0\r\n\r\n", 400),
        ("GET /a HTTP/1.1\nhost: a\n\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx: a\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
        ("GET /a\r\n\r\n", 400),
        ("G(T /a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://b/a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://u@a/a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("HEAD /a HTTP/1.1\r\n\r\n", 400),
        ("GET /a HTTP/3.0\r\nhost: a\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 405),
        ("TRACE /a HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (
            "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
            400,
        ),
        (
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST /a HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (&format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), 414),
        (&format!("GET /a HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        (&format!("GET /a HTTP/1.1\r\nhost: a\r\n{large}\r\n"), 431),
        ("\u{16}\u{3}\u{1}\u{2}\0", 400),
    ] {
        let wire = format!("{head}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        let shown: String = head.chars().take(80).collect();
        assert_eq!(
            refused(&gateway, wire.as_bytes()).await,
            (status, true),
            "{shown:?}"
        );
    }
    assert_eq!(upstream.count(), 0);
}

/// EDGE P11, B7: a head that drips is cut, one that says nothing is closed without a word, and a kept connection has more time.
#[tokio::test(flavor = "multi_thread")]
async fn heads_must_come_in_time() {
    let upstream = TestUpstream::saying(json("1")).await;
    let limits = "limits: {header_timeout: 1s}\n";
    let gateway = TestGateway::start(&serving(&upstream.url(), limits));
    let start = Instant::now();
    let mut silent = Connection::open(gateway.address).await;
    let mut kept = Connection::open(gateway.address).await;
    kept.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(kept.response(false).await.head.status, 200);
    let mut dripping = Connection::open(gateway.address).await;
    dripping.send(b"GET /a HTTP/1.1\r\nho").await;
    let answer = dripping.response(false).await;
    assert_eq!(answer.head.status, 408);
    assert!(!dripping.fill().await);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(!silent.fill().await);
    assert_eq!(silent.take_unread(), b"");
    kept.send(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(kept.response(false).await.head.status, 200);
    assert_eq!(upstream.count(), 2);
}

/// RFC 9112 §9.3.2; EDGE P4, P5: what is sent ahead is answered in order, bodies end where they say, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_in_order() {
    let upstream =
        TestUpstream::start(|request| json(&format!("\"{} {}\"", request.target, request.body)))
            .await;
    let gateway = TestGateway::start(&serving(&upstream.url(), ""));
    let mut connection = Connection::open(gateway.address).await;
    let ahead = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n\
                 GET http://a/2 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n\
                 GET /value HTTP/1.1\r\nhost: a\r\n\r\n\
                 POST /3 HTTP/1.1\r\nhost: a\r\ncontent-length: 29\r\n\r\nGET /no HTTP/1.1\r\nhost: a\r\n\r\n\
                 \r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\n";
    // In two pieces, so that some come while a request is being served.
    let (first, second) = ahead.split_at(70);
    connection.send(first.as_bytes()).await;
    connection.send(second.as_bytes()).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(connection.response(false).await.body);
    }
    let body = "GET /no HTTP/1.1\r\nhost: a\r\n\r\n".len();
    assert_eq!(body, 29);
    assert_eq!(answers[0], "\"/1 \"");
    assert_eq!(answers[1], "\"/2 \"");
    assert_eq!(answers[2], "\"/polled \"");
    assert!(answers[3].starts_with("\"/3 GET /no"), "{}", answers[3]);
    assert_eq!(answers[4], "\"/4 \"");
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.target != "/no")
    );
}

/// EDGE P5: chunks that say two things end their connection, and nothing behind them is a request.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_chunks_end_the_connection() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&serving(&upstream.url(), ""));
    for body in [
        "x\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "0\r\nx\n\r\n",
    ] {
        let mut connection = Connection::open(gateway.address).await;
        let head = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let wire = format!("{head}{body}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        connection.send(wire.as_bytes()).await;
        while connection.fill().await {}
        let answers = String::from_utf8(connection.take_unread()).expect("text");
        assert!(
            answers.matches("HTTP/1.1").count() <= 1,
            "{body:?}: {answers}"
        );
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.target != "/smuggled")
    );
}

/// EDGE P23.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_hosts_are_misdirected() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::listening(
        "  - {address: 127.0.0.1:0, hosts: [a.example, \"*.b.example\"]}",
        &serving(&upstream.url(), ""),
    );
    for (host, status) in [
        ("a.example", 200),
        ("A.Example.:81", 200),
        ("x.b.example", 200),
        ("b.example", 421),
        ("a.example.evil", 421),
        ("127.0.0.1", 421),
    ] {
        for target in ["/a", "/value"] {
            let mut connection = Connection::open(gateway.address).await;
            connection
                .send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())
                .await;
            let answer = connection.response(false).await;
            assert_eq!(answer.head.status, status, "{host}");
        }
    }
    assert_eq!(
        upstream
            .requests()
            .iter()
            .filter(|r| r.target == "/a")
            .count(),
        3
    );
}

/// EDGE Q4: the header says who asks; without one, or with a bad one, there is no answer.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_say_who_asks() {
    let upstream = TestUpstream::saying(json("1")).await;
    let listener = "  - {address: 127.0.0.1:0, proxy_protocol: true}";
    let trusted = "client_address: {trusted_proxies: [127.0.0.1]}\n";
    let gateway = TestGateway::listening(listener, &serving(&upstream.url(), trusted));
    let get = "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x06\x06\x06\x06\x7f\0\0\x01\0\x50\0\x51";
    for (header, client) in [
        (&b"PROXY TCP4 5.5.5.5 127.0.0.1 80 81\r\n"[..], "5.5.5.5"),
        (v2, "6.6.6.6"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection.send(&[header, get.as_bytes()].concat()).await;
        assert_eq!(connection.response(false).await.head.status, 200);
        let requests = upstream.requests();
        let seen = requests.last().expect("it arrived");
        assert_eq!(seen.header("x-forwarded-for"), Some(client));
    }
    let count = upstream.count();
    for bad in [
        get.as_bytes(),
        b"PROXY TCP4 5.5.5.5\r\n\r\n",
        b"\x16\x03\x01",
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection.send(bad).await;
        assert!(!connection.fill().await, "no answer");
    }
    assert_eq!(upstream.count(), count);

    let strangers = "client_address: {trusted_proxies: [192.0.2.0/24]}\n";
    let gateway = TestGateway::listening(listener, &serving(&upstream.url(), strangers));
    let mut connection = Connection::open(gateway.address).await;
    connection
        .send(b"PROXY TCP4 5.5.5.5 127.0.0.1 80 81\r\n")
        .await;
    assert!(!connection.fill().await, "no answer");
}

/// EDGE Q13: when descriptors run short, accepting pauses before the last ones; open streams go on, and there is room for polls.
#[tokio::test(flavor = "multi_thread")]
async fn descriptors_never_run_out() {
    const LIMIT: usize = 120;
    let upstream = TestUpstream::saying(json("1")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wellspring.yaml");
    let text = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nupstreams: {{legacy: {{url: \"{}\"}}}}\n\
         streams: [{{path: /value, http: {{upstream: legacy}}, every: 50ms}}]\n",
        upstream.url()
    );
    std::fs::write(&file, text).expect("written");
    let binary = env!("CARGO_BIN_EXE_wellspring");
    let mut command: Command = program("sh");
    command
        .arg("-c")
        .arg(format!(
            "ulimit -n {LIMIT} && exec \"$0\" run --config \"$1\""
        ))
        .arg(binary)
        .arg(&file);
    let mut process = Process::start(&mut command);
    let address = process.address().await;
    let mut stream = EventSource::open(address, "/value").await;
    assert_eq!(stream.next().await.1, "1");
    let mut crowd = Vec::new();
    for _ in 0..LIMIT {
        crowd.push(
            soon("connected", TcpStream::connect(address))
                .await
                .expect("connects"),
        );
    }
    process.line("almost all descriptors are taken").await;
    // The upstream is asked over a new connection, too.
    upstream.say(json("2").with("connection", "close"));
    assert_eq!(stream.next().await.1, "2");
    upstream.say(json("3"));
    assert_eq!(stream.next().await.1, "3");
    drop(crowd);
    process.line("descriptors are free again").await;
    let answer = get(address, "/value", &[]).await;
    assert_eq!(answer.body, "3");
}

/// A connection counts as open as long as it or its stream lives.
#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_counted() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&serving(&upstream.url(), ""));
    let connections = || gateway.gateway.connections();
    let idle = TcpStream::connect(gateway.address).await.expect("connects");
    let stream = EventSource::open(gateway.address, "/value").await;
    eventually("two", || connections() == [(2, 0)]).await;
    drop(stream);
    eventually("one", || connections() == [(1, 0)]).await;
    drop(idle);
    eventually("none", || connections() == [(0, 0)]).await;
    let mut half = TcpStream::connect(gateway.address).await.expect("connects");
    gateway.gateway.stop().await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, half.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "a stop ends idle connections");
}
