//! When to read: one task per channel, one read at a time, while somebody wants it.
//!
//! The discipline of the loop: it never holds up another channel (its own task, its own deadline); it never has two
//! reads in flight; it goes on through errors and panics of its source; whatever happened, readers are told once that
//! the value is not confirmed any more, and once that it is again. While nobody wants the channel it reads nothing. Where the
//! source knows that its last reading still holds, a poll that is due asks it instead of reading, but not for ever.

pub mod archive;
pub mod feed;
pub mod gate;
pub mod schedule;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::{sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::channel::{Channel, Hub, Poll};
use crate::metrics::{Failure, Label, PollResult};
use crate::source::{Answer, Cause, Reading, Source, SourceError};
use crate::value::{Selector, Value};
use gate::Gate;
use schedule::{Outcome, Schedule};

/// Polls in a row that are left out because the source knows better; the next one is made all the same, as a safety net.
const LEFT_OUT: u32 = 9;

/// How a channel is polled, or listened for, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What part of a reading, or of a message, is the value.
    pub select: Selector,
    /// Feeds it though nobody reads.
    pub always: bool,
    /// How long that goes on after the last reader.
    pub linger: Duration,
    /// How long a channel is kept after that, for readers that resume.
    pub keep: Duration,
    /// A reading older than this is stale.
    pub stale_after: Duration,
    /// What the polls of one upstream share; Redis servers need none.
    pub gate: Option<Arc<Gate>>,
}

impl Plan {
    /// Whether the channel is to be fed now.
    pub(crate) fn wants(&self, channel: &Channel) -> bool {
        self.always || channel.wanted(self.linger)
    }

    /// Completes when it is not to be fed any more.
    pub(crate) async fn unwanted(&self, channel: &Channel) {
        match self.always {
            true => std::future::pending().await,
            false => feed::unwanted(channel, self.linger).await,
        }
    }

    /// Tells readers that the value is not confirmed any more, if that is so by now; else lets newcomers have it.
    pub(crate) fn mark_stale(&self, channel: &Channel, cause: Cause) {
        // Without anything to keep serving there is nothing to wait for.
        match channel.confirmed_at() {
            Some(at)
                if at + self.stale_after > Instant::now() && !channel.refuses(cause.as_str()) =>
            {
                channel.settle();
            }
            _ => channel.stale(cause.as_str()),
        }
    }

    /// When silence of the source is to be told.
    pub(crate) fn stale_at(&self, channel: &Channel, watched_since: Instant) -> Instant {
        let confirmed = channel.confirmed_at();
        confirmed.map_or(watched_since, |at| at.max(watched_since)) + self.stale_after
    }
}

/// Polls `source` into `channel` until nobody can want it any more.
pub fn run<S: Source>(
    source: S,
    channel: Arc<Channel>,
    hub: Arc<Hub>,
    schedule: Schedule,
    plan: impl Into<Arc<Plan>>,
) -> impl Future<Output = ()> + Send {
    let now = Instant::now();
    let mut poller = Poller {
        source,
        channel,
        hub,
        schedule,
        plan: plan.into(),
        watched_since: now,
        due: now,
        earliest: now,
        left_out: 0,
        failing: None,
    };
    // Borrowed: what is moved into a future takes its room twice, and this one is there for each channel.
    async move { poller.run().await }
}

/// What polls one channel.
struct Poller<S> {
    source: S,
    channel: Arc<Channel>,
    hub: Arc<Hub>,
    schedule: Schedule,
    /// One for all channels of the stream.
    plan: Arc<Plan>,
    /// Since when readings are wanted.
    watched_since: Instant,
    /// When the next poll is due.
    due: Instant,
    /// Hints do not count before: what the source asked for holds against them too.
    earliest: Instant,
    /// Polls in a row that were left out.
    left_out: u32,
    /// Why the last read failed, if it did.
    failing: Option<Cause>,
}

/// What ends a wait between two reads.
enum Wake {
    /// The next poll is due.
    Due,
    /// Another look is worth it before its time.
    Hint,
    /// Nobody wants the channel any more.
    Unwanted,
    /// The value has not been confirmed for too long.
    Stale,
}

