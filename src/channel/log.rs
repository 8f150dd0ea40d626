//! The bounded replay log of a channel. Pure: no clock, no threads, no transport.
//!
//! Two counts run side by side. A *position* numbers every entry, notices included: it is what a connected reader's
//! cursor holds. A *sequence* numbers changes of value alone: it is what ids carry. The newest change is kept whatever the bounds say,
//! as it is the current value.
//!
//! A source may have ids of its own, which are ordered and not counted. Then a *window* says which of its entries stand here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Epoch, Event, EventId, Notice};
use crate::sse::{EntryId, EventName};
use crate::value::Value;

/// Bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Changes of value that a client may have missed.
    pub events: usize,
    /// Bytes of their values.
    pub bytes: usize,
    /// Since they happened.
    pub age: Duration,
}

/// What stands at a position.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A change of value.
    Change(Arc<Event>),
    /// An event of the gateway.
    Notice(Notice),
}

/// What a client that names an id has missed.
#[derive(Clone, Debug)]
pub enum Since {
    /// Nothing.
    Current,
    /// These changes, oldest first; never empty.
    Tail(Vec<Arc<Event>>),
    /// Nobody can say.
    Unknown,
}

/// A channel's entries, oldest first.
#[derive(Debug)]
pub struct Log {
    bounds: History,
    epoch: Epoch,
    entries: VecDeque<Entry>,
    /// The position of the next entry.
    next: u64,
    /// The sequence of the newest change, 0 before the first.
    seq: u64,
    /// Every change after this one is here, in order. Older ids are unknown.
    base: EventId,
    changes: usize,
    bytes: usize,
    newest: Option<Arc<Event>>,
    /// The position of the newest change.
    newest_at: u64,
    /// Whether a patch may lead from the newest change to the next one.
    chained: bool,
    /// `None` unless the source has ids of its own and has said where it begins.
    window: Option<Box<Window>>,
}

/// The entries of the source that stand in the log: all of them between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where the source began to tell.
    pub start: EntryId,
    /// The one before the first that is still here.
    pub after: EntryId,
    /// The last one that is known.
    pub upto: EntryId,
    /// Where they begin: what stands before it belongs to another window.
    from: u64,
}

impl Log {
    /// An empty log of a new life.
    pub fn new(bounds: History) -> Self {
        let epoch = Epoch::new();
        Self {
            bounds,
            epoch,
            // Most hold the current value and nothing else.
            entries: VecDeque::with_capacity(1),
            next: 0,
            seq: 0,
            base: EventId { epoch, seq: 0 },
            changes: 0,
            bytes: 0,
            newest: None,
            newest_at: 0,
            chained: false,
            window: None,
        }
    }

    /// Appends a change of value.
    pub fn push_change(
        &mut self,
        value: Value,
        name: Option<EventName>,
        now: Instant,
    ) -> Arc<Event> {
        let id = EventId {
            epoch: self.epoch,
            seq: self.seq + 1,
        };
        self.push_as(id, value, name, now)
    }

    fn push_as(
        &mut self,
        id: EventId,
        value: Value,
        name: Option<EventName>,
        now: Instant,
    ) -> Arc<Event> {
        let base = match &self.newest {
            Some(newest) if self.chained => Some(newest.value().clone()),
            _ => None,
        };
        self.push_event(Event::new(id, value, base, name, now))
    }

    /// The source has ids of its own, and what comes follows `after`. Entries from before are unknown from now on; connected readers
    /// get what they have coming all the same.
    pub fn open_window(&mut self, after: EntryId) {
        self.window = Some(Box::new(Window {
            start: after,
            after,
            upto: after,
            from: self.next,
        }));
    }

    /// Appends an entry of the source, whose own id is larger than those before. No patch leads to it.
    pub fn push_entry(&mut self, entry: EntryId, value: Value, now: Instant) -> Arc<Event> {
        if let Some(window) = &mut self.window {
            window.upto = entry;
        }
        let id = EventId {
            epoch: self.epoch,
            seq: self.seq + 1,
        };
        self.push_event(Event::of_entry(id, entry, value, now))
    }

