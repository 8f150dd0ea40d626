//! The only wiring: checked configuration → channels, pollers, fan-out, edge; and the order of stopping.

pub mod probe;
mod publish;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use crate::admin::{Admin, Running};
use crate::channel::hub::OpenChannel;
use crate::channel::{Channel, ChannelKey, Hub, Shape, Spec};
use crate::config::{self, Config, RedisServer, Source, Start, Stream, Upstream};
use crate::diff::ArrayKeys;
use crate::edge::accept::{Door, Failures, House};
use crate::edge::{self, Edge, Settings, TlsError};
use crate::fanout::{self, Fanout};
use crate::metrics::{Metrics, StreamMetrics, UpstreamMetrics};
use crate::poller::gate::Gate;
use crate::poller::schedule::{Bounds, Schedule};
use crate::poller::{self, Plan, feed};
use crate::source::http::{HttpClient, HttpSource};
use crate::source::publish::SharedPublish;
use crate::source::redis_key::RedisKeySource;
use crate::source::redis_pubsub::PubSubFeed;
use crate::source::redis_server::RedisClient;
use crate::value::Significance;
use publish::Publisher;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    doors: Vec<Door>,
    admin: Option<AdminListener>,
    metrics: Arc<Metrics>,
    fanout: Arc<Fanout>,
    proxy: ProxyHandle,
    requests: TaskTracker,
    stop: watch::Sender<bool>,
    pollers: CancellationToken,
    shutdown: config::Shutdown,
}

/// Ends with the gateway.
#[derive(Debug)]
struct AdminListener {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
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
        let bind = |listener: &config::Listener| {
            let address = listener.address;
            edge::accept::bind(address).map_err(|error| StartError::Bind { address, error })
        };
        let listeners: Vec<_> = config
            .listeners
            .iter()
            .map(bind)
            .collect::<Result<_, _>>()?;
        let addresses = listeners
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<Result<_, _>>()?;

        let settings: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| Settings::new(&config, listener))
            .collect::<Result<_, _>>()?;
        let admin = bind_admin(config.admin.as_ref())?;

        let config = Arc::new(config);
        let pollers = CancellationToken::new();
        let metrics = Arc::new(Metrics::new());
        let sources = Arc::new(Sources::new(&config, &metrics)?);
        let hub = hub(&config, &sources, &metrics, &pollers);
        let limits = fanout::Limits {
            queue: config.limits.queue,
            write_stall: config.limits.write_stall,
        };
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        let fanout = Arc::new(Fanout::start(shards, limits)?);
        let publish = publisher(&config, &sources, &hub, &pollers);
        let (stop, stopped) = watch::channel(false);
        let edge = Edge::new(
            config.clone(),
            hub.clone(),
            fanout.clone(),
            Box::new(publish),
            metrics.clone(),
            stopped.clone(),
        );

        let requests = TaskTracker::new();
        let conf = ServerConf {
            // Pingora counts every address that takes no connection; how often a request is sent the edge counts (EDGE P19).
            max_retries: 16,
            ..ServerConf::default()
        };
        let mut proxy = http_proxy(&Arc::new(conf), edge);
        proxy.server_options = Some(HttpServerOptions::default());
        let proxy = Arc::new(proxy);
        let failures = Arc::new(Failures::default());
        let house = House {
            proxy: proxy.clone(),
            stop: stopped.clone(),
            requests: requests.clone(),
            metrics: metrics.clone(),
            failures: failures.clone(),
        };
        let doors = listeners
            .into_iter()
            .zip(settings)
            .map(|(socket, settings)| Door::open(socket, settings, house.clone()))
            .collect::<Result<_, _>>()?;
        let running = Running {
            config: config.clone(),
            hub: hub.clone(),
        };
        let admin = admin
            .map(|socket| {
                let parts = (fanout.clone(), metrics.clone(), failures);
                let admin = Admin::new(running, parts, stopped);
                serve_admin(socket, Arc::new(admin))
            })
            .transpose()?;
        open_always(&config, &hub);
        Ok(Self {
            addresses,
            doors,
            admin,
            metrics,
            fanout,
            proxy: ProxyHandle(proxy),
            requests,
            stop,
            pollers,
            shutdown: config.shutdown,
        })
    }

    /// Where it listens, in the order of the file.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Open connections of each listener, in the order of the file: over HTTP/1.1 and over HTTP/2; those of streams too.
    pub fn connections(&self) -> Vec<(i64, i64)> {
        self.doors.iter().map(Door::connections).collect()
    }

    /// Where operators ask; `None`: nowhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
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
        self.proxy.0.http_cleanup().await;
        let window = self.shutdown.drain;
        let streams = self.fanout.open();
        if streams > 0 {
            info!(streams, ?window, "ending streams");
        }
        // Streams end within the window; their clients then have a moment to close.
        let limit = window + Duration::from_secs(5);
        let drained = tokio::time::timeout(limit, self.fanout.drain(window, self.shutdown.retry));
        let (drained, ()) = tokio::join!(drained, edge::accept::finish(&self.requests, limit));
        // The last requests may have become streams.
        let late = self.fanout.drain(Duration::ZERO, self.shutdown.retry);
        let late = tokio::time::timeout(Duration::from_secs(5), late).await;
        if drained.is_err() || late.is_err() {
            warn!(
                left = self.fanout.open(),
                "streams were cut at the end of the drain window"
            );
        }
        self.pollers.cancel();
    }
}

