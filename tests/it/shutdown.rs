//! Stopping: EDGE L14.

use std::time::{Duration, Instant};

use super::support::client::{Connection, EventSource, get};
use super::support::gateway::TestGateway;
use super::support::upstream::{Reply, TestUpstream, json};
use super::support::{eventually, soon};
use wellspring::sse::parser::Item;

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_spread_over_the_window_each_with_its_own_retry() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway =
        TestGateway::polling(&upstream.url(), "shutdown: {drain: 2s, retry: [1s, 30s]}\n");
    let address = gateway.address;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = EventSource::open(address, "/value").await;
        stream.event().await;
        streams.push(stream);
    }
    let began = Instant::now();
    let stopped = tokio::spawn(gateway.gateway.stop());
    let ends = streams.into_iter().map(|mut stream| async move {
        let mut retry = None;
        loop {
            match stream.item().await {
                Some(Item::Retry(ms)) => retry = Some(ms),
                Some(Item::Event(event)) if event.name == "closing" => {
                    assert_eq!(event.data, r#"{"reason":"drain"}"#)
                }
                Some(_) => {}
                None => return (retry.expect("a retry of its own"), began.elapsed()),
            }
        }
    });
    let ends = futures_util::future::join_all(ends).await;
    soon("stopped", stopped).await.expect("no panic");
    assert!(
        ends.iter()
            .all(|(retry, _)| (1000..=30_000).contains(retry))
    );
    assert!(
        ends.iter().any(|(retry, _)| *retry != ends[0].0),
        "all the same: {ends:?}"
    );
    let (first, last) = (
        ends.iter().map(|end| end.1).min(),
        ends.iter().map(|end| end.1).max(),
    );
    assert!(
        first < Some(Duration::from_millis(500)) && last > Some(Duration::from_secs(1)),
        "{first:?} {last:?}"
    );
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "still accepting"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_streams_it_stops_at_once() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "shutdown: {drain: 10m}\n");
    // An idle connection is no reason to wait either.
    let mut connection = Connection::open(gateway.address).await;
    connection
        .send(b"GET /value HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(connection.response(false).await.body, "1");
    soon("stopped", gateway.gateway.stop()).await;
}

/// A client that is held for a change gets what there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_client_is_answered_at_once() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "shutdown: {drain: 10m}\n");
    let mut connection = Connection::held(gateway.address, "/value").await;
    let before = upstream.count();
    eventually("it is held", || upstream.count() > before + 3).await;
    soon("stopped", gateway.gateway.stop()).await;
    let answer = connection.response(false).await;
    assert_eq!(answer.head.status, 304);
    assert_eq!(answer.head.header("connection"), Some("close"));
    assert!(!connection.fill().await);
}

/// A request whose value has never been read does not keep a gateway from stopping either.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_value_is_told_to_come_back() {
    let upstream = TestUpstream::saying(Reply::Hang).await;
    let gateway = TestGateway::polling(&upstream.url(), "shutdown: {drain: 10m}\n");
    let mut connection = Connection::open(gateway.address).await;
    connection
        .send(b"GET /value HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    eventually("it is polled", || upstream.count() > 0).await;
    let began = Instant::now();
    soon("stopped", gateway.gateway.stop()).await;
    assert!(began.elapsed() < Duration::from_secs(4));
    let answer = connection.response(false).await;
    assert_eq!(answer.head.status, 503);
    assert!(answer.head.header("retry-after").is_some());
}

/// EDGE O11: whoever finds the door closed could have heard before that the gateway is not ready; and operators are still heard.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_before_it_accepts_nobody() {
    let upstream = TestUpstream::saying(json("1")).await;
    let file = "shutdown: {drain: 10s}\nadmin: {address: \"127.0.0.1:0\"}\n";
    let gateway = TestGateway::polling(&upstream.url(), file);
    let (address, admin) = (gateway.address, gateway.gateway.admin_address());
    let admin = admin.expect("it is on");
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(EventSource::open(address, "/value").await);
    }
    assert_eq!(get(admin, "/readyz", &[]).await.head.status, 200);
    let stopping = tokio::spawn(gateway.gateway.stop());
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    assert_eq!(get(admin, "/readyz", &[]).await.head.status, 503);
    drop(streams);
    soon("it stops", stopping).await.expect("in order");
}
