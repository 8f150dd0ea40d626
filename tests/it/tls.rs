//! TLS of listeners: EDGE X9–X11, P11.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::authority::Authority;
use super::support::client::Connection;
use super::support::gateway::TestGateway;
use super::support::process::{Process, program};
use super::support::upstream::{TestUpstream, json};
use super::support::{PATIENCE, soon};

fn gateway(tls: &str, url: &str, more: &str) -> TestGateway {
    TestGateway::listening(
        &format!("  - address: 127.0.0.1:0\n    tls: {tls}"),
        &format!(
            "upstreams: {{legacy: {{url: \"{url}\"}}}}\n\
             streams: [{{path: /value, http: {{upstream: legacy}}, every: 50ms}}]\n\
             routes: [{{prefix: /, upstream: legacy}}]\n{more}"
        ),
    )
}

async fn connect(
    gateway: &TestGateway,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(gateway.address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    soon(
        "a handshake",
        TlsConnector::from(config.clone()).connect(name, tcp),
    )
    .await
}

/// One request; everything that comes until the end.
async fn ask(stream: &mut TlsStream<TcpStream>, target: &str) -> std::io::Result<String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8(answer).expect("text"))
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("a chain");
    chain[0].clone().into_owned()
}

/// EDGE X11: exactly, then by wildcard, then the first one; and the upstream is told that it was TLS.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_chosen_by_name() {
    let authority = Authority::new();
    let (first, _) = authority.write("first", &["first.example", "localhost"]);
    let (exact, _) = authority.write("exact", &["x.wild.example"]);
    let (wild, _) = authority.write("wild", &["*.wild.example"]);
    let pairs = ["first", "exact", "wild"]
        .map(|file| authority.pair(file))
        .join(", ");
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&format!("{{certificates: [{pairs}]}}"), &upstream.url(), "");
    let mut client = authority.client(&[&TLS13, &TLS12], None);
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let client = Arc::new(client);
    for (name, expected) in [
        ("first.example", &first),
        ("x.wild.example", &exact),
        ("y.wild.example", &wild),
        ("localhost", &first),
    ] {
        let mut stream = connect(&gateway, &client, name).await.expect("a handshake");
        assert_eq!(&leaf(&stream), expected, "{name}");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = ask(&mut stream, "/a").await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A name that no certificate has gets the first one, which the client then refuses.
    let error = connect(&gateway, &client, "other.example")
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests
            .iter()
            .all(|r| r.header("x-forwarded-proto") == Some("https"))
    );
}

/// EDGE X9.
#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_refused() {
    let authority = Authority::new();
    authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    for (min, version, fine) in [
        ("1.2", &TLS12, true),
        ("1.2", &TLS13, true),
        ("1.3", &TLS13, true),
        ("1.3", &TLS12, false),
    ] {
        let tls = format!(
            "{{certificates: [{}], min_version: {min}}}",
            authority.pair("a")
        );
        let gateway = gateway(&tls, &upstream.url(), "");
        let client = Arc::new(authority.client(&[version], None));
        let stream = connect(&gateway, &client, "localhost").await;
        assert_eq!(stream.is_ok(), fine, "{min} {version:?}");
        if let Ok(mut stream) = stream {
            assert!(ask(&mut stream, "/a").await.is_ok());
        }
    }
}

/// Clients must show a certificate of the authority; others get none of our answers.
#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_required() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.write("a", &["localhost"]);
    let ours = authority.write("client", &["client"]);
    let theirs = other.write("client", &["client"]);
    let ca = authority.path("ca.pem");
    let upstream = TestUpstream::saying(json("1")).await;
    let tls = format!(
        "{{certificates: [{}], client_ca: {}}}",
        authority.pair("a"),
        ca.display()
    );
    let gateway = gateway(&tls, &upstream.url(), "");
    for (identity, fine) in [(Some(ours), true), (Some(theirs), false), (None, false)] {
        let client = Arc::new(authority.client(&[&TLS13], identity));
        // In TLS 1.3 the client hears of its refusal when it reads.
        let answer = match connect(&gateway, &client, "localhost").await {
            Ok(mut stream) => ask(&mut stream, "/a").await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        assert_eq!(answer.starts_with("HTTP/1.1 200"), fine, "{answer}");
    }
    assert_eq!(upstream.count(), 1);
}

