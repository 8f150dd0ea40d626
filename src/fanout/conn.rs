//! One connection: what it is owed, and the write that never waits.

use std::io::{self, IoSlice, Read, Write};

use bytes::{Buf, Bytes};
use mio::net::TcpStream;

use super::wheel::Tick;
use super::{Open, Permit};
use crate::channel::{Cursor, Delivery, Form, Subscription};
use crate::sse::Frame;

/// A connection of a shard.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: TcpStream,
    pub(super) cursor: Cursor,
    pub(super) form: Form,
    pub(super) chunked: bool,
    pub(super) life: Life,
    /// Index of its channel in the shard.
    pub(super) room: u32,
    /// Index in that channel's list.
    pub(super) place: u32,
    /// The tick of its one valid entry in the wheel; others of it are ignored when they fire. `MAX`: it has none.
    pub(super) timer: Tick,
    /// When it last took bytes, or began to be owed some.
    pub(super) written: Tick,
    /// What the socket did not take.
    pub(super) unsent: Option<Box<Outgoing>>,
    /// Counts as demand while it lives.
    pub(super) _subscription: Subscription,
    pub(super) _permit: Option<Permit>,
    pub(super) _open: Open,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is given what happens, until this tick: its age, or the drain.
    Open { until: Tick },
    /// Its last bytes are on their way, for as long as the client takes some.
    Ending,
    /// It has everything and our side is shut; the client's end is waited for until this tick.
    Shut { until: Tick },
}

/// Bytes to be sent in one write: shared ones, and what goes with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    pub(super) first: Bytes,
    pub(super) then: Bytes,
}

/// The connection is over.
#[derive(Debug)]
pub(super) struct Gone;

impl Conn {
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
            Life::Open { .. } | Life::Ending => self.written.saturating_add(write_stall),
        }
    }

    /// A frame's bytes in this connection's framing.
    pub(super) fn framed(&self, frame: &Frame) -> Bytes {
        if self.chunked {
            frame.chunked()
        } else {
            frame.payload()
        }
    }

    /// Gives it what it is owed. Only when it is free.
    pub(super) fn give(&mut self, delivery: &Delivery, now: Tick) -> Result<(), Gone> {
        self.cursor = delivery.cursor;
        match &delivery.frame {
            Some(frame) => self.send(self.framed(frame).into(), now),
            None => Ok(()),
        }
    }

    /// Writes bytes as they are. Only when it is free.
    pub(super) fn send(&mut self, mut bytes: Outgoing, now: Tick) -> Result<(), Gone> {
        self.written = now;
        write(&mut self.socket, &mut bytes)?;
        if !bytes.is_empty() {
            self.unsent = Some(Box::new(bytes));
        }
        Ok(())
    }

    /// Writes what is left over. Returns whether it all left.
    pub(super) fn flush(&mut self, now: Tick) -> Result<bool, Gone> {
        let Some(unsent) = &mut self.unsent else {
            return Ok(true);
        };
        if write(&mut self.socket, unsent)? > 0 {
            self.written = now;
        }
        let done = unsent.is_empty();
        if done {
            self.unsent = None;
        }
        Ok(done)
    }

    /// Takes what the client sends, which means nothing, and notices when it leaves.
    pub(super) fn drain_input(&mut self, scratch: &mut [u8]) -> Result<(), Gone> {
        // A client that sends without end would keep the shard busy: it is not a reader of an event stream.
        for _ in 0..16 {
            match self.socket.read(scratch) {
                Ok(0) => return Err(Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Err(Gone)
    }
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.then.is_empty()
    }

    fn took(&mut self, count: usize) {
        let of_first = count.min(self.first.len());
        self.first.advance(of_first);
        self.then.advance(count - of_first);
    }
}

impl From<Bytes> for Outgoing {
    fn from(first: Bytes) -> Self {
        Self {
            first,
            then: Bytes::new(),
        }
    }
}

/// Writes until the socket takes no more, and takes what it took off `bytes`. Returns how much that was.
fn write(socket: &mut TcpStream, bytes: &mut Outgoing) -> Result<usize, Gone> {
    let mut sent = 0;
    while !bytes.is_empty() {
        let written = match (bytes.first.is_empty(), bytes.then.is_empty()) {
            (false, false) => {
                socket.write_vectored(&[IoSlice::new(&bytes.first), IoSlice::new(&bytes.then)])
            }
            (false, true) => socket.write(&bytes.first),
            (true, _) => socket.write(&bytes.then),
        };
        match written {
            Ok(0) => return Err(Gone),
            Ok(count) => {
                bytes.took(count);
                sent += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
    Ok(sent)
}
