//! Clients over TLS: HTTP/1.1, or HTTP/2 with some streams a connection.
//!
//! Unlike the plain ones they go on reading between two runs, for acknowledgements and windows are part of the
//! protocol; what they see then counts in the next run.

mod board;
mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::Tally;
use super::lane::UNDERWAY;
use crate::Outcome;
use crate::certificate::Certificate;
use board::Board;
use connection::Visit;

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// HTTP/1.1: one stream a connection.
    Http1,
    /// HTTP/2, with so many streams a connection.
    Http2(usize),
}

impl Carriage {
    /// Its name in ALPN.
    fn protocol(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2(_) => "h2",
        }
    }

    /// Streams of one connection.
    pub(crate) fn streams(self) -> usize {
        match self {
            Self::Http1 => 1,
            Self::Http2(streams) => streams,
        }
    }
}

/// Clients of one address.
pub(crate) struct TlsSwarm {
    visit: Visit,
    connections: usize,
    /// Number of the next connection, which decides where it comes from.
    number: usize,
    board: Arc<Board>,
    /// One a connection; aborted when dropped.
    tasks: JoinSet<()>,
    runtime: Runtime,
}

impl TlsSwarm {
    /// `connections` that ask `address` for `path`, played by `threads`. They connect in the first run.
    pub(crate) fn new(
        address: SocketAddr,
        path: &'static str,
        connections: usize,
        carriage: Carriage,
        certificate: &Certificate,
        threads: usize,
    ) -> Outcome<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_io()
            .enable_time()
            .build()?;
        Ok(Self {
            visit: Visit {
                address,
                path,
                carriage,
                tls: TlsConnector::from(certificate.client(carriage.protocol())?),
                underway: Arc::new(Semaphore::new(UNDERWAY)),
            },
            connections,
            number: 0,
            board: Arc::default(),
            tasks: JoinSet::new(),
            runtime,
        })
    }

    /// Runs until every stream has got at least `events` since the run began; an error when that is not reached within
    /// `limit`. The tally is of everything since the last run.
    pub(crate) fn run(&mut self, events: u32, limit: Duration) -> Outcome<Tally> {
        let streams = self.connections * self.visit.carriage.streams();
        self.board.begin(events, streams);
        if self.tasks.is_empty() {
            for _ in 0..self.connections {
                let visit = self.visit.clone();
                let play = visit.play(super::source(self.number), Arc::clone(&self.board));
                self.tasks.spawn_on(play, self.runtime.handle());
                self.number += 1;
            }
        }
        let board = &self.board;
        let finished = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, board.done.notified()).await });
        let (reached, tally) = board.take();
        if finished.is_err() || reached < streams {
            let faults = tally
                .faults()
                .map(|faults| format!(" ({faults})"))
                .unwrap_or_default();
            return Err(format!(
                "{reached} of {streams} streams got {events} events within {limit:?}{faults}"
            )
            .into());
        }
        Ok(tally)
    }

    /// All clients leave; what they saw since the last run. The next run connects them again, as newcomers.
    pub(crate) fn leave(&mut self) -> Tally {
        let (_, tally) = self.board.take();
        // Those that are leaving keep the old board.
        self.board = Arc::default();
        self.tasks = JoinSet::new();
        tally
    }
}
