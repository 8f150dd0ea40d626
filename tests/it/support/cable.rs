//! A cable to a network namespace of its own, which can be cut: packets are dropped then, and nobody says so.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;

/// Taken away in Drop.
#[derive(Debug)]
pub struct Cable {
    namespace: String,
    /// This end of it.
    link: String,
    network: [u8; 3],
}

impl Cable {
    /// `network`: the first three numbers of the addresses of its ends, of this test alone. `None` where this process may not
    /// make namespaces.
    pub fn new(network: &str) -> Option<Self> {
        let numbers: Vec<u8> = network
            .split('.')
            .map(|part| part.parse().expect("a number"))
            .collect();
        let id = std::process::id();
        let cable = Self {
            namespace: format!("ws-far-{id}"),
            link: format!("wsf{id}"),
            network: numbers.try_into().expect("three numbers"),
        };
        let far = &cable.namespace;
        if !ip(&format!("netns add {far}")) {
            return None;
        }
        for command in [
            format!(
                "link add {} type veth peer name end0 netns {far}",
                cable.link
            ),
            format!("address add {}/30 dev {}", cable.here(), cable.link),
            format!("link set {} up", cable.link),
            format!("-n {far} address add {}/30 dev end0", cable.there()),
            format!("-n {far} link set lo up"),
            format!("-n {far} link set end0 up"),
        ] {
            assert!(ip(&command), "ip {command}");
        }
        Some(cable)
    }

    /// Our address on it.
    pub fn here(&self) -> IpAddr {
        self.address(1)
    }

    /// The address of its other end.
    pub fn there(&self) -> IpAddr {
        self.address(2)
    }

    /// Where its other end is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        assert!(ip(&format!("-n {} link set end0 down", self.namespace)));
    }

    /// Everything passes again.
    pub fn mend(&self) {
        assert!(ip(&format!("-n {} link set end0 up", self.namespace)));
    }

    fn address(&self, last: u8) -> IpAddr {
        let [first, second, third] = self.network;
        Ipv4Addr::new(first, second, third, last).into()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The link goes with it.
        ip(&format!("netns delete {}", self.namespace));
    }
}

fn ip(command: &str) -> bool {
    let mut ip = std::process::Command::new("ip");
    let status = ip
        .args(command.split_whitespace())
        .stderr(Stdio::null())
        .status();
    status
        .expect("ip: `make test` installs what tests need")
        .success()
}
