//! The Redis master that sentinels name, with real sentinels: CONTRACT §2 `sentinel`.

use super::support::client::{EventSource, get, pair};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::redis::TestRedis;
use super::support::redis_many::{TestSentinels, address, start_sentinel};

/// A gateway that asks the sentinels at `nodes`, with `more` of the server's keys.
fn asking(nodes: &str, url: &str, more: &str, streams: &str) -> TestGateway {
    TestGateway::start(&format!(
        "redis: {{main: {{url: \"{url}\", sentinel: {{master: mymaster, nodes: {nodes}{more}}}}}}}\nstreams:\n{streams}"
    ))
}

const URL: &str = "redis://no-host-of-ours";
const POLLED: &str =
    "  - {path: /k, redis: {server: main, key: k, watch: poll}, every: 50ms, stale_after: 200ms}\n";
const WATCHED: &str = "  - {path: /w, redis: {server: main, key: w}, every: 24h}\n";
const NEWS: &str = "  - {path: /news, redis: {server: main, channel: news}}\n";
const SHARED: &str = "  - {path: /a, publish: {path: /p, server: main}}\n";

async fn is_watched(server: &TestRedis) {
    eventually("watched", || {
        server
            .cli(&["INFO", "commandstats"])
            .contains("cmdstat_exists:")
    })
    .await;
}

/// Publishes until somebody hears it.
async fn publish(server: &TestRedis, message: &str) {
    eventually("heard", || server.cli(&["PUBLISH", "news", message]) != "0").await;
}

/// What of all kinds a gateway follows over a fail-over.
struct Followed {
    gateway: TestGateway,
    polled: EventSource,
    watched: EventSource,
    news: EventSource,
}

impl Followed {
    async fn begin(set: &TestSentinels) -> Self {
        let [master, _] = &set.servers;
        master.cli(&["SET", "k", "1"]);
        master.cli(&["SET", "w", "1"]);
        let streams = [POLLED, WATCHED, NEWS, SHARED].concat();
        let gateway = asking(&set.nodes(), URL, "", &streams);
        let mut followed = Self {
            polled: EventSource::open(gateway.address, "/k").await,
            watched: EventSource::open(gateway.address, "/w").await,
            news: EventSource::open(gateway.address, "/news").await,
            gateway,
        };
        assert_eq!(followed.polled.event().await.data, "1");
        assert_eq!(followed.watched.event().await.data, "1");
        is_watched(master).await;
        master.cli(&["SET", "w", "2"]);
        assert_eq!(followed.watched.event().await.data, "2");
        publish(master, "before").await;
        assert_eq!(followed.news.event().await.data, "before");
        followed
    }

    /// Everything comes from `master` now; `word` is a value that it had not.
    async fn converge(&mut self, master: &TestRedis, word: &str) {
        master.cli(&["SET", "k", word]);
        master.cli(&["SET", "w", word]);
        self.polled.until_data(word).await;
        self.watched.until_data(word).await;
        is_watched(master).await;
        let watched = format!("{word}, watched");
        master.cli(&["SET", "w", &watched]);
        self.watched.until_data(&watched).await;
        publish(master, word).await;
        self.news.until_data(word).await;
        let address = self.gateway.address;
        let mut shared = EventSource::open(address, "/a").await;
        eventually("listens", || {
            master.cli(&["PUBSUB", "CHANNELS"]).contains("wellspring")
        })
        .await;
        let posted = super::support::client::request(address, "POST", "/p", &[], word).await;
        assert_eq!(posted.head.status, 202, "{}", posted.body);
        shared.until_data(word).await;
    }
}

/// The master crashes: keys become stale with the last value in place, and everything goes on with the new master. Keys that
/// are polled, keys that are watched, pub/sub and shared messages. EDGE R6.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_followed_to_the_new_one() {
    let mut set = TestSentinels::start();
    let mut followed = Followed::begin(&set).await;
    set.servers[0].kill();
    let stale = followed.polled.until("stale").await;
    assert!(stale.contains(r#""cause":"redis""#), "{stale}");
    let address = followed.gateway.address;
    assert_eq!(get(address, "/k", &[]).await.body, "1");
    followed.polled.until("fresh").await;
    set.fail_over();
    followed.converge(&set.servers[1], "after").await;
}

/// A frozen master breaks no connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_master_is_left() {
    let set = TestSentinels::start();
    let mut followed = Followed::begin(&set).await;
    set.servers[0].pause();
    followed.polled.until("stale").await;
    set.fail_over();
    followed.converge(&set.servers[1], "after").await;
    // The old one comes back, becomes a replica, and nobody minds.
    set.servers[0].resume();
    eventually("it follows", || {
        set.servers[0].cli(&["ROLE"]).starts_with("slave")
    })
    .await;
    followed.converge(&set.servers[1], "later").await;
}

/// The operator has the sentinels change the master, which goes on as a replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_fail_over_is_followed() {
    let set = TestSentinels::start();
    let mut followed = Followed::begin(&set).await;
    set.sentinels[0].cli(&["SENTINEL", "FAILOVER", "mymaster"]);
    set.fail_over();
    followed.converge(&set.servers[1], "after").await;
}

