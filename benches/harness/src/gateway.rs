//! The gateway under test: its configuration, and its start.

mod file;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::child::Leashed;
use crate::publisher::{Publisher, Target};
use crate::subject::{self, Pulse, Subject};
use crate::upstream::Upstream;
use file::Source;
pub(crate) use file::{Settings, Watch};

/// The path of the stream; of many streams, what is before their number.
pub(crate) const PATH: &str = "/bench";

/// Where messages are posted.
pub(crate) const PUBLISH: &str = "/publish";

/// How long a gateway may take to accept.
const START: Duration = Duration::from_secs(10);

/// A binary that answered `--version`.
#[derive(Debug)]
pub(crate) struct Gateway {
    program: PathBuf,
    folder: PathBuf,
    /// What it calls itself.
    pub(crate) version: String,
}

/// What feeds the stream.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Polls of one resource of this upstream.
    Http(Arc<Upstream>),
    /// Polls of this upstream: of a resource for each number behind [`PATH`].
    Many(Arc<Upstream>),
    /// A key on this Redis server.
    Redis(SocketAddr, Watch),
    /// Messages that are posted to it.
    Published,
}

impl Gateway {
    /// Asks `program` for its version. Files go to `folder`.
    pub(crate) fn find(program: &Path, folder: &Path) -> Outcome<Self> {
        let program = std::fs::canonicalize(program)
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut gateway = Self {
            program,
            folder: folder.to_owned(),
            version: String::new(),
        };
        let (fine, words) = gateway.ask(&["--version".into()])?;
        if !fine {
            return Err(format!("--version failed: {words}").into());
        }
        gateway.version = words.lines().next().unwrap_or_default().to_owned();
        Ok(gateway)
    }

    /// Why it refuses `settings`, if it does.
    pub(crate) fn refuses(&self, settings: &Settings<'_>) -> Outcome<Option<String>> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let file = self.folder.join("check.yaml");
        std::fs::write(
            &file,
            file::stream(anywhere, Source::Http(anywhere), settings),
        )?;
        let (fine, words) = self.ask(&["check".into(), file.into()])?;
        Ok((!fine).then_some(words))
    }

    /// Bytes of the binary.
    pub(crate) fn binary_size(&self) -> Outcome<u64> {
        Ok(std::fs::metadata(&self.program)?.len())
    }

    /// Starts it with a stream at [`PATH`]. It need not accept yet, unless it is [`Feed::Published`].
    pub(crate) fn start(&self, feed: Feed, settings: &Settings<'_>) -> Outcome<Subject> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, subject::free_port()?));
        let source = match &feed {
            Feed::Http(upstream) => Source::Http(upstream.address()),
            Feed::Many(upstream) => Source::Many(upstream.address()),
            Feed::Redis(server, watch) => Source::Redis(*server, *watch),
            Feed::Published => Source::Published,
        };
        let mut child = self.run("gateway", &file::stream(address, source, settings))?;
        let pulse = match feed {
            Feed::Http(upstream) | Feed::Many(upstream) => Pulse::Upstream(upstream),
            Feed::Redis(..) => Pulse::Elsewhere,
            Feed::Published => {
                subject::connect(address, &mut child, START)?;
                let target = Target::Post {
                    address,
                    path: PUBLISH,
                };
                Pulse::Published(Publisher::start(target)?)
            }
        };
        Ok(Subject {
            name: "gateway",
            child,
            address,
            pulse,
        })
    }

    /// Starts it on `listen` with everything passed through to `upstream`. It need not accept yet.
    pub(crate) fn pass(&self, listen: SocketAddr, upstream: SocketAddr) -> Outcome<Leashed> {
        self.run("pass", &file::pass(listen, upstream))
    }

    fn run(&self, name: &str, configuration: &str) -> Outcome<Leashed> {
        let file = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&file, configuration)?;
        let arguments = [
            "run".into(),
            "--config".into(),
            file.into(),
            "--log-level".into(),
            "warn".into(),
        ];
        let log = self.folder.join(format!("{name}.log"));
        Leashed::start(&self.program, &arguments, &log, false)
    }

    /// Runs a command that ends by itself: whether it exited with 0, and what it said.
    fn ask(&self, arguments: &[OsString]) -> Outcome<(bool, String)> {
        let log = self.folder.join("ask.log");
        let mut child = Leashed::start(&self.program, arguments, &log, false)?;
        let status = child.finish(Duration::from_secs(10))?;
        Ok((status.success(), child.last_words()))
    }
}
