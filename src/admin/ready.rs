//! Whether the gateway can be sent clients (CONTRACT.md §4, EDGE O11).

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::Running;
use crate::edge::accept::Failures;
use crate::fanout::Fanout;

/// How long a thread may take to show that it turns.
const PATIENCE: Duration = Duration::from_secs(2);
/// A poll that is due may be late by so many intervals, but no less and no more than these.
const INTERVALS: u32 = 5;
const SHORTEST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Why clients should not be sent here; empty: they may be.
pub(super) async fn faults(
    running: &Running,
    fanout: &Fanout,
    failures: &Failures,
    stop: &watch::Receiver<bool>,
) -> Vec<String> {
    let mut faults = Vec::new();
    if *stop.borrow() {
        faults.push("draining".to_owned());
    }
    let failed = failures.all();
    faults.extend(
        failed
            .iter()
            .map(|address| format!("listener {address} failed")),
    );
    if timeout(PATIENCE, fanout.answers()).await.is_err() {
        faults.push("a fan-out thread does not answer".to_owned());
    }
    // A task of its own, so that it is not only this one's thread that turns.
    let beat = tokio::spawn(tokio::time::sleep(Duration::from_millis(1)));
    if timeout(PATIENCE, beat).await.is_err() {
        faults.push("tasks and timers do not run".to_owned());
    }
    faults.extend(standstill(running, Instant::now()));
    faults
}

/// A poll that is overdue: its task is gone, or held up by something that it must not wait for. A poll that is under way is not
/// due, however long it takes; it has deadlines of its own.
fn standstill(running: &Running, now: Instant) -> Option<String> {
    let late = |(index, stream): (usize, &std::sync::Arc<crate::config::Stream>)| {
        let allowed = (stream.every * INTERVALS).clamp(SHORTEST_DELAY, LONGEST_DELAY);
        let overdue = |due: Instant| now.saturating_duration_since(due) > allowed;
        let channels = running.channels(index);
        let late = channels
            .iter()
            .any(|channel| channel.polls().due.is_some_and(overdue));
        late.then(|| format!("polling stands still: {}", stream.path.as_str()))
    };
    running.config.streams.iter().enumerate().find_map(late)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::channel::{Channel, ChannelKey, Hub, Spec, StreamId};
    use crate::config;
    use crate::params::Params;

    /// CONTRACT §4: not ready when the poll scheduler stands still, and only then.
    #[test]
    fn a_poll_that_never_comes_is_a_fault() {
        let file = "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: off\nupstreams: {a: {url: \"http://127.0.0.1:1\"}}\nstreams: [{path: /a, http: {upstream: a}, every: 3s}]\n";
        let config = config::parse("test.yaml", file, &|_| None).expect("is good");
        let open = |key: &ChannelKey| Arc::new(Channel::new(key.clone(), Spec::plain("/a")));
        let (stream, hub) = (StreamId::new(), Arc::<Hub>::default());
        hub.add(stream, 10, Box::new(open));
        let key = ChannelKey::shared(stream, Params::default());
        let subscription = hub.subscribe(&key).expect("fits");
        let running = Running {
            config: Arc::new(config),
            ids: vec![stream],
            hub,
        };
        let now = Instant::now();
        assert_eq!(standstill(&running, now), None);
        subscription.channel().poll_due(now, None);
        assert_eq!(standstill(&running, now + Duration::from_secs(15)), None);
        assert!(standstill(&running, now + Duration::from_secs(16)).is_some());
        subscription.channel().no_poll_due();
        assert_eq!(standstill(&running, now + Duration::from_secs(16)), None);
    }
}
