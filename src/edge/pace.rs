//! How slowly a client may send a body (EDGE B7): silence between bytes is bounded elsewhere, a byte now and then is here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::sleep_until;

/// The least that a client must send of a body in the mean, once it has had some time to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// So long any rate will do.
    pub(super) grace: Duration,
    /// Bytes a second.
    pub(super) rate: u32,
}

impl Default for Floor {
    /// The slowest links that people use bring some hundred bytes a second. Who holds a place for an hour pays 360 kB for it.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            rate: 100,
        }
    }
}

/// A body under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    floor: Floor,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(floor: Floor, begun: Instant) -> Self {
        Self {
            floor,
            begun,
            bytes: 0,
        }
    }

    /// So many bytes more have come.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// More must have come by then, or the body must have ended.
    pub(super) fn until(&self) -> Instant {
        let paid = Duration::from_secs(self.bytes / u64::from(self.floor.rate.max(1)));
        let time = paid.max(self.floor.grace);
        // Nobody pays for a time that no clock can say.
        self.begun.checked_add(time).unwrap_or(self.begun)
    }

    pub(super) fn is_too_slow(&self, now: Instant) -> bool {
        now > self.until()
    }
}

/// When the last of a body came that HTTP/2 carries: of such a body nobody but us bounds the silence, not even once its request
/// has been answered.
#[derive(Debug)]
pub(super) struct Heard {
    /// `None`: all of it has come.
    last: Mutex<Option<Instant>>,
}

impl Heard {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            last: Mutex::new(Some(Instant::now())),
        })
    }

    /// Something has come, perhaps the end.
    pub(super) fn some(&self, is_end: bool) {
        let mut last = self.last.lock();
        if last.is_some() {
            *last = (!is_end).then(Instant::now);
        }
    }

    /// Completes when nothing came for `silence` and more should.
    pub(super) async fn nothing_for(&self, silence: Duration) {
        loop {
            let until = self.last.lock().and_then(|last| last.checked_add(silence));
            match until {
                Some(until) if until <= Instant::now() => return,
                Some(until) => sleep_until(until.into()).await,
                None => return std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// EDGE B7: a byte each 29 seconds is too slow from the 31st on, whatever was announced; what pays for its time is not.
    #[test]
    fn a_drip_is_cut_and_a_slow_link_is_not() {
        let begun = Instant::now();
        let mut drip = Pace::new(Floor::default(), begun);
        drip.add(1);
        assert!(!drip.is_too_slow(begun + seconds(30)), "it has its grace");
        drip.add(1);
        assert!(drip.is_too_slow(begun + seconds(31)));

        let mut slow = Pace::new(Floor::default(), begun);
        for second in 1..=3600 {
            slow.add(100);
            assert!(!slow.is_too_slow(begun + seconds(second)), "{second}");
        }
        assert!(slow.is_too_slow(begun + seconds(3601)));
    }

    /// A long upload that rests for a while has paid for it.
    #[test]
    fn an_upload_may_rest() {
        let begun = Instant::now();
        let mut upload = Pace::new(Floor::default(), begun);
        upload.add(1 << 20);
        assert!(!upload.is_too_slow(begun + seconds(10_000)));
        upload.add(usize::MAX);
        assert!(!upload.is_too_slow(begun + seconds(100_000)));
    }

    /// Only a body that has not ended is waited for.
    #[tokio::test(start_paused = true)]
    async fn silence_is_told_from_an_end() {
        let heard = Heard::new();
        let short = Duration::from_millis(1);
        heard.nothing_for(short).await;
        heard.some(true);
        heard.some(false);
        let over = tokio::time::timeout(seconds(3600), heard.nothing_for(short)).await;
        assert!(over.is_err(), "it has ended");
    }
}
