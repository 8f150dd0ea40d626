//! Connections that have left the HTTP server: they are written to, kept alive, and noticed when they leave.
//!
//! A few plain threads (*shards*), each with its own epoll and its own connections. A connection is a socket, a cursor
//! into its channel's log and two or three deadlines: tens of bytes. The discipline of the loop stands in `shard`.

mod conn;
mod shard;
mod wheel;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::channel::{Cursor, Form, Subscription};
use shard::{Command, ShardHandle};

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
    shards: Vec<Arc<ShardHandle>>,
    next: AtomicUsize,
    open: watch::Receiver<usize>,
}

impl Fanout {
    /// Starts `shards` threads, at least one.
    pub fn start(shards: usize, limits: Limits) -> io::Result<Self> {
        let (opened, open) = watch::channel(0);
        let opened = Arc::new(opened);
        let shards = (0..shards.max(1))
            .map(|index| ShardHandle::start(index, limits, opened.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            shards,
            next: AtomicUsize::new(0),
            open,
        })
    }

    /// Takes a stream over.
    pub fn adopt(&self, stream: NewStream) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        self.shards[index].send(Command::Adopt(Box::new(stream)));
    }

    /// How many streams are open.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Ends every stream, spread evenly over `window`, each with `closing` and its own `retry` between the two given
    /// (EDGE L14). Completes when none is left.
    pub async fn drain(&self, window: Duration, retry: (Duration, Duration)) {
        for shard in &self.shards {
            shard.send(Command::Drain { window, retry });
        }
        let mut open = self.open.clone();
        // An error means that the shards are gone, and their streams with them.
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.send(Command::Stop);
        }
    }
}
