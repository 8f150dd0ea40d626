//! A channel: one distinct resource that is followed, for however many readers.
//!
//! One writer observes readings; each becomes an event, a notice, or nothing. Readers hold a cursor into the log and
//! no queue. The channel knows no transport: whoever delivers registers a [`Listener`], is told that something
//! happened, and asks [`Channel::deliver`] what a cursor is owed.
//!
//! Invariants: a client is never told that it is current when nobody can say so; a patch is only given to a reader that
//! has the value before it; what a reader is given always ends at the newest state.

pub mod event;
pub mod hub;
pub mod log;
mod subscription;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

use crate::sse::{EventName, Frame};
use crate::value::{Significance, Value};

pub use event::{Epoch, Event, EventId, Form, Notice, Shape};
pub use hub::{ChannelKey, Hub};
pub use log::History;
pub use subscription::{Cursor, Delivery, Subscription};

use log::{Entry, Log, Since};

/// What a client that resumes gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Each missed event.
    Replay,
    /// Only the newest.
    Latest,
}

/// What a channel must know of its stream.
#[derive(Debug)]
pub struct Spec {
    /// For log lines: the stream's path and the parameters, escaped.
    pub name: String,
    /// How its events look.
    pub shape: Shape,
    /// Which changes count.
    pub significance: Significance,
    /// Bounds of its log.
    pub history: History,
    /// What a client that resumes gets.
    pub resume: Resume,
    /// Whether the newest event is the current value, which newcomers get.
    pub current: bool,
    /// A value stale for so long is no longer given to newcomers.
    pub expire_after: Option<Duration>,
    /// Whether the channel's value exists nowhere else, so that it is kept without readers.
    pub retain: bool,
}

/// Told when a channel has something new. Called with no lock held; must not block.
pub trait Listener: Send + Sync + fmt::Debug {
    /// Something happened; it may have been seen already.
    fn changed(&self);
}

/// One distinct resource that is followed.
#[derive(Debug)]
pub struct Channel {
    key: ChannelKey,
    spec: Spec,
    state: Mutex<State>,
    listeners: Mutex<Vec<Arc<dyn Listener>>>,
    version: watch::Sender<u64>,
    demand: Demand,
}

#[derive(Debug)]
struct State {
    log: Log,
    /// Whether newcomers can be answered: there was an observation since polling began.
    settled: bool,
    /// Position of the notice that the resource does not exist, while that is so.
    gone: Option<u64>,
    stale: Option<Stale>,
    started: SystemTime,
    confirmed: Option<Confirmed>,
    /// Position of the newest `fresh`.
    refreshed: Option<u64>,
    /// One patch from an older value to the newest, by sequence and form, until the next change.
    shortcuts: Vec<(u64, Form, Option<Frame>)>,
}

#[derive(Clone, Copy, Debug)]
struct Confirmed {
    wall: SystemTime,
    at: Instant,
}

#[derive(Clone, Debug)]
struct Stale {
    cause: &'static str,
    at: Instant,
    /// Of the notice.
    position: u64,
    notice: Notice,
}

#[derive(Debug)]
struct Demand {
    count: Mutex<Readers>,
    changed: Notify,
}

#[derive(Debug)]
struct Readers {
    now: usize,
    left: Option<Instant>,
    /// The writer rests until somebody comes; the value it left stands until then.
    resting: Option<Instant>,
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
        /// It.
        value: Value,
        /// Since the source last confirmed it.
        age: Duration,
        /// The source does not confirm it any more.
        stale: bool,
    },
}

impl Channel {
    /// A channel that nobody has read into yet.
    pub fn new(key: ChannelKey, spec: Spec) -> Self {
        let state = State {
            log: Log::new(spec.history),
            settled: !spec.current || spec.retain,
            gone: None,
            stale: None,
            started: SystemTime::now(),
            confirmed: None,
            refreshed: None,
            shortcuts: Vec::new(),
        };
        Self {
            key,
            spec,
            state: Mutex::new(state),
            listeners: Mutex::default(),
            version: watch::Sender::new(0),
            demand: Demand {
                count: Mutex::new(Readers {
                    now: 0,
                    left: None,
                    resting: None,
                }),
                changed: Notify::new(),
            },
        }
    }

    /// For log lines: the stream's path and the parameters.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it follows.
    pub fn key(&self) -> &ChannelKey {
        &self.key
    }

    // === The writer's side ===

    /// The source gave a value. Returns whether that was an event.
    pub fn observe(&self, value: Value) -> bool {
        let now = Instant::now();
        let changed = {
            let mut state = self.state.lock();
            let revived = state.gone.take().is_some();
            state.confirm(now);
            let changed = revived
                || match state.log.newest() {
                    Some(newest) => self.spec.significance.changed(newest.value(), &value),
                    None => true,
                };
            if changed {
                state.change(value, None, now);
            }
            changed
        };
        self.tell();
        changed
    }

