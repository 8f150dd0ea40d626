//! What is not a stream's is passed through: EDGE §5.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::support::client::{Connection, get, request};
use super::support::gateway::TestGateway;
use super::support::soon;
use super::support::upstream::{Reply, TestUpstream, json};

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

/// EDGE P15, P18: what the gateway has no business with is the same bytes on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_the_same_on_both_sides() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    let targets = [
        "/a/b.c;v=1/",
        "/q?b=2&a=1&a=&c&=d&&e=f+g%20h%2Fi%5B%5D",
        "/q?",
        "/q?x=a//b/../c",
        "/%C3%A9/%20x",
        "/caf%c3%a9?%7e=%41",
    ];
    for target in targets {
        let headers = [
            "accept: a/b",
            "accept: c/d;q=0.1",
            "cookie: a=1; b=\"2\"",
            "range: bytes=0-1",
            "if-none-match: \"x\", W/\"y\"",
            "if-modified-since: Sat, 01 Jan 2000 00:00:00 GMT",
            "x-empty:",
            "te: trailers",
            "proxy-authorization: Basic eDp5",
        ];
        get(gateway.address, target, &headers).await;
        let requests = upstream.requests();
        let seen = requests.last().expect("it arrived");
        assert_eq!(seen.target, target);
        let accepted: Vec<&str> = seen
            .headers
            .iter()
            .filter(|(name, _)| name == "accept")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(accepted, ["a/b", "c/d;q=0.1"]);
        for (name, value) in [
            ("cookie", Some("a=1; b=\"2\"")),
            ("range", Some("bytes=0-1")),
            ("if-none-match", Some("\"x\", W/\"y\"")),
            ("if-modified-since", Some("Sat, 01 Jan 2000 00:00:00 GMT")),
            ("x-empty", Some("")),
            ("te", None),
            ("proxy-authorization", None),
            ("accept-encoding", None),
        ] {
            assert_eq!(seen.header(name), value, "{name}");
        }
    }
    for (method, answer, same) in [
        (
            "GET",
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-1/9\r\netag: W/\"a\"\r\nset-cookie: a=1; Path=/\r\n\
             set-cookie: b=2\r\nvary: Accept\r\ncache-control: no-transform\r\ncontent-encoding: gzip\r\n\
             content-length: 2\r\n\r\nab",
            "ab",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
            "",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"a\"\r\n\r\n",
            "",
        ),
        ("DELETE", "HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n", ""),
        ("GET", "HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n", ""),
    ] {
        upstream.say(Reply::Raw(answer.into()));
        let response = request(gateway.address, method, "/", &["accept-encoding: gzip"], "").await;
        let mut lines = answer.lines().take_while(|line| !line.is_empty());
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        assert_eq!(Some(response.head.status.to_string().as_str()), status);
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let found = response.head.headers.iter();
            let count = found.filter(|(known, text)| known == name && text == value);
            assert_eq!(count.count(), 1, "{line}: {:?}", response.head.headers);
        }
        assert_eq!(response.body, same);
        assert_eq!(response.head.all("via"), "1.1 wellspring");
    }
}

/// EDGE P6: `Connection` takes its own fields away in both directions, and cannot take what the gateway adds.
#[tokio::test(flavor = "multi_thread")]
async fn connection_takes_only_its_own_fields_away() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    let headers = [
        "connection: x-own, x-request-id, via",
        "x-own: 1",
        "keep-alive: timeout=9",
    ];
    let response = get(gateway.address, "/", &headers).await;
    assert_eq!(response.head.status, 200);
    let requests = upstream.requests();
    let seen = requests.last().expect("it arrived");
    for (name, there) in [
        ("x-own", false),
        ("keep-alive", false),
        ("x-forwarded-for", true),
        ("x-request-id", true),
        ("via", true),
    ] {
        assert_eq!(seen.header(name).is_some(), there, "{name}");
    }
    for name in ["x-forwarded-for", "host", "X-Forwarded-Proto"] {
        let nominates = format!("connection: {name}");
        get(gateway.address, "/nominated", &[&nominates]).await;
        for seen in upstream.requests() {
            assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "{name}");
            assert!(seen.header("host").is_some(), "{name}");
        }
    }
    upstream.say(Reply::Raw(
        b"HTTP/1.1 200 OK\r\nconnection: close, x-hop, x-request-id\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
          x-request-id: theirs\r\nx-end: 2\r\ncontent-length: 0\r\n\r\n"
            .to_vec(),
    ));
    let mut connection = Connection::open(gateway.address).await;
    for _ in 0..2 {
        connection
            .send(b"GET / HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\n\r\n")
            .await;
        // The end of the upstream's connection is not the end of the client's.
        let response = connection.response(false).await;
        for (name, value) in [
            ("x-hop", None),
            ("keep-alive", None),
            ("x-request-id", Some("mine")),
            ("x-end", Some("2")),
        ] {
            assert_eq!(response.head.header(name), value, "{name}");
        }
    }
}

