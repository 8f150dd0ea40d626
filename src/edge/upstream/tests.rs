//! Several addresses, and upstreams that are silent: through the whole edge, with short patience.

mod slow_bodies;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::line::{Lines, Patience};
use crate::channel::{ChannelKey, EventId, Hub, StreamId};
use crate::config;
use crate::edge::accept::{self, Door, House};
use crate::edge::limit::Places;
use crate::edge::{Edge, Publish, PublishError, Settings};
use crate::fanout::{Fanout, Limits};
use crate::metrics::Metrics;
use crate::value::Value;

struct Nobody;

#[async_trait]
impl Publish for Nobody {
    async fn publish(&self, _: ChannelKey, _: Value) -> Result<EventId, PublishError> {
        Err(PublishError::Unreachable)
    }
}

/// Passes everything through to these addresses. Ends with its sender.
struct Gateway {
    address: SocketAddr,
    _door: Door,
    _stop: watch::Sender<bool>,
}

impl Gateway {
    fn to(upstreams: &[SocketAddr]) -> Self {
        Self::with(upstreams, |_| {})
    }

    /// The same with an edge that is another in some way.
    fn with(upstreams: &[SocketAddr], change: impl FnOnce(&mut Edge)) -> Self {
        Self::start("http://name.test", |edge| {
            let live = edge.live.load_full();
            live.upstreams["a"].shared.addresses.set(upstreams);
            change(edge);
        })
    }

    fn start(url: &str, change: impl FnOnce(&mut Edge)) -> Self {
        let file = format!(
            "listeners: [{{address: \"127.0.0.1:0\"}}]\nupstreams: {{a: {{url: \"{url}\"}}}}\n\
             streams: [{{path: /told, publish: {{path: /tell}}}}]\n\
             routes: [{{prefix: /, upstream: a, websockets: true}}]\n"
        );
        let config = Arc::new(config::parse("test.yaml", &file, &|_| None).expect("is good"));
        let limits = Limits {
            queue: 1 << 16,
            write_stall: Duration::from_secs(5),
        };
        let fanout = Arc::new(Fanout::start(1, limits).expect("starts"));
        let (stop, stopped) = watch::channel(false);
        let hub = Arc::<Hub>::default();
        let metrics = Arc::new(Metrics::new());
        let (mut edge, _) = Edge::new(
            config.clone(),
            vec![StreamId::new()],
            hub,
            fanout,
            Arc::new(Nobody),
            metrics.clone(),
            stopped.clone(),
        );
        edge.lines = Lines::new(Patience {
            head: Duration::from_millis(300),
            body: Duration::from_millis(300),
            look: Duration::from_millis(20),
        });
        change(&mut edge);
        let conf = ServerConf {
            max_retries: 16,
            ..ServerConf::default()
        };
        let mut proxy = http_proxy(&Arc::new(conf), edge);
        proxy.server_options = Some(HttpServerOptions::default());
        let listener = &config.listeners[0];
        let mut settings = Settings::new(&config, listener).expect("is good");
        settings.body_silence = Duration::from_millis(600);
        let socket = accept::bind(listener.address).expect("binds");
        let address = socket.local_addr().expect("bound");
        let house = House {
            proxy: Arc::new(proxy),
            stop: stopped,
            requests: TaskTracker::new(),
            metrics,
            failures: Arc::default(),
        };
        let door = Door::open(socket, settings, house).expect("opens");
        Self {
            address,
            _door: door,
            _stop: stop,
        }
    }

    /// A request of a client at this address.
    async fn send_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((address, 0))).expect("binds");
        let mut client = socket.connect(self.address).await.expect("connects");
        let request = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.expect("sends");
        client
    }

    async fn send(&self, method: &str, more: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.expect("connects");
        let request = format!("{method} /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n");
        client.write_all(request.as_bytes()).await.expect("sends");
        client
    }

    async fn ask(&self, method: &str, more: &str) -> String {
        let mut answer = String::new();
        let mut client = self.send(method, more).await;
        let read = timeout(Duration::from_secs(10), client.read_to_string(&mut answer)).await;
        read.expect("ends").expect("is text");
        answer
    }
}

