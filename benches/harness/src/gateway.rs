//! The gateway under test: its configuration, and its start.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::certificate::Certificate;
use crate::child::Leashed;
use crate::subject::{self, Pulse, Subject};
use crate::upstream::Upstream;

/// The path of the stream.
pub(crate) const PATH: &str = "/bench";

/// The key of the Redis stream.
pub(crate) const KEY: &str = "bench";

/// A binary that answered `--version`, and what its configuration may say.
#[derive(Debug)]
pub(crate) struct Gateway {
    program: PathBuf,
    folder: PathBuf,
    /// What it calls itself.
    pub(crate) version: String,
    options: Vec<&'static Feature>,
}

/// What feeds the stream.
#[derive(Debug)]
pub(crate) enum Feed {
    /// A poll of this upstream.
    Http(Arc<Upstream>),
    /// Polls of [`KEY`] on this server.
    Redis(SocketAddr),
}

/// A setting that the measurement wants and that a gateway may not have (yet): it is left out when `check` refuses it.
#[derive(Debug)]
struct Feature {
    name: &'static str,
    place: Place,
    text: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    RedisSource,
}

const FEATURES: [Feature; 3] = [
    Feature {
        name: "admin",
        place: Place::Top,
        text: "admin: off\n",
    },
    Feature {
        name: "limits.connects",
        place: Place::Top,
        text: "limits: {connects: 1000000/s, streams_per_client: 1000000}\n",
    },
    Feature {
        name: "redis.watch",
        place: Place::RedisSource,
        text: ", watch: poll",
    },
];

impl Gateway {
    /// Asks `program` for its version and which optional settings it knows. Files go to `folder`.
    pub(crate) fn find(program: &Path, folder: &Path) -> Outcome<Self> {
        let program = std::fs::canonicalize(program)
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut gateway = Self {
            program,
            folder: folder.to_owned(),
            version: String::new(),
            options: Vec::new(),
        };
        let (fine, words) = gateway.ask(&["--version".into()])?;
        if !fine {
            return Err(format!("--version failed: {words}").into());
        }
        gateway.version = words.lines().next().unwrap_or_default().to_owned();
        let every = Duration::from_secs(1);
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let file = gateway.folder.join("check.yaml");
        let redis = Source::Redis(anywhere);
        let check = |options: &[&'static Feature]| {
            std::fs::write(
                &file,
                configuration(&listener(anywhere, None), &redis, every, options),
            )?;
            gateway.ask(&["check".into(), file.clone().into()])
        };
        match check(&[])? {
            (true, _) => {}
            (false, words) => {
                return Err(format!("check refuses the plain configuration:\n{words}").into());
            }
        }
        let mut known = Vec::new();
        for feature in &FEATURES {
            if check(&[feature])?.0 {
                known.push(feature);
            }
        }
        gateway.options = known;
        Ok(gateway)
    }

