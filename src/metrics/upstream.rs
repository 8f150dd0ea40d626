//! What is counted for one upstream of the file.

use super::label::{Counters, StatusClass};

/// The counts of one upstream.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    requests: Counters<StatusClass>,
}

impl UpstreamMetrics {
    pub(super) fn new(requests: Counters<StatusClass>) -> Self {
        Self { requests }
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
}
