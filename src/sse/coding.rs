//! Content codings of an event stream (RFC 9110 §8.4.1): compression for everybody at the price of one (EDGE Z1, Z3).
//!
//! To a client the stream is one gzip member, or one zstd frame, flushed after each event. What it is made of are *blocks*
//! that refer to nothing before them: the same block stands in everybody's stream, wherever they joined, and no
//! compressor lives as long as a connection.
//!
//! A member or a frame for each event would be simpler, and the formats allow it. Clients do not: Chromium, curl and httpx
//! read nothing behind the first gzip member, and Node.js nothing behind a zstd frame that ends within what it reads at once.

pub(super) mod gzip;
pub(super) mod zstd;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878, within the window of RFC 9659.
    Zstd,
}

impl Coding {
    /// As in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests;
