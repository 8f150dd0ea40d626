//! The configuration files of the gateway.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::{PATH, PUBLISH};
use crate::certificate::Certificate;
use crate::redis::KEY;

/// What feeds the stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Polls of one resource of this upstream.
    Http(SocketAddr),
    /// Polls of a resource each channel, which go on after its client has left.
    Many(SocketAddr),
    /// [`KEY`] on this server.
    Redis(SocketAddr, Watch),
    /// Messages posted to [`PUBLISH`].
    Published,
}

/// How a change of a key is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Client tracking.
    Tracking,
    /// Keyspace notifications.
    Keyspace,
    /// Polls alone.
    Poll,
    /// Client tracking by one of several replicas, which share what it finds.
    Shared,
}

impl Watch {
    /// The word in the file.
    fn word(self) -> &'static str {
        match self {
            Self::Tracking | Self::Shared => "tracking",
            Self::Keyspace => "keyspace",
            Self::Poll => "poll",
        }
    }
}

/// What a file says besides addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'s> {
    /// Between two polls.
    pub(crate) every: Duration,
    /// The stream's.
    pub(crate) heartbeat: Duration,
    /// How long a client may take nothing.
    pub(crate) write_stall: Duration,
    /// Whether events are compressed.
    pub(crate) gzip: bool,
    /// For TLS.
    pub(crate) certificate: Option<&'s Certificate>,
}

impl Settings<'_> {
    /// Polls each `every`; the rest is as the gateway has it by itself.
    pub(crate) fn polling(every: Duration) -> Self {
        Self {
            every,
            heartbeat: Duration::from_secs(15),
            write_stall: Duration::from_secs(15),
            gzip: false,
            certificate: None,
        }
    }
}

/// One stream at [`PATH`].
pub(super) fn stream(listen: SocketAddr, source: Source, settings: &Settings<'_>) -> String {
    let mut text = top(listen, settings);
    // Writing to a string cannot fail.
    let _ = match source {
        Source::Http(address) => write!(
            text,
            "upstreams:\n  bench: {{url: \"http://{address}\"}}\n\
             streams:\n  - path: {PATH}\n    http: {{upstream: bench, path: /value}}\n"
        ),
        Source::Many(address) => write!(
            text,
            "upstreams:\n  bench: {{url: \"http://{address}\"}}\n\
             streams:\n  - path: {PATH}/{{n}}\n    http: {{upstream: bench, path: \"/value/{{n}}\"}}\n    linger: 5m\n"
        ),
        Source::Redis(address, watch) => write!(
            text,
            "{}redis:\n  bench: {{url: \"redis://{address}/0\"}}\n\
             streams:\n  - path: {PATH}\n    redis: {{server: bench, key: {KEY}, watch: {}}}\n",
            match watch {
                Watch::Shared => "cluster: {redis: bench}\n",
                Watch::Tracking | Watch::Keyspace | Watch::Poll => "",
            },
            watch.word(),
        ),
        Source::Published => write!(
            text,
            "streams:\n  - path: {PATH}\n    publish: {{path: {PUBLISH}}}\n"
        ),
    };
    if !matches!(source, Source::Published) {
        let _ = writeln!(text, "    every: {}ms", settings.every.as_millis());
    }
    let _ = writeln!(text, "    heartbeat: {}ms", settings.heartbeat.as_millis());
    text
}

/// Everything passes through to `upstream`.
pub(super) fn pass(listen: SocketAddr, upstream: SocketAddr) -> String {
    let top = top(listen, &Settings::polling(Duration::from_secs(1)));
    format!(
        "{top}upstreams:\n  bench: {{url: \"http://{upstream}\"}}\nroutes:\n  - {{prefix: /, upstream: bench}}\n"
    )
}

/// The listener, and limits that a benchmark does not reach.
fn top(listen: SocketAddr, settings: &Settings<'_>) -> String {
    let mut text = format!("listeners:\n  - address: {listen}\n");
    // Writing to a string cannot fail.
    if let Some(certificate) = settings.certificate {
        let _ = writeln!(
            text,
            "    tls: {{certificates: [{{certificate: {:?}, key: {:?}}}]}}",
            certificate.chain, certificate.key
        );
    }
    let _ = writeln!(
        text,
        "admin: off\nlimits: {{connects: 1000000/s, streams_per_client: 1000000, write_stall: {}ms}}",
        settings.write_stall.as_millis()
    );
    if settings.gzip {
        text.push_str("compression: gzip\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn each_source_has_its_keys() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let settings = Settings::polling(Duration::from_millis(100));
        let redis = stream(address, Source::Redis(address, Watch::Poll), &settings);
        assert!(
            redis.contains("key: bench, watch: poll}\n    every: 100ms\n    heartbeat: 15000ms\n"),
            "{redis}"
        );
        let shared = stream(address, Source::Redis(address, Watch::Shared), &settings);
        assert!(
            shared.contains("cluster: {redis: bench}\n") && shared.contains("watch: tracking}"),
            "{shared}"
        );
        let many = stream(address, Source::Many(address), &settings);
        assert!(many.contains("path: /bench/{n}\n"), "{many}");
        let gzip = Settings {
            gzip: true,
            ..settings
        };
        let published = stream(address, Source::Published, &gzip);
        assert!(
            published.contains("\ncompression: gzip\n") && !published.contains("every"),
            "{published}"
        );
    }
}
