//! From the bytes of a body to a value: received within a bound, decoded within a bound, and parsed only when they are new.

use http::StatusCode;
use reqwest::Response;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::coding::Coding;
use super::failure;
use super::media::{self, Charset};
use super::memory::Fingerprint;
use crate::config::HttpFormat;
use crate::source::{Cause, SourceError};
use crate::value::Value;

/// Bodies from this size are worked on by the blocking pool. Parsing costs about 8 µs a KiB: below, that is half a millisecond
/// at most, which a runtime thread can spare; 1 MiB would hold up everything else on it for 8 ms.
const OFF_LOOP: usize = 64 * 1024;

/// A received body, and what is known about it.
pub(super) struct Content {
    /// As received, still encoded.
    pub(super) bytes: Vec<u8>,
    pub(super) coding: Coding,
    /// Decoded bytes.
    pub(super) limit: usize,
    pub(super) charset: Charset,
    pub(super) format: HttpFormat,
    pub(super) status: StatusCode,
}

/// What a body is.
pub(super) enum Digest {
    /// That of the known fingerprint.
    Same(Fingerprint),
    /// Another one.
    New(Value, Fingerprint),
}

/// The body, at most `limit` bytes as they come (EDGE U7). It must be whole: a length that is not reached, a chunk that is missing
/// or misshapen is an error (EDGE U18). Its time is bounded by the caller.
pub(super) async fn receive(mut response: Response, limit: usize) -> Result<Vec<u8>, SourceError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    // An announcement is not believed further than the usual small body.
    let mut bytes = Vec::with_capacity((announced as usize).min(OFF_LOOP));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => return Err(too_large(limit)),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(failure::in_body(&error)),
        }
    }
}

/// Decodes, compares with the fingerprint of the last good value, and parses what is not equal to it.
pub(super) async fn digest(
    content: Content,
    known: Option<Fingerprint>,
) -> Result<Digest, SourceError> {
    // An encoded body may be a hundred times as large as it looks.
    if content.bytes.len() < OFF_LOOP && content.coding == Coding::Identity {
        return content.digest(known);
    }
    let work = tokio::task::spawn_blocking(move || content.digest(known));
    work.await.unwrap_or_else(|_| {
        // It panicked, or the runtime is ending.
        Err(SourceError::new(Cause::Malformed, "parsing was given up"))
    })
}

impl Content {
    fn digest(self, known: Option<Fingerprint>) -> Result<Digest, SourceError> {
        let bytes = self.coding.decode(self.bytes, self.limit)?;
        // The same bytes under another status are another value where `success` lists both.
        let fingerprint = xxh3_128_with_seed(&bytes, u64::from(self.status.as_u16()));
        if known == Some(fingerprint) {
            return Ok(Digest::Same(fingerprint));
        }
        if let Charset::Foreign(name) = &self.charset
            && !media::is_unambiguous(&bytes)
        {
            let detail = format!("charset {name}: only UTF-8 is read");
            return Err(SourceError::new(Cause::Malformed, detail));
        }
        let value = match self.format {
            HttpFormat::Json => Value::parse_json(&bytes),
            HttpFormat::Text => Value::parse_text(&bytes),
        };
        match value {
            Ok(value) => Ok(Digest::New(value, fingerprint)),
            Err(error) => {
                let detail = failure::excerpt(&error.to_string());
                Err(SourceError::new(Cause::Malformed, detail))
            }
        }
    }
}

fn too_large(limit: usize) -> SourceError {
    SourceError::new(
        Cause::TooLarge,
        format!("a body of more than {limit} bytes"),
    )
}
