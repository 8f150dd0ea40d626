//! Where one key is: on the server, or on the node of a cluster that has its slot.
//!
//! A node that has the slot no longer says who has it (MOVED), and one that is giving it away key by key says who has the key
//! already (ASK). Both are followed. As long as the last command was answered elsewhere than where the key belongs, nobody
//! tells of its changes: then it is worth asking again before long.

use std::sync::Arc;
use std::time::Duration;

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

/// Where a key is, and what it was last asked for there.
pub(in crate::source) struct Place {
    client: RedisClient,
    slot: u16,
    home: Option<Home>,
    /// The connection of the last command, whether it succeeded or not.
    generation: Option<Generation>,
    /// Another node answered the last command.
    elsewhere: Option<Arc<Commands>>,
    _asking: Option<Arc<Asking>>,
}

/// Where the key belongs. Its connection is kept.
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
            home: None,
            generation: None,
            elsewhere: None,
            _asking: client.cluster().map(|cluster| cluster.guide.attend()),
            client,
        }
    }

    /// Finds out where the key belongs, and connects there.
    pub(in crate::source) async fn locate(&mut self) -> Result<(), SourceError> {
        if let Some(cluster) = self.client.cluster() {
            cluster.guide.slots().await?;
        }
        self.look()
    }

    /// Runs one command, which must be about the key and no other. An error reply is an error.
    pub(in crate::source) async fn run(&mut self, command: &Cmd) -> Result<Value, SourceError> {
        self.locate().await?;
        let Some(home) = &self.home else {
            return Err(nobody());
        };
        let mut commands = home.commands.clone();
        let mut at = home.at.clone();
        let mut is_asking = false;
        self.elsewhere = None;
        for _ in 0..=MAX_REDIRECTIONS {
            let line = match commands.line().await {
                Ok(line) => line,
                Err(error) => return Err(self.doubt(error)),
            };
            if self.elsewhere.is_none() {
                self.generation = Some(line.generation);
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
            self.elsewhere = Some(commands.clone());
            at = Some(next);
        }
        let why = "the nodes of the redis cluster do not agree on who has the key";
        Err(SourceError::new(Cause::Redis, why))
    }

    /// The connection on which changes of the key are announced; `None` while nobody knows where that is.
    pub(in crate::source) fn pushes(&mut self) -> Option<Arc<Pushes>> {
        // It may have moved meanwhile; when nobody has it, nobody tells of it.
        self.look().ok()?;
        match (&self.home, &self.elsewhere) {
            (Some(home), None) => Some(home.node.pushes()),
            _ => None,
        }
    }

    /// Completes when the key is worth asking for again: it belongs to another node, or the server is back on another connection
    /// than that of the last command. May never complete. Cancel-safe.
    pub(in crate::source) async fn changes(&mut self) {
        // Who has the key now is awaited as well.
        let _ = self.look();
        let again = async {
            match &self.elsewhere {
                Some(_) => sleep(WHILE_MOVING).await,
                None => std::future::pending().await,
            }
        };
        let back = async {
            match &self.home {
                Some(home) => home.commands.line_other_than(self.generation).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = again => {}
            () = back => {}
            () = self.moves() => {}
        }
    }

    /// Completes when the key belongs elsewhere than it did.
    async fn moves(&self) {
        let Some(cluster) = self.client.cluster() else {
            return std::future::pending().await;
        };
        let home = self.home.as_ref().and_then(|home| home.at.as_ref());
        let mut known = cluster.guide.watch();
        let moved = known.wait_for(|known| {
            let owner = known.owner(self.slot);
            owner.is_some() && owner != home
        });
        if moved.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Settles where the key belongs, as far as it is known.
    fn look(&mut self) -> Result<(), SourceError> {
        let (at, node) = match self.client.cluster() {
            None => (None, self.client.main().clone()),
            Some(cluster) => {
                let owner = cluster.guide.watch().borrow().owner(self.slot).cloned();
                let owner = owner.ok_or_else(|| self.doubt(nobody()))?;
                if self.home.as_ref().and_then(|home| home.at.as_ref()) == Some(&owner) {
                    return Ok(());
                }
                let node = cluster.node(&owner);
                (Some(owner), node)
            }
        };
        if self.home.as_ref().is_none_or(|home| home.at != at) {
            self.home = Some(Home {
                commands: node.commands(),
                at,
                node,
            });
            self.generation = None;
            self.elsewhere = None;
        }
        Ok(())
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

fn nobody() -> SourceError {
    SourceError::new(
        Cause::Redis,
        "no node of the redis cluster has the key's slot",
    )
}

/// Where the node at `at` sends us.
fn redirection(error: &redis::RedisError, at: &Endpoint) -> Option<Endpoint> {
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    named(host, port.parse().ok()?, at)
}
