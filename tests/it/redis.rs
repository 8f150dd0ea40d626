//! Redis as a source, with a real server: CONTRACT §2 and §6, EDGE §10.

use std::time::Duration;

use super::support::client::{EventSource, Head, get, pair, request};
use super::support::gateway::TestGateway;
use super::support::redis::TestRedis;
use super::support::{eventually, soon};

fn keys(redis: &TestRedis, streams: &str) -> TestGateway {
    TestGateway::start(&format!(
        "redis: {{main: {{url: \"{}\"}}}}\nstreams:\n{streams}",
        redis.url()
    ))
}

/// The page that this project began with.
#[tokio::test(flavor = "multi_thread")]
async fn a_string_key_and_its_changes() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "current_price", "101"]);
    let gateway = keys(
        &redis,
        "  - path: /current_price\n    redis: {server: main, key: current_price}\n    every: 50ms\n    template: \"Current Price - \
         {value}\"\n",
    );
    let mut stream = EventSource::open(gateway.address, "/current_price").await;
    assert_eq!(stream.event().await.data, "Current Price - 101");
    redis.cli(&["SET", "current_price", "102"]);
    assert_eq!(stream.event().await.data, "Current Price - 102");
    assert_eq!(
        get(gateway.address, "/current_price", &[]).await.body,
        "102"
    );
    redis.cli(&["DEL", "current_price"]);
    assert_eq!(stream.next().await, pair("gone", "{}"));
    // An empty string is a value.
    redis.cli(&["SET", "current_price", ""]);
    assert_eq!(stream.event().await.data, "Current Price - ");
}

/// CONTRACT §6 "Redis shapes".
#[tokio::test(flavor = "multi_thread")]
async fn every_shape_has_its_value() {
    let redis = TestRedis::start();
    redis.cli(&["HSET", "h:1", "b", "2", "a", "x"]);
    redis.cli(&["RPUSH", "l:1", "2", "1"]);
    redis.cli(&["SADD", "s:1", "b", "a", "c"]);
    redis.cli(&["ZADD", "z:1", "2", "two", "1.5", "one"]);
    redis.cli(&["HSET", "j:1", "n", "{\"x\": 1}"]);
    redis.cli(&["SET", "t:1", "not json"]);
    let gateway = keys(
        &redis,
        "  - {path: \"/h/{id}\", redis: {server: main, hash: \"h:{id}\"}, every: 50ms, deliver: [json-patch]}\n  \
         - {path: \"/l/{id}\", redis: {server: main, list: \"l:{id}\"}}\n  - {path: \"/s/{id}\", redis: {server: main, set: \
         \"s:{id}\"}}\n  - {path: \"/z/{id}\", redis: {server: main, zset: \"z:{id}\"}}\n  - {path: \"/j/{id}\", redis: \
         {server: main, hash: \"j:{id}\", format: json}}\n  - {path: \"/t/{id}\", redis: {server: main, key: \"t:{id}\"}}\n",
    );
    for (path, value) in [
        ("/h/1", r#"{"a":"x","b":"2"}"#),
        ("/l/1", r#"["2","1"]"#),
        ("/s/1", r#"["a","b","c"]"#),
        (
            "/z/1",
            r#"[{"member":"one","score":1.5},{"member":"two","score":2}]"#,
        ),
        ("/j/1", r#"{"n":{"x":1}}"#),
        ("/t/1", "not json"),
    ] {
        let answer = get(gateway.address, path, &[]).await;
        assert_eq!(
            (answer.head.status, answer.body.as_str()),
            (200, value),
            "{path}"
        );
    }
    let mut stream = EventSource::open(gateway.address, "/h/1").await;
    assert_eq!(stream.next().await.0, "snapshot");
    redis.cli(&["HSET", "h:1", "b", "3"]);
    let (name, _) = stream.next().await;
    assert!(name == "patch" || name == "snapshot");
}

/// EDGE R5: a wrong type and a missing right are named causes.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_type_and_no_permission_are_named() {
    let redis = TestRedis::start();
    redis.cli(&["RPUSH", "a_list", "1"]);
    let gateway = keys(
        &redis,
        "  - {path: /list, redis: {server: main, key: a_list}, every: 50ms}\n",
    );
    let mut stream = EventSource::open(gateway.address, "/list").await;
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));

    // EDGE R4: a user with the right to read and nothing else.
    let url = redis.user("reader", "~allowed:* &* +get +subscribe");
    let gateway = TestGateway::start(&format!(
        "redis: {{main: {{url: \"{url}\"}}}}\nstreams:\n  - {{path: /good, redis: {{server: main, key: allowed:x}}, every: \
         50ms}}\n  - {{path: /bad, redis: {{server: main, key: forbidden}}, every: 50ms}}\n"
    ));
    redis.cli(&["SET", "allowed:x", "1"]);
    let mut stream = EventSource::open(gateway.address, "/good").await;
    assert_eq!(stream.until_data("1").await.data, "1");
    let mut stream = EventSource::open(gateway.address, "/bad").await;
    assert!(
        stream
            .until("stale")
            .await
            .contains(r#""cause":"unauthorized""#)
    );
}

/// A stream of a key that is `1`, which was told so.
async fn told_of_one(redis: &TestRedis) -> (TestGateway, EventSource) {
    redis.cli(&["SET", "k:1", "1"]);
    let gateway = keys(
        redis,
        "  - {path: /k, redis: {server: main, key: k:1}, every: 50ms, stale_after: 200ms}\n",
    );
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert_eq!(stream.event().await.data, "1");
    (gateway, stream)
}

/// Redis killed and restarted: streams stay open, become stale, then fresh, and converge.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_followed_again() {
    let mut redis = TestRedis::start();
    let (_gateway, mut stream) = told_of_one(&redis).await;
    redis.kill();
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
    redis.restart();
    redis.cli(&["SET", "k:1", "2"]);
    stream.until("fresh").await;
    stream.until_data("2").await;
}

/// A frozen server gives no error by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed() {
    let redis = TestRedis::start();
    let (_gateway, mut stream) = told_of_one(&redis).await;
    redis.pause();
    stream.until("stale").await;
    redis.resume();
    redis.cli(&["SET", "k:1", "2"]);
    stream.until("fresh").await;
    stream.until_data("2").await;
}

