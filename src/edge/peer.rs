//! Who is at the other end of a connection, as far as the connection itself tells.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::config::Listener;

tokio::task_local! {
    /// Whoever serves a connection says whose it is: Pingora makes its context before it shows a request.
    static PEER: Peer;
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// By which door it came.
    pub listener: Arc<Listener>,
    /// The socket's other end; behind a proxy that speaks the PROXY protocol, what that says.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl Peer {
    /// Runs `serve`, all of whose requests are this peer's.
    pub async fn scope<F: Future>(self, serve: F) -> F::Output {
        PEER.scope(self, serve).await
    }

    /// Whose connection is being served. Outside of [`Peer::scope`], nobody's: an unspecified address.
    pub fn current() -> Self {
        PEER.try_with(Self::clone).unwrap_or_else(|_| {
            let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            Self {
                listener: Arc::new(Listener::plain(nobody)),
                address: nobody,
                tls: false,
            }
        })
    }
}
