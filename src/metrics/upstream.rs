//! What is counted for one upstream of the file.

use std::sync::OnceLock;

use super::label::{Counters, StatusClass};

/// The counts of one upstream.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    requests: Counters<StatusClass>,
    personal: OnceLock<&'static str>,
}

impl UpstreamMetrics {
    pub(super) fn new(requests: Counters<StatusClass>) -> Self {
        Self {
            requests,
            personal: OnceLock::new(),
        }
    }

    /// It answered with this status.
    pub fn answered(&self, status: u16) {
        self.requests.inc(StatusClass::of(status));
    }

    /// It gave no answer.
    pub fn failed(&self) {
        self.requests.inc(StatusClass::Error);
    }

    /// How many requests it was sent.
    pub fn requests(&self) -> u64 {
        self.requests.total()
    }

    /// It said with `what` that an answer to a shared poll is for one client only (EDGE I3). Returns whether that is new.
    pub fn is_personal(&self, what: &'static str) -> bool {
        self.personal.set(what).is_ok()
    }

    /// With what it said that an answer to a shared poll is for one client only.
    pub fn personal(&self) -> Option<&'static str> {
        self.personal.get().copied()
    }
}