/// Says `answer` to each request; what comes after is the reader's.
async fn upstream(answer: &'static str, goes_on: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = stream.write_all(answer.as_bytes()).await;
                if goes_on {
                    let _ = stream.read_buf(&mut bytes).await;
                }
            });
        }
    });
    address
}

/// Nobody listens there.
async fn closed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    listener.local_addr().expect("bound")
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// EDGE P19: addresses that take no connection fail no request while another does, whatever the method: nothing was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_down_address_fails_nothing() {
    let all = [closed().await, closed().await, upstream(FINE, false).await];
    let gateway = Gateway::to(&all);
    for (method, more) in [("GET", ""), ("POST", "content-length: 0\r\n"), ("GET", "")] {
        assert!(
            gateway.ask(method, more).await.ends_with("\r\n\r\nok"),
            "{method}"
        );
    }
}

/// EDGE F6.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_address_the_answer_is_502() {
    let gateway = Gateway::to(&[closed().await, closed().await]);
    for _ in 0..2 {
        let answer = gateway.ask("GET", "").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

/// EDGE F6: silence before the head is a timeout, and no reason to ask again.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_says_nothing_gives_504() {
    let gateway = Gateway::to(&[upstream("", true).await]);
    let answer = gateway.ask("GET", "accept: */*\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

/// EDGE P16: an event stream may be silent, whatever the client said that it accepts; other bodies may not.
#[tokio::test(flavor = "multi_thread")]
async fn event_streams_may_be_silent_and_others_may_not() {
    let quiet = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
    let hung = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nhalf";
    let gateway = Gateway::to(&[upstream(quiet, true).await]);
    let mut client = gateway.send("GET", "accept: */*\r\n").await;
    let mut bytes = Vec::new();
    while !bytes.windows(7).any(|window| window == b"data: 1") {
        assert!(client.read_buf(&mut bytes).await.expect("reads") > 0);
    }
    let after = timeout(Duration::from_secs(1), client.read(&mut [0; 64])).await;
    assert!(
        after.is_err() || matches!(after, Ok(Ok(count)) if count > 0),
        "it was cut"
    );

    let gateway = Gateway::to(&[upstream(hung, true).await]);
    let answer = gateway.ask("GET", "accept: */*\r\n").await;
    assert!(answer.ends_with("half"), "{answer}");
}

/// EDGE U5: a name is asked for its addresses, and whichever of them takes connections serves, whatever the others do.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_all_of_its_addresses() {
    let listening = upstream(FINE, false).await;
    let gateway = Gateway::start(&format!("http://localhost:{}", listening.port()), |_| {});
    for _ in 0..4 {
        let answer = gateway.ask("GET", "").await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }
    let nowhere = Gateway::start("http://name.invalid", |_| {});
    let answer = nowhere.ask("GET", "").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

/// EDGE Q6: one client has half of the places, is told so, and leaves the rest to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_leaves_places_to_others() {
    let quiet = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
    let all = [upstream(quiet, true).await];
    let gateway = Gateway::with(&all, |edge| edge.places = Places::new(2));
    let mut holds = gateway.send("GET", "").await;
    holds.read_u8().await.expect("is answered");
    let answer = gateway.ask("GET", "").await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    let answer = answer.to_lowercase();
    for part in [
        "retry-after: ",
        "ratelimit-policy: \"passed_through\";q=1;qu=\"concurrent-requests\"",
        "application/problem+json",
        "connection: close",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    let mut held = gateway.send_from([127, 0, 0, 2]).await;
    let mut status = [0; 12];
    held.read_exact(&mut status).await.expect("is answered");
    assert_eq!(&status, b"HTTP/1.1 200");
    // Now all are taken, whoever asks.
    let mut refused = gateway.send_from([127, 0, 0, 3]).await;
    refused.read_exact(&mut status).await.expect("is answered");
    assert_eq!(&status, b"HTTP/1.1 503");
    drop(holds);
    // The place comes back when the client has left.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = gateway.send_from([127, 0, 0, 1]).await;
        again.read_exact(&mut status).await.expect("is answered");
        if &status == b"HTTP/1.1 200" {
            break;
        }
        assert!(Instant::now() < deadline, "never again");
    }
}
