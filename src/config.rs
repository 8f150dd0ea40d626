//! The checked configuration: what `wellspring.yaml` says, ready to use (CONTRACT.md §2).
//!
//! Nothing outside [`load`] and [`parse`] builds a [`Config`]: a value of this type has passed every check, names resolve to
//! what they name, defaults are filled in, and no `Option` means "default". The way there: `yaml` (a tree with
//! positions) → `read` (typed questions, references to the environment; collects every problem) → `check` (one file a section,
//! cross references). `keys` names every key once, for the reader and for [`schema`].

mod admin;
mod auth;
mod check;
mod client_address;
mod cluster;
pub mod field;
mod files;
mod keys;
mod listener;
pub mod problem;
mod read;
mod redis;
pub mod schema;
mod shown;
mod sse;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

pub use crate::sse::{Coding, EventName};
pub use admin::Admin;
pub use auth::{ApiKeys, Auth, AuthMethod, Hashed, Jwt, JwtKeys};
pub use client_address::ClientAddress;
pub use cluster::{Cluster, Sharing};
pub use field::{CorsOrigin, HostPattern, PathTemplate, Pattern, Rate, Secret};
pub use files::Files;
pub use listener::{Listener, PemFile, PemKey, ServerCertificate, ServerTls, TlsVersion};
pub use problem::{Problem, Problems};
pub use redis::{Endpoint, RedisLogin, RedisNodes, RedisPlace, RedisSentinel, RedisServer};
pub use shown::Shown;
pub use sse::SseSource;

pub use crate::channel::{Form, History, Resume};

use crate::params::ParamText;
use crate::value::{DataTemplate, Selector};

/// Reads, resolves and checks the file at `path`. `${NAME}` comes from the process environment.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with_files(path).0
}

/// As [`load`]; with the files that were read, of a file that is refused too.
pub fn load_with_files(path: &Path) -> (Result<Config, Problems>, Files) {
    let mut files = Files::default();
    let config = check::load(path, &|name| std::env::var(name).ok(), &mut files);
    (config, files)
}

/// Checks `text` as if it were the file named `file`; `env` answers `${NAME}`.
pub fn parse(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    check::parse(file, text, env, &mut Files::default())
}

/// The whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Whose word about client addresses is believed.
    pub client_address: ClientAddress,
    /// `None`: off.
    pub admin: Option<Admin>,
    /// By name.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// By name.
    pub redis: BTreeMap<String, Arc<RedisServer>>,
    /// In the order of the file; no two have the same shape of path.
    pub streams: Vec<Arc<Stream>>,
    /// Longest prefix first.
    pub routes: Vec<Route>,
    /// Cross-origin policy of streams without their own.
    pub cors: Cors,
    /// Process-wide limits.
    pub limits: Limits,
    /// How streams that everybody may read are compressed for clients that take it (EDGE Z1).
    pub compression: Option<Coding>,
    /// What SIGTERM does.
    pub shutdown: Shutdown,
    /// The file with its defaults and without its secrets, for operators.
    pub shown: Shown,
}

/// A legacy HTTP API.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The key in the file.
    pub name: String,
    /// `http` or `https`; its path (without a trailing slash) goes before every path; no query, fragment or userinfo.
    pub url: Url,
    /// Sent with every poll, never with a passed-through request; values are marked sensitive.
    pub headers: HeaderMap,
    /// Deadlines of one poll; `connect` is that of passed-through requests too.
    pub timeouts: Timeouts,
    /// Bytes, decoded.
    pub max_body: usize,
    /// At least 1.
    pub max_concurrent_polls: usize,
    /// Polls of all streams of this upstream together; what is over is spread, not dropped.
    pub budget: Option<Rate>,
    /// Same origin only, three hops.
    pub follow_redirects: bool,
    /// Only used when `url` is https.
    pub tls: UpstreamTls,
}

/// Deadlines of one poll.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// From the request to the response head.
    pub first_byte: Duration,
    /// From the start to the last byte of the body.
    pub total: Duration,
}

