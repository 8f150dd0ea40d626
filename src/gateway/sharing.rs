//! Where the channels of a stream are shared between replicas.

use std::time::Duration;

use crate::cluster;
use crate::config::{Sharing, Source, Stream};
use crate::params::Params;
use crate::source::redis_log::{Bounds, SharedLog};
use crate::source::redis_server::RedisClient;

/// A lease is as long as two intervals, within these bounds.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);
const LONGEST_LEASE: Duration = Duration::from_secs(30);

/// The lease of what is listened to.
const LISTENING_LEASE: Duration = Duration::from_secs(3);

/// How long what was published is kept though it is not retained, so that ids stay known.
const PUBLISHED: Duration = Duration::from_secs(24 * 60 * 60);

/// What the channels of one stream share.
#[derive(Debug)]
pub(super) struct Shared {
    client: RedisClient,
    sharing: Sharing,
    bounds: Bounds,
    pub(super) term: cluster::Term,
}

impl Shared {
    pub(super) fn new(client: RedisClient, sharing: Sharing, stream: &Stream) -> Self {
        let is_polled = matches!(&stream.source, Source::Http(_) | Source::RedisKey(_));
        let every = is_polled.then_some(stream.every);
        let lease = every.map_or(LISTENING_LEASE, |every| every * 2);
        let lease = lease.clamp(SHORTEST_LEASE, LONGEST_LEASE);
        let history = stream.history;
        let keep = match &stream.source {
            Source::Publish(publish) if publish.retain => None,
            // Nobody writes while nobody publishes.
            Source::Publish(_) => Some(history.age.max(PUBLISHED)),
            _ => Some(history.age.max(lease * 2)),
        };
        Self {
            client,
            sharing,
            bounds: Bounds {
                // Some entries tell only how things stand.
                entries: 2 * history.events + 64,
                // Values are written as JSON strings there.
                bytes: 2 * history.bytes,
                keep,
            },
            term: cluster::Term { every, lease },
        }
    }

    /// The log of one channel.
    pub(super) fn log(&self, params: &Params) -> SharedLog {
        let identity = [self.sharing.identity.as_str()];
        let parts: Vec<&str> = identity
            .into_iter()
            .chain(params.0.iter().map(AsRef::as_ref))
            .collect();
        SharedLog::new(
            self.client.clone(),
            &self.sharing.space,
            &parts,
            self.bounds,
        )
    }
}
