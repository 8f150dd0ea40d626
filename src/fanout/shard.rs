//! One shard: a thread, an epoll, and the connections it owns.
//!
//! The discipline of the loop:
//! - Nothing here waits but `poll`. No write blocks, no lock is held over a write, nothing is awaited.
//! - An event costs a connection one write of shared bytes and one comparison: no allocation, no timer, no system call
//!   besides. What a cursor is owed is asked once for all connections that stand at it, not once each.
//! - A socket that takes less than all keeps the rest (a pointer into shared bytes) and is skipped until it is writable:
//!   it holds nobody up, and is owed nothing until then. Then it gets everything since, in one write.
//! - Who leaves is noticed by the socket's own event, who is silent by the wheel.
//! - Only this thread touches its connections. Others leave a note in the inbox and wake it.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::watch;
use tracing::{debug, error};

use super::conn::{Conn, Gone};
use super::wheel::{Tick, Wheel};
use super::{Limits, NewStream};
use crate::channel::{Channel, Cursor, Delivery, Form, Listener};
use crate::sse::{self, Frame};

/// How long a client may take to close its end of a stream that has ended.
const LINGER: Duration = Duration::from_secs(2);

const WAKE: Token = Token(usize::MAX);

/// What other threads ask of a shard.
#[derive(Debug)]
pub(super) enum Command {
    Adopt(Box<NewStream>),
    Drain {
        window: Duration,
        retry: (Duration, Duration),
    },
    Stop,
}

/// The way into a shard.
#[derive(Debug)]
pub(super) struct ShardHandle {
    inbox: Mutex<Inbox>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Inbox {
    commands: Vec<Command>,
    changed: Vec<u32>,
}

impl ShardHandle {
    pub(super) fn start(
        index: usize,
        limits: Limits,
        open: Arc<watch::Sender<usize>>,
    ) -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let handle = Arc::new(Self {
            inbox: Mutex::default(),
            waker,
        });
        let shard = Shard {
            poll,
            handle: handle.clone(),
            limits,
            open,
            conns: Slab::new(),
            rooms: Slab::new(),
            room_of: HashMap::new(),
            wheel: Wheel::new(Instant::now()),
            now: 0,
            heartbeat: Frame::new(sse::HEARTBEAT),
            draining: None,
        };
        std::thread::Builder::new()
            .name(format!("fanout-{index}"))
            .spawn(move || shard.run())?;
        Ok(handle)
    }

    pub(super) fn send(&self, command: Command) {
        self.inbox.lock().commands.push(command);
        self.wake();
    }

    fn changed(&self, room: u32) {
        self.inbox.lock().changed.push(room);
        self.wake();
    }

    fn wake(&self) {
        // It fails only when the process is out of kernel memory; the shard looks again at its next timer.
        if let Err(error) = self.waker.wake() {
            error!(%error, "a fan-out thread cannot be woken");
        }
    }
}

/// All connections of one channel in this shard.
#[derive(Debug)]
struct Room {
    channel: Arc<Channel>,
    conns: Vec<u32>,
    listener: Arc<RoomListener>,
    heartbeat: Tick,
}

#[derive(Debug)]
struct RoomListener {
    shard: Arc<ShardHandle>,
    room: u32,
    queued: AtomicBool,
}

impl Listener for RoomListener {
    fn changed(&self) {
        // One note is enough until the shard has begun to look.
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shard.changed(self.room);
        }
    }
}

#[derive(Debug)]
struct Shard {
    poll: Poll,
    handle: Arc<ShardHandle>,
    limits: Limits,
    open: Arc<watch::Sender<usize>>,
    conns: Slab<Conn>,
    rooms: Slab<Room>,
    room_of: HashMap<usize, u32>,
    wheel: Wheel<(u32, Tick)>,
    now: Tick,
    heartbeat: Frame,
    /// Bounds of `retry` in the last event, in milliseconds.
    draining: Option<(u64, u64)>,
}

impl Shard {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut due = Vec::new();
        let mut inbox = Inbox::default();
        let mut scratch = vec![0; 4096];
        loop {
            let timeout = self.wheel.timeout(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    error!(%error, "a fan-out thread cannot wait for its sockets");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            self.now = self.wheel.tick(Instant::now());
            let turn = catch_unwind(AssertUnwindSafe(|| {
                self.turn(&events, &mut inbox, &mut due, &mut scratch)
            }));
            match turn {
                Ok(true) => return,
                Ok(false) => {}
                // A value that cannot be encoded is a bug; other connections and channels go on.
                Err(_) => error!("a fan-out thread caught a panic"),
            }
        }
    }