    /// Which entries of the source stand here.
    pub fn window(&self) -> Option<Window> {
        self.window.as_deref().copied()
    }

    /// The entries of the source after `id`, if that is in the window.
    pub fn entries_after(&self, id: EntryId) -> Option<Vec<Arc<Event>>> {
        let window = self.window()?;
        if id < window.after || id > window.upto {
            return None;
        }
        let entries = self.from(window.from.max(self.first()))?;
        let later = entries.filter_map(|entry| match entry {
            Entry::Change(event) if event.entry() > Some(id) => Some(event.clone()),
            Entry::Change(_) | Entry::Notice(_) => None,
        });
        Some(later.collect())
    }

    fn push_event(&mut self, event: Event) -> Arc<Event> {
        let now = event.at();
        let event = Arc::new(event);
        (self.epoch, self.seq) = (event.id().epoch, event.id().seq);
        self.bytes += event.value().encoded().len();
        self.changes += 1;
        self.newest = Some(event.clone());
        self.newest_at = self.next;
        self.chained = true;
        self.push(Entry::Change(event.clone()));
        self.trim(now);
        event
    }

    /// Appends a notice.
    pub fn push_notice(&mut self, notice: Notice) {
        self.push(Entry::Notice(notice));
    }

    /// The next change starts anew: no patch leads to it from the one before (after `gone`).
    pub fn unchain(&mut self) {
        self.chained = false;
    }

    /// Begins a new life: older ids are unknown from now on. Connected readers get what they have coming all the same;
    /// the current value is given to newcomers under a new id.
    pub fn restart(&mut self) {
        self.epoch = Epoch::new();
        self.window = None;
        if self.newest.is_some() {
            self.seq += 1;
        }
        self.base = EventId {
            epoch: self.epoch,
            seq: self.seq,
        };
        if let Some(newest) = &self.newest {
            let (value, at) = (newest.value().clone(), newest.at());
            let again = match newest.entry() {
                Some(entry) => Event::of_entry(self.base, entry, value, at),
                None => Event::new(self.base, value, None, newest.name().cloned(), at),
            };
            self.newest = Some(Arc::new(again));
        }
    }

    /// Another writer goes on from here: its ids are told from those that the one before would have given, though no change
    /// is missing in between.
    pub(super) fn change_writer(&mut self) {
        self.epoch = Epoch::new();
    }

    /// Appends the change `id`, which another writer made as the next one after `before`. One that is here already is left
    /// out; where something is missing in between, older ids are unknown from then on.
    pub(super) fn follow(
        &mut self,
        (before, id): (EventId, EventId),
        value: Value,
        name: Option<EventName>,
        at: Instant,
    ) {
        if self.last() != before {
            self.begin_after(before);
        }
        self.push_as(id, value, name, at);
    }

    /// Forgets everything: what comes next comes after this change, which nobody knows here. Connected readers get it whole.
    pub(super) fn begin_after(&mut self, before: EventId) {
        self.unchain();
        self.entries.clear();
        self.newest = None;
        (self.changes, self.bytes) = (0, 0);
        (self.epoch, self.seq, self.base) = (before.epoch, before.seq, before);
    }

    /// Whether this change is known here, and all later ones up to the newest are.
    pub(super) fn holds(&self, id: EventId) -> bool {
        !matches!(self.since(id), Since::Unknown)
    }

    /// The changes after `known`, and which one they come after. Without that, or if some of them are gone, all that there are.
    /// `current`: the newest one is the current value, and one of them even after a new beginning.
    pub(super) fn after(
        &self,
        known: Option<EventId>,
        current: bool,
    ) -> (EventId, Vec<Arc<Event>>) {
        if let Some(known) = known {
            match self.since(known) {
                Since::Current => return (known, Vec::new()),
                Since::Tail(events) => return (known, events),
                Since::Unknown => {}
            }
        }
        match &self.newest {
            // After a new beginning the newest change stands in no entry.
            Some(newest) if current && newest.id() == self.base => {
                let before = EventId {
                    seq: self.base.seq - 1,
                    ..self.base
                };
                (before, vec![newest.clone()])
            }
            _ => (self.base, self.changes_after(self.base.seq)),
        }
    }

