//! The admin listener's place in the wiring: bound with the others, changed with the file.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use super::sockets::Sockets;
use super::{Gateway, StartError};
use crate::admin::{Admin, Running};
use crate::config;

/// A running admin listener. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Operators {
    configured: SocketAddr,
    address: SocketAddr,
    socket: TcpListener,
    admin: Arc<Admin>,
    _task: AbortOnDropHandle<()>,
}

/// The admin listener's port. When the file says nothing of it, the gateway does without one that is taken: several of them on
/// one machine must not need to know of each other.
pub(super) fn bind(
    admin: Option<&config::Admin>,
    sockets: &mut Sockets,
) -> Result<Option<TcpListener>, StartError> {
    let Some(admin) = admin else {
        return Ok(None);
    };
    match sockets.take_or_bind(admin.address) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if admin.by_default => {
            warn!(
                "there is no admin listener: {error} \
                 (write admin: off, or admin: {{address: IP:PORT}})"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Operators {
    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket once more, with the address that the file gives it.
    pub(super) fn socket(&self) -> io::Result<(SocketAddr, TcpListener)> {
        Ok((self.configured, self.socket.try_clone()?))
    }

    /// The file was read again.
    pub(super) fn show(&self, running: Running) {
        self.admin.show(running);
    }
}

impl Gateway {
    /// What operators see.
    pub(super) fn running(&self) -> Running {
        Running {
            config: self.config.clone(),
            ids: self.streams.ids(),
            hub: self.ground.hub.clone(),
        }
    }

    /// Serves operators on `socket`, as the file says now.
    pub(super) fn serve_operators(&self, socket: TcpListener) -> Result<Operators, StartError> {
        let address = socket.local_addr()?;
        let configured = self.config.admin.as_ref().map(|admin| admin.address);
        let parts = (
            self.fanout.clone(),
            self.metrics.clone(),
            self.house.failures.clone(),
        );
        let admin = Arc::new(Admin::new(self.running(), parts, self.house.stop.clone()));
        let (serving, accepting) = (admin.clone(), socket.try_clone()?);
        let task = tokio::spawn(async move {
            if let Err(error) = serving.serve(accepting).await {
                error!(%error, "the admin listener failed");
            }
        });
        Ok(Operators {
            configured: configured.unwrap_or(address),
            address,
            socket,
            admin,
            _task: AbortOnDropHandle::new(task),
        })
    }
}
