//! From nothing to the first event; what a gateway weighs at rest.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Bench, Kind};
use crate::gateway::PATH;
use crate::report::{Section, Verdict};
use crate::stats::Repeats;
use crate::subject::{self, Subject};
use crate::{Outcome, process};

/// How long a start may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(10);

/// What a start should take at most, milliseconds.
const GOAL: f64 = 100.0;

/// What the gateway may weigh at rest, and its binary on the disk, bytes each.
const WEIGHT: u64 = 25 << 20;

/// Starts both several times.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let repeats = bench
        .options
        .repeats
        .max(if bench.options.quick { 3 } else { 7 });
    let mut section = Section::new(
        "Start and rest",
        format!(
            "From the making of the process to the first event at a client, {repeats} starts: median (lowest–highest); \
             about 1 ms of it is the leash that lets no child outlive this program. At rest: without clients, settled."
        ),
        &["", "broadcaster", "gateway"],
    );
    let mut starts = Vec::new();
    let mut resident = Vec::new();
    let mut weight = 0;
    let mut anonymous = Vec::new();
    for kind in [Kind::Broadcaster, Kind::Gateway] {
        let times: Vec<f64> = (0..repeats)
            .map(|_| first_event(&mut bench.subject(kind)?))
            .collect::<Outcome<_>>()?;
        starts.push(Repeats::new(times).ok_or("no start was measured")?);
        let mut resting = bench.subject(kind)?;
        // It has started when it accepts; the connection is closed at once.
        drop(subject::connect(
            resting.address,
            &mut resting.child,
            LIMIT,
        )?);
        anonymous.push(mebibytes(bench.weigh(resting.child.pid())?));
        weight = process::resident(resting.child.pid())?;
        resident.push(mebibytes(weight));
    }
    let row =
        |name: &str, cells: Vec<String>| std::iter::once(name.to_owned()).chain(cells).collect();
    let times = starts.iter().map(|times| format!("{times:.1}")).collect();
    section.rows.push(row("start to first event, ms", times));
    section.rows.push(row("resident at rest, MiB", resident));
    section.rows.push(row("of it anonymous, MiB", anonymous));
    section.rows.push(row(
        "binary, MiB",
        vec!["–".into(), mebibytes(bench.gateway.binary_size()?)],
    ));
    if let Some(gateway) = starts.last() {
        section.verdicts.push(Verdict {
            what: "start to first event served".into(),
            goal: format!("≤ {GOAL} ms"),
            measured: format!("{gateway:.1} ms"),
            met: gateway.median() <= GOAL,
        });
    }
    let binary = bench.gateway.binary_size()?;
    for (what, bytes) in [("resident at rest", weight), ("binary", binary)] {
        section.verdicts.push(Verdict {
            what: what.into(),
            goal: format!("≤ {} MiB", WEIGHT >> 20),
            measured: format!("{} MiB", mebibytes(bytes)),
            met: bytes <= WEIGHT,
        });
    }
    Ok(section)
}

/// Milliseconds from the making of the process to the first data at a client that asks as soon as it can.
fn first_event(subject: &mut Subject) -> Outcome<f64> {
    let mut stream = subject::connect(subject.address, &mut subject.child, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let host = subject.address;
    stream.write_all(
        format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n")
            .as_bytes(),
    )?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // The data of an event, behind the head and the first comment.
    while !seen.windows(6).any(|window| window == b"\ndata:") {
        match stream.read(&mut buffer)? {
            0 => {
                return Err(format!(
                    "no event before the end: {}",
                    String::from_utf8_lossy(&seen)
                )
                .into());
            }
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(subject.child.since().elapsed().as_secs_f64() * 1e3)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1024.0 * 1024.0))
}