/// Any sentinel that answers serves: the first one is dead, the second frozen. And when none is left, what is known holds.
#[tokio::test(flavor = "multi_thread")]
async fn any_sentinel_that_answers_serves() {
    let mut set = TestSentinels::start();
    set.servers[0].cli(&["SET", "k", "1"]);
    set.sentinels[0].kill();
    set.sentinels[1].pause();
    let gateway = asking(&set.nodes(), URL, "", POLLED);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    stream.until_data("1").await;
    set.sentinels[2].kill();
    set.servers[0].cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    set.servers[0].cli(&["SET", "k", "2"]);
    stream.until_data("2").await;
}

/// A master that still lives is left when the sentinels name another one, as it may be cut off from them.
#[tokio::test(flavor = "multi_thread")]
async fn a_living_master_is_left_when_another_one_is_named() {
    let masters = [TestRedis::start(), TestRedis::start()];
    masters[0].cli(&["SET", "k", "old"]);
    masters[1].cli(&["SET", "k", "new"]);
    let sentinel = start_sentinel(&masters[0].port().to_string(), 1, "", &[]);
    let nodes = format!("[\"{}\"]", address(&sentinel));
    let watched = "  - {path: /k, redis: {server: main, key: k}, every: 24h}\n";
    let gateway = asking(&nodes, URL, "", watched);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert_eq!(stream.event().await.data, "old");
    sentinel.cli(&["SENTINEL", "REMOVE", "mymaster"]);
    let port = masters[1].port().to_string();
    sentinel.cli(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "1"]);
    stream.until_data("new").await;
}

/// A sentinel that was cut off names the master of before: whoever finds nobody there asks another sentinel.
#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_wrong_is_left() {
    let mut dead = TestRedis::start();
    let master = TestRedis::start();
    master.cli(&["SET", "k", "1"]);
    let [wrong, right] =
        [&dead, &master].map(|server| start_sentinel(&server.port().to_string(), 1, "", &[]));
    dead.kill();
    // Which one is asked first is chance, so one of these begins with the wrong one.
    for _ in 0..8 {
        let nodes = format!("[\"{}\", \"{}\"]", address(&wrong), address(&right));
        let gateway = asking(&nodes, URL, "", POLLED);
        let mut stream = EventSource::open(gateway.address, "/k").await;
        stream.until_data("1").await;
    }
}

/// EDGE R4: who may not ask for the role is not told of it, and reads all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights_follows_as_well() {
    let master = TestRedis::start();
    master.cli(&["SET", "k", "1"]);
    master.user("reader", "~k +get");
    let sentinel = start_sentinel(&master.port().to_string(), 1, "", &[]);
    let nodes = format!("[\"{}\"]", address(&sentinel));
    let gateway = asking(&nodes, "redis://reader:secret@mymaster", "", POLLED);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    stream.until_data("1").await;
    master.cli(&["SET", "k", "2"]);
    stream.until_data("2").await;
}

/// What is named is asked for its role: a replica's values may be old.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_taken_for_the_master() {
    let master = TestRedis::start();
    master.cli(&["SET", "k", "1"]);
    let replica = TestRedis::start_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    eventually("it follows", || {
        replica.cli(&["ROLE"]).contains("connected")
    })
    .await;
    // Of a master that became a replica, and of its own master, the sentinel believes neither for now.
    let sentinel = start_sentinel(&replica.port().to_string(), 1, "", &[]);
    let gateway = asking(&format!("[\"{}\"]", address(&sentinel)), URL, "", POLLED);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
    assert_eq!(get(gateway.address, "/k", &[]).await.head.status, 503);
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(stream.next().await, pair("fresh", "{}"));
    assert_eq!(stream.event().await.data, "1");
}

/// EDGE R7: the master's password is the url's, the sentinels have their own.
#[tokio::test(flavor = "multi_thread")]
async fn master_and_sentinels_have_their_own_passwords() {
    let lines =
        "sentinel auth-pass mymaster of-the-master\nsentinel sentinel-pass of-the-sentinels\n";
    let set = TestSentinels::start_with(
        &[
            "--requirepass",
            "of-the-master",
            "--masterauth",
            "of-the-master",
        ],
        lines,
        &["--requirepass", "of-the-sentinels"],
    );
    set.servers[0].cli(&["SELECT", "0"]);
    set.servers[0].cli(&["SET", "k", "1"]);
    let url = "redis://:of-the-master@mymaster/0";
    let password = ", password: of-the-sentinels";
    let gateway = asking(&set.nodes(), url, password, POLLED);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert_eq!(stream.event().await.data, "1");

    for (url, password) in [(url, ""), (url, ", password: wrong"), (URL, password)] {
        let gateway = asking(&set.nodes(), url, password, POLLED);
        let mut stream = EventSource::open(gateway.address, "/k").await;
        let stale = stream.until("stale").await;
        assert!(stale.contains(r#""cause":"unauthorized""#), "{stale}");
    }
}

/// A name that the sentinels do not know is a failure like any other, until they know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_nobody_knows_is_waited_for() {
    let master = TestRedis::start();
    master.cli(&["SET", "k", "1"]);
    let port = master.port().to_string();
    let sentinel = start_sentinel(&port, 1, "", &[]);
    sentinel.cli(&["SENTINEL", "REMOVE", "mymaster"]);
    let gateway = asking(&format!("[\"{}\"]", address(&sentinel)), URL, "", POLLED);
    let mut stream = EventSource::open(gateway.address, "/k").await;
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
    sentinel.cli(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "1"]);
    stream.until_data("1").await;
}
