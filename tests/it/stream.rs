//! The event stream on the wire: CONTRACT §3, EDGE §1–§3.

use std::time::Duration;

use super::support::client::{Connection, EventSource, get, pair, request};
use super::support::gateway::TestGateway;
use super::support::upstream::{Reply, TestUpstream, json};
use super::support::{eventually, soon};
use wellspring::sse::parser::Item;

/// EDGE E15: the stream begins before any upstream answer.
#[tokio::test(flavor = "multi_thread")]
async fn begins_at_once_with_its_prelude() {
    let upstream = TestUpstream::saying(Reply::Hang).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    let Some(Item::Retry(retry)) = stream.item().await else {
        panic!("no retry")
    };
    assert!((2000..=5000).contains(&retry), "{retry}");
    assert!(matches!(stream.item().await, Some(Item::Comment(_))));
}

/// EDGE H1, H2, H4, C16.
#[tokio::test(flavor = "multi_thread")]
async fn has_its_headers_and_no_others() {
    let upstream =
        TestUpstream::saying(json("1").with("set-cookie", "a=b").with("x-secret", "1")).await;
    let gateway = TestGateway::polling(
        &upstream.url(),
        "    headers: {cdn-cache-control: no-store}\n",
    );
    let stream = EventSource::open(gateway.address, "/value").await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
        ("transfer-encoding", "chunked"),
        ("cdn-cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{name}");
    }
    assert!(stream.head.header("date").is_some() && stream.head.header("x-request-id").is_some());
    for absent in [
        "content-length",
        "etag",
        "last-modified",
        "accept-ranges",
        "set-cookie",
        "expires",
        "x-secret",
        "trailer",
    ] {
        assert_eq!(stream.head.header(absent), None, "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_the_value_and_then_each_change() {
    let upstream = TestUpstream::saying(json(r#"{"price": 101,  "at":"a"}"#)).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    let first = stream.event().await;
    assert_eq!(
        (first.name.as_str(), first.data.as_str()),
        ("message", r#"{"price":101,"at":"a"}"#)
    );
    assert!(!first.id.is_empty() && first.id.len() <= 64);
    upstream.say(json("102.50"));
    let second = stream.event().await;
    assert_eq!(second.data, "102.50");
    assert_ne!(first.id, second.id);
}

/// CONTRACT §3, forms; EDGE J4.
#[tokio::test(flavor = "multi_thread")]
async fn patch_forms_begin_with_a_snapshot() {
    let long = "x".repeat(100);
    let document = |price: &str| json(&format!(r#"{{"price":{price},"note":"{long}"}}"#));
    let upstream = TestUpstream::saying(document("1")).await;
    let more = "    deliver: [value, json-patch, merge-patch]\n    event: quote\n";
    let gateway = TestGateway::polling(&upstream.url(), more);
    let mut value = EventSource::open(gateway.address, "/value").await;
    let mut patch = EventSource::open(gateway.address, "/value?deliver=json-patch").await;
    let mut merge = EventSource::open(gateway.address, "/value?deliver=merge-patch").await;
    let whole = format!(r#"{{"price":1,"note":"{long}"}}"#);
    assert_eq!(value.next().await, pair("quote", &whole));
    assert_eq!(patch.next().await, pair("snapshot", &whole));
    assert_eq!(merge.next().await, pair("snapshot", &whole));

    upstream.say(document("2"));
    assert_eq!(value.next().await.0, "quote");
    assert_eq!(
        patch.next().await,
        pair("patch", r#"[{"op":"replace","path":"/price","value":2}]"#)
    );
    assert_eq!(merge.next().await, pair("merge", r#"{"price":2}"#));

    // A merge patch cannot say that a member is null.
    upstream.say(document("null"));
    assert_eq!(patch.next().await.0, "patch");
    assert_eq!(merge.next().await.0, "snapshot");

    // A patch longer than the value is no use.
    upstream.say(json("7"));
    assert_eq!(patch.next().await, pair("snapshot", "7"));
    assert_eq!(merge.next().await, pair("snapshot", "7"));
}

/// EDGE E3, E4: what a source says cannot become a field.
#[tokio::test(flavor = "multi_thread")]
async fn no_upstream_byte_forges_a_field() {
    let hostile = "a\r\n\r\nevent: evil\r\ndata: b\nid: 9\n\n:x\rretry: 1\r\r";
    let upstream = TestUpstream::saying(json(hostile).with("content-type", "text/plain")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams:\n  - {{path: /t, http: {{upstream: legacy, format: text}}, every: 50ms}}\n",
        upstream.url()
    ));
    let mut stream = EventSource::open(gateway.address, "/t").await;
    let event = stream.event().await;
    assert_eq!(event.name, "message");
    assert_eq!(
        event.data,
        hostile.replace("\r\n", "\n").replace('\r', "\n")
    );
    assert!(event.id.contains('-'), "{}", event.id);
}

/// EDGE H4: an HTTP/1.0 client reads until the end of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_gets_no_chunks() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut connection = Connection::open(gateway.address).await;
    connection
        .send(b"GET /value HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    let head = connection.head().await;
    assert_eq!(head.header("transfer-encoding"), None);
    // Some of the body may have come with the head.
    let mut body = String::new();
    loop {
        body += &String::from_utf8(connection.take_unread()).expect("text");
        if body.contains("data: 1\n\n") {
            break;
        }
        assert!(connection.fill().await, "{body}");
    }
    assert!(body.starts_with("retry: "), "{body}");
}

/// A connection that has served other requests before can become a stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_becomes_a_stream() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut connection = Connection::open(gateway.address).await;
    for _ in 0..3 {
        connection
            .send(b"GET /value HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        assert_eq!(connection.response(false).await.body, "1");
    }
    connection
        .send(b"GET /value HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        .await;
    assert_eq!(
        connection.head().await.header("content-type"),
        Some("text/event-stream")
    );
    let mut body = Vec::new();
    while !String::from_utf8_lossy(&body).contains("data: 1\n\n") {
        body.extend(connection.chunk().await.expect("more"));
    }
}

/// Bytes behind the request, and `Connection: close`, change nothing for a stream.
#[tokio::test(flavor = "multi_thread")]
async fn connection_close_and_early_bytes_do_no_harm() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream =
        EventSource::open_with(gateway.address, "/value", &["connection: close"]).await;
    assert_eq!(stream.event().await.data, "1");
    let mut connection = Connection::open(gateway.address).await;
    connection.send(b"GET /value HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\nGET /secret HTTP/1.1\r\n\r\n").await;
    assert_eq!(connection.head().await.status, 200);
}

/// EDGE L18, L19, C7.
#[tokio::test(flavor = "multi_thread")]
async fn other_methods_have_their_answers() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let head = request(
        gateway.address,
        "HEAD",
        "/value",
        &["accept: text/event-stream"],
        "",
    )
    .await;
    assert_eq!(
        (head.head.status, head.head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    assert_eq!(gateway.gateway.open_streams(), 0);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = request(gateway.address, method, "/value", &[], "x").await;
        assert_eq!(refused.head.status, 405, "{method}");
        assert_eq!(refused.head.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(
            refused.head.header("content-type"),
            Some("application/problem+json")
        );
    }
    let options = request(gateway.address, "OPTIONS", "/value", &[], "").await;
    assert_eq!(
        (options.head.status, options.head.header("allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    let refused = get(gateway.address, "/value", &["accept: image/png"]).await;
    assert_eq!(refused.head.status, 406);
    let refused = get(
        gateway.address,
        "/value?deliver=merge-patch",
        &["accept: text/event-stream"],
    )
    .await;
    assert_eq!(refused.head.status, 406);
}

/// EDGE F1–F3.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_problems() {
    let gateway = TestGateway::polling("http://127.0.0.1:9", "");
    let missing = get(
        gateway.address,
        "/nothing?%3Cscript%3E",
        &["x-request-id: abc-1"],
    )
    .await;
    assert_eq!(missing.head.status, 404);
    assert_eq!(
        missing.head.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(missing.head.header("cache-control"), Some("no-store"));
    assert_eq!(missing.head.header("x-request-id"), Some("abc-1"));
    let problem: serde_json::Value = serde_json::from_str(&missing.body).expect("JSON");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["instance"], "abc-1");
    assert!(
        problem["type"].is_string()
            && problem["title"].is_string()
            && problem["detail"].is_string()
    );
    assert!(!missing.body.contains("script"));
    // EDGE O9: an id that could forge a log line is replaced.
    let replaced = get(gateway.address, "/nothing", &["x-request-id: a b\"c"]).await;
    assert!(!replaced.body.contains("a b"));
    // EDGE P12, P13.
    for path in [
        "/a/../value",
        "//value",
        "/%76alue",
        "/value%2f",
        "/value\\",
    ] {
        assert_eq!(
            get(gateway.address, path, &[]).await.head.status,
            400,
            "{path}"
        );
    }
    for path in ["/value/", "/value;x", "/Value"] {
        assert_eq!(
            get(gateway.address, path, &[]).await.head.status,
            404,
            "{path}"
        );
    }
}

/// EDGE T1–T3: a silent stream beats, though its source hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_beats() {
    let upstream = TestUpstream::saying(Reply::Hang).await;
    let gateway = TestGateway::polling(&upstream.url(), "    heartbeat: 1s\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    let mut comments = 0;
    while comments < 4 {
        if matches!(stream.item().await, Some(Item::Comment(_))) {
            comments += 1;
        }
    }
}

/// EDGE L16.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_cleanly_at_its_age() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    max_stream_age: 1s\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "1");
    assert_eq!(
        stream.next().await,
        pair("closing", r#"{"reason":"max-age"}"#)
    );
    assert_eq!(soon("a clean end", stream.item()).await, None);
}

/// EDGE L17: a leaver is noticed at once, and the last one stops the polling.
#[tokio::test(flavor = "multi_thread")]
async fn leavers_are_noticed_and_the_last_stops_the_polling() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    linger: 100ms\n");
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = EventSource::open(gateway.address, "/value").await;
        stream.event().await;
        streams.push(stream);
    }
    assert_eq!(gateway.gateway.open_streams(), 5);
    streams.truncate(2);
    eventually("three left", || gateway.gateway.open_streams() == 2).await;
    drop(streams);
    eventually("all left", || gateway.gateway.open_streams() == 0).await;
    // Polling every 50 ms has stopped when nothing comes for ten intervals.
    let mut last = usize::MAX;
    while last != upstream.count() {
        last = upstream.count();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // And it goes on with the next reader.
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    eventually("polling again", || upstream.count() > last + 2).await;
}

/// A request for a stream has no body (EDGE P4).
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_refused() {
    let gateway = TestGateway::polling("http://127.0.0.1:9", "");
    let refused = request(
        gateway.address,
        "GET",
        "/value",
        &["accept: text/event-stream"],
        "body",
    )
    .await;
    assert_eq!(refused.head.status, 400);
}

/// CONTRACT §6: a full stream turns newcomers away softly, or with a status (EDGE L3, I8).
#[tokio::test(flavor = "multi_thread")]
async fn too_many_resources() {
    let upstream = TestUpstream::saying(json("1")).await;
    let file = |overload: &str| {
        format!(
            "upstreams: {{legacy: {{url: \"{}\"}}}}\nlimits: {{overload: {overload}}}\nstreams:\n  - path: /r/{{id}}\n    \
             http: {{upstream: legacy}}\n    max_channels: 2\n",
            upstream.url()
        )
    };
    let gateway = TestGateway::start(&file("stream"));
    let _one = EventSource::open(gateway.address, "/r/1").await;
    let _two = EventSource::open(gateway.address, "/r/2").await;
    let _shared = EventSource::open(gateway.address, "/r/2").await;
    let refused = get(gateway.address, "/r/3", &["accept: text/event-stream"]).await;
    assert_eq!(refused.head.status, 200);
    // EDGE H2, H4.
    assert_eq!(refused.head.header("content-length"), None);
    assert_eq!(refused.head.header("transfer-encoding"), Some("chunked"));
    let mut old = Connection::open(gateway.address).await;
    old.send(b"GET /r/3 HTTP/1.0\r\nconnection: keep-alive\r\naccept: text/event-stream\r\n\r\n")
        .await;
    let closed = old.response(false).await;
    assert_eq!(closed.head.header("transfer-encoding"), None);
    assert_eq!(closed.head.header("content-length"), None);
    assert!(closed.body.ends_with("\n\n"), "{}", closed.body);
    assert!(
        refused.body.starts_with("retry: ")
            && refused
                .body
                .contains("event: closing\ndata: {\"reason\":\"limit\"}")
    );
    let refused = get(gateway.address, "/r/3", &[]).await;
    assert_eq!(refused.head.status, 429);
    for header in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(refused.head.header(header).is_some(), "{header}");
    }
    let gateway = TestGateway::start(&file("status"));
    let _one = EventSource::open(gateway.address, "/r/1").await;
    let _two = EventSource::open(gateway.address, "/r/2").await;
    let refused = get(gateway.address, "/r/3", &["accept: text/event-stream"]).await;
    assert_eq!(refused.head.status, 429);
}

/// `streams[].headers` are on whatever the gateway answers at the path.
#[tokio::test(flavor = "multi_thread")]
async fn more_headers_are_on_every_response_of_the_path() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(
        &upstream.url(),
        "    headers: {cdn-cache-control: no-store}\n",
    );
    let condition = get(gateway.address, "/value", &[]).await.condition();
    for (method, line, status) in [
        ("GET", "accept: */*", 200),
        ("GET", condition.as_str(), 304),
        ("GET", "accept: image/png", 406),
        ("HEAD", "accept: text/event-stream", 200),
        ("OPTIONS", "accept: */*", 204),
        ("POST", "accept: */*", 405),
    ] {
        let answer = request(gateway.address, method, "/value", &[line], "").await;
        assert_eq!(answer.head.status, status, "{method} {line}");
        assert_eq!(
            answer.head.all("cdn-cache-control"),
            "no-store",
            "{method} {line}"
        );
    }
    let stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.head.all("cdn-cache-control"), "no-store");
}
