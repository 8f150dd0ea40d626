//! An envelope gives a message exactly when it is an object with `data` and at most a sound `type`; wrapped again it is the
//! same message, and on the wire it is one event (EDGE E4, E6).

use serde_json::json;
use wellspring::source::Message;
use wellspring::source::redis_pubsub::open_flask_sse;
use wellspring::sse::parser::{Item, Parser};
use wellspring::sse::push_event;
use wellspring::value::{Json, Value};

pub fn holds(bytes: &[u8]) {
    let opened = open_flask_sse(bytes);
    let envelope = Value::parse_json(bytes).ok();
    let members = envelope
        .as_ref()
        .and_then(Value::as_json)
        .and_then(Json::as_object);
    let has_data = members.is_some_and(|members| members.contains_key("data"));
    let kind = members.and_then(|members| members.get("type"));
    let is_sound = match kind {
        None | Some(Json::Null) => true,
        Some(Json::String(name)) => is_name(name),
        Some(_) => false,
    };
    assert_eq!(opened.is_ok(), has_data && is_sound, "{opened:?}");
    let Ok(message) = opened else { return };
    let name = message.event.as_ref().map(ToString::to_string);
    assert_eq!(name.as_deref(), kind.and_then(Json::as_str));

    let data = match message.data.is_text() {
        true => json!(message.data.encoded()).to_string(),
        false => message.data.encoded().to_owned(),
    };
    let again = format!("{{\"data\":{data},\"type\":{},\"id\":7}}", json!(name));
    let Message { data, event } = open_flask_sse(again.as_bytes()).expect("an envelope");
    assert_eq!((&data, &event), (&message.data, &message.event));

    let mut wire = Vec::new();
    push_event(&mut wire, name.as_deref(), Some("0-1"), data.encoded());
    let items = Parser::default().push(&wire);
    let [Item::Event(event)] = &items[..] else {
        panic!("one event, not {items:?}");
    };
    assert_eq!(event.name, name.unwrap_or_else(|| "message".into()));
    assert_eq!(event.data, super::sse_encode::normal(data.encoded()));
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
