//! How often the gateway asks, however many clients watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, PATIENCE, Played};
use crate::gateway::{Feed, Settings, Watch};
use crate::payload::{self, VALUE_BYTES};
use crate::redis::{self, Redis};
use crate::report::{Section, Verdict};
use crate::swarm::{Goal, Tally};
use crate::upstream::{Script, Shape, Upstream};
use crate::{Outcome, clock};

/// The interval of the stream: one request a second is expected.
const EVERY: Duration = Duration::from_secs(1);

/// Between two changes of the value: every other poll finds nothing new.
const CHANGE: Duration = Duration::from_secs(2);

/// Requests that an HTTP upstream with validators gets.
pub(super) fn http(bench: &Bench<'_>) -> Outcome<Section> {
    let upstream = Arc::new(Upstream::start(Shape::Padded(VALUE_BYTES))?);
    let feed = Feed::Http(Arc::clone(&upstream));
    let mut gateway = bench.gateway.start(feed, &Settings::polling(EVERY))?;
    let clients = bench.options.pollers;
    let mut swarm = bench.swarm(&mut gateway, clients)?;
    let mut tally = swarm.run(Goal::Events(1), PATIENCE)?;
    upstream.play(Script::Every(CHANGE));

    let before = upstream.seen();
    let window = CHANGE * rounds(bench);
    tally.add(swarm.run(Goal::Time, window)?);
    let after = upstream.seen();

    let instants: Vec<u64> = after.requests[before.requests.len()..]
        .iter()
        .map(|request| request.at)
        .collect();
    let mut section = Section::new(
        &format!("Requests of an HTTP upstream: {clients} clients of one resource, every: 1s"),
        format!(
            "Over {window:?}; the value changes every {CHANGE:?}; the upstream honours If-None-Match."
        ),
        &[
            "upstream requests",
            "a second",
            "200",
            "304",
            "between two, shortest–longest",
            "events a client, with its first",
        ],
    );
    section.fault("clients", tally.faults());
    let (Some(first), Some(last)) = (instants.first(), instants.last()) else {
        return Err("the upstream was not asked".into());
    };
    let gaps = instants.windows(2).map(|pair| pair[1] - pair[0]);
    let (shortest, longest) = (gaps.clone().min().unwrap_or(0), gaps.max().unwrap_or(0));
    let rate = (instants.len() - 1) as f64 / ((last - first).max(1) as f64 / 1e9);
    section.rows.push(vec![
        instants.len().to_string(),
        format!("{rate:.3}"),
        (after.ok - before.ok).to_string(),
        (after.not_modified - before.not_modified).to_string(),
        format!(
            "{:.1}–{:.1} ms",
            shortest as f64 / 1e6,
            longest as f64 / 1e6
        ),
        events(&tally, clients),
    ]);
    section
        .verdicts
        .push(verdict("HTTP requests", clients, rate));
    Ok(section)
}

/// GETs that a Redis server gets.
pub(super) fn redis(bench: &Bench<'_>) -> Outcome<Played> {
    let Some(program) = redis::program() else {
        return Ok(Played::LeftOut("no redis-server is installed".into()));
    };
    let mut redis = Redis::start(&program, bench.folder)?;
    let mut seq = 0;
    let mut change = |redis: &mut Redis| {
        seq += 1;
        redis.set(&payload::value(seq, clock::now(), VALUE_BYTES))
    };
    change(&mut redis)?;
    let feed = Feed::Redis(redis.address(), Watch::Poll);
    let mut gateway = bench.gateway.start(feed, &Settings::polling(EVERY))?;
    let clients = bench.options.pollers;
    let mut swarm = bench.swarm(&mut gateway, clients)?;
    let mut tally = swarm.run(Goal::Events(1), PATIENCE)?;

    // From the instant of one call to that of another: the rate is exact, wherever the window begins.
    let (before, begin) = next_call(&mut redis)?;
    for _ in 0..rounds(bench) {
        change(&mut redis)?;
        tally.add(swarm.run(Goal::Time, CHANGE)?);
    }
    let (after, end) = next_call(&mut redis)?;

    let calls: Vec<(String, u64)> = after
        .iter()
        .map(|(name, count)| (name.clone(), count - count_of(&before, name)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let seconds = (end - begin).as_secs_f64();
    let gets = count_of(&calls, "get");
    let others: Vec<String> = calls
        .iter()
        .filter(|(name, _)| name != "get")
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let rate = gets as f64 / seconds;
    let mut section = Section::new(
        &format!(
            "Commands of a Redis server: {clients} clients of one key, every: 1s, watch: poll"
        ),
        format!("INFO commandstats over {seconds:.2} s; the key changes every {CHANGE:?}."),
        &[
            "GET",
            "a second",
            "other commands",
            "events a client, with its first",
        ],
    );
    section.fault("clients", tally.faults());
    let others = if others.is_empty() {
        "none".into()
    } else {
        others.join(", ")
    };
    section.rows.push(vec![
        gets.to_string(),
        format!("{rate:.3}"),
        others,
        events(&tally, clients),
    ]);
    section.verdicts.push(verdict("Redis GETs", clients, rate));
    Ok(Played::Measured(section))
}

/// Changes within the window.
fn rounds(bench: &Bench<'_>) -> u32 {
    if bench.options.quick { 1 } else { 6 }
}

/// Waits until the server counts one call more: the counts, and when.
fn next_call(redis: &mut Redis) -> Outcome<(Vec<(String, u64)>, Instant)> {
    let sum = |calls: &[(String, u64)]| calls.iter().map(|(_, count)| count).sum::<u64>();
    let begin = redis.calls()?;
    let end = Instant::now() + EVERY * 5;
    while Instant::now() < end {
        let calls = redis.calls()?;
        if sum(&calls) > sum(&begin) {
            return Ok((calls, Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("the gateway did not ask Redis for {:?}", EVERY * 5).into())
}

fn count_of(calls: &[(String, u64)], name: &str) -> u64 {
    calls
        .iter()
        .find(|(known, _)| known == name)
        .map_or(0, |(_, count)| *count)
}

fn events(tally: &Tally, clients: usize) -> String {
    format!("{:.2}", tally.events as f64 / clients as f64)
}

fn verdict(what: &str, clients: usize, rate: f64) -> Verdict {
    Verdict {
        what: format!("{what} a second for {clients} clients at `every: 1s`"),
        goal: "1.00 ± 0.02".into(),
        measured: format!("{rate:.3}"),
        met: (rate - 1.0).abs() <= 0.02,
    }
}
