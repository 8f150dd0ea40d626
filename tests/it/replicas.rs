//! Three replicas behind HAProxy with one Redis, as `examples/replicas` sets them up: a rolling restart under thousands of
//! clients that resume loses nothing (CONTRACT §2 `cluster`, EDGE L8, L14).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use wellspring::sse::parser::{Item, Parser};

use super::hops::Hop;
use super::support::client::{Connection, EventSource, request};
use super::support::process::{Process, example, program};
use super::support::redis::{TestRedis, free_port};
use super::support::upstream::{TestUpstream, json};
use super::support::{eventually, soon};

/// Clients of the rolling restart.
const CLIENTS: usize = 3000;

struct Replica {
    process: Process,
    port: u16,
    admin_port: u16,
}

impl Replica {
    /// `examples/replicas/replica` on these ports.
    async fn start(redis: &TestRedis, api: &str, (port, admin_port): (u16, u16)) -> Self {
        let mut command = program(example("replicas").join("replica"));
        command
            .arg("1")
            .env("WELLSPRING", env!("CARGO_BIN_EXE_wellspring"))
            .env("PORT", port.to_string())
            .env("ADMIN_PORT", admin_port.to_string())
            .env("REDIS_URL", redis.url())
            .env("API_URL", api);
        let mut process = Process::start(&mut command);
        Self {
            port: process.address().await.port(),
            process,
            admin_port,
        }
    }
}

async fn front(replicas: &[Replica]) -> Hop {
    let variables: BTreeMap<String, String> = replicas
        .iter()
        .zip(1..)
        .flat_map(|(replica, number)| {
            [
                (
                    format!("REPLICA_{number}"),
                    format!("127.0.0.1:{}", replica.port),
                ),
                (format!("CHECK_{number}"), replica.admin_port.to_string()),
            ]
        })
        .collect();
    let file = std::fs::read_to_string(example("replicas").join("haproxy.cfg")).expect("is there");
    Hop::start("haproxy", |folder, address| {
        let mut file = file.replace("${BIND}", &address.to_string());
        for (name, value) in &variables {
            file = file.replace(&format!("${{{name}}}"), value);
        }
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, file).expect("written");
        vec!["-db".into(), "-f".into(), path.display().to_string()]
    })
    .await
}

/// What a client has seen: the numbers of its events, as they came.
#[derive(Default)]
struct Seen {
    events: Vec<u64>,
    connections: usize,
}

/// Reads as EventSource does until told to stop; comes back with the last id, a moment after an end.
async fn client(front: SocketAddr, stop: Arc<AtomicBool>, open: Arc<AtomicUsize>) -> Seen {
    let (mut seen, mut last) = (Seen::default(), String::new());
    while !stop.load(Ordering::Relaxed) {
        let _ = read(front, &mut last, &mut seen, &stop, &open).await;
        tokio::time::sleep(Duration::from_millis(200 + fastrand::u64(..400))).await;
    }
    seen
}

async fn read(
    front: SocketAddr,
    last: &mut String,
    seen: &mut Seen,
    stop: &AtomicBool,
    open: &AtomicUsize,
) -> Option<()> {
    let mut connection = Connection::over(TcpStream::connect(front).await.ok()?);
    let resume = match last.is_empty() {
        true => String::new(),
        false => format!("last-event-id: {last}\r\n"),
    };
    let head = format!(
        "GET /quotes/ACME HTTP/1.1\r\nhost: a.example\r\naccept: text/event-stream\r\n{resume}\r\n"
    );
    connection.send(head.as_bytes()).await;
    if connection.head().await.status != 200 {
        return None;
    }
    seen.connections += 1;
    let mut counted = false;
    let mut parser = Parser::default();
    while let Some(chunk) = connection.chunk().await {
        for item in parser.push(&chunk) {
            let Item::Event(event) = item else { continue };
            assert_ne!(event.name, "reset", "an id was not known: {last}");
            if event.name.is_empty() || event.name == "message" {
                let (_, number) = event.id.split_once('-').expect("an id");
                seen.events.push(number.parse().expect("a number"));
                *last = event.id;
                if !std::mem::replace(&mut counted, true) {
                    open.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if stop.load(Ordering::Relaxed) {
            return None;
        }
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_and_doubles_nothing() {
    let redis = TestRedis::start();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let api = TestUpstream::start(move |_| {
        json(&format!(
            "{{\"n\":{}}}",
            counted.fetch_add(1, Ordering::Relaxed)
        ))
    })
    .await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let ports = (free_port(), free_port());
        replicas.push(Replica::start(&redis, &api.url(), ports).await);
    }
    let front = front(&replicas).await;
    let (stop, open) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(front.address, stop.clone(), open.clone())))
        .collect();
    eventually("all read", || open.load(Ordering::Relaxed) >= CLIENTS).await;

    for at in 0..replicas.len() {
        let Replica {
            process,
            port,
            admin_port,
        } = replicas.remove(at);
        process.stop().await;
        replicas.insert(
            at,
            Replica::start(&redis, &api.url(), (port, admin_port)).await,
        );
        // Who read there has come to the others, and they poll.
        let before = count.load(Ordering::Relaxed);
        eventually("polls go on", || count.load(Ordering::Relaxed) > before + 2).await;
    }
    let before = count.load(Ordering::Relaxed);
    eventually("everybody is back", || {
        count.load(Ordering::Relaxed) > before + 8
    })
    .await;
    stop.store(true, Ordering::Relaxed);

    let (mut events, mut connections) = (0, 0);
    let mut ends = Vec::new();
    for client in clients {
        let seen = soon("it ends", client).await.expect("no panic");
        for pair in seen.events.windows(2) {
            assert_eq!(pair[1], pair[0] + 1, "lost or doubled: {:?}", seen.events);
        }
        events += seen.events.len();
        connections += seen.connections;
        ends.extend(seen.events.last().copied());
    }
    let (first, last) = (ends.iter().min(), ends.iter().max());
    println!("{events} events in {connections} connections of {CLIENTS} clients");
    assert!(
        connections > 2 * CLIENTS,
        "each replica's clients moved: {connections}"
    );
    assert!(
        last.zip(first)
            .is_some_and(|(last, first)| last - first < 8),
        "{first:?} {last:?}"
    );
}

/// What is posted at one reaches the readers of all, by way of HAProxy.
#[tokio::test(flavor = "multi_thread")]
async fn the_front_publishes_to_the_readers_of_all() {
    let redis = TestRedis::start();
    let api = TestUpstream::saying(json("1")).await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&redis, &api.url(), (free_port(), free_port())).await);
    }
    let front = front(&replicas).await;
    let key = ["x-api-key: secret", "content-type: text/plain"];
    let posted = request(front.address, "POST", "/publish/alerts", &key, "first").await;
    assert_eq!(posted.head.status, 202, "{}", posted.body);
    let refused = request(front.address, "POST", "/publish/alerts", &[], "second").await;
    assert_eq!(refused.head.status, 401);
    let mut ids = Vec::new();
    for replica in &replicas {
        let address = SocketAddr::from(([127, 0, 0, 1], replica.port));
        let mut stream = EventSource::open(address, "/alerts").await;
        let event = soon("the message", stream.event()).await;
        assert_eq!(event.data, "first");
        ids.push(event.id);
    }
    assert!(
        ids.iter().all(|id| posted.body.contains(id)),
        "{ids:?} {}",
        posted.body
    );
}
