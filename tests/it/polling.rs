//! One poll for all: CONTRACT §2 `every`, `adaptive`, `start`; DESIGN §4; EDGE §8.

use std::time::{Duration, Instant};

use super::support::client::EventSource;
use super::support::gateway::TestGateway;
use super::support::upstream::{Reply, TestUpstream, json, status};
use super::support::{eventually, soon};

/// Fifty readers of one resource are one poll an interval.
#[tokio::test(flavor = "multi_thread")]
async fn one_poll_an_interval_however_many_readers() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams: [{{path: /value, http: {{upstream: legacy}}, every: 200ms}}]\n",
        upstream.url()
    ));
    let opened = (0..50).map(|_| EventSource::open(gateway.address, "/value"));
    let mut streams = futures_util::future::join_all(opened).await;
    for stream in &mut streams {
        stream.event().await;
    }
    eventually("ten polls", || upstream.count() >= 10).await;
    let requests = upstream.requests();
    for pair in requests[1..].windows(2) {
        // Start to start; a busy machine can delay one, but two polls never stand in one interval.
        assert!(
            pair[1].at - pair[0].at > Duration::from_millis(100),
            "{:?}",
            pair[1].at - pair[0].at
        );
    }
}

/// EDGE U14: validators are sent, and 304 is no event.
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_is_told_by_304() {
    let upstream = TestUpstream::start(|request| match request.header("if-none-match") {
        Some("\"v1\"") => Reply::Http {
            status: 304,
            headers: vec![],
            body: vec![],
        },
        _ => json("1").with("etag", "\"v1\""),
    })
    .await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "1");
    eventually("some 304s", || upstream.count() > 5).await;
    upstream.say(json("2").with("etag", "\"v2\""));
    assert_eq!(stream.event().await.data, "2");
}

