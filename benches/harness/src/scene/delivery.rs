//! What it costs one process to deliver events to a swarm, and how late they come.

use std::time::{Duration, Instant};

use super::PATIENCE;
use crate::stats::Latency;
use crate::subject::Subject;
use crate::swarm::{Goal, Swarm};
use crate::{Outcome, process};

/// What is delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Clients of the swarm.
    pub(super) clients: usize,
    /// Between two events.
    pub(super) every: Duration,
    /// Events to every client before those that are measured.
    pub(super) warm_up: u32,
    /// Events to every client that are measured.
    pub(super) count: u32,
}

/// One measurement.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Microseconds per delivered event, of the process and its workers.
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) latency: Latency,
    /// On the wire per event, with chunk framing.
    pub(super) bytes: f64,
    /// More than 1 when several events came at once, which makes each of them cheaper.
    pub(super) per_read: f64,
    /// Events a second at each client.
    pub(super) rate: f64,
    /// Share of the clients' threads that was used: near 1 they, not the process, set the pace.
    pub(super) busy: f64,
    /// What was lost, came twice or out of order.
    pub(super) faults: Option<String>,
}

impl Delivery {
    /// Microseconds of CPU per delivered event.
    pub(super) fn cpu(&self) -> f64 {
        self.user + self.system
    }

    /// What is wrong with a comparison, if fewer events came than `load` says: a process that lags behind sends several at
    /// once, and is then cheaper and later than it is.
    pub(super) fn lags(&self, load: &Load) -> Option<String> {
        lags(self.rate, load.every)
    }
}

/// The same of a rate, events a second at each client.
pub(super) fn lags(rate: f64, every: Duration) -> Option<String> {
    const SHARE: f64 = 0.95;
    (rate * every.as_secs_f64() < SHARE)
        .then(|| format!("{rate:.2} events a second: the machine was too busy to compare"))
}

/// Makes the subject send, and measures. The swarm is connected.
pub(super) fn deliver(subject: &mut Subject, swarm: &mut Swarm, load: &Load) -> Outcome<Delivery> {
    let pid = subject.child.pid();
    subject.beat(Some(load.every))?;
    let earlier = swarm.run(Goal::Events(load.warm_up), PATIENCE)?;

    // Everybody has the same newest event, and the next tick is to come: what is counted between two such moments
    // belongs to whole events.
    let limit = PATIENCE.max(load.every * load.count * 4);
    let own = std::process::id();
    let (before, mine, begin) = (
        process::cpu_of_family(pid)?,
        process::cpu(own)?,
        Instant::now(),
    );
    let mut tally = swarm.run(Goal::Events(load.count), limit)?;
    let seconds = begin.elapsed().as_secs_f64();
    let used = process::cpu_of_family(pid)? - before;
    let mine = process::cpu(own)? - mine;
    subject.beat(None)?;

    let events = tally.events as f64;
    eprintln!(
        "    {}: {events} events in {seconds:.2} s, {:.2} s of CPU",
        subject.name,
        used.total()
    );
    let latency = Latency::of(&mut tally.latencies).ok_or("no event was delivered")?;
    let (bytes, per_read) = (tally.bytes as f64 / events, events / tally.reads as f64);
    tally.add(earlier);
    Ok(Delivery {
        user: used.user * 1e6 / events,
        system: used.system * 1e6 / events,
        latency,
        bytes,
        per_read,
        rate: events / load.clients as f64 / seconds,
        busy: mine.total() / seconds / swarm.threads() as f64,
        faults: tally.faults(),
    })
}
