//! Redis servers: where they are found, and who we are there.

use std::fmt;
use std::path::PathBuf;

use ::redis::{ConnectionAddr, IntoConnectionInfo};

use super::field::Secret;

/// A Redis server, or several that stand for one.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisServer {
    /// The key in the file.
    pub name: String,
    /// Where it is.
    pub place: RedisPlace,
    /// Who we are there.
    pub login: RedisLogin,
    /// The number of the database.
    pub database: i64,
}

/// Where a Redis server is.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisPlace {
    /// `redis+unix://`: a socket on this machine.
    Unix(PathBuf),
    /// `redis://`, or `rediss://` with `tls`: in the network.
    Network {
        /// All connections are encrypted, and the certificate of each server is verified.
        tls: bool,
        /// Who is asked there.
        nodes: RedisNodes,
    },
}

/// Which servers of the network stand for one.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisNodes {
    /// This one.
    One(Endpoint),
    /// The one that sentinels name.
    Sentinel(RedisSentinel),
    /// The nodes of a cluster, of which these are asked for the others. At least one; the database is 0.
    Cluster(Vec<Endpoint>),
}

/// Sentinels, and what they are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisSentinel {
    /// The name of the master, as the sentinels know it.
    pub master: String,
    /// At least one. They are reached as the master is: with TLS if it is.
    pub nodes: Vec<Endpoint>,
    /// Who we are there; nobody by default.
    pub login: RedisLogin,
}

/// A server's host, a name or an address without brackets, and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// User and password. Debug output shows neither.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisLogin {
    /// `None` is the server's default user.
    pub user: Option<Secret>,
    /// `None`: no login at all.
    pub password: Option<Secret>,
}

impl RedisServer {
    /// What one URL says: `redis://`, `rediss://`, `redis+unix://` or `unix://`, with user, password and database. Fails with
    /// a sentence that quotes nothing of it.
    pub(crate) fn of(name: impl Into<String>, url: &str) -> Result<Self, &'static str> {
        let known = ["redis://", "rediss://", "redis+unix://", "unix://"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) {
            return Err("the url has none of the schemes");
        }
        let info = url
            .into_connection_info()
            .map_err(|_| "this is no url of a Redis server")?;
        let network = |tls, host: &String, port: &u16| RedisPlace::Network {
            tls,
            nodes: RedisNodes::One(Endpoint::new(host.as_str(), *port)),
        };
        let place = match info.addr() {
            ConnectionAddr::Unix(path) => RedisPlace::Unix(path.clone()),
            ConnectionAddr::Tcp(host, port) => network(false, host, port),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("a Redis server is always verified, `#insecure` is not offered");
            }
            ConnectionAddr::TcpTls { host, port, .. } => network(true, host, port),
            _ => return Err("this is no url of a Redis server"),
        };
        let settings = info.redis_settings();
        Ok(Self {
            name: name.into(),
            place,
            login: RedisLogin {
                user: settings.username().map(Secret::new),
                password: settings.password().map(Secret::new),
            },
            database: settings.db(),
        })
    }
}

impl Endpoint {
    /// Takes host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Reads `host:port`, `[::1]:port`, or a host alone.
    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            // An address of IPv6 alone.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let host = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').unwrap_or_default(),
            None => host,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err("this is no host and port".to_owned());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => Some(default_port),
        };
        match port {
            Some(port) => Ok(Self::new(host, port)),
            None => Err("a port is a number from 1 to 65535".to_owned()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_shown() {
        for (text, shown) in [
            ("redis-1.internal:26380", "redis-1.internal:26380"),
            ("redis-1", "redis-1:26379"),
            ("10.0.0.1", "10.0.0.1:26379"),
            ("[::1]:7000", "[::1]:7000"),
            ("[::1]", "[::1]:26379"),
            ("::1", "[::1]:26379"),
        ] {
            let endpoint = Endpoint::parse(text, 26379).expect(text);
            assert_eq!(endpoint.to_string(), shown);
        }
        for text in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a b:1",
            "redis://a:1",
            "user@a:1",
            "[::1",
        ] {
            assert!(Endpoint::parse(text, 26379).is_err(), "{text}");
        }
    }

    /// EDGE R7: neither user nor password is shown, and what is wrong is said without the URL.
    #[test]
    fn urls_are_read_and_never_shown() {
        for url in [
            "redis://ann:hunter2@127.0.0.1:1/3",
            "redis+unix:///run/redis.sock?user=ann&pass=hunter2&db=3",
        ] {
            let server = RedisServer::of("main", url).expect("a usable URL");
            assert_eq!(server.database, 3);
            let password = server.login.password.as_ref().map(Secret::expose);
            assert_eq!(password, Some("hunter2"));
            let shown = format!("{server:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("ann"),
                "{shown}"
            );
        }
        for url in [
            "rediss://ann:hunter2@localhost:1/#insecure",
            "http://hunter2@x/",
            "redis://hunter2@/",
        ] {
            let error = RedisServer::of("main", url).expect_err(url);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
