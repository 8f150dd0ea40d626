//! One clock for all processes of a run: `CLOCK_MONOTONIC`, which counts from the same instant in each of them.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since an instant that is the same in every process of this machine.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock is never negative (clock_gettime(2)).
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// `duration` in nanoseconds, as this clock counts.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
