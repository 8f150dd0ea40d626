//! When the next poll is due: interval, phase, jitter, adaptation, back-off. Pure: time comes in, time goes out.
//!
//! Polls of a channel stand on a grid of `every`, counted from start to start; the grid's phase comes from the channel's
//! key, so that channels that begin together do not strike together, and neither do restarts (EDGE U17).

use std::time::{Duration, Instant};

/// The longest back-off, unless ten intervals are longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Bounds of an interval that follows the rate of change.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// While values change.
    pub min: Duration,
    /// While they do not.
    pub max: Duration,
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gave an event.
    Changed,
    /// It gave none.
    Unchanged,
    /// It failed.
    Failed,
}

/// The schedule of one channel.
#[derive(Debug)]
pub struct Schedule {
    every: Duration,
    adaptive: Option<Bounds>,
    /// The interval in force.
    interval: Duration,
    /// In 0..1: where in an interval this channel's polls stand.
    phase: f64,
    failures: u32,
    /// Whether the grid was laid.
    started: bool,
    /// The grid line of the last poll.
    line: Option<Instant>,
}

impl Schedule {
    /// A schedule whose phase is spread by `seed`, the hash of the channel's key.
    pub fn new(every: Duration, adaptive: Option<Bounds>, seed: u64) -> Self {
        Self {
            every,
            adaptive,
            interval: adaptive.map_or(every, |bounds| every.clamp(bounds.min, bounds.max)),
            phase: (seed >> 11) as f64 / (1_u64 << 53) as f64,
            failures: 0,
            started: false,
            line: None,
        }
    }

    /// When the first poll is due if nobody waits for it: somewhere within the first interval.
    pub fn unhurried_start(&self, now: Instant) -> Instant {
        now + self.interval.mul_f64(self.phase)
    }

