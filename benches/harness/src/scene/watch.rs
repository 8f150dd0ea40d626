//! How long a change of a Redis key takes to a client.

use std::time::Duration;

use super::{Bench, PATIENCE, Played};
use crate::gateway::{Feed, PATH, Settings, Watch};
use crate::payload::{self, VALUE_BYTES};
use crate::redis::{self, Redis};
use crate::report::{Section, Verdict};
use crate::stats::Latency;
use crate::swarm::{self, Goal, Swarm, Tally};
use crate::{Outcome, clock};

/// The interval of the stream: where changes are announced, a poll is the safety net.
const EVERY: Duration = Duration::from_secs(2);

/// Where they are polled.
const POLLED: Duration = Duration::from_millis(50);

/// p50 from SET to the client where changes are announced, milliseconds.
const GOAL: f64 = 5.0;

/// The ways, with their names for people and the number of gateways.
const WAYS: [(Watch, &str, usize); 4] = [
    (Watch::Tracking, "tracking", 1),
    (Watch::Keyspace, "keyspace", 1),
    (Watch::Shared, "tracking, shared by two replicas", 2),
    (Watch::Poll, "poll, every: 50ms", 1),
];

/// From before SET to the read of a client.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Played> {
    let Some(program) = redis::program() else {
        return Ok(Played::LeftOut("no redis-server is installed".into()));
    };
    let changes = if bench.options.quick { 50 } else { 500 };
    let mut section = Section::new(
        "From SET to the client",
        format!(
            "One client, {changes} changes one after the other, each when the one before has come; milliseconds."
        ),
        &["watch", "p50", "p99", "max"],
    );
    for (watch, name, gateways) in WAYS {
        let mut tally = changed(bench, &program, watch, gateways, changes)?;
        section.fault(name, tally.faults());
        let latency = Latency::of(&mut tally.latencies).ok_or("no event came")?;
        section.rows.push(vec![
            name.into(),
            format!("{:.2}", latency.p50),
            format!("{:.2}", latency.p99),
            format!("{:.2}", latency.max),
        ]);
        if watch != Watch::Poll {
            section.verdicts.push(Verdict {
                what: format!("p50 from SET to the client, {name}"),
                goal: format!("≤ {GOAL} ms"),
                measured: format!("{:.2} ms", latency.p50),
                met: latency.p50 <= GOAL,
            });
        }
    }
    Ok(Played::Measured(section))
}

/// What a client of each gateway saw of so many changes.
fn changed(
    bench: &Bench<'_>,
    program: &std::path::Path,
    watch: Watch,
    gateways: usize,
    changes: u64,
) -> Outcome<Tally> {
    let mut redis = Redis::start(program, bench.folder)?;
    redis.announce()?;
    let every = if watch == Watch::Poll { POLLED } else { EVERY };
    redis.set(&payload::value(0, clock::now(), VALUE_BYTES))?;
    let mut subjects = Vec::new();
    let mut swarms = Vec::new();
    for _ in 0..gateways {
        let feed = Feed::Redis(redis.address(), watch);
        let mut subject = bench.gateway.start(feed, &Settings::polling(every))?;
        crate::subject::connect(subject.address, &mut subject.child, PATIENCE)?;
        swarms.push(Swarm::new(subject.address, swarm::Path::One(PATH), 1, 1)?);
        subjects.push(subject);
    }
    for swarm in &mut swarms {
        swarm.run(Goal::Events(1), PATIENCE)?;
    }
    let mut tally = Tally::default();
    for seq in 1..=changes {
        redis.set(&payload::value(seq, clock::now(), VALUE_BYTES))?;
        let seen = std::thread::scope(|scope| {
            let runs: Vec<_> = swarms
                .iter_mut()
                .map(|swarm| scope.spawn(|| swarm.run(Goal::Events(1), PATIENCE)))
                .collect();
            let joined = runs.into_iter().map(|run| {
                run.join()
                    .unwrap_or_else(|_| Err("a client thread died".into()))
            });
            joined.collect::<Outcome<Vec<_>>>()
        })?;
        seen.into_iter().for_each(|seen| tally.add(seen));
    }
    Ok(tally)
}