    /// The id of the newest change, or of none before the first one.
    pub(super) fn last(&self) -> EventId {
        let none = EventId {
            epoch: self.epoch,
            seq: self.seq,
        };
        self.newest.as_ref().map_or(none, |newest| newest.id())
    }

    fn changes_after(&self, seq: u64) -> Vec<Arc<Event>> {
        let changes = self.recent().take_while(|event| event.id().seq > seq);
        let mut changes: Vec<_> = changes.cloned().collect();
        changes.reverse();
        changes
    }

    /// The newest change.
    pub fn newest(&self) -> Option<&Arc<Event>> {
        self.newest.as_ref()
    }

    /// The newest change, if it stands at `position` or behind it: a reader that stands there does not have it yet.
    pub fn newest_from(&self, position: u64) -> Option<&Arc<Event>> {
        self.newest.as_ref().filter(|_| self.newest_at >= position)
    }

    /// The newest changes that are kept, newest first.
    pub fn recent(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.entries.iter().rev().filter_map(|entry| match entry {
            Entry::Change(event) => Some(event),
            Entry::Notice(_) => None,
        })
    }

    /// The position behind the newest entry: where a reader that has everything stands.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// The entries from `position` on, or `None` when some of them are gone.
    pub fn from(&self, position: u64) -> Option<impl Iterator<Item = &Entry>> {
        let skip = position.checked_sub(self.first())?;
        Some(self.entries.iter().skip(skip as usize))
    }

    /// What a client that has `id` has missed (EDGE L8, L9).
    pub fn since(&self, id: EventId) -> Since {
        let Some(missed) = self.seq.checked_sub(id.seq) else {
            return Since::Unknown;
        };
        if id.seq == 0 || id.seq < self.base.seq {
            return Since::Unknown;
        }
        if missed == 0 {
            return match self.newest() {
                Some(newest) if newest.id() == id => Since::Current,
                _ => Since::Unknown,
            };
        }
        let is_here = || {
            let same = |event: &Arc<Event>| event.id() == id;
            id == self.base || self.recent().nth(missed as usize).is_some_and(same)
        };
        if missed > self.bounds.events as u64 || !is_here() {
            return Since::Unknown;
        }
        Since::Tail(self.changes_after(id.seq))
    }

    /// Drops what is out of bounds.
    pub fn trim(&mut self, now: Instant) {
        while self.changes > 1 && self.over(now) {
            self.pop();
        }
    }

    fn over(&self, now: Instant) -> bool {
        let oldest = self.entries.iter().find_map(|entry| match entry {
            Entry::Change(event) => Some(event),
            Entry::Notice(_) => None,
        });
        self.changes > self.bounds.events
            || self.bytes > self.bounds.bytes
            || oldest
                .is_some_and(|event| now.saturating_duration_since(event.at()) > self.bounds.age)
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        self.next += 1;
        // A source that comes and goes without a change leaves notices alone: they need a bound too.
        while self.entries.len() > 2 * self.bounds.events + 64 {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let position = self.first();
        if let Some(Entry::Change(event)) = self.entries.pop_front() {
            if let (Some(entry), Some(window)) = (event.entry(), &mut self.window)
                && position >= window.from
            {
                window.after = entry;
            }
            if event.id().seq > self.base.seq {
                self.base = event.id();
            }
            self.changes -= 1;
            self.bytes -= event.value().encoded().len();
        }
    }

    /// The position of the oldest entry.
    fn first(&self) -> u64 {
        self.next - self.entries.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: usize, bytes: usize) -> Log {
        Log::new(History {
            events,
            bytes,
            age: Duration::from_secs(300),
        })
    }

    fn push(log: &mut Log, text: &str) -> EventId {
        log.push_change(Value::from_text(text), None, Instant::now())
            .id()
    }

    fn tail(log: &Log, id: EventId) -> Option<Vec<String>> {
        match log.since(id) {
            Since::Current => Some(Vec::new()),
            Since::Tail(events) => Some(
                events
                    .iter()
                    .map(|e| e.value().encoded().to_owned())
                    .collect(),
            ),
            Since::Unknown => None,
        }
    }

    /// CONTRACT §6: a client that missed exactly `events` is replayed; one more is reset.
    #[test]
    fn exactly_the_bound_is_replayed() {
        let mut log = log(3, 1 << 20);
        let ids: Vec<_> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|text| push(&mut log, text))
            .collect();
        assert_eq!(tail(&log, ids[4]), Some(vec![]));
        assert_eq!(
            tail(&log, ids[1]),
            Some(vec!["c".into(), "d".into(), "e".into()])
        );
        assert_eq!(tail(&log, ids[0]), None);
    }

