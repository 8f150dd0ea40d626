//! What the streams of a swarm have seen together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::Tally;
use super::super::decode::{Decoder, Item};
use crate::clock;

/// Shared by all streams of a swarm.
#[derive(Default)]
pub(super) struct Board {
    count: Mutex<Count>,
    /// Told when every stream has reached the goal.
    pub(super) done: Notify,
}

#[derive(Default)]
struct Count {
    tally: Tally,
    /// Number of the run.
    run: u64,
    /// Events that each stream is to get in this run.
    goal: u32,
    streams: usize,
    reached: usize,
}

/// One stream.
pub(super) struct Stream {
    decoder: Decoder,
    /// The run that `got` counts for.
    run: u64,
    got: u32,
    /// The newest sequence.
    last: Option<u64>,
}

impl Stream {
    /// For a response of which `decoder` has seen nothing.
    pub(super) fn new(decoder: Decoder) -> Self {
        Self {
            decoder,
            run: 0,
            got: 0,
            last: None,
        }
    }
}

impl Board {
    /// A new run of `streams`, each of which is to get `goal` events.
    pub(super) fn begin(&self, goal: u32, streams: usize) {
        let mut count = self.count();
        count.run += 1;
        count.goal = goal;
        count.streams = streams;
        count.reached = 0;
    }

    /// How many streams have reached the goal, and what was seen since the last time this was asked.
    pub(super) fn take(&self) -> (usize, Tally) {
        let mut count = self.count();
        (count.reached, std::mem::take(&mut count.tally))
    }

    /// Takes the next bytes of a stream; the error says why it is over.
    pub(super) fn feed(&self, stream: &mut Stream, bytes: &[u8]) -> Result<(), String> {
        let now = clock::now();
        let mut guard = self.count();
        let count = &mut *guard;
        let Stream {
            decoder,
            run,
            got,
            last,
        } = stream;
        if *run != count.run {
            (*run, *got) = (count.run, 0);
        }
        count.tally.reads += 1;
        count.tally.bytes += bytes.len() as u64;
        let mut ended = false;
        decoder.feed(bytes, &mut |item| match item {
            Item::Head => {}
            Item::Event { name, data } => {
                let events = count.tally.events;
                *last = count.tally.event(name, data, *last, now);
                if count.tally.events > events {
                    *got += 1;
                    count.reached += usize::from(*got == count.goal);
                    if *got == count.goal && count.reached == count.streams {
                        self.done.notify_one();
                    }
                }
            }
            Item::End => ended = true,
        })?;
        if ended {
            return Err("the body ended".into());
        }
        Ok(())
    }

    /// Counts a stream, or a connection that never had one, that ended although nobody asked it to.
    pub(super) fn end(&self, why: String) {
        self.count().tally.end(why);
    }

    /// A thread that panicked while it counted has left nothing half done that matters.
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;

    fn event(seq: u64) -> String {
        format!("data: {}\n\n", payload::value(seq, 1, 100))
    }

    #[test]
    fn a_run_counts_from_its_beginning() {
        let board = Board::default();
        let [mut one, mut two] = [(); 2].map(|()| Stream::new(Decoder::body_alone()));
        board.begin(1, 2);
        for stream in [&mut one, &mut two] {
            board.feed(stream, event(1).as_bytes()).expect("an event");
        }
        assert_eq!(board.take().0, 2);
        board.begin(2, 2);
        let both = event(2) + &event(4);
        board.feed(&mut one, both.as_bytes()).expect("two events");
        board.feed(&mut two, event(2).as_bytes()).expect("an event");
        let (reached, tally) = board.take();
        assert_eq!((reached, tally.events, tally.lost), (1, 3, 1));
    }
}
