//! Connections to upstreams, and how long each may stay silent (EDGE P16, F6).
//!
//! Pingora's read timeout is fixed before the request goes out, but only the answer tells whether it is an event stream,
//! which may be silent for as long as it likes. So Pingora gets none, and a connection whose time is up is shut down from here:
//! that is the end of the connection to whoever reads it.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::upstreams::peer::{PeerOptions, Tracer, Tracing};
use pingora::{Error, ErrorType};
use tokio::net::TcpSocket;
use tokio::time::sleep;

/// How long upstreams may be silent.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Patience {
    /// From the last byte of the request to the head of the answer.
    pub(in crate::edge) head: Duration,
    /// Between two pieces of a body that is no event stream. While a slow client takes a piece, the next one is not read: this
    /// must be enough for 64 KiB.
    pub(in crate::edge) body: Duration,
    /// How often it is looked.
    pub(in crate::edge) look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(300),
            look: Duration::from_secs(1),
        }
    }
}

/// All connections to upstreams, by the descriptor that Pingora knows them by.
#[derive(Debug)]
pub(in crate::edge) struct Lines {
    open: Mutex<HashMap<RawFd, Weak<Line>>>,
    watched: AtomicBool,
    pub(in crate::edge) patience: Patience,
}

/// One connection. Lives as long as Pingora's end of it.
#[derive(Debug)]
struct Line {
    lines: Weak<Lines>,
    /// A second descriptor of the socket, for shutting it down, and the number of the first.
    socket: OnceLock<(OwnedFd, RawFd)>,
    silence: Mutex<Silence>,
}

#[derive(Debug, Default)]
struct Silence {
    until: Option<Instant>,
    /// Whose request it is: the answer to an earlier one may still be on its way to its client.
    request: u64,
    cut: bool,
}

/// One request's hold on its connection. Lets go of it in Drop.
#[derive(Debug)]
pub(in crate::edge) struct Watch {
    line: Arc<Line>,
    request: u64,
}

impl Lines {
    pub(in crate::edge) fn new(patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            watched: AtomicBool::new(false),
            patience,
        })
    }

    /// Makes a connection that these options lead to known here.
    pub(in crate::edge) fn register(self: &Arc<Self>, options: &mut PeerOptions) {
        if !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(look(Arc::downgrade(self), self.patience.look));
        }
        let line = Arc::new(Line {
            lines: Arc::downgrade(self),
            socket: OnceLock::new(),
            silence: Mutex::default(),
        });
        options.tracer = Some(Tracer(Box::new(Held(line.clone()))));
        options.upstream_tcp_sock_tweak_hook = Some(Arc::new(move |socket| {
            line.connects(socket).map_err(|error| {
                Error::because(
                    ErrorType::SocketError,
                    "a connection cannot be watched",
                    error,
                )
            })
        }));
    }

    /// The connection with this descriptor now serves a request, whose answer must begin in time.
    pub(in crate::edge) fn watch(&self, fd: RawFd) -> Option<Watch> {
        let line = self.open.lock().get(&fd).and_then(Weak::upgrade)?;
        let request = {
            let mut silence = line.silence.lock();
            silence.request += 1;
            silence.until = Instant::now().checked_add(self.patience.head);
            silence.request
        };
        Some(Watch { line, request })
    }

    fn cut_silent(&self, now: Instant) {
        let lines: Vec<Arc<Line>> = self
            .open
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        for line in lines {
            line.cut_if_silent(now);
        }
    }
}

impl Line {
    fn connects(self: &Arc<Self>, socket: &TcpSocket) -> std::io::Result<()> {
        let number = socket.as_raw_fd();
        let second = rustix::io::fcntl_dupfd_cloexec(socket, 0)?;
        if self.socket.set((second, number)).is_ok()
            && let Some(lines) = self.lines.upgrade()
        {
            lines.open.lock().insert(number, Arc::downgrade(self));
        }
        Ok(())
    }