    /// The source said that nothing changed.
    pub fn confirm(&self) {
        if self.state.lock().confirm(Instant::now()) {
            self.tell();
        }
    }

    /// The source said that the resource does not exist. Returns whether that was new.
    pub fn vanish(&self) -> bool {
        let new = {
            let mut state = self.state.lock();
            state.confirm(Instant::now());
            let new = state.gone.is_none();
            if new {
                state.gone = Some(state.log.end());
                state.log.unchain();
                state.log.push_notice(Notice::gone());
            }
            new
        };
        self.tell();
        new
    }

    /// A message, which is an event whatever its value. Returns its id.
    pub fn append(&self, value: Value, name: Option<EventName>) -> EventId {
        let now = Instant::now();
        let id = {
            let mut state = self.state.lock();
            state.confirm(now);
            state.change(value, name, now)
        };
        self.tell();
        id
    }

    /// The source does not confirm the value any more. Tells readers once, until it is confirmed again.
    pub fn stale(&self, cause: &'static str) {
        {
            let mut state = self.state.lock();
            state.settled = true;
            if state.stale.is_none() {
                let since = state
                    .confirmed
                    .map_or(state.started, |confirmed| confirmed.wall);
                let notice = Notice::stale(since, cause);
                let position = state.log.end();
                state.log.push_notice(notice.clone());
                state.stale = Some(Stale {
                    position,
                    cause,
                    at: Instant::now(),
                    notice,
                });
            }
        }
        self.tell();
    }

    /// A reading failed, but the last value is still fresh enough to stand for the source.
    pub fn settle(&self) {
        if !std::mem::replace(&mut self.state.lock().settled, true) {
            self.tell();
        }
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

    /// Messages may have been lost: ids from before are unknown from now on.
    pub fn break_history(&self) {
        self.state.lock().log.restart();
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

    // === The readers' side ===

    /// What a reader at `cursor` is owed in `form`, at most `queue` bytes of it one by one. `None`: nothing now.
    pub fn deliver(&self, cursor: &Cursor, form: Form, queue: usize) -> Option<Delivery> {
        let mut state = self.state.lock();
        match cursor {
            Cursor::At(position) => state.following(*position, form, queue, &self.spec),
            Cursor::New if state.settled => Some(state.newcomer(form, &self.spec)),
            Cursor::After(id) if state.settled => {
                Some(state.resuming(*id, form, queue, &self.spec))
            }
            Cursor::New | Cursor::After(_) => None,
        }
    }

    /// Registers who wants to be told. Registering twice tells twice.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        self.listeners.lock().push(listener);
    }

    /// Takes a listener off.
    pub fn unlisten(&self, listener: &Arc<dyn Listener>) {
        self.listeners
            .lock()
            .retain(|known| !Arc::ptr_eq(known, listener));
    }

    /// Changes with everything that readers may want to know; never misses.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
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
                value: newest.value().clone(),
                age: state
                    .confirmed
                    .map_or(Duration::ZERO, |confirmed| confirmed.at.elapsed()),
                stale: state.stale.is_some(),
            },
            (_, Some(stale)) => Snapshot::Failing { cause: stale.cause },
            (_, None) => Snapshot::Empty,
        }
    }

    // === Demand ===

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
                self.state.lock().settled = !self.spec.current || self.spec.retain;
            }
        }
        self.demand.changed.notify_waiters();
        Subscription::new(self.clone())
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

    fn unsubscribe(&self) {
        {
            let mut readers = self.demand.count.lock();
            readers.now -= 1;
            readers.left = Some(Instant::now());
        }
        self.demand.changed.notify_waiters();
    }

    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
        // The list is short (one listener a shard) and locked only while readers come or go.
        for listener in self.listeners.lock().iter() {
            listener.changed();
        }
    }
}

impl State {
    /// Returns whether readers may want to know.
    fn confirm(&mut self, now: Instant) -> bool {
        self.confirmed = Some(Confirmed {
            wall: SystemTime::now(),
            at: now,
        });
        let settled = std::mem::replace(&mut self.settled, true);
        let stale = self.stale.take().is_some();
        if stale {
            self.refreshed = Some(self.log.end());
            self.log.push_notice(Notice::fresh());
        }
        stale || !settled
    }

    fn change(&mut self, value: Value, name: Option<EventName>, now: Instant) -> EventId {
        self.shortcuts.clear();
        self.log.push_change(value, name, now).id()
    }

    fn expired(&self, spec: &Spec) -> bool {
        match (&self.stale, spec.expire_after) {
            (Some(stale), Some(after)) => stale.at.elapsed() >= after,
            _ => false,
        }
    }