impl<S: Source> Poller<S> {
    async fn run(&mut self) {
        if self.plan.always && self.channel.readers() == 0 {
            let start = self.schedule.unhurried_start(self.watched_since);
            tokio::select! {
                () = sleep_until(start.into()) => {}
                () = first_reader(&self.channel) => {}
            }
            self.due = Instant::now();
        }
        loop {
            if !self.plan.wants(&self.channel) {
                self.channel.no_poll_due();
                // What was confirmed less than an interval ago still stands; an older value does not.
                if self.channel.rest(self.due) {
                    self.source.rest();
                    if !rest(&self.channel, &self.hub, self.plan.keep).await {
                        return debug!(channel = self.channel.name(), "channel closed");
                    }
                }
                self.watched_since = Instant::now();
                if self.due <= self.watched_since {
                    self.schedule.restart();
                }
            }
            self.channel.poll_due(self.due, None);
            match self.wait().await {
                Wake::Due => {
                    if self.failing.is_none()
                        && self.left_out < LEFT_OUT
                        && let Some(held) = holds(&self.source, &self.plan)
                    {
                        self.left_out += 1;
                        self.channel.confirm_as_of(held);
                        let now = Instant::now();
                        self.due = self.schedule.next(now, now, Outcome::Unchanged, None);
                        continue;
                    }
                }
                Wake::Hint => self.schedule.restart(),
                Wake::Unwanted => continue,
                Wake::Stale => {
                    let cause = self.failing.unwrap_or(Cause::Timeout);
                    self.plan.mark_stale(&self.channel, cause);
                    continue;
                }
            }
            self.poll().await;
        }
    }

    /// Waits for the next poll, or for what comes before. One timer serves for all deadlines, as it is there for each channel.
    async fn wait(&mut self) -> Wake {
        let (channel, plan) = (&*self.channel, &self.plan);
        let stale_at = plan.stale_at(channel, self.watched_since);
        let stale_at = (self.failing.is_some() && stale_at > Instant::now()).then_some(stale_at);
        let hints = self.earliest <= Instant::now();
        let hint = hint(&mut self.source, plan);
        tokio::pin!(hint);
        loop {
            let changed = channel.demand_changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !plan.wants(channel) {
                return Wake::Unwanted;
            }
            let left = channel.unread_since().filter(|_| !plan.always);
            let deadlines = [stale_at, left.map(|left| left + plan.linger)];
            let until = deadlines.into_iter().flatten().fold(self.due, Instant::min);
            tokio::select! {
                () = sleep_until(until.into()) => {
                    if until == self.due {
                        return Wake::Due;
                    }
                    if Some(until) == stale_at {
                        return Wake::Stale;
                    }
                }
                () = &mut hint, if hints => return Wake::Hint,
                () = changed => {}
            }
        }
    }

    /// Reads, and tells what came of it.
    async fn poll(&mut self) {
        let began = Instant::now();
        self.left_out = 0;
        self.channel.no_poll_due();
        let read = self.read_once().await;
        let ended = Poll {
            began,
            took: began.elapsed(),
            result: match &read {
                Ok((result, _)) => *result,
                Err(_) => PollResult::Failed,
            },
            cause: read.as_ref().err().map(|error| error.cause.as_str()),
        };
        let (outcome, not_before) = match read {
            Ok((result, not_before)) => {
                if self.failing.take().is_some() {
                    info!(channel = self.channel.name(), "source answers again");
                }
                (outcome(result), not_before)
            }
            Err(error) => {
                tell_failure(&self.channel, &error, self.failing.is_none(), &self.plan);
                self.failing = Some(error.cause);
                (Outcome::Failed, error.retry_after)
            }
        };
        if let Some(remark) = self.source.remark()
            && self.hub.remark(self.channel.key().stream, remark)
        {
            warn!(
                channel = self.channel.name(),
                "{remark}; values stay shared between clients"
            );
        }
        let now = Instant::now();
        self.earliest = not_before.map_or(now, |wait| now + wait);
        self.due = self.schedule.next(began, now, outcome, not_before);
        self.channel.poll_due(self.due, Some(ended));
    }

    /// Reads once and tells the channel what came. Readers are told if it takes too long, while it goes on.
    async fn read_once(&mut self) -> Result<(PollResult, Option<Duration>), SourceError> {
        let (channel, plan) = (&*self.channel, &self.plan);
        let result = {
            let read = guarded_read(&mut self.source, channel, plan.gate.as_deref());
            tokio::pin!(read);
            loop {
                let stale_at = plan.stale_at(channel, self.watched_since);
                tokio::select! {
                    result = &mut read => break result,
                    () = sleep_until(stale_at.into()), if stale_at > Instant::now() => {
                        // What failed before is why; this read may yet end well.
                        plan.mark_stale(channel, self.failing.unwrap_or(Cause::Timeout));
                    }
                }
            }
        };
        let Answer {
            reading,
            not_before,
            ..
        } = result?;
        let result = match reading {
            Reading::NotModified => {
                channel.confirm();
                PollResult::NotModified
            }
            Reading::Unchanged => {
                channel.confirm();
                PollResult::Unchanged
            }
            Reading::Absent => changed(channel.vanish()),
            Reading::Value(value) => {
                // "Unchanged" must not stand for a reading that was no value.
                let value = select(&plan.select, &value).inspect_err(|error| {
                    self.source.forget();
                    count_failure(channel, error);
                })?;
                changed(channel.observe(value))
            }
        };
        channel.metrics().polls.inc(result);
        channel.count_saved();
        Ok((result, not_before))
    }
}

