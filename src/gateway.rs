//! The only wiring: checked configuration → channels, pollers, fan-out, edge; and the order of stopping.

mod feeds;
mod operators;
mod predecessor;
pub mod probe;
mod publish;
mod reload;
mod sharing;
mod sockets;
mod sources;
mod streams;
mod successor;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::channel::Hub;
use crate::config::{self, Config};
use crate::edge::accept::{Door, Failures, House};
use crate::edge::{self, Edge, Settings, Switch, TlsError};
use crate::fanout::{self, Fanout};
use crate::metrics::Metrics;
use operators::Operators;
use publish::Publisher;
use sockets::Sockets;
use sources::{Sources, http_client, redis_client};
use streams::{Ground, Streams};

pub use predecessor::Predecessor;
pub use reload::Reloaded;
pub use successor::{Launch, NoSuccessor, Successor};

/// How long leases of shared channels may take to be given up.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    config: Arc<Config>,
    doors: Vec<Standing>,
    admin: Option<Operators>,
    metrics: Arc<Metrics>,
    sources: Sources,
    streams: Streams,
    ground: Ground,
    switch: Switch,
    fanout: Arc<Fanout>,
    house: House,
    stop: watch::Sender<bool>,
}

/// A gateway that accepts nothing yet.
struct Prepared {
    gateway: Gateway,
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
}

/// A door, and the address that the file gives it.
#[derive(Debug)]
struct Standing {
    configured: SocketAddr,
    door: Door,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be bound.
    #[error("{address} cannot be bound: {error}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A listener cannot speak TLS.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The system gives no threads or descriptors.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A client for an upstream cannot be made.
    #[error("upstream {name}: {error}")]
    Upstream {
        /// The key in the file.
        name: String,
        /// What is wrong.
        error: String,
    },
    /// A client for a Redis server cannot be made.
    #[error("redis {name}: {error}")]
    Redis {
        /// The key in the file.
        name: String,
        /// What is wrong.
        error: String,
    },
}

impl Gateway {
    /// Binds every listener, then starts everything. Must be called within a runtime, whose threads serve.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::prepare(config, Sockets::default())?.open()
    }

    /// Everything but accepting, on the listening sockets among `sockets` that the configuration asks for. Others are closed.
    fn prepare(config: Config, mut sockets: Sockets) -> Result<Prepared, StartError> {
        let listeners = config
            .listeners
            .iter()
            .map(|listener| sockets.take_or_bind(listener.address))
            .collect::<Result<_, _>>()?;
        let admin = operators::bind(config.admin.as_ref(), &mut sockets)?;
        drop(sockets);

        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new());
        let hub = Arc::<Hub>::default();
        let ground = Ground {
            publisher: Arc::new(Publisher::new(hub.clone())),
            hub,
            metrics: metrics.clone(),
            feeds: CancellationToken::new(),
            members: TaskTracker::new(),
        };
        let sources = Sources::new(&config, &metrics, &Sources::default())?;
        let streams = Streams::after(&Streams::default(), &config, &sources, &ground);
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let fanout = Arc::new(Fanout::start(shards, fanout_limits(&config))?);
        let (stop, stopped) = watch::channel(false);
        let (edge, switch) = Edge::new(
            config.clone(),
            streams.ids(),
            ground.hub.clone(),
            fanout.clone(),
            ground.publisher.clone(),
            metrics.clone(),
            stopped.clone(),
        );
        let house = House {
            proxy: Arc::new(proxy(edge)),
            stop: stopped,
            requests: TaskTracker::new(),
            metrics: metrics.clone(),
            failures: Arc::new(Failures::default()),
        };
        let gateway = Self {
            config,
            doors: Vec::new(),
            admin: None,
            metrics,
            sources,
            streams,
            ground,
            switch,
            fanout,
            house,
            stop,
        };
        Ok(Prepared {
            gateway,
            listeners,
            admin,
        })
    }

    /// Where it listens, in the order of the file.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.doors.iter().map(|standing| standing.door.address());
        addresses.flatten().collect()
    }

    /// Where operators ask; `None`: nowhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Operators::address)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The listening sockets once more.
    fn sockets(&self) -> io::Result<Sockets> {
        let socket = |standing: &Standing| Ok((standing.configured, standing.door.socket()?));
        let doors = self.doors.iter().map(socket);
        let admin = self.admin.iter().map(Operators::socket);
        let sockets = doors.chain(admin).collect::<io::Result<_>>();
        sockets.map(Sockets::new)
    }

    /// Open connections of each listener, in the order of the file: over HTTP/1.1 and over HTTP/2; those of streams too.
    pub fn connections(&self) -> Vec<(i64, i64)> {
        let doors = self.doors.iter();
        doors.map(|standing| standing.door.connections()).collect()
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.fanout.open()
    }

    /// Stops in order: accepting ends, streams end spread over the drain window while requests are answered, then
    /// polling ends (EDGE L14). At once when there is nothing to end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        drop(self.doors);
        self.house.proxy.http_cleanup().await;
        let config::Shutdown { drain, retry } = self.config.shutdown;
        let streams = self.fanout.open();
        if streams > 0 {
            info!(streams, window = ?drain, "ending streams");
        }
        // Streams end within the window; their clients then have a moment to close.
        let limit = drain + Duration::from_secs(5);
        let drained = tokio::time::timeout(limit, self.fanout.drain(drain, retry));
        let finished = edge::accept::finish(&self.house.requests, limit);
        let (drained, ()) = tokio::join!(drained, finished);
        // The last requests may have become streams.
        let late = self.fanout.drain(Duration::ZERO, retry);
        let late = tokio::time::timeout(Duration::from_secs(5), late).await;
        if drained.is_err() || late.is_err() {
            warn!(
                left = self.fanout.open(),
                "streams were cut at the end of the drain window"
            );
        }
        self.ground.feeds.cancel();
        self.ground.members.close();
        // Another replica need not wait for leases to end.
        let _ = tokio::time::timeout(LAST_WORDS, self.ground.members.wait()).await;
    }
}

impl Prepared {
    /// Accepts from now on.
    fn open(self) -> Result<Gateway, StartError> {
        let Self {
            mut gateway,
            listeners,
            admin,
        } = self;
        let Gateway { config, house, .. } = &gateway;
        gateway.doors = listeners
            .into_iter()
            .zip(&config.listeners)
            .map(|(socket, listener)| Standing::open(socket, listener, config, house))
            .collect::<Result<_, _>>()?;
        gateway.admin = admin
            .map(|socket| gateway.serve_operators(socket))
            .transpose()?;
        Ok(gateway)
    }
}

impl Standing {
    fn open(
        socket: TcpListener,
        listener: &config::Listener,
        config: &Config,
        house: &House,
    ) -> Result<Self, StartError> {
        let settings = Settings::new(config, listener)?;
        Ok(Self {
            configured: listener.address,
            door: Door::open(socket, settings, house.clone())?,
        })
    }
}

fn proxy(edge: Edge) -> HttpProxy<Edge> {
    let conf = ServerConf {
        // Pingora counts every address that takes no connection; how often a request is sent the edge counts (EDGE P19).
        max_retries: 16,
        ..ServerConf::default()
    };
    let mut proxy = http_proxy(&Arc::new(conf), edge);
    proxy.server_options = Some(HttpServerOptions::default());
    proxy
}

fn fanout_limits(config: &Config) -> fanout::Limits {
    fanout::Limits {
        queue: config.limits.queue,
        write_stall: config.limits.write_stall,
    }
}
