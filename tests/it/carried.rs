//! Streams over TLS and over HTTP/2: what holds for a plain stream holds for them.

use std::collections::VecDeque;

use reqwest::{Certificate, ClientBuilder, Version};
use wellspring::config;
use wellspring::gateway::Gateway;
use wellspring::sse::parser::{Event, Item, Parser};

use super::support::upstream::{TestUpstream, json};
use super::support::{eventually, soon};

/// A gateway behind a certificate, and clients that believe it.
struct Encrypted {
    gateway: Gateway,
    url: String,
    certificate: Certificate,
    _files: tempfile::TempDir,
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    Tls12,
    Tls13,
    Http2,
}

const ALL: [Over; 3] = [Over::Tls12, Over::Tls13, Over::Http2];

impl Encrypted {
    /// One HTTP stream at `/value` that is polled every 50 ms, and `more` keys of it, indented by four.
    fn polling(upstream: &str, more: &str) -> Self {
        // Another test of this process may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let files = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let file = format!(
            "admin: off\nlisteners:\n  - address: 127.0.0.1:0\n    tls: {{certificates: [{{certificate: {}, key: {}}}]}}\nupstreams:\n  \
             legacy: {{url: \"{upstream}\"}}\nstreams:\n  - path: /value\n    http: {{upstream: legacy}}\n    every: 50ms\n{more}",
            certificate.display(),
            key.display()
        );
        let config = match config::parse("test.yaml", &file, &|_| None) {
            Ok(config) => config,
            Err(problems) => panic!("{problems}\n{file}"),
        };
        let gateway = Gateway::start(config).expect("starts");
        let port = gateway.addresses()[0].port();
        Self {
            gateway,
            url: format!("https://localhost:{port}/value"),
            certificate: Certificate::from_pem(made.cert.pem().as_bytes()).expect("PEM"),
            _files: files,
        }
    }

    /// A client that keeps what it does on one connection if it can.
    fn client(
        &self,
        over: Over,
        change: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> reqwest::Client {
        let builder = reqwest::Client::builder()
            .tls_certs_only([self.certificate.clone()])
            .no_proxy();
        let builder = match over {
            Over::Tls12 => builder
                .http1_only()
                .tls_version_max(reqwest::tls::Version::TLS_1_2),
            Over::Tls13 => builder
                .http1_only()
                .tls_version_min(reqwest::tls::Version::TLS_1_3),
            Over::Http2 => builder,
        };
        change(builder).build().expect("a client")
    }

    async fn open(&self, over: Over) -> Stream {
        Stream::open(&self.client(over, |builder| builder), &self.url, None).await
    }
}

/// An open stream.
struct Stream {
    response: reqwest::Response,
    parser: Parser,
    events: VecDeque<Event>,
    /// All of the body so far.
    read: String,
}

impl Stream {
    async fn open(client: &reqwest::Client, url: &str, id: Option<&str>) -> Self {
        let mut request = client.get(url).header("accept", "text/event-stream");
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        let response = soon("a head", request.send()).await.expect("an answer");
        assert_eq!(response.status(), 200);
        Self {
            response,
            parser: Parser::default(),
            events: VecDeque::new(),
            read: String::new(),
        }
    }

    /// The next event; `None`: a clean end.
    async fn next(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            let chunk = soon("more", self.response.chunk()).await.expect("no cut")?;
            self.read
                .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            let items = self.parser.push(&chunk).into_iter();
            self.events.extend(items.filter_map(|item| match item {
                Item::Event(event) => Some(event),
                _ => None,
            }));
        }
        self.events.pop_front()
    }

    async fn event(&mut self) -> Event {
        self.next().await.expect("it goes on")
    }

    async fn until_data(&mut self, data: &str) -> Event {
        loop {
            let event = self.event().await;
            if event.data == data {
                return event;
            }
        }
    }
}

