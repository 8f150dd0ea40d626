//! A stream against a real server.

use super::*;
use crate::config::{RedisFormat, RedisServer};
use crate::params::{ParamText, Part};
use crate::source::redis_server::test_redis::TestRedis;
use crate::source::testing::{soon, told};

const EVERY: Duration = Duration::from_millis(50);

fn spec(format: RedisFormat) -> config::RedisStreamSource {
    config::RedisStreamSource {
        server: Arc::new(RedisServer::of("main", "redis://unused").expect("a URL")),
        stream: ParamText(vec![Part::Literal("s".into())]),
        format,
    }
}

fn open(redis: &TestRedis) -> StreamFeed {
    open_as(&redis.url(), RedisFormat::Auto)
}

fn open_as(url: &str, format: RedisFormat) -> StreamFeed {
    let client = RedisClient::for_test(url);
    StreamFeed::new(&client, &spec(format), &Params::default(), EVERY)
}

fn archive(redis: &TestRedis) -> StreamArchive {
    let client = RedisClient::for_test(&redis.url());
    StreamArchive::new(&client, &spec(RedisFormat::Auto), &Params::default())
}

fn id(text: &str) -> EntryId {
    EntryId::parse(text.as_bytes()).expect(text)
}

async fn past(archive: &StreamArchive, after: &str, extent: Extent) -> Option<(Vec<String>, bool)> {
    match soon(archive.after(id(after), extent))
        .await
        .expect("answers")
    {
        Past::Unknown => None,
        Past::Entries {
            entries, is_all, ..
        } => Some((
            entries.into_iter().map(|(id, _)| id.to_string()).collect(),
            is_all,
        )),
    }
}

fn add(redis: &TestRedis, id: &str, value: &str) -> String {
    redis.cli(&["XADD", "s", id, "v", value])
}

