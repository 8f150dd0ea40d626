//! Who may ask what: hosts, origins, the token, methods (EDGE O1, O2).

use std::net::IpAddr;

use http::header::{ALLOW, AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use ring::digest::{SHA256, digest};

use super::reply::{Body, problem};
use crate::config::Secret;

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names more than one host, so it can be read in two ways (RFC 9112 §3.2).
    Hosts,
    /// It names another host: a page elsewhere may have made a browser ask (DNS rebinding).
    Host,
    /// A page of another site asks.
    Origin,
    /// It lacks the token.
    Token,
    /// It wants to change something.
    Method,
}

impl Refusal {
    pub(super) fn response(self, id: &str) -> Response<Body> {
        let (status, detail, header) = match self {
            Self::Hosts => (
                StatusCode::BAD_REQUEST,
                "The request has more than one Host.",
                None,
            ),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "The admin listener is asked under a loopback name or its own address.",
                None,
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "Pages of other sites may not ask here.",
                None,
            ),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "This needs the token of the admin listener.",
                Some((WWW_AUTHENTICATE, "Bearer realm=\"wellspring admin\"")),
            ),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "This listener takes GET and HEAD.",
                Some((ALLOW, "GET, HEAD")),
            ),
        };
        let mut response = problem(status, detail, id);
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// `own` is the address that the request came in at. Who shows the token is no page of a browser that was tricked.
pub(super) fn check<B>(
    request: &Request<B>,
    own: IpAddr,
    token: Option<&Secret>,
) -> Result<(), Refusal> {
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Refusal::Hosts);
    }
    let shown = token.is_some_and(|token| shows(request, token));
    if !shown {
        let open = matches!(request.uri().path(), "/livez" | "/readyz");
        let host = request
            .uri()
            .host()
            .or_else(|| host(request.headers().get(HOST)?));
        // A page in a browser names a host, always; load balancers that ask in HTTP/1.0 do not.
        let nameless = open && !request.headers().contains_key(HOST);
        if !host.map_or(nameless, |host| is_ours(host, own)) {
            return Err(Refusal::Host);
        }
        let origin = request.headers().get(ORIGIN);
        if origin.is_some_and(|origin| !origin_host(origin).is_some_and(|host| is_ours(&host, own)))
        {
            return Err(Refusal::Origin);
        }
        if token.is_some() && !open {
            return Err(Refusal::Token);
        }
    }
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::Method),
    }
}

/// Compared as digests, so that the time it takes says nothing about the token.
fn shows<B>(request: &Request<B>, token: &Secret) -> bool {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let given = given.and_then(|given| given.split_at_checked(b"bearer ".len()));
    given.is_some_and(|(scheme, given)| {
        let (given, expected) = (
            digest(&SHA256, given.trim_ascii()),
            digest(&SHA256, token.expose().as_bytes()),
        );
        let differences = given
            .as_ref()
            .iter()
            .zip(expected.as_ref())
            .fold(0, |all, (a, b)| all | (a ^ b));
        scheme.eq_ignore_ascii_case(b"bearer ") && differences == 0
    })
}

/// The name in a Host, without the port.
fn host(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let end = text.rfind(':').filter(|&at| !text[at..].contains(']'));
    Some(&text[..end.unwrap_or(text.len())])
}

fn origin_host(origin: &HeaderValue) -> Option<String> {
    let uri: Uri = origin.to_str().ok()?.parse().ok()?;
    Some(uri.host()?.to_owned())
}

/// A loopback name, or the address that was asked.
fn is_ours(host: &str, own: IpAddr) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || address == own.to_canonical()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("builds")
    }

    fn verdict(path: &str, headers: &[(&str, &str)], token: Option<&str>) -> Result<(), Refusal> {
        let own = "10.1.2.3".parse().expect("an address");
        check(
            &request(path, headers),
            own,
            token.map(Secret::new).as_ref(),
        )
    }

    /// EDGE O2.
    #[test]
    fn only_our_own_names_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:9090",
            "10.1.2.3:9090",
        ] {
            assert_eq!(verdict("/", &[("host", host)], None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.example:9090",
            "10.1.2.4",
            "0.0.0.0",
            "",
            "127.0.0.1.nip.io",
        ] {
            assert_eq!(
                verdict("/livez", &[("host", host)], None),
                Err(Refusal::Host),
                "{host}"
            );
        }
        assert_eq!(verdict("/", &[], None), Err(Refusal::Host));
        // A load balancer that asks in HTTP/1.0.
        assert_eq!(verdict("/readyz", &[], None), Ok(()));
        let absolute = verdict("http://evil.example/", &[("host", "localhost")], None);
        assert_eq!(absolute, Err(Refusal::Host));
        for (origin, expected) in [
            ("http://localhost:9090", Ok(())),
            ("http://10.1.2.3", Ok(())),
            ("https://evil.example", Err(Refusal::Origin)),
            ("null", Err(Refusal::Origin)),
        ] {
            let headers = [("host", "localhost"), ("origin", origin)];
            assert_eq!(verdict("/", &headers, None), expected, "{origin}");
        }
    }

    /// CONTRACT §4, §6 Admin: the token is for everything but /livez and /readyz, and lifts the check of the host.
    #[test]
    fn the_token_is_needed_and_lifts_the_check() {
        const TOKEN: &str = "0123456789abcdef";
        let local = ("host", "localhost");
        let right = ("authorization", "bearer 0123456789abcdef");
        for path in ["/livez", "/readyz"] {
            assert_eq!(verdict(path, &[local], Some(TOKEN)), Ok(()), "{path}");
        }
        for given in [
            "",
            "Bearer",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            "é",
        ] {
            let headers = [local, ("authorization", given)];
            assert_eq!(
                verdict("/metrics", &headers, Some(TOKEN)),
                Err(Refusal::Token),
                "{given}"
            );
        }
        assert_eq!(
            verdict("/metrics", &[("host", "evil.example"), right], Some(TOKEN)),
            Ok(())
        );
        assert_eq!(
            verdict("/metrics", &[("host", "evil.example"), right], None),
            Err(Refusal::Host)
        );
    }
}
