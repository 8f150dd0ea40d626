//! The connection for pushes of one server: it subscribes what is listened to, and sorts what comes.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Dialed, Dialer};
use super::fault;
use super::framer::MAX_BYTES;
use super::mailbox::{Delivery, Mailbox};
use super::registry::{Registry, Step, Topic};
use super::supervise::{Tenant, supervise};
use crate::source::{Cause, SourceError};

/// Subscriptions under way at once; more wait their turn.
const CONCURRENT_STEPS: usize = 64;

/// Listens for all feeds of one server. Closed with the last holder.
pub(in crate::source) struct Pushes {
    board: Arc<Board>,
    _supervisor: AbortOnDropHandle<()>,
}

/// One feed's place at a topic; given back on `Drop`.
pub(in crate::source) struct Subscription {
    topic: Topic,
    mailbox: Arc<Mailbox>,
    pushes: Arc<Pushes>,
}

impl Pushes {
    pub(super) fn start(dialer: Arc<Dialer>) -> Self {
        let board = Arc::new(Board::default());
        let tenant = Listener(board.clone());
        let supervisor = tokio::spawn(async move {
            supervise(dialer, tenant).await;
        });
        Self {
            board,
            _supervisor: AbortOnDropHandle::new(supervisor),
        }
    }

    /// Listens to `topic`.
    pub(in crate::source) fn subscribe(self: Arc<Self>, topic: Topic) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        self.board
            .change(|registry| registry.join(topic.clone(), mailbox.clone()));
        Subscription {
            topic,
            mailbox,
            pushes: self,
        }
    }
}

impl Subscription {
    /// Waits for what comes next. Cancel-safe.
    pub(in crate::source) async fn next(&mut self) -> Delivery {
        self.mailbox.next().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pushes
            .board
            .change(|registry| registry.leave(&self.topic, &self.mailbox));
    }
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes").finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.topic).finish()
    }
}

/// The registry, and a bell for when it changed.
#[derive(Default)]
struct Board {
    registry: Mutex<Registry>,
    changed: Notify,
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.registry.lock());
        self.changed.notify_one();
    }

    /// Runs where the connection's bytes are read, so what it tells keeps the server's order.
    fn sort(&self, push: PushInfo) {
        let mut data = push.data.into_iter();
        let name = data.next();
        match push.kind {
            PushKind::Message => self
                .registry
                .lock()
                .message(&topic(Topic::Channel, name), payload(data.next()).as_ref()),
            // The middle one is the channel that matched.
            PushKind::PMessage => self
                .registry
                .lock()
                .message(&topic(Topic::Pattern, name), payload(data.nth(1)).as_ref()),
            PushKind::Subscribe => {
                self.change(|registry| registry.subscribed(&topic(Topic::Channel, name)))
            }
            PushKind::PSubscribe => {
                self.change(|registry| registry.subscribed(&topic(Topic::Pattern, name)))
            }
            PushKind::Unsubscribe => {
                self.change(|registry| registry.unsubscribed(&topic(Topic::Channel, name)))
            }
            PushKind::PUnsubscribe => {
                self.change(|registry| registry.unsubscribed(&topic(Topic::Pattern, name)))
            }
            _ => {}
        }
    }
}

/// Names that we subscribe to are UTF-8, so any other one is nobody's.
fn topic(kind: impl FnOnce(String) -> Topic, name: Option<Value>) -> Topic {
    let name = match name {
        Some(Value::BulkString(bytes)) => String::from_utf8(bytes).unwrap_or_default(),
        Some(Value::SimpleString(text)) => text,
        _ => String::new(),
    };
    kind(name)
}

fn payload(value: Option<Value>) -> Option<Bytes> {
    match value {
        Some(Value::BulkString(bytes)) if bytes.len() <= MAX_BYTES => Some(bytes.into()),
        _ => None,
    }
}

struct Listener(Arc<Board>);

impl Tenant for Listener {
    async fn dial(&self, dialer: &Dialer) -> Result<Dialed, SourceError> {
        let board = self.0.clone();
        dialer
            .dial_for_pushes(Box::new(move |push| board.sort(push)))
            .await
    }

    fn up(&mut self, _connection: &MultiplexedConnection) {
        self.0.change(Registry::connected);
    }

    async fn work(&mut self, connection: MultiplexedConnection) -> SourceError {
        loop {
            let steps = self.0.registry.lock().steps(Instant::now());
            stream::iter(steps)
                .for_each_concurrent(CONCURRENT_STEPS, |step| {
                    take(&self.0, connection.clone(), step)
                })
                .await;
            let (is_clogged, retry) = {
                let registry = self.0.registry.lock();
                (registry.is_clogged(), registry.next_retry())
            };
            if is_clogged {
                return SourceError::new(
                    Cause::Redis,
                    "too many subscriptions that the redis user may not give up",
                );
            }
            let retry = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = retry => {}
            }
        }
    }

    fn down(&mut self, error: SourceError) {
        self.0.registry.lock().lost(error);
    }
}

/// What the server confirms arrives as a push, in order with the messages; only refusals are told from here.
async fn take(board: &Board, mut connection: MultiplexedConnection, step: Step) {
    let answer = match &step {
        Step::Subscribe(Topic::Channel(name)) => connection.subscribe(name).await,
        Step::Subscribe(Topic::Pattern(name)) => connection.psubscribe(name).await,
        Step::Unsubscribe(Topic::Channel(name)) => connection.unsubscribe(name).await,
        Step::Unsubscribe(Topic::Pattern(name)) => connection.punsubscribe(name).await,
    };
    let Err(error) = answer else {
        return;
    };
    let mut registry = board.registry.lock();
    match step {
        Step::Subscribe(topic) => {
            registry.refused(&topic, fault::of_command(&error), Instant::now())
        }
        Step::Unsubscribe(topic) => registry.kept(&topic),
    }
}
