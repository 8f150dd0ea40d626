//! Everything but the sources of streams.

use super::Kind::{Bool, List, Map, NoneOrMany, Number, OneOrMany, Only, Pair, Rate, Section, SectionOrOff, Text};
use super::sources::{HTTP_SOURCE, PUBLISH_SOURCE, REDIS_SOURCE, SSE_SOURCE};
use super::*;

pub(in crate::config) static ROOT: Table = table(&[
    key("listeners", List(&Section(&LISTENER)), "Listening sockets.").needed("listeners: [{address: \"0.0.0.0:8080\"}]"),
    key("admin", SectionOrOff(&ADMIN), "Where operators ask: health, metrics, what runs; off: nowhere.").or("{}"),
    key("client_address", Section(&CLIENT_ADDRESS), "Whose word about client addresses is believed.").or("{}"),
    key("upstreams", Map(&Section(&UPSTREAM)), "Legacy HTTP APIs, by a name of your choice.").or("{}"),
    key("redis", Map(&Section(&REDIS_SERVER)), "Redis servers, by a name of your choice.").or("{}"),
    key("streams", List(&Section(&STREAM)), "What clients can watch.").or("[]"),
    key("routes", List(&Section(&ROUTE)), "What is passed through: the longest prefix wins, a stream's path wins over all.").or("[]"),
    key("cors", Section(&CORS), "Which web pages of other origins may read; for all streams without their own.").or("{}"),
    key("auth", NoneOrMany(&AUTH), "Who may use the streams; for all without their own.").or("none"),
    key("limits", Section(&LIMITS), "Limits of the process.").or("{}"),
    key("compression", choice(&["off", "gzip", "zstd"]), "How streams that everybody may read are compressed, for clients that take it: each event once for all of them.").or("off"),
    key("cluster", Section(&CLUSTER), "Replicas that share polls, events and ids through Redis.").or("null"),
    key("shutdown", Section(&SHUTDOWN), "What SIGTERM does.").or("{}"),
    key("telemetry", Section(&TELEMETRY), "Traces.").or("{}"),
]);

pub(in crate::config) static ADMIN: Table = table(&[
    key("address", Text, "IP:PORT; another than loopback needs token.").or("127.0.0.1:9090"),
    key("token", Text, "Bearer token for everything but /livez and /readyz.").or("null"),
]);

pub(in crate::config) static LISTENER: Table = table(&[
    key("address", Text, "IP:PORT; port 0 takes a free one.").needed("address: 0.0.0.0:8080"),
    key("tls", Section(&LISTENER_TLS), "null: plain HTTP/1.1, and HTTP/2 by prior knowledge.").or("null"),
    key("proxy_protocol", Bool, "true: each connection begins with a PROXY header, v1 or v2, from one of client_address.trusted_proxies.").or("false"),
    key("hosts", List(&Text), "Names served here, such as api.example or \"*.example\"; empty: any.").or("[]"),
]);

pub(in crate::config) static LISTENER_TLS: Table = table(&[
    key("certificates", List(&Section(&LISTENER_CERTIFICATE)), "Chosen by the name that the client asks for (SNI); the first one is the fallback.").needed("certificates: [{certificate: tls.crt, key: tls.key}]"),
    key("min_version", choice(&["1.2", "1.3"]), "Lowest version of TLS.").or("\"1.2\""),
    key("client_ca", Text, "PEM file of authorities: clients must show a certificate of theirs.").or("null"),
]);

pub(in crate::config) static LISTENER_CERTIFICATE: Table = table(&[
    key("certificate", Text, "PEM file of the chain, ours first.").needed("certificate: /etc/wellspring/tls.crt"),
    key("key", Text, "PEM file of its private key, without password.").needed("key: /etc/wellspring/tls.key"),
]);

pub(in crate::config) static CLIENT_ADDRESS: Table = table(&[
    key("trusted_proxies", List(&Text), "Networks of the proxies whose X-Forwarded-For or Forwarded is believed, such as 10.0.0.0/8.").or("[]"),
]);

pub(in crate::config) static TELEMETRY: Table = table(&[key("otlp", Only(&["null"]), "Where traces go.").or("null"),
    key("service", Only(&["wellspring"]), "What they are of.").or("wellspring"),
]);

