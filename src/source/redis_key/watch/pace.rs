//! How often a key is read because of announcements.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Between two readings of a key that changes all the time.
const SHORTEST: Duration = Duration::from_millis(2);
/// Between two readings of a key that is announced all the time and does not change.
const LONGEST: Duration = Duration::from_millis(500);

/// A pause after each reading, which nobody notices who does not come within it. It doubles with each reading that was
/// taken for nothing.
#[derive(Debug)]
pub(super) struct Pace {
    last: Option<Instant>,
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            last: None,
            pause: SHORTEST,
        }
    }
}

impl Pace {
    /// Waits until the next reading may be taken.
    pub(super) async fn turn(&self) {
        if let Some(last) = self.last {
            sleep_until((last + self.pause).into()).await;
        }
    }

    /// A reading begins.
    pub(super) fn reading(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now > last + 2 * self.pause) {
            self.pause = SHORTEST;
        }
        self.last = Some(now);
    }

    /// It ended; whether it found anything new.
    pub(super) fn found(&mut self, changed: bool) {
        self.pause = match changed {
            true => SHORTEST,
            false => (2 * self.pause).min(LONGEST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pace: &mut Pace, at: Instant, changed: bool) -> Duration {
        pace.reading(at);
        pace.found(changed);
        pace.pause
    }

    #[test]
    fn readings_for_nothing_become_rare_and_changes_stay_quick() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut pause = SHORTEST;
        for _ in 0..20 {
            assert_eq!(read(&mut pace, now, true), SHORTEST);
            now += SHORTEST;
        }
        for _ in 0..20 {
            pause = read(&mut pace, now, false);
            now += pause;
        }
        assert_eq!(pause, LONGEST);
        assert_eq!(read(&mut pace, now, true), SHORTEST);
    }

    /// Somebody writes the same value now and then: the next change waits for nothing.
    #[test]
    fn readings_with_time_between_them_are_not_slowed_down() {
        let mut pace = Pace::default();
        let now = Instant::now();
        for second in 0..20 {
            let at = now + Duration::from_secs(second);
            assert_eq!(read(&mut pace, at, false), 2 * SHORTEST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_counts_from_the_last_reading() {
        let mut pace = Pace::default();
        let began = tokio::time::Instant::now();
        pace.turn().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        pace.reading(began.into_std());
        pace.turn().await;
        let waited = began.elapsed();
        assert!(waited >= SHORTEST && waited < 2 * SHORTEST, "{waited:?}");
    }
}
