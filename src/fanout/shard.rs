//! One shard: a thread, an epoll, and the connections it owns.
//!
//! The discipline of the loop:
//! - Nothing here waits but `poll`. No write blocks, no lock is held over a write, nothing is awaited.
//! - An event costs a connection one write of shared bytes and one comparison: no allocation, no timer, no system call
//!   besides. What a cursor is owed is asked once for all connections that stand at it, not once each.
//! - A socket that takes less than all keeps the rest (a pointer into shared bytes) and is skipped until it is writable:
//!   it holds nobody up, and is owed nothing until then. Then it gets everything since, in one write.
//! - TLS costs what it must: each connection encrypts for itself, so an event is copied once into a record, which is
//!   allocated and, as soon as the socket has taken it, given back. A slow reader holds one record besides its pointer.
//!   Records that a client sends are opened in the turn they come in, a bounded number of them.
//! - Who leaves is noticed by the socket's own event, who is silent by the wheel.
//! - Only this thread touches its connections. Others leave a note in the inbox and wake it.
//! - Newcomers move in last, and for a bounded time a turn: a storm of them does not hold up who is there. Last also
//!   because a slot may then be used again: no event or timer of its last tenant is left in this turn.
//! - A panic costs the connection it happened to, or a room whose event could not be encoded. Nothing else of the turn is
//!   lost: sockets tell a thing only once, and a channel leaves no second note before the first is looked at.

mod life;

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll};
use slab::Slab;
use tracing::error;

use super::conn::Conn;
use super::end::{Reason, WALL};
use super::inbox::{Command, Inbox, Notes, WAKE};
use super::owed::{Deliver, Owed};
use super::room::Rooms;
use super::socket::Socket;
use super::wheel::{Tick, Wheel, ticks};
use super::{Closing, Limits};
use crate::channel::Channel;

/// How long newcomers may move in before everybody else has a turn.
const ADOPTING: Duration = Duration::from_millis(20);

/// Starts a shard. It lives until it is told to stop.
pub(super) fn start(index: usize, limits: Limits) -> io::Result<Arc<Inbox>> {
    let shard = Shard::new(limits)?;
    let inbox = shard.inbox.clone();
    std::thread::Builder::new()
        .name(format!("fanout-{index}"))
        .spawn(move || shard.run())?;
    Ok(inbox)
}

#[derive(Debug)]
struct Shard {
    poll: Poll,
    inbox: Arc<Inbox>,
    queue: usize,
    write_stall: Tick,
    conns: Slab<Conn>,
    rooms: Rooms,
    wheel: Wheel<(u32, Tick)>,
    now: Tick,
    /// Connections whose token expires, the next first.
    expiring: BTreeSet<(SystemTime, u32)>,
    /// [`SystemTime::now`], but for tests.
    wall: fn() -> SystemTime,
    /// Bounds of `retry` in the last event.
    draining: Option<(Duration, Duration)>,
    deliver: Deliver,
    adopting: Duration,
}

/// What is still to be done, and room to do it in: kept from turn to turn.
#[derive(Debug)]
struct Work {
    notes: Notes,
    due: Vec<(u32, Tick)>,
    scratch: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Wait for something to happen.
    Wait,
    /// There is more to do.
    GoOn,
    Stop,
}