/// EDGE J10, CONTRACT §6: order, white space and `1` against `1.0` are no change.
#[tokio::test(flavor = "multi_thread")]
async fn what_means_the_same_is_no_event() {
    let upstream = TestUpstream::saying(json(r#"{"a":1,"b":2}"#)).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    upstream.say(json(r#"{ "b": 2.0, "a": 1e0 }"#));
    let seen = upstream.count();
    eventually("it was polled", || upstream.count() > seen + 3).await;
    upstream.say(json(r#"{"a":1,"b":3}"#));
    assert_eq!(stream.event().await.data, r#"{"a":1,"b":3}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn select_ignore_deadband_and_template() {
    let document = |price: &str, at: u32| {
        json(&format!(
            r#"{{"quote":{{"price":{price},"at":{at}}},"noise":{at}}}"#
        ))
    };
    let upstream = TestUpstream::saying(document("100", 1)).await;
    let more = "    select: $.quote\n    ignore: [$.at]\n    deadband: {$.price: 0.5}\n    template: \"Current Price - \
                {value.price}\"\n    event: price\n";
    let gateway = TestGateway::polling(&upstream.url(), more);
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(
        stream.next().await,
        ("price".into(), "Current Price - 100".into())
    );
    let seen = upstream.count();
    upstream.say(document("100.5", 2));
    eventually("it was polled", || upstream.count() > seen + 3).await;
    // Measured from the last delivered value.
    upstream.say(document("100.6", 3));
    assert_eq!(stream.next().await.1, "Current Price - 100.6");
}

/// EDGE U1, U2: parameters fill their places, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_stand_where_they_may() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}/base\", headers: {{authorization: \"Bearer t\"}}}}}}\nstreams:\n  - path: /q/{{symbol}}\n    \
         params: {{symbol: \".{{1,20}}\"}}\n    http:\n      upstream: legacy\n      method: POST\n      path: /v1/{{symbol}}/x\n      query: {{s: \
         \"a{{symbol}}\"}}\n      headers: {{x-symbol: \"{{symbol}}\"}}\n      body: '{{\"q\": \"{{symbol}}\"}}'\n",
        upstream.url()
    ));
    let mut stream = EventSource::open(gateway.address, "/q/a&b=c").await;
    stream.event().await;
    let request = &upstream.requests()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.target, "/base/v1/a%26b%3Dc/x?s=aa%26b%3Dc");
    assert_eq!(request.header("x-symbol"), Some("a&b=c"));
    assert_eq!(request.header("authorization"), Some("Bearer t"));
    assert_eq!(request.body, r#"{"q": "a&b=c"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_its_pattern_refuses_is_404() {
    let gateway = TestGateway::start(
        "upstreams: {legacy: {url: \"http://127.0.0.1:9\"}}\nstreams: [{path: \"/q/{symbol}\", params: {symbol: \"[A-Z]{1,3}\"}, \
         http: {upstream: legacy}}]\n",
    );
    for path in ["/q/abc", "/q/ABCD", "/q/A%42", "/q/"] {
        let status = super::support::client::get(gateway.address, path, &[])
            .await
            .head
            .status;
        assert!(
            status == 404 || path.contains('%') && status == 400,
            "{path}: {status}"
        );
    }
    let refused = super::support::client::get(gateway.address, "/q/abc", &[]).await;
    assert!(
        refused.body.contains("A part of this path"),
        "{}",
        refused.body
    );
}

/// EDGE U16: failures back off, `stale` once, then `fresh` once, and the value if it changed.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_and_ends_once() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    stale_after: 300ms\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "1");
    upstream.say(status(500, ""));
    let (name, data) = stream.next().await;
    assert_eq!(name, "stale");
    let data: serde_json::Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!(data["cause"], "status");
    let since = data["since"].as_str().expect("a time");
    assert!(humantime::parse_rfc3339(since).is_ok(), "{since}");
    let mut newcomer = EventSource::open(gateway.address, "/value").await;
    assert_eq!(newcomer.next().await.1, "1");
    assert_eq!(newcomer.next().await.0, "stale");
    upstream.say(json("2"));
    assert_eq!(stream.next().await, ("fresh".into(), "{}".into()));
    assert_eq!(stream.event().await.data, "2");
}

/// A source that is not there: `stale` at once, as there is nothing to keep serving; the stream stays open.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_answered() {
    let gateway = TestGateway::polling("http://127.0.0.1:9", "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    let data = soon("stale", stream.until("stale")).await;
    assert!(data.contains(r#""cause":"connect""#), "{data}");
}

/// EDGE U15.
#[tokio::test(flavor = "multi_thread")]
async fn retry_after_lengthens_the_interval() {
    let upstream = TestUpstream::saying(status(429, "").with("retry-after", "2")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert!(stream.until("stale").await.contains("rate-limited"));
    upstream.say(json("1"));
    let began = Instant::now();
    stream.until_data("1").await;
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
}

/// A stuck poll of one channel never holds up another, even of the same upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_poll_holds_up_nobody() {
    let upstream = TestUpstream::start(|request| match request.target.as_str() {
        "/r/stuck" => Reply::Hang,
        _ => json("1"),
    })
    .await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams: [{{path: \"/r/{{id}}\", http: {{upstream: legacy}}, every: 50ms}}]\n",
        upstream.url()
    ));
    let _stuck = EventSource::open(gateway.address, "/r/stuck").await;
    eventually("the stuck poll began", || upstream.count() == 1).await;
    let mut free = EventSource::open(gateway.address, "/r/free").await;
    assert_eq!(free.event().await.data, "1");
    upstream.say(json("2"));
    assert_eq!(free.event().await.data, "2");
}

/// `start: always` polls though nobody reads, and a newcomer gets the value that is there.
#[tokio::test(flavor = "multi_thread")]
async fn start_always_needs_no_reader() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    start: always\n");
    eventually("polls", || upstream.count() > 3).await;
    upstream.say(Reply::Hang);
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "1");
}

/// `adaptive`: longer while nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn adaptive_slows_down_while_nothing_changes() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    adaptive: {min: 50ms, max: 400ms}\n");
    let _stream = EventSource::open(gateway.address, "/value").await;
    eventually("nine polls", || upstream.count() >= 9).await;
    let requests = upstream.requests();
    assert!(requests[8].at - requests[7].at > Duration::from_millis(250));
}

/// `budget`: the polls of all streams of an upstream together.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_spreads_the_polls_of_an_upstream() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\", budget: 20/s}}}}\nstreams: [{{path: \"/r/{{id}}\", http: {{upstream: legacy}}, every: 50ms}}]\n",
        upstream.url()
    ));
    let mut streams = Vec::new();
    for id in 0..10 {
        streams.push(EventSource::open(gateway.address, &format!("/r/{id}")).await);
    }
    for stream in &mut streams {
        assert_eq!(stream.event().await.data, "1");
    }
    eventually("forty polls", || upstream.count() >= 40).await;
    let requests = upstream.requests();
    let took = requests[39].at - requests[0].at;
    assert!(
        took > Duration::from_millis(1900),
        "40 polls at 20/s took {took:?}"
    );
}

