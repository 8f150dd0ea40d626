//! What compression costs and saves: events of 2 KB, in gzip against plain.

use std::sync::Arc;
use std::time::Duration;

use super::delivery::{Delivery, Load, deliver};
use super::{Bench, PATIENCE, Played, TICK};
use crate::Outcome;
use crate::gateway::{Feed, Settings};
use crate::report::{Section, Verdict};
use crate::stats::Repeats;
use crate::swarm::Goal;
use crate::upstream::{Shape, Upstream};

/// Between two events: the clients' thread decodes what each of them gets, and must not be what sets the pace.
const EVERY: Duration = Duration::from_secs(1);

/// What an event may cost in gzip, as a multiple of one that is not compressed.
const CPU_LIMIT: f64 = 1.2;

/// Bytes of the JSON of an event.
const EVENT: usize = 2_000;

/// A number of a [`Delivery`], with its name and how many digits it is shown with.
type Measure = (&'static str, usize, fn(&Delivery) -> f64);

const MEASURES: [Measure; 6] = [
    ("bytes per event", 0, |run| run.bytes),
    ("CPU µs per event", 2, Delivery::cpu),
    ("p50 ms", 1, |run| run.latency.p50),
    ("p99 ms", 1, |run| run.latency.p99),
    ("events/s a client", 2, |run| run.rate),
    ("load of the clients' threads", 2, |run| run.busy),
];

/// Off and on by turns.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Played> {
    let every = match bench.options.quick {
        true => TICK,
        false => EVERY,
    };
    let settings = |gzip| Settings {
        gzip,
        ..Settings::polling(every)
    };
    if let Some(words) = bench.gateway.refuses(&settings(true))? {
        return Ok(Played::LeftOut(format!(
            "the gateway refuses `compression: gzip`: {words}"
        )));
    }
    let repeats = bench.options.repeats;
    let load = Load {
        clients: bench.options.clients,
        every,
        warm_up: 1,
        count: 10,
    };
    let mut section = Section::new(
        &format!(
            "Compression: {} clients, JSON events of {EVENT} bytes every {} ms",
            load.clients,
            every.as_millis()
        ),
        format!(
            "{} events to every client, {repeats} repeats by turns: median (lowest–highest); the ratio is that of each pair \
             of repeats. All prices in an event change with each. Clients decode.",
            load.count
        ),
        &["", "off", "gzip", "ratio"],
    );
    let (mut plain, mut packed) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        for gzip in [repeat % 2 == 1, repeat % 2 == 0] {
            let upstream = Arc::new(Upstream::start(Shape::Document(EVENT))?);
            let mut subject = bench.gateway.start(Feed::Http(upstream), &settings(gzip))?;
            let mut swarm = bench.swarm(&mut subject, load.clients)?;
            let name = if gzip { "gzip" } else { "off" };
            section.fault(name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
            let mut run = deliver(&mut subject, &mut swarm, &load)?;
            section.fault(name, run.faults.take());
            section.fault(name, run.lags(&load));
            match gzip {
                true => packed.push(run),
                false => plain.push(run),
            }
        }
    }
    let cpu = plain.iter().zip(&packed);
    if let Some(ratio) = Repeats::new(cpu.map(|(plain, packed)| packed.cpu() / plain.cpu())) {
        section.verdicts.push(Verdict {
            what: format!(
                "CPU µs per event in gzip against none, {} clients",
                load.clients
            ),
            goal: format!("≤ {CPU_LIMIT} ×"),
            measured: format!("{ratio:.2} ×"),
            met: ratio.median() <= CPU_LIMIT,
        });
    }
    for (name, digits, of) in MEASURES {
        let show = |runs: &[Delivery]| {
            Repeats::new(runs.iter().map(of))
                .map_or("–".into(), |values| format!("{values:.digits$}"))
        };
        let ratio = Repeats::new(
            plain
                .iter()
                .zip(&packed)
                .map(|(plain, packed)| of(packed) / of(plain)),
        );
        section.rows.push(vec![
            name.into(),
            show(&plain),
            show(&packed),
            ratio.map_or("–".into(), |ratio| format!("{ratio:.2} ×")),
        ]);
    }
    Ok(Played::Measured(section))
}
