//! One reader: a cursor, no queue.

use std::sync::Arc;

use super::{Channel, EventId};
use crate::sse::Frame;

/// Where a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// It has nothing.
    New,
    /// It says that it has everything up to this event; `None`: it names something that is no id of ours.
    After(Option<EventId>),
    /// It has been given everything before this position of the log.
    At(u64),
}

/// What a reader is owed.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The bytes, or nothing (a resuming client that is current).
    pub frame: Option<Frame>,
    /// How many events and notices that is.
    pub events: u32,
    /// Where the reader stands when it has them.
    pub cursor: Cursor,
}

/// Counts as demand for its channel until dropped.
#[derive(Debug)]
pub struct Subscription {
    channel: Arc<Channel>,
}

impl Subscription {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel }
    }

    /// What it reads.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel.unsubscribe();
    }
}
