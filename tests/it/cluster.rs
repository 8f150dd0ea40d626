//! Replicas that share polls, events and ids through Redis: CONTRACT §2 `cluster`. The real binary, in several processes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::cable::Cable;
use super::support::client::{EventSource, get, pair, request};
use super::support::process::{Wellspring, program};
use super::support::redis::TestRedis;
use super::support::relay::Relay;
use super::support::upstream::{TestUpstream, json, status};
use super::support::{eventually, soon};

/// From poll start to poll start.
const EVERY: Duration = Duration::from_millis(500);

/// A replica whose polls say `name`.
async fn replica(redis: &TestRedis, upstream: &TestUpstream, name: &str) -> Wellspring {
    Wellspring::with(&file("127.0.0.1", &redis.url(), &upstream.url(), name)).await
}

fn file(address: &str, redis: &str, upstream: &str, name: &str) -> String {
    let publish = match address {
        "127.0.0.1" => "  - path: \"/alerts/{room}\"\n    publish: {path: \"/publish/{room}\"}\n",
        // There it would need auth.
        _ => "",
    };
    format!(
        "listeners: [{{address: \"{address}:0\"}}]\nadmin: off\nredis:\n  main: {{url: \"{redis}\"}}\ncluster: {{redis: main, name: test}}\n\
         shutdown: {{drain: 1s}}\nupstreams:\n  legacy: {{url: \"{upstream}\", headers: {{x-replica: {name}}}}}\nstreams:\n  - path: /value\n    \
         http: {{upstream: legacy}}\n    every: 500ms\n    history: {{events: 1000}}\n    deliver: [value, json-patch]\n    linger: 1s\n{publish}",
    )
}

/// An upstream whose value is another one at each poll.
async fn counting() -> (TestUpstream, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let upstream = TestUpstream::start(move |_| {
        json(&format!(
            "{{\"n\":{}}}",
            counted.fetch_add(1, Ordering::Relaxed) + 1
        ))
    })
    .await;
    (upstream, count)
}

/// Who polled, from the request at `from` on.
fn pollers(upstream: &TestUpstream, from: usize) -> BTreeSet<String> {
    let requests = upstream.requests();
    let names = requests[from..]
        .iter()
        .filter_map(|request| request.header("x-replica"));
    names.map(str::to_owned).collect()
}

/// A stream, and the last number that it gave with its id.
type Watched = (EventSource, usize, String);

/// Which of the replicas polls.
async fn holder(upstream: &TestUpstream) -> usize {
    let from = upstream.count();
    eventually("a poll", || upstream.count() > from).await;
    let name = pollers(upstream, from).pop_first().expect("one");
    name.strip_prefix('r')
        .and_then(|name| name.parse().ok())
        .expect("a replica")
}

/// Reads on, each number once and in order, up to the first that is at least `to`; gives it with its id.
async fn count_on(stream: &mut EventSource, mut last: usize, to: usize) -> (usize, String) {
    loop {
        let event = stream.event().await;
        if event.name == "stale" || event.name == "fresh" {
            continue;
        }
        assert_eq!(event.data, format!("{{\"n\":{}}}", last + 1), "{event:?}");
        last += 1;
        if last >= to {
            return (last, event.id);
        }
    }
}

fn number(data: &str) -> usize {
    let digits: String = data.chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

struct Cluster {
    redis: TestRedis,
    upstream: TestUpstream,
    replicas: Vec<Option<Wellspring>>,
}

impl Cluster {
    async fn of_three() -> Self {
        let redis = TestRedis::start();
        let (upstream, _) = counting().await;
        let mut replicas = Vec::new();
        for name in ["r0", "r1", "r2"] {
            replicas.push(Some(replica(&redis, &upstream, name).await));
        }
        Self {
            redis,
            upstream,
            replicas,
        }
    }

    fn address(&self, replica: usize) -> SocketAddr {
        self.replicas[replica].as_ref().expect("it runs").address
    }

    /// A stream from each, and the first number of each.
    async fn watch(&self) -> Vec<Watched> {
        let mut streams = Vec::new();
        for replica in 0..self.replicas.len() {
            let mut stream = EventSource::open(self.address(replica), "/value").await;
            let first = stream.event().await;
            streams.push((stream, number(&first.data), first.id));
        }
        streams
    }
}

/// One poller in the whole cluster; the same ids everywhere, and any replica serves any of them; a newcomer gets the value
/// without a poll.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_polls_events_and_ids() {
    let cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    let to = streams
        .iter()
        .map(|(_, first, _)| *first)
        .max()
        .expect("three")
        + 3;
    let from = cluster.upstream.count();
    let mut ids = BTreeSet::new();
    for (stream, first, _) in &mut streams {
        let (last, id) = count_on(stream, *first, to).await;
        assert_eq!(last, to);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 1, "the same event has the same id: {ids:?}");
    assert_eq!(pollers(&cluster.upstream, from).len(), 1);
    for (replica, (_, first, id)) in streams.iter().enumerate() {
        let mut resumed =
            EventSource::resume(cluster.address((replica + 1) % 3), "/value", id).await;
        count_on(&mut resumed, *first, to).await;
    }
    let late = replica(&cluster.redis, &cluster.upstream, "r3").await;
    let before = cluster.upstream.count();
    let snapshot = get(late.address, "/value", &[]).await;
    assert_eq!(snapshot.head.status, 200);
    assert!(number(&snapshot.body) >= to, "{}", snapshot.body);
    assert!(!pollers(&cluster.upstream, before.saturating_sub(2)).contains("r3"));
}