/// How an upstream is verified, and how we show who we are. Files are read at load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamTls {
    /// PEM: trusted instead of the system's authorities.
    pub ca: Option<Vec<u8>>,
    /// PEM certificate chain and key.
    pub identity: Option<TlsIdentity>,
    /// `verify: false`: any certificate is taken. Loud in the log.
    pub insecure: bool,
}

/// A client certificate with its key, both PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsIdentity {
    /// The chain, leaf first.
    pub certificate: Vec<u8>,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Secret,
}

/// One stream: a path, what feeds it, and how. Two are equal when their definitions say the same, with everything that
/// they name: what is inherited from the whole file, such as its `cors`, is no part of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Literal segments and parameters with their patterns.
    pub path: PathTemplate,
    /// Equal for equal definitions, in another process too, which then can go on with its events; `None` where none can:
    /// what is only listened to has no current value, and nobody knows what a gap held; what is read with clients' own
    /// credentials cannot be read without them.
    pub continuity: Inherited<Option<u64>>,
    /// What is read.
    pub source: Source,
    /// Where replicas share what is read; `None`: each process reads for itself.
    pub sharing: Option<Sharing>,
    /// From poll start to poll start.
    pub every: Duration,
    /// The interval follows the rate of change.
    pub adaptive: Option<Adaptive>,
    /// Polls only while somebody watches, or always.
    pub start: Start,
    /// How long polling goes on after the last subscriber.
    pub linger: Duration,
    /// What part of a reading is the value. Never applied to `format: text`.
    pub select: Selector,
    /// Changes below these do not count.
    pub ignore: Vec<Selector>,
    /// Numeric changes not larger than this do not count.
    pub deadband: Vec<(Selector, f64)>,
    /// Elements of these arrays are identified by this member.
    pub array_keys: Vec<(Selector, String)>,
    /// Text of `data` in value form.
    pub template: Option<DataTemplate>,
    /// SSE event name in value form.
    pub event: Option<EventName>,
    /// Forms that a client may ask for; never empty; the first is the default.
    pub deliver: Vec<Form>,
    /// Bounds of the replay log.
    pub history: History,
    /// What a resuming client gets.
    pub resume: Resume,
    /// A reading older than this is stale.
    pub stale_after: Duration,
    /// A value stale for so long is no longer given to newcomers.
    pub expire_after: Option<Duration>,
    /// Whether a plain GET gets the value.
    pub snapshot: bool,
    /// Silence after which a comment is sent, before jitter.
    pub heartbeat: Duration,
    /// Age at which a stream ends, before jitter.
    pub max_stream_age: Duration,
    /// Distinct resources at once.
    pub max_channels: usize,
    /// Cross-origin policy of this path.
    pub cors: Inherited<Cors>,
    /// What it allows otherwise than the process.
    pub limits: StreamLimits,
    /// Who may use this path.
    pub auth: Arc<Auth>,
    /// Added to responses of this path.
    pub headers: HeaderMap,
}

impl Stream {
    /// Request headers on which its values depend.
    pub fn forwards(&self) -> &[HeaderName] {
        match &self.source {
            Source::Http(http) => &http.forward_headers,
            Source::RedisKey(_)
            | Source::RedisPubSub(_)
            | Source::RedisStream(_)
            | Source::Sse(_)
            | Source::Publish(_) => &[],
        }
    }
}

/// What a stream may say for itself and else has from the whole file.
#[derive(Clone, Debug)]
pub struct Inherited<T> {
    value: T,
    own: bool,
}

impl<T> Inherited<T> {
    /// What the stream says.
    pub fn own(value: T) -> Self {
        Self { value, own: true }
    }

    /// What the file says for all streams.
    pub fn from_file(value: T) -> Self {
        Self { value, own: false }
    }
}