/// EDGE O8, O6: a client whose certificate is refused hears an alert; the operator hears why, at the usual level.
#[tokio::test(flavor = "multi_thread")]
async fn refused_certificates_leave_a_line_that_says_why() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    for (identity, why) in [
        (None, "none was shown"),
        // It has the name of ours, but not its key.
        (Some(other.write("client", &["client"])), "BadSignature"),
        (Some(authority.version_1()), "not of X.509 version 3"),
    ] {
        let file = authority.path("wellspring.yaml");
        let text = format!(
            "listeners: [{{address: \"127.0.0.1:0\", tls: {{certificates: [{}], client_ca: {}}}}}]\nadmin: off\n\
             upstreams: {{legacy: {{url: \"{}\"}}}}\nroutes: [{{prefix: /, upstream: legacy}}]\n",
            authority.pair("a"),
            authority.path("ca.pem").display(),
            upstream.url()
        );
        std::fs::write(&file, text).expect("written");
        let mut command = program(env!("CARGO_BIN_EXE_wellspring"));
        command.args(["run", "--config"]).arg(&file);
        let mut process = Process::start(&mut command);
        let address = process.address().await;
        let tcp = TcpStream::connect(address).await.expect("connects");
        let client = Arc::new(authority.client(&[&TLS13], identity));
        let name = ServerName::try_from("localhost").expect("a name");
        let shaken = TlsConnector::from(client).connect(name, tcp).await;
        let answer = match shaken {
            Ok(mut stream) => ask(&mut stream, "/a").await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        assert_eq!(answer, "");
        let line = process.line("a client certificate was refused").await;
        assert!(line.contains(why) && line.contains("127.0.0.1"), "{line}");
        assert!(line.contains("INFO"), "{line}");
    }
    assert_eq!(upstream.count(), 0);
}

/// EDGE X11: new files are used for new connections, bad ones never; an open stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again() {
    let authority = Authority::new();
    let (before, _) = authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    let tls = format!("{{certificates: [{}]}}", authority.pair("a"));
    let gateway = gateway(&tls, &upstream.url(), "");
    let client = Arc::new(authority.client(&[&TLS13], None));
    let mut open = connect(&gateway, &client, "localhost")
        .await
        .expect("a handshake");
    assert_eq!(leaf(&open), before);
    let request = b"GET /value HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n";
    open.write_all(request).await.expect("sent");
    let mut seen = Vec::new();
    read_until(&mut open, &mut seen, "data: 1").await;

    // A bad pair first: it must have been looked at before the good one comes.
    std::fs::write(authority.path("a.key"), "no key").expect("written");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stream = connect(&gateway, &client, "localhost")
        .await
        .expect("a handshake");
    assert_eq!(leaf(&stream), before);

    let (after, _) = authority.write("a", &["localhost"]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let stream = connect(&gateway, &client, "localhost")
            .await
            .expect("a handshake");
        if leaf(&stream) == after {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never read again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    upstream.say(json("2"));
    read_until(&mut open, &mut seen, "data: 2").await;
}

async fn read_until(stream: &mut TlsStream<TcpStream>, seen: &mut Vec<u8>, text: &str) {
    while !String::from_utf8_lossy(seen).contains(text) {
        let count = soon("more of the stream", stream.read_buf(seen))
            .await
            .expect("read");
        assert!(
            count > 0,
            "the stream ended: {:?}",
            String::from_utf8_lossy(seen)
        );
    }
}

/// Mass reconnects resume: 300 clients, more than a cache of sessions would hold by default.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_resume() {
    let authority = Authority::new();
    authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(
        &format!("{{certificates: [{}]}}", authority.pair("a")),
        &upstream.url(),
        "",
    );
    let clients: Vec<_> = (0..300)
        .map(|_| Arc::new(authority.client(&[&TLS13], None)))
        .collect();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        for client in &clients {
            let mut stream = connect(&gateway, client, "localhost")
                .await
                .expect("a handshake");
            ask(&mut stream, "/a").await.expect("an answer");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        }
    }
}

/// EDGE P11; and a plain request is told what is spoken here.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_is_ended() {
    let authority = Authority::new();
    authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    let tls = format!("{{certificates: [{}]}}", authority.pair("a"));
    let gateway = gateway(&tls, &upstream.url(), "limits: {header_timeout: 1s}\n");
    let mut plain = Connection::open(gateway.address).await;
    plain.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = plain.response(false).await;
    assert_eq!(answer.head.status, 400);
    assert!(answer.body.contains("TLS"), "{}", answer.body);
    let mut half = Connection::open(gateway.address).await;
    half.send(b"\x16\x03\x01\x02").await;
    assert!(!half.fill().await, "a handshake must come in time");
    assert_eq!(upstream.count(), 0);
}

/// Another implementation speaks both protocols with us.
#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_both_protocols() {
    let authority = Authority::new();
    authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(
        &format!("{{certificates: [{}]}}", authority.pair("a")),
        &upstream.url(),
        "",
    );
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let url = format!("https://localhost:{}/value", gateway.address.port());
        let mut curl = program("curl");
        curl.args([flag, "-sS", "-w", " %{http_version}", "--cacert"])
            .arg(authority.path("ca.pem"))
            .args([
                "--resolve",
                &format!("localhost:{}:127.0.0.1", gateway.address.port()),
                &url,
            ]);
        let output = soon("curl", curl.output()).await.expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, format!("1 {version}"), "{why}");
    }
}
