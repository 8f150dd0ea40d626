//! CPU per delivered event, and latency, against the bare broadcaster.

use std::time::Instant;

use super::{Bench, Kind, PATIENCE, TICK};
use crate::report::{Section, Verdict};
use crate::stats::{Latency, Repeats};
use crate::swarm::Goal;
use crate::{Outcome, process};

/// Events before the measured ones.
const WARM_UP: u32 = 10;

/// Limits of the ratios to the broadcaster.
const CPU_LIMIT: f64 = 1.05;
const LATENCY_LIMIT: f64 = 1.10;

/// Share of the events due that must be delivered in time: a process that lags behind sends several events at once, and
/// is then cheaper and later than it is.
const KEEPS_UP: f64 = 0.95;

/// One repeat of one process.
#[derive(Debug)]
struct Run {
    /// Microseconds per delivered event.
    user: f64,
    system: f64,
    latency: Latency,
    /// On the wire per event, with chunk framing.
    bytes: f64,
    /// More than 1 when several events came at once, which makes each of them cheaper.
    per_read: f64,
    /// Events a second at each client.
    rate: f64,
}

/// A number of a [`Run`], with its name and how many digits it is shown with.
type Measure = (&'static str, usize, fn(&Run) -> f64);

const MEASURES: [Measure; 9] = [
    ("CPU µs per event", 2, |run| run.user + run.system),
    ("of it user", 2, |run| run.user),
    ("of it system", 2, |run| run.system),
    ("p50 ms", 1, |run| run.latency.p50),
    ("p99 ms", 1, |run| run.latency.p99),
    ("max ms", 1, |run| run.latency.max),
    ("bytes per event", 1, |run| run.bytes),
    ("events per read", 2, |run| run.per_read),
    ("events/s a client", 2, |run| run.rate),
];

/// Both processes by turns.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let (clients, repeats) = (bench.options.clients, bench.options.repeats);
    let count = if bench.options.quick { 30 } else { 100 };
    let mut section = Section::new(
        &format!("Fan-out: {clients} clients, 200-byte events, 10 a second"),
        format!(
            "{count} events to every client, {repeats} repeats by turns: median (lowest–highest); the ratio is that of \
             each pair of repeats. Latency runs from the making of the value (in the broadcaster; in the gateway's \
             upstream) to the client's read, and holds the time that the swarm takes for all reads of an event."
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

fn run(bench: &Bench<'_>, kind: Kind, count: u32, section: &mut Section) -> Outcome<Run> {
    let mut subject = bench.subject(kind)?;
    let pid = subject.child.pid();
    let mut swarm = bench.swarm(&mut subject, bench.options.clients)?;
    section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    subject.live(true)?;
    section.fault(
        subject.name,
        swarm.run(Goal::Events(WARM_UP), PATIENCE)?.faults(),
    );

    // Everybody has the same newest event, and the next tick is to come: what is counted between two such moments
    // belongs to whole events.
    let (before, begin) = (process::cpu(pid)?, Instant::now());
    let mut tally = swarm.run(Goal::Events(count), PATIENCE.max(TICK * count * 4))?;
    let (used, seconds) = (process::cpu(pid)? - before, begin.elapsed().as_secs_f64());
    section.fault(subject.name, tally.faults());

    let events = tally.events as f64;
    let rate = events / bench.options.clients as f64 / seconds;
    if rate * TICK.as_secs_f64() < KEEPS_UP {
        section.faults.push(format!(
            "{}: {rate:.2} events a second: the machine was too busy to compare",
            subject.name
        ));
    }
    eprintln!(
        "    {events} events in {seconds:.2} s, {:.2} s of CPU",
        used.total()
    );
    Ok(Run {
        user: used.user * 1e6 / events,
        system: used.system * 1e6 / events,
        latency: Latency::of(&mut tally.latencies).ok_or("no event was delivered")?,
        bytes: tally.bytes as f64 / events,
        per_read: events / tally.reads as f64,
        rate,
    })
}
