//! A channel: one distinct resource that is followed, for however many readers.
//!
//! One writer observes readings; each becomes an event, a notice, or nothing. Readers hold a cursor into the log and
//! no queue. The channel knows no transport: whoever delivers registers a [`Listener`], is told that something
//! happened, and asks [`Channel::deliver`] what a cursor is owed.
//!
//! Invariants: a client is never told that it is current when nobody can say so; a patch is only given to a reader that
//! has the value before it; what a reader is given always ends at the newest state.

mod demand;
pub mod event;
pub mod hub;
pub mod log;
mod owed;
mod pages;
pub mod past;
mod state;
mod subscription;
mod version;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::metrics::{Held, PollResult, StreamMetrics};
use crate::sse::{EntryId, EventName};
use crate::value::{Significance, Value};

pub use event::{Epoch, Event, EventId, Form, Look, Notice, Shape};
pub use hub::{ChannelKey, Hub, StreamId};
pub use log::History;
pub use pages::{Behind, Found, Wanted};
pub use subscription::{Cursor, Delivery, DeliveryCount, Subscription, Tally};
pub use version::Versions;

use demand::Demand;
use owed::Shortcuts;
use state::State;
use version::Version;

/// What a client that resumes gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Each missed event.
    Replay,
    /// Only the newest.
    Latest,
}

/// Whose ids its events have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Ours.
    Own,
    /// Those that the source has for its entries: it is asked what a client has missed.
    OfSource,
}

/// What channels must know of their stream.
#[derive(Debug)]
pub struct Spec {
    /// The stream's path, with the names of its parameters.
    pub path: String,
    /// How its events look.
    pub shape: Shape,
    /// Which changes count.
    pub significance: Significance,
    /// Bounds of its log.
    pub history: History,
    /// What a client that resumes gets.
    pub resume: Resume,
    /// Whose ids its events have.
    pub ids: Ids,
    /// Whether the newest event is the current value, which newcomers get.
    pub current: bool,
    /// A value stale for so long is no longer given to newcomers.
    pub expire_after: Option<Duration>,
    /// How long a channel is wanted after its last reader.
    pub linger: Duration,
    /// Whether the channel's value exists nowhere else, so that it is kept without readers.
    pub retain: bool,
    /// Whether what there is stands elsewhere, and is to be read before anybody is told anything.
    pub shared: bool,
}

impl Spec {
    /// Whether newcomers can be answered before any reading: nothing is polled, so there is none to wait for.
    fn starts_settled(&self) -> bool {
        !self.shared && (!self.current || self.retain)
    }

    fn metrics(&self) -> &StreamMetrics {
        &self.shape.metrics
    }

    /// One for tests: a current value as it is, a short history.
    #[cfg(test)]
    pub(crate) fn plain(path: &str) -> Self {
        Self {
            path: path.into(),
            shape: Shape::default(),
            significance: Significance::default(),
            history: History {
                events: 8,
                bytes: 1 << 20,
                age: Duration::from_secs(300),
            },
            resume: Resume::Replay,
            ids: Ids::Own,
            current: true,
            expire_after: None,
            linger: Duration::ZERO,
            retain: false,
            shared: false,
        }
    }
}

/// Told when a channel has something new. Called with no lock held; must not block.
pub trait Listener: Send + Sync + fmt::Debug {
    /// Something happened; it may have been seen already.
    fn changed(&self);
}

/// A channel's name for operators: random, so that it tells nothing of what is followed or who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId(u64);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One distinct resource that is followed.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    key: ChannelKey,
    /// One for all channels of the stream.
    spec: Arc<Spec>,
    state: Mutex<State>,
    shortcuts: Mutex<Shortcuts>,
    listeners: Mutex<Vec<Arc<dyn Listener>>>,
    version: Version,
    retired: AtomicBool,
    demand: Demand,
    polls: Mutex<Polls>,
    _counted: Held,
}

/// What the poller of a channel says about its work, for operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct Polls {
    /// The last one that ended.
    pub last: Option<Poll>,
    /// When the next one is due; `None`: one is under way, or polling rests.
    pub due: Option<Instant>,
}

/// A poll that ended.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    /// When it began.
    pub began: Instant,
    /// How long it took, with the wait for its turn at the upstream.
    pub took: Duration,
    /// What it gave.
    pub result: PollResult,
    /// Why it failed: a cause class.
    pub cause: Option<&'static str>,
}

/// The current value, for one-shot readers.
#[derive(Clone, Debug)]
pub enum Snapshot {
    /// Nobody can say yet.
    Unsettled,
    /// The resource does not exist.
    Gone,
    /// There is no value (yet, or any more), and the source fails.
    Failing {
        /// The cause class.
        cause: &'static str,
    },
    /// There is no value yet, and nothing is wrong.
    Empty,
    /// The current value.
    Value {
        /// As it was last read.
        value: Value,
        /// As it was last delivered: the same but for changes that do not count.
        delivered: Value,
        /// Since the source last confirmed it.
        age: Duration,
        /// The source does not confirm it any more.
        stale: bool,
    },
}

