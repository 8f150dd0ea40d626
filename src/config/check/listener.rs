//! `listeners`

use std::net::{IpAddr, SocketAddr};

use super::super::field::HostPattern;
use super::super::read::Item;
use super::super::{ClientAddress, PemFile, PemKey, ServerCertificate, ServerTls, TlsVersion};
use super::{Listener, keys, tls};

/// `believed`: as far as it is known, who may send PROXY headers.
pub(super) fn all(item: &Item<'_>, believed: Option<&ClientAddress>) -> Option<Vec<Listener>> {
    let items = item.list()?;
    if items.is_empty() {
        item.problem("no listener (write listeners: [{address: \"0.0.0.0:8080\"}])");
    }
    let mut taken: Vec<SocketAddr> = Vec::new();
    super::all(
        items
            .into_iter()
            .map(|item| listener(item, believed, &mut taken)),
    )
}

fn listener(
    item: Item<'_>,
    believed: Option<&ClientAddress>,
    taken: &mut Vec<SocketAddr>,
) -> Option<Listener> {
    let section = item.section(&keys::LISTENER)?;
    let address = section.get("address");
    let parsed = address.parsed("write 0.0.0.0:8080, [::]:8080 or 127.0.0.1:8080", |text| {
        let no_address = |_| format!("{} is no IP:PORT", address.shown());
        text.parse::<SocketAddr>().map_err(no_address)
    });
    let tls = section.get("tls").or_null(server_tls);
    let proxy_protocol = section.bool("proxy_protocol");
    let nobody = believed.is_some_and(|address| address.trusted_proxies.is_empty());
    if proxy_protocol == Some(true) && nobody {
        section.get("proxy_protocol").problem(
            "nobody may send PROXY headers (write client_address: {trusted_proxies: [10.0.0.0/8]}, or false)",
        );
    }
    let hosts = section
        .get("hosts")
        .list()
        .and_then(|hosts| super::all(hosts.iter().map(host)));
    let parsed = parsed?;
    if parsed.port() != 0 && taken.contains(&parsed) {
        address.problem(format!("{} stands twice (remove one)", address.shown()));
    } else if taken.iter().any(|other| clash(*other, parsed)) {
        address.problem(
            "another listener has this port, one of the two at every address \
             (write another port, or remove one)",
        );
    }
    taken.push(parsed);
    Some(Listener {
        address: parsed,
        tls: tls?,
        proxy_protocol: proxy_protocol?,
        hosts: hosts?,
    })
}

/// Whether no two sockets can listen at these. Port 0 is another one each time. IPv6's unspecified address holds those of IPv4.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    let holds = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let covers = holds(one, other) || holds(other, one);
    a.port() == b.port() && a.port() != 0 && (one == other || covers)
}

fn host(item: &Item<'_>) -> Option<HostPattern> {
    item.parsed("write api.example, \"*.example\" or an address", |text| {
        HostPattern::parse(text).map_err(|why| format!("{} {why}", item.shown()))
    })
}

fn server_tls(item: Item<'_>) -> Option<ServerTls> {
    let section = item.section(&keys::LISTENER_TLS)?;
    let list = section.get("certificates");
    let items = list.list();
    if items.as_ref().is_some_and(Vec::is_empty) {
        list.problem(
            "there is no certificate (write certificates: [{certificate: tls.crt, key: tls.key}])",
        );
    }
    let certificates =
        items.and_then(|items| super::all(items.into_iter().map(server_certificate)));
    let min_version = section.choice(
        "min_version",
        &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)],
    );
    let client_ca = section.get("client_ca").or_null(|item| {
        Some(PemFile {
            pem: tls::authorities(&item)?,
            path: item.file_path()?,
        })
    });
    Some(ServerTls {
        certificates: certificates?,
        min_version: min_version?,
        client_ca: client_ca?,
    })
}

fn server_certificate(item: Item<'_>) -> Option<ServerCertificate> {
    let section = item.section(&keys::LISTENER_CERTIFICATE)?;
    let (certificate, key) = (section.get("certificate"), section.get("key"));
    let chain = tls::certificates(&certificate);
    let private = tls::private_key(&key);
    let pair = tls::pair(&certificate, chain?, private?)?;
    Some(ServerCertificate {
        certificate: PemFile {
            path: certificate.file_path()?,
            pem: pair.certificate,
        },
        key: PemKey {
            path: key.file_path()?,
            pem: pair.key,
        },
    })
}
