//! The envelope of the Flask-SSE package: `{"data": ..., "type": ..., "id": ..., "retry": ...}` (CONTRACT.md §3, §6). Pure.

use crate::source::Message;
use crate::sse::EventName;
use crate::value::{Json, Value};

/// `type` becomes the event name and must be one (EDGE E6); `data` is the data, a string as text, anything else as JSON.
/// `id` and `retry` are ignored: ids are the gateway's own. The error is for the log.
pub fn open_flask_sse(payload: &[u8]) -> Result<Message, String> {
    let envelope =
        Value::parse_json(payload).map_err(|error| format!("not an envelope: {error}"))?;
    let Some(Json::Object(members)) = envelope.as_json() else {
        return Err("not an envelope: no JSON object".into());
    };
    let event = match members.get("type") {
        None | Some(Json::Null) => None,
        Some(Json::String(name)) => Some(
            EventName::parse(name)
                .map_err(|error| format!("the `type` of the envelope: {error}"))?,
        ),
        Some(_) => return Err("the `type` of the envelope is not a string".into()),
    };
    let data = match members.get("data") {
        Some(Json::String(text)) => Value::from_text(text.clone()),
        Some(json) => Value::from_json(json.clone()),
        None => return Err("the envelope has no `data`".into()),
    };
    Ok(Message { data, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(payload: &str) -> Result<(String, bool, Option<String>), String> {
        open_flask_sse(payload.as_bytes()).map(|message| {
            let event = message.event.map(|name| name.as_str().to_owned());
            (
                message.data.encoded().to_owned(),
                message.data.is_text(),
                event,
            )
        })
    }

    #[test]
    fn data_is_text_when_it_is_a_string_and_json_otherwise() {
        let text = |data: &str, event: Option<&str>| {
            Ok((data.to_owned(), true, event.map(ToOwned::to_owned)))
        };
        let json = |data: &str| Ok((data.to_owned(), false, None));
        assert_eq!(
            open(r#"{"data": "Hello\nworld", "type": "greeting", "id": "7\n", "retry": 1}"#),
            text("Hello\nworld", Some("greeting"))
        );
        assert_eq!(open(r#"{"data": "{\"a\": 1}"}"#), text("{\"a\": 1}", None));
        assert_eq!(
            open(r#"{"data": {"price": 1.10}, "type": null}"#),
            json(r#"{"price":1.10}"#)
        );
        assert_eq!(open(r#"{"data": null}"#), json("null"));
    }

    /// EDGE E6, E4: what an upstream sends never becomes a field of the stream unchecked.
    #[test]
    fn hostile_types_and_missing_data_drop_the_message() {
        for bad in [
            r#"{"data": "x", "type": "a\nid: 9"}"#,
            r#"{"data": "x", "type": "a\u0000"}"#,
            r#"{"data": "x", "type": ""}"#,
            r#"{"data": "x", "type": 7}"#,
            r#"{"type": "a"}"#,
            r#"["data"]"#,
            "data",
            "",
        ] {
            assert!(open(bad).is_err(), "{bad}");
        }
        assert!(open_flask_sse(b"{\"data\": \"\xff\"}").is_err());
    }
}
