//! The way to one upstream: connections, TLS, redirects, and the deadline of the response head.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response};
use tracing::warn;

use super::failure;
use super::request::Order;
use crate::config::{Upstream, UpstreamTls};
use crate::metrics::UpstreamMetrics;
use crate::source::{Cause, SourceError};

/// Bytes of a response's head that are taken (EDGE U7).
const MAX_HEAD: usize = 64 * 1024;
/// Redirects that are followed where `follow_redirects` allows any (EDGE U3).
const MAX_HOPS: usize = 3;

/// One per upstream: pool, TLS, timeouts. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    upstream: Arc<Upstream>,
    http: Client,
    /// Whether the last request got a head: then a lost connection may be one that the upstream closed while it was idle.
    answers: AtomicBool,
    metrics: Arc<UpstreamMetrics>,
}

/// Why no client can be made for an upstream: a matter of the configuration or the machine, known before the first poll.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(String);

impl HttpClient {
    /// Reads certificates and, for https without `tls.ca`, the system's authorities; connects to nothing.
    ///
    /// The process must have installed its rustls provider before.
    ///
    /// # Errors
    ///
    /// No provider, unreadable PEM, or https on a system without authorities and without `tls.ca`.
    pub fn new(upstream: Arc<Upstream>, metrics: Arc<UpstreamMetrics>) -> Result<Self, BuildError> {
        let http = build(&upstream).map_err(BuildError)?;
        Ok(Self(Arc::new(Shared {
            upstream,
            http,
            answers: AtomicBool::new(false),
            metrics,
        })))
    }

    /// Where this client goes.
    pub fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    /// Sends what is ordered and waits for a head that is not too large, at most `first_byte`.
    pub(super) async fn send(&self, order: Order) -> Result<Response, SourceError> {
        let limit = self.0.upstream.timeouts.first_byte;
        let result = tokio::time::timeout(limit, self.exchange(order)).await;
        match &result {
            Ok(Ok(response)) => self.0.metrics.answered(response.status().as_u16()),
            _ => self.0.metrics.failed(),
        }
        let response = match result {
            Ok(result) => result.map_err(|error| failure::before_head(&error))?,
            Err(_) => {
                let detail = format!("no response head within {limit:?}");
                return Err(SourceError::new(Cause::Timeout, detail));
            }
        };
        let head: usize = response
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if head > MAX_HEAD {
            let detail = format!("response head of {head} bytes, over {MAX_HEAD}");
            return Err(SourceError::new(Cause::TooLarge, detail));
        }
        Ok(response)
    }

    /// Asks, and asks once more when an idle connection turned out to be closed.
    ///
    /// An upstream whose keep-alive time is near the polling interval closes connections just as they are used again. That is no
    /// outage, so a GET goes out a second time, at most once and never after a byte of the answer (RFC 9110 §9.2.2). Only an
    /// upstream that answered before gets it: one that never answers is not asked twice as often.
    async fn exchange(&self, order: Order) -> Result<Response, reqwest::Error> {
        let again = order.is_get().then(|| order.clone());
        let mut result = self.0.http.execute(order.into_request()).await;
        let answered = self.0.answers.swap(result.is_ok(), Ordering::Relaxed);
        if let (Err(error), Some(again)) = (&result, again)
            && answered
            && failure::is_lost_connection(error)
        {
            result = self.0.http.execute(again.into_request()).await;
            self.0.answers.store(result.is_ok(), Ordering::Relaxed);
        }
        result
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpClient")
            .field(&self.0.upstream.name)
            .finish()
    }
}

fn build(upstream: &Upstream) -> Result<Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // reqwest would panic.
        return Err("no TLS provider is installed in this process".to_owned());
    }
    let builder = Client::builder()
        .user_agent(concat!("wellspring/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(upstream.timeouts.connect)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(upstream.max_concurrent_polls)
        .http2_max_header_list_size(MAX_HEAD as u32)
        .referer(false)
        .redirect(redirects(upstream))
        // The proxies in our environment are the operator's, not the upstream's.
        .no_proxy()
        // Bodies are decoded by `coding`, whose caps these know nothing of. Features of reqwest are those of the whole build.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd();
    let builder = match upstream.url.scheme() {
        "https" => tls(builder, upstream)?,
        // Without TLS nothing is verified, so a machine without authorities can still poll plain HTTP.
        _ => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| {
        let reason = failure::describe(&error);
        match (upstream.url.scheme(), &upstream.tls.ca) {
            ("https", None) => {
                format!("{reason} (name the authority in tls.ca, or install ca-certificates)")
            }
            _ => reason,
        }
    })
}

/// Who is believed, and who we are. Every way that does not verify passes through `insecure`, and says so.
fn tls(mut builder: ClientBuilder, upstream: &Upstream) -> Result<ClientBuilder, String> {
    let UpstreamTls {
        ca,
        identity,
        insecure,
    } = &upstream.tls;
    builder = builder.tls_sni(true);
    if *insecure {
        warn!(upstream = %upstream.name, "certificates of this upstream are NOT verified: anybody on the way can answer for it");
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(pem) = ca {
        let authorities = Certificate::from_pem_bundle(pem)
            .map_err(|error| format!("tls.ca: {}", failure::describe(&error)))?;
        if authorities.is_empty() {
            return Err("tls.ca holds no certificate".to_owned());
        }
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(identity) = identity {
        let mut pem = identity.key.expose().as_bytes().to_vec();
        pem.push(b'\n');
        pem.extend_from_slice(&identity.certificate);
        let identity = Identity::from_pem(&pem).map_err(|error| {
            format!("tls.certificate and tls.key: {}", failure::describe(&error))
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

/// A redirect that is not followed is its own response, and thus a failed status (EDGE U3).
fn redirects(upstream: &Upstream) -> Policy {
    if !upstream.follow_redirects {
        return Policy::none();
    }
    // The origin is scheme, host and port: no other host sees our headers, and https never becomes http.
    let origin = upstream.url.origin();
    Policy::custom(move |attempt: Attempt<'_>| {
        let next = attempt.url();
        let same =
            next.origin() == origin && next.username().is_empty() && next.password().is_none();
        match same && attempt.previous().len() <= MAX_HOPS {
            true => attempt.follow(),
            false => attempt.stop(),
        }
    })
}
