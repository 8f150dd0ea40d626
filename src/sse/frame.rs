//! What one event puts on the wire.

use std::ops::Range;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;

use super::HEARTBEAT;
use super::coding::{gzip, zstd};

/// Bytes ready for the wire, cheap to clone: one or more whole events, framed as one HTTP/1.1 chunk. Each coding of them is
/// made at most once, when the first client wants it.
#[derive(Clone, Debug)]
pub struct Frame(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    plain: Chunk,
    /// What it is joined from, if it is: their blocks make its own.
    parts: Box<[Frame]>,
    gzip: OnceLock<Box<(Chunk, gzip::Part)>>,
    zstd: OnceLock<Box<Chunk>>,
}

/// Bytes with the framing of one HTTP/1.1 chunk around them (RFC 9112 §7.1).
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    payload: Range<u32>,
}

impl Frame {
    /// Frames whole events as one chunk.
    pub fn new(payload: &[u8]) -> Self {
        Self::of(Chunk::new(payload), Box::default())
    }

    /// Several frames as one, so that what one wake-up finds leaves in one write (EDGE E17).
    pub fn join(frames: &[Self]) -> Self {
        match frames {
            [one] => one.clone(),
            many => {
                let mut payload = Vec::with_capacity(many.iter().map(Self::len).sum());
                many.iter()
                    .for_each(|frame| payload.extend_from_slice(&frame.payload()));
                Self::of(Chunk::new(&payload), many.into())
            }
        }
    }

    /// The comment that keeps a connection in use.
    pub fn heartbeat() -> &'static Self {
        static FRAME: LazyLock<Frame> = LazyLock::new(|| Frame::new(HEARTBEAT));
        &FRAME
    }

    fn of(plain: Chunk, parts: Box<[Self]>) -> Self {
        Self(Arc::new(Encoded {
            plain,
            parts,
            gzip: OnceLock::new(),
            zstd: OnceLock::new(),
        }))
    }

    /// The events, as they are.
    pub fn payload(&self) -> Bytes {
        self.0.plain.payload()
    }

    /// Bytes on an HTTP/1.1 wire, uncompressed.
    pub fn len(&self) -> usize {
        self.0.plain.bytes.len()
    }

    /// Whether there are no events in it.
    pub fn is_empty(&self) -> bool {
        self.0.plain.payload.is_empty()
    }

    /// As it is.
    pub(super) fn plain(&self) -> &Chunk {
        &self.0.plain
    }

    /// As deflate blocks, and what they add to a checksum.
    pub(super) fn gzip(&self) -> &(Chunk, gzip::Part) {
        self.0.gzip.get_or_init(|| {
            let payload = self.payload();
            let blocks = match &self.0.parts[..] {
                [] => gzip::shared(&payload),
                parts => together(parts, |part| &part.gzip().0),
            };
            Box::new((Chunk::new(&blocks), gzip::Part::of(&payload)))
        })
    }

    /// As zstd blocks.
    pub(super) fn zstd(&self) -> &Chunk {
        self.0.zstd.get_or_init(|| {
            let blocks = match &self.0.parts[..] {
                [] => zstd::shared(&self.payload()),
                parts => together(parts, Self::zstd),
            };
            Box::new(Chunk::new(&blocks))
        })
    }
}

fn together(parts: &[Frame], blocks: impl Fn(&Frame) -> &Chunk) -> Vec<u8> {
    let mut together = Vec::new();
    parts
        .iter()
        .for_each(|part| together.extend_from_slice(&blocks(part).payload()));
    together
}

impl Chunk {
    pub(super) fn new(payload: &[u8]) -> Self {
        let size = format!("{:x}\r\n", payload.len());
        let mut bytes = Vec::with_capacity(size.len() + payload.len() + 2);
        bytes.extend_from_slice(size.as_bytes());
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        let start = size.len() as u32;
        Self {
            bytes: bytes.into(),
            payload: start..start + payload.len() as u32,
        }
    }

    /// With chunk framing, for HTTP/1.1.
    pub(super) fn framed(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Without framing, for HTTP/1.0 and HTTP/2.
    pub(super) fn payload(&self) -> Bytes {
        self.bytes
            .slice(self.payload.start as usize..self.payload.end as usize)
    }
}
