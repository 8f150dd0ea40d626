//! The admin listener (CONTRACT.md §4): plain HTTP/1.1 for operators, on a socket of its own, so that no client reaches it
//! and it is there when clients cannot be served (EDGE O1, Q13).
//!
//! It only looks. It runs on the same threads as the gateway: when they hang, it hangs, and whoever asks for `/livez` knows.
//! Few connections at a time, each for a bounded time.

mod guard;
mod ready;
mod reply;
mod view;
mod visitors;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::channel::{Channel, Hub, StreamId};
use crate::config::{Config, Secret};
use crate::edge::accept::Failures;
use crate::fanout::Fanout;
use crate::metrics::{self, Metrics};

use reply::{Body, json, problem};
use visitors::{Visit, Visitors};

/// Connections at a time. Operators are few.
const CONNECTIONS: usize = 64;
/// A head must be complete within this time, and a connection is idle no longer (EDGE B7).
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a head, and headers of it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// No connection lasts longer: a client that does not read its answer holds its place no longer either.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What operators may ask about.
pub struct Admin {
    running: ArcSwap<Running>,
    fanout: Arc<Fanout>,
    metrics: Arc<Metrics>,
    failures: Arc<Failures>,
    stop: watch::Receiver<bool>,
    token: Option<Secret>,
}

/// One reading of the file, and its channels.
#[derive(Debug)]
pub struct Running {
    /// What the file says.
    pub config: Arc<Config>,
    /// Of its streams, in the order of the file.
    pub ids: Vec<StreamId>,
    /// Whose channels are those of the file's streams.
    pub hub: Arc<Hub>,
}

impl Running {
    /// The channels of the stream with this index in the file.
    fn channels(&self, index: usize) -> Vec<Arc<Channel>> {
        self.hub.channels(self.ids[index])
    }
}

impl Admin {
    /// An admin over running parts. `stop` turns true when the gateway drains.
    pub fn new(
        running: Running,
        (fanout, metrics, failures): (Arc<Fanout>, Arc<Metrics>, Arc<Failures>),
        stop: watch::Receiver<bool>,
    ) -> Self {
        let admin = running.config.admin.as_ref();
        Self {
            token: admin.and_then(|admin| admin.token.clone()),
            running: ArcSwap::from_pointee(running),
            fanout,
            metrics,
            failures,
            stop,
        }
    }

    /// The file was read again.
    pub fn show(&self, running: Running) {
        self.running.store(Arc::new(running));
    }

    /// Serves until dropped.
    pub async fn serve(self: Arc<Self>, socket: std::net::TcpListener) -> io::Result<()> {
        let socket = TcpListener::from_std(socket)?;
        let visitors = Visitors::new(CONNECTIONS);
        loop {
            match socket.accept().await {
                Ok((tcp, _)) => {
                    let (admin, visit) = (self.clone(), visitors.come());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = admin.connection(tcp, &visit) => {}
                            () = visit.is_over() => {
                                debug!("an admin connection made room for another");
                            }
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "the admin listener accepts no connection for the moment");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, visit: &Visit) {
        let Ok(own) = tcp.local_addr() else {
            return;
        };
        let asks = visit.asks();
        let service = service_fn(move |request| {
            asks();
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(request, own).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(tcp), service);
        if let Ok(Err(error)) = timeout(MAX_AGE, connection).await {
            debug!(%error, "an admin connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, own: SocketAddr) -> Response<Body> {
        let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let head_only = request.method() == Method::HEAD;
        let response = match guard::check(&request, own.ip(), self.token.as_ref()) {
            Ok(()) => self.page(&request, &id).await,
            Err(refusal) => refusal.response(&id),
        };
        reply::finish(response, &id, head_only)
    }

    async fn page(&self, request: &Request<Incoming>, id: &str) -> Response<Body> {
        let running = self.running.load_full();
        match request.uri().path() {
            "/livez" => json(StatusCode::OK, &serde_json::json!({"status": "alive"})),
            "/readyz" => {
                let why = ready::faults(&running, &self.fanout, &self.failures, &self.stop).await;
                match why.is_empty() {
                    true => json(StatusCode::OK, &serde_json::json!({"status": "ready"})),
                    false => json(
                        StatusCode::SERVICE_UNAVAILABLE,
                        &serde_json::json!({"status": "not ready", "why": why}),
                    ),
                }
            }
            "/metrics" => self.scrape(request).await,
            "/api/streams" => json(StatusCode::OK, &view::streams(&running, &self.metrics)),
            "/api/channels" => json(StatusCode::OK, &view::channels(&running)),
            "/api/config" => json(StatusCode::OK, &running.config.shown.0),
            path => match path
                .strip_prefix("/api/channels/")
                .and_then(|id| view::channel(&running, id))
            {
                Some(channel) => json(StatusCode::OK, &channel),
                None => problem(StatusCode::NOT_FOUND, "There is nothing here.", id),
            },
        }
    }

    /// Everything that is counted. Looking at all descriptors of the process takes a while when there are many.
    async fn scrape(&self, request: &Request<Incoming>) -> Response<Body> {
        let metrics = self.metrics.clone();
        let accept = request.headers().get(http::header::ACCEPT);
        let open = accept
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("application/openmetrics-text"));
        let text = tokio::task::spawn_blocking(move || match open {
            true => metrics.open_metrics(),
            false => metrics::classic(&metrics.open_metrics()),
        });
        let media_type = if open {
            metrics::OPEN_METRICS
        } else {
            metrics::CLASSIC
        };
        reply::text(media_type, text.await.unwrap_or_default())
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

/// Where a process of this machine reaches a listener at `address`: an unspecified address is every one of the machine.
pub fn reach(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
