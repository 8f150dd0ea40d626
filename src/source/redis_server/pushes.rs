//! The connection for pushes of one server: it subscribes what is listened to, asks for the keys that are watched, and sorts
//! what comes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::dial::{Dialed, Dialer};
use super::fault;
use super::framer::MAX_BYTES;
use super::link::Link;
use super::mailbox::{Delivery, Mailbox};
use super::registry::{Registry, Step, Topic};
use super::supervise::{Tenant, supervise};
use super::tracking::{Arming, Mark, Tracking};
use crate::source::{Cause, SourceError};

/// Subscriptions under way at once; more wait their turn.
const CONCURRENT_STEPS: usize = 64;

/// After which a server that is too old for pushes is asked again.
const RETRY_TOO_OLD: Duration = Duration::from_secs(60);

/// Listens for all feeds of one server. Closed with the last holder.
pub(in crate::source) struct Pushes {
    board: Arc<Board>,
    _supervisor: AbortOnDropHandle<()>,
}

/// How the connection stands.
#[derive(Clone, Debug)]
pub(in crate::source) enum Standing {
    /// For the first time: worth waiting for.
    Connecting,
    /// The server answers.
    Up(Arc<Link>),
    /// There is none.
    Down,
}

/// A key whose changes are announced, as long as somebody arms it; given back on `Drop`.
pub(in crate::source) struct TrackedKey {
    key: Arc<str>,
    mark: watch::Receiver<Mark>,
    pushes: Arc<Pushes>,
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
        let tenant = Listener {
            board: board.clone(),
            has_told: false,
        };
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

    /// Has the next change of `key` announced. The connection must be tracked: [`Link::track`].
    pub(in crate::source) fn track(self: Arc<Self>, key: &Arc<str>) -> TrackedKey {
        let mark = self.board.tracking.lock().hold(key);
        let tracked = TrackedKey {
            key: key.clone(),
            mark,
            pushes: self,
        };
        tracked.arm();
        tracked
    }

    /// How the connection stands, and every change of that.
    pub(in crate::source) fn standing(&self) -> watch::Receiver<Standing> {
        self.board.standing.subscribe()
    }

    /// When the server was last asked something that it answered: whatever it announced before that is known.
    pub(in crate::source) fn heard(&self) -> Option<Instant> {
        *self.board.heard.lock()
    }
}

impl TrackedKey {
    /// Has the next change announced, if it is not yet.
    pub(in crate::source) fn arm(&self) {
        self.pushes.board.tracking.lock().arm(&self.key);
        self.pushes.board.changed.notify_one();
    }

    /// How it stands.
    pub(in crate::source) fn mark(&self) -> Mark {
        *self.mark.borrow()
    }

    /// Completes when it has changed how it stands since this was called last.
    pub(in crate::source) async fn changed(&mut self) {
        if self.mark.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for TrackedKey {
    fn drop(&mut self) {
        self.pushes.board.tracking.lock().release(&self.key);
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

impl fmt::Debug for TrackedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrackedKey").field(&self.key).finish()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.topic).finish()
    }
}

/// The registry and the tracked keys, and a bell for when they changed.
struct Board {
    registry: Mutex<Registry>,
    tracking: Mutex<Tracking>,
    changed: Notify,
    standing: watch::Sender<Standing>,
    heard: Mutex<Option<Instant>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            registry: Mutex::default(),
            tracking: Mutex::default(),
            changed: Notify::new(),
            standing: watch::Sender::new(Standing::Connecting),
            heard: Mutex::default(),
        }
    }
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
            PushKind::Invalidate => match name {
                Some(Value::Array(keys)) => {
                    let mut tracking = self.tracking.lock();
                    // A key that we watch is UTF-8.
                    keys.iter()
                        .filter_map(text)
                        .for_each(|key| tracking.changed(key));
                }
                _ => self.tracking.lock().all_changed(),
            },
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

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn payload(value: Option<Value>) -> Option<Bytes> {
    match value {
        Some(Value::BulkString(bytes)) if bytes.len() <= MAX_BYTES => Some(bytes.into()),
        _ => None,
    }
}

struct Listener {
    board: Arc<Board>,
    /// That the server is too old is told in the log, once.
    has_told: bool,
}

impl Tenant for Listener {
    async fn dial(&mut self, dialer: &Dialer) -> Result<Dialed, SourceError> {
        let board = self.board.clone();
        let dialed = dialer
            .dial_for_pushes(Arc::new(move |push| board.sort(push)))
            .await;
        if let Err(error) = &dialed
            && fault::is_too_old(error)
            && !std::mem::replace(&mut self.has_told, true)
        {
            info!(server = ?dialer, "{}: its keys are polled", error.detail);
        }
        dialed
    }

    fn heard(&self) -> impl Fn(Instant) + Send + 'static {
        let board = self.board.clone();
        move |at| *board.heard.lock() = Some(at)
    }

    fn up(&mut self, connection: &MultiplexedConnection) {
        let link = Arc::new(Link::new(connection.clone()));
        self.board.standing.send_replace(Standing::Up(link));
        self.board.change(Registry::connected);
    }

    async fn work(&mut self, connection: MultiplexedConnection) -> SourceError {
        loop {
            let steps = self.board.registry.lock().steps(Instant::now());
            stream::iter(steps)
                .for_each_concurrent(CONCURRENT_STEPS, |step| {
                    take(&self.board, connection.clone(), step)
                })
                .await;
            arm_pending(&self.board).await;
            let (is_clogged, retry) = {
                let registry = self.board.registry.lock();
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
                () = self.board.changed.notified() => {}
                () = retry => {}
            }
        }
    }

    fn down(&mut self, error: SourceError) -> Duration {
        let rest = match fault::is_too_old(&error) {
            true => RETRY_TOO_OLD,
            false => Duration::ZERO,
        };
        self.board.standing.send_if_modified(|standing| {
            let known = std::mem::replace(standing, Standing::Down);
            !matches!(known, Standing::Down)
        });
        *self.board.heard.lock() = None;
        self.board.tracking.lock().lost();
        self.board.registry.lock().lost(error);
        rest
    }
}

/// Asks for the keys that are to be armed, if their changes are going to be announced.
async fn arm_pending(board: &Board) {
    let link = match &*board.standing.borrow() {
        Standing::Up(link) if link.is_tracked() => link.clone(),
        _ => return,
    };
    let questions = board.tracking.lock().questions();
    // The connection takes so many at a time as it likes.
    let answers = questions
        .into_iter()
        .map(|arming| arm(board, &link, arming));
    join_all(answers).await;
}

async fn arm(board: &Board, link: &Link, arming: Arming) {
    let mut command = redis::cmd("EXISTS");
    command.arg(&*arming.key);
    let answer = link.ask(&command).await;
    let mut tracking = board.tracking.lock();
    match answer {
        Ok(Ok(_)) => tracking.answered(&arming),
        Ok(Err(refusal)) if refusal.is_redirection => tracking.failed(&arming, Mark::Elsewhere),
        Ok(Err(_)) | Err(_) => tracking.failed(&arming, Mark::Refused),
    }
    if tracking.has_questions() {
        board.changed.notify_one();
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
