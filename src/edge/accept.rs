//! Doors: listening sockets, bound before anything starts, that can be changed and closed while they stand open.
//!
//! A door never takes the last descriptors: what is open, and what we open ourselves, goes on when clients take all there are
//! (EDGE Q13).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use parking_lot::Mutex;
use pingora::proxy::HttpProxy;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use super::Edge;
use super::front::{self, Guest, Settings};
use crate::metrics::{self, Gauge, Metrics};

/// Connections that wait to be accepted; the kernel may keep fewer.
const BACKLOG: i32 = 4096;

/// How long to wait when no connection can be accepted, such as for want of descriptors (EDGE Q13).
const PAUSE: Duration = Duration::from_millis(100);

/// Descriptors that connections of clients are not given: for upstreams, Redis, files and the admin listener.
const RESERVE: u64 = 256;

/// Where nothing else bounds them.
const MOST_PLACES: usize = 1 << 16;

/// Binds `address`; port 0 takes a free one.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the old life's connections to leave the kernel.
    socket.set_reuse_address(true)?;
    if address.ip().is_ipv6() {
        // `[::]` is every address, of IPv4 too, whatever the system is set to.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Doors that failed: nobody is let in by them any more.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Vec<SocketAddr>>);

impl Failures {
    /// Where they were.
    pub fn all(&self) -> Vec<SocketAddr> {
        self.0.lock().clone()
    }

    /// Runs what accepts at `address`, which is not to end with a panic.
    async fn watch(&self, address: SocketAddr, accept: impl Future<Output = ()>) {
        if AssertUnwindSafe(accept).catch_unwind().await.is_err() {
            error!(listener = %address, "a listener failed");
            self.0.lock().push(address);
        }
    }
}

/// What stands behind every door.
#[derive(Clone)]
pub struct House {
    /// Serves the requests.
    pub proxy: Arc<HttpProxy<Edge>>,
    /// Turns true when the process ends: doors close, connections end with the request that they serve.
    pub stop: watch::Receiver<bool>,
    /// Each connection is one of these tasks.
    pub requests: TaskTracker,
    /// Where connections and refusals are counted.
    pub metrics: Arc<Metrics>,
    /// Told when a door stands no longer open though nobody closed it.
    pub failures: Arc<Failures>,
}

/// An open listening socket. It closes when this is dropped; connections that came by it go on.
#[derive(Debug)]
pub struct Door {
    shared: Arc<Shared>,
    socket: std::net::TcpListener,
    accepting: JoinHandle<Option<()>>,
    open: DropGuard,
}

/// What a door and the connections that came by it have in common.
#[derive(Debug)]
pub(super) struct Shared {
    settings: ArcSwap<Settings>,
    http1: Gauge,
    http2: Gauge,
}

impl Door {
    /// Accepts from now on, in tasks of the runtime that this is called in.
    pub fn open(
        socket: std::net::TcpListener,
        settings: Settings,
        house: House,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let name = address.to_string();
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(settings),
            http1: house.metrics.connections(&name, metrics::Protocol::Http1),
            http2: house.metrics.connections(&name, metrics::Protocol::Http2),
        });
        let closed = CancellationToken::new();
        let listener = TcpListener::from_std(socket.try_clone()?)?;
        let (failures, door) = (house.failures.clone(), shared.clone());
        let accepting = tokio::spawn(closed.clone().run_until_cancelled_owned(async move {
            failures
                .watch(address, accept(listener, door, Arc::new(house)))
                .await;
        }));
        tokio::spawn(
            closed
                .clone()
                .run_until_cancelled_owned(front::watch_files(shared.clone())),
        );
        Ok(Self {
            shared,
            socket,
            accepting,
            open: closed.drop_guard(),
        })
    }

    /// New connections are taken by `settings`, and new requests of old ones by their `hosts`.
    pub fn change(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
    }

    /// Stops accepting. When this completes, every connection that ever comes by it is one of the house's requests.
    pub async fn close(self) {
        drop(self.open);
        // A panic in it has been told.
        let _ = self.accepting.await;
    }

    /// The listening socket once more, for a successor process.
    pub fn socket(&self) -> io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Connections that are open, over HTTP/1.1 and over HTTP/2; those of streams too.
    pub fn connections(&self) -> (i64, i64) {
        (self.shared.http1.get(), self.shared.http2.get())
    }
}

impl Shared {
    /// By what connections are taken now.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }
}

/// Counts as an open connection of its door until dropped.
#[derive(Debug)]
pub(super) struct Open {
    shared: Arc<Shared>,
    http2: AtomicBool,
}

impl Open {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.http1.inc();
        Self {
            shared,
            http2: AtomicBool::new(false),
        }
    }

    /// It turned out to be HTTP/2.
    pub(super) fn is_http2(&self) {
        if !self.http2.swap(true, Ordering::Relaxed) {
            self.shared.http1.dec();
            self.shared.http2.inc();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        match self.http2.get_mut() {
            true => self.shared.http2.dec(),
            false => self.shared.http1.dec(),
        };
    }
}

/// Accepts until the process stops, or whoever runs this stops it.
async fn accept(listener: TcpListener, shared: Arc<Shared>, house: Arc<House>) {
    let mut stop = house.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((tcp, address)) => {
                let descriptor = tcp.as_raw_fd();
                // Without it small events wait for acknowledgements of the ones before.
                if let Err(error) = tcp.set_nodelay(true) {
                    debug!(%error, "a connection was gone before it was served");
                    continue;
                }
                front::welcome(Guest::new(shared.clone(), house.clone(), address), tcp);
                if is_scarce(descriptor) {
                    tokio::select! {
                        () = plenty(&listener) => {}
                        _ = stop.wait_for(|stop| *stop) => return,
                    }
                }
            }
            Err(error) => {
                warn!(%error, "no connection can be accepted for the moment");
                sleep(PAUSE).await;
            }
        }
    }
}

/// How many requests may pass through at once: with its client, each may take four descriptors.
pub(super) fn places() -> usize {
    usize::try_from(for_clients().unwrap_or(1024) / 4)
        .map_or(MOST_PLACES, |places| places.clamp(1, MOST_PLACES))
}

/// Whether this descriptor is one of the last. The system always gives the lowest that is free, so its number says how many
/// are taken, whoever took them.
fn is_scarce(descriptor: RawFd) -> bool {
    let Some(for_clients) = for_clients() else {
        return false;
    };
    u64::try_from(descriptor).is_ok_and(|descriptor| descriptor >= for_clients)
}

/// How many descriptors there are besides the reserve, as far as the system says.
fn for_clients() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(limit - RESERVE.min(limit / 4))
}

/// Waits until descriptors are free again.
async fn plenty(listener: &TcpListener) {
    warn!("almost all descriptors are taken: new connections wait");
    loop {
        sleep(PAUSE).await;
        // The lowest that is free, for a moment.
        let probe = listener.as_fd().try_clone_to_owned();
        if probe.is_ok_and(|probe| !is_scarce(probe.as_raw_fd())) {
            return info!("descriptors are free again: new connections are accepted");
        }
    }
}

/// Waits until all requests are answered, at most `limit`.
pub async fn finish(requests: &TaskTracker, limit: Duration) {
    requests.close();
    if timeout(limit, requests.wait()).await.is_err() {
        warn!(
            left = requests.len(),
            "requests were cut at the end of the drain window"
        );
    }
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House")
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}
