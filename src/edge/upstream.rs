//! Pass-through: the request goes to the upstream of its route, and the answer comes back unchanged (EDGE §5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, FORWARDED, HOST, VIA};
use http::{HeaderName, HeaderValue, Uri};
use pingora::http::RequestHeader;
use pingora::protocols::tls::CaType;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorSource, ErrorType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{debug, warn};

use super::client_address::{ClientAddress, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};
use super::reply::Rejection;
use crate::config::{TlsIdentity, Upstream};

/// What a proxy in front is wont to say besides `X-Forwarded-*`.
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// An answer may pause this long between two pieces, unless it may be an event stream: those pause as they like (EDGE P16).
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

    /// The key in the file.
    pub(super) fn name(&self) -> &str {
        &self.upstream.name
    }

    /// Where to connect. Names are resolved here, without blocking the thread, as Pingora would.
    pub(super) async fn peer(&self, request: &RequestHeader) -> pingora::Result<Box<HttpPeer>> {
        let url = &self.upstream.url;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(80);
        let address = resolve(host, port).await?;
        let mut peer = HttpPeer::new(address, url.scheme() == "https", host.to_owned());
        let options = &mut peer.options;
        options.connection_timeout = Some(self.upstream.timeouts.connect);
        options.total_connection_timeout = Some(self.upstream.timeouts.connect);
        options.read_timeout = (!asks_for_stream(request)).then_some(READ_TIMEOUT);
        options.write_timeout = Some(READ_TIMEOUT);
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        options.ca = self.ca.clone();
        options.verify_cert = !self.upstream.tls.insecure;
        options.verify_hostname = !self.upstream.tls.insecure;
        peer.client_cert_key = self.identity.clone();
        Ok(Box::new(peer))
    }

    /// Rewrites the request's head for the upstream: its own host, the base path, and who asked (EDGE P20, P21). Credentials
    /// are the client's own: those that the gateway polls with would be lent to anybody who reaches its port.
    pub(super) fn rewrite(
        &self,
        session: &Session,
        request: &mut RequestHeader,
        client: &ClientAddress,
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
        // What an untrusted client says about hops before it is not passed on.
        for name in hop_claims(request) {
            request.remove_header(&name);
        }
        let asked = session.req_header().headers.get(HOST);
        if let Some(host) = client.host.as_ref().or(asked) {
            request.insert_header(FORWARDED_HOST, host.clone())?;
        }
        request.insert_header(HOST, authority(&self.upstream))?;
        request.insert_header(FORWARDED_FOR, client.forwarded_for_field())?;
        request.insert_header(FORWARDED_PROTO, client.proto)?;
        request.append_header(VIA, "1.1 wellspring")?;
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

/// Says that passing through failed, and of what kind the failure was: its text may hold what was sent (EDGE A10).
pub(super) fn log(error: &Error, request_id: &str) {
    let (source, kind) = (error.esource().as_str(), error.etype().as_str());
    match error.esource() {
        // Clients that leave are no errors.
        ErrorSource::Downstream => debug!(request_id, source, kind, "passing through failed"),
        _ => warn!(request_id, source, kind, "passing through failed"),
    }
}

/// The headers that tell who asked and by which way.
fn hop_claims(request: &RequestHeader) -> Vec<HeaderName> {
    let is_claim = |name: &&HeaderName| {
        **name == FORWARDED || **name == REAL_IP || name.as_str().starts_with("x-forwarded-")
    };
    request.headers.keys().filter(is_claim).cloned().collect()
}

/// Whether the client names event streams, as every EventSource does.
fn asks_for_stream(request: &RequestHeader) -> bool {
    let lines = request.headers.get_all(ACCEPT).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .any(|line| line.to_ascii_lowercase().contains("text/event-stream"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// EDGE P16: a quiet event stream is not cut, whatever else is passed through is.
    #[tokio::test]
    async fn only_event_streams_may_be_quiet() {
        let file = "listeners: [{address: \"127.0.0.1:0\"}]\nupstreams: {a: {url: \"http://127.0.0.1:1\"}}\nroutes: [{prefix: /, upstream: a}]\n";
        let config = config::parse("test.yaml", file, &|_| None).expect("is good");
        let upstream = PassThrough::new(Arc::clone(&config.upstreams["a"]));
        for (accept, expected) in [
            ("text/event-stream", None),
            ("TEXT/Event-Stream, */*", None),
            ("application/json", Some(READ_TIMEOUT)),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).expect("builds");
            request.insert_header(ACCEPT, accept).expect("inserts");
            let peer = upstream.peer(&request).await.expect("resolves");
            assert_eq!(peer.options.read_timeout, expected, "{accept}");
        }
    }
}
