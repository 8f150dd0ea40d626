//! TLS and HTTP/2: who is believed, who we are, and what each refusal is called.

use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::upstream::{Scripted, hang};
use super::*;
use crate::config::{Secret, TlsIdentity};

struct Authority {
    pem: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let pem = params
            .self_signed(&key)
            .expect("a certificate")
            .pem()
            .into_bytes();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { certificate, key }
    }
}

/// Answers every request with a JSON object that says how it came. Ends with its handle.
struct Secure {
    url: String,
    /// What the client called the server (SNI), connection by connection.
    names: Arc<Mutex<Vec<Option<String>>>>,
    task: JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Secure {
    async fn start(leaf: &Leaf, clients: Option<&Authority>, alpn: &[&str]) -> Self {
        let acceptor = acceptor(leaf, clients, alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let names = Arc::new(Mutex::new(Vec::new()));
        let seen = names.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    seen.lock().expect("not poisoned").push(name);
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = hyper::service::service_fn(answer);
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let url = format!("https://localhost:{port}");
        Self { url, names, task }
    }
}

fn acceptor(leaf: &Leaf, clients: Option<&Authority>, alpn: &[&str]) -> TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let pem =
                rustls::pki_types::pem::PemObject::from_pem_slice(&authority.pem).expect("PEM");
            roots.add(pem).expect("an authority");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            ServerConfig::builder().with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).expect("a key");
    let chain = vec![leaf.certificate.der().clone()];
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

type Body = http_body_util::combinators::BoxBody<Bytes, String>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let version = match request.version() {
        Version::HTTP_2 => "h2",
        _ => "h1",
    };
    let text = format!("{{\"via\":\"{version}\"}}");
    let whole = |text: String| {
        http_body_util::Full::from(text)
            .map_err(|never| match never {})
            .boxed()
    };
    let mut response = Response::new(match request.uri().path() {
        // A reset stream, or a chunk that never comes, once half of the body is out.
        "/half" => {
            let frames = [
                Ok(Frame::data(Bytes::from("{"))),
                Err("given up".to_owned()),
            ];
            // A pause lets the server send what it has.
            let paused = futures_util::stream::iter(frames).then(|frame| async {
                tokio::task::yield_now().await;
                frame
            });
            BodyExt::boxed(StreamBody::new(paused))
        }
        "/endless" => {
            let frames = std::iter::repeat_with(|| Ok(Frame::data(Bytes::from(vec![b' '; 8192]))));
            BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
        }
        "/tagged" if request.headers().contains_key("if-none-match") => {
            let mut response = Response::new(whole(String::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        _ => whole(text),
    });
    response
        .headers_mut()
        .insert("etag", "\"1\"".parse().expect("a value"));
    Ok(response)
}

fn trusting(url: &str, authority: &Authority) -> config::HttpSource {
    with(spec(url), |upstream| {
        upstream.tls.ca = Some(authority.pem.clone())
    })
}

fn showing(spec: config::HttpSource, leaf: &Leaf) -> config::HttpSource {
    with(spec, |upstream| {
        upstream.tls.identity = Some(TlsIdentity {
            certificate: leaf.certificate.pem().into_bytes(),
            key: Secret::new(leaf.key.serialize_pem()),
        });
    })
}

#[tokio::test]
async fn the_protocol_is_agreed_upon_and_the_name_is_sent() {
    let authority = Authority::new();
    let leaf = authority.leaf("localhost", |_| {});
    for (alpn, via) in [
        (&["h2", "http/1.1"][..], "h2"),
        (&["http/1.1"], "h1"),
        (&[], "h1"),
    ] {
        let upstream = Secure::start(&leaf, None, alpn).await;
        let mut spec = trusting(&upstream.url, &authority);
        spec.path = ParamText::literal("/tagged");
        let mut source = source(&spec);
        assert_eq!(
            reading(&mut source).await,
            json(&format!("{{\"via\":\"{via}\"}}"))
        );
        assert_eq!(reading(&mut source).await, Ok(Reading::NotModified));
        // One connection for both.
        let names = upstream.names.lock().expect("not poisoned").clone();
        assert_eq!(names, [Some("localhost".to_owned())]);
    }
}

/// EDGE U18, U20: HTTP/2 obeys the same limits.
#[tokio::test]
async fn bodies_over_both_protocols_obey_the_same_limits() {
    let authority = Authority::new();
    let leaf = authority.leaf("localhost", |_| {});
    for alpn in ["h2", "http/1.1"] {
        let upstream = Secure::start(&leaf, None, &[alpn]).await;
        for (path, cause) in [("/half", Cause::Malformed), ("/endless", Cause::TooLarge)] {
            let mut spec = trusting(&upstream.url, &authority);
            spec.path = ParamText::literal(path);
            assert_eq!(
                reading(&mut source(&spec)).await,
                Err(cause),
                "{alpn} {path}"
            );
        }
    }
}

#[tokio::test]
async fn who_cannot_be_verified_is_tls() {
    let authority = Authority::new();
    let good = authority.leaf("localhost", |_| {});
    let other = authority.leaf("other.test", |_| {});
    let expired = authority.leaf("localhost", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1)
    });
    for (leaf, trusted) in [
        (&good, &Authority::new()),
        (&other, &authority),
        (&expired, &authority),
    ] {
        let upstream = Secure::start(leaf, None, &["h2", "http/1.1"]).await;
        let spec = trusting(&upstream.url, trusted);
        assert_eq!(reading(&mut source(&spec)).await, Err(Cause::Tls));
        assert!(upstream.names.lock().expect("not poisoned").is_empty());

        // `verify: false` is the only way in.
        let spec = with(spec, |upstream| upstream.tls.insecure = true);
        assert_eq!(reading(&mut source(&spec)).await, json("{\"via\":\"h2\"}"));
    }
}

/// A private authority replaces the system's; without `ca` it is not believed.
#[tokio::test]
async fn the_systems_authorities_do_not_vouch_for_ours() {
    let authority = Authority::new();
    let upstream = Secure::start(&authority.leaf("localhost", |_| {}), None, &["http/1.1"]).await;
    let spec = spec(&upstream.url);
    let _ = rustls::crypto::ring::default_provider().install_default();
    match HttpClient::new(spec.upstream.clone(), Default::default()) {
        Ok(client) => {
            let mut source = HttpSource::new(client, spec.into(), Params::default(), None);
            assert_eq!(reading(&mut source).await, Err(Cause::Tls));
        }
        // A machine without authorities.
        Err(error) => assert!(error.to_string().contains("tls.ca"), "{error}"),
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_there_is_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for alpn in ["h2", "http/1.1"] {
        let upstream = Secure::start(
            &authority.leaf("localhost", |_| {}),
            Some(&clients),
            &[alpn],
        )
        .await;
        let spec = trusting(&upstream.url, &authority);
        assert_eq!(reading(&mut source(&spec)).await, Err(Cause::Tls), "{alpn}");
        let stranger = showing(spec.clone(), &authority.leaf("me", |_| {}));
        assert_eq!(
            reading(&mut source(&stranger)).await,
            Err(Cause::Tls),
            "{alpn}"
        );
        let known = showing(spec, &clients.leaf("me", |_| {}));
        assert!(
            matches!(reading(&mut source(&known)).await, Ok(Reading::Value(_))),
            "{alpn}"
        );
    }
}

#[tokio::test]
async fn https_to_what_does_not_speak_it_is_tls() {
    let authority = Authority::new();
    // A TLS client's hello holds no blank line, so the script never starts: answer it from a bare listener.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let answers = tokio::spawn(async move {
        for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    let mut source = source(&trusting(&format!("https://{address}"), &authority));
    assert_eq!(reading(&mut source).await, Err(Cause::Tls));
    assert_eq!(reading(&mut source).await, Err(Cause::Tls));
    answers.await.expect("both asked");
}

/// EDGE U20: after a good handshake, an upstream that does not speak the protocol that it chose, or does not speak at all.
#[tokio::test]
async fn http2_that_is_none_has_its_cause() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.leaf("localhost", |_| {}), None, &["h2"]);
    let go_away = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\x01";
    for (bytes, cause) in [
        (&b"HTTP/1.1 200 OK\r\n\r\n"[..], Cause::Malformed),
        (&go_away[..], Cause::Connect),
        (&b"\0\0\0\x04\0\0\0\0\0"[..], Cause::Connect),
        (&b""[..], Cause::Connect),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let acceptor = acceptor.clone();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            // Settings and request are out, so that the end is not one of an unused connection.
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
        });
        let spec = trusting(&format!("https://localhost:{port}"), &authority);
        assert_eq!(reading(&mut source(&spec)).await, Err(cause), "{bytes:?}");
        server.await.expect("asked");
    }
}

