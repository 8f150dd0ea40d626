//! Redis keys that are watched, with a real server and the real gateway: CONTRACT §2 `watch`. Where `every` is a day, nothing is
//! polled.

use std::time::{Duration, Instant};

use super::support::client::{EventSource, get};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::redis::TestRedis;

const EVENTS: &[&str] = &["--notify-keyspace-events", "KEA"];
const WAYS: [&str; 3] = ["auto", "tracking", "keyspace"];

/// A gateway with `/k`, which follows the string `k`, and `more` of the stream's keys.
fn following(redis: &TestRedis, watch: &str, more: &str) -> TestGateway {
    TestGateway::start(&format!(
        "redis: {{main: {{url: \"{}\"}}}}\nstreams:\n  - {{path: /k, redis: {{server: main, key: k, watch: {watch}}}, {more}}}\n",
        redis.url()
    ))
}

/// Waits until changes are announced: a busy machine may take its time, and the first reading does not wait long.
async fn is_watched(redis: &TestRedis) {
    eventually("watched", || {
        let asked = redis
            .cli(&["INFO", "commandstats"])
            .contains("cmdstat_exists:");
        asked || redis.cli(&["CLIENT", "LIST"]).contains(" sub=1 ")
    })
    .await;
}

/// From the SET to the client, in either way, of every type; the key's end and return included.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_clients_without_a_poll() {
    for watch in WAYS {
        let redis = TestRedis::start_with(EVENTS);
        redis.cli(&["SET", "k", "begin"]);
        let gateway = following(&redis, watch, "every: 24h");
        let mut stream = EventSource::open(gateway.address, "/k").await;
        assert_eq!(stream.event().await.data, "begin");
        is_watched(&redis).await;
        let mut lags = Vec::new();
        for n in 0..50 {
            let value = n.to_string();
            let set = Instant::now();
            redis.cli(&["SET", "k", &value]);
            assert_eq!(stream.event().await.data, value);
            lags.push(set.elapsed());
        }
        lags.sort();
        println!("{watch}: p50 {:?}, longest {:?}", lags[25], lags[49]);
        assert!(lags[25] < Duration::from_secs(1), "{watch}: {:?}", lags[25]);
        redis.cli(&["SET", "k", "mortal", "PX", "100"]);
        assert_eq!(stream.event().await.data, "mortal");
        stream.until("gone").await;
        redis.cli(&["SET", "k", "back"]);
        assert_eq!(stream.event().await.data, "back");
    }
}

/// EDGE R6: the server is killed and comes back, and nobody had to wait for a poll.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_watched_again() {
    for watch in WAYS {
        let mut redis = TestRedis::start_with(EVENTS);
        redis.cli(&["SET", "k", "1"]);
        let gateway = following(&redis, watch, "every: 24h, stale_after: 500ms");
        let mut stream = EventSource::open(gateway.address, "/k").await;
        assert_eq!(stream.event().await.data, "1");
        is_watched(&redis).await;
        redis.kill();
        assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
        redis.restart();
        redis.cli(&["SET", "k", "2"]);
        stream.until("fresh").await;
        stream.until_data("2").await;
        redis.cli(&["SET", "k", "3"]);
        stream.until_data("3").await;
    }
}

/// A frozen server breaks no connection, and its values become stale all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_without_a_poll() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "k", "1"]);
    let gateway = following(&redis, "tracking", "every: 24h, stale_after: 500ms");
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert_eq!(stream.event().await.data, "1");
    is_watched(&redis).await;
    redis.pause();
    assert!(stream.until("stale").await.contains(r#""cause":"timeout""#));
    redis.resume();
    redis.cli(&["SET", "k", "2"]);
    stream.until("fresh").await;
    stream.until_data("2").await;
}

/// One reading in ten intervals is left, and nobody is told that the value is stale.
#[tokio::test(flavor = "multi_thread")]
async fn a_safety_net_is_left_of_the_polls() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "k", "1"]);
    let gateway = following(&redis, "auto", "every: 100ms, stale_after: 5s");
    let began = Instant::now();
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert_eq!(stream.event().await.data, "1");
    let stats = || redis.cli(&["INFO", "commandstats"]);
    eventually("three readings", || {
        stats().contains("cmdstat_get:calls=3,")
    })
    .await;
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(1500),
        "three readings in {took:?}"
    );
    let answer = get(gateway.address, "/k", &[]).await;
    assert_eq!(answer.head.header("x-wellspring-state"), Some("live"));
}

/// Whoever comes after a rest gets what was written meanwhile, though no poll is due.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_in_a_rest_is_read_at_once() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "k", "1"]);
    let gateway = following(&redis, "auto", "every: 24h, linger: 0s");
    let connections = || {
        redis
            .cli(&["CLIENT", "LIST"])
            .matches(" addr=127.0.0.1:")
            .count()
    };
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert_eq!(stream.event().await.data, "1");
    eventually("watched", || connections() == 2).await;
    drop(stream);
    eventually("rests", || connections() == 1).await;
    redis.cli(&["SET", "k", "2"]);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    stream.until_data("2").await;
    redis.cli(&["SET", "k", "3"]);
    stream.until_data("3").await;
}
