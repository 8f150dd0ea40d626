//! Memory per idle plain HTTP/1.1 stream: of the process itself, without kernel buffers.

use super::{Bench, Kind, PATIENCE, SPARE, TICK};
use crate::report::{Section, Verdict};
use crate::swarm::Goal;
use crate::{Outcome, process};

/// The limit for [`Weights::highest`] of the gateway, bytes.
const LIMIT: f64 = 1024.0;

/// Bytes per connection.
#[derive(Debug)]
struct Weights {
    /// Everybody has connected and got the first event.
    fresh: f64,
    /// After more events.
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
    let (events, rounds) = if bench.options.quick { (5, 1) } else { (20, 5) };
    let mut section = Section::new(
        &format!("Memory per idle HTTP/1.1 stream: {clients} connections of one resource"),
        format!(
            "Growth of RssAnon over that with one connection, a connection; settled; \
             {rounds} rounds in which everybody disconnects and connects again."
        ),
        &[
            "bytes a connection",
            "fresh",
            &format!("after {events} events each"),
            "after the rounds",
            "all gone",
        ],
    );
    for kind in [Kind::Broadcaster, Kind::Gateway] {
        let weights = weigh(bench, kind, (events, rounds), &mut section)?;
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

fn weigh(
    bench: &Bench<'_>,
    kind: Kind,
    (events, rounds): (u32, usize),
    section: &mut Section,
) -> Outcome<Weights> {
    let clients = bench.options.clients;
    let mut subject = bench.subject(kind)?;
    let pid = subject.child.pid();
    // The first client brings what is made once, such as the channel and its poller, and stays to the end.
    let mut one = bench.swarm(&mut subject, 1)?;
    one.run(Goal::Events(1), PATIENCE)?;
    let base = bench.weigh(pid)?;
    let descriptors = process::descriptors(pid)? + SPARE;
    let each = |bytes: u64| (bytes as f64 - base as f64) / clients as f64;

    let mut swarm = bench.swarm(&mut subject, clients)?;
    section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    let fresh = each(bench.weigh(pid)?);

    subject.beat(Some(TICK))?;
    section.fault(
        subject.name,
        swarm.run(Goal::Events(events), PATIENCE)?.faults(),
    );
    subject.beat(None)?;
    let used = each(bench.weigh(pid)?);

    for round in 1..=rounds {
        eprintln!(
            "  {}: reconnecting everybody, {round} of {rounds}",
            subject.name
        );
        swarm.leave();
        process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
        section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    }
    let reconnected = each(bench.weigh(pid)?);

    swarm.leave();
    process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
    let empty = each(bench.weigh(pid)?);
    Ok(Weights {
        fresh,
        used,
        reconnected,
        empty,
    })
}
