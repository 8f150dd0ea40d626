//! Connections that have left the HTTP server: they are written to, kept alive, and noticed when they leave.
//!
//! A few plain threads (*shards*), each with its own epoll and its own connections. A connection is a socket, perhaps a
//! TLS session, a cursor into its channel's log and two or three deadlines: tens of bytes without TLS. The discipline of
//! the loop stands in `shard`. Streams over HTTP/2 share connections that the runtime drives, so they stay there: `http2`.
//!
//! However a stream is carried, it begins with its head, is given what the channel says that its cursor is owed, and
//! ends for one [`Reason`].

mod carrier;
mod conn;
mod end;
mod http2;
mod inbox;
mod owed;
mod room;
mod shard;
mod socket;
mod wheel;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::channel::{Cursor, Form, Subscription};
use crate::sse::Encoder;
use end::Account;
use inbox::{Command, Inbox};

pub use carrier::Carrier;
pub use end::{Closing, End, Ended, Reason};

/// A stream that the edge has answered and hands over.
#[derive(Debug)]
pub struct NewStream {
    /// The way to the client.
    pub carrier: Carrier,
    /// What goes first, in one write with what is there to send: the response head, which is not sent yet but over
    /// HTTP/2, and the first bytes of the body.
    pub head: Vec<u8>,
    /// Writes the body; has begun it.
    pub encoder: Encoder,
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
    /// When the client's token is valid no longer, on the wall's clock as tokens are (EDGE A6, O12).
    pub expires: Option<SystemTime>,
    /// Given back when the stream ends.
    pub permit: Option<Permit>,
    /// Told when the stream is over.
    pub observer: Option<Box<dyn Ended>>,
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
    /// For streams that no shard has.
    drain: watch::Sender<Option<Drain>>,
    limits: Mutex<Limits>,
}

/// How all streams are ended.
#[derive(Clone, Copy, Debug)]
struct Drain {
    window: Duration,
    /// Bounds of each one's own `retry`.
    retry: (Duration, Duration),
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
            drain: watch::Sender::new(None),
            limits: Mutex::new(limits),
        })
    }

    /// How slow readers are bounded.
    pub fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    /// Bounds slow readers in another way from now on.
    pub fn change(&self, limits: Limits) {
        *self.limits.lock() = limits;
        for shard in &self.shards {
            shard.send(Command::Limits(limits));
        }
    }

    /// Takes a stream over. One over HTTP/2 must come from within a runtime.
    pub fn adopt(&self, stream: NewStream) {
        let (carrier, arrival) = Arrival::new(stream, Open::new(self.open.clone()));
        let (tcp, tls) = match carrier {
            Carrier::Plain(tcp) => (tcp, None),
            Carrier::Tls(tcp, tls) => (tcp, Some(tls)),
            Carrier::Http2(body) => {
                return http2::adopt(body, arrival, self.limits(), self.drain.subscribe());
            }
        };
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        self.shards[index].send(Command::Adopt(tcp, tls, Box::new(arrival)));
    }

    /// How many streams are open: from the moment they are handed over, so that a drain waits for those under way too.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Completes when every shard has taken a turn.
    pub async fn answers(&self) {
        for shard in &self.shards {
            let (asked, answer) = oneshot::channel();
            shard.send(Command::Answer(asked));
            // It fails only when the shard has ended, which only the end of all does.
            let _ = answer.await;
        }
    }

    /// Ends every stream, spread evenly over `window`, each with `closing` and its own `retry` between the two given
    /// (EDGE L14). Completes when none is left.
    pub async fn drain(&self, window: Duration, retry: (Duration, Duration)) {
        let drain = Drain { window, retry };
        for shard in &self.shards {
            shard.send(Command::Drain(drain));
        }
        self.drain.send_replace(Some(drain));
        let mut open = self.open.subscribe();
        // It cannot fail: the sender is ours.
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

/// A stream on its way to who serves it.
#[derive(Debug)]
struct Arrival {
    head: Vec<u8>,
    encoder: Encoder,
    cursor: Cursor,
    form: Form,
    heartbeat: Duration,
    max_age: Duration,
    held: Held,
}

impl Arrival {
    fn new(stream: NewStream, open: Open) -> (Carrier, Self) {
        let arrival = Self {
            head: stream.head,
            encoder: stream.encoder,
            cursor: stream.cursor,
            form: stream.form,
            heartbeat: stream.heartbeat,
            max_age: stream.max_age,
            held: Held {
                account: Account::open(stream.observer),
                expires: stream.expires,
                _permit: stream.permit,
                subscription: stream.subscription,
                _open: open,
            },
        };
        (stream.carrier, arrival)
    }
}

/// What a stream holds while it lives, given back in this order: who sees that no stream is open finds all ends told.
#[derive(Debug)]
struct Held {
    account: Account,
    expires: Option<SystemTime>,
    _permit: Option<Permit>,
    /// Counts as demand.
    subscription: Subscription,
    _open: Open,
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
