//! The way to a Redis server: TCP, TLS or a Unix socket, then AUTH and SELECT, bounded by [`framer`](super::framer). Which
//! server that is may be asked for at each connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::fault;
use super::framer::Bounded;
use super::guide::{Asking, Guide, Knowledge};
use super::probe::Probe;
use super::slots::Slots;
use crate::config::{Endpoint, RedisLogin, RedisNodes};
use crate::source::{Cause, SourceError};

/// Why a server cannot be used as it is configured. The sentence never holds the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(&'static str);

/// How long to wait for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Name resolution, TCP and TLS.
    pub(super) connect: Duration,
    /// From a command to its reply.
    pub(super) reply: Duration,
    /// Between two questions whether the server still lives.
    pub(super) heartbeat: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            reply: Duration::from_secs(3),
            heartbeat: Duration::from_secs(3),
        }
    }
}

/// Knows the way to a server, or to one of several.
pub(super) struct Dialer {
    target: Target,
    tls: Option<TlsConnector>,
    login: RedisConnectionInfo,
    pub(super) patience: Patience,
    /// Bytes of one reply.
    room: usize,
}

/// Who is dialed.
pub(super) enum Target {
    /// A socket on this machine.
    Unix(PathBuf),
    /// This one.
    One(Endpoint),
    /// The master that sentinels name.
    Master(Arc<Guide>),
    /// Any node of a cluster.
    AnyNode(Arc<Guide>),
    /// Any of those who know whom to ask.
    Knowing(Arc<Knowledge>),
}

/// A new connection, on which the server has answered, and what moves its bytes: the driver must be polled, and ends when the
/// connection does.
pub(super) struct Dialed {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
    /// Where it leads, unless that is a socket on this machine.
    pub(super) at: Option<Endpoint>,
    /// How the server is asked whether it lives.
    pub(super) probe: Probe,
    /// When the question was asked that it answered.
    pub(super) answered: Instant,
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes what the server sends unasked. Called where bytes are read: it must not wait.
pub(super) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// After which the next one of several is dialed as well.
const HEAD_START: Duration = Duration::from_millis(250);

impl Dialer {
    pub(super) fn new(
        target: Target,
        tls: Option<TlsConnector>,
        login: &RedisLogin,
        database: i64,
        patience: Patience,
        room: usize,
    ) -> Self {
        // A user with few rights must not be asked for CLIENT SETINFO (EDGE R4).
        let mut info = RedisConnectionInfo::default()
            .set_db(database)
            .set_skip_set_lib_name();
        if let Some(user) = &login.user {
            info = info.set_username(user.expose());
        }
        if let Some(password) = &login.password {
            info = info.set_password(password.expose());
        }
        Self {
            target,
            tls,
            login: info,
            patience,
            room,
        }
    }

    /// The same way to one node alone.
    pub(super) fn to_node(&self, node: Endpoint) -> Self {
        Self {
            target: Target::One(node),
            tls: self.tls.clone(),
            login: self.login.clone(),
            patience: self.patience,
            room: self.room,
        }
    }

    /// The number of the database that is read.
    pub(super) fn database(&self) -> i64 {
        self.login.db()
    }

    /// Who is dialed may change: as long as what this gives is held, that is asked for.
    pub(super) fn attend(&self) -> Option<Arc<Asking>> {
        match &self.target {
            Target::Master(guide) | Target::AnyNode(guide) => Some(guide.attend()),
            Target::Unix(_) | Target::One(_) | Target::Knowing(_) => None,
        }
    }

    /// Completes when the server at `at` is not the one to be dialed any more. May never complete.
    pub(super) async fn leave(&self, at: Option<&Endpoint>) -> SourceError {
        match (&self.target, at) {
            (Target::Master(guide), Some(at)) => {
                guide.denies(|slots| slots.owner(0) == Some(at)).await;
                SourceError::new(Cause::Redis, "another redis server is the master now")
            }
            (Target::AnyNode(guide), Some(at)) => {
                let has_left = |slots: &Slots| {
                    let nodes = slots.nodes();
                    !nodes.is_empty() && !nodes.contains(at)
                };
                guide.denies(|slots| !has_left(slots)).await;
                SourceError::new(Cause::Redis, "the node has left the redis cluster")
            }
            _ => std::future::pending().await,
        }
    }

    /// Connects for commands, in RESP2: there every string, also a score, comes as the text that it is.
    pub(super) async fn dial(&self) -> Result<Dialed, SourceError> {
        self.reach(ProtocolVersion::RESP2, None).await
    }

    /// Connects for pushes, in RESP3 (Redis 6 or newer).
    pub(super) async fn dial_for_pushes(&self, on_push: OnPush) -> Result<Dialed, SourceError> {
        self.reach(ProtocolVersion::RESP3, Some(on_push)).await
    }

    async fn reach(
        &self,
        protocol: ProtocolVersion,
        on_push: Option<OnPush>,
    ) -> Result<Dialed, SourceError> {
        let open = |at, probe| self.open(at, probe, protocol, on_push.clone());
        match &self.target {
            Target::Unix(_) => open(None, Probe::Ping).await,
            Target::One(node) => open(Some(node.clone()), Probe::Ping).await,
            Target::Master(guide) => {
                let slots = guide.slots().await?;
                let master = slots.owner(0).cloned();
                let dialed = open(master, Probe::Master).await;
                if dialed.is_err() {
                    guide.was_useless();
                }
                dialed
            }
            Target::AnyNode(guide) => {
                // Nodes are better known by the names that they have for each other; the file's are for the beginning.
                let _ = guide.slots().await;
                let nodes = guide.candidates();
                race(nodes, |node| open(Some(node), Probe::Ping)).await
            }
            Target::Knowing(knowledge) => {
                let all = knowledge.candidates();
                race(all, |one| open(Some(one), Probe::Ping)).await
            }
        }
    }

