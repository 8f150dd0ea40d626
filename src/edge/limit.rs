//! What one client, and all together, may take (EDGE §12).
//!
//! A stream that has a limit of its own for clients is counted apart: what a client does there is not held against it
//! elsewhere, nor the other way round. The number of streams is different: a stream's own stands within that of the process.

mod key;
mod places;
mod policy;
mod rate;
mod slots;
mod table;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) use key::ClientKey;
pub(super) use places::{NoPlace, Place, Places};
pub(super) use policy::{Limit, Policy, Quota, whole_seconds};

use super::cors::Header;
use crate::config::{Config, Rate, Stream, StreamLimits};
use rate::{ClientRate, Wait};
use slots::{Holder, Slot, Slots};

/// Sets of eight clients that a limiter of the process remembers: 8 MiB when all are taken.
const CLIENTS: usize = 64 << 10;

/// The same for a limiter of one stream: 1 MiB.
const CLIENTS_OF_STREAM: usize = 8 << 10;

/// When to come back to what only others can free.
const RETRY: Duration = Duration::from_secs(5);

/// Counters and limiters for one reading of the file.
#[derive(Debug)]
pub(super) struct Limits {
    requests: Option<Arc<ClientRate>>,
    connects: Arc<ClientRate>,
    streams_per_client: usize,
    streams: usize,
    slots: Arc<Slots>,
    /// In the order of the file.
    of_streams: Vec<OfStream>,
}

/// What one stream has for itself.
#[derive(Debug)]
struct OfStream {
    path: String,
    requests: Option<Arc<ClientRate>>,
    connects: Option<Arc<ClientRate>>,
    streams_per_client: Option<usize>,
    streams: Option<usize>,
    slots: Arc<Slots>,
}

/// The place of one stream in every count; given back when dropped.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _slots: Box<[Slot]>,
}

/// More than allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) policy: Policy,
    /// When it may work again.
    pub(super) retry: Duration,
}

impl Limits {
    /// What the file says. What it said before as well goes on where it was: nobody gets a new start by a reload.
    pub(super) fn new(config: &Config, before: Option<&Self>) -> Self {
        let limits = &config.limits;
        let of_stream = |stream: &Arc<Stream>| {
            let path = stream.path.as_str();
            let mut known = before.into_iter().flat_map(|before| &before.of_streams);
            OfStream::new(path, &stream.limits, known.find(|known| known.path == path))
        };
        let requests_before = before.and_then(|before| before.requests.as_ref());
        let connects_before = before.map(|before| &before.connects);
        Self {
            requests: limits
                .requests
                .map(|rate| kept_or_new(rate, requests_before, CLIENTS)),
            connects: kept_or_new(limits.connects, connects_before, CLIENTS),
            streams_per_client: limits.streams_per_client,
            streams: limits.streams,
            slots: before.map_or_else(Slots::new, |before| before.slots.clone()),
            of_streams: config.streams.iter().map(of_stream).collect(),
        }
    }

    /// Charges a client for a request, for this stream or for anything else. Gives what it is told about what it has left.
    pub(super) fn request(
        &self,
        stream: Option<usize>,
        client: IpAddr,
    ) -> Result<Vec<Header>, Excess> {
        let own = stream.and_then(|index| self.of_streams[index].requests.as_ref());
        let Some(limiter) = own.or(self.requests.as_ref()) else {
            return Ok(Vec::new());
        };
        let policy = Policy {
            limit: Limit::Requests,
            quota: Quota::Rate(limiter.rate()),
        };
        match limiter.charge(ClientKey::new(client)) {
            Ok(left) => Ok(policy.headers(left.count, left.reset)),
            Err(Wait(retry)) => Err(Excess { policy, retry }),
        }
    }

    /// Lets a client open a stream. `identity`: its name, if it has shown one.
    pub(super) fn open(
        &self,
        stream: usize,
        client: IpAddr,
        identity: Option<&str>,
    ) -> Result<StreamPermit, Excess> {
        let own = self.of_streams[stream].connects.as_ref();
        let limiter = own.unwrap_or(&self.connects);
        limiter
            .charge(ClientKey::new(client))
            .map_err(|Wait(retry)| Excess {
                policy: Policy {
                    limit: Limit::Connects,
                    quota: Quota::Rate(limiter.rate()),
                },
                retry,
            })?;
        self.hold(stream, client, identity)
    }

    /// Lets a client wait for a stream's next value: one more of its streams, but not one more that it opens.
    pub(super) fn hold(
        &self,
        stream: usize,
        client: IpAddr,
        identity: Option<&str>,
    ) -> Result<StreamPermit, Excess> {
        let own = &self.of_streams[stream];
        let (clients, max) = match own.streams_per_client {
            Some(max) => (&own.slots, max),
            None => (&self.slots, self.streams_per_client),
        };
        let client = Holder::Client(ClientKey::new(client));
        let identity = identity.map(|name| Holder::Identity(name.into()));
        let mut taken = Vec::with_capacity(2);
        for holder in [Some(client), identity].into_iter().flatten() {
            taken.push(slot(clients, holder, Limit::StreamsPerClient, max)?);
        }
        if let Some(max) = own.streams {
            taken.push(slot(&own.slots, Holder::Everybody, Limit::Streams, max)?);
        }
        let everybody = Holder::Everybody;
        taken.push(slot(&self.slots, everybody, Limit::Streams, self.streams)?);
        Ok(StreamPermit {
            _slots: taken.into(),
        })
    }
}

