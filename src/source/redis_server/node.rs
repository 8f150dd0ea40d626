//! One server, shared by all who use it: one connection for commands, one for pushes.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::commands::Commands;
use super::dial::Dialer;
use super::pushes::Pushes;

/// A server, or whichever of several is dialed, and its connections.
pub(super) struct Node {
    pub(super) dialer: Arc<Dialer>,
    // Weak: who uses a connection keeps it; the node itself does not.
    commands: Mutex<Weak<Commands>>,
    pushes: Mutex<Weak<Pushes>>,
}

impl Node {
    /// Connects to nothing yet.
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer: Arc::new(dialer),
            commands: Mutex::default(),
            pushes: Mutex::default(),
        }
    }

    /// The connection for commands. Must be called within a tokio runtime.
    pub(super) fn commands(&self) -> Arc<Commands> {
        share(&self.commands, || Commands::start(self.dialer.clone()))
    }

    /// The connection for pushes. Must be called within a tokio runtime.
    pub(super) fn pushes(&self) -> Arc<Pushes> {
        share(&self.pushes, || Pushes::start(self.dialer.clone()))
    }
}

fn share<T>(kept: &Mutex<Weak<T>>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut kept = kept.lock();
    kept.upgrade().unwrap_or_else(|| {
        let made = Arc::new(make());
        *kept = Arc::downgrade(&made);
        made
    })
}
