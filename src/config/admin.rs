//! `admin`: where operators ask.

use std::net::SocketAddr;

use super::Secret;

/// The admin listener (CONTRACT.md §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// Asked for by everything but `/livez` and `/readyz`. Always there unless the address is loopback (EDGE O1).
    pub token: Option<Secret>,
    /// The file has no `admin`: the gateway serves without when the port is taken.
    pub by_default: bool,
}
