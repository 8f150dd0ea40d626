//! Tells whoever waits that something happened, without missing anything.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts what happened. Small, as there is one for each channel.
#[derive(Debug, Default)]
pub(super) struct Version {
    count: AtomicU64,
    told: Notify,
}

impl Version {
    /// Something happened.
    pub(super) fn advance(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Waits for what happens from now on.
    pub(super) fn watch(&self) -> Versions<'_> {
        let seen = self.count.load(Ordering::Acquire);
        Versions {
            version: self,
            seen,
        }
    }
}

/// Waits for what happens in a channel.
#[derive(Debug)]
pub struct Versions<'c> {
    version: &'c Version,
    seen: u64,
}

impl Versions<'_> {
    /// What has happened so far is known.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.version.count.load(Ordering::Acquire);
    }

    /// Something has happened that is not known.
    pub fn mark_changed(&mut self) {
        self.seen = self.version.count.load(Ordering::Acquire).wrapping_sub(1);
    }

    /// Completes when something has happened that was not known, and takes it for known. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            // Told of everything from here on, though it waits only later.
            let told = self.version.told.notified();
            let now = self.version.count.load(Ordering::Acquire);
            if now != self.seen {
                self.seen = now;
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_happens_is_told_once() {
        let version = Version::default();
        version.advance();
        let mut versions = version.watch();
        assert!(versions.changed().now_or_never().is_none(), "it is known");
        version.advance();
        version.advance();
        assert!(versions.changed().now_or_never().is_some());
        assert!(versions.changed().now_or_never().is_none());
        version.advance();
        versions.mark_unchanged();
        assert!(versions.changed().now_or_never().is_none());
        versions.mark_changed();
        assert!(versions.changed().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let version = std::sync::Arc::new(Version::default());
        let watched = version.clone();
        let (ready, begun) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(async move {
            let mut versions = watched.watch();
            ready.send(()).expect("awaited");
            versions.changed().await;
        });
        begun.await.expect("sent");
        version.advance();
        waiting.await.expect("woken");
    }
}
