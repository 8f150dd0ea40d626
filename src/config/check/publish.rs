//! `streams[].publish`

use std::sync::Arc;

use super::super::field::PathTemplate;
use super::super::read::Item;
use super::super::{Auth, PublishSource};
use super::path::template;
use super::stream::World;
use super::{auth, keys};

/// `stream_path`: where the messages go, and `stream_auth`: who may read them there, if these could be read.
pub(super) fn read<'a>(
    item: Item<'a>,
    world: &mut World<'_, 'a>,
    stream_path: Option<&PathTemplate>,
    stream_auth: Option<&Arc<Auth>>,
) -> Option<PublishSource> {
    let section = item.section(&keys::PUBLISH_SOURCE)?;
    let path_item = section.get("path");
    let path = template(&path_item, &|name| {
        stream_path
            .and_then(|path| path.pattern(name))
            .cloned()
            .unwrap_or_default()
    });
    if let Some(path) = &path {
        world.paths.add_publish(path_item.clone(), path);
    }
    let retain = section.bool("retain");
    let server = section
        .get("server")
        .or_null(|item| world.servers.find(&item));
    let max_body = section.size("max_body");
    let auth = match section.given("auth") {
        Some(item) => auth::read(&item),
        None => stream_auth.cloned(),
    };
    if auth.as_ref().is_some_and(|auth| auth.0.is_empty()) {
        world.open_publishing.push(path_item.clone());
    }
    let (path, stream_path) = (path?, stream_path?);
    let Some(params) = places(stream_path, &path) else {
        path_item.problem(
            "the parameters are not those of the stream's path (write the same {names} in both)",
        );
        return None;
    };
    Some(PublishSource {
        path,
        params,
        retain: retain?,
        server: server?,
        max_body: max_body?,
        auth: auth?,
    })
}

/// For each parameter of the stream its place among those of the publish path; `None` when they are not the same.
fn places(stream: &PathTemplate, publish: &PathTemplate) -> Option<Vec<usize>> {
    if stream.param_names().len() != publish.param_names().len() {
        return None;
    }
    let place = |name| publish.param_names().position(|known| known == name);
    stream.param_names().map(place).collect()
}
