//! Replicas that share channels through Redis: the log of a channel is in Redis, one replica writes it, all follow it.
//!
//! ```text
//! source ─► poller ─► draft channel ─► lead ─► shared log (Redis) ─► member, on every replica ─► channel ─► clients
//! ```
//!
//! The discipline: nothing is given to a client before it stands in the shared log, so that no id is ever known to one replica
//! alone. The replica that holds a resource's lease reads the source, into a draft that no client sees; what that draft makes of
//! the readings is appended, and then followed like everybody else's. Fencing is Redis's: an append is refused unless the lease is
//! the writer's and the newest change is the one that it knows. The lease follows demand: only who has readers asks for it.
//!
//! What a replica has stays when Redis is away; it is told to be stale when nobody has confirmed it for too long.

mod lead;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::channel::past::Past;
use crate::channel::{Channel, Hub};
use crate::poller::{self, Plan};
use crate::source::redis_log::{Claimed, Entry, Follower, SharedLog, Token, Told};
use crate::source::{Cause, SourceError};
use crate::sse::EntryId;

/// After which Redis is asked again when it failed to answer, at first and at most.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(4);

/// How often a log that is told of is read all the same, as a safety net.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// Reads the source into a draft, until it is dropped.
pub type Writer = Box<dyn Fn() -> (Arc<Channel>, BoxFuture<'static, ()>) + Send + Sync>;

/// How long replicas read the source in turn.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// From poll start to poll start; `None`: it is listened to, or published, and has no interval.
    pub every: Option<Duration>,
    /// How long a replica that does not renew it has the lease: 2 intervals, so that another polls within 3.
    pub lease: Duration,
}

/// One replica's part in a shared channel.
pub struct Member {
    /// What its clients read. Nobody writes into it but this.
    pub channel: Arc<Channel>,
    /// Where it stands.
    pub hub: Arc<Hub>,
    /// The log.
    pub log: SharedLog,
    /// Reads the source while the lease is ours; `None`: whoever publishes writes.
    pub writer: Option<Writer>,
    /// When it is followed.
    pub plan: Arc<Plan>,
    /// How long the lease is ours.
    pub term: Term,
}

/// What a member has of the log.
#[derive(Debug)]
struct View {
    /// Since when it is followed.
    since: Instant,
    /// The newest entry.
    at: EntryId,
    /// How things stand by it.
    standing: Option<Past>,
}

/// Why following ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody wants the channel.
    Unwanted,
    /// The process, or the stream.
    Stopped,
}

impl View {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            at: EntryId::ZERO,
            standing: None,
        }
    }

    /// The server may have lost what it had.
    fn forget(&mut self) {
        (self.at, self.standing) = (EntryId::ZERO, None);
    }
}