/// Whatever ends the holder: another one polls within 3 intervals, and no client misses an event or gets one twice.
async fn lose_holder(signal: &str) -> (Cluster, usize, Vec<Watched>, Vec<(usize, String)>) {
    let cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    let holder = holder(&cluster.upstream).await;
    cluster.replicas[holder]
        .as_ref()
        .expect("it runs")
        .signal(signal);
    let (lost, from) = (Instant::now(), cluster.upstream.count());
    let other = || {
        pollers(&cluster.upstream, from)
            .iter()
            .any(|name| *name != format!("r{holder}"))
    };
    eventually("another replica polls", other).await;
    let took = lost.elapsed();
    assert!(took < 3 * EVERY + Duration::from_millis(300), "{took:?}");
    println!("after {signal} another replica polled in {took:?}, at an interval of {EVERY:?}");
    let to = cluster.upstream.count() + 2;
    let mut seen = Vec::new();
    for (replica, (stream, last, _)) in streams.iter_mut().enumerate() {
        if replica != holder {
            seen.push(sequence(stream, *last, to).await);
            *last = to;
        }
    }
    assert_alike(&seen[0], &seen[1]);
    (cluster, holder, streams, seen.remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_is_replaced() {
    let (cluster, holder, streams, seen) = lose_holder("-KILL").await;
    // Its own clients come back to another one.
    let (_, last, id) = &streams[holder];
    let mut resumed = EventSource::resume(cluster.address((holder + 1) % 3), "/value", id).await;
    let to = seen[seen.len() - 1].0;
    assert_alike(&sequence(&mut resumed, *last, to).await, &seen);
}

/// Fencing: the old holder wakes up, believes that it holds the lease, and can append nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_holder_that_returns_appends_nothing() {
    let (cluster, holder, mut streams, _) = lose_holder("-STOP").await;
    cluster.replicas[holder]
        .as_ref()
        .expect("it runs")
        .signal("-CONT");
    let from = cluster.upstream.count();
    // Its own clients go on, too: what happened meanwhile, in order, and then what happens.
    let to = from + 4;
    all_count_on_leniently(&mut streams, to).await;
}

/// As [`count_on`]; the poll of a holder that was frozen or killed is lost with it, so a number may be missing.
async fn count_on_leniently(stream: &mut EventSource, last: usize, to: usize) -> String {
    let seen = sequence(stream, last, to).await;
    seen.into_iter().next_back().expect("one at least").1
}

/// The same for each of them: they come to the same event.
async fn all_count_on_leniently(streams: &mut [Watched], to: usize) {
    let mut ids = BTreeSet::new();
    for (stream, last, _) in streams {
        ids.insert(soon("it goes on", count_on_leniently(stream, *last, to)).await);
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// What comes, in order, up to the first number that is at least `to`: numbers and ids.
async fn sequence(stream: &mut EventSource, mut last: usize, to: usize) -> Vec<(usize, String)> {
    let mut seen = Vec::new();
    while last < to || seen.is_empty() {
        let event = stream.event().await;
        if event.name == "stale" || event.name == "fresh" {
            continue;
        }
        let number = number(&event.data);
        assert!(number > last, "{number} after {last}");
        last = number;
        seen.push((number, event.id));
    }
    seen
}

/// Nobody missed anything that others got.
fn assert_alike(one: &[(usize, String)], other: &[(usize, String)]) {
    let from = one[0].0.max(other[0].0);
    let part = |seen: &[(usize, String)]| -> Vec<_> {
        seen.iter()
            .filter(|(number, _)| *number >= from)
            .cloned()
            .collect()
    };
    let (one, other) = (part(one), part(other));
    let both = one.len().min(other.len());
    assert_eq!(one[..both], other[..both]);
}

/// A holder that stops in order gives the lease up.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_stops_gives_way() {
    let mut cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    let holder = holder(&cluster.upstream).await;
    let (stream, ..) = streams.remove(holder);
    drop(stream);
    let replica = cluster.replicas[holder].take().expect("it runs");
    replica.stop().await;
    let to = cluster.upstream.count() + 3;
    for (stream, last, _) in &mut streams {
        count_on(stream, *last, to).await;
    }
}

/// A server that lost everything is told again what the replicas have: ids stay known, and nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_everything_is_told_again() {
    let mut cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    for restart in [false, true] {
        match restart {
            false => drop(cluster.redis.cli(&["FLUSHALL"])),
            true => {
                cluster.redis.kill();
                cluster.redis.restart();
            }
        }
        let to = cluster.upstream.count() + 4;
        for (stream, last, id) in &mut streams {
            *id = soon("it goes on", count_on_leniently(stream, *last, to)).await;
            *last = to;
        }
    }
    let (_, _, id) = &streams[0];
    let mut resumed = EventSource::resume(cluster.address(1), "/value", id).await;
    let next = resumed.event().await;
    assert_ne!(next.name, "reset");
}

/// Each is told that its value is stale, and why.
async fn all_are_stale(streams: &mut [Watched], why: &str) {
    for (stream, ..) in streams {
        let said = soon("stale", stream.until("stale")).await;
        assert!(said.contains(why), "{said}");
    }
}

/// Each is told that the trouble is over, and then what happens.
async fn all_go_on(streams: &mut [Watched]) {
    for (stream, ..) in streams {
        soon("fresh", stream.until("fresh")).await;
        stream.event().await;
    }
}

/// Without Redis what there is stays, and is told to be stale; then everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn without_redis_values_stay_and_are_stale() {
    let mut cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    cluster.redis.kill();
    all_are_stale(&mut streams, "\"redis\"").await;
    assert_eq!(
        get(cluster.address(0), "/value", &[]).await.head.status,
        200
    );
    cluster.redis.restart();
    all_go_on(&mut streams).await;
}