    /// How many polls failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the poll after the one that began at `began` and ended now is due; not before `not_before` from now.
    pub fn next(
        &mut self,
        began: Instant,
        now: Instant,
        outcome: Outcome,
        not_before: Option<Duration>,
    ) -> Instant {
        let due = match outcome {
            Outcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.started = false;
                began + self.backoff()
            }
            Outcome::Changed | Outcome::Unchanged => {
                self.failures = 0;
                self.adapt(outcome);
                self.grid(began, now)
            }
        };
        let earliest = not_before.map_or(now, |wait| now + wait);
        due.max(earliest)
    }

    /// A poll out of turn begins the grid anew.
    pub fn restart(&mut self) {
        self.started = false;
    }

    /// The line after `began`, on a grid that the second poll lays between half an interval and a whole one after the
    /// first: phases spread, and nobody waits longer than an interval.
    fn grid(&mut self, began: Instant, now: Instant) -> Instant {
        let mut line = match self.line {
            Some(line) if self.started => line + self.interval,
            _ => began + self.interval.mul_f64(0.5 + self.phase / 2.0),
        };
        self.started = true;
        if line < now {
            // The poll took longer than an interval: lines that have passed are not made up for.
            let behind = now.duration_since(line).as_secs_f64() / self.interval.as_secs_f64();
            line += self.interval.mul_f64(behind.ceil());
        }
        self.line = Some(line);
        line
    }

    fn adapt(&mut self, outcome: Outcome) {
        if let Some(bounds) = self.adaptive {
            let factor = if outcome == Outcome::Changed {
                0.5
            } else {
                1.5
            };
            self.interval = self.interval.mul_f64(factor).clamp(bounds.min, bounds.max);
        }
    }

    /// Doubles with each failure, up to 60 s or ten intervals; 80 to 120 percent of it, as failures come together.
    fn backoff(&self) -> Duration {
        let longest = LONGEST_BACKOFF.max(self.every.saturating_mul(10));
        let doubled = self.every.saturating_mul(1 << (self.failures - 1).min(20));
        doubled.min(longest).mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn polls(schedule: &mut Schedule, count: usize, takes: Duration) -> Vec<Instant> {
        let mut at = Instant::now();
        (0..count)
            .map(|_| {
                let began = at;
                at = schedule.next(began, began + takes, Outcome::Unchanged, None);
                began
            })
            .collect()
    }

    /// From start to start, whatever a poll takes, and without drift.
    #[test]
    fn the_interval_counts_start_to_start() {
        let mut schedule = Schedule::new(SECOND, None, 7 << 60);
        let starts = polls(&mut schedule, 50, Duration::from_millis(400));
        assert!(starts[1] - starts[0] >= SECOND / 2 && starts[1] - starts[0] <= SECOND);
        for pair in starts[1..].windows(2) {
            assert_eq!(pair[1] - pair[0], SECOND);
        }
    }

    #[test]
    fn a_poll_longer_than_the_interval_skips_lines_and_never_doubles() {
        let mut schedule = Schedule::new(SECOND, None, 0);
        let starts = polls(&mut schedule, 10, Duration::from_millis(2500));
        for pair in starts[1..].windows(2) {
            assert_eq!((pair[1] - pair[0]).as_secs_f64().round(), 3.0);
        }
    }

    /// EDGE U17: what begins together does not go on together.
    #[test]
    fn phases_are_spread() {
        let now = Instant::now();
        let mut seconds: Vec<Duration> = (0..100_u64)
            .map(|key| {
                let seed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                Schedule::new(SECOND, None, seed).next(now, now, Outcome::Unchanged, None) - now
            })
            .collect();
        seconds.sort();
        assert!(
            seconds[25] < SECOND.mul_f64(0.7) && seconds[75] > SECOND.mul_f64(0.8),
            "{seconds:?}"
        );
    }

    /// EDGE U16.
    #[test]
    fn failures_back_off_to_a_bound_and_success_forgets_them() {
        let mut schedule = Schedule::new(SECOND, None, 0);
        let now = Instant::now();
        let waits: Vec<f64> = (0..12)
            .map(|_| (schedule.next(now, now, Outcome::Failed, None) - now).as_secs_f64())
            .collect();
        for (failures, wait) in waits.iter().enumerate() {
            let nominal = 2_f64.powi(failures as i32).min(60.0);
            assert!(
                (nominal * 0.79..nominal * 1.21).contains(wait),
                "{failures}: {wait}"
            );
        }
        assert!(schedule.next(now, now, Outcome::Unchanged, None) - now <= SECOND);
        let mut slow = Schedule::new(60 * SECOND, None, 0);
        let longest = (0..12)
            .map(|_| slow.next(now, now, Outcome::Failed, None) - now)
            .max();
        assert!(
            longest > Some(450 * SECOND),
            "ten intervals are longer than a minute: {longest:?}"
        );
    }

    /// EDGE U15: the source's wish lengthens and never shortens.
    #[test]
    fn a_wish_lengthens() {
        let now = Instant::now();
        let mut schedule = Schedule::new(SECOND, None, 0);
        assert_eq!(
            schedule.next(now, now, Outcome::Unchanged, Some(9 * SECOND)) - now,
            9 * SECOND
        );
        assert!(schedule.next(now, now, Outcome::Unchanged, Some(SECOND / 9)) - now > SECOND / 3);
    }

    #[test]
    fn adapts_between_its_bounds() {
        let bounds = Bounds {
            min: SECOND / 2,
            max: 8 * SECOND,
        };
        let mut schedule = Schedule::new(2 * SECOND, Some(bounds), 0);
        let mut now = Instant::now();
        let mut last = |schedule: &mut Schedule, outcome, times| {
            let mut wait = Duration::ZERO;
            for _ in 0..times {
                let due = schedule.next(now, now, outcome, None);
                wait = due - now;
                now = due;
            }
            wait
        };
        assert_eq!(last(&mut schedule, Outcome::Unchanged, 20), 8 * SECOND);
        assert_eq!(last(&mut schedule, Outcome::Changed, 20), SECOND / 2);
    }
}
