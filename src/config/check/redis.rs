//! `redis`: servers; and `streams[].redis`

use std::sync::Arc;

use super::super::read::{Item, Section};
use super::super::{
    Endpoint, Envelope, PubSubName, RedisFormat, RedisKeySource, RedisLogin, RedisNodes,
    RedisPlace, RedisPubSubSource, RedisSentinel, RedisServer, RedisShape, RedisStreamSource,
    RedisWatch, Secret, Source,
};
use super::text::Names;
use super::{Named, all, keys};
use crate::params::{ParamText, Part};

/// Where a server listens whose URL names no port.
const SENTINEL_PORT: u16 = 26379;

const URL_HINT: &str = "write redis://127.0.0.1:6379/0, rediss://user:password@host or \
                        redis+unix:///run/redis.sock";
const NODE_HINT: &str = "write redis://user:password@node-1:6379 or rediss://node-1:6379";

pub(super) fn server(name: String, item: Item<'_>) -> Option<RedisServer> {
    let section = item.section(&keys::REDIS_SERVER)?;
    let url = section.get("url").hide();
    let sentinel = section.get("sentinel");
    let is_asked = !sentinel.is_null();
    let asked = sentinel.clone().or_null(self::sentinel);
    if url.is_list() {
        if is_asked {
            sentinel.problem("a cluster has no sentinels (remove it, or write one url)");
        }
        asked?;
        return cluster(name, &url);
    }
    let server = url.parsed(URL_HINT, |url| Ok(RedisServer::of(&name, url)?));
    let (mut server, asked) = (server?, asked?);
    match (&mut server.place, asked) {
        (_, None) => {}
        (RedisPlace::Network { nodes, .. }, Some(asked)) => *nodes = RedisNodes::Sentinel(asked),
        (RedisPlace::Unix(_), Some(_)) => {
            url.problem(
                "sentinels name servers of the network (write redis://user:password@mymaster; the host means nothing)",
            );
            return None;
        }
    }
    Some(server)
}

/// All nodes have one user and password, and are reached in one way: those that they name are reached as they are.
fn cluster(name: String, url: &Item<'_>) -> Option<RedisServer> {
    let items = url.list()?;
    let read = |item: &Item<'_>| {
        item.parsed(NODE_HINT, |url| {
            let url = match url.contains("://") {
                true => url.to_owned(),
                false => format!("redis://{url}"),
            };
            Ok(RedisServer::of(&name, &url)?)
        })
    };
    let servers: Vec<_> = items.iter().map(read).collect();
    let Some(first) = servers.iter().flatten().next() else {
        if items.is_empty() {
            url.problem(
                "a cluster has nodes (write [\"redis://node-1:6379\", \"redis://node-2:6379\"])",
            );
        }
        return None;
    };
    let seeds = items.iter().zip(&servers).map(|(item, server)| {
        let server = server.as_ref()?;
        let RedisPlace::Network { tls, nodes } = &server.place else {
            item.problem(format!("a cluster is in the network ({NODE_HINT})"));
            return None;
        };
        if server.database != 0 {
            item.problem("a cluster has the database 0 alone (remove the number)");
            return None;
        }
        match nodes {
            RedisNodes::One(node) if server.login == first.login && *tls == is_encrypted(first) => {
                Some(node.clone())
            }
            _ => {
                item.problem("the nodes of a cluster have one scheme, user and password (write those of the first)");
                None
            }
        }
    });
    let place = RedisPlace::Network {
        tls: is_encrypted(first),
        nodes: RedisNodes::Cluster(all(seeds)?),
    };
    let login = first.login.clone();
    Some(RedisServer {
        name,
        place,
        login,
        database: 0,
    })
}

fn is_encrypted(server: &RedisServer) -> bool {
    matches!(server.place, RedisPlace::Network { tls: true, .. })
}

fn sentinel(item: Item<'_>) -> Option<RedisSentinel> {
    let section = item.section(&keys::SENTINEL)?;
    let master = section.get("master").parsed("write mymaster", |name| {
        let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
        is_name
            .then(|| name.to_owned())
            .ok_or_else(|| "this is no name of a master".to_owned())
    });
    let text = |name| {
        let item = section.get(name).hide();
        item.or_null(|item| item.text())
            .map(|text| text.map(Secret::new))
    };
    let (user, password) = (text("user"), text("password"));
    let nodes = section.get("nodes");
    let read = |item: Item<'_>| {
        item.parsed("write sentinel-1:26379", |text| {
            Endpoint::parse(text, SENTINEL_PORT)
        })
    };
    let endpoints = nodes
        .list()
        .and_then(|items| all(items.into_iter().map(read)));
    if endpoints.as_ref().is_some_and(Vec::is_empty) {
        nodes.problem("there is nobody to ask (write [sentinel-1:26379, sentinel-2:26379])");
        return None;
    }
    let login = RedisLogin {
        user: user?,
        password: password?,
    };
    if login.user.is_some() && login.password.is_none() {
        section
            .get("user")
            .problem("a user has a password (write password as well, or remove user)");
        return None;
    }
    Some(RedisSentinel {
        master: master?,
        nodes: endpoints?,
        login,
    })
}

