//! Any text becomes exactly one event, in any coding and framing, however the bytes are split (EDGE E1–E13, E17, Z1).
//!
//! Input: how to split, one byte; then texts between record separators (0x1E), each perhaps with a name and a unit
//! separator (0x1F) before it.

use std::io::Read;
use std::time::Duration;

use wellspring::sse::parser::{Event, Item, Parser};
use wellspring::sse::{Coding, Encoder, EventName, Frame, prelude, push_event};

pub fn holds(bytes: &[u8]) {
    let Some((&step, rest)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let mut expected = vec![Item::Retry(2500), Item::Comment(String::new())];
    let mut frames = Vec::new();
    for (number, part) in text.split('\u{1e}').take(24).enumerate() {
        let (name, data) = match part.split_once('\u{1f}') {
            Some((name, data)) => (EventName::parse(name).ok(), data),
            None => (None, part),
        };
        let name = name.as_ref().map(EventName::as_str);
        let id = format!("{number:016x}-{number}");
        let mut payload = Vec::new();
        push_event(&mut payload, name, Some(&id), data);
        frames.push(Frame::new(&payload));
        expected.push(Item::Event(Event {
            name: name.unwrap_or("message").into(),
            data: normal(data),
            id,
        }));
    }
    for chunked in [false, true] {
        for coding in [None, Some(Coding::Gzip), Some(Coding::Zstd)] {
            let mut encoder = Encoder::new(coding, chunked);
            let mut body = encoder.begin(&prelude(Duration::from_millis(2500)));
            for together in frames.chunks(usize::from(step % 4) + 1) {
                body.extend_from_slice(&encoder.frame(&Frame::join(together)));
            }
            body.extend_from_slice(&encoder.end(b":bye\n\n"));
            let body = if chunked { unchunked(&body) } else { body };
            let plain = plain(coding, &body);
            assert!(!plain.contains(&b'\r') && !plain.starts_with(b"\xEF\xBB\xBF"));
            let mut parser = Parser::default();
            let pieces = plain.chunks(usize::from(step) + 1);
            let mut items: Vec<Item> = pieces.flat_map(|piece| parser.push(piece)).collect();
            assert_eq!(items.pop(), Some(Item::Comment("bye".into())));
            // A zstd stream has comments between what it has to say.
            items.retain(|item| !matches!(item, Item::Comment(text) if !text.is_empty()));
            assert_eq!(items, expected, "{coding:?}");
        }
    }
}

/// With its line breaks as a client gets them.
pub fn normal(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn plain(coding: Option<Coding>, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        None => return body.to_vec(),
        Some(Coding::Gzip) => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        Some(Coding::Zstd) => zstd::Decoder::new(body)
            .expect("zstd")
            .read_to_end(&mut plain),
    }
    .expect("it decodes");
    plain
}

/// RFC 9112 §7.1, of what has no extensions and no trailers.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    loop {
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a size");
        let size = std::str::from_utf8(&body[..end]).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        body = &body[end + 2..];
        plain.extend_from_slice(&body[..size]);
        assert_eq!(&body[size..size + 2], b"\r\n");
        body = &body[size + 2..];
        if size == 0 {
            assert!(body.is_empty(), "nothing behind the last chunk");
            return plain;
        }
    }
}
