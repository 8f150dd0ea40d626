//! Bytes to events, as a browser reads them (WHATWG HTML, "Server-sent events", "Interpreting an event stream"). Pure.

/// An event as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `message` when the stream names none.
    pub name: String,
    /// Lines joined by LF.
    pub data: String,
    /// The last id seen up to this event.
    pub id: String,
}

/// What a stream tells a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// How long to wait before reconnecting, in milliseconds.
    Retry(u64),
    /// A comment, such as a heartbeat.
    Comment(String),
    /// An event came that is larger than the parser's limit.
    TooLarge,
}

/// An incremental parser: the bytes may be split anywhere.
#[derive(Debug)]
pub struct Parser {
    /// The line under way.
    line: Vec<u8>,
    /// More of it came than is kept.
    is_cut: bool,
    /// The last byte was a CR: a following LF belongs to it.
    after_cr: bool,
    started: bool,
    /// Bytes of one event's data.
    limit: usize,
    name: String,
    data: String,
    /// The event under way is larger than the limit.
    is_too_large: bool,
    /// As of the last `id` field.
    id: String,
    /// As of the last whole block.
    last_id: String,
}

/// Bytes of a line besides the data in it: a byte order mark, the name of a field, a colon and a space.
const LINE_OVERHEAD: usize = 16;

impl Default for Parser {
    fn default() -> Self {
        Self {
            line: Vec::new(),
            is_cut: false,
            after_cr: false,
            started: false,
            limit: usize::MAX,
            name: String::new(),
            data: String::new(),
            is_too_large: false,
            id: String::new(),
            last_id: String::new(),
        }
    }
}

impl Parser {
    /// A parser that knows an id from before, as a client that reconnects does.
    pub fn resuming(id: String) -> Self {
        Self {
            last_id: id.clone(),
            id,
            ..Self::default()
        }
    }

