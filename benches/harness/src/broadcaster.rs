//! The limit to compare with: one thread, one epoll, one shared buffer, one `write` a client and event, nothing else.
//!
//! It runs as a process of its own, so that its CPU time and memory can be weighed as the gateway's are. It prints its
//! port, then obeys lines on stdin: microseconds between two events, 0 for none; the end of stdin ends it. An event is
//! due when the timer says so, however late the loop comes to it. A client that cannot take an event at once is closed,
//! for a bare loop keeps nothing per client; the swarm reports that as a loss of the connection, never silently.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::{Outcome, clock, payload};

/// Before the first event.
pub(crate) const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
cache-control: no-cache, no-store, no-transform\r\ntransfer-encoding: chunked\r\n\r\nf\r\nretry: 3000\n:\n\n\r\n";

const LISTENER: Token = Token(usize::MAX - 1);
const CONTROL: Token = Token(usize::MAX - 2);
const TIMER: Token = Token(usize::MAX - 3);

/// Serves until stdin ends.
pub(crate) fn serve() -> Outcome<()> {
    let mut broadcaster = Broadcaster::bind()?;
    println!("{}", broadcaster.listener.local_addr()?.port());
    io::stdout().flush()?;
    broadcaster.run()
}

/// What a line on stdin orders: an event each so often, or none.
pub(crate) fn order(line: &str) -> Option<Duration> {
    let micros = line.trim().parse().unwrap_or(0);
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// The listener of a server that many clients come to at once.
pub(crate) fn listen() -> Outcome<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

struct Broadcaster {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<Client>,
    /// Counts the events that are due.
    timer: OwnedFd,
    every: Duration,
    /// When the next event is due ([`clock::now`]).
    next: u64,
    seq: u64,
    /// The newest event; newcomers begin with it.
    chunk: Vec<u8>,
}

struct Client {
    socket: TcpStream,
    /// The request was read, and the head written.
    open: bool,
}

impl Broadcaster {
    fn bind() -> Outcome<Self> {
        let mut listener = TcpListener::from_std(listen()?);
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        registry.register(
            &mut SourceFd(&io::stdin().as_raw_fd()),
            CONTROL,
            Interest::READABLE,
        )?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let chunk = payload::chunk(0, 1, clock::now());
        Ok(Self {
            poll,
            listener,
            clients: Slab::new(),
            timer,
            every: Duration::ZERO,
            next: 0,
            seq: 1,
            chunk,
        })
    }

    fn run(&mut self) -> Outcome<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = [0; 4096];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let mut due = 0;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    CONTROL => {
                        if !self.obey()? {
                            return Ok(());
                        }
                    }
                    TIMER => due += self.elapsed()?,
                    Token(key) => self.read(key, &mut buffer),
                }
            }
            for _ in 0..due {
                self.broadcast();
            }
        }
    }

    /// Reads what stdin says; `false` at its end. It blocks when there is nothing, so one read an event, and whoever
    /// writes there writes a line at a time and rarely.
    fn obey(&mut self) -> Outcome<bool> {
        let mut bytes = [0; 256];
        let count = io::stdin().read(&mut bytes)?;
        for line in String::from_utf8_lossy(&bytes[..count]).lines() {
            self.every = order(line).unwrap_or_default();
            self.next = clock::now() + clock::nanos(self.every);
            let interval = Timespec {
                tv_sec: i64::try_from(self.every.as_secs())?,
                tv_nsec: self.every.subsec_nanos().into(),
            };
            // Of the same clock as ours (timerfd_settime(2)); zero disarms it.
            let first = if self.every.is_zero() { 0 } else { self.next };
            let first = Timespec {
                tv_sec: i64::try_from(first / 1_000_000_000)?,
                tv_nsec: i64::try_from(first % 1_000_000_000)?,
            };
            timerfd_settime(
                &self.timer,
                TimerfdTimerFlags::ABSTIME,
                &Itimerspec {
                    it_interval: interval,
                    it_value: first,
                },
            )?;
        }
        Ok(count > 0)
    }

    /// How many events are due since this was asked.
    fn elapsed(&self) -> Outcome<u64> {
        let mut count = [0; 8];
        match rustix::io::read(&self.timer, &mut count) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            // It was set anew meanwhile.
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn accept(&mut self) {
        // An error is one of a client that left already, or the end of what waits.
        while let Ok((socket, _)) = self.listener.accept() {
            let _ = socket.set_nodelay(true);
            let key = self.clients.insert(Client {
                socket,
                open: false,
            });
            let socket = &mut self.clients[key].socket;
            if self
                .poll
                .registry()
                .register(socket, Token(key), Interest::READABLE)
                .is_err()
            {
                self.clients.remove(key);
            }
        }
    }

    fn read(&mut self, key: usize, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        loop {
            match client.socket.read(buffer) {
                Ok(0) => break,
                // A request arrives whole: it is smaller than a segment on loopback.
                Ok(count) if !client.open && buffer[..count].ends_with(b"\r\n\r\n") => {
                    client.open = true;
                    let first = [HEAD, &self.chunk].concat();
                    if !written(&mut client.socket, &first) {
                        break;
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.clients.remove(key);
    }

    fn broadcast(&mut self) {
        self.seq += 1;
        self.chunk = payload::chunk(0, self.seq, self.next);
        self.next += clock::nanos(self.every);
        let chunk = &self.chunk;
        self.clients
            .retain(|_, client| !client.open || written(&mut client.socket, chunk));
    }
}

/// Whether the socket took all of it.
fn written(socket: &mut TcpStream, bytes: &[u8]) -> bool {
    socket.write(bytes).is_ok_and(|count| count == bytes.len())
}
