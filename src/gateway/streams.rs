//! The streams that stand: each definition with its id, its channels in the hub and what feeds them.

use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::feeds;
use super::publish::Publisher;
use super::sources::Sources;
use crate::channel::hub::OpenChannel;
use crate::channel::{ChannelKey, Hub, Spec, StreamId};
use crate::config::{Config, Source, Start, Stream};
use crate::metrics::Metrics;
use crate::params::Params;
use crate::poller::Plan;

/// All definitions of one reading of the file, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Vec<Standing>);

/// A definition that stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) id: StreamId,
    pub(super) stream: Arc<Stream>,
    /// What feeds its channels ends with this.
    pub(super) stop: CancellationToken,
}

/// Where streams live.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) hub: Arc<Hub>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) metrics: Arc<Metrics>,
    /// Ends everything that feeds a channel.
    pub(super) feeds: CancellationToken,
    /// What follows shared logs: at the end it gives up its leases.
    pub(super) members: TaskTracker,
}

impl Streams {
    /// The definitions of `config`. One that says what a definition in `before` says is the same: it keeps its id, and with
    /// that its channels, their readers and what feeds them. The others are there from now on.
    pub(super) fn after(
        before: &Self,
        config: &Config,
        sources: &Sources,
        ground: &Ground,
    ) -> Self {
        let standing = config.streams.iter().map(|stream| {
            let known = before.0.iter().find(|known| known.stream == *stream);
            match known {
                Some(known) => Standing {
                    stream: stream.clone(),
                    ..known.clone()
                },
                None => Standing::begin(stream, sources, ground),
            }
        });
        Self(standing.collect())
    }

    /// Their ids, in the order of the file.
    pub(super) fn ids(&self) -> Vec<StreamId> {
        self.0.iter().map(|standing| standing.id).collect()
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.0.iter()
    }

    /// Ends those that do not stand in `after`. Returns how many.
    pub(super) fn end_all_but(&self, after: &Self, ground: &Ground) -> usize {
        let ended = |ended: &&Standing| after.0.iter().all(|standing| standing.id != ended.id);
        let ended = self.0.iter().filter(ended);
        ended.map(|standing| standing.end(ground)).count()
    }
}

impl Standing {
    fn begin(stream: &Arc<Stream>, sources: &Sources, ground: &Ground) -> Self {
        let standing = Self {
            id: StreamId::new(),
            stream: stream.clone(),
            stop: ground.feeds.child_token(),
        };
        let Ground { hub, publisher, .. } = ground;
        let counts = ground.metrics.stream(stream.path.as_str());
        let shared = sources.shared(stream);
        if let (Source::Publish(_), Some(shared)) = (&stream.source, &shared) {
            publisher.share(standing.id, shared.clone());
        }
        let access = sources.access(stream);
        let plan = feeds::plan(stream, &access);
        let way = feeds::Way {
            stream: stream.clone(),
            draft_spec: Arc::new(feeds::spec(stream, Arc::new(counts.polls_only()))),
            spec: Arc::new(Spec {
                shared: stream.sharing.is_some(),
                ..feeds::spec(stream, counts)
            }),
            draft_plan: Arc::new(Plan {
                always: true,
                ..plan.clone()
            }),
            plan: Arc::new(plan),
            access,
            shared,
            stop: standing.stop.clone(),
            members: ground.members.clone(),
        };
        hub.add(
            standing.id,
            stream.max_channels,
            opener(way, Arc::downgrade(hub)),
        );
        if stream.start == Start::Always {
            // Polled though nobody reads: it exists from the start.
            let key = ChannelKey::shared(standing.id, Params::default());
            if hub.open(&key).is_err() {
                warn!(path = %stream.path, "the stream may have no channel");
            }
        }
        standing
    }

    /// Its readers are told and end; then nothing feeds its channels any more.
    fn end(&self, ground: &Ground) {
        ground.hub.retire(self.id);
        ground.publisher.forget(self.id);
        self.stop.cancel();
    }
}

/// The hub holds what this gives, which must not hold the hub.
fn opener(way: feeds::Way, hub: Weak<Hub>) -> OpenChannel {
    Box::new(move |key| way.open(key, &hub))
}
