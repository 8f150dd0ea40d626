//! Simulated readers: event streams that are opened through real sockets, followed, and resumed as browsers do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::ACCEPT;
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::debug;

use crate::sse::parser::{Item, Parser};

/// What readers follow, in turns: the resources that the page shows, in the forms that it asks for.
const FOLLOWED: [&str; 3] = [
    "/api/quotes?deliver=merge-patch",
    "/api/orders?deliver=json-patch",
    "/api/sensor?deliver=value",
];

/// Each is two descriptors of this process.
const MOST: usize = 500;

/// So many new readers a second, as a crowd does not arrive at once.
const ARRIVALS: u32 = 200;

/// How long a reader waits before it reconnects, unless the stream says so.
const RETRY: Duration = Duration::from_secs(2);

/// The readers that are there.
#[derive(Debug)]
pub(super) struct Readers {
    client: Client,
    gateway: SocketAddr,
    tasks: Mutex<Vec<AbortHandle>>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    open: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Readers {
    /// No readers yet, of the gateway at `gateway`.
    pub(super) fn new(gateway: SocketAddr) -> reqwest::Result<Self> {
        // Plain HTTP on loopback: neither the system's authorities nor its proxies have a say.
        let client = Client::builder().no_proxy().tls_certs_only([]).build()?;
        Ok(Self {
            client,
            gateway,
            tasks: Mutex::default(),
            tally: Arc::default(),
        })
    }

    /// Lets readers come or leave until there are `wanted`, at most 500. Returns how many there will be.
    pub(super) fn set(&self, wanted: usize) -> usize {
        let wanted = wanted.min(MOST);
        let mut tasks = self.tasks.lock();
        let present = tasks.len();
        for leaving in tasks.drain(wanted.min(present)..) {
            leaving.abort();
        }
        for (index, turn) in (present..wanted).zip(0..) {
            let url = format!(
                "http://{}{}",
                self.gateway,
                FOLLOWED[index % FOLLOWED.len()]
            );
            let (client, tally) = (self.client.clone(), self.tally.clone());
            let task = tokio::spawn(async move {
                sleep(Duration::from_secs(1) * turn / ARRIVALS).await;
                follow(&client, &url, &tally).await;
            });
            tasks.push(task.abort_handle());
        }
        wanted
    }

    /// How many there are to be, how many streams are open, and what came over all of them since the start.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "wanted": self.tasks.lock().len(),
            "open": self.tally.open.load(Ordering::Relaxed),
            "events": self.tally.events.load(Ordering::Relaxed),
            "bytes": self.tally.bytes.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

/// Follows a stream for ever.
async fn follow(client: &Client, url: &str, tally: &Tally) {
    let mut last_id = String::new();
    let mut retry = RETRY;
    loop {
        let mut parser = Parser::resuming(last_id);
        if let Err(error) = read(client, url, tally, &mut parser, &mut retry).await {
            debug!(%error, url, "a reader lost its stream");
        }
        last_id = parser.last_event_id().to_owned();
        sleep(retry).await;
    }
}

/// Reads one connection to its end.
async fn read(
    client: &Client,
    url: &str,
    tally: &Tally,
    parser: &mut Parser,
    retry: &mut Duration,
) -> reqwest::Result<()> {
    let mut request = client.get(url).header(ACCEPT, "text/event-stream");
    if !parser.last_event_id().is_empty() {
        request = request.header("last-event-id", parser.last_event_id());
    }
    let mut response = request.send().await?.error_for_status()?;
    let _open = Open::new(&tally.open);
    while let Some(bytes) = response.chunk().await? {
        tally.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        for item in parser.push(&bytes) {
            match item {
                Item::Event(_) => drop(tally.events.fetch_add(1, Ordering::Relaxed)),
                Item::Retry(milliseconds) => *retry = Duration::from_millis(milliseconds),
                // Without a limit nothing is too large.
                Item::Comment(_) | Item::TooLarge => {}
            }
        }
    }
    Ok(())
}

/// One open stream, until dropped.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    fn readers(gateway: SocketAddr) -> Readers {
        // Installed once by whoever is first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Readers::new(gateway).expect("a client")
    }

    async fn accept(listener: &TcpListener) -> (TcpStream, String) {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.expect("a head"));
        }
        (tcp, String::from_utf8(head).expect("ASCII"))
    }

    async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        waited.expect(what);
    }

    #[tokio::test]
    async fn readers_follow_resume_and_leave() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let readers = readers(listener.local_addr().expect("an address"));
        assert_eq!(readers.set(1), 1);

        let (mut tcp, head) = accept(&listener).await;
        assert!(
            head.starts_with("GET /api/quotes?deliver=merge-patch "),
            "{head}"
        );
        assert!(head.contains("accept: text/event-stream"), "{head}");
        let stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 1\n\nid: 7\ndata: 1\n\ndata: 2\n\n";
        tcp.write_all(stream).await.expect("written");
        eventually("two events", || readers.to_json()["events"] == 2).await;
        assert_eq!(readers.to_json()["open"], 1);
        drop(tcp);

        let (mut tcp, head) = accept(&listener).await;
        assert!(head.contains("last-event-id: 7"), "{head}");
        tcp.write_all(stream).await.expect("written");
        eventually("two more", || readers.to_json()["events"] == 4).await;
        assert_eq!(readers.to_json()["open"], 1);
        assert_eq!(readers.set(0), 0);
        eventually("nobody", || readers.to_json()["open"] == 0).await;
        drop(tcp);
    }

    #[tokio::test]
    async fn a_crowd_has_a_limit() {
        let readers = readers(([127, 0, 0, 1], 9).into());
        assert_eq!(readers.set(usize::MAX), MOST);
        assert_eq!(readers.to_json()["wanted"], MOST);
        assert_eq!(readers.set(3), 3);
        assert_eq!(readers.to_json()["wanted"], 3);
    }
}
