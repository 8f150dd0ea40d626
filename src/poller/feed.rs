//! Listening instead of reading: one task per channel that is fed by messages, while somebody wants it.
//!
//! A feed has no current value, and nobody knows what happened while it was not listening. So whenever it begins to listen anew,
//! ids from before mean nothing any more, unless it says that it goes on where it stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::Plan;
use crate::channel::{Channel, Hub};
use crate::source::{Feed, FeedItem};

/// Listens with feeds that `open` makes into `channel` until nobody wants it any more.
pub async fn run<F: Feed>(
    open: impl Fn() -> F,
    channel: Arc<Channel>,
    hub: Arc<Hub>,
    plan: Arc<Plan>,
) {
    loop {
        // Somebody came at the last moment, or the task before this one panicked: a gap in any case.
        channel.break_history();
        listen(open(), &channel, &plan).await;
        if hub.remove_unread(&channel, Duration::ZERO) {
            return debug!(channel = channel.name(), "channel closed");
        }
    }
}

async fn listen<F: Feed>(mut feed: F, channel: &Channel, plan: &Plan) {
    let unwanted = plan.unwanted(channel);
    tokio::pin!(unwanted);
    let mut down = false;
    loop {
        let item = tokio::select! {
            item = feed.next() => item,
            () = &mut unwanted => return,
        };
        match item {
            FeedItem::Up => {
                if std::mem::take(&mut down) {
                    channel.break_history();
                    info!(channel = channel.name(), "listening again");
                }
                channel.confirm();
            }
            FeedItem::Resumed => {
                if std::mem::take(&mut down) {
                    info!(channel = channel.name(), "listening again, without a gap");
                }
                channel.confirm();
            }
            FeedItem::From(after) => {
                if std::mem::take(&mut down) {
                    info!(channel = channel.name(), "listening again");
                }
                channel.open_window(after);
            }
            FeedItem::Entry(id, data) => match plan.select.select(&data) {
                Ok(data) => channel.append_entry(id, data),
                Err(error) => {
                    channel.metrics().dropped.inc();
                    warn!(channel = channel.name(), %id, %error, "an entry was dropped");
                }
            },
            FeedItem::Message(message) => match plan.select.select(&message.data) {
                Ok(data) => drop(channel.append(data, message.event)),
                Err(error) => {
                    channel.metrics().dropped.inc();
                    warn!(channel = channel.name(), %error, "a message was dropped");
                }
            },
            FeedItem::Refused(why) => {
                channel.metrics().dropped.inc();
                warn!(channel = channel.name(), why = %why.escape_debug(), "a message was dropped");
            }
            FeedItem::Missed(why) => {
                channel.break_history();
                warn!(channel = channel.name(), why = %why.escape_debug(), "messages were lost");
            }
            FeedItem::Down(error) => {
                if !std::mem::replace(&mut down, true) {
                    warn!(channel = channel.name(), cause = %error.cause, detail = %error.detail.escape_debug(), "not listening");
                }
                channel.stale(error.cause.as_str());
            }
        }
    }
}

/// Completes when nobody has wanted the channel for `linger`.
pub(super) async fn unwanted(channel: &Channel, linger: Duration) {
    loop {
        let changed = channel.demand_changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if !channel.wanted(linger) {
            return;
        }
        match channel.unread_since() {
            Some(left) => {
                tokio::select! {
                    () = changed => {}
                    () = sleep_until((left + linger).into()) => {}
                }
            }
            None => changed.await,
        }
    }
}

/// Drops a channel that nobody feeds by itself, such as one that is published to, when it has been unread for `age` and
/// nothing in it is worth keeping.
pub async fn keep(channel: Arc<Channel>, hub: Arc<Hub>, age: Duration) {
    loop {
        unwanted(&channel, age).await;
        let changed = channel.demand_changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if hub.remove_unread(&channel, age) {
            return;
        }
        changed.await;
    }
}
