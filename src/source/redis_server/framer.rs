//! Bounds what a Redis server can make us hold (EDGE R8): a byte stream from the server that hands on only replies of a
//! bounded size.
//!
//! The client library reads a reply of any size into memory, and one connection carries the replies of many channels.
//! So the bytes pass through here first. A reply is handed on when it is whole. One that is too large is read away and an
//! error reply takes its place, so that its own reader fails and nobody else notices; in a push, where an error cannot
//! stand, the oversize string becomes a null.
//!
//! The framing is RESP2 and RESP3 (Redis serialization protocol specification, "RESP protocol description").

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the strings of one reply, or of one string of a push, where nobody says otherwise.
pub(in crate::source) const MAX_BYTES: usize = 1024 * 1024;
/// The code of the error that takes the place of a reply that is too large.
pub(super) const TOO_LARGE: &str = "WELLSPRING_TOO_LARGE";

/// Strings and aggregates in one reply. Small ones cost their reader far more memory than their bytes.
const MAX_ITEMS: usize = 100_000;
const MAX_DEPTH: usize = 16;
const MAX_LINE: usize = 64 * 1024;
const READ_SIZE: usize = 16 * 1024;

/// A connection whose replies are bounded.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    framer: Framer,
    chunk: Box<[u8]>,
}

