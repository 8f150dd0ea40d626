//! `routes`

use super::super::field::check_literal;
use super::super::read::Item;
use super::super::{Route, Upstream};
use super::{Named, keys};

/// Longest prefix first.
pub(super) fn all(item: &Item<'_>, upstreams: &Named<Upstream>) -> Option<Vec<Route>> {
    let mut taken: Vec<String> = Vec::new();
    let mut routes = super::all(item.list()?.into_iter().map(|item| {
        let section = item.section(&keys::ROUTE)?;
        let prefix = section.get("prefix");
        let text = prefix.parsed("write / or /v1", check_prefix);
        if let Some(text) = &text {
            // EDGE O4
            if taken.contains(text) {
                prefix.problem(format!(
                    "the prefix {} stands twice (remove one)",
                    prefix.shown()
                ));
            }
            taken.push(text.clone());
        }
        let upstream = upstreams.find(&section.get("upstream"));
        let websockets = section.bool("websockets");
        Some(Route {
            prefix: text?,
            upstream: upstream?,
            websockets: websockets?,
        })
    }))?;
    routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
    Some(routes)
}

fn check_prefix(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("the prefix must begin with a slash".into());
    };
    if text.contains("//") {
        return Err("the prefix has an empty segment".into());
    }
    if text.contains(['{', '}']) {
        return Err("a prefix has no parameters".into());
    }
    rest.split('/')
        .try_for_each(check_literal)
        .map_err(|why| why.replacen("path", "prefix", 1))?;
    Ok(text.to_owned())
}
