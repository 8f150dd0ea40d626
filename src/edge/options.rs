//! `OPTIONS`, and methods that a path of ours does not take.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::cors::{self, Header};
use super::reply::{self, Rejection};
use super::request;
use super::route::Target;
use super::{Passing, Served, Visit, refuse};
use crate::config::Stream;

/// Methods of a stream's path.
pub(super) const OF_STREAM: &[&str] = &["GET", "HEAD", "OPTIONS"];

/// Methods of a path that a route serves, too.
const OF_ROUTE: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Methods of a path to publish to.
pub(super) const OF_PUBLISH: &[&str] = &["POST", "OPTIONS"];

/// Whether a request is a preflight that the gateway itself answers: it needs no credentials and costs nothing (EDGE C6).
pub(super) fn is_ours(request: &RequestHeader, target: &Target, passes: bool) -> bool {
    let methods = match target {
        Target::Stream(..) => OF_STREAM,
        Target::Publish(..) => OF_PUBLISH,
        Target::Refused(..) | Target::Other => return false,
    };
    let asked = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let takes = asked.is_some_and(|asked| methods.iter().any(|method| asked == method));
    request.method == Method::OPTIONS && cors::is_preflight(&request.headers) && (takes || !passes)
}

/// Whether a preflight for another method is the upstream's to decide: where that method goes to it, nobody is asked who he
/// is, and the file says nothing about origins.
pub(super) fn passes(stream: &Stream, has_route: bool, has_guard: bool) -> bool {
    has_route && !has_guard && stream.cors.origins.is_empty()
}

/// `OPTIONS *` asks what the gateway takes, wherever (RFC 9110 §9.3.7): nobody behind it can say that.
pub(super) async fn of_all(
    session: &mut Session,
    headers: &[Header],
    request_id: &str,
) -> pingora::Result<Served> {
    if request::has_body(&session.req_header().headers) {
        session.set_keepalive(None);
    }
    let mut headers = headers.to_vec();
    headers.extend(allow(OF_ROUTE));
    reply::respond(session, StatusCode::NO_CONTENT, &headers, None, request_id).await?;
    Ok(Served::Answered)
}

/// The headers of an answer that says which methods there are.
fn allow(methods: &[&str]) -> impl Iterator<Item = Header> {
    let allow = HeaderValue::from_str(&methods.join(", ")).ok();
    let no_store = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    std::iter::once(no_store).chain(allow.map(|allow| (ALLOW, allow)))
}

/// A preflight for what the gateway itself takes is answered before anything else could cost something (EDGE C6). Any other
/// `OPTIONS` is the route's, or gets `Allow` (C7).
pub(super) async fn options(
    session: &mut Session,
    visit: &Visit<'_>,
    methods: &'static [&'static str],
) -> pingora::Result<Served> {
    let request = &session.req_header().headers;
    let preflight = cors::is_preflight(request);
    if let Some(pass) = visit.route.filter(|_| !visit.answers_preflight) {
        return Ok(Served::Pass(match preflight {
            true => Passing::new(pass.clone(), None),
            false => visit.passing(session, pass),
        }));
    }
    let headers = match preflight {
        true => {
            let methods = visit.route.map_or(methods, |_| OF_ROUTE);
            cors::preflight_headers(&visit.stream.cors, request, methods)
        }
        false => {
            let mut headers = visit.headers.clone();
            headers.extend(allow(methods));
            headers
        }
    };
    let status = StatusCode::NO_CONTENT;
    reply::respond(session, status, &headers, None, visit.request_id).await?;
    Ok(Served::Answered)
}

/// Goes to the route, or is refused.
pub(super) async fn other_method(
    session: &mut Session,
    visit: &Visit<'_>,
    methods: &'static [&'static str],
) -> pingora::Result<Served> {
    match visit.route {
        Some(pass) => Ok(Served::Pass(visit.passing(session, pass))),
        None => {
            session.set_keepalive(None);
            let rejection = Rejection::MethodNotAllowed(methods.to_vec());
            refuse(session, &rejection, visit.request_id, &visit.headers).await
        }
    }
}
