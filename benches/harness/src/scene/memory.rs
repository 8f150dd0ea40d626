//! Memory per idle plain HTTP/1.1 stream: of the process itself, without kernel buffers.

use super::{Bench, Kind, PATIENCE};
use crate::report::{Section, Verdict};
use crate::swarm::Goal;
use crate::{Outcome, process};

/// Events that each client gets before the second weighing.
const EVENTS: u32 = 20;

/// Descriptors that a process may hold beyond those it had with one client: a poll under way, and the like.
const SPARE: usize = 8;

/// The limit for [`Weights::highest`] of the gateway, bytes.
const LIMIT: f64 = 1024.0;

/// Bytes per connection.
#[derive(Debug)]
struct Weights {
    /// Everybody has connected and got the first event.
    fresh: f64,
    /// After [`EVENTS`] more.
    used: f64,
    /// After the rounds of reconnecting everybody.
    reconnected: f64,
    /// Everybody has left: what is kept, spread over those who left.
    empty: f64,
}

impl Weights {
    fn highest(&self) -> f64 {
        self.fresh.max(self.used).max(self.reconnected)
    }
}

/// Both processes, one after another.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let clients = bench.options.clients;
    let rounds = if bench.options.quick { 2 } else { 5 };
    let mut section = Section::new(
        &format!("Memory per idle HTTP/1.1 stream: {clients} connections of one resource"),
        format!(
            "Growth of RssAnon over that with one connection, a connection; settled; \
             {rounds} rounds in which everybody disconnects and connects again."
        ),
        &[
            "bytes a connection",
            "fresh",
            &format!("after {EVENTS} events each"),
            "after the rounds",
            "all gone",
        ],
    );
    for kind in [Kind::Broadcaster, Kind::Gateway] {
        let weights = weigh(bench, kind, rounds, &mut section)?;
        let cells = [
            weights.fresh,
            weights.used,
            weights.reconnected,
            weights.empty,
        ];
        let name = if kind == Kind::Gateway {
            "gateway"
        } else {
            "broadcaster"
        };
        section.rows.push(
            std::iter::once(name.into())
                .chain(cells.map(|bytes| format!("{bytes:.0}")))
                .collect(),
        );
        if kind == Kind::Gateway {
            section.verdicts.push(Verdict {
                what: format!(
                    "user memory per idle stream, the highest of three weighings at {clients}"
                ),
                goal: format!("≤ {LIMIT} bytes"),
                measured: format!("{:.0} bytes", weights.highest()),
                met: weights.highest() <= LIMIT,
            });
        }
    }
    Ok(section)
}

fn weigh(bench: &Bench<'_>, kind: Kind, rounds: usize, section: &mut Section) -> Outcome<Weights> {
    let clients = bench.options.clients;
    let mut subject = bench.subject(kind)?;
    let pid = subject.child.pid();
    // The first client brings what is made once, such as the channel and its poller, and stays to the end.
    let mut one = bench.swarm(&mut subject, 1)?;
    one.run(Goal::Events(1), PATIENCE)?;
    let base = process::settled(pid)?;
    let descriptors = process::descriptors(pid)? + SPARE;
    let each = |bytes: u64| (bytes as f64 - base as f64) / clients as f64;

    let mut swarm = bench.swarm(&mut subject, clients)?;
    section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    let fresh = each(process::settled(pid)?);

    subject.live(true)?;
    section.fault(
        subject.name,
        swarm.run(Goal::Events(EVENTS), PATIENCE)?.faults(),
    );
    subject.live(false)?;
    let used = each(process::settled(pid)?);

    for round in 1..=rounds {
        eprintln!(
            "  {}: reconnecting everybody, {round} of {rounds}",
            subject.name
        );
        swarm.leave();
        process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
        section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    }
    let reconnected = each(process::settled(pid)?);

    swarm.leave();
    process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
    let empty = each(process::settled(pid)?);
    Ok(Weights {
        fresh,
        used,
        reconnected,
        empty,
    })
}
