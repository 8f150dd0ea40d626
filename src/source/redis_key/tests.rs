//! Against a real server.

mod tls;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::RedisServer;
use crate::params::{ParamText, Part};
use crate::source::Cause;
use crate::source::redis_server::test_redis::TestRedis;
use crate::source::testing::{eventually, soon};

const SHAPES: [RedisShape; 5] = [
    RedisShape::String,
    RedisShape::Hash,
    RedisShape::List,
    RedisShape::Set,
    RedisShape::SortedSet,
];

fn source(client: &RedisClient, shape: RedisShape, key: &str) -> RedisKeySource {
    source_watching(client, shape, key, RedisWatch::Poll)
}

pub(super) fn source_watching(
    client: &RedisClient,
    shape: RedisShape,
    key: &str,
    watch: RedisWatch,
) -> RedisKeySource {
    let spec = config::RedisKeySource {
        server: Arc::new(RedisServer::of("main", "redis://unused").expect("a URL")),
        shape,
        key: ParamText(vec![Part::Literal("app:".into()), Part::Param(0)]),
        watch,
        format: RedisFormat::Auto,
    };
    RedisKeySource::new(client.clone(), spec, &Params::from(vec![key.into()]))
}

/// What one reading gave, or the cause.
pub(super) async fn reading(source: &mut RedisKeySource) -> Result<String, Cause> {
    match soon(source.read()).await {
        Ok(Answer {
            reading: Reading::Value(value),
            ..
        }) => Ok(value.encoded().to_owned()),
        Ok(Answer { reading, .. }) => Ok(format!("{reading:?}")),
        Err(error) => Err(error.cause),
    }
}

async fn error(source: &mut RedisKeySource) -> SourceError {
    soon(source.read()).await.expect_err("no value")
}

pub(super) fn fill(redis: &TestRedis) {
    redis.cli(&["SET", "app:string", "{\"a\": 1}"]);
    redis.cli(&["HSET", "app:hash", "b", "2", "a", "1"]);
    redis.cli(&["RPUSH", "app:list", "z", "a"]);
    redis.cli(&["SADD", "app:set", "c", "a", "b"]);
    redis.cli(&["ZADD", "app:zset", "2.5", "b", "-inf", "a"]);
}