impl<T> Deref for Inherited<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// As parts of a stream's definition: what is inherited is none, so it may change without ending the stream.
impl<T: PartialEq> PartialEq for Inherited<T> {
    fn eq(&self, other: &Self) -> bool {
        match (self.own, other.own) {
            (true, true) => self.value == other.value,
            (own, others) => own == others,
        }
    }
}

/// What a stream reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Polls a REST resource.
    Http(Arc<HttpSource>),
    /// Polls a Redis key.
    RedisKey(RedisKeySource),
    /// Listens to a Redis pub/sub channel.
    RedisPubSub(Arc<RedisPubSubSource>),
    /// Follows a Redis stream.
    RedisStream(Arc<RedisStreamSource>),
    /// Listens to an event stream of an upstream.
    Sse(Arc<SseSource>),
    /// Takes `POST`s.
    Publish(PublishSource),
}

/// A REST resource. Debug output leaves out what may hold a token.
#[derive(Clone, PartialEq)]
pub struct HttpSource {
    /// Where.
    pub upstream: Arc<Upstream>,
    /// GET or POST.
    pub method: http::Method,
    /// Begins with `/`; the upstream's base path is not part of it. Parameters are percent-encoded.
    pub path: ParamText,
    /// Names are sent percent-encoded, values too.
    pub query: Vec<(String, ParamText)>,
    /// Sent after the upstream's own, which they replace.
    pub headers: Vec<(HeaderName, ParamText)>,
    /// Parameters are JSON-escaped, or percent-encoded when `headers` say that it is a form.
    pub body: Option<ParamText>,
    /// Sent as the client did: every distinct value makes a channel of its own (EDGE I2).
    pub forward_headers: Vec<HeaderName>,
    /// How a body is read.
    pub format: HttpFormat,
    /// Statuses whose body is a value.
    pub success: Vec<u16>,
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("upstream", &self.upstream.name)
            .field("method", &self.method)
            .field("format", &self.format)
            .field("success", &self.success)
            .finish_non_exhaustive()
    }
}

/// How an HTTP body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFormat {
    /// RFC 8259.
    Json,
    /// UTF-8 text, as it is.
    Text,
}

/// A Redis key.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisKeySource {
    /// Where.
    pub server: Arc<RedisServer>,
    /// Which type the key has.
    pub shape: RedisShape,
    /// Begins with a literal (EDGE R3). Parameters stand verbatim and hold no separator or glob character (EDGE R2).
    pub key: ParamText,
    /// How a change is noticed.
    pub watch: RedisWatch,
    /// How strings are read.
    pub format: RedisFormat,
}

/// How a change of a Redis key is noticed. Whatever this says, it is polled as well: every so often while a change would be
/// announced, and at its interval while none would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisWatch {
    /// In the first of the ways below that the server allows.
    Auto,
    /// The server tracks what was read and announces its change (CLIENT TRACKING; Redis 6 or newer).
    Tracking,
    /// The server publishes each change of a key (`notify-keyspace-events`).
    Keyspace,
    /// By polls alone.
    Poll,
}

/// The type of a Redis key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisShape {
    /// `key:`
    String,
    /// `hash:` → object
    Hash,
    /// `list:` → array in order
    List,
    /// `set:` → sorted array
    Set,
    /// `zset:` → array of `{"member", "score"}` by rank
    SortedSet,
    /// `json:` → the RedisJSON document
    Json,
}

/// How a Redis string, or the strings in a collection, are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisFormat {
    /// A string key or a message: JSON when it parses as JSON, else text. Elements and fields: strings.
    Auto,
    /// JSON, or the reading is `malformed`.
    Json,
    /// Text.
    Text,
}

/// A Redis pub/sub channel.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisPubSubSource {
    /// Where.
    pub server: Arc<RedisServer>,
    /// A channel's name, or a pattern.
    pub channel: PubSubName,
    /// What wraps the messages.
    pub envelope: Envelope,
    /// How a message is read.
    pub format: RedisFormat,
}

