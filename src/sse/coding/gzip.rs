//! One gzip member (RFC 1952) of deflate blocks (RFC 1951) that any reader can join at.

mod checksum;

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress};

pub(in crate::sse) use checksum::{Checksum, Part};

/// RFC 1952 §2.3: deflate, no name, no time, an unknown system.
pub(in crate::sse) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The last block, which is empty (RFC 1951 §3.2.6). The checksum follows.
pub(in crate::sse) const END: [u8; 2] = [3, 0];

/// The most that one stored block holds (RFC 1951 §3.2.4).
const STORED: usize = u16::MAX as usize;

thread_local! {
    // It is 300 KB large, and clean again after each use: one for each thread that compresses.
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::default(), false));
}

/// Compressed blocks that refer to nothing before them and end at a byte, so that a reader has all of them.
pub(in crate::sse) fn shared(payload: &[u8]) -> Vec<u8> {
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut blocks = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let rest = payload
                .get(deflate.total_in() as usize..)
                .unwrap_or_default();
            let compressed = deflate.compress_vec(rest, &mut blocks, FlushCompress::Full);
            if compressed.is_err() {
                return stored(payload);
            }
            // Room to spare says that it is all there (zlib's manual, `deflate`).
            if blocks.len() < blocks.capacity() {
                return blocks;
            }
            blocks.reserve(blocks.len());
        }
    })
}

/// Blocks that hold `payload` as it is.
pub(in crate::sse) fn stored(payload: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(payload.len() + 5 * payload.len().div_ceil(STORED));
    for piece in payload.chunks(STORED) {
        let length = piece.len() as u16;
        blocks.push(0);
        blocks.extend_from_slice(&length.to_le_bytes());
        blocks.extend_from_slice(&(!length).to_le_bytes());
        blocks.extend_from_slice(piece);
    }
    blocks
}
