//! One URL, three ways: the value alone, conditional, and held (CONTRACT §3).

use std::time::{Duration, Instant};

use super::support::client::{Connection, EventSource, get, request};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::upstream::{Reply, TestUpstream, json, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_get_gives_the_value_from_the_shared_poll() {
    let upstream = TestUpstream::saying(json(r#"{ "a" : 1.50 }"#)).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let first = get(gateway.address, "/value", &[]).await;
    assert_eq!(
        (first.head.status, first.body.as_str()),
        (200, r#"{"a":1.50}"#)
    );
    assert_eq!(first.head.header("content-type"), Some("application/json"));
    assert_eq!(first.head.header("cache-control"), Some("no-cache"));
    assert_eq!(first.head.header("x-wellspring-state"), Some("live"));
    assert!(first.head.header("age").is_some());
    assert!(first.head.all("vary").contains("Accept"));
    let second = get(gateway.address, "/value", &[&first.condition()]).await;
    assert_eq!((second.head.status, second.body.as_str()), (304, ""));
    assert_eq!(second.head.header("etag"), first.head.header("etag"));
    let head = request(gateway.address, "HEAD", "/value", &[], "").await;
    assert_eq!(head.head.header("content-length"), Some("10"));
}

/// Many plain GETs cost the upstream what one reader costs.
#[tokio::test(flavor = "multi_thread")]
async fn plain_gets_do_not_reach_the_upstream_one_by_one() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams: [{{path: /value, http: {{upstream: legacy}}, every: 1m}}]\n",
        upstream.url()
    ));
    let gets = (0..50).map(|_| get(gateway.address, "/value", &[]));
    for answer in futures_util::future::join_all(gets).await {
        assert_eq!(answer.body, "1");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_wait_holds_until_the_value_changes() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let condition = get(gateway.address, "/value", &[]).await.condition();

    let began = Instant::now();
    let unchanged = get(gateway.address, "/value", &[&condition, "prefer: wait=1"]).await;
    assert_eq!(unchanged.head.status, 304);
    assert_eq!(unchanged.head.header("preference-applied"), Some("wait=1"));
    assert!(began.elapsed() >= Duration::from_secs(1));

    let headers = [condition.as_str(), "prefer: wait=60"];
    let held = get(gateway.address, "/value", &headers);
    let change = async {
        upstream.say(json("2"));
    };
    let (changed, ()) = tokio::join!(held, change);
    assert_eq!((changed.head.status, changed.body.as_str()), (200, "2"));
    // Without a condition there is nothing to wait for.
    let began = Instant::now();
    assert_eq!(
        get(gateway.address, "/value", &["prefer: wait=60"])
            .await
            .body,
        "2"
    );
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// CONTRACT §6, "Gone".
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_gone_is_404_and_ends_a_wait() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let condition = get(gateway.address, "/value", &[]).await.condition();
    let headers = [condition.as_str(), "prefer: wait=60"];
    let (gone, ()) = tokio::join!(get(gateway.address, "/value", &headers), async {
        upstream.say(status(404, "{}"));
    });
    assert_eq!(gone.head.status, 404);
    assert_eq!(
        gone.head.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(gone.head.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_value_a_failing_source_is_503() {
    let upstream = TestUpstream::saying(status(500, "secret detail")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let answer = get(gateway.address, "/value", &[]).await;
    assert_eq!(answer.head.status, 503);
    assert!(answer.head.header("retry-after").is_some());
    assert!(!answer.body.contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_value_says_so() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    stale_after: 200ms\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    upstream.say(Reply::Hang);
    stream.until("stale").await;
    let answer = get(gateway.address, "/value", &[]).await;
    assert_eq!((answer.head.status, answer.body.as_str()), (200, "1"));
    assert_eq!(answer.head.header("x-wellspring-state"), Some("stale"));
}

/// `expire_after`: a value that is stale for so long is no longer given to newcomers.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_value_is_not_given_to_newcomers() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(
        &upstream.url(),
        "    stale_after: 100ms\n    expire_after: 200ms\nlimits: {connects: 100000/s}\n",
    );
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    upstream.say(status(500, ""));
    stream.until("stale").await;
    loop {
        let mut newcomer = EventSource::open(gateway.address, "/value").await;
        if newcomer.next().await.0 == "stale" {
            break;
        }
    }
    assert_eq!(get(gateway.address, "/value", &[]).await.head.status, 503);
    // Who came meanwhile gets the value when it is confirmed again, though it is the old one.
    let mut newcomer = EventSource::open(gateway.address, "/value").await;
    assert_eq!(newcomer.next().await.0, "stale");
    upstream.say(json("1"));
    assert_eq!(newcomer.next().await.0, "fresh");
    assert_eq!(newcomer.event().await.data, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_off_leaves_the_stream() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    snapshot: false\n");
    assert_eq!(
        get(gateway.address, "/value", &["accept: application/json"])
            .await
            .head
            .status,
        406
    );
    let stream = EventSource::open_with(gateway.address, "/value", &[]).await;
    assert_eq!(
        stream.head.header("content-type"),
        Some("text/event-stream")
    );
}

/// A value that nobody has confirmed since polling rested is not given as live.
#[tokio::test(flavor = "multi_thread")]
async fn a_resting_channel_is_read_again_before_it_answers() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    linger: 50ms\n");
    for n in 1..4 {
        upstream.say(json(&n.to_string()));
        assert_eq!(
            get(gateway.address, "/value", &[]).await.body,
            n.to_string()
        );
        let mut last = 0;
        while last != upstream.count() {
            last = upstream.count();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// A client that asks again while it is held gets both answers, in order, wherever its bytes are cut.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_request_of_a_held_client_is_kept_for_later() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut value = 1;
    for early in [0, 1, 7, 40] {
        let first = get(gateway.address, "/value", &[]).await;
        let held = format!(
            "GET /value HTTP/1.1\r\nhost: a\r\n{}\r\nprefer: wait=60\r\n\r\n",
            first.condition()
        );
        let second = "GET /value?second HTTP/1.1\r\nhost: a\r\nx-request-id: second\r\n\r\n";
        let (early, late) = second.split_at(early);
        let mut connection = Connection::open(gateway.address).await;
        connection.send(format!("{held}{early}").as_bytes()).await;
        polls(&upstream, 3).await;
        connection.send(late.as_bytes()).await;
        polls(&upstream, 3).await;
        value += 1;
        upstream.say(json(&value.to_string()));
        for id in [None, Some("second")] {
            let answer = connection.response(false).await;
            assert_eq!(answer.head.status, 200, "{early:?} {answer:?}");
            assert_eq!(answer.body, value.to_string());
            let given = answer.head.header("x-request-id");
            assert!(id.is_none_or(|id| given == Some(id)), "{given:?}");
        }
    }
}

async fn polls(upstream: &TestUpstream, more: usize) {
    let before = upstream.count();
    eventually("polled again", || upstream.count() >= before + more).await;
}

/// Text is a JSON string to a client that takes JSON alone, with an ETag of its own.
#[tokio::test(flavor = "multi_thread")]
async fn text_comes_as_the_client_takes_it() {
    let upstream = TestUpstream::saying(json("say \"hi\"")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams: [{{path: /value, http: {{upstream: legacy, format: text}}, every: 1s}}]\n",
        upstream.url()
    ));
    let mut known_by = Vec::new();
    for (accept, content_type, body) in [
        ("*/*", "text/plain; charset=utf-8", "say \"hi\""),
        ("text/plain", "text/plain; charset=utf-8", "say \"hi\""),
        ("application/json", "application/json", "\"say \\\"hi\\\"\""),
    ] {
        let accept = format!("accept: {accept}");
        let answer = get(gateway.address, "/value", &[&accept]).await;
        assert_eq!(answer.head.header("content-type"), Some(content_type));
        assert_eq!(answer.body, body, "{accept}");
        let known = answer.condition();
        let again = get(gateway.address, "/value", &[&accept, &known]).await;
        assert_eq!(again.head.status, 304, "{accept}");
        known_by.push(known);
    }
    assert!(
        known_by[0] == known_by[1] && known_by[1] != known_by[2],
        "{known_by:?}"
    );
}

/// A connection is kept only for those who ask for it (RFC 9112 §9.3).
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_for_those_who_want_it() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    for (head, kept) in [
        ("HTTP/1.0", false),
        ("HTTP/1.0\r\nconnection: keep-alive", true),
        ("HTTP/1.1\r\nhost: a", true),
        ("HTTP/1.1\r\nhost: a\r\nconnection: close", false),
    ] {
        for target in ["/value", "/nothing"] {
            let mut connection = Connection::open(gateway.address).await;
            let request = format!("GET {target} {head}\r\n\r\n");
            connection.send(request.as_bytes()).await;
            let expected = if kept { "keep-alive" } else { "close" };
            let answer = connection.response(false).await;
            assert_eq!(
                answer.head.header("connection"),
                Some(expected),
                "{request}"
            );
            match kept {
                true => {
                    connection.send(request.as_bytes()).await;
                    connection.response(false).await;
                }
                false => assert!(!connection.fill().await, "{request}"),
            }
        }
    }
}
