//! What happens to streams: they are taken over, given what they are owed, kept alive, ended and closed.

use std::time::Duration;

use bytes::Bytes;
use mio::Token;
use mio::event::Event;
use tracing::error;

use super::Shard;
use crate::channel::Tally;
use crate::fanout::conn::{Conn, Life};
use crate::fanout::owed::Owed;
use crate::fanout::room::shrink;
use crate::fanout::socket::{Gone, Outgoing, Socket};
use crate::fanout::wheel::{Tick, ticks};
use crate::fanout::{Arrival, Closing, Drain, Reason};
use crate::sse::Frame;

/// How long a client may take to close its end of a stream that it has all of.
pub(super) const LINGER: Duration = Duration::from_secs(2);

impl Shard {
    /// Something happened in a channel: everybody who can take it gets it.
    pub(super) fn walk(&mut self, index: u32) {
        let mut owed = self.owed();
        let Some(room) = self.rooms.get(index) else {
            return;
        };
        room.look();
        if room.channel.is_retired() {
            return self.retire(index);
        }
        let metrics = room.channel.metrics();
        let mut tally = Tally::default();
        let mut blocked = Vec::new();
        let mut gone = Vec::new();
        for &at in &room.conns {
            let conn = &mut self.conns[at as usize];
            if !conn.takes_news() {
                continue;
            }
            let Some(delivery) = owed.to(index, &room.channel, conn.cursor, conn.form) else {
                continue;
            };
            tally.add(delivery, metrics);
            match conn.give(delivery, self.now) {
                Err(Gone) => gone.push(at),
                Ok(()) if !conn.is_free() => blocked.push(at),
                Ok(()) => {}
            }
        }
        tally.settle(metrics);
        for at in blocked {
            self.reschedule(at);
        }
        for at in gone {
            self.caught_at(at, |shard| shard.close(at, Reason::ClientLeft));
        }
    }

    /// The socket can be read, can be written again, or is closed.
    pub(super) fn ready(&mut self, at: u32, event: &Event, scratch: &mut [u8]) {
        let Some(conn) = self.conns.get_mut(at as usize) else {
            return;
        };
        if event.is_readable() && conn.drain_input(scratch, self.now).is_err()
            || event.is_read_closed()
            || event.is_error()
        {
            return self.close(at, Reason::ClientLeft);
        }
        if event.is_writable() && !conn.is_free() {
            self.flush(at);
        }
    }

    /// Sends what is left over, and then what came since.
    fn flush(&mut self, at: u32) {
        match self.conns[at as usize].flush(self.now) {
            Err(Gone) => self.close(at, Reason::ClientLeft),
            Ok(false) => {}
            Ok(true) => self.freed(at),
        }
    }

    /// What was left over has left: the connection gets what came since, or its end.
    fn freed(&mut self, at: u32) {
        let mut owed = self.owed();
        let conn = &mut self.conns[at as usize];
        match conn.life {
            Life::Ending { .. } => return self.shut(at),
            Life::Open { until } if self.now >= until => return self.end(at),
            Life::Open { .. } | Life::Shut { .. } => {}
        }
        let channel = &self.rooms[conn.room].channel;
        if let Some(delivery) = owed.to(conn.room, channel, conn.cursor, conn.form) {
            Tally::of_one(delivery, channel.metrics());
            if conn.give(delivery, self.now).is_err() {
                return self.close(at, Reason::ClientLeft);
            }
        }
        self.reschedule(at);
    }

