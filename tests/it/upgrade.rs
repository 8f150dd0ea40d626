//! SIGUSR2: a new process takes over on the same sockets (EDGE L15). The real binary.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use wellspring::sse::parser::{Event, Item};

use super::support::client::{Connection, EventSource, get, request};
use super::support::process::{Process, run_in};
use super::support::redis::TestRedis;
use super::support::soon;
use super::support::upstream::{TestUpstream, json};

async fn run(folder: &Path, file: &str) -> (Process, SocketAddr) {
    fs::write(folder.join("wellspring.yaml"), file).expect("written");
    run_in(folder, &[]).await
}

fn number_after(line: &str, key: &str) -> u32 {
    let (_, rest) = line.split_once(key).expect("the key");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Who reads numbered events, and expects each of them exactly once and in order.
struct Numbers {
    address: SocketAddr,
    path: &'static str,
    /// What an event says.
    data: fn(u32) -> String,
    stream: EventSource,
    next: u32,
    /// The id of the last one.
    last: String,
}

impl Numbers {
    /// From zero on.
    async fn open(address: SocketAddr, path: &'static str, data: fn(u32) -> String) -> Self {
        Self {
            address,
            path,
            data,
            stream: EventSource::open(address, path).await,
            next: 0,
            last: String::new(),
        }
    }

    fn take(&mut self, event: Event) {
        let expected = (self.data)(self.next);
        assert_eq!((event.name.as_str(), event.data), ("message", expected));
        self.next += 1;
        self.last = event.id;
    }

    /// Stays on the process until a successor has taken over and it ends, and then comes back.
    async fn across_a_successor(&mut self, process: &mut Process) {
        process.signal("-USR2");
        let started = process.line("successor started").await;
        while let Some(item) = soon("an event", self.stream.item()).await {
            match item {
                Item::Event(event) if event.name == "closing" => {
                    assert_eq!(event.data, r#"{"reason":"drain"}"#);
                }
                Item::Event(event) => self.take(event),
                _ => {}
            }
        }
        assert!(!self.last.is_empty(), "nothing came");
        process.becomes(number_after(&started, "pid="));
        self.stream = EventSource::resume(self.address, self.path, &self.last).await;
    }

    /// The next that is expected is then `end`.
    async fn up_to(&mut self, end: u32) {
        while self.next < end {
            let event = self.stream.event().await;
            self.take(event);
        }
    }
}

fn file(more: &str) -> String {
    format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nshutdown: {{drain: 2s}}\n\
         streams:\n  - {{path: /numbers, publish: {{path: /publish/numbers}}}}\n{more}"
    )
}

/// EDGE L15: a connect loop sees no refusal, and each request is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_loop_sees_no_refusal() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut process, address) = run(folder.path(), &file("")).await;
    let (stop, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let connecting = {
        let (stop, answered) = (stop.clone(), answered.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let tcp = TcpStream::connect(address).await.expect("never refused");
                let mut connection = Connection::over(tcp);
                connection
                    .send(b"GET /none HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                    .await;
                assert_eq!(connection.response(false).await.head.status, 404);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    process.signal("-USR2");
    process.line("the successor serves").await;
    assert_eq!(process.ended().await, Some(0));
    let before = answered.load(Ordering::Relaxed);
    super::support::eventually("the successor answers", || {
        answered.load(Ordering::Relaxed) > before + 20
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    connecting.await.expect("no refusal");
    assert!(answered.load(Ordering::Relaxed) > 20);
}

/// EDGE L15, L8: numbered messages are published without a pause; a client that resumes gets each of them exactly once, in
/// order, across two successors; who stays on the old process until it ends is no later than the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_resuming_client_gets_each_message_exactly_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut process, address) = run(folder.path(), &file("")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut numbers = Numbers::open(address, "/numbers", |number| number.to_string()).await;
    let publishing = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let posted = request(
                    address,
                    "POST",
                    "/publish/numbers",
                    &["connection: close"],
                    &number.to_string(),
                )
                .await;
                assert_eq!(posted.head.status, 202, "{}", posted.body);
                number += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            number
        })
    };
    for _ in 0..2 {
        numbers.across_a_successor(&mut process).await;
    }
    stop.store(true, Ordering::Relaxed);
    let published = publishing.await.expect("published");
    numbers.up_to(published).await;
}

/// EDGE L8: the ids of a polled resource stay known, and a client that was current stays so: nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_a_polled_resource_stay_known() {
    let upstream = TestUpstream::saying(json("1")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let more = format!(
        "  - {{path: /value, http: {{upstream: legacy}}, every: 50ms}}\nupstreams: {{legacy: {{url: \"{}\"}}}}\n",
        upstream.url()
    );
    let (mut process, address) = run(folder.path(), &file(&more)).await;
    // The drain begins with the first ones: the last one stays for a while.
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(EventSource::open(address, "/value").await);
    }
    let mut stream = streams.pop().expect("the last one");
    let first = stream.event().await;
    process.signal("-USR2");
    process.line("the successor serves").await;
    // Who is still on the old process gets what the new one reads.
    upstream.say(json("2"));
    let second = stream.event().await;
    assert_eq!(second.data, "2");
    assert_eq!(stream.until("closing").await, r#"{"reason":"drain"}"#);
    assert_eq!(process.ended().await, Some(0));
    upstream.say(json("3"));
    let mut resumed = EventSource::resume(address, "/value", &first.id).await;
    assert_eq!(resumed.event().await, second);
    let third = resumed.event().await;
    assert_eq!((third.name.as_str(), third.data.as_str()), ("message", "3"));
}

/// What is retained exists nowhere else: it goes over though nobody reads it. So does the admin listener's port.
#[tokio::test(flavor = "multi_thread")]
async fn a_retained_message_goes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut process, address) = run(folder.path(), &file("")).await;
    let admin = process.address().await;
    request(
        address,
        "POST",
        "/publish/numbers",
        &["content-type: application/json"],
        r#"{"n":1}"#,
    )
    .await;
    process.signal("-USR2");
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(get(admin, "/readyz", &[]).await.head.status, 200);
    assert_eq!(
        get(address, "/numbers", &["accept: application/json"])
            .await
            .body,
        r#"{"n":1}"#
    );
}

