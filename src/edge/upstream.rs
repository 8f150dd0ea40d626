//! Pass-through: the request goes to the upstream of its route, and the answer comes back unchanged (EDGE §5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{FORWARDED, HOST, VIA};
use http::{HeaderName, HeaderValue, Uri};
use pingora::http::RequestHeader;
use pingora::protocols::tls::CaType;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorSource, ErrorType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::reply::Rejection;
use crate::config::{TlsIdentity, Upstream};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// An answer may pause this long between two pieces.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// An upstream, ready to be passed through to.
#[derive(Clone)]
pub(super) struct PassThrough {
    upstream: Arc<Upstream>,
    ca: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
}

impl PassThrough {
    /// The files were checked with the configuration.
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        let ca = upstream
            .tls
            .ca
            .as_deref()
            .map(|pem| Arc::from(certificates(pem)));
        let identity = upstream
            .tls
            .identity
            .as_ref()
            .and_then(cert_key)
            .map(Arc::new);
        Self {
            upstream,
            ca,
            identity,
        }
    }

    /// Where to connect. Names are resolved here, without blocking the thread, as Pingora would.
    pub(super) async fn peer(&self) -> pingora::Result<Box<HttpPeer>> {
        let url = &self.upstream.url;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(80);
        let address = resolve(host, port).await?;
        let mut peer = HttpPeer::new(address, url.scheme() == "https", host.to_owned());
        let options = &mut peer.options;
        options.connection_timeout = Some(self.upstream.timeouts.connect);
        options.total_connection_timeout = Some(self.upstream.timeouts.connect);
        options.read_timeout = Some(READ_TIMEOUT);
        options.write_timeout = Some(READ_TIMEOUT);
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        options.ca = self.ca.clone();
        options.verify_cert = !self.upstream.tls.insecure;
        options.verify_hostname = !self.upstream.tls.insecure;
        peer.client_cert_key = self.identity.clone();
        Ok(Box::new(peer))
    }

    /// Rewrites the request's head for the upstream: its own host, the base path, and who asked (EDGE P20, P21).
    pub(super) fn rewrite(
        &self,
        session: &Session,
        request: &mut RequestHeader,
    ) -> pingora::Result<()> {
        let base = self.upstream.url.path().trim_end_matches('/');
        let target = session
            .req_header()
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let uri: Uri = format!("{base}{target}")
            .parse()
            .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "target", error))?;
        request.set_uri(uri);
        if let Some(host) = session.req_header().headers.get(HOST) {
            request.insert_header(FORWARDED_HOST, host.clone())?;
        }
        request.insert_header(HOST, authority(&self.upstream))?;
        // What an untrusted client says about hops before it is not passed on.
        request.remove_header(&FORWARDED);
        match session.client_addr().and_then(|address| address.as_inet()) {
            Some(client) => {
                request.insert_header(FORWARDED_FOR, client.ip().to_canonical().to_string())?
            }
            None => drop(request.remove_header(&FORWARDED_FOR)),
        }
        request.insert_header(FORWARDED_PROTO, "http")?;
        request.append_header(VIA, "1.1 wellspring")?;
        for (name, value) in &self.upstream.headers {
            request.insert_header(name.clone(), value.clone())?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for PassThrough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PassThrough")
            .field(&self.upstream.name)
            .finish()
    }
}

/// What the client is told when passing through failed (EDGE F6). `None`: the client itself is gone.
pub(super) fn rejection(error: &Error) -> Option<Rejection> {
    match (error.esource(), error.etype()) {
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => None,
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

fn authority(upstream: &Upstream) -> HeaderValue {
    let host = upstream.url.host_str().unwrap_or_default();
    let text = match upstream.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

async fn resolve(host: &str, port: u16) -> pingora::Result<SocketAddr> {
    let failed = || {
        Error::explain(
            ErrorType::ConnectError,
            "the upstream's name does not resolve",
        )
    };
    let mut addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|_| failed().into_up())?;
    addresses.next().ok_or_else(|| failed().into_up())
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
