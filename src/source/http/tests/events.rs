use tokio::time::timeout;

use super::super::EventFeed;
use super::upstream::{Scripted, answer, flood, hang, raw};
use super::*;
use crate::source::Feed;
use crate::source::testing::told;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nConnection: close\r\n\r\n";

fn spec_of(url: &str) -> config::SseSource {
    let http = spec(url);
    config::SseSource {
        upstream: http.upstream,
        path: ParamText::literal("/events"),
        query: vec![("topic".into(), ParamText::literal("a b"))],
        headers: Vec::new(),
    }
}

fn feed(url: &str) -> EventFeed {
    let spec = spec_of(url);
    EventFeed::new(client_of(&spec), spec.into(), Params::default(), true)
}

fn client_of(spec: &config::SseSource) -> HttpClient {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpClient::new(spec.upstream.clone(), Default::default()).expect("a client")
}

fn stream(events: &str) -> Vec<u8> {
    format!("{HEAD}{events}").into_bytes()
}

async fn all(feed: &mut EventFeed, expected: &[&str]) {
    for expected in expected {
        assert_eq!(told(feed).await, *expected);
    }
}

/// EDGE U20, E6: events are parsed; names that are none do not pass, and neither ids nor `retry` are part of what is told.
#[tokio::test]
async fn events_are_parsed_and_their_names_are_checked() {
    let events = "\u{feff}retry: 1\n: hello\n\nevent: price.up\nid: 1\ndata: {\"n\":\r\ndata:1.10}\r\n\r\n\
                  event: a b\rdata: two\rdata:  lines\r\revent: message\ndata\n\nevent: stop\n\nid: 7\n\n\
                  event: \u{1b}[2J\ndata: \u{0}\n\ndata: never whole\nid: 8\n";
    let mut upstream = Scripted::start([raw(stream(events)), hang(HEAD)]).await;
    let mut feed = feed(&upstream.url);
    let expected = [
        "up",
        "price.up: json {\"n\":1.10}",
        "text two\n lines",
        "text ",
        "text \0",
        "down connect",
        "resumed",
    ];
    all(&mut feed, &expected).await;
    let first = upstream.request().await.to_ascii_lowercase();
    assert!(
        first.starts_with("get /events?topic=a%20b http/1.1\r\n"),
        "{first}"
    );
    assert!(first.contains("accept: text/event-stream\r\n"), "{first}");
    assert!(first.contains("accept-encoding: identity\r\n"), "{first}");
    assert!(!first.contains("last-event-id"), "{first}");
    // Of the last block that came whole, with data or without.
    let second = upstream.request().await.to_ascii_lowercase();
    assert!(second.contains("last-event-id: 7\r\n"), "{second}");
}

/// Without ids nobody knows what the gap held.
#[tokio::test]
async fn a_stream_without_ids_begins_anew() {
    let event = "retry: 1\ndata: 1\n\n";
    let upstream = Scripted::start([raw(stream(event)), hang(HEAD)]).await;
    let mut feed = feed(&upstream.url);
    all(&mut feed, &["up", "json 1", "down connect", "up"]).await;
}

/// EDGE E2: what is no UTF-8 arrives as U+FFFD.
#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
    let bytes = [HEAD.as_bytes(), b"data: a\xff\n\n"].concat();
    let upstream = Scripted::start([hang(bytes)]).await;
    all(&mut feed(&upstream.url), &["up", "text a\u{fffd}"]).await;
}

/// EDGE U3, U13, U15: what is no event stream is a failure with its cause.
#[tokio::test]
async fn what_is_no_event_stream_is_a_failure() {
    let json = "Content-Type: application/json\r\n";
    let coded = "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n";
    for (line, cause) in [
        (answer(500, "", ""), "status"),
        (
            answer(206, "Content-Type: text/event-stream\r\n", ""),
            "status",
        ),
        (answer(302, "Location: /other\r\n", ""), "status"),
        (answer(401, "", ""), "unauthorized"),
        (answer(403, "", ""), "unauthorized"),
        (answer(429, "", ""), "rate-limited"),
        (answer(503, "", ""), "status"),
        (answer(503, "Retry-After: 1\r\n", ""), "rate-limited"),
        (answer(200, json, "{}"), "malformed"),
        (answer(200, "", "data: 1\n\n"), "malformed"),
        (answer(200, coded, ""), "malformed"),
    ] {
        let upstream = Scripted::start([line]).await;
        assert_eq!(
            told(&mut feed(&upstream.url)).await,
            format!("down {cause}")
        );
    }
}

