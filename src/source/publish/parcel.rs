//! A published message on its way between replicas: one JSON object with a version. Pure.

use super::{Nonce, Published};
use crate::params::Params;
use crate::source::Message;
use crate::sse::EventName;
use crate::value::{Json, Value};

/// Of a parcel's form. Replicas of different releases may run side by side: what is not understood is refused.
const VERSION: &str = "1";

/// The data travels as a string, so that it arrives exactly as it was, and its own limits are all that bound it.
pub(super) fn pack(published: &Published) -> String {
    let Published {
        nonce,
        params,
        message,
    } = published;
    let string = |text: &str| Json::String(text.into());
    let kind = if message.data.is_text() {
        "text"
    } else {
        "json"
    };
    let data = string(message.data.encoded());
    let params = Json::Array(params.0.iter().map(|value| string(value)).collect());
    let event = message
        .event
        .as_ref()
        .map(|name| format!(r#","event":"{name}""#));
    let event = event.unwrap_or_default();
    format!(
        r#"{{"wellspring":{VERSION},"nonce":"{nonce}","params":{params}{event},"{kind}":{data}}}"#
    )
}

/// The error says why the payload is none that [`pack`] made; it is for the log.
pub(super) fn unpack(payload: &[u8]) -> Result<Published, String> {
    let parcel =
        Value::parse_json(payload).map_err(|error| format!("not a shared message: {error}"))?;
    let Some(Json::Object(members)) = parcel.as_json() else {
        return Err("not a shared message: no JSON object".into());
    };
    match members.get("wellspring") {
        Some(Json::Number(version)) if version.as_str() == VERSION => {}
        Some(_) => return Err("a shared message of another version".into()),
        None => return Err("not a shared message: no version".into()),
    }
    let text = |name: &str| members.get(name).and_then(Json::as_str);
    let nonce = text("nonce")
        .filter(|text| text.len() == 32)
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .ok_or("a shared message without a nonce")?;
    let params = match members.get("params") {
        Some(Json::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(Box::from))
            .collect(),
        _ => None,
    };
    let params = Params(params.ok_or("a shared message without parameters")?);
    let event = match members.get("event") {
        None => None,
        Some(Json::String(name)) => Some(EventName::parse(name)?),
        Some(_) => return Err("a shared message whose event is not a name".into()),
    };
    let data = match (text("json"), text("text")) {
        (Some(json), None) => {
            Value::parse_json(json.as_bytes()).map_err(|error| error.to_string())?
        }
        (None, Some(text)) => Value::from_text(text),
        _ => return Err("a shared message without data".into()),
    };
    Ok(Published {
        nonce: Nonce(nonce),
        params,
        message: Message { data, event },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn published(nonce: u128, params: &[&str], data: Value, event: Option<&str>) -> Published {
        Published {
            nonce: Nonce(nonce),
            params: Params(params.iter().map(|&value| value.into()).collect()),
            message: Message {
                data,
                event: event.map(|name| EventName::parse(name).expect("a name")),
            },
        }
    }

    #[test]
    fn numbers_and_depth_arrive_as_they_were() {
        let deepest = format!("{}1.10{}", "[".repeat(64), "]".repeat(64));
        let json = Value::parse_json(deepest.as_bytes()).expect("within the limits");
        let sent = published(9, &["a", "b"], json, Some("a.b-c_1"));
        let got = unpack(pack(&sent).as_bytes()).expect("unpacked");
        assert_eq!(got, sent);
        assert_eq!(got.message.data.encoded(), deepest);
    }

    #[test]
    fn foreign_messages_are_refused() {
        let good = pack(&published(7, &["p"], Value::from_text("x"), Some("e")));
        assert!(unpack(good.as_bytes()).is_ok());
        let broken = [
            good.replace("\"wellspring\":1", "\"wellspring\":2"),
            good.replace("\"wellspring\":1,", ""),
            good.replace("00000007", "0000007"),
            good.replace("00000007", "0000000g"),
            good.replace("\"params\":[\"p\"],", ""),
            good.replace("[\"p\"]", "[1]"),
            good.replace("\"e\"", "\"e\\n\""),
            good.replace("\"e\"", "5"),
            good.replace("\"text\":\"x\"", "\"text\":1"),
            good.replace("\"text\":\"x\"", "\"json\":\"{\""),
            good.replace("\"text\":\"x\"", "\"text\":\"x\",\"json\":\"1\""),
            good.replace('}', ""),
            "[]".to_owned(),
            String::new(),
        ];
        for bad in broken {
            assert!(unpack(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_was(text: String, param: String, nonce: u128) {
            let sent = published(nonce, &[&param], Value::from_text(text), None);
            prop_assert_eq!(unpack(pack(&sent).as_bytes()).expect("unpacked"), sent);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes);
        }
    }
}
