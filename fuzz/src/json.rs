//! What is read is written as one line that is read as the same, in the same words; and serde_json takes and refuses the
//! same texts, but for our bounds (EDGE E12, U9–U12).

use wellspring::value::Value;

pub fn holds(bytes: &[u8]) {
    let ours = Value::parse_json(bytes);
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    if let Ok(value) = &ours {
        let text = value.encoded();
        assert!(!text.bytes().any(|byte| byte < b' '), "one line: {text:?}");
        let again = Value::parse_json(text.as_bytes()).expect("what is written is read");
        assert_eq!(&again, value);
        assert_eq!(again.encoded(), text, "in the same words");
        let raw = serde_json::from_slice::<&serde_json::value::RawValue>(bytes);
        assert!(raw.is_ok(), "{raw:?}");
    }
    if let Ok(theirs) = &theirs
        && depth(theirs) <= 64
    {
        let ours = ours.expect("another reads it");
        let foreign: serde_json::Value = serde_json::from_str(ours.encoded()).expect("JSON");
        assert_eq!(&foreign, theirs);
    }
    match (Value::parse_auto(bytes), std::str::from_utf8(bytes)) {
        (Ok(value), Ok(text)) if value.is_text() => assert_eq!(value.encoded(), text),
        (Ok(value), Ok(_)) => assert!(Value::parse_json(bytes).is_ok_and(|json| json == value)),
        (auto, text) => assert!(auto.is_err() && text.is_err()),
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
