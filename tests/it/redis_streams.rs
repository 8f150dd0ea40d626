//! Redis streams as a source, with a real server: CONTRACT §6 "Redis streams".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wellspring::sse::parser::Item;

use super::support::client::{EventSource, get, pair};
use super::support::gateway::TestGateway;
use super::support::redis::TestRedis;
use super::support::{eventually, soon};

const RESET: &str = r#"{"reason":"unknown-id"}"#;

fn audit(redis: &TestRedis) -> TestGateway {
    audit_with(redis, "")
}

/// A gateway with the stream `audit` at `/audit`, and `more` keys of it, indented by four.
fn audit_with(redis: &TestRedis, more: &str) -> TestGateway {
    TestGateway::start(&format!(
        "redis: {{main: {{url: \"{}\"}}}}\nstreams:\n  - path: /audit\n    redis: {{server: main, stream: audit}}\n    every: \
         50ms\n{more}",
        redis.url()
    ))
}

/// Adds an entry under an id of the server's choice, which it gives.
fn add(redis: &TestRedis, value: &str) -> String {
    redis.cli(&["XADD", "audit", "*", "v", value])
}

fn data(value: impl std::fmt::Display) -> String {
    format!(r#"{{"v":"{value}"}}"#)
}

/// The id and the data of the next event, which is an entry.
async fn entry(stream: &mut EventSource) -> (String, String) {
    let event = stream.event().await;
    assert_eq!(event.name, "message", "{event:?}");
    (event.id, event.data)
}

/// A client that comes back with an id that is known and gets `expected`, then what is new.
async fn resumes(gateway: &TestGateway, redis: &TestRedis, id: &str, expected: &[String]) {
    let mut stream = EventSource::resume(gateway.address, "/audit", id).await;
    for value in expected {
        assert_eq!(entry(&mut stream).await.1, data(value), "after {id}");
    }
    let new = add(redis, "new");
    assert_eq!(entry(&mut stream).await, (new, data("new")), "after {id}");
}

/// A client that comes back with an id that is not known, and gets what is new alone.
async fn is_reset(gateway: &TestGateway, redis: &TestRedis, id: &str) {
    let mut stream = EventSource::resume(gateway.address, "/audit", id).await;
    assert_eq!(stream.next().await, pair("reset", RESET), "{id}");
    let new = add(redis, "new");
    assert_eq!(entry(&mut stream).await, (new, data("new")), "{id}");
}

/// CONTRACT §6: entry ids are the event ids, newcomers get new entries only, whoever comes second gets what comes after that.
#[tokio::test(flavor = "multi_thread")]
async fn newcomers_get_new_entries_under_their_ids() {
    let redis = TestRedis::start();
    add(&redis, "old");
    tokio::time::sleep(Duration::from_millis(2)).await;
    let gateway = audit(&redis);
    let mut first = EventSource::open(gateway.address, "/audit").await;
    // At once: before the gateway can have asked the server.
    let id = add(&redis, "1");
    assert_eq!(entry(&mut first).await, (id, data(1)));
    let mut second = EventSource::open(gateway.address, "/audit").await;
    for value in 2..50 {
        let id = add(&redis, &value.to_string());
        assert_eq!(entry(&mut first).await, (id.clone(), data(value)));
        assert_eq!(entry(&mut second).await, (id, data(value)));
    }
}

/// CONTRACT §3: there is no current value to be had.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_snapshot() {
    let redis = TestRedis::start();
    let gateway = audit(&redis);
    let json = get(gateway.address, "/audit", &["accept: application/json"]).await;
    assert_eq!(json.head.status, 406);
    let headers = ["accept: */*"];
    let any = EventSource::open_with(gateway.address, "/audit", &headers).await;
    assert_eq!(any.head.header("content-type"), Some("text/event-stream"));
}