const FILLED: [(&str, &str); 5] = [
    ("string", r#"{"a":1}"#),
    ("hash", r#"{"a":"1","b":"2"}"#),
    ("list", r#"["z","a"]"#),
    ("set", r#"["a","b","c"]"#),
    (
        "zset",
        r#"[{"member":"a","score":"-inf"},{"member":"b","score":2.5}]"#,
    ),
];

#[tokio::test]
async fn every_shape_is_read_and_unchanged_bytes_are_noticed() {
    let redis = TestRedis::start();
    fill(&redis);
    for url in [redis.url(), redis.unix_url()] {
        let client = RedisClient::for_test(&url);
        for (shape, (key, expected)) in SHAPES.into_iter().zip(FILLED) {
            let mut source = source(&client, shape, key);
            assert_eq!(reading(&mut source).await.as_deref(), Ok(expected));
            assert_eq!(reading(&mut source).await.as_deref(), Ok("Unchanged"));
        }
    }
    // In another order on the server, but the same.
    let client = RedisClient::for_test(&redis.url());
    let mut set = source(&client, RedisShape::Set, "set");
    reading(&mut set).await.expect("a value");
    redis.cli(&["DEL", "app:set"]);
    redis.cli(&["SADD", "app:set", "b", "c", "a"]);
    assert_eq!(reading(&mut set).await.as_deref(), Ok("Unchanged"));
}

#[tokio::test]
async fn a_key_may_vanish_and_come_back_as_it_was() {
    let redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut string = source(&client, RedisShape::String, "string");
    assert_eq!(reading(&mut string).await.as_deref(), Ok("Absent"));
    redis.cli(&["SET", "app:string", ""]);
    assert_eq!(reading(&mut string).await.as_deref(), Ok(""));
    redis.cli(&["DEL", "app:string"]);
    assert_eq!(reading(&mut string).await.as_deref(), Ok("Absent"));
    redis.cli(&["SET", "app:string", ""]);
    assert_eq!(reading(&mut string).await.as_deref(), Ok(""));
    for shape in SHAPES {
        assert_eq!(
            reading(&mut source(&client, shape, "none"))
                .await
                .as_deref(),
            Ok("Absent")
        );
    }
}

/// The module is not at hand; a renamed HGET takes and gives the same as JSON.GET with a path.
#[tokio::test]
async fn a_document_is_asked_for_by_its_root() {
    let redis = TestRedis::start_with(&["--rename-command", "HGET", "JSON.GET"]);
    redis.cli(&["HSET", "app:doc", ".", "{\"b\": 1.10, \"a\": [1]}"]);
    let client = RedisClient::for_test(&redis.url());
    let mut document = source(&client, RedisShape::Json, "doc");
    assert_eq!(
        reading(&mut document).await.as_deref(),
        Ok(r#"{"b":1.10,"a":[1]}"#)
    );
    assert_eq!(
        reading(&mut source(&client, RedisShape::Json, "none"))
            .await
            .as_deref(),
        Ok("Absent")
    );
}

/// EDGE R5, R8: wrong types, bytes that are no text, and sizes have causes, and trouble nobody else on the connection.
#[tokio::test]
async fn what_is_no_value_has_a_cause() {
    let redis = TestRedis::start();
    fill(&redis);
    redis.cli(&["SETBIT", "app:binary", "0", "1"]);
    redis.cli(&["SETRANGE", "app:large", "1048576", "x"]);
    redis.cli(&["SETRANGE", "app:full", "1048575", "x"]);
    redis.cli(&[
        "EVAL",
        "for i = 1, 110000 do redis.call('RPUSH', 'app:long', i) end",
        "0",
    ]);
    let client = RedisClient::for_test(&redis.url());
    let cases = [
        (RedisShape::String, "list", Cause::Redis),
        (RedisShape::SortedSet, "hash", Cause::Redis),
        (RedisShape::Json, "string", Cause::Redis),
        (RedisShape::String, "binary", Cause::Malformed),
        (RedisShape::String, "large", Cause::TooLarge),
        (RedisShape::List, "long", Cause::TooLarge),
    ];
    let mut steady = source(&client, RedisShape::String, "string");
    reading(&mut steady).await.expect("a value");
    for (shape, key, cause) in cases {
        let mut source = source(&client, shape, key);
        let (failed, other) = tokio::join!(reading(&mut source), reading(&mut steady));
        assert_eq!(
            (failed, other.as_deref()),
            (Err(cause), Ok("Unchanged")),
            "{key}"
        );
    }
    let full = reading(&mut source(&client, RedisShape::String, "full"))
        .await
        .expect("a value");
    assert_eq!(full.len(), 1024 * 1024);
    // Nothing of this cost the connection.
    assert_eq!(connections(&redis), 1);
}

/// EDGE R1, R5: commands are arrays of bulk strings, and a server that loads its data is down, not wrong.
#[tokio::test]
async fn a_loading_server_is_waited_for_and_commands_are_arrays() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("bound"));
    let (loaded, is_loading) = tokio::sync::watch::channel(());
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut request = [0; 1000];
            while let Ok(length @ 1..) = stream.read(&mut request).await {
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let answer = match () {
                    () if !is_loading.has_changed().unwrap_or(true) => {
                        "-LOADING Redis is loading the dataset in memory\r\n"
                    }
                    () if request.contains("GET") => "$2\r\n42\r\n",
                    () => "+PONG\r\n",
                };
                let is_last = request.contains("GET");
                seen.push(request);
                stream.write_all(answer.as_bytes()).await.expect("written");
                if is_last {
                    return seen;
                }
            }
        }
    });
    let client = RedisClient::for_test(&url);
    let mut source = source(&client, RedisShape::String, "key");
    let failed = error(&mut source).await;
    assert_eq!(failed.cause, Cause::Redis);
    assert!(failed.detail.contains("says LOADING: "), "{failed}");
    loaded.send(()).expect("the server waits");
    soon(source.hint()).await;
    assert_eq!(reading(&mut source).await.as_deref(), Ok("42"));
    let seen = soon(server).await.expect("no panic");
    assert!(
        seen.contains(&"*2\r\n$3\r\nGET\r\n$7\r\napp:key\r\n".to_owned()),
        "{seen:?}"
    );
    assert!(
        seen.iter().all(|request| request.starts_with('*')),
        "{seen:?}"
    );
}

