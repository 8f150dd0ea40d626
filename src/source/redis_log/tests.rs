//! Against a real server: two clients stand for two replicas.

use super::super::redis_server::test_redis::TestRedis;
use super::super::testing::{eventually, soon};
use super::*;

const LEASE: Duration = Duration::from_secs(30);

const BOUNDS: Bounds = Bounds {
    entries: 4,
    bytes: 100,
    keep: Some(Duration::from_secs(60)),
};

fn log(redis: &TestRedis) -> SharedLog {
    SharedLog::new(
        RedisClient::for_test(&redis.url()),
        "test",
        &["/a", "x"],
        BOUNDS,
    )
}

/// The change `number` after the one before, with this text.
fn news<'a>(ids: &'a [String], number: usize, past: &'a str) -> News<'a> {
    News {
        known: if number == 1 { "" } else { &ids[number - 1] },
        base: &ids[number - 1],
        newest: &ids[number],
        past,
        age: Some(Duration::ZERO),
    }
}

fn ids() -> Vec<String> {
    (0..20).map(|number| format!("e-{number}")).collect()
}

fn texts(entries: &[Entry]) -> Vec<(&str, &str)> {
    let texts = entries
        .iter()
        .map(|entry| (entry.base.as_str(), entry.past.as_str()));
    texts.collect()
}

/// Fencing: whoever does not have the lease, or does not know the newest change, writes nothing.
#[tokio::test]
async fn only_the_holder_that_knows_the_log_appends() {
    let redis = TestRedis::start();
    let (one, two, ids) = (log(&redis), log(&redis), ids());
    let (first, second) = (Token::new(), Token::new());
    assert!(one.claim(&first, LEASE).await.expect("asked").won);
    let refused = two.claim(&second, LEASE).await.expect("asked");
    assert!(!refused.won && refused.left > LEASE / 2, "{refused:?}");
    assert_eq!(
        two.append(&second, news(&ids, 1, "x"))
            .await
            .expect("asked"),
        Appended::Fenced
    );
    let appended = one.append(&first, news(&ids, 1, "x")).await.expect("asked");
    assert!(matches!(appended, Appended::At(_)), "{appended:?}");
    assert_eq!(
        one.append(&first, news(&ids, 1, "x")).await.expect("asked"),
        Appended::Moved
    );
    assert_eq!(
        one.append(&first, news(&ids, 3, "x")).await.expect("asked"),
        Appended::Moved
    );
    one.release(&first).await.expect("asked");
    // Nobody has it: neither does who had it last.
    assert_eq!(
        one.append(&first, news(&ids, 2, "y")).await.expect("asked"),
        Appended::Fenced
    );
    assert!(!one.renew(&first, LEASE, None, "e-1").await.expect("asked"));
    let claimed = two.claim(&second, LEASE).await.expect("asked");
    assert!(claimed.won && claimed.newest == "e-1", "{claimed:?}");
    assert_eq!(Appended::At(claimed.at), appended);
    one.release(&first)
        .await
        .expect("another's is not given up");
    assert!(two.renew(&second, LEASE, None, "e-1").await.expect("asked"));
    let other = two.renew(&second, LEASE, None, "e-2").await.expect("asked");
    assert!(!other, "the log has lost what its writer knows");
    assert_eq!(
        texts(&two.after(EntryId::ZERO).await.expect("read")),
        [("e-0", "x")]
    );
}

/// A lease that nobody renews ends, by the server's clock.
#[tokio::test]
async fn a_lease_ends_by_itself() {
    let redis = TestRedis::start();
    let (one, two) = (log(&redis), log(&redis));
    let (first, second) = (Token::new(), Token::new());
    assert!(
        one.claim(&first, Duration::from_millis(50))
            .await
            .expect("asked")
            .won
    );
    soon(async { while !two.claim(&second, LEASE).await.expect("asked").won {} }).await;
    assert!(!one.renew(&first, LEASE, None, "e-1").await.expect("asked"));
}

#[tokio::test]
async fn followers_are_told_of_each_entry_and_of_a_free_lease() {
    let redis = TestRedis::start();
    let (one, two, ids) = (log(&redis), log(&redis), ids());
    let mut follower = two.follow();
    assert!(matches!(soon(follower.next()).await, Told::Up));
    let token = Token::new();
    assert!(one.claim(&token, LEASE).await.expect("asked").won);
    let mut at = Vec::new();
    for number in 1..4 {
        let text = format!("told {number}");
        match one
            .append(&token, news(&ids, number, &text))
            .await
            .expect("asked")
        {
            Appended::At(position) => at.push(position),
            other => panic!("{other:?}"),
        }
        let Told::Entry(entry) = soon(follower.next()).await else {
            panic!("no entry");
        };
        assert_eq!(
            (entry.at, entry.base.as_str()),
            (at[number - 1], ids[number - 1].as_str())
        );
        assert_eq!(entry.past, text);
    }
    one.release(&token).await.expect("asked");
    assert!(matches!(soon(follower.next()).await, Told::Released));
    let later = two.after(at[0]).await.expect("read");
    assert_eq!(texts(&later), [("e-1", "told 2"), ("e-2", "told 3")]);
}