/// One command an interval, however many readers.
#[tokio::test(flavor = "multi_thread")]
async fn one_get_an_interval() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "k:1", "1"]);
    let gateway = keys(
        &redis,
        "  - {path: /k, redis: {server: main, key: k:1}, every: 1m}\n",
    );
    let opened = (0..50).map(|_| EventSource::open(gateway.address, "/k"));
    for mut stream in futures_util::future::join_all(opened).await {
        assert_eq!(stream.event().await.data, "1");
    }
    let stats = redis.cli(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_get:calls=1,"), "{stats}");
}

/// A gateway that takes messages at `/p` for `/a` and shares them.
fn publishing(redis: &TestRedis) -> TestGateway {
    keys(redis, "  - {path: /a, publish: {path: /p, server: main}}\n")
}

async fn post(gateway: &TestGateway, message: &str) -> Head {
    request(gateway.address, "POST", "/p", &[], message)
        .await
        .head
}

/// A reading that is no value does not become one by being the same again.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_value_stays_malformed() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "k:1", "{\"name\": 1}"]);
    let gateway = keys(
        &redis,
        "  - {path: /k, redis: {server: main, key: k:1}, every: 50ms, select: $.price}\n",
    );
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert!(stream.until("stale").await.contains("malformed"));
    assert_eq!(get(gateway.address, "/k", &[]).await.head.status, 503);
    redis.cli(&["SET", "k:1", "{\"price\": 2}"]);
    assert_eq!(stream.next().await, pair("fresh", "{}"));
    assert_eq!(stream.event().await.data, "2");
}

/// The last message that was published survives the server that shared it.
#[tokio::test(flavor = "multi_thread")]
async fn a_retained_message_survives_an_outage() {
    let mut redis = TestRedis::start();
    let gateway = publishing(&redis);
    assert_eq!(post(&gateway, "kept").await.status, 202);
    let mut stream = EventSource::open(gateway.address, "/a").await;
    let before = stream.event().await;
    redis.kill();
    stream.until("stale").await;
    redis.restart();
    stream.until("fresh").await;
    assert_eq!(get(gateway.address, "/a", &[]).await.body, "kept");
    // The server had lost it, and has it again: another replica gives it, and the id is known.
    let other = publishing(&redis);
    let mut late = EventSource::open(other.address, "/a").await;
    assert_eq!(late.event().await.id, before.id);
    assert_eq!(post(&gateway, "next").await.status, 202);
    let mut resumed = EventSource::resume(other.address, "/a", &before.id).await;
    assert_eq!(resumed.event().await.data, "next");
}

async fn subscribed(redis: &TestRedis, channel: &str) {
    eventually("subscribed", || {
        redis.cli(&["PUBSUB", "NUMSUB", channel]).contains('1')
    })
    .await;
}

