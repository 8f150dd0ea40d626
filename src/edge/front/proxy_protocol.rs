//! The PROXY protocol, version 1 and 2: who is behind the proxy that connects (EDGE Q4; "The PROXY protocol", HAProxy,
//! sections 2.1 and 2.2). Not one byte behind the header is read: TLS or HTTP begins there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest header of version 1, with its line end.
const MAX_V1: usize = 107;

/// Longest header of version 2 that is taken: addresses and many extensions.
const MAX_V2: usize = 4096;

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it is not from a trusted proxy")]
    Untrusted,
    #[error("its PROXY header is malformed")]
    Malformed,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads the header that `peer` must send, and gives the address of the client: `peer` itself where the header names none.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    peer: SocketAddr,
    trusted: &[IpNet],
) -> Result<SocketAddr, Unfit> {
    let ip = peer.ip().to_canonical();
    if !trusted.iter().any(|net| net.contains(&ip)) {
        return Err(Unfit::Untrusted);
    }
    let mut header = Vec::with_capacity(64);
    loop {
        match parse(&header)? {
            Step::Done(client) => return Ok(client.unwrap_or(peer)),
            Step::More(count) => {
                let before = header.len();
                header.resize(before + count, 0);
                stream.read_exact(&mut header[before..]).await?;
            }
        }
    }
}

/// How far a header is.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// At least so many bytes of it are missing.
    More(usize),
    /// It is whole; `None`: it speaks of the proxy itself, or of nobody.
    Done(Option<SocketAddr>),
}

/// Reads what there is of a header.
fn parse(header: &[u8]) -> Result<Step, Unfit> {
    const START_V1: &[u8] = b"PROXY ";
    let starts = |start: &[u8]| {
        let common = header.len().min(start.len());
        header[..common] == start[..common]
    };
    if starts(START_V1) {
        // `PROXY UNKNOWN` is the shortest.
        return match header.len() {
            0..15 => Ok(Step::More(15 - header.len())),
            _ => v1(header),
        };
    }
    if starts(SIGNATURE_V2) {
        return match header.len() {
            0..16 => Ok(Step::More(16 - header.len())),
            _ => v2(header),
        };
    }
    Err(Unfit::Malformed)
}

fn v1(header: &[u8]) -> Result<Step, Unfit> {
    let Some(line) = header.strip_suffix(b"\r\n") else {
        let missing = if header.ends_with(b"\r") { 1 } else { 2 };
        return match header.len() + missing <= MAX_V1 && !header.contains(&b'\n') {
            true => Ok(Step::More(missing)),
            false => Err(Unfit::Malformed),
        };
    };
    let line = std::str::from_utf8(line).map_err(|_| Unfit::Malformed)?;
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return Ok(Step::Done(None));
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [
        _,
        family,
        source,
        destination,
        source_port,
        destination_port,
    ] = words[..]
    else {
        return Err(Unfit::Malformed);
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    match (
        address(source),
        address(destination),
        port(source_port),
        port(destination_port),
    ) {
        (Some(ip), Some(_), Some(port), Some(_)) => {
            Ok(Step::Done(Some(SocketAddr::new(ip.to_canonical(), port))))
        }
        _ => Err(Unfit::Malformed),
    }
}

/// Digits alone, without zeros before them.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    if plain && !padded {
        text.parse().ok()
    } else {
        None
    }
}

fn v2(header: &[u8]) -> Result<Step, Unfit> {
    let (command, family) = (header[12], header[13]);
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > MAX_V2 {
        return Err(Unfit::Malformed);
    }
    let (is_local, addresses) = match (command, family) {
        (0x20, _) => (true, 0),
        (0x21, 0x00) => (true, 0),
        (0x21, 0x11) => (false, 12),
        (0x21, 0x21) => (false, 36),
        // Datagrams, Unix sockets and other versions are nothing that a proxy of ours can mean.
        _ => return Err(Unfit::Malformed),
    };
    if length < addresses {
        return Err(Unfit::Malformed);
    }
    let body = &header[16..];
    if body.len() < length {
        return Ok(Step::More(length - body.len()));
    }
    if is_local {
        return Ok(Step::Done(None));
    }
    if !are_extensions(&body[addresses..]) {
        return Err(Unfit::Malformed);
    }
    let (ip, ports): (IpAddr, &[u8]) = match addresses {
        12 => (Ipv4Addr::from(array::<4>(body)).into(), &body[8..]),
        _ => (Ipv6Addr::from(array::<16>(body)).into(), &body[32..]),
    };
    let port = u16::from_be_bytes(array(ports));
    Ok(Step::Done(Some(SocketAddr::new(ip.to_canonical(), port))))
}

/// Whether these are whole type-length-values.
fn are_extensions(mut bytes: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = bytes {
        match rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) {
            Some(behind) => bytes = behind,
            None => return false,
        }
    }
    bytes.is_empty()
}

