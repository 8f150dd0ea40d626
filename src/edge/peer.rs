//! Who is at the other end of a connection, as far as the connection itself tells.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::futures::TaskLocalFuture;

use super::accept::{Open, Shared};
use super::pace::Heard;
use crate::config::Listener;

tokio::task_local! {
    /// Whoever serves a connection says whose it is: Pingora makes its context before it shows a request.
    static ORIGIN: Origin;
}

/// The other end of a connection, for one request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// By which door it came, as the file describes it now.
    pub listener: Arc<Listener>,
    /// The socket's other end; behind a proxy that speaks the PROXY protocol, what that says.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The connection counts as open while somebody has this.
    pub(super) open: Option<Arc<Open>>,
    /// Told what comes of the request's body, where somebody wants to know.
    pub(super) heard: Option<Arc<Heard>>,
}

/// The other end of a connection, for as long as it lasts.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) door: Arc<Shared>,
    pub(super) open: Arc<Open>,
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    /// Of one request alone.
    pub(super) heard: Option<Arc<Heard>>,
}

impl Origin {
    /// Runs `serve`, all of whose requests come from here.
    pub(super) fn scope<F: Future>(self, serve: F) -> TaskLocalFuture<Self, F> {
        ORIGIN.scope(self, serve)
    }
}

impl Peer {
    /// Whose connection is being served. Outside of that, nobody's: an unspecified address.
    pub fn current() -> Self {
        let peer = |origin: &Origin| Self {
            listener: origin.door.settings().listener.clone(),
            address: origin.address,
            tls: origin.tls,
            open: Some(origin.open.clone()),
            heard: origin.heard.clone(),
        };
        ORIGIN.try_with(peer).unwrap_or_else(|_| {
            let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            Self {
                listener: Arc::new(Listener::plain(nobody)),
                address: nobody,
                tls: false,
                open: None,
                heard: None,
            }
        })
    }
}