/// A full server takes nothing: values stay, are told to be stale, and go on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_makes_values_stale() {
    let cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    cluster.redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    all_are_stale(&mut streams, "\"redis\"").await;
    let refused = request(cluster.address(0), "POST", "/publish/a", &[], "1").await;
    assert_eq!(refused.head.status, 503, "{}", refused.body);
    cluster.redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    all_go_on(&mut streams).await;
}

/// A server that hangs is one that is away, and then goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_waited_for() {
    let cluster = Cluster::of_three().await;
    let mut streams = cluster.watch().await;
    cluster.redis.pause();
    all_are_stale(&mut streams, "cause").await;
    cluster.redis.resume();
    let to = cluster.upstream.count() + 5;
    all_count_on_leniently(&mut streams, to).await;
}

/// A holder that is cut off loses the lease; when it is back it follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_is_replaced_and_follows() {
    let Some(cable) = Cable::new("10.213.8") else {
        eprintln!("not run: making network namespaces needs a privilege that is not there");
        return;
    };
    let redis = TestRedis::start();
    let (upstream, _) = counting().await;
    let here = cable.here();
    let to_redis = Relay::between(here, SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let source = upstream
        .url()
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let to_upstream = Relay::between(here, source).await;
    let far = file(
        &cable.there().to_string(),
        &format!("redis://{}", to_redis.address),
        &format!("http://{}", to_upstream.address),
        "far",
    );
    let far = Wellspring::within(cable.namespace(), &far).await;
    let mut cut_off = EventSource::open(far.address, "/value").await;
    let first = cut_off.event().await;
    let near = replica(&redis, &upstream, "near").await;
    let mut stream = EventSource::open(near.address, "/value").await;
    let seen = stream.event().await;
    assert_eq!(pollers(&upstream, 0), BTreeSet::from(["far".to_owned()]));

    cable.cut();
    let (cut, from) = (Instant::now(), upstream.count());
    eventually("the near one polls", || {
        pollers(&upstream, from).contains("near")
    })
    .await;
    let took = cut.elapsed();
    assert!(took < 3 * EVERY + Duration::from_millis(300), "{took:?}");
    let to = upstream.count() + 3;
    count_on_leniently(&mut stream, number(&seen.data), to).await;

    cable.mend();
    let to = upstream.count() + 3;
    let there = soon(
        "it follows",
        count_on_leniently(&mut cut_off, number(&first.data), to),
    )
    .await;
    let here = soon(
        "it goes on",
        count_on_leniently(&mut stream, number(&seen.data), to),
    )
    .await;
    assert_eq!(there, here);
    let from = upstream.count();
    count_on_leniently(&mut stream, to, from + 3).await;
    assert_eq!(pollers(&upstream, from).len(), 1);
}

