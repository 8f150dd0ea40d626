//! An event stream of an upstream as a source: CONTRACT §2, §3 and §6, EDGE E6 and U20.

use tokio::sync::broadcast;
use wellspring::channel::EventId;
use wellspring::sse::parser::Item;

use super::support::client::{Connection, EventSource, get, pair};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::upstream::{Reply, TestUpstream, json, status};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// An upstream with one event stream, at any path.
struct Live {
    upstream: TestUpstream,
    more: broadcast::Sender<Vec<u8>>,
}

impl Live {
    async fn start() -> Self {
        let (more, _) = broadcast::channel(1024);
        let upstream = TestUpstream::saying(Self::reply(&more)).await;
        Self { upstream, more }
    }

    fn reply(more: &broadcast::Sender<Vec<u8>>) -> Reply {
        Reply::Live {
            // Reconnects come as fast as they are allowed to.
            head: format!("{HEAD}retry: 1\n\n").into_bytes(),
            more: more.clone(),
        }
    }

    async fn connected(&self, count: usize) {
        eventually("connected", || self.more.receiver_count() == count).await;
    }

    fn send(&self, events: &str) {
        self.more
            .send(events.into())
            .expect("somebody is connected");
    }

    /// Ends all connections.
    fn cut(&self) {
        self.send("");
    }

    fn gateway(&self, more: &str) -> TestGateway {
        TestGateway::start(&format!(
            "upstreams:\n  wiki: {{url: \"{}/base\", headers: {{authorization: Bearer t}}}}\nstreams:\n  - path: /changes\n    \
             sse: {{upstream: wiki, path: /v2/stream}}\n{more}",
            self.upstream.url()
        ))
    }
}

/// EDGE U20: one connection to the upstream, with its headers, however many read; it ends after the last one.
#[tokio::test(flavor = "multi_thread")]
async fn all_clients_share_one_upstream_stream() {
    let live = Live::start().await;
    let gateway = live.gateway("    linger: 0s\n");
    let opened = (0..50).map(|_| EventSource::open(gateway.address, "/changes"));
    let mut streams = futures_util::future::join_all(opened).await;
    live.connected(1).await;
    live.send(
        "event: edit\nid: up-1\ndata: {\"n\": 1}\n\n: heartbeat\n\ndata: two\ndata: lines\n\n",
    );
    for stream in &mut streams {
        let edit = stream.event().await;
        assert_eq!(
            (edit.name.as_str(), edit.data.as_str()),
            ("edit", "{\"n\":1}")
        );
        // Ids are our own.
        assert!(EventId::parse(edit.id.as_bytes()).is_some(), "{}", edit.id);
        assert_eq!(stream.next().await, pair("message", "two\nlines"));
    }
    let requests = live.upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, "/base/v2/stream");
    assert_eq!(requests[0].header("authorization"), Some("Bearer t"));
    assert_eq!(requests[0].header("accept"), Some("text/event-stream"));
    drop(streams);
    live.connected(0).await;
}

/// EDGE E4, E6, U20: nothing that an upstream sends becomes a field of our streams unchecked.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_upstream_injects_nothing() {
    let live = Live::start().await;
    let gateway = live.gateway("");
    let mut stream = EventSource::open(gateway.address, "/changes").await;
    live.connected(1).await;
    live.send("event: a b\ndata: 1\n\nevent: x\revent: \u{2028}\rdata: 2\r\r");
    live.send("retry: 0\n\nid: evil\u{0}\nid: e v i l\ndata: \u{feff}3\n\nevent: ");
    live.send(&"e".repeat(65));
    live.send("\ndata: 4\r");
    live.send("\n\r");
    live.send("\nevent: ok\ndata: 5\n\n");
    let mut told = Vec::new();
    let mut retries = 0;
    while told.len() < 5 {
        match stream.item().await.expect("goes on") {
            Item::Event(event) => {
                assert!(
                    EventId::parse(event.id.as_bytes()).is_some(),
                    "{}",
                    event.id
                );
                told.push(format!("{} {}", event.name, event.data));
            }
            Item::Retry(_) => retries += 1,
            Item::Comment(_) | Item::TooLarge => {}
        }
    }
    let expected = [
        "message 1",
        "message 2",
        "message \u{feff}3",
        "message 4",
        "ok 5",
    ];
    assert_eq!(told, expected);
    assert_eq!(retries, 1, "that of the beginning");
}

/// CONTRACT §6: `event` stands for the names of the events.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_the_file_overrides_those_of_the_events() {
    let live = Live::start().await;
    let gateway =
        live.gateway("    event: change\n    select: $.n\n    template: \"n = {value}\"\n");
    let mut stream = EventSource::open(gateway.address, "/changes").await;
    live.connected(1).await;
    live.send("event: edit\ndata: {\"n\": 1}\n\ndata: {\"m\": 1}\n\ndata: {\"n\": 2}\n\n");
    assert_eq!(stream.next().await, pair("change", "n = 1"));
    assert_eq!(stream.next().await, pair("change", "n = 2"));
}

/// An upstream that comes back goes on after the last event it was told, and so do our clients: nothing is lost or comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_goes_on_after_the_last_event() {
    let live = Live::start().await;
    let gateway = live.gateway("");
    let mut stream = EventSource::open(gateway.address, "/changes").await;
    live.connected(1).await;
    live.send("id: one\ndata: 1\n\n");
    let first = stream.event().await;
    // The rest of this one never comes.
    live.send("id: two\ndata: 2\n");
    live.cut();
    let stale = stream.until("stale").await;
    assert!(stale.contains(r#""cause":"connect""#), "{stale}");
    assert_eq!(stream.next().await, pair("fresh", "{}"));
    let requests = live.upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("last-event-id"), Some("one"));
    live.send("id: two\ndata: 2\n\nid: three\ndata: 3\n\n");
    assert_eq!(stream.event().await.data, "2");
    let third = stream.event().await;
    assert_eq!(third.data, "3");
    let mut resumed = EventSource::resume(gateway.address, "/changes", &first.id).await;
    assert_eq!(resumed.event().await.data, "2");
    assert_eq!(resumed.event().await, third);
}

