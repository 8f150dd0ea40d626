//! Memory per idle stream over TLS and HTTP/2, and CPU per event that is delivered so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivery::lags;
use super::{Bench, Kind, PATIENCE, SPARE, TICK};
use crate::certificate::Certificate;
use crate::gateway::{Feed, PATH, Settings};
use crate::payload::VALUE_BYTES;
use crate::report::{Section, Verdict};
use crate::stats::Repeats;
use crate::subject::{self, Subject};
use crate::swarm::Goal;
use crate::swarm::tls::{Carriage, TlsSwarm};
use crate::upstream::{Shape, Upstream};
use crate::{Outcome, process};

/// Events before those whose CPU is measured.
const WARM_UP: u32 = 5;

/// Connections with one stream, at most: each costs both sides a handshake a round.
const MOST: usize = 2_000;

/// Connections with [`STREAMS`] each, at most.
const MOST_SHARED: usize = 50;

/// Streams of a shared connection.
const STREAMS: usize = 100;

/// One way to carry streams, and what a stream (of shared connections: a further one) may cost, bytes.
struct Case {
    name: &'static str,
    carriage: Carriage,
    limit: f64,
}

const CASES: [Case; 3] = [
    Case {
        name: "TLS, HTTP/1.1",
        carriage: Carriage::Http1,
        limit: 9.0 * 1024.0,
    },
    Case {
        name: "HTTP/2, one stream a connection",
        carriage: Carriage::Http2(1),
        limit: 34.0 * 1024.0,
    },
    Case {
        name: "HTTP/2, each further stream",
        carriage: Carriage::Http2(STREAMS),
        limit: 3.0 * 1024.0,
    },
];

/// What all connections together cost, bytes, at four weighings as in the memory table.
type Growth = [f64; 4];

/// CPU per event in microseconds, and events a second at each stream, over some windows.
struct Cost {
    cpu: Repeats,
    rate: Repeats,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// That each stream gets before the second weighing.
    events: u32,
    /// In which everybody reconnects.
    rounds: usize,
    /// Of CPU.
    windows: usize,
    /// Events of a window.
    count: u32,
}

/// What an event over TLS and HTTP/1.1 may cost, as a multiple of one by the broadcaster, which has no TLS.
const CPU_LIMIT: f64 = 1.3;

/// All three, one after another, each in a gateway of its own.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let clients = match bench.options.quick {
        true => bench.options.clients.min(MOST) / 10,
        false => bench.options.clients.min(MOST),
    }
    .max(1);
    let shared = (bench.options.clients / STREAMS).clamp(1, MOST_SHARED);
    let effort = match bench.options.quick {
        true => Effort {
            events: 3,
            rounds: 1,
            windows: 1,
            count: 5,
        },
        false => Effort {
            events: 20,
            rounds: 5,
            windows: 3,
            count: 30,
        },
    };
    let Effort {
        events,
        rounds,
        windows,
        count,
    } = effort;
    let mut section = Section::new(
        &format!(
            "Idle streams over TLS 1.3: {clients} connections of one resource; {shared} with {STREAMS} streams each"
        ),
        format!(
            "Growth of the gateway's RssAnon over that with one connection, a stream; settled; {rounds} rounds in which \
             everybody disconnects and connects again, with full handshakes. A further stream is what {shared} \
             connections cost beyond {shared} with one stream. CPU is that of 10 events of 200 bytes a second, while all \
             are connected, over {windows} windows of {count} events: median (lowest–highest); it is understated where \
             fewer arrive."
        ),
        &[
            "bytes a stream",
            "fresh",
            &format!("after {events} events each"),
            "after the rounds",
            "all gone",
            "CPU µs per event",
            "events/s a stream",
        ],
    );
    let certificate = Certificate::make(bench.folder)?;
    let mut single = [0.0; 4];
    let mut over_tls = None;
    for case in &CASES {
        let streams = case.carriage.streams();
        let connections = if streams > 1 { shared } else { clients };
        eprintln!("  {}", case.name);
        let (growth, cost) = weigh(bench, case, connections, effort, &certificate, &mut section)?;
        let each = if streams > 1 {
            further(&growth, &single, connections, streams)
        } else {
            growth.map(|bytes| bytes / connections as f64)
        };
        single = each;
        let highest = each[..3].iter().copied().fold(f64::MIN, f64::max);
        section.verdicts.push(Verdict {
            what: format!("user memory, {}, the highest of three weighings", case.name),
            goal: format!("≤ {:.0} bytes", case.limit),
            measured: format!("{highest:.0} bytes"),
            met: highest <= case.limit,
        });
        section.rows.push(row(
            case.name,
            each.map(|bytes| format!("{bytes:.0}")),
            &cost,
        ));
        if case.carriage == Carriage::Http1 {
            over_tls = Some(cost.cpu.median());
            section.fault(case.name, lags(cost.rate.median(), TICK));
        }
    }
    let cost = plain(bench, effort, clients, &mut section)?;
    let nothing = [(); 4].map(|()| "–".to_owned());
    section
        .rows
        .push(row("broadcaster, plain HTTP/1.1", nothing, &cost));
    if let Some(over_tls) = over_tls {
        let ratio = over_tls / cost.cpu.median();
        section.verdicts.push(Verdict {
            what: format!(
                "CPU µs per event over TLS against the broadcaster without, {clients} clients"
            ),
            goal: format!("≤ {CPU_LIMIT:.2} ×"),
            measured: format!("{ratio:.2} ×"),
            met: ratio <= CPU_LIMIT,
        });
    }
    Ok(section)
}

