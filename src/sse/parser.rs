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
}

/// An incremental parser: the bytes may be split anywhere.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: a following LF belongs to it.
    after_cr: bool,
    started: bool,
    name: String,
    data: String,
    id: String,
}

impl Parser {
    /// A parser that knows an id from before, as a client that reconnects does.
    pub fn resuming(id: String) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// The last id seen.
    pub fn last_event_id(&self) -> &str {
        &self.id
    }

    /// Takes bytes and gives what is complete. An event that is not complete at the end of the stream is dropped.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    items.extend(self.line(&line));
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
        }
        items
    }

    fn line(&mut self, line: &[u8]) -> Option<Item> {
        let bom = !std::mem::replace(&mut self.started, true);
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
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.into(),
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

    fn dispatch(&mut self) -> Option<Item> {
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
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