/// Two replicas, and a stream from each that was told `1`.
async fn two_that_say_one(
    redis: &TestRedis,
    upstream: &TestUpstream,
) -> ([Wellspring; 2], Vec<EventSource>) {
    let replicas = [
        replica(redis, upstream, "r0").await,
        replica(redis, upstream, "r1").await,
    ];
    let mut streams = Vec::new();
    for replica in &replicas {
        let mut stream = EventSource::open(replica.address, "/value").await;
        assert_eq!(stream.event().await.data, "1");
        streams.push(stream);
    }
    (replicas, streams)
}

/// A value that is much longer as it is written there reaches all replicas, and newcomers.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_is_shared() {
    let redis = TestRedis::start();
    // Quotes are written as two bytes, and messages of more than a mebibyte are not told but read.
    let large = format!("[{}\"\"]", "\"\",".repeat(250_000));
    let upstream = TestUpstream::saying(json("1")).await;
    let (_replicas, mut streams) = two_that_say_one(&redis, &upstream).await;
    upstream.say(json(&large));
    for stream in &mut streams {
        assert_eq!(
            soon("the value", stream.event()).await.data.len(),
            large.len()
        );
    }
    let late = replica(&redis, &upstream, "r2").await;
    let snapshot = get(late.address, "/value", &[]).await;
    assert_eq!(snapshot.body.len(), large.len());
}

/// What a process believes of the time of day: as long as a file is there, an hour more or less.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
  long result = syscall(SYS_clock_gettime, clock, time);
  if (clock == CLOCK_REALTIME && access(getenv("AN_HOUR_ON"), F_OK) == 0) time->tv_sec += 3600;
  if (clock == CLOCK_REALTIME && access(getenv("AN_HOUR_BACK"), F_OK) == 0) time->tv_sec -= 3600;
  return (int)result;
}
"#;

/// A holder whose clock jumps goes on as if nothing had happened: no two clocks are compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_clock_jumps_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("clock.c"), CLOCK).expect("written");
    let mut compiler = program("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(path("clock.so"))
        .arg(path("clock.c"));
    let built = compiler
        .status()
        .await
        .expect("a C compiler, which the build needs too");
    assert!(built.success());

    let redis = TestRedis::start();
    let (upstream, _) = counting().await;
    let (on, back, shim) = (path("on"), path("back"), path("clock.so"));
    let jumping = Wellspring::with_variables(
        &file("127.0.0.1", &redis.url(), &upstream.url(), "jumping"),
        &[
            ("LD_PRELOAD", shim.as_os_str()),
            ("AN_HOUR_ON", on.as_os_str()),
            ("AN_HOUR_BACK", back.as_os_str()),
        ],
    )
    .await;
    let mut streams = vec![EventSource::open(jumping.address, "/value").await];
    let mut last = vec![number(&streams[0].event().await.data)];
    let steady = replica(&redis, &upstream, "steady").await;
    streams.push(EventSource::open(steady.address, "/value").await);
    last.push(number(&streams[1].event().await.data));
    for jump in [&on, &back] {
        std::fs::write(jump, "").expect("written");
        let to = upstream.count() + 4;
        let mut ids = BTreeSet::new();
        for (stream, last) in streams.iter_mut().zip(&mut last) {
            let (reached, id) = soon("it goes on", count_on(stream, *last, to)).await;
            *last = reached;
            ids.insert(id);
        }
        assert_eq!(ids.len(), 1, "{ids:?}");
        let age = get(steady.address, "/value", &[]).await;
        let age: u64 = age
            .head
            .header("age")
            .and_then(|age| age.parse().ok())
            .expect("an age");
        assert!(age < 60, "{age}");
        std::fs::remove_file(jump).expect("removed");
    }
    assert_eq!(
        pollers(&upstream, 0),
        BTreeSet::from(["jumping".to_owned()])
    );
}

