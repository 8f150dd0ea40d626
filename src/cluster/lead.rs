//! Reading for all replicas, as long as the lease is ours.
//!
//! The discipline of the loop: what is in flight at Redis is one append or renewal at a time; readers here are given nothing
//! before it stands there; whenever Redis says that the lease or the log is not as we know them, the term is over and nothing more
//! is written.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{End, Follower, Member, Token, Told, View, Writer};
use crate::channel::past::Past;
use crate::channel::{Channel, EventId};
use crate::source::SourceError;
use crate::source::redis_log::{Appended, Claimed, MAX_ENTRY, News};

/// One stretch of time in which a replica has the lease.
pub(super) struct Lead<'a> {
    member: &'a Member,
    writer: &'a Writer,
    token: &'a Token,
    /// Until then nobody else can have it.
    until: Instant,
    /// The newest change that the log has; empty: none.
    newest: String,
    /// When the source is read first.
    first: Instant,
    /// When the last poll that was counted began.
    counted: Option<Instant>,
    /// Whether the draft has what the log does not.
    untold: bool,
    /// Why the server could not be told.
    trouble: Option<SourceError>,
}

/// The term goes on, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Still {
    Ours,
    Lost,
}

impl<'a> Lead<'a> {
    /// `asked`: when the lease was asked for.
    pub(super) fn new(
        member: &'a Member,
        writer: &'a Writer,
        token: &'a Token,
        asked: Instant,
        claimed: &Claimed,
    ) -> Self {
        // The interval goes on where another replica left off.
        let polled = member.term.every.zip(claimed.age);
        let rest = polled.map(|(every, age)| every.saturating_sub(age));
        Self {
            member,
            writer,
            token,
            until: asked + member.term.lease,
            newest: claimed.newest.clone(),
            first: asked + rest.unwrap_or_default(),
            counted: None,
            untold: false,
            trouble: None,
        }
    }

    /// Reads the source and appends what comes of it. Gives why following ends with it; `None`: only the lease is lost. An error: it
    /// is lost as the server did not answer.
    pub(super) async fn run(
        mut self,
        view: &mut View,
        follower: &mut Follower,
        stop: &CancellationToken,
    ) -> Result<Option<End>, SourceError> {
        let (draft, work) = (self.writer)();
        let first = self.first;
        let mut work = pin!(async move {
            sleep_until(first.into()).await;
            work.await;
        });
        let is_stale = view.standing.as_ref().is_some_and(Past::is_stale);
        let past = self.member.channel.since(None).unsettled();
        // What only this replica said of it is not what the log says.
        let past = if is_stale { past } else { past.fresh() };
        // It has been read once, and what could not be read is not in it.
        let _ = draft.succeed(&past);
        draft.change_writer();
        let _reader = draft.subscribe();
        let mut version = draft.version();
        version.mark_changed();
        let mut renewal = interval(self.member.term.lease / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            let still = tokio::select! {
                () = &mut work => Still::Lost,
                () = version.changed() => self.tell(&draft, view).await,
                _ = renewal.tick() => match self.tell(&draft, view).await {
                    Still::Ours => self.renew(&draft, view).await,
                    Still::Lost => Still::Lost,
                },
                told = follower.next() => match told {
                    Told::Entry(entry) if entry.at > view.at => Still::Lost,
                    _ => Still::Ours,
                },
                () = self.member.plan.unwanted(&self.member.channel) => break Some(End::Unwanted),
                () = stop.cancelled() => break Some(End::Stopped),
            };
            self.show(&draft);
            if let Some(trouble) = &self.trouble {
                self.member.mark_stale(trouble.cause);
            }
            if still == Still::Lost {
                break None;
            }
        };
        self.member.channel.no_poll_due();
        match (end, self.trouble) {
            (None, Some(trouble)) => Err(trouble),
            (end, _) => Ok(end),
        }
    }

    /// Appends what the draft has and the log does not.
    async fn tell(&mut self, draft: &Channel, view: &mut View) -> Still {
        let mut past = match EventId::parse(self.newest.as_bytes()) {
            Some(known) => draft.since(Some(known)),
            // The log is new, or was lost: who follows may have other ids for what was before, and is not to get it again.
            None => draft.since(None).newest_only(),
        };
        let adds = |standing: &Past| !past.adds_nothing_to(standing);
        let is_news =
            (past.is_settled() || !past.is_empty()) && view.standing.as_ref().is_none_or(adds);
        self.untold = is_news;
        if !is_news {
            return Still::Ours;
        }
        let mut text = past.write();
        if text.len() > MAX_ENTRY {
            past = past.newest_only();
            text = past.write();
        }
        let (base, newest) = (past.base().to_string(), past.known().to_string());
        let news = News {
            known: &self.newest,
            base: &base,
            newest: &newest,
            past: &text,
            age: age(draft),
        };
        match self.member.log.append(self.token, news).await {
            Ok(Appended::At(at)) => {
                self.member.follow_past(view, at, &past);
                self.newest = newest;
                (self.untold, self.trouble) = (false, None);
                Still::Ours
            }
            Ok(Appended::Fenced | Appended::Moved) => self.lost(),
            Err(error) => self.failed(error),
        }
    }

    async fn renew(&mut self, draft: &Channel, view: &View) -> Still {
        let asked = Instant::now();
        let lease = self.member.term.lease;
        // Only what stands in the log is confirmed.
        let is_stale = view.standing.as_ref().is_some_and(Past::is_stale);
        let is_read = view.standing.as_ref().is_some_and(Past::is_settled);
        let age = age(draft).filter(|_| is_read && !is_stale && !self.untold);
        match self
            .member
            .log
            .renew(self.token, lease, age, &self.newest)
            .await
        {
            Ok(true) => {
                self.until = asked + lease;
                if !self.untold {
                    self.trouble = None;
                }
                if let Some(at) = draft.confirmed_at().filter(|_| age.is_some()) {
                    self.member.channel.confirm_as_of(at);
                }
                Still::Ours
            }
            Ok(false) => self.lost(),
            Err(error) => self.failed(error),
        }
    }

    /// The server says so.
    fn lost(&mut self) -> Still {
        self.trouble = None;
        Still::Lost
    }

    /// Nobody knows what the server did; the lease may be ours yet.
    fn failed(&mut self, error: SourceError) -> Still {
        self.member.tell_failure(&error, self.trouble.is_none());
        self.trouble = Some(error);
        match Instant::now() < self.until {
            true => Still::Ours,
            false => Still::Lost,
        }
    }

    /// Shows operators what the poller does, where they look for it.
    fn show(&mut self, draft: &Channel) {
        let channel = &self.member.channel;
        let polls = draft.polls();
        match polls.due {
            Some(due) => channel.poll_due(due, polls.last),
            None => channel.no_poll_due(),
        }
        let began = polls.last.map(|poll| poll.began);
        if began > self.counted {
            self.counted = began;
            channel.count_saved();
        }
    }
}

/// Since the source confirmed what the draft has.
fn age(draft: &Channel) -> Option<Duration> {
    draft.confirmed_at().map(|at| at.elapsed())
}
