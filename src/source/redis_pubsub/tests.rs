//! Against a real server.

use std::sync::Arc;

use super::*;
use crate::config::RedisServer;
use crate::params::{ParamText, Part};
use crate::source::Cause;
use crate::source::redis_server::test_redis::TestRedis;
use crate::source::testing::{eventually, soon, told};

fn feed(client: &RedisClient, channel: PubSubName) -> PubSubFeed {
    feed_of(client, channel, Envelope::None, RedisFormat::Auto)
}

fn feed_of(
    client: &RedisClient,
    channel: PubSubName,
    envelope: Envelope,
    format: RedisFormat,
) -> PubSubFeed {
    let server = Arc::new(RedisServer::of("main", "redis://unused").expect("a URL"));
    let spec = config::RedisPubSubSource {
        server,
        channel,
        envelope,
        format,
    };
    PubSubFeed::new(client.clone(), spec, &Params::from(vec!["eu".into()]))
}

/// `news:eu`, through a parameter.
fn channel() -> PubSubName {
    PubSubName::Channel(ParamText(vec![
        Part::Literal("news:".into()),
        Part::Param(0),
    ]))
}

fn pattern(text: &str) -> PubSubName {
    PubSubName::Pattern(text.into())
}

fn subscribers(redis: &TestRedis, channel: &str) -> String {
    redis
        .cli(&["PUBSUB", "NUMSUB", channel])
        .lines()
        .nth(1)
        .expect("a number")
        .to_owned()
}

#[tokio::test]
async fn messages_arrive_in_order_in_their_formats() {
    let redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut auto = feed(&client, channel());
    let mut json = feed_of(
        &client,
        pattern("news:*"),
        Envelope::None,
        RedisFormat::Json,
    );
    let mut text = feed_of(&client, pattern("n*"), Envelope::None, RedisFormat::Text);
    let mut flask = feed_of(&client, channel(), Envelope::FlaskSse, RedisFormat::Auto);
    for feed in [&mut auto, &mut json, &mut text, &mut flask] {
        assert_eq!(told(feed).await, "up");
    }
    for message in ["{\"data\": [1.10], \"type\": \"price\"}", "plain", ""] {
        redis.cli(&["PUBLISH", "news:eu", message]);
    }
    redis.cli(&["EVAL", "redis.call('PUBLISH', 'news:eu', '\\255')", "0"]);
    assert_eq!(
        told(&mut auto).await,
        r#"json {"data":[1.10],"type":"price"}"#
    );
    assert_eq!(told(&mut auto).await, "text plain");
    assert_eq!(told(&mut auto).await, "text ");
    assert!(told(&mut auto).await.starts_with("refused "));

    assert_eq!(
        told(&mut json).await,
        r#"json {"data":[1.10],"type":"price"}"#
    );
    assert!(told(&mut json).await.starts_with("refused "));

    assert_eq!(
        told(&mut text).await,
        "text {\"data\": [1.10], \"type\": \"price\"}"
    );

    assert_eq!(told(&mut flask).await, "price: json [1.10]");
    for _ in 0..3 {
        assert!(told(&mut flask).await.starts_with("refused "));
    }
}

/// One subscription a channel and process, given up with the last feed.
#[tokio::test]
async fn feeds_of_a_channel_share_its_subscription() {
    let redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut feeds: Vec<_> = (0..50).map(|_| feed(&client, channel())).collect();
    let mut other = feed(&client, pattern("other*"));
    for feed in feeds.iter_mut().chain([&mut other]) {
        assert_eq!(told(feed).await, "up");
    }
    assert_eq!(subscribers(&redis, "news:eu"), "1");
    redis.cli(&["PUBLISH", "news:eu", "a"]);
    for feed in &mut feeds {
        assert_eq!(told(feed).await, "text a");
    }
    drop(feeds);
    eventually(|| subscribers(&redis, "news:eu") == "0").await;
    assert_eq!(redis.cli(&["PUBSUB", "NUMPAT"]), "1");

    let mut again = feed(&client, channel());
    assert_eq!(told(&mut again).await, "up");
    redis.cli(&["PUBLISH", "news:eu", "b"]);
    assert_eq!(told(&mut again).await, "text b");
    drop((again, other));
    eventually(|| !redis.cli(&["CLIENT", "LIST"]).contains(" addr=127.0.0.1:")).await;
}