    /// One round of everything that is to be done. Returns whether to stop.
    fn turn(
        &mut self,
        events: &Events,
        inbox: &mut Inbox,
        due: &mut Vec<(u32, Tick)>,
        scratch: &mut [u8],
    ) -> bool {
        std::mem::swap(&mut *self.handle.inbox.lock(), inbox);
        for room in inbox.changed.drain(..) {
            self.walk(room);
        }
        for event in events {
            if event.token() != WAKE {
                self.ready(event.token().0 as u32, event, scratch);
            }
        }
        self.wheel.advance(self.now, due);
        for (index, tick) in due.drain(..) {
            self.timer(index, tick);
        }
        let mut stop = false;
        for command in inbox.commands.drain(..) {
            match command {
                Command::Adopt(stream) => self.adopt(*stream),
                Command::Drain { window, retry } => self.drain(window, retry),
                Command::Stop => stop = true,
            }
        }
        stop
    }

    /// Something happened in a channel: everybody who can take it gets it.
    fn walk(&mut self, index: u32) {
        let Some(room) = self.rooms.get(index as usize) else {
            return;
        };
        room.listener.queued.store(false, Ordering::Release);
        let mut owed = Owed {
            queue: self.limits.queue,
            known: Vec::new(),
        };
        let mut gone = Vec::new();
        for &at in &room.conns {
            let conn = &mut self.conns[at as usize];
            if conn.is_free() && !conn.ending && owed.give(&room.channel, conn, self.now).is_err() {
                gone.push(at);
            }
        }
        let blocked: Vec<u32> = room
            .conns
            .iter()
            .copied()
            .filter(|&at| !self.conns[at as usize].is_free())
            .collect();
        for at in blocked {
            self.reschedule(at);
        }
        for at in gone {
            self.close(at, "write");
        }
    }

