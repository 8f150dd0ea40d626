//! However the bytes of an event stream are split, they are the same events, those that the algorithm of the standard gives
//! when it is followed word by word; and every event can be written again (WHATWG HTML, "Interpreting an event stream").
//!
//! Input: how to split, one byte; then the stream.

use wellspring::sse::parser::{Event, Item, Parser};
use wellspring::sse::push_event;

pub fn holds(bytes: &[u8]) {
    let Some((&step, stream)) = bytes.split_first() else {
        return;
    };
    let mut parser = Parser::resuming("before".into());
    let whole = parser.push(stream);
    let (expected, last_id) = by_the_book(stream);
    assert_eq!(whole, expected);
    assert_eq!(parser.last_event_id(), last_id);

    let mut split = Parser::resuming("before".into());
    let pieces = stream.chunks(usize::from(step).max(1));
    assert_eq!(
        pieces
            .flat_map(|piece| split.push(piece))
            .collect::<Vec<_>>(),
        whole
    );
    assert_eq!(split.last_event_id(), last_id);

    let mut bounded = Parser::resuming("before".into()).with_limit(usize::from(step));
    let mut rest = whole.iter();
    for item in bounded.push(stream) {
        match &item {
            Item::Event(event) => {
                assert!(event.data.len() <= usize::from(step), "{event:?}");
                // An id that is too long is not taken, here or for the events behind it.
                let is_there = |of_whole: &Item| matches!(of_whole, Item::Event(whole) if (&whole.name, &whole.data) == (&event.name, &event.data));
                assert!(rest.any(is_there), "{item:?}");
            }
            Item::Comment(_) | Item::Retry(_) | Item::TooLarge => {}
        }
    }

    for item in whole {
        let Item::Event(event) = item else { continue };
        let mut wire = Vec::new();
        push_event(&mut wire, Some(&event.name), Some(&event.id), &event.data);
        assert_eq!(Parser::default().push(&wire), [Item::Event(event)]);
    }
}

/// The standard's words, one after the other; slow, and whole streams alone.
fn by_the_book(stream: &[u8]) -> (Vec<Item>, String) {
    let text = String::from_utf8_lossy(stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut data, mut name) = (String::new(), String::new());
    let (mut id_buffer, mut last_id) = ("before".to_owned(), "before".to_owned());
    let mut items = Vec::new();
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What has no line end is no line.
    lines.pop();
    for line in lines {
        if line.is_empty() {
            last_id.clone_from(&id_buffer);
            if data.is_empty() {
                name.clear();
                continue;
            }
            data.pop();
            let named = std::mem::take(&mut name);
            items.push(Item::Event(Event {
                name: if named.is_empty() {
                    "message".into()
                } else {
                    named
                },
                data: std::mem::take(&mut data),
                id: last_id.clone(),
            }));
            continue;
        }
        let (field, value) = match line.find(':') {
            Some(0) => {
                items.push(Item::Comment(line[1..].into()));
                continue;
            }
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, ""),
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.into(),
            "data" => data.extend([value, "\n"]),
            "id" if !value.contains('\0') => id_buffer = value.into(),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                items.extend(value.parse().map(Item::Retry));
            }
            _ => {}
        }
    }
    (items, last_id)
}
