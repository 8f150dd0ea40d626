//! How many streams each holder has at once (EDGE Q6, Q10).

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;

use super::key::ClientKey;

/// Parts with a lock each.
const SHARDS: usize = 64;

/// Who holds streams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// All together.
    Everybody,
    /// A client by its address.
    Client(ClientKey),
    /// Somebody whose name is known.
    Identity(Arc<str>),
}

/// Holders that have a stream, and how many. Who has none is not in it, so there are never more entries than three a stream.
#[derive(Debug)]
pub(super) struct Slots {
    hash: RandomState,
    shards: Box<[Mutex<HashMap<Holder, usize>>]>,
}

/// One stream of a holder, until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    holder: Holder,
}

impl Slots {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            hash: RandomState::new(),
            shards: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
        })
    }

    /// One more for this holder, if it then has no more than `max`.
    pub(super) fn take(self: &Arc<Self>, holder: Holder, max: usize) -> Option<Slot> {
        let mut shard = self.shard(&holder).lock();
        let held = shard.get(&holder).copied().unwrap_or(0);
        if held >= max {
            return None;
        }
        shard.insert(holder.clone(), held + 1);
        let slots = Arc::clone(self);
        Some(Slot { slots, holder })
    }

    fn shard(&self, holder: &Holder) -> &Mutex<HashMap<Holder, usize>> {
        &self.shards[self.hash.hash_one(holder) as usize % SHARDS]
    }

    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut shard = self.slots.shard(&self.holder).lock();
        if let Entry::Occupied(mut held) = shard.entry(self.holder.clone()) {
            match held.get() {
                2.. => *held.get_mut() -= 1,
                _ => {
                    held.remove();
                    if shard.len() < shard.capacity() / 4 {
                        let room = 2 * shard.len();
                        shard.shrink_to(room);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn holder(number: u8) -> Holder {
        match number {
            0 => Holder::Everybody,
            1 => Holder::Identity("ops".into()),
            _ => Holder::Client(ClientKey::new(IpAddr::from([10, 0, 0, number]))),
        }
    }

    /// EDGE Q6: N, not N + 1; and one more when one was given back.
    #[test]
    fn a_holder_has_as_many_as_it_may() {
        let slots = Slots::new();
        let mut held: Vec<_> = (0..3)
            .map(|_| slots.take(holder(2), 3).expect("is free"))
            .collect();
        assert!(slots.take(holder(2), 3).is_none());
        assert!(slots.take(holder(3), 3).is_some());
        held.pop();
        assert!(slots.take(holder(2), 3).is_some());
    }

    /// EDGE Q10: a hundred thousand streams of as many clients come and go, and nothing of them stays.
    #[test]
    fn nothing_stays_of_what_was_given_back() {
        let slots = Slots::new();
        for round in 0..2u32 {
            let client = |number: u32| {
                Holder::Client(ClientKey::new(IpAddr::from((number + round).to_be_bytes())))
            };
            let held: Vec<_> = (0..100_000)
                .map(|number| slots.take(client(number), 1).expect("is free"))
                .collect();
            assert_eq!(slots.holders(), 100_000);
            drop(held);
            assert_eq!(slots.holders(), 0);
        }
    }

    /// EDGE Q10: a slot comes back when the one who holds it panics.
    #[test]
    fn a_panic_gives_back() {
        let slots = Slots::new();
        let held = slots.take(holder(2), 1).expect("is free");
        std::thread::spawn(move || {
            let _held = held;
            panic!("on purpose");
        })
        .join()
        .expect_err("panicked");
        assert_eq!(slots.holders(), 0);
    }

    proptest! {
        /// Whatever comes and goes, what is counted is what is held.
        #[test]
        fn the_count_is_what_is_held(steps in prop::collection::vec((0u8..6, any::<bool>()), 0..200), max in 1usize..5) {
            let slots = Slots::new();
            let mut held: Vec<Slot> = Vec::new();
            for (number, opens) in steps {
                let holder = holder(number);
                let count = held.iter().filter(|slot| slot.holder == holder).count();
                match opens {
                    true => {
                        let slot = slots.take(holder, max);
                        prop_assert_eq!(slot.is_some(), count < max);
                        held.extend(slot);
                    }
                    false => {
                        let at = held.iter().position(|slot| slot.holder == holder);
                        at.map(|at| held.swap_remove(at));
                    }
                }
            }
            held.clear();
            prop_assert_eq!(slots.holders(), 0);
        }
    }
}
