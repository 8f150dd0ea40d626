//! Many channels of one upstream, each with a client: whether polls start on time, and what a channel costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, PATIENCE};
use crate::gateway::{Feed, PATH, Settings};
use crate::payload::VALUE_BYTES;
use crate::report::{Section, Verdict};
use crate::stats::Latency;
use crate::swarm::{Goal, Path};
use crate::upstream::{Request, Shape, Upstream};
use crate::{Outcome, clock, process};

/// How late the start of 99 of 100 polls may be, milliseconds.
const LATE: f64 = 50.0;

/// What a channel without clients may take beyond its value, bytes.
const MEMORY: f64 = 4096.0;

/// How much the cost of a poll may differ between many channels and few, at the same number of polls a second.
const FLAT: f64 = 1.25;

/// Connections to the upstream, at most.
const POLLS: usize = 64;

/// Channels, and the interval of each.
type Case = (usize, Duration);

/// The last is for punctuality; the others have the same number of polls a second.
fn cases(quick: bool) -> Vec<Case> {
    let of = |channels, millis| (channels, Duration::from_millis(millis));
    match quick {
        true => vec![of(100, 50), of(1_000, 500)],
        false => vec![
            of(100, 50),
            of(1_000, 500),
            of(10_000, 5_000),
            of(10_000, 1_000),
        ],
    }
}

/// One case.
struct Run {
    /// Polls, as a share of those due.
    share: f64,
    late: Latency,
    /// Microseconds of CPU a poll.
    cpu: f64,
    /// Bytes a channel with its client, beyond its value.
    watched: f64,
    /// The same after the client has left, while polls go on.
    idle: f64,
}

/// All cases, each in a gateway of its own.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let mut section = Section::new(
        "Many channels: one client each, one upstream on loopback",
        "The upstream answers 304. The start of a poll is late by what its request comes after the earliest line of its \
         channel's grid. Memory is the growth of RssAnon over that with one channel, without the bytes of the value: with \
         the channel's client, and after it has left, while polls go on."
            .into(),
        &[
            "",
            "polls/s",
            "of those due",
            "late p50 ms",
            "p99 ms",
            "max ms",
            "CPU µs a poll",
            "bytes a channel",
            "without its client",
        ],
    );
    let mut runs = Vec::new();
    // Each channel has a client.
    let clients = bench.options.clients;
    let cases = cases(bench.options.quick);
    for (channels, every) in cases
        .into_iter()
        .filter(|(channels, _)| *channels <= clients)
    {
        eprintln!("  {channels} channels, every {every:?}");
        let run = run(bench, channels, every, &mut section)?;
        section.rows.push(vec![
            format!("{channels} channels, every {every:?}"),
            format!("{:.0}", run.share * channels as f64 / every.as_secs_f64()),
            format!("{:.1} %", run.share * 100.0),
            format!("{:.1}", run.late.p50),
            format!("{:.1}", run.late.p99),
            format!("{:.1}", run.late.max),
            format!("{:.1}", run.cpu),
            format!("{:.0}", run.watched),
            format!("{:.0}", run.idle),
        ]);
        runs.push((channels, every, run));
    }
    let (Some((channels, every, last)), Some((few, _, first))) = (runs.last(), runs.first()) else {
        return Err(format!("{clients} clients are fewer than the fewest channels").into());
    };
    section.verdicts.push(Verdict {
        what: format!("start of a poll, p99 late, {channels} channels every {every:?}"),
        goal: format!("≤ {LATE} ms, none left out"),
        measured: format!("{:.1} ms, {:.1} %", last.late.p99, last.share * 100.0),
        met: last.late.p99 <= LATE && last.share >= 0.99,
    });
    section.verdicts.push(Verdict {
        what: format!("memory of a channel without clients beyond its value, {channels} channels"),
        goal: format!("≤ {MEMORY} bytes"),
        measured: format!("{:.0} bytes", last.idle),
        met: last.idle <= MEMORY,
    });
    let same_rate = runs
        .iter()
        .rev()
        .find(|(channels, every, _)| equal_rates((*channels, *every), &runs[0]));
    if let Some((many, _, many_run)) = same_rate {
        let ratio = many_run.cpu / first.cpu;
        section.verdicts.push(Verdict {
            what: format!("CPU of a poll, {many} channels against {few}, as many polls a second"),
            goal: format!("≤ {FLAT} ×"),
            measured: format!("{ratio:.2} ×"),
            met: ratio <= FLAT,
        });
    }
    Ok(section)
}

