//! What is not a stream's is passed through: EDGE §5.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::support::client::{Connection, get, request};
use super::support::gateway::TestGateway;
use super::support::upstream::{TestUpstream, json};

fn gateway(url: &str) -> TestGateway {
    TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{url}\", headers: {{authorization: Bearer gateway, x-key: k}}}}}}\n\
         streams: [{{path: /value, http: {{upstream: legacy, path: /polled}}}}]\n\
         routes: [{{prefix: /, upstream: legacy}}]\n"
    ))
}

/// The gateway's credentials are for its polls; whoever passes through has their own.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_the_clients_own() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    get(gateway.address, "/value", &[]).await;
    get(gateway.address, "/anonymous", &[]).await;
    get(gateway.address, "/known", &["authorization: Bearer client"]).await;
    for (target, authorization, key) in [
        ("/polled", Some("Bearer gateway"), Some("k")),
        ("/anonymous", None, None),
        ("/known", Some("Bearer client"), None),
    ] {
        let requests = upstream.requests();
        let seen = requests.iter().find(|request| request.target == target);
        let seen = seen.expect("it arrived");
        assert_eq!(seen.header("authorization"), authorization, "{target}");
        assert_eq!(seen.header("x-key"), key, "{target}");
    }
}

/// EDGE P21: nobody is trusted to say who asked.
#[tokio::test(flavor = "multi_thread")]
async fn claims_about_the_way_are_replaced() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    let claims = "forwarded: for=6.6.6.6\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\n\
                  x-forwarded-host: evil.example\r\nx-forwarded-port: 443\r\nx-real-ip: 6.6.6.6\r\n";
    for (version, host) in [
        ("HTTP/1.1\r\nhost: a.example", Some("a.example")),
        ("HTTP/1.0", None),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection
            .send(format!("GET /passed {version}\r\n{claims}\r\n").as_bytes())
            .await;
        assert_eq!(connection.response(false).await.head.status, 200);
        let requests = upstream.requests();
        let seen = requests.last().expect("it arrived");
        for (name, value) in [
            ("forwarded", None),
            ("x-real-ip", None),
            ("x-forwarded-port", None),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", host),
        ] {
            assert_eq!(seen.header(name), value, "{name} of {version}");
        }
    }
}

/// EDGE P2, P3: what can be read in two ways is refused, with the end of its connection, and no upstream sees it.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    for head in [
        "host: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
        "host: a\r\ntransfer-encoding: chunked\r\nContent-Length: 5",
        "x: no host",
        "host:",
        "host: a b",
        "host: a..b",
        "host: user@a",
        "host: a:b",
        "host: a\r\nhost: b",
        "host: a\r\nhost: a",
        "host: a\r\ncontent-length: 5\r\ncontent-length: 6",
        "host: a\r\ncontent-length: +5",
    ] {
        for target in ["/passed", "/value"] {
            let mut connection = Connection::open(gateway.address).await;
            connection
                .send(format!("POST {target} HTTP/1.1\r\n{head}\r\n\r\n0\r\n\r\n").as_bytes())
                .await;
            let answer = connection.response(false).await;
            assert_eq!(answer.head.status, 400, "{head}");
            assert_eq!(answer.head.header("connection"), Some("close"), "{head}");
            assert!(!connection.fill().await, "{head}");
        }
    }
    assert_eq!(upstream.count(), 0);
}

/// EDGE P19: sent once more at most, and only what does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_costs_one_more_try_at_most() {
    for (method, tries) in [("GET", 2), ("POST", 1)] {
        let (url, tried) = three_connections_that_die().await;
        let gateway = gateway(&url);
        let fill = (0..3).map(|_| get(gateway.address, "/fill", &[]));
        for answer in futures_util::future::join_all(fill).await {
            assert_eq!(answer.body, "1");
        }
        let answer = request(gateway.address, method, "/again", &[], "").await;
        assert_eq!(answer.head.status, 502, "{method}");
        assert_eq!(tried.load(Ordering::SeqCst), tries, "{method}");
    }
}

/// Answers one request on each of three connections, all at the same time, and none after these.
async fn three_connections_that_die() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (all, tried) = (Arc::new(Barrier::new(3)), Arc::new(AtomicUsize::new(0)));
    let counter = tried.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (all, counter) = (all.clone(), counter.clone());
            tokio::spawn(async move {
                if !read_head(&mut stream).await {
                    return;
                }
                all.wait().await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1";
                stream.write_all(answer).await.expect("sent");
                if read_head(&mut stream).await {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    (url, tried)
}

async fn read_head(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if !stream
            .read_buf(&mut bytes)
            .await
            .is_ok_and(|count| count > 0)
        {
            return false;
        }
    }
    true
}
