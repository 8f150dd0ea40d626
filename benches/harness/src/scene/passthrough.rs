//! Requests that are passed through: against bare Pingora, nginx, and no proxy at all.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::Bench;
use crate::child::Leashed;
use crate::report::{Section, Verdict};
use crate::stats::{Latency, Repeats};
use crate::upstream::{Shape, Upstream};
use crate::{Outcome, load, peer, process, subject};

/// Kept-alive connections of the load.
const CONNECTIONS: usize = 16;

/// Bytes of the two answers.
const SIZES: [usize; 2] = [200, 10_000];

/// Share of bare Pingora's throughput that must be left.
const THROUGHPUT: f64 = 0.9;

/// What the gateway may add to the median of a calm request, microseconds.
const ADDED: f64 = 100.0;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Gateway,
    Bare,
    Nginx,
}

/// One repeat.
#[derive(Clone, Copy, Debug)]
struct Run {
    rate: f64,
    p99: f64,
    /// Microseconds of CPU a request, where one process does all the work.
    cpu: Option<f64>,
    /// Median of calm requests, microseconds.
    calm: f64,
}

/// All ways by turns, for each size.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let (repeats, window, calm) = match bench.options.quick {
        true => (1, Duration::from_millis(400), 50),
        false => (bench.options.repeats.max(5), Duration::from_secs(2), 500),
    };
    let mut section = Section::new(
        &format!("Pass-through: {CONNECTIONS} connections, small GETs"),
        format!(
            "{repeats} repeats by turns on the same upstream: median (lowest–highest). Load: every connection asks again as soon \
             as it is answered, for {} ms; clients, proxy and upstream share the machine. Calm: one connection, {calm} requests, \
             2 ms between them.",
            window.as_millis()
        ),
        &[
            "",
            "requests/s",
            "p99 ms",
            "CPU µs a request",
            "calm p50 µs",
        ],
    );
    let mut ways = vec![Way::Direct, Way::Gateway];
    ways.extend(bench.options.bare.is_some().then_some(Way::Bare));
    ways.extend(peer::nginx().map(|_| Way::Nginx));
    for size in SIZES {
        let mut runs: Vec<(Way, Vec<Run>)> = ways.iter().map(|&way| (way, Vec::new())).collect();
        let upstream = Upstream::start(Shape::Padded(size))?;
        for repeat in 0..repeats {
            eprintln!("  {size} bytes, repeat {} of {repeats}", repeat + 1);
            let count = runs.len();
            for turn in 0..count {
                let (way, runs) = &mut runs[(turn + repeat) % count];
                runs.push(run(bench, *way, upstream.address(), window, calm)?);
            }
        }
        report(&mut section, size, &runs);
    }
    Ok(section)
}

fn run(
    bench: &Bench<'_>,
    way: Way,
    upstream: SocketAddr,
    window: Duration,
    calm: usize,
) -> Outcome<Run> {
    let mut proxy = start(bench, way, upstream)?;
    let address = match &mut proxy {
        Some((child, address)) => {
            subject::connect(*address, child, Duration::from_secs(10))?;
            *address
        }
        None => upstream,
    };
    // Fills pools and caches.
    load::closed(address, CONNECTIONS, window / 4)?;
    let weighed = proxy.as_ref().filter(|_| way != Way::Nginx);
    let used = || {
        weighed
            .map(|(child, _)| process::cpu(child.pid()))
            .transpose()
    };
    let before = used()?;
    let mut latencies = load::closed(address, CONNECTIONS, window)?;
    let after = used()?;
    let requests = latencies.len() as f64;
    let loaded = Latency::of(&mut latencies).ok_or("no answer")?;
    let mut latencies = load::calm(address, calm, Duration::from_millis(2))?;
    let calm = Latency::of(&mut latencies).ok_or("no answer")?;
    let cpu = before.zip(after);
    Ok(Run {
        rate: requests / window.as_secs_f64(),
        p99: loaded.p99,
        cpu: cpu.map(|(before, after)| (after - before).total() * 1e6 / requests),
        calm: calm.p50 * 1e3,
    })
}

