//! Limits as clients are told of them: the fields of draft-ietf-httpapi-ratelimit-headers, which are structured (RFC 9651). Pure.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::Rate;
use crate::edge::cors::Header;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// What is limited, by the name that the key has in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Limit {
    /// Requests of one client.
    Requests,
    /// Streams that one client opens.
    Connects,
    /// Streams of one client, or of one identity, at once.
    StreamsPerClient,
    /// Streams at once, of a stream's path or of the process.
    Streams,
    /// Distinct resources of a stream's path at once.
    Channels,
    /// Requests of one client that pass through at once; no key of the file.
    PassedThrough,
    /// Logins of one client that fail; no key of the file.
    FailedLogins,
}

impl Limit {
    pub(in crate::edge) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Connects => "connects",
            Self::StreamsPerClient => "streams_per_client",
            Self::Streams => "streams",
            Self::Channels => "channels",
            Self::PassedThrough => "passed_through",
            Self::FailedLogins => "failed_logins",
        }
    }

    /// For people.
    pub(in crate::edge) fn detail(self) -> &'static str {
        match self {
            Self::Requests => "More requests came from this address than it may send.",
            Self::Connects => "More streams were opened from this address than it may open.",
            Self::StreamsPerClient => "This client has as many streams as it may have at once.",
            Self::Streams => "As many streams as there may be are open.",
            Self::Channels => {
                "As many distinct resources as this stream may follow are being followed."
            }
            Self::PassedThrough => {
                "As many requests as may be under way at once came from this address."
            }
            Self::FailedLogins => "Too many logins from here, or for this name, have failed.",
        }
    }
}

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Quota {
    /// So many times in a window.
    Rate(Rate),
    /// So many at once.
    Concurrent(usize),
}

/// A limit and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) struct Policy {
    pub(in crate::edge) limit: Limit,
    pub(in crate::edge) quota: Quota,
}

impl Policy {
    /// `RateLimit-Policy` and `RateLimit` for a client that has `left`, and more after `reset` (EDGE Q9).
    pub(in crate::edge) fn headers(self, left: u32, reset: Duration) -> Vec<Header> {
        let name = self.limit.name();
        let policy = match self.quota {
            Quota::Rate(rate) => {
                format!(r#""{name}";q={};w={}"#, rate.count, rate.per.as_secs())
            }
            Quota::Concurrent(max) => format!(r#""{name}";q={max};qu="concurrent-requests""#),
        };
        let state = format!(r#""{name}";r={left};t={}"#, whole_seconds(reset));
        [(POLICY, policy), (STATE, state)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)))
            .collect()
    }
}

/// Never earlier than the time itself.
pub(in crate::edge) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE Q9: a list of one string with whole numbers as parameters.
    #[test]
    fn fields_are_structured() {
        let fields = |limit, quota, left, reset| {
            let headers = Policy { limit, quota }.headers(left, reset);
            let text = |(_, value): &Header| value.to_str().expect("ASCII").to_owned();
            headers.iter().map(text).collect::<Vec<_>>()
        };
        let per = Duration::from_secs(60);
        let rate = Quota::Rate(Rate { count: 600, per });
        assert_eq!(
            fields(Limit::Requests, rate, 7, Duration::from_millis(1001)),
            [r#""requests";q=600;w=60"#, r#""requests";r=7;t=2"#]
        );
        assert_eq!(
            fields(Limit::Streams, Quota::Concurrent(5), 0, Duration::ZERO),
            [
                r#""streams";q=5;qu="concurrent-requests""#,
                r#""streams";r=0;t=0"#
            ]
        );
    }
}
