//! The sources of streams.

use super::Kind::{Bool, List, Map, NoneOrMany, Text};
use super::tables::AUTH;
use super::*;

pub(in crate::config) static HTTP_SOURCE: Table = table(&[
    key("upstream", Text, "A name from upstreams.").needed("upstream: NAME"),
    key("method", choice(&["GET", "POST"]), "POST for searches that need a body.").or("GET"),
    key("path", Text, "Path below the upstream's url; null: the stream's own. {name} is a parameter.").or("null"),
    key("query", Map(&Text), "Query by name; values may hold {name}.").or("{}"),
    key("headers", Map(&Text), "Sent besides the upstream's own, which they replace; values may hold {name}.").or("{}"),
    key("body", Text, "Body of a POST; {name} is a parameter, JSON-escaped.").or("null"),
    key("forward_headers", List(&Text), "Request headers that polls take over, such as authorization: every distinct value makes a channel of its own.").or("[]"),
    key("format", choice(&["json", "text"]), "How the body is read.").or("json"),
    key("success", List(&integer(200, 599)), "Statuses whose body is a value.").or("[200]"),
]);

pub(in crate::config) static REDIS_SOURCE: Table = table(&[
    key("server", Text, "A name from redis.").needed("server: NAME"),
    key("key", Text, "A string key. It begins with a literal and may hold {name}."),
    key("hash", Text, "A hash: an object."),
    key("list", Text, "A list: an array."),
    key("set", Text, "A set: a sorted array."),
    key("zset", Text, "A sorted set: an array of {member, score} by rank."),
    key("json", Text, "A RedisJSON document."),
    key("channel", Text, "A pub/sub channel; with `*`, `?` or `[` a pattern, and then without {name}."),
    key("stream", Text, "A Redis stream: an object of each entry's fields, under the entry's id. It begins with a literal and may hold {name}."),
    key("watch", choice(&["auto", "tracking", "keyspace", "poll"]), "How a change of a key is noticed: the server announces it (client tracking, keyspace notifications), or every is all there is. auto: the first that the server allows.").or("auto"),
    key("format", choice(&["auto", "json", "text"]), "auto: JSON when it parses as JSON, else text; of collections and streams only json makes more than strings.").or("auto"),
    key("envelope", choice(&["none", "flask-sse"]), "What wraps the messages of a channel.").or("none"),
])
.with_one_of(&["key", "hash", "list", "set", "zset", "json", "channel", "stream"]);

pub(in crate::config) static SSE_SOURCE: Table = table(&[
    key("upstream", Text, "A name from upstreams.").needed("upstream: NAME"),
    key("path", Text, "Path below the upstream's url; null: the stream's own. {name} is a parameter.").or("null"),
    key("query", Map(&Text), "Query by name; values may hold {name}.").or("{}"),
    key("headers", Map(&Text), "Sent besides the upstream's own, which they replace; values may hold {name}.").or("{}"),
]);

pub(in crate::config) static PUBLISH_SOURCE: Table = table(&[
    key("path", Text, "Where to POST; its parameters are the stream's.").needed("path: /publish/alerts"),
    key("retain", Bool, "Whether the last message is the current value.").or("true"),
    key("server", Text, "A name from redis: shares the messages with other replicas.").or("null"),
    key("max_body", size(1, GIB), "Largest message.").or("64KiB"),
    key("auth", NoneOrMany(&AUTH), "Who may publish, instead of who may read."),
]);