    /// Names of the settings that it does not know.
    pub(crate) fn left_out(&self) -> Vec<&'static str> {
        let known = |feature: &Feature| {
            self.options
                .iter()
                .any(|option| option.name == feature.name)
        };
        FEATURES
            .iter()
            .filter(|feature| !known(feature))
            .map(|feature| feature.name)
            .collect()
    }

    /// Bytes of the binary.
    pub(crate) fn binary_size(&self) -> Outcome<u64> {
        Ok(std::fs::metadata(&self.program)?.len())
    }

    /// Starts it with one stream at [`PATH`]. It need not accept yet.
    pub(crate) fn start(&self, feed: Feed, every: Duration) -> Outcome<Subject> {
        self.start_over(feed, every, None)
    }

    /// Like [`Gateway::start`], over TLS when there is a certificate.
    pub(crate) fn start_over(
        &self,
        feed: Feed,
        every: Duration,
        certificate: Option<&Certificate>,
    ) -> Outcome<Subject> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, subject::free_port()?));
        let (source, pulse) = match feed {
            Feed::Http(upstream) => (Source::Http(upstream.address()), Pulse::Upstream(upstream)),
            Feed::Redis(server) => (Source::Redis(server), Pulse::Elsewhere),
        };
        let file = self.folder.join("wellspring.yaml");
        let listener = listener(address, certificate);
        std::fs::write(
            &file,
            configuration(&listener, &source, every, &self.options),
        )?;
        let arguments = [
            "run".into(),
            "--config".into(),
            file.into(),
            "--log-level".into(),
            "warn".into(),
        ];
        let child = Leashed::start(
            &self.program,
            &arguments,
            &self.folder.join("gateway.log"),
            false,
        )?;
        Ok(Subject {
            name: "gateway",
            child,
            address,
            pulse,
        })
    }

    /// Starts it on `listen` with everything passed through to `upstream`. It need not accept yet.
    pub(crate) fn pass(&self, listen: SocketAddr, upstream: SocketAddr) -> Outcome<Leashed> {
        let top = self
            .options
            .iter()
            .filter(|feature| feature.place == Place::Top);
        let top: String = top.map(|feature| feature.text).collect();
        let file = self.folder.join("pass.yaml");
        let text = format!(
            "listeners:\n  - address: {listen}\n{top}upstreams:\n  bench: {{url: \"http://{upstream}\"}}\n\
             routes:\n  - {{prefix: /, upstream: bench}}\n"
        );
        std::fs::write(&file, text)?;
        let arguments = [
            "run".into(),
            "--config".into(),
            file.into(),
            "--log-level".into(),
            "warn".into(),
        ];
        Leashed::start(
            &self.program,
            &arguments,
            &self.folder.join("pass.log"),
            false,
        )
    }

    /// Runs a command that ends by itself: whether it exited with 0, and what it said.
    fn ask(&self, arguments: &[OsString]) -> Outcome<(bool, String)> {
        let log = self.folder.join("ask.log");
        let mut child = Leashed::start(&self.program, arguments, &log, false)?;
        let status = child.finish(Duration::from_secs(10))?;
        Ok((status.success(), child.last_words()))
    }
}

/// Like [`Feed`], with addresses alone.
#[derive(Clone, Copy, Debug)]
enum Source {
    Http(SocketAddr),
    Redis(SocketAddr),
}

/// One item of `listeners`.
fn listener(address: SocketAddr, certificate: Option<&Certificate>) -> String {
    let tls = certificate.map_or(String::new(), |certificate| {
        format!(
            "    tls: {{certificates: [{{certificate: {:?}, key: {:?}}}]}}\n",
            certificate.chain, certificate.key
        )
    });
    format!("  - address: {address}\n{tls}")
}

fn configuration(listener: &str, source: &Source, every: Duration, options: &[&Feature]) -> String {
    let of = |place: Place| -> String {
        options
            .iter()
            .filter(|feature| feature.place == place)
            .map(|feature| feature.text)
            .collect()
    };
    let mut text = format!("listeners:\n{listener}{}", of(Place::Top));
    // Writing to a string cannot fail.
    let _ = match source {
        Source::Http(address) => write!(
            text,
            "upstreams:\n  bench: {{url: \"http://{address}\"}}\n\
             streams:\n  - path: {PATH}\n    http: {{upstream: bench, path: /value}}\n"
        ),
        Source::Redis(address) => write!(
            text,
            "redis:\n  bench: {{url: \"redis://{address}/0\"}}\n\
             streams:\n  - path: {PATH}\n    redis: {{server: bench, key: {KEY}{}}}\n",
            of(Place::RedisSource)
        ),
    };
    let _ = write!(
        text,
        "    every: {}ms\n    heartbeat: 15s\n",
        every.as_millis()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_settings_stand_where_they_belong() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let options: Vec<&Feature> = FEATURES.iter().collect();
        let every = Duration::from_millis(100);
        let plain = listener(address, None);
        let redis = configuration(&plain, &Source::Redis(address), every, &options);
        assert!(redis.contains("\nadmin: off\nlimits: "), "{redis}");
        assert!(
            redis.contains("{server: bench, key: bench, watch: poll}\n    every: 100ms\n"),
            "{redis}"
        );
        let http = configuration(&plain, &Source::Http(address), every, &[]);
        assert!(
            !http.contains("admin") && http.contains("url: \"http://127.0.0.1:80\""),
            "{http}"
        );
    }
}