    /// The socket can be read, can be written again, or is closed.
    fn ready(&mut self, at: u32, event: &mio::event::Event, scratch: &mut [u8]) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at as usize) else {
            return;
        };
        if event.is_readable() && conn.drain_input(scratch).is_err()
            || event.is_read_closed()
            || event.is_error()
        {
            return self.close(at, "left");
        }
        if event.is_writable() && !conn.is_free() {
            match conn.flush(now) {
                Err(Gone) => self.close(at, "write"),
                Ok(false) => {}
                Ok(true) => self.freed(at),
            }
        }
    }

    /// What was left over has left: the connection gets what came since, or its end.
    fn freed(&mut self, at: u32) {
        let conn = &mut self.conns[at as usize];
        if conn.ending {
            return self.half_close(at);
        }
        if self.now >= conn.ends {
            return self.end(at);
        }
        let room = &self.rooms[conn.room as usize];
        let mut owed = Owed {
            queue: self.limits.queue,
            known: Vec::new(),
        };
        if owed.give(&room.channel, conn, self.now).is_err() {
            return self.close(at, "write");
        }
        self.reschedule(at);
    }

    fn timer(&mut self, at: u32, tick: Tick) {
        let Some(conn) = self.conns.get_mut(at as usize) else {
            return;
        };
        if conn.timer != tick {
            return;
        }
        let silent = self.now.saturating_sub(conn.written);
        if conn.ending {
            if self.now >= conn.ends {
                return self.close(at, "ended");
            }
        } else if !conn.is_free() {
            if silent >= Wheel::<()>::ticks(self.limits.write_stall) {
                return self.close(at, "stalled");
            }
        } else if self.now >= conn.ends {
            return self.end(at);
        } else if silent >= jittered(self.rooms[conn.room as usize].heartbeat, at)
            && conn.send(&self.heartbeat, self.now).is_err()
        {
            return self.close(at, "write");
        }
        let due = self.due(at);
        self.set_timer(at, due);
    }

    /// When the connection is to be looked at next.
    fn due(&self, at: u32) -> Tick {
        let conn = &self.conns[at as usize];
        if conn.ending {
            return conn.ends;
        }
        if !conn.is_free() {
            return conn
                .written
                .saturating_add(Wheel::<()>::ticks(self.limits.write_stall));
        }
        let heartbeat = jittered(self.rooms[conn.room as usize].heartbeat, at);
        conn.written.saturating_add(heartbeat).min(conn.ends)
    }

    /// Brings the connection's entry in the wheel forward, if it must be looked at earlier than planned.
    fn reschedule(&mut self, at: u32) {
        let due = self.due(at);
        if due < self.conns[at as usize].timer {
            self.set_timer(at, due);
        }
    }

    fn set_timer(&mut self, at: u32, due: Tick) {
        let due = self.wheel.clamp(due.max(self.now + 1));
        self.conns[at as usize].timer = due;
        self.wheel.insert(due, (at, due));
    }

    fn adopt(&mut self, stream: NewStream) {
        let mut socket = TcpStream::from_std(stream.socket);
        let entry = self.conns.vacant_entry();
        let at = entry.key() as u32;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self
            .poll
            .registry()
            .register(&mut socket, Token(entry.key()), interest)
        {
            // The client sees a closed connection and tries again.
            return error!(%error, "a stream cannot be watched");
        }
        let heartbeat = Wheel::<()>::ticks(stream.heartbeat);
        let room_at = room_for(
            &mut self.rooms,
            &mut self.room_of,
            stream.subscription.channel(),
            heartbeat,
            &self.handle,
        );
        let room = &mut self.rooms[room_at as usize];
        let age = match self.draining {
            None => jittered(Wheel::<()>::ticks(stream.max_age), fastrand::u32(..)),
            Some(_) => 0,
        };
        let conn = entry.insert(Conn {
            socket,
            cursor: stream.cursor,
            form: stream.form,
            chunked: stream.chunked,
            ending: false,
            room: room_at,
            place: room.conns.len() as u32,
            timer: Tick::MAX,
            written: self.now,
            ends: self.now.saturating_add(age),
            unsent: None,
            _subscription: stream.subscription,
            _permit: stream.permit,
        });
        room.conns.push(at);
        self.open.send_modify(|open| *open += 1);
        // The head leaves at once (EDGE E15), with what is there to send.
        let mut first = stream.head;
        if let Some(delivery) = room
            .channel
            .deliver(&conn.cursor, conn.form, self.limits.queue)
        {
            conn.cursor = delivery.cursor;
            if let Some(frame) = delivery.frame {
                first.extend_from_slice(&if conn.chunked {
                    frame.chunked()
                } else {
                    frame.payload()
                });
            }
        }
        if conn.send_bytes(first.into(), self.now).is_err() {
            return self.close(at, "write");
        }
        let due = self.due(at);
        self.set_timer(at, due);
    }

    fn drain(&mut self, window: Duration, (shortest, longest): (Duration, Duration)) {
        let shortest = shortest.as_millis() as u64;
        self.draining = Some((shortest, (longest.as_millis() as u64).max(shortest)));
        let count = self.conns.len() as u64;
        let ticks = u64::from(Wheel::<()>::ticks(window));
        let all: Vec<u32> = self.conns.iter().map(|(at, _)| at as u32).collect();
        for (place, at) in all.into_iter().enumerate() {
            let conn = &mut self.conns[at as usize];
            conn.ends = conn
                .ends
                .min(self.now + (ticks * place as u64 / count) as Tick);
            self.reschedule(at);
        }
    }

    /// Ends a stream: what it is owed, why, the end of the body, and then the connection.
    fn end(&mut self, at: u32) {
        let conn = &mut self.conns[at as usize];
        let room = &self.rooms[conn.room as usize];
        let mut last = Vec::new();
        if let Some(delivery) = room
            .channel
            .deliver(&conn.cursor, conn.form, self.limits.queue)
            && let Some(frame) = delivery.frame
        {
            last.extend_from_slice(&frame.payload());
        }
        let reason = match self.draining {
            None => "max-age",
            Some((shortest, longest)) => {
                sse::push_retry(
                    &mut last,
                    Duration::from_millis(fastrand::u64(shortest..=longest)),
                );
                "drain"
            }
        };
        sse::push_event(
            &mut last,
            Some("closing"),
            None,
            &format!(r#"{{"reason":"{reason}"}}"#),
        );
        let bytes = if conn.chunked {
            let mut bytes = Frame::new(&last).chunked().to_vec();
            bytes.extend_from_slice(sse::LAST_CHUNK);
            Bytes::from(bytes)
        } else {
            last.into()
        };
        conn.ending = true;
        conn.ends = self.now.saturating_add(Wheel::<()>::ticks(LINGER));
        if conn.send_bytes(bytes, self.now).is_err() {
            return self.close(at, reason);
        }
        if conn.is_free() {
            self.half_close(at);
        } else {
            self.set_timer(at, self.conns[at as usize].ends);
        }
    }

    /// Our side is done. Closing at once could destroy bytes that are under way; the client closes next.
    fn half_close(&mut self, at: u32) {
        let conn = &self.conns[at as usize];
        if conn.socket.shutdown(Shutdown::Write).is_err() {
            return self.close(at, "ended");
        }
        let ends = conn.ends;
        self.set_timer(at, ends);
    }

    fn close(&mut self, at: u32, why: &'static str) {
        let Some(mut conn) = self.conns.try_remove(at as usize) else {
            return;
        };
        debug!(why, "stream closed");
        // Dropping the socket takes it out of epoll too; this only says so.
        let _ = self.poll.registry().deregister(&mut conn.socket);
        let room = &mut self.rooms[conn.room as usize];
        room.conns.swap_remove(conn.place as usize);
        if let Some(&moved) = room.conns.get(conn.place as usize) {
            self.conns[moved as usize].place = conn.place;
        } else if room.conns.is_empty() {
            let room = self.rooms.remove(conn.room as usize);
            self.room_of.remove(&identity(&room.channel));
            let listener: Arc<dyn Listener> = room.listener;
            room.channel.unlisten(&listener);
        }
        drop(conn);
        if self.conns.is_empty() {
            // A storm that is over gives its memory back.
            self.conns.shrink_to_fit();
        }
        self.open.send_modify(|open| *open -= 1);
    }
}

