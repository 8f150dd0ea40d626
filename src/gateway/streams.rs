//! The streams that stand: each definition with its id, its channels in the hub and what feeds them.

use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::feeds;
use super::publish::{self, Publisher};
use super::sources::Sources;
use crate::channel::hub::OpenChannel;
use crate::channel::{ChannelKey, Hub, StreamId};
use crate::config::{Config, Source, Start, Stream};
use crate::metrics::{Metrics, StreamMetrics};
use crate::params::Params;
use crate::source::publish::SharedPublish;

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
        hub.add(
            standing.id,
            stream.max_channels,
            standing.opener(sources, counts, hub),
        );
        standing.share(sources, hub, publisher);
        if stream.start == Start::Always {
            // Polled though nobody reads: it exists from the start.
            let key = ChannelKey::shared(standing.id, Params::default());
            if hub.open(&key).is_err() {
                warn!(path = %stream.path, "the stream may have no channel");
            }
        }
        standing
    }

    fn opener(&self, sources: &Sources, counts: Arc<StreamMetrics>, hub: &Arc<Hub>) -> OpenChannel {
        let (stream, stop) = (self.stream.clone(), self.stop.clone());
        // The hub holds this: it must not hold the hub.
        let hub: Weak<Hub> = Arc::downgrade(hub);
        let access = sources.access(&stream);
        Box::new(move |key| feeds::open(&stream, key, &counts, &access, &hub, &stop))
    }

    /// A stream that replicas share is listened to as long as it stands.
    fn share(&self, sources: &Sources, hub: &Arc<Hub>, publisher: &Arc<Publisher>) {
        if let Source::Publish(source) = &self.stream.source
            && let Some(server) = &source.server
        {
            let sharing = SharedPublish::new(sources.redis(server), self.stream.path.as_str());
            let awaited = publisher.share(self.id, sharing.clone());
            let (id, hub) = (self.id, hub.clone());
            let listen = move || publish::listen(sharing.feed(), id, hub.clone(), awaited.clone());
            let stop = self.stop.clone();
            tokio::spawn(stop.run_until_cancelled_owned(feeds::supervised(listen)));
        }
    }

    /// Its readers are told and end; then nothing feeds its channels any more.
    fn end(&self, ground: &Ground) {
        ground.hub.retire(self.id);
        ground.publisher.forget(self.id);
        self.stop.cancel();
    }
}