/// EDGE U6: a handshake that hangs is a timeout, not a TLS failure.
#[tokio::test]
async fn a_handshake_that_hangs_is_a_timeout() {
    let upstream = Scripted::start([hang("")]).await;
    let url = upstream.url.replace("http:", "https:");
    let spec = with(trusting(&url, &Authority::new()), |upstream| {
        upstream.timeouts.connect = Duration::from_millis(60);
    });
    assert_eq!(reading(&mut source(&spec)).await, Err(Cause::Timeout));
}

/// What is wrong with the files is known before the first poll, and nothing is trusted for want of them.
#[test]
fn bad_files_are_told_at_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new();
    let leaf = authority.leaf("me", |_| {});
    let good = trusting("https://localhost", &authority);
    let pair = |certificate: &[u8], key: &str| {
        let identity = TlsIdentity {
            certificate: certificate.to_vec(),
            key: Secret::new(key),
        };
        with(good.clone(), |upstream| {
            upstream.tls.identity = Some(identity)
        })
    };
    let certificate = leaf.certificate.pem().into_bytes();
    let key = leaf.key.serialize_pem();
    let ca = |pem: &[u8]| {
        with(good.clone(), |upstream| {
            upstream.tls.ca = Some(pem.to_vec())
        })
    };
    for (spec, named) in [
        (ca(b""), "tls.ca"),
        (ca(b"no PEM"), "tls.ca"),
        (
            ca(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "",
        ),
        (pair(&certificate, ""), "tls.key"),
        (pair(b"", &key), "tls.key"),
        (
            pair(
                &certificate,
                &authority.leaf("x", |_| {}).key.serialize_pem(),
            ),
            "",
        ),
    ] {
        let error = HttpClient::new(spec.upstream.clone(), Default::default())
            .expect_err("bad")
            .to_string();
        assert!(!error.is_empty() && error.contains(named), "{error}");
    }
    assert!(
        HttpClient::new(
            pair(&certificate, key.trim_end()).upstream,
            Default::default()
        )
        .is_ok()
    );
}
