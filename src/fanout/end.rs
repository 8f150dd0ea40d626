//! How a stream ended, and who is told.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tracing::error;

use crate::sse;

/// How long a client whose token has expired may take for the bytes on their way and its end: less than a second (EDGE A6).
pub(super) const EXPIRY: Duration = Duration::from_millis(800);

/// How long a jump of the wall's clock, which tokens go by (EDGE O12), may go unnoticed.
pub(super) const WALL: Duration = Duration::from_secs(1);

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// We ended it, and its client has been told why.
    Closed(Closing),
    /// The client closed its connection, or the network did.
    ClientLeft,
    /// The client took no bytes for too long (EDGE B3, X5).
    Stalled,
    /// A fault of ours, or of the system.
    Error,
    /// The process stopped before the stream's turn to end had come.
    Stopped,
}

/// What `closing` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closing {
    /// It lasted as long as a stream may (EDGE L16).
    MaxAge,
    /// The gateway stops (EDGE L14).
    Drain,
    /// The client's token is valid no longer (EDGE A6).
    TokenExpired,
    /// The definition of the stream has changed.
    Reload,
}

impl Reason {
    /// Every reason, for counters that exist from the start.
    pub const ALL: [Self; 8] = [
        Self::Closed(Closing::MaxAge),
        Self::Closed(Closing::Drain),
        Self::Closed(Closing::TokenExpired),
        Self::Closed(Closing::Reload),
        Self::ClientLeft,
        Self::Stalled,
        Self::Error,
        Self::Stopped,
    ];

    /// In logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed(closing) => closing.as_str(),
            Self::ClientLeft => "client-left",
            Self::Stalled => "stalled",
            Self::Error => "error",
            Self::Stopped => "stopped",
        }
    }
}

impl Closing {
    /// As the client is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxAge => "max-age",
            Self::Drain => "drain",
            Self::TokenExpired => "token-expired",
            Self::Reload => "reload",
        }
    }

    /// The last event: when to come again, somewhere between the two given, or as the client was told before; and why.
    pub(super) fn event(self, retry: Option<(Duration, Duration)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some((shortest, longest)) = retry {
            let shortest = shortest.as_millis() as u64;
            let longest = (longest.as_millis() as u64).max(shortest);
            let retry = Duration::from_millis(fastrand::u64(shortest..=longest));
            sse::push_retry(&mut bytes, retry);
        }
        let data = format!(r#"{{"reason":"{}"}}"#, self.as_str());
        sse::push_event(&mut bytes, Some("closing"), None, &data);
        bytes
    }
}

/// A stream that is over.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// What the client's connection took, before encryption: over HTTP/2 of the body, else with the response head.
    pub bytes: u64,
    /// Events and notices that were given to it.
    pub events: u64,
    /// Since the hand-over.
    pub duration: Duration,
}

/// Told once when a stream is over, however it ended: by a panic and by the end of the process too.
pub trait Ended: Send + fmt::Debug {
    /// It is over. Called on a thread that serves streams: must not block.
    fn ended(self: Box<Self>, end: &End);
}

/// Sees to it that the observer of a stream is told, on every way out.
#[derive(Debug)]
pub(super) struct Account {
    observer: Option<Box<dyn Ended>>,
    opened: Instant,
}

impl Account {
    pub(super) fn open(observer: Option<Box<dyn Ended>>) -> Self {
        Self {
            observer,
            opened: Instant::now(),
        }
    }

    /// The stream is over.
    pub(super) fn close(&mut self, reason: Reason, bytes: u64, events: u64) {
        let Some(observer) = self.observer.take() else {
            return;
        };
        let end = End {
            reason,
            bytes,
            events,
            duration: self.opened.elapsed(),
        };
        // A fault of the observer must not be one of whoever drops this.
        if catch_unwind(AssertUnwindSafe(|| observer.ended(&end))).is_err() {
            error!("the end of a stream could not be told");
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close(Reason::Error, 0, 0);
    }
}

#[cfg(test)]
pub(super) mod told {
    //! An observer that passes on what it is told.

    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{End, Ended};

    #[derive(Debug)]
    struct Told(Sender<End>);

    impl Ended for Told {
        fn ended(self: Box<Self>, end: &End) {
            // A test may not care.
            let _ = self.0.send(*end);
        }
    }

    pub(in crate::fanout) fn observer() -> (Option<Box<dyn Ended>>, Receiver<End>) {
        let (sender, told) = channel();
        (Some(Box::new(Told(sender))), told)
    }
}
