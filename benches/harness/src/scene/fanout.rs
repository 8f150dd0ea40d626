//! CPU per delivered event, and latency, against the bare broadcaster.

use super::delivery::{Delivery, Load, deliver};
use super::{Bench, Kind, PATIENCE, TICK};
use crate::Outcome;
use crate::report::{Section, Verdict};
use crate::stats::Repeats;
use crate::swarm::Goal;

/// Events before the measured ones.
const WARM_UP: u32 = 5;

/// Limits of the ratios to the broadcaster.
const CPU_LIMIT: f64 = 1.05;
const LATENCY_LIMIT: f64 = 1.10;

/// A number of a [`Delivery`], with its name and how many digits it is shown with.
type Measure = (&'static str, usize, fn(&Delivery) -> f64);

const MEASURES: [Measure; 10] = [
    ("CPU µs per event", 2, Delivery::cpu),
    ("of it user", 2, |run| run.user),
    ("of it system", 2, |run| run.system),
    ("p50 ms", 1, |run| run.latency.p50),
    ("p99 ms", 1, |run| run.latency.p99),
    ("max ms", 1, |run| run.latency.max),
    ("bytes per event", 1, |run| run.bytes),
    ("events per read", 2, |run| run.per_read),
    ("events/s a client", 2, |run| run.rate),
    ("load of the clients' threads", 2, |run| run.busy),
];

/// Both processes by turns.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let (clients, repeats) = (bench.options.clients, bench.options.repeats);
    let count = if bench.options.quick { 15 } else { 100 };
    let mut section = Section::new(
        &format!("Fan-out: {clients} clients, 200-byte events, 10 a second"),
        format!(
            "{count} events to every client, {repeats} repeats by turns: median (lowest–highest); the ratio is that of \
             each pair of repeats. Latency runs from the instant that the event was due (in the broadcaster by its timer, in \
             the gateway's upstream by its answer) to the client's read, and holds the time that the swarm takes for all \
             reads of an event. Whatever is lost, comes twice or out of order is a fault, shown below the table."
        ),
        &["", "broadcaster", "gateway", "ratio"],
    );
    let (mut bare, mut full) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        let turns = match repeat % 2 {
            0 => [Kind::Broadcaster, Kind::Gateway],
            _ => [Kind::Gateway, Kind::Broadcaster],
        };
        for kind in turns {
            eprintln!("  {kind:?}, repeat {} of {repeats}", repeat + 1);
            let run = run(bench, kind, count, &mut section)?;
            match kind {
                Kind::Broadcaster => bare.push(run),
                Kind::Gateway => full.push(run),
            }
        }
    }
    for (name, digits, of) in MEASURES {
        let show = |values: Option<Repeats>| {
            values.map_or("–".into(), |values| format!("{values:.digits$}"))
        };
        let ratio = Repeats::new(
            bare.iter()
                .zip(&full)
                .map(|(bare, full)| of(full) / of(bare)),
        );
        let limit = match name {
            "CPU µs per event" => Some(CPU_LIMIT),
            "p99 ms" => Some(LATENCY_LIMIT),
            _ => None,
        };
        if let (Some(limit), Some(ratio)) = (limit, &ratio) {
            section.verdicts.push(Verdict {
                what: format!("{name} against the broadcaster, {clients} clients"),
                goal: format!("≤ {limit:.2} ×"),
                measured: format!("{ratio:.2} ×"),
                met: ratio.median() <= limit,
            });
        }
        section.rows.push(vec![
            name.into(),
            show(Repeats::new(bare.iter().map(of))),
            show(Repeats::new(full.iter().map(of))),
            ratio.map_or("–".into(), |ratio| format!("{ratio:.2} ×")),
        ]);
    }
    Ok(section)
}

fn run(bench: &Bench<'_>, kind: Kind, count: u32, section: &mut Section) -> Outcome<Delivery> {
    let mut subject = bench.subject(kind)?;
    let load = Load {
        clients: bench.options.clients,
        every: TICK,
        warm_up: WARM_UP,
        count,
    };
    let mut swarm = bench.swarm(&mut subject, load.clients)?;
    section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    let mut run = deliver(&mut subject, &mut swarm, &load)?;
    section.fault(subject.name, run.faults.take());
    section.fault(subject.name, run.lags(&load));
    Ok(run)
}
