//! Listening sockets: bound before anything starts, accepting until told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::proxy::HttpProxy;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::Edge;
use super::conn::Connection;
use super::peer::Peer;
use crate::config::Listener;

/// Connections that wait to be accepted; the kernel may keep fewer.
const BACKLOG: i32 = 4096;

/// How long to wait when no connection can be accepted, such as for want of descriptors (EDGE Q13).
const PAUSE: Duration = Duration::from_millis(100);

/// Binds `address`; port 0 takes a free one.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the old life's connections to leave the kernel.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until `stop` turns true; each connection is a task in `requests`.
pub async fn serve(
    socket: std::net::TcpListener,
    listener: Arc<Listener>,
    proxy: Arc<HttpProxy<Edge>>,
    mut stop: watch::Receiver<bool>,
    requests: TaskTracker,
) -> io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let shutdown = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        match accepted {
            Ok((tcp, address)) => {
                // Without it small events wait for acknowledgements of the ones before.
                if let Err(error) = tcp.set_nodelay(true) {
                    debug!(%error, "a connection was gone before it was served");
                    continue;
                }
                let (proxy, shutdown) = (proxy.clone(), shutdown.clone());
                let peer = Peer {
                    listener: listener.clone(),
                    address,
                    tls: false,
                };
                requests.spawn(peer.scope(async move {
                    proxy
                        .process_new(Box::new(Connection::new(tcp)), &shutdown)
                        .await;
                }));
            }
            Err(error) => {
                warn!(%error, "no connection can be accepted for the moment");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until all requests are answered, at most `limit`.
pub async fn finish(requests: &TaskTracker, limit: Duration) {
    requests.close();
    if timeout(limit, requests.wait()).await.is_err() {
        warn!(
            left = requests.len(),
            "requests were cut at the end of the drain window"
        );
    }
}
