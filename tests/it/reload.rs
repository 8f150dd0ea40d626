//! Changing the file while streams are open: EDGE O5, CONTRACT §2.

use std::fs;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use wellspring::gateway::Reloaded;

use super::support::client::{Connection, EventSource, get, pair, request};
use super::support::gateway::TestGateway;
use super::support::process::run_in;
use super::support::upstream::{TestUpstream, json};
use super::support::{eventually, soon};

fn file(upstream: &str, streams: &str, more: &str) -> String {
    format!("upstreams:\n  legacy: {{url: \"{upstream}\"}}\nstreams:\n{streams}\n{more}")
}

const KEPT: &str = "  - {path: /kept, publish: {path: /publish/kept}}\n";

async fn publish(address: SocketAddr, path: &str, message: &str) {
    let posted = request(address, "POST", path, &[], message).await;
    assert_eq!(posted.head.status, 202, "{}", posted.body);
}

/// EDGE O5: what does not change goes on: nothing is lost, doubled or renumbered while the file changes around it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_change_goes_on() {
    let mut test = TestGateway::start(&file("http://127.0.0.1:1", KEPT, ""));
    let address = test.address;
    let mut stream = EventSource::open(address, "/kept").await;
    publish(address, "/publish/kept", "0").await;
    let first = stream.event().await;
    for number in 1..=10 {
        let other = format!(
            "{KEPT}  - {{path: /other{number}, publish: {{path: /publish/other{number}}}}}\n"
        );
        let more = format!(
            "cors: {{origins: [\"https://app{number}.example\"]}}\nlimits: {{queue: {number}KiB}}\n"
        );
        let config = TestGateway::config(&file("http://127.0.0.1:1", &other, &more));
        assert_eq!(
            test.gateway.reload(config).expect("applied"),
            Reloaded::Applied
        );
        publish(address, "/publish/kept", &number.to_string()).await;
        publish(address, &format!("/publish/other{number}"), "x").await;
    }
    let mut resumed = EventSource::resume(address, "/kept", &first.id).await;
    for number in 1..=10 {
        let (event, again) = (stream.event().await, resumed.event().await);
        assert_eq!(event.data, number.to_string());
        assert_eq!((again.data, again.id), (event.data, event.id));
    }
    assert_eq!(get(address, "/other9", &[]).await.head.status, 404);
}