/// EDGE L8, B6: ids older than anything that the gateway has are replayed from the stream, page by page, each entry once and in order,
/// by however many at once, while others get what is new.
#[tokio::test(flavor = "multi_thread")]
async fn however_old_an_id_is_it_is_replayed_from_the_stream() {
    let redis = TestRedis::start();
    let mut ids = Vec::new();
    for value in 0..1000 {
        ids.push(add(&redis, &value.to_string()));
    }
    let gateway = audit_with(&redis, "    history: {events: 8}\n");
    let mut live = EventSource::open(gateway.address, "/audit").await;
    let stop = Arc::new(AtomicBool::new(false));
    let redis = Arc::new(redis);
    let adding = {
        let (redis, stop) = (redis.clone(), stop.clone());
        tokio::task::spawn_blocking(move || {
            let mut value = 1000;
            while !stop.load(Ordering::Relaxed) {
                add(&redis, &value.to_string());
                value += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            value
        })
    };
    let back = (0..40_usize).map(|client| {
        let (address, at) = (gateway.address, client % 4 * 200);
        let id = ids[at].clone();
        tokio::spawn(async move {
            let mut stream = EventSource::resume(address, "/audit", &id).await;
            for value in at + 1..1100 {
                assert_eq!(entry(&mut stream).await.1, data(value), "after {at}");
            }
        })
    });
    let back: Vec<_> = back.collect();
    for value in 1000..1100 {
        assert_eq!(entry(&mut live).await.1, data(value));
    }
    for client in back {
        soon("all is replayed", client).await.expect("in order");
    }
    stop.store(true, Ordering::Relaxed);
    adding.await.expect("added");
}

/// EDGE L8, L9: what the log has, exactly; nothing to who is current; `resume: latest` gives the newest alone, log or no log.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_replayed() {
    let redis = TestRedis::start();
    let ids: Vec<_> = (0..10)
        .map(|value| add(&redis, &value.to_string()))
        .collect();
    let gateway = audit(&redis);
    let missed: Vec<String> = (4..10).map(|value| value.to_string()).collect();
    resumes(&gateway, &redis, &ids[3], &missed).await;
    // `new` is in the log by now, and the others are not.
    let missed = [&missed[..], &["new".to_owned()]].concat();
    resumes(&gateway, &redis, &ids[3], &missed).await;
    let newest = add(&redis, "last");
    resumes(&gateway, &redis, &newest, &[]).await;

    let gateway = audit_with(&redis, "    resume: latest\n");
    let newest = add(&redis, "newest");
    for _ in 0..2 {
        let mut stream = EventSource::resume(gateway.address, "/audit", &ids[0]).await;
        assert_eq!(entry(&mut stream).await, (newest.clone(), data("newest")));
    }
    let mut stream = EventSource::resume(gateway.address, "/audit", &newest).await;
    let new = add(&redis, "new");
    assert_eq!(entry(&mut stream).await, (new, data("new")));
}

/// EDGE L6, L9, L10: trimmed, future, malformed and foreign ids get `reset`, also when the gateway has seen what was trimmed.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_not_known_are_reset() {
    let redis = TestRedis::start();
    let gateway = audit(&redis);
    let mut live = EventSource::open(gateway.address, "/audit").await;
    let mut ids = Vec::new();
    for value in 0..10 {
        ids.push(add(&redis, &value.to_string()));
        entry(&mut live).await;
    }
    resumes(&gateway, &redis, &ids[8], &["9".into()]).await;
    redis.cli(&["XTRIM", "audit", "MAXLEN", "2"]);
    is_reset(&gateway, &redis, &ids[0]).await;
    is_reset(&gateway, &redis, &ids[8]).await;
    let long = "9".repeat(500);
    for id in [
        "99999999999999-0",
        "0-0",
        "1-1",
        "18446744073709551615-18446744073709551615",
        "0123456789abcdef-1",
        "5",
        "*",
        "$",
        "+",
        "-",
        "1-1 COUNT 1",
        &long,
    ] {
        is_reset(&gateway, &redis, id).await;
    }
    // Another stream has ids like ours.
    redis.cli(&["DEL", "audit"]);
    is_reset(&gateway, &redis, &ids[9]).await;
}

/// CONTRACT §6: an entry id stays known after a restart of the gateway, whatever came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn ids_outlive_the_gateway() {
    let redis = TestRedis::start();
    let gateway = audit(&redis);
    let mut stream = EventSource::open(gateway.address, "/audit").await;
    let id = add(&redis, "1");
    assert_eq!(entry(&mut stream).await, (id.clone(), data(1)));
    drop((stream, gateway));
    add(&redis, "2");
    let gateway = audit(&redis);
    add(&redis, "3");
    resumes(&gateway, &redis, &id, &["2".into(), "3".into()]).await;
}

