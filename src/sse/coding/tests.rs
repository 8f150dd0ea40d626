use std::io::Read;

use ::zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use bytes::Bytes;
use flate2::read::GzDecoder;
use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;

use super::{Coding, gzip, zstd};
use crate::sse::{Encoder, Frame};

const CODINGS: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

/// What stands in a zstd stream besides the events.
const COMMENT: &str = ":::::::::::::::::\n";

/// What a client has after each piece that it receives: all that it can be given, held back by nothing.
enum Client {
    Gzip(Box<Decompress>),
    Zstd(Decoder<'static>),
}

impl Client {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(Box::new(Decompress::new_gzip(15))),
            Coding::Zstd => {
                let mut decoder = Decoder::new().expect("a decoder");
                let small = ::zstd::zstd_safe::DParameter::WindowLogMax(17);
                decoder.set_parameter(small).expect("a window");
                Self::Zstd(decoder)
            }
        }
    }

    fn receive(&mut self, mut piece: &[u8]) -> String {
        let mut text = Vec::new();
        match self {
            Self::Gzip(inflate) => loop {
                text.reserve(4096);
                let (taken, had) = (inflate.total_in(), text.len());
                inflate
                    .decompress_vec(piece, &mut text, FlushDecompress::Sync)
                    .expect("deflate");
                piece = &piece[(inflate.total_in() - taken) as usize..];
                if text.len() == had {
                    break;
                }
            },
            Self::Zstd(decoder) => loop {
                let mut room = [0; 4096];
                let (mut input, mut output) =
                    (InBuffer::around(piece), OutBuffer::around(&mut room[..]));
                decoder.run(&mut input, &mut output).expect("zstd");
                piece = &piece[input.pos()..];
                let decoded = output.as_slice();
                text.extend_from_slice(decoded);
                if decoded.is_empty() {
                    break;
                }
            },
        }
        assert!(piece.is_empty(), "{} bytes are not read", piece.len());
        String::from_utf8(text).expect("text").replace(COMMENT, "")
    }
}

/// Text that makes compressors use all they have: runs, repetitions near and far, noise.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-z0-9]{1,12}",
        ("[ -9a-~]", 1..20_usize).prop_map(|(letter, times)| letter.repeat(times)),
        Just("\"price\": 0000.00, ".to_owned()),
        Just("\nid: 0000000000000000-".to_owned()),
        ("[a-f]{3,40}", 1..30_usize).prop_map(|(word, times)| word.repeat(times)),
    ];
    prop::collection::vec(word, 1..40).prop_map(|words| words.concat())
}

/// A whole body as a decoder that wants a whole one reads it, with its checksum.
fn decoded(coding: Coding, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        Coding::Gzip => GzDecoder::new(body).read_to_string(&mut text),
        Coding::Zstd => ::zstd::Decoder::new(body)
            .expect("a decoder")
            .read_to_string(&mut text),
    }
    .expect("a whole body");
    text.replace(COMMENT, "")
}

proptest! {
    /// EDGE Z1, Z3: wherever a client joins, it has each event as soon as it has the event's bytes, whatever went before and
    /// though these are the bytes that all others get; and in the end it has one whole member, or frame.
    #[test]
    fn everybody_can_join_anywhere(
        events in prop::collection::vec(text(), 1..8),
        joins in prop::collection::vec(0..8_usize, 1..4),
        missed in 0..4_usize,
        (first, last) in (text(), text()),
    ) {
        let frames: Vec<Frame> = events.iter().map(|event| Frame::new(event.as_bytes())).collect();
        for coding in CODINGS {
            for join in &joins {
                let mut encoder = Encoder::new(Some(coding), false);
                let mut client = Client::new(coding);
                let begin = encoder.begin(first.as_bytes());
                prop_assert_eq!(client.receive(&begin), first.as_str());
                let (mut body, mut said) = (begin, first.clone());
                // As one who resumes: some events at once.
                let live = frames.iter().skip((*join).min(frames.len() - 1));
                let at_once: Vec<Frame> = live.clone().take(missed).cloned().collect();
                let joined = (!at_once.is_empty()).then(|| Frame::join(&at_once));
                for frame in joined.iter().chain(live.skip(missed)).chain([Frame::heartbeat()]) {
                    let piece = encoder.frame(frame);
                    let plain = String::from_utf8(frame.payload().into()).expect("text");
                    prop_assert_eq!(client.receive(&piece), plain.as_str());
                    body.extend_from_slice(&piece);
                    said.push_str(&plain);
                }
                let end = encoder.end(last.as_bytes());
                prop_assert_eq!(client.receive(&end), last.as_str());
                body.extend_from_slice(&end);
                said.push_str(&last);
                prop_assert_eq!(decoded(coding, &body), said);
            }
        }
    }
}

/// EDGE Z3: who comes second is given the very bytes that the first one was given, in chunks or not.
#[test]
fn an_event_is_compressed_once() {
    let frames = [Frame::new(b"data: 1\n\n"), Frame::new(b"data: 2\n\n")];
    for frame in [frames[0].clone(), Frame::join(&frames)] {
        for coding in CODINGS {
            let given = |chunked| Encoder::new(Some(coding), chunked).frame(&frame);
            let (first, second) = (given(true), given(true));
            assert_eq!(first.as_ptr(), second.as_ptr());
            let range = |bytes: &Bytes| bytes.as_ptr_range();
            let bare = given(false);
            assert!(range(&first).contains(&bare.as_ptr()));
            let size = format!("{:x}\r\n", bare.len());
            assert_eq!(first, [size.as_bytes(), &bare, b"\r\n"].concat());
        }
    }
}

/// RFC 9659 allows 8 MiB; a client need not keep more than 128 KiB, whatever an event is long.
#[test]
fn a_long_event_needs_no_large_window() {
    let line = |number: u32| format!("data: {number} {}\n", number.wrapping_mul(2_654_435_761));
    let mut event: String = (0..60_000).map(line).collect();
    let again = event[..event.len() / 3].to_owned();
    event.push_str(&again);
    for coding in CODINGS {
        let mut encoder = Encoder::new(Some(coding), false);
        let mut client = Client::new(coding);
        client.receive(&encoder.begin(b":\n\n"));
        let piece = encoder.frame(&Frame::new(event.as_bytes()));
        assert!(client.receive(&piece) == event, "{coding:?}");
        assert!(
            piece.len() < event.len() / 2,
            "{} of {}",
            piece.len(),
            event.len()
        );
    }
}

/// What cannot be made shorter grows by a few bytes, also what one client alone is sent.
#[test]
fn noise_hardly_grows() {
    let mut noise = vec![0; 300_000];
    fastrand::Rng::with_seed(1).fill(&mut noise);
    for blocks in [
        gzip::shared(&noise),
        gzip::stored(&noise),
        zstd::shared(&noise),
        zstd::stored(&noise),
    ] {
        assert!(blocks.len() < noise.len() + 200, "{}", blocks.len());
    }
    assert_eq!(zstd::shared(b":\n\n").len(), 6);
    assert_eq!(gzip::shared(b":\n\n").len(), 9);
}

/// What goes before compressed zstd blocks says what is documented, and nothing else.
#[test]
fn offsets_are_set_back_by_a_comment() {
    let event = b"data: {\"prices\": [1000.25, 1000.50, 1000.75]}\n\n".repeat(3);
    let body = [&zstd::HEADER[..], &zstd::shared(&event), &zstd::END].concat();
    let text = ::zstd::decode_all(&body[..]).expect("a frame");
    assert_eq!(text, [COMMENT.as_bytes(), &event].concat());
}