/// EDGE P20: a gateway that is its own upstream ends its loop.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends() {
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gateway = gateway(&format!("http://{}", door.local_addr().expect("bound")));
    let (rounds, inside) = (Arc::new(AtomicUsize::new(0)), gateway.address);
    let counter = rounds.clone();
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = door.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut inner = TcpStream::connect(inside).await.expect("connects");
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    let answer = get(gateway.address, "/round", &[]).await;
    assert_eq!(answer.head.status, 508);
    assert_eq!(
        answer.head.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(rounds.load(Ordering::SeqCst), 5);
}

/// An upstream whose every byte the test says.
struct Puppet(TcpListener);

impl Puppet {
    async fn start() -> (Self, TestGateway) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let gateway = gateway(&format!("http://{}", listener.local_addr().expect("bound")));
        (Self(listener), gateway)
    }

    async fn accept(&self) -> TcpStream {
        soon("a connection", self.0.accept())
            .await
            .expect("accepts")
            .0
    }
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let read = soon(end, stream.read_buf(&mut bytes)).await.expect("reads");
        assert!(
            read > 0,
            "{end:?} never came: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    String::from_utf8(bytes).expect("text")
}

/// EDGE P16: every piece passes before the next one is there, both ways, with a length or without.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_piece_by_piece() {
    let (puppet, gateway) = Puppet::start().await;
    for (framing, pieces) in [
        (
            "transfer-encoding: chunked",
            ["3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"],
        ),
        ("content-length: 9", ["one", "two", "end"]),
    ] {
        let mut client = Connection::open(gateway.address).await;
        client
            .send(format!("POST /up HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n").as_bytes())
            .await;
        let mut upstream = puppet.accept().await;
        let head = read_until(&mut upstream, "\r\n\r\n").await.to_lowercase();
        assert!(head.contains(framing), "{head}");
        for piece in pieces {
            client.send(piece.as_bytes()).await;
            read_until(&mut upstream, piece).await;
        }
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .expect("sends");
        assert_eq!(client.head().await.status, 200);
        for piece in ["data: 1\n\n", ": comment\n", "data: 2\n\n"] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            upstream.write_all(chunk.as_bytes()).await.expect("sends");
            assert_eq!(client.chunk().await.as_deref(), Some(piece.as_bytes()));
        }
        // Trailers are dropped (EDGE P5).
        upstream
            .write_all(b"0\r\nx-trailer: 1\r\n\r\n")
            .await
            .expect("sends");
        assert_eq!(client.chunk().await, None);
        client
            .send(b"GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        let mut next = puppet_next(&puppet, upstream).await;
        next.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nnext")
            .await
            .expect("sends");
        drop(next);
        assert_eq!(client.response(false).await.body, "next");
    }
}

/// The connection that the next request comes on: the kept one, or a new one.
async fn puppet_next(puppet: &Puppet, mut kept: TcpStream) -> TcpStream {
    let mut bytes = [0; 1];
    let mut on = tokio::select! {
        read = kept.read_exact(&mut bytes) => { read.expect("the next request"); kept }
        new = puppet.accept() => new,
    };
    read_until(&mut on, "\r\n\r\n").await;
    on
}

