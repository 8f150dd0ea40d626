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
use super::probe::Probe;
use crate::source::SourceError;

/// What a connection is used for.
pub(super) trait Tenant: Send {
    /// Makes a connection of the right kind.
    fn dial(&mut self, dialer: &Dialer)
    -> impl Future<Output = Result<Dialed, SourceError>> + Send;

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

    /// No connection could be made, or it was lost. Nothing of it arrives any more. Returns how long another one is not
    /// worth trying.
    fn down(&mut self, error: SourceError) -> Duration;
}

/// Keeps a connection for `tenant`.
pub(super) async fn supervise(dialer: Arc<Dialer>, mut tenant: impl Tenant) -> Infallible {
    let _asking = dialer.attend();
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let error = live(&dialer, &mut tenant).await;
        let rest = tenant.down(error);
        // A server that breaks each connection at once gets no more tries than one that takes none.
        if began.elapsed() > 2 * Backoff::LONGEST {
            backoff = Backoff::default();
        }
        sleep(backoff.pause().max(rest)).await;
    }
}

/// The life of one connection; why it ended.
async fn live(dialer: &Dialer, tenant: &mut impl Tenant) -> SourceError {
    let Dialed {
        connection,
        driver,
        at,
        probe,
        answered,
    } = match tenant.dial(dialer).await {
        Ok(dialed) => dialed,
        Err(error) => return error,
    };
    let heard = tenant.heard();
    heard(answered);
    tenant.up(&connection);
    let mut life = pin!(async {
        tokio::select! {
            error = tenant.work(connection.clone()) => error,
            error = heartbeat(&connection, probe, dialer.patience.heartbeat, heard) => error,
            error = dialer.leave(at.as_ref()) => error,
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
