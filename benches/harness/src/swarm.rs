//! The clients: many EventSource-like connections from many loopback addresses.
//!
//! A swarm moves only while [`Swarm::run`] runs, towards a [`Goal`] and for a limited time. Each of its lanes is one
//! thread's share: an epoll and its connections. Between two runs what arrives waits in the sockets. Over TLS it is
//! [`tls`] instead, which goes on reading.

mod decode;
mod lane;
mod tally;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Outcome;
use lane::Lane;
pub(crate) use lane::{request, source};
pub(crate) use tally::Tally;

/// When a run is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Every client has got at least so many events since the run began.
    Events(u32),
    /// The time is over.
    Time,
}

/// What the clients ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    /// All the same.
    One(&'static str),
    /// Each another: this, a slash, and the number of the client.
    Each(&'static str),
}

/// Clients of one address.
#[derive(Debug)]
pub(crate) struct Swarm {
    lanes: Vec<Lane>,
    clients: usize,
}

impl Swarm {
    /// `clients` that ask `address` for `path`, played by `threads`. They connect in the first run.
    pub(crate) fn new(
        address: SocketAddr,
        path: Path,
        clients: usize,
        threads: usize,
    ) -> Outcome<Self> {
        let mut first = 0;
        let mut lanes = Vec::with_capacity(threads);
        for index in 0..threads {
            let share = (clients + index) / threads;
            lanes.push(Lane::new(address, path, share, first)?);
            first += share;
        }
        Ok(Self { lanes, clients })
    }

    /// Runs until `goal`; an error when it is not reached within `limit`. The tally is that of this run.
    pub(crate) fn run(&mut self, goal: Goal, limit: Duration) -> Outcome<Tally> {
        let end = Instant::now() + limit;
        let tallies: Vec<Outcome<(Tally, usize)>> = match self.lanes.as_mut_slice() {
            [lane] => vec![lane.run(goal, end)],
            lanes => std::thread::scope(|scope| {
                let runs: Vec<_> = lanes
                    .iter_mut()
                    .map(|lane| scope.spawn(move || lane.run(goal, end)))
                    .collect();
                let joined = runs.into_iter().map(|run| {
                    run.join()
                        .unwrap_or_else(|_| Err("a client thread died".into()))
                });
                joined.collect()
            }),
        };
        let (mut tally, mut reached) = (Tally::default(), 0);
        for outcome in tallies {
            let (part, count) = outcome?;
            tally.add(part);
            reached += count;
        }
        if reached < self.clients {
            let faults = tally
                .faults()
                .map(|faults| format!(" ({faults})"))
                .unwrap_or_default();
            return Err(format!(
                "{reached} of {} clients reached {goal:?} within {limit:?}{faults}",
                self.clients
            )
            .into());
        }
        Ok(tally)
    }

    /// Threads that play them.
    pub(crate) fn threads(&self) -> usize {
        self.lanes.len()
    }

    /// All clients leave. The next run connects them again, as newcomers.
    pub(crate) fn leave(&mut self) {
        for lane in &mut self.lanes {
            lane.leave();
        }
    }
}
