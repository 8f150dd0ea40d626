//! Against a real server. Nobody polls here: a reading is taken when the source hints at one, and only then.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::super::tests::{fill, reading, source_watching};
use super::super::{RedisKeySource, Source};
use crate::config::{RedisShape, RedisWatch};
use crate::source::redis_server::RedisClient;
use crate::source::redis_server::test_redis::TestRedis;
use crate::source::testing::{eventually, soon};

const EVENTS: &[&str] = &["--notify-keyspace-events", "KEA"];
const NO_CLIENT: &[&str] = &["--rename-command", "CLIENT", ""];

/// The ways that announce changes, on a server that knows both.
const WAYS: [RedisWatch; 3] = [RedisWatch::Auto, RedisWatch::Tracking, RedisWatch::Keyspace];

fn string(redis: &TestRedis, watch: RedisWatch) -> RedisKeySource {
    let client = RedisClient::for_test(&redis.url());
    source_watching(&client, RedisShape::String, "string", watch)
}

/// Reads when hinted at, until the reading is `value`.
async fn converges(source: &mut RedisKeySource, value: &str) {
    soon(async {
        loop {
            source.hint().await;
            match reading(source).await {
                Ok(reading) if reading == value => return,
                _ => {}
            }
        }
    })
    .await;
}

/// The number of calls of each of `commands`.
fn calls(redis: &TestRedis, commands: &[&str]) -> Vec<u64> {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let count = |command: &&str| {
        let begin = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&begin));
        let count = line.and_then(|line| line.split(',').next());
        count.map_or(0, |count| count.parse().expect("a number"))
    };
    commands.iter().map(count).collect()
}

/// Each change is announced and read once, in any way and of any type.
#[tokio::test]
async fn a_change_is_announced_and_read_once() {
    for watch in WAYS {
        let redis = TestRedis::start_with(EVENTS);
        fill(&redis);
        let client = RedisClient::for_test(&redis.url());
        let changes: [(RedisShape, &str, &[&str], &str); 5] = [
            (
                RedisShape::String,
                "string",
                &["SET", "app:string", "2"],
                "2",
            ),
            (
                RedisShape::Hash,
                "hash",
                &["HSET", "app:hash", "a", "2"],
                r#"{"a":"2","b":"2"}"#,
            ),
            (
                RedisShape::List,
                "list",
                &["RPUSH", "app:list", "x"],
                r#"["z","a","x"]"#,
            ),
            (
                RedisShape::Set,
                "set",
                &["SADD", "app:set", "d"],
                r#"["a","b","c","d"]"#,
            ),
            (
                RedisShape::SortedSet,
                "zset",
                &["ZREM", "app:zset", "a"],
                r#"[{"member":"b","score":2.5}]"#,
            ),
        ];
        for (shape, key, command, value) in changes {
            let mut source = source_watching(&client, shape, key, watch);
            reading(&mut source).await.expect("a value");
            assert!(source.holds().is_some(), "{watch:?} {key}");
            assert!(source.hint().now_or_never().is_none(), "it was just read");
            redis.cli(command);
            soon(source.hint()).await;
            assert_eq!(
                reading(&mut source).await.as_deref(),
                Ok(value),
                "{watch:?}"
            );
            if shape == RedisShape::String {
                assert_eq!(calls(&redis, &["get"]), [2], "{watch:?}");
            }
        }
    }
}

/// A key that does not change costs nothing, and is known to hold.
#[tokio::test]
async fn an_idle_key_costs_no_command() {
    for watch in WAYS {
        let redis = TestRedis::start_with(EVENTS);
        fill(&redis);
        let mut source = string(&redis, watch);
        reading(&mut source).await.expect("a value");
        // What was begun is over.
        let _ = tokio::time::timeout(Duration::from_millis(100), source.hint()).await;
        let before = calls(&redis, &["get", "exists", "subscribe", "client|tracking"]);
        let held = source.holds().expect("known to hold");
        tokio::select! {
            () = source.hint() => panic!("{watch:?}: nothing happened"),
            () = eventually(|| calls(&redis, &["ping"])[0] >= 10) => {}
        }
        let after = calls(&redis, &["get", "exists", "subscribe", "client|tracking"]);
        assert_eq!(before, after, "{watch:?}");
        assert!(
            source.holds() > Some(held),
            "{watch:?}: each answer confirms"
        );
    }
}

