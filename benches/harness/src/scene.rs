//! What is measured, one file a table. Each gives a [`Section`](crate::report::Section) or says why it cannot.

mod carried;
mod fanout;
mod memory;
mod passthrough;
mod polls;
mod start;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::args::{Options, Table};
use crate::gateway::{Feed, Gateway, PATH};
use crate::payload::VALUE_BYTES;
use crate::report::Section;
use crate::subject::Subject;
use crate::swarm::Swarm;
use crate::upstream::Upstream;

/// Long enough for any step that ends by a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two events of the memory and fan-out tables.
const TICK: Duration = Duration::from_millis(100);

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

/// Makes one table; `None` when it does not apply here.
pub(crate) fn play(table: Table, bench: &Bench<'_>) -> Outcome<Option<Section>> {
    match table {
        Table::Polls => polls::http(bench).map(Some),
        Table::Redis => polls::redis(bench),
        Table::Memory => memory::measure(bench).map(Some),
        Table::Carried => carried::measure(bench).map(Some),
        Table::Fanout => fanout::measure(bench).map(Some),
        Table::Passthrough => passthrough::measure(bench).map(Some),
        Table::Start => start::measure(bench).map(Some),
    }
}

/// Which of the two is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Broadcaster,
    Gateway,
}

impl Bench<'_> {
    /// Starts one, silent: with a first event for newcomers and no more until it is told to be live.
    fn subject(&self, kind: Kind) -> Outcome<Subject> {
        match kind {
            Kind::Broadcaster => Subject::broadcaster(TICK, self.folder),
            Kind::Gateway => {
                let upstream = Arc::new(Upstream::start(VALUE_BYTES)?);
                self.gateway.start(Feed::Http(upstream), TICK)
            }
        }
    }

    /// Clients of `subject`, not connected yet; it accepts already.
    fn swarm(&self, subject: &mut Subject, clients: usize) -> Outcome<Swarm> {
        crate::subject::connect(subject.address, &mut subject.child, Duration::from_secs(10))?;
        Swarm::new(
            subject.address,
            PATH,
            clients,
            self.options.client_threads.min(clients),
        )
    }
}
