//! The event stream: its head, and the hand-over to the fan-out.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use socket2::SockRef;
use tracing::debug;

use super::conn::notice_absence;
use super::cors::Header;
use super::detach;
use super::limit::StreamPermit;
use super::peer::Peer;
use super::reply::{self, REQUEST_ID};
use super::visit::Visit;
use crate::channel::{Channel, Cursor, Form, Subscription};
use crate::fanout::{Carrier, Fanout, NewStream};
use crate::sse::{self, Coding, Encoder};

/// Bounds of `retry` in the prelude (EDGE L13), in milliseconds.
const RETRY: std::ops::RangeInclusive<u64> = 2000..=5000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the kernel may hold of a stream for its client, bytes: half of what it then takes for it (EDGE B4).
const SEND_BUFFER: usize = 16 * 1024;

/// Where the client says it is (EDGE L5): the header, or else the query parameter; empty is as absent.
pub(super) fn cursor(session: &Session, query: Option<&str>, channel: &Channel) -> Cursor {
    let header = session.get_header_bytes(LAST_EVENT_ID);
    match (header, query) {
        ([], None | Some("")) => Cursor::New,
        ([], Some(id)) => channel.cursor_after(id.as_bytes()),
        (id, _) => channel.cursor_after(id),
    }
}

/// Headers of the stream (EDGE H1–H4), without those of framing. `private`: who asks decides about it. `offered` is how it may
/// be compressed, `coding` how it is.
pub(super) fn headers(
    path_headers: &[Header],
    private: bool,
    offered: Option<Coding>,
    coding: Option<Coding>,
) -> Vec<Header> {
    let caching = match private {
        true => "private, no-cache, no-store, no-transform",
        false => "no-cache, no-store, no-transform",
    };
    let vary = match offered {
        Some(_) => "Accept, Accept-Encoding",
        None => "Accept",
    };
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static(caching)),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
        (VARY, HeaderValue::from_static(vary)),
    ];
    headers
        .extend(coding.map(|coding| (CONTENT_ENCODING, HeaderValue::from_static(coding.name()))));
    headers.extend_from_slice(path_headers);
    headers
}

/// `HEAD`: the headers of the stream, no body, no subscription (EDGE L18).
pub(super) async fn head(
    session: &mut Session,
    headers: &[Header],
    request_id: &str,
) -> pingora::Result<()> {
    reply::respond(session, StatusCode::OK, headers, None, request_id).await
}

/// Hands the client over. The session is of no use afterwards.
pub(super) async fn serve(
    session: &mut Session,
    visit: &Visit<'_>,
    (subscription, permit): (Subscription, StreamPermit),
    (cursor, form, coding): (Cursor, Form, Option<Coding>),
    fanout: &Fanout,
) {
    let version = session.req_header().version;
    let chunked = version == Version::HTTP_11;
    let headers = visit.stream_headers(coding);
    let mut encoder = Encoder::new(coding, chunked);
    let prelude = sse::prelude(Duration::from_millis(fastrand::u64(RETRY)));
    let prelude = encoder.begin(&prelude);
    let taken = match version {
        Version::HTTP_2 => match response_header(&headers, visit.request_id) {
            Ok(head) => detach::body(session, head).map(|body| (body, prelude)),
            Err(error) => Err(io::Error::other(error)),
        },
        _ => {
            let head = response_head(&headers, chunked, visit.request_id, &prelude);
            let connection = detach::connection(session).await;
            connection.map(|connection| (connection, head))
        }
    };
    let (carrier, head) = match taken {
        Ok(taken) => taken,
        // The client left between its request and now.
        Err(error) => {
            if let Some(record) = visit.record {
                record.left();
            }
            return debug!(%error, "a stream could not be handed over");
        }
    };
    if let Carrier::Plain(socket) | Carrier::Tls(socket, _) = &carrier {
        // A reader that takes nothing must not pin megabytes of kernel memory. A stream works without.
        let _ = SockRef::from(socket).set_send_buffer_size(SEND_BUFFER);
        notice_absence(socket, fanout.limits().write_stall);
    }
    fanout.adopt(NewStream {
        carrier,
        head,
        encoder,
        subscription,
        cursor,
        form,
        heartbeat: visit.stream.heartbeat,
        max_age: visit.stream.max_stream_age,
        expires: visit.identity.and_then(|identity| identity.expires),
        // The connection counts as open as long as the stream lives.
        permit: Some(Box::new((permit, Peer::current().open))),
        observer: visit
            .record
            .and_then(|record| record.opened(visit.request_id, visit.client, visit.user_name())),
    });
}

/// A soft reject (EDGE L3): a stream that says when to come back, why, and ends. A status would end an EventSource for ever.
pub(super) async fn soft_reject(
    session: &mut Session,
    headers: &[Header],
    reason: &str,
    retry: Duration,
    request_id: &str,
) -> pingora::Result<()> {
    let mut body = Vec::new();
    // Never before it can work, and never all at once.
    let jitter = Duration::from_millis(fastrand::u64(5_000..=10_000));
    sse::push_retry(&mut body, retry.max(jitter));
    sse::push_event(
        &mut body,
        Some("closing"),
        None,
        &format!(r#"{{"reason":"{reason}"}}"#),
    );
    reply::respond_unsized(session, headers, body.into(), request_id).await
}

/// The head over HTTP/2, where framing fields have no place (EDGE H3).
fn response_header(headers: &[Header], request_id: &str) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(headers.len() + 3))?;
    for (name, value) in headers {
        head.append_header(name.clone(), value.clone())?;
    }
    head.insert_header(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    head.insert_header(REQUEST_ID, request_id)?;
    Ok(head)
}

/// The bytes before the first event over HTTP/1: the response head and the prelude (EDGE E15), framed.
fn response_head(headers: &[Header], chunked: bool, request_id: &str, prelude: &[u8]) -> Vec<u8> {
    let mut head = String::with_capacity(640);
    head.push_str("HTTP/1.1 200 OK\r\n");
    for (name, value) in headers {
        // Values come from the configuration or are ours: visible ASCII.
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    let _ = write!(
        head,
        "{X_CONTENT_TYPE_OPTIONS}: nosniff\r\n{REQUEST_ID}: {request_id}\r\ndate: {date}\r\n"
    );
    head.push_str("connection: close\r\n");
    if chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(prelude);
    bytes
}
