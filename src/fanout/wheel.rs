//! A timer wheel: coarse, lazy, and silent while nothing is due. Pure.
//!
//! Each token stands in it once. A deadline that moves later is not moved in the wheel: when the old one fires, its
//! owner looks, finds that it is not due, and puts it in again. So the event path never touches the wheel.

use std::time::{Duration, Instant};

/// Length of a tick: how late a deadline may fire.
pub(super) const TICK: Duration = Duration::from_millis(64);

const SLOTS: usize = 512;

/// Ticks since the wheel began, or a number of them.
pub(super) type Tick = u32;

/// Whole ticks in a duration, at least one.
pub(super) fn ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_nanos().div_ceil(TICK.as_nanos()))
        .unwrap_or(Tick::MAX / 2)
        .max(1)
}

#[derive(Debug)]
pub(super) struct Wheel<T> {
    origin: Instant,
    slots: Vec<Vec<T>>,
    /// The next tick that has not fired.
    next: Tick,
    held: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            next: 0,
            held: 0,
        }
    }

    /// The tick that `now` is in.
    pub(super) fn tick(&self, now: Instant) -> Tick {
        let ticks = now.saturating_duration_since(self.origin).as_nanos() / TICK.as_nanos();
        Tick::try_from(ticks).unwrap_or(Tick::MAX)
    }

    /// The tick at which a token put in for `due` fires: at the horizon when `due` is farther, for another look.
    pub(super) fn clamp(&self, due: Tick) -> Tick {
        due.clamp(self.next, self.next.saturating_add(SLOTS as Tick - 1))
    }

    /// Puts a token in for [`Wheel::clamp`] of `due`.
    pub(super) fn insert(&mut self, due: Tick, token: T) {
        let due = self.clamp(due);
        self.slots[due as usize % SLOTS].push(token);
        self.held += 1;
    }

    /// Moves tokens that are due by `now` to `out`.
    pub(super) fn advance(&mut self, now: Tick, out: &mut Vec<T>) {
        if now.saturating_sub(self.next) as usize >= SLOTS {
            // A long sleep (a suspended machine): everything in the wheel is due.
            self.slots.iter_mut().for_each(|slot| out.append(slot));
            self.next = now.saturating_add(1);
        }
        while self.next <= now {
            out.append(&mut self.slots[self.next as usize % SLOTS]);
            self.next += 1;
        }
        self.held = self.slots.iter().map(Vec::len).sum();
    }

    /// When to look again; `None` while nothing is in the wheel.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.held == 0 {
            return None;
        }
        let ahead = (0..SLOTS as Tick)
            .find(|ahead| !self.slots[(self.next + ahead) as usize % SLOTS].is_empty())?;
        let at = self.origin + TICK * (self.next + ahead);
        Some(at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_its_tick_and_not_before() {
        let mut wheel = Wheel::new(Instant::now());
        wheel.insert(5, "a");
        wheel.insert(7, "b");
        let mut out = Vec::new();
        wheel.advance(4, &mut out);
        assert!(out.is_empty());
        wheel.advance(6, &mut out);
        assert_eq!(out, ["a"]);
        wheel.advance(7, &mut out);
        assert_eq!(out, ["a", "b"]);
        assert_eq!(wheel.timeout(Instant::now()), None);
    }

    #[test]
    fn a_far_deadline_fires_at_the_horizon_for_another_look() {
        let mut wheel = Wheel::new(Instant::now());
        wheel.insert(100_000, ());
        let mut out = Vec::new();
        wheel.advance(SLOTS as Tick - 2, &mut out);
        assert!(out.is_empty());
        wheel.advance(SLOTS as Tick, &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn a_sleeping_machine_wakes_to_everything() {
        let mut wheel = Wheel::new(Instant::now());
        wheel.insert(3, 3);
        wheel.insert(400, 400);
        let mut out = Vec::new();
        wheel.advance(1_000_000, &mut out);
        out.sort_unstable();
        assert_eq!(out, [3, 400]);
        wheel.insert(1_000_002, 5);
        wheel.advance(1_000_002, &mut out);
        assert_eq!(out, [3, 400, 5]);
    }
}