/// H1–H3, L8, E11, L14: head, value, news, heartbeat, resume, and an end that is told, over each of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_the_same_however_it_is_carried() {
    for over in ALL {
        let upstream = TestUpstream::saying(json("1")).await;
        let gateway = Encrypted::polling(
            &upstream.url(),
            "    heartbeat: 1s\nshutdown: {drain: 1s, retry: [3s, 3s]}\n",
        );
        let mut stream = gateway.open(over).await;
        let version = match over {
            Over::Http2 => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        assert_eq!(stream.response.version(), version);
        let headers = stream.response.headers().clone();
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(
                headers.get_all(name).iter().collect::<Vec<_>>(),
                [value],
                "{over:?}"
            );
        }
        for name in ["date", "x-request-id"] {
            assert_eq!(headers.get_all(name).iter().count(), 1, "{over:?}: {name}");
        }
        for name in ["connection", "transfer-encoding"] {
            assert_eq!(
                headers.contains_key(name),
                over != Over::Http2,
                "{over:?}: {name}"
            );
        }
        let first = stream.event().await;
        assert_eq!(first.data, "1");
        assert!(stream.read.starts_with("retry: "), "{}", stream.read);
        upstream.say(json("2"));
        assert_eq!(stream.event().await.data, "2");
        while !stream.read.ends_with("\n\n:\n\n") {
            let chunk = soon("a heartbeat", stream.response.chunk()).await;
            let chunk = chunk.expect("no cut").expect("open");
            stream
                .read
                .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
        let client = gateway.client(over, |builder| builder);
        let mut resumed = Stream::open(&client, &gateway.url, Some(&first.id)).await;
        assert_eq!(resumed.event().await.data, "2");
        let (_, ends) = tokio::join!(soon("stopped", gateway.gateway.stop()), async {
            (
                stream.next().await,
                resumed.next().await,
                stream.next().await,
                resumed.next().await,
            )
        });
        let (Some(one), Some(other), None, None) = ends else {
            panic!("{over:?}: {ends:?}");
        };
        for end in [one, other] {
            assert_eq!(
                (end.name.as_str(), end.data.as_str()),
                ("closing", r#"{"reason":"drain"}"#)
            );
        }
        assert!(
            stream.read.contains("retry: 3000\n"),
            "{over:?}: {}",
            stream.read
        );
    }
}

fn document(n: usize) -> String {
    format!(r#"{{"n":{n},"pad":"{}"}}"#, "p".repeat(100_000))
}

/// B1–B4, X5, X7: who takes nothing is closed after the stall time; others get every event, on the same HTTP/2
/// connection too.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_closed_however_it_is_carried() {
    for over in [Over::Tls13, Over::Http2] {
        let upstream = TestUpstream::saying(json(&document(0))).await;
        let gateway = Encrypted::polling(&upstream.url(), "limits: {write_stall: 1s}\n");
        let client = gateway.client(over, |builder| {
            builder
                .http2_initial_stream_window_size(70_000)
                .http2_initial_connection_window_size(16 << 20)
        });
        let stalled = Stream::open(&client, &gateway.url, None).await;
        let mut fast = Stream::open(&client, &gateway.url, None).await;
        eventually("both are open", || gateway.gateway.open_streams() == 2).await;
        let mut n = 0;
        while gateway.gateway.open_streams() == 2 {
            fast.until_data(&document(n)).await;
            n += 1;
            upstream.say(json(&document(n)));
        }
        fast.until_data(&document(n)).await;
        assert_eq!(gateway.gateway.open_streams(), 1);
        drop(stalled);
    }
}

/// L17: who leaves is noticed at once; on HTTP/2 the connection and its other streams stay.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_noticed_however_it_is_carried() {
    for over in ALL {
        let upstream = TestUpstream::saying(json("1")).await;
        let gateway = Encrypted::polling(&upstream.url(), "    heartbeat: 5m\n");
        let client = gateway.client(over, |builder| builder);
        let mut leaves = Stream::open(&client, &gateway.url, None).await;
        let mut stays = Stream::open(&client, &gateway.url, None).await;
        assert_eq!(leaves.event().await.data, "1");
        assert_eq!(stays.event().await.data, "1");
        drop(leaves);
        eventually("one has left", || gateway.gateway.open_streams() == 1).await;
        upstream.say(json("2"));
        assert_eq!(stays.event().await.data, "2");
    }
}

/// L16: an end by age is whole, with a value that is larger than any window.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_whole_however_it_is_carried() {
    for over in ALL {
        let value = format!("\"{}\"", "v".repeat(300_000));
        let upstream = TestUpstream::saying(json(&value)).await;
        let gateway = Encrypted::polling(&upstream.url(), "    max_stream_age: 1s\n");
        let client = gateway.client(over, |builder| {
            builder.http2_initial_stream_window_size(70_000)
        });
        let mut stream = Stream::open(&client, &gateway.url, None).await;
        assert!(stream.event().await.data == value, "{over:?}");
        let end = stream.event().await;
        assert_eq!(
            (end.name.as_str(), end.data.as_str()),
            ("closing", r#"{"reason":"max-age"}"#)
        );
        assert!(stream.next().await.is_none());
        drop(stream);
        eventually("it is over", || gateway.gateway.open_streams() == 0).await;
    }
}

/// B1, B2: a stream whose client opens no window is moved to the newest by one event when it does, and goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_opens_late_gets_the_newest() {
    let upstream = TestUpstream::saying(json(&document(0))).await;
    let gateway = Encrypted::polling(
        &upstream.url(),
        "limits: {queue: 256KiB, write_stall: 5m}\n",
    );
    let client = gateway.client(Over::Http2, |builder| {
        builder.http2_initial_stream_window_size(70_000)
    });
    let mut slow = Stream::open(&client, &gateway.url, None).await;
    let mut fast = Stream::open(&client, &gateway.url, None).await;
    for n in 0..20 {
        upstream.say(json(&document(n)));
        fast.until_data(&document(n)).await;
    }
    let mut seen = 1;
    while slow.event().await.data != document(19) {
        seen += 1;
    }
    assert!(seen < 6, "{seen} events were kept for it");
    upstream.say(json(&document(20)));
    assert!(slow.event().await.data == document(20));
}
