//! The source against real sockets: an upstream that keeps to a script (`upstream`), and one that speaks TLS (`secure`).

mod events;
mod faults;
mod pace;
mod redirects;
mod secure;
mod upstream;
mod values;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use url::Url;

use super::{HttpClient, HttpSource};
use crate::config::{self, HttpFormat, Timeouts, Upstream, UpstreamTls};
use crate::params::{ParamText, Params};
use crate::source::{Answer, Cause, Reading, Source, SourceError};
use crate::value::Value;

/// What the file would say for `GET url/` as JSON, with short deadlines and a limit of 256 KiB.
pub(super) fn spec(url: &str) -> config::HttpSource {
    config::HttpSource {
        upstream: Arc::new(Upstream {
            name: "test".to_owned(),
            url: Url::parse(url).expect("a URL"),
            headers: HeaderMap::new(),
            timeouts: Timeouts {
                connect: Duration::from_secs(10),
                first_byte: Duration::from_secs(10),
                total: Duration::from_secs(20),
            },
            max_body: 256 * 1024,
            max_concurrent_polls: 4,
            budget: None,
            follow_redirects: false,
            tls: UpstreamTls::default(),
        }),
        method: Method::GET,
        path: ParamText::literal("/"),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        forward_headers: Vec::new(),
        format: HttpFormat::Json,
        success: vec![200],
    }
}

/// `spec` with its upstream changed.
fn with(mut spec: config::HttpSource, change: impl FnOnce(&mut Upstream)) -> config::HttpSource {
    change(Arc::make_mut(&mut spec.upstream));
    spec
}

fn client(spec: &config::HttpSource) -> HttpClient {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpClient::new(spec.upstream.clone(), Default::default()).expect("a client")
}

fn source(spec: &config::HttpSource) -> HttpSource {
    HttpSource::new(
        client(spec),
        Arc::new(spec.clone()),
        Params::default(),
        None,
    )
}

async fn reading(source: &mut HttpSource) -> Result<Reading, Cause> {
    read(source)
        .await
        .map(|answer| answer.reading)
        .map_err(|error| error.cause)
}

/// Reads, and checks what holds for every error.
async fn read(source: &mut HttpSource) -> Result<Answer, SourceError> {
    let result = source.read().await;
    if let Err(error) = &result {
        assert!(!error.detail.is_empty());
        assert!(error.detail.chars().count() < 400, "{error}");
        assert!(!error.detail.contains(|c: char| c.is_control()), "{error}");
        assert!(!error.detail.contains("s3cret"), "{error}");
    }
    result
}

fn json(text: &str) -> Result<Reading, Cause> {
    Ok(Reading::Value(
        Value::parse_json(text.as_bytes()).expect("JSON"),
    ))
}
