//! What a channel knows, behind its lock: the log, and what is to be said besides the value. Nothing here encodes.

use std::time::{Duration, Instant, SystemTime};

use super::event::{EventId, Notice};
use super::log::{Entry, History, Log, Since};
use super::owed::{Owed, Piece};
use super::{Cursor, Resume, Spec};
use crate::metrics::{EventKind, Held, Resumption};
use crate::sse::EventName;
use crate::value::Value;

#[derive(Debug)]
pub(super) struct State {
    pub(super) log: Log,
    /// Whether newcomers can be answered: there was an observation since polling began.
    pub(super) settled: bool,
    /// Position of the notice that the resource does not exist, while that is so.
    pub(super) gone: Option<u64>,
    pub(super) stale: Option<Box<Stale>>,
    /// The last reading, when its changes against the newest event do not count.
    pub(super) latest: Option<Value>,
    pub(super) confirmed: Option<Confirmed>,
    /// Nothing is written any more: its stream stands no longer, or is another process's from now on.
    pub(super) sealed: bool,
    pub(super) started: SystemTime,
    /// The source refuses the credentials that this is read with: nobody who comes with them is given anything.
    refused: bool,
    /// Position of the newest `fresh`.
    pub(super) refreshed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Confirmed {
    pub(super) wall: SystemTime,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Stale {
    pub(super) cause: &'static str,
    pub(super) at: Instant,
    /// Of the notice.
    position: u64,
    notice: Notice,
    _counted: Held,
}

impl State {
    pub(super) fn new(history: History, settled: bool) -> Self {
        Self {
            log: Log::new(history),
            settled,
            gone: None,
            stale: None,
            latest: None,
            confirmed: None,
            sealed: false,
            started: SystemTime::now(),
            refused: false,
            refreshed: None,
        }
    }

    // === The writer's side ===

    /// Returns whether the value is an event.
    pub(super) fn observe(&mut self, value: Value, now: Instant, spec: &Spec) -> bool {
        // Who came meanwhile has not been given the old value.
        let news = self.gone.take().is_some() || self.expired(spec);
        self.confirm(now, spec);
        let changed = match self.log.newest() {
            Some(newest) => news || spec.significance.changed(newest.value(), &value),
            None => true,
        };
        if changed {
            self.change(value, None, now);
        } else {
            self.latest = Some(value);
        }
        changed
    }

    pub(super) fn change(
        &mut self,
        value: Value,
        name: Option<EventName>,
        now: Instant,
    ) -> EventId {
        self.latest = None;
        self.log.push_change(value, name, now).id()
    }

    /// What was read last still holds. Returns whether readers may want to know.
    pub(super) fn reconfirm(&mut self, now: Instant, spec: &Spec) -> bool {
        let expired = self.expired(spec) && self.gone.is_none();
        let news = self.confirm(now, spec);
        if expired && let Some(newest) = self.log.newest() {
            let value = self.latest.take().unwrap_or_else(|| newest.value().clone());
            self.change(value, None, now);
        }
        news
    }

    /// Returns whether readers may want to know.
    pub(super) fn confirm(&mut self, now: Instant, spec: &Spec) -> bool {
        if self.expired(spec) {
            // Readers differ in what they have: the next event is whole.
            self.log.unchain();
        }
        self.confirmed = Some(Confirmed {
            wall: SystemTime::now() - now.elapsed(),
            at: now,
        });
        self.refused = false;
        let settled = std::mem::replace(&mut self.settled, true);
        let stale = self.stale.is_some();
        if stale {
            self.tell_fresh(spec);
        }
        stale || !settled
    }

    /// Returns whether that is new.
    pub(super) fn vanish(&mut self, now: Instant, spec: &Spec) -> bool {
        self.confirm(now, spec);
        let new = self.gone.is_none();
        if new {
            self.gone = Some(self.log.end());
            self.log.unchain();
            self.log.push_notice(Notice::gone());
            spec.metrics().events.inc(EventKind::Gone);
        }
        new
    }

    /// Said once, until the source confirms again.
    pub(super) fn fail(&mut self, cause: &'static str, refused: bool, spec: &Spec) {
        self.settled = true;
        self.refused |= refused;
        if self.stale.is_none() {
            let since = self
                .confirmed
                .map_or(self.started, |confirmed| confirmed.wall);
            self.tell_stale(cause, since, spec);
        }
    }

    pub(super) fn tell_stale(&mut self, cause: &'static str, since: SystemTime, spec: &Spec) {
        let notice = Notice::stale(since, cause);
        self.stale = Some(Box::new(Stale {
            cause,
            at: Instant::now(),
            position: self.log.end(),
            notice: notice.clone(),
            _counted: Held::new(&spec.metrics().stale),
        }));
        self.log.push_notice(notice);
        spec.metrics().events.inc(EventKind::Stale);
    }

    pub(super) fn tell_fresh(&mut self, spec: &Spec) {
        self.stale = None;
        self.refreshed = Some(self.log.end());
        self.log.push_notice(Notice::fresh());
        spec.metrics().events.inc(EventKind::Fresh);
    }

    // === The readers' side ===

    /// Since the source last confirmed what is here.
    pub(super) fn age(&self) -> Duration {
        self.confirmed
            .map_or(Duration::ZERO, |confirmed| confirmed.at.elapsed())
    }

    /// Whether the value is stale for too long to be given to newcomers, or not theirs any more.
    pub(super) fn expired(&self, spec: &Spec) -> bool {
        self.refused
            || match (&self.stale, spec.expire_after) {
                (Some(stale), Some(after)) => stale.at.elapsed() >= after,
                _ => false,
            }
    }

    /// What a reader is owed; `None`: nothing now.
    pub(super) fn owed(&self, cursor: &Cursor, spec: &Spec) -> Option<Owed> {
        let end = self.log.end();
        match cursor {
            Cursor::At(position) if *position == end => None,
            Cursor::At(position) => Some(self.following(*position)),
            Cursor::New if self.settled => Some(Owed::new(self.beginning(spec), end)),
            Cursor::After(id) if self.settled => Some(self.resuming(*id, spec)),
            Cursor::New | Cursor::After(_) => None,
        }
    }

    fn following(&self, position: u64) -> Owed {
        let end = self.log.end();
        let newest = self.news(position);
        let Some(entries) = self.log.from(position) else {
            return Owed::new(newest, end).conflated();
        };
        let entries = entries.map(|entry| match entry {
            Entry::Change(event) => Piece::Next(event.clone()),
            Entry::Notice(notice) => Piece::Notice(notice.clone()),
        });
        Owed::new(entries.collect(), end).or_conflated(newest)
    }

    /// For a reader that is too far behind: the newest state as far as it does not know it, and nothing before it (EDGE B2).
    fn news(&self, position: u64) -> Vec<Piece> {
        let news = |at: u64| at >= position;
        let mut pieces = Vec::new();
        if self.refreshed.is_some_and(news) {
            // It may have been told that the source fails, and missed that it did not for a while.
            pieces.push(Piece::Notice(Notice::fresh()));
        }
        match self.gone {
            Some(at) if news(at) => pieces.push(Piece::Notice(Notice::gone())),
            Some(_) => {}
            None => pieces.extend(self.log.newest_from(position).cloned().map(Piece::Whole)),
        }
        let stale = self.stale.as_ref().filter(|stale| news(stale.position));
        pieces.extend(stale.map(|stale| Piece::Notice(stale.notice.clone())));
        pieces
    }

    fn resuming(&self, id: Option<EventId>, spec: &Spec) -> Owed {
        let end = self.log.end();
        match id.map_or(Since::Unknown, |id| self.log.since(id)) {
            Since::Tail(_) if self.refused => Owed::new(self.status(), end),
            Since::Current => Owed::new(self.status(), end).resumed(Resumption::Current),
            Since::Tail(missed) if spec.resume == Resume::Latest => {
                let newest = missed.into_iter().next_back().map(Piece::Whole);
                let pieces = newest.into_iter().chain(self.status()).collect();
                Owed::new(pieces, end).resumed(Resumption::Replayed)
            }
            Since::Tail(missed) => {
                let pieces = missed.iter().cloned().map(Piece::Next).chain(self.status());
                let owed = Owed::new(pieces.collect(), end)
                    .or_shortcut(missed)
                    .resumed(Resumption::Replayed);
                match spec.current {
                    true => owed.or_conflated(self.beginning(spec)),
                    false => owed,
                }
            }
            Since::Unknown => {
                let mut pieces = vec![Piece::Notice(Notice::reset())];
                pieces.extend(self.beginning(spec));
                Owed::new(pieces, end).resumed(Resumption::Reset)
            }
        }
    }

    /// For a reader that has nothing: the current value, if there is one to give, then what is to be said about it.
    fn beginning(&self, spec: &Spec) -> Vec<Piece> {
        let given = spec.current && self.gone.is_none() && !self.expired(spec);
        let newest = self
            .log
            .newest()
            .filter(|_| given)
            .cloned()
            .map(Piece::Whole);
        newest.into_iter().chain(self.status()).collect()
    }

    /// What a reader must know besides the value.
    fn status(&self) -> Vec<Piece> {
        let gone = self.gone.map(|_| Piece::Notice(Notice::gone()));
        let stale = self
            .stale
            .as_ref()
            .map(|stale| Piece::Notice(stale.notice.clone()));
        gone.into_iter().chain(stale).collect()
    }
}
