//! What is read: one file a kind. A source gives readings and knows nothing of clients, channels or the edge.

pub mod http;
pub mod redis_key;
pub mod redis_log;
pub mod redis_pubsub;
pub mod redis_server;
pub mod redis_stream;

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::sse::EntryId;
use crate::value::Value;

/// Something whose current value can be read again and again.
pub trait Source: Send + 'static {
    /// What an operator should know about the readings so far, if anything.
    fn remark(&self) -> Option<&'static str> {
        None
    }

    /// Takes one reading. `&mut`, so that a source can keep its validators (EDGE U14).
    ///
    /// Cancel-safe: a dropped future leaves the source usable. It ends by itself within the source's own deadline.
    fn read(&mut self) -> impl Future<Output = Result<Answer, SourceError>> + Send;

    /// The last value could not be used, so it is not what later readings are compared with: the next one tells it again.
    fn forget(&mut self);

    /// Completes when a reading is worth taking before its time, such as when the server came back. May never complete.
    fn hint(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// For a source that would know of a change: what the last reading gave is known to have held then. `None`: nobody knows, so
    /// only another reading can tell.
    fn holds(&self) -> Option<Instant> {
        None
    }

    /// Nobody wants readings for now.
    fn rest(&mut self) {}
}

/// What one reading gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The reading itself.
    pub reading: Reading,
    /// The source asks not to be read again before this time has passed (`max-age`, `X-Poll-Interval`). Lengthens only.
    pub not_before: Option<Duration>,
    /// The HTTP status, where there is one; for people.
    pub status: Option<u16>,
}

/// The reading itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The source said that nothing changed (304).
    NotModified,
    /// The bytes are those of the last reading.
    Unchanged,
    /// The resource or key does not exist.
    Absent,
    /// A value, not yet selected from.
    Value(Value),
}

/// Something that tells by itself when something happens, and has no current value.
pub trait Feed: Send + 'static {
    /// Waits for the next item. Cancel-safe. Reconnects by itself, without end.
    fn next(&mut self) -> impl Future<Output = FeedItem> + Send;
}

/// What a feed tells.
#[derive(Clone, Debug)]
pub enum FeedItem {
    /// Listening, for the first time or again: messages of the gap are lost.
    Up,
    /// Listening again, from where it stopped: nothing of the gap is lost.
    Resumed,
    /// Listening to a source that has ids of its own, for the first time or because it has lost what was there: what comes now
    /// comes after this entry.
    From(EntryId),
    /// A message for clients.
    Message(Message),
    /// An entry with an id of its own, which is larger than those before.
    Entry(EntryId, Value),
    /// A message that cannot be delivered; it was dropped. The text is for the log.
    Refused(String),
    /// Messages came faster than they were taken, and some are lost. The text is for the log.
    Missed(String),
    /// Not listening any more.
    Down(SourceError),
}

/// The past of something that has ids of its own. It can be read at any time, beside what happens now.
pub trait Archive: Send + Sync + 'static {
    /// What came after the entry `after`. Cancel-safe. It ends by itself within the source's own deadline.
    fn after(
        &self,
        after: EntryId,
        extent: Extent,
    ) -> impl Future<Output = Result<Past, SourceError>> + Send;
}

/// How much of the past is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The oldest entries, as many as are read at once.
    Page,
    /// The newest entry.
    Newest,
}

/// What the past holds.
#[derive(Clone, Debug)]
pub enum Past {
    /// Nobody can say: entries after that one are gone, or it was never there.
    Unknown,
    /// The entries, oldest first.
    Entries {
        /// What cannot be delivered is left out.
        entries: Vec<(EntryId, Value)>,
        /// The last one that was read.
        last: Option<EntryId>,
        /// Whether there were no more.
        is_all: bool,
    },
}

/// One message of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What clients get.
    pub data: Value,
    /// The SSE event name that the message asks for; matches EDGE E6.
    pub event: Option<crate::sse::EventName>,
}

/// Why a reading failed. The cause is what clients are told (EDGE U19); the detail is for the log alone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct SourceError {
    /// The class that clients are told.
    pub cause: Cause,
    /// What happened, for operators. Holds no secret; may hold upstream text, so it is logged escaped.
    pub detail: String,
    /// The source asks to be left alone for so long (`Retry-After`, EDGE U15).
    pub retry_after: Option<Duration>,
}

impl SourceError {
    /// An error without a wish for when to try again.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
            retry_after: None,
        }
    }
}

/// Cause classes of CONTRACT.md §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A deadline passed.
    Timeout,
    /// No connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A status that is not a success.
    Status,
    /// More bytes than allowed.
    TooLarge,
    /// Not the format that it should have.
    Malformed,
    /// Redis answered with an error, or went away.
    Redis,
    /// 401, 403, NOAUTH, NOPERM.
    Unauthorized,
    /// 429, or 503 with Retry-After.
    RateLimited,
}

impl Cause {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Status => "status",
            Self::TooLarge => "too-large",
            Self::Malformed => "malformed",
            Self::Redis => "redis",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate-limited",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Fails the test when `future` takes longer than anything here should.
    pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), future)
            .await
            .expect("in time")
    }

    /// Waits until `condition` holds, which nothing announces.
    pub(super) async fn eventually(mut condition: impl FnMut() -> bool) {
        soon(async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// The next item, in words.
    pub(super) async fn told(feed: &mut impl Feed) -> String {
        match soon(feed.next()).await {
            FeedItem::Up => "up".into(),
            FeedItem::Resumed => "resumed".into(),
            FeedItem::From(id) => format!("from {id}"),
            FeedItem::Entry(id, data) => format!("{id} {}", data.encoded()),
            FeedItem::Down(error) => format!("down {}", error.cause),
            FeedItem::Refused(why) => format!("refused {why}"),
            FeedItem::Missed(why) => format!("missed {why}"),
            FeedItem::Message(Message { data, event }) => {
                let name = event.map(|name| format!("{name}: ")).unwrap_or_default();
                let kind = if data.is_text() { "text" } else { "json" };
                format!("{name}{kind} {}", data.encoded())
            }
        }
    }
}
