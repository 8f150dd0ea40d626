//! One reader: a cursor, no queue.

use std::sync::Arc;
use std::time::Instant;

use super::{Behind, Channel, EventId};
use crate::metrics::{EventKind, Resumption, StreamMetrics};
use crate::sse::{EntryId, Frame};

/// Where a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// It has nothing.
    New,
    /// It says that it has everything up to this event; `None`: it names something that is no id of ours.
    After(Option<EventId>),
    /// It says that it has everything up to this entry of the source.
    AfterEntry(EntryId),
    /// It has been given everything before this position of the log.
    At(u64),
    /// The same, and the last entry of the source that it has been given, which has an id of its own.
    AtEntry(u64, EntryId),
    /// It is given what it has missed, page by page.
    Behind(Behind),
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
    /// What giving it counts as.
    pub count: DeliveryCount,
}

/// What one delivery counts as.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryCount {
    /// Bytes that its patches are shorter than the values they stand for.
    pub patch_savings: u64,
    /// The reader was too far behind and is moved to the newest value.
    pub conflated: bool,
    /// The reader had named an id.
    pub resumed: Option<Resumption>,
    /// When the newest change among the events happened, for a reader that waited for it.
    pub happened: Option<Instant>,
}

/// Deliveries of one channel that are counted together: adding one costs no atomic.
#[derive(Debug, Default)]
pub struct Tally {
    events: u64,
    patch_savings: u64,
    conflated: u64,
    happened: Option<Instant>,
}

impl Tally {
    /// Counts what one reader is given by itself. Its delay says how slow the reader is, not how slow we are.
    pub fn of_one(delivery: &Delivery, metrics: &StreamMetrics) {
        let mut tally = Self::default();
        tally.add(delivery, metrics);
        tally.happened = None;
        tally.settle(metrics);
    }

    /// One more reader was given it.
    pub fn add(&mut self, delivery: &Delivery, metrics: &StreamMetrics) {
        let count = &delivery.count;
        self.events += u64::from(delivery.events);
        self.patch_savings += count.patch_savings;
        self.conflated += u64::from(count.conflated);
        self.happened = self.happened.max(count.happened);
        if let Some(resumed) = count.resumed {
            metrics.resumes.inc(resumed);
            if resumed == Resumption::Reset {
                metrics.events.inc(EventKind::Reset);
            }
        }
    }

    /// Counts all of them, just after the last one's write.
    pub fn settle(self, metrics: &StreamMetrics) {
        if self.events > 0 {
            metrics.deliveries.inc_by(self.events);
        }
        if self.patch_savings > 0 {
            metrics.patch_savings.inc_by(self.patch_savings);
        }
        if self.conflated > 0 {
            metrics.conflations.inc_by(self.conflated);
        }
        if let Some(happened) = self.happened {
            metrics.lag.observe(happened.elapsed().as_secs_f64());
        }
    }
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
