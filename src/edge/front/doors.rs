//! What comes from strangers is read here before anybody knows who they are: for fuzz targets, which stand outside. No part of
//! the interface.

use std::net::SocketAddr;

use futures_util::FutureExt;
use ipnet::IpNet;

use super::body::{Body, Framing};
use super::head::{Scan, parse};
use super::proxy_protocol::{Unfit, receive};

/// What bytes are to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// More must come.
    More,
    /// They are refused, whatever comes.
    Refused,
    /// They are this.
    Read(T),
}

/// The head of an HTTP/1 request, and where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes up to and with the empty line.
    pub head: usize,
    /// Bytes of the body by its header; `None`: in chunks.
    pub length: Option<u64>,
    /// Bytes of the body on the wire, if it is whole and sound.
    pub body: Outcome<usize>,
}

/// The address in a PROXY header that a trusted `peer` sends, and how many bytes the header has.
pub fn proxy_header(mut bytes: &[u8], peer: SocketAddr) -> Outcome<(SocketAddr, usize)> {
    let length = bytes.len();
    let trusted = [IpNet::from(peer.ip().to_canonical())];
    match receive(&mut bytes, peer, &trusted).now_or_never() {
        Some(Ok(address)) => Outcome::Read((address, length - bytes.len())),
        None | Some(Err(Unfit::Io(_))) => Outcome::More,
        Some(Err(Unfit::Untrusted | Unfit::Malformed)) => Outcome::Refused,
    }
}

/// A request whose bytes come in `pieces`; `max`: of the head.
pub fn request<'a>(pieces: impl Iterator<Item = &'a [u8]>, max: usize) -> Outcome<Request> {
    let mut scan = Scan::default();
    let mut buffer = Vec::new();
    let mut reading: Option<(Request, Body, usize)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if reading.is_none() {
            let head = match scan.end(&buffer, max) {
                Ok(None) => continue,
                Ok(Some(end)) => parse(&buffer[..end]),
                Err(fault) => Err(fault),
            };
            let Ok(head) = head else {
                return Outcome::Refused;
            };
            let request = Request {
                head: head.length,
                length: match head.framing {
                    Framing::None => Some(0),
                    Framing::Length(length) => Some(length),
                    Framing::Chunked => None,
                },
                body: Outcome::More,
            };
            reading = Some((request, head.framing.begin(), head.length));
        }
        if let Some((request, body, at)) = &mut reading {
            match body.advance(&buffer[*at..]) {
                Ok(taken) => *at += taken,
                Err(_) => request.body = Outcome::Refused,
            }
            match (&body, request.body) {
                (_, Outcome::Refused) => break,
                (Body::Done, _) => request.body = Outcome::Read(*at - request.head),
                _ => {}
            }
        }
    }
    reading.map_or(Outcome::More, |(request, ..)| Outcome::Read(request))
}
