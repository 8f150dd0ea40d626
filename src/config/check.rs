//! The tree of a file to a [`Config`]: every check of CONTRACT.md §2 and §6, one file a section of the file.
//!
//! Each reader asks for all of its keys before it gives up, so that all problems come in one run. A `None` means that a
//! problem has been told.

mod admin;
mod auth;
mod client_address;
mod cluster;
mod cors;
mod fit;
mod headers;
mod http;
mod listener;
mod names;
mod path;
mod process;
mod publish;
mod redis;
mod route;
mod sse;
mod stream;
mod text;
mod tls;
mod upstream;

use std::path::Path;

use names::Named;
use path::Paths;
use stream::World;

use super::files::Files;
use super::keys;
use super::problem::{Problem, Problems};
use super::read::{self, Item, Reader};
use super::shown::{self, Shown};
use super::yaml;
use super::{Config, Listener};

/// Bytes of a configuration; what is longer is no configuration.
const MAX_FILE: u64 = 16 << 20;

/// Reads the file at `path`, then as [`parse`]. What was read is added to `files`.
pub(super) fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    files: &mut Files,
) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let refused = |line, column, text: &str| {
        let (path, text) = (String::new(), text.to_owned());
        Problems::one(
            &name,
            Problem {
                line,
                column,
                path,
                text,
            },
        )
    };
    let bytes = match files.read(path, MAX_FILE + 1) {
        Ok(bytes) if bytes.len() as u64 > MAX_FILE => {
            return Err(refused(
                1,
                1,
                "the file is larger than 16MiB (write a smaller one)",
            ));
        }
        Ok(bytes) => bytes,
        Err(error) => {
            let why = read::why(&error);
            let text = format!("the file cannot be read: {why} (write the path of one that can)");
            return Err(refused(1, 1, &text));
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text, env, files),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .map_or(0, |line| line.chars().count())
                + 1;
            Err(refused(
                line,
                column,
                "the file is not UTF-8 (save it as UTF-8)",
            ))
        }
    }
}

/// Reads `text`, which stands in the file named `file`. Files that it names and that were read are added to `files`.
pub(super) fn parse(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    files: &mut Files,
) -> Result<Config, Problems> {
    let (document, problems) = yaml::parse(text);
    let reader = Reader::new(Path::new(file), env, problems);
    let config = document.and_then(|document| {
        let shown = shown::shown(&document);
        Some(Config {
            shown,
            ..root(reader.root(document))?
        })
    });
    let (problems, read) = reader.into_problems();
    files.append(read);
    match (Problems::new(file, problems), config) {
        (None, Some(config)) => Ok(config),
        (Some(problems), _) => Err(problems),
        // Whoever gives nothing has told why; should one have forgotten, the file is refused all the same.
        (None, None) => {
            let mark = yaml::Mark { line: 1, column: 1 };
            Err(Problems::one(
                file,
                mark.problem("the file cannot be used (please report this)"),
            ))
        }
    }
}

fn root(item: Item<'_>) -> Option<Config> {
    let section = item.section(&keys::ROOT)?;
    let client_address = client_address::read(section.get("client_address"));
    let listeners = listener::all(&section.get("listeners"), client_address.as_ref());
    let admin = admin::read(&section, listeners.as_deref().unwrap_or_default());
    let upstreams = Named::read("upstreams", &section.get("upstreams"), upstream::read);
    let redis = Named::read("redis", &section.get("redis"), redis::server);
    let cluster = cluster::read(section.get("cluster"), &redis);
    let cors = cors::read(section.get("cors"));
    let auth = auth::read(&section.get("auth"));
    let mut world = World {
        upstreams: &upstreams,
        servers: &redis,
        cors: cors.as_ref(),
        auth: auth.as_ref(),
        cluster: cluster.as_ref().and_then(Option::as_ref),
        open_publishing: Vec::new(),
        paths: Paths::default(),
        sources: section.get("upstreams").digest() ^ section.get("redis").digest().rotate_left(1),
    };
    let streams = stream::all(&section.get("streams"), &mut world);
    if let Some(listeners) = &listeners {
        refuse_open_publishing(listeners, &world.open_publishing);
    }
    let routes = route::all(&section.get("routes"), &upstreams);
    let limits = process::limits(section.get("limits"));
    let compression = process::compression(&section);
    let shutdown = process::shutdown(section.get("shutdown"));
    // Nothing of this is there yet: reading it refuses what is written.
    section.get("telemetry").section(&keys::TELEMETRY);
    if streams.as_ref().is_some_and(Vec::is_empty) && routes.as_ref().is_some_and(Vec::is_empty) {
        section
            .get("streams")
            .problem("there is nothing to serve (write streams, routes or both)");
    }
    auth?;
    cluster?;
    Some(Config {
        listeners: listeners?,
        client_address: client_address?,
        admin: admin?,
        upstreams: upstreams.into_map()?,
        redis: redis.into_map()?,
        streams: streams?,
        routes: routes?,
        cors: cors?,
        limits: limits?,
        compression: compression?,
        shutdown: shutdown?,
        shown: Shown::default(),
    })
}

/// CONTRACT.md §3 "Publish": without `auth` only for who is on this machine.
fn refuse_open_publishing(listeners: &[Listener], open: &[Item<'_>]) {
    if listeners
        .iter()
        .all(|listener| listener.address.ip().to_canonical().is_loopback())
    {
        return;
    }
    for item in open {
        item.problem(
            "publishing needs auth unless every listener is loopback (write auth here or for the stream, \
             or listener addresses such as 127.0.0.1:8080)",
        );
    }
}

/// Reads all of them, so that all problems are told, and gives them if all are there.
fn all<T>(read: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = read.collect();
    read.into_iter().collect()
}

#[cfg(test)]
mod tests;
