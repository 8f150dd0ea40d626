//! Pass-through to https: who is believed (EDGE X12).

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::client::get;
use super::support::gateway::TestGateway;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }
}

/// Answers `ok` with a certificate for `name`; gives the port.
async fn secure(authority: &Authority, name: &str) -> u16 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params
        .signed_by(&key, &authority.issuer)
        .expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.unwrap_or(0) > 0
                {}
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
                let _ = stream.read_buf(&mut head).await;
            });
        }
    });
    port
}

/// EDGE X12: names and addresses alike are verified; by nothing but `verify: false` is it left out.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_who_its_certificate_says() {
    let (ours, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &ours.pem).expect("writes");
    let trust = format!("ca: {}", ca.display());
    for (authority, certified, host, tls, status) in [
        (&ours, "127.0.0.1", "127.0.0.1", trust.as_str(), 200),
        (&ours, "127.0.0.2", "127.0.0.1", &trust, 502),
        (&ours, "localhost", "127.0.0.1", &trust, 502),
        (&ours, "localhost", "localhost", &trust, 200),
        (&ours, "other.test", "localhost", &trust, 502),
        (&other, "127.0.0.1", "127.0.0.1", &trust, 502),
        (&other, "localhost", "localhost", &trust, 502),
        (&ours, "127.0.0.1", "127.0.0.1", "", 502),
        (&ours, "localhost", "localhost", "", 502),
        (&other, "other.test", "127.0.0.1", "verify: false", 200),
    ] {
        let port = secure(authority, certified).await;
        let gateway = TestGateway::start(&format!(
            "upstreams: {{legacy: {{url: \"https://{host}:{port}\", tls: {{{tls}}}}}}}\n\
             routes: [{{prefix: /, upstream: legacy}}]\n"
        ));
        let answer = get(gateway.address, "/", &[]).await;
        assert_eq!(
            answer.head.status, status,
            "{certified} as {host} with {tls:?}"
        );
    }
}

/// Two upstreams at one address do not share connections that only one of them trusts.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_not_shared_over_trust() {
    let (ours, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    for (name, authority) in [("ours", &ours), ("other", &other)] {
        let file = folder.path().join(format!("{name}.pem"));
        std::fs::write(file, &authority.pem).expect("writes");
    }
    let port = secure(&ours, "localhost").await;
    let folder = folder.path().display();
    let gateway = TestGateway::start(&format!(
        "upstreams:\n  trusting: {{url: \"https://localhost:{port}\", tls: {{ca: {folder}/ours.pem}}}}\n  \
         wary: {{url: \"https://localhost:{port}\", tls: {{ca: {folder}/other.pem}}}}\n\
         routes: [{{prefix: /a, upstream: trusting}}, {{prefix: /b, upstream: wary}}]\n"
    ));
    assert_eq!(get(gateway.address, "/a", &[]).await.head.status, 200);
    assert_eq!(get(gateway.address, "/b", &[]).await.head.status, 502);
}
