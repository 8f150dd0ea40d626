//! What a request's head says, and what makes it readable in two ways.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::http::RequestHeader;

use super::front::{MAX_HEADERS, MAX_LINE};
use super::reply::Rejection;

/// The host that a request is for, with its port if it says one: of HTTP/2 its `:authority`, or else `Host`.
pub(super) fn host(request: &RequestHeader) -> Option<&str> {
    let authority = request.uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| request.headers.get(HOST)?.to_str().ok())
}

/// The same without its port.
pub(super) fn host_name(request: &RequestHeader) -> Option<&str> {
    let host = host(request)?;
    let after_address = host.rfind(']').map_or(0, |at| at + 1);
    let end = host[after_address..].find(':');
    Some(end.map_or(host, |end| &host[..after_address + end]))
}

/// Why an HTTP/2 request is not taken: it cannot be read in one way only (EDGE P3, X6), or is beyond what a head may be
/// (P10); the size of its fields HTTP/2 itself has bounded. Of HTTP/1 the head was read before Pingora had it.
pub(super) fn fault(request: &RequestHeader) -> Option<Rejection> {
    if request.version != Version::HTTP_2 {
        return None;
    }
    let target = request
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let is_target = target == "*" || target.starts_with('/');
    if !is_target || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(Rejection::BadRequest("The request target is none."));
    }
    if request
        .headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .nth(1)
        .is_some()
    {
        let why = "The request has more than one Content-Length.";
        return Some(Rejection::BadRequest(why));
    }
    match host(request) {
        Some(host) if is_authority(host.as_bytes()) => {}
        _ => return Some(Rejection::BadRequest("The authority is no host name.")),
    }
    if target.len() > MAX_LINE {
        return Some(Rejection::UriTooLong);
    }
    (request.headers.len() > MAX_HEADERS).then_some(Rejection::HeadTooLarge)
}

/// Takes out an `Upgrade` that is to be ignored (RFC 9110 §7.8): `Connection` does not name it, or HTTP/1.0 knows none. Who reads
/// the request next looks at the field alone.
pub(super) fn drop_idle_upgrade(request: &mut RequestHeader) {
    if !request.headers.contains_key(UPGRADE) {
        return;
    }
    let options = joined(&request.headers, CONNECTION).unwrap_or_default();
    let mut options = options.split(',').map(str::trim);
    let is_named = options.any(|option| option.eq_ignore_ascii_case("upgrade"));
    if request.version != Version::HTTP_11 || !is_named {
        request.remove_header(&UPGRADE);
    }
}

/// All lines of a header as one, `None` when there is none.
pub(super) fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// Whether the head announces a body.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0")
}

/// Whether the client waits for `100 Continue` before it sends its body (RFC 9110 §10.1.1).
pub(super) fn awaits_continue(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_11
        && request
            .headers
            .get(EXPECT)
            .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The client's own id when it is a harmless one (EDGE O9), else a new one.
pub(super) fn id(given: &[u8]) -> String {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match std::str::from_utf8(given) {
        Ok(given) if (1..=64).contains(&given.len()) && given.as_bytes().iter().all(harmless) => {
            given.to_owned()
        }
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digit = |byte: u8| char::from(DIGITS[usize::from(byte)]);
            let mut id = String::with_capacity(32);
            for byte in fastrand::u128(..).to_be_bytes() {
                id.push(digit(byte >> 4));
                id.push(digit(byte & 15));
            }
            id
        }
    }
}

/// What a stream's query may say; other parameters mean nothing here (EDGE I10).
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) deliver: Option<String>,
    pub(super) last_event_id: Option<String>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "deliver" => parsed.deliver = Some(value.into_owned()),
                "lastEventId" => parsed.last_event_id = Some(value.into_owned()),
                _ => {}
            }
        }
        parsed
    }
}

/// A host and perhaps a port (RFC 3986 §3.2.2), strictly: a name of non-empty labels or an address, no userinfo, no escapes.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (Some(&text[..end]), &text[end..])
        }
    };
    let port_is_fine = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some("") => true,
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
    };
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
        !label.is_empty() && label.bytes().all(fits)
    };
    // One dot at the end is the root of the name space.
    let is_name = |host: &str| {
        host.strip_suffix('.')
            .unwrap_or(host)
            .split('.')
            .all(is_label)
    };
    port_is_fine && host.is_none_or(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE P3.
    #[test]
    fn hosts_are_names_or_addresses() {
        for host in [
            "a",
            "a.b",
            "a.b.",
            "my_app:8080",
            "10.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "a:",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "", ".", "a..b", ".a", "a b", "u@a", "a:b", "a:80:80", "a:65536", "a:+1", "[::1",
            "::1", "[x]", "[::1]x", "a/b", "a,b", "a%20", "é", "a\u{1}", ":80",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    /// EDGE P23: ports are not looked at, and an address keeps its brackets.
    #[test]
    fn hosts_are_told_from_ports() {
        for (host, name) in [
            ("a.b:80", "a.b"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).expect("builds");
            request.insert_header(HOST, host).expect("inserts");
            assert_eq!(host_name(&request), Some(name));
        }
    }

    #[test]
    fn harmless_ids_are_kept() {
        assert_eq!(id(b"a-b_c.9"), "a-b_c.9");
        for given in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert_eq!(id(given.as_bytes()).len(), 32, "{given:?}");
        }
    }
}
