//! `cluster`, and what of a stream replicas share.

use std::sync::Arc;

use super::RedisServer;

/// Replicas that share their work.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Where they meet.
    pub redis: Arc<RedisServer>,
    /// Those with the same name share: `[A-Za-z0-9._-]{1,64}`.
    pub name: String,
}

/// Where the log of a stream's channels is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharing {
    /// The server that has it.
    pub server: Arc<RedisServer>,
    /// Who shares it: part of a key.
    pub space: String,
    /// What tells the stream from others in that space.
    pub identity: String,
}
