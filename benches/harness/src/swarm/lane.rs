//! One thread's share of the clients: an epoll and its connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::decode::{Decoder, Item};
use super::tally::Tally;
use super::{Goal, Path};
use crate::{Outcome, clock};

/// Loopback addresses that clients come from: enough for the ports of many rounds, whose old sockets linger in
/// TIME_WAIT, and for a gateway that limits what one address may do.
const SOURCES: usize = 200;

/// Connections under way at once: below the backlog of every listener here.
pub(super) const UNDERWAY: usize = 100;

/// Larger than what a client gets at once: a read that fills it less has emptied the socket.
const BUFFER: usize = 64 * 1024;

/// An epoll and its connections.
#[derive(Debug)]
pub(super) struct Lane {
    poll: Poll,
    address: SocketAddr,
    path: Path,
    /// Number of the first client.
    first: usize,
    clients: Vec<Client>,
    /// Clients before this index have been told to connect.
    started: usize,
    /// Connections that have no response head yet.
    underway: usize,
    /// Number of the next connection, which decides where it comes from.
    number: usize,
    buffer: Box<[u8]>,
    tally: Tally,
}

#[derive(Debug)]
struct Client {
    socket: Option<TcpStream>,
    decoder: Decoder,
    asked: bool,
    open: bool,
    /// Events of this run.
    got: u32,
    /// The newest sequence of this connection.
    last: Option<u64>,
}

impl Client {
    fn new() -> Self {
        Self {
            socket: None,
            decoder: Decoder::new(),
            asked: false,
            open: false,
            got: 0,
            last: None,
        }
    }

    fn reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Events(count) => self.got >= count,
            Goal::Time => true,
        }
    }
}

impl Lane {
    /// For `count` clients that ask `address` for `path`; the first of them has the number `first`.
    pub(super) fn new(
        address: SocketAddr,
        path: Path,
        count: usize,
        first: usize,
    ) -> Outcome<Self> {
        Ok(Self {
            poll: Poll::new()?,
            address,
            path,
            first,
            clients: std::iter::repeat_with(Client::new).take(count).collect(),
            started: 0,
            underway: 0,
            number: first,
            buffer: vec![0; BUFFER].into(),
            tally: Tally::default(),
        })
    }

    /// Runs until `goal` or `end`: what was seen, and how many clients reached the goal.
    pub(super) fn run(&mut self, goal: Goal, end: Instant) -> Outcome<(Tally, usize)> {
        self.clients.iter_mut().for_each(|client| client.got = 0);
        let mut missing = self
            .clients
            .iter()
            .filter(|client| !client.reached(goal))
            .count();
        if let Goal::Events(count) = goal {
            self.tally
                .latencies
                .reserve(self.clients.len() * count as usize);
        }
        let mut events = Events::with_capacity(4096);
        loop {
            while self.started < self.clients.len() && self.underway < UNDERWAY {
                self.connect(self.started)?;
                self.started += 1;
            }
            let now = Instant::now();
            if now >= end || (missing == 0 && !matches!(goal, Goal::Time)) {
                break;
            }
            match self.poll.poll(&mut events, Some(end - now)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                let Token(index) = event.token();
                let before = self.clients[index].reached(goal);
                self.ready(index, event);
                let after = self.clients[index].reached(goal);
                missing -= usize::from(!before && after);
            }
        }
        let reached = self.clients.len() - missing;
        Ok((std::mem::take(&mut self.tally), reached))
    }

    /// Closes every connection.
    pub(super) fn leave(&mut self) {
        self.clients.fill_with(Client::new);
        self.started = 0;
        self.underway = 0;
    }

    fn connect(&mut self, index: usize) -> Outcome<()> {
        let source = source(self.number);
        self.number += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&self.address.into()) {
            // EINPROGRESS has no kind of its own.
            Err(error)
                if error.kind() != ErrorKind::WouldBlock
                    && error.raw_os_error() != Some(EINPROGRESS) =>
            {
                return Err(format!("connecting to {}: {error}", self.address).into());
            }
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        self.poll.registry().register(
            &mut socket,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.clients[index].socket = Some(socket);
        self.underway += 1;
        Ok(())
    }

    fn ready(&mut self, index: usize, event: &Event) {
        if event.is_writable()
            && let Err(why) = self.ask(index)
        {
            return self.lose(index, why);
        }
        if (event.is_readable() || event.is_read_closed() || event.is_error())
            && let Err(why) = self.read(index)
        {
            self.lose(index, why);
        }
    }

    /// Sends the request, once, when the connection is made.
    fn ask(&mut self, index: usize) -> Result<(), String> {
        let client = &mut self.clients[index];
        let Some(socket) = client.socket.as_mut().filter(|_| !client.asked) else {
            return Ok(());
        };
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return Err(format!("connecting: {error}"));
        }
        let request = match self.path {
            Path::One(path) => request(self.address, path),
            Path::Each(path) => request(self.address, &format!("{path}/{}", self.first + index)),
        };
        // An empty socket buffer takes a request of this size whole.
        match socket.write(&request) {
            Ok(count) if count == request.len() => client.asked = true,
            Ok(_) => return Err("a request was not taken whole".into()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) => {}
            Err(error) => return Err(format!("asking: {error}")),
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), String> {
        let Client {
            socket,
            decoder,
            open,
            got,
            last,
            ..
        } = &mut self.clients[index];
        let Some(socket) = socket else { return Ok(()) };
        loop {
            let count = match socket.read(&mut self.buffer) {
                Ok(0) => return Err("closed by the other side".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("reading: {error}")),
            };
            let now = clock::now();
            let (tally, underway) = (&mut self.tally, &mut self.underway);
            let mut ended = false;
            tally.reads += 1;
            tally.bytes += count as u64;
            decoder.feed(&self.buffer[..count], &mut |item| match item {
                Item::Head => {
                    *open = true;
                    *underway -= 1;
                }
                Item::Event { name, data } => {
                    let events = tally.events;
                    *last = tally.event(name, data, *last, now);
                    *got += u32::from(tally.events > events);
                }
                Item::End => ended = true,
            })?;
            if ended {
                return Err("the body ended".into());
            }
            // The epoll is edge-triggered: whatever comes after a read that was not filled is a new event.
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn lose(&mut self, index: usize, why: String) {
        let client = &mut self.clients[index];
        if client.socket.take().is_some() {
            self.underway -= usize::from(!client.open);
            client.open = false;
            self.tally.end(why);
        }
    }
}

/// `EINPROGRESS` on Linux (errno(3)): the standard library gives it no portable kind.
const EINPROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Where connection `number` comes from.
pub(crate) fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8)
}

/// What a browser sends: about 420 bytes.
pub(crate) fn request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive\r\nAccept: text/event-stream\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/156.0.0.0 Safari/537.36\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
         Referer: http://{address}/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
    )
    .into_bytes()
}
