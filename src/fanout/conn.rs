//! One connection: what it is owed, and the write that never waits.

use std::io::{self, Read, Write};

use bytes::Bytes;
use mio::net::TcpStream;

use super::Permit;
use super::wheel::Tick;
use crate::channel::{Cursor, Form, Subscription};
use crate::sse::Frame;

/// A connection of a shard.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: TcpStream,
    pub(super) cursor: Cursor,
    pub(super) form: Form,
    pub(super) chunked: bool,
    /// Its last bytes are on their way; only the client's end of the connection is waited for, until `ends`.
    pub(super) ending: bool,
    /// Index of its channel in the shard.
    pub(super) room: u32,
    /// Index in that channel's list.
    pub(super) place: u32,
    /// The tick of its one valid entry in the wheel; others of it are ignored when they fire.
    pub(super) timer: Tick,
    /// When it last took bytes.
    pub(super) written: Tick,
    /// When it ends by age or drain.
    pub(super) ends: Tick,
    /// What the socket did not take.
    pub(super) unsent: Option<Box<Unsent>>,
    /// Counts as demand while it lives.
    pub(super) _subscription: Subscription,
    pub(super) _permit: Option<Permit>,
}

#[derive(Debug)]
pub(super) struct Unsent {
    bytes: Bytes,
    sent: usize,
}

/// The connection is over.
#[derive(Debug)]
pub(super) struct Gone;

impl Conn {
    /// Whether the socket took everything so far.
    pub(super) fn is_free(&self) -> bool {
        self.unsent.is_none()
    }

    /// Writes a frame in this connection's framing. Only when [`Conn::is_free`].
    pub(super) fn send(&mut self, frame: &Frame, now: Tick) -> Result<(), Gone> {
        let bytes = if self.chunked {
            frame.chunked()
        } else {
            frame.payload()
        };
        self.send_bytes(bytes, now)
    }

    /// Writes bytes as they are. Only when [`Conn::is_free`].
    pub(super) fn send_bytes(&mut self, bytes: Bytes, now: Tick) -> Result<(), Gone> {
        self.written = now;
        let sent = write(&mut self.socket, &bytes)?;
        if sent < bytes.len() {
            self.unsent = Some(Box::new(Unsent { bytes, sent }));
        }
        Ok(())
    }

    /// Writes what is left over. Returns whether it all left.
    pub(super) fn flush(&mut self, now: Tick) -> Result<bool, Gone> {
        let Some(unsent) = &mut self.unsent else {
            return Ok(true);
        };
        let sent = write(&mut self.socket, &unsent.bytes[unsent.sent..])?;
        if sent > 0 {
            self.written = now;
        }
        unsent.sent += sent;
        let done = unsent.sent == unsent.bytes.len();
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

/// Writes until the socket takes no more. Returns how many bytes it took.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> Result<usize, Gone> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(0) => return Err(Gone),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
    Ok(sent)
}
