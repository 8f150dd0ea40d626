//! Where the body of an HTTP/1 request ends: decided once, here, so that nobody behind us can read a part of it as the next
//! request (RFC 9112 §6, §7.1; EDGE P4, P5). Pure.

/// How a head says that its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// A body under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Body {
    /// Nothing of this request is to come: what comes belongs to the next one.
    Done,
    /// So many bytes are to come.
    Length(u64),
    /// Chunks are to come.
    Chunked(Chunks),
    /// The connection speaks another protocol: all that comes belongs to this request.
    Open,
}

/// The bytes cannot be read in one way only.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Malformed;

/// Longest line of a chunk's size with its extensions, and longest trailers.
const MAX_SIZE_LINE: u16 = 256;
const MAX_TRAILERS: u16 = 8 * 1024;

/// A place in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Chunks {
    /// In a line with a size: the value so far, whether it has a digit, whether extensions have begun, bytes of the line.
    Size {
        size: u64,
        any: bool,
        extension: bool,
        length: u16,
    },
    /// After the line's carriage return.
    SizeEnd { size: u64 },
    /// So many bytes of data are left.
    Data { left: u64 },
    /// After the data: a carriage return.
    DataReturn,
    /// And a line feed.
    DataEnd,
    /// In the trailers: whether the line is empty so far, and bytes of all.
    Trailer { empty: bool, length: u16 },
    /// After a carriage return in the trailers.
    TrailerEnd { empty: bool, length: u16 },
}

impl Chunks {
    const BEGIN: Self = Self::Size {
        size: 0,
        any: false,
        extension: false,
        length: 0,
    };
}

impl Framing {
    pub(super) fn begin(self) -> Body {
        match self {
            Self::None => Body::Done,
            Self::Length(length) => Body::Length(length),
            Self::Chunked => Body::Chunked(Chunks::BEGIN),
        }
    }
}

impl Body {
    /// Goes on over `bytes` and says how many of them belong to the body.
    pub(in super::super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Done => Ok(0),
            Self::Open => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(taken)
            }
            Self::Chunked(chunks) => {
                let mut at = 0;
                while at < bytes.len() {
                    if let Chunks::Data { left } = chunks {
                        let taken =
                            (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                        at += taken;
                        *left -= taken as u64;
                        if *left == 0 {
                            *chunks = Chunks::DataReturn;
                        }
                        continue;
                    }
                    let next = chunks.step(bytes[at])?;
                    at += 1;
                    match next {
                        Some(next) => *chunks = next,
                        None => {
                            *self = Self::Done;
                            break;
                        }
                    }
                }
                Ok(at)
            }
        }
    }
}

impl Chunks {
    /// The place after `byte`; `None`: the body is whole.
    fn step(self, byte: u8) -> Result<Option<Self>, Malformed> {
        let next = match (self, byte) {
            (
                Self::Size {
                    size, any: true, ..
                },
                b'\r',
            ) => Self::SizeEnd { size },
            (
                Self::Size {
                    length: MAX_SIZE_LINE,
                    ..
                },
                _,
            ) => return Err(Malformed),
            (
                Self::Size {
                    size,
                    extension: false,
                    length,
                    ..
                },
                digit,
            ) if digit.is_ascii_hexdigit() => {
                if size >= 1 << 56 {
                    return Err(Malformed);
                }
                let digit = char::from(digit).to_digit(16).unwrap_or_default();
                Self::Size {
                    size: size << 4 | u64::from(digit),
                    any: true,
                    extension: false,
                    length: length + 1,
                }
            }
            (
                Self::Size {
                    size,
                    any: true,
                    extension,
                    length,
                },
                byte,
            ) if (extension && (byte == b'\t' || (b' '..0x7f).contains(&byte))) || byte == b';' => {
                Self::Size {
                    size,
                    any: true,
                    extension: true,
                    length: length + 1,
                }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer {
                empty: true,
                length: 0,
            },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::BEGIN,
            (
                Self::Trailer {
                    length: MAX_TRAILERS,
                    ..
                },
                _,
            ) => return Err(Malformed),
            (Self::Trailer { empty, length }, b'\r') => Self::TrailerEnd {
                empty,
                length: length + 1,
            },
            (Self::Trailer { length, .. }, byte)
                if byte == b'\t' || (byte >= b' ' && byte != 0x7f) =>
            {
                Self::Trailer {
                    empty: false,
                    length: length + 1,
                }
            }
            (Self::TrailerEnd { empty: true, .. }, b'\n') => return Ok(None),
            (
                Self::TrailerEnd {
                    empty: false,
                    length,
                },
                b'\n',
            ) => Self::Trailer {
                empty: true,
                length,
            },
            _ => return Err(Malformed),
        };
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked(bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut body = Framing::Chunked.begin();
        let taken = body.advance(bytes)?;
        Ok((taken, body == Body::Done))
    }

    /// EDGE P5.
    #[test]
    fn chunks_end_where_they_say() {
        for (body, rest) in [
            ("0\r\n\r\n", "GET / "),
            ("3\r\nabc\r\n0\r\n\r\n", ""),
            ("A;x=\"y\"\r\n0123456789\r\n00\r\n\r\n", "x"),
            ("1\r\na\r\n0\r\nDigest: x\r\nY: z\r\n\r\n", "\r\n"),
        ] {
            let all = format!("{body}{rest}");
            assert_eq!(chunked(all.as_bytes()), Ok((body.len(), true)), "{all:?}");
        }
        for malformed in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1;\u{0}\r\n",
            "1;a\n",
            "0\r\n\n",
            "0\r\nx\n",
            "1ffffffffffffffff\r\n",
            &format!("1;{}\r\n", "x".repeat(256)),
            &format!("0\r\n{}", "x".repeat(8193)),
        ] {
            assert_eq!(
                chunked(malformed.as_bytes()),
                Err(Malformed),
                "{malformed:?}"
            );
        }
    }

    proptest! {
        /// EDGE P4, P5: whatever is sent as data, and however it arrives, the bytes behind the body are not taken.
        #[test]
        fn bytes_behind_a_body_are_left(
            data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            behind in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &data {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let length = wire.len();
            wire.extend_from_slice(&behind);
            let mut body = Framing::Chunked.begin();
            let mut counted = Framing::Length(length as u64).begin();
            let (mut taken, mut other) = (0, 0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (wire.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(wire.len());
            let mut from = 0;
            for cut in cuts {
                taken += body.advance(&wire[from..cut]).expect("well formed");
                other += counted.advance(&wire[from..cut]).expect("counted");
                from = cut;
            }
            prop_assert_eq!((taken, other), (length, length));
            prop_assert_eq!((body, counted), (Body::Done, Body::Done));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = chunked(&bytes);
        }
    }
}