/// A replica that loses its connections reads the whole log again, which reaches further back than its own: nobody is given what is
/// long past, and what came meanwhile comes once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_log_again_tells_nothing_twice() {
    let redis = TestRedis::start();
    let (upstream, _) = counting().await;
    let short = |name| {
        file("127.0.0.1", &redis.url(), &upstream.url(), name)
            .replace("every: 500ms", "every: 100ms")
            .replace("events: 1000", "events: 10")
    };
    let replicas = [
        Wellspring::with(&short("r0")).await,
        Wellspring::with(&short("r1")).await,
    ];
    let mut streams = Vec::new();
    for replica in &replicas {
        let mut stream = EventSource::open(replica.address, "/value").await;
        let first = number(&stream.event().await.data);
        streams.push((stream, first));
    }
    for _ in 0..3 {
        let to = upstream.count() + 15;
        for (stream, last) in &mut streams {
            (*last, _) = soon("it goes on", count_on(stream, *last, to)).await;
        }
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }
    let to = upstream.count() + 5;
    for (stream, last) in &mut streams {
        soon("it goes on", count_on(stream, *last, to)).await;
    }
}

/// How the source stands reaches all replicas, once each.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_source_is_shared() {
    let redis = TestRedis::start();
    let upstream = TestUpstream::saying(json("1")).await;
    let (_replicas, mut streams) = two_that_say_one(&redis, &upstream).await;
    upstream.say(status(404, ""));
    for stream in &mut streams {
        assert_eq!(stream.next().await, pair("gone", "{}"));
    }
    upstream.say(json("1"));
    for stream in &mut streams {
        assert_eq!(
            stream.event().await.data,
            "1",
            "a value after gone is an event"
        );
    }
    upstream.say(status(500, ""));
    for stream in &mut streams {
        assert!(
            soon("stale", stream.until("stale"))
                .await
                .contains("\"status\"")
        );
    }
    upstream.say(json("2"));
    for stream in &mut streams {
        assert_eq!(stream.next().await, pair("fresh", "{}"));
        assert_eq!(stream.event().await.data, "2");
    }
}

/// CONTRACT §2 `cluster`, `name`: who has another name shares nothing, though the server, the upstream and the streams are the
/// same: each cluster polls for itself, in keys of its own, and neither tells what the other one read or was told.
#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_different_names_share_nothing() {
    let redis = TestRedis::start();
    let (upstream, _) = counting().await;
    let names = ["one", "two"];
    let [one, two] = names.map(|name| {
        file("127.0.0.1", &redis.url(), &upstream.url(), name)
            .replace("name: test", &format!("name: {name}"))
    });
    let gateways = [Wellspring::with(&one).await, Wellspring::with(&two).await];

    let mut streams = Vec::new();
    for gateway in &gateways {
        streams.push(EventSource::open(gateway.address, "/value").await);
    }
    for stream in &mut streams {
        stream.event().await;
    }
    let from = upstream.count();
    let mut seen = Vec::new();
    for stream in &mut streams {
        seen.push(sequence(stream, 0, from + 6).await);
    }
    assert_eq!(pollers(&upstream, from), names.map(str::to_owned).into());
    for (number, id) in &seen[0] {
        let is_alike = |(other, known): &(usize, String)| other == number || known == id;
        assert!(!seen[1].iter().any(is_alike), "{seen:?}");
    }
    let (_, id) = &seen[0][0];
    let mut resumed = EventSource::resume(gateways[1].address, "/value", id).await;
    assert_eq!(resumed.event().await.name, "reset");

    let mut rooms = Vec::new();
    for gateway in &gateways {
        rooms.push(EventSource::open(gateway.address, "/alerts/a").await);
    }
    for (gateway, name) in gateways.iter().zip(names) {
        let posted = request(gateway.address, "POST", "/publish/a", &[], name).await;
        assert_eq!(posted.head.status, 202, "{}", posted.body);
    }
    for (room, name) in rooms.iter_mut().zip(names) {
        assert_eq!(soon("its own message", room.event()).await.data, name);
    }

    let keys = redis.cli(&["KEYS", "*"]);
    let of = |name: &str| -> BTreeSet<_> {
        let part = format!(":{name}:");
        keys.lines().filter(|key| key.contains(&part)).collect()
    };
    let (first, second) = (of("one"), of("two"));
    assert!(!first.is_empty() && first.is_disjoint(&second), "{keys}");
    assert_eq!(first.len() + second.len(), keys.lines().count(), "{keys}");
}

