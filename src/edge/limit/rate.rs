//! How often a client may do something (GCRA, by the governor package).

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};

use super::key::ClientKey;
use super::table::Table;
use crate::config::Rate;

/// One rate for each client. As much as it allows in its window may come at once.
#[derive(Debug)]
pub(super) struct ClientRate<C: Clock = DefaultClock> {
    rate: Rate,
    limiter: RateLimiter<ClientKey, Table, C, StateInformationMiddleware>,
}

/// What a client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) count: u32,
    /// Until it has everything again.
    pub(super) reset: Duration,
}

/// The client has nothing left for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Duration);

impl ClientRate {
    /// Remembers at least `sets` × 8 clients.
    pub(super) fn new(rate: Rate, sets: usize) -> Self {
        Self::with_clock(rate, sets, DefaultClock::default())
    }
}

impl<C: Clock> ClientRate<C> {
    fn with_clock(rate: Rate, sets: usize, clock: C) -> Self {
        Self {
            rate,
            limiter: RateLimiter::new(quota(rate), Table::new(sets), clock),
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Charges the client for one time.
    pub(super) fn charge(&self, client: ClientKey) -> Result<Left, Wait> {
        match self.limiter.check_key(&client) {
            Ok(state) => {
                let count = state.remaining_burst_capacity();
                let used = self.rate.count.saturating_sub(count);
                let reset = state.quota().replenish_interval() * used;
                Ok(Left { count, reset })
            }
            Err(not_until) => Err(Wait(not_until.wait_time_from(self.limiter.clock().now()))),
        }
    }
}

/// Governor's word for it. What is finer than its clock is one nanosecond.
fn quota(rate: Rate) -> Quota {
    let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
    match Quota::with_period(rate.per / count.get()) {
        Some(quota) => quota.allow_burst(count),
        None => Quota::per_second(NonZeroU32::MAX).allow_burst(count),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    fn limiter(
        count: u32,
        per: u64,
        sets: usize,
    ) -> (ClientRate<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let per = Duration::from_secs(per);
        let limiter = ClientRate::with_clock(Rate { count, per }, sets, clock.clone());
        (limiter, clock)
    }

    fn client(number: u32) -> ClientKey {
        ClientKey::new(IpAddr::from(number.to_be_bytes()))
    }

    /// EDGE Q6: N at once, not N + 1; and one more when its time has come.
    #[test]
    fn a_burst_is_the_number_of_the_rate() {
        let (limiter, clock) = limiter(50, 1, 1);
        for left in (0..50).rev() {
            assert_eq!(limiter.charge(client(1)).map(|left| left.count), Ok(left));
        }
        let interval = Duration::from_millis(20);
        assert_eq!(limiter.charge(client(1)), Err(Wait(interval)));
        assert!(limiter.charge(client(2)).is_ok());
        clock.advance(interval - Duration::from_nanos(1));
        assert_eq!(
            limiter.charge(client(1)),
            Err(Wait(Duration::from_nanos(1)))
        );
        clock.advance(Duration::from_nanos(1));
        assert!(limiter.charge(client(1)).is_ok());
    }

    /// EDGE Q7: ten million addresses take no more memory than there was, little time, and hide nobody who is known.
    #[test]
    fn a_flood_of_addresses_keeps_memory_flat_and_the_bad_known() {
        const FLOOD: u64 = 10_000_000;
        let (limiter, clock) = limiter(50, 1, super::super::CLIENTS);
        let bad = client(1);
        let began = std::time::Instant::now();
        let before = resident();
        let (mut admitted, mut known) = (0, 0);
        for number in 0..FLOOD {
            // Spread over a flood of ten seconds, the bad one comes 200 times a second.
            if number % 5000 == 0 {
                clock.advance(Duration::from_millis(5));
                admitted += u32::from(limiter.charge(bad).is_ok());
                known += 1;
            }
            let spoofed = Ipv6Addr::from_bits(u128::from(number | 0x2001_0db8 << 32) << 64);
            assert!(limiter.charge(ClientKey::new(spoofed.into())).is_ok());
        }
        assert_eq!(known, 2000);
        assert!((500..=560).contains(&admitted), "{admitted}");
        let grown = resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes");
        let took = began.elapsed();
        println!("{FLOOD} addresses: {took:?}, {grown} bytes");
        assert!(took < Duration::from_secs(120), "{took:?}");
    }

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok());
        pages.expect("pages") * 4096
    }

    proptest! {
        /// Whatever the rate: never more than twice its number in one window, and no wait longer than the window.
        #[test]
        fn no_window_has_more_than_a_burst_and_a_refill(
            count in 1u32..200, per in prop::sample::select(vec![1u64, 60, 3600]), gaps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let (limiter, clock) = limiter(count, per, 1);
            let (mut passed, mut time) = (0u64, 0u64);
            for gap in gaps {
                clock.advance(Duration::from_nanos(gap));
                time += gap;
                match limiter.charge(client(1)) {
                    Ok(left) => {
                        passed += 1;
                        prop_assert!(left.count < count && left.reset <= Duration::from_secs(per));
                    }
                    Err(Wait(wait)) => prop_assert!(wait <= Duration::from_secs(per) && !wait.is_zero()),
                }
                let refilled = time * u64::from(count) / (per * 1_000_000_000);
                prop_assert!(passed <= u64::from(count) + refilled + 1);
            }
        }
    }

    /// The largest rates that can be written are no fault.
    #[test]
    fn extreme_rates_are_kept() {
        for (count, per) in [(u32::MAX, 1), (u32::MAX, 3600), (1, 3600), (1, 1)] {
            let (limiter, _) = limiter(count, per, 1);
            assert_eq!(
                limiter.charge(client(1)).map(|left| left.count),
                Ok(count - 1),
                "{count}/{per}"
            );
        }
    }
}