impl Channel {
    /// A channel that nobody has read into yet.
    pub fn new(key: ChannelKey, spec: impl Into<Arc<Spec>>) -> Self {
        let spec = spec.into();
        let state = State::new(spec.history, spec.starts_settled());
        let counted = Held::new(&spec.metrics().channels);
        Self {
            id: ChannelId(fastrand::u64(..)),
            key,
            spec,
            state: Mutex::new(state),
            shortcuts: Mutex::default(),
            listeners: Mutex::default(),
            version: Version::default(),
            retired: AtomicBool::new(false),
            demand: Demand::default(),
            polls: Mutex::default(),
            _counted: counted,
        }
    }

    /// Where what happens here is counted.
    pub fn metrics(&self) -> &StreamMetrics {
        self.spec.metrics()
    }

    /// A poll served all who read: each of them would have asked for itself.
    pub fn count_saved(&self) {
        let others = self.readers().saturating_sub(1);
        self.metrics().saved.inc_by(others as u64);
    }

    /// Tells it from all others, and nothing about it.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// For log lines: the stream's path and the parameters, escaped.
    pub fn name(&self) -> String {
        let path = &self.spec.path;
        match self.key.params.0.len() {
            0 => path.clone(),
            _ => format!("{path} [{}]", self.key.params),
        }
    }

    /// Where a client stands that names an id, whatever that is (EDGE L6, L7).
    pub fn cursor_after(&self, id: &[u8]) -> Cursor {
        match self.spec.ids {
            Ids::Own => Cursor::After(EventId::parse(id)),
            Ids::OfSource => match EntryId::parse(id) {
                Some(id) => Cursor::AfterEntry(id),
                None => Cursor::After(None),
            },
        }
    }

    /// What it follows.
    pub fn key(&self) -> &ChannelKey {
        &self.key
    }

    /// Whether it is read with what its clients sent, and so is theirs alone.
    pub fn is_personal(&self) -> bool {
        self.key.forwarded.is_some()
    }

    /// Whether a failure of this class means that its clients may not have what was read for them before.
    pub fn refuses(&self, cause: &'static str) -> bool {
        self.is_personal() && cause == "unauthorized"
    }

    // === The writer's side ===

    /// The source gave a value. Returns whether that was an event.
    pub fn observe(&self, value: Value) -> bool {
        let now = Instant::now();
        let changed = self.write(|state| state.observe(value, now, &self.spec));
        self.tell();
        changed.unwrap_or(false)
    }

    /// The source said that nothing changed.
    pub fn confirm(&self) {
        let news = self.write(|state| state.reconfirm(Instant::now(), &self.spec));
        if news == Some(true) {
            self.tell();
        }
    }

    /// The source knows that nothing had changed by `at`.
    pub fn confirm_as_of(&self, at: Instant) {
        let news = self.write(|state| {
            let is_later = state.confirmed.is_none_or(|confirmed| confirmed.at < at);
            is_later && state.reconfirm(at, &self.spec)
        });
        if news == Some(true) {
            self.tell();
        }
    }

    /// The source said that the resource does not exist. Returns whether that was new.
    pub fn vanish(&self) -> bool {
        let new = self.write(|state| state.vanish(Instant::now(), &self.spec));
        self.tell();
        new.unwrap_or(false)
    }

    /// A message, which is an event whatever its value. Returns its id; `None`: nothing is written here any more.
    pub fn append(&self, value: Value, name: Option<EventName>) -> Option<EventId> {
        let now = Instant::now();
        let id = self.write(|state| {
            state.confirm(now, &self.spec);
            state.change(value, name, now)
        });
        self.tell();
        id
    }

    /// The source answers, and what it tells from now on comes after its entry `after`. It forgot what was told before.
    pub fn open_window(&self, after: EntryId) {
        self.write(|state| {
            state.log.open_window(after);
            state.confirm(Instant::now(), &self.spec)
        });
        self.tell();
    }

    /// An entry of the source, which is an event whatever its value. Its id is larger than those before.
    pub fn append_entry(&self, id: EntryId, value: Value) {
        let now = Instant::now();
        self.write(|state| {
            state.confirm(now, &self.spec);
            state.log.push_entry(id, value, now)
        });
        self.tell();
    }

    /// Waits until pages of the past are wanted; the source is to be asked for them after that, and [`Channel::found`] told of
    /// each. What nobody came for is dropped meanwhile. Cancel-safe.
    pub async fn wanted_pages(&self) -> Wanted {
        let bell = self.state.lock().pages().bell();
        loop {
            let news = bell.notified();
            if let Some(wanted) = self.begin_pages() {
                return wanted;
            }
            let is_kept = self.state.lock().pages().drop_old(Instant::now());
            match is_kept {
                true => drop(timeout(Duration::from_secs(1), news).await),
                false => news.await,
            }
        }
    }

    /// What is to be read now, if anything.
    fn begin_pages(&self) -> Option<Wanted> {
        let state = &mut *self.state.lock();
        let upto = state.log.window().map(|window| window.upto);
        state.pages().begin(upto.unwrap_or_default())
    }