/// DEPENDENCIES, trap 7: a flush names no key, and one of another database is none of ours.
#[tokio::test]
async fn a_flush_is_noticed() {
    for watch in [RedisWatch::Tracking, RedisWatch::Auto] {
        let redis = TestRedis::start();
        fill(&redis);
        let client = RedisClient::for_test(&redis.url());
        let mut sources: Vec<_> = ["string", "other"]
            .map(|key| source_watching(&client, RedisShape::String, key, watch))
            .into();
        for source in &mut sources {
            reading(source).await.expect("a reading");
        }
        redis.cli(&["FLUSHALL"]);
        converges(&mut sources[0], "Absent").await;
        redis.cli(&["SET", "app:other", "1"]);
        converges(&mut sources[1], "1").await;
        redis.cli(&["SET", "app:string", "back"]);
        converges(&mut sources[0], "back").await;
    }
}

/// A key that is not there is watched like any other, and so is its end.
#[tokio::test]
async fn expiry_and_return_are_noticed() {
    for watch in WAYS {
        let redis = TestRedis::start_with(EVENTS);
        let mut source = string(&redis, watch);
        assert_eq!(reading(&mut source).await.as_deref(), Ok("Absent"));
        redis.cli(&["SET", "app:string", "1", "PX", "150"]);
        converges(&mut source, "1").await;
        converges(&mut source, "Absent").await;
    }
}

/// EDGE R6: the connection for announcements is cut, the other one is not. What changed meanwhile is read without a poll.
#[tokio::test]
async fn a_cut_connection_is_noticed_and_made_again() {
    for watch in WAYS {
        let redis = TestRedis::start_with(EVENTS);
        fill(&redis);
        let mut source = string(&redis, watch);
        reading(&mut source).await.expect("a value");
        for value in ["first", "second"] {
            let clients = redis.cli(&["CLIENT", "LIST"]);
            let line = clients.lines().find(|line| {
                line.contains(" resp=3 ") || line.contains("flags=t") || line.contains("flags=P")
            });
            let id = line
                .and_then(|line| line.split(['=', ' ']).nth(1))
                .expect("a connection for pushes");
            redis.cli(&["CLIENT", "KILL", "ID", id]);
            soon(source.hint()).await;
            assert_eq!(source.holds(), None, "{watch:?}: nobody would tell");
            reading(&mut source)
                .await
                .expect("the other connection stands");
            redis.cli(&["SET", "app:string", value]);
            converges(&mut source, value).await;
            assert!(source.holds().is_some(), "{watch:?}");
        }
    }
}

/// EDGE R6.
#[tokio::test]
async fn a_restarted_server_is_watched_again() {
    for watch in WAYS {
        let mut redis = TestRedis::start_with(EVENTS);
        fill(&redis);
        let mut source = string(&redis, watch);
        reading(&mut source).await.expect("a value");
        redis.kill();
        soon(source.hint()).await;
        assert!(reading(&mut source).await.is_err());
        assert_eq!(source.holds(), None);
        redis.restart();
        redis.cli(&["SET", "app:string", "second life"]);
        converges(&mut source, "second life").await;
        redis.cli(&["SET", "app:string", "goes on"]);
        converges(&mut source, "goes on").await;
    }
}

/// DEPENDENCIES, trap 3: a frozen server breaks no connection. Nobody says that the value holds, and soon that it does not.
#[tokio::test]
async fn a_frozen_server_confirms_nothing() {
    let redis = TestRedis::start();
    fill(&redis);
    let mut source = string(&redis, RedisWatch::Auto);
    reading(&mut source).await.expect("a value");
    redis.pause();
    let frozen = Instant::now();
    soon(source.hint()).await;
    assert!(source.holds().is_none());
    assert!(reading(&mut source).await.is_err());
    assert!(frozen.elapsed() < Duration::from_secs(10));
    redis.resume();
    redis.cli(&["SET", "app:string", "thawed"]);
    converges(&mut source, "thawed").await;
    redis.cli(&["SET", "app:string", "goes on"]);
    converges(&mut source, "goes on").await;
}

