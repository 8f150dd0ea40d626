//! Clients that come back while messages come in, from another thread (EDGE L5–L9).

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use super::*;

/// How often a client comes back, with each size of the history.
const TRIALS: usize = 20_000;
const HISTORIES: [usize; 5] = [1, 2, 3, 8, 32];

/// No queue is too long here: who is behind is replayed or reset.
const ENDLESS: usize = usize::MAX;

/// Numbered messages, and which of them are there already.
#[derive(Default)]
struct Published {
    begun: AtomicU64,
    done: AtomicU64,
    recent: Mutex<VecDeque<(u64, EventId)>>,
    stop: AtomicBool,
}

impl Published {
    /// Publishes one number after the other until it is told to stop.
    fn publish(&self, channel: &Channel, remembered: usize) {
        let mut number = 0;
        while !self.stop.load(Ordering::Acquire) {
            number += 1;
            self.begun.store(number, Ordering::SeqCst);
            let id = channel
                .append(json(&number.to_string()), None)
                .expect("open");
            {
                // Whoever is told that it is there finds it, and whoever finds it is told so.
                let mut recent = self.recent.lock();
                self.done.store(number, Ordering::SeqCst);
                recent.push_back((number, id));
                if recent.len() > remembered {
                    recent.pop_front();
                }
            }
            if number % 7 == 0 {
                std::thread::yield_now();
            }
        }
    }

    fn wait_for_another(&self) {
        let before = self.done.load(Ordering::SeqCst);
        while self.done.load(Ordering::SeqCst) == before {
            std::thread::yield_now();
        }
    }

    /// The number and the id of a message that was there a while ago.
    fn any(&self) -> Option<(u64, EventId)> {
        let recent = self.recent.lock();
        let at = (!recent.is_empty()).then(|| fastrand::usize(..recent.len()))?;
        recent.get(at).copied()
    }
}

/// Ends the publishing however the clients end.
struct Stop<'a>(&'a Published);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

/// What a delivery tells: whether it begins with `reset`, and the numbers, in order.
fn told(delivery: &Delivery) -> (bool, Vec<u64>) {
    let Some(frame) = &delivery.frame else {
        return (false, Vec::new());
    };
    let mut reset = false;
    let mut numbers = Vec::new();
    for item in Parser::default().push(&frame.payload()) {
        match item {
            Item::Event(event) if event.name == "reset" => {
                assert!(!reset && numbers.is_empty(), "a reset comes first");
                reset = true;
            }
            Item::Event(event) => numbers.push(event.data.parse().expect("a number")),
            other => panic!("{other:?}"),
        }
    }
    (reset, numbers)
}

/// A client that has message `had` comes back and reads until it has all that was there when it came.
fn come_back(
    channel: &Channel,
    published: &Published,
    history: usize,
    (had, id): (u64, EventId),
) -> bool {
    let before = published.done.load(Ordering::SeqCst);
    let cursor = Cursor::After(Some(id));
    let first = channel.deliver(&cursor, Form::Value, ENDLESS);
    let after = published.begun.load(Ordering::SeqCst);
    let Some(first) = first else {
        assert_eq!(had, before, "silence is for who is current");
        return false;
    };
    let (reset, numbers) = told(&first);
    if after - had <= history as u64 {
        assert!(!reset, "{had} of {after} was still there");
    }
    if before - had > history as u64 {
        assert!(reset, "{had} of {before} was gone");
    }
    // After a reset it has what comes from then on, whatever that is.
    let mut have = (!reset).then_some(had);
    let mut take = |numbers: Vec<u64>, conflated: bool| {
        for number in numbers {
            match have {
                Some(have) if conflated => assert!(number > have, "{number} after {have}"),
                Some(have) => assert_eq!(number, have + 1),
                None => assert!(number > had, "{number} is older than {had}"),
            }
            have = Some(number);
        }
        have
    };
    let mut newest = take(numbers, false);
    let mut cursor = first.cursor;
    while newest.is_none_or(|newest| newest < before) {
        let Some(next) = channel.deliver(&cursor, Form::Value, ENDLESS) else {
            assert!(reset, "{newest:?} of {before} came");
            break;
        };
        let (again, numbers) = told(&next);
        assert!(!again, "who is there is not reset");
        newest = take(numbers, next.count.conflated);
        cursor = next.cursor;
    }
    reset
}

/// EDGE L8, L9, B2: a hundred thousand clients come back while messages are published. Each gets exactly what it missed, in
/// order, nothing twice; or, when that is not there any more, is told so first.
#[test]
fn who_comes_back_during_publishing_misses_nothing() {
    let mut resets = 0;
    for history in HISTORIES {
        let channel = channel(history, false);
        let published = Published::default();
        std::thread::scope(|scope| {
            let _stop = Stop(&published);
            scope.spawn(|| published.publish(&channel, 2 * history));
            let mut trials = 0;
            while trials < TRIALS {
                // On a busy machine, too, messages come in between.
                if trials % 64 == 0 {
                    published.wait_for_another();
                }
                let message = published.any().expect("there is one");
                trials += 1;
                resets += usize::from(come_back(&channel, &published, history, message));
            }
        });
    }
    // Both happened.
    let all = TRIALS * HISTORIES.len();
    assert!(0 < resets && resets < all, "{resets} of {all} resets");
}

/// EDGE L6: ids that this channel never gave are told to be unknown, whatever happens meanwhile.
#[test]
fn foreign_and_forged_ids_are_reset_during_publishing() {
    let channel = channel(8, false);
    let published = Published::default();
    let foreign = channel_of_another_life();
    std::thread::scope(|scope| {
        let _stop = Stop(&published);
        scope.spawn(|| published.publish(&channel, 16));
        published.wait_for_another();
        for trial in 0..TRIALS {
            let id = match trial % 2 {
                0 => None,
                _ => Some(foreign),
            };
            let first = channel.deliver(&Cursor::After(id), Form::Value, ENDLESS);
            let (reset, _) = told(&first.expect("never silence"));
            assert!(reset);
        }
    });
}

fn channel_of_another_life() -> EventId {
    channel(8, false).append(json("1"), None).expect("open")
}

/// EDGE L15: who asks how things stand, as for a process that takes over, and who comes to a channel that rests do not wait for
/// each other.
#[test]
fn who_comes_and_who_asks_how_things_stand_go_on() {
    let channel = channel(8, true);
    channel.observe(json("1"));
    let (ended, ends) = std::sync::mpsc::channel();
    let run = |step: fn(&Arc<Channel>)| {
        let (channel, ended) = (channel.clone(), ended.clone());
        std::thread::spawn(move || {
            (0..TRIALS).for_each(|_| step(&channel));
            ended.send(())
        });
    };
    run(|channel| drop(channel.since(None)));
    run(|channel| {
        channel.rest(Instant::now());
        drop(channel.subscribe());
    });
    for _ in 0..2 {
        let end = ends.recv_timeout(Duration::from_secs(20));
        end.expect("neither waits for the other");
    }
}
