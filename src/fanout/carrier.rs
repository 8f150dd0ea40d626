//! What carries a stream to its client.

use std::fmt;

use bytes::Bytes;
use h2::SendStream;

/// The way to a client, out of the HTTP server's hands.
pub enum Carrier {
    /// A nonblocking socket.
    Plain(std::net::TcpStream),
    /// A nonblocking socket and its TLS session, whose handshake is done. What the session has read or written ahead
    /// is part of it, so none of that is lost.
    Tls(std::net::TcpStream, Box<rustls::ServerConnection>),
    /// The body of a response whose head is sent. The connection lives on a runtime, where it counts its streams itself;
    /// others may share it.
    Http2(SendStream<Bytes>),
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Tls(..) => "Tls",
            Self::Http2(_) => "Http2",
        })
    }
}
