//! `OPTIONS`, and methods that a path of ours does not take.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL};
use http::{HeaderValue, StatusCode};
use pingora::proxy::Session;

use super::cors;
use super::reply::{self, Rejection};
use super::{Passing, Served, Visit, refuse};

/// A preflight for what the gateway itself takes is answered before anything else could cost something (EDGE C6). One for
/// another method is the upstream's to decide, as that method goes to it. Any other `OPTIONS` is the route's, or gets `Allow` (C7).
pub(super) async fn options(
    session: &mut Session,
    visit: &Visit<'_>,
    methods: &'static [&'static str],
) -> pingora::Result<Served> {
    let request = &session.req_header().headers;
    let preflight = cors::is_preflight(request);
    let asked = request.get(ACCESS_CONTROL_REQUEST_METHOD);
    let ours = asked.is_some_and(|asked| methods.iter().any(|method| asked == method));
    if let Some(pass) = visit.route.filter(|_| !(preflight && ours)) {
        return Ok(Served::Pass(match preflight {
            true => Passing::unchanged(pass.clone()),
            false => visit.passing(session, pass),
        }));
    }
    let headers = match preflight {
        true => cors::preflight_headers(&visit.stream.cors, request, methods),
        false => {
            let mut headers = visit.headers.clone();
            headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
            if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
                headers.push((ALLOW, allow));
            }
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
