//! HTTP/2: EDGE X1–X4, X6, X8.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::support::client::{Connection, get};
use super::support::gateway::TestGateway;
use super::support::process::program;
use super::support::upstream::{TestUpstream, json};
use super::support::{PATIENCE, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn gateway(url: &str, more: &str) -> TestGateway {
    TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{url}\"}}}}\n\
         streams: [{{path: /value, http: {{upstream: legacy, path: /polled}}}}]\n\
         routes: [{{prefix: /, upstream: legacy}}]\n{more}"
    ))
}

async fn connect(gateway: &TestGateway) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let tcp = TcpStream::connect(gateway.address).await.expect("connects");
    let (client, connection) = h2::client::handshake(tcp).await.expect("a handshake");
    (client, tokio::spawn(connection))
}

fn to(target: &str) -> Request<()> {
    Request::get(format!("http://a.example{target}"))
        .body(())
        .expect("a request")
}

async fn answer(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> Result<(StatusCode, String), h2::Error> {
    let (response, _) = client.send_request(request, true)?;
    let response = soon("an answer", response).await?;
    let (head, mut body) = response.into_parts();
    let mut text = Vec::new();
    while let Some(data) = soon("the body", body.data()).await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        text.extend_from_slice(&data);
    }
    Ok((head.status, String::from_utf8(text).expect("text")))
}

/// EDGE X1, X2: by prior knowledge on a plain port; many at once; and the settings that bound a client.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_by_prior_knowledge() {
    let upstream = TestUpstream::start(|request| json(&format!("\"{}\"", request.target))).await;
    let gateway = gateway(&upstream.url(), "");
    let (client, _task) = connect(&gateway).await;
    let mut client = client.ready().await.expect("ready");
    let (status, body) = answer(&mut client, to("/value")).await.expect("an answer");
    assert_eq!((status.as_u16(), &*body), (200, "\"/polled\""));
    let (status, body) = answer(&mut client, to("/a?b=c")).await.expect("an answer");
    assert_eq!((status.as_u16(), &*body), (200, "\"/a?b=c\""));
    assert!(
        client.current_max_send_streams() == 128,
        "{}",
        client.current_max_send_streams()
    );
    assert_eq!(gateway.gateway.connections(), [(0, 1)]);

    let mut raw = TcpStream::connect(gateway.address).await.expect("connects");
    raw.write_all(&[PREFACE, SETTINGS].concat())
        .await
        .expect("sent");
    let mut head = [0; 9];
    raw.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "settings come first");
    let mut settings = vec![0; usize::from(head[2])];
    raw.read_exact(&mut settings).await.expect("settings");
    let value = |id: u8| {
        let found = settings.chunks(6).find(|one| one[1] == id).expect("said");
        u32::from_be_bytes([found[2], found[3], found[4], found[5]])
    };
    assert_eq!((value(3), value(6)), (128, 32 * 1024));
}

/// EDGE X6, P23: what HTTP/1.1 could read in another way is a stream error or a refusal, and no upstream sees it.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "");
    let (client, _task) = connect(&gateway).await;
    let mut client = client.ready().await.expect("ready");
    let with = |name: &'static str, value: &'static str| {
        let mut request = to("/a");
        request
            .headers_mut()
            .insert(name, value.parse().expect("a value"));
        request
    };
    for (request, what) in [
        (with("host", "b.example"), "another host"),
        (with("content-length", "+1"), "a length"),
        (
            Request::get("http://u@a.example/a")
                .body(())
                .expect("a request"),
            "a user",
        ),
        (
            Request::get("http://a..b/a").body(()).expect("a request"),
            "no name",
        ),
    ] {
        match answer(&mut client, request).await {
            Ok((status, _)) => assert_eq!(status.as_u16(), 400, "{what}"),
            Err(error) => assert!(error.is_reset(), "{what}: {error}"),
        }
    }
    let (status, _) = answer(&mut client, to("/a"))
        .await
        .expect("the connection goes on");
    assert_eq!((status.as_u16(), upstream.count()), (200, 1));
}

/// EDGE X6: what a well-behaved client cannot even be made to send is a stream error.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_fields_are_stream_errors() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "");
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("Upper", "case"),
        ("x", "a\rb"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        (":path", "/b"),
    ] {
        let mut block = b"\x82\x84\x86\x41\x09a.example\0".to_vec();
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
        let length = u8::try_from(block.len()).expect("short");
        let head = [&[0, 0, length, 1, 5, 0, 0, 0, 1][..], &block].concat();
        let mut tcp = TcpStream::connect(gateway.address).await.expect("connects");
        tcp.write_all(&[PREFACE, SETTINGS, &head].concat())
            .await
            .expect("sent");
        // RST_STREAM or GOAWAY, with any code but NO_ERROR, before any answer.
        let mut frame = [0; 9];
        let kind = loop {
            soon("a frame", tcp.read_exact(&mut frame))
                .await
                .expect("a frame");
            let mut rest = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
            tcp.read_exact(&mut rest).await.expect("the rest");
            if matches!(frame[3], 0 | 1 | 3 | 7) {
                break frame[3];
            }
        };
        assert!(matches!(kind, 3 | 7), "{name}: frame {kind}");
    }
    assert_eq!(upstream.count(), 0);
}

