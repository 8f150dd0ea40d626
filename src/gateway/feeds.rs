//! What feeds a channel: its poller or its feed, in a task that outlives a panic.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use xxhash_rust::xxh3::xxh3_64;

use super::sharing::Shared;
use super::sources::Access;
use crate::channel::{Channel, ChannelKey, Hub, Ids, Shape, Spec};
use crate::cluster::{Member, Writer};
use crate::config::{Source, Start, Stream};
use crate::diff::ArrayKeys;
use crate::metrics::StreamMetrics;
use crate::poller::schedule::{Bounds, Schedule};
use crate::poller::{self, Plan, archive, feed};
use crate::source::http::{EventFeed, HttpSource};
use crate::source::redis_key::RedisKeySource;
use crate::source::redis_pubsub::PubSubFeed;
use crate::source::redis_stream::{StreamArchive, StreamFeed};
use crate::value::Significance;

/// How channels of a stream are made, and fed until `stop`.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) stream: Arc<Stream>,
    pub(super) spec: Arc<Spec>,
    /// Of drafts: their polls alone are counted, as the rest is counted where clients read.
    pub(super) draft_spec: Arc<Spec>,
    pub(super) access: Access,
    /// How it is fed.
    pub(super) plan: Arc<Plan>,
    /// The same for drafts: as long as they are there.
    pub(super) draft_plan: Arc<Plan>,
    pub(super) shared: Option<Arc<Shared>>,
    pub(super) stop: CancellationToken,
    pub(super) members: TaskTracker,
}

impl Way {
    /// Makes a channel and starts what feeds it.
    pub(super) fn open(&self, key: &ChannelKey, hub: &Weak<Hub>) -> Arc<Channel> {
        let channel = Arc::new(Channel::new(key.clone(), self.spec.clone()));
        let Some(hub) = hub.upgrade() else {
            return channel;
        };
        match &self.shared {
            Some(shared) => self.join(shared, channel.clone(), hub),
            None => self.feed(channel.clone(), hub),
        }
        channel
    }

    fn feed(&self, channel: Arc<Channel>, hub: Arc<Hub>) {
        let (stream, access, plan) = (self.stream.clone(), self.access.clone(), self.plan.clone());
        let run = move || feed_channel(&stream, &access, &plan, &channel, &hub);
        // Boxed: what waits for the token holds what it runs four times over; borrowed: what supervises holds it twice. There
        // is one for each channel.
        let run = Box::pin(async move { supervised(&run).await });
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(run));
    }

    /// The channel is followed from the log that replicas share.
    fn join(&self, shared: &Shared, channel: Arc<Channel>, hub: Arc<Hub>) {
        let is_published = matches!(self.stream.source, Source::Publish(_));
        let member = Arc::new(Member {
            log: shared.log(&channel.key().params),
            writer: (!is_published).then(|| self.writer(channel.key().clone(), hub.clone())),
            plan: self.plan.clone(),
            term: shared.term,
            channel,
            hub,
        });
        let stop = self.stop.clone();
        self.members.spawn(supervised(move || {
            let (member, stop) = (member.clone(), stop.clone());
            async move { member.run(&stop).await }
        }));
    }

    /// Reads the source into a draft of the channel.
    fn writer(&self, key: ChannelKey, hub: Arc<Hub>) -> Writer {
        let way = self.clone();
        Box::new(move || {
            let draft = Arc::new(Channel::new(key.clone(), way.draft_spec.clone()));
            let (stream, access) = (way.stream.clone(), way.access.clone());
            let (plan, read, hub) = (way.draft_plan.clone(), draft.clone(), hub.clone());
            let work = supervised(move || feed_channel(&stream, &access, &plan, &read, &hub));
            (draft, Box::pin(work))
        })
    }
}

/// Runs what feeds a channel; a panic of it is a bug that costs one reading, not the channel.
pub(super) async fn supervised<F: Future<Output = ()>>(run: impl Fn() -> F) {
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        error!("a poller panicked and is started again");
        // Boxed: it is rare, and there is room for it in each.
        Box::pin(tokio::time::sleep(Duration::from_secs(1))).await;
    }
}