/// What one replica accepted reaches the clients of all, once each, in one order; what is retained survives every replica.
#[tokio::test(flavor = "multi_thread")]
async fn published_messages_are_shared_and_survive() {
    let mut cluster = Cluster::of_three().await;
    let mut streams = Vec::new();
    for replica in 0..3 {
        streams.push(EventSource::open(cluster.address(replica), "/alerts/a").await);
    }
    let posted = request(cluster.address(0), "POST", "/publish/a", &[], "first").await;
    assert_eq!(posted.head.status, 202, "{}", posted.body);
    for stream in &mut streams {
        assert_eq!(soon("the first", stream.event()).await.data, "first");
    }
    let posts = (0..30).map(|number| {
        let address = cluster.address(number % 3);
        async move {
            let posted = request(address, "POST", "/publish/a", &[], &number.to_string()).await;
            assert_eq!(posted.head.status, 202, "{}", posted.body);
        }
    });
    futures_util::future::join_all(posts).await;
    let mut orders = Vec::new();
    for stream in &mut streams {
        let mut order = Vec::new();
        for _ in 0..30 {
            let event = soon("a message", stream.event()).await;
            order.push((event.id, event.data));
        }
        orders.push(order);
    }
    assert!(orders.iter().all(|order| *order == orders[0]));
    let all: BTreeSet<_> = orders[0].iter().map(|(_, data)| data.clone()).collect();
    assert_eq!(all.len(), 30);
    let (id, last) = orders[0].last().cloned().expect("thirty");
    drop(streams);
    for replica in &mut cluster.replicas {
        replica.take().expect("it runs").stop().await;
    }
    let late = replica(&cluster.redis, &cluster.upstream, "r3").await;
    assert_eq!(get(late.address, "/alerts/a", &[]).await.body, last);
    let (second, _) = &orders[0][27];
    let mut resumed = EventSource::resume(late.address, "/alerts/a", second).await;
    assert_eq!(resumed.event().await.id, orders[0][28].0);
    assert_eq!(resumed.event().await.id, id);
}

/// CONTRACT §3 "Ids", `cluster`: a replica that has just begun tells nobody anything before it has read what there is, also of what
/// has no current value.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_resumes_a_stream_of_messages_where_it_stands() {
    let redis = TestRedis::start();
    let file = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: off\nredis: {{main: {{url: \"{}\"}}}}\n\
         cluster: {{redis: main, name: test}}\nstreams:\n  - {{path: /news, redis: {{server: main, channel: news}}}}\n",
        redis.url(),
    );
    let old = Wellspring::with(&file).await;
    let mut reader = EventSource::open(old.address, "/news").await;
    eventually("it listens", || {
        redis.cli(&["PUBSUB", "NUMSUB", "news"]).ends_with('1')
    })
    .await;
    let mut ids = Vec::new();
    for number in ["1", "2", "3"] {
        redis.cli(&["PUBLISH", "news", number]);
        let event = soon("a message", reader.event()).await;
        assert_eq!(event.data, number);
        ids.push(event.id);
    }
    let new = Wellspring::with(&file).await;
    let mut resumed = EventSource::resume(new.address, "/news", &ids[1]).await;
    assert_eq!(
        soon("what was missed", resumed.next()).await,
        pair("message", "3")
    );
    redis.cli(&["PUBLISH", "news", "4"]);
    assert_eq!(
        soon("what comes", resumed.next()).await,
        pair("message", "4")
    );
}

/// What a replica writes again, after the server has lost it, is written so that every replica can read it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_that_was_lost_can_be_read_when_it_is_there_again() {
    let redis = TestRedis::start();
    let number = Arc::new(AtomicUsize::new(0));
    let counted = number.clone();
    let upstream = TestUpstream::start(move |_| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        json(&format!("[{number},\"{}\"]", "p".repeat(400_000)))
    })
    .await;
    let first = replica(&redis, &upstream, "r0").await;
    let mut reader = EventSource::open(first.address, "/value").await;
    for _ in 0..4 {
        soon("a value", reader.event()).await;
    }
    redis.cli(&["FLUSHALL"]);
    eventually("it stands there again", || {
        !redis.cli(&["KEYS", "*:log"]).is_empty()
    })
    .await;
    let second = replica(&redis, &upstream, "r1").await;
    let mut other = EventSource::open(second.address, "/value").await;
    let event = soon("its first event", other.event()).await;
    assert_eq!(event.name, "message", "{}", event.data);
}
