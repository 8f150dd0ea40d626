//! What a channel tells another process that goes on in its place, or that follows it: its changes with their ids, and how
//! things stand. Ids stay known across it, and nobody is given an event twice or not at all (EDGE L15).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::event::{Epoch, Event, Notice};
use super::log::{Entry, Log};
use super::state::{Confirmed, Stale, State};
use super::{Channel, Spec};
use crate::sse::EventName;
use crate::value::{Malformed, Value};

/// A stretch of a channel's life. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    epoch: u64,
    /// Of the newest change.
    seq: u64,
    /// Oldest first, without gaps; the last one has the newest's sequence.
    changes: Vec<Change>,
    gone: bool,
    /// Cause and Unix time since when.
    stale: Option<(String, u64)>,
    settled: bool,
    /// Since the source last confirmed it.
    confirmed: Option<u64>,
    /// Since the last reader left; `None`: somebody reads.
    unread: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    seq: u64,
    /// What the value is: text, or else JSON.
    text: bool,
    data: String,
    name: Option<String>,
    /// No patch leads to it from the one before.
    whole: bool,
    age: u64,
}

/// What of a channel's life is known: up to which change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    epoch: u64,
    seq: u64,
}

impl Past {
    /// Bytes of the values in it.
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.data.len()).sum()
    }

    /// Whether there is nothing that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether somebody reads.
    pub fn is_read(&self) -> bool {
        self.unread.is_none()
    }

    /// What is known with it.
    pub fn known(&self) -> Known {
        Known {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// Only the newest change: the current value.
    #[must_use]
    pub fn newest_only(mut self) -> Self {
        self.changes.drain(..self.changes.len().saturating_sub(1));
        self
    }
}

impl Channel {
    /// What there is, for who goes on in this process's place. From now on nothing is written here but what
    /// [`Channel::follow`] brings.
    pub fn hand_over(&self) -> Past {
        let mut state = self.state.lock();
        state.sealed = true;
        self.past(&state, None)
    }

    /// What happened after what is `known`, and how things stand; everything that there is when nobody can say.
    pub fn since(&self, known: Known) -> Past {
        self.past(&self.state.lock(), Some(known))
    }

    /// Takes over what another process has written. Its readers are told. An error leaves out what cannot be read.
    pub fn follow(&self, past: &Past) -> Result<(), Malformed> {
        let followed = self.state.lock().follow(past, Instant::now(), &self.spec);
        self.tell();
        followed
    }

    /// Goes on where another process has stopped. What was read here meanwhile, before anybody was given it, comes after that.
    pub fn succeed(&self, past: &Past) -> Result<(), Malformed> {
        let now = Instant::now();
        let followed = self.state.lock().succeed(past, now, &self.spec);
        self.tell();
        followed
    }

    /// It was left when it was left in the other process, if nobody reads it here.
    pub fn backdate(&self, past: &Past) {
        {
            let mut readers = self.demand.count.lock();
            let unread = Duration::from_millis(past.unread.unwrap_or_default());
            if readers.now == 0 {
                readers.left = Instant::now().checked_sub(unread);
            }
        }
        self.demand.changed.notify_waiters();
    }

    fn past(&self, state: &State, known: Option<Known>) -> Past {
        let readers = self.demand.count.lock();
        let unread = match readers.now {
            0 => Some(readers.left.map_or(u64::MAX, |left| ms(left.elapsed()))),
            _ => None,
        };
        let stale = |stale: &Stale| {
            let since = state.confirmed.map_or(state.started, |at| at.wall);
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
            (stale.cause.to_owned(), ms(since))
        };
        let (Known { epoch, seq }, events) = state.log.after(known);
        Past {
            epoch,
            seq,
            changes: events.into_iter().map(|event| Change::of(&event)).collect(),
            gone: state.gone.is_some(),
            stale: state.stale.as_ref().map(stale),
            settled: state.settled && readers.resting.is_none(),
            confirmed: state.confirmed.map(|confirmed| ms(confirmed.at.elapsed())),
            unread,
        }
    }
}

impl State {
    fn follow(&mut self, past: &Past, now: Instant, spec: &Spec) -> Result<(), Malformed> {
        let mut result = Ok(());
        for change in &past.changes {
            let value = match change.value() {
                Ok(value) => value,
                Err(error) => {
                    result = Err(error);
                    continue;
                }
            };
            self.gone = None;
            self.latest = None;
            let at = now.checked_sub(Duration::from_millis(change.age));
            let name = change
                .name
                .as_deref()
                .and_then(|name| EventName::parse(name).ok());
            if change.whole {
                self.log.unchain();
            }
            let known = Known {
                epoch: past.epoch,
                seq: change.seq,
            };
            self.log.follow(known, value, name, at.unwrap_or(now));
        }
        if past.gone != self.gone.is_some() {
            self.gone = past.gone.then(|| self.log.end());
            if past.gone {
                self.log.unchain();
                self.log.push_notice(Notice::gone());
            }
        }
        self.confirmed = past.confirmed.map(|age| {
            let age = Duration::from_millis(age);
            Confirmed {
                wall: SystemTime::now() - age,
                at: now.checked_sub(age).unwrap_or(now),
            }
        });
        self.settled |= past.settled;
        self.follow_staleness(past.stale.as_ref(), spec);
        result
    }

    fn follow_staleness(&mut self, stale: Option<&(String, u64)>, spec: &Spec) {
        match (stale, &self.stale) {
            (Some((cause, since)), None) => {
                let known = CAUSES.iter().find(|known| *known == cause);
                let since = UNIX_EPOCH + Duration::from_millis(*since);
                self.tell_stale(known.copied().unwrap_or(CAUSES[0]), since, spec);
            }
            (None, Some(_)) => self.tell_fresh(spec),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn succeed(&mut self, past: &Past, now: Instant, spec: &Spec) -> Result<(), Malformed> {
        let own = std::mem::replace(&mut self.log, Log::new(spec.history));
        // What was said about it stood in the other log; there is no reader who has heard it.
        (self.gone, self.stale, self.latest, self.refreshed) = (None, None, None, None);
        let followed = self.follow(past, now, spec);
        if let Some(newest) = own.newest() {
            self.observe(newest.value().clone(), now, spec);
        }
        followed
    }
}

impl Log {
    /// The changes of this life after what is known, and what is known with them. Without that, or if some of them are gone,
    /// all that there are.
    fn after(&self, known: Option<Known>) -> (Known, Vec<std::sync::Arc<Event>>) {
        let of_this_life = self
            .changes()
            .filter(|event| event.id().epoch == self.epoch());
        let mut events: Vec<_> = of_this_life.cloned().collect();
        // After a new beginning the newest change stands in no entry.
        if let Some(newest) = self.newest()
            && events.last().is_none_or(|last| last.id() != newest.id())
        {
            events = vec![newest.clone()];
        }
        let Epoch(epoch) = self.epoch();
        let seq = events.last().map_or(0, |newest| newest.id().seq);
        if let Some(known) = known
            && known.epoch == epoch
        {
            events.retain(|event| event.id().seq > known.seq);
        }
        (Known { epoch, seq }, events)
    }

    fn changes(&self) -> impl Iterator<Item = &std::sync::Arc<Event>> {
        self.entries().filter_map(|entry| match entry {
            Entry::Change(event) => Some(event),
            Entry::Notice(_) => None,
        })
    }

    /// Appends a change under the id that it has in another process.
    fn follow(&mut self, known: Known, value: Value, name: Option<EventName>, at: Instant) {
        let next = (Epoch(known.epoch), known.seq);
        if !self.continues_with(next) {
            self.unchain();
            self.jump_before(next);
        }
        self.push_change(value, name, at);
    }
}

impl Change {
    fn of(event: &Event) -> Self {
        Self {
            seq: event.id().seq,
            text: event.value().is_text(),
            data: event.value().encoded().to_owned(),
            name: event.name().map(ToString::to_string),
            whole: event.base().is_none(),
            age: ms(event.at().elapsed()),
        }
    }

    fn value(&self) -> Result<Value, Malformed> {
        match self.text {
            true => Ok(Value::from_text(self.data.as_str())),
            false => Value::parse_json(self.data.as_bytes()),
        }
    }
}

/// Cause classes of CONTRACT.md §3.
const CAUSES: [&str; 9] = [
    "connect",
    "timeout",
    "tls",
    "status",
    "too-large",
    "malformed",
    "redis",
    "unauthorized",
    "rate-limited",
];

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