/// Without ids nobody can say what the gap held: who resumes over it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_without_ids_resets() {
    let live = Live::start().await;
    let gateway = live.gateway("");
    let mut stream = EventSource::open(gateway.address, "/changes").await;
    live.connected(1).await;
    live.send("data: before\n\n");
    let before = stream.event().await;
    live.cut();
    stream.until("fresh").await;
    live.send("data: after\n\n");
    assert_eq!(stream.event().await.data, "after");
    let mut resumed = EventSource::resume(gateway.address, "/changes", &before.id).await;
    assert_eq!(
        resumed.next().await,
        pair("reset", r#"{"reason":"unknown-id"}"#)
    );
    live.send("data: later\n\n");
    assert_eq!(resumed.event().await.data, "later");
}

/// EDGE U13, U16, U19: what is no event stream is a cause, streams stay open, and it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_upstream_is_told_and_tried_again() {
    for (reply, cause) in [
        (json("{}"), "malformed"),
        (status(503, "").with("retry-after", "0"), "rate-limited"),
        (status(401, ""), "unauthorized"),
        (Reply::Raw(Vec::new()), "connect"),
    ] {
        let live = Live::start().await;
        live.upstream.say(reply);
        let gateway = live.gateway("");
        let mut stream = EventSource::open(gateway.address, "/changes").await;
        let stale = stream.until("stale").await;
        assert!(stale.contains(&format!(r#""cause":"{cause}""#)), "{stale}");
        live.upstream.say(Live::reply(&live.more));
        assert_eq!(stream.next().await, pair("fresh", "{}"));
        live.send("data: 1\n\n");
        assert_eq!(stream.event().await.data, "1");
    }
}

/// CONTRACT §3: there is no current value.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_value_to_ask_for() {
    let live = Live::start().await;
    let gateway = live.gateway("");
    let refused = get(gateway.address, "/changes", &["accept: application/json"]).await;
    assert_eq!(refused.head.status, 406);
    let mut any = Connection::open(gateway.address).await;
    any.send(b"GET /changes HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n")
        .await;
    let head = any.head().await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
}

/// `start: always` listens before anybody reads, and goes on after the last reader: who comes back is replayed.
#[tokio::test(flavor = "multi_thread")]
async fn always_listens_without_readers() {
    let live = Live::start().await;
    let gateway = live.gateway("    start: always\n    linger: 0s\n");
    live.connected(1).await;
    let mut stream = EventSource::open(gateway.address, "/changes").await;
    live.send("data: 1\n\n");
    let first = stream.event().await;
    drop(stream);
    live.send("data: 2\n\n");
    let mut resumed = EventSource::resume(gateway.address, "/changes", &first.id).await;
    assert_eq!(resumed.event().await.data, "2");
    assert_eq!(live.upstream.count(), 1);
}

/// Distinct resources are distinct upstream streams; parameters stay in their places (EDGE U1).
#[tokio::test(flavor = "multi_thread")]
async fn parameters_choose_the_upstream_stream() {
    let live = Live::start().await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{wiki: {{url: \"{}\"}}}}\nstreams:\n  - path: /topics/{{topic}}\n    \
         sse: {{upstream: wiki, query: {{t: \"{{topic}}\"}}, headers: {{x-topic: \"{{topic}}\"}}}}\n",
        live.upstream.url()
    ));
    let _a = EventSource::open(gateway.address, "/topics/a").await;
    let _b = EventSource::open(gateway.address, "/topics/b~").await;
    live.connected(2).await;
    let mut targets: Vec<_> = live
        .upstream
        .requests()
        .into_iter()
        .map(|request| {
            (
                request.target.clone(),
                request.header("x-topic").map(str::to_owned),
            )
        })
        .collect();
    targets.sort();
    assert_eq!(
        targets,
        [
            ("/topics/a?t=a".to_owned(), Some("a".to_owned())),
            ("/topics/b~?t=b~".to_owned(), Some("b~".to_owned())),
        ]
    );
}

/// EDGE O5: a reload that leaves the stream as it is leaves its connection, too; one that takes it away ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_upstream_stream_or_ends_it() {
    let live = Live::start().await;
    let url = live.upstream.url();
    let file = |streams: &str| {
        TestGateway::config(&format!(
            "upstreams: {{wiki: {{url: \"{url}\"}}}}\nstreams:\n{streams}"
        ))
    };
    let sse = "  - {path: /changes, sse: {upstream: wiki}}\n";
    let other = "  - {path: /other, http: {upstream: wiki}}\n";
    let mut gateway = TestGateway::start(&format!(
        "upstreams: {{wiki: {{url: \"{url}\"}}}}\nstreams:\n{sse}"
    ));
    let mut stream = EventSource::open(gateway.address, "/changes").await;
    live.connected(1).await;
    gateway
        .gateway
        .reload(file(&format!("{sse}{other}")))
        .expect("reloads");
    live.send("data: 1\n\n");
    assert_eq!(stream.event().await.data, "1");
    gateway.gateway.reload(file(other)).expect("reloads");
    assert_eq!(stream.until("closing").await, r#"{"reason":"reload"}"#);
    live.connected(0).await;
    assert_eq!(live.upstream.count(), 1);
}
