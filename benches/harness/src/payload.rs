//! The value that changes: a JSON object of a fixed size with a sequence and the instant of its change.
//!
//! The sequence shows losses, duplicates and disorder; the instant shows how long delivery took. The broadcaster frames
//! the same object as the gateway does, with an id of the same length, so that both send the same bytes.

/// Bytes of the object in events of 200 bytes: the rest is `id: `, an id of 20 characters, `data: ` and line ends.
pub(crate) const VALUE_BYTES: usize = 166;

const OPEN: &str = "{\"seq\":";
const DUE: &str = ",\"due\":";
const PAD: &str = ",\"pad\":\"";
const CLOSE: &str = "\"}";
const QUOTES: &str = ",\"quotes\":[";

/// The object with `seq` that changed at `due` ([`crate::clock`]), padded to `size` bytes.
pub(crate) fn value(seq: u64, due: u64, size: usize) -> String {
    let mut text = format!("{OPEN}{seq}{DUE}{due}{PAD}");
    let missing = size.saturating_sub(text.len() + CLOSE.len());
    text.extend(std::iter::repeat_n('x', missing));
    text.push_str(CLOSE);
    text
}

/// The object with `seq` that changed at `due`, with as many quotes as fit into `size` bytes: what an API says, so that
/// it compresses as such things do. All prices change with each sequence.
pub(crate) fn document(seq: u64, due: u64, size: usize) -> String {
    let mut text = format!("{OPEN}{seq}{DUE}{due}{QUOTES}");
    let mut noise = seq;
    let mut digits = |most: u64| {
        // Knuth's MMIX generator: the same numbers in every run.
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) % most
    };
    for number in 0.. {
        let (whole, bid, spread) = (digits(900) + 100, digits(90), digits(9) + 1);
        let quote = format!(
            "{}{{\"symbol\":\"SYM{number:03}\",\"bid\":{whole}.{bid:02},\"ask\":{whole}.{:02},\"volume\":{},\"open\":true}}",
            if number == 0 { "" } else { "," },
            bid + spread,
            digits(1_000_000),
        );
        if text.len() + quote.len() + 2 > size {
            break;
        }
        text.push_str(&quote);
    }
    text.push_str("]}");
    text
}

/// One event in value form, framed as an HTTP/1.1 chunk.
pub(crate) fn chunk(epoch: u64, seq: u64, due: u64) -> Vec<u8> {
    let value = value(seq, due, VALUE_BYTES);
    let event = format!("id: {epoch:016x}-{seq}\ndata: {value}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// Sequence and instant of an object that [`value`] or [`document`] made; `None` for anything else.
pub(crate) fn read(data: &[u8]) -> Option<(u64, u64)> {
    let rest = data.strip_prefix(OPEN.as_bytes())?;
    let (seq, rest) = digits(rest)?;
    let (due, rest) = digits(rest.strip_prefix(DUE.as_bytes())?)?;
    let ours = rest.starts_with(PAD.as_bytes()) || rest.starts_with(QUOTES.as_bytes());
    ours.then_some((seq, due))
}

fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    Some((number, &text[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_size_and_is_read_back() {
        for (seq, due) in [(0, 0), (1, 7), (98_765, 123_456_789_012_345)] {
            let text = value(seq, due, VALUE_BYTES);
            assert_eq!(text.len(), VALUE_BYTES);
            assert_eq!(read(text.as_bytes()), Some((seq, due)));
        }
    }

    #[test]
    fn a_document_fits_and_is_read_back() {
        let text = document(98_765, 123_456_789_012_345, 2_000);
        assert!((1_900..=2_000).contains(&text.len()), "{text}");
        assert!(text.ends_with(",\"open\":true}]}"), "{text}");
        assert_eq!(read(text.as_bytes()), Some((98_765, 123_456_789_012_345)));
        assert_ne!(text[60..], document(98_766, 0, 2_000)[60..]);
    }

    #[test]
    fn other_objects_are_not_read() {
        for text in [
            "{}",
            "{\"seq\":}",
            "{\"seq\":1,\"due\":x",
            "{\"seq\":1,\"due\":2}",
            "{\"since\":\"2026\"}",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_event_is_two_hundred_bytes() {
        let chunk = chunk(7, 1234, 123_456_789_012_345);
        assert!(
            chunk.starts_with(b"c8\r\nid: "),
            "{}",
            String::from_utf8_lossy(&chunk)
        );
        assert_eq!(chunk.len(), 4 + 200 + 2);
    }
}
