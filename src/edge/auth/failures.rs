//! Failed logins, so that nobody guesses for long (EDGE A14): by client address and by user.
//!
//! Each name has a debt that is worked off with time; whoever owes a minute waits. The table has a fixed size: where a
//! place is wanted and none is free, the smallest debt there is forgotten, so those known to be bad stay known (EDGE Q7).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Rate;
use crate::edge::limit::ClientKey;

/// What a name may owe. Failures cost a part of it.
const WINDOW: Duration = Duration::from_secs(60);
/// Of one address: 20 keys or passwords a minute, which can be guessed; 100 tokens, which cannot, but take time to check, and
/// many clients behind one address may hold tokens that end together.
const GUESS: Duration = Duration::from_secs(3);
const TOKEN: Duration = Duration::from_millis(600);
/// Of one user, from wherever: 100 a minute.
const OF_USER: Duration = Duration::from_millis(600);

/// Names that may share a place of the table.
const WAYS: usize = 8;
const SETS: usize = 1 << 11;

/// How many failures of an address there may be in [`WINDOW`], for those who are told.
pub(super) const QUOTA: Rate = Rate {
    count: (WINDOW.as_secs() / GUESS.as_secs()) as u32,
    per: WINDOW,
};

/// Who failed how often lately.
pub(super) struct Failures {
    sets: Mutex<Vec<[Debt; WAYS]>>,
    /// With a seed of this process: nobody can choose names that share a place.
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Debt {
    name: u64,
    /// When nothing is owed any more.
    until: Instant,
}

/// Who failed.
#[derive(Clone, Copy, Hash)]
pub(super) enum Who<'a> {
    /// A client's address, as limits count it.
    Client(ClientKey),
    /// A user's name that the file knows.
    User(&'a str),
}

/// At what.
#[derive(Clone, Copy)]
pub(super) enum What {
    Guess,
    Token,
}

impl Failures {
    pub(super) fn new() -> Self {
        let free = Debt {
            name: 0,
            until: Instant::now(),
        };
        Self {
            sets: Mutex::new(vec![[free; WAYS]; SETS]),
            hasher: RandomState::new(),
        }
    }

    /// How long `who` has to wait before the next try, if at all.
    pub(super) fn wait(&self, who: Who<'_>, now: Instant) -> Option<Duration> {
        let name = self.hasher.hash_one(who);
        let sets = self.sets.lock();
        let debt = sets[set(name)].iter().find(|debt| debt.name == name)?;
        let owed = debt.until.saturating_duration_since(now) + TOKEN;
        owed.checked_sub(WINDOW).filter(|wait| !wait.is_zero())
    }

    /// Notes a failure.
    pub(super) fn note(&self, who: Who<'_>, what: What, now: Instant) {
        let cost = match (who, what) {
            (Who::User(_), _) => OF_USER,
            (Who::Client(_), What::Guess) => GUESS,
            (Who::Client(_), What::Token) => TOKEN,
        };
        let name = self.hasher.hash_one(who);
        let mut sets = self.sets.lock();
        let ways = &mut sets[set(name)];
        let place = match ways.iter().position(|debt| debt.name == name) {
            Some(place) => Some(place),
            None => (0..WAYS).min_by_key(|&place| ways[place].until),
        };
        if let Some(debt) = place.map(|place| &mut ways[place]) {
            let since = match debt.name == name {
                true => debt.until.max(now),
                false => now,
            };
            *debt = Debt {
                name,
                until: (since + cost).min(now + WINDOW),
            };
        }
    }
}

fn set(name: u64) -> usize {
    // The low bits are as good as any.
    name as usize % SETS
}

impl std::fmt::Debug for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Failures")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Who<'static> {
        Who::Client(ClientKey::new(text.parse().expect("an address")))
    }

    /// EDGE A14: at N all is well, at N+1 one waits, and not for ever.
    #[test]
    fn twenty_wrong_keys_a_minute_are_enough() {
        let failures = Failures::new();
        let (start, who) = (Instant::now(), address("192.0.2.1"));
        for _ in 0..QUOTA.count {
            assert_eq!(failures.wait(who, start), None);
            failures.note(who, What::Guess, start);
        }
        let wait = failures.wait(who, start).expect("has to wait");
        assert!(wait <= Duration::from_secs(3), "{wait:?}");
        assert_eq!(
            failures.wait(who, start + wait + Duration::from_millis(1)),
            None
        );
        assert_eq!(failures.wait(address("192.0.2.2"), start), None);
    }

    #[test]
    fn tokens_cost_less() {
        let failures = Failures::new();
        let (start, who) = (Instant::now(), address("192.0.2.1"));
        for _ in 0..100 {
            assert_eq!(failures.wait(who, start), None);
            failures.note(who, What::Token, start);
        }
        assert!(failures.wait(who, start).is_some());
    }

    /// EDGE Q5
    #[test]
    fn a_network_is_one_client() {
        let failures = Failures::new();
        let now = Instant::now();
        for host in 0..QUOTA.count {
            let text = format!("2001:db8::{host:x}");
            failures.note(address(&text), What::Guess, now);
        }
        assert!(failures.wait(address("2001:db8::ffff"), now).is_some());
        assert_eq!(failures.wait(address("2001:db8:0:1::1"), now), None);
        for _ in 0..QUOTA.count {
            failures.note(address("192.0.2.1"), What::Guess, now);
        }
        assert!(failures.wait(address("::ffff:192.0.2.1"), now).is_some());
    }

    /// EDGE Q7: however many others come, whoever owes much is not forgotten, and the table does not grow.
    #[test]
    fn a_flood_of_others_hides_nobody() {
        let failures = Failures::new();
        let (now, bad) = (Instant::now(), address("192.0.2.1"));
        for _ in 0..QUOTA.count {
            failures.note(bad, What::Guess, now);
        }
        for host in 0..200_000_u32 {
            let other = ClientKey::new(std::net::Ipv4Addr::from_bits(host).into());
            let other = Who::Client(other);
            failures.note(other, What::Guess, now);
        }
        assert!(failures.wait(bad, now).is_some());
        assert_eq!(failures.sets.lock().len(), SETS);
    }
}
