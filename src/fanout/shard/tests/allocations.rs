//! The discipline of the loop, counted: an event costs no connection an allocation, in whatever coding.

use tikv_jemalloc_ctl::thread::allocatedp;

use super::*;
use crate::sse::Coding;

/// Bytes that this thread allocates for an event that `readers` get in this coding.
fn cost_of_an_event(readers: usize, coding: Option<Coding>) -> u64 {
    let channel = said("0");
    let mut rig = Rig::new();
    let adopt = |_| {
        let (mut stream, peer) = rig.stream(&channel);
        stream.encoder = Encoder::new(coding, true);
        rig.hand_over(stream);
        rig.turn();
        peer
    };
    let mut peers: Vec<_> = (0..readers).map(adopt).collect();
    let allocated = allocatedp::read().expect("the tests' allocator counts");
    let mut cost = 0;
    // Timers and lists have found their sizes after the first.
    for value in ["1.5", "2.5", "3.5"] {
        say(&channel, value);
        for peer in &mut peers {
            take(peer, &mut Vec::new());
        }
        let before = allocated.get();
        rig.turn();
        cost = allocated.get() - before;
    }
    for peer in &mut peers {
        let mut read = Vec::new();
        take(peer, &mut read);
        assert!(coding.is_some() || has_text(&read, "3.5"));
        assert!(!read.is_empty());
    }
    cost
}

#[test]
fn an_event_costs_no_reader_an_allocation() {
    for coding in [None, Some(Coding::Gzip), Some(Coding::Zstd)] {
        let (one, many) = (cost_of_an_event(1, coding), cost_of_an_event(100, coding));
        assert!(one > 0, "the frame itself is allocated: something counts");
        // Frames differ by the length of an id; the smallest allocation is 8 bytes.
        assert!(
            many < one + 100,
            "{one} bytes for one, {many} for a hundred, {coding:?}"
        );
    }
}
