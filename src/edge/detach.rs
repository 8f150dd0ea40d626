//! Takes a client's connection out of its Pingora session, so that the request's task can end while the stream lives.
//!
//! The one place that knows how Pingora 0.9.1 lets go of a connection.

use std::io::{self, Cursor};

use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::conn::Connection;
use crate::fanout::Carrier;

/// Leaves a dummy behind and gives the way to the client. Nothing has been written to it.
///
/// After this the session must not be asked for its request any more. Bytes that the client sent behind its request are dropped:
/// the connection carries nothing but the stream from now on.
pub(super) async fn take(session: &mut Session) -> io::Result<Carrier> {
    let dummy = ServerSession::new_http1(Box::new(Cursor::new(Vec::<u8>::new())));
    let taken = std::mem::replace(&mut *session.downstream_session, dummy);
    let ServerSession::H1(mut taken) = taken else {
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
