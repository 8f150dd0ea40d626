//! What a request's head says, and what makes it readable in two ways.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::http::RequestHeader;

/// Why a request cannot be read in one way only (EDGE P2, P3); such a request is refused and its connection ends.
/// `raw` is the head as received: Pingora drops a Content-Length beside a Transfer-Encoding before it shows the head.
pub(super) fn fault(request: &RequestHeader, raw: &[u8]) -> Option<&'static str> {
    if request.headers.contains_key(TRANSFER_ENCODING) && names(raw, &CONTENT_LENGTH) {
        return Some("The request has both Content-Length and Transfer-Encoding.");
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version == Version::HTTP_11 => Some("The request has no Host."),
        (Some(_), Some(_)) => Some("The request has more than one Host."),
        (Some(host), None) if !is_authority(host.as_bytes()) => Some("Host is no host name."),
        _ => None,
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
        _ => format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
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

/// Whether a line of the head is this header. The head was parsed already, so no line is folded and names end in a colon.
fn names(raw: &[u8], wanted: &HeaderName) -> bool {
    raw.split(|&byte| byte == b'\n').any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        name.eq_ignore_ascii_case(wanted.as_str().as_bytes())
    })
}

/// A host and perhaps a port (RFC 3986 §3.2.2), strictly: a name of non-empty labels or an address, no userinfo, no escapes.
fn is_authority(text: &[u8]) -> bool {
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

    /// EDGE P2: the raw head is asked, as the parsed one has no Content-Length any more.
    #[test]
    fn two_framings_are_a_fault() {
        let mut request = RequestHeader::build("POST", b"/", None).expect("builds");
        request.insert_header(HOST, "a").expect("inserts");
        let both = b"POST / HTTP/1.1\r\nHost: a\r\nContent-LENGTH: 3\r\ntransfer-encoding: chunked\r\n\r\n";
        let one = b"POST / HTTP/1.1\r\nHost: a\r\nx-content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(fault(&request, both), None);
        request
            .insert_header(TRANSFER_ENCODING, "chunked")
            .expect("inserts");
        assert!(fault(&request, both).is_some());
        assert_eq!(fault(&request, one), None);
    }

    #[test]
    fn harmless_ids_are_kept() {
        assert_eq!(id(b"a-b_c.9"), "a-b_c.9");
        for given in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert_eq!(id(given.as_bytes()).len(), 32, "{given:?}");
        }
    }
}