/// What cursors are owed, asked once each.
struct Owed {
    queue: usize,
    known: Vec<(Cursor, Form, Option<Delivery>)>,
}

impl Owed {
    /// Gives a free connection what it is owed.
    fn give(&mut self, channel: &Channel, conn: &mut Conn, now: Tick) -> Result<(), Gone> {
        let same = |known: &&(Cursor, Form, _)| known.0 == conn.cursor && known.1 == conn.form;
        let delivery = match self.known.iter().find(same) {
            Some((_, _, delivery)) => delivery,
            None => {
                let delivery = channel.deliver(&conn.cursor, conn.form, self.queue);
                // The list stays short: cursors of a channel's readers differ only after a stall.
                self.known.truncate(15);
                self.known.insert(0, (conn.cursor, conn.form, delivery));
                &self.known[0].2
            }
        };
        let Some(delivery) = delivery else {
            return Ok(());
        };
        conn.cursor = delivery.cursor;
        match &delivery.frame {
            Some(frame) => conn.send(frame, now),
            None => Ok(()),
        }
    }
}

fn room_for(
    rooms: &mut Slab<Room>,
    room_of: &mut HashMap<usize, u32>,
    channel: &Arc<Channel>,
    heartbeat: Tick,
    shard: &Arc<ShardHandle>,
) -> u32 {
    if let Some(&room) = room_of.get(&identity(channel)) {
        return room;
    }
    let entry = rooms.vacant_entry();
    let room = entry.key() as u32;
    let listener = Arc::new(RoomListener {
        shard: shard.clone(),
        room,
        queued: AtomicBool::new(false),
    });
    channel.listen(listener.clone());
    room_of.insert(identity(channel), room);
    entry.insert(Room {
        channel: channel.clone(),
        conns: Vec::new(),
        listener,
        heartbeat,
    });
    room
}

/// Tells channels apart; the room keeps the channel, so the address is not used again meanwhile.
fn identity(channel: &Arc<Channel>) -> usize {
    Arc::as_ptr(channel).addr()
}

/// 90 to 110 percent, spread by `seed`, so that what was opened together does not beat together (EDGE T1, L16).
fn jittered(ticks: Tick, seed: u32) -> Tick {
    let spread = u64::from(seed.wrapping_mul(0x9E37_79B9) >> 16) % 201;
    (u64::from(ticks) * (900 + spread) / 1000).max(1) as Tick
}
