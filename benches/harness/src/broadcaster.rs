//! The limit to compare with: one thread, one epoll, one shared buffer, one `write` a client and event, nothing else.
//!
//! It runs as a process of its own, so that its CPU time and memory can be weighed as the gateway's are. It prints its
//! port, then obeys bytes on stdin: `+` starts the events, `-` stops them, the end of stdin ends it. A client that
//! cannot take an event at once is closed, for a bare loop keeps nothing per client; the swarm reports that as a loss
//! of the connection, never silently.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::args::Broadcaster as Settings;
use crate::{Outcome, clock, payload};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
cache-control: no-cache, no-store, no-transform\r\ntransfer-encoding: chunked\r\n\r\nf\r\nretry: 3000\n:\n\n\r\n";

const LISTENER: Token = Token(usize::MAX - 1);
const CONTROL: Token = Token(usize::MAX - 2);

/// Serves until stdin ends.
pub(crate) fn serve(settings: &Settings) -> Outcome<()> {
    let mut broadcaster = Broadcaster::bind(settings.every)?;
    println!("{}", broadcaster.listener.local_addr()?.port());
    io::stdout().flush()?;
    broadcaster.run()
}

struct Broadcaster {
    poll: Poll,
    listener: TcpListener,
    clients: Slab<Client>,
    every: Duration,
    /// When the next event is due, while events are on.
    next: Option<Instant>,
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
    fn bind(every: Duration) -> Outcome<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(4096)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(
            &mut SourceFd(&io::stdin().as_raw_fd()),
            CONTROL,
            Interest::READABLE,
        )?;
        let chunk = payload::chunk(0, 1, clock::now());
        Ok(Self {
            poll,
            listener,
            clients: Slab::new(),
            every,
            next: None,
            seq: 1,
            chunk,
        })
    }

    fn run(&mut self) -> Outcome<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = [0; 4096];
        loop {
            let wait = self
                .next
                .map(|next| next.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    CONTROL => {
                        if !self.obey()? {
                            return Ok(());
                        }
                    }
                    Token(key) => self.read(key, &mut buffer),
                }
            }
            if let Some(next) = self.next.filter(|next| *next <= Instant::now()) {
                self.broadcast();
                self.next = Some(next + self.every);
            }
        }
    }

    /// Reads what stdin says; `false` at its end. It blocks when there is nothing, so one read an event, and whoever
    /// writes there writes a byte at a time and rarely.
    fn obey(&mut self) -> Outcome<bool> {
        let mut bytes = [0; 16];
        let count = io::stdin().read(&mut bytes)?;
        for byte in &bytes[..count] {
            self.next = (*byte == b'+').then(|| Instant::now() + self.every);
        }
        Ok(count > 0)
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
        self.chunk = payload::chunk(0, self.seq, clock::now());
        let chunk = &self.chunk;
        self.clients
            .retain(|_, client| !client.open || written(&mut client.socket, chunk));
    }
}

fn written(socket: &mut TcpStream, bytes: &[u8]) -> bool {
    socket.write(bytes).is_ok_and(|count| count == bytes.len())
}