/// CONTRACT §6: an object of the fields, in their order; of a field that stands twice the last value.
#[tokio::test]
async fn entries_are_objects_of_their_fields() {
    let redis = TestRedis::start();
    add(&redis, "4-1", "old");
    let mut feed = open(&redis);
    assert_eq!(told(&mut feed).await, "from 4-1");
    redis.cli(&["XADD", "s", "5-1", "b", "1", "a", "[2]", "b", "3"]);
    assert_eq!(told(&mut feed).await, r#"5-1 {"b":"3","a":"[2]"}"#);

    let mut feed = open_as(&redis.url(), RedisFormat::Json);
    assert_eq!(told(&mut feed).await, "from 5-1");
    redis.cli(&["XADD", "s", "5-2", "b", "1.50", "a", "[2]"]);
    redis.cli(&["XADD", "s", "5-3", "b", "no json"]);
    redis.cli(&["XADD", "s", "5-4", "b", "null"]);
    assert_eq!(told(&mut feed).await, r#"5-2 {"b":1.50,"a":[2]}"#);
    assert!(told(&mut feed).await.starts_with("refused"));
    assert_eq!(told(&mut feed).await, r#"5-4 {"b":null}"#);
}

/// What was added while the connection was made is new, and nothing else.
#[test]
fn what_is_new_is_told_by_the_clock_of_the_server() {
    let (now, since) = (Duration::from_millis(1000), Duration::from_millis(30));
    for (last, start) in [
        ("0-0", "0-0"),
        ("5-1", "5-1"),
        ("969-3", "969-3"),
        ("970-0", "969-18446744073709551615"),
        ("1000-7", "969-18446744073709551615"),
        ("1001-0", "1001-0"),
    ] {
        let found = entries::new_since(id(last), now, since);
        assert_eq!(found, id(start), "{last}");
    }
}

/// The same with a server: nobody is connected yet when the entry is added.
#[tokio::test]
async fn an_entry_of_the_first_moment_is_not_missed() {
    let redis = TestRedis::start();
    add(&redis, "*", "old");
    tokio::time::sleep(Duration::from_millis(3)).await;
    let mut feed = open(&redis);
    tokio::time::sleep(Duration::from_millis(3)).await;
    let new = add(&redis, "*", "new");
    assert!(told(&mut feed).await.starts_with("from "));
    assert_eq!(told(&mut feed).await, format!(r#"{new} {{"v":"new"}}"#));
}

/// Whatever happened to the stream, nothing is told twice.
#[test]
fn a_stream_that_went_back_is_told_from_one_that_is_another() {
    let told = VecDeque::from(["4-0", "5-1", "7-1", "9-1"].map(id));
    for (last, start) in [
        // Of a fail-over to a server that did not have the newest ones yet.
        ("7-1", "7-1"),
        ("5-1", "5-1"),
        ("4-0", "4-0"),
        ("3-1", "3-1"),
        // Deleted and begun anew.
        ("0-0", "0-0"),
        ("6-1", "0-0"),
        ("4-1", "0-0"),
    ] {
        assert_eq!(start_anew(&told, id(last)), id(start), "{last}");
    }
}

/// A stream that is begun anew has smaller ids, and is followed from its beginning.
#[tokio::test]
async fn a_stream_that_begins_anew_is_followed() {
    let redis = TestRedis::start();
    let mut feed = open(&redis);
    assert_eq!(told(&mut feed).await, "from 0-0");
    add(&redis, "7-1", "a");
    assert_eq!(told(&mut feed).await, r#"7-1 {"v":"a"}"#);
    for command in [&["DEL", "s"][..], &["FLUSHALL"]] {
        redis.cli(command);
        assert_eq!(told(&mut feed).await, "from 0-0");
        add(&redis, "1-1", "b");
        assert_eq!(told(&mut feed).await, r#"1-1 {"v":"b"}"#);
    }
    // The same stream, of which nothing is left.
    redis.cli(&["XTRIM", "s", "MAXLEN", "0"]);
    add(&redis, "2-1", "c");
    assert_eq!(told(&mut feed).await, r#"2-1 {"v":"c"}"#);
    redis.cli(&["XDEL", "s", "2-1"]);
    add(&redis, "3-1", "d");
    assert_eq!(told(&mut feed).await, r#"3-1 {"v":"d"}"#);
}

/// EDGE R5, R8: an entry larger than 1 MiB cannot be given to anybody; those around it are.
#[tokio::test]
async fn an_entry_that_is_too_large_is_left_out() {
    let redis = TestRedis::start();
    let mut feed = open(&redis);
    assert_eq!(told(&mut feed).await, "from 0-0");
    let large = "x".repeat(600 * 1024);
    let huge = "x".repeat(1024 * 1024 + 1);
    add(&redis, "1-1", &large);
    add(&redis, "1-2", &large);
    assert!(told(&mut feed).await.starts_with("1-1 "));
    assert!(told(&mut feed).await.starts_with("1-2 "));
    add(&redis, "2-1", &huge);
    assert_eq!(told(&mut feed).await, "down too-large");
    add(&redis, "2-2", "a");
    assert_eq!(told(&mut feed).await, "resumed");
    assert!(told(&mut feed).await.starts_with("refused an entry"));
    assert_eq!(told(&mut feed).await, r#"2-2 {"v":"a"}"#);
    // Of the past, nobody can say what stands where it stood.
    let archive = archive(&redis);
    assert_eq!(past(&archive, "1-2", Extent::Page).await, None);
    assert_eq!(
        past(&archive, "2-1", Extent::Page).await,
        Some((vec!["2-2".into()], true))
    );
}

/// EDGE R5: what is no stream, and what is not allowed, are named causes; both pass.
#[tokio::test]
async fn what_cannot_be_read_is_named_and_tried_again() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "s", "no stream"]);
    let mut feed = open(&redis);
    assert_eq!(told(&mut feed).await, "down redis");
    redis.cli(&["DEL", "s"]);
    add(&redis, "1-1", "a");
    assert_eq!(told(&mut feed).await, "from 1-1");
    redis.cli(&["SET", "s", "no stream"]);
    assert_eq!(told(&mut feed).await, "down redis");
    redis.cli(&["DEL", "s"]);
    assert_eq!(told(&mut feed).await, "from 0-0");
}

/// EDGE R4: a user who may read the stream and nothing else; nothing is announced to him.
#[tokio::test]
async fn rights_to_read_are_enough() {
    let redis = TestRedis::start();
    let url = redis.user("reader", "~s +xrange +xrevrange +xinfo|stream");
    let mut feed = open_as(&url, RedisFormat::Auto);
    assert_eq!(told(&mut feed).await, "from 0-0");
    add(&redis, "1-1", "a");
    assert_eq!(told(&mut feed).await, r#"1-1 {"v":"a"}"#);
    redis.cli(&["ACL", "SETUSER", "reader", "-xrange"]);
    assert_eq!(told(&mut feed).await, "down unauthorized");
    redis.cli(&["ACL", "SETUSER", "reader", "+xrange"]);
    assert_eq!(told(&mut feed).await, "resumed");
}

/// EDGE L8, L9: an id is known as long as the stream can say what came after it.
#[tokio::test]
async fn the_past_knows_what_it_has() {
    let redis = TestRedis::start();
    let archive = archive(&redis);
    let known = |after: &'static str| past(&archive, after, Extent::Page);
    assert_eq!(known("5-0").await, None, "no such key");
    for number in 1..=6 {
        add(&redis, &format!("{number}-1"), "a");
    }
    redis.cli(&["XTRIM", "s", "MINID", "3-1"]);
    redis.cli(&["XDEL", "s", "4-1", "6-1"]);
    let entries = |ids: &[&str]| Some((ids.iter().map(ToString::to_string).collect(), true));
    for trimmed in ["0-0", "1-1", "2-1", "2-9"] {
        assert_eq!(known(trimmed).await, None, "{trimmed}");
    }
    assert_eq!(known("3-1").await, entries(&["5-1"]));
    assert_eq!(known("4-1").await, entries(&["5-1"]), "deleted on its own");
    assert_eq!(known("5-1").await, entries(&[]));
    assert_eq!(known("6-1").await, entries(&[]), "the newest, deleted");
    assert_eq!(known("6-2").await, None, "of the future");
    assert_eq!(
        known("18446744073709551615-18446744073709551615").await,
        None
    );
    redis.cli(&["XTRIM", "s", "MAXLEN", "0"]);
    assert_eq!(known("6-1").await, None, "all trimmed");
}

/// The past comes in pages, of so many entries and of so many bytes.
#[tokio::test]
async fn the_past_comes_in_pages() {
    let redis = TestRedis::start();
    let archive = archive(&redis);
    for number in 0..300 {
        add(&redis, &format!("{number}-1"), "a");
    }
    let (ids, is_all) = past(&archive, "0-1", Extent::Page).await.expect("known");
    assert_eq!((ids.len(), is_all), (BATCH, false));
    assert_eq!((ids[0].as_str(), ids[127].as_str()), ("1-1", "128-1"));
    let (ids, is_all) = past(&archive, "171-1", Extent::Page).await.expect("known");
    assert_eq!((ids.len(), is_all), (128, false), "there may be more");
    let (ids, is_all) = past(&archive, "172-1", Extent::Page).await.expect("known");
    assert_eq!((ids.len(), is_all), (127, true));
    assert_eq!(
        past(&archive, "0-1", Extent::Newest).await,
        Some((vec!["299-1".into()], true))
    );
    for number in 300..310 {
        add(&redis, &format!("{number}-1"), &"x".repeat(100_000));
    }
    let (ids, is_all) = past(&archive, "299-1", Extent::Page).await.expect("known");
    assert_eq!((ids.len(), is_all), (3, false));
    let (ids, is_all) = past(&archive, "307-1", Extent::Page).await.expect("known");
    assert_eq!((ids.len(), is_all), (2, true));
}
