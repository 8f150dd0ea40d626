//! What all polls of one upstream share: how many at once, how many a second, and whether it is worth trying.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::source::Cause;

/// So many polls of an upstream must fail in a row, over all its channels, before the breaker opens.
const THRESHOLD: u32 = 10;
/// How long an open breaker waits before it lets one poll through, at first and at most.
const SHORTEST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// The gate that polls of one upstream pass.
#[derive(Debug)]
pub struct Gate {
    slots: Semaphore,
    budget: Option<RateLimiter<NotKeyed, InMemoryState, DefaultClock>>,
    breaker: Mutex<Breaker>,
    recovered: Notify,
}

/// Leave to poll, until dropped.
#[derive(Debug)]
pub struct Pass<'a>(#[expect(dead_code, reason = "held for its Drop")] SemaphorePermit<'a>);

/// The breaker is open: the upstream failed many times in a row, last with this cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open(pub Cause);

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open: Option<OpenState>,
}

#[derive(Debug)]
struct OpenState {
    cause: Cause,
    rest: Duration,
    probe_at: Instant,
}

impl Gate {
    /// `concurrent` polls at once; `budget` is count and period.
    pub fn new(concurrent: usize, budget: Option<(NonZeroU32, Duration)>) -> Self {
        let budget = budget.and_then(|(count, period)| {
            // One at a time, evenly: a burst would be what the budget is there to prevent.
            Quota::with_period(period / count.get()).map(RateLimiter::direct)
        });
        Self {
            slots: Semaphore::new(concurrent.max(1)),
            budget,
            breaker: Mutex::default(),
            recovered: Notify::new(),
        }
    }

    /// Waits for a slot and for the budget. An open breaker refuses at once, but for one poll now and then.
    pub async fn pass(&self) -> Result<Pass<'_>, Open> {
        self.breaker.lock().admit(Instant::now())?;
        let slot = self.slots.acquire().await;
        // The semaphore is never closed.
        let slot = slot.map_err(|_| Open(Cause::Connect))?;
        if let Some(budget) = &self.budget {
            // Boxed: what few upstreams have is not to take room in each channel.
            Box::pin(budget.until_ready()).await;
        }
        Ok(Pass(slot))
    }

    /// Tells the breaker how a poll ended: with an answer, whatever it said, or without one.
    pub fn report(&self, failure: Option<Cause>) {
        if self.breaker.lock().report(failure, Instant::now()) {
            self.recovered.notify_waiters();
        }
    }

    /// Completes when the breaker closes.
    pub async fn recovered(&self) {
        self.recovered.notified().await;
    }
}

impl Breaker {
    fn admit(&mut self, now: Instant) -> Result<(), Open> {
        match &mut self.open {
            Some(open) if now < open.probe_at => Err(Open(open.cause)),
            Some(open) => {
                // This one is the probe; the next one waits for its outcome, or longer than the last.
                open.rest = (open.rest * 2).min(LONGEST_REST);
                open.probe_at = now + open.rest;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns whether it has just closed.
    fn report(&mut self, failure: Option<Cause>, now: Instant) -> bool {
        match failure {
            Some(cause @ (Cause::Timeout | Cause::Connect | Cause::Tls)) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= THRESHOLD && self.open.is_none() {
                    let rest = SHORTEST_REST;
                    self.open = Some(OpenState {
                        cause,
                        rest,
                        probe_at: now + rest,
                    });
                }
                false
            }
            _ => {
                self.failures = 0;
                self.open.take().is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_opens_lets_probes_through_and_closes() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 0..THRESHOLD {
            assert_eq!(breaker.admit(now), Ok(()));
            assert!(!breaker.report(Some(Cause::Connect), now));
        }
        assert_eq!(breaker.admit(now), Err(Open(Cause::Connect)));
        now += SHORTEST_REST;
        assert_eq!(breaker.admit(now), Ok(()), "one probe");
        assert_eq!(
            breaker.admit(now),
            Err(Open(Cause::Connect)),
            "and only one"
        );
        breaker.report(Some(Cause::Connect), now);
        now += LONGEST_REST;
        assert_eq!(breaker.admit(now), Ok(()));
        assert!(breaker.report(None, now), "an answer closes it");
        assert_eq!(breaker.admit(now), Ok(()));
    }

    /// An upstream that answers with errors is there: each channel backs off by itself.
    #[test]
    fn answers_never_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.report(Some(Cause::Status), Instant::now());
        }
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
    }

    /// `budget` spreads, it does not drop.
    #[tokio::test]
    async fn the_budget_spreads_polls() {
        let gate = Gate::new(
            64,
            NonZeroU32::new(50).map(|count| (count, Duration::from_secs(1))),
        );
        let began = Instant::now();
        for _ in 0..6 {
            gate.pass().await.expect("closed");
        }
        assert!(
            began.elapsed() >= Duration::from_millis(95),
            "{:?}",
            began.elapsed()
        );
    }

    #[tokio::test]
    async fn slots_bound_what_runs_at_once() {
        let gate = Gate::new(1, None);
        let first = gate.pass().await.expect("closed");
        let second = gate.pass();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(second.await.is_ok());
    }
}
