//! The highest rate of events that all clients get, without loss and without a delay that grows.

use std::time::{Duration, Instant};

use super::Bench;
use crate::gateway::{Feed, Settings};
use crate::report::{Section, Verdict};
use crate::stats::Latency;
use crate::subject::{Own, Subject};
use crate::swarm::{Goal, Swarm};
use crate::{Outcome, process};

/// Clients, at most.
const MOST: usize = 5_000;

/// The rate that the broadcaster begins with, events a second, and the lowest that is tried where that is too much.
const FIRST: f64 = 20.0;
const LOWEST: f64 = 1.0;

/// From a rate that is sustained to the next.
const STEP: f64 = 1.25;

/// Where the ramp ends if nothing else ends it, as a multiple of what the broadcaster sustains.
const ENOUGH: f64 = 32.0;

/// Share of the events due that must have come within the window, but for [`UNDER_WAY`], and how late they may be.
const SHARE: f64 = 0.97;
const LATE: Duration = Duration::from_millis(500);

/// Events that may be on their way when the window closes.
const UNDER_WAY: f64 = 2.0;

/// One rate at one process.
struct Step {
    /// Offered, events a second to each client.
    rate: f64,
    latency: Latency,
    per_read: f64,
    /// Cores that the process used.
    cores: f64,
    /// Share of the clients' threads that was used.
    busy: f64,
    /// Why it was not sustained.
    failed: Option<String>,
}

/// The broadcaster, then the gateway.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let clients = bench.options.clients.min(MOST);
    let window = match bench.options.quick {
        true => Duration::from_millis(300),
        false => Duration::from_secs(3),
    };
    let step = if bench.options.quick { 3.0 } else { STEP };
    let mut section = Section::new(
        &format!("Highest sustained rate: {clients} clients of one channel, 200-byte events"),
        format!(
            "The rate rises by {step} × until a window of {window:?}, and another, has an event lost, or less than {:.0} % of \
             those due (but for two that may be under way), or a p99 later than {} ms; the row is that of the last rate \
             before. Events are due by a schedule; the broadcaster makes them by a timer, the gateway gets them as POSTs \
             one after another over one connection.",
            SHARE * 100.0,
            LATE.as_millis(),
        ),
        &[
            "",
            "events/s a client",
            "deliveries/s",
            "p99 ms",
            "events per read",
            "cores used",
            "load of the clients' threads",
            "why no more",
        ],
    );
    let mut broadcaster = Subject::own(Own::Broadcaster, bench.folder)?;
    let bare = ramp(bench, &mut broadcaster, clients, FIRST, (step, window))?;
    drop(broadcaster);
    let settings = Settings::polling(Duration::from_secs(1));
    let mut gateway = bench.gateway.start(Feed::Published, &settings)?;
    let begin = (bare.rate / step).max(FIRST);
    let full = ramp(bench, &mut gateway, clients, begin, (step, window))?;
    drop(gateway);
    for (name, step) in [("broadcaster", &bare), ("gateway", &full)] {
        section.rows.push(vec![
            name.into(),
            format!("{:.1}", step.rate),
            format!("{:.0}", step.rate * clients as f64),
            format!("{:.1}", step.latency.p99),
            format!("{:.2}", step.per_read),
            format!("{:.2}", step.cores),
            format!("{:.2}", step.busy),
            step.failed
                .clone()
                .unwrap_or_else(|| "it was enough".into()),
        ]);
    }
    section.verdicts.push(Verdict {
        what: format!("sustained rate against the broadcaster, {clients} clients"),
        goal: "≥ 1.00 ×".into(),
        measured: format!("{:.2} ×", full.rate / bare.rate),
        met: full.rate >= bare.rate,
    });
    Ok(section)
}

/// The last rate that `subject` sustains, with what ended the ramp in its `failed`.
fn ramp(
    bench: &Bench<'_>,
    subject: &mut Subject,
    clients: usize,
    first: f64,
    (step, window): (f64, Duration),
) -> Outcome<Step> {
    let mut swarm = bench.swarm(subject, clients)?;
    swarm.run(Goal::Events(1), super::PATIENCE)?;
    let mut rate = first;
    // Down to a rate that is sustained, then up to one that is not.
    let mut best = loop {
        let mut tried = try_twice(subject, &mut swarm, clients, rate, window)?;
        match tried.failed.take() {
            None => break tried,
            Some(why) if rate <= LOWEST => {
                let name = subject.name;
                return Err(format!(
                    "{name} does not sustain even {rate:.1} events a second: {why}"
                )
                .into());
            }
            Some(_) => rate = (rate / 2.0).max(LOWEST),
        }
    };
    while best.rate < first * ENOUGH {
        let rate = best.rate * step;
        let mut tried = try_twice(subject, &mut swarm, clients, rate, window)?;
        if let Some(why) = tried.failed.take() {
            best.failed = Some(format!("at {rate:.1}/s {why}"));
            break;
        }
        best = tried;
    }
    Ok(best)
}

/// Another window if the first fails, after whatever is behind has caught up.
fn try_twice(
    subject: &mut Subject,
    swarm: &mut Swarm,
    clients: usize,
    rate: f64,
    window: Duration,
) -> Outcome<Step> {
    let tried = sustain(subject, swarm, clients, rate, window)?;
    let Some(why) = &tried.failed else {
        return Ok(tried);
    };
    eprintln!("    again: {why}");
    subject.beat(None)?;
    swarm.run(Goal::Time, window)?;
    sustain(subject, swarm, clients, rate, window)
}

/// One window at `rate`.
fn sustain(
    subject: &mut Subject,
    swarm: &mut Swarm,
    clients: usize,
    rate: f64,
    window: Duration,
) -> Outcome<Step> {
    let (pid, own) = (subject.child.pid(), std::process::id());
    subject.beat(Some(Duration::from_secs_f64(1.0 / rate)))?;
    let mut earlier = swarm.run(Goal::Time, window / 5)?;
    let (before, mine, begin) = (process::cpu(pid)?, process::cpu(own)?, Instant::now());
    let mut tally = swarm.run(Goal::Time, window)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (used, mine) = (process::cpu(pid)? - before, process::cpu(own)? - mine);
    let latency = Latency::of(&mut tally.latencies).ok_or("no event was delivered")?;
    let due = seconds * rate;
    let share = (tally.events as f64 / clients as f64 + UNDER_WAY).min(due) / due;
    let per_read = tally.events as f64 / tally.reads as f64;
    tally.latencies.clear();
    earlier.add(tally);
    let failed = match earlier.faults() {
        Some(faults) => Some(faults),
        None if share < SHARE => Some(format!("{:.0} % of the events came", share * 100.0)),
        None if latency.p99 > LATE.as_secs_f64() * 1e3 => {
            Some(format!("p99 was {:.0} ms", latency.p99))
        }
        None => None,
    };
    eprintln!(
        "    {}: {rate:.1} events/s, {:.0} % in time, p99 {:.1} ms",
        subject.name,
        share * 100.0,
        latency.p99
    );
    Ok(Step {
        rate,
        latency,
        per_read,
        cores: used.total() / seconds,
        busy: mine.total() / seconds / swarm.threads() as f64,
        failed,
    })
}
