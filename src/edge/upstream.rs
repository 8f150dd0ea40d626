//! Pass-through: the request goes to the upstream of its route, and the answer comes back unchanged (EDGE §5).

mod address;
pub(super) mod head;
pub(super) mod line;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorSource, ErrorType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{debug, warn};
use xxhash_rust::xxh3::Xxh3;

use super::client_address::ClientAddress;
use super::reply::Rejection;
use crate::config::{Route, TlsIdentity, Upstream};
pub(super) use address::Address;
use address::Addresses;

/// How long an upstream may take no bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(60);

/// An upstream, ready to be passed through to.
#[derive(Clone)]
pub(super) struct PassThrough {
    shared: Arc<Shared>,
    /// The route lets connections become WebSockets.
    websockets: bool,
}

struct Shared {
    upstream: Arc<Upstream>,
    addresses: Arc<Addresses>,
    /// What is verified, or where requests go by name: never empty, as Pingora then verifies nothing.
    name: String,
    options: PeerOptions,
    identity: Option<Arc<CertKey>>,
    /// Connections are shared by who trusts the same and shows the same.
    group: u64,
    /// What requests call it.
    authority: HeaderValue,
}

impl PassThrough {
    /// The files were checked with the configuration.
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        let url = &upstream.url;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(80);
        let identity = upstream.tls.identity.as_ref();
        let shared = Shared {
            addresses: Addresses::new(host, port),
            name: host.to_owned(),
            options: options(&upstream),
            identity: identity.and_then(cert_key).map(Arc::new),
            group: group(&upstream),
            authority: head::authority(&upstream.url),
            upstream,
        };
        Self {
            shared: Arc::new(shared),
            websockets: false,
        }
    }

    /// The key in the file.
    pub(super) fn name(&self) -> &str {
        &self.shared.upstream.name
    }

    /// As `route` passes to it.
    pub(super) fn on(&self, route: &Route) -> Self {
        Self {
            shared: self.shared.clone(),
            websockets: route.websockets,
        }
    }

    /// How many addresses a request may try.
    pub(super) fn addresses(&self) -> usize {
        self.shared.addresses.len()
    }

    /// The address whose turn it is, none of `tried` if there is another.
    pub(super) async fn pick(&self, tried: &[SocketAddr]) -> pingora::Result<Arc<Address>> {
        self.shared.addresses.pick(tried).await.ok_or_else(|| {
            let why = "the upstream's name does not resolve";
            Error::explain(ErrorType::ConnectError, why).into_up()
        })
    }

    /// Where to connect, and how.
    pub(super) fn peer(&self, address: &Address) -> HttpPeer {
        let shared = &self.shared;
        let tls = shared.upstream.url.scheme() == "https";
        let mut peer = HttpPeer::new(address.socket, tls, shared.name.clone());
        peer.options = shared.options.clone();
        if self.websockets {
            peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
        }
        peer.client_cert_key = shared.identity.clone();
        peer.group_key = shared.group;
        peer
    }

    /// It took no connection.
    pub(super) fn mark_down(&self, address: &Address) {
        self.shared.addresses.mark_down(address);
    }

    /// Rewrites the request's head for the upstream.
    pub(super) fn rewrite(
        &self,
        original: &RequestHeader,
        request: &mut RequestHeader,
        client: &ClientAddress,
    ) -> pingora::Result<()> {
        let shared = &self.shared;
        let authority = shared.authority.clone();
        head::rewrite(&shared.upstream.url, authority, original, request, client)
    }
}

/// What all connections to `upstream` have in common. How long it may be silent is not Pingora's to say (see [`line`]).
fn options(upstream: &Upstream) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(upstream.timeouts.connect);
    options.total_connection_timeout = Some(upstream.timeouts.connect);
    options.write_timeout = Some(WRITE_TIMEOUT);
    options.idle_timeout = Some(IDLE);
    // A host that vanished says nothing; streams that may be silent for ever would never end.
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(15),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::ZERO,
    });
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    let ca = upstream.tls.ca.as_deref();
    options.ca = ca.map(|pem| Arc::from(certificates(pem)) as Arc<CaType>);
    options.verify_cert = !upstream.tls.insecure;
    options.verify_hostname = !upstream.tls.insecure;
    options
}

/// Pingora's pool does not look at authorities: two upstreams at one address may not share what only one of them trusts.
fn group(upstream: &Upstream) -> u64 {
    let mut hash = Xxh3::new();
    let tls = &upstream.tls;
    let identity = tls.identity.as_ref();
    for part in [
        Some(upstream.name.as_bytes()),
        tls.ca.as_deref(),
        identity.map(|identity| identity.certificate.as_slice()),
    ] {
        hash.update(&part.map_or(0, |part| part.len() as u64).to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.digest()
}

impl std::fmt::Debug for PassThrough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassThrough")
            .field("upstream", &self.shared.upstream.name)
            .field("websockets", &self.websockets)
            .finish_non_exhaustive()
    }
}

/// What the client is told when passing through failed (EDGE F6). `None`: the client itself is gone.
pub(super) fn rejection(error: &Error) -> Option<Rejection> {
    match (error.esource(), error.etype()) {
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Rejection::BodyTimeout),
        (ErrorSource::Downstream, _) => {
            Some(Rejection::BadRequest("The request cannot be passed on."))
        }
        (
            _,
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
        ) => Some(Rejection::GatewayTimeout),
        (ErrorSource::Internal, ErrorType::InternalError) => Some(Rejection::Internal),
        _ => Some(Rejection::BadGateway),
    }
}

/// Says that passing through failed, and of what kind the failure was: its text may hold what was sent (EDGE A10).
pub(super) fn log(error: &Error, request_id: &str) {
    let (source, kind) = (error.esource().as_str(), error.etype().as_str());
    match error.esource() {
        // Clients that leave are no errors.
        ErrorSource::Downstream => debug!(request_id, source, kind, "passing through failed"),
        _ => warn!(request_id, source, kind, "passing through failed"),
    }
}

fn certificates(pem: &[u8]) -> Vec<WrappedX509> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .map(|der| WrappedX509::new(der.to_vec(), parse_x509))
        .collect()
}

fn cert_key(identity: &TlsIdentity) -> Option<CertKey> {
    let chain: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&identity.certificate)
        .filter_map(Result::ok)
        .map(|der| der.to_vec())
        .collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).ok()?;
    (!chain.is_empty()).then(|| CertKey::new(chain, key.secret_der().to_vec()))
}