    /// What came after `after`, which is one of `wanted`. `None`: the source did not answer; it is asked again when somebody
    /// still wants to know.
    pub fn found(&self, wanted: &Wanted, after: EntryId, found: Option<Found>) {
        {
            let mut state = self.state.lock();
            let pages = state.pages();
            match found {
                Some(found) => pages.put(wanted, after, found, Instant::now()),
                None => pages.fail(wanted, after),
            }
        }
        self.tell();
    }

    /// The source does not confirm the value any more. Tells readers once, until it is confirmed again.
    pub fn stale(&self, cause: &'static str) {
        let refused = self.refuses(cause);
        self.write(|state| state.fail(cause, refused, &self.spec));
        self.tell();
    }

    /// A reading failed, but the last value is still fresh enough to stand for the source.
    pub fn settle(&self) {
        if !std::mem::replace(&mut self.state.lock().settled, true) {
            self.tell();
        }
    }

    /// Messages may have been lost: ids from before are unknown from now on. What there is stays.
    pub fn break_history(&self) {
        self.write(|state| {
            state.log.restart();
            state.forget_pages();
        });
    }

    /// Changes what is known, unless nothing is written any more.
    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.state.lock();
        (!state.sealed).then(|| change(&mut state))
    }

    /// Nobody will write any more: its readers are told, and end.
    pub fn retire(&self) {
        self.state.lock().sealed = true;
        self.retired.store(true, Ordering::Release);
        self.tell();
    }

    /// When the source last confirmed what the channel has.
    pub fn confirmed_at(&self) -> Option<Instant> {
        self.state.lock().confirmed.map(|confirmed| confirmed.at)
    }

    /// Whether there is a value to keep serving.
    pub fn has_value(&self) -> bool {
        let state = self.state.lock();
        state.log.newest().is_some() && state.gone.is_none()
    }

    /// No poll is due: one is under way, or polling rests.
    pub fn no_poll_due(&self) {
        self.polls.lock().due = None;
    }

    /// The next poll is due then, after `ended` if one has just ended.
    pub fn poll_due(&self, due: Instant, ended: Option<Poll>) {
        let mut polls = self.polls.lock();
        polls.due = Some(due);
        polls.last = ended.or(polls.last);
    }

    /// What the poller said last.
    pub fn polls(&self) -> Polls {
        *self.polls.lock()
    }

    // === The readers' side ===

    /// What a reader at `cursor` is owed in `form`, at most `queue` bytes of it one by one. `None`: nothing now.
    pub fn deliver(&self, cursor: &Cursor, form: Form, queue: usize) -> Option<Delivery> {
        let (owed, bell, has_more) = {
            let mut state = self.state.lock();
            let owed = state.owed(cursor, queue, &self.spec);
            let has_more = owed.as_ref().is_some_and(|owed| state.has_more(owed));
            let bell = state.wants_page().then(|| state.pages().bell());
            (owed, bell, has_more)
        };
        if let Some(bell) = bell {
            bell.notify_one();
        }
        if has_more {
            self.tell();
        }
        // Encoding can take long: it happens without the lock, and once for all.
        let look = Look {
            shape: &self.spec.shape,
            params: &self.key.params,
        };
        Some(owed?.encode(form, queue, look, &self.shortcuts))
    }

    /// Whether nobody will write any more. Who listens is told when that begins.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Registers who wants to be told. Registering twice tells twice.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        self.listeners.lock().push(listener);
    }

    /// Takes a listener off.
    pub fn unlisten(&self, listener: &Arc<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|known| !Arc::ptr_eq(known, listener));
        if listeners.is_empty() {
            // Most channels have readers only now and then.
            *listeners = Vec::new();
        }
    }

    /// Changes with everything that readers may want to know; never misses.
    pub fn version(&self) -> Versions<'_> {
        self.version.watch()
    }

    /// The current value, for one-shot readers.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        if !state.settled {
            return Snapshot::Unsettled;
        }
        if state.gone.is_some() {
            return Snapshot::Gone;
        }
        match (state.log.newest(), &state.stale) {
            (Some(newest), _) if !state.expired(&self.spec) => Snapshot::Value {
                value: state.latest.as_ref().unwrap_or(newest.value()).clone(),
                delivered: newest.value().clone(),
                age: state.age(),
                stale: state.stale.is_some(),
            },
            (_, Some(stale)) => Snapshot::Failing { cause: stale.cause },
            (_, None) => Snapshot::Empty,
        }
    }

    /// What is wrong with the source: a cause class, and since when its value is not confirmed any more. `None`: nothing.
    pub fn trouble(&self) -> Option<(&'static str, Duration)> {
        let state = self.state.lock();
        let stale = state.stale.as_ref()?;
        Some((stale.cause, stale.at.elapsed()))
    }

    /// The newest changes of value, newest first, at most so many.
    pub fn recent(&self, most: usize) -> Vec<Arc<Event>> {
        let state = self.state.lock();
        state.log.recent().take(most).cloned().collect()
    }

    fn tell(&self) {
        self.version.advance();
        // The list is short (one listener a shard) and locked only while readers come or go.
        for listener in self.listeners.lock().iter() {
            listener.changed();
        }
    }
}

#[cfg(test)]
mod tests;