fn changed(changed: bool) -> PollResult {
    match changed {
        true => PollResult::Changed,
        false => PollResult::Unchanged,
    }
}

fn outcome(result: PollResult) -> Outcome {
    match result {
        PollResult::Changed => Outcome::Changed,
        PollResult::Unchanged | PollResult::NotModified => Outcome::Unchanged,
        PollResult::Failed => Outcome::Failed,
    }
}

fn count_failure(channel: &Channel, error: &SourceError) {
    let metrics = channel.metrics();
    metrics.polls.inc(PollResult::Failed);
    if let Some(cause) = Failure::named(error.cause.as_str()) {
        metrics.poll_failures.inc(cause);
    }
}

/// A read that has passed the gate, and whose panic is its failure.
async fn guarded_read<S: Source>(
    source: &mut S,
    channel: &Channel,
    gate: Option<&Gate>,
) -> Result<Answer, SourceError> {
    let pass = match gate {
        Some(gate) => {
            let open = |gate::Open(cause)| {
                SourceError::new(cause, "not tried: the upstream failed many times in a row")
            };
            Some(gate.pass().await.map_err(open)?)
        }
        None => None,
    };
    // Only what is sent counts as a poll: neither the wait for a turn nor what an open breaker refuses.
    let began = Instant::now();
    // Boxed, and only now: a read's state is large, there is none between reads, and all channels of an upstream may wait for
    // their turns.
    let read = Box::pin(source.read());
    let result = AssertUnwindSafe(read).catch_unwind().await;
    let result = result.unwrap_or_else(|_| {
        Err(SourceError::new(
            Cause::Malformed,
            "the reader panicked: this is a bug",
        ))
    });
    let took = began.elapsed().as_secs_f64();
    channel.metrics().poll_duration.observe(took);
    if let Err(error) = &result {
        count_failure(channel, error);
    }
    if let Some(gate) = gate {
        gate.report(result.as_ref().err().map(|error| error.cause));
    }
    drop(pass);
    result
}

fn select(selector: &Selector, value: &Value) -> Result<Value, SourceError> {
    if selector.is_root() {
        return Ok(value.clone());
    }
    selector
        .select(value)
        .map_err(|malformed| SourceError::new(Cause::Malformed, malformed.to_string()))
}

fn tell_failure(channel: &Channel, error: &SourceError, first: bool, plan: &Plan) {
    let (cause, detail) = (error.cause, error.detail.escape_debug());
    // Once in words that everybody sees; a source that stays away would fill the log.
    match first {
        true => warn!(channel = channel.name(), %cause, %detail, "source failed"),
        false => {
            debug!(channel = channel.name(), %cause, %detail, "source still fails")
        }
    }
    plan.mark_stale(channel, error.cause);
}

/// Waits until somebody comes to a channel that rests. Returns whether somebody did; `false`: the channel has left the hub, as
/// nobody had read it for `keep`.
pub(crate) async fn rest(channel: &Arc<Channel>, hub: &Hub, keep: Duration) -> bool {
    debug!(channel = channel.name(), "nobody reads: polling rests");
    loop {
        tokio::select! {
            () = channel.woken() => return true,
            () = sleep(keep) => {
                if hub.remove_unread(channel, Duration::ZERO) {
                    return false;
                }
            }
        }
    }
}

async fn first_reader(channel: &Channel) {
    loop {
        let changed = channel.demand_changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if channel.readers() > 0 {
            return;
        }
        changed.await;
    }
}

/// When the last reading is known to have held, if that is not so long ago that the value is nearly stale.
fn holds<S: Source>(source: &S, plan: &Plan) -> Option<Instant> {
    // A fifth of the time is left to read in.
    let enough = plan.stale_after.mul_f64(0.8);
    source
        .holds()
        .filter(|held| *held + enough > Instant::now())
}

/// Completes when another look is worth it before its time.
async fn hint<S: Source>(source: &mut S, plan: &Plan) {
    let recovered = async {
        match &plan.gate {
            Some(gate) => gate.recovered().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = recovered => {}
        () = source.hint() => {}
    }
}

#[cfg(test)]
mod tests;
