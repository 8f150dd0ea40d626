//! The front of the house: from an accepted socket to requests, in order: PROXY header, TLS, HTTP/1.1 or HTTP/2.
//!
//! Handshakes run in tasks of their own, so that what they need is gone when a connection is served.

mod body;
#[doc(hidden)]
pub mod doors;
mod head;
mod http1;
mod http2;
mod meter;
mod proxy_protocol;
mod refused;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::accept::{House, Open, Shared};
use super::conn::Connection;
use super::peer::Origin;
use crate::config::{Config, Listener};
use crate::metrics::Metrics;
pub(super) use body::Body;
pub(super) use head::{MAX_HEADERS, MAX_LINE};
pub(super) use meter::Meter;
use refused::Refused;
pub use tls::TlsError;
use tls::{Alpn, Tls};

/// How long a proxy may take for its PROXY header (EDGE Q4).
const PROXY_HEADER: Duration = Duration::from_secs(5);

/// Client certificates that were refused, at any door.
static REFUSED: Refused = Refused::new();

/// How a door takes connections.
#[derive(Debug)]
pub struct Settings {
    /// What the file says about it.
    pub(super) listener: Arc<Listener>,
    tls: Option<Tls>,
    /// Who may send a PROXY header.
    trusted: Vec<IpNet>,
    header_timeout: Duration,
    max_header_bytes: usize,
    /// How long nothing may come of a body over HTTP/2.
    pub(super) body_silence: Duration,
    /// How long a client may take no bytes (EDGE B3).
    write_stall: Duration,
}

impl Settings {
    /// What `config` says about `listener`, one of its own.
    pub fn new(config: &Config, listener: &Listener) -> Result<Self, TlsError> {
        Ok(Self {
            listener: Arc::new(listener.clone()),
            tls: listener.tls.as_ref().map(Tls::new).transpose()?,
            trusted: config.client_address.trusted_proxies.clone(),
            header_timeout: config.limits.header_timeout,
            max_header_bytes: config.limits.max_header_bytes,
            body_silence: http2::SILENCE,
            write_stall: config.limits.write_stall,
        })
    }
}

/// Whoever has come by a door.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    origin: Origin,
    settings: Arc<Settings>,
    house: Arc<House>,
}

impl Guest {
    pub(super) fn new(door: Arc<Shared>, house: Arc<House>, address: SocketAddr) -> Self {
        let settings = door.settings();
        let tls = settings.tls.is_some();
        let open = Arc::new(Open::new(door.clone()));
        let origin = Origin {
            door,
            open,
            address,
            tls,
            heard: None,
        };
        Self {
            origin,
            settings,
            house,
        }
    }

    /// Where it is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.house.metrics
    }

    /// The connection's other end.
    pub(super) fn client(&self) -> IpAddr {
        self.origin.address.ip().to_canonical()
    }

    /// Serves one request, and gives the connection back when it goes on.
    async fn serve(&self, session: ServerSession) -> Option<Box<Connection>> {
        let House { proxy, stop, .. } = &*self.house;
        let (stream, _) = proxy.process_new_http(session, stop).await?.consume();
        // Only ours go in.
        stream.into_any().downcast::<Connection>().ok()
    }

    /// Completes when the process ends.
    async fn stopped(&self) {
        let mut stop = self.house.stop.clone();
        while !*stop.borrow_and_update() {
            // A sender that is gone means the same.
            if stop.changed().await.is_err() {
                return;
            }
        }
    }

    /// Serves a connection in a task of its own.
    fn spawn(&self, serve: impl Future<Output = ()> + Send + 'static) {
        self.house.requests.spawn(self.origin.clone().scope(serve));
    }

    fn spawn_http1(self, connection: Box<Connection>) {
        self.clone().spawn(http1::serve(self, connection));
    }

    fn spawn_http2(self, connection: Box<Connection>) {
        self.clone().spawn(http2::serve(self, connection));
    }
}

/// Takes a connection in.
pub(super) fn welcome(mut guest: Guest, mut tcp: TcpStream) {
    if guest.settings.tls.is_none() && !guest.settings.listener.proxy_protocol {
        return guest.spawn_http1(Connection::plain(tcp));
    }
    let requests = guest.house.requests.clone();
    requests.spawn(async move {
        if guest.settings.listener.proxy_protocol {
            let believed =
                proxy_protocol::receive(&mut tcp, guest.origin.address, &guest.settings.trusted);
            match timeout(PROXY_HEADER, believed).await {
                Ok(Ok(address)) => guest.origin.address = address,
                Ok(Err(why)) => return debug!(%why, "a connection did not begin as a proxy's"),
                Err(_) => return debug!("no PROXY header came in time"),
            }
        }
        let Some(tls) = &guest.settings.tls else {
            return guest.spawn_http1(Connection::plain(tcp));
        };
        match timeout(guest.settings.header_timeout, tls.accept(tcp)).await {
            Ok(Ok((stream, Alpn::Http1))) => guest.spawn_http1(Connection::tls(stream)),
            Ok(Ok((stream, Alpn::Http2))) => guest.spawn_http2(Connection::tls(stream)),
            Ok(Err(error)) => {
                debug!(%error, "a TLS handshake failed");
                REFUSED.tell(guest.origin.address, &error, Instant::now());
            }
            Err(_) => debug!("a TLS handshake took too long"),
        }
    });
}

/// Looks after the files of a door's certificates, for as long as it is run (EDGE X11).
pub(super) async fn watch_files(door: Arc<Shared>) {
    loop {
        tokio::time::sleep(tls::LOOK).await;
        let settings = door.settings();
        // Reading files blocks.
        let look = tokio::task::spawn_blocking(move || settings.tls.as_ref().map(Tls::look));
        if look.await.is_err() {
            return;
        }
    }
}
