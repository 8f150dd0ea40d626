//! One zstd frame (RFC 8878) of blocks that any reader can join at.
//!
//! A block that is the first of its frame refers to no bytes and no tables before it. It may refer to one thing: the
//! three *repeated offsets* that each frame begins with, and that each compressed block changes (§3.1.1.5). So before blocks
//! that may use them stands one that sets them back. A block that does so must hold something, at least seventeen bytes; it
//! holds a comment, which alters no event state (EDGE E11).

use std::cell::RefCell;
use std::io;

use ::zstd::bulk::Compressor;

/// §3.1.1.1: the magic number, a descriptor that promises nothing, and the window.
pub(in crate::sse) const HEADER: [u8; 6] =
    [0x28, 0xb5, 0x2f, 0xfd, 0, (WINDOW_LOG as u8 - 10) << 3];

/// The last block, which is empty.
pub(in crate::sse) const END: [u8; 3] = [1, 0, 0];

/// What clients must keep: 128 KiB, which is the largest block too. RFC 9659 allows 8 MiB.
const WINDOW_LOG: u32 = 17;
const WINDOW: usize = 1 << WINDOW_LOG;

/// The library's default.
const LEVEL: i32 = 3;

/// Sets the repeated offsets to 1, 4 and 8, as a frame begins with, and says `:::::::::::::::::`.
const RESET: [u8; 14] = [
    // §3.1.1.2: a compressed block of 11 bytes.
    0x5c, 0x00, 0x00, //
    // §3.1.1.3.1: as literals, eight colons.
    0x41, b':', //
    // §3.1.1.3.2: three sequences, by the predefined tables: three bytes from 8 before, three from 4, three from 1.
    0x03, 0x00, 0x38, 0x00, 0x76, 0x00, 0x18, 0x50, 0xb8,
];

/// Ends the comment of [`RESET`].
const LINE_END: u8 = b'\n';

thread_local! {
    // It is large and is clean again after each use: one for each thread that compresses.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(compressor().ok());
}

/// Compressed blocks that refer to nothing before them. What does not get shorter is stored.
pub(in crate::sse) fn shared(payload: &[u8]) -> Vec<u8> {
    let stored_size = payload.len() + HEADER_OF_BLOCK * payload.len().div_ceil(WINDOW);
    match compressed(payload) {
        Some(blocks) if blocks.len() < stored_size => blocks,
        _ => stored(payload),
    }
}

/// Blocks that hold `payload` as it is.
pub(in crate::sse) fn stored(payload: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(payload.len() + HEADER_OF_BLOCK);
    for piece in payload.chunks(WINDOW) {
        // Not the last one, raw.
        let [a, b, c, _] = ((piece.len() as u32) << 3).to_le_bytes();
        blocks.extend_from_slice(&[a, b, c]);
        blocks.extend_from_slice(piece);
    }
    blocks
}

const HEADER_OF_BLOCK: usize = 3;

/// `None`: the library does not do what it is known to do.
fn compressed(payload: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(payload.len() + 1);
    text.push(LINE_END);
    text.extend_from_slice(payload);
    let frame = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(&text).ok());
    let mut blocks = RESET.to_vec();
    blocks.extend_from_slice(blocks_of(&frame?)?);
    unfinish(&mut blocks)?;
    Some(blocks)
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.window_log(WINDOW_LOG)?;
    compressor.include_contentsize(false)?;
    compressor.include_checksum(false)?;
    Ok(compressor)
}

/// A frame without its header, which must be like ours but for the window.
fn blocks_of(frame: &[u8]) -> Option<&[u8]> {
    let (header, blocks) = frame.split_at_checked(HEADER.len())?;
    let (window, rest) = header.split_last()?;
    let ours = HEADER.split_last()?;
    (rest == ours.1 && window <= ours.0).then_some(blocks)
}

/// More blocks will follow the last one.
fn unfinish(blocks: &mut [u8]) -> Option<()> {
    let mut at = 0;
    loop {
        let [a, b, c] = *blocks.get(at..)?.first_chunk()?;
        let header = u32::from_le_bytes([a, b, c, 0]);
        // A block of one repeated byte says how often, and holds the byte.
        let length = match header >> 1 & 3 {
            1 => 1,
            _ => header >> 3,
        };
        let next = at + HEADER_OF_BLOCK + length as usize;
        if header & 1 == 1 {
            blocks[at] &= !1;
            return (next == blocks.len()).then_some(());
        }
        at = next;
    }
}
