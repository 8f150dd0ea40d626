//! What readers have missed that the log does not reach back to: pages that whoever feeds the channel reads from its source.
//!
//! A reader that names an id is answered from a page that was begun to be read after it came: what the source has lost
//! by then is lost, whatever was known before. Readers that wait for the same page share it. What is held is bounded by the number of
//! pages and not by what is missed: a reader asks for its next page when it is given the one before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::event::Event;
use crate::sse::EntryId;

/// Pages that are wanted or being read at once; who wants another asks again when one of them is there.
const MAX_ASKS: usize = 16;
/// Pages that are kept for readers that have not come for them yet.
const MAX_READY: usize = 16;
/// So long.
const KEPT: Duration = Duration::from_secs(2);

/// Where a reader stands that may be behind what the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// It says that it has everything up to this entry, or has been given it.
    pub(super) after: EntryId,
    /// Only readings with a larger number tell it anything.
    pub(super) asked: u64,
    /// It knows that the source fails.
    pub(super) told_stale: bool,
    /// It was given a page already.
    pub(super) counted: bool,
}

/// Pages to be read, under one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those that begin after these entries.
    pub after: Vec<EntryId>,
    number: u64,
    /// Entries up to this one came before the reading.
    upto: EntryId,
}

/// What a reading of a page found.
#[derive(Clone, Debug)]
pub enum Found {
    /// The source cannot say what came after the entry.
    Unknown,
    /// What came after it, oldest first.
    Page {
        /// May be empty.
        events: Vec<Arc<Event>>,
        /// The last entry that was read, whether it became an event or not.
        last: Option<EntryId>,
        /// Whether there was nothing more.
        is_all: bool,
    },
}

/// A page that was read.
#[derive(Debug)]
pub(super) struct Page {
    after: EntryId,
    pub(super) number: u64,
    read: Instant,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Unknown,
    /// All that came after the one entry, up to another one.
    Events(Vec<Arc<Event>>, EntryId),
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Of the newest reading.
    number: u64,
    asks: Vec<Ask>,
    ready: VecDeque<Page>,
    /// Something is wanted that was not.
    news: bool,
    /// For who reads them.
    bell: Arc<Notify>,
}

#[derive(Debug)]
struct Ask {
    after: EntryId,
    /// Of its reading; `None`: it has not begun.
    number: Option<u64>,
}

impl Pages {
    /// Rung when something is wanted that was not.
    pub(super) fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// Where a reader stands that comes now and names `after`.
    pub(super) fn enter(&self, after: EntryId) -> Behind {
        Behind {
            after,
            asked: self.number,
            told_stale: false,
            counted: false,
        }
    }

    /// The page for a reader, if it is there.
    pub(super) fn find(&self, behind: &Behind) -> Option<&Page> {
        self.ready
            .iter()
            .find(|page| page.after == behind.after && page.number > behind.asked)
    }

    /// Has the page for a reader read, unless it is there or on its way.
    pub(super) fn want(&mut self, behind: &Behind) {
        let serves = |ask: &Ask| {
            ask.after == behind.after && ask.number.is_none_or(|number| number > behind.asked)
        };
        if self.find(behind).is_none()
            && !self.asks.iter().any(serves)
            && self.asks.len() < MAX_ASKS
        {
            self.asks.push(Ask {
                after: behind.after,
                number: None,
            });
            self.news = true;
        }
    }

    /// Whether something is wanted that was not when this was asked last.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What is to be read now, if anything. `upto`: entries up to this one are there already.
    pub(super) fn begin(&mut self, upto: EntryId) -> Option<Wanted> {
        let number = self.number + 1;
        let mut after = Vec::new();
        for ask in self.asks.iter_mut().filter(|ask| ask.number.is_none()) {
            ask.number = Some(number);
            after.push(ask.after);
        }
        if after.is_empty() {
            return None;
        }
        self.number = number;
        Some(Wanted {
            after,
            number,
            upto,
        })
    }

    /// A page was read.
    pub(super) fn put(&mut self, wanted: &Wanted, after: EntryId, found: Found, now: Instant) {
        self.done(wanted, after);
        self.drop_old(now);
        self.ready.retain(|page| page.after != after);
        let content = match found {
            Found::Unknown => Content::Unknown,
            Found::Page {
                events,
                last,
                is_all,
            } => {
                let last = last.unwrap_or(after);
                // Nothing between its last entry and what was there before it was read.
                let upto = match is_all {
                    true => last.max(wanted.upto),
                    false => last,
                };
                Content::Events(events, upto)
            }
        };
        if self.ready.len() == MAX_READY {
            self.ready.pop_front();
        }
        self.ready.push_back(Page {
            after,
            number: wanted.number,
            read: now,
            content,
        });
    }

    /// A page could not be read. Whoever wants it asks again.
    pub(super) fn fail(&mut self, wanted: &Wanted, after: EntryId) {
        self.done(wanted, after);
    }

    /// Whoever reads pages begins anew: what was being read never comes.
    pub(super) fn restart(&mut self) {
        self.asks.clear();
    }

    /// Drops what nobody came for. Returns whether anything is left.
    pub(super) fn drop_old(&mut self, now: Instant) -> bool {
        self.ready
            .retain(|page| now.saturating_duration_since(page.read) < KEPT);
        !self.ready.is_empty()
    }

    fn done(&mut self, wanted: &Wanted, after: EntryId) {
        self.asks
            .retain(|ask| ask.after != after || ask.number != Some(wanted.number));
    }
}