    fn cut_if_silent(&self, now: Instant) {
        let mut silence = self.silence.lock();
        if silence.until.is_some_and(|until| until <= now) {
            silence.until = None;
            silence.cut = true;
            if let Some((socket, _)) = self.socket.get() {
                // An error says that it is closed already.
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let (Some((_, number)), Some(lines)) = (self.socket.get(), self.lines.upgrade()) {
            let mut open = lines.open.lock();
            // The number may be another connection's by now.
            if open
                .get(number)
                .is_some_and(|line| std::ptr::eq(line.as_ptr(), self))
            {
                open.remove(number);
            }
        }
    }
}

impl Watch {
    /// The next piece must come within `time` from now; `None`: whenever it likes.
    pub(in crate::edge) fn within(&self, time: Option<Duration>) {
        let mut silence = self.line.silence.lock();
        if silence.request == self.request {
            silence.until = time.and_then(|time| Instant::now().checked_add(time));
        }
    }

    /// Whether the connection was shut down because it was silent.
    pub(in crate::edge) fn was_cut(&self) -> bool {
        self.line.silence.lock().cut
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.within(None);
    }
}

/// Pingora drops it with the connection.
#[derive(Debug)]
struct Held(Arc<Line>);

impl Tracing for Held {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self(self.0.clone()))
    }
}

/// Until nobody has the lines any more.
async fn look(lines: Weak<Lines>, often: Duration) {
    loop {
        sleep(often).await;
        let Some(lines) = lines.upgrade() else {
            return;
        };
        lines.cut_silent(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn line(lines: &Arc<Lines>, listener: &TcpListener) -> (TcpStream, Option<Tracer>) {
        let mut options = PeerOptions::new();
        lines.register(&mut options);
        let socket = TcpSocket::new_v4().expect("a socket");
        let hook = options.upstream_tcp_sock_tweak_hook.take().expect("is set");
        hook(&socket).expect("registers");
        let address = listener.local_addr().expect("bound");
        (
            socket.connect(address).await.expect("connects"),
            options.tracer,
        )
    }

    /// EDGE P16: only who is watched and late is cut; who rests is not, and nothing stays behind.
    #[tokio::test]
    async fn only_late_lines_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let lines = Lines::new(Patience::default());
        let (mut late, late_tracer) = line(&lines, &listener).await;
        let (stream, stream_tracer) = line(&lines, &listener).await;
        let (idle, idle_tracer) = line(&lines, &listener).await;
        let late_watch = lines.watch(late.as_raw_fd()).expect("is known");
        let stream_watch = lines.watch(stream.as_raw_fd()).expect("is known");
        stream_watch.within(None);
        drop(lines.watch(idle.as_raw_fd()));
        let much_later = Instant::now() + Duration::from_secs(3600);
        lines.cut_silent(Instant::now());
        assert!(!late_watch.was_cut(), "it has time yet");
        lines.cut_silent(much_later);
        assert!(late_watch.was_cut());
        assert_eq!(late.read(&mut [0; 1]).await.expect("ends"), 0);
        assert!(!stream_watch.was_cut());
        assert!(!lines.watch(idle.as_raw_fd()).expect("is known").was_cut());
        drop((
            late_tracer,
            stream_tracer,
            idle_tracer,
            late_watch,
            stream_watch,
        ));
        assert!(lines.open.lock().is_empty());
    }

    /// The end of a request does not touch the next one's time.
    #[tokio::test]
    async fn an_earlier_request_lets_go_of_its_own_hold_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let lines = Lines::new(Patience::default());
        let (stream, _tracer) = line(&lines, &listener).await;
        let first = lines.watch(stream.as_raw_fd()).expect("is known");
        let second = lines.watch(stream.as_raw_fd()).expect("is known");
        drop(first);
        lines.cut_silent(Instant::now() + Duration::from_secs(3600));
        assert!(second.was_cut());
    }
}