impl Member {
    /// Follows the log until nobody can want the channel any more, or until `stop`; then the lease is given up.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            // Others may read on: whoever comes back here waits until the log was read.
            if !self.plan.wants(&self.channel) && self.channel.rest(Instant::now()) {
                tokio::select! {
                    somebody = poller::rest(&self.channel, &self.hub, self.plan.keep) => {
                        if !somebody {
                            return debug!(channel = self.channel.name(), "channel closed");
                        }
                    }
                    () = stop.cancelled() => return,
                }
            }
            let token = Token::new();
            let end = self.follow(&token, stop).await;
            if self.writer.is_some() {
                // Should this fail it ends by itself.
                let _ = self.log.release(&token).await;
            }
            if end == End::Stopped {
                return;
            }
        }
    }

    async fn follow(&self, token: &Token, stop: &CancellationToken) -> End {
        let mut follower = self.log.follow();
        let mut view = View::new();
        // When the server is asked next: how the log stands, and for the lease. Not while nothing is told.
        let mut ask: Option<Instant> = None;
        let mut failing: Option<Cause> = None;
        let mut retry = RETRY;
        loop {
            let stale_at = self.stale_at(&view);
            // Whoever has the lease says now and then that the source confirms the value, or that it does not.
            let silent_at = stale_at.map(|at| at + self.term.lease);
            let done = tokio::select! {
                told = follower.next() => match told {
                    Told::Up => {
                        // Another server may be there, or nothing of what there was.
                        view.forget();
                        ask = Some(Instant::now());
                        continue;
                    }
                    Told::Entry(entry) => {
                        if !self.take(&mut view, &entry) {
                            ask = Some(Instant::now());
                        }
                        Ok(())
                    }
                    Told::Missed | Told::Released => {
                        ask = Some(Instant::now());
                        continue;
                    }
                    Told::Down(error) => {
                        ask = None;
                        Err(error)
                    }
                },
                () = due(ask) => match self.ask(&mut view, token, &mut follower, stop).await {
                    Ok(Asked::End(end)) => return end,
                    Ok(Asked::AgainIn(wait)) => {
                        ask = Some(Instant::now() + wait);
                        Ok(())
                    }
                    Err(error) => {
                        ask = Some(Instant::now() + retry.mul_f64(0.5 + fastrand::f64() / 2.0));
                        retry = (retry * 2).min(LONGEST_RETRY);
                        Err(error)
                    }
                },
                () = coming(stale_at), if failing.is_some() => {
                    self.mark_stale(failing.unwrap_or(Cause::Redis));
                    continue;
                }
                () = coming(silent_at), if self.writer.is_some() => {
                    self.mark_stale(Cause::Redis);
                    continue;
                }
                () = self.plan.unwanted(&self.channel) => return End::Unwanted,
                () = stop.cancelled() => return End::Stopped,
            };
            match done {
                Ok(()) => {
                    retry = RETRY;
                    if failing.take().is_some() {
                        info!(
                            channel = self.channel.name(),
                            "the shared log answers again"
                        );
                    }
                }
                Err(error) => {
                    self.tell_failure(&error, failing.is_none());
                    failing = Some(error.cause);
                    self.mark_stale(error.cause);
                }
            }
        }
    }

    /// Asks how the log stands, and for the lease; leads as long as it is ours.
    async fn ask(
        &self,
        view: &mut View,
        token: &Token,
        follower: &mut Follower,
        stop: &CancellationToken,
    ) -> Result<Asked, SourceError> {
        let Some(writer) = &self.writer else {
            self.read_published(view).await?;
            return Ok(Asked::AgainIn(READ_AGAIN));
        };
        let asked = Instant::now();
        let claimed = self.log.claim(token, self.term.lease).await?;
        if claimed.at != view.at {
            if claimed.at < view.at {
                view.forget();
            }
            self.catch_up(view).await?;
        }
        // What was confirmed so lately holds, whoever reads the source; if nothing is written yet, it is about to be.
        let standing = view.standing.clone().filter(|_| self.holds(&claimed));
        if let Some(standing) = standing {
            self.follow_past(view, view.at, &standing.confirmed(claimed.age));
        }
        if claimed.won {
            debug!(channel = self.channel.name(), "reading for all replicas");
            let lead = lead::Lead::new(self, writer, token, asked, &claimed);
            let end = lead.run(view, follower, stop).await;
            debug!(
                channel = self.channel.name(),
                ?end,
                "not reading for all replicas any more"
            );
            return Ok(match end? {
                Some(end) => Asked::End(end),
                // Whatever it was, the source must not be read in a loop.
                None => Asked::AgainIn(self.term.lease / 4),
            });
        }
        // A little later than it can be free, and not all at once.
        let jitter = self.term.lease.mul_f64(fastrand::f64() / 10.0);
        Ok(Asked::AgainIn(claimed.left + jitter))
    }

    /// Whether what is in the log stands for the source until it is read again: by whoever reads it, or here when its interval is over.
    fn holds(&self, claimed: &Claimed) -> bool {
        let Some(every) = self.term.every else {
            return true;
        };
        let most = match claimed.won {
            true => every,
            false => self.plan.stale_after,
        };
        claimed.age.is_some_and(|age| age < most)
    }

    /// No source has what was published: the log has it. One that was lost is written again.
    async fn read_published(&self, view: &mut View) -> Result<(), SourceError> {
        if !self.catch_up(view).await? {
            let past = self.channel.since(None).newest_only().fresh();
            if !past.is_empty() {
                let (base, newest) = (past.base().to_string(), past.known().to_string());
                self.log.found(&base, &newest, &past.write()).await?;
            }
        }
        self.channel.confirm();
        Ok(())
    }

    /// Takes what is in the log and not here yet. Whether anybody still reads the source, the lease tells. Returns whether there was
    /// anything.
    async fn catch_up(&self, view: &mut View) -> Result<bool, SourceError> {
        let entries = self.log.after(view.at).await?;
        let read = |entry: &Entry| Some((entry.at, self.read(entry)?.unsettled()));
        let mut pasts: Vec<_> = entries.iter().filter_map(read).collect();
        // What is known is not told again: neither the values, nor how things stood between them.
        let held = |(_, past): &(EntryId, Past)| self.channel.holds(past.known());
        if let Some(last) = pasts.iter().rposition(held) {
            pasts.drain(..last);
            pasts[0].1 = pasts[0].1.standing();
        }
        let Some((at, last)) = pasts.last() else {
            return Ok(false);
        };
        (view.at, view.standing) = (*at, Some(last.standing()));
        if let Err(error) = self.channel.follow_all(pasts.iter().map(|(_, past)| past)) {
            warn!(channel = self.channel.name(), %error, "a shared value cannot be read");
        }
        Ok(true)
    }

    /// Takes an entry that comes right after what is here. Returns whether it does: else something was missed.
    fn take(&self, view: &mut View, entry: &Entry) -> bool {
        if entry.at <= view.at {
            return true;
        }
        let known = view
            .standing
            .as_ref()
            .map(|standing| standing.known().to_string());
        if known.as_ref() != Some(&entry.base) {
            return false;
        }
        if let Some(past) = self.read(entry) {
            self.follow_past(view, entry.at, &past);
        }
        true
    }

    fn follow_past(&self, view: &mut View, at: EntryId, past: &Past) {
        if let Err(error) = self.channel.follow(past) {
            warn!(channel = self.channel.name(), %error, "a shared value cannot be read");
        }
        view.at = at;
        view.standing = Some(past.standing());
    }

    fn read(&self, entry: &Entry) -> Option<Past> {
        let past = Past::read(&entry.base, &entry.past, entry.age);
        if past.is_none() {
            let channel = self.channel.name();
            warn!(channel, at = %entry.at, "what stands in the shared log is nothing that this release knows");
        }
        past
    }

    /// When silence is to be told; `None`: there is no such time.
    fn stale_at(&self, view: &View) -> Option<Instant> {
        let at = self.plan.stale_at(&self.channel, view.since);
        self.term.every.map(|_| at)
    }

    /// Tells readers that nobody confirms the value any more: in an interval's time, where there is one.
    fn mark_stale(&self, cause: Cause) {
        match self.term.every {
            Some(_) => self.plan.mark_stale(&self.channel, cause),
            None => self.channel.stale(cause.as_str()),
        }
    }

    fn tell_failure(&self, error: &SourceError, first: bool) {
        let (channel, cause, detail) = (
            self.channel.name(),
            error.cause,
            error.detail.escape_debug(),
        );
        match first {
            true => warn!(channel, %cause, %detail, "the shared log does not answer"),
            false => debug!(channel, %cause, %detail, "the shared log still does not answer"),
        }
    }
}

/// What came of asking for the lease.
enum Asked {
    AgainIn(Duration),
    End(End),
}

/// Completes at a time that is still to come.
async fn coming(at: Option<Instant>) {
    due(at.filter(|at| *at > Instant::now())).await;
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("channel", &self.channel.name())
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}