/// The first bytes; the caller has seen that there are so many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, ProxyHeader};

    use super::*;

    /// What `receive` makes of these bytes from a trusted peer, and what it leaves.
    fn received(bytes: &[u8]) -> Result<(String, Vec<u8>), Unfit> {
        let mut stream = bytes;
        let trusted = ["10.0.0.0/8".parse().expect("a net")];
        let peer = SocketAddr::from(([10, 0, 0, 1], 9));
        let client = futures_util::FutureExt::now_or_never(receive(&mut stream, peer, &trusted))
            .expect("bytes are there at once")?;
        Ok((client.to_string(), stream.to_vec()))
    }

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&(u16::try_from(body.len()).expect("short")).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    /// EDGE Q4.
    #[test]
    fn headers_are_read_to_their_end_and_no_further() {
        let ipv4 = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 0, 81];
        let with_tlv = [&ipv4[..], &[4, 0, 1, 0xff]].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 1.2.3.4 5.6.7.8 80 81\r\n".to_vec(),
                "1.2.3.4:80",
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n".to_vec(),
                "[2001:db8::1]:65535",
            ),
            (
                b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n".to_vec(),
                "1.2.3.4:1",
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), "10.0.0.1:9"),
            (
                b"PROXY UNKNOWN ffff::1 what ever 1\r\n".to_vec(),
                "10.0.0.1:9",
            ),
            (v2_header(0x20, 0, &[]), "10.0.0.1:9"),
            (v2_header(0x20, 0x11, &ipv4), "10.0.0.1:9"),
            (v2_header(0x21, 0, &[]), "10.0.0.1:9"),
            (v2_header(0x21, 0x11, &ipv4), "1.2.3.4:80"),
            (v2_header(0x21, 0x11, &with_tlv), "1.2.3.4:80"),
        ] {
            let wire = [&header[..], b"GET"].concat();
            let (found, left) = received(&wire).expect("a header");
            assert_eq!(
                (&*found, &left[..]),
                (client, &b"GET"[..]),
                "{}",
                header.escape_ascii()
            );
        }
    }

    /// EDGE Q4.
    #[test]
    fn anything_else_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(long.len(), MAX_V1 + 1);
        for header in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 81 \r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4  5.6.7.8 80 81\r\n".to_vec(),
            b"PROXY TCP4 ::1 5.6.7.8 80 81\r\n".to_vec(),
            b"PROXY TCP6 1.2.3.4 5.6.7.8 80 81\r\n".to_vec(),
            b"PROXY UDP4 1.2.3.4 5.6.7.8 80 81\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 81\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +80 81\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 080 81\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 81\nGET / HTTP/1.1\r\n".to_vec(),
            b"PROXY UNKNOWNX\r\n\r\n".to_vec(),
            long.into_bytes(),
            v2_header(0x21, 0x11, &[0; 11]),
            v2_header(0x21, 0x21, &[0; 35]),
            v2_header(0x21, 0x12, &[0; 12]),
            v2_header(0x21, 0x31, &[0; 216]),
            v2_header(0x22, 0x11, &[0; 12]),
            v2_header(0x11, 0x11, &[0; 12]),
            v2_header(0x21, 0x11, &[&[0; 12][..], &[4, 0]].concat()),
            v2_header(0x21, 0x11, &[&[0; 12][..], &[4, 0, 2, 1]].concat()),
            v2_header(0x21, 0x11, &[0; MAX_V2 + 1]),
        ] {
            assert!(received(&header).is_err(), "{}", header.escape_ascii());
        }
        let mut stream = &b"PROXY UNKNOWN\r\n"[..];
        let stranger = SocketAddr::from(([192, 0, 2, 1], 9));
        let refused = futures_util::FutureExt::now_or_never(receive(&mut stream, stranger, &[]));
        assert!(matches!(refused, Some(Err(Unfit::Untrusted))));
        assert_eq!(stream.len(), 15, "nothing was read");
    }

    proptest! {
        /// What another implementation writes is understood.
        #[test]
        fn both_versions_are_understood(
            ips in prop_oneof![
                any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            ],
            ports in any::<(u16, u16)>(),
            behind in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let source = SocketAddr::new(ips.0, ports.0);
            let destination = SocketAddr::new(ips.1, ports.1);
            let header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
            let client = SocketAddr::new(ips.0.to_canonical(), ports.0).to_string();
            let mut wire = [Vec::new(), Vec::new()];
            header.encode_v1(&mut wire[0]).expect("encodes");
            header.encode_v2(&mut wire[1]).expect("encodes");
            for mut wire in wire {
                wire.extend_from_slice(&behind);
                let (found, left) = received(&wire).expect("a header");
                prop_assert_eq!((&found, &left), (&client, &behind));
            }
        }

        #[test]
        fn garbage_never_panics(
            start in prop_oneof![Just(SIGNATURE_V2.to_vec()), Just(b"PROXY ".to_vec()), Just(Vec::new())],
            rest in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let _ = received(&[start, rest].concat());
        }
    }
}
