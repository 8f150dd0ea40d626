//! Takes published messages: into the channel at once, or, where replicas share them, by way of the shared log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::time::timeout;
use tracing::warn;

use super::sharing::Shared;
use crate::channel::hub::Unavailable;
use crate::channel::past::Past;
use crate::channel::{Channel, ChannelKey, EventId, Hub, StreamId};
use crate::edge::{self, PublishError};
use crate::value::Value;

/// How long a publisher waits until its message can be read here, too; it is accepted in any case.
const READ_BACK: Duration = Duration::from_secs(1);

/// What the edge hands messages to.
#[derive(Debug)]
pub(super) struct Publisher {
    hub: Arc<Hub>,
    /// By stream; a stream that is not in it is not shared.
    shared: RwLock<HashMap<StreamId, Arc<Shared>>>,
}

impl Publisher {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            shared: RwLock::default(),
        }
    }

    /// Messages for `stream` go by way of the shared log from now on.
    pub(super) fn share(&self, stream: StreamId, shared: Arc<Shared>) {
        self.shared.write().insert(stream, shared);
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
        let subscription = self.hub.subscribe(&key)?;
        let channel = subscription.channel();
        match shared {
            None => channel.append(value, None).ok_or(PublishError::Retired),
            Some(shared) => share(&shared, channel, &value).await,
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

/// Appends to the shared log, and waits a moment until the channel here has it.
async fn share(shared: &Shared, channel: &Channel, value: &Value) -> Result<EventId, PublishError> {
    let (epoch, message) = Past::message(value);
    let log = shared.log(&channel.key().params);
    let published = log.publish(&epoch.to_string(), &message.write()).await;
    let id = match published {
        Ok(id) => EventId::parse(id.as_bytes()).ok_or(PublishError::Unreachable)?,
        Err(error) => {
            let detail = error.detail.escape_debug();
            warn!(channel = channel.name(), cause = %error.cause, %detail, "a message could not be shared");
            return Err(PublishError::Unreachable);
        }
    };
    let mut version = channel.version();
    let here = async {
        while !channel.holds(id) {
            version.changed().await;
        }
    };
    // It is accepted, whether this replica has heard of it or not.
    let _ = timeout(READ_BACK, here).await;
    Ok(id)
}
