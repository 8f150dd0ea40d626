//! The closed sets of words that labels take.

use std::marker::PhantomData;

use super::{Counter, CounterFamily};

/// A word of a closed set.
pub trait Label: Copy + PartialEq + 'static {
    /// All words.
    const ALL: &'static [Self];

    /// As it is exported.
    fn as_str(self) -> &'static str;

    /// The word that is exported so.
    fn named(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.as_str() == text)
    }
}

macro_rules! closed {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    )+};
}

closed! {
    /// What became of a request for a stream.
    Opening {
        Opened = "opened",
        Rejected = "rejected",
        SoftRejected = "soft_rejected",
        Left = "left",
    }
    /// Why a stream ended: what `closing` said, or who is to blame.
    Closing {
        MaxAge = "max-age",
        Drain = "drain",
        TokenExpired = "token-expired",
        Reload = "reload",
        ClientLeft = "client-left",
        Stalled = "stalled",
        Error = "error",
        Stopped = "stopped",
    }
    /// What kind of event was made, once for all who get it.
    EventKind {
        Value = "value",
        Snapshot = "snapshot",
        Patch = "patch",
        Merge = "merge",
        Stale = "stale",
        Fresh = "fresh",
        Gone = "gone",
        Reset = "reset",
        Closing = "closing",
    }
    /// The form that an event's bytes are in.
    EventForm {
        Value = "value",
        JsonPatch = "json-patch",
        MergePatch = "merge-patch",
    }
    /// What a client that named an id was given.
    Resumption {
        Replayed = "replayed",
        Current = "current",
        Reset = "reset",
    }
    /// What a poll gave.
    PollResult {
        Changed = "changed",
        Unchanged = "unchanged",
        NotModified = "not_modified",
        Failed = "failed",
    }
    /// Why a poll failed: the causes of CONTRACT.md §3.
    Failure {
        Timeout = "timeout",
        Connect = "connect",
        Tls = "tls",
        Status = "status",
        TooLarge = "too-large",
        Malformed = "malformed",
        Redis = "redis",
        Unauthorized = "unauthorized",
        RateLimited = "rate-limited",
    }
    /// Why a request was refused.
    Refusal {
        BadRequest = "bad_request",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        NoTokenKeys = "no_token_keys",
        NotFound = "not_found",
        BadParameter = "bad_parameter",
        Gone = "gone",
        Method = "method",
        NotAcceptable = "not_acceptable",
        TooLarge = "too_large",
        HeadTooLarge = "head_too_large",
        HeadTimeout = "head_timeout",
        BodyTimeout = "body_timeout",
        Unsupported = "unsupported",
        Misdirected = "misdirected",
        Busy = "busy",
        Loop = "loop",
        Requests = "requests",
        Logins = "logins",
        Connects = "connects",
        StreamsPerClient = "streams_per_client",
        Streams = "streams",
        Channels = "channels",
        PassedThrough = "passed_through",
        SourceFails = "source_fails",
        NotYet = "not_yet",
        PublishFailed = "publish_failed",
        Reloaded = "reloaded",
        BadGateway = "bad_gateway",
        GatewayTimeout = "gateway_timeout",
        Internal = "internal",
    }
    /// How an upstream answered.
    StatusClass {
        Informational = "1xx",
        Success = "2xx",
        Redirect = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
        Error = "error",
    }
    /// What a reading of the file while running led to.
    Reload {
        Applied = "applied",
        Refused = "refused",
        Unchanged = "unchanged",
    }
    /// What a client connection speaks.
    Protocol {
        Http1 = "http/1.1",
        Http2 = "h2",
    }
}

impl StatusClass {
    /// Of an HTTP status.
    pub fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Error,
        }
    }
}

/// One counter a word.
#[derive(Clone, Debug)]
pub struct Counters<L> {
    counters: Box<[Counter]>,
    words: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    /// Of a family, under `label` besides `others`. All series are there from now on.
    pub(super) fn of(
        label: &'static str,
        others: &[(&'static str, String)],
        family: &CounterFamily,
    ) -> Self {
        let counter = |word: &L| {
            let mut labels = others.to_vec();
            labels.push((label, word.as_str().to_owned()));
            family.get_or_create_owned(&labels)
        };
        Self {
            counters: L::ALL.iter().map(counter).collect(),
            words: PhantomData,
        }
    }

    /// One more.
    pub fn inc(&self, word: L) {
        self.add(word, 1);
    }

    /// So many more.
    pub fn add(&self, word: L, count: u64) {
        self.counter(word).inc_by(count);
    }

    /// How many so far.
    pub fn get(&self, word: L) -> u64 {
        self.counter(word).get()
    }

    /// How many of all words.
    pub fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }

    fn counter(&self, word: L) -> &Counter {
        // The sets are short and fieldless: this is their discriminant, found without `as` on a generic.
        let at = L::ALL.iter().position(|known| *known == word);
        &self.counters[at.unwrap_or_default()]
    }
}

/// Counts that nobody exports: for tests, and for tools that use the parts without the gateway.
impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self {
            counters: L::ALL.iter().map(|_| Counter::default()).collect(),
            words: PhantomData,
        }
    }
}
