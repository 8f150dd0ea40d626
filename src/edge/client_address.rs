//! Who the client is, when proxies stand in front (EDGE Q1–Q3).
//!
//! The client is the connection's other end, unless that is a trusted proxy: then its word is read from the right, one hop
//! after the other, up to the first that is not trusted. What stands left of that hop is what anybody may have written, and
//! is neither believed nor passed on. Where a hop is no address, the last one known is the client: it is trusted and did not
//! say whom it serves.
//!
//! `X-Forwarded-For` goes before `Forwarded` (RFC 7239): proxies that know the one often pass the other through as it came.

mod header;

use std::net::IpAddr;
use std::sync::Once;

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::warn;

use super::peer::Peer;
use crate::config;

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client of a request, and what is told to upstreams about the way it came (EDGE P21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientAddress {
    /// Whose request it is: an IPv4 address is never in IPv6 form (EDGE Q5).
    pub(super) address: IpAddr,
    /// The client and the trusted proxies after it, up to the connection's other end: the `X-Forwarded-For` of the request
    /// to the upstream. Never empty.
    pub(super) forwarded_for: Vec<IpAddr>,
    /// `https` or `http`: how the client spoke, as far as we or a trusted proxy know.
    pub(super) proto: &'static str,
    /// Which host the client asked for, where a trusted proxy says so. `None`: the request's own.
    pub(super) host: Option<HeaderValue>,
    /// A trusted proxy tells two stories: `Forwarded` names another client than `X-Forwarded-For`, which is believed.
    pub(super) disputed: bool,
}

impl ClientAddress {
    /// The connection's other end, whatever its requests say.
    pub(super) fn of_peer(peer: &Peer) -> Self {
        let address = peer.address.ip().to_canonical();
        Self {
            address,
            forwarded_for: vec![address],
            proto: if peer.tls { "https" } else { "http" },
            host: None,
            disputed: false,
        }
    }

    /// The client of a request with these headers.
    pub(super) fn of_request(
        peer: &Peer,
        headers: &HeaderMap,
        config: &config::ClientAddress,
    ) -> Self {
        let itself = Self::of_peer(peer);
        if !config.trusts(itself.address) {
            return itself;
        }
        let walk = |hops: &[Option<IpAddr>]| walk(itself.address, hops, |hop| config.trusts(hop));
        let listed = header::forwarded_for(headers);
        let elements = header::forwarded(headers);
        let named: Vec<_> = elements.iter().map(|element| element.client).collect();
        let chain = walk(if listed.is_empty() { &named } else { &listed });
        let address = chain.first().copied().unwrap_or(itself.address);
        let disputed =
            !listed.is_empty() && !named.is_empty() && walk(&named).first() != Some(&address);
        // What the hop said that the client reached: the elements of trusted hops stand right of it.
        let element = (listed.is_empty() && chain.len() > 1)
            .then(|| elements.into_iter().rev().nth(chain.len() - 2))
            .flatten();
        let element = element.unwrap_or_default();
        let proto = element.proto.or_else(|| header::proto(headers));
        let host = element.host.or_else(|| header::host(headers));
        Self {
            address,
            forwarded_for: chain,
            proto: proto.unwrap_or(itself.proto),
            host,
            disputed,
        }
    }

    /// The value of `X-Forwarded-For` for an upstream.
    pub(super) fn forwarded_for_field(&self) -> String {
        let hops = self.forwarded_for.iter().map(IpAddr::to_string);
        hops.collect::<Vec<_>>().join(", ")
    }
}

/// Tells the operator once: what proxies send is the same all day.
pub(super) fn warn_of_two_stories(peer: &Peer) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        warn!(
            proxy = %peer.address.ip(),
            "a trusted proxy sends X-Forwarded-For and Forwarded that name different clients; X-Forwarded-For is believed, so make \
             sure that the proxy writes it"
        );
    });
}

/// The hops from the client to `peer`, which is trusted. `hops` are in the order of the header: the nearest is the last.
fn walk(peer: IpAddr, hops: &[Option<IpAddr>], trusts: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let mut chain = vec![peer];
    for hop in hops.iter().rev() {
        let Some(hop) = *hop else { break };
        chain.push(hop);
        if !trusts(hop) {
            break;
        }
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests;
