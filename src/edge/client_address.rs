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
    /// The trusted proxies between it and us, the connection's other end being the last. None: the client is that itself.
    pub(super) proxies: Vec<IpAddr>,
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
            proxies: Vec::new(),
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
        let (address, proxies) = walk(if listed.is_empty() { &named } else { &listed });
        let disputed = !listed.is_empty() && !named.is_empty() && walk(&named).0 != address;
        // What the hop said that the client reached: the elements of trusted hops stand right of it.
        let element = (listed.is_empty() && !proxies.is_empty())
            .then(|| elements.into_iter().rev().nth(proxies.len() - 1))
            .flatten();
        let element = element.unwrap_or_default();
        let proto = element.proto.or_else(|| header::proto(headers));
        let host = element.host.or_else(|| header::host(headers));
        Self {
            address,
            proxies,
            proto: proto.unwrap_or(itself.proto),
            host,
            disputed,
        }
    }

    /// The value of `X-Forwarded-For` for an upstream: the client, and whom it came by.
    pub(super) fn forwarded_for(&self) -> String {
        let mut field = self.address.to_string();
        for proxy in &self.proxies {
            field.push_str(", ");
            field.push_str(&proxy.to_string());
        }
        field
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

/// The client and the hops from it to `peer`, which is trusted. `hops` are in the order of the header: the nearest is the last.
fn walk(
    peer: IpAddr,
    hops: &[Option<IpAddr>],
    trusts: impl Fn(IpAddr) -> bool,
) -> (IpAddr, Vec<IpAddr>) {
    let (mut client, mut proxies) = (peer, Vec::new());
    for hop in hops.iter().rev() {
        let Some(hop) = *hop else { break };
        proxies.push(client);
        client = hop;
        if !trusts(hop) {
            break;
        }
    }
    proxies.reverse();
    (client, proxies)
}

#[cfg(test)]
mod tests;
