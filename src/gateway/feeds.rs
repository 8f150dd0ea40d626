//! What feeds a channel: its poller or its feed, in a task that outlives a panic.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::error;
use xxhash_rust::xxh3::xxh3_64;

use super::sources::Access;
use crate::channel::{Channel, ChannelKey, Hub, Shape, Spec};
use crate::config::{Source, Start, Stream};
use crate::diff::ArrayKeys;
use crate::metrics::StreamMetrics;
use crate::poller::gate::Gate;
use crate::poller::schedule::{Bounds, Schedule};
use crate::poller::{self, Plan, feed};
use crate::source::http::{EventFeed, HttpSource};
use crate::source::redis_key::RedisKeySource;
use crate::source::redis_pubsub::PubSubFeed;
use crate::value::Significance;

/// Makes a channel and starts what feeds it, until `stop`.
pub(super) fn open(
    stream: &Arc<Stream>,
    key: &ChannelKey,
    counts: &Arc<StreamMetrics>,
    access: &Access,
    hub: &Weak<Hub>,
    stop: &CancellationToken,
) -> Arc<Channel> {
    let channel = Arc::new(Channel::new(key.clone(), spec(stream, key, counts.clone())));
    let Some(hub) = hub.upgrade() else {
        return channel;
    };
    let (stream, access, fed) = (stream.clone(), access.clone(), channel.clone());
    let run = move || feed_channel(stream.clone(), access.clone(), fed.clone(), hub.clone());
    // Boxed: what waits for the token holds what it runs four times over, and there is one for each channel.
    let run = Box::pin(supervised(run));
    tokio::spawn(stop.clone().run_until_cancelled_owned(run));
    channel
}

/// Runs what feeds a channel; a panic of it is a bug that costs one reading, not the channel.
pub(super) async fn supervised<F: Future<Output = ()>>(run: impl Fn() -> F) {
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        error!("a poller panicked and is started again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn feed_channel(stream: Arc<Stream>, access: Access, channel: Arc<Channel>, hub: Arc<Hub>) {
    let params = channel.key().params.clone();
    let schedule = || schedule(&stream, &channel);
    match (&stream.source, access) {
        (Source::Http(source), Access::Http(client, gate)) => {
            let forwarded = channel.key().forwarded.as_deref();
            let reader = HttpSource::new(client, source, &params, forwarded);
            let plan = plan(&stream, Some(gate));
            poller::run(reader, channel.clone(), hub, schedule(), plan).await;
        }
        (Source::RedisKey(source), Access::Redis(client)) => {
            let reader = RedisKeySource::new(client, source.clone(), &params);
            let plan = plan(&stream, None);
            poller::run(reader, channel.clone(), hub, schedule(), plan).await;
        }
        (Source::RedisPubSub(source), Access::Redis(client)) => {
            let open = || PubSubFeed::new(client.clone(), source.clone(), &params);
            feed::run(open, channel.clone(), hub, listening(&stream)).await;
        }
        (Source::Sse(source), Access::Http(client, _)) => {
            // A name in the file stands for those of the events.
            let keeps_names = stream.event.is_none();
            let open = || EventFeed::new(client.clone(), source, &params, keeps_names);
            feed::run(open, channel.clone(), hub, listening(&stream)).await;
        }
        (Source::Publish(_), _) => feed::keep(channel, hub, stream.history.age).await,
        // What a source is read with is chosen by its kind.
        (source, access) => error!(?source, ?access, "a source has no access"),
    }
}

pub(super) fn spec(stream: &Stream, key: &ChannelKey, metrics: Arc<StreamMetrics>) -> Spec {
    let (current, retain) = match &stream.source {
        Source::Http(_) | Source::RedisKey(_) => (true, false),
        Source::RedisPubSub(_) | Source::Sse(_) => (false, false),
        Source::Publish(publish) => (publish.retain, publish.retain),
    };
    let name = match stream.path.param_names().len() {
        0 => stream.path.to_string(),
        _ => format!("{} [{}]", stream.path, key.params),
    };
    Spec {
        name,
        shape: Shape {
            event: stream.event.clone(),
            template: stream.template.clone(),
            array_keys: ArrayKeys::new(stream.array_keys.clone()),
            params: key.params.clone(),
            metrics,
        },
        significance: Significance::new(stream.ignore.clone(), stream.deadband.clone()),
        history: stream.history,
        resume: stream.resume,
        current,
        retain,
        expire_after: stream.expire_after,
        linger: stream.linger,
    }
}

fn plan(stream: &Stream, gate: Option<Arc<Gate>>) -> Plan {
    Plan {
        select: stream.select.clone(),
        always: stream.start == Start::Always,
        linger: stream.linger,
        keep: stream.history.age,
        stale_after: stream.stale_after,
        gate,
    }
}

fn listening(stream: &Stream) -> feed::Plan {
    feed::Plan {
        select: stream.select.clone(),
        always: stream.start == Start::Always,
        linger: stream.linger,
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
