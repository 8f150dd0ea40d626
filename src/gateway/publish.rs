//! Takes published messages: into the channel at once, or, where replicas share them, by way of Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::channel::hub::Unavailable;
use crate::channel::{Channel, ChannelKey, EventId, Hub, StreamId};
use crate::edge::{self, PublishError};
use crate::source::publish::{Nonce, Published, SharedFeed, SharedItem, SharedPublish};
use crate::source::{FeedItem, Message};
use crate::sse::EventName;
use crate::value::Value;

/// How long a message may take to Redis and back.
const ROUND_TRIP: Duration = Duration::from_secs(5);

/// What the edge hands messages to.
#[derive(Debug)]
pub(super) struct Publisher {
    hub: Arc<Hub>,
    /// By stream; a stream that is not in it is not shared.
    shared: RwLock<HashMap<StreamId, (SharedPublish, Arc<Awaited>)>>,
}

/// Messages of our own that have not come back yet.
pub(super) type Awaited = Mutex<HashMap<Nonce, oneshot::Sender<Result<EventId, Unavailable>>>>;

impl Publisher {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            shared: RwLock::default(),
        }
    }

    /// Messages for `stream` go by way of Redis from now on. Returns what is told of those that come back.
    pub(super) fn share(&self, stream: StreamId, sharing: SharedPublish) -> Arc<Awaited> {
        let awaited = Arc::<Awaited>::default();
        let shared = (sharing, awaited.clone());
        self.shared.write().insert(stream, shared);
        awaited
    }

    /// The stream stands no longer.
    pub(super) fn forget(&self, stream: StreamId) {
        self.shared.write().remove(&stream);
    }
}

#[async_trait]
impl edge::Publish for Publisher {
    async fn publish(&self, key: ChannelKey, value: Value) -> Result<EventId, PublishError> {
        let shared = self.shared.read().get(&key.stream).cloned();
        match shared {
            None => Ok(append(&self.hub, &key, value, None)?),
            Some((shared, awaited)) => share(&shared, &awaited, key, value).await,
        }
    }
}

impl From<Unavailable> for PublishError {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Full => Self::Full,
            Unavailable::Retired => Self::Retired,
        }
    }
}

/// Publishes through Redis and waits until the message has come back and is an event.
async fn share(
    shared: &SharedPublish,
    awaited: &Awaited,
    key: ChannelKey,
    value: Value,
) -> Result<EventId, PublishError> {
    let nonce = Nonce::new();
    let (came_back, waiting) = oneshot::channel();
    awaited.lock().insert(nonce, came_back);
    let _forget = Forget { awaited, nonce };
    let message = Message {
        data: value,
        event: None,
    };
    let published = Published {
        nonce,
        params: key.params,
        message,
    };
    if let Err(error) = shared.publish(&published).await {
        warn!(stream = %key.stream, cause = %error.cause, "a message could not be shared");
        return Err(PublishError::Unreachable);
    }
    match timeout(ROUND_TRIP, waiting).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(_)) | Err(_) => Err(PublishError::Unreachable),
    }
}

/// Whatever ends the wait, the place in the list is given back.
struct Forget<'a> {
    awaited: &'a Awaited,
    nonce: Nonce,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.awaited.lock().remove(&self.nonce);
    }
}

/// Listens to what all replicas publish for one stream, ours included, for as long as the process runs.
pub(super) async fn listen(
    mut feed: SharedFeed,
    stream: StreamId,
    hub: Arc<Hub>,
    awaited: Arc<Awaited>,
) {
    let mut down = false;
    loop {
        match feed.next().await {
            SharedItem::Published(Published {
                nonce,
                params,
                message,
            }) => {
                let key = ChannelKey::shared(stream, params);
                let result = append(&hub, &key, message.data, message.event);
                if result.is_err() {
                    warn!(
                        %stream,
                        "a shared message was dropped: its resource cannot be followed"
                    );
                }
                if let Some(publisher) = awaited.lock().remove(&nonce) {
                    // Its publisher may have given up waiting.
                    let _ = publisher.send(result);
                }
            }
            SharedItem::Other(FeedItem::Up) => {
                if std::mem::take(&mut down) {
                    info!(%stream, "shared messages come in again");
                    hub.each(stream, |channel| {
                        // What others published meanwhile is lost: nobody may resume across the gap.
                        channel.break_history();
                        channel.confirm();
                    });
                }
            }
            SharedItem::Other(FeedItem::Down(error)) => {
                if !std::mem::replace(&mut down, true) {
                    let detail = error.detail.escape_debug();
                    warn!(%stream, cause = %error.cause, %detail, "shared messages do not come in");
                }
                hub.each(stream, |channel| channel.stale(error.cause.as_str()));
            }
            SharedItem::Other(FeedItem::Missed(why)) => {
                hub.each(stream, Channel::break_history);
                warn!(%stream, why = %why.escape_debug(), "shared messages were lost");
            }
            SharedItem::Other(FeedItem::Refused(why)) => {
                warn!(%stream, why = %why.escape_debug(), "a shared message was dropped");
            }
            // Messages come unpacked, and pub/sub never goes on where it stopped.
            SharedItem::Other(FeedItem::Message(_) | FeedItem::Resumed) => {}
        }
    }
}

fn append(
    hub: &Hub,
    key: &ChannelKey,
    value: Value,
    name: Option<EventName>,
) -> Result<EventId, Unavailable> {
    let subscription = hub.subscribe(key)?;
    let id = subscription.channel().append(value, name);
    id.ok_or(Unavailable::Retired)
}