    async fn open(
        &self,
        at: Option<Endpoint>,
        mut probe: Probe,
        protocol: ProtocolVersion,
        on_push: Option<OnPush>,
    ) -> Result<Dialed, SourceError> {
        let stream = timeout(self.patience.connect, self.connect(at.as_ref()))
            .await
            .map_err(|_| {
                SourceError::new(Cause::Timeout, "no connection to the redis server in time")
            })??;
        let login = self.login.clone().set_protocol(protocol);
        let mut config =
            AsyncConnectionConfig::new().set_response_timeout(Some(self.patience.reply));
        if let Some(on_push) = on_push {
            config = config.set_push_sender(move |push: PushInfo| {
                on_push(push);
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let greeting =
            MultiplexedConnection::new_with_config(&login, Bounded::new(stream, self.room), config);
        let (connection, driver) = timeout(self.patience.reply, greeting)
            .await
            .map_err(|_| SourceError::new(Cause::Timeout, "the redis server does not answer"))?
            .map_err(|error| fault::at_login(&error))?;
        let mut driver: Driver = Box::pin(driver);
        // A frozen server still takes connections: only an answer shows that there is one.
        let answered = {
            let mut answer = pin!(probe.ask(&connection));
            tokio::select! {
                answered = &mut answer => answered,
                // The last bytes may have brought the reason.
                () = &mut driver => match answer.now_or_never() {
                    Some(Err(error)) => Err(error),
                    _ => Err(fault::connection_lost()),
                },
            }
        }?;
        Ok(Dialed {
            connection,
            driver,
            at,
            probe,
            answered,
        })
    }

    async fn connect(&self, at: Option<&Endpoint>) -> Result<Box<dyn Stream>, SourceError> {
        let Some(at) = at else {
            return match &self.target {
                Target::Unix(path) => Ok(Box::new(
                    UnixStream::connect(path).await.map_err(unreachable)?,
                )),
                _ => Err(SourceError::new(
                    Cause::Redis,
                    "nobody says which redis server is to be asked",
                )),
            };
        };
        let stream = TcpStream::connect((&*at.host, at.port))
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let failed = |why: &dyn fmt::Display| {
            SourceError::new(Cause::Tls, format!("TLS with the redis server: {why}"))
        };
        let name = server_name(at).map_err(|error| failed(&error))?;
        let handshake = tls.connect(name, stream).await;
        Ok(Box::new(handshake.map_err(|error| failed(&error))?))
    }
}

/// The first of several that answers. Each has a head start before the next one, so that one that is frozen holds nobody up.
async fn race<F: Future<Output = Result<Dialed, SourceError>>>(
    candidates: Vec<Endpoint>,
    open: impl Fn(Endpoint) -> F,
) -> Result<Dialed, SourceError> {
    let mut candidates = candidates.into_iter();
    let mut running = FuturesUnordered::new();
    running.extend(candidates.next().map(&open));
    let mut failed = SourceError::new(Cause::Redis, "no redis server is known");
    loop {
        tokio::select! {
            finished = running.next() => match finished {
                Some(Ok(dialed)) => return Ok(dialed),
                Some(Err(error)) => {
                    failed = error;
                    running.extend(candidates.next().map(&open));
                }
                None => return Err(failed),
            },
            () = sleep(HEAD_START), if candidates.len() > 0 => {
                running.extend(candidates.next().map(&open));
            }
        }
    }
}

impl fmt::Debug for Dialer {
    /// Without user and password (EDGE R7).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        match &self.target {
            Target::Unix(path) => write!(f, "redis+unix://{}", path.display()),
            Target::One(node) => write!(f, "{scheme}://{node}"),
            Target::Master(guide) | Target::AnyNode(guide) => guide.fmt(f),
            Target::Knowing(knowledge) => {
                let seeds: Vec<_> = knowledge.seeds().iter().map(ToString::to_string).collect();
                write!(f, "{scheme}://{}", seeds.join(","))
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unreachable(error: io::Error) -> SourceError {
    SourceError::new(
        Cause::Redis,
        format!("no connection to the redis server: {error}"),
    )
}

/// How servers in the network are verified. `roots` are trusted instead of the system's authorities.
///
/// The authorities are read once: reading them at every connect would cost a directory of files each time.
pub(super) fn tls(
    nodes: &RedisNodes,
    roots: Option<RootCertStore>,
) -> Result<TlsConnector, Unusable> {
    let named = match nodes {
        RedisNodes::One(node) => std::slice::from_ref(node),
        RedisNodes::Sentinel(asked) => &asked.nodes,
        RedisNodes::Cluster(seeds) => seeds,
    };
    if named.iter().any(|node| server_name(node).is_err()) {
        return Err(Unusable(
            "a host of the Redis servers is no name that a certificate can have",
        ));
    }
    let roots = roots.unwrap_or_else(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    if roots.is_empty() {
        return Err(Unusable(
            "the system has no certificate authorities to verify a Redis server over TLS with",
        ));
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| Unusable("this build has no usable TLS version"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn server_name(node: &Endpoint) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(node.host.clone())
}
