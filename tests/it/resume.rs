//! Ids and resuming: CONTRACT §3 "Ids", EDGE L5–L10.

use super::support::client::{EventSource, pair};
use super::support::gateway::TestGateway;
use super::support::upstream::{TestUpstream, json, status};

async fn with_history(more: &str) -> (TestUpstream, TestGateway) {
    let upstream = TestUpstream::saying(json(&document(0))).await;
    let gateway = TestGateway::polling(
        &upstream.url(),
        &format!("    deliver: [value, json-patch]\n{more}"),
    );
    (upstream, gateway)
}

fn document(n: u32) -> String {
    format!(r#"{{"n":{n},"pad":"{}"}}"#, "p".repeat(80))
}

/// Makes `count` changes, each seen by a reader. Gives the ids, the first value's first.
async fn changes(
    upstream: &TestUpstream,
    stream: &mut EventSource,
    from: u32,
    count: u32,
) -> Vec<String> {
    let mut ids = vec![stream.event().await.id];
    for n in from..from + count {
        upstream.say(json(&document(n)));
        ids.push(stream.until_data(&document(n)).await.id);
    }
    ids
}

/// EDGE L8: exactly the later events, in order, then live.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_id_replays_what_was_missed() {
    let (upstream, gateway) = with_history("").await;
    let mut live = EventSource::open(gateway.address, "/value").await;
    let ids = changes(&upstream, &mut live, 1, 4).await;
    let mut resumed = EventSource::resume(gateway.address, "/value", &ids[1]).await;
    for n in 2..=4 {
        let event = resumed.event().await;
        assert_eq!(
            (event.data, event.id.as_str()),
            (document(n), ids[n as usize].as_str())
        );
    }
    upstream.say(json(&document(5)));
    assert_eq!(resumed.event().await.data, document(5));
}

/// In a patch form one patch leads from the client's value to now, as that is smaller.
#[tokio::test(flavor = "multi_thread")]
async fn patch_forms_resume_with_one_patch() {
    let (upstream, gateway) = with_history("").await;
    let mut live = EventSource::open(gateway.address, "/value").await;
    let ids = changes(&upstream, &mut live, 1, 4).await;
    let mut resumed =
        EventSource::resume(gateway.address, "/value?deliver=json-patch", &ids[1]).await;
    let event = resumed.event().await;
    assert_eq!(
        (event.name.as_str(), event.id.as_str()),
        ("patch", ids[4].as_str())
    );
    assert_eq!(event.data, r#"[{"op":"replace","path":"/n","value":4}]"#);
    upstream.say(json(&document(5)));
    assert_eq!(
        resumed.next().await,
        pair("patch", r#"[{"op":"replace","path":"/n","value":5}]"#)
    );
}

/// A client that is current gets nothing but the prelude, and then what comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_current_client_gets_only_what_is_new() {
    let (upstream, gateway) = with_history("").await;
    let mut live = EventSource::open(gateway.address, "/value").await;
    let ids = changes(&upstream, &mut live, 1, 1).await;
    let mut resumed = EventSource::resume(gateway.address, "/value", &ids[1]).await;
    upstream.say(json(&document(2)));
    assert_eq!(resumed.event().await.data, document(2));
}

/// EDGE L6, L7, L9, L10: what is not a known id gets `reset` and the whole value, never silence.
#[tokio::test(flavor = "multi_thread")]
async fn any_other_id_is_reset() {
    let (upstream, gateway) = with_history("    history: {events: 2}\n").await;
    let mut live = EventSource::open(gateway.address, "/value").await;
    let ids = changes(&upstream, &mut live, 1, 4).await;
    let (epoch, _) = ids[0].split_once('-').expect("EPOCH-SEQ");
    let long = "x".repeat(5000);
    let future = format!("{epoch}-999");
    let foreign = "0123456789abcdef-3".to_owned();
    for id in [
        ids[1].as_str(),
        "garbage",
        "\u{e9}\u{2028}",
        &long,
        &future,
        &foreign,
        "-",
        "' OR 1=1",
    ] {
        let mut stream = EventSource::resume(gateway.address, "/value", id).await;
        assert_eq!(
            stream.next().await,
            pair("reset", r#"{"reason":"unknown-id"}"#),
            "{id}"
        );
        let event = stream.event().await;
        assert_eq!(
            (event.data, event.id.as_str()),
            (document(4), ids[4].as_str())
        );
        let mut stream =
            EventSource::resume(gateway.address, "/value?deliver=json-patch", id).await;
        assert_eq!(stream.next().await.0, "reset");
        assert_eq!(stream.next().await, pair("snapshot", &document(4)));
    }
    // CONTRACT §6: a client that missed exactly `events` is replayed.
    let mut stream = EventSource::resume(gateway.address, "/value", &ids[2]).await;
    assert_eq!(stream.event().await.data, document(3));
    assert_eq!(stream.event().await.data, document(4));
}

/// EDGE L5: the header wins over the parameter; empty is as absent.
#[tokio::test(flavor = "multi_thread")]
async fn the_query_parameter_resumes_too() {
    let (upstream, gateway) = with_history("").await;
    let mut live = EventSource::open(gateway.address, "/value").await;
    let ids = changes(&upstream, &mut live, 1, 2).await;
    let by_query = format!("/value?lastEventId={}", ids[1]);
    let mut stream = EventSource::open(gateway.address, &by_query).await;
    assert_eq!(stream.event().await.data, document(2));
    let mut stream = EventSource::resume(gateway.address, &by_query, &ids[0]).await;
    assert_eq!(stream.event().await.data, document(1));
    let mut stream = EventSource::resume(gateway.address, "/value", "").await;
    assert_eq!(stream.event().await.data, document(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_latest_gives_the_newest_alone() {
    let (upstream, gateway) = with_history("    resume: latest\n").await;
    let mut live = EventSource::open(gateway.address, "/value").await;
    let ids = changes(&upstream, &mut live, 1, 3).await;
    let mut stream = EventSource::resume(gateway.address, "/value", &ids[0]).await;
    assert_eq!(stream.event().await.data, document(3));
}

/// CONTRACT §6 "Gone": a value after `gone` is an event even when it equals the one before, and no patch.
#[tokio::test(flavor = "multi_thread")]
async fn gone_and_back_is_an_event() {
    let (upstream, gateway) = with_history("").await;
    let mut value = EventSource::open(gateway.address, "/value").await;
    let mut patch = EventSource::open(gateway.address, "/value?deliver=json-patch").await;
    let first = value.event().await;
    patch.event().await;
    upstream.say(status(404, ""));
    assert_eq!(value.next().await, pair("gone", "{}"));
    let mut newcomer = EventSource::open(gateway.address, "/value").await;
    assert_eq!(newcomer.next().await, pair("gone", "{}"));
    upstream.say(json(&document(0)));
    let second = value.event().await;
    assert_eq!(second.data, first.data);
    assert_ne!(second.id, first.id);
    assert_eq!(patch.next().await.0, "gone");
    assert_eq!(patch.next().await, pair("snapshot", &document(0)));
}
