//! Every key of the file, once: the reader refuses what is not here, takes defaults and bounds from here, and
//! `wellspring schema` prints it. A reader that does not ask for a key of its table fails its tests.

// One key a line: a table that is read down its columns.
#[rustfmt::skip]
mod sources;
#[rustfmt::skip]
mod tables;

pub(super) use sources::{HTTP_SOURCE, PUBLISH_SOURCE, REDIS_SOURCE, SSE_SOURCE};
pub(super) use tables::{
    ADAPTIVE, ADMIN, API_KEYS, AUTH, BASIC, CLIENT_ADDRESS, CLUSTER, CORS, HASHED, HISTORY, JWT,
    LIMITS, LISTENER, LISTENER_CERTIFICATE, LISTENER_TLS, REDIS_SERVER, ROOT, ROUTE, SENTINEL,
    SHUTDOWN, STREAM, STREAM_LIMITS, TELEMETRY, TIMEOUTS, UPSTREAM, UPSTREAM_TLS,
};

/// The keys of one map.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) keys: &'static [Key],
    /// Exactly one of these must be there.
    pub(super) one_of: &'static [&'static str],
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// YAML. `null` means that null may be written, `off` the same.
    pub(super) default: Option<&'static str>,
    /// What to write, where the key is needed.
    pub(super) required: Option<&'static str>,
    pub(super) doc: &'static str,
}

/// What stands behind a key.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    /// Not negative.
    Number,
    /// Bounds in milliseconds.
    Duration {
        min: u64,
        max: u64,
    },
    /// Bounds in bytes.
    Size {
        min: u64,
        max: u64,
    },
    Rate,
    /// One of these words.
    Choice(&'static [&'static str]),
    Section(&'static Table),
    /// A map with these keys, a list of such maps, or `none`.
    NoneOrMany(&'static Table),
    /// Or `off`.
    SectionOrOff(&'static Table),
    List(&'static Self),
    /// One, or a list of them.
    OneOrMany(&'static Self),
    Pair(&'static Self),
    /// Names of the file's own choice.
    Map(&'static Self),
    /// Only these values, as YAML, until what the key is for is there.
    Only(&'static [&'static str]),
    /// Known, and refused with this sentence.
    Refused(&'static str),
}

impl Table {
    const fn with_one_of(mut self, names: &'static [&'static str]) -> Self {
        self.one_of = names;
        self
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn table(keys: &'static [Key]) -> Table {
    Table { keys, one_of: &[] }
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: None,
        required: None,
        doc,
    }
}

const fn refused(name: &'static str, why: &'static str) -> Key {
    key(name, Kind::Refused(why), "")
}

impl Key {
    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn needed(mut self, example: &'static str) -> Self {
        self.required = Some(example);
        self
    }
}

const fn duration(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

const fn choice(words: &'static [&'static str]) -> Kind {
    Kind::Choice(words)
}

/// Those that `token` can verify (RFC 7518 §3.1, RFC 8037 §3.1).
pub(super) const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
