//! Keeps one connection to a server: makes it, asks whether it lives, and makes it again, without end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::dial::{Dialed, Dialer};
use super::fault;
use crate::source::SourceError;

/// What a connection is used for.
pub(super) trait Tenant: Send {
    /// Makes a connection of the right kind.
    fn dial(&self, dialer: &Dialer) -> impl Future<Output = Result<Dialed, SourceError>> + Send;

    /// What is told when the server has answered: when it was asked.
    fn heard(&self) -> impl Fn(std::time::Instant) + Send + 'static {
        |_| ()
    }

    /// The server answers on a new connection.
    fn up(&mut self, connection: &MultiplexedConnection);

    /// Works on the connection. Ends only when it should be made anew.
    fn work(
        &mut self,
        connection: MultiplexedConnection,
    ) -> impl Future<Output = SourceError> + Send;

    /// No connection could be made, or it was lost. Nothing of it arrives any more.
    fn down(&mut self, error: SourceError);
}

/// Keeps a connection for `tenant`.
pub(super) async fn supervise(dialer: Arc<Dialer>, mut tenant: impl Tenant) -> Infallible {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let error = live(&dialer, &mut tenant).await;
        tenant.down(error);
        // A server that breaks each connection at once gets no more tries than one that takes none.
        if began.elapsed() > 2 * Backoff::LONGEST {
            backoff = Backoff::default();
        }
        sleep(backoff.pause()).await;
    }
}

/// The life of one connection; why it ended.
async fn live(dialer: &Dialer, tenant: &mut impl Tenant) -> SourceError {
    let Dialed { connection, driver } = match tenant.dial(dialer).await {
        Ok(dialed) => dialed,
        Err(error) => return error,
    };
    let heard = tenant.heard();
    let mut life = pin!(async {
        let mut probe = Probe::Ping;
        // A frozen server still takes connections: only an answer shows that there is one.
        match probe.ask(&connection).await {
            Ok(at) => heard(at),
            Err(error) => return error,
        }
        tenant.up(&connection);
        tokio::select! {
            error = tenant.work(connection.clone()) => error,
            error = heartbeat(&connection, probe, dialer.patience.heartbeat, heard) => error,
        }
    });
    tokio::select! {
        error = &mut life => error,
        // The last bytes may have brought a reason.
        () = driver => life.now_or_never().unwrap_or_else(fault::connection_lost),
    }
}

async fn heartbeat(
    connection: &MultiplexedConnection,
    mut probe: Probe,
    every: Duration,
    heard: impl Fn(std::time::Instant),
) -> SourceError {
    loop {
        sleep(every).await;
        match probe.ask(connection).await {
            Ok(at) => heard(at),
            Err(error) => return error,
        }
    }
}

/// How the server is asked whether it lives.
enum Probe {
    Ping,
    /// Allowed to every user, so that one who may not PING does not fill the server's ACL log (EDGE R4).
    Hello,
}

impl Probe {
    /// Any answer shows life, but for one: that the server is still loading. Gives when it was asked.
    async fn ask(
        &mut self,
        connection: &MultiplexedConnection,
    ) -> Result<std::time::Instant, SourceError> {
        let asked = std::time::Instant::now();
        let command = match self {
            Self::Ping => redis::cmd("PING"),
            Self::Hello => redis::cmd("HELLO"),
        };
        let answer = connection.clone().send_packed_command(&command).await;
        match answer.and_then(redis::Value::extract_error) {
            Ok(_) => Ok(asked),
            Err(error) if fault::is_forbidden(&error) => {
                *self = Self::Hello;
                Ok(asked)
            }
            // A server that wants a login which we do not have answers all else in the same way.
            Err(error) if fault::is_loading(&error) || error.code() == Some("NOAUTH") => {
                Err(fault::of_command(&error))
            }
            Err(error) if fault::is_answer(&error) => Ok(asked),
            Err(error) => Err(fault::of_command(&error)),
        }
    }
}

/// Pauses that double from 50 ms to 2 s, each shortened by up to half, so that many gateways do not come at once.
#[derive(Debug)]
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(50))
    }
}

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(2);

    fn pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE U16.
    #[test]
    fn pauses_grow_to_two_seconds_and_are_spread() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= Duration::from_millis(25) && pauses[0] <= Duration::from_millis(50));
        let last = &pauses[10..];
        assert!(
            last.iter()
                .all(|p| *p >= Duration::from_secs(1) && *p <= Duration::from_secs(2))
        );
        assert!(last.iter().any(|p| *p != last[0]));
    }
}