fn equal_rates((channels, every): Case, (others, other_every, _): &(usize, Duration, Run)) -> bool {
    channels as u128 * other_every.as_micros() == *others as u128 * every.as_micros()
}

fn run(bench: &Bench<'_>, channels: usize, every: Duration, section: &mut Section) -> Outcome<Run> {
    let upstream = Arc::new(Upstream::start(Shape::Padded(VALUE_BYTES))?);
    let feed = Feed::Many(Arc::clone(&upstream));
    let mut gateway = bench.gateway.start(feed, &Settings::polling(every))?;
    let pid = gateway.child.pid();
    let mut one = bench.swarm_of(&mut gateway, Path::Each(PATH), 1)?;
    let mut tally = one.run(Goal::Events(1), PATIENCE)?;
    let base = bench.weigh(pid)?;
    // Connections to the upstream may be as many as the polls at once.
    let descriptors = process::descriptors(pid)? + POLLS;
    let mut swarm = bench.swarm_of(&mut gateway, Path::Each(PATH), channels)?;
    tally.add(swarm.run(Goal::Events(1), PATIENCE)?);
    // The second poll of a channel lays its grid.
    tally.add(swarm.run(Goal::Time, every + every / 2)?);
    let each = |bytes: u64| (bytes as f64 - base as f64) / channels as f64 - VALUE_BYTES as f64;
    let watched = each(bench.weigh(pid)?);

    let seen = upstream.seen().requests.len();
    let (before, begin) = (process::cpu(pid)?, Instant::now());
    let window = (every * 3).max(match bench.options.quick {
        true => Duration::from_secs(1),
        false => Duration::from_secs(5),
    });
    tally.add(swarm.run(Goal::Time, window)?);
    let seconds = begin.elapsed().as_secs_f64();
    let used = process::cpu(pid)? - before;
    let requests = &upstream.seen().requests[seen..];
    section.fault(&format!("{channels} channels"), tally.faults());
    swarm.leave();
    process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
    let polls = requests.len() as f64;
    Ok(Run {
        share: polls / (channels as f64 * seconds / every.as_secs_f64()),
        late: Latency::of(&mut lateness(requests, clock::nanos(every))).ok_or("no polls")?,
        cpu: used.total() * 1e6 / polls,
        watched,
        idle: each(bench.weigh(pid)?),
    })
}

/// By how much each request came after the earliest line of its resource's grid, nanoseconds.
fn lateness(requests: &[Request], every: u64) -> Vec<u64> {
    let mut by_resource: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for request in requests {
        let instants = by_resource.entry(request.resource).or_default();
        instants.push(request.at);
    }
    let mut late = Vec::with_capacity(requests.len());
    for instants in by_resource.values().filter(|instants| instants.len() > 1) {
        let first = instants[0];
        // Where each stands within its interval, by the grid of the first; the earliest is the line.
        let places = instants.iter().map(|at| {
            let steps = (at - first + every / 2) / every;
            i128::from(at - first) - i128::from(steps * every)
        });
        let line = places.clone().min().unwrap_or(0);
        late.extend(places.map(|place| u64::try_from(place - line).unwrap_or(u64::MAX)));
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_that_after_the_earliest_line() {
        let at = |resource, at| Request { resource, at };
        // The grid of 1 is 995, 1995, …: its first came 5 late. That of 2 has a gap. Of 3 nothing can be said.
        let requests = [
            at(1, 1_000),
            at(2, 1_000),
            at(3, 1_777),
            at(1, 1_995),
            at(1, 3_015),
            at(2, 3_007),
        ];
        assert_eq!(lateness(&requests, 1_000), [5, 0, 20, 0, 7]);
    }

    #[test]
    fn all_but_the_last_case_poll_as_often() {
        for quick in [true, false] {
            let rates: Vec<f64> = cases(quick)
                .iter()
                .map(|(channels, every)| *channels as f64 / every.as_secs_f64())
                .collect();
            let same = if quick { rates.len() } else { rates.len() - 1 };
            assert!(
                rates[..same].iter().all(|rate| *rate == rates[0]),
                "{rates:?}"
            );
        }
    }
}