/// EDGE P16: `100 Continue` comes from the upstream, before the body; other `1xx` pass too.
#[tokio::test(flavor = "multi_thread")]
async fn informational_answers_pass() {
    let (puppet, gateway) = Puppet::start().await;
    let mut client = Connection::open(gateway.address).await;
    client
        .send(b"PUT /up HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    let mut upstream = puppet.accept().await;
    let head = read_until(&mut upstream, "\r\n\r\n").await.to_lowercase();
    assert!(head.contains("expect: 100-continue"), "{head}");
    upstream
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .await
        .expect("sends");
    assert_eq!(client.head().await.status, 100);
    client.send(b"body").await;
    read_until(&mut upstream, "body").await;
    upstream
        .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await
        .expect("sends");
    let hints = client.head().await;
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    let last = client.response(false).await;
    assert_eq!((last.head.status, last.body.as_str()), (200, "ok"));
}

/// EDGE H4, P16.
#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_reads_to_the_end() {
    let (puppet, gateway) = Puppet::start().await;
    let mut client = Connection::open(gateway.address).await;
    client
        .send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        .await;
    let mut upstream = puppet.accept().await;
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        .await
        .expect("sends");
    assert_eq!(client.head().await.header("transfer-encoding"), None);
    while client.take_unread() != b"one" {
        assert!(client.fill().await);
    }
    upstream
        .write_all(b"3\r\ntwo\r\n0\r\n\r\n")
        .await
        .expect("sends");
    while client.fill().await {}
    assert_eq!(client.take_unread(), b"two");
}

/// A body that broke off must not look whole (RFC 9112 §8).
#[tokio::test(flavor = "multi_thread")]
async fn half_a_body_is_never_a_whole_one() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    for (answer, whole) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhalf", true),
    ] {
        upstream.say(Reply::Raw(answer.into()));
        let mut client = Connection::open(gateway.address).await;
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.head().await;
        let mut rest = client.take_unread();
        // A whole answer leaves the connection open; it is read up to its last chunk.
        while !rest.ends_with(b"0\r\n\r\n") && client.fill().await {
            rest.extend(client.take_unread());
        }
        assert_eq!(rest.ends_with(b"0\r\n\r\n"), whole, "{answer}");
        if head.header("content-length").is_some() {
            assert_eq!(rest, b"half");
        }
    }
}

/// Who leaves takes the request along.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_request() {
    let (puppet, gateway) = Puppet::start().await;
    for begun in [false, true] {
        let mut client = Connection::open(gateway.address).await;
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut upstream = puppet.accept().await;
        read_until(&mut upstream, "\r\n\r\n").await;
        if begun {
            let begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
            upstream.write_all(begin).await.expect("sends");
            client.head().await;
        }
        drop(client);
        let end = soon("the end", upstream.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

/// RFC 9110 §9.3.7: what is asked of the gateway as a whole no upstream can answer; of a path they can.
#[tokio::test(flavor = "multi_thread")]
async fn options_of_the_whole_gateway_is_answered_by_it() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url());
    for target in ["*", &format!("http://{}", gateway.address)] {
        let answer = request(gateway.address, "OPTIONS", target, &[], "").await;
        assert_eq!(answer.head.status, 204, "{target}");
        let allow = answer.head.header("allow").expect("methods");
        assert!(
            allow.contains("GET") && allow.contains("OPTIONS"),
            "{allow}"
        );
        assert_eq!(answer.head.header("content-length"), None);
        assert!(answer.head.header("x-request-id").is_some());
    }
    assert_eq!(upstream.count(), 0);
    let answer = request(gateway.address, "GET", "*", &[], "").await;
    assert_eq!(answer.head.status, 400);
    request(gateway.address, "OPTIONS", "/x", &[], "").await;
    assert_eq!(upstream.count(), 1);
    // What it leaves of the connection is no request.
    let mut connection = Connection::open(gateway.address).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let head = format!(
        "OPTIONS * HTTP/1.1\r\nhost: a\r\ncontent-length: {}",
        smuggled.len()
    );
    connection
        .send(format!("{head}\r\n\r\n{smuggled}").as_bytes())
        .await;
    assert_eq!(connection.response(false).await.head.status, 204);
    assert!(!connection.fill().await);
    assert_eq!(upstream.count(), 1);
}