    fn following(&self, position: u64, form: Form, queue: usize, spec: &Spec) -> Option<Delivery> {
        if position == self.log.end() {
            return None;
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        let Some(entries) = self.log.from(position) else {
            return Some(self.conflated(position, form, spec));
        };
        for entry in entries {
            let frame = match entry {
                Entry::Change(event) => event.frame(form, &spec.shape),
                Entry::Notice(notice) => notice.frame(),
            };
            bytes += frame.len();
            frames.push(frame.clone());
        }
        if frames.len() > 1 && bytes > queue {
            return Some(self.conflated(position, form, spec));
        }
        Some(self.delivery(&frames))
    }

    /// For a reader that is too far behind: the newest state and nothing before it (EDGE B2).
    fn conflated(&self, position: u64, form: Form, spec: &Spec) -> Delivery {
        let news = |at: u64| at >= position;
        let mut frames = Vec::new();
        if self.refreshed.is_some_and(news) {
            // It may have been told that the source fails, and missed that it did not for a while.
            frames.push(Notice::fresh().frame().clone());
        }
        match self.gone {
            Some(at) if news(at) => frames.push(Notice::gone().frame().clone()),
            Some(_) => {}
            None => {
                let missed = self.log.newest_from(position);
                frames.extend(missed.map(|newest| newest.whole(form, &spec.shape).clone()));
            }
        }
        let stale = self.stale.as_ref().filter(|stale| news(stale.position));
        frames.extend(stale.map(|stale| stale.notice.frame().clone()));
        Delivery {
            conflated: true,
            ..self.delivery(&frames)
        }
    }

    fn newcomer(&self, form: Form, spec: &Spec) -> Delivery {
        if !spec.current {
            return self.delivery(&self.status());
        }
        self.delivery(&self.whole(form, spec))
    }

    fn resuming(&mut self, id: Option<EventId>, form: Form, queue: usize, spec: &Spec) -> Delivery {
        let since = id.map_or(Since::Unknown, |id| self.log.since(id));
        let frames = match since {
            Since::Current => self.status(),
            Since::Tail(events) => {
                let mut frames = self.replay(&events, form, queue, spec);
                frames.extend(self.status());
                frames
            }
            Since::Unknown => {
                let mut frames = vec![Notice::reset().frame().clone()];
                frames.extend(if spec.current {
                    self.whole(form, spec)
                } else {
                    self.status()
                });
                frames
            }
        };
        self.delivery(&frames)
    }

    /// The newest value, if there is one to give, then what is to be said about it.
    fn whole(&self, form: Form, spec: &Spec) -> Vec<Frame> {
        let mut frames = Vec::new();
        if let Some(newest) = self.log.newest()
            && self.gone.is_none()
            && !self.expired(spec)
        {
            frames.push(newest.whole(form, &spec.shape).clone());
        }
        frames.extend(self.status());
        frames
    }

    /// What a reader must know besides the value.
    fn status(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.gone.is_some() {
            frames.push(Notice::gone().frame().clone());
        }
        if let Some(stale) = &self.stale {
            frames.push(stale.notice.frame().clone());
        }
        frames
    }

    fn replay(
        &mut self,
        missed: &[Arc<Event>],
        form: Form,
        queue: usize,
        spec: &Spec,
    ) -> Vec<Frame> {
        let Some(newest) = missed.last() else {
            return Vec::new();
        };
        if spec.resume == Resume::Latest {
            return vec![newest.whole(form, &spec.shape).clone()];
        }
        let tail: Vec<Frame> = missed
            .iter()
            .map(|event| event.frame(form, &spec.shape).clone())
            .collect();
        let bytes: usize = tail.iter().map(Frame::len).sum();
        if form != Form::Value && missed.len() > 1 {
            let limit = bytes.min(newest.whole(form, &spec.shape).len());
            if let Some(shortcut) = self.shortcut(missed, form, limit, spec) {
                return vec![shortcut];
            }
        }
        if bytes > queue && spec.current {
            return vec![newest.whole(form, &spec.shape).clone()];
        }
        tail
    }

    fn shortcut(
        &mut self,
        missed: &[Arc<Event>],
        form: Form,
        limit: usize,
        spec: &Spec,
    ) -> Option<Frame> {
        let from = missed.first()?.id().seq;
        if let Some((_, _, frame)) = self
            .shortcuts
            .iter()
            .find(|(seq, of, _)| (*seq, *of) == (from, form))
        {
            return frame.clone();
        }
        let unbroken = missed.iter().all(|event| event.base().is_some());
        let frame = unbroken
            .then(|| {
                missed
                    .last()?
                    .patch_from(missed.first()?.base()?, form, &spec.shape, limit)
            })
            .flatten();
        self.shortcuts.push((from, form, frame.clone()));
        frame
    }

    fn delivery(&self, frames: &[Frame]) -> Delivery {
        Delivery {
            frame: (!frames.is_empty()).then(|| Frame::join(frames)),
            cursor: Cursor::At(self.log.end()),
            conflated: false,
        }
    }
}

#[cfg(test)]
mod tests;
