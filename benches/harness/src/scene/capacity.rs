//! How many connections one gateway holds at once, with none refused.

use std::time::Instant;

use super::{Bench, Kind, PATIENCE, TICK};
use crate::report::{Section, Verdict};
use crate::swarm::Goal;
use crate::{Outcome, process};

/// What one process must hold.
const CONNECTIONS: usize = 19_000;

/// The goal, in words.
const WHAT: &str = "connections open at once in one process, nothing refused";

/// Events that each gets, so that it is known to be served.
const EVENTS: u32 = 5;

/// Connects all, and delivers to all.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let clients = bench.options.capacity;
    let mut section = Section::new(
        &format!("Connections at once: {clients} of one resource, in one process"),
        format!(
            "HTTP/1.1 from many loopback addresses; each gets the value and {EVENTS} events after it, while all are \
             connected. Memory is the growth of RssAnon over that with one connection."
        ),
        &[
            "",
            "connected and served",
            "refused or ended",
            "connections a second",
            "bytes a connection",
        ],
    );
    let mut subject = bench.subject(Kind::Gateway)?;
    let pid = subject.child.pid();
    let mut one = bench.swarm(&mut subject, 1)?;
    one.run(Goal::Events(1), PATIENCE)?;
    let base = bench.weigh(pid)?;

    let mut swarm = bench.swarm(&mut subject, clients)?;
    let begin = Instant::now();
    let mut tally = match swarm.run(Goal::Events(1), PATIENCE) {
        Ok(tally) => tally,
        // It says how many got their event, and what became of the others.
        Err(problem) => {
            section.verdicts.push(Verdict {
                what: WHAT.into(),
                goal: format!("≥ {CONNECTIONS}"),
                measured: problem.to_string(),
                met: false,
            });
            return Ok(section);
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    let memory = bench.weigh(pid)?.saturating_sub(base) as f64 / clients as f64;
    let open = process::descriptors(pid)?;
    subject.beat(Some(TICK))?;
    tally.add(swarm.run(Goal::Events(EVENTS), PATIENCE)?);
    subject.beat(None)?;
    let ended = tally.ended;
    section.fault(subject.name, tally.faults());
    section.rows.push(vec![
        "gateway".into(),
        clients.to_string(),
        ended.to_string(),
        format!("{:.0}", clients as f64 / seconds),
        format!("{memory:.0}"),
    ]);
    if !bench.options.quick {
        section.verdicts.push(Verdict {
            what: WHAT.into(),
            goal: format!("≥ {CONNECTIONS}"),
            measured: format!("{clients} ({open} descriptors)"),
            met: clients >= CONNECTIONS && ended == 0,
        });
    }
    Ok(section)
}