/// EDGE U16: what fails is tried again until it does not, and each attempt is told.
#[tokio::test]
async fn a_failure_is_tried_again() {
    let upstream = Scripted::start([answer(500, "", ""), hang(stream("data: 1\n\n"))]).await;
    let mut feed = feed(&upstream.url);
    all(&mut feed, &["down status", "up", "json 1"]).await;
}

/// EDGE L2: "never again" is obeyed for a long time.
#[tokio::test]
async fn an_upstream_that_says_stop_is_left_alone() {
    let mut upstream = Scripted::start([answer(204, "", ""), hang(HEAD)]).await;
    let mut feed = feed(&upstream.url);
    all(&mut feed, &["down status"]).await;
    upstream.request().await;
    let again = timeout(Duration::from_millis(1500), feed.next()).await;
    assert!(again.is_err() && upstream.waiting() == 0, "{again:?}");
}

/// EDGE U20, E14: one event is bounded as a body is; what comes after it is not lost.
#[tokio::test]
async fn an_event_larger_than_a_body_may_be_is_dropped_alone() {
    let large = "x".repeat(256 * 1024);
    let events = format!("id: 1\ndata: {large}\n\nid: 2\ndata: {large}x\n\nid: 3\ndata: y\n\n");
    let upstream = Scripted::start([hang(stream(&events))]).await;
    let mut feed = feed(&upstream.url);
    let expected = [
        "up",
        &format!("text {large}"),
        "refused an event of more than 262144 bytes",
        "text y",
    ];
    all(&mut feed, &expected).await;
}

/// An event without end is silence, whatever it costs the upstream.
#[tokio::test]
async fn an_endless_event_takes_no_memory() {
    let upstream = Scripted::start([flood(HEAD, "x".repeat(64 * 1024))]).await;
    let mut feed = feed(&upstream.url);
    all(&mut feed, &["up"]).await;
    assert!(
        timeout(Duration::from_millis(300), feed.next())
            .await
            .is_err()
    );
}

/// A connection that is cut without a word, or says nothing any more, is made anew.
#[tokio::test]
async fn silence_ends_a_connection_and_a_byte_now_and_then_does_not() {
    let upstream =
        Scripted::start([hang(stream("retry: 1\n\n")), hang(stream("data: 1\n\n"))]).await;
    let mut feed = feed(&upstream.url);
    feed.longest_silence = Duration::from_millis(200);
    all(&mut feed, &["up", "down timeout", "up", "json 1"]).await;
}

/// An id that no header can hold is as none (EDGE P22).
#[tokio::test]
async fn an_id_that_fits_no_header_is_not_sent() {
    for id in ["a\u{1}b".to_owned(), "x".repeat(5000)] {
        let event = format!("retry: 1\nid: {id}\ndata: 1\n\n");
        let mut upstream = Scripted::start([raw(stream(&event)), hang(HEAD)]).await;
        let mut feed = feed(&upstream.url);
        all(&mut feed, &["up", "json 1", "down connect", "up"]).await;
        upstream.request().await;
        let again = upstream.request().await.to_ascii_lowercase();
        assert!(!again.contains("last-event-id"), "{again}");
    }
}

/// A name in the file stands for those of the events.
#[tokio::test]
async fn names_are_dropped_where_the_file_has_one() {
    let upstream = Scripted::start([hang(stream("event: a\ndata: 1\n\n"))]).await;
    let spec = spec_of(&upstream.url);
    let client = client_of(&spec);
    let mut feed = EventFeed::new(client, spec.into(), Params::default(), false);
    all(&mut feed, &["up", "json 1"]).await;
}

/// EDGE A10: neither the token of the request nor the upstream's id is shown.
#[tokio::test]
async fn nothing_secret_is_in_debug_output() {
    let upstream = Scripted::start([hang(stream("id: s3cret\ndata: 1\n\n"))]).await;
    let mut spec = spec_of(&upstream.url);
    spec.query = vec![("token".into(), ParamText::literal("s3cret"))];
    let client = client_of(&spec);
    let mut feed = EventFeed::new(client, spec.clone().into(), Params::default(), true);
    all(&mut feed, &["up", "json 1"]).await;
    let shown = format!("{feed:?} {spec:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}