fn start(
    bench: &Bench<'_>,
    way: Way,
    upstream: SocketAddr,
) -> Outcome<Option<(Leashed, SocketAddr)>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, subject::free_port()?));
    let child = match (way, &bench.options.bare) {
        (Way::Gateway, _) => bench.gateway.pass(address, upstream)?,
        (Way::Bare, Some(program)) => {
            let arguments = [address, upstream].map(|address| OsString::from(address.to_string()));
            Leashed::start(program, &arguments, &bench.folder.join("bare.log"), false)?
        }
        (Way::Nginx, _) => start_nginx(bench.folder, address, upstream)?,
        (Way::Direct | Way::Bare, _) => return Ok(None),
    };
    Ok(Some((child, address)))
}

/// As it is set up for speed: kept connections to the upstream, a worker a core, no access log.
fn start_nginx(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> Outcome<Leashed> {
    let program = peer::nginx().ok_or("nginx is gone")?;
    let file = folder.join("nginx.conf");
    let here = folder.display();
    let text = format!(
        "daemon off;\nworker_processes auto;\npid {here}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {here}/body;\nproxy_temp_path {here}/proxy;\n\
         fastcgi_temp_path {here}/f;\nuwsgi_temp_path {here}/u;\nscgi_temp_path {here}/s;\n\
         keepalive_requests 1000000000;\nupstream up {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen {listen}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $remote_addr; }} }}\n}}\n"
    );
    std::fs::write(&file, text)?;
    let arguments = ["-p".into(), folder.into(), "-c".into(), file.into()];
    Leashed::start(program, &arguments, &folder.join("nginx.log"), false)
}

fn report(section: &mut Section, size: usize, runs: &[(Way, Vec<Run>)]) {
    let of = |way: Way| {
        runs.iter()
            .find(|(known, _)| *known == way)
            .map(|(_, runs)| runs)
    };
    for (way, runs) in runs {
        let cell = |digits: usize, of: &dyn Fn(&Run) -> Option<f64>| {
            let repeats = Repeats::new(runs.iter().filter_map(of));
            repeats.map_or("–".into(), |repeats| format!("{repeats:.digits$}"))
        };
        let name = match way {
            Way::Direct => "no proxy",
            Way::Gateway => "gateway",
            Way::Bare => "bare Pingora",
            Way::Nginx => "nginx",
        };
        section.rows.push(vec![
            format!("{name}, {size} bytes"),
            cell(0, &|run| Some(run.rate)),
            cell(2, &|run| Some(run.p99)),
            cell(1, &|run| run.cpu),
            cell(0, &|run| Some(run.calm)),
        ]);
    }
    let Some(gateway) = of(Way::Gateway) else {
        return;
    };
    let pairs = |other: Way, of_pair: &dyn Fn(&Run, &Run) -> f64| {
        let other = of(other)?;
        Repeats::new(
            gateway
                .iter()
                .zip(other)
                .map(|(ours, other)| of_pair(ours, other)),
        )
    };
    if let Some(ratio) = pairs(Way::Bare, &|ours, bare| ours.rate / bare.rate) {
        section.verdicts.push(Verdict {
            what: format!("requests/s against bare Pingora, {size} bytes"),
            goal: format!("≥ {THROUGHPUT} ×"),
            measured: format!("{ratio:.2} ×"),
            met: ratio.median() >= THROUGHPUT,
        });
    }
    if let Some(added) = pairs(Way::Direct, &|ours, direct| ours.calm - direct.calm) {
        section.verdicts.push(Verdict {
            what: format!("added to a calm request, {size} bytes"),
            goal: format!("≤ {ADDED:.0} µs"),
            measured: format!("{added:.0} µs"),
            met: added.median() <= ADDED,
        });
    }
}