/// Redirects are refused unless asked for, and then stay at their origin (EDGE U3).
#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_only_when_asked() {
    let other = TestUpstream::saying(json("\"elsewhere\"")).await;
    let elsewhere = format!("{}/value", other.url());
    let upstream = TestUpstream::start(move |request| match request.target.as_str() {
        "/value" => status(302, "").with("location", "/there"),
        "/out" => status(302, "").with("location", &elsewhere),
        _ => json("\"there\""),
    })
    .await;
    let file = |follow: bool| {
        format!(
            "upstreams: {{legacy: {{url: \"{}\", follow_redirects: {follow}}}}}\nstreams:\n  - {{path: /value, http: {{upstream: \
             legacy}}}}\n  - {{path: /out, http: {{upstream: legacy}}}}\n",
            upstream.url()
        )
    };
    let gateway = TestGateway::start(&file(false));
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert!(stream.until("stale").await.contains(r#""cause":"status""#));
    let gateway = TestGateway::start(&file(true));
    let mut stream = EventSource::open(gateway.address, "/value").await;
    assert_eq!(stream.event().await.data, "\"there\"");
    let mut stream = EventSource::open(gateway.address, "/out").await;
    assert!(stream.until("stale").await.contains(r#""cause":"status""#));
    assert_eq!(other.count(), 0);
}

/// `max_channels` bounds what is polled, also for those who come and go.
#[tokio::test(flavor = "multi_thread")]
async fn passers_by_cannot_pile_up_polls() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams: [{{path: \"/r/{{id}}\", http: {{upstream: legacy}}, every: 1m, \
         max_channels: 2, linger: 200ms}}]\n",
        upstream.url()
    ));
    let mut statuses = Vec::new();
    for id in 0..6 {
        let answer = super::support::client::get(gateway.address, &format!("/r/{id}"), &[]).await;
        statuses.push(answer.head.status);
    }
    assert_eq!(statuses, [200, 200, 429, 429, 429, 429]);
    // When their linger is over, there is room.
    let deadline = Instant::now() + super::support::PATIENCE;
    while super::support::client::get(gateway.address, "/r/9", &[])
        .await
        .head
        .status
        != 200
    {
        assert!(Instant::now() < deadline, "never any room");
    }
}

/// Snapshots are as they were last read, though the change is none that counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_what_is_ignored_too() {
    let document = |at: u32| json(&format!(r#"{{"price":1,"at":{at}}}"#));
    let upstream = TestUpstream::saying(document(1)).await;
    let gateway = TestGateway::polling(&upstream.url(), "    ignore: [$.at]\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    let first = super::support::client::get(gateway.address, "/value", &[]).await;
    upstream.say(document(2));
    let seen = upstream.count();
    eventually("it was polled", || upstream.count() > seen + 2).await;
    let second = super::support::client::get(gateway.address, "/value", &[]).await;
    assert_eq!(second.body, r#"{"price":1,"at":2}"#);
    // Nothing that counts has changed: who asks with a condition is told so.
    let same = super::support::client::get(gateway.address, "/value", &[&first.condition()]).await;
    assert_eq!(same.head.status, 304);
}
