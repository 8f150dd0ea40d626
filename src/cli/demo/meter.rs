//! What the legacy API counts: every request for one of its resources, by outcome. Its own measure, not the gateway's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::world::Resource;

/// The rate is an average over so many seconds.
const WINDOW: usize = 10;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a body.
    Given,
    /// 304.
    NotModified,
    /// 500.
    Failed,
}

/// The counters since the start.
#[derive(Debug)]
pub(super) struct Meter {
    started: (Instant, SystemTime),
    resources: [Count; Resource::ALL.len()],
    /// How many requests there had been, about once a second, oldest first.
    seconds: Mutex<VecDeque<(Instant, u64)>>,
}

#[derive(Debug, Default)]
struct Count {
    requests: AtomicU64,
    not_modified: AtomicU64,
    failed: AtomicU64,
}

impl Meter {
    /// Counters at zero.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            started: (now, SystemTime::now()),
            resources: Default::default(),
            seconds: Mutex::new(VecDeque::from([(now, 0)])),
        }
    }

    /// Counts a request for the resource with this index in [`Resource::ALL`].
    pub(super) fn count(&self, index: usize, outcome: Outcome) {
        let count = &self.resources[index];
        count.requests.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::Given => {}
            Outcome::NotModified => drop(count.not_modified.fetch_add(1, Ordering::Relaxed)),
            Outcome::Failed => drop(count.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// To be called about once a second: notes where the rate is measured from.
    pub(super) fn second(&self, now: Instant) {
        let mut seconds = self.seconds.lock();
        if seconds.len() > WINDOW {
            seconds.pop_front();
        }
        seconds.push_back((now, self.sum(|count| &count.requests)));
    }

    /// The counters as JSON.
    pub(super) fn to_json(&self) -> Value {
        let (began, started) = self.started;
        let resources = Resource::ALL.iter().zip(&self.resources);
        let resources = resources.map(|(resource, count)| {
            json!({
                "path": resource.path(),
                "requests": count.requests.load(Ordering::Relaxed),
                "not_modified": count.not_modified.load(Ordering::Relaxed),
            })
        });
        json!({
            "started": humantime::format_rfc3339_seconds(started).to_string(),
            "uptime": began.elapsed().as_secs(),
            "requests": self.sum(|count| &count.requests),
            "not_modified": self.sum(|count| &count.not_modified),
            "failed": self.sum(|count| &count.failed),
            "per_second": self.per_second(),
            "resources": resources.collect::<Vec<_>>(),
        })
    }

    /// Rounded to tenths.
    fn per_second(&self) -> f64 {
        let seconds = self.seconds.lock();
        match (seconds.front(), seconds.back()) {
            (Some((from, first)), Some((to, last))) if from < to => {
                let rate = (last - first) as f64 / (*to - *from).as_secs_f64();
                (rate * 10.0).round() / 10.0
            }
            _ => 0.0,
        }
    }

    fn sum(&self, counter: impl Fn(&Count) -> &AtomicU64) -> u64 {
        let counters = self.resources.iter().map(counter);
        counters
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn requests_are_counted_by_resource_and_outcome() {
        let meter = Meter::new();
        meter.count(0, Outcome::Given);
        meter.count(1, Outcome::NotModified);
        meter.count(1, Outcome::Failed);
        let json = meter.to_json();
        assert_eq!(json["requests"], 3);
        assert_eq!(json["not_modified"], 1);
        assert_eq!(json["failed"], 1);
        assert_eq!(json["resources"][0]["requests"], 1);
        assert_eq!(json["resources"][1]["requests"], 2);
        assert_eq!(json["resources"][1]["path"], Resource::ALL[1].path());
    }

    #[test]
    fn the_rate_forgets_what_is_older_than_its_window() {
        let meter = Meter::new();
        let began = meter.started.0;
        let seconds = |n: u64| began + Duration::from_secs(n);
        assert_eq!(meter.to_json()["per_second"], 0.0);
        for _ in 0..15 {
            meter.count(0, Outcome::Given);
        }
        meter.second(seconds(1));
        assert_eq!(meter.to_json()["per_second"], 15.0);
        meter.second(seconds(4));
        assert_eq!(meter.to_json()["per_second"], 3.8);
        for n in 5..=15 {
            meter.second(seconds(n));
        }
        assert_eq!(meter.to_json()["per_second"], 0.0);
    }
}
