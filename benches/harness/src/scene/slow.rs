//! Clients that read nothing: what the others notice, and what they take in the process and in the kernel.

use std::sync::Arc;
use std::time::Duration;

use super::delivery::{Delivery, Load, deliver};
use super::{Bench, PATIENCE};
use crate::Outcome;
use crate::gateway::{Feed, PATH, Settings};
use crate::report::{Section, Verdict};
use crate::stalled::Stalled;
use crate::stats::Repeats;
use crate::subject::Subject;
use crate::swarm::{Goal, Swarm};
use crate::upstream::{Shape, Upstream};

/// All clients; a tenth of them reads nothing.
const CLIENTS: usize = 1_000;

/// Of a quick run, in which larger events fill the queue of fewer clients sooner.
const FEW: usize = 100;

/// Between two events.
const EVERY: Duration = Duration::from_millis(50);

/// Bytes that a client may be behind: the gateway's default.
const QUEUE: f64 = 256.0 * 1024.0;

/// Bytes that are sent while the stalled clients fall behind: more than the queue and the kernel's buffers.
const BEHIND: usize = 480_000;

/// Limits: of the others' p99 to that without stalled clients, and of the kernel's memory for a stalled one.
const LATENCY: f64 = 1.05;
const KERNEL: f64 = 100.0 * 1024.0;

/// Events before all others: until the gateway keeps as many for clients that reconnect as it ever does, and its memory
/// does not grow because of them.
const HISTORY: u32 = 300;

/// Longer than the measurement: stalled clients stay.
const STAY: Duration = Duration::from_secs(300);

/// One repeat.
struct Repeat {
    alone: Delivery,
    beside: Delivery,
    /// Growth of the process for each stalled client, bytes.
    memory: f64,
    /// The kernel's, for the greediest of them.
    kernel: Option<f64>,
}

/// Alone and beside stalled clients by turns, in one gateway.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let (all, event, history) = match bench.options.quick {
        true => (FEW.min(bench.options.clients), 20_000, 10),
        false => (CLIENTS.min(bench.options.clients), 4_000, HISTORY),
    };
    let stalled = (all / 10).max(1);
    let load = Load {
        clients: all - stalled,
        every: EVERY,
        warm_up: 5,
        count: if bench.options.quick { 20 } else { 80 },
    };
    let mut section = Section::new(
        &format!("Slow clients: {stalled} of {all} read nothing"),
        format!(
            "Events of {event} bytes, {} a second; the others alone, then beside clients that stopped reading {} KB ago; \
             the ratio is that of each pair of {} repeats. Memory is the growth of RssAnon for each stalled client. \
             Kernel memory is what ss tells of the gateway's sockets, the largest.",
            1_000 / EVERY.as_millis(),
            BEHIND / 1_000,
            bench.options.repeats,
        ),
        &["", "alone", "beside stalled clients", "ratio"],
    );
    let upstream = Arc::new(Upstream::start(Shape::Document(event))?);
    let settings = Settings {
        write_stall: STAY,
        ..Settings::polling(EVERY)
    };
    let mut subject = bench.gateway.start(Feed::Http(upstream), &settings)?;
    let mut swarm = bench.swarm(&mut subject, load.clients)?;
    section.fault("clients", swarm.run(Goal::Events(1), PATIENCE)?.faults());
    subject.beat(Some(EVERY))?;
    let filled = swarm.run(Goal::Events(history), PATIENCE)?;
    section.fault("clients", filled.faults());
    let mut repeats = Vec::new();
    for number in 1..=bench.options.repeats {
        eprintln!("  repeat {number} of {}", bench.options.repeats);
        repeats.push(repeat(
            bench,
            (&mut subject, &mut swarm),
            &load,
            (stalled, (BEHIND / event) as u32),
            &mut section,
        )?);
    }
    report(&mut section, &repeats);
    Ok(section)
}

/// Alone, then beside so many that read nothing, once so many events have been sent to them.
fn repeat(
    bench: &Bench<'_>,
    (subject, swarm): (&mut Subject, &mut Swarm),
    load: &Load,
    (stalled, events): (usize, u32),
    section: &mut Section,
) -> Outcome<Repeat> {
    let pid = subject.child.pid();
    let mut alone = deliver(subject, swarm, load)?;
    section.fault("alone", alone.faults.take());
    section.fault("alone", alone.lags(load));
    let before = bench.weigh(pid)?;

    let slow = Stalled::connect(subject.address, PATH, stalled)?;
    subject.beat(Some(EVERY))?;
    let falling = swarm.run(Goal::Events(events), PATIENCE)?;
    section.fault("while clients fall behind", falling.faults());
    let mut beside = deliver(subject, swarm, load)?;
    section.fault("beside stalled clients", beside.faults.take());
    section.fault("beside stalled clients", beside.lags(load));
    let grown = bench.weigh(pid)? as f64 - before as f64;

    let kernel = slow.kernel_memory()?;
    if let Some(open) = kernel.as_ref().map(Vec::len)
        && open != stalled
    {
        section
            .faults
            .push(format!("{open} of {stalled} stalled clients stayed"));
    }
    let largest = kernel.and_then(|sockets| sockets.into_iter().max());
    Ok(Repeat {
        alone,
        beside,
        memory: grown / stalled as f64,
        kernel: largest.map(|bytes| bytes as f64),
    })
}

fn report(section: &mut Section, repeats: &[Repeat]) {
    let show = |values: Option<&Repeats>, digits: usize| {
        values.map_or("–".into(), |values| format!("{values:.digits$}"))
    };
    type Measure = (&'static str, usize, fn(&Delivery) -> f64);
    let measures: [Measure; 4] = [
        ("p50 ms", 2, |run| run.latency.p50),
        ("p99 ms", 2, |run| run.latency.p99),
        ("max ms", 2, |run| run.latency.max),
        ("CPU µs per event", 2, Delivery::cpu),
    ];
    for (name, digits, of) in measures {
        let ratio = Repeats::new(
            repeats
                .iter()
                .map(|repeat| of(&repeat.beside) / of(&repeat.alone)),
        );
        let alone = Repeats::new(repeats.iter().map(|repeat| of(&repeat.alone)));
        let beside = Repeats::new(repeats.iter().map(|repeat| of(&repeat.beside)));
        section.rows.push(vec![
            name.into(),
            show(alone.as_ref(), digits),
            show(beside.as_ref(), digits),
            ratio
                .as_ref()
                .map_or("–".into(), |ratio| format!("{ratio:.2} ×")),
        ]);
        if let Some(ratio) = ratio.filter(|_| name == "p99 ms") {
            section.verdicts.push(Verdict {
                what: "p99 of the others beside stalled clients".into(),
                goal: format!("≤ {LATENCY} ×"),
                measured: format!("{ratio:.2} ×"),
                met: ratio.median() <= LATENCY,
            });
        }
    }
    let memory = Repeats::new(repeats.iter().map(|repeat| repeat.memory));
    let kernel = Repeats::new(repeats.iter().filter_map(|repeat| repeat.kernel));
    for (name, bytes, limit) in [
        ("memory for a stalled client, bytes", memory, QUEUE),
        ("kernel memory for a stalled client, bytes", kernel, KERNEL),
    ] {
        section.rows.push(vec![
            name.into(),
            "–".into(),
            show(bytes.as_ref(), 0),
            "–".into(),
        ]);
        if let Some(bytes) = bytes {
            section.verdicts.push(Verdict {
                what: name.into(),
                goal: format!("≤ {limit}"),
                measured: format!("{bytes:.0}"),
                met: bytes.median() <= limit,
            });
        }
    }
}
