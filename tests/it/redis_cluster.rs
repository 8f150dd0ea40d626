//! A Redis cluster, with real nodes: CONTRACT §2, a list of cluster nodes. Where `every` is a day, nothing is polled.

use super::support::client::{EventSource, get, request};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::redis::TestRedis;
use super::support::redis_many::TestCluster;

const EVENTS: &[&str] = &["--notify-keyspace-events", "KEA"];
/// The ways that announce changes.
const WAYS: [&str; 2] = ["tracking", "keyspace"];
const POLLED: &str = "  - {path: \"/p/{key}\", redis: {server: main, key: \"k:{key}\", watch: poll}, every: 50ms, stale_after: 200ms}\n";
const WATCHED: &str =
    "  - {path: \"/w/{key}\", redis: {server: main, key: \"k:{key}\"}, every: 24h}\n";
const NEWS: &str = "  - {path: /news, redis: {server: main, channel: news}}\n";
const SHARED: &str = "  - {path: /a, publish: {path: /p, server: main}}\n";

/// A gateway that asks the nodes of `urls`.
fn asking(urls: &str, streams: &str) -> TestGateway {
    TestGateway::start(&format!(
        "redis: {{main: {{url: {urls}}}}}\nstreams:\n{streams}"
    ))
}

/// Waits until changes of a key are announced by `node`.
async fn is_watched(node: &TestRedis) {
    eventually("watched", || {
        let asked = node
            .cli(&["INFO", "commandstats"])
            .contains("cmdstat_exists:");
        asked || node.cli(&["CLIENT", "LIST"]).contains(" sub=1 ")
    })
    .await;
}