/// EDGE R6: whoever was up is told of the gap, and is up again only when nothing can be missed any more.
#[tokio::test]
async fn after_a_restart_all_is_subscribed_before_it_is_up() {
    let mut redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut feeds: Vec<_> = (0..30)
        .map(|index| feed(&client, pattern(&format!("*{index}"))))
        .collect();
    for feed in &mut feeds {
        assert_eq!(told(feed).await, "up");
    }
    for _ in 0..2 {
        redis.kill();
        for feed in &mut feeds {
            assert_eq!(told(feed).await, "down redis");
        }
        let mut late = feed(&client, channel());
        assert_eq!(told(&mut late).await, "down redis");
        redis.restart();
        for (index, feed) in feeds.iter_mut().enumerate() {
            assert_eq!(told(feed).await, "up");
            let name = format!("a{index}");
            redis.cli(&["PUBLISH", &name, &name]);
        }
        for (index, feed) in feeds.iter_mut().enumerate() {
            // `*1` matches a11 and a21 as well.
            let name = format!("text a{index}");
            while told(feed).await != name {}
        }
        assert_eq!(told(&mut late).await, "up");
        drop(feeds);
        feeds = (0..30)
            .map(|index| feed(&client, pattern(&format!("*{index}"))))
            .collect();
        for feed in &mut feeds {
            assert_eq!(told(feed).await, "up");
        }
    }
}

#[tokio::test]
async fn a_frozen_server_takes_its_feeds_down() {
    let redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut news = feed(&client, channel());
    assert_eq!(told(&mut news).await, "up");
    redis.pause();
    assert_eq!(told(&mut news).await, "down timeout");
    redis.resume();
    assert_eq!(told(&mut news).await, "up");
    redis.cli(&["PUBLISH", "news:eu", "a"]);
    assert_eq!(told(&mut news).await, "text a");
}

/// EDGE R8: a message over 1 MiB is dropped alone.
#[tokio::test]
async fn large_messages_are_refused() {
    let redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut news = feed(&client, channel());
    let mut all = feed(&client, pattern("*"));
    assert_eq!(
        (told(&mut news).await, told(&mut all).await),
        ("up".into(), "up".into())
    );
    redis.cli(&["PUBLISH", "news:eu", &"x".repeat(1024 * 1024 + 1)]);
    redis.cli(&["PUBLISH", "news:eu", &"x".repeat(1024 * 1024)]);
    for feed in [&mut news, &mut all] {
        assert_eq!(told(feed).await, "refused a message larger than 1 MiB");
        assert_eq!(told(feed).await.len(), "text ".len() + 1024 * 1024);
    }
}

/// EDGE R8: a feed that nobody asks holds a bounded number of messages, and holds up nobody.
#[tokio::test]
async fn a_slow_listener_loses_the_oldest_and_is_told() {
    let redis = TestRedis::start();
    let client = RedisClient::for_test(&redis.url());
    let mut slow = feed(&client, channel());
    let mut end = feed(&client, pattern("end"));
    assert_eq!(
        (told(&mut slow).await, told(&mut end).await),
        ("up".into(), "up".into())
    );
    redis.cli(&[
        "EVAL",
        "for i = 1, 3000 do redis.call('PUBLISH', 'news:eu', i) end",
        "0",
    ]);
    redis.cli(&["PUBLISH", "end", "now"]);
    assert_eq!(told(&mut end).await, "text now");
    assert_eq!(
        told(&mut slow).await,
        "missed 1976 messages came faster than they were taken"
    );
    for expected in 1977..=3000 {
        assert_eq!(told(&mut slow).await, format!("json {expected}"));
    }
}

/// EDGE R4, R5: a channel that the user may not have is down alone; a user who may not unsubscribe still can subscribe again.
#[tokio::test]
async fn rights_decide_channel_by_channel() {
    let redis = TestRedis::start();
    let rights = "resetchannels &news:* &patterns* -@all +subscribe +psubscribe";
    let client = RedisClient::for_test(&redis.user("bob", rights));
    let mut news = feed(&client, channel());
    let mut patterns = feed(&client, pattern("patterns*"));
    let mut secret = feed(&client, pattern("secret*"));
    assert_eq!(told(&mut news).await, "up");
    assert_eq!(told(&mut patterns).await, "up");
    assert_eq!(told(&mut secret).await, "down unauthorized");
    drop(news);
    eventually(|| redis.cli(&["ACL", "LOG"]).contains("object\nunsubscribe\n")).await;
    let mut again = feed(&client, channel());
    assert_eq!(told(&mut again).await, "up");
    redis.cli(&["PUBLISH", "news:eu", "a"]);
    assert_eq!(told(&mut again).await, "text a");
}

/// EDGE R7: a server that quotes the login in its error does not bring the password into the log.
#[tokio::test]
async fn a_server_without_hello_is_down_and_the_password_stays_unseen() {
    let redis =
        TestRedis::start_with(&["--requirepass", "hunter2", "--rename-command", "HELLO", ""]);
    let client = RedisClient::for_test(&redis.url().replace("redis://", "redis://:hunter2@"));
    let mut news = feed(&client, channel());
    match soon(news.next()).await {
        FeedItem::Down(error) => {
            assert_eq!(error.cause, Cause::Redis);
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}
