//! An event stream of an upstream as a source.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use super::Upstream;
use crate::params::ParamText;

/// An event stream. Debug output leaves out what may hold a token.
#[derive(Clone, PartialEq)]
pub struct SseSource {
    /// Where.
    pub upstream: Arc<Upstream>,
    /// Begins with `/`; the upstream's base path is not part of it. Parameters are percent-encoded.
    pub path: ParamText,
    /// Names are sent percent-encoded, values too.
    pub query: Vec<(String, ParamText)>,
    /// Sent after the upstream's own, which they replace.
    pub headers: Vec<(HeaderName, ParamText)>,
}

impl fmt::Debug for SseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseSource")
            .field("upstream", &self.upstream.name)
            .finish_non_exhaustive()
    }
}
