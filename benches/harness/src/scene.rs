//! What is measured, one file a table. Each gives a [`Section`](crate::report::Section) or says why it cannot.

mod beside;
mod capacity;
mod carried;
mod channels;
mod compression;
mod delivery;
mod fanout;
mod idle;
mod memory;
mod passthrough;
mod polls;
mod rate;
mod slow;
mod start;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::args::{Options, Table};
use crate::gateway::{Feed, Gateway, PATH, Settings};
use crate::payload::VALUE_BYTES;
use crate::report::Section;
use crate::subject::{Own, Subject};
use crate::swarm::{self, Swarm};
use crate::upstream::{Shape, Upstream};
use crate::{Outcome, process};

/// Long enough for any step that ends by a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two events of most tables.
const TICK: Duration = Duration::from_millis(100);

/// Descriptors that a process may hold beyond those it had with one client: a poll under way, and the like.
const SPARE: usize = 8;

/// What every scene needs.
#[derive(Debug)]
pub(crate) struct Bench<'b> {
    /// How to measure, with counts that the limits allow.
    pub(crate) options: &'b Options,
    /// What to measure.
    pub(crate) gateway: &'b Gateway,
    /// For files of a run.
    pub(crate) folder: &'b Path,
}

/// What came of a table.
#[derive(Debug)]
pub(crate) enum Played {
    /// It was made.
    Measured(Section),
    /// It does not apply here, and why.
    LeftOut(String),
}

/// Makes one table.
pub(crate) fn play(table: Table, bench: &Bench<'_>) -> Outcome<Played> {
    let measure = match table {
        Table::Polls => polls::http,
        Table::Redis => return polls::redis(bench),
        Table::Watch => return watch::measure(bench),
        Table::Channels => channels::measure,
        Table::Memory => memory::measure,
        Table::Carried => carried::measure,
        Table::Capacity => capacity::measure,
        Table::Idle => idle::measure,
        Table::Fanout => fanout::measure,
        Table::Rate => rate::measure,
        Table::Slow => slow::measure,
        Table::Compression => return compression::measure(bench),
        Table::Beside => beside::measure,
        Table::Passthrough => passthrough::measure,
        Table::Start => start::measure,
    };
    measure(bench).map(Played::Measured)
}

/// Which of the two is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Broadcaster,
    Gateway,
}

impl Bench<'_> {
    /// Starts one, silent: with a first event for newcomers and no more until it is told to beat. A gateway polls each
    /// [`TICK`].
    fn subject(&self, kind: Kind) -> Outcome<Subject> {
        match kind {
            Kind::Broadcaster => Subject::own(Own::Broadcaster, self.folder),
            Kind::Gateway => {
                let upstream = Arc::new(Upstream::start(Shape::Padded(VALUE_BYTES))?);
                let settings = Settings::polling(TICK);
                self.gateway.start(Feed::Http(upstream), &settings)
            }
        }
    }

    /// Anonymous memory at rest, bytes: also after what allocators give back to the system within a second or so. A
    /// quick run does not wait for that.
    fn weigh(&self, pid: u32) -> Outcome<u64> {
        let quiet = match self.options.quick {
            true => Duration::from_millis(100),
            false => Duration::from_millis(1_500),
        };
        process::settled(pid, quiet)
    }

    /// Clients of `subject`, not connected yet; it accepts already.
    fn swarm(&self, subject: &mut Subject, clients: usize) -> Outcome<Swarm> {
        self.swarm_of(subject, swarm::Path::One(PATH), clients)
    }

    /// Like [`Bench::swarm`], with other paths.
    fn swarm_of(&self, subject: &mut Subject, path: swarm::Path, clients: usize) -> Outcome<Swarm> {
        crate::subject::connect(subject.address, &mut subject.child, Duration::from_secs(10))?;
        let threads = self.options.client_threads.min(clients);
        Swarm::new(subject.address, path, clients, threads)
    }
}
