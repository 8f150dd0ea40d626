//! Against a real server: two clients stand for two replicas.

use super::*;
use crate::source::redis_server::test_redis::TestRedis;
use crate::source::redis_server::testing::soon;
use crate::sse::EventName;
use crate::value::Value;

const PATH: &str = "/alerts/{region}";

fn message(text: &str) -> Published {
    Published {
        nonce: Nonce::new(),
        params: Params(vec!["eu".into()]),
        message: Message {
            data: Value::from_text(text),
            event: None,
        },
    }
}

async fn told(feed: &mut SharedFeed) -> Result<(Nonce, String), String> {
    match soon(feed.next()).await {
        SharedItem::Published(published) => {
            Ok((published.nonce, published.message.data.encoded().to_owned()))
        }
        SharedItem::Other(FeedItem::Refused(_)) => Err("refused".into()),
        SharedItem::Other(FeedItem::Down(error)) => Err(format!("down {}", error.cause)),
        SharedItem::Other(other) => Err(format!("{other:?}")),
    }
}

#[tokio::test]
async fn every_replica_gets_every_message_once_and_in_the_same_order() {
    let redis = TestRedis::start();
    let replicas = [0, 1].map(|_| SharedPublish::new(RedisClient::for_test(&redis.url()), PATH));
    let mut feeds = replicas.each_ref().map(SharedPublish::feed);
    for feed in &mut feeds {
        assert_eq!(told(feed).await, Err("Up".into()));
    }
    let before = connections_made(&redis);
    let publish_all = |replica: SharedPublish, name: &'static str| async move {
        let mut nonces = Vec::new();
        for index in 0..50 {
            let sent = message(&format!("{name}{index}"));
            assert_eq!(replica.publish(&sent).await.expect("sent"), 2);
            nonces.push(sent.nonce);
        }
        nonces
    };
    let [one, two] = replicas.clone();
    let (ones, twos) =
        soon(async { tokio::join!(publish_all(one, "one "), publish_all(two, "two ")) }).await;
    let mut orders = Vec::new();
    for feed in &mut feeds {
        let mut order = Vec::new();
        for _ in 0..100 {
            order.push(told(feed).await.expect("a message"));
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    // Each replica sends over one connection; the third one is that of the question.
    assert_eq!(connections_made(&redis) - before, 3);
    for (name, nonces) in [("one ", ones), ("two ", twos)] {
        let of_name = |(_, text): &&(Nonce, String)| text.starts_with(name);
        let (got, texts): (Vec<_>, Vec<_>) = orders[0].iter().filter(of_name).cloned().unzip();
        let expected: Vec<_> = (0..50).map(|index| format!("{name}{index}")).collect();
        assert_eq!((got, texts), (nonces, expected));
    }
}

fn connections_made(redis: &TestRedis) -> u32 {
    let stats = redis.cli(&["INFO", "stats"]);
    let made = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    made.and_then(|count| count.trim().parse().ok())
        .expect("a number")
}

#[tokio::test]
async fn all_of_a_message_arrives_and_foreign_ones_are_refused() {
    let redis = TestRedis::start();
    let shared = SharedPublish::new(RedisClient::for_test(&redis.url()), PATH);
    let mut feed = shared.feed();
    assert_eq!(told(&mut feed).await, Err("Up".into()));
    redis.cli(&["PUBLISH", "wellspring:publish:/alerts/{region}", "garbage"]);
    redis.cli(&["PUBLISH", "wellspring:publish:/alerts", "of another stream"]);
    let mut sent = message("");
    sent.message.data = Value::parse_json(b"{\"level\": 1.10}").expect("JSON");
    sent.message.event = Some(EventName::parse("alert").expect("a name"));
    assert_eq!(soon(shared.publish(&sent)).await.expect("sent"), 1);
    assert_eq!(told(&mut feed).await, Err("refused".into()));
    match soon(feed.next()).await {
        SharedItem::Published(got) => {
            assert_eq!(got.message.data.encoded(), r#"{"level":1.10}"#);
            assert_eq!(got, sent);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_shared_is_an_error() {
    let mut redis = TestRedis::start();
    let shared = SharedPublish::new(RedisClient::for_test(&redis.url()), PATH);
    let large = soon(shared.publish(&message(&"x".repeat(MAX_BYTES)))).await;
    assert_eq!(large.expect_err("too large").cause, Cause::TooLarge);
    let unheard = soon(shared.publish(&message("to nobody"))).await;
    assert_eq!(unheard.expect("sent"), 0);

    let mut feed = shared.feed();
    assert_eq!(told(&mut feed).await, Err("Up".into()));
    redis.kill();
    assert_eq!(told(&mut feed).await, Err("down redis".into()));
    let failed = soon(shared.publish(&message("x"))).await;
    assert_eq!(failed.expect_err("no server").cause, Cause::Redis);
    redis.restart();
    assert_eq!(told(&mut feed).await, Err("Up".into()));
    // The connection for sending comes back by itself as well.
    let sent = message("again");
    soon(async {
        while shared.publish(&sent).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(told(&mut feed).await, Ok((sent.nonce, "again".into())));
}
