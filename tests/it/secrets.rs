//! Nothing that a client shows is ever told: EDGE A9, A10, F2, O3.

use std::net::SocketAddr;

use tokio::process::Command;

use super::support::client::{Connection, get, request};
use super::support::process::{Process, program};
use super::support::token::{basic, sha256};
use super::support::upstream::{Reply, TestUpstream, json};

const CANARY: &str = "canary7d41";

/// The program itself, with everything logged that can be: a secret in every place where there may be one, on ways that are good
/// and on ways that fail.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_told() {
    let upstream = TestUpstream::start(|request| match request.target.as_str() {
        "/broken" => Reply::Raw(
            format!("HTTP/1.1 200 OK\r\nset-cookie: {CANARY}\r\nno header\r\n\r\n").into_bytes(),
        ),
        cut if cut.starts_with("/cut") => {
            Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx".to_vec())
        }
        _ => json("1").with("set-cookie", &format!("s={CANARY}")),
    })
    .await;
    let dead = "http://127.0.0.1:9";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wellspring.yaml");
    let text = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  legacy: {{url: \"{}\", headers: {{authorization: \"Bearer {CANARY}\"}}}}\n  dead: {{url: \"{dead}\"}}\n\
         auth:\n  - jwt: {{secret: \"{CANARY}{CANARY}{CANARY}{CANARY}\", cookie: session, query: access_token}}\n\
         \x20 - api_keys: {{keys: [{{name: web, sha256: {}}}]}}\n  - basic: {{users: [{{name: ops, sha256: {}}}]}}\n\
         streams:\n  - path: /value\n    http: {{upstream: legacy}}\n    every: 50ms\n  - path: /dead\n    http: {{upstream: dead}}\n\
         \x20 - path: /alerts\n    publish: {{path: /publish}}\n\
         routes: [{{prefix: /, upstream: legacy}}, {{prefix: /gone, upstream: dead}}]\n",
        upstream.url(),
        sha256(&format!("{CANARY}-key")),
        sha256(&format!("{CANARY}-password")),
    );
    std::fs::write(&file, text).expect("written");
    let mut command: Command = program(env!("CARGO_BIN_EXE_wellspring"));
    command
        .args([
            "run",
            "--log-level",
            "trace,wellspring=trace,pingora_core=trace,pingora_proxy=trace",
            "--config",
        ])
        .arg(&file);
    let mut process = Process::start(&mut command);
    let address = process.address().await;

    let bearer = format!("authorization: Bearer {CANARY}.{CANARY}.{CANARY}");
    let cookie = format!("cookie: session={CANARY}; other={CANARY}");
    let key = format!("x-api-key: {CANARY}-key");
    let wrong_key = format!("x-api-key: {CANARY}");
    let password = basic("ops", &format!("{CANARY}-password"));
    let wrong_password = basic(CANARY, CANARY);
    let last_id = format!("last-event-id: {CANARY}");
    let query = format!("/value?access_token={CANARY}&lastEventId={CANARY}");
    let mut told = String::new();
    let targets = ["/value", &query, "/dead", "/gone", "/broken", "/nowhere"];
    for line in [&key, &password] {
        for target in targets {
            for method in ["GET", "HEAD", "POST"] {
                let lines = [line.as_str(), "accept: application/json", &last_id];
                told.push_str(&answer(address, method, target, &lines).await);
            }
        }
    }
    // An answer that is cut.
    let mut cut = Connection::open(address).await;
    let head = format!("GET /cut?token={CANARY} HTTP/1.1\r\nhost: a\r\n{bearer}\r\n\r\n");
    cut.send(head.as_bytes()).await;
    while cut.fill().await {}
    // A stream, and heads that cannot be read.
    let mut stream = Connection::open(address).await;
    let head =
        format!("GET {query} HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n{key}\r\n\r\n");
    stream.send(head.as_bytes()).await;
    told.push_str(&format!("{:?}", stream.head().await));
    for broken in [
        format!("GET /value?access_token={CANARY} HTTP/9.9\r\nhost: a\r\n{key}\r\n\r\n"),
        format!("GET /value HTTP/1.1\r\nhost: a\r\nauthorization : Bearer {CANARY}\r\n\r\n"),
        format!("GET /value HTTP/1.1\r\nhost: {CANARY}@a\r\n{key}\r\n\r\n"),
        format!("{CANARY}\r\n\r\n"),
    ] {
        let mut connection = Connection::open(address).await;
        connection.send(broken.as_bytes()).await;
        while connection.fill().await {}
        told.push_str(&String::from_utf8_lossy(&connection.take_unread()));
    }
    let posted = request(
        address,
        "POST",
        "/publish",
        &[&key, "content-type: application/json"],
        &format!("{{{CANARY}"),
    )
    .await;
    assert_eq!(posted.head.status, 400);
    told.push_str(&posted.body);
    assert_eq!(get(address, "/value", &[&key]).await.head.status, 200);
    // At last those who are let in nowhere: they soon have to wait, and so does everybody else of this address.
    for line in [&bearer, &cookie, &wrong_key, &wrong_password] {
        for target in targets {
            let lines = [line.as_str(), "accept: text/event-stream", &last_id];
            told.push_str(&answer(address, "GET", target, &lines).await);
        }
    }
    assert!(told.contains("401") && !told.contains(CANARY), "{told}");

    let logged = process.finish().await;
    assert!(
        logged.iter().any(|line| line.contains("a login failed")),
        "the log is seen"
    );
    for line in logged {
        assert!(!line.contains(CANARY), "{line}");
    }
}

/// What the gateway says; what the upstream says when it is passed through is the upstream's.
async fn answer(address: SocketAddr, method: &str, target: &str, lines: &[&str]) -> String {
    let answer = request(address, method, target, lines, "").await;
    match answer.head.header("set-cookie") {
        Some(_) => String::new(),
        None => format!("{answer:?}\n"),
    }
}