    pub(super) fn timer(&mut self, at: u32, tick: Tick) {
        let Some(conn) = self.conns.get_mut(at as usize) else {
            return;
        };
        if conn.timer != tick {
            return;
        }
        conn.timer = Tick::MAX;
        let silent = self.now.saturating_sub(conn.written);
        let ended = Reason::Closed(conn.closing);
        match conn.life {
            Life::Shut { until } if self.now >= until => return self.close(at, ended),
            Life::Shut { .. } => {}
            Life::Open { .. } | Life::Ending { .. } if !conn.is_free() => {
                if self.now >= conn.cut() {
                    return self.close(at, ended);
                }
                if silent >= self.write_stall {
                    // A socket says that it is writable when a good part of it is: it may have taken a little since.
                    self.flush(at);
                    return self.stalled(at);
                }
            }
            Life::Ending { .. } => return self.shut(at),
            Life::Open { until } if self.now >= until => return self.end(at),
            Life::Open { .. } => {
                let heartbeat = jittered(self.rooms[conn.room].heartbeat, at);
                if silent >= heartbeat {
                    let bytes = conn.encoder.frame(Frame::heartbeat());
                    if conn.send(bytes.into(), self.now).is_err() {
                        return self.close(at, Reason::ClientLeft);
                    }
                }
            }
        }
        self.reschedule(at);
    }

    /// Closes the connection if it is still owed bytes and has taken none for too long.
    fn stalled(&mut self, at: u32) {
        let Some(conn) = self.conns.get(at as usize) else {
            return;
        };
        if !conn.is_free() && self.now.saturating_sub(conn.written) >= self.write_stall {
            return self.close(at, Reason::Stalled);
        }
        self.reschedule(at);
    }

    /// Puts the connection into the wheel, if it must be looked at earlier than planned.
    fn reschedule(&mut self, at: u32) {
        let conn = &mut self.conns[at as usize];
        let heartbeat = jittered(self.rooms[conn.room].heartbeat, at);
        let due = conn.due(heartbeat, self.write_stall);
        if due < conn.timer {
            let due = self.wheel.clamp(due.max(self.now + 1));
            conn.timer = due;
            self.wheel.insert(due, (at, due));
        }
    }

    pub(super) fn adopt(&mut self, mut socket: Socket, mut arrival: Arrival, owed: &mut Owed) {
        let entry = self.conns.vacant_entry();
        let (key, at) = (entry.key(), entry.key() as u32);
        if let Err(error) = socket.register(self.poll.registry(), Token(key)) {
            // The client sees a closed connection and tries again.
            return error!(%error, "a stream cannot be watched");
        }
        let head = Bytes::from(std::mem::take(&mut arrival.head));
        let channel = arrival.held.subscription.channel().clone();
        let (room, new) = self
            .rooms
            .open(&channel, ticks(arrival.heartbeat), &self.inbox);
        if new {
            owed.forget(room);
        }
        let (age, closing) = match self.draining {
            // Whoever retires it from here on leaves a note.
            _ if channel.is_retired() => (0, Closing::Reload),
            Some(_) => (0, Closing::Drain),
            None => (
                jittered(ticks(arrival.max_age), fastrand::u32(..)),
                Closing::MaxAge,
            ),
        };
        if let Some(expires) = arrival.held.expires {
            self.expiring.insert((expires, at));
        }
        let until = (self.now.saturating_add(age), closing);
        let place = (room, self.rooms.enter(room, at));
        let conn = entry.insert(Conn::new(socket, arrival, place, until, self.now));
        // The head leaves at once (EDGE E15), with what is there to send; its bytes stay shared (EDGE B5).
        let mut first = Outgoing::from(head);
        if let Some(delivery) = owed.to(room, &channel, conn.cursor, conn.form) {
            Tally::of_one(delivery, channel.metrics());
            first.then = conn.take(delivery).unwrap_or_default();
        }
        if conn.socket.open_input().is_err() || conn.send(first, self.now).is_err() {
            return self.close(at, Reason::ClientLeft);
        }
        self.reschedule(at);
    }

    pub(super) fn drain(&mut self, Drain { window, retry }: Drain) {
        self.draining = Some(retry);
        let count = self.conns.len() as u64;
        let window = u64::from(ticks(window));
        let all: Vec<u32> = self.conns.iter().map(|(at, _)| at as u32).collect();
        for (place, at) in all.into_iter().enumerate() {
            let turn = self
                .now
                .saturating_add((window * place as u64 / count) as Tick);
            // Who is ending already keeps the time for it.
            self.conns[at as usize].end_for(Closing::Drain, turn);
            self.reschedule(at);
        }
    }

