//! One way to a Redis server: TCP, TLS or a Unix socket, then AUTH and SELECT, bounded by [`framer`](super::framer).

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fault;
use super::framer::Bounded;
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

/// Knows the way to one server.
pub(super) struct Dialer {
    address: Address,
    login: RedisConnectionInfo,
    pub(super) patience: Patience,
}

/// A new connection, and what moves its bytes: the driver must be polled, and ends when the connection does.
pub(super) struct Dialed {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Takes what the server sends unasked. Called where bytes are read: it must not wait.
pub(super) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

enum Address {
    Tcp(String, u16),
    Tls(String, u16, ServerName<'static>, TlsConnector),
    Unix(PathBuf),
}

impl Dialer {
    /// Takes a `redis://`, `rediss://`, `redis+unix://` or `unix://` URL. `roots` are trusted instead of the system's authorities.
    pub(super) fn new(
        url: &str,
        roots: Option<RootCertStore>,
        patience: Patience,
    ) -> Result<Self, Unusable> {
        let info = redis::parse_redis_url(url)
            .and_then(|url| url.into_connection_info().ok())
            .ok_or(Unusable("not a usable Redis URL"))?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(Unusable(
                    "a Redis server over TLS is always verified, `#insecure` is not offered",
                ));
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    Unusable("the host of the Redis URL is no name that a certificate can have")
                })?;
                Address::Tls(host.clone(), *port, name, tls(roots)?)
            }
            _ => return Err(Unusable("this kind of Redis URL is not supported")),
        };
        // A user with few rights must not be asked for CLIENT SETINFO (EDGE R4).
        let login = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self {
            address,
            login,
            patience,
        })
    }

    /// The number of the database that the URL names.
    pub(super) fn database(&self) -> i64 {
        self.login.db()
    }

    /// Connects for commands, in RESP2: there every string, also a score, comes as the text that it is.
    pub(super) async fn dial(&self) -> Result<Dialed, SourceError> {
        self.open(ProtocolVersion::RESP2, None).await
    }

    /// Connects for pushes, in RESP3 (Redis 6 or newer).
    pub(super) async fn dial_for_pushes(&self, on_push: OnPush) -> Result<Dialed, SourceError> {
        self.open(ProtocolVersion::RESP3, Some(on_push)).await
    }

    async fn open(
        &self,
        protocol: ProtocolVersion,
        on_push: Option<OnPush>,
    ) -> Result<Dialed, SourceError> {
        let stream = timeout(self.patience.connect, self.reach())
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
        let greeting = MultiplexedConnection::new_with_config(&login, Bounded::new(stream), config);
        let (connection, driver) = timeout(self.patience.reply, greeting)
            .await
            .map_err(|_| SourceError::new(Cause::Timeout, "the redis server does not answer"))?
            .map_err(|error| fault::at_login(&error))?;
        Ok(Dialed {
            connection,
            driver: Box::pin(driver),
        })
    }

    async fn reach(&self) -> Result<Box<dyn Stream>, SourceError> {
        Ok(match &self.address {
            Address::Tcp(host, port) => Box::new(tcp(host, *port).await?),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(unreachable)?),
            Address::Tls(host, port, name, connector) => {
                let stream = tcp(host, *port).await?;
                let handshake = connector.connect(name.clone(), stream).await;
                Box::new(handshake.map_err(|error| {
                    SourceError::new(Cause::Tls, format!("TLS with the redis server: {error}"))
                })?)
            }
        })
    }
}

impl fmt::Debug for Dialer {
    /// Without user and password (EDGE R7).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
            Address::Tls(host, port, ..) => write!(f, "rediss://{host}:{port}"),
            Address::Unix(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, SourceError> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unreachable(error: io::Error) -> SourceError {
    SourceError::new(
        Cause::Redis,
        format!("no connection to the redis server: {error}"),
    )
}

/// The authorities are read once: reading them at every connect would cost a directory of files each time.
fn tls(roots: Option<RootCertStore>) -> Result<TlsConnector, Unusable> {
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
