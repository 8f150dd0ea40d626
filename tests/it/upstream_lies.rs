//! Bad answers: a named cause in `stale`, the last good value kept, streams open (CONTRACT §3, EDGE U7–U13, U18).

use super::support::client::{EventSource, get};
use super::support::gateway::TestGateway;
use super::support::upstream::{Reply, TestUpstream, json, status};

fn raw(head: &str, body: &[u8]) -> Reply {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Reply::Raw(bytes)
}

fn bomb() -> Vec<u8> {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 64 << 20]).expect("memory");
    encoder.finish().expect("memory")
}

/// Each lie after a good value, and a good value after each lie.
#[tokio::test(flavor = "multi_thread")]
async fn every_lie_has_its_cause_and_loses_nothing() {
    let bomb = bomb();
    let huge = format!("\"{}\"", "x".repeat(2 << 20));
    let lies: Vec<(&str, &str, Reply)> = vec![
        (
            "an HTML page",
            "malformed",
            json("<html>busy</html>").with("content-type", "text/html"),
        ),
        ("HTML that says JSON", "malformed", json("<html>")),
        (
            "JSON that says HTML",
            "malformed",
            json("{}").with("content-type", "text/html"),
        ),
        (
            "an image",
            "malformed",
            json("{}").with("content-type", "image/png"),
        ),
        (
            "half a body",
            "malformed",
            raw("content-length: 100\r\n", b"{\"a\":"),
        ),
        (
            "half a chunk",
            "malformed",
            raw("transfer-encoding: chunked\r\n", b"ff\r\n{"),
        ),
        (
            "no last chunk",
            "malformed",
            raw("transfer-encoding: chunked\r\n", b"2\r\n{}\r\n"),
        ),
        ("nesting", "malformed", json(&"[".repeat(1 << 20))),
        (
            "65 levels",
            "malformed",
            json(&format!("{}{}", "[".repeat(65), "]".repeat(65))),
        ),
        ("a lone surrogate", "malformed", json(r#""\ud800""#)),
        ("a BOM", "malformed", json("\u{feff}{}")),
        ("NaN", "malformed", json("NaN")),
        ("garbage behind", "malformed", json("{} x")),
        (
            "no UTF-8",
            "malformed",
            raw("content-length: 4\r\n", b"\"\xff\xfe\""),
        ),
        (
            "a gzip bomb",
            "too-large",
            raw(
                &format!(
                    "content-encoding: gzip\r\ncontent-length: {}\r\n",
                    bomb.len()
                ),
                &bomb,
            ),
        ),
        (
            "two codings",
            "malformed",
            json("{}").with("content-encoding", "gzip, gzip"),
        ),
        ("a big body", "too-large", json(&huge)),
        (
            "no HTTP",
            "malformed",
            Reply::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        ),
        (
            "204",
            "status",
            Reply::Http {
                status: 204,
                headers: vec![],
                body: vec![],
            },
        ),
        ("206", "status", status(206, "1")),
        (
            "a redirect",
            "status",
            status(301, "").with("location", "/x"),
        ),
        (
            "304 unasked",
            "status",
            Reply::Http {
                status: 304,
                headers: vec![],
                body: vec![],
            },
        ),
        ("500", "status", status(500, "{}")),
        ("503", "status", status(503, "{}")),
        (
            "503 with Retry-After",
            "rate-limited",
            status(503, "{}").with("retry-after", "0"),
        ),
        ("429", "rate-limited", status(429, "{}")),
        ("401", "unauthorized", status(401, "{}")),
        ("403", "unauthorized", status(403, "{}")),
    ];
    let upstream = TestUpstream::saying(json("0")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    stale_after: 400ms\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "0");
    for (n, (what, cause, lie)) in lies.into_iter().enumerate() {
        upstream.say(lie);
        let data = stream.until("stale").await;
        assert!(
            data.contains(&format!(r#""cause":"{cause}""#)),
            "{what}: {data}"
        );
        let kept = get(gateway.address, "/value", &[]).await;
        assert_eq!(
            (kept.head.status, kept.body),
            (200, n.to_string()),
            "{what}"
        );
        upstream.say(json(&(n + 1).to_string()));
        assert_eq!(stream.next().await.0, "fresh", "{what}");
        assert_eq!(stream.event().await.data, (n + 1).to_string(), "{what}");
    }
}

/// EDGE U7: a body without an end is cut at its bound.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_is_too_large() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[".to_vec();
    let upstream = TestUpstream::saying(Reply::Endless {
        head,
        again: b"1,".repeat(4096),
    })
    .await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert!(
        stream
            .until("stale")
            .await
            .contains(r#""cause":"too-large""#)
    );
}

/// EDGE U6: each deadline has its cause.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_timeout() {
    let upstream = TestUpstream::saying(Reply::Hang).await;
    let file = |timeouts: &str| {
        format!(
            "upstreams: {{legacy: {{url: \"{}\", timeouts: {{{timeouts}}}}}}}\nstreams: [{{path: /value, http: {{upstream: \
             legacy}}, every: 50ms}}]\n",
            upstream.url()
        )
    };
    for timeouts in ["first_byte: 200ms", "total: 200ms"] {
        let gateway = TestGateway::start(&file(timeouts));
        let mut stream = EventSource::open(gateway.address, "/value").await;
        assert!(
            stream.until("stale").await.contains(r#""cause":"timeout""#),
            "{timeouts}"
        );
    }
}

/// The reverse of the rule: a listed status is a value, even 404.
#[tokio::test(flavor = "multi_thread")]
async fn a_listed_status_is_a_value() {
    let upstream = TestUpstream::saying(status(404, "{\"none\":true}")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams: [{{path: /value, http: {{upstream: legacy, success: [200, 404]}}, \
         every: 50ms}}]\n",
        upstream.url()
    ));
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "{\"none\":true}");
}

/// CONTRACT §6: a `select` that finds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn select_that_finds_nothing() {
    let upstream = TestUpstream::saying(json(r#"{"a":[]}"#)).await;
    let gateway = TestGateway::polling(&upstream.url(), "    select: $.b\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert!(stream.until("stale").await.contains("malformed"));
    let gateway = TestGateway::polling(&upstream.url(), "    select: $.a[*]\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "[]");
}
