//! `POST` of a message: read it, hand it over, answer with its id (CONTRACT.md §3, "Publish").

use std::time::Instant;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use pingora::proxy::Session;
use tokio::time::timeout_at;

use super::cors::Header;
use super::pace::{Floor, Pace};
use super::reply::{self, Rejection};
use super::request;
use crate::channel::EventId;
use crate::value::Value;

/// Reads the body as the message that it is: JSON under a JSON content type, else text.
pub(super) async fn message(
    session: &mut Session,
    max_body: usize,
    floor: Floor,
) -> pingora::Result<Result<Value, Rejection>> {
    let content_type = session
        .get_header(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let json =
        essence == "application/json" || essence == "text/json" || essence.ends_with("+json");
    // A body that says it is too long is not asked for.
    let length = session.get_header(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > max_body) {
        return Ok(Err(Rejection::PayloadTooLarge(max_body)));
    }
    if request::awaits_continue(session.req_header()) {
        session.write_continue_response().await?;
    }
    let mut body = Vec::new();
    let mut pace = Pace::new(floor, Instant::now());
    loop {
        let Ok(read) = timeout_at(pace.until().into(), session.read_request_body()).await else {
            return Ok(Err(Rejection::BodyTimeout));
        };
        let Some(piece) = read? else {
            break;
        };
        pace.add(piece.len());
        if body.len() + piece.len() > max_body {
            return Ok(Err(Rejection::PayloadTooLarge(max_body)));
        }
        body.extend_from_slice(&piece);
    }
    Ok(match json {
        true => Value::parse_json(&body)
            .map_err(|_| Rejection::BadRequest("The body is not valid JSON.")),
        false => Value::parse_text(&body)
            .map_err(|_| Rejection::BadRequest("The body is not valid UTF-8 text.")),
    })
}

/// `202` with the id under which clients get the message.
pub(super) async fn accepted(
    session: &mut Session,
    id: EventId,
    request_id: &str,
    headers: &[Header],
) -> pingora::Result<()> {
    let mut own = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    own.extend_from_slice(headers);
    let body = format!(r#"{{"id":"{id}"}}"#);
    reply::respond(
        session,
        StatusCode::ACCEPTED,
        &own,
        Some(body.into()),
        request_id,
    )
    .await
}
