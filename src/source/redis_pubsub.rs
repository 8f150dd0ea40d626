//! Listens to a Redis pub/sub channel or pattern.

mod envelope;

use super::redis_key::read;
use super::redis_server::{Delivery, RedisClient, Subscription, Topic};
use super::{Feed, FeedItem, Message};
use crate::config;
use crate::config::{Envelope, PubSubName, RedisFormat};
use crate::params::{Escape, Params};
#[doc(hidden)]
pub use envelope::open_flask_sse;

/// The messages of one channel or pattern. Feeds of the same topic share one subscription.
#[derive(Debug)]
pub struct PubSubFeed {
    client: RedisClient,
    topic: Topic,
    envelope: Envelope,
    format: RedisFormat,
    subscription: Option<Subscription>,
}

impl PubSubFeed {
    /// Subscribes with the first call of [`next`](Feed::next), and unsubscribes on `Drop`.
    pub fn new(client: RedisClient, spec: config::RedisPubSubSource, params: &Params) -> Self {
        Self {
            client,
            topic: match spec.channel {
                PubSubName::Channel(name) => Topic::Channel(name.render(params, Escape::Verbatim)),
                PubSubName::Pattern(pattern) => Topic::Pattern(pattern),
            },
            envelope: spec.envelope,
            format: spec.format,
            subscription: None,
        }
    }

    fn open(&self, payload: &[u8]) -> Result<Message, String> {
        match self.envelope {
            Envelope::None => read(payload, self.format)
                .map(|data| Message { data, event: None })
                .map_err(|error| error.to_string()),
            Envelope::FlaskSse => open_flask_sse(payload),
        }
    }
}

impl Feed for PubSubFeed {
    async fn next(&mut self) -> FeedItem {
        let subscription = self
            .subscription
            .get_or_insert_with(|| self.client.pushes().subscribe(self.topic.clone()));
        match subscription.next().await {
            Delivery::Message(payload) => match self.open(&payload) {
                Ok(message) => FeedItem::Message(message),
                Err(why) => FeedItem::Refused(why),
            },
            other => without_message(other),
        }
    }
}

/// What is told of a delivery that holds no message.
pub(super) fn without_message(delivery: Delivery) -> FeedItem {
    match delivery {
        Delivery::Up => FeedItem::Up,
        Delivery::Down(error) => FeedItem::Down(error),
        Delivery::TooLarge => FeedItem::Refused("a message larger than 1 MiB".into()),
        Delivery::Missed(count) => {
            FeedItem::Missed(format!("{count} messages came faster than they were taken"))
        }
        Delivery::Message(_) => FeedItem::Refused("a message of an unknown kind".into()),
    }
}

#[cfg(test)]
mod tests;
