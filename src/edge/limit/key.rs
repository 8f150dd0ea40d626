//! What a client is counted by. Pure.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address: within one a single subscriber has all addresses (EDGE Q5, RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::edge) struct ClientKey(u64);

impl ClientKey {
    /// IPv4 stands where IPv6 has multicast groups (`ffff:ffff::/32`), which no client has as its address.
    pub(in crate::edge) fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(0xFFFF_FFFF_0000_0000 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE Q5
    #[test]
    fn ipv6_is_counted_by_64_bits_and_mapped_ipv4_as_ipv4() {
        let key = |text: &str| ClientKey::new(text.parse().expect("an address"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(key("::192.0.2.1"), key("192.0.2.1"));
    }
}