/// The admin listener's port. When the file says nothing of it, the gateway does without one that is taken: several of them on
/// one machine must not need to know of each other.
fn bind_admin(admin: Option<&config::Admin>) -> Result<Option<std::net::TcpListener>, StartError> {
    let Some(admin) = admin else {
        return Ok(None);
    };
    let address = admin.address;
    match edge::accept::bind(address) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if admin.by_default => {
            warn!(
                "there is no admin listener: {address} cannot be bound: {error} \
                 (write admin: off, or admin: {{address: IP:PORT}})"
            );
            Ok(None)
        }
        Err(error) => Err(StartError::Bind { address, error }),
    }
}

fn serve_admin(socket: std::net::TcpListener, admin: Arc<Admin>) -> io::Result<AdminListener> {
    let address = socket.local_addr()?;
    let task = tokio::spawn(async move {
        if let Err(error) = admin.serve(socket).await {
            error!(%error, "the admin listener failed");
        }
    });
    Ok(AdminListener {
        address,
        _task: AbortOnDropHandle::new(task),
    })
}

struct ProxyHandle(Arc<HttpProxy<Edge>>);

impl std::fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpProxy")
    }
}

/// What sources share: one client and one gate per upstream, one client per Redis server.
#[derive(Debug)]
struct Sources {
    http: BTreeMap<String, (HttpClient, Arc<Gate>)>,
    redis: BTreeMap<String, RedisClient>,
}

impl Sources {
    fn new(config: &Config, metrics: &Metrics) -> Result<Self, StartError> {
        let http = config.upstreams.values().map(|upstream| {
            let gate = Arc::new(gate(upstream));
            let counts = metrics.upstream(&upstream.name);
            Ok((
                upstream.name.clone(),
                (http_client(upstream, counts)?, gate),
            ))
        });
        let redis = config
            .redis
            .values()
            .map(|server| Ok((server.name.clone(), redis_client(server)?)));
        Ok(Self {
            http: http.collect::<Result<_, StartError>>()?,
            redis: redis.collect::<Result<_, StartError>>()?,
        })
    }
}

fn http_client(
    upstream: &Arc<Upstream>,
    counts: Arc<UpstreamMetrics>,
) -> Result<HttpClient, StartError> {
    HttpClient::new(upstream.clone(), counts).map_err(|error| StartError::Upstream {
        name: upstream.name.clone(),
        error: error.to_string(),
    })
}

fn redis_client(server: &Arc<RedisServer>) -> Result<RedisClient, StartError> {
    RedisClient::new(server.clone()).map_err(|error| StartError::Redis {
        name: server.name.clone(),
        error: error.to_string(),
    })
}

fn gate(upstream: &Upstream) -> Gate {
    let budget = upstream
        .budget
        .and_then(|rate| Some((NonZeroU32::new(rate.count)?, rate.per)));
    Gate::new(upstream.max_concurrent_polls, budget)
}

fn hub(
    config: &Arc<Config>,
    sources: &Arc<Sources>,
    metrics: &Metrics,
    pollers: &CancellationToken,
) -> Arc<Hub> {
    Arc::new_cyclic(|hub: &Weak<Hub>| {
        let streams = config.streams.iter().map(|stream| {
            let (stream, sources) = (stream.clone(), sources.clone());
            let (hub, pollers) = (hub.clone(), pollers.clone());
            let counts = metrics.stream(stream.path.as_str());
            let max = stream.max_channels;
            let open: OpenChannel =
                Box::new(move |key| open(&stream, key, &counts, &sources, &hub, &pollers));
            (max, open)
        });
        Hub::new(streams.collect())
    })
}

/// Makes a channel and starts what feeds it.
fn open(
    stream: &Arc<Stream>,
    key: &ChannelKey,
    counts: &Arc<StreamMetrics>,
    sources: &Arc<Sources>,
    hub: &Weak<Hub>,
    pollers: &CancellationToken,
) -> Arc<Channel> {
    let channel = Arc::new(Channel::new(key.clone(), spec(stream, key, counts.clone())));
    let Some(hub) = hub.upgrade() else {
        return channel;
    };
    let (stream, sources, fed) = (stream.clone(), sources.clone(), channel.clone());
    let run = move || feed_channel(stream.clone(), sources.clone(), fed.clone(), hub.clone());
    tokio::spawn(pollers.clone().run_until_cancelled_owned(supervised(run)));
    channel
}

