//! The only place that turns a refusal into a response (RFC 9457; EDGE §14).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::access_log::{Refused, RequestId};
use super::cors::Header;
use super::limit::{Excess, Limit, whole_seconds};
use crate::metrics::Refusal;

pub(super) const REQUEST_ID: &str = "x-request-id";

/// Why a request gets no stream and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The request cannot be read in one way only.
    BadRequest(&'static str),
    /// The request line is longer than any request needs.
    UriTooLong,
    /// The head is longer, or has more lines, than any request needs.
    HeadTooLarge,
    /// The head did not come in time.
    HeadTimeout,
    /// The body came too slowly.
    BodyTimeout,
    /// A version of HTTP that is not spoken here.
    VersionNotSupported,
    /// A transfer coding that is not understood here.
    CodingNotSupported,
    /// The host is none of those that the listener serves.
    Misdirected,
    /// Nobody showed who they are, or nobody that is known; how to.
    Unauthorized(Vec<HeaderValue>),
    /// Somebody who is known, without a right to this; what would give it.
    Forbidden(Vec<HeaderValue>),
    /// A browser sent its cookie along for a page that this path does not know.
    CrossSite,
    /// As many requests as the gateway can pass through at once are under way.
    Busy,
    /// Tokens cannot be checked, as their issuer's keys are not there.
    NoTokenKeys {
        /// When to try again.
        retry: Duration,
    },
    /// Nothing is served here.
    NotFound,
    /// A stream serves such paths, but its pattern refuses a parameter.
    BadParameter,
    /// The source says that the resource does not exist.
    Gone,
    /// The path takes other methods.
    MethodNotAllowed(Vec<&'static str>),
    /// Nothing that the client takes.
    NotAcceptable(String),
    /// The body is longer than this many bytes.
    PayloadTooLarge(usize),
    /// More than allowed.
    Limited(Excess),
    /// There is no value yet, and the source fails, with this cause class.
    SourceFails {
        /// The class.
        cause: &'static str,
        /// When to try again.
        retry: Duration,
    },
    /// No answer from the source within the time that a client can be held.
    NotYet {
        /// When to try again.
        retry: Duration,
    },
    /// The server that shares published messages cannot be reached.
    PublishFailed,
    /// What was to serve the request went away with a change of the configuration, or to a new process.
    Reloaded,
    /// The upstream of a passed-through request gave no (good) answer.
    BadGateway,
    /// The upstream of a passed-through request did not answer in time.
    GatewayTimeout,
    /// The request has come through too many gateways of this kind.
    Loop,
    /// A fault of the gateway.
    Internal,
}

impl Rejection {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::CodingNotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::NoTokenKeys { .. } | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound | Self::BadParameter | Self::Gone => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::PayloadTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Limited(excess) if excess.is_overload() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::SourceFails { .. }
            | Self::NotYet { .. }
            | Self::PublishFailed
            | Self::Reloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// As it is counted.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::BadRequest(_) => Refusal::BadRequest,
            Self::UriTooLong | Self::HeadTooLarge => Refusal::HeadTooLarge,
            Self::HeadTimeout => Refusal::HeadTimeout,
            Self::BodyTimeout => Refusal::BodyTimeout,
            Self::VersionNotSupported | Self::CodingNotSupported => Refusal::Unsupported,
            Self::Misdirected => Refusal::Misdirected,
            Self::Busy => Refusal::Busy,
            Self::Loop => Refusal::Loop,
            Self::NotFound => Refusal::NotFound,
            Self::BadParameter => Refusal::BadParameter,
            Self::Gone => Refusal::Gone,
            Self::MethodNotAllowed(_) => Refusal::Method,
            Self::NotAcceptable(_) => Refusal::NotAcceptable,
            Self::PayloadTooLarge(_) => Refusal::TooLarge,
            Self::Limited(excess) => match excess.policy.limit {
                Limit::Requests => Refusal::Requests,
                Limit::Connects => Refusal::Connects,
                Limit::StreamsPerClient => Refusal::StreamsPerClient,
                Limit::Streams => Refusal::Streams,
                Limit::Channels => Refusal::Channels,
                Limit::PassedThrough => Refusal::PassedThrough,
                Limit::FailedLogins => Refusal::Logins,
            },
            Self::Unauthorized(_) => Refusal::Unauthorized,
            Self::Forbidden(_) | Self::CrossSite => Refusal::Forbidden,
            Self::NoTokenKeys { .. } => Refusal::NoTokenKeys,
            Self::SourceFails { .. } => Refusal::SourceFails,
            Self::NotYet { .. } => Refusal::NotYet,
            Self::PublishFailed => Refusal::PublishFailed,
            Self::Reloaded => Refusal::Reloaded,
            Self::BadGateway => Refusal::BadGateway,
            Self::GatewayTimeout => Refusal::GatewayTimeout,
            Self::Internal => Refusal::Internal,
        }
    }

    /// For people. Never holds what the client or the upstream sent (EDGE F2, U19).
    fn detail(&self) -> String {
        match self {
            Self::BadRequest(why) => (*why).into(),
            Self::UriTooLong => "The request line is too long.".into(),
            Self::HeadTooLarge => "The head of the request is too large.".into(),
            Self::HeadTimeout => "The head of the request took too long.".into(),
            Self::BodyTimeout => "The body of the request came too slowly.".into(),
            Self::VersionNotSupported => "HTTP/1.1, HTTP/1.0 and HTTP/2 are spoken here.".into(),
            Self::CodingNotSupported => "The only transfer coding here is chunked.".into(),
            Self::Misdirected => "This host is not served here.".into(),
            Self::Unauthorized(_) => "This path needs a valid credential.".into(),
            Self::Forbidden(_) => "The credential is valid, but gives no right to this.".into(),
            Self::CrossSite => "Only pages of origins that this path knows may do this.".into(),
            Self::NoTokenKeys { .. } => "Tokens cannot be checked at the moment.".into(),
            Self::Busy => "The gateway is as busy as it can be.".into(),
            Self::NotFound => "Nothing is served at this path.".into(),
            Self::BadParameter => "A part of this path is not what the stream there takes.".into(),
            Self::Gone => "The resource does not exist.".into(),
            Self::MethodNotAllowed(allowed) => format!("This path takes {}.", allowed.join(", ")),
            Self::NotAcceptable(offered) => format!("This path offers {offered}."),
            Self::PayloadTooLarge(limit) => format!("A message may be {limit} bytes long."),
            Self::Limited(excess) => excess.policy.limit.detail().into(),
            Self::SourceFails { cause, .. } => {
                format!("There is no value yet, and the source fails: {cause}.")
            }
            Self::NotYet { .. } => "The source has not answered yet.".into(),
            Self::PublishFailed => "The message could not be shared; it was not accepted.".into(),
            Self::Reloaded => "The gateway is being changed; nothing was accepted.".into(),
            Self::BadGateway => "The upstream gave no valid answer.".into(),
            Self::GatewayTimeout => "The upstream did not answer in time.".into(),
            Self::Loop => "The request has come through here too often.".into(),
            Self::Internal => "The gateway made a mistake.".into(),
        }
    }

    /// `type` and `title`. Without a type of its own it is the status, in its words (RFC 9457 §4.2.1); those of limits are
    /// registered by draft-ietf-httpapi-ratelimit-headers (EDGE F4).
    fn problem(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Limited(excess) if excess.is_overload() => (
                "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
                Some("Request cannot be satisfied due to temporary server capacity constraints"),
            ),
            Self::Limited(_) => (
                "https://iana.org/assignments/http-problem-types#quota-exceeded",
                Some("Request cannot be satisfied as assigned quota has been exceeded"),
            ),
            _ => ("about:blank", None),
        }
    }

    fn retry(&self) -> Option<Duration> {
        match self {
            Self::PublishFailed | Self::Busy => Some(Duration::from_secs(5)),
            Self::Limited(Excess { retry, .. }) => Some(*retry),
            Self::SourceFails { retry, .. }
            | Self::NotYet { retry }
            | Self::NoTokenKeys { retry } => Some(*retry),
            Self::Reloaded => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// Answers with `application/problem+json`; `headers` are those that every response of the path has.
pub(super) async fn reject(
    session: &mut Session,
    rejection: &Rejection,
    request_id: &RequestId,
    headers: &[Header],
) -> pingora::Result<()> {
    request_id.refused(Refused {
        why: rejection.refusal(),
        softly: false,
    });
    let (mut own, problem) = problem(rejection, request_id);
    own.extend_from_slice(headers);
    respond(
        session,
        rejection.status(),
        &own,
        Some(problem.into()),
        request_id,
    )
    .await
}

/// The same as bytes of HTTP/1.1, for a request that has no session; its connection ends with it.
pub(super) fn to_http1(rejection: &Rejection, request_id: &str, head_only: bool) -> Vec<u8> {
    let (headers, problem) = problem(rejection, request_id);
    let status = rejection.status();
    let mut head = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), title(status));
    for (name, value) in &headers {
        // They are ours: visible ASCII.
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let (date, length) = (httpdate::fmt_http_date(SystemTime::now()), problem.len());
    let _ = write!(
        head,
        "{X_CONTENT_TYPE_OPTIONS}: nosniff\r\n{REQUEST_ID}: {request_id}\r\ndate: {date}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    if !head_only {
        head.push_str(&problem);
    }
    head.into_bytes()
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

/// The headers that say what the body is and when to come back, and the body.
fn problem(rejection: &Rejection, request_id: &str) -> (Vec<Header>, String) {
    let status = rejection.status();
    let (kind, own_title) = rejection.problem();
    let mut problem = serde_json::json!({
        "type": kind,
        "title": own_title.unwrap_or_else(|| title(status)),
        "status": status.as_u16(),
        "detail": rejection.detail(),
        "instance": request_id,
    });
    let mut own = vec![
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if let Some(retry) = rejection.retry() {
        let seconds = whole_seconds(retry).max(1);
        own.push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    if let Rejection::MethodNotAllowed(allowed) = rejection
        && let Ok(allowed) = HeaderValue::from_str(&allowed.join(", "))
    {
        own.push((ALLOW, allowed));
    }
    if let Rejection::Unauthorized(challenges) | Rejection::Forbidden(challenges) = rejection {
        let challenges = challenges.iter().cloned();
        own.extend(challenges.map(|challenge| (WWW_AUTHENTICATE, challenge)));
    }
    if let Rejection::Limited(excess) = rejection {
        let policy = excess.policy;
        problem["violated-policies"] = serde_json::json!([policy.limit.name()]);
        // What the whole process can carry is no client's business.
        if !excess.is_overload() {
            own.extend(policy.headers(0, excess.retry));
        }
    }
    (own, problem.to_string())
}

/// Answers with a body, or without one. `HEAD` gets the headers alone, with the body's length.
pub(super) async fn respond(
    session: &mut Session,
    status: StatusCode,
    headers: &[Header],
    body: Option<Bytes>,
    request_id: &str,
) -> pingora::Result<()> {
    let mut response = head(status, headers, request_id)?;
    if let Some(body) = &body {
        response.insert_header(CONTENT_LENGTH, body.len())?;
    }
    let head_only = session.req_header().method == http::Method::HEAD;
    let body = body.filter(|body| !head_only && !body.is_empty());
    session
        .write_response_header(Box::new(response), body.is_none())
        .await?;
    if let Some(body) = body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Answers with a body whose length is not told (EDGE H2, H4): in chunks, or up to the end of an HTTP/1.0 connection.
pub(super) async fn respond_unsized(
    session: &mut Session,
    headers: &[Header],
    body: Bytes,
    request_id: &str,
) -> pingora::Result<()> {
    let mut response = head(StatusCode::OK, headers, request_id)?;
    match session.req_header().version {
        Version::HTTP_10 => session.set_keepalive(None),
        _ => response.insert_header(TRANSFER_ENCODING, "chunked")?,
    }
    session
        .write_response_header(Box::new(response), false)
        .await?;
    session.write_response_body(Some(body), true).await
}

/// What every response of the gateway has.
fn head(
    status: StatusCode,
    headers: &[Header],
    request_id: &str,
) -> pingora::Result<ResponseHeader> {
    let mut response = ResponseHeader::build(status, Some(headers.len() + 4))?;
    for (name, value) in headers {
        response.append_header(name.clone(), value.clone())?;
    }
    response.insert_header(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    response.insert_header(REQUEST_ID, request_id)?;
    Ok(response)
}