/// Pub/sub: one subscription per channel, names by parameters, no current value.
#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_every_reader() {
    let redis = TestRedis::start();
    let gateway = keys(
        &redis,
        "  - {path: \"/orders/{region}\", redis: {server: main, channel: \"orders:{region}\"}}\n",
    );
    let mut one = EventSource::open(gateway.address, "/orders/eu").await;
    let mut two = EventSource::open(gateway.address, "/orders/eu").await;
    let _other = EventSource::open(gateway.address, "/orders/us").await;
    subscribed(&redis, "orders:eu").await;
    redis.cli(&["PUBLISH", "orders:eu", "{\"n\": 1}"]);
    redis.cli(&["PUBLISH", "orders:eu", "two\nlines"]);
    redis.cli(&["PUBLISH", "orders:eu", "two\nlines"]);
    for stream in [&mut one, &mut two] {
        assert_eq!(stream.event().await.data, "{\"n\":1}");
        assert_eq!(stream.event().await.data, "two\nlines");
        assert_eq!(stream.event().await.data, "two\nlines");
    }
    let subscribers = redis.cli(&["PUBSUB", "NUMSUB", "orders:eu"]);
    assert!(
        subscribers.contains('1') && !subscribers.contains('2'),
        "{subscribers}"
    );
    assert_eq!(
        get(gateway.address, "/orders/eu", &["accept: application/json"])
            .await
            .head
            .status,
        406
    );
}

/// Messages of a gap are lost, and a client that resumes over it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_listening_resets_ids() {
    let mut redis = TestRedis::start();
    let gateway = keys(
        &redis,
        "  - {path: /news, redis: {server: main, channel: news}}\n",
    );
    let mut stream = EventSource::open(gateway.address, "/news").await;
    subscribed(&redis, "news").await;
    redis.cli(&["PUBLISH", "news", "before"]);
    let before = stream.event().await;
    redis.kill();
    stream.until("stale").await;
    redis.restart();
    stream.until("fresh").await;
    subscribed(&redis, "news").await;
    redis.cli(&["PUBLISH", "news", "after"]);
    assert_eq!(stream.event().await.data, "after");
    let mut resumed = EventSource::resume(gateway.address, "/news", &before.id).await;
    assert_eq!(resumed.next().await.0, "reset");
}

/// CONTRACT §3: what the Flask-SSE package publishes.
#[tokio::test(flavor = "multi_thread")]
async fn the_flask_sse_envelope() {
    let redis = TestRedis::start();
    let gateway = keys(
        &redis,
        "  - {path: /stream, redis: {server: main, channel: sse, envelope: flask-sse}}\n",
    );
    let mut stream = EventSource::open(gateway.address, "/stream").await;
    subscribed(&redis, "sse").await;
    for message in [
        r#"{"data": {"message": "Hello!"}, "type": "greeting"}"#,
        r#"{"data": "x", "type": "evil\nid: 1"}"#,
        r#"{"type": "no-data"}"#,
        "not json",
        r#"{"data": "plain", "id": "7", "retry": 1}"#,
    ] {
        redis.cli(&["PUBLISH", "sse", message]);
    }
    assert_eq!(
        stream.next().await,
        pair("greeting", r#"{"message":"Hello!"}"#)
    );
    let plain = stream.event().await;
    assert_eq!(
        (plain.name.as_str(), plain.data.as_str()),
        ("message", "plain")
    );
    assert_ne!(plain.id, "7");
}

/// What one replica accepted reaches the readers of all, and the publisher gets its event's id.
#[tokio::test(flavor = "multi_thread")]
async fn published_messages_are_shared() {
    let redis = TestRedis::start();
    let streams =
        "  - {path: \"/alerts/{room}\", publish: {path: \"/publish/{room}\", server: main}}\n";
    let (one, two) = (keys(&redis, streams), keys(&redis, streams));
    let mut here = EventSource::open(one.address, "/alerts/a").await;
    let mut there = EventSource::open(two.address, "/alerts/a").await;
    let posted = request(
        one.address,
        "POST",
        "/publish/a",
        &["content-type: application/json"],
        "[1]",
    )
    .await;
    assert_eq!(posted.head.status, 202, "{}", posted.body);
    let event = here.event().await;
    assert_eq!(posted.body, format!(r#"{{"id":"{}"}}"#, event.id));
    assert_eq!(there.event().await.data, "[1]");
    assert_eq!(get(two.address, "/alerts/a", &[]).await.body, "[1]");
}

/// Without the server nothing is accepted, and nothing is lost silently.
#[tokio::test(flavor = "multi_thread")]
async fn publishing_without_its_server_is_refused() {
    let mut redis = TestRedis::start();
    let gateway = publishing(&redis);
    assert_eq!(post(&gateway, "x").await.status, 202);
    redis.kill();
    let refused = soon(
        "an answer",
        request(gateway.address, "POST", "/p", &[], "y"),
    )
    .await;
    assert_eq!(refused.head.status, 503);
    redis.restart();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while request(gateway.address, "POST", "/p", &[], "z")
        .await
        .head
        .status
        != 202
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never accepted again"
        );
    }
}
