//! One Redis server, shared by all sources that read it: one connection for commands, one for pushes (`node`).
//!
//! Each connection is made when the first source needs it, kept and made anew as long as any source holds it
//! (`supervise`), and closed with the last one. Commands of many channels share their connection and pipeline by nature.
//! While a server is away, everything fails at once with the cause; nothing waits for it.
//!
//! Several servers may stand for one. Who is dialed is then asked for (`guide`): the sentinels name the master, and
//! whatever was connected to another one is connected anew. A cluster has a connection of each kind to any of its nodes,
//! for what belongs to no key, and to each node that has a key which somebody reads (`place`).

mod commands;
mod dial;
mod fault;
mod framer;
mod guide;
mod link;
mod mailbox;
mod node;
mod place;
mod probe;
mod pushes;
mod registry;
mod slots;
mod supervise;
mod tracking;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::RootCertStore;

pub use dial::Unusable;

pub(in crate::source) use framer::MAX_BYTES;
pub(in crate::source) use link::{Link, Notifications};
pub(in crate::source) use mailbox::Delivery;
pub(in crate::source) use place::Place;
pub(in crate::source) use pushes::{Pushes, Standing, Subscription, TrackedKey};
pub(in crate::source) use registry::Topic;
pub(in crate::source) use tracking::Mark;

use crate::config::{Endpoint, RedisLogin, RedisNodes, RedisPlace, RedisServer};
use dial::{Dialer, Patience, Target};
use guide::{Guide, Knowledge, Question};
use node::Node;

/// The way to one configured server. A clone shares its connections.
#[derive(Clone)]
pub struct RedisClient(Arc<Shared>);

struct Shared {
    /// The server, or in a cluster any node, for what belongs to no key.
    main: Arc<Node>,
    cluster: Option<Cluster>,
    /// What was told about the server in the log, which is told once.
    told: Mutex<HashSet<&'static str>>,
}

/// Bytes of one reply of what we wrote ourselves.
const LOG_BYTES: usize = 64 << 20;

/// The nodes that have the keys.
struct Cluster {
    guide: Arc<Guide>,
    nodes: Mutex<HashMap<Endpoint, Arc<Node>>>,
    /// The way to any of them.
    dialer: Arc<Dialer>,
}

impl RedisClient {
    /// Connects to nothing yet. Fails for servers over TLS when the system has no certificate authorities, and when their host
    /// is no name that a certificate can have.
    pub fn new(server: &RedisServer) -> Result<Self, Unusable> {
        Self::with(server, None, Patience::default(), MAX_BYTES)
    }

    /// The same for what we wrote there ourselves: replies may have 64 MiB.
    pub fn for_logs(server: &RedisServer) -> Result<Self, Unusable> {
        Self::with(server, None, Patience::default(), LOG_BYTES)
    }

    fn with(
        server: &RedisServer,
        roots: Option<RootCertStore>,
        patience: Patience,
        room: usize,
    ) -> Result<Self, Unusable> {
        let tls = match &server.place {
            RedisPlace::Unix(_) | RedisPlace::Network { tls: false, .. } => None,
            RedisPlace::Network { tls: true, nodes } => Some(dial::tls(nodes, roots)?),
        };
        let dialer = |target, login: &RedisLogin, database| {
            Dialer::new(target, tls.clone(), login, database, patience, room)
        };
        let guide = |question, seeds: &[Endpoint], login: &RedisLogin| {
            let knowledge = Arc::new(Knowledge::new(question, seeds.to_vec()));
            let way = dialer(Target::Knowing(knowledge.clone()), login, 0);
            Arc::new(Guide::new(way, knowledge))
        };
        let mut cluster = None;
        let target = match &server.place {
            RedisPlace::Unix(path) => Target::Unix(path.clone()),
            RedisPlace::Network { nodes, .. } => match nodes {
                RedisNodes::One(node) => Target::One(node.clone()),
                RedisNodes::Sentinel(asked) => {
                    let question = Question::Master(asked.master.clone());
                    Target::Master(guide(question, &asked.nodes, &asked.login))
                }
                RedisNodes::Cluster(seeds) => {
                    let guide = guide(Question::Slots, seeds, &server.login);
                    cluster = Some(guide.clone());
                    Target::AnyNode(guide)
                }
            },
        };
        let main = Node::new(dialer(target, &server.login, server.database));
        Ok(Self(Arc::new(Shared {
            cluster: cluster.map(|guide| Cluster {
                guide,
                nodes: Mutex::default(),
                dialer: main.dialer.clone(),
            }),
            main: Arc::new(main),
            told: Mutex::default(),
        })))
    }

    /// The connection for messages of channels and patterns. Must be called within a tokio runtime.
    pub(in crate::source) fn pushes(&self) -> Arc<Pushes> {
        self.0.main.pushes()
    }

    /// Where `key` is. Must be called within a tokio runtime.
    pub(in crate::source) fn place(&self, key: &str) -> Place {
        Place::new(self.clone(), key)
    }

    fn main(&self) -> &Arc<Node> {
        &self.0.main
    }

    fn cluster(&self) -> Option<&Cluster> {
        self.0.cluster.as_ref()
    }

    /// The number of the database that is read.
    pub(in crate::source) fn database(&self) -> i64 {
        self.0.main.dialer.database()
    }

    /// Whether `what` is told about this server for the first time.
    pub(in crate::source) fn tells_first(&self, what: &'static str) -> bool {
        self.0.told.lock().insert(what)
    }
}

impl Cluster {
    /// The node at `at`.
    fn node(&self, at: &Endpoint) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(at) {
            return node.clone();
        }
        // Those that nobody holds may be gone.
        nodes.retain(|_, node| Arc::strong_count(node) > 1);
        let node = Arc::new(Node::new(self.dialer.to_node(at.clone())));
        nodes.insert(at.clone(), node.clone());
        node
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisClient")
            .field(&self.0.main.dialer)
            .finish()
    }
}

#[cfg(test)]
#[path = "../../tests/it/support/redis.rs"]
pub(in crate::source) mod test_redis;

#[cfg(test)]
mod testing {
    use std::time::Duration;

    use super::*;

    impl RedisClient {
        /// With deadlines that suit tests.
        pub(in crate::source) fn for_test(url: &str) -> Self {
            let server = RedisServer::of("main", url).expect("a usable URL");
            Self::for_test_of(&server, None)
        }

        /// As [`for_test`](Self::for_test); `roots` are trusted.
        pub(in crate::source) fn for_test_of(
            server: &RedisServer,
            roots: Option<RootCertStore>,
        ) -> Self {
            Self::with(server, roots, impatient(), MAX_BYTES).expect("a usable server")
        }
    }

    fn impatient() -> Patience {
        Patience {
            connect: Duration::from_secs(2),
            reply: Duration::from_millis(1500),
            heartbeat: Duration::from_millis(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE R7.
    #[test]
    fn the_password_is_never_shown() {
        for url in [
            "redis://ann:hunter2@127.0.0.1:1/3",
            "redis+unix:///run/redis.sock?user=ann&pass=hunter2",
        ] {
            let server = RedisServer::of("main", url).expect("a usable URL");
            let client = RedisClient::new(&server).expect("a usable server");
            let shown = format!("{client:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("ann"),
                "{shown}"
            );
        }
    }
}
