//! Clients that send bodies slowly, or not at all (EDGE B7): to upstreams, to us, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::edge::pace::Floor;

/// From the second piece on, whatever came is too little.
fn impatient(edge: &mut Edge) {
    edge.floor = Floor {
        grace: Duration::ZERO,
        rate: u32::MAX,
    };
}

/// Says what comes, piece by piece; an empty piece is the end of the connection.
async fn listens() -> (SocketAddr, UnboundedReceiver<Vec<u8>>) {
    answers("").await
}

/// The same, after it has said this to each first piece.
async fn answers(answer: &'static str) -> (SocketAddr, UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let (say, said) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let say = say.clone();
            tokio::spawn(async move {
                let mut answer = Some(answer);
                loop {
                    let mut piece = Vec::new();
                    let end = stream.read_buf(&mut piece).await.unwrap_or(0) == 0;
                    let _ = say.send(piece);
                    if end {
                        return;
                    }
                    if let Some(answer) = answer.take() {
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    (address, said)
}

async fn until(said: &mut UnboundedReceiver<Vec<u8>>, end: &[u8]) {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        let piece = timeout(Duration::from_secs(10), said.recv()).await;
        let piece = piece.expect("comes").expect("comes");
        assert!(!piece.is_empty(), "the end came first: {all:?}");
        all.extend(piece);
    }
}

async fn end(said: &mut UnboundedReceiver<Vec<u8>>) {
    let wait = async { while said.recv().await.is_some_and(|piece| !piece.is_empty()) {} };
    timeout(Duration::from_secs(10), wait).await.expect("ends");
}

async fn answer(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    let read = timeout(Duration::from_secs(10), client.read_to_string(&mut answer)).await;
    read.expect("ends").expect("is text");
    answer
}

async fn http2(gateway: &Gateway) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(gateway.address).await.expect("connects");
    let (client, connection) = h2::client::handshake(tcp).await.expect("a handshake");
    tokio::spawn(connection);
    client.ready().await.expect("ready")
}

fn post(target: &str) -> Request<()> {
    let request = Request::post(format!("http://a{target}"));
    request.body(()).expect("a request")
}

/// A drip to an upstream is cut with 408, and the upstream is let go.
#[tokio::test(flavor = "multi_thread")]
async fn a_dripping_body_is_cut_over_http1() {
    for head in ["content-length: 9\r\n", "transfer-encoding: chunked\r\n"] {
        let (address, mut said) = listens().await;
        let gateway = Gateway::with(&[address], impatient);
        let mut client = TcpStream::connect(gateway.address).await.expect("connects");
        let request = format!("POST /x HTTP/1.1\r\nhost: a\r\n{head}\r\n");
        client.write_all(request.as_bytes()).await.expect("sends");
        let chunked = head.contains("chunked");
        let (piece, seen) = match chunked {
            true => ("1\r\na\r\n", "1\r\na\r\n"),
            false => ("a", "\r\n\r\na"),
        };
        client.write_all(piece.as_bytes()).await.expect("sends");
        until(&mut said, seen.as_bytes()).await;
        client.write_all(piece.as_bytes()).await.expect("sends");
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
        assert!(answer.contains("application/problem+json"), "{answer}");
        end(&mut said).await;
    }
}

/// The same over HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn a_dripping_body_is_cut_over_http2() {
    let (address, mut said) = listens().await;
    let gateway = Gateway::with(&[address], impatient);
    let mut client = http2(&gateway).await;
    let (response, mut body) = client.send_request(post("/x"), false).expect("sends");
    body.send_data("a".into(), false).expect("sends");
    until(&mut said, b"1\r\na\r\n").await;
    body.send_data("a".into(), false).expect("sends");
    let response = timeout(Duration::from_secs(10), response).await;
    let response = response.expect("in time").expect("an answer");
    assert_eq!(response.status(), 408);
    end(&mut said).await;
}

/// A body that is whole has no rate, however long the upstream takes; nor has one that is fast enough.
#[tokio::test(flavor = "multi_thread")]
async fn whole_and_honest_bodies_pass() {
    let gateway = Gateway::with(&[upstream(FINE, false).await], impatient);
    let answer_to = gateway.ask("POST", "content-length: 0\r\n").await;
    assert!(answer_to.ends_with("ok"), "{answer_to}");
    let (address, mut said) = answers(FINE).await;
    let gateway = Gateway::to(&[address]);
    let mut client = http2(&gateway).await;
    let (response, mut body) = client.send_request(post("/x"), false).expect("sends");
    for _ in 0..3 {
        body.send_data("a".into(), false).expect("sends");
        until(&mut said, b"1\r\na\r\n").await;
    }
    body.send_data("b".into(), true).expect("sends");
    assert_eq!(response.await.expect("an answer").status(), 200);
}

/// EDGE P7: what a tunnel carries is no body.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_have_no_pace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let gateway = Gateway::with(&[address], impatient);
    let mut client = TcpStream::connect(gateway.address).await.expect("connects");
    let request = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(request.as_bytes()).await.expect("sends");
    let (mut server, _) = listener.accept().await.expect("accepts");
    read_to(&mut server, b"\r\n\r\n").await;
    // Who switches before Pingora has noted the end of the request's body is taken to be at its end: so it hears of an answer first.
    for answer in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n",
    ] {
        server.write_all(answer.as_bytes()).await.expect("sends");
        read_to(&mut client, b"\r\n\r\n").await;
    }
    for piece in [b"a", b"b", b"c"] {
        client.write_all(piece).await.expect("sends");
        read_to(&mut server, piece).await;
    }
}

