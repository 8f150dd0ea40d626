use std::collections::VecDeque;
use std::future::{pending, ready};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;
use crate::source::Message;
use crate::sse::EntryId;

const EVERY: Duration = Duration::from_secs(2);

/// Readings in order; each takes 10 ms.
struct Script {
    answers: VecDeque<Result<Answer, SourceError>>,
    forgotten: usize,
}

impl Source for Script {
    async fn read(&mut self) -> Result<Answer, SourceError> {
        sleep(Duration::from_millis(10)).await;
        self.answers.pop_front().expect("two readings")
    }

    fn forget(&mut self) {
        self.forgotten += 1;
    }
}

/// Items in order, then silence.
struct Items(VecDeque<FeedItem>);

impl Feed for Items {
    async fn next(&mut self) -> FeedItem {
        match self.0.pop_front() {
            Some(item) => ready(item).await,
            None => pending().await,
        }
    }
}

fn parse(yaml: &str) -> Config {
    config::parse("test.yaml", yaml, &|_| None).expect("a good configuration")
}

fn client(kind: &str, more: &str) -> Client {
    let yaml = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\n\
         upstreams: {{u: {{url: \"http://127.0.0.1:1\"}}}}\n\
         redis: {{r: {{url: \"redis://127.0.0.1:1\"}}}}\n\
         streams: [{{path: /s, {kind}, {more}}}]\n"
    );
    Client::new(
        &parse(&yaml).streams[0],
        ChannelKey::shared(StreamId::new(), Params::default()),
    )
}

fn http(more: &str) -> Client {
    client("http: {upstream: u}", &format!("every: 2s, {more}"))
}

fn pubsub() -> Client {
    client("redis: {server: r, channel: c}", "deliver: [value]")
}

fn json(text: &str) -> Value {
    Value::parse_json(text.as_bytes()).expect("JSON")
}

fn answer(reading: Reading) -> Result<Answer, SourceError> {
    Ok(Answer {
        reading,
        not_before: None,
        status: None,
    })
}

fn value(text: &str) -> Result<Answer, SourceError> {
    answer(Reading::Value(json(text)))
}

/// Each step in a few words; ids are left out, as they are random.
fn word(step: Step) -> String {
    match step {
        Step::Reading {
            number,
            took,
            result,
            ..
        } => {
            assert_eq!(took, Duration::from_millis(10));
            match result {
                Ok(Seen::Value { size, selected }) => {
                    format!("{number} value {size} {}", selected.encoded())
                }
                Ok(seen) => format!("{number} {seen:?}"),
                Err(error) => format!("{number} failed {}", error.cause),
            }
        }
        Step::Wait { wait, wish, .. } => format!("wait {wait:?} {wish:?}"),
        Step::Message {
            number, name, data, ..
        } => format!("message {number} {name:?} {}", data.encoded()),
        Step::Listening { .. } => "listening".into(),
        Step::Down(error) => format!("down {}", error.cause),
        Step::Events(None) => "nothing".into(),
        Step::Events(Some(events)) => {
            let lines = events.lines().filter(|line| !line.starts_with("id: "));
            let lines = lines.map(|line| line.split("\"since\"").next().unwrap_or_default());
            lines
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join("|")
        }
        other => format!("{other:?}"),
    }
}

async fn read(client: Client, answers: [Result<Answer, SourceError>; 2]) -> (Outcome, Vec<String>) {
    let mut steps = Vec::new();
    let source = Script {
        answers: answers.into(),
        forgotten: 0,
    };
    let began = Instant::now();
    let outcome = client
        .read_twice(source, EVERY, &mut |step| steps.push(word(step)))
        .await;
    assert!(
        began.elapsed() <= MAX_WAIT + Duration::from_millis(20),
        "one reading more and no wait after it"
    );
    (outcome, steps)
}

#[tokio::test(start_paused = true)]
async fn two_readings_an_interval_apart_and_what_clients_get() {
    let client = http("select: $.a, event: price");
    let (outcome, steps) = read(client, [value(r#"{"a": 1}"#), value(r#"{"a": 2}"#)]).await;
    assert_eq!(outcome, Outcome::Answered);
    assert_eq!(
        steps,
        [
            "1 value 7 1",
            "event: price|data: 1",
            "wait 2s None",
            "2 value 7 2",
            "event: price|data: 2",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn events_come_in_the_streams_first_form() {
    let client = http("deliver: [json-patch, value]");
    let old =
        r#"{"a":1,"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
    let (_, steps) = read(client, [value(old), value(&old.replace('1', "2"))]).await;
    assert_eq!(steps[1], format!("event: snapshot|data: {old}"));
    assert_eq!(
        steps[4],
        r#"event: patch|data: [{"op":"replace","path":"/a","value":2}]"#
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_change_is_no_event() {
    for (second, seen) in [
        (value("1.0"), "2 value 3 1.0"),
        (answer(Reading::Unchanged), "2 Unchanged"),
        (answer(Reading::NotModified), "2 NotModified"),
    ] {
        let (outcome, steps) = read(http("deliver: [value]"), [value("1"), second]).await;
        assert_eq!(
            (outcome, &steps[3..]),
            (
                Outcome::Answered,
                &[seen.to_owned(), "nothing".to_owned()][..]
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn absence_is_an_answer() {
    let (outcome, steps) = read(
        http("deliver: [value]"),
        [answer(Reading::Absent), value("null")],
    )
    .await;
    assert_eq!(outcome, Outcome::Answered);
    assert_eq!(
        steps,
        [
            "1 Absent",
            "event: gone|data: {}",
            "wait 2s None",
            "2 value 4 null",
            "data: null"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_either_reading_is_one() {
    let failed = || Err(SourceError::new(Cause::Timeout, "x"));
    let (outcome, steps) = read(http("deliver: [value]"), [failed(), value("1")]).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(
        steps,
        [
            "1 failed timeout",
            "event: stale|data: {",
            "wait 2s None",
            "2 value 1 1",
            "event: fresh|data: {}|data: 1"
        ]
    );
    // The last good value still stands: clients notice nothing yet.
    let (outcome, steps) = read(http("deliver: [value]"), [value("1"), failed()]).await;
    assert_eq!(
        (outcome, &steps[3..]),
        (
            Outcome::Failed,
            &["2 failed timeout".to_owned(), "nothing".to_owned()][..]
        )
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_selected_from_is_a_failure() {
    let (outcome, steps) = read(http("select: $.a"), [value("{}"), value(r#"{"a":1}"#)]).await;
    assert_eq!(
        (outcome, steps[0].as_str()),
        (Outcome::Failed, "1 failed malformed")
    );
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_the_sources_within_reason() {
    let limited = |secs| {
        let retry_after = Some(Duration::from_secs(secs));
        Err(SourceError {
            retry_after,
            ..SourceError::new(Cause::RateLimited, "x")
        })
    };
    for (secs, wait) in [
        (1, "wait 2s Some(1s)"),
        (3, "wait 3s Some(3s)"),
        (600, "wait 5s Some(600s)"),
    ] {
        assert_eq!(
            read(http("deliver: [value]"), [limited(secs), value("1")])
                .await
                .1[2],
            wait
        );
    }
}

async fn listen(items: impl IntoIterator<Item = FeedItem>) -> (Outcome, Vec<String>) {
    let mut steps = Vec::new();
    let feed = Items(items.into_iter().collect());
    let outcome = pubsub()
        .listen(feed, &mut |step| steps.push(word(step)))
        .await;
    (outcome, steps)
}

fn message(text: &str, event: Option<&str>) -> FeedItem {
    let event = event.map(|name| EventName::parse(name).expect("a name"));
    FeedItem::Message(Message {
        data: json(text),
        event,
    })
}

#[tokio::test(start_paused = true)]
async fn two_messages_are_awaited() {
    let items = [
        FeedItem::Up,
        FeedItem::Refused("why".into()),
        message("1", None),
        message("1", Some("x")),
        FeedItem::Up,
    ];
    let (outcome, steps) = listen(items).await;
    assert_eq!(outcome, Outcome::Answered);
    assert_eq!(
        steps,
        [
            "listening",
            "Dropped { why: \"why\" }",
            "message 1 None 1",
            "data: 1",
            "message 2 Some(EventName(\"x\")) 1",
            "event: x|data: 1",
        ]
    );
}

/// CONTRACT §6 "Redis streams": a client would get the ids of the entries.
#[tokio::test(start_paused = true)]
async fn entries_are_told_under_their_ids() {
    let id = |ms| EntryId { ms, seq: 0 };
    let items = [
        FeedItem::From(id(4)),
        FeedItem::Entry(id(5), json("1")),
        FeedItem::Entry(id(6), json("2")),
    ];
    let mut steps = Vec::new();
    let feed = Items(items.into());
    let outcome = client("redis: {server: r, stream: s}", "deliver: [value]")
        .listen(feed, &mut |step| steps.push(step))
        .await;
    assert_eq!(outcome, Outcome::Answered);
    let events = steps.iter().filter_map(|step| match step {
        Step::Events(events) => events.as_deref(),
        _ => None,
    });
    let events: Vec<_> = events.collect();
    assert_eq!(events, ["id: 5-0\ndata: 1\n\n", "id: 6-0\ndata: 2\n\n"]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_no_failure_but_not_listening_is() {
    let (outcome, steps) = listen([FeedItem::Up, message("1", None)]).await;
    assert_eq!(outcome, Outcome::Answered);
    assert_eq!(
        steps[3],
        "Silent { messages: 1, listening: true, waited: 10s }"
    );
    assert_eq!(listen([]).await.0, Outcome::Failed);
    let down = FeedItem::Down(SourceError::new(Cause::Redis, "refused"));
    let (outcome, steps) = listen([down]).await;
    assert_eq!(
        (outcome, &steps[..]),
        (
            Outcome::Failed,
            &["down redis".to_owned(), "event: stale|data: {".to_owned()][..]
        )
    );
}

const CONFIG: &str = "
listeners: [{address: '127.0.0.1:0'}]
upstreams: {u: {url: 'http://UPSTREAM/base', headers: {authorization: Bearer canary}}}
streams:
  - path: /v1/{kind}/{name}
    http: {upstream: u, path: '/q/{kind}/{name}', query: {key: canary}}
    every: 50ms
  - path: /v1/prices/{name}
    params: {name: '[A-Z]{1,4}'}
    http: {upstream: u, path: '/prices/{name}', query: {key: canary}}
    every: 50ms
  - path: /news
    publish: {path: /publish/news}
";

#[test]
fn a_path_leads_where_the_edge_leads_it() {
    let config = parse(&CONFIG.replace("UPSTREAM", "127.0.0.1:1"));
    let params = |values: &[&str]| Params(values.iter().map(|&value| value.into()).collect());
    assert_eq!(find(&config, "/v1/prices/ACME"), Ok((1, params(&["ACME"]))));
    assert_eq!(
        find(&config, "/v1/prices/acme"),
        Ok((0, params(&["prices", "acme"])))
    );
    assert_eq!(
        find(&config, "/v1/a/%00"),
        Err(Some("/v1/{kind}/{name}".into()))
    );
    assert_eq!(find(&config, "/publish/news"), Err(None));
    assert_eq!(find(&config, "/v1/prices/ACME/"), Err(None));
}

#[tokio::test]
async fn the_real_source_of_a_stream_is_read_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = parse(&CONFIG.replace(
        "UPSTREAM",
        &listener.local_addr().expect("bound").to_string(),
    ));
    let upstream = tokio::spawn(async move {
        let mut lines = Vec::new();
        for body in ["{\"p\": 1.50}", "{\"p\": 1.60}"] {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.expect("a whole head"));
            }
            lines.extend(
                String::from_utf8_lossy(&head)
                    .lines()
                    .next()
                    .map(str::to_owned),
            );
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let response = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            socket
                .write_all(response.as_bytes())
                .await
                .expect("written");
        }
        lines
    });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut steps = Vec::new();
    let outcome = probe(&config, "/v1/prices/ACME", &mut |step| steps.push(step)).await;
    assert_eq!(outcome, Outcome::Answered, "{steps:?}");
    assert_eq!(
        upstream.await.expect("asked twice"),
        ["GET /base/prices/ACME?key=canary HTTP/1.1"; 2]
    );
    let Step::Stream {
        path,
        params,
        source,
    } = &steps[0]
    else {
        panic!("{steps:?}");
    };
    assert_eq!(
        (path.as_str(), &params[..]),
        (
            "/v1/prices/{name}",
            &[("name".to_owned(), "ACME".to_owned())][..]
        )
    );
    assert!(
        source.contains("/base/prices/ACME (upstream u)"),
        "{source}"
    );
    let events: Vec<&str> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Events(events) => events.as_deref(),
            _ => None,
        })
        .collect();
    assert!(
        events[0].starts_with("id: ") && events[0].ends_with("\ndata: {\"p\":1.50}\n\n"),
        "{events:?}"
    );
    assert!(
        events[1].ends_with("\ndata: {\"p\":1.60}\n\n") && events.len() == 2,
        "{events:?}"
    );
    assert!(!format!("{steps:?}").contains("canary"), "EDGE O3");
}

/// An event stream has no readings: what comes is awaited.
#[tokio::test]
async fn an_event_stream_is_listened_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let config = parse(&format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nupstreams: {{u: {{url: \"http://{address}/base\"}}}}\n\
         streams: [{{path: /s, sse: {{upstream: u, query: {{key: canary}}}}, select: $.p}}]\n"
    ));
    let upstream = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.expect("a whole head"));
        }
        let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
                      event: up\ndata: {\"p\": 1.50}\n\ndata: none\n\ndata: {\"p\": 2}\n\n";
        socket.write_all(events.as_bytes()).await.expect("written");
        // Until the other side has seen enough.
        let _ = socket.read_u8().await;
    });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut steps = Vec::new();
    let outcome = probe(&config, "/s", &mut |step| steps.push(step)).await;
    assert_eq!(outcome, Outcome::Answered, "{steps:?}");
    upstream.await.expect("left");
    assert!(!format!("{steps:?}").contains("canary"), "EDGE O3");
    let Step::Stream { source, .. } = &steps[0] else {
        panic!("{steps:?}");
    };
    assert!(source.starts_with("event stream http://") && source.contains("/base/s (upstream u)"));
    let told: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Message { name, data, .. } => {
                let name = name.as_ref().map_or("-", EventName::as_str);
                Some(format!("{name} {}", data.encoded()))
            }
            Step::Dropped { .. } => Some("dropped".into()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["up 1.50", "dropped", "- 2"]);
}

#[tokio::test]
async fn what_nobody_reads_is_told() {
    let config = parse(&CONFIG.replace("UPSTREAM", "127.0.0.1:1"));
    let mut steps = Vec::new();
    assert_eq!(
        probe(&config, "/news", &mut |step| steps.push(word(step))).await,
        Outcome::Answered
    );
    assert_eq!(steps[1], "Published { path: \"/publish/news\" }");
    assert_eq!(
        probe(&config, "/other", &mut |_| ()).await,
        Outcome::NoStream
    );
}