/// CONTRACT §3: `closing` says `reload`, the end is clean, and who comes back gets what the new definition says.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_changes_ends_and_comes_back() {
    let upstream = TestUpstream::saying(json(r#"{"a":1,"b":2}"#)).await;
    let streams = |select: &str| {
        format!(
            "{KEPT}  - {{path: /value, http: {{upstream: legacy}}, every: 50ms, select: {select}}}\n  - {{path: /gone, http: {{upstream: legacy}}, every: 50ms}}\n"
        )
    };
    let mut test = TestGateway::start(&file(&upstream.url(), &streams("$.a"), ""));
    let address = test.address;
    let mut changed = EventSource::open(address, "/value").await;
    let first = changed.event().await;
    assert_eq!(first.data, "1");
    let mut gone = EventSource::open(address, "/gone").await;
    gone.event().await;

    let new = streams("$.b").replace("  - {path: /gone", "  - {path: /new");
    let config = TestGateway::config(&file(&upstream.url(), &new, ""));
    test.gateway.reload(config).expect("applied");
    for stream in [&mut changed, &mut gone] {
        assert_eq!(stream.until("closing").await, r#"{"reason":"reload"}"#);
        assert_eq!(soon("a clean end", stream.item()).await, None);
    }
    let mut back = EventSource::resume(address, "/value", &first.id).await;
    assert_eq!(
        back.next().await,
        pair("reset", r#"{"reason":"unknown-id"}"#)
    );
    assert_eq!(back.event().await.data, "2");
    assert_eq!(get(address, "/gone", &[]).await.head.status, 404);
    assert_eq!(get(address, "/new", &[]).await.head.status, 200);
}

/// What a stream names is part of its definition: another address, other credentials or deadlines end it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_names_is_part_of_it() {
    let (one, two) = (
        TestUpstream::saying(json("1")).await,
        TestUpstream::saying(json("2")).await,
    );
    let streams = "  - {path: /value, http: {upstream: legacy}, every: 50ms}\n";
    let mut test = TestGateway::start(&file(&one.url(), streams, ""));
    let mut stream = EventSource::open(test.address, "/value").await;
    assert_eq!(stream.event().await.data, "1");
    let config = TestGateway::config(&file(&two.url(), streams, ""));
    test.gateway.reload(config).expect("applied");
    assert_eq!(stream.until("closing").await, r#"{"reason":"reload"}"#);
    assert_eq!(get(test.address, "/value", &[]).await.body, "2");
    let polls = one.count();
    eventually("the new one is polled on", || two.count() > 3).await;
    assert!(one.count() <= polls + 1, "the old one is polled no more");
}

/// A client that is held for a change is answered when there will be none.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_client_is_answered() {
    let upstream = TestUpstream::saying(json("1")).await;
    let streams = "  - {path: /value, http: {upstream: legacy}, every: 50ms}\n";
    let mut test = TestGateway::start(&file(&upstream.url(), streams, ""));
    let mut connection = Connection::held(test.address, "/value").await;
    let before = upstream.count();
    eventually("it is held", || upstream.count() > before + 3).await;
    let config = TestGateway::config(&file(&upstream.url(), KEPT, ""));
    test.gateway.reload(config).expect("applied");
    assert_eq!(connection.response(false).await.head.status, 304);
}

/// Routes and the policies of the whole file apply to the next request, also on a connection that is there.
#[tokio::test(flavor = "multi_thread")]
async fn routes_and_cors_apply_to_the_next_request() {
    let upstream = TestUpstream::saying(json("1")).await;
    let mut test = TestGateway::start(&file(&upstream.url(), KEPT, ""));
    let mut connection = Connection::open(test.address).await;
    let ask = b"GET /legacy HTTP/1.1\r\nhost: a\r\norigin: https://app.example\r\n\r\n";
    connection.send(ask).await;
    assert_eq!(connection.response(false).await.head.status, 404);
    let more =
        "routes: [{prefix: /, upstream: legacy}]\ncors: {origins: [\"https://app.example\"]}\n";
    let config = TestGateway::config(&file(&upstream.url(), KEPT, more));
    assert_eq!(
        test.gateway.reload(config.clone()).expect("applied"),
        Reloaded::Applied
    );
    assert_eq!(
        test.gateway.reload(config).expect("applied"),
        Reloaded::Unchanged
    );
    connection.send(ask).await;
    assert_eq!(connection.response(false).await.head.status, 200);
    let stream =
        EventSource::open_with(test.address, "/kept", &["origin: https://app.example"]).await;
    assert_eq!(
        stream.head.header("access-control-allow-origin"),
        Some("https://app.example")
    );
}

/// A listener more, a listener less; streams that came by one that is gone go on.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go() {
    let mut test = TestGateway::start(KEPT_ALONE);
    let old = test.address;
    let mut stream = EventSource::open(old, "/kept").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let new = free.local_addr().expect("bound");
    let text = format!("listeners: [{{address: \"{new}\"}}]\nadmin: off\n{KEPT_ALONE}");
    let config = wellspring::config::parse("test.yaml", &text, &|_| None).expect("good");
    // The port is taken: the whole reload is refused, and the old door stays open.
    test.gateway.reload(config.clone()).expect_err("taken");
    publish(old, "/publish/kept", "1").await;
    drop(free);
    assert_eq!(
        test.gateway.reload(config).expect("applied"),
        Reloaded::Applied
    );
    assert_eq!(test.gateway.addresses(), [new]);
    publish(new, "/publish/kept", "2").await;
    assert_eq!(
        (stream.event().await.data, stream.event().await.data),
        ("1".into(), "2".into())
    );
    soon("the old door closes", async {
        while TcpStream::connect(old).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

const KEPT_ALONE: &str = "streams: [{path: /kept, publish: {path: /publish/kept}}]\n";

/// A stream that polls from the start does so after a reload, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_that_always_polls_begins() {
    let upstream = TestUpstream::saying(json("1")).await;
    let mut test = TestGateway::start(&file(&upstream.url(), KEPT, ""));
    let streams = "  - {path: /value, http: {upstream: legacy}, every: 50ms, start: always}\n";
    let config = TestGateway::config(&file(&upstream.url(), streams, ""));
    test.gateway.reload(config).expect("applied");
    eventually("it is polled", || upstream.count() > 1).await;
    let config = TestGateway::config(&file(&upstream.url(), KEPT, ""));
    test.gateway.reload(config).expect("applied");
}

fn with_streams(streams: &str) -> String {
    format!("listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: off\nstreams:\n{streams}")
}

/// CONTRACT §2: SIGHUP reloads; an invalid file changes nothing, and every problem is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_changes_nothing_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wellspring.yaml");
    fs::write(&path, with_streams(KEPT)).expect("written");
    let (mut process, address) = run_in(folder.path(), &[]).await;
    let mut stream = EventSource::open(address, "/kept").await;

    fs::write(
        &path,
        with_streams("  - {path: /kept, every: nonsense, publishh: 1}\n"),
    )
    .expect("written");
    process.signal("-HUP");
    process.line("not reloaded").await;
    process.line("wellspring.yaml:4:").await;
    publish(address, "/publish/kept", "1").await;
    assert_eq!(stream.event().await.data, "1");

    fs::write(&path, with_streams(KEPT)).expect("written");
    process.signal("-HUP");
    process.line("says what stands already").await;

    let more = format!("{KEPT}  - {{path: /new, publish: {{path: /publish/new}}}}\n");
    fs::write(&path, with_streams(&more)).expect("written");
    process.signal("-HUP");
    process.line("reloaded").await;
    publish(address, "/publish/new", "2").await;
    publish(address, "/publish/kept", "3").await;
    assert_eq!(stream.event().await.data, "3");
    process.signal("-TERM");
    assert_eq!(process.ended().await, Some(0));
}

/// CONTRACT §2: with `--watch` a changed file reloads: one that is renamed into place, one behind swapped links (as a
/// mounted ConfigMap changes), and one that the file only names.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_reloads_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, at("fresh")).expect("linked");
        fs::rename(at("fresh"), at(name)).expect("swapped");
    };
    let stream = |path: &str| {
        with_streams(&format!(
            "  - {{path: {path}, publish: {{path: \"/publish${{file:name}}\"}}}}\n"
        ))
    };
    for (version, path) in [("v1", "/one"), ("v2", "/two")] {
        fs::create_dir(at(version)).expect("a folder");
        fs::write(at(version).join("wellspring.yaml"), stream(path)).expect("written");
    }
    fs::write(at("name"), "/a\n").expect("written");
    link("v1", "current");
    link("current/wellspring.yaml", "wellspring.yaml");
    let (mut process, address) = run_in(folder.path(), &["--watch"]).await;
    publish(address, "/publish/a", "x").await;
    assert_eq!(get(address, "/one", &[]).await.body, "x");

    link("v2", "current");
    process.line("reloaded").await;
    assert_eq!(get(address, "/one", &[]).await.head.status, 404);
    publish(address, "/publish/a", "y").await;
    assert_eq!(get(address, "/two", &[]).await.body, "y");

    fs::write(at("name"), "/b\n").expect("written");
    process.line("reloaded").await;
    publish(address, "/publish/b", "z").await;

    fs::write(at("next"), stream("/three")).expect("written");
    fs::rename(at("next"), at("wellspring.yaml")).expect("renamed");
    process.line("reloaded").await;
    publish(address, "/publish/b", "z").await;
    assert_eq!(get(address, "/three", &[]).await.body, "z");
}