pub(in crate::config) static UPSTREAM: Table = table(&[
    key("url", Text, "http:// or https://, with a base path if there is one; no user, query or fragment.").needed("url: https://api.internal:8443/base"),
    key("headers", Map(&Text), "Sent with every poll. A request that is passed through has the client's own headers alone.").or("{}"),
    key("timeouts", Section(&TIMEOUTS), "Deadlines of one poll; connect is that of requests that are passed through, too.").or("{}"),
    key("max_body", size(1, GIB), "Largest answer, decoded.").or("1MiB"),
    key("max_concurrent_polls", integer(1, 65_536), "Polls in flight at once.").or("64"),
    key("budget", Rate, "Polls of all streams of this upstream together, such as 20/s; the rest is spread, not dropped.").or("null"),
    key("follow_redirects", Bool, "true: to the same origin, three hops.").or("false"),
    key("tls", Section(&UPSTREAM_TLS), "For https: whom we trust and who we are.").or("{}"),
]);

pub(in crate::config) static TIMEOUTS: Table = table(&[
    key("connect", duration(MILLISECOND, HOUR), "TCP and TLS.").or("2s"),
    key("first_byte", duration(MILLISECOND, HOUR), "From the request to the head of the answer.").or("5s"),
    key("total", duration(MILLISECOND, HOUR), "From the start to the last byte.").or("10s"),
]);

pub(in crate::config) static UPSTREAM_TLS: Table = table(&[
    key("ca", Text, "PEM file of the authorities to trust instead of the system's.").or("null"),
    key("certificate", Text, "PEM file of our certificate chain; needs key.").or("null"),
    key("key", Text, "PEM file of our private key.").or("null"),
    key("verify", Bool, "false: any certificate is taken. Never in production.").or("true"),
]);

pub(in crate::config) static REDIS_SERVER: Table = table(&[
    key("url", OneOrMany(&Text), "redis://, rediss:// or redis+unix://, with user and password if needed; a list: nodes of a cluster, of which any is asked for the others.").needed("url: redis://127.0.0.1:6379/0"),
    key("sentinel", Section(&SENTINEL), "Sentinels that are asked for the master; the host of url means nothing then.").or("null"),
]);

pub(in crate::config) static SENTINEL: Table = table(&[
    key("master", Text, "The master's name, as the sentinels know it.").needed("master: mymaster"),
    key("nodes", List(&Text), "Sentinels, as host:port; any one that answers serves. With rediss:// they are reached over TLS as well.").needed("nodes: [sentinel-1:26379, sentinel-2:26379, sentinel-3:26379]"),
    key("user", Text, "Who we are at the sentinels; null: their default user.").or("null"),
    key("password", Text, "The password there; null: no login.").or("null"),
]);

pub(in crate::config) static CLUSTER: Table = table(&[
    key("redis", Text, "A name from redis: where the replicas meet.").needed("redis: NAME"),
    key("name", Text, "Replicas with the same name share; letters, digits, `.`, `_` and `-`, at most 64.").or("wellspring"),
]);