/// EDGE R4: a user who may do nothing but read the keys of one prefix. What is denied beside that leaves one trace.
#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let redis = TestRedis::start();
    fill(&redis);
    let rights = "resetkeys ~app:* resetchannels &news* -@all +get +hgetall +lrange +smembers +zrange +subscribe +psubscribe";
    let client = RedisClient::for_test(&redis.user("bob", rights));
    let mut sources: Vec<_> = SHAPES
        .into_iter()
        .zip(FILLED)
        .map(|(shape, (key, _))| source(&client, shape, key))
        .collect();
    for (source, (_, expected)) in sources.iter_mut().zip(FILLED) {
        assert_eq!(reading(source).await.as_deref(), Ok(expected));
    }
    // The connection is asked for life in a way that everybody may.
    eventually(|| redis.cli(&["CLIENT", "LIST"]).contains("cmd=hello")).await;
    let log = redis.cli(&["ACL", "LOG"]);
    assert_eq!(log.matches("count\n1\n").count(), 1, "{log}");
    assert_eq!(log.matches("object\nping\n").count(), 1, "{log}");

    redis.cli(&["ACL", "SETUSER", "bob", "resetkeys", "~other:*"]);
    let denied = error(&mut sources[0]).await;
    assert_eq!(denied.cause, Cause::Unauthorized);
    redis.cli(&["ACL", "SETUSER", "bob", "allkeys"]);
    assert_eq!(reading(&mut sources[0]).await.as_deref(), Ok("Unchanged"));
}