/// The keys of the tables that say what is read.
const SHAPES: [(&str, RedisShape); 6] = [
    ("key", RedisShape::String),
    ("hash", RedisShape::Hash),
    ("list", RedisShape::List),
    ("set", RedisShape::Set),
    ("zset", RedisShape::SortedSet),
    ("json", RedisShape::Json),
];

pub(super) fn source(
    item: Item<'_>,
    servers: &Named<RedisServer>,
    names: &Names,
) -> Option<Source> {
    let section = item.section(&keys::REDIS_SOURCE)?;
    let server = servers.find(&section.get("server"));
    let formats = [
        ("auto", RedisFormat::Auto),
        ("json", RedisFormat::Json),
        ("text", RedisFormat::Text),
    ];
    let format = section.choice("format", &formats);
    let watches = [
        ("auto", RedisWatch::Auto),
        ("tracking", RedisWatch::Tracking),
        ("keyspace", RedisWatch::Keyspace),
        ("poll", RedisWatch::Poll),
    ];
    let watch = section.choice("watch", &watches);
    let envelopes = [("none", Envelope::None), ("flask-sse", Envelope::FlaskSse)];
    let envelope = section.choice("envelope", &envelopes);
    let mut given: Vec<(Kind, Item<'_>)> = Vec::new();
    for (name, shape) in SHAPES {
        given.extend(section.given(name).map(|item| (Kind::Key(shape), item)));
    }
    given.extend(section.given("channel").map(|item| (Kind::Channel, item)));
    given.extend(section.given("stream").map(|item| (Kind::Stream, item)));
    if let Some((kind, _)) = given.first() {
        refuse_idle_keys(&section, kind);
    }
    match given.as_slice() {
        [(Kind::Key(shape), item)] => {
            let key = item.parsed(KEY_HINT, |text| key_text(names, text));
            if *shape == RedisShape::Json && format == Some(RedisFormat::Text) {
                section
                    .get("format")
                    .problem("a RedisJSON document is no text (write auto or json)");
            }
            Some(Source::RedisKey(RedisKeySource {
                server: server?,
                shape: *shape,
                key: key?,
                watch: watch?,
                format: format?,
            }))
        }
        [(Kind::Channel, item)] => {
            let channel = item.parsed(KEY_HINT, |text| pub_sub_name(names, text));
            Some(Source::RedisPubSub(Arc::new(RedisPubSubSource {
                server: server?,
                channel: channel?,
                envelope: envelope?,
                format: format?,
            })))
        }
        [(Kind::Stream, item)] => {
            let stream = item.parsed(KEY_HINT, |text| key_text(names, text));
            Some(Source::RedisStream(Arc::new(RedisStreamSource {
                server: server?,
                stream: stream?,
                format: format?,
            })))
        }
        [] => {
            section.item.problem(
                "nothing to read (write one of key, hash, list, set, zset, json, channel or stream)",
            );
            None
        }
        _ => {
            section.item.problem("several things to read (write only one of key, hash, list, set, zset, json, channel or stream)");
            None
        }
    }
}

const KEY_HINT: &str = "write prices:{symbol}; {{ and }} are braces";

/// What is read.
enum Kind {
    Key(RedisShape),
    Channel,
    Stream,
}

/// Keys that would be read and mean nothing.
fn refuse_idle_keys(section: &Section<'_>, kind: &Kind) {
    let no_envelope = (
        "envelope",
        "only the messages of a channel have one (remove it)",
    );
    let idle: &[(&str, &str)] = match kind {
        Kind::Key(_) => &[no_envelope],
        Kind::Channel => &[("watch", "a channel tells by itself (remove it)")],
        Kind::Stream => &[
            no_envelope,
            ("watch", "a stream is always watched (remove it)"),
        ],
    };
    for (name, why) in idle {
        if section.has(name) {
            section.key_item(name).problem(*why);
        }
    }
}

/// EDGE R3: what a client chose never begins a key.
fn key_text(names: &Names, text: &str) -> Result<ParamText, String> {
    let text = names.text(text)?;
    match text.0.first() {
        Some(Part::Literal(_)) => Ok(text),
        Some(Part::Param(_)) => {
            Err("a parameter begins the name, so clients could read any key".into())
        }
        None => Err("the name is empty".into()),
    }
}

fn pub_sub_name(names: &Names, text: &str) -> Result<PubSubName, String> {
    let name = key_text(names, text)?;
    let is_glob =
        |part: &Part| matches!(part, Part::Literal(literal) if literal.contains(['*', '?', '[']));
    if !name.0.iter().any(is_glob) {
        return Ok(PubSubName::Channel(name));
    }
    match name.0.as_slice() {
        [Part::Literal(pattern)] => Ok(PubSubName::Pattern(pattern.clone())),
        // EDGE R3: patterns never hold what a client chose.
        _ => {
            Err("a name with `*`, `?` or `[` is a pattern, and a pattern holds no parameter".into())
        }
    }
}
