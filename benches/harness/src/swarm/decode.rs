//! Bytes from a socket to events: the response head, chunks (RFC 9112 §7.1), event-stream blocks (WHATWG HTML).
//!
//! Written for a swarm: what arrives whole is parsed where it lies, and only what is cut is copied; a body in gzip is
//! decoded as it comes. It relies on line ends being LF within the event stream, as the gateway promises (EDGE E1);
//! anything else shows up as missing events.

use std::io::Write;
use std::mem;

use flate2::write::MultiGzDecoder;

/// What was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// The response head: a stream of events follows.
    Head,
    /// An event with its name (empty: none) and the first line of its data.
    Event { name: &'a [u8], data: &'a [u8] },
    /// The body ended cleanly.
    End,
}

/// One response, as far as it has arrived.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Of the head or a chunk-size line: the part that has arrived.
    line: Vec<u8>,
    /// Of an event: the part that has arrived.
    block: Vec<u8>,
    /// For a body that is compressed.
    gzip: Option<Box<MultiGzDecoder<Vec<u8>>>>,
}

#[derive(Debug)]
enum State {
    Head,
    Size,
    Data(usize),
    /// Bytes of the line end after a chunk's data that are still to come.
    Gap(usize),
    /// Without chunks: everything is body.
    Raw,
    Ended,
}

/// More than any response head here.
const MOST_HEAD: usize = 16 * 1024;

/// More than any chunk-size line here.
const MOST_SIZE: usize = 64;