/// EDGE R5: a key that is no stream is a failure with a cause, one that is not there is an empty stream; DEL, FLUSHALL and smaller ids do
/// not end anything.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_and_deleted_streams() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "audit", "no stream"]);
    let gateway = audit(&redis);
    let mut stream = EventSource::open(gateway.address, "/audit").await;
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
    redis.cli(&["DEL", "audit"]);
    assert_eq!(stream.next().await, pair("fresh", "{}"));
    redis.cli(&["XADD", "audit", "5-1", "v", "1"]);
    assert_eq!(entry(&mut stream).await, ("5-1".into(), data(1)));
    redis.cli(&["FLUSHALL"]);
    redis.cli(&["XADD", "audit", "3-1", "v", "2"]);
    assert_eq!(entry(&mut stream).await, ("3-1".into(), data(2)));
    redis.cli(&["XADD", "audit", "4-1", "v", "3"]);
    assert_eq!(entry(&mut stream).await, ("4-1".into(), data(3)));
    let mut back = EventSource::resume(gateway.address, "/audit", "5-1").await;
    assert_eq!(back.next().await, pair("reset", RESET));
    let mut back = EventSource::resume(gateway.address, "/audit", "3-1").await;
    assert_eq!(entry(&mut back).await, ("4-1".into(), data(3)));
}

/// A server that is away: streams stay open and stale, who resumes gets what the log has or is told and waits; a server that comes back
/// without its data is followed from its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_and_comes_back() {
    let mut redis = TestRedis::start();
    let oldest = add(&redis, "oldest");
    add(&redis, "old");
    tokio::time::sleep(Duration::from_millis(2)).await;
    let gateway = audit(&redis);
    let mut stream = EventSource::open(gateway.address, "/audit").await;
    let first = add(&redis, "1");
    entry(&mut stream).await;
    let second = add(&redis, "2");
    entry(&mut stream).await;
    redis.kill();
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
    let mut known = EventSource::resume(gateway.address, "/audit", &first).await;
    assert_eq!(entry(&mut known).await, (second, data(2)));
    assert_eq!(known.next().await.0, "stale");
    let mut waits = EventSource::resume(gateway.address, "/audit", &oldest).await;
    assert_eq!(waits.next().await.0, "stale");

    redis.restart();
    for stream in [&mut stream, &mut known] {
        assert_eq!(stream.next().await, pair("fresh", "{}"));
    }
    // In either order: that the server is there, and what it says.
    let told = [waits.next().await, waits.next().await];
    assert!(told.contains(&pair("fresh", "{}")), "{told:?}");
    assert!(told.contains(&pair("reset", RESET)), "{told:?}");
    let new = add(&redis, "3");
    for stream in [&mut stream, &mut known, &mut waits] {
        assert_eq!(entry(stream).await, (new.clone(), data(3)));
    }
}

/// EDGE R6: a frozen server gives no error by itself. What was added meanwhile comes when it goes on, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_loses_nothing() {
    let redis = TestRedis::start();
    let oldest = add(&redis, "oldest");
    let old = add(&redis, "old");
    let gateway = audit(&redis);
    let mut stream = EventSource::resume(gateway.address, "/audit", &old).await;
    add(&redis, "1");
    assert_eq!(entry(&mut stream).await.1, data(1));
    redis.pause();
    assert_eq!(stream.next().await.0, "stale");
    let mut waits = EventSource::resume(gateway.address, "/audit", &oldest).await;
    assert_eq!(waits.next().await.0, "stale");
    redis.resume();
    assert_eq!(stream.next().await, pair("fresh", "{}"));
    add(&redis, "2");
    assert_eq!(entry(&mut stream).await.1, data(2));
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(waits.next().await);
    }
    told.retain(|told| *told != pair("fresh", "{}"));
    let expected = ["old", "1", "2"].map(|value| pair("message", &data(value)));
    assert_eq!(told, expected);
}

/// One command an interval at most, however many read and however many resume together.
#[tokio::test(flavor = "multi_thread")]
async fn readers_share_what_is_read() {
    let redis = TestRedis::start();
    let first = add(&redis, "0");
    for value in 1..5 {
        add(&redis, &value.to_string());
    }
    let gateway = audit(&redis);
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(EventSource::open(gateway.address, "/audit").await);
    }
    let opened = (0..25).map(|_| EventSource::resume(gateway.address, "/audit", &first));
    readers.extend(futures_util::future::join_all(opened).await);
    for stream in &mut readers[20..] {
        for value in 1..5 {
            assert_eq!(entry(stream).await.1, data(value));
        }
    }
    add(&redis, "5");
    for stream in &mut readers {
        assert_eq!(entry(stream).await.1, data(5));
    }
    let stats = redis.cli(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| {
        let calls = line.strip_prefix("cmdstat_xrange:calls=")?;
        calls.split(',').next()?.parse::<u32>().ok()
    });
    // Two for a page; what is new is announced.
    assert!(calls.is_some_and(|calls| calls < 150), "{stats}");
}

