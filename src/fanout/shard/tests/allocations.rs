//! The discipline of the loop, counted: an event costs no connection an allocation.

use tikv_jemalloc_ctl::thread::allocatedp;

use super::*;

/// Bytes that this thread allocates for an event that `readers` get.
fn cost_of_an_event(readers: usize) -> u64 {
    let channel = said("0");
    let mut rig = Rig::new();
    let mut peers: Vec<_> = (0..readers).map(|_| rig.adopt(&channel)).collect();
    let allocated = allocatedp::read().expect("the tests' allocator counts");
    let mut cost = 0;
    // Timers and lists have found their sizes after the first.
    for value in ["1.5", "2.5", "3.5"] {
        say(&channel, value);
        let before = allocated.get();
        rig.turn();
        cost = allocated.get() - before;
    }
    for peer in &mut peers {
        assert!(has(peer, "3.5"));
    }
    cost
}

#[test]
fn an_event_costs_no_reader_an_allocation() {
    let (one, many) = (cost_of_an_event(1), cost_of_an_event(100));
    assert!(one > 0, "the frame itself is allocated: something counts");
    // Frames differ by the length of an id; the smallest allocation is 8 bytes.
    assert!(many < one + 100, "{one} bytes for one, {many} for a hundred");
}
