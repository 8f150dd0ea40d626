//! The access log: one record a request, and two a stream, at its start and its end (EDGE O6, O8), at target `access`.
//!
//! It holds neither query nor headers, so that no credential gets there (EDGE A10). What a client chose is escaped and cut.
//! Counting rejections and openings happens here too: here every request ends that was not handed over.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::ACCEPT;
use http::{Method, Version};
use pingora::proxy::Session;
use tracing::info;

use super::front::Guest;
use super::reply::Rejection;
use crate::fanout::{End, Ended, Reason};
use crate::metrics::{Closing, EventKind, Label, Metrics, Opening, Refusal, StreamMetrics};

/// Characters of a text of the client's own choice that are logged.
const LENGTH: usize = 256;

/// What is known of a request by its id: the id, and whether and why it was refused.
#[derive(Debug, Default)]
pub(super) struct RequestId {
    text: String,
    refused: OnceLock<Refused>,
}

/// Why a request was refused, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) why: Refusal,
    /// With a stream that ends (EDGE L3).
    pub(super) softly: bool,
}

impl RequestId {
    pub(super) fn new(text: String) -> Self {
        Self {
            text,
            refused: OnceLock::new(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Notes a refusal; the first one is what the client got.
    pub(super) fn refused(&self, refused: Refused) {
        let _ = self.refused.set(refused);
    }
}

impl std::ops::Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A request, as it is logged. Taken before it is answered: a session that was handed over cannot be asked any more.
#[derive(Debug)]
pub(super) struct Record {
    began: Instant,
    method: Method,
    path: String,
    protocol: &'static str,
    wants_stream: bool,
    stream: OnceLock<Arc<StreamMetrics>>,
}

impl Record {
    pub(super) fn new(session: &Session) -> Self {
        let request = session.req_header();
        let mut accept = request.headers.get_all(ACCEPT).iter();
        let names_streams = |line: &http::HeaderValue| {
            line.to_str()
                .is_ok_and(|line| line.contains("text/event-stream"))
        };
        Self {
            began: Instant::now(),
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            protocol: protocol(request.version),
            wants_stream: request.method == Method::GET && accept.any(names_streams),
            stream: OnceLock::new(),
        }
    }

    /// It is for the path of this stream.
    pub(super) fn found(&self, stream: &Arc<StreamMetrics>) {
        let _ = self.stream.set(stream.clone());
    }

    /// It was answered, or its client left.
    pub(super) fn answered(
        &self,
        session: &Session,
        metrics: &Metrics,
        request_id: &RequestId,
        client: IpAddr,
        identity: Option<&str>,
    ) {
        let refused = request_id.refused.get();
        if let Some(refused) = refused {
            metrics.rejections.inc(refused.why);
            if self.wants_stream
                && let Some(stream) = self.stream.get()
            {
                stream.opens.inc(match refused.softly {
                    true => Opening::SoftRejected,
                    false => Opening::Rejected,
                });
            }
        }
        info!(
            target: "access",
            method = %Clean(self.method.as_str()),
            path = %Clean(&self.path),
            // Nothing was answered when the client left before.
            status = session.response_written().map(|response| response.status.as_u16()),
            ms = milliseconds(self.began.elapsed()),
            bytes = session.body_bytes_sent(),
            client = %client,
            identity = identity.map(|name| tracing::field::display(Clean(name))),
            request_id = request_id.as_str(),
            protocol = self.protocol,
            refused = refused.map(|refused| refused.why.as_str()),
            "request"
        );
    }

    /// Its connection becomes an event stream. What is given back is to be told of its end.
    pub(super) fn opened(
        &self,
        request_id: &RequestId,
        client: IpAddr,
        identity: Option<&str>,
    ) -> Option<Box<dyn Ended>> {
        let stream = self.stream.get()?.clone();
        stream.opens.inc(Opening::Opened);
        stream.open.inc();
        let open = OpenStream {
            stream,
            path: Clean(&self.path).to_string().into(),
            client,
            identity: identity.map(|name| Clean(name).to_string().into()),
            request_id: request_id.text.as_str().into(),
            protocol: self.protocol,
        };
        info!(
            target: "access",
            path = %open.path,
            client = %client,
            identity = open.identity.as_deref(),
            request_id = open.request_id,
            protocol = self.protocol,
            "stream opened"
        );
        Some(Box::new(open))
    }

    /// The client left before its stream began.
    pub(super) fn left(&self) {
        if let Some(stream) = self.stream.get() {
            stream.opens.inc(Opening::Left);
        }
    }
}

/// An event stream that is open.
#[derive(Debug)]
struct OpenStream {
    stream: Arc<StreamMetrics>,
    path: Box<str>,
    client: IpAddr,
    identity: Option<Box<str>>,
    request_id: Box<str>,
    protocol: &'static str,
}

/// It counts as open until then; a counter of its own would take room for each.
impl Drop for OpenStream {
    fn drop(&mut self) {
        self.stream.open.dec();
    }
}

impl Ended for OpenStream {
    fn ended(self: Box<Self>, end: &End) {
        let reason = end.reason.as_str();
        self.stream
            .closes
            .inc(Closing::named(reason).unwrap_or(Closing::Error));
        self.stream.duration.observe(end.duration.as_secs_f64());
        if matches!(end.reason, Reason::Closed(_)) {
            self.stream.events.inc(EventKind::Closing);
        }
        info!(
            target: "access",
            path = %self.path,
            ms = milliseconds(end.duration),
            bytes = end.bytes,
            events = end.events,
            reason,
            client = %self.client,
            identity = self.identity.as_deref(),
            request_id = self.request_id,
            protocol = self.protocol,
            "stream ended"
        );
    }
}

/// A request was refused before it was one.
pub(super) fn refused_by_head(rejection: &Rejection, request_id: &str, guest: &Guest) {
    let why = rejection.refusal();
    guest.metrics().rejections.inc(why);
    info!(
        target: "access",
        status = rejection.status().as_u16(),
        client = %guest.client(),
        request_id,
        refused = why.as_str(),
        "request"
    );
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    }
}

/// A text of the client's own choice: no control character, no more than so many of the others (EDGE O6).
struct Clean<'a>(&'a str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(LENGTH).map(|(at, _)| at);
        let text = &self.0[..end.unwrap_or(self.0.len())];
        // Most are harmless, and written as they are.
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => f.write_str(text)?,
            false => write!(f, "{}", text.escape_debug())?,
        }
        f.write_str(if end.is_some() { "…" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE O6.
    #[test]
    fn what_a_client_chose_is_one_short_line() {
        assert_eq!(Clean("/v1/a%0A'b'").to_string(), "/v1/a%0A'b'");
        assert_eq!(
            Clean("/a\n\u{1b}[31m\u{9b}\u{202e}").to_string(),
            "/a\\n\\u{1b}[31m\\u{9b}\\u{202e}"
        );
        assert_eq!(
            Clean(&"é".repeat(300)).to_string().chars().count(),
            LENGTH + 1
        );
        assert_eq!(Clean(&"x".repeat(LENGTH)).to_string().len(), LENGTH);
    }

    /// Whatever reason the fan-out gives has a series of its own.
    #[test]
    fn every_end_has_a_word() {
        for reason in Reason::ALL {
            assert!(Closing::named(reason.as_str()).is_some(), "{reason:?}");
        }
    }
}