/// CONTRACT §6: when the successor fails to start the old process goes on and says why; SIGUSR2 works again when that is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut process, address) = run(folder.path(), &file("")).await;
    let mut stream = EventSource::open(address, "/numbers").await;
    fs::write(folder.path().join("wellspring.yaml"), "nonsense").expect("written");
    process.signal("-USR2");
    let line = process.line("this process goes on").await;
    assert!(line.contains("exit status: 78"), "{line}");
    request(address, "POST", "/publish/numbers", &[], "1").await;
    assert_eq!(stream.event().await.data, "1");

    // A changed file that is good: the successor is what it says.
    let more = "  - {path: /new, publish: {path: /publish/new}}\n";
    fs::write(folder.path().join("wellspring.yaml"), file(more)).expect("written");
    process.signal("-USR2");
    assert_eq!(stream.until("closing").await, r#"{"reason":"drain"}"#);
    assert_eq!(process.ended().await, Some(0));
    let posted = request(address, "POST", "/publish/new", &[], "1").await;
    assert_eq!(posted.head.status, 202);
}

/// CONTRACT §6, EDGE L8: of a Redis stream a client that resumes gets each entry exactly once across two successors; who stays on
/// the old process until it ends is no later than the others.
#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_redis_stream_come_exactly_once() {
    let redis = Arc::new(TestRedis::start());
    let folder = tempfile::tempdir().expect("a folder");
    let more = format!(
        "  - {{path: /audit, redis: {{server: main, stream: audit}}}}\nredis: {{main: {{url: \"{}\"}}}}\n",
        redis.url()
    );
    let (mut process, address) = run(folder.path(), &file(&more)).await;
    let data = |number| format!(r#"{{"n":"{number}"}}"#);
    let mut entries = Numbers::open(address, "/audit", data).await;
    let stop = Arc::new(AtomicBool::new(false));
    let adding = {
        let (redis, stop) = (redis.clone(), stop.clone());
        tokio::task::spawn_blocking(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                redis.cli(&["XADD", "audit", "*", "n", &number.to_string()]);
                number += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            number
        })
    };
    for _ in 0..2 {
        entries.across_a_successor(&mut process).await;
    }
    stop.store(true, Ordering::Relaxed);
    let added = adding.await.expect("added");
    entries.up_to(added).await;
}
