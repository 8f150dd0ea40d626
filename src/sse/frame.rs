//! What one event puts on the wire.

use std::ops::Range;

use bytes::Bytes;

/// Bytes ready for the wire, cheap to clone: one or more whole events, framed as one HTTP/1.1 chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
    payload: Range<u32>,
}

impl Frame {
    /// Frames whole events as one chunk.
    pub fn new(payload: &[u8]) -> Self {
        let size = format!("{:x}\r\n", payload.len());
        let mut chunk = Vec::with_capacity(size.len() + payload.len() + 2);
        chunk.extend_from_slice(size.as_bytes());
        chunk.extend_from_slice(payload);
        chunk.extend_from_slice(b"\r\n");
        let start = size.len() as u32;
        Self {
            chunk: chunk.into(),
            payload: start..start + payload.len() as u32,
        }
    }

    /// With chunk framing, for HTTP/1.1.
    pub fn chunked(&self) -> Bytes {
        self.chunk.clone()
    }

    /// Without framing, for HTTP/1.0 and HTTP/2.
    pub fn payload(&self) -> Bytes {
        self.chunk
            .slice(self.payload.start as usize..self.payload.end as usize)
    }

    /// Bytes on an HTTP/1.1 wire.
    pub fn len(&self) -> usize {
        self.chunk.len()
    }

    /// Whether there are no events in it.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Several frames as one, so that what one wake-up finds leaves in one write (EDGE E17).
    pub fn join(frames: &[Self]) -> Self {
        match frames {
            [one] => one.clone(),
            many => {
                let mut payload = Vec::with_capacity(many.iter().map(Self::len).sum());
                many.iter()
                    .for_each(|frame| payload.extend_from_slice(&frame.payload()));
                Self::new(&payload)
            }
        }
    }
}
