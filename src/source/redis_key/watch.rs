//! Notices that a key has changed, without reading it: by client tracking, or by keyspace notifications.
//!
//! Whatever the server announces is a hint and no more: the value is read again, and compared. A key that changes all the
//! time, or one that the server announces for nothing (its tracking table is full, somebody flushed another
//! database, the same value is written again and again), is not read without a pause. What tells whether the last reading
//! still holds is the question that the connection is asked all the time: an announcement from before the answer has
//! arrived before it.

mod find;
mod pace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::super::redis_server::{
    Delivery, Mark, Pushes, RedisClient, Standing, Subscription, TrackedKey,
};
use crate::config::RedisWatch;
use pace::Pace;

/// How long the first reading waits, so that it need not be taken again as soon as changes are announced.
const FIRST_READING_WAITS: Duration = Duration::from_millis(250);
/// After which a server that refused is asked again: somebody may have changed the user's rights.
const RETRY_REFUSED: Duration = Duration::from_secs(60);

/// Watches one key.
#[derive(Debug)]
pub(in crate::source) struct KeyWatch {
    client: RedisClient,
    pushes: Arc<Pushes>,
    standing: watch::Receiver<Standing>,
    wish: RedisWatch,
    /// Of the notifications that tell of commands for the type.
    class: char,
    key: Arc<str>,
    way: Way,
    pace: Pace,
    /// Whether a reading was taken.
    was_read: bool,
}

#[derive(Debug)]
enum Way {
    /// To be found out.
    Unknown,
    Tracking(Tracked),
    Keyspace(Notified),
    /// Nothing is announced. To be looked at again then, or when there is another connection.
    None(Option<Instant>),
}

#[derive(Debug)]
struct Tracked {
    key: TrackedKey,
    was_armed: bool,
    /// The arming that the last reading came after.
    read: Option<u64>,
}

#[derive(Debug)]
struct Notified {
    subscription: Subscription,
    /// Whether the server is known to announce every change.
    assured: bool,
    /// `None`: the server has not answered yet.
    is_up: Option<bool>,
    /// Since the last reading began.
    news: bool,
}

impl KeyWatch {
    /// Begins to watch `key`, whose changes `pushes` announces.
    pub(in crate::source) fn begin(
        client: &RedisClient,
        pushes: Arc<Pushes>,
        wish: RedisWatch,
        class: char,
        key: &str,
    ) -> Self {
        Self {
            client: client.clone(),
            standing: pushes.standing(),
            pushes,
            wish,
            class,
            key: key.into(),
            way: Way::Unknown,
            pace: Pace::default(),
            was_read: false,
        }
    }

    /// Which connection announces.
    pub(in crate::source) fn pushes(&self) -> *const Pushes {
        Arc::as_ptr(&self.pushes)
    }

    /// Completes when a reading is worth taking: the key may have changed, or what announces its changes came or went.
    /// Cancel-safe: completes again until a reading is taken.
    pub(in crate::source) async fn changed(&mut self) {
        while !self.step().await {}
    }

    /// A reading begins when this completes.
    pub(in crate::source) async fn reading(&mut self) {
        if !self.was_read {
            self.settle().await;
            self.was_read = true;
        }
        self.pace.reading(Instant::now());
        match &mut self.way {
            Way::Tracking(tracked) => {
                if let Mark::Armed(number) = tracked.key.mark() {
                    tracked.read = Some(number);
                }
            }
            Way::Keyspace(notified) => notified.news = false,
            Way::Unknown | Way::None(_) => {}
        }
    }

    /// What the reading found.
    pub(in crate::source) fn found(&mut self, changed: bool) {
        self.pace.found(changed);
    }

    /// Until when the key is known not to have changed since the last reading; `None` when nobody knows.
    pub(in crate::source) fn holds(&self) -> Option<Instant> {
        // What is announced from now on is not known yet; what was announced before the last answer is.
        let heard = self.pushes.heard();
        let holds = match &self.way {
            Way::Tracking(tracked) => {
                matches!(tracked.key.mark(), Mark::Armed(number) if tracked.read == Some(number))
            }
            Way::Keyspace(notified) => {
                notified.is_up == Some(true) && notified.assured && !notified.news
            }
            Way::Unknown | Way::None(_) => false,
        };
        heard.filter(|_| holds)
    }

