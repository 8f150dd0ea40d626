//! A request can be read in one way only: however its bytes are split it ends at the same place, and another implementation
//! finds the same head, and headers in it that say the same of the body (RFC 9112; EDGE P2–P5).
//!
//! Input: how to split, one byte; then the request.

use wellspring::edge::doors::{Outcome, Request, request};

const MAX: usize = 2048;

pub fn holds(bytes: &[u8]) {
    let Some((&step, wire)) = bytes.split_first() else {
        return;
    };
    let outcome = request(std::iter::once(wire), MAX);
    assert_eq!(request(wire.chunks(usize::from(step).max(1)), MAX), outcome);
    let Outcome::Read(read) = outcome else { return };
    headers(&wire[..read.head], read);
    let body = &wire[read.head..];
    match (read.length, read.body) {
        (Some(length), Outcome::Read(taken)) => assert_eq!(length, taken as u64),
        (Some(length), Outcome::More) => assert!(length > body.len() as u64),
        (None, Outcome::Read(taken)) => assert_eq!(chunked(body), Some(taken)),
        (None, Outcome::More) => assert_eq!(chunked(body), None),
        (None, Outcome::Refused) => {}
        (Some(_), Outcome::Refused) => panic!("any bytes are a body of fixed length"),
    }
    if let Outcome::Read(taken) = read.body {
        let end = read.head + taken;
        assert_eq!(request(std::iter::once(&wire[..end]), MAX), outcome);
    }
}

fn headers(head: &[u8], read: Request) {
    let mut room = [httparse::EMPTY_HEADER; 100];
    let mut theirs = httparse::Request::new(&mut room);
    let parsed = theirs.parse(head).expect("another reads it");
    assert_eq!(parsed, httparse::Status::Complete(head.len()));
    let all = |name: &str| -> Vec<&[u8]> {
        let named = theirs
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value).collect()
    };
    assert!(all("host").len() <= 1 && (all("host").len() == 1 || theirs.version == Some(0)));
    let codings = all("transfer-encoding");
    match (&all("content-length")[..], read.length) {
        ([], Some(0)) => assert!(codings.is_empty()),
        ([one], Some(length)) => {
            assert!(codings.is_empty());
            let one = std::str::from_utf8(one).expect("digits");
            assert_eq!(one.parse(), Ok(length));
        }
        ([], None) => {
            let said = codings.concat();
            assert!(said.eq_ignore_ascii_case(b"chunked"), "{codings:?}");
        }
        (lengths, length) => panic!("{lengths:?} are {length:?}"),
    }
}

/// Bytes of a chunked body up to its end; `None`: it does not end here.
fn chunked(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + position(&body[at..], b"\r\n")?;
        let text = std::str::from_utf8(&body[at..line]).ok()?;
        let digits = text.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).ok()?;
        at = line + 2;
        if size == 0 {
            while !body.get(at..)?.starts_with(b"\r\n") {
                at += position(&body[at..], b"\r\n")? + 2;
            }
            return Some(at + 2);
        }
        at = at.checked_add(size)?.checked_add(2)?;
        if at > body.len() {
            return None;
        }
    }
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
