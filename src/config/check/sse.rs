//! `streams[].sse`

use super::super::read::Item;
use super::super::{SseSource, Upstream};
use super::http::{path, query};
use super::text::Names;
use super::{Named, headers, keys};

/// `own_path`: the stream's path, which is asked for when there is no other.
pub(super) fn read(
    item: Item<'_>,
    upstreams: &Named<Upstream>,
    names: &Names,
    own_path: Option<&str>,
) -> Option<SseSource> {
    let section = item.section(&keys::SSE_SOURCE)?;
    let upstream = upstreams.find(&section.get("upstream"));
    let path = path(&section, names, own_path);
    let query = query(&section.get("query"), names);
    let headers = headers::with_params(&section.get("headers"), names);
    Some(SseSource {
        upstream: upstream?,
        path: path?,
        query: query?,
        headers: headers?,
    })
}
