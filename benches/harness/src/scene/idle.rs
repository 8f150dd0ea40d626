//! What streams cost while nothing is said: the process at rest, and its heartbeats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, PATIENCE};
use crate::gateway::{Feed, Settings};
use crate::payload::VALUE_BYTES;
use crate::report::{Section, Verdict};
use crate::subject::Subject;
use crate::swarm::{Goal, Swarm};
use crate::upstream::{Shape, Upstream};
use crate::{Outcome, process};

/// The interval of the stream: polls go on, and find nothing new.
const EVERY: Duration = Duration::from_secs(1);

/// Longer than the measurement: no heartbeat comes.
const NEVER: Duration = Duration::from_secs(300);

/// Percent of a core that quiet streams may take, beyond heartbeats.
const IDLE_LIMIT: f64 = 1.0;

/// Heartbeats are counted in slots of this length.
const SLOT: Duration = Duration::from_millis(100);

/// Percent of a round of heartbeats that one slot may hold, where the interval is a hundred slots. All clients were
/// written to at the same instant before; spread evenly over 90 to 110 percent of the interval (EDGE T1), a slot holds 5.
const SLOT_LIMIT: f64 = 10.0;

/// Without heartbeats, then a round of heartbeats.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let clients = bench.options.clients;
    let (window, heartbeat) = match bench.options.quick {
        true => (Duration::from_secs(1), SLOT * 20),
        false => (Duration::from_secs(15), SLOT * 100),
    };
    let mut section = Section::new(
        &format!(
            "Quiet streams: {clients} clients of one resource that does not change, every: 1s"
        ),
        format!(
            "At rest: heartbeat: 300s, so that none comes, over {window:?}. Heartbeats: heartbeat: {heartbeat:?}; the round \
             that follows an event to everybody at once, counted in slots of {SLOT:?}; spread evenly over 90 to 110 percent, \
             a slot holds {:.0} %.",
            SLOT.as_secs_f64() * 100.0 / (0.2 * heartbeat.as_secs_f64())
        ),
        &[
            "",
            "CPU, percent of a core",
            "CPU µs per heartbeat",
            "fullest slot, percent of all",
        ],
    );
    let idle = at_rest(bench, window, &mut section)?;
    section.rows.push(vec![
        "at rest".into(),
        format!("{idle:.2}"),
        "–".into(),
        "–".into(),
    ]);
    let beats = heartbeats(bench, heartbeat, &mut section)?;
    section.rows.push(vec![
        "one round of heartbeats".into(),
        format!("{:.2}", beats.percent),
        format!("{:.2}", beats.micros),
        format!("{:.1}", beats.fullest),
    ]);
    section.verdicts.push(Verdict {
        what: format!("CPU of {clients} quiet streams, beyond heartbeats"),
        goal: format!("≤ {IDLE_LIMIT} % of a core"),
        measured: format!("{idle:.2} %"),
        met: idle <= IDLE_LIMIT,
    });
    if !bench.options.quick {
        section.verdicts.push(Verdict {
            what: "heartbeats in the fullest hundredth of their interval".into(),
            goal: format!("≤ {SLOT_LIMIT:.0} % of a round"),
            measured: format!("{:.1} %", beats.fullest),
            met: beats.fullest <= SLOT_LIMIT,
        });
    }
    Ok(section)
}

fn connected(bench: &Bench<'_>, heartbeat: Duration) -> Outcome<(Subject, Swarm)> {
    let upstream = Arc::new(Upstream::start(Shape::Padded(VALUE_BYTES))?);
    let settings = Settings {
        heartbeat,
        ..Settings::polling(EVERY)
    };
    let mut subject = bench.gateway.start(Feed::Http(upstream), &settings)?;
    let swarm = bench.swarm(&mut subject, bench.options.clients)?;
    Ok((subject, swarm))
}

/// Percent of a core.
fn at_rest(bench: &Bench<'_>, window: Duration, section: &mut Section) -> Outcome<f64> {
    let (subject, mut swarm) = connected(bench, NEVER)?;
    let pid = subject.child.pid();
    let mut tally = swarm.run(Goal::Events(1), PATIENCE)?;
    bench.weigh(pid)?;
    let (before, begin) = (process::cpu(pid)?, Instant::now());
    let quiet = swarm.run(Goal::Time, window)?;
    let used = (process::cpu(pid)? - before).total() / begin.elapsed().as_secs_f64();
    if quiet.reads > 0 {
        let reads = quiet.reads;
        section
            .faults
            .push(format!("at rest: {reads} reads where nothing was due"));
    }
    tally.add(quiet);
    section.fault("at rest", tally.faults());
    Ok(used * 100.0)
}

/// A round of heartbeats.
struct Beats {
    /// Of a core, over the round.
    percent: f64,
    /// Of CPU for each.
    micros: f64,
    /// Percent of all that came in the fullest slot.
    fullest: f64,
}

fn heartbeats(bench: &Bench<'_>, heartbeat: Duration, section: &mut Section) -> Outcome<Beats> {
    let (mut subject, mut swarm) = connected(bench, heartbeat)?;
    let pid = subject.child.pid();
    let mut tally = swarm.run(Goal::Events(1), PATIENCE)?;
    // One event starts every client's silence at the same instant.
    subject.beat(Some(EVERY))?;
    tally.add(swarm.run(Goal::Events(1), PATIENCE)?);
    subject.beat(None)?;

    let (before, begin) = (process::cpu(pid)?, Instant::now());
    let mut counts = Vec::new();
    // What was still under way came first, then a round, which ends at 110 percent; the second begins at 180.
    while begin.elapsed() < heartbeat * 5 / 4 {
        let quiet = swarm.run(Goal::Time, SLOT)?;
        counts.push(quiet.reads);
        tally.add(quiet);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let used = (process::cpu(pid)? - before).total();
    section.fault("heartbeats", tally.faults());
    // Without the event's last reads.
    let beats = &counts[counts.len() / 10..];
    let sum: u64 = beats.iter().sum();
    let clients = bench.options.clients as u64;
    if sum < clients || sum > clients + clients / 10 {
        section
            .faults
            .push(format!("{sum} heartbeats came to {clients} clients"));
    }
    let fullest = beats.iter().copied().max().unwrap_or(0);
    Ok(Beats {
        percent: used * 100.0 / seconds,
        micros: used * 1e6 / sum as f64,
        fullest: fullest as f64 * 100.0 / sum as f64,
    })
}