impl<S> Bounded<S> {
    /// `room`: bytes of the strings of one reply, or of one string of a push.
    pub(super) fn new(inner: S, room: usize) -> Self {
        Self {
            inner,
            framer: Framer::new(room),
            chunk: vec![0; READ_SIZE].into(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.framer.hand_on(buf) {
                return Poll::Ready(Ok(()));
            }
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Of the kinds of I/O errors, this is one that makes the client library give the connection up.
            this.framer
                .take(chunk.filled())
                .map_err(|violation| io::Error::new(io::ErrorKind::ConnectionAborted, violation))?;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What the server sent is not RESP, or nests deeper than any reply that we ask for.
type Violation = &'static str;

/// Follows the framing of a byte stream and holds each reply until it is whole.
#[derive(Debug, Default)]
struct Framer {
    room: usize,
    /// Whole replies, to be handed on.
    whole: BytesMut,
    /// The reply under way, as far as it is kept.
    held: Vec<u8>,
    /// The line under way.
    line: Vec<u8>,
    /// Items still to come on each open level.
    open: Vec<usize>,
    /// What is left of the string under way, with its line break.
    string: usize,
    skips_string: bool,
    is_push: bool,
    is_too_large: bool,
    bytes: usize,
    items: usize,
}

impl Framer {
    fn new(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    /// Moves whole replies into `buf`; says whether there were any.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let count = self.whole.len().min(buf.remaining());
        buf.put_slice(&self.whole[..count]);
        self.whole.advance(count);
        if self.whole.is_empty() && self.whole.capacity() > 4 * READ_SIZE {
            self.whole = BytesMut::new();
        }
        count > 0
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            bytes = if self.string > 0 {
                self.take_string(bytes)
            } else {
                self.take_line(bytes)?
            };
        }
        Ok(())
    }

    fn take_string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at(self.string.min(bytes.len()));
        if !self.skips_string && !self.is_too_large {
            self.held.extend_from_slice(part);
        }
        self.string -= part.len();
        if self.string == 0 {
            self.end_item();
        }
        rest
    }

    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let length = bytes.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let (part, rest) = bytes.split_at(length.unwrap_or(bytes.len()));
        if self.line.len() + part.len() > MAX_LINE {
            return Err("the server sent a line that is too long");
        }
        self.line.extend_from_slice(part);
        if length.is_some() {
            let line = std::mem::take(&mut self.line);
            self.begin_item(&line)?;
            self.line = line;
            self.line.clear();
        }
        Ok(rest)
    }

    /// `line` is the first line of an item, and all of it unless the item is a string or an aggregate.
    fn begin_item(&mut self, line: &[u8]) -> Result<(), Violation> {
        let (Some(kind), Some(text)) = (line.first(), line.strip_suffix(b"\r\n")) else {
            return Err("the server sent a line without its end");
        };
        let text = &text[1.min(text.len())..];
        if self.open.is_empty() {
            self.is_push = *kind == b'>';
        }
        self.items += 1;
        let per_item = match kind {
            b'$' | b'!' | b'=' => return self.begin_string(line, length(text)?),
            b'*' | b'~' | b'>' => 1,
            b'%' | b'|' => 2,
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => 0,
            _ => return Err("the server does not speak RESP"),
        };
        if per_item == 0 {
            self.bytes += text.len();
            self.hold(line);
            self.end_item();
            return Ok(());
        }
        // What an attribute describes follows it and counts as its last member.
        let members = length(text)?
            .unwrap_or(0)
            .checked_mul(per_item)
            .and_then(|count| count.checked_add(usize::from(*kind == b'|')))
            .ok_or("the server sent a length out of range")?;
        self.hold(line);
        if members == 0 {
            self.end_item();
        } else if self.open.len() == MAX_DEPTH {
            return Err("the server sent a reply that is nested too deeply");
        } else {
            self.open.push(members);
            // Said at once: a library that believes a large length may reserve for it.
            self.is_too_large |= members > MAX_ITEMS;
        }
        Ok(())
    }

    fn begin_string(&mut self, line: &[u8], length: Option<usize>) -> Result<(), Violation> {
        let Some(length) = length else {
            self.hold(line);
            self.end_item();
            return Ok(());
        };
        self.string = length
            .checked_add(2)
            .ok_or("the server sent a length out of range")?;
        self.skips_string = length > self.room;
        if self.is_push && self.skips_string {
            self.hold(b"_\r\n");
        } else {
            self.bytes = self.bytes.saturating_add(length);
            self.hold(line);
        }
        Ok(())
    }

    fn hold(&mut self, line: &[u8]) {
        // The strings of a push are bounded one by one.
        let bytes = if self.is_push { 0 } else { self.bytes };
        self.is_too_large |= bytes > self.room || self.items > MAX_ITEMS;
        if self.is_too_large {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(line);
        }
    }

    /// Closes the levels that the item completes, and the reply with the last one.
    fn end_item(&mut self) {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        if !self.is_too_large {
            self.whole.extend_from_slice(&self.held);
        } else if !self.is_push {
            let error = format!("-{TOO_LARGE} the reply is larger than 1 MiB\r\n");
            self.whole.extend_from_slice(error.as_bytes());
        }
        self.held.clear();
        self.held.shrink_to(READ_SIZE);
        self.is_too_large = false;
        self.bytes = 0;
        self.items = 0;
    }
}

/// A length as RESP writes it; `None` is the null of RESP2 (`-1`).
fn length(text: &[u8]) -> Result<Option<usize>, Violation> {
    if text == b"-1" {
        return Ok(None);
    }
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or("the server sent a length that is none")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(bytes: &[u8], step: usize) -> Result<Vec<u8>, Violation> {
        let mut framer = Framer::new(MAX_BYTES);
        for part in bytes.chunks(step.max(1)) {
            framer.take(part)?;
        }
        Ok(framer.whole.to_vec())
    }

    fn string(length: usize) -> Vec<u8> {
        let mut out = format!("${length}\r\n").into_bytes();
        out.resize(out.len() + length, b'x');
        out.extend_from_slice(b"\r\n");
        out
    }

    fn is_too_large(out: &[u8]) -> bool {
        out.starts_with(format!("-{TOO_LARGE} ").as_bytes())
    }

    /// EDGE R8: the limit is on the bytes of all strings of a reply together; the next reply is not touched.
    #[test]
    fn a_reply_over_the_limit_becomes_an_error_and_the_next_one_passes() {
        assert_eq!(
            run(&string(MAX_BYTES), 9000).as_deref(),
            Ok(&*string(MAX_BYTES))
        );

        let mut bytes = string(MAX_BYTES + 1);
        bytes.extend_from_slice(b"+OK\r\n");
        let out = run(&bytes, 9000).expect("framed");
        assert!(
            is_too_large(&out) && out.ends_with(b"MiB\r\n+OK\r\n"),
            "{out:?}"
        );

        let halves = [
            b"*2\r\n".as_slice(),
            &string(MAX_BYTES / 2),
            &string(MAX_BYTES / 2 + 1),
        ];
        let out = run(&halves.concat(), 9000).expect("framed");
        assert!(is_too_large(&out) && out.len() < 100);
    }

    /// EDGE R8: many small strings, and a length that only claims many.
    #[test]
    fn arrays_of_too_many_elements_become_an_error() {
        let mut bytes = format!("*{}\r\n", MAX_ITEMS + 1).into_bytes();
        for _ in 0..=MAX_ITEMS {
            bytes.extend_from_slice(b"$0\r\n\r\n");
        }
        assert!(is_too_large(&run(&bytes, 4096).expect("framed")));

        let half = format!("*{}\r\n{}", MAX_ITEMS / 2, ":1\r\n".repeat(MAX_ITEMS / 2));
        let nested = format!("*2\r\n{half}{half}");
        assert!(is_too_large(&run(nested.as_bytes(), 4096).expect("framed")));

        let mut framer = Framer::new(MAX_BYTES);
        framer.take(b"*4000000000\r\n$1\r\na\r\n").expect("framed");
        assert!(framer.whole.is_empty() && framer.held.capacity() == 0);
    }

    /// EDGE R8: a message that is too large keeps its channel, so that its readers can be told.
    #[test]
    fn an_oversize_string_of_a_push_becomes_a_null() {
        let push = [
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n".as_slice(),
            &string(MAX_BYTES + 1),
            b"+OK\r\n",
        ];
        let out = run(&push.concat(), 5000).expect("framed");
        assert_eq!(out, b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n_\r\n+OK\r\n");
    }

    #[test]
    fn nesting_and_nonsense_end_the_connection() {
        assert!(run(&b"*1\r\n".repeat(MAX_DEPTH), 100).is_ok());
        for bad in [
            &b"*1\r\n".repeat(MAX_DEPTH + 1),
            b"HTTP/1.1 400\r\n".as_slice(),
            b"$+3\r\nabc\r\n",
            b"$3\n",
        ] {
            assert!(run(bad, 100).is_err(), "{bad:?}");
        }
        assert!(run(&vec![b'+'; MAX_LINE + 1], 1000).is_err());
        assert!(run(b"$18446744073709551615\r\n", 100).is_err());
    }

    #[test]
    fn an_unfinished_reply_is_held_back() {
        assert_eq!(
            run(b"+OK\r\n*2\r\n:1\r\n", 100).as_deref(),
            Ok(b"+OK\r\n".as_slice())
        );
    }

    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
                let head = format!("${}\r\n", bytes.len()).into_bytes();
                [head, bytes, b"\r\n".to_vec()].concat()
            }),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"*-1\r\n".to_vec()),
            Just(b"_\r\n".to_vec()),
            Just(b"-ERR no\r\n".to_vec()),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            (prop::collection::vec(inner, 0..6), any::<bool>()).prop_map(|(items, map)| {
                let head = match map && items.len() % 2 == 0 {
                    true => format!("%{}\r\n", items.len() / 2),
                    false => format!("*{}\r\n", items.len()),
                };
                [head.into_bytes(), items.concat()].concat()
            })
        })
    }

    proptest! {
        /// Small replies pass byte for byte, however they are split.
        #[test]
        fn replies_within_the_limits_pass_unchanged(replies in prop::collection::vec(reply(), 0..5), step in 1usize..60) {
            let bytes = replies.concat();
            prop_assert_eq!(run(&bytes, step), Ok(bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..20) {
            let _ = run(&bytes, step);
        }
    }
}
