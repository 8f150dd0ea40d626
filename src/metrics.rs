//! What the gateway counts (CONTRACT.md §4). A handle travels with what it counts: a stream's with its channels and connections,
//! an upstream's with its clients. Handles are made once each, so that counting is one addition.
//!
//! This room knows no other. Labels are patterns and names of the file, or words of the closed sets in `label`: never what a
//! client chose (EDGE O7). Every series that a file can have is there from the start, with zero.

mod catalog;
mod exposition;
mod label;
mod process;
mod stream;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use catalog::Catalog;
use parking_lot::Mutex;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

pub use exposition::classic;
pub use label::{
    Closing, Counters, EventForm, EventKind, Failure, Label, Opening, PollResult, Protocol,
    Refusal, Reload, Resumption, StatusClass,
};
pub use stream::StreamMetrics;
pub use upstream::UpstreamMetrics;

/// Names and values of a series' labels.
type Labels = Vec<(&'static str, String)>;

/// A family of counters, one a word of `L` (and whatever other labels it has).
type CounterFamily = Family<Labels, Counter>;

/// Everything that is counted in this process.
pub struct Metrics {
    catalog: Catalog,
    streams: stream::Families,
    by_path: Mutex<BTreeMap<String, Arc<StreamMetrics>>>,
    upstream_requests: CounterFamily,
    by_upstream: Mutex<BTreeMap<String, Arc<UpstreamMetrics>>>,
    connections: Family<Labels, Gauge>,
    /// Requests that the gateway refused, by why.
    pub rejections: Counters<Refusal>,
    /// Readings of the file while running.
    pub reloads: Counters<Reload>,
}

/// The media type of the classic text format.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The media type of OpenMetrics 1.0.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// Counts from zero.
    pub fn new() -> Self {
        let mut catalog = Catalog::default();
        let streams = stream::Families::register(&mut catalog);
        let rejections = CounterFamily::default();
        catalog.add(
            "rejections",
            "Requests refused by the gateway",
            rejections.clone(),
        );
        let upstream_requests = CounterFamily::default();
        catalog.add(
            "upstream_requests",
            "Requests to upstreams, polls and passed-through ones, by the class of the answer's status; error: no answer",
            upstream_requests.clone(),
        );
        let reloads = CounterFamily::default();
        catalog.add(
            "reloads",
            "Readings of the configuration while running",
            reloads.clone(),
        );
        let connections = Family::<Labels, Gauge>::default();
        catalog.add(
            "connections_open",
            "Client connections",
            connections.clone(),
        );
        let build = Family::<Labels, Gauge>::default();
        catalog.add("build_info", "The version that runs", build.clone());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        build.get_or_create(&vec![("version", version)]).set(1);
        let process = Box::new(process::Process::new());
        catalog.registry.register_collector(process);
        Self {
            catalog,
            streams,
            by_path: Mutex::default(),
            upstream_requests,
            by_upstream: Mutex::default(),
            connections,
            rejections: Counters::of("reason", &[], &rejections),
            reloads: Counters::of("result", &[], &reloads),
        }
    }

    /// The counts of the stream whose path is `pattern`, made on first use.
    pub fn stream(&self, pattern: &str) -> Arc<StreamMetrics> {
        let mut known = self.by_path.lock();
        let made = || Arc::new(self.streams.stream(pattern));
        known.entry(pattern.to_owned()).or_insert_with(made).clone()
    }

    /// The counts of the upstream of this name, made on first use.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        let mut known = self.by_upstream.lock();
        let made = || {
            let labels = [("upstream", name.to_owned())];
            let requests = Counters::of("status_class", &labels, &self.upstream_requests);
            Arc::new(UpstreamMetrics::new(requests))
        };
        known.entry(name.to_owned()).or_insert_with(made).clone()
    }

    /// How many connections a listener has that speak `protocol`. `listener` is its address as configured.
    pub fn connections(&self, listener: &str, protocol: Protocol) -> Gauge {
        let labels = vec![
            ("listener", listener.to_owned()),
            ("protocol", protocol.as_str().to_owned()),
        ];
        self.connections.get_or_create_owned(&labels)
    }

    /// Everything, in OpenMetrics 1.0 text.
    pub fn open_metrics(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // A String takes everything.
        let _ = encode_registry(&mut text, &self.catalog.registry);
        text.push_str(&self.catalog.names_missing_in(&text));
        let _ = encode_eof(&mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// One more, until dropped.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// Counts now.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONTRACT §6 Admin: every name is exported from the start; EDGE O7: labels are closed.
    #[test]
    fn a_family_shows_its_name_before_anything_happened() {
        let text = classic(&Metrics::new().open_metrics());
        for line in [
            "# TYPE wellspring_streams_open gauge",
            "# TYPE wellspring_stream_opens_total counter",
            "# TYPE wellspring_stream_duration_seconds histogram",
            "# TYPE wellspring_upstream_requests_total counter",
            "wellspring_rejections_total{reason=\"not_found\"} 0",
            "wellspring_reloads_total{result=\"applied\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn one_stream_has_one_handle() {
        let metrics = Metrics::new();
        metrics.stream("/a").deliveries.inc();
        metrics.stream("/a").deliveries.inc();
        let text = metrics.open_metrics();
        assert!(
            text.contains("wellspring_deliveries_total{stream=\"/a\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("wellspring_polls_total{stream=\"/a\",result=\"not_modified\"} 0\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_held_is_given_back() {
        let gauge = Gauge::default();
        let held = (Held::new(&gauge), Held::new(&gauge));
        assert_eq!(gauge.get(), 2);
        drop(held);
        assert_eq!(gauge.get(), 0);
    }
}
