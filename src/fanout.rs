//! Connections that have left the HTTP server: they are written to, kept alive, and noticed when they leave.
//!
//! A few plain threads (*shards*), each with its own epoll and its own connections. A connection is a socket, a cursor
//! into its channel's log and two or three deadlines: tens of bytes. The discipline of the loop stands in `shard`.

mod conn;
mod inbox;
mod owed;
mod room;
mod shard;
mod wheel;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::channel::{Cursor, Form, Subscription};
use inbox::{Command, Inbox};

/// A stream that the edge has answered and hands over. The response head is not sent yet.
#[derive(Debug)]
pub struct NewStream {
    /// Nonblocking; its bytes are plain.
    pub socket: std::net::TcpStream,
    /// The response head and the first bytes of the body: sent first, in one write with what is there to send.
    pub head: Vec<u8>,
    /// HTTP/1.1 chunks, or a body that ends with the connection (HTTP/1.0, EDGE H4).
    pub chunked: bool,
    /// What it reads.
    pub subscription: Subscription,
    /// Where it begins.
    pub cursor: Cursor,
    /// In which form.
    pub form: Form,
    /// Before jitter.
    pub heartbeat: Duration,
    /// Before jitter.
    pub max_age: Duration,
    /// Given back when the stream ends.
    pub permit: Option<Permit>,
}

/// Something that a stream holds while it lives; dropped at its end, however it ends.
pub type Permit = Box<dyn Send + std::fmt::Debug>;

/// Bounds for slow readers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that one client may be behind before it is moved to the newest state.
    pub queue: usize,
    /// How long a client may take no bytes (EDGE B3).
    pub write_stall: Duration,
}

/// All shards. Streams live until their client leaves, or [`Fanout::drain`].
#[derive(Debug)]
pub struct Fanout {
    shards: Vec<Arc<Inbox>>,
    next: AtomicUsize,
    open: Arc<watch::Sender<usize>>,
    limits: Limits,
}

impl Fanout {
    /// Starts `shards` threads, at least one.
    pub fn start(shards: usize, limits: Limits) -> io::Result<Self> {
        let shards = (0..shards.max(1))
            .map(|index| shard::start(index, limits))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            shards,
            next: AtomicUsize::new(0),
            open: Arc::new(watch::Sender::new(0)),
            limits,
        })
    }

    /// How slow readers are bounded.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes a stream over.
    pub fn adopt(&self, stream: NewStream) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let open = Open::new(self.open.clone());
        self.shards[index].send(Command::Adopt(Box::new(stream), open));
    }

    /// How many streams are open: from the moment they are handed over, so that a drain waits for those under way too.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Ends every stream, spread evenly over `window`, each with `closing` and its own `retry` between the two given
    /// (EDGE L14). Completes when none is left.
    pub async fn drain(&self, window: Duration, retry: (Duration, Duration)) {
        for shard in &self.shards {
            shard.send(Command::Drain { window, retry });
        }
        let mut open = self.open.subscribe();
        // It cannot fail: the sender is ours.
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

/// Counts as an open stream until dropped.
#[derive(Debug)]
struct Open(Arc<watch::Sender<usize>>);

impl Open {
    fn new(count: Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|open| *open += 1);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.send(Command::Stop);
        }
    }
}
