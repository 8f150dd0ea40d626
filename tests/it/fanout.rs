//! The end of a stream on the wire, and what is counted on the way there.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use wellspring::channel::{
    Channel, ChannelKey, Cursor, Form, History, Ids, Resume, Shape, Spec, StreamId,
};
use wellspring::fanout::{Carrier, Fanout, Limits, NewStream};
use wellspring::params::Params;
use wellspring::sse::Encoder;
use wellspring::sse::parser::{Item, Parser};
use wellspring::value::{Significance, Value};

use super::support::client::Connection;
use super::support::gateway::TestGateway;
use super::support::upstream::{TestUpstream, json};
use super::support::{eventually, soon};

/// Names and data of a whole body.
fn events(body: &str) -> Vec<(String, String)> {
    assert!(body.ends_with("\n\n"), "an unfinished event");
    let items = Parser::default().push(body.as_bytes());
    let event = |item| match item {
        Item::Event(event) => Some((event.name, event.data)),
        _ => None,
    };
    items.into_iter().filter_map(event).collect()
}

async fn open(gateway: &TestGateway, version: &str) -> Connection {
    let mut connection = Connection::open(gateway.address).await;
    let request =
        format!("GET /value HTTP/{version}\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    connection.send(request.as_bytes()).await;
    connection
}

/// The whole of a stream, by its own framing.
async fn whole(mut connection: Connection, version: &str) -> String {
    let response = connection.response(false).await;
    let chunked = response.head.header("transfer-encoding") == Some("chunked");
    assert_eq!((response.head.status, chunked), (200, version == "1.1"));
    assert!(!connection.fill().await, "bytes behind the end");
    response.body
}

/// E9, H4, L14, L16: by age and by drain, with chunks and without: every event is whole, and so is the body.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_whole_in_both_framings() {
    let value = format!("\"{}\"", "v".repeat(300_000));
    let upstream = TestUpstream::saying(json(&value)).await;
    for version in ["1.0", "1.1"] {
        for reason in ["max-age", "drain"] {
            let age = if reason == "drain" { "1h" } else { "1s" };
            let gateway = TestGateway::polling(
                &upstream.url(),
                &format!("    max_stream_age: {age}\nshutdown: {{drain: 1s}}\n"),
            );
            let connection = open(&gateway, version).await;
            eventually("open", || gateway.gateway.open_streams() == 1).await;
            let body = whole(connection, version);
            let body = if reason == "drain" {
                soon("stopped", async {
                    tokio::join!(gateway.gateway.stop(), body).1
                })
                .await
            } else {
                body.await
            };
            let closing = format!(r#"{{"reason":"{reason}"}}"#);
            assert!(
                events(&body)
                    == [
                        ("message".into(), value.clone()),
                        ("closing".into(), closing),
                    ],
                "HTTP/{version}, {reason}: {} bytes",
                body.len()
            );
        }
    }
}

/// L14: a stream that is handed over is waited for, also when no thread has seen it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_streams_under_way() {
    let limits = Limits {
        queue: 256 * 1024,
        write_stall: Duration::from_secs(15),
    };
    let fanout = Fanout::start(1, limits).expect("starts");
    let channel = Arc::new(channel());
    channel.observe(Value::parse_json(b"1").expect("JSON"));
    let mut peers = Vec::new();
    for _ in 0..50 {
        let (stream, peer) = stream(&channel);
        fanout.adopt(stream);
        peers.push(peer);
    }
    assert_eq!(fanout.open(), 50, "not yet counted");
    let readers = tokio::task::spawn_blocking(move || {
        peers
            .into_iter()
            .map(|mut peer| {
                let mut read = String::new();
                peer.read_to_string(&mut read).expect("a clean end");
                read
            })
            .collect::<Vec<_>>()
    });
    let retry = (Duration::from_secs(1), Duration::from_secs(1));
    soon("drained", fanout.drain(Duration::ZERO, retry)).await;
    assert_eq!(fanout.open(), 0);
    for read in soon("all have ended", readers).await.expect("no panic") {
        assert!(
            read.contains("data: 1\n") && read.contains("event: closing\n"),
            "{read}"
        );
        assert!(read.ends_with("\r\n0\r\n\r\n"), "{read}");
    }
    assert_eq!(channel.readers(), 0);
}

fn channel() -> Channel {
    let key = ChannelKey::shared(StreamId::new(), Params::default());
    let spec = Spec {
        path: "/value".into(),
        shape: Shape::default(),
        significance: Significance::new(Vec::new(), Vec::new()),
        history: History {
            events: 8,
            bytes: 1 << 20,
            age: Duration::from_secs(300),
        },
        resume: Resume::Replay,
        ids: Ids::Own,
        current: true,
        expire_after: None,
        linger: Duration::ZERO,
        retain: false,
        shared: false,
    };
    Channel::new(key, spec)
}

fn stream(channel: &Arc<Channel>) -> (NewStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
    let (socket, _) = listener.accept().expect("accepts");
    socket.set_nonblocking(true).expect("nonblocking");
    let stream = NewStream {
        carrier: Carrier::Plain(socket),
        head: b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        encoder: Encoder::new(None, true),
        subscription: channel.subscribe(),
        cursor: Cursor::New,
        form: Form::Value,
        heartbeat: Duration::from_secs(15),
        max_age: Duration::from_secs(3600),
        expires: None,
        permit: None,
        observer: None,
    };
    (stream, peer.expect("connects"))
}