/// Publishes at each of `nodes` until the stream has had a message of each.
async fn hears(stream: &mut EventSource, nodes: &[TestRedis], word: &str) {
    for (index, node) in nodes.iter().enumerate() {
        let message = format!("{word} {index}");
        // Nobody tells when a subscription stands: what counts is heard on one node of four.
        let publish = async {
            loop {
                node.cli(&["PUBLISH", "news", &message]);
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _ = stream.until_data(&message) => {}
            () = publish => {}
        }
    }
}

/// A message goes by way of the cluster and back.
async fn shares(gateway: &TestGateway, word: &str) {
    let mut stream = EventSource::open(gateway.address, "/a").await;
    loop {
        let posted = request(gateway.address, "POST", "/p", &[], word).await;
        if posted.head.status == 202 {
            break;
        }
        assert_eq!(posted.head.status, 503, "{}", posted.body);
    }
    stream.until_data(word).await;
}

/// What of all kinds a gateway follows over a fail-over.
struct Followed {
    gateway: TestGateway,
    polled: EventSource,
    watched: EventSource,
    news: EventSource,
    /// Of the first node's.
    key: String,
}

impl Followed {
    async fn begin(cluster: &TestCluster, urls: &str) -> Self {
        let name = cluster.key_of(0, "k:");
        let key = name[2..].to_owned();
        cluster.nodes[0].cli(&["SET", &name, "1"]);
        let streams = [POLLED, WATCHED, NEWS, SHARED].concat();
        let gateway = asking(urls, &streams);
        let mut followed = Self {
            polled: EventSource::open(gateway.address, &format!("/p/{key}")).await,
            watched: EventSource::open(gateway.address, &format!("/w/{key}")).await,
            news: EventSource::open(gateway.address, "/news").await,
            gateway,
            key,
        };
        followed.polled.until_data("1").await;
        followed.watched.until_data("1").await;
        hears(&mut followed.news, &cluster.nodes, "before").await;
        shares(&followed.gateway, "before").await;
        followed
    }

    /// Everything goes on without the first node.
    async fn converge(&mut self, cluster: &TestCluster) {
        let name = format!("k:{}", self.key);
        let master = &cluster.nodes[3];
        master.cli(&["SET", &name, "2"]);
        self.polled.until_data("2").await;
        self.watched.until_data("2").await;
        is_watched(master).await;
        master.cli(&["SET", &name, "3"]);
        self.watched.until_data("3").await;
        hears(&mut self.news, &cluster.nodes[1..], "after").await;
        shares(&self.gateway, "after").await;
    }
}

/// Keys are read where they are, whatever node the file names, in any way and of any type; each change reaches the client.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_and_watched_where_they_are() {
    let cluster = TestCluster::start_with(EVENTS);
    let urls = format!("[\"{}\"]", cluster.nodes[1].url());
    for watch in ["auto", "tracking", "keyspace"] {
        let stream = format!(
            "  - {{path: \"/{{key}}\", redis: {{server: main, hash: \"h:{{key}}\", watch: {watch}}}, every: 24h}}\n"
        );
        let gateway = asking(&urls, &stream);
        for (index, node) in cluster.nodes[..3].iter().enumerate() {
            let name = cluster.key_of(index, "h:");
            node.cli(&["HSET", &name, "a", "1"]);
            let mut stream = EventSource::open(gateway.address, &format!("/{}", &name[2..])).await;
            assert_eq!(stream.event().await.data, r#"{"a":"1"}"#);
            is_watched(node).await;
            node.cli(&["HSET", &name, "a", "2"]);
            stream.until_data(r#"{"a":"2"}"#).await;
            node.cli(&["DEL", &name]);
            stream.until("gone").await;
        }
    }
}

/// A master crashes: its keys become stale, with the last value in place, and everything goes on with its replica. EDGE R6.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_followed_to_its_replica() {
    let mut cluster = TestCluster::start();
    // The file names this one alone: the others are known from it.
    let urls = format!("[\"{}\"]", cluster.nodes[0].url());
    let mut followed = Followed::begin(&cluster, &urls).await;
    cluster.nodes[0].kill();
    let stale = followed.polled.until("stale").await;
    assert!(stale.contains(r#""cause":"redis""#), "{stale}");
    let path = format!("/p/{}", followed.key);
    assert_eq!(get(followed.gateway.address, &path, &[]).await.body, "1");
    cluster.fail_over();
    followed.polled.until("fresh").await;
    followed.converge(&cluster).await;
}

/// A frozen master breaks no connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_is_left() {
    let cluster = TestCluster::start();
    let mut followed = Followed::begin(&cluster, &cluster.urls()).await;
    cluster.nodes[0].pause();
    followed.polled.until("stale").await;
    cluster.fail_over();
    followed.converge(&cluster).await;
    cluster.nodes[0].resume();
}

/// A slot moves to another node while its key is watched: each value is seen, on its way and after, and nothing is polled.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_watch_along() {
    let cluster = TestCluster::start_with(EVENTS);
    for (round, watch) in WAYS.into_iter().enumerate() {
        let name = cluster.key_of(0, &format!("k:{round}"));
        let key = &name[2..];
        cluster.nodes[0].cli(&["SET", &name, "1"]);
        let streams = WATCHED.replace("main, ", &format!("main, watch: {watch}, "));
        let gateway = asking(&cluster.urls(), &streams);
        let mut stream = EventSource::open(gateway.address, &format!("/w/{key}")).await;
        stream.until_data("1").await;
        is_watched(&cluster.nodes[0]).await;

        cluster.begin_move(&name, 0, 1);
        cluster.nodes[0].cli(&["SET", &name, "still here"]);
        stream.until_data("still here").await;
        cluster.migrate(&name, 0, 1);
        cluster.nodes[1].cli_asking(&["SET", &name, "on its way"]);
        stream.until_data("on its way").await;
        cluster.end_move(&name, 0, 1);
        cluster.nodes[1].cli(&["SET", &name, "there"]);
        stream.until_data("there").await;
        cluster.nodes[1].cli(&["SET", &name, "watched there"]);
        stream.until_data("watched there").await;
        assert!(
            !cluster.nodes[0]
                .cli(&["CLIENT", "LIST"])
                .contains("cmd=get")
        );
    }
}

/// Of a key that does not exist, nobody tells that its slot has moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_unnoticed_is_found() {
    let cluster = TestCluster::start();
    let name = cluster.key_of(2, "k:");
    let gateway = asking(&cluster.urls(), WATCHED);
    let mut stream = EventSource::open(gateway.address, &format!("/w/{}", &name[2..])).await;
    stream.until("gone").await;
    is_watched(&cluster.nodes[2]).await;
    cluster.begin_move(&name, 2, 1);
    cluster.end_move(&name, 2, 1);
    cluster.nodes[1].cli(&["SET", &name, "found"]);
    stream.until_data("found").await;
}