/// EDGE X3: floods end in GOAWAY(ENHANCE_YOUR_CALM), and others do not notice.
#[tokio::test(flavor = "multi_thread")]
async fn floods_are_calmed() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "");
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
    let priority = [&[0, 0, 5, 2, 0, 0, 0, 0, 1][..], &[0, 0, 0, 0, 9]].concat();
    // GET / of a.example, then its reset.
    let reset = |id: u32| {
        let id = id.to_be_bytes();
        let block = b"\x82\x84\x86\x41\x09a.example";
        let head = [&[0, 0, 14, 1, 5][..], &id, block].concat();
        [&head[..], &[0, 0, 4, 3, 0], &id, &[0, 0, 0, 8]].concat()
    };
    let resets: Vec<u8> = (0..3000).flat_map(|at| reset(2 * at + 1)).collect();
    for (flood, what) in [
        (ping.repeat(3000), "pings"),
        (SETTINGS.repeat(3000), "settings"),
        (priority.repeat(3000), "priorities"),
        (resets, "resets"),
    ] {
        let tcp = TcpStream::connect(gateway.address).await.expect("connects");
        let (mut from, mut into) = tcp.into_split();
        let send = tokio::spawn(async move {
            // It may be cut off.
            let _ = into.write_all(&[PREFACE, SETTINGS, &flood].concat()).await;
            into
        });
        let mut said = Vec::new();
        let end = tokio::time::timeout(PATIENCE, from.read_to_end(&mut said)).await;
        assert!(end.is_ok(), "{what}: the connection ends");
        assert!(goes_away(&said, 0xb), "{what}");
        drop(send.await);
        let start = Instant::now();
        assert_eq!(get(gateway.address, "/value", &[]).await.head.status, 200);
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
    }
}

/// Whether these frames hold a GOAWAY with this code.
fn goes_away(mut frames: &[u8], code: u8) -> bool {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some((payload, behind)) = rest.split_at_checked(length) else {
            return false;
        };
        if *kind == 7 && payload.get(7) == Some(&code) {
            return true;
        }
        frames = behind;
    }
    false
}

/// EDGE E15: the head of a stream leaves in one write with its first bytes and its first event.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_in_one_write() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "");
    let (client, _task) = connect(&gateway).await;
    let mut client = client.ready().await.expect("ready");
    let (status, _) = answer(&mut client, to("/value")).await.expect("an answer");
    assert_eq!(status, 200, "there is a value");
    // GET, http, /value, a, Accept: text/event-stream (RFC 7541 §6).
    let mut block = vec![0x82, 0x86, 0x04, 6];
    block.extend_from_slice(b"/value\x01\x01a\x0f\x04\x11text/event-stream");
    let length = u8::try_from(block.len()).expect("short");
    let headers = [&[0, 0, length, 1, 5, 0, 0, 0, 1], &block[..]].concat();
    let mut tcp = TcpStream::connect(gateway.address).await.expect("connects");
    tcp.write_all(&[PREFACE, SETTINGS, &headers].concat())
        .await
        .expect("sent");
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = soon("frames", tcp.read(&mut chunk)).await.expect("open");
        assert!(length > 0, "the connection ended");
        let kinds = kinds(&chunk[..length]);
        if kinds.contains(&1) {
            assert!(kinds.contains(&0), "no DATA beside the head: {kinds:?}");
            break;
        }
    }
    let text = String::from_utf8_lossy(&chunk);
    assert!(
        text.contains("retry: ") && text.contains("data: 1\n\n"),
        "{text}"
    );
}

/// The types of whole frames.
fn kinds(mut frames: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        kinds.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames = rest.get(length..).expect("a whole frame");
    }
    kinds
}

/// EDGE P11: half a preface, and a preface without settings, are cut.
#[tokio::test(flavor = "multi_thread")]
async fn connections_begin_in_time() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "limits: {header_timeout: 1s}\n");
    for begin in [&PREFACE[..10], &PREFACE[..20], PREFACE] {
        let mut tcp = TcpStream::connect(gateway.address).await.expect("connects");
        tcp.write_all(begin).await.expect("sent");
        let mut said = Vec::new();
        let end = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut said)).await;
        assert!(end.is_ok(), "{begin:?}");
    }
}

