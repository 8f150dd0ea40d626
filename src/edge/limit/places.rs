//! How many requests pass through at once: each takes descriptors that streams and operators need, too (EDGE Q13).

use std::net::IpAddr;
use std::sync::Arc;

use super::slots::{Holder, Slot, Slots};
use super::{ClientKey, Excess, Limit, slot};

/// Places of requests that pass through, of which no client may have more than half: who lets upstreams work for long, or
/// sends slowly, shuts nobody else out (EDGE Q6).
#[derive(Debug)]
pub(in crate::edge) struct Places {
    slots: Arc<Slots>,
    all: usize,
    of_client: usize,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(in crate::edge) struct Place {
    _slots: [Slot; 2],
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::edge) enum NoPlace {
    /// This client has as many as it may.
    OfClient(Excess),
    /// All are taken.
    AtAll,
}

impl Places {
    pub(in crate::edge) fn new(all: usize) -> Self {
        Self {
            slots: Slots::new(),
            all,
            of_client: (all / 2).max(1),
        }
    }

    /// A place for a request of this client.
    pub(in crate::edge) fn take(&self, client: IpAddr) -> Result<Place, NoPlace> {
        let client = Holder::Client(ClientKey::new(client));
        let of_client = slot(&self.slots, client, Limit::PassedThrough, self.of_client);
        let of_client = of_client.map_err(NoPlace::OfClient)?;
        let of_all = self.slots.take(Holder::Everybody, self.all);
        Ok(Place {
            _slots: [of_client, of_all.ok_or(NoPlace::AtAll)?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::limit::{Policy, Quota};

    fn client(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// EDGE Q5, Q6: N, not N + 1; the addresses of one /64 are one client; and all together have no more than there are.
    #[test]
    fn one_client_has_half_at_most() {
        let places = Places::new(5);
        let (one, same) = (client("2001:db8::1"), client("2001:db8::2"));
        let held = [places.take(one), places.take(same)];
        assert!(held.iter().all(Result::is_ok));
        let policy = Policy {
            limit: Limit::PassedThrough,
            quota: Quota::Concurrent(2),
        };
        match places.take(one) {
            Err(NoPlace::OfClient(excess)) => assert_eq!(excess.policy, policy),
            other => panic!("{other:?}"),
        }
        let others =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|other| places.take(client(other)));
        assert!(others.iter().all(Result::is_ok));
        let late = places.take(client("192.0.2.4"));
        assert_eq!(late.err(), Some(NoPlace::AtAll));
        drop(held);
        assert!(places.take(one).is_ok());
    }

    /// EDGE Q10: what is refused leaves nothing behind.
    #[test]
    fn everything_is_given_back() {
        let places = Places::new(1);
        let held = places.take(client("192.0.2.1"));
        assert_eq!(places.take(client("192.0.2.2")).err(), Some(NoPlace::AtAll));
        drop(held);
        assert_eq!(places.slots.holders(), 0);
    }
}