/// Parameters choose among streams, within their prefix.
#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_chooses_the_stream() {
    let redis = TestRedis::start();
    let gateway = TestGateway::start(&format!(
        "redis: {{main: {{url: \"{}\"}}}}\nstreams:\n  - path: \"/log/{{name}}\"\n    redis: {{server: main, stream: \
         \"log:{{name}}\", format: json}}\n    select: $.n\n    event: line\n",
        redis.url()
    ));
    let mut one = EventSource::open(gateway.address, "/log/one").await;
    let mut two = EventSource::open(gateway.address, "/log/two").await;
    redis.cli(&["XADD", "log:one", "*", "n", "1", "m", "0"]);
    redis.cli(&["XADD", "log:two", "*", "n", "[2]"]);
    assert_eq!(one.next().await, pair("line", "1"));
    assert_eq!(two.next().await, pair("line", "[2]"));
    // What has no such member is left out, also of the past.
    let id = redis.cli(&["XADD", "log:one", "*", "n", "3"]);
    assert_eq!(one.next().await, pair("line", "3"));
    redis.cli(&["XADD", "log:one", "*", "m", "4"]);
    redis.cli(&["XADD", "log:one", "*", "n", "5"]);
    assert_eq!(one.next().await, pair("line", "5"));
    let mut back = EventSource::resume(gateway.address, "/log/one", &id).await;
    assert_eq!(back.next().await, pair("line", "5"));
}

/// EDGE B1: a client that takes nothing for a while and then everything still gets each page once.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_replayed_as_fast_as_it_takes() {
    let redis = TestRedis::start();
    let filler = "x".repeat(20_000);
    let first = add(&redis, "first");
    for value in 0..500 {
        redis.cli(&["XADD", "audit", "*", "n", &value.to_string(), "x", &filler]);
    }
    let gateway = audit(&redis);
    let mut slow = EventSource::resume(gateway.address, "/audit", &first).await;
    // Another one is served meanwhile.
    let mut other = EventSource::resume(gateway.address, "/audit", &first).await;
    let mut last = String::new();
    for stream in [&mut other, &mut slow] {
        for value in 0..500 {
            let (id, data) = entry(stream).await;
            assert!(data.starts_with(&format!(r#"{{"n":"{value}","#)), "{value}");
            last = id;
        }
    }
    resumes(&gateway, &redis, &last, &[]).await;
}

/// HTTP/1.0, HTTP/2 and HTTP/1.1 are carried by different hands: the pages reach them all.
#[tokio::test(flavor = "multi_thread")]
async fn pages_reach_a_client_that_comes_by_http_1_0() {
    let redis = TestRedis::start();
    let first = add(&redis, "first");
    for value in 0..300 {
        add(&redis, &value.to_string());
    }
    let gateway = audit(&redis);
    let mut connection = super::support::client::Connection::open(gateway.address).await;
    let request = format!(
        "GET /audit HTTP/1.0\r\nhost: a\r\naccept: text/event-stream\r\nlast-event-id: {first}\r\n\r\n"
    );
    connection.send(request.as_bytes()).await;
    connection.head().await;
    let mut parser = wellspring::sse::parser::Parser::default();
    let mut next = 0;
    while next < 300 {
        for item in parser.push(&connection.take_unread()) {
            if let Item::Event(event) = item {
                assert_eq!(event.data, data(next));
                next += 1;
            }
        }
        assert!(next == 300 || connection.fill().await);
    }
}

/// A gateway that begins to follow a stream anew after nobody did for a while asks the server again.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_was_closed_resumes_too() {
    let redis = TestRedis::start();
    let gateway = audit_with(&redis, "    linger: 0s\n    history: {age: 1ms}\n");
    let mut stream = EventSource::open(gateway.address, "/audit").await;
    let id = add(&redis, "1");
    entry(&mut stream).await;
    drop(stream);
    let connections = || redis.cli(&["CLIENT", "LIST"]).lines().count();
    eventually("nobody follows", || connections() == 1).await;
    add(&redis, "2");
    resumes(&gateway, &redis, &id, &["2".into()]).await;
}
