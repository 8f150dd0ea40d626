//! A PROXY header ends at one place, whatever comes behind it, and names whom another implementation reads there; what that
//! writes is understood (EDGE Q4).

use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};
use wellspring::edge::doors::{Outcome, proxy_header};

pub fn holds(bytes: &[u8]) {
    let peer = SocketAddr::from(([10, 0, 0, 1], 9));
    let outcome = proxy_header(bytes, peer);
    let behind = [bytes, b"GET / HTTP/1.1\r\n"].concat();
    match outcome {
        Outcome::More => {}
        Outcome::Refused => assert_eq!(proxy_header(&behind, peer), Outcome::Refused),
        Outcome::Read((address, length)) => {
            assert_eq!(proxy_header(&behind, peer), outcome);
            assert_eq!(proxy_header(&bytes[..length], peer), outcome);
            for end in 0..length {
                assert_eq!(proxy_header(&bytes[..end], peer), Outcome::More, "{end}");
            }
            let longest = if bytes.starts_with(b"PROXY") {
                107
            } else {
                16 + 4096
            };
            assert!(length <= longest, "{length}");
            theirs(&bytes[..length], address, peer);
            written_again(address);
        }
    }
}

fn theirs(header: &[u8], ours: SocketAddr, peer: SocketAddr) {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let Ok((theirs, length)) = ProxyHeader::parse(header, config) else {
        return;
    };
    assert_eq!(length, header.len());
    let named = theirs.proxied_address().map(|address| address.source);
    let named = named.map(|source| SocketAddr::new(source.ip().to_canonical(), source.port()));
    assert_eq!(ours, named.unwrap_or(peer));
}

fn written_again(address: SocketAddr) {
    let to: IpAddr = match address {
        SocketAddr::V4(_) => [192, 0, 2, 1].into(),
        SocketAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    let header =
        ProxyHeader::with_address(ProxiedAddress::stream(address, SocketAddr::new(to, 80)));
    let mut wire = [Vec::new(), Vec::new()];
    header.encode_v1(&mut wire[0]).expect("version 1");
    header.encode_v2(&mut wire[1]).expect("version 2");
    for wire in wire {
        let read = proxy_header(&wire, SocketAddr::from(([10, 0, 0, 1], 9)));
        assert_eq!(read, Outcome::Read((address, wire.len())));
    }
}