    /// Ends the connections of a room whose channel will say nothing any more.
    fn retire(&mut self, index: u32) {
        for at in self.rooms[index].conns.clone() {
            self.caught_at(at, |shard| shard.end_for(at, Closing::Reload));
        }
    }

    /// Ends a stream now, or as soon as it has taken what is on its way.
    pub(super) fn end_for(&mut self, at: u32, closing: Closing) {
        let conn = &mut self.conns[at as usize];
        conn.end_for(closing, self.now);
        match conn.takes_news() {
            true => self.end(at),
            false => self.reschedule(at),
        }
    }

    /// Ends a stream: what it is owed, why, the end of the body, and then the connection (EDGE E9, L14). Only when it
    /// is free.
    pub(super) fn end(&mut self, at: u32) {
        let mut owed = self.owed();
        let conn = &mut self.conns[at as usize];
        let channel = &self.rooms[conn.room].channel;
        let mut last = Outgoing::default();
        // A token that has expired gives no right to what came since.
        if conn.closing != Closing::TokenExpired
            && let Some(delivery) = owed.to(conn.room, channel, conn.cursor, conn.form)
        {
            Tally::of_one(delivery, channel.metrics());
            last.first = conn.take(delivery).unwrap_or_default();
        }
        let closing = conn.closing.event(self.draining);
        last.then = conn.encoder.end(&closing).into();
        conn.life = Life::Ending { by: conn.cut() };
        if conn.send(last, self.now).is_err() {
            return self.close(at, Reason::ClientLeft);
        }
        if conn.is_free() {
            return self.shut(at);
        }
        self.reschedule(at);
    }

    /// Our side is done. Closing at once could destroy bytes that are under way; the client closes next.
    fn shut(&mut self, at: u32) {
        let conn = &mut self.conns[at as usize];
        conn.socket.say_last();
        if conn.send(Outgoing::default(), self.now).is_err() {
            return self.close(at, Reason::ClientLeft);
        }
        if conn.is_free() {
            let ended = Reason::Closed(conn.closing);
            if conn.socket.shut().is_err() {
                return self.close(at, ended);
            }
            conn.life = Life::Shut {
                until: self.now.saturating_add(ticks(LINGER)),
            };
        }
        self.reschedule(at);
    }

    /// Closes the connections of a room whose event cannot be told.
    pub(super) fn close_room(&mut self, index: u32) {
        let conns = self.rooms.get(index).map(|room| room.conns.clone());
        for at in conns.unwrap_or_default() {
            self.caught_at(at, |shard| shard.close(at, Reason::Error));
        }
    }

    pub(super) fn close(&mut self, at: u32, why: Reason) {
        let Some(mut conn) = self.conns.try_remove(at as usize) else {
            return;
        };
        conn.socket.deregister(self.poll.registry());
        if let Some(expires) = conn.held.expires {
            self.expiring.remove(&(expires, at));
        }
        if let Some(moved) = self.rooms.leave(conn.room, conn.place) {
            self.conns[moved as usize].place = conn.place;
        }
        shrink(&mut self.conns);
        conn.over(why);
    }

    /// The thread ends: whoever is left is closed, and whoever was to come.
    pub(super) fn close_all(&mut self) {
        let all: Vec<u32> = self.conns.iter().map(|(at, _)| at as u32).collect();
        for at in all {
            self.caught_at(at, |shard| shard.close(at, Reason::Stopped));
        }
    }
}

/// 90 to 110 percent, spread by `seed`, so that what was opened together does not beat together (EDGE T1, L16).
fn jittered(ticks: Tick, seed: u32) -> Tick {
    let spread = u64::from(seed.wrapping_mul(0x9E37_79B9) >> 16) % 201;
    (u64::from(ticks) * (900 + spread) / 1000).max(1) as Tick
}
