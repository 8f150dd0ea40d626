//! Heads on their way: what the gateway changes in a request, and in an answer. Everything else passes as it is (EDGE P15).

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use url::Url;

use crate::edge::client_address::ClientAddress;

/// What a proxy in front is wont to say besides `X-Forwarded-*`.
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What an answer says about the connection to the upstream.
const OURS: [HeaderName; 6] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    UPGRADE,
];

/// The gateway's name in `Via`.
const PSEUDONYM: &str = "wellspring";

/// So many gateways of this kind may stand in a row; more are a loop (EDGE P20).
pub(in crate::edge) const MAX_HOPS: usize = 5;

/// Rewrites a request's head for the upstream at `url`: its own host, `authority`, the base path, and who asked (EDGE P20, P21). Credentials
/// are the client's own: those that the gateway polls with would be lent to anybody who reaches its port.
pub(super) fn rewrite(
    url: &Url,
    authority: HeaderValue,
    original: &RequestHeader,
    request: &mut RequestHeader,
    client: &ClientAddress,
) -> pingora::Result<()> {
    let base = url.path().trim_end_matches('/');
    let target = original
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    // A path alone is what an upstream without a base path is asked for.
    if !base.is_empty() || original.uri.authority().is_some() {
        let uri: Uri = format!("{base}{target}")
            .parse()
            .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "target", error))?;
        request.set_uri(uri);
    }
    // What an untrusted client says about hops before it is not passed on.
    for name in hop_claims(&request.headers) {
        request.remove_header(&name);
    }
    // HTTP/2 has an authority in place of the header.
    let host = client.host.as_ref().or(original.headers.get(HOST));
    let host = host.cloned().or_else(|| {
        let authority = original.uri.authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    });
    if let Some(host) = host {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    request.insert_header("Host", authority)?;
    request.insert_header("X-Forwarded-For", client.forwarded_for())?;
    request.insert_header("X-Forwarded-Proto", HeaderValue::from_static(client.proto))?;
    request.append_header("Via", via(original.version))?;
    Ok(())
}

/// Takes what is meant for us alone out of an answer (EDGE P6), and says that it came through here (P20). Framing is left to
/// Pingora. `101` is all about the connection, and stays as it is.
pub(in crate::edge) fn clean(response: &mut ResponseHeader) -> pingora::Result<()> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    for name in nominated(&response.headers) {
        response.remove_header(&name);
    }
    let ours = response.headers.keys().filter(|name| OURS.contains(name));
    for name in ours.cloned().collect::<Vec<_>>() {
        response.remove_header(&name);
    }
    response.append_header("Via", via(response.version))?;
    Ok(())
}

/// Whether an answer may pause for as long as it likes: event streams, and connections that speak something else from here.
pub(in crate::edge) fn may_pause(response: &ResponseHeader) -> bool {
    let essence = response
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    response.status == StatusCode::SWITCHING_PROTOCOLS
        || essence.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// How many gateways of this kind a request has come through.
pub(in crate::edge) fn hops(headers: &HeaderMap) -> usize {
    let lines = headers.get_all(VIA).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter(|hop| hop.split_ascii_whitespace().nth(1) == Some(PSEUDONYM))
        .count()
}

fn via(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_10 => "1.0 wellspring",
        Version::HTTP_2 => "2 wellspring",
        _ => "1.1 wellspring",
    })
}

/// The fields that `Connection` names as its own, without those that make up the framing.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != TRANSFER_ENCODING && *name != CONTENT_LENGTH)
        .collect()
}

/// The headers that tell who asked and by which way.
fn hop_claims(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_claim = |name: &&HeaderName| {
        **name == FORWARDED || **name == REAL_IP || name.as_str().starts_with("x-forwarded-")
    };
    headers.keys().filter(is_claim).cloned().collect()
}

/// The `Host` of requests to `url`.
pub(super) fn authority(url: &Url) -> HeaderValue {
    let host = url.host_str().unwrap_or_default();
    let text = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(200, None).expect("builds");
        for (name, value) in lines {
            response.append_header(*name, *value).expect("appends");
        }
        response
    }

    /// EDGE P6.
    #[test]
    fn what_is_meant_for_one_hop_does_not_pass() {
        let mut answer = response(&[
            ("connection", "close, X-Own"),
            ("connection", "content-length"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
            ("x-own", "1"),
            ("content-length", "3"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        clean(&mut answer).expect("cleans");
        let names: Vec<&str> = answer.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "set-cookie", "via"]);
        assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn a_switch_of_protocols_passes_whole() {
        let mut answer = response(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        answer.set_status(101).expect("sets");
        clean(&mut answer).expect("cleans");
        assert!(answer.headers.contains_key("upgrade"));
        assert!(answer.headers.contains_key("connection"));
    }

    /// EDGE P16.
    #[test]
    fn event_streams_may_pause() {
        for (kind, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream ; charset=utf-8", true),
            ("text/event-streams", false),
            ("application/json", false),
        ] {
            assert_eq!(
                may_pause(&response(&[("content-type", kind)])),
                expected,
                "{kind}"
            );
        }
        assert!(!may_pause(&response(&[])));
    }

    /// EDGE P20.
    #[test]
    fn gateways_on_the_way_are_counted() {
        let mut headers = HeaderMap::new();
        for line in [
            "1.1 wellspring, 1.0 fred",
            "2 wellspring (x)",
            "1.1 wellspring.example",
        ] {
            headers.append(VIA, HeaderValue::from_static(line));
        }
        assert_eq!(hops(&headers), 2);
    }
}