/// A Redis stream.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisStreamSource {
    /// Where.
    pub server: Arc<RedisServer>,
    /// Its key. Begins with a literal; parameters stand verbatim and hold no separator or glob character.
    pub stream: ParamText,
    /// How the fields of an entry are read.
    pub format: RedisFormat,
}

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq)]
pub enum PubSubName {
    /// SUBSCRIBE; parameters stand verbatim and hold no separator or glob character.
    Channel(ParamText),
    /// PSUBSCRIBE; from the file alone (EDGE R3).
    Pattern(String),
}

/// What wraps a pub/sub message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// Nothing: the message is the data.
    None,
    /// What the Flask-SSE package publishes: `type` becomes the event name, `data` the data.
    FlaskSse,
}

/// `POST` to a path.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishSource {
    /// Where to POST; its parameters are the stream's, by the same names.
    pub path: PathTemplate,
    /// For each parameter of the stream's path, its index in the publish path's parameters.
    pub params: Vec<usize>,
    /// Whether the last message is the current value.
    pub retain: bool,
    /// Shared over Redis pub/sub.
    pub server: Option<Arc<RedisServer>>,
    /// Bytes of one message.
    pub max_body: usize,
    /// Who may publish; the stream's own when the file says nothing else.
    pub auth: Arc<Auth>,
}

/// The interval follows the rate of change, between these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// While values change.
    pub min: Duration,
    /// While they do not.
    pub max: Duration,
}

/// When polling starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first subscriber.
    OnDemand,
    /// With the process. Only streams without parameters.
    Always,
}

/// Cross-origin policy (EDGE §4).
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Empty: no cross-origin access.
    pub origins: Vec<CorsOrigin>,
    /// Whether cookies and authorization may be sent. Never with [`CorsOrigin::Any`].
    pub credentials: bool,
    /// Lowercase.
    pub allow_headers: Vec<HeaderName>,
    /// Lowercase.
    pub expose_headers: Vec<HeaderName>,
    /// `Access-Control-Max-Age`.
    pub max_age: Duration,
}

/// Pass-through.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Begins with `/`.
    pub prefix: String,
    /// Where.
    pub upstream: Arc<Upstream>,
    /// Whether connections may become WebSockets (EDGE P7).
    pub websockets: bool,
}

/// Limits of the whole process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Requests of one client address; as many may come at once.
    pub requests: Option<Rate>,
    /// Streams that one client address may open.
    pub connects: Rate,
    /// Streams of one client address, or of one authenticated identity, at once; at least 1.
    pub streams_per_client: usize,
    /// Streams at once; at least 1.
    pub streams: usize,
    /// How a full gateway answers an EventSource.
    pub overload: Overload,
    /// Bytes that one slow client may be behind.
    pub queue: usize,
    /// How long a client may take no bytes.
    pub write_stall: Duration,
    /// How long a client may take for the head of a request, and for its TLS handshake (EDGE P11).
    pub header_timeout: Duration,
    /// Bytes of the head of a request (EDGE P10).
    pub max_header_bytes: usize,
}

/// Limits of one stream. `None`: those of the process hold, and are shared with its other streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLimits {
    /// Requests of one client address for this stream alone.
    pub requests: Option<Rate>,
    /// Times that one client address may open this stream.
    pub connects: Option<Rate>,
    /// Of this stream, for one client address or identity; at least 1.
    pub streams_per_client: Option<usize>,
    /// Of this stream at once, besides the limit of the process; at least 1.
    pub streams: Option<usize>,
    /// How this stream refuses an EventSource.
    pub overload: Option<Overload>,
}

/// How a full gateway answers an EventSource (EDGE L3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// 200, `retry:` and a clean end.
    Stream,
    /// 429 or 503.
    Status,
}

/// What SIGTERM does (EDGE L14).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shutdown {
    /// Window over which streams end.
    pub drain: Duration,
    /// Bounds of `retry:` in the last event, shortest and longest.
    pub retry: (Duration, Duration),
}

/// A header from the file: checked name and value (EDGE P22).
pub type Header = (HeaderName, HeaderValue);
