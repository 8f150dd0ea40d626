//! The way into a shard: others leave a note and wake it.

use std::collections::VecDeque;
use std::io;

use mio::{Registry, Token, Waker};
use parking_lot::Mutex;
use rustls::ServerConnection;
use tokio::sync::oneshot;
use tracing::error;

use super::{Arrival, Drain, Limits};

/// Under which a shard's poll reports that there is a note.
pub(super) const WAKE: Token = Token(usize::MAX);

/// What other threads ask of a shard.
#[derive(Debug)]
pub(super) enum Command {
    /// Take it over.
    Adopt(
        std::net::TcpStream,
        Option<Box<ServerConnection>>,
        Box<Arrival>,
    ),
    /// End all streams, and those that come.
    Drain(Drain),
    /// Say that the shard still takes its turns.
    Answer(oneshot::Sender<()>),
    /// Bound slow readers by these.
    Limits(Limits),
    /// Drop everything and end the thread.
    Stop,
}

/// Notes for one shard.
#[derive(Debug)]
pub(super) struct Inbox {
    notes: Mutex<Notes>,
    waker: Waker,
}

/// What was left since the shard last looked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// To be done in this order.
    pub(super) commands: VecDeque<Command>,
    /// Rooms whose channel has news.
    pub(super) changed: Vec<u32>,
}

impl Inbox {
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        Ok(Self {
            notes: Mutex::default(),
            waker: Waker::new(registry, WAKE)?,
        })
    }

    pub(super) fn send(&self, command: Command) {
        self.notes.lock().commands.push_back(command);
        self.wake();
    }

    pub(super) fn changed(&self, room: u32) {
        self.notes.lock().changed.push(room);
        self.wake();
    }

    /// Moves all notes behind those in `into`.
    pub(super) fn take(&self, into: &mut Notes) {
        let mut notes = self.notes.lock();
        into.commands.append(&mut notes.commands);
        into.changed.append(&mut notes.changed);
    }

    fn wake(&self) {
        // It fails only when the process is out of kernel memory; the shard looks again at its next timer.
        if let Err(error) = self.waker.wake() {
            error!(%error, "a fan-out thread cannot be woken");
        }
    }
}