    /// Holds at most `limit` bytes of an event's data, and as many of a line; a larger event is [`Item::TooLarge`] (EDGE E14).
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The last id of a block that came whole: an event that did not is to be sent again.
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// Takes bytes and gives what is complete. An event that is not complete at the end of the stream is dropped.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.keep(rest);
                break;
            };
            self.keep(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            items.extend(self.line(&line));
        }
        items
    }

    /// More of the line under way, as far as a line may be long.
    fn keep(&mut self, bytes: &[u8]) {
        let longest = self.limit.saturating_add(LINE_OVERHEAD);
        let kept = bytes.len().min(longest.saturating_sub(self.line.len()));
        self.is_cut |= kept < bytes.len();
        self.line.extend_from_slice(&bytes[..kept]);
    }

    fn line(&mut self, line: &[u8]) -> Option<Item> {
        let bom = !std::mem::replace(&mut self.started, true);
        let is_cut = std::mem::take(&mut self.is_cut);
        let line = if bom {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        } else {
            line
        };
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            return self.dispatch();
        }
        if let Some(comment) = line.strip_prefix(':') {
            return Some(Item::Comment(comment.into()));
        }
        if is_cut {
            self.refuse();
            return None;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.into(),
            "data" if self.is_too_large => {}
            // What is there ends in a LF that is part of the data only now.
            "data" if self.data.len() + value.len() > self.limit => self.refuse(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = value.into(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return value.parse().ok().map(Item::Retry);
            }
            _ => {}
        }
        None
    }

    /// The event under way is larger than the limit. Its other fields are still read: who did not take its id would get it again.
    fn refuse(&mut self) {
        self.is_too_large = true;
        self.data = String::new();
    }

    fn dispatch(&mut self) -> Option<Item> {
        self.last_id.clone_from(&self.id);
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.is_too_large) {
            return Some(Item::TooLarge);
        }
        data.pop()?;
        let name = if name.is_empty() {
            "message".into()
        } else {
            name
        };
        Some(Item::Event(Event {
            name,
            data,
            id: self.id.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::{Encoder, Frame, push_event, push_retry};
    use proptest::prelude::*;
    use std::time::Duration;

    fn normal(text: &str) -> String {
        text.replace("\r\n", "\n").replace('\r', "\n")
    }

    /// EDGE E3, E4: what tries to break out arrives as one event.
    #[test]
    fn hostile_data_is_one_event() {
        for data in [
            "x\n\nevent: x\ndata: y",
            "\r",
            "a\r\n\r\nid: 9",
            "",
            "\n",
            ": comment",
            " leading",
            "\u{feff}x",
            "a\0b",
            "\u{2028}\u{1F600}",
        ] {
            let mut bytes = Vec::new();
            push_event(&mut bytes, Some("e"), Some("ab-1"), data);
            let items = Parser::default().push(&bytes);
            let event = Event {
                name: "e".into(),
                data: normal(data),
                id: "ab-1".into(),
            };
            assert_eq!(items, [Item::Event(event)], "{data:?}");
        }
    }

    #[test]
    fn retry_and_comments_are_told_apart_from_events() {
        let mut bytes = Vec::new();
        push_retry(&mut bytes, Duration::from_millis(2500));
        bytes.extend_from_slice(b":hi\n\nretry: 1x\nid\ndata\n\n");
        let empty = Event {
            name: "message".into(),
            data: String::new(),
            id: String::new(),
        };
        assert_eq!(
            Parser::default().push(&bytes),
            [
                Item::Retry(2500),
                Item::Comment("hi".into()),
                Item::Event(empty)
            ]
        );
    }

    /// Every line break there is, a byte order mark, one byte at a time.
    #[test]
    fn the_bytes_may_be_split_anywhere() {
        let text = "\u{feff}event: a\r\ndata: 1\r\r\nid: 7\ndata:2\rdata: 3\n\n";
        let mut parser = Parser::default();
        let items: Vec<_> = text.bytes().flat_map(|byte| parser.push(&[byte])).collect();
        let event = |name: &str, data: &str, id: &str| {
            Item::Event(Event {
                name: name.into(),
                data: data.into(),
                id: id.into(),
            })
        };
        let expected = [event("a", "1", ""), event("message", "2\n3", "7")];
        assert_eq!(items, expected);
        assert_eq!(Parser::default().push(text.as_bytes()), expected);
    }

    /// An id counts with its block: the event of a block that did not arrive whole is to be sent again.
    #[test]
    fn an_id_is_that_of_a_whole_block() {
        let mut parser = Parser::resuming("1".into());
        parser.push(b"id: 2\ndata: x\n");
        assert_eq!(parser.last_event_id(), "1");
        parser.push(b"\n");
        assert_eq!(parser.last_event_id(), "2");
        parser.push(b"id: 3\n\nid: a\0b\n\n");
        assert_eq!(parser.last_event_id(), "3");
        parser.push(b"id\n\n");
        assert_eq!(parser.last_event_id(), "");
    }

    /// EDGE E14: what is too large is dropped by itself, in one line or in many, and never held.
    #[test]
    fn an_event_over_the_limit_is_dropped_alone() {
        let limit = 100;
        let mut parser = Parser::default().with_limit(limit);
        let whole = "x".repeat(limit);
        let items = parser.push(format!("data: {whole}\n\n").as_bytes());
        assert!(matches!(&items[..], [Item::Event(event)] if event.data == whole));
        let one_line = format!("id: 1\ndata: {whole}x\n\n");
        let many_lines = format!("data\n{}id: 2\n\n", "data: 123456789\n".repeat(11));
        let empty = format!("{}id: 4\n\n", "data\n".repeat(limit + 2));
        let endless = format!("data: {}\nid: 3\ndata: y\n\n", "z".repeat(10_000));
        for (text, id) in [
            (one_line, "1"),
            (many_lines, "2"),
            (endless, "3"),
            (empty, "4"),
        ] {
            let items: Vec<_> = text
                .as_bytes()
                .chunks(7)
                .flat_map(|chunk| {
                    let items = parser.push(chunk);
                    assert!(parser.line.len() + parser.data.len() <= 2 * limit + LINE_OVERHEAD + 1);
                    items
                })
                .collect();
            assert_eq!(items, [Item::TooLarge]);
            assert_eq!(parser.last_event_id(), id);
        }
        let comment = format!("data: a\n:{}\n\n", "c".repeat(10_000));
        let items = parser.push(comment.as_bytes());
        assert!(matches!(&items[..], [Item::Comment(_), Item::Event(event)] if event.data == "a"));
    }

    proptest! {
        /// EDGE E1–E5, E13: any text, split anywhere, arrives as it was, but for its line breaks.
        #[test]
        fn any_text_arrives(texts in prop::collection::vec("(\\PC|[\r\n\0:]){0,40}", 1..5), cut in 0_usize..200) {
            let mut bytes = Vec::new();
            for text in &texts {
                push_event(&mut bytes, None, None, text);
            }
            let cut = cut.min(bytes.len());
            let mut parser = Parser::default();
            let mut items = parser.push(&bytes[..cut]);
            items.extend(parser.push(&bytes[cut..]));
            let data: Vec<String> = items.into_iter().map(|item| match item {
                Item::Event(event) => event.data,
                other => format!("{other:?}"),
            }).collect();
            prop_assert_eq!(data, texts.iter().map(|text| normal(text)).collect::<Vec<_>>());
        }

        /// EDGE L8: wherever a stream is cut, who comes back with the last id gets each event once, in order.
        #[test]
        fn a_cut_anywhere_loses_nothing(count in 1_usize..12, cuts in prop::collection::vec(0_usize..200, 0..8)) {
            let mut told = Vec::new();
            let mut last = String::new();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let had: usize = last.parse().unwrap_or(0);
                let rest: String = (had + 1..=count).map(|n| format!("id: {n}\r\ndata: {n}\r\n\r\n")).collect();
                let mut parser = Parser::resuming(last);
                let items = parser.push(&rest.as_bytes()[..cut.min(rest.len())]);
                told.extend(items.into_iter().map(|item| match item {
                    Item::Event(event) => event.data,
                    other => format!("{other:?}"),
                }));
                last = parser.last_event_id().to_owned();
            }
            prop_assert_eq!(told, (1..=count).map(|n| n.to_string()).collect::<Vec<_>>());
        }

        /// A frame's chunk holds exactly its payload (RFC 9112 §7.1), and joining frames joins payloads.
        #[test]
        fn a_chunk_holds_its_payload(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..4)) {
            let frames: Vec<Frame> = payloads.iter().map(|payload| Frame::new(payload)).collect();
            let joined = Frame::join(&frames);
            prop_assert_eq!(joined.payload(), payloads.concat());
            let chunk = Encoder::new(None, true).frame(&joined);
            let head = format!("{:x}\r\n", joined.payload().len());
            prop_assert!(chunk.starts_with(head.as_bytes()) && chunk.ends_with(b"\r\n"));
            prop_assert_eq!(chunk.len(), head.len() + joined.payload().len() + 2);
        }
    }
}