    /// Waits until changes are announced or it is known that they are not; not for long.
    async fn settle(&mut self) {
        let settled = async {
            let is_known = |standing: &Standing| !matches!(standing, Standing::Connecting);
            if self.standing.clone().wait_for(is_known).await.is_ok() {
                while self.standing.has_changed().unwrap_or(false) || !self.is_settled() {
                    self.step().await;
                }
            }
        };
        // Else the first reading is taken again when they are.
        let _ = timeout(FIRST_READING_WAITS, settled).await;
    }

    fn is_settled(&self) -> bool {
        match &self.way {
            Way::Unknown => false,
            Way::Tracking(tracked) => tracked.was_armed,
            Way::Keyspace(notified) => notified.is_up.is_some(),
            Way::None(_) => true,
        }
    }

    /// Waits for the next thing to happen. Returns whether a reading is worth taking. Cancel-safe.
    async fn step(&mut self) -> bool {
        if self.standing.has_changed().unwrap_or(false) {
            self.standing.mark_unchanged();
            // Whoever would have told is gone, and maybe the server with it.
            let lost = matches!(self.way, Way::Tracking(_) | Way::Keyspace(_));
            self.way = Way::Unknown;
            return lost;
        }
        let next = async {
            match &mut self.way {
                Way::Unknown => Next::Find,
                Way::Tracking(tracked) => tracked.step(&self.pace).await,
                Way::Keyspace(notified) => notified.step(&self.pace).await,
                Way::None(retry) => again(*retry).await,
            }
        };
        let next = tokio::select! {
            biased;
            // The next step sees to it.
            () = changes(self.standing.clone()) => Next::Nothing,
            next = next => next,
        };
        match next {
            Next::Nothing => false,
            Next::Read => true,
            Next::Find => {
                self.way = self.find_way(None).await;
                false
            }
            Next::Refused => {
                let why = "the server refuses EXISTS of the key";
                self.way = self.find_way(Some(why)).await;
                false
            }
            Next::Deaf { was_up, why } => {
                if !self.standing.has_changed().unwrap_or(false) {
                    self.tell_polled("keyspace notifications", &why);
                }
                was_up
            }
        }
    }
}

/// What happened.
enum Next {
    Nothing,
    Read,
    /// A way is to be looked for.
    Find,
    /// The server does not let us ask for the key.
    Refused,
    /// The subscription is not, or not any more.
    Deaf {
        was_up: bool,
        why: String,
    },
}

impl Tracked {
    async fn step(&mut self, pace: &Pace) -> Next {
        match self.key.mark() {
            Mark::Armed(number) => {
                self.was_armed = true;
                if self.read != Some(number) {
                    return Next::Read;
                }
            }
            Mark::Unarmed => {
                if self.was_armed {
                    pace.turn().await;
                }
                self.key.arm();
            }
            Mark::Refused => return Next::Refused,
            // Who has the key is found out by reading it.
            Mark::Elsewhere => {
                pace.turn().await;
                self.key.arm();
                return Next::Read;
            }
        }
        self.key.changed().await;
        Next::Nothing
    }
}

impl Notified {
    async fn step(&mut self, pace: &Pace) -> Next {
        if self.news {
            pace.turn().await;
            // One reading stands for all of it.
            while let Some(delivery) = self.subscription.next().now_or_never() {
                self.take(&delivery);
            }
            return Next::Read;
        }
        let was_up = self.is_up == Some(true);
        let delivery = self.subscription.next().await;
        self.take(&delivery);
        match delivery {
            Delivery::Up => Next::Read,
            Delivery::Down(error) => Next::Deaf {
                was_up,
                why: error.detail,
            },
            Delivery::Message(_) | Delivery::TooLarge | Delivery::Missed(_) => Next::Nothing,
        }
    }

    fn take(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Up => self.is_up = Some(true),
            Delivery::Down(_) => self.is_up = Some(false),
            Delivery::Message(_) | Delivery::TooLarge | Delivery::Missed(_) => self.news = true,
        }
    }
}

async fn again(at: Option<Instant>) -> Next {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
    Next::Find
}

/// Completes when it has changed and nobody has looked since.
async fn changes(mut standing: watch::Receiver<Standing>) {
    if standing.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