    #[test]
    fn bytes_and_age_bound_the_log_but_never_the_current_value() {
        let mut log = log(100, 10);
        let first = push(&mut log, "123456");
        let second = push(&mut log, "7890123456789");
        assert_eq!(tail(&log, first), Some(vec!["7890123456789".into()]));
        assert_eq!(tail(&log, second), Some(vec![]));
        let third = push(&mut log, "x");
        assert_eq!(tail(&log, first), None);
        log.trim(Instant::now() + Duration::from_secs(301));
        assert_eq!(log.newest().map(|event| event.id()), Some(third));
    }

    #[test]
    fn future_and_foreign_ids_are_unknown() {
        let mut log = log(10, 1 << 20);
        let id = push(&mut log, "a");
        assert_eq!(tail(&log, EventId { seq: 2, ..id }), None);
        assert_eq!(tail(&log, EventId { seq: 0, ..id }), None);
        assert_eq!(
            tail(
                &log,
                EventId {
                    epoch: Epoch::new(),
                    ..id
                }
            ),
            None
        );
        log.restart();
        assert_eq!(tail(&log, id), None);
    }

    /// EDGE L8: where writers take turns, ids of each stay known; one that the first would have given next is not the
    /// second's.
    #[test]
    fn ids_of_writers_that_take_turns_are_known_and_told_apart() {
        let mut log = log(3, 1 << 20);
        let first = push(&mut log, "a");
        let lost = EventId { seq: 2, ..first };
        log.change_writer();
        let second = push(&mut log, "b");
        assert_eq!((second.seq, second.epoch == first.epoch), (2, false));
        assert_eq!(tail(&log, first), Some(vec!["b".into()]));
        assert_eq!(tail(&log, lost), None);
        log.change_writer();
        push(&mut log, "c");
        push(&mut log, "d");
        assert_eq!(tail(&log, lost), None);
        assert_eq!(tail(&log, second), Some(vec!["c".into(), "d".into()]));
        assert_eq!(
            tail(&log, first).map(|tail| tail.len()),
            Some(3),
            "the change before the oldest"
        );
        push(&mut log, "e");
        assert_eq!(tail(&log, first), None);
    }

    /// What is not the next one cannot be told from a gap: ids from before it are unknown.
    #[test]
    fn a_change_that_does_not_follow_is_a_new_beginning() {
        let mut log = log(8, 1 << 20);
        let known = push(&mut log, "a");
        let other = |seq| EventId {
            epoch: Epoch(7),
            seq,
        };
        let value = || Value::from_text("x");
        log.follow((known, other(2)), value(), None, Instant::now());
        assert_eq!(tail(&log, known), Some(vec!["x".into()]));
        log.follow((other(3), other(4)), value(), None, Instant::now());
        assert_eq!(tail(&log, known), None);
        assert_eq!(tail(&log, other(2)), None);
        assert_eq!(tail(&log, other(3)), Some(vec!["x".into()]));
    }

    #[test]
    fn a_position_that_fell_off_is_told() {
        let mut log = log(2, 1 << 20);
        let start = log.end();
        push(&mut log, "a");
        assert_eq!(log.from(start).map(Iterator::count), Some(1));
        log.push_notice(Notice::fresh());
        push(&mut log, "b");
        push(&mut log, "c");
        assert!(log.from(start).is_none());
        assert_eq!(log.from(log.end()).map(Iterator::count), Some(0));
    }
}
