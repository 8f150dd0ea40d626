//! Cross-origin headers (WHATWG Fetch; EDGE §4). Decides headers only: it is never access control (C17).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use crate::config::{Cors, CorsOrigin};

/// A header to add to a response.
pub(super) type Header = (HeaderName, HeaderValue);

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Whether a request is a preflight (C6): `OPTIONS` with both headers.
pub(super) fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Headers of every response but a preflight's: also of errors, and of requests without `Origin` (C3, C12).
pub(super) fn response_headers(cors: &Cors, request: &HeaderMap) -> Vec<Header> {
    let mut headers = Vec::new();
    let policy = match cors.origins.is_empty() {
        true => "same-origin",
        false => "cross-origin",
    };
    headers.push((RESOURCE_POLICY, HeaderValue::from_static(policy)));
    if cors.origins.is_empty() {
        return headers;
    }
    if fixed_origin(cors).is_none() {
        headers.push((VARY, HeaderValue::from_static("Origin")));
    }
    let Some(origin) = fixed_origin(cors).or_else(|| matching_origin(cors, request)) else {
        return headers;
    };
    headers.extend(grant(cors, origin));
    if !cors.expose_headers.is_empty() {
        headers.push((ACCESS_CONTROL_EXPOSE_HEADERS, list(&cors.expose_headers)));
    }
    headers
}

/// Headers of a response that an upstream gave on a path whose policy is the gateway's (C12, C13). `None`: the policy is
/// the upstream's own.
pub(super) fn passed_headers(cors: &Cors, request: &HeaderMap) -> Option<Vec<Header>> {
    let mut headers = response_headers(cors, request);
    headers.retain(|(name, _)| name != RESOURCE_POLICY);
    (!cors.origins.is_empty()).then_some(headers)
}

/// Puts `headers` in the place of what an upstream says about origins: two answers are none to a browser (C13).
pub(super) fn replace(response: &mut ResponseHeader, headers: &[Header]) -> pingora::Result<()> {
    let theirs: Vec<HeaderName> = response
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in &theirs {
        response.remove_header(name);
    }
    for (name, value) in headers {
        response.append_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// Headers of the answer to a preflight for a path that takes `methods`. What is not allowed gets none but `Vary` (C9).
pub(super) fn preflight_headers(cors: &Cors, request: &HeaderMap, methods: &[&str]) -> Vec<Header> {
    const ASKED: HeaderValue = HeaderValue::from_static(
        "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    );
    let mut headers = vec![(VARY, ASKED)];
    let method = request
        .get(ACCESS_CONTROL_REQUEST_METHOD)
        .and_then(|method| method.to_str().ok());
    let allowed = method.is_some_and(|method| methods.contains(&method))
        && asks_for_allowed_headers(cors, request);
    let origin = matching_origin(cors, request).map(|origin| {
        match cors.origins.contains(&CorsOrigin::Any) {
            true => HeaderValue::from_static("*"),
            false => origin,
        }
    });
    let (true, Some(origin)) = (allowed, origin) else {
        return headers;
    };
    headers.extend(grant(cors, origin));
    if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
        headers.push((ACCESS_CONTROL_ALLOW_METHODS, methods));
    }
    if !cors.allow_headers.is_empty() {
        headers.push((ACCESS_CONTROL_ALLOW_HEADERS, list(&cors.allow_headers)));
    }
    headers.push((
        ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from(cors.max_age.as_secs()),
    ));
    headers
}

/// Lets `origin` in, with credentials where the file says so (C5).
fn grant(cors: &Cors, origin: HeaderValue) -> impl Iterator<Item = Header> {
    let credentials = (
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    let credentials = cors.credentials.then_some(credentials);
    std::iter::once((ACCESS_CONTROL_ALLOW_ORIGIN, origin)).chain(credentials)
}

/// The answer that does not depend on who asks: `*`, or the only origin there is (C3).
fn fixed_origin(cors: &Cors) -> Option<HeaderValue> {
    match cors.origins.as_slice() {
        [only @ CorsOrigin::Exact { .. }] => HeaderValue::from_str(&only.to_string()).ok(),
        origins if origins.contains(&CorsOrigin::Any) => Some(HeaderValue::from_static("*")),
        _ => None,
    }
}

/// The request's own origin, when it is allowed (C1, C4).
fn matching_origin(cors: &Cors, request: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = request.get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return None;
    };
    let text = origin.to_str().ok()?;
    cors.origins
        .iter()
        .any(|allowed| allowed.matches(text))
        .then(|| origin.clone())
}

/// Whether the request's origin is one of those that the file names: `*` names nobody (C15).
pub(super) fn is_listed(cors: &Cors, request: &HeaderMap) -> bool {
    !cors.origins.contains(&CorsOrigin::Any) && matching_origin(cors, request).is_some()
}

/// Whether every header that a preflight names is on the list (C8).
fn asks_for_allowed_headers(cors: &Cors, request: &HeaderMap) -> bool {
    request
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .all(|line| {
            line.to_str().is_ok_and(|line| {
                let mut names = line
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                names.all(|name| {
                    cors.allow_headers
                        .iter()
                        .any(|allowed| allowed.as_str().eq_ignore_ascii_case(name))
                })
            })
        })
}

fn list(names: &[HeaderName]) -> HeaderValue {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    // Header names are made of characters that values may hold.
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}