impl Decoder {
    /// For a response of which nothing has arrived.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            block: Vec::new(),
            gzip: None,
        }
    }

    /// For a body without head and chunks, as HTTP/2 gives it.
    pub(crate) fn body_alone() -> Self {
        Self {
            state: State::Raw,
            ..Self::new()
        }
    }

    /// Takes the next bytes; the error says what they are instead of an event stream.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes, sink)?,
                State::Size => self.size(bytes, sink)?,
                State::Data(left) => {
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    self.body(data, sink)?;
                    self.state = if data.len() == left {
                        State::Gap(2)
                    } else {
                        State::Data(left - data.len())
                    };
                    rest
                }
                State::Gap(left) => {
                    let skipped = left.min(bytes.len());
                    self.state = if skipped == left {
                        State::Size
                    } else {
                        State::Gap(left - skipped)
                    };
                    &bytes[skipped..]
                }
                State::Raw => {
                    self.body(bytes, sink)?;
                    &[]
                }
                State::Ended => &[],
            };
        }
        Ok(())
    }

    fn head<'b>(
        &mut self,
        bytes: &'b [u8],
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<&'b [u8], String> {
        let before = self.line.len();
        self.line.extend_from_slice(bytes);
        let Some(end) = find(&self.line, b"\r\n\r\n") else {
            return match self.line.len() {
                0..MOST_HEAD => Ok(&[]),
                _ => Err("the response head does not end".into()),
            };
        };
        let head = String::from_utf8_lossy(&self.line[..end]).to_ascii_lowercase();
        let status = head.lines().next().unwrap_or_default();
        if !status.contains(" 200") || !head.contains("\r\ncontent-type: text/event-stream") {
            return Err(format!("not an event stream: {}", status.to_uppercase()));
        }
        self.state = if head.contains("\r\ntransfer-encoding: chunked") {
            State::Size
        } else {
            State::Raw
        };
        match field(&head, "content-encoding") {
            None => {}
            Some("gzip") => self.gzip = Some(Box::new(MultiGzDecoder::new(Vec::new()))),
            Some(other) => return Err(format!("not asked for: content-encoding {other}")),
        }
        self.line = Vec::new();
        sink(Item::Head);
        Ok(&bytes[end + 4 - before..])
    }

    fn size<'b>(
        &mut self,
        bytes: &'b [u8],
        sink: &mut impl FnMut(Item<'_>),
    ) -> Result<&'b [u8], String> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return match self.line.len() {
                0..MOST_SIZE => Ok(&[]),
                _ => Err("a chunk size does not end".into()),
            };
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let size = match self.line.is_empty() {
            true => hexadecimal(line),
            false => {
                self.line.extend_from_slice(line);
                hexadecimal(&mem::take(&mut self.line))
            }
        };
        match size.ok_or("a chunk size is no number")? {
            0 => {
                self.state = State::Ended;
                sink(Item::End);
            }
            size => self.state = State::Data(size),
        }
        Ok(rest)
    }

    fn body(&mut self, bytes: &[u8], sink: &mut impl FnMut(Item<'_>)) -> Result<(), String> {
        let Some(gzip) = &mut self.gzip else {
            self.plain(bytes, sink);
            return Ok(());
        };
        let wrong = |error| format!("gzip: {error}");
        gzip.write_all(bytes).map_err(wrong)?;
        gzip.flush().map_err(wrong)?;
        let text = mem::take(gzip.get_mut());
        self.plain(&text, sink);
        Ok(())
    }

    fn plain(&mut self, bytes: &[u8], sink: &mut impl FnMut(Item<'_>)) {
        if self.block.is_empty() {
            let rest = blocks(bytes, sink);
            self.block.extend_from_slice(rest);
        } else {
            let mut whole = mem::take(&mut self.block);
            whole.extend_from_slice(bytes);
            let rest = blocks(&whole, sink);
            self.block.extend_from_slice(rest);
        }
    }
}

/// Gives every whole block of `bytes` that has data; returns what is left.
fn blocks<'b>(mut bytes: &'b [u8], sink: &mut impl FnMut(Item<'_>)) -> &'b [u8] {
    while let Some(end) = find(bytes, b"\n\n") {
        let (mut name, mut data) = (&b""[..], None);
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            if let Some(value) = line.strip_prefix(b"data:") {
                data = data.or(Some(unpadded(value)));
            } else if let Some(value) = line.strip_prefix(b"event:") {
                name = unpadded(value);
            }
        }
        if let Some(data) = data {
            sink(Item::Event { name, data });
        }
        bytes = &bytes[end + 2..];
    }
    bytes
}

/// Without the one space that may follow the colon.
fn unpadded(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

/// The value of a field of a response head in lower case.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(field, value)| (field == name).then(|| value.trim()))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn hexadecimal(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    usize::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Decodes `pieces` one after another into readable lines.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, String> {
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        for piece in pieces {
            decoder.feed(piece, &mut |item| {
                seen.push(match item {
                    Item::Head => "head".into(),
                    Item::End => "end".into(),
                    Item::Event { name, data } => {
                        format!(
                            "{}|{}",
                            String::from_utf8_lossy(name),
                            String::from_utf8_lossy(data)
                        )
                    }
                });
            })?;
        }
        Ok(seen)
    }

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let body = [
            chunk("retry: 2000\n:\n\nid: 1\ndata: one\n\n"),
            chunk("id: 2\nevent: stale\nda"),
            chunk("ta: two\n\n:\n\n"),
            chunk("data: three\ndata: more\n\ndata: four\n\n"),
            "0\r\n\r\n".into(),
        ];
        let wire = HEAD.to_owned() + &body.concat();
        let expected = ["head", "|one", "stale|two", "|three", "|four", "end"];
        assert_eq!(
            decode([wire.as_bytes()]).as_deref(),
            Ok(&expected.map(String::from)[..])
        );
        for first in 0..wire.len() {
            for second in first..wire.len() {
                let wire = wire.as_bytes();
                let pieces = [&wire[..first], &wire[first..second], &wire[second..]];
                assert_eq!(
                    decode(pieces).as_deref(),
                    Ok(&expected.map(String::from)[..]),
                    "cut at {first}, {second}"
                );
            }
        }
    }

    /// Each event is there with the last byte of its flush, wherever the bytes are cut, and in a member of its own too.
    #[test]
    fn gzip_is_decoded_as_it_comes() {
        let mut members = vec![GzEncoder::new(Vec::new(), Compression::fast())];
        let mut pieces = Vec::new();
        for text in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
            let member = members.last_mut().expect("a member");
            member.write_all(text.as_bytes()).expect("taken");
            member.flush().expect("flushed");
            pieces.push(mem::take(member.get_mut()));
        }
        pieces.push(members.remove(0).finish().expect("an end"));
        let mut another = GzEncoder::new(Vec::new(), Compression::fast());
        another.write_all(b"data: four\n\n").expect("taken");
        pieces.push(another.finish().expect("an end"));

        let head = HEAD.replace("chunked", "chunked\r\nContent-Encoding: gzip");
        let mut wire = vec![head.into_bytes()];
        wire.extend(
            pieces.iter().map(|piece| {
                [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            }),
        );
        let expected = ["head", "|one", "|two", "|three", "|four"].map(String::from);
        for whole in 1..4 {
            let seen = decode(wire[..=whole].iter().map(Vec::as_slice));
            assert_eq!(seen.as_deref(), Ok(&expected[..=whole]));
        }
        let wire = wire.concat();
        for cut in 0..wire.len() {
            let seen = decode([&wire[..cut], &wire[cut..]]);
            assert_eq!(seen.as_deref(), Ok(&expected[..]), "cut at {cut}");
        }
    }

    #[test]
    fn without_chunks_the_rest_is_body() {
        let wire =
            b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: x\n\ndata: cut";
        assert_eq!(decode([&wire[..]]), Ok(vec!["head".into(), "|x".into()]));
    }

    #[test]
    fn a_body_alone_has_no_head() {
        let mut seen = Vec::new();
        Decoder::body_alone()
            .feed(b"retry: 1\n:\n\ndata: x\n\n", &mut |item| {
                seen.push(format!("{item:?}"));
            })
            .expect("events");
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn anything_else_is_refused() {
        let wires = [
            "HTTP/1.1 503 No\r\ncontent-type: text/event-stream\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}".to_owned(),
            HEAD.to_owned() + "zz\r\n",
            HEAD.replace("chunked", "chunked\r\nContent-Encoding: br"),
            HEAD.replace("chunked", "chunked\r\nContent-Encoding: gzip") + "c\r\nnot gzip....\r\n",
            HEAD.to_owned() + &"1".repeat(100),
            "x".repeat(20_000),
        ];
        for wire in wires {
            assert!(decode([wire.as_bytes()]).is_err(), "{wire}");
        }
    }
}