fn row(name: &str, bytes: [String; 4], cost: &Cost) -> Vec<String> {
    let cost = [format!("{:.2}", cost.cpu), format!("{:.2}", cost.rate)];
    std::iter::once(name.into())
        .chain(bytes)
        .chain(cost)
        .collect()
}

/// What each stream but the first of a connection costs, when a connection with one stream costs `single`.
fn further(growth: &Growth, single: &Growth, connections: usize, streams: usize) -> Growth {
    let others = (connections * (streams - 1)) as f64;
    std::array::from_fn(|index| (growth[index] - single[index] * connections as f64) / others)
}

fn weigh(
    bench: &Bench<'_>,
    case: &Case,
    connections: usize,
    effort: Effort,
    certificate: &Certificate,
    section: &mut Section,
) -> Outcome<(Growth, Cost)> {
    let upstream = Arc::new(Upstream::start(Shape::Padded(VALUE_BYTES))?);
    let settings = Settings {
        certificate: Some(certificate),
        ..Settings::polling(TICK)
    };
    let mut subject = bench.gateway.start(Feed::Http(upstream), &settings)?;
    subject::connect(subject.address, &mut subject.child, Duration::from_secs(10))?;
    let pid = subject.child.pid();
    let swarm = |connections, carriage| {
        let threads = bench.options.client_threads;
        TlsSwarm::new(
            subject.address,
            PATH,
            connections,
            carriage,
            certificate,
            threads,
        )
    };
    // The first client brings what is made once, such as the channel and its poller, and stays to the end.
    let alone = match case.carriage {
        Carriage::Http1 => Carriage::Http1,
        Carriage::Http2(_) => Carriage::Http2(1),
    };
    let mut one = swarm(1, alone)?;
    let mut swarm = swarm(connections, case.carriage)?;
    one.run(1, PATIENCE)?;
    let base = bench.weigh(pid)?;
    let descriptors = process::descriptors(pid)? + SPARE;
    let grown = |bytes: u64| bytes as f64 - base as f64;

    section.fault(case.name, swarm.run(1, PATIENCE)?.faults());
    let fresh = grown(bench.weigh(pid)?);

    subject.beat(Some(TICK))?;
    section.fault(case.name, swarm.run(effort.events, PATIENCE)?.faults());
    subject.beat(None)?;
    let used = grown(bench.weigh(pid)?);

    for round in 1..=effort.rounds {
        eprintln!("    reconnecting everybody, {round} of {}", effort.rounds);
        section.fault(case.name, swarm.leave().faults());
        process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
        section.fault(case.name, swarm.run(1, PATIENCE)?.faults());
    }
    let reconnected = grown(bench.weigh(pid)?);

    let streams = connections * case.carriage.streams();
    let cost = cost(
        effort,
        &mut subject,
        streams,
        case.name,
        section,
        |events| {
            let tally = swarm.run(events, PATIENCE)?;
            Ok((tally.events, tally.faults()))
        },
    )?;
    section.fault(case.name, swarm.leave().faults());
    process::descriptors_fall_to(pid, descriptors, PATIENCE)?;
    let empty = grown(bench.weigh(pid)?);
    section.fault(case.name, one.leave().faults());
    Ok(([fresh, used, reconnected, empty], cost))
}

/// The broadcaster's CPU, without TLS.
fn plain(
    bench: &Bench<'_>,
    effort: Effort,
    clients: usize,
    section: &mut Section,
) -> Outcome<Cost> {
    let mut subject = bench.subject(Kind::Broadcaster)?;
    let mut swarm = bench.swarm(&mut subject, clients)?;
    section.fault(subject.name, swarm.run(Goal::Events(1), PATIENCE)?.faults());
    cost(
        effort,
        &mut subject,
        clients,
        "broadcaster",
        section,
        |events| {
            let tally = swarm.run(Goal::Events(events), PATIENCE)?;
            Ok((tally.events, tally.faults()))
        },
    )
}

/// The CPU of `subject` while `run` plays clients until each of `streams` has got so many events; `run` says how many
/// all of them got, and what went wrong.
fn cost(
    effort: Effort,
    subject: &mut Subject,
    streams: usize,
    name: &str,
    section: &mut Section,
    mut run: impl FnMut(u32) -> Outcome<(u64, Option<String>)>,
) -> Outcome<Cost> {
    let pid = subject.child.pid();
    subject.beat(Some(TICK))?;
    section.fault(name, run(WARM_UP)?.1);
    let (mut cpu, mut rate) = (Vec::new(), Vec::new());
    for _ in 0..effort.windows {
        let (before, begin) = (process::cpu(pid)?, Instant::now());
        let (events, faults) = run(effort.count)?;
        let (used, seconds) = (process::cpu(pid)? - before, begin.elapsed().as_secs_f64());
        section.fault(name, faults);
        cpu.push(used.total() * 1e6 / events as f64);
        rate.push(events as f64 / streams as f64 / seconds);
    }
    subject.beat(None)?;
    Ok(Cost {
        cpu: Repeats::new(cpu).ok_or("no event was delivered")?,
        rate: Repeats::new(rate).ok_or("no event was delivered")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_stream_is_what_the_first_of_each_connection_leaves() {
        let growth = [10.0 * (30.0 + 99.0 * 2.0); 4];
        assert_eq!(further(&growth, &[30.0; 4], 10, 100), [2.0; 4]);
    }
}
