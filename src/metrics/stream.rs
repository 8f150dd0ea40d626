//! What is counted for one stream of the file.

use prometheus_client::metrics::family::Family;

use super::catalog::Catalog;
use super::label::{
    Closing, Counters, EventForm, EventKind, Failure, Opening, PollResult, Resumption,
};
use super::{Counter, CounterFamily, Gauge, Histogram, Labels};

/// The counts of one stream; those of several readings of the file go on in one.
#[derive(Debug)]
pub struct StreamMetrics {
    /// Event streams that are open.
    pub open: Gauge,
    /// Requests for the event stream.
    pub opens: Counters<Opening>,
    /// Ends of event streams.
    pub closes: Counters<Closing>,
    /// How long event streams lived, in seconds.
    pub duration: Histogram,
    /// Events made, once for all who get them.
    pub events: Counters<EventKind>,
    /// Their bytes, in each form.
    pub event_bytes: Counters<EventForm>,
    /// Events given to clients.
    pub deliveries: Counter,
    /// From the end of a source's reading to the last write of its event in one thread, in seconds.
    pub lag: Histogram,
    /// Clients that were moved to the newest value because they were too far behind.
    pub conflations: Counter,
    /// Clients that came back with an id.
    pub resumes: Counters<Resumption>,
    /// Distinct resources that are followed.
    pub channels: Gauge,
    /// Polls.
    pub polls: Counters<PollResult>,
    /// How long they took, in seconds.
    pub poll_duration: Histogram,
    /// Why they failed.
    pub poll_failures: Counters<Failure>,
    /// Channels whose value is not confirmed any more.
    pub stale: Gauge,
    /// Polls that clients would have made by themselves: answers given from a shared value.
    pub saved: Counter,
    /// Messages of the source that could not be delivered.
    pub dropped: Counter,
    /// Bytes that patches were shorter than the values they stand for, over all who got them.
    pub patch_savings: Counter,
}

impl StreamMetrics {
    /// An event was made.
    pub fn event(&self, kind: EventKind, form: EventForm, bytes: usize) {
        self.events.inc(kind);
        self.event_bytes.add(form, bytes as u64);
    }

    /// These counts of polls, and others that nobody exports.
    #[must_use]
    pub fn polls_only(&self) -> Self {
        Self {
            polls: self.polls.clone(),
            poll_duration: self.poll_duration.clone(),
            poll_failures: self.poll_failures.clone(),
            dropped: self.dropped.clone(),
            ..Self::default()
        }
    }
}

/// Counts that nobody exports.
impl Default for StreamMetrics {
    fn default() -> Self {
        Families::default().stream("")
    }
}

/// The families that streams have a series in.
#[derive(Clone, Debug, Default)]
pub(super) struct Families {
    open: Family<Labels, Gauge>,
    opens: CounterFamily,
    closes: CounterFamily,
    duration: Lifetimes,
    events: CounterFamily,
    event_bytes: CounterFamily,
    deliveries: CounterFamily,
    lag: Delays,
    conflations: CounterFamily,
    resumes: CounterFamily,
    channels: Family<Labels, Gauge>,
    polls: CounterFamily,
    poll_duration: Delays,
    poll_failures: CounterFamily,
    stale: Family<Labels, Gauge>,
    saved: CounterFamily,
    dropped: CounterFamily,
    patch_savings: CounterFamily,
}

impl Families {
    pub(super) fn register(catalog: &mut Catalog) -> Self {
        let new = Self::default();
        catalog.add("streams_open", "Open event streams", new.open.clone());
        catalog.add(
            "stream_opens",
            "Requests for event streams",
            new.opens.clone(),
        );
        catalog.add("stream_closes", "Ends of event streams", new.closes.clone());
        catalog.add(
            "stream_duration_seconds",
            "Life of event streams",
            new.duration.0.clone(),
        );
        catalog.add(
            "events",
            "Events made, once for all who get them",
            new.events.clone(),
        );
        catalog.add(
            "event_bytes",
            "Bytes of the events made",
            new.event_bytes.clone(),
        );
        catalog.add(
            "deliveries",
            "Events given to clients",
            new.deliveries.clone(),
        );
        catalog.add(
            "delivery_lag_seconds",
            "From the end of a reading to the write of its event",
            new.lag.0.clone(),
        );
        catalog.add(
            "conflations",
            "Slow clients moved to the newest value",
            new.conflations.clone(),
        );
        catalog.add(
            "resumes",
            "Clients that came back with an id",
            new.resumes.clone(),
        );
        catalog.add(
            "channels",
            "Distinct resources that are followed",
            new.channels.clone(),
        );
        catalog.add("polls", "Polls of the source", new.polls.clone());
        catalog.add(
            "poll_duration_seconds",
            "Duration of polls",
            new.poll_duration.0.clone(),
        );
        catalog.add(
            "poll_failures",
            "Polls that failed",
            new.poll_failures.clone(),
        );
        catalog.add(
            "channel_stale",
            "Channels whose value is not confirmed any more",
            new.stale.clone(),
        );
        catalog.add(
            "client_polls_saved",
            "Answers given from a shared value",
            new.saved.clone(),
        );
        catalog.add(
            "messages_dropped",
            "Messages of the source that could not be delivered",
            new.dropped.clone(),
        );
        catalog.add(
            "patch_saved_bytes",
            "Bytes that patches were shorter than their values",
            new.patch_savings.clone(),
        );
        new
    }

    /// All series of one stream.
    pub(super) fn stream(&self, pattern: &str) -> StreamMetrics {
        let labels = vec![("stream", pattern.to_owned())];
        let counter = |family: &CounterFamily| family.get_or_create_owned(&labels);
        StreamMetrics {
            open: self.open.get_or_create_owned(&labels),
            opens: Counters::of("outcome", &labels, &self.opens),
            closes: Counters::of("reason", &labels, &self.closes),
            duration: self.duration.0.get_or_create_owned(&labels),
            events: Counters::of("kind", &labels, &self.events),
            event_bytes: Counters::of("form", &labels, &self.event_bytes),
            deliveries: counter(&self.deliveries),
            lag: self.lag.0.get_or_create_owned(&labels),
            conflations: counter(&self.conflations),
            resumes: Counters::of("result", &labels, &self.resumes),
            channels: self.channels.get_or_create_owned(&labels),
            polls: Counters::of("result", &labels, &self.polls),
            poll_duration: self.poll_duration.0.get_or_create_owned(&labels),
            poll_failures: Counters::of("cause", &labels, &self.poll_failures),
            stale: self.stale.get_or_create_owned(&labels),
            saved: counter(&self.saved),
            dropped: counter(&self.dropped),
            patch_savings: counter(&self.patch_savings),
        }
    }
}

type HistogramFamily = Family<Labels, Histogram, fn() -> Histogram>;

/// Histograms of what should be quick.
#[derive(Clone, Debug)]
struct Delays(HistogramFamily);

impl Default for Delays {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| {
            Histogram::new([
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                10.0,
            ])
        }))
    }
}

/// Histograms of how long event streams live.
#[derive(Clone, Debug)]
struct Lifetimes(HistogramFamily);

impl Default for Lifetimes {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| {
            Histogram::new([
                1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21_600.0,
                86_400.0,
            ])
        }))
    }
}