/// What feeds a channel until nobody can want it. Boxed, so that it takes what its kind takes, not what the largest does.
fn feed_channel(
    stream: &Arc<Stream>,
    access: &Access,
    plan: &Arc<Plan>,
    channel: &Arc<Channel>,
    hub: &Arc<Hub>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let params = channel.key().params.clone();
    let (fed, hub, plan) = (channel.clone(), hub.clone(), plan.clone());
    let schedule = || schedule(stream, channel);
    match (&stream.source, access) {
        (Source::Http(source), Access::Http(client, _)) => {
            let forwarded = channel.key().forwarded.clone();
            let reader = HttpSource::new(client.clone(), source.clone(), params, forwarded);
            Box::pin(poller::run(reader, fed, hub, schedule(), plan))
        }
        (Source::RedisKey(source), Access::Redis(client)) => {
            let reader = RedisKeySource::new(client.clone(), source.clone(), &params);
            Box::pin(poller::run(reader, fed, hub, schedule(), plan))
        }
        (Source::RedisPubSub(source), Access::Redis(client)) => {
            let (client, source) = (client.clone(), source.clone());
            let open = move || PubSubFeed::new(client.clone(), source.as_ref().clone(), &params);
            Box::pin(feed::run(open, fed, hub, plan))
        }
        (Source::RedisStream(source), Access::Redis(client)) => {
            let (client, source, every) = (client.clone(), source.clone(), stream.every);
            let past = StreamArchive::new(&client, &source, &params);
            let open = move || StreamFeed::new(&client, &source, &params, every);
            let (select, resume) = (stream.select.clone(), stream.resume);
            Box::pin(async move {
                tokio::select! {
                    () = feed::run(open, fed.clone(), hub, plan) => {}
                    never = archive::run(past, &fed, &select, resume) => match never {},
                }
            })
        }
        (Source::Sse(source), Access::Http(client, _)) => {
            // A name in the file stands for those of the events.
            let keeps_names = stream.event.is_none();
            let (client, source) = (client.clone(), source.clone());
            let open =
                move || EventFeed::new(client.clone(), source.clone(), params.clone(), keeps_names);
            Box::pin(feed::run(open, fed, hub, plan))
        }
        (Source::Publish(_), _) => Box::pin(feed::keep(fed, hub, stream.history.age)),
        // What a source is read with is chosen by its kind.
        (source, access) => {
            error!(?source, ?access, "a source has no access");
            Box::pin(std::future::ready(()))
        }
    }
}

/// What all channels of `stream` have in common.
pub(super) fn spec(stream: &Stream, metrics: Arc<StreamMetrics>) -> Spec {
    let (current, retain) = match &stream.source {
        Source::Http(_) | Source::RedisKey(_) => (true, false),
        Source::RedisPubSub(_) | Source::RedisStream(_) | Source::Sse(_) => (false, false),
        // A shared log keeps it.
        Source::Publish(publish) => (publish.retain, publish.retain && stream.sharing.is_none()),
    };
    Spec {
        path: stream.path.to_string(),
        shape: Shape {
            event: stream.event.clone(),
            template: stream.template.clone(),
            array_keys: ArrayKeys::new(stream.array_keys.clone()),
            metrics,
        },
        significance: Significance::new(stream.ignore.clone(), stream.deadband.clone()),
        history: stream.history,
        resume: stream.resume,
        ids: match stream.source {
            Source::RedisStream(_) => Ids::OfSource,
            _ => Ids::Own,
        },
        current,
        retain,
        shared: false,
        expire_after: stream.expire_after,
        linger: stream.linger,
    }
}

/// How the channels of `stream` are fed.
pub(super) fn plan(stream: &Stream, access: &Access) -> Plan {
    let gate = match access {
        Access::Http(_, gate) => Some(gate.clone()),
        Access::Redis(_) | Access::Nothing => None,
    };
    Plan {
        select: stream.select.clone(),
        always: stream.start == Start::Always,
        linger: stream.linger,
        keep: stream.history.age,
        stale_after: stream.stale_after,
        gate,
    }
}

fn schedule(stream: &Stream, channel: &Channel) -> Schedule {
    let adaptive = stream.adaptive.map(|adaptive| Bounds {
        min: adaptive.min,
        max: adaptive.max,
    });
    let seed = xxh3_64(format!("{} {}", stream.path, channel.key().params).as_bytes());
    Schedule::new(stream.every, adaptive, seed)
}
