//! What a channel knows, behind its lock: the log, and what is to be said besides the value. Nothing here encodes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::event::{Event, EventId, Notice};
use super::log::{Entry, History, Log, Since};
use super::owed::{Owed, Piece};
use super::pages::{Behind, Content, Page, Pages};
use super::{Cursor, Ids, Resume, Spec};
use crate::metrics::{EventKind, Held, Resumption};
use crate::sse::{EntryId, EventName};
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
    /// Of a source that has ids of its own.
    pages: Option<Box<Pages>>,
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
            pages: None,
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

    /// What a reader is owed, at most `queue` bytes of it where the rest can follow; `None`: nothing now.
    pub(super) fn owed(&mut self, cursor: &Cursor, queue: usize, spec: &Spec) -> Option<Owed> {
        match cursor {
            Cursor::At(position) | Cursor::AtEntry(position, _) if *position == self.log.end() => {
                None
            }
            Cursor::At(position) if spec.ids == Ids::OfSource => {
                // It came before it was known where the source begins.
                let last = self.log.window().map(|window| window.start);
                Some(self.reading(*position, last.unwrap_or_default(), queue))
            }
            Cursor::At(position) => Some(self.following(*position)),
            Cursor::AtEntry(position, last) => Some(self.reading(*position, *last, queue)),
            Cursor::New if self.settled => Some(Owed::new(self.beginning(spec), self.end())),
            Cursor::AfterEntry(id) => {
                // What it has missed is asked of the source first, which alone knows what it still has.
                let behind = self.pages().enter(*id);
                self.pages().want(&behind);
                Some(Owed::new(Vec::new(), Cursor::Behind(behind)))
            }
            Cursor::After(id) if self.settled => Some(self.resuming(*id, spec)),
            Cursor::New | Cursor::After(_) => None,
            Cursor::Behind(behind) => self.catching_up(behind, spec),
        }
    }

    /// What the log does not reach back to.
    pub(super) fn pages(&mut self) -> &mut Pages {
        self.pages.get_or_insert_default()
    }

    /// Whoever reads pages begins anew.
    pub(super) fn forget_pages(&mut self) {
        if let Some(pages) = &mut self.pages {
            pages.restart();
        }
    }

    fn page(&self, behind: &Behind) -> Option<&Page> {
        self.pages.as_ref()?.find(behind)
    }

    /// Whether a page is wanted that was not.
    pub(super) fn wants_page(&mut self) -> bool {
        self.pages.as_mut().is_some_and(|pages| pages.take_news())
    }

    /// Whether a reader that is given this can have more at once, of which nobody would tell it.
    pub(super) fn has_more(&self, owed: &Owed) -> bool {
        match owed.then() {
            Cursor::Behind(behind) => self.page(behind).is_some(),
            Cursor::AtEntry(position, _) => *position != self.log.end(),
            Cursor::New | Cursor::After(_) | Cursor::AfterEntry(_) | Cursor::At(_) => false,
        }
    }

    /// Where a reader stands that has everything.
    fn end(&self) -> Cursor {
        let end = self.log.end();
        match self.log.window() {
            Some(window) => Cursor::AtEntry(end, window.upto),
            None => Cursor::At(end),
        }
    }

    fn following(&self, position: u64) -> Owed {
        let end = self.end();
        let newest = self.news(position);
        let Some(entries) = self.log.from(position) else {
            return Owed::new(newest, end).conflated();
        };
        Owed::new(entries.map(piece).collect(), end).or_conflated(newest)
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
        let end = self.end();
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
            Since::Unknown => self.reset(spec),
        }
    }

    fn reset(&self, spec: &Spec) -> Owed {
        let mut pieces = vec![Piece::Notice(Notice::reset())];
        pieces.extend(self.beginning(spec));
        Owed::new(pieces, self.end()).resumed(Resumption::Reset)
    }

    // === Readers that the log may not reach back to ===

    /// What comes next for a reader that has everything up to the entry `last`. None of it is left out for being much: it comes bit
    /// by bit, and what the log has not any more comes from the source.
    fn reading(&mut self, position: u64, last: EntryId, queue: usize) -> Owed {
        let Some(entries) = self.log.from(position) else {
            // It may have been told that the source fails, and missed that it did not for a while.
            let refreshed = self.refreshed.is_some_and(|at| at >= position);
            let stale = self.stale.as_ref();
            let behind = Behind {
                told_stale: stale.is_some_and(|stale| stale.position < position),
                counted: true,
                ..self.pages().enter(last)
            };
            self.pages().want(&behind);
            let fresh = refreshed.then(|| Piece::Notice(Notice::fresh()));
            return Owed::new(fresh.into_iter().collect(), Cursor::Behind(behind));
        };
        let (mut pieces, mut bytes, mut last) = (Vec::new(), 0, last);
        for entry in entries {
            if let Entry::Change(event) = entry {
                bytes += event.value().encoded().len();
                if bytes > queue && !pieces.is_empty() {
                    let position = position + pieces.len() as u64;
                    return Owed::new(pieces, Cursor::AtEntry(position, last));
                }
                last = event.entry().unwrap_or(last);
            }
            pieces.push(piece(entry));
        }
        Owed::new(pieces, self.end())
    }

    /// The next page of what a reader has missed, with what the log has after it if the page reaches so far.
    fn catching_up(&mut self, behind: &Behind, spec: &Spec) -> Option<Owed> {
        let page = self
            .page(behind)
            .map(|page| (page.number, page.content.clone()));
        match page {
            Some((_, Content::Unknown)) => Some(self.turned_away(behind)),
            Some((number, Content::Events(events, upto))) => {
                self.paged(behind, number, events, upto, spec)
            }
            None => {
                self.pages().want(behind);
                self.waiting(behind, spec)
            }
        }
    }

    fn paged(
        &mut self,
        behind: &Behind,
        number: u64,
        events: Vec<Arc<Event>>,
        upto: EntryId,
        spec: &Spec,
    ) -> Option<Owed> {
        let Some(window) = self.log.window() else {
            return self.waiting(behind, spec);
        };
        if upto < window.after {
            let next = Behind {
                after: upto,
                asked: number,
                counted: true,
                ..*behind
            };
            self.pages().want(&next);
            let pieces = match spec.resume {
                Resume::Replay => events.into_iter().map(Piece::Next).collect(),
                Resume::Latest => Vec::new(),
            };
            let owed = Owed::new(pieces, Cursor::Behind(next));
            return Some(match behind.counted {
                true => owed,
                false => owed.resumed(Resumption::Replayed),
            });
        }
        // The page and the log overlap. A reader that is ahead of the log waits for it.
        let Some(rest) = self.log.entries_after(behind.after.max(window.after)) else {
            return self.waiting(behind, spec);
        };
        let is_before = |event: &Arc<Event>| event.entry().is_some_and(|id| id <= window.after);
        let missed = events.into_iter().filter(is_before).chain(rest);
        Some(self.caught_up(behind, missed.collect(), spec))
    }

    /// For a reader that waits: whether the source fails. Then the log answers as far as it can.
    fn waiting(&mut self, behind: &Behind, spec: &Spec) -> Option<Owed> {
        if self.stale.is_some()
            && let Some(missed) = self.log.entries_after(behind.after)
        {
            return Some(self.caught_up(behind, missed, spec));
        }
        let news = self.unheard(behind)?;
        let told = Behind {
            told_stale: self.stale.is_some(),
            ..*behind
        };
        Some(Owed::new(vec![news], Cursor::Behind(told)))
    }

    /// All that a reader has missed.
    fn caught_up(&self, behind: &Behind, missed: Vec<Arc<Event>>, spec: &Spec) -> Owed {
        let resumed = match missed.is_empty() {
            true => Resumption::Current,
            false => Resumption::Replayed,
        };
        let mut pieces: Vec<_> = match spec.resume {
            Resume::Replay => missed.into_iter().map(Piece::Next).collect(),
            Resume::Latest => {
                let newest = missed.into_iter().next_back();
                newest.map(Piece::Whole).into_iter().collect()
            }
        };
        pieces.extend(self.unheard(behind));
        let owed = Owed::new(pieces, self.end());
        match behind.counted {
            true => owed,
            false => owed.resumed(resumed),
        }
    }

    /// For a reader whose entry, or what came after it, is gone.
    fn turned_away(&self, behind: &Behind) -> Owed {
        let reset = Piece::Notice(Notice::reset());
        let pieces = [reset].into_iter().chain(self.unheard(behind)).collect();
        Owed::new(pieces, self.end()).resumed(Resumption::Reset)
    }

    /// Whether the source fails, if the reader does not know.
    fn unheard(&self, behind: &Behind) -> Option<Piece> {
        let notice = match (&self.stale, behind.told_stale) {
            (Some(stale), false) => stale.notice.clone(),
            (None, true) => Notice::fresh(),
            (Some(_), true) | (None, false) => return None,
        };
        Some(Piece::Notice(notice))
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

fn piece(entry: &Entry) -> Piece {
    match entry {
        Entry::Change(event) => Piece::Next(event.clone()),
        Entry::Notice(notice) => Piece::Notice(notice.clone()),
    }
}
