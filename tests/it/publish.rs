//! `POST` as a source: CONTRACT §3 "Publish".

use super::support::client::{Connection, EventSource, get, pair, request};
use super::support::gateway::TestGateway;

fn gateway(publish: &str) -> TestGateway {
    TestGateway::start(&format!(
        "streams: [{{path: \"/alerts/{{room}}\", publish: {{path: \"/publish/{{room}}\", {publish}}}}}]\n"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn json_and_text_reach_the_readers_of_their_channel() {
    let gateway = gateway("retain: true");
    let mut a = EventSource::open(gateway.address, "/alerts/a").await;
    let mut b = EventSource::open(gateway.address, "/alerts/b").await;
    let json = ["content-type: application/json"];
    let posted = request(
        gateway.address,
        "POST",
        "/publish/a",
        &json,
        r#"{ "n" : 1 }"#,
    )
    .await;
    assert_eq!(posted.head.status, 202);
    let event = a.event().await;
    assert_eq!(event.data, r#"{"n":1}"#);
    assert_eq!(posted.body, format!(r#"{{"id":"{}"}}"#, event.id));
    let posted = request(
        gateway.address,
        "POST",
        "/publish/b",
        &["content-type: text/plain"],
        "two\nlines",
    )
    .await;
    assert_eq!(posted.head.status, 202);
    assert_eq!(b.event().await.data, "two\nlines");
    // The same again is another message.
    request(gateway.address, "POST", "/publish/a", &json, r#"{"n":1}"#).await;
    assert_eq!(a.event().await.data, r#"{"n":1}"#);
    // Retained: newcomers and plain GETs get the last one.
    let mut late = EventSource::open(gateway.address, "/alerts/a").await;
    assert_eq!(late.event().await.data, r#"{"n":1}"#);
    assert_eq!(
        get(gateway.address, "/alerts/b", &[]).await.body,
        "two\nlines"
    );
    assert_eq!(
        get(gateway.address, "/alerts/none", &[]).await.head.status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retain_newcomers_get_only_what_comes() {
    let gateway = gateway("retain: false");
    let mut early = EventSource::open(gateway.address, "/alerts/a").await;
    request(gateway.address, "POST", "/publish/a", &[], "one").await;
    let first = early.event().await;
    let mut late = EventSource::open(gateway.address, "/alerts/a").await;
    request(gateway.address, "POST", "/publish/a", &[], "two").await;
    assert_eq!(late.event().await.data, "two");
    let mut resumed = EventSource::resume(gateway.address, "/alerts/a", &first.id).await;
    assert_eq!(resumed.event().await.data, "two");
    let mut unknown = EventSource::resume(gateway.address, "/alerts/a", "0000000000000000-1").await;
    assert_eq!(
        unknown.next().await,
        pair("reset", r#"{"reason":"unknown-id"}"#)
    );
    assert_eq!(
        get(gateway.address, "/alerts/a", &["accept: application/json"])
            .await
            .head
            .status,
        406
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_refused() {
    let gateway = gateway("max_body: 64KiB");
    let json = ["content-type: application/json; charset=utf-8"];
    assert_eq!(
        request(gateway.address, "POST", "/publish/a", &json, "{nope")
            .await
            .head
            .status,
        400
    );
    let long = "x".repeat((64 << 10) + 1);
    assert_eq!(
        request(gateway.address, "POST", "/publish/a", &[], &long)
            .await
            .head
            .status,
        413
    );
    assert_eq!(
        request(gateway.address, "POST", "/publish/a", &[], &long[1..])
            .await
            .head
            .status,
        202
    );
    assert_eq!(
        request(gateway.address, "POST", "/publish/a%20b", &[], "x")
            .await
            .head
            .status,
        404
    );
    let get = get(gateway.address, "/publish/a", &[]).await;
    assert_eq!(
        (get.head.status, get.head.header("allow")),
        (405, Some("POST, OPTIONS"))
    );
    assert_eq!(
        request(gateway.address, "POST", "/alerts/a", &[], "x")
            .await
            .head
            .status,
        405
    );
}

/// RFC 9110 §10.1.1: a client that waits for `100 Continue` gets it, but not for what is refused anyway.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_is_told_to_go_on() {
    let gateway = gateway("max_body: 64KiB");
    let head = |length: usize| {
        format!(
            "POST /publish/a HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\nexpect: 100-Continue\r\n\r\n"
        )
    };
    let mut connection = Connection::open(gateway.address).await;
    connection.send(head(5).as_bytes()).await;
    assert_eq!(connection.head().await.status, 100);
    connection.send(b"hello").await;
    assert_eq!(connection.response(false).await.head.status, 202);
    let mut connection = Connection::open(gateway.address).await;
    connection.send(head((64 << 10) + 1).as_bytes()).await;
    assert_eq!(connection.response(false).await.head.status, 413);
    assert!(!connection.fill().await);
}
