//! Shares published messages between replicas, over one Redis pub/sub channel a stream path.
//!
//! A message that is published on one replica comes back to all of them, the publisher included, once each and in Redis's
//! order. The publisher knows its own by the nonce: when it comes back, it has its event id. What nobody listened
//! for is lost; Redis says how many listened.

mod parcel;

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::redis_pubsub::without_message;
use super::redis_server::{Commands, Delivery, MAX_BYTES, RedisClient, Subscription, Topic};
use super::{Cause, FeedItem, Message, SourceError};
use crate::params::Params;

/// Tells one published message from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce(u128);

/// Where the messages of one stream path are shared. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedPublish {
    client: RedisClient,
    channel: String,
    /// Kept from the first message on, so that not every message makes a connection of its own.
    commands: Arc<OnceLock<Arc<Commands>>>,
}

/// What is published, by any replica.
#[derive(Debug)]
pub struct SharedFeed {
    shared: SharedPublish,
    subscription: Option<Subscription>,
}

/// A message as it is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// What its publisher knows it by.
    pub nonce: Nonce,
    /// For which of the resources of the stream's path.
    pub params: Params,
    /// The message itself.
    pub message: Message,
}

/// What a [`SharedFeed`] tells.
#[derive(Clone, Debug)]
pub enum SharedItem {
    /// A message.
    Published(Published),
    /// Anything else that a feed tells; never [`FeedItem::Message`].
    Other(FeedItem),
}

impl Nonce {
    /// One that no replica uses a second time: 128 random bits.
    pub fn new() -> Self {
        Self(fastrand::u128(..))
    }
}

impl Default for Nonce {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl SharedPublish {
    /// `path` is the stream's path as it is configured: it names the channel, `wellspring:publish:` before it. One channel
    /// carries the messages for all parameters, so that a replica knows them before anybody has asked it.
    pub fn new(client: RedisClient, path: &str) -> Self {
        Self {
            client,
            channel: format!("wellspring:publish:{path}"),
            commands: Arc::default(),
        }
    }

    /// Sends the message to all replicas; how many were listening. Fails with [`Cause::TooLarge`] when it is larger than 1 MiB
    /// as it is sent, and as any command does. After a timeout it may have been sent or not.
    pub async fn publish(&self, published: &Published) -> Result<u64, SourceError> {
        let payload = parcel::pack(published);
        if payload.len() > MAX_BYTES {
            return Err(SourceError::new(
                Cause::TooLarge,
                "the message is too large to be shared",
            ));
        }
        let mut command = redis::cmd("PUBLISH");
        command.arg(&self.channel).arg(payload);
        let commands = self.commands.get_or_init(|| self.client.commands());
        match commands.line().await?.run(&command).await? {
            redis::Value::Int(listeners) => Ok(listeners.unsigned_abs()),
            _ => Err(SourceError::new(
                Cause::Redis,
                "PUBLISH was not answered with a number",
            )),
        }
    }

    /// What all replicas publish, from the first call of [`next`](SharedFeed::next) on.
    pub fn feed(&self) -> SharedFeed {
        SharedFeed {
            shared: self.clone(),
            subscription: None,
        }
    }
}

impl SharedFeed {
    /// Waits for the next item. Cancel-safe. Reconnects by itself, without end.
    pub async fn next(&mut self) -> SharedItem {
        let subscription = self.subscription.get_or_insert_with(|| {
            let topic = Topic::Channel(self.shared.channel.clone());
            self.shared.client.pushes().subscribe(topic)
        });
        match subscription.next().await {
            Delivery::Message(payload) => match parcel::unpack(&payload) {
                Ok(published) => SharedItem::Published(published),
                Err(why) => SharedItem::Other(FeedItem::Refused(why)),
            },
            other => SharedItem::Other(without_message(other)),
        }
    }
}

#[cfg(test)]
mod tests;
