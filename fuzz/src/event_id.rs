//! Whatever a client sends as an id is either no id or exactly one that was written so (EDGE E7, L6, L7).

use wellspring::channel::EventId;

pub fn holds(bytes: &[u8]) {
    if let Some(id) = EventId::parse(bytes) {
        let text = id.to_string();
        assert_eq!(text.as_bytes(), bytes, "one way of writing an id");
        assert!(text.len() <= 64, "{text}");
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        assert!(text.bytes().all(is_fit), "{text}");
    }
    // And what is written is read: the bytes as numbers.
    let mut number = [0; 16];
    let taken = bytes.len().min(16);
    number[..taken].copy_from_slice(&bytes[..taken]);
    let number = u128::from_be_bytes(number);
    let (epoch, seq) = ((number >> 64) as u64, number as u64);
    let text = format!("{epoch:016x}-{seq}");
    let id = EventId::parse(text.as_bytes()).expect("an id");
    assert_eq!((id.to_string(), id.seq), (text, seq));
}