/// EDGE X8: a request under way is answered, the connection is told that no more are taken, and then it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_end() {
    let slow = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", slow.local_addr().expect("bound"));
    let gateway = gateway(&url, "");
    let (client, task) = connect(&gateway).await;
    let mut client = client.ready().await.expect("ready");
    let (response, _) = client.send_request(to("/slow"), true).expect("sent");
    let (mut upstream, _) = soon("the request", slow.accept()).await.expect("accepts");
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        upstream.read_buf(&mut asked).await.expect("read");
    }
    let stop = tokio::spawn(gateway.gateway.stop());
    // The stop has reached the client once its connection takes no more.
    soon("no more are taken", async {
        while futures_util::future::poll_fn(|cx| client.poll_ready(cx))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .expect("sent");
    let response = soon("the answer", response).await.expect("an answer");
    assert_eq!(response.status(), 200);
    drop((response, client));
    assert!(soon("the end", task).await.expect("ends").is_ok());
    soon("the stop", stop).await.expect("stops");
}

/// EDGE X8: a client that has asked for nothing and hears nothing does not hold up the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_client_does_not_hold_up_the_end() {
    let gateway = gateway("http://127.0.0.1:1", "shutdown: {drain: 1h}\n");
    let mut tcp = TcpStream::connect(gateway.address).await.expect("connects");
    tcp.write_all(&[PREFACE, SETTINGS].concat())
        .await
        .expect("sent");
    let mut frame = [0; 9];
    tcp.read_exact(&mut frame).await.expect("its settings");
    soon("the stop", gateway.gateway.stop()).await;
}

/// EDGE P10: the bounds of heads are those of HTTP/1.
#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "");
    let (mut client, _task) = connect(&gateway).await;
    for (fields, length, status) in [
        (100, 100, StatusCode::OK),
        (101, 100, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        (0, 9_000, StatusCode::URI_TOO_LONG),
    ] {
        let mut request = to(&format!("/{}", "a".repeat(length)));
        for number in 0..fields {
            let name = http::HeaderName::try_from(format!("x-{number}")).expect("a name");
            request
                .headers_mut()
                .insert(name, "y".parse().expect("a value"));
        }
        let (got, _) = answer(&mut client, request).await.expect("an answer");
        assert_eq!(got, status, "{fields} fields, {length} bytes");
    }
}

/// Another implementation under load.
#[tokio::test(flavor = "multi_thread")]
async fn nghttp2_is_served() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream.url(), "");
    let mut load = program("h2load");
    load.args(["-n", "2000", "-c", "4", "-m", "50"])
        .arg(format!("http://{}/value", gateway.address));
    let output = soon("h2load", load.output()).await.expect("h2load runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("2000 succeeded, 0 failed"), "{said}");
}

/// EDGE X4: what a client takes back was asked for all the same, and so was a stream that it opened.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_taken_back_count() {
    const ALLOWED: u32 = 10;
    let request = |id: u32, path: &[u8], more: &[u8]| {
        let id = id.to_be_bytes();
        let block = [
            b"\x82\x86\x41\x09a.example\x04",
            &[path.len() as u8][..],
            path,
            more,
        ]
        .concat();
        let head = [&[0, 0, block.len() as u8, 1, 5][..], &id, &block].concat();
        [&head[..], &[0, 0, 4, 3, 0], &id, &[0, 0, 0, 8]].concat()
    };
    let events = [&b"\x53\x11"[..], b"text/event-stream"].concat();
    for (limits, path, more, accept) in [
        ("requests: 10/h", "/passed", &[][..], "accept: */*"),
        (
            "connects: 10/h, overload: status",
            "/value",
            &events,
            "accept: text/event-stream",
        ),
    ] {
        let upstream = TestUpstream::saying(json("1")).await;
        let gateway = gateway(&upstream.url(), &format!("limits: {{{limits}}}\n"));
        let mut tcp = TcpStream::connect(gateway.address).await.expect("connects");
        let taken_back = (0..ALLOWED).flat_map(|at| request(2 * at + 1, path.as_bytes(), more));
        let all = [PREFACE, SETTINGS, &taken_back.collect::<Vec<_>>()].concat();
        tcp.write_all(&all).await.expect("sent");
        // None of these would be refused, were it for them alone.
        let mut refused = false;
        for _ in 1..ALLOWED {
            let mut client = Connection::open(gateway.address).await;
            let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{accept}\r\n\r\n");
            client.send(head.as_bytes()).await;
            refused |= client.head().await.status == 429;
        }
        assert!(refused, "{limits}");
    }
}
