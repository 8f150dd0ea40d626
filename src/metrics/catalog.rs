//! The registry, and the names in it: the registry does not show a family that has no series yet.

use std::fmt::Write as _;

use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::registry::{Metric, Registry};

/// What is exported.
#[derive(Default)]
pub(super) struct Catalog {
    pub(super) registry: Registry,
    names: Vec<(String, &'static str, &'static str)>,
}

impl Catalog {
    /// Exports a family under `wellspring_` and this name, a counter's without `_total`.
    pub(super) fn add<M: Metric + TypedMetric>(
        &mut self,
        name: &'static str,
        help: &'static str,
        family: M,
    ) {
        let kind = match M::TYPE {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            _ => "unknown",
        };
        let full = format!("wellspring_{name}");
        self.registry.register(full.as_str(), help, family);
        self.names.push((full, kind, help));
    }

    /// The lines that name the families of which `text` shows none.
    pub(super) fn names_missing_in(&self, text: &str) -> String {
        let mut lines = String::new();
        for (name, kind, help) in &self.names {
            let line = format!("# TYPE {name} {kind}\n");
            if !text.contains(&line) {
                let _ = write!(lines, "# HELP {name} {help}.\n{line}");
            }
        }
        lines
    }
}
