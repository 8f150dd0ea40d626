//! How often each client did something of late, in memory that is given once (EDGE Q7).
//!
//! A hash leads to a set of [`WAYS`] places. A client that is not in its set takes the place of the one whose *theoretical arrival
//! time* (GCRA) is the earliest: an empty place, or a client that has waited enough to be as good as new, before one that has
//! used little, before one that is limited. So a flood of new addresses forgets the harmless ones and keeps the known bad ones.
//! The hash has a key of its own in each process: nobody can choose addresses that share a set.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use governor::nanos::Nanos;
use governor::state::StateStore;
use parking_lot::Mutex;

use super::key::ClientKey;

/// Places that one client may be in.
const WAYS: usize = 8;

/// Parts with a lock each.
const SHARDS: usize = 64;

/// State for a limiter over clients.
#[derive(Debug)]
pub(super) struct Table {
    hash: RandomState,
    sets: usize,
    shards: Box<[Mutex<Box<[Place]>>]>,
}

/// A client, and its theoretical arrival time in nanoseconds. 0: nobody, as no arrival is at 0.
type Place = [u64; 2];

impl Table {
    /// A table for `sets` times eight clients; a multiple of 64. Memory that no client needs is not touched.
    pub(super) fn new(sets: usize) -> Self {
        let sets = sets.div_ceil(SHARDS).max(1);
        let shard = || Mutex::new(vec![[0; 2]; sets * WAYS].into());
        Self {
            hash: RandomState::new(),
            sets,
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }
}

impl StateStore for Table {
    type Key = ClientKey;

    fn measure_and_replace<T, F, E>(&self, key: &ClientKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let hash = self.hash.hash_one(key) as usize;
        let mut shard = self.shards[hash % SHARDS].lock();
        let first = (hash / SHARDS % self.sets) * WAYS;
        let set = &mut shard[first..first + WAYS];
        let known = set
            .iter()
            .position(|[who, arrival]| *who == key.bits() && *arrival > 0);
        let at = known.unwrap_or_else(|| earliest(set));
        let (outcome, arrival) = decide(known.map(|at| set[at][1].into()))?;
        set[at] = [key.bits(), arrival.into()];
        Ok(outcome)
    }
}

fn earliest(set: &[Place]) -> usize {
    let places = set.iter().enumerate();
    let first = places.min_by_key(|(_, [_, arrival])| *arrival);
    first.map_or(0, |(at, _)| at)
}
