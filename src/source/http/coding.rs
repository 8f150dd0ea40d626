//! Undoes `Content-Encoding` within bounds (EDGE U7, U8). We ask for `identity`, but some servers compress whatever they are asked.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::failure::excerpt;
use crate::source::{Cause, SourceError};

/// Decoded bytes over encoded bytes: more is no document but a bomb.
const MAX_RATIO: usize = 100;
/// Up to here the ratio does not matter: small documents of one repeated byte exist.
const RATIO_MATTERS: usize = 64 * 1024;
/// The window that RFC 9659 allows to HTTP: 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// At most one content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    /// What a response says. Stacked and unknown codings are refused: nobody asked for them.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, SourceError> {
        let mut found = Self::Identity;
        for line in headers.get_all(CONTENT_ENCODING) {
            let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
            for name in line
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                let coding = match name {
                    "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "zstd" => Self::Zstd,
                    other => {
                        return Err(malformed(&format!(
                            "unknown content coding {}",
                            excerpt(other)
                        )));
                    }
                };
                if found != Self::Identity {
                    return Err(malformed("stacked content codings"));
                }
                found = coding;
            }
        }
        Ok(found)
    }

    /// Bytes to receive for at most `limit` decoded ones. What does not compress grows a little.
    pub(super) fn raw_limit(self, limit: usize) -> usize {
        match self {
            Self::Identity => limit,
            _ => limit.saturating_add(limit / 64).saturating_add(1024),
        }
    }

    /// The decoded bytes, at most `limit`. Memory stays within `limit` whatever `raw` holds.
    pub(super) fn decode(self, raw: Vec<u8>, limit: usize) -> Result<Vec<u8>, SourceError> {
        let input = raw.as_slice();
        match self {
            Self::Identity => Ok(raw),
            Self::Gzip => inflate(MultiGzDecoder::new(input), raw.len(), limit),
            // RFC 9110 §8.4.1.2 means zlib; some servers always sent it bare.
            Self::Deflate if is_zlib(input) => inflate(ZlibDecoder::new(input), raw.len(), limit),
            Self::Deflate => inflate(DeflateDecoder::new(input), raw.len(), limit),
            Self::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(undecodable)?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG)
                    .map_err(undecodable)?;
                inflate(decoder, raw.len(), limit)
            }
        }
    }
}

fn inflate(mut decoder: impl Read, raw: usize, limit: usize) -> Result<Vec<u8>, SourceError> {
    let most = limit.min(RATIO_MATTERS.max(raw.saturating_mul(MAX_RATIO)));
    let mut decoded = Vec::new();
    let mut block = [0; 16 * 1024];
    loop {
        let count = decoder.read(&mut block).map_err(undecodable)?;
        if count == 0 {
            return Ok(decoded);
        }
        if decoded.len() + count > most {
            let detail = match most == limit {
                true => format!("more than {limit} bytes decoded"),
                false => format!("{raw} bytes decode to more than {MAX_RATIO} times as many"),
            };
            return Err(SourceError::new(Cause::TooLarge, detail));
        }
        decoded.extend_from_slice(&block[..count]);
    }
}

/// RFC 1950 §2.2: method 8, and a header that is a multiple of 31.
fn is_zlib(input: &[u8]) -> bool {
    match input {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0
        }
        _ => false,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function of map_err"
)]
fn undecodable(error: io::Error) -> SourceError {
    malformed(&format!("undecodable: {}", excerpt(&error.to_string())))
}

fn malformed(detail: &str) -> SourceError {
    SourceError::new(Cause::Malformed, detail)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    pub(in crate::source::http) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).expect("in memory")
    }

    fn encodings(bytes: &[u8]) -> [(Coding, Vec<u8>); 4] {
        [
            (Coding::Gzip, gzip(bytes)),
            (Coding::Deflate, zlib(bytes)),
            (Coding::Deflate, bare(bytes)),
            (Coding::Zstd, zstd(bytes)),
        ]
    }

    fn cause(result: Result<Vec<u8>, SourceError>) -> Option<Cause> {
        result.err().map(|error| error.cause)
    }

    fn of(values: &[&'static str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::of(&headers).ok()
    }

    /// EDGE U8.
    #[test]
    fn one_known_coding_is_taken_and_no_stack() {
        assert_eq!(of(&[]), Some(Coding::Identity));
        assert_eq!(of(&["identity, GZIP"]), Some(Coding::Gzip));
        assert_eq!(of(&["x-gzip"]), Some(Coding::Gzip));
        assert_eq!(of(&["deflate"]), Some(Coding::Deflate));
        assert_eq!(of(&["zstd"]), Some(Coding::Zstd));
        for refused in [
            &["br"][..],
            &["gzip, gzip"],
            &["gzip", "deflate"],
            &["none"],
            &["aws-chunked"],
        ] {
            assert_eq!(of(refused), None, "{refused:?}");
        }
    }

    /// EDGE U8.
    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_at_the_ratio() {
        let zeros = vec![b'0'; 16 * LIMIT];
        for (coding, raw) in encodings(&zeros) {
            assert_eq!(
                cause(coding.decode(raw.clone(), LIMIT)),
                Some(Cause::TooLarge),
                "{coding:?}"
            );
            assert_eq!(
                cause(coding.decode(raw, usize::MAX)),
                Some(Cause::TooLarge),
                "{coding:?}"
            );
        }
        for (coding, raw) in encodings(&vec![b'0'; RATIO_MATTERS]) {
            assert!(coding.decode(raw.clone(), LIMIT).is_ok(), "{coding:?}");
            assert_eq!(
                cause(coding.decode(raw, RATIO_MATTERS - 1)),
                Some(Cause::TooLarge),
                "{coding:?}"
            );
        }
    }

    /// EDGE U18: an encoded body that ends early is an error whatever its frame said.
    #[test]
    fn what_is_cut_short_or_garbage_is_malformed() {
        let text: String = (0..2000).map(|n| format!("{n},")).collect();
        for (coding, raw) in encodings(text.as_bytes()) {
            for cut in [1, raw.len() / 2, raw.len() - 1] {
                assert_eq!(
                    cause(coding.decode(raw[..cut].to_vec(), LIMIT)),
                    Some(Cause::Malformed),
                    "{coding:?} {cut}"
                );
            }
            assert_eq!(
                cause(coding.decode(b"{\"plain\":1}".to_vec(), LIMIT)),
                Some(Cause::Malformed),
                "{coding:?}"
            );
        }
        let mut trailing = gzip(b"1");
        trailing.extend_from_slice(b"garbage");
        assert_eq!(
            cause(Coding::Gzip.decode(trailing, LIMIT)),
            Some(Cause::Malformed)
        );
    }

    #[test]
    fn what_does_not_compress_still_fits() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(LIMIT)
        .collect();
        for (coding, raw) in encodings(&noise) {
            assert!(raw.len() <= coding.raw_limit(LIMIT), "{coding:?}");
            assert_eq!(coding.decode(raw, LIMIT).expect("fits"), noise);
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for (coding, raw) in encodings(&bytes) {
                prop_assert_eq!(&coding.decode(raw, LIMIT).expect("valid"), &bytes);
            }
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
                let _ = coding.decode(bytes.clone(), 4096);
            }
        }
    }
}
