//! What the system says about this process, under the names that Prometheus's own clients use. Read at each scrape.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Process {
    /// The metrics are made as the process starts to serve.
    pub(super) fn new() -> Self {
        Self {
            started: SystemTime::now(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
            seconds(usage.user_time()) + seconds(usage.system_time())
        });
        let metric = encoder.encode_descriptor(
            "process_cpu_seconds",
            "User and system CPU time.",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(cpu).encode(metric)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |name| field(&status, name).map_or(0, |kib| kib * 1024);
        // The entry of the folder itself is not ours.
        let descriptors =
            fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        for (name, help, value) in [
            (
                "process_open_fds",
                "Open file descriptors.",
                descriptors as f64,
            ),
            (
                "process_max_fds",
                "File descriptors that may be open.",
                limit as f64,
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory.",
                kib("VmRSS:") as f64,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory.",
                kib("VmSize:") as f64,
            ),
            (
                "process_threads",
                "Threads.",
                field(&status, "Threads:").unwrap_or_default() as f64,
            ),
            (
                "process_start_time_seconds",
                "When it began to serve, since 1970.",
                started.as_secs_f64(),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// The number behind `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "VmSize:"), None);
    }
}