pub(in crate::config) static STREAM: Table = table(&[
    key("path", Text, "Where clients connect; {name} is one segment.").needed("path: /v1/prices/{symbol}"),
    key("params", Map(&Text), "For a parameter the pattern that its whole value must match; default [A-Za-z0-9._~-]{1,128}.").or("{}"),
    key("http", Section(&HTTP_SOURCE), "Source: a REST resource, polled."),
    key("redis", Section(&REDIS_SOURCE), "Source: a Redis key, polled, a pub/sub channel, or a Redis stream."),
    key("publish", Section(&PUBLISH_SOURCE), "Source: what is POSTed to a path."),
    key("sse", Section(&SSE_SOURCE), "Source: an event stream of an upstream, one connection for all clients."),
    key("every", duration(50, DAY), "From poll start to poll start.").or("2s"),
    key("adaptive", Section(&ADAPTIVE), "A shorter interval while values change, a longer one while they do not.").or("off"),
    key("start", choice(&["on-demand", "always"]), "on-demand polls only while somebody watches.").or("on-demand"),
    key("linger", duration(0, DAY), "How long polling goes on after the last subscriber.").or("10s"),
    key("select", Text, "JSONPath (RFC 9535) of the value; one node: that value; several: an array.").or("$"),
    key("ignore", List(&Text), "JSONPaths whose changes do not count; they are delivered with the next event.").or("[]"),
    key("deadband", Map(&Number), "By JSONPath: a numeric change not larger than this does not count.").or("{}"),
    key("array_keys", Map(&Text), "By JSONPath of an array: the member that tells which elements are the same.").or("{}"),
    key("template", Text, "Text of `data` in value form: {value}, {param}, {value.member}.").or("null"),
    key("event", Text, "SSE event name in value form; null: onmessage gets it.").or("null"),
    key("deliver", List(&choice(&["value", "json-patch", "merge-patch"])), "Forms that a client may ask for; the first is the default.").or("[value]"),
    key("history", Section(&HISTORY), "What a client that reconnects can catch up on.").or("{}"),
    key("resume", choice(&["replay", "latest"]), "What such a client gets: each missed event, or only the newest.").or("replay"),
    key("stale_after", duration(MILLISECOND, 30 * DAY), "A reading older than this is stale; null: 3 x every, at least 5s.").or("null"),
    key("expire_after", duration(MILLISECOND, 30 * DAY), "A value stale for so long is no longer given to newcomers.").or("null"),
    key("snapshot", Bool, "A plain GET gets the value.").or("true"),
    key("heartbeat", duration(SECOND, 300 * SECOND), "Silence after which a comment is sent.").or("15s"),
    key("max_stream_age", duration(SECOND, 30 * DAY), "Age at which a stream ends and the client reconnects.").or("1h"),
    key("max_channels", integer(1, 10_000_000), "Distinct resources at once.").or("10000"),
    key("cors", Section(&CORS), "For this stream instead of the global one."),
    key("auth", NoneOrMany(&AUTH), "For this stream instead of the global one."),
    key("limits", Section(&STREAM_LIMITS), "For this stream; what it does not say is as in the global limits."),
    key("headers", Map(&Text), "More response headers.").or("{}"),
])
.with_one_of(&["http", "redis", "sse", "publish"]);

pub(in crate::config) static ADAPTIVE: Table = table(&[
    key("min", duration(50, DAY), "While values change.").needed("min: 500ms"),
    key("max", duration(50, DAY), "While they do not.").needed("max: 30s"),
]);

pub(in crate::config) static HISTORY: Table = table(&[
    key("events", integer(1, 1_000_000), "Events.").or("256"),
    key("bytes", size(1, GIB), "Bytes of their values.").or("1MiB"),
    key("age", duration(MILLISECOND, 30 * DAY), "Since they happened.").or("5m"),
]);

pub(in crate::config) static ROUTE: Table = table(&[
    key("prefix", Text, "Begin of the paths that are passed through.").needed("prefix: /"),
    key("upstream", Text, "A name from upstreams.").needed("upstream: NAME"),
    key("websockets", Bool, "Whether connections may become WebSockets.").or("false"),
]);

pub(in crate::config) static CORS: Table = table(&[
    key("origins", List(&Text), "https://app.example, https://*.example.com, \"null\", or \"*\" (without credentials).").or("[]"),
    key("credentials", Bool, "Whether browsers may send cookies and authorization.").or("false"),
    key("allow_headers", List(&Text), "Request headers that pages may set.").or("[authorization, cache-control, last-event-id, content-type, x-api-key, x-request-id]"),
    key("expose_headers", List(&Text), "Response headers that pages may read.").or("[retry-after, ratelimit, ratelimit-policy, x-request-id]"),
    key("max_age", duration(0, DAY), "How long browsers remember a preflight.").or("2h"),
]);

pub(in crate::config) static AUTH: Table = table(&[
    key("api_keys", Section(&API_KEYS), "Keys in a header."),
    key("jwt", Section(&JWT), "JSON Web Tokens of one issuer."),
    key("basic", Section(&BASIC), "Names and passwords (RFC 7617)."),
])
.with_one_of(&["api_keys", "jwt", "basic"]);

