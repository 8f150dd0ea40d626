//! Connections that become WebSockets: EDGE P7. Frames are opaque to the gateway, so the tests write any bytes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::client::Connection;
use super::support::gateway::TestGateway;
use super::support::soon;

const UPGRADE: &str = "GET /ws?x=1 HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat\r\n\
                       origin: http://a\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n";

async fn start(websockets: bool) -> (TcpListener, TestGateway) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{url}\"}}}}\n\
         routes: [{{prefix: /, upstream: legacy, websockets: {websockets}}}]\n"
    ));
    (listener, gateway)
}

async fn asked(listener: &TcpListener) -> (TcpStream, String) {
    let (mut upstream, _) = soon("a connection", listener.accept())
        .await
        .expect("accepts");
    let head = soon("a head", next_head(&mut upstream)).await;
    (upstream, head.expect("a head"))
}

/// In small letters; `None` at the end of the connection.
async fn next_head(upstream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if upstream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(String::from_utf8(head).expect("text").to_lowercase())
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    soon("bytes", stream.read_exact(&mut read))
        .await
        .expect("reads");
    assert_eq!(read, bytes);
}

/// EDGE P7: both directions are raw after the upstream's `101`, and end together.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_both_ways() {
    let (listener, gateway) = start(true).await;
    let mut client = Connection::open(gateway.address).await;
    client.send(UPGRADE.as_bytes()).await;
    let (mut upstream, head) = asked(&listener).await;
    for line in [
        "get /ws?x=1 http/1.1",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
        "sec-websocket-protocol: chat",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(head.lines().any(|seen| seen == line), "{line}: {head}");
    }
    // The upstream may speak at once.
    upstream
        .write_all(format!("{SWITCH}\x01\x02hello").as_bytes())
        .await
        .expect("sends");
    let answer = client.head().await;
    assert_eq!(answer.status, 101);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let mut seen = client.take_unread();
    while seen.len() < 7 {
        assert!(client.fill().await);
        seen.extend(client.take_unread());
    }
    assert_eq!(seen, b"\x01\x02hello");
    client
        .send(b"GET /not-a-request HTTP/1.1\r\n\r\n\x00\xff")
        .await;
    expect(
        &mut upstream,
        b"GET /not-a-request HTTP/1.1\r\n\r\n\x00\xff",
    )
    .await;
    upstream.write_all(&[0x88; 5]).await.expect("sends");
    let mut seen = Vec::new();
    while seen.len() < 5 {
        assert!(client.fill().await);
        seen.extend(client.take_unread());
    }
    drop(upstream);
    assert!(
        !client.fill().await,
        "the end of one side is the end of both"
    );
}

/// EDGE P7: without leave the upstream sees a plain request, and cannot switch by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_leave_upgrades_nothing() {
    let (listener, gateway) = start(false).await;
    let mut client = Connection::open(gateway.address).await;
    client.send(UPGRADE.as_bytes()).await;
    let (mut upstream, head) = asked(&listener).await;
    assert!(
        !head.contains("\r\nupgrade:") && !head.contains("\r\nconnection:"),
        "{head}"
    );
    upstream
        .write_all(format!("{SWITCH}raw").as_bytes())
        .await
        .expect("sends");
    let answer = client.response(false).await;
    assert_eq!(answer.head.status, 502);
}

/// EDGE P7: until the upstream has said `101`, what the client sends is no tunnel, and after another answer it never becomes one.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_raw_before_the_upstream_has_switched() {
    let (listener, gateway) = start(true).await;
    let mut client = Connection::open(gateway.address).await;
    let early = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send(format!("{UPGRADE}{early}").as_bytes()).await;
    let (mut upstream, head) = asked(&listener).await;
    assert!(
        head.ends_with("\r\n\r\n") && !head.contains("smuggled"),
        "{head}"
    );
    upstream
        .write_all(b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno")
        .await
        .expect("sends");
    assert_eq!(client.response(false).await.head.status, 426);
    // What was sent ahead is a request of its own, with all that the gateway says about one.
    let next = tokio::select! {
        Some(head) = next_head(&mut upstream) => head,
        (_, head) = asked(&listener) => head,
    };
    assert!(next.starts_with("get /smuggled http/1.1\r\n"), "{next}");
    assert!(
        next.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
        "{next}"
    );
}

/// Whoever leaves ends the other side's connection too.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_websocket() {
    let (listener, gateway) = start(true).await;
    let mut client = Connection::open(gateway.address).await;
    client.send(UPGRADE.as_bytes()).await;
    let (mut upstream, _) = asked(&listener).await;
    upstream.write_all(SWITCH.as_bytes()).await.expect("sends");
    assert_eq!(client.head().await.status, 101);
    drop(client);
    assert_eq!(
        soon("the end", upstream.read(&mut [0; 1]))
            .await
            .unwrap_or(0),
        0
    );
}

/// RFC 9110 §7.8: `Upgrade` that `Connection` does not name is ignored, and not forwarded; so is that of HTTP/1.0. A switch that
/// follows all the same is the upstream's fault: a client that asked for nothing never sees it (EDGE P7, F6).
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_nobody_asked_for_is_a_bad_gateway() {
    let (listener, gateway) = start(true).await;
    for head in [
        "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n",
        "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, upgrades\r\nupgrade: websocket\r\n\r\n",
        "GET /ws HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\r\n",
        "GET /ws HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ] {
        let mut client = Connection::open(gateway.address).await;
        client.send(head.as_bytes()).await;
        let (mut upstream, seen) = asked(&listener).await;
        assert!(!seen.contains("upgrade"), "{seen}");
        upstream
            .write_all(format!("{SWITCH}raw").as_bytes())
            .await
            .expect("sends");
        let answer = client.response(false).await;
        assert_eq!(answer.head.status, 502, "{head}");
        assert_eq!(
            answer.head.header("content-type"),
            Some("application/problem+json")
        );
        assert!(!client.fill().await, "nothing is raw: {head}");
    }
}

/// The same of a client that speaks HTTP/2, which knows no switch at all.
#[tokio::test(flavor = "multi_thread")]
async fn http2_is_never_switched() {
    let (listener, gateway) = start(true).await;
    let tcp = TcpStream::connect(gateway.address).await.expect("connects");
    let (mut client, connection) = h2::client::handshake(tcp).await.expect("a handshake");
    tokio::spawn(connection);
    let request = http::Request::get("http://a/ws")
        .body(())
        .expect("a request");
    let (response, _) = client.send_request(request, true).expect("sends");
    let (mut upstream, _) = asked(&listener).await;
    upstream.write_all(SWITCH.as_bytes()).await.expect("sends");
    let response = soon("an answer", response).await.expect("an answer");
    assert_eq!(response.status(), 502);
}
