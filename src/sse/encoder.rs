//! How the body of one connection is written: events, perhaps compressed, perhaps in HTTP/1.1 chunks.

use bytes::Bytes;

use super::coding::{Coding, gzip, zstd};
use super::frame::{Chunk, Frame};

/// Turns what is sent to one client into the bytes of its body. What everybody is sent is shared; what one client alone is
/// sent, its first and last bytes, is stored in blocks of its own. All that is kept for a connection is a checksum.
#[derive(Debug)]
pub struct Encoder {
    coding: State,
    chunked: bool,
}

#[derive(Debug)]
enum State {
    Identity,
    Gzip(gzip::Checksum),
    Zstd,
}

/// The last chunk: ends an HTTP/1.1 body cleanly (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Encoder {
    /// For a body that has not begun. `chunked`: in HTTP/1.1 chunks; else it ends with the connection (HTTP/1.0, EDGE H4) or
    /// is framed by HTTP/2.
    pub fn new(coding: Option<Coding>, chunked: bool) -> Self {
        let coding = match coding {
            None => State::Identity,
            Some(Coding::Gzip) => State::Gzip(gzip::Checksum::default()),
            Some(Coding::Zstd) => State::Zstd,
        };
        Self { coding, chunked }
    }

    /// The first bytes of the body: once, before everything else.
    pub fn begin(&mut self, first: &[u8]) -> Vec<u8> {
        let bytes = match &mut self.coding {
            State::Identity => first.to_vec(),
            State::Gzip(sum) => {
                sum.add(&gzip::Part::of(first));
                [&gzip::HEADER[..], &gzip::stored(first)].concat()
            }
            State::Zstd => [&zstd::HEADER[..], &zstd::stored(first)].concat(),
        };
        self.framed(bytes)
    }

    /// What is sent to everybody.
    pub fn frame(&mut self, frame: &Frame) -> Bytes {
        let chunk = match &mut self.coding {
            State::Identity => frame.plain(),
            State::Gzip(sum) => {
                let (chunk, part) = frame.gzip();
                sum.add(part);
                chunk
            }
            State::Zstd => frame.zstd(),
        };
        match self.chunked {
            true => chunk.framed(),
            false => chunk.payload(),
        }
    }

    /// The last bytes of the body, with its end: nothing may follow.
    pub fn end(&mut self, last: &[u8]) -> Vec<u8> {
        let bytes = match &mut self.coding {
            State::Identity => last.to_vec(),
            State::Gzip(sum) => {
                sum.add(&gzip::Part::of(last));
                [&gzip::stored(last)[..], &gzip::END, &sum.trailer()].concat()
            }
            State::Zstd => [&zstd::stored(last)[..], &zstd::END].concat(),
        };
        let mut bytes = self.framed(bytes);
        if self.chunked {
            bytes.extend_from_slice(LAST_CHUNK);
        }
        bytes
    }

    fn framed(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.chunked {
            true => Chunk::new(&bytes).framed().into(),
            false => bytes,
        }
    }
}