pub(in crate::config) static API_KEYS: Table = table(&[
    key("header", Text, "The header that holds the key.").or("x-api-key"),
    key("keys", List(&Section(&HASHED)), "Who has a key, and its SHA-256 as 64 hexadecimal digits.").needed("keys: [{name: web, sha256: \"...\"}]"),
]);

pub(in crate::config) static BASIC: Table = table(&[
    key("users", List(&Section(&HASHED)), "Who has a password, and its SHA-256 as 64 hexadecimal digits.").needed("users: [{name: ops, sha256: \"...\"}]"),
]);

pub(in crate::config) static HASHED: Table = table(&[
    key("name", Text, "Whose it is.").needed("name: web"),
    key("sha256", Text, "SHA-256 as 64 hexadecimal digits: printf %s KEY | sha256sum").needed("sha256: \"...\""),
]);

pub(in crate::config) static JWT: Table = table(&[
    key("issuer", Text, "What `iss` must be; null: anything.").or("null"),
    key("audience", Text, "What `aud` must be or hold; null: anything.").or("null"),
    key("algorithms", List(&choice(&ALGORITHMS)), "The only ones that are taken; null: HS256 with a secret, RS256, ES256 and EdDSA with a key set.").or("null"),
    key("jwks_url", Text, "Where the issuer publishes its keys; https, or http on loopback."),
    key("jwks_file", Text, "A file with the issuer's keys (a JSON Web Key Set)."),
    key("secret", Text, "For HS256, HS384 and HS512: what the issuer signs with; 32 bytes or more."),
    key("cookie", Text, "A cookie that may hold the token.").or("null"),
    key("query", Text, "A query parameter that may hold the token of an event stream. It ends up in other people's logs: use a cookie where you can.").or("null"),
    key("require", Map(&Text), "Claims by name, and what they must be, or hold as a word or an element.").or("{}"),
])
.with_one_of(&["jwks_url", "jwks_file", "secret"]);

pub(in crate::config) static LIMITS: Table = table(&[
    key("requests", Rate, "Requests of one client address (IPv6: /64), such as 50/s, as many at once; over: 429.").or("null"),
    key("connects", Rate, "Streams that one client address may open.").or("50/s"),
    key("streams_per_client", integer(1, 10_000_000), "Streams of one client address, or of one authenticated identity, at once.").or("1000"),
    key("streams", integer(1, 10_000_000), "Streams at once.").or("100000"),
    key("overload", choice(&["stream", "status"]), "How a full gateway answers an EventSource: 200 with retry and a clean end, or 429 / 503.").or("stream"),
    key("queue", size(KIB, GIB), "Bytes that one slow client may be behind before it gets only the newest value.").or("256KiB"),
    key("write_stall", duration(SECOND, HOUR), "How long a client may take no bytes.").or("15s"),
    key("header_timeout", duration(SECOND, HOUR), "How long a client may take for the head of a request, and for its TLS handshake.").or("10s"),
    key("max_header_bytes", size(KIB, MIB), "Bytes of the head of a request.").or("32KiB"),
]);

pub(in crate::config) static STREAM_LIMITS: Table = table(&[
    key("requests", Rate, "Requests of one client address for this stream, instead of the global limit."),
    key("connects", Rate, "Times that one client address may open this stream, instead of the global limit."),
    key("streams_per_client", integer(1, 10_000_000), "Of this stream, for one client address or identity, instead of the global limit."),
    key("streams", integer(1, 10_000_000), "Of this stream at once, within the global limit."),
    key("overload", choice(&["stream", "status"]), "How this stream refuses an EventSource."),
    refused("queue", PROCESS_WIDE),
    refused("write_stall", PROCESS_WIDE),
    refused("header_timeout", PROCESS_WIDE),
    refused("max_header_bytes", PROCESS_WIDE),
]);

const PROCESS_WIDE: &str = "holds for the whole process (write it in limits at the top level)";

pub(in crate::config) static SHUTDOWN: Table = table(&[
    key("drain", duration(0, HOUR), "Window over which streams end.").or("30s"),
    key("retry", Pair(&duration(500, HOUR)), "Shortest and longest time after which clients are told to come back.").or("[1s, 30s]"),
]);