impl OfStream {
    fn new(path: &str, limits: &StreamLimits, before: Option<&Self>) -> Self {
        let rate = |rate: Option<Rate>, before: Option<&Arc<ClientRate>>| {
            rate.map(|rate| kept_or_new(rate, before, CLIENTS_OF_STREAM))
        };
        Self {
            path: path.to_owned(),
            requests: rate(
                limits.requests,
                before.and_then(|before| before.requests.as_ref()),
            ),
            connects: rate(
                limits.connects,
                before.and_then(|before| before.connects.as_ref()),
            ),
            streams_per_client: limits.streams_per_client,
            streams: limits.streams,
            slots: before.map_or_else(Slots::new, |before| before.slots.clone()),
        }
    }
}

/// The limiter there was, if its rate is the same.
fn kept_or_new(rate: Rate, before: Option<&Arc<ClientRate>>, sets: usize) -> Arc<ClientRate> {
    match before.filter(|before| before.rate() == rate) {
        Some(before) => before.clone(),
        None => Arc::new(ClientRate::new(rate, sets)),
    }
}

fn slot(slots: &Arc<Slots>, holder: Holder, limit: Limit, max: usize) -> Result<Slot, Excess> {
    slots.take(holder, max).ok_or_else(|| Excess {
        policy: Policy {
            limit,
            quota: Quota::Concurrent(max),
        },
        // Who finds no room is one of many; they are not to come back all at once.
        retry: match limit {
            Limit::Streams => RETRY.mul_f64(1.0 + fastrand::f64()),
            _ => RETRY,
        },
    })
}

impl Excess {
    /// The stream follows as many resources as it may.
    pub(super) fn of_channels(max: usize) -> Self {
        Self {
            policy: Policy {
                limit: Limit::Channels,
                quota: Quota::Concurrent(max),
            },
            retry: RETRY,
        }
    }

    /// Whether it is no client's doing, but there is no room.
    pub(super) fn is_overload(&self) -> bool {
        self.policy.limit == Limit::Streams
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// `/a` and `/b` with these limits of `/a`, and of the process.
    fn limits(of_a: &str, of_all: &str, before: Option<&Limits>) -> Limits {
        let file = format!(
            "listeners: [{{address: \"127.0.0.1:0\"}}]\nupstreams: {{x: {{url: \"http://127.0.0.1:1\"}}}}\nstreams:\n  \
             - {{path: /a, http: {{upstream: x}}, limits: {{{of_a}}}}}\n  - {{path: /b, http: {{upstream: x}}}}\nlimits: {{{of_all}}}\n"
        );
        let config = config::parse("test.yaml", &file, &|_| None).expect("is good");
        Limits::new(&config, before)
    }

    fn limit<T>(outcome: Result<T, Excess>) -> Option<Limit> {
        outcome.err().map(|excess| excess.policy.limit)
    }

    /// EDGE Q6, per identity: whoever has a name has as many streams as one client, from all addresses together.
    #[test]
    fn an_identity_is_counted_over_its_addresses() {
        let limits = limits("", "streams_per_client: 2", None);
        let one = limits.open(0, CLIENT, Some("ops"));
        let two = limits.open(1, OTHER, Some("ops"));
        assert!(one.is_ok() && two.is_ok());
        let third = IpAddr::from([192, 0, 2, 3]);
        assert_eq!(
            limit(limits.open(0, third, Some("ops"))),
            Some(Limit::StreamsPerClient)
        );
        // What was refused took nothing.
        assert_eq!(limit(limits.open(0, third, Some("web"))), None);
        drop(one);
        let again = limits.open(0, third, Some("ops"));
        assert!(again.is_ok());
    }

    /// A reload gives nobody a new start, unless a rate is another one; what is held stays counted.
    #[test]
    fn limits_outlive_a_reload() {
        let file = "requests: 1/h, connects: 2/h, streams_per_client: 5";
        let first = limits("requests: 2/h", file, None);
        assert_eq!(limit(first.request(None, CLIENT)), None);
        for _ in 0..2 {
            assert_eq!(limit(first.request(Some(0), CLIENT)), None);
        }
        let held = [first.open(0, CLIENT, None), first.open(0, CLIENT, None)];
        assert!(held.iter().all(Result::is_ok));

        let same = limits("requests: 2/h", file, Some(&first));
        assert_eq!(limit(same.request(None, CLIENT)), Some(Limit::Requests));
        assert_eq!(limit(same.request(Some(0), CLIENT)), Some(Limit::Requests));
        assert_eq!(limit(same.open(0, CLIENT, None)), Some(Limit::Connects));

        let other = "requests: 3/h, connects: 9/h, streams_per_client: 2";
        let changed = limits("requests: 4/h", other, Some(&same));
        assert_eq!(limit(changed.request(None, CLIENT)), None);
        assert_eq!(limit(changed.request(Some(0), CLIENT)), None);
        assert_eq!(
            limit(changed.open(0, CLIENT, None)),
            Some(Limit::StreamsPerClient)
        );
        drop(held);
        assert_eq!(limit(changed.open(0, CLIENT, None)), None);
    }

    /// EDGE Q6: a stream's own number stands within that of the process, and what is refused leaves nothing behind (Q10).
    #[test]
    fn a_stream_has_its_number_within_that_of_all() {
        let limits = limits("streams: 1", "streams: 2", None);
        let one = limits.open(0, CLIENT, None);
        assert_eq!(limit(limits.open(0, OTHER, None)), Some(Limit::Streams));
        let two = limits.open(1, CLIENT, None);
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(limit(limits.open(1, OTHER, None)), Some(Limit::Streams));
        drop((one, two));
        assert_eq!(limits.slots.holders(), 0);
        assert_eq!(limits.of_streams[0].slots.holders(), 0);
    }
}