/// What is kept is bounded, and the newest change stays whatever the bounds say.
#[tokio::test]
async fn the_log_is_bounded_and_keeps_the_newest_change() {
    let redis = TestRedis::start();
    let (log, ids, token) = (log(&redis), ids(), Token::new());
    assert!(log.claim(&token, LEASE).await.expect("asked").won);
    for number in 1..8 {
        log.append(&token, news(&ids, number, "small"))
            .await
            .expect("asked");
    }
    let kept = log.after(EntryId::ZERO).await.expect("read");
    assert_eq!(kept.len(), BOUNDS.entries);
    let large = "x".repeat(300);
    log.append(&token, news(&ids, 8, &large))
        .await
        .expect("asked");
    for _ in 0..2 * BOUNDS.entries {
        // How things stand, and no change.
        let standing = News {
            known: &ids[8],
            base: &ids[8],
            newest: &ids[8],
            past: "standing",
            age: None,
        };
        log.append(&token, standing).await.expect("asked");
    }
    let kept = log.after(EntryId::ZERO).await.expect("read");
    assert_eq!(kept[0].past, large);
    assert_eq!(kept.len(), 2, "the newest change, and how things stand");
    let claimed = log.claim(&token, LEASE).await.expect("asked");
    assert_eq!(
        (claimed.newest, claimed.at),
        (ids[8].clone(), kept[kept.len() - 1].at)
    );
    let keys = redis.cli(&["KEYS", "wellspring:test:*"]);
    for key in keys.split_whitespace() {
        let left: i64 = redis.cli(&["PTTL", key]).trim().parse().expect("a number");
        assert!(left > 0, "{key}");
    }
}

/// Publishers take turns at the server; each gets the next number under its own epoch.
#[tokio::test]
async fn publishers_get_ids_from_the_server() {
    let redis = TestRedis::start();
    let (one, two) = (log(&redis), log(&redis));
    assert_eq!(one.publish("aa", "1").await.expect("asked"), "aa-1");
    assert_eq!(two.publish("bb", "2").await.expect("asked"), "bb-2");
    one.found("aa-0", "aa-1", "1").await.expect("asked");
    let kept = one.after(EntryId::ZERO).await.expect("read");
    assert_eq!(texts(&kept), [("aa-0", "1"), ("aa-1", "2")]);
    redis.cli(&["FLUSHALL"]);
    one.found("aa-0", "bb-2", "both").await.expect("asked");
    assert_eq!(two.publish("cc", "3").await.expect("asked"), "cc-3");
}

/// What is read at once is bounded by the connection: a long log comes in pages.
#[tokio::test]
async fn a_long_log_comes_whole() {
    let redis = TestRedis::start();
    let bounds = Bounds {
        entries: 1000,
        bytes: 64 << 20,
        keep: None,
    };
    let log = SharedLog::new(RedisClient::for_test(&redis.url()), "test", &["/a"], bounds);
    let text = "x".repeat(100_000);
    for _ in 0..100 {
        log.publish("aa", &text).await.expect("asked");
    }
    assert_eq!(log.after(EntryId::ZERO).await.expect("read").len(), 100);
    eventually(|| redis.cli(&["DBSIZE"]).contains('2')).await;
    assert!(
        redis
            .cli(&["KEYS", "*:log"])
            .starts_with("wellspring:test:{")
    );
}

/// EDGE R4: a user needs these commands, on these keys and channels, and no others.
#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let redis = TestRedis::start();
    let rights = "resetchannels &wellspring:* ~wellspring:* +eval +xrange +time +subscribe +unsubscribe +xadd +xdel +xlen +hget +hmget \
                  +hset +hincrby +get +set +del +pttl +pexpire +persist +publish";
    let url = redis.user("replica", rights);
    let log = SharedLog::new(RedisClient::for_test(&url), "test", &["/a"], BOUNDS);
    let (ids, token) = (ids(), Token::new());
    let mut follower = log.follow();
    assert!(matches!(soon(follower.next()).await, Told::Up));
    assert!(log.claim(&token, LEASE).await.expect("allowed").won);
    for number in 1..8 {
        let appended = log.append(&token, news(&ids, number, "x")).await;
        assert!(matches!(appended, Ok(Appended::At(_))), "{appended:?}");
        assert!(matches!(soon(follower.next()).await, Told::Entry(_)));
    }
    assert!(
        log.renew(&token, LEASE, Some(LEASE), &ids[7])
            .await
            .expect("allowed")
    );
    log.release(&token).await.expect("allowed");
    assert!(matches!(soon(follower.next()).await, Told::Released));
    log.after(EntryId::ZERO).await.expect("allowed");
    log.found("e-0", "e-1", "x").await.expect("allowed");
    let kept = Bounds {
        keep: None,
        ..BOUNDS
    };
    let log = SharedLog::new(RedisClient::for_test(&url), "test", &["/b"], kept);
    assert_eq!(log.publish("aa", "1").await.expect("allowed"), "aa-1");
}
