//! Takes a client's connection, or its part of one, out of its Pingora session, so that the request's task can end while
//! the stream lives.
//!
//! The one place that knows how Pingora 0.9.1 lets go. After each of these the session must not be asked for its request
//! any more: it is a dummy.

use std::io::{self, Cursor};

use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::conn::Connection;
use crate::fanout::Carrier;

/// Gives the connection of an HTTP/1 session. Nothing has been written to it.
///
/// Bytes that the client sent behind its request are dropped: the connection carries nothing but the stream from now on.
pub(super) async fn connection(session: &mut Session) -> io::Result<Carrier> {
    let ServerSession::H1(mut taken) = take(session) else {
        return Err(io::Error::other("not an HTTP/1 connection"));
    };
    // `reuse` is the way to get the stream back whole; without these three it closes the connection instead.
    taken.set_pipelining_enabled(true);
    taken.req_header_mut().remove_header("connection");
    taken.set_server_keepalive(Some(0));
    let reusable = taken.reuse().await.map_err(io::Error::other)?;
    let (stream, _behind) = reusable
        .ok_or_else(|| io::Error::other("the connection cannot be kept"))?
        .into_parts();
    let connection = stream.into_any().downcast::<Connection>();
    connection
        .map_err(|_| io::Error::other("not a connection of ours"))?
        .into_carrier()
}

/// Sends the head of the response to an HTTP/2 session, and gives the way to its body.
pub(super) fn body(session: &mut Session, head: ResponseHeader) -> io::Result<Carrier> {
    let ServerSession::H2(mut taken) = take(session) else {
        return Err(io::Error::other("not an HTTP/2 stream"));
    };
    taken
        .write_response_header(Box::new(head), false)
        .map_err(io::Error::other)?;
    let body = taken
        .take_response_body_writer()
        .ok_or_else(|| io::Error::other("the stream has no body"))?;
    Ok(Carrier::Http2(body))
}

/// Leaves a dummy behind.
fn take(session: &mut Session) -> ServerSession {
    let dummy = ServerSession::new_http1(Box::new(Cursor::new(Vec::<u8>::new())));
    std::mem::replace(&mut *session.downstream_session, dummy)
}
