//! Listening sockets that another process has bound.

use std::net::{SocketAddr, TcpListener};

use super::StartError;
use crate::edge::accept;

/// Sockets to be taken over, each with the address by which its process was asked for it.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<(SocketAddr, TcpListener)>);

impl Sockets {
    /// These.
    pub(super) fn new(sockets: Vec<(SocketAddr, TcpListener)>) -> Self {
        Self(sockets)
    }

    /// The socket for `address`, bound if it is not among these.
    pub(super) fn take_or_bind(&mut self, address: SocketAddr) -> Result<TcpListener, StartError> {
        match self.0.iter().position(|(known, _)| *known == address) {
            Some(at) => Ok(self.0.swap_remove(at).1),
            None => accept::bind(address).map_err(|error| StartError::Bind { address, error }),
        }
    }

    /// Each, with its address.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(SocketAddr, TcpListener)> {
        self.0.iter()
    }
}
