//! When an event stream that ended is opened again. Pure.

use std::time::Duration;

/// Until the upstream says how long.
const DEFAULT: Duration = Duration::from_secs(1);
/// What an upstream can ask for: neither a storm nor a stop.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(300);
/// The longest pause after failures, unless the upstream asks for more.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A connection that stood for so long was one, though no event came over it.
const STEADY: Duration = Duration::from_secs(30);

/// Pauses that double with each attempt that came to nothing.
#[derive(Debug)]
pub(super) struct Pace {
    retry: Duration,
    failures: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry: DEFAULT,
            failures: 0,
        }
    }
}

impl Pace {
    /// The upstream sent `retry`.
    pub(super) fn ask(&mut self, retry: Duration) {
        self.retry = retry.clamp(SHORTEST, LONGEST);
    }

    /// An event came.
    pub(super) fn progress(&mut self) {
        self.failures = 0;
    }

    /// The connection stood for so long.
    pub(super) fn stood(&mut self, time: Duration) {
        if time >= STEADY {
            self.failures = 0;
        }
    }

    /// How long to wait before the next attempt; 80 to 120 percent of it, as many gateways may have lost the same upstream.
    pub(super) fn pause(&mut self) -> Duration {
        let longest = LONGEST_BACKOFF.max(self.retry);
        let doubled = self.retry.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(longest).mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_about(pause: Duration, seconds: f64) -> bool {
        (0.8 * seconds..=1.2 * seconds).contains(&pause.as_secs_f64())
    }

    /// EDGE U16.
    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_with_an_event() {
        let mut pace = Pace::default();
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let pause = pace.pause();
            assert!(is_about(pause, seconds), "{pause:?} for {seconds}");
        }
        for _ in 0..100 {
            pace.pause();
        }
        pace.stood(STEADY / 2);
        assert!(is_about(pace.pause(), 60.0), "a short life is a failure");
        pace.stood(STEADY);
        assert!(is_about(pace.pause(), 1.0));
        pace.progress();
        assert!(is_about(pace.pause(), 1.0));
    }

    /// EDGE E8: what the upstream asks for is bounded both ways.
    #[test]
    fn the_upstreams_retry_is_obeyed_within_bounds() {
        for (asked, seconds) in [(0, 0.5), (2_500, 2.5), (90_000, 90.0), (u64::MAX, 300.0)] {
            let mut pace = Pace::default();
            pace.ask(Duration::from_millis(asked));
            assert!(is_about(pace.pause(), seconds), "{asked}");
        }
    }
}
