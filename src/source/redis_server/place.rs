//! Where one key is: on the server, or on the node of a cluster that has its slot.
//!
//! A node that has the slot no longer says who has it (MOVED), and one that is giving it away key by key says who has the key
//! already (ASK). Both are followed. As long as the last command was answered elsewhere than where the key belongs, nobody
//! tells of its changes: then it is worth asking again before long.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, ServerErrorKind, Value};
use tokio::time::sleep;

use super::RedisClient;
use super::commands::{Commands, Generation};
use super::guide::Asking;
use super::node::Node;
use super::pushes::Pushes;
use super::slots::{named, slot_of};
use crate::config::Endpoint;
use crate::source::{Cause, SourceError};

/// Redirections of one command that are followed.
const MAX_REDIRECTIONS: usize = 4;
/// Between two readings of a key that is on its way from one node to another.
const WHILE_MOVING: Duration = Duration::from_secs(1);

/// Where a key is, and what it was last asked for there. What is held of it keeps its connections.
pub(in crate::source) struct Place {
    client: RedisClient,
    slot: u16,
    stand: Mutex<Stand>,
    _asking: Option<Arc<Asking>>,
}

/// How it stood when it was last looked at.
#[derive(Clone, Default)]
struct Stand {
    home: Option<Home>,
    /// The connection of the last command, whether it succeeded or not.
    generation: Option<Generation>,
    /// Another node was asked last.
    elsewhere: Option<Arc<Commands>>,
}

/// Where the key belongs.
#[derive(Clone)]
struct Home {
    /// `None`: there is one server for all keys.
    at: Option<Endpoint>,
    node: Arc<Node>,
    commands: Arc<Commands>,
}

impl Place {
    /// Must be called within a tokio runtime.
    pub(super) fn new(client: RedisClient, key: &str) -> Self {
        Self {
            slot: slot_of(key.as_bytes()),
            stand: Mutex::default(),
            _asking: client.cluster().map(|cluster| cluster.guide.attend()),
            client,
        }
    }

    /// Finds out where the key belongs, and connects there.
    pub(in crate::source) async fn locate(&self) -> Result<(), SourceError> {
        self.find().await.map(drop)
    }

    /// Runs one command, which must be about the key and no other, or about none. An error reply is an error.
    pub(in crate::source) async fn run(&self, command: &Cmd) -> Result<Value, SourceError> {
        let Home {
            mut at,
            mut commands,
            ..
        } = self.find().await?;
        let mut is_asking = false;
        let mut elsewhere = None;
        for _ in 0..=MAX_REDIRECTIONS {
            let line = match commands.line().await {
                Ok(line) => line,
                Err(error) => return Err(self.doubt(error)),
            };
            {
                let mut stand = self.stand.lock();
                stand.elsewhere.clone_from(&elsewhere);
                if elsewhere.is_none() {
                    stand.generation = Some(line.generation);
                }
            }
            let answer = match is_asking {
                true => line.send_asking(command).await,
                false => line.send(command).await,
            };
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let next = at.as_ref().and_then(|at| redirection(&error, at));
            let (Some(cluster), Some(next)) = (self.client.cluster(), next) else {
                let error = line.explain(&error).await;
                return Err(self.doubt(error));
            };
            cluster.guide.was_wrong();
            is_asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            commands = cluster.node(&next).commands();
            elsewhere = Some(commands.clone());
            at = Some(next);
        }
        let why = "the nodes of the redis cluster do not agree on who has the key";
        Err(SourceError::new(Cause::Redis, why))
    }

    /// The clock of the server, since 1970. An error where the user may not ask for it.
    pub(in crate::source) async fn time(&self) -> Result<Duration, SourceError> {
        let answer = self.run(&redis::cmd("TIME")).await?;
        time(&answer).ok_or_else(|| {
            SourceError::new(Cause::Redis, "the server answered TIME with something else")
        })
    }

    /// The connection on which changes of the key are announced; `None` while nobody knows where that is.
    pub(in crate::source) fn pushes(&self) -> Option<Arc<Pushes>> {
        // It may have moved meanwhile; when nobody has it, nobody tells of it.
        let home = self.look()?;
        let is_home = self.stand.lock().elsewhere.is_none();
        is_home.then(|| home.node.pushes())
    }

    /// Completes when the key is worth asking for again: it belongs to another node, or the server is back on another connection
    /// than that of the last command. May never complete. Cancel-safe.
    pub(in crate::source) async fn changes(&self) {
        self.look();
        let stand = self.stand.lock().clone();
        let again = async {
            match &stand.elsewhere {
                Some(_) => sleep(WHILE_MOVING).await,
                None => std::future::pending().await,
            }
        };
        let back = async {
            match &stand.home {
                Some(home) => home.commands.line_other_than(stand.generation).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = again => {}
            () = back => {}
            () = self.moves(stand.home.as_ref()) => {}
        }
    }

    /// Completes when the key does not belong to `home`.
    async fn moves(&self, home: Option<&Home>) {
        let Some(cluster) = self.client.cluster() else {
            return std::future::pending().await;
        };
        let home = home.and_then(|home| home.at.as_ref());
        let mut known = cluster.guide.watch();
        let moved = known.wait_for(|known| {
            let owner = known.owner(self.slot);
            owner.is_some() && owner != home
        });
        if moved.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn find(&self) -> Result<Home, SourceError> {
        if let Some(cluster) = self.client.cluster() {
            cluster.guide.slots().await?;
        }
        self.look().ok_or_else(|| {
            let why = "no node of the redis cluster has the key's slot";
            self.doubt(SourceError::new(Cause::Redis, why))
        })
    }

    /// Settles where the key belongs, as far as it is known.
    fn look(&self) -> Option<Home> {
        let cluster = self.client.cluster();
        let at = match cluster {
            None => None,
            Some(cluster) => Some(cluster.guide.watch().borrow().owner(self.slot)?.clone()),
        };
        let mut stand = self.stand.lock();
        if let Some(home) = &stand.home
            && home.at == at
        {
            return Some(home.clone());
        }
        let node = match (cluster, &at) {
            (Some(cluster), Some(at)) => cluster.node(at),
            _ => self.client.main().clone(),
        };
        let home = Home {
            commands: node.commands(),
            at,
            node,
        };
        *stand = Stand {
            home: Some(home.clone()),
            ..Stand::default()
        };
        Some(home)
    }

    /// Whoever is asked next should be known better.
    fn doubt(&self, error: SourceError) -> SourceError {
        if let Some(cluster) = self.client.cluster() {
            cluster.guide.was_wrong();
        }
        error
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// Seconds and microseconds.
fn time(answer: &Value) -> Option<Duration> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let number = |at: usize| -> Option<u64> {
        match parts.get(at)? {
            Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    };
    Some(Duration::from_secs(number(0)?) + Duration::from_micros(number(1)?))
}

/// Where the node at `at` sends us.
fn redirection(error: &redis::RedisError, at: &Endpoint) -> Option<Endpoint> {
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    named(host, port.parse().ok()?, at)
}
