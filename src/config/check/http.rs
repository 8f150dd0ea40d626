//! `streams[].http`

use http::Method;

use super::super::read::{Item, Section};
use super::super::{HttpFormat, HttpSource, Upstream};
use super::text::{self, Names};
use super::{Named, all, headers, keys};
use crate::params::ParamText;

/// `own_path`: the stream's path, which is polled when there is no other.
pub(super) fn read(
    item: Item<'_>,
    upstreams: &Named<Upstream>,
    names: &Names,
    own_path: Option<&str>,
) -> Option<HttpSource> {
    let section = item.section(&keys::HTTP_SOURCE)?;
    let upstream = upstreams.find(&section.get("upstream"));
    let method = section.choice("method", &[("GET", &Method::GET), ("POST", &Method::POST)]);
    let path = path(&section, names, own_path);
    let query = query(&section.get("query"), names);
    let headers = headers::with_params(&section.get("headers"), names);
    let body = section
        .get("body")
        .or_null(|item| Some(names.body(&item.text()?)));
    let forward_headers = headers::forwarded(&section.get("forward_headers"));
    if let (Some(forwarded), Some(headers)) = (&forward_headers, &headers) {
        let ours = upstream.iter().flat_map(|upstream| upstream.headers.keys());
        let ours: Vec<_> = ours.chain(headers.iter().map(|(name, _)| name)).collect();
        if let Some(name) = forwarded.iter().find(|name| ours.contains(name)) {
            section.get("forward_headers").problem(format!(
                "{name} is set in headers of the source or its upstream, too, and clients without it would be lent ours (remove one)"
            ));
        }
    }
    let format = section.choice(
        "format",
        &[("json", HttpFormat::Json), ("text", HttpFormat::Text)],
    );
    let success = success(&section);
    let (method, body) = (method?, body?);
    if method == Method::GET && body.is_some() {
        section
            .get("body")
            .problem("a GET has no body (write method: POST, or remove it)");
    }
    Some(HttpSource {
        upstream: upstream?,
        method: method.clone(),
        path: path?,
        query: query?,
        headers: headers?,
        body,
        forward_headers: forward_headers?,
        format: format?,
        success: success?,
    })
}

/// What is asked for: the path that is written, or else the stream's own.
pub(super) fn path(
    section: &Section<'_>,
    names: &Names,
    own_path: Option<&str>,
) -> Option<ParamText> {
    let written = section.get("path").or_null(|item| {
        item.parsed(
            "write /v1/quotes/{symbol}; a query goes under query",
            |text| names.path(text),
        )
    });
    match written? {
        Some(path) => Some(path),
        None => names.path(own_path?).ok(),
    }
}

pub(super) fn query(item: &Item<'_>, names: &Names) -> Option<Vec<(String, ParamText)>> {
    all(item.entries()?.into_iter().map(|(name, value)| {
        let value = value.parsed(text::HINT, |text| names.text(text));
        Some((name.text()?, value?))
    }))
}

fn success(section: &Section<'_>) -> Option<Vec<u16>> {
    let item = section.get("success");
    let items = item.list()?;
    if items.is_empty() {
        item.problem("no status is a success (write [200])");
        return None;
    }
    let mut seen = Vec::new();
    all(items.iter().map(|item| {
        let status = section.integer_of("success", item)?.try_into().ok()?;
        if status == 304 {
            item.problem("304 says that nothing changed and brings no value (remove it)");
        }
        if seen.contains(&status) {
            item.problem("the status stands twice (remove one)");
        }
        seen.push(status);
        Some(status)
    }))
}
