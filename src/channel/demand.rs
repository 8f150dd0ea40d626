//! Who wants a channel: how many read it, when the last one left, and whether its writer rests until somebody comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::{Channel, Subscription};

/// Locked before the channel's state, never while that is locked.
#[derive(Debug, Default)]
pub(super) struct Demand {
    count: Mutex<Readers>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readers {
    pub(super) now: usize,
    pub(super) left: Option<Instant>,
    /// The writer rests until somebody comes; the value it left stands until then.
    pub(super) resting: Option<Instant>,
}

impl Demand {
    pub(super) fn readers(&self) -> Readers {
        *self.count.lock()
    }

    /// The last reader left so long ago, if nobody reads.
    pub(super) fn backdate(&self, unread: Duration) {
        {
            let mut readers = self.count.lock();
            if readers.now == 0 {
                readers.left = Instant::now().checked_sub(unread);
            }
        }
        self.changed.notify_waiters();
    }
}

impl Channel {
    /// Begins to read; counts as demand until dropped.
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        {
            let mut readers = self.demand.count.lock();
            readers.now += 1;
            // Under the same lock, so that nobody is given as live what nobody has confirmed for long.
            if readers
                .resting
                .take()
                .is_some_and(|stands| stands <= Instant::now())
            {
                self.state.lock().settled = self.spec.starts_settled();
            }
        }
        self.demand.changed.notify_waiters();
        Subscription::new(self.clone())
    }

    /// Whether nobody has wanted it for the stream's linger, and nothing in it is worth keeping.
    pub fn is_idle(&self) -> bool {
        let idle = {
            let readers = self.demand.count.lock();
            let long_left = |left: Instant| left.elapsed() >= self.spec.linger;
            readers.now == 0 && readers.left.is_some_and(long_left)
        };
        idle && !self.retains()
    }

    /// Whether its value exists nowhere else.
    pub fn retains(&self) -> bool {
        self.spec.retain && self.has_value()
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        self.demand.count.lock().now
    }

    /// Whether somebody reads, or did less than `linger` ago.
    pub fn wanted(&self, linger: Duration) -> bool {
        let readers = self.demand.count.lock();
        readers.now > 0 || readers.left.is_some_and(|left| left.elapsed() < linger)
    }

    /// Completes when [`Channel::wanted`] may have become another answer because somebody came or left.
    pub fn demand_changed(&self) -> Notified<'_> {
        self.demand.changed.notified()
    }

    /// When the last reader left, if nobody reads.
    pub fn unread_since(&self) -> Option<Instant> {
        let readers = self.demand.count.lock();
        if readers.now > 0 { None } else { readers.left }
    }

    pub(super) fn unsubscribe(&self) {
        {
            let mut readers = self.demand.count.lock();
            readers.now -= 1;
            readers.left = Some(Instant::now());
        }
        self.demand.changed.notify_waiters();
    }

    /// Nobody wants the channel and the writer rests; what it has stands for the source until `stands`. Whoever comes
    /// after that waits for a new reading. Returns whether to rest: `false` when somebody came meanwhile.
    pub fn rest(&self, stands: Instant) -> bool {
        let mut readers = self.demand.count.lock();
        if readers.now == 0 {
            readers.resting = Some(stands);
        }
        readers.now == 0
    }

    /// Completes when somebody has come since [`Channel::rest`], though it may have left again.
    pub async fn woken(&self) {
        loop {
            let changed = self.demand.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.demand.count.lock().resting.is_none() {
                return;
            }
            changed.await;
        }
    }
}
