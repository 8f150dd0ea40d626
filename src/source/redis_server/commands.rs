//! The connection for commands of one server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Dialed, Dialer};
use super::fault;
use super::supervise::{Tenant, supervise};
use crate::source::{Cause, SourceError};

/// Runs commands. Closed with the last holder.
pub(in crate::source) struct Commands {
    state: watch::Receiver<State>,
    _supervisor: AbortOnDropHandle<()>,
}

/// Which connection of a server's it is: 1 for the first one that answered, and so on.
pub(in crate::source) type Generation = u64;

/// A connection that answered when it was taken.
pub(in crate::source) struct Line {
    connection: MultiplexedConnection,
    state: watch::Receiver<State>,
    pub(in crate::source) generation: Generation,
}

#[derive(Clone)]
enum State {
    /// For the first time: worth waiting for.
    Connecting,
    Up(MultiplexedConnection, Generation),
    Down(SourceError),
}

impl Commands {
    pub(super) fn start(dialer: Arc<Dialer>) -> Self {
        let (teller, state) = watch::channel(State::Connecting);
        let tenant = Teller {
            state: teller,
            generation: 0,
        };
        let supervisor = tokio::spawn(async move {
            supervise(dialer, tenant).await;
        });
        Self {
            state,
            _supervisor: AbortOnDropHandle::new(supervisor),
        }
    }

    /// The connection, or why there is none. Waits only for the first attempt to connect, which has a deadline.
    pub(in crate::source) async fn line(&self) -> Result<Line, SourceError> {
        let mut state = self.state.clone();
        let known = state
            .wait_for(|state| !matches!(state, State::Connecting))
            .await;
        match known.as_deref() {
            Ok(State::Up(connection, generation)) => Ok(Line {
                connection: connection.clone(),
                state: self.state.clone(),
                generation: *generation,
            }),
            Ok(State::Down(error)) => Err(error.clone()),
            Ok(State::Connecting) | Err(_) => {
                Err(SourceError::new(Cause::Redis, "the gateway is stopping"))
            }
        }
    }

    /// Completes when there is a connection that is not the one of generation `seen`. May never complete.
    pub(in crate::source) async fn line_other_than(&self, seen: Option<Generation>) {
        let mut state = self.state.clone();
        let news =
            |state: &State| matches!(state, State::Up(_, generation) if Some(*generation) != seen);
        if state.wait_for(news).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl Line {
    /// Runs one command. An error reply is an error, as the server gave it.
    pub(super) async fn send(&self, command: &Cmd) -> redis::RedisResult<redis::Value> {
        let answer = self.connection.clone().send_packed_command(command).await;
        answer.and_then(redis::Value::extract_error)
    }

    /// The same, of a node of a cluster that takes over the key, but has not all of them yet.
    pub(super) async fn send_asking(&self, command: &Cmd) -> redis::RedisResult<redis::Value> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let mut connection = self.connection.clone();
        let mut answers = connection.send_packed_commands(&both, 0, 2).await?;
        let answer = answers.pop().unwrap_or(redis::Value::Nil);
        answer.extract_error()
    }

    /// What the error of a command means.
    pub(super) async fn explain(&self, error: &redis::RedisError) -> SourceError {
        match error.is_connection_dropped() {
            true => self.why_lost().await,
            false => fault::of_command(error),
        }
    }

    /// Whoever keeps the connection knows better than a command that it took with it, and is about to tell.
    async fn why_lost(&self) -> SourceError {
        let mut state = self.state.clone();
        let is_lost = |state: &State| !matches!(state, State::Up(_, it) if *it == self.generation);
        match state.wait_for(is_lost).await.as_deref() {
            Ok(State::Down(error)) => error.clone(),
            _ => fault::connection_lost(),
        }
    }
}

struct Teller {
    state: watch::Sender<State>,
    generation: Generation,
}

impl Tenant for Teller {
    async fn dial(&mut self, dialer: &Dialer) -> Result<Dialed, SourceError> {
        dialer.dial().await
    }

    fn up(&mut self, connection: &MultiplexedConnection) {
        self.generation += 1;
        self.state
            .send_replace(State::Up(connection.clone(), self.generation));
    }

    async fn work(&mut self, _connection: MultiplexedConnection) -> SourceError {
        std::future::pending().await
    }

    fn down(&mut self, error: SourceError) -> Duration {
        self.state.send_replace(State::Down(error));
        Duration::ZERO
    }
}
