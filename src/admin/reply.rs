//! Responses, and what all of them have.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body as _;
use serde_json::Value;

pub(super) type Body = Full<Bytes>;

/// One line of JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// Text of a media type.
pub(super) fn text(media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    set(&mut response, CONTENT_TYPE, media_type);
    response
}

/// RFC 9457 (EDGE F1, F2).
pub(super) fn problem(status: StatusCode, detail: &str, id: &str) -> Response<Body> {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "instance": id,
    });
    let mut response = json(status, &problem);
    set(&mut response, CONTENT_TYPE, "application/problem+json");
    response
}

/// Adds what every response has. `HEAD` gets the length of the body that `GET` would have got.
pub(super) fn finish(mut response: Response<Body>, id: &str, head_only: bool) -> Response<Body> {
    set(&mut response, CACHE_CONTROL, "no-store");
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Ok(id) = HeaderValue::from_str(id) {
        let name = HeaderName::from_static("x-request-id");
        response.headers_mut().insert(name, id);
    }
    if head_only {
        let length = response.body().size_hint().lower();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        *response.body_mut() = Body::default();
    }
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}