/// EDGE R7, O3: a login that fails says so, and not with what.
#[tokio::test]
async fn failed_logins_are_unauthorized_and_show_no_password() {
    let redis = TestRedis::start_with(&["--requirepass", "hunter2"]);
    fill(&redis);
    let port = redis.port();
    for user in ["", ":hunter3@", "bob:hunter2@"] {
        let client = RedisClient::for_test(&format!("redis://{user}127.0.0.1:{port}"));
        let denied = error(&mut source(&client, RedisShape::String, "string")).await;
        assert_eq!(denied.cause, Cause::Unauthorized, "{denied}");
        assert!(
            !format!("{denied} {denied:?}").contains("hunter"),
            "{denied:?}"
        );
    }
    let client = RedisClient::for_test(&format!("redis://:hunter2@127.0.0.1:{port}"));
    assert!(
        reading(&mut source(&client, RedisShape::String, "string"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_url_names_the_database() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "app:string", "zero"]);
    redis.cli(&["MOVE", "app:string", "3"]);
    let other = RedisClient::for_test(&redis.url());
    assert_eq!(
        reading(&mut source(&other, RedisShape::String, "string"))
            .await
            .as_deref(),
        Ok("Absent")
    );
    let client = RedisClient::for_test(&format!("{}/3", redis.url()));
    assert_eq!(
        reading(&mut source(&client, RedisShape::String, "string"))
            .await
            .as_deref(),
        Ok("zero")
    );
}

/// One connection, however many read at once; none when nobody does.
#[tokio::test]
async fn all_sources_of_a_server_share_one_connection() {
    let redis = TestRedis::start();
    fill(&redis);
    let client = RedisClient::for_test(&redis.url());
    let mut sources: Vec<_> = (0..200)
        .map(|_| source(&client, RedisShape::Hash, "hash"))
        .collect();
    let readings = join_all(sources.iter_mut().map(reading)).await;
    assert!(readings.iter().all(Result::is_ok), "{readings:?}");
    assert_eq!(connections(&redis), 1);
    sources.truncate(1);
    assert_eq!(reading(&mut sources[0]).await.as_deref(), Ok("Unchanged"));
    drop(sources);
    eventually(|| connections(&redis) == 0).await;
    assert!(
        reading(&mut source(&client, RedisShape::Hash, "hash"))
            .await
            .is_ok()
    );
}

fn connections(redis: &TestRedis) -> usize {
    redis
        .cli(&["CLIENT", "LIST"])
        .matches(" addr=127.0.0.1:")
        .count()
}

/// EDGE R6: a server that went away is noticed at once, and what it holds after its return is read without waiting for a poll.
#[tokio::test]
async fn after_a_restart_everybody_converges() {
    let mut redis = TestRedis::start();
    fill(&redis);
    let client = RedisClient::for_test(&redis.url());
    let mut sources: Vec<_> = (0..20)
        .map(|_| source(&client, RedisShape::String, "string"))
        .collect();
    for source in &mut sources {
        assert_eq!(reading(source).await.as_deref(), Ok(r#"{"a":1}"#));
    }
    for round in ["second life", "third life"] {
        redis.kill();
        let began = Instant::now();
        for source in &mut sources {
            assert_eq!(error(source).await.cause, Cause::Redis);
        }
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "fails at once: {:?}",
            began.elapsed()
        );
        redis.restart();
        redis.cli(&["SET", "app:string", round]);
        soon(join_all(sources.iter_mut().map(Source::hint))).await;
        for source in &mut sources {
            assert_eq!(reading(source).await.as_deref(), Ok(round));
        }
    }
    // Nobody is hinted at what was read already.
    let hints = join_all(sources.iter_mut().map(Source::hint));
    assert!(
        tokio::time::timeout(Duration::from_millis(100), hints)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_server_that_was_never_there_is_found_when_it_comes() {
    let mut redis = TestRedis::start();
    redis.kill();
    let client = RedisClient::for_test(&redis.url());
    let mut string = source(&client, RedisShape::String, "string");
    assert_eq!(error(&mut string).await.cause, Cause::Redis);
    redis.restart();
    redis.cli(&["SET", "app:string", "here"]);
    soon(string.hint()).await;
    assert_eq!(reading(&mut string).await.as_deref(), Ok("here"));
}

/// A frozen server breaks no connection: only questions without answers show it.
#[tokio::test]
async fn a_frozen_server_is_noticed_and_left() {
    let redis = TestRedis::start();
    fill(&redis);
    let client = RedisClient::for_test(&redis.url());
    let mut string = source(&client, RedisShape::String, "string");
    reading(&mut string).await.expect("a value");
    redis.pause();
    assert_eq!(error(&mut string).await.cause, Cause::Timeout);
    // The first readings wait for answers; soon none does any more.
    soon(async {
        loop {
            let began = Instant::now();
            assert_eq!(error(&mut string).await.cause, Cause::Timeout);
            if began.elapsed() < Duration::from_millis(100) {
                break;
            }
        }
    })
    .await;
    redis.resume();
    redis.cli(&["SET", "app:string", "thawed"]);
    soon(string.hint()).await;
    assert_eq!(reading(&mut string).await.as_deref(), Ok("thawed"));
}

/// A dropped reading leaves the source usable, and the answer that it did not wait for goes to nobody else.
#[tokio::test]
async fn reading_is_cancel_safe() {
    let redis = TestRedis::start();
    fill(&redis);
    let client = RedisClient::for_test(&redis.url());
    let mut list = source(&client, RedisShape::List, "list");
    let mut string = source(&client, RedisShape::String, "string");
    reading(&mut string).await.expect("a value");
    redis.pause();
    tokio::select! {
        biased;
        _ = list.read() => panic!("the server is frozen"),
        () = tokio::task::yield_now() => {}
    }
    redis.resume();
    assert_eq!(reading(&mut string).await.as_deref(), Ok("Unchanged"));
    assert_eq!(reading(&mut list).await.as_deref(), Ok(r#"["z","a"]"#));
}
