//! `listeners`: a door, and what stands at it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::field::{HostPattern, Secret};

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// `None`: plain HTTP/1.1, and HTTP/2 by prior knowledge.
    pub tls: Option<ServerTls>,
    /// Each connection begins with a PROXY header (EDGE Q4).
    pub proxy_protocol: bool,
    /// Names served here; empty: any (EDGE P23).
    pub hosts: Vec<HostPattern>,
}

impl Listener {
    /// Plain and open to any name.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            proxy_protocol: false,
            hosts: Vec::new(),
        }
    }

    /// Whether only clients with a certificate get in.
    pub fn asks_for_certificates(&self) -> bool {
        let client_ca = self.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        client_ca.is_some()
    }

    /// Whether requests for this host, without its port, are served here.
    pub fn serves(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// How a listener speaks TLS. Files are read at load; whoever serves looks at them again (EDGE X11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Never empty. Chosen by SNI; the first one is the fallback.
    pub certificates: Vec<ServerCertificate>,
    /// Lower ones are refused.
    pub min_version: TlsVersion,
    /// Clients must show a certificate of one of these authorities.
    pub client_ca: Option<PemFile>,
}

/// A certificate chain, ours first, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    /// The chain.
    pub certificate: PemFile,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PemKey,
}

/// A PEM file and what stood in it.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    /// Relative paths are made from the folder of the configuration.
    pub path: PathBuf,
    /// At load.
    pub pem: Vec<u8>,
}

/// A PEM file with a private key and what stood in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemKey {
    /// Relative paths are made from the folder of the configuration.
    pub path: PathBuf,
    /// At load.
    pub pem: Secret,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246, with forward-secret AEAD suites alone.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl std::fmt::Debug for PemFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PemFile").field(&self.path).finish()
    }
}
