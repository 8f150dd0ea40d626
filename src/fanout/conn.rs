//! One connection: what it is owed, and the write that never waits.

use bytes::Bytes;

use super::end::EXPIRY;
use super::socket::{Gone, Outgoing, Socket};
use super::wheel::{Tick, ticks};
use super::{Arrival, Closing, Held, Reason};
use crate::channel::{Cursor, Delivery, Form};
use crate::sse::Encoder;

/// A connection of a shard.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: Socket,
    pub(super) cursor: Cursor,
    pub(super) form: Form,
    pub(super) encoder: Encoder,
    pub(super) life: Life,
    /// What its client is told at the end, if we end it.
    pub(super) closing: Closing,
    /// Index of its channel in the shard.
    pub(super) room: u32,
    /// Index in that channel's list.
    pub(super) place: u32,
    /// The tick of its one valid entry in the wheel; others of it are ignored when they fire. `MAX`: it has none.
    pub(super) timer: Tick,
    /// When it last took bytes, or began to be owed some.
    pub(super) written: Tick,
    /// How many events it was given.
    events: u32,
    /// How many bytes it took.
    bytes: u64,
    /// There is something that the socket did not take: this, or what the TLS session holds, or both.
    pub(super) unsent: Option<Box<Outgoing>>,
    /// Not needed until the end; here, because an allocation of its own would cost more.
    pub(super) held: Held,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is given what happens, until this tick: its age, or the drain.
    Open { until: Tick },
    /// Its last bytes are on their way, for as long as the client takes some, and no longer than to this tick.
    Ending { by: Tick },
    /// It has everything and our side is shut; the client's end is waited for until this tick.
    Shut { until: Tick },
}

impl Conn {
    /// A connection at `place` of `room`, to be ended at `until` for the reason of `closing`.
    pub(super) fn new(
        socket: Socket,
        arrival: Arrival,
        (room, place): (u32, u32),
        (until, closing): (Tick, Closing),
        now: Tick,
    ) -> Self {
        Self {
            socket,
            cursor: arrival.cursor,
            form: arrival.form,
            encoder: arrival.encoder,
            life: Life::Open { until },
            closing,
            room,
            place,
            timer: Tick::MAX,
            written: now,
            events: 0,
            bytes: 0,
            unsent: None,
            held: arrival.held,
        }
    }

    /// Whether the socket took everything so far.
    pub(super) fn is_free(&self) -> bool {
        self.unsent.is_none()
    }

    /// Whether it can be given what happens.
    pub(super) fn takes_news(&self) -> bool {
        self.is_free() && matches!(self.life, Life::Open { .. })
    }

    /// When it must be looked at next.
    pub(super) fn due(&self, heartbeat: Tick, write_stall: Tick) -> Tick {
        match self.life {
            Life::Shut { until } => until,
            Life::Open { until } if self.is_free() => {
                self.written.saturating_add(heartbeat).min(until)
            }
            Life::Open { .. } | Life::Ending { .. } => {
                self.written.saturating_add(write_stall).min(self.cut())
            }
        }
    }

    /// When it is closed though it has not taken everything and may still be taking some.
    pub(super) fn cut(&self) -> Tick {
        match (self.life, self.closing) {
            (Life::Open { until }, Closing::TokenExpired) => until.saturating_add(ticks(EXPIRY)),
            (Life::Ending { by }, _) => by,
            _ => Tick::MAX,
        }
    }

    /// Ends it as soon as it is free.
    pub(super) fn end_for(&mut self, closing: Closing, at: Tick) {
        if let Life::Open { until } = &mut self.life
            && at <= *until
        {
            *until = at;
            self.closing = closing;
        }
    }

    /// Counts what it is owed as given. Returns the bytes of that.
    pub(super) fn take(&mut self, delivery: &Delivery) -> Option<Bytes> {
        self.cursor = delivery.cursor;
        self.events = self.events.saturating_add(delivery.events);
        let frame = delivery.frame.as_ref();
        frame.map(|frame| self.encoder.frame(frame))
    }

    /// Gives it what it is owed. Only when it is free.
    pub(super) fn give(&mut self, delivery: &Delivery, now: Tick) -> Result<(), Gone> {
        match self.take(delivery) {
            Some(bytes) => self.send(bytes.into(), now),
            None => Ok(()),
        }
    }

    /// Writes bytes as they are. Only when it is free.
    pub(super) fn send(&mut self, mut bytes: Outgoing, now: Tick) -> Result<(), Gone> {
        self.written = now;
        self.bytes += self.socket.write(&mut bytes)?.taken as u64;
        if !bytes.is_empty() || !self.socket.is_flushed() {
            self.unsent = Some(Box::new(bytes));
        }
        Ok(())
    }

    /// Writes what is left over. Returns whether it all left.
    pub(super) fn flush(&mut self, now: Tick) -> Result<bool, Gone> {
        let Some(unsent) = &mut self.unsent else {
            return Ok(true);
        };
        let written = self.socket.write(unsent)?;
        self.bytes += written.taken as u64;
        if written.moved {
            self.written = now;
        }
        let done = unsent.is_empty() && self.socket.is_flushed();
        if done {
            self.unsent = None;
        }
        Ok(done)
    }

    /// Takes what the client sends, which means nothing, and notices when it leaves.
    pub(super) fn drain_input(&mut self, scratch: &mut [u8], now: Tick) -> Result<(), Gone> {
        self.socket.drain_input(scratch)?;
        // Over TLS even that may have to be answered.
        match self.is_free() && !self.socket.is_flushed() {
            true => self.send(Outgoing::default(), now),
            false => Ok(()),
        }
    }

    /// It is over, because of this if it did not have its end already.
    pub(super) fn over(mut self, why: Reason) {
        let reason = match self.life {
            Life::Shut { .. } => Reason::Closed(self.closing),
            Life::Open { .. } | Life::Ending { .. } => why,
        };
        self.held
            .account
            .close(reason, self.bytes, self.events.into());
    }
}
