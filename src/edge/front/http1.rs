//! HTTP/1.1 and 1.0: reads each head under limits and strictly, then lets Pingora have the request (EDGE P2, P3, P9–P11).
//! Requests that are sent ahead wait here and are answered in order.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora::protocols::http::ServerSession;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::super::access_log;
use super::super::conn::Connection;
use super::super::reply::{self, Rejection};
use super::super::request;
use super::Guest;
use super::body::Body;
use super::head::{self, Fault, Head, Scan};

/// How long an idle connection is kept for its next request.
const KEEPALIVE: Duration = Duration::from_secs(75);

/// What a head is read into at first: most fit.
const ROOM: usize = 2 * 1024;

/// How long, and for how many bytes, a refused client is listened to, so that it can read why (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// A process that ends waits so long for the first request of a connection: who has just come is not sent away (EDGE L15).
const ARRIVAL: Duration = Duration::from_millis(500);

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one request after the other.
pub(super) async fn serve(guest: Guest, mut connection: Box<Connection>) {
    let mut is_first = true;
    loop {
        match next(&guest, &mut connection, is_first).await {
            Next::Request(head) => {
                let Some(used) = request(&guest, connection, &head).await else {
                    return;
                };
                connection = used;
            }
            Next::Http2 => return guest.spawn_http2(connection),
            Next::Refused(fault) => return refuse(&guest, &mut connection, &fault).await,
            Next::Over => return,
        }
        if !connection.is_done() {
            return debug!("a request was answered before its body was read: its connection ends");
        }
        is_first = false;
    }
}

/// What comes next on a connection.
enum Next {
    /// A request whose head has been read.
    Request(Head),
    /// It is HTTP/2.
    Http2,
    /// A request that is not served.
    Refused(Fault),
    /// Nothing: the client left or was silent, or the process ends.
    Over,
}

/// Waits for a head. Its time runs from its first byte, or from the begin of the connection.
async fn next(guest: &Guest, connection: &mut Connection, is_first: bool) -> Next {
    let settings = &guest.settings;
    let wait = match is_first {
        true => settings.header_timeout,
        false => KEEPALIVE,
    };
    if connection.held().is_empty() {
        let stopped = async {
            guest.stopped().await;
            if is_first {
                sleep(ARRIVAL).await;
            }
        };
        let filled = tokio::select! {
            // What is there is served.
            biased;
            filled = timeout(wait, connection.fill(ROOM)) => filled,
            () = stopped => return Next::Over,
        };
        if !matches!(filled, Ok(Ok(1..))) {
            return Next::Over;
        }
    }
    let read = read(guest, connection, is_first && !guest.origin.tls);
    match timeout_at(Instant::now() + settings.header_timeout, read).await {
        Ok(next) => next,
        Err(_) => Next::Refused(Rejection::HeadTimeout.into()),
    }
}

async fn read(guest: &Guest, connection: &mut Connection, may_be_http2: bool) -> Next {
    let max = guest.settings.max_header_bytes;
    let mut scan = Scan::default();
    let mut leading = true;
    loop {
        let held = connection.held();
        let common = held.len().min(PREFACE.len());
        if may_be_http2 && held[..common] == PREFACE[..common] {
            if common == PREFACE.len() {
                return Next::Http2;
            }
        } else {
            // One empty line before a request is an old client's habit (RFC 9112 §2.2).
            if leading && held.starts_with(b"\r\n") {
                held.advance(2);
            }
            leading &= matches!(&held[..], [] | [b'\r']);
            if !leading {
                match scan.end(held, max) {
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        return match head::parse(&held[..end]) {
                            Ok(head) => Next::Request(head),
                            Err(fault) => Next::Refused(fault),
                        };
                    }
                    Err(fault) => return Next::Refused(fault),
                }
            }
        }
        match connection.fill(ROOM).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Next::Over,
        }
    }
}

/// Serves one request; gives the connection back when it goes on.
async fn request(
    guest: &Guest,
    mut connection: Box<Connection>,
    head: &Head,
) -> Option<Box<Connection>> {
    let held = connection.held();
    let mut bytes = held.split_to(head.length);
    if held.is_empty() {
        *held = BytesMut::new();
    }
    if let Some(cut) = head.cut {
        let mut short = BytesMut::with_capacity(bytes.len());
        short.extend_from_slice(&bytes[..cut.from]);
        short.extend_from_slice(cut.instead.as_bytes());
        short.extend_from_slice(&bytes[cut.to..]);
        bytes = short;
    }
    connection.begin(head.framing.begin(), head.upgrade);
    let mut session = ServerSession::new_http1(connection);
    session.set_keepalive(Some(KEEPALIVE.as_secs()));
    session.set_pipelined_prefix(bytes);
    guest.serve(session).await
}

/// Says why, and ends the connection.
async fn refuse(guest: &Guest, connection: &mut Connection, rejection: &Rejection) {
    let head_only = connection.held().starts_with(b"HEAD ");
    let id = request::id(b"");
    access_log::refused_by_head(rejection, &id, guest);
    let answer = reply::to_http1(rejection, &id, head_only);
    // Nothing of the answer is for whoever reads bodies.
    connection.begin(Body::Done, false);
    let said = async {
        connection.write_all(&answer).await?;
        connection.shutdown().await?;
        let mut left = LINGER_BYTES;
        while left > 0 {
            connection.held().clear();
            match connection.fill(ROOM).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // A client that does not want to know need not.
    let _ = timeout(LINGER, said).await;
}