/// DEPENDENCIES, trap 8: the server forgets keys when its table is full, and says so as if they had changed. All converge, and
/// keys that push each other out do not keep the server busy.
#[tokio::test]
async fn a_full_tracking_table_is_survived() {
    let redis = TestRedis::start_with(&["--tracking-table-max-keys", "1"]);
    let client = RedisClient::for_test(&redis.url());
    let mut sources: Vec<_> = (0..20)
        .map(|n| {
            source_watching(
                &client,
                RedisShape::String,
                &n.to_string(),
                RedisWatch::Auto,
            )
        })
        .collect();
    join_all(sources.iter_mut().map(reading)).await;
    for round in ["1", "2"] {
        for n in 0..20 {
            redis.cli(&["SET", &format!("app:{n}"), round]);
        }
        join_all(sources.iter_mut().map(|source| converges(source, round))).await;
    }
    // The pauses have their length after some readings for nothing.
    let settle = async |sources: &mut Vec<RedisKeySource>, time| {
        let go_on = |source| async move {
            let source: &mut RedisKeySource = source;
            loop {
                source.hint().await;
                reading(source).await.expect("a value");
            }
        };
        let all = join_all(sources.iter_mut().map(go_on));
        let _: Result<Vec<()>, _> = tokio::time::timeout(time, all).await;
    };
    settle(&mut sources, Duration::from_secs(2)).await;
    let before = calls(&redis, &["get", "exists"]);
    settle(&mut sources, Duration::from_secs(2)).await;
    let after = calls(&redis, &["get", "exists"]);
    // Twenty keys, twice a second, for two seconds.
    assert!(after[0] - before[0] <= 100, "{before:?} {after:?}");
}

/// DEPENDENCIES, trap 6: announcements overtake answers; whoever stops writing is read to the last word.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_many_changes_is_read() {
    for watch in [RedisWatch::Tracking, RedisWatch::Keyspace] {
        let redis = TestRedis::start_with(EVENTS);
        fill(&redis);
        let mut source = string(&redis, watch);
        reading(&mut source).await.expect("a value");
        for round in 0..30 {
            let last = format!("\"{round}\"");
            let write = || {
                for n in 0..fastrand::u32(1..30) {
                    redis.cli(&["SET", "app:string", &n.to_string()]);
                }
                redis.cli(&["SET", "app:string", &last]);
            };
            std::thread::scope(|scope| {
                let writer = scope.spawn(write);
                tokio::task::block_in_place(|| {
                    let read = converges(&mut source, &last);
                    tokio::runtime::Handle::current().block_on(read);
                });
                writer.join().expect("no panic");
            });
        }
    }
}

