//! `redis`: servers; and `streams[].redis`

use ::redis::IntoConnectionInfo;

use super::super::field::Secret;
use super::super::read::{Item, Section};
use super::super::{
    Envelope, PubSubName, RedisFormat, RedisKeySource, RedisPubSubSource, RedisServer, RedisShape,
    RedisWatch, Source,
};
use super::text::Names;
use super::{Named, keys};
use crate::params::{ParamText, Part};

pub(super) fn server(name: String, item: Item<'_>) -> Option<RedisServer> {
    let section = item.section(&keys::REDIS_SERVER)?;
    let url = section.get("url").hide();
    if url.is_list() {
        url.problem("a list of cluster nodes is not supported yet (write the url of one server)");
        return None;
    }
    let url = url.parsed("write redis://127.0.0.1:6379/0, rediss://user:password@host or redis+unix:///run/redis.sock", |text| {
        let known = ["redis://", "rediss://", "redis+unix://", "unix://"];
        if !known.iter().any(|scheme| text.starts_with(scheme)) {
            return Err("the url has none of the schemes".into());
        }
        // What is wrong with it may quote the password.
        text.into_connection_info().map_err(|_| "this is no url of a Redis server".to_owned())?;
        Ok(Secret::new(text))
    });
    Some(RedisServer { name, url: url? })
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
    let mut keys: Vec<(RedisShape, Item<'_>)> = Vec::new();
    for (name, shape) in SHAPES {
        keys.extend(section.given(name).map(|item| (shape, item)));
    }
    let channel = section.given("channel");
    let is_channel = channel.is_some();
    refuse_idle_keys(&section, is_channel);
    match (keys.as_slice(), channel) {
        ([(shape, item)], None) => {
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
        ([], Some(item)) => {
            let channel = item.parsed(KEY_HINT, |text| pub_sub_name(names, text));
            Some(Source::RedisPubSub(RedisPubSubSource {
                server: server?,
                channel: channel?,
                envelope: envelope?,
                format: format?,
            }))
        }
        ([], None) => {
            if !section.has("stream") {
                section.item.problem(
                    "nothing to read (write one of key, hash, list, set, zset, json or channel)",
                );
            }
            None
        }
        _ => {
            section.item.problem("several things to read (write only one of key, hash, list, set, zset, json or channel)");
            None
        }
    }
}

const KEY_HINT: &str = "write prices:{symbol}; {{ and }} are braces";

/// Keys that would be read and mean nothing.
fn refuse_idle_keys(section: &Section<'_>, is_channel: bool) {
    let (idle, why) = match is_channel {
        true => ("watch", "a channel tells by itself (remove it)"),
        false => (
            "envelope",
            "only the messages of a channel have one (remove it)",
        ),
    };
    if section.has(idle) && !section.has("stream") {
        section.key_item(idle).problem(why);
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
