//! Other servers that push the same events, beside the gateway and the broadcaster.

use super::delivery::{Delivery, Load, deliver};
use super::{Bench, Kind, PATIENCE, TICK};
use crate::report::Section;
use crate::subject::{Own, Subject};
use crate::swarm::Goal;
use crate::{Outcome, peer, process};

/// Clients, at most.
const MOST: usize = 5_000;

/// Clients of Flask-SSE, at most: each has a connection to Redis, and one core does not do more.
const MOST_FLASK: usize = 300;

/// Who else there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Broadcaster,
    Gateway,
    Tokio,
    Nchan,
    /// The broadcaster with as many clients as the next has.
    FewBroadcaster,
    FlaskSse,
}

const SERVERS: [Server; 6] = [
    Server::Broadcaster,
    Server::Gateway,
    Server::Tokio,
    Server::Nchan,
    Server::FewBroadcaster,
    Server::FlaskSse,
];

/// One after another.
pub(super) fn measure(bench: &Bench<'_>) -> Outcome<Section> {
    let clients = bench.options.clients.min(MOST);
    let few = clients.min(if bench.options.quick { 50 } else { MOST_FLASK });
    let mut section = Section::new(
        &format!("Beside others: {clients} clients, 200-byte events, 10 a second"),
        format!(
            "One run each, {few} clients where more cannot be held; the ratio is that to the broadcaster with as many. \
             nchan and Flask-SSE get events as they are told: by POST, and over Redis, whose own work is not counted. \
             Memory is the growth of RssAnon of all processes of a server."
        ),
        &[
            "",
            "clients",
            "CPU µs per event",
            "ratio",
            "p50 ms",
            "p99 ms",
            "max ms",
            "events/s a client",
            "bytes a client",
            "faults",
        ],
    );
    let mut bare = None;
    for server in SERVERS {
        let held = match server {
            Server::FlaskSse | Server::FewBroadcaster => few,
            _ => clients,
        };
        let load = Load {
            clients: held,
            every: TICK,
            warm_up: if bench.options.quick { 2 } else { 5 },
            count: if bench.options.quick { 5 } else { 50 },
        };
        let run = match run(bench, server, &load) {
            Ok(Some(run)) => run,
            Ok(None) => {
                section.rows.push(empty(server, held, "not installed"));
                continue;
            }
            Err(problem) if matches!(server, Server::Nchan | Server::FlaskSse) => {
                let problem = problem.to_string().replace(['\n', '|'], " ");
                section.rows.push(empty(server, held, &problem));
                continue;
            }
            Err(problem) => return Err(problem),
        };
        if matches!(server, Server::Broadcaster | Server::FewBroadcaster) {
            bare = Some(run.delivery.cpu());
        }
        section.rows.push(row(server, &load, &run, bare));
        if server == Server::Gateway {
            section.fault(name(server), run.delivery.faults);
        }
    }
    Ok(section)
}

/// One server.
struct Run {
    delivery: Delivery,
    /// Bytes a client.
    memory: f64,
}

/// `None` when it is not installed.
fn run(bench: &Bench<'_>, server: Server, load: &Load) -> Outcome<Option<Run>> {
    let mut subject = match server {
        Server::Broadcaster | Server::FewBroadcaster => bench.subject(Kind::Broadcaster)?,
        Server::Gateway => bench.subject(Kind::Gateway)?,
        Server::Tokio => Subject::own(Own::Tokio, bench.folder)?,
        Server::Nchan => match peer::nchan(bench.folder)? {
            Some(subject) => subject,
            None => return Ok(None),
        },
        Server::FlaskSse => {
            let python = bench.options.python.as_deref();
            let Some(mut flask) = peer::FlaskSse::start(python, bench.folder)? else {
                return Ok(None);
            };
            // Its clients get nothing, not even a head, before there is an event.
            flask.subject.beat(Some(TICK))?;
            return weigh(bench, &mut flask.subject, load).map(Some);
        }
    };
    weigh(bench, &mut subject, load).map(Some)
}

fn weigh(bench: &Bench<'_>, subject: &mut Subject, load: &Load) -> Outcome<Run> {
    let mut swarm = bench.swarm(subject, load.clients)?;
    let pid = subject.child.pid();
    let anonymous = || -> Outcome<u64> {
        let family = process::family(pid)?.into_iter();
        family.map(|member| bench.weigh(member)).sum()
    };
    let base = anonymous()?;
    swarm.run(Goal::Events(1), PATIENCE)?;
    let delivery = deliver(subject, &mut swarm, load)?;
    let grown = anonymous()? as f64 - base as f64;
    Ok(Run {
        delivery,
        memory: grown / load.clients as f64,
    })
}

fn name(server: Server) -> &'static str {
    match server {
        Server::Broadcaster | Server::FewBroadcaster => "broadcaster",
        Server::Gateway => "gateway",
        Server::Tokio => "tokio, broadcast channel",
        Server::Nchan => "nginx with nchan",
        Server::FlaskSse => "Flask-SSE, gunicorn with gevent",
    }
}

fn row(server: Server, load: &Load, run: &Run, bare: Option<f64>) -> Vec<String> {
    let delivery = &run.delivery;
    vec![
        name(server).into(),
        load.clients.to_string(),
        format!("{:.2}", delivery.cpu()),
        match bare.map(|bare| delivery.cpu() / bare) {
            Some(ratio) if ratio.is_finite() => format!("{ratio:.2} ×"),
            _ => "–".into(),
        },
        format!("{:.1}", delivery.latency.p50),
        format!("{:.1}", delivery.latency.p99),
        format!("{:.1}", delivery.latency.max),
        format!("{:.2}", delivery.rate),
        format!("{:.0}", run.memory),
        delivery.faults.clone().unwrap_or_else(|| "none".into()),
    ]
}

fn empty(server: Server, clients: usize, why: &str) -> Vec<String> {
    let mut cells = vec![name(server).into(), clients.to_string()];
    cells.extend(std::iter::repeat_n("–".to_owned(), 7));
    cells.push(why.to_owned());
    cells
}
