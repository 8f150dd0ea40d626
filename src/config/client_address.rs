//! Whose word about client addresses is believed.

use std::net::IpAddr;

use ipnet::IpNet;

/// `client_address`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress {
    /// Networks of proxies in front of the gateway; IPv4 is never written as IPv6 here.
    pub trusted_proxies: Vec<IpNet>,
}

impl ClientAddress {
    /// Whether what this peer says about others is believed. An IPv4-mapped IPv6 address is the IPv4 address (EDGE Q5).
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE Q1, Q5: an address is compared as what it is, however the socket writes it.
    #[test]
    fn mapped_addresses_are_compared_as_ipv4() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"];
        let trusted_proxies = networks.map(|text| text.parse().expect("a network")).into();
        let client_address = ClientAddress { trusted_proxies };
        let trusts = |text: &str| client_address.trusts(text.parse().expect("an address"));
        for inside in ["10.255.0.1", "::ffff:10.0.0.1", "2001:db8:1::1"] {
            assert!(trusts(inside), "{inside}");
        }
        for outside in ["11.0.0.1", "::ffff:11.0.0.1", "::10.0.0.1", "2001:db9::1"] {
            assert!(!trusts(outside), "{outside}");
        }
        assert!(!ClientAddress::default().trusts(IpAddr::from([127, 0, 0, 1])));
    }
}