/// Runs what feeds a channel; a panic of it is a bug that costs one reading, not the channel.
async fn supervised<F: Future<Output = ()>>(run: impl Fn() -> F) {
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        error!("a poller panicked and is started again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn feed_channel(
    stream: Arc<Stream>,
    sources: Arc<Sources>,
    channel: Arc<Channel>,
    hub: Arc<Hub>,
) {
    let params = channel.key().params.clone();
    let schedule = || schedule(&stream, &channel);
    match &stream.source {
        Source::Http(source) => {
            let forwarded = channel.key().forwarded.as_deref();
            let (client, gate) = &sources.http[&source.upstream.name];
            let reader = HttpSource::new(client.clone(), source, &params, forwarded);
            poller::run(
                reader,
                channel.clone(),
                hub,
                schedule(),
                plan(&stream, Some(gate.clone())),
            )
            .await;
        }
        Source::RedisKey(source) => {
            let client = sources.redis[&source.server.name].clone();
            let reader = RedisKeySource::new(client, source.clone(), &params);
            poller::run(
                reader,
                channel.clone(),
                hub,
                schedule(),
                plan(&stream, None),
            )
            .await;
        }
        Source::RedisPubSub(source) => {
            let client = &sources.redis[&source.server.name];
            let open = || PubSubFeed::new(client.clone(), source.clone(), &params);
            feed::run(
                open,
                channel.clone(),
                hub,
                stream.select.clone(),
                stream.linger,
            )
            .await;
        }
        Source::Publish(_) => feed::keep(channel, hub, stream.history.age).await,
    }
}

fn spec(stream: &Stream, key: &ChannelKey, metrics: Arc<StreamMetrics>) -> Spec {
    let (current, retain) = match &stream.source {
        Source::Http(_) | Source::RedisKey(_) => (true, false),
        Source::RedisPubSub(_) => (false, false),
        Source::Publish(publish) => (publish.retain, publish.retain),
    };
    let name = match stream.path.param_names().len() {
        0 => stream.path.to_string(),
        _ => format!("{} [{}]", stream.path, key.params),
    };
    Spec {
        name,
        shape: Shape {
            event: stream.event.clone(),
            template: stream.template.clone(),
            array_keys: ArrayKeys::new(stream.array_keys.clone()),
            params: key.params.clone(),
            metrics,
        },
        significance: Significance::new(stream.ignore.clone(), stream.deadband.clone()),
        history: stream.history,
        resume: stream.resume,
        current,
        retain,
        expire_after: stream.expire_after,
        linger: stream.linger,
    }
}

fn plan(stream: &Stream, gate: Option<Arc<Gate>>) -> Plan {
    Plan {
        select: stream.select.clone(),
        always: stream.start == Start::Always,
        linger: stream.linger,
        keep: stream.history.age,
        stale_after: stream.stale_after,
        gate,
    }
}

fn schedule(stream: &Stream, channel: &Channel) -> Schedule {
    let adaptive = stream.adaptive.map(|adaptive| Bounds {
        min: adaptive.min,
        max: adaptive.max,
    });
    let seed = xxh3_64(format!("{} {}", stream.path, channel.key().params).as_bytes());
    Schedule::new(stream.every, adaptive, seed)
}

/// Channels that are polled though nobody reads exist from the start.
fn open_always(config: &Config, hub: &Hub) {
    for (index, stream) in config.streams.iter().enumerate() {
        if stream.start == Start::Always {
            let key = ChannelKey::shared(index, crate::params::Params::default());
            if hub.open(&key).is_err() {
                warn!(path = %stream.path, "the stream may have no channel");
            }
        }
    }
}

/// What takes published messages; streams that replicas share are listened to from now on.
fn publisher(
    config: &Config,
    sources: &Sources,
    hub: &Arc<Hub>,
    pollers: &CancellationToken,
) -> Publisher {
    let mut shared = HashMap::new();
    for (index, stream) in config.streams.iter().enumerate() {
        if let Source::Publish(source) = &stream.source
            && let Some(server) = &source.server
        {
            let client = sources.redis[&server.name].clone();
            let sharing = SharedPublish::new(client, stream.path.as_str());
            let awaited = Arc::<publish::Awaited>::default();
            let (open, hub, waiting) = (sharing.clone(), hub.clone(), awaited.clone());
            let listen = move || publish::listen(open.feed(), index, hub.clone(), waiting.clone());
            tokio::spawn(
                pollers
                    .clone()
                    .run_until_cancelled_owned(supervised(listen)),
            );
            shared.insert(index, (sharing, awaited));
        }
    }
    Publisher::new(hub.clone(), shared)
}
