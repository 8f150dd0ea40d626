//! Slow readers: EDGE §13. They cost little, hold nobody up, and end on the newest value.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::support::client::{Connection, EventSource};
use super::support::gateway::TestGateway;
use super::support::upstream::{TestUpstream, json};
use super::support::{eventually, soon};
use wellspring::sse::parser::{Item, Parser};

fn document(n: usize) -> String {
    format!(r#"{{"n":{n},"pad":"{}"}}"#, "p".repeat(100_000))
}

/// A client with a small window that reads only when told to.
async fn lazy(address: SocketAddr) -> Connection {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(8 * 1024).expect("small");
    let stream = socket.connect(address).await.expect("connects");
    let mut connection = Connection::over(stream);
    connection
        .send(b"GET /value HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        .await;
    connection
}

/// B1, B2, B4: others get every event; who was behind is moved to the newest by one event, and goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pauses_is_moved_to_the_newest() {
    let upstream = TestUpstream::saying(json(&document(0))).await;
    let gateway = TestGateway::polling(
        &upstream.url(),
        "limits: {queue: 256KiB, write_stall: 5m}\n",
    );
    let mut slow = lazy(gateway.address).await;
    let mut fast = EventSource::open(gateway.address, "/value").await;
    eventually("both are open", || gateway.gateway.open_streams() == 2).await;
    for n in 0..40 {
        upstream.say(json(&document(n)));
        assert_eq!(fast.event().await.data, document(n));
    }
    assert_eq!(slow.head().await.status, 200);
    let mut parser = Parser::default();
    let mut seen = Vec::new();
    while seen.last() != Some(&document(39)) {
        let chunk = slow.chunk().await.expect("still open");
        for item in parser.push(&chunk) {
            if let Item::Event(event) = item {
                seen.push(event.data);
            }
        }
    }
    assert!(
        seen.len() < 20,
        "{} events were kept for a reader that was 4 MB behind",
        seen.len()
    );
    upstream.say(json(&document(40)));
    let chunk = slow.chunk().await.expect("still open");
    assert!(String::from_utf8_lossy(&chunk).contains("{\"n\":40,"));
}

/// B3: no progress for `write_stall` ends it; nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_closed() {
    let upstream = TestUpstream::saying(json(&document(0))).await;
    let gateway = TestGateway::polling(&upstream.url(), "limits: {write_stall: 1s}\n");
    let _stalled = lazy(gateway.address).await;
    let mut fast = EventSource::open(gateway.address, "/value").await;
    eventually("both are open", || gateway.gateway.open_streams() == 2).await;
    let mut n = 0;
    while gateway.gateway.open_streams() == 2 {
        assert_eq!(fast.event().await.data, document(n));
        n += 1;
        upstream.say(json(&document(n)));
    }
    assert_eq!(fast.event().await.data, document(n));
    assert_eq!(gateway.gateway.open_streams(), 1);
}

/// EDGE B3: an answer that passes through is not kept for a client that takes none of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{url}\"}}}}\nroutes: [{{prefix: /, upstream: legacy}}]\nlimits: {{write_stall: 1s}}\n"
    ));
    let mut client = Connection::open(gateway.address).await;
    client.send(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (mut upstream, _) = soon("the request", listener.accept())
        .await
        .expect("accepts");
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut upstream, head)
        .await
        .expect("sent");
    let piece = vec![b'x'; 1 << 16];
    soon("given up", async {
        while tokio::io::AsyncWriteExt::write_all(&mut upstream, &piece)
            .await
            .is_ok()
        {}
    })
    .await;
}