/// A node that lost the others goes on saying what it knew: it is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_the_others_is_not_believed() {
    let cluster = TestCluster::start();
    let name = cluster.key_of(1, "k:");
    let lost = &cluster.nodes[2];
    let gateway = asking(&format!("[\"{}\"]", lost.url()), WATCHED);
    let mut stream = EventSource::open(gateway.address, &format!("/w/{}", &name[2..])).await;
    stream.until("gone").await;
    is_watched(&cluster.nodes[1]).await;
    for other in [0, 1, 3] {
        let id = cluster.nodes[other].cli(&["CLUSTER", "MYID"]);
        lost.cli(&["CLUSTER", "FORGET", &id]);
    }
    eventually("lost", || {
        lost.cli(&["CLUSTER", "INFO"])
            .contains("cluster_state:fail")
    })
    .await;
    cluster.begin_move(&name, 1, 0);
    cluster.end_move(&name, 1, 0);
    cluster.nodes[0].cli(&["SET", &name, "found"]);
    stream.until_data("found").await;
}

/// Nodes that the file names may be gone, and one may be frozen.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_that_answers_serves() {
    let cluster = TestCluster::start();
    let dead = TestRedis::start();
    let name = cluster.key_of(0, "k:");
    cluster.nodes[0].cli(&["SET", &name, "1"]);
    let frozen = &cluster.nodes[3];
    frozen.pause();
    let urls = [frozen.url(), dead.url(), cluster.nodes[1].url()];
    drop(dead);
    let gateway = asking(&format!("[\"{}\"]", urls.join("\", \"")), POLLED);
    let mut stream = EventSource::open(gateway.address, &format!("/p/{}", &name[2..])).await;
    stream.until_data("1").await;
    frozen.resume();
}

/// EDGE R5, R7: one password for all nodes; without it the cause is named.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_one_password() {
    let password = ["--requirepass", "secret", "--masterauth", "secret"];
    let cluster = TestCluster::start_with(&password);
    let name = cluster.key_of(2, "k:");
    cluster.nodes[2].cli(&["SET", &name, "1"]);
    let path = format!("/p/{}", &name[2..]);
    let urls = cluster.urls().replace("redis://", "redis://:secret@");
    let gateway = asking(&urls, POLLED);
    let mut stream = EventSource::open(gateway.address, &path).await;
    stream.until_data("1").await;
    let gateway = asking(&cluster.urls(), POLLED);
    let mut stream = EventSource::open(gateway.address, &path).await;
    let stale = stream.until("stale").await;
    assert!(stale.contains(r#""cause":"unauthorized""#), "{stale}");
}

/// A server that is no cluster is no list: what it says is a failure like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_is_no_cluster() {
    let redis = TestRedis::start();
    let gateway = asking(&format!("[\"{}\"]", redis.url()), POLLED);
    let mut stream = EventSource::open(gateway.address, "/p/1").await;
    assert!(stream.until("stale").await.contains(r#""cause":"redis""#));
}

/// What replicas of the gateway share is in one slot, wherever that is, and outlives the node that has it: CONTRACT §2 `cluster`.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_what_the_cluster_keeps() {
    let mut cluster = TestCluster::start();
    let file = format!(
        "redis: {{main: {{url: {}}}}}\ncluster: {{redis: main, name: test}}\nstreams:\n  - path: \"/alerts/{{room}}\"\n    \
         publish: {{path: \"/publish/{{room}}\"}}\n",
        cluster.urls()
    );
    let (one, two) = (TestGateway::start(&file), TestGateway::start(&file));
    let publish = async |room: usize, text: &str| loop {
        let path = format!("/publish/{room}");
        let posted = request(one.address, "POST", &path, &[], text).await;
        match posted.head.status {
            202 => return posted.body,
            status => assert_eq!(status, 503, "{}", posted.body),
        }
    };
    // Each room has a slot of its own.
    let mut room = 0;
    publish(room, "before").await;
    while cluster.nodes[0].cli(&["DBSIZE"]) == "0" {
        room += 1;
        publish(room, "before").await;
    }
    let mut there = EventSource::open(two.address, &format!("/alerts/{room}")).await;
    there.until_data("before").await;
    assert_eq!(cluster.nodes[0].cli(&["WAIT", "1", "5000"]), "1");
    cluster.nodes[0].kill();
    cluster.fail_over();
    let id = publish(room, "after").await;
    let event = there.until_data("after").await;
    assert_eq!(id, format!(r#"{{"id":"{}"}}"#, event.id));
    // Nothing that was written before is lost: who had it goes on from there.
    let current = get(two.address, &format!("/alerts/{room}"), &[]).await;
    assert_eq!(current.body, "after");
}