impl Shard {
    fn new(limits: Limits) -> io::Result<Self> {
        let poll = Poll::new()?;
        let inbox = Arc::new(Inbox::new(poll.registry())?);
        Ok(Self {
            poll,
            inbox,
            queue: limits.queue,
            write_stall: ticks(limits.write_stall),
            conns: Slab::new(),
            rooms: Rooms::default(),
            wheel: Wheel::new(Instant::now()),
            now: 0,
            expiring: BTreeSet::new(),
            wall: SystemTime::now,
            draining: None,
            deliver: Channel::deliver,
            adopting: ADOPTING,
        })
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut work = Work::new();
        let mut next = Next::Wait;
        while next != Next::Stop {
            let timeout = match next {
                Next::GoOn => Some(Duration::ZERO),
                _ => self.timeout(),
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    error!(%error, "a fan-out thread cannot wait for its sockets");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            self.now = self.wheel.tick(Instant::now());
            next = self.turn(&events, &mut work);
        }
        self.close_all();
    }

    /// How long nothing has to be done by itself.
    fn timeout(&self) -> Option<Duration> {
        let timer = self.wheel.timeout(Instant::now());
        let expiry = self.expiring.first().map(|(expires, _)| {
            let left = expires.duration_since((self.wall)());
            left.unwrap_or_default().min(WALL)
        });
        timer.into_iter().chain(expiry).min()
    }

    /// One round of everything that is to be done.
    fn turn(&mut self, events: &Events, work: &mut Work) -> Next {
        self.inbox.take(&mut work.notes);
        for room in work.notes.changed.drain(..) {
            self.caught(|shard| shard.walk(room), |shard| shard.close_room(room));
        }
        for event in events {
            if event.token() != WAKE {
                let at = event.token().0 as u32;
                let scratch = &mut work.scratch;
                self.caught_at(at, |shard| shard.ready(at, event, scratch));
            }
        }
        self.wheel.advance(self.now, &mut work.due);
        for (at, tick) in work.due.drain(..) {
            self.caught_at(at, |shard| shard.timer(at, tick));
        }
        self.expire();
        self.obey(work)
    }

    /// Ends the streams whose token is valid no longer.
    fn expire(&mut self) {
        if self.expiring.is_empty() {
            return;
        }
        let wall = (self.wall)();
        while let Some(&(expires, at)) = self.expiring.first()
            && expires <= wall
        {
            self.expiring.pop_first();
            self.caught_at(at, |shard| shard.end_for(at, Closing::TokenExpired));
        }
    }

    /// Does what others ask, for as long as newcomers may take.
    fn obey(&mut self, work: &mut Work) -> Next {
        let began = Instant::now();
        let mut owed = self.owed();
        while let Some(command) = work.notes.commands.pop_front() {
            match command {
                Command::Adopt(tcp, tls, arrival) => {
                    let at = self.conns.vacant_key() as u32;
                    let socket = Socket::new(tcp, tls);
                    self.caught_at(at, |shard| shard.adopt(socket, *arrival, &mut owed));
                }
                Command::Drain(drain) => self.drain(drain),
                // Who asked may have given up.
                Command::Answer(asked) => drop(asked.send(())),
                Command::Limits(limits) => {
                    self.queue = limits.queue;
                    self.write_stall = ticks(limits.write_stall);
                    // Answers were asked for by the old bound.
                    owed = self.owed();
                }
                Command::Stop => return Next::Stop,
            }
            if began.elapsed() >= self.adopting {
                break;
            }
        }
        if work.notes.commands.is_empty() {
            Next::Wait
        } else {
            Next::GoOn
        }
    }

    /// Does `what`; when that is a bug and panics, `mend` leaves nothing half done, and the rest goes on.
    fn caught(&mut self, what: impl FnOnce(&mut Self), mend: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_err() {
            error!("a fan-out thread caught a panic");
            // What was left half done may make this panic too; then there is nothing more to try.
            let _ = catch_unwind(AssertUnwindSafe(|| mend(self)));
        }
    }

    /// Does `what` for one connection, which a panic ends.
    fn caught_at(&mut self, at: u32, what: impl FnOnce(&mut Self)) {
        self.caught(what, |shard| shard.close(at, Reason::Error));
    }

    fn owed(&self) -> Owed {
        Owed::new(self.deliver, self.queue)
    }
}

impl Work {
    fn new() -> Self {
        Self {
            notes: Notes::default(),
            due: Vec::new(),
            scratch: vec![0; 4096],
        }
    }
}

#[cfg(test)]
mod tests;