/// A server that does not track announces in the other way; one that does neither is polled, whatever was asked for.
#[tokio::test]
async fn what_is_not_to_be_had_is_done_without() {
    let no_client = |more: &[&'static str]| TestRedis::start_with(&[NO_CLIENT, more].concat());
    let cases = [
        (no_client(EVENTS), RedisWatch::Auto, true),
        (no_client(EVENTS), RedisWatch::Tracking, false),
        (no_client(&[]), RedisWatch::Auto, false),
        (TestRedis::start(), RedisWatch::Keyspace, false),
        (
            TestRedis::start_with(&["--notify-keyspace-events", "Kx"]),
            RedisWatch::Keyspace,
            false,
        ),
        (TestRedis::start_with(EVENTS), RedisWatch::Poll, false),
    ];
    for (number, (redis, watch, is_announced)) in cases.into_iter().enumerate() {
        fill(&redis);
        let mut source = string(&redis, watch);
        reading(&mut source).await.expect("a value");
        assert_eq!(source.holds().is_some(), is_announced, "case {number}");
        redis.cli(&["SET", "app:string", "2"]);
        if is_announced {
            soon(source.hint()).await;
        }
        assert_eq!(
            reading(&mut source).await.as_deref(),
            Ok("2"),
            "case {number}"
        );
        let subscribed = redis.cli(&["PUBSUB", "CHANNELS"]);
        assert_eq!(
            subscribed.contains("__keyspace@0__:app:string"),
            is_announced
        );
    }
}

/// EDGE R4: a user who may do nothing but read is refused once for each way and connection, and polls. One who may not see the
/// settings is told of changes, and polls as well, as nobody knows whether all are told.
#[tokio::test]
async fn few_rights_are_enough() {
    let redis = TestRedis::start_with(EVENTS);
    fill(&redis);
    let user = |name: &str, rights: &str| {
        let rights = format!("resetkeys ~app:* resetchannels -@all +get +ping {rights}");
        RedisClient::for_test(&redis.user(name, &rights))
    };
    let reader = user("reader", "");
    let mut sources: Vec<_> = (0..10)
        .map(|_| source_watching(&reader, RedisShape::String, "string", RedisWatch::Auto))
        .collect();
    for source in &mut sources {
        assert!(reading(source).await.is_ok());
        assert_eq!(source.holds(), None);
    }
    let log = redis.cli(&["ACL", "LOG"]);
    assert_eq!(log.matches("reason\ncommand\n").count(), 2, "{log}");
    assert_eq!(log.matches("count\n1\n").count(), 2, "{log}");
    drop(sources);

    let told = user("told", "&__keyspace@* +subscribe");
    let mut source = source_watching(&told, RedisShape::String, "string", RedisWatch::Keyspace);
    reading(&mut source).await.expect("a value");
    assert_eq!(source.holds(), None);
    redis.cli(&["SET", "app:string", "2"]);
    converges(&mut source, "2").await;

    // Tracking is allowed, and EXISTS is not.
    let half = user(
        "half",
        "+client|tracking &__keyspace@* +subscribe +config|get",
    );
    let mut source = source_watching(&half, RedisShape::String, "string", RedisWatch::Auto);
    reading(&mut source).await.expect("a value");
    assert!(source.holds().is_some());
    let mut source = source_watching(&half, RedisShape::String, "string", RedisWatch::Tracking);
    reading(&mut source).await.expect("a value");
    assert_eq!(source.holds(), None);
}

/// Nobody wants readings: nothing is watched, and the connection is given back.
#[tokio::test]
async fn rest_costs_nothing() {
    let redis = TestRedis::start();
    fill(&redis);
    let mut source = string(&redis, RedisWatch::Auto);
    let connections = || {
        redis
            .cli(&["CLIENT", "LIST"])
            .matches(" addr=127.0.0.1:")
            .count()
    };
    reading(&mut source).await.expect("a value");
    assert_eq!(connections(), 2);
    source.rest();
    assert_eq!(source.holds(), None);
    eventually(|| connections() == 1).await;
    redis.cli(&["SET", "app:string", "2"]);
    // Somebody wants them again: what was missed is read at once.
    converges(&mut source, "2").await;
    assert!(source.holds().is_some());
}

/// A server before Redis 6 has no pushes: it is asked once, its keys are polled, and it is left alone.
#[tokio::test]
async fn a_server_that_is_too_old_is_not_asked_again_and_again() {
    let redis = TestRedis::start_with(&["--rename-command", "HELLO", ""]);
    fill(&redis);
    let mut source = string(&redis, RedisWatch::Auto);
    assert_eq!(reading(&mut source).await.as_deref(), Ok(r#"{"a":1}"#));
    assert!(source.holds().is_none());
    eventually(|| calls(&redis, &["ping"])[0] >= 10).await;
    let errors = redis.cli(&["INFO", "stats"]);
    assert!(errors.contains("total_error_replies:1\r"), "{errors}");
    redis.cli(&["SET", "app:string", "2"]);
    assert_eq!(reading(&mut source).await.as_deref(), Ok("2"));
}
