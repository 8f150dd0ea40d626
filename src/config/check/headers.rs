//! Headers that the file sets: on polls, on requests that are passed through, on responses (EDGE P22, H1, H2, H6).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::read::Item;
use super::all;
use super::text::Names;
use crate::params::{ParamText, Part};

/// Why a header may not be set, if it may not.
type Reserved = fn(&HeaderName, Option<&str>) -> Option<&'static str>;

/// Headers of every request to an upstream. Their values may be secrets and are marked so.
pub(super) fn of_requests(item: &Item<'_>) -> Option<HeaderMap> {
    let headers = read(item, reserved_in_requests, |value| {
        let mut parsed = header_value(value)?;
        parsed.set_sensitive(true);
        Some(parsed)
    })?;
    Some(headers.into_iter().collect())
}

/// Headers of one stream's polls, with parameters.
pub(super) fn with_params(item: &Item<'_>, names: &Names) -> Option<Vec<(HeaderName, ParamText)>> {
    read(item, reserved_in_requests, |value| {
        let text = value.parsed(super::text::HINT, |text| names.text(text))?;
        for part in &text.0 {
            if let Part::Literal(literal) = part {
                check_value(value, literal)?;
            }
        }
        Some(text)
    })
}

/// Headers of a stream's responses.
pub(super) fn of_responses(item: &Item<'_>) -> Option<HeaderMap> {
    Some(
        read(item, reserved_in_responses, header_value)?
            .into_iter()
            .collect(),
    )
}

/// Request headers that polls take over from clients.
pub(super) fn forwarded(item: &Item<'_>) -> Option<Vec<HeaderName>> {
    let mut seen: Vec<HeaderName> = Vec::new();
    all(item.list()?.iter().map(|item| {
        let name = name(item)?;
        if let Some(why) = reserved_in_forwarding(&name) {
            item.problem(format!("{why} (remove it)"));
            return None;
        }
        if seen.contains(&name) {
            item.problem("the header stands twice (remove one)");
            return None;
        }
        seen.push(name.clone());
        Some(name)
    }))
}

/// A header's name. `*` is one to the grammar (RFC 9110 §5.6.2) and never what is meant.
pub(super) fn name(item: &Item<'_>) -> Option<HeaderName> {
    item.parsed("write a name such as x-request-id", |text| match text {
        "*" => Err("`*` does not stand for all headers".into()),
        text => text.parse().map_err(|_| "this is no header name".into()),
    })
}

fn read<T>(
    item: &Item<'_>,
    reserved: Reserved,
    read_value: impl Fn(&Item<'_>) -> Option<T>,
) -> Option<Vec<(HeaderName, T)>> {
    let mut seen: Vec<HeaderName> = Vec::new();
    all(item.entries()?.into_iter().map(|(key, value)| {
        let value = value.hide();
        let parsed = name(&key);
        let value = read_value(&value).map(|parsed| (parsed, value.text()));
        let (name, (value, text)) = (parsed?, value?);
        if let Some(why) = reserved(&name, text.as_deref()) {
            key.problem(format!("{why} (remove it)"));
            return None;
        }
        if seen.contains(&name) {
            key.problem("the header stands twice, in another case (remove one)");
            return None;
        }
        seen.push(name.clone());
        Some((name, value))
    }))
}

fn header_value(item: &Item<'_>) -> Option<HeaderValue> {
    let text = item.text()?;
    check_value(item, &text)?;
    HeaderValue::from_str(&text).ok()
}

fn check_value(item: &Item<'_>, text: &str) -> Option<()> {
    if text.contains(['\r', '\n', '\0']) {
        item.problem("a header cannot hold a line break or NUL (write one line)");
        return None;
    }
    if !text.is_ascii() || HeaderValue::from_str(text).is_err() {
        item.problem("a header holds visible ASCII only (encode the rest)");
        return None;
    }
    Some(())
}

/// Framing is the connection's own (RFC 9110 §7.6.1), and so are the validators of shared polls (EDGE U14).
fn reserved_in_requests(name: &HeaderName, _: Option<&str>) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("Host is the upstream's own, from its url"),
        "if-none-match"
        | "if-modified-since"
        | "if-match"
        | "if-unmodified-since"
        | "if-range"
        | "range" => Some("conditions are set by the gateway"),
        "expect" => Some("the gateway expects nothing"),
        other => hop_by_hop(other),
    }
}

/// What the gateway decides for itself about a poll, and what does not tell one client from another for long.
fn reserved_in_forwarding(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "accept" | "accept-encoding" | "content-type" | "content-encoding" => {
            Some("the gateway asks for what it can read")
        }
        "last-event-id" | "prefer" | "cache-control" | "pragma" => {
            Some("this header is for the gateway")
        }
        "forwarded" | "via" | "x-real-ip" | "x-request-id" => Some("the gateway sets this header"),
        other if other.starts_with("x-forwarded-") => Some("the gateway sets this header"),
        other if other.starts_with("proxy-") => Some("this header is for the next proxy alone"),
        _ => reserved_in_requests(name, None),
    }
}

fn reserved_in_responses(name: &HeaderName, value: Option<&str>) -> Option<&'static str> {
    match name.as_str() {
        // RFC 9110 §8.4 knows no such coding; some hops leave a coded response alone (EDGE H6).
        "content-encoding" if value == Some("none") => None,
        "content-encoding" => Some("only the value none is offered"),
        "content-type"
        | "cache-control"
        | "x-accel-buffering"
        | "x-content-type-options"
        | "vary"
        | "date"
        | "x-request-id"
        | "x-wellspring-state"
        | "preference-applied"
        | "age"
        | "retry-after"
        | "ratelimit"
        | "ratelimit-policy"
        | "allow"
        | "www-authenticate" => Some("the gateway sets this header"),
        "etag" | "last-modified" | "accept-ranges" | "content-range" | "set-cookie" | "expires" => {
            Some("a stream has no such header")
        }
        "cross-origin-resource-policy" => Some("cors decides about this header"),
        "strict-transport-security" => {
            Some("listeners are plain HTTP, where this header is not allowed")
        }
        other if other.starts_with("access-control-") => Some("cors decides about this header"),
        other => hop_by_hop(other),
    }
}

fn hop_by_hop(name: &str) -> Option<&'static str> {
    match name {
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer"
        | "transfer-encoding" | "upgrade" | "content-length" | "http2-settings" => {
            Some("framing belongs to the connection")
        }
        _ => None,
    }
}
