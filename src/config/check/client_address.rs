//! `client_address`

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::ClientAddress;
use super::super::read::Item;
use super::{all, keys};

pub(super) fn read(item: Item<'_>) -> Option<ClientAddress> {
    let section = item.section(&keys::CLIENT_ADDRESS)?;
    let mut trusted: Vec<IpNet> = Vec::new();
    all(section
        .get("trusted_proxies")
        .list()?
        .iter()
        .map(|item| network(item, &mut trusted)))?;
    Some(ClientAddress {
        trusted_proxies: trusted,
    })
}

/// A network, or an address, which is a network of one.
fn network(item: &Item<'_>, trusted: &mut Vec<IpNet>) -> Option<()> {
    let hint = "write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32";
    let network = item.parsed(hint, |text| {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text
                .parse()
                .map_err(|_| format!("{} is no network", item.shown()))?,
        };
        Ok(canonical(network))
    })?;
    if network != network.trunc() {
        // Which of the two was meant nobody can know, and the wider one believes strangers.
        let whole = match item.is_put_in() {
            true => "the network's first address".to_owned(),
            false => format!("{} or {}", network.trunc(), network.addr()),
        };
        item.problem(format!(
            "{} is an address within a network (write {whole})",
            item.shown()
        ));
        return None;
    }
    if trusted.contains(&network) {
        item.problem("the network stands twice (remove one)");
    }
    trusted.push(network);
    Some(())
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`: clients of both kinds of sockets are compared as IPv4.
fn canonical(network: IpNet) -> IpNet {
    let (address, length) = (network.addr(), network.prefix_len());
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) if address.is_ipv6() && length >= 96 => {
            IpNet::new(v4, length - 96).unwrap_or(network)
        }
        _ => network,
    }
}