async fn read_to(stream: &mut TcpStream, end: &[u8]) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        assert!(stream.read_buf(&mut bytes).await.expect("reads") > 0);
    }
}

/// Nobody waits for a body that does not come: it is the client that was late, not the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_gets_408() {
    let (address, mut said) = listens().await;
    let gateway = Gateway::to(&[address]);
    let answer = gateway.ask("POST", "content-length: 9\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    end(&mut said).await;
    let mut client = http2(&gateway).await;
    let (response, _body) = client.send_request(post("/x"), false).expect("sends");
    let response = timeout(Duration::from_secs(10), response).await;
    assert_eq!(response.expect("in time").expect("an answer").status(), 408);
    end(&mut said).await;
}

/// Nor does it hold a place once it is answered: over HTTP/2 the answer may be whole before the request is.
#[tokio::test(flavor = "multi_thread")]
async fn an_answered_request_ends_though_its_body_does_not() {
    let (address, mut said) = answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let gateway = Gateway::to(&[address]);
    let mut client = http2(&gateway).await;
    let (response, mut sends) = client.send_request(post("/x"), false).expect("sends");
    let response = response.await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.data().await.expect("a body").expect("a body"), "ok");
    assert!(body.data().await.is_none());
    let reset = std::future::poll_fn(|cx| sends.poll_reset(cx));
    timeout(Duration::from_secs(10), reset)
        .await
        .expect("in time")
        .expect("a reset");
    end(&mut said).await;
}

/// A message that drips is not waited for, over HTTP/1.1 and HTTP/2; one that is whole is.
#[tokio::test(flavor = "multi_thread")]
async fn a_dripping_message_is_cut() {
    let gateway = Gateway::with(&[closed().await], impatient);
    let mut client = TcpStream::connect(gateway.address).await.expect("connects");
    let request = "POST /tell HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\na";
    client.write_all(request.as_bytes()).await.expect("sends");
    let refused = answer(&mut client).await;
    assert!(refused.starts_with("HTTP/1.1 408 "), "{refused}");
    assert!(
        refused.to_lowercase().contains("connection: close"),
        "{refused}"
    );
    let mut client = http2(&gateway).await;
    let (response, mut body) = client.send_request(post("/tell"), false).expect("sends");
    body.send_data("a".into(), false).expect("sends");
    let response = timeout(Duration::from_secs(10), response).await;
    assert_eq!(response.expect("in time").expect("an answer").status(), 408);

    let gateway = Gateway::to(&[closed().await]);
    let mut client = TcpStream::connect(gateway.address).await.expect("connects");
    let request =
        "POST /tell HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab";
    client.write_all(request.as_bytes()).await.expect("sends");
    // It went as far as who shares messages, and there is nobody.
    let taken = answer(&mut client).await;
    assert!(taken.starts_with("HTTP/1.1 503 "), "{taken}");
}
