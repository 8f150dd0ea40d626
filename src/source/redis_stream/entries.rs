//! The commands about a stream: which entries it has, and how it stands (EDGE R1: one read command each, no script).

use std::time::{Duration, Instant};

use redis::Cmd;

use crate::config::{self, RedisFormat};
use crate::params::{Escape, Params};
use crate::source::redis_key::reply::{Content, pairs, unexpected};
use crate::source::redis_server::{Place, RedisClient};
use crate::source::{Cause, SourceError};
use crate::sse::EntryId;
use crate::value::Value;

/// Reads one stream.
#[derive(Debug)]
pub(super) struct Reader {
    place: Place,
    key: String,
    format: RedisFormat,
}

/// Entries, oldest first.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Whether the stream had no more.
    pub(super) is_all: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    /// An object of its fields.
    pub(super) data: Result<Value, SourceError>,
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// The oldest entry that it has.
    first: Option<EntryId>,
    /// The newest one that it ever had.
    pub(super) last: EntryId,
}

/// How often the clock is asked for, until an answer comes within [`PRECISE`].
const CLOCK_READINGS: usize = 4;
const PRECISE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

impl Reader {
    pub(super) fn new(
        client: &RedisClient,
        spec: &config::RedisStreamSource,
        params: &Params,
    ) -> Self {
        let key = spec.stream.render(params, Escape::Verbatim);
        Self {
            place: client.place(&key),
            key,
            format: spec.format,
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where the stream is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The oldest entries from `from` on, at most so many; fewer when they are too large together.
    pub(super) async fn forward(&self, from: EntryId, most: usize) -> Result<Batch, SourceError> {
        self.range(Direction::Forward, from, most).await
    }

    /// The newest entries back to `from`, in the same way.
    pub(super) async fn backward(&self, from: EntryId, most: usize) -> Result<Batch, SourceError> {
        self.range(Direction::Backward, from, most).await
    }

    async fn range(
        &self,
        direction: Direction,
        from: EntryId,
        mut most: usize,
    ) -> Result<Batch, SourceError> {
        loop {
            let mut command = match direction {
                Direction::Forward => self.command("XRANGE", &from.to_string(), "+"),
                Direction::Backward => self.command("XREVRANGE", "+", &from.to_string()),
            };
            command.arg("COUNT").arg(most);
            match self.place.run(&command).await {
                Err(error) if error.cause == Cause::TooLarge && most > 1 => {
                    most = (most / 8).max(1);
                }
                Err(error) => return Err(error),
                Ok(reply) => {
                    let mut entries = self.entries(reply)?;
                    let is_all = entries.len() < most || matches!(direction, Direction::Backward);
                    if let Direction::Backward = direction {
                        entries.reverse();
                    }
                    return Ok(Batch { entries, is_all });
                }
            }
        }
    }

    /// How the stream stands; one that is not there has had no entry.
    pub(super) async fn info(&self) -> Result<Info, SourceError> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&self.key);
        match self.place.run(&command).await {
            Ok(reply) => info(reply).ok_or_else(unexpected),
            // Redis has no code of its own for it.
            Err(error) if error.detail.ends_with("no such key") => Ok(Info::default()),
            Err(error) => Err(error),
        }
    }

    /// Where the entries begin that are new to who has come at `opened`.
    pub(super) async fn start(&self, opened: Instant) -> Result<EntryId, SourceError> {
        let last = match self.info().await {
            Ok(info) => info.last,
            Err(error) if error.cause == Cause::TooLarge => {
                let newest = self.backward(EntryId::ZERO, 1).await?;
                newest
                    .entries
                    .last()
                    .map_or(EntryId::ZERO, |entry| entry.id)
            }
            Err(error) => return Err(error),
        };
        // What was added while the connection was made is new. Where ids are times of the server, they tell.
        Ok(match self.clock(opened).await {
            Some((now, since)) => new_since(last, now, since),
            None => last,
        })
    }

    /// The clock of the server, and how long ago `opened` was then, or a little more. `None`: it does not tell.
    async fn clock(&self, opened: Instant) -> Option<(Duration, Duration)> {
        let mut best: Option<(Duration, Duration, Duration)> = None;
        for _ in 0..CLOCK_READINGS {
            let asked = Instant::now();
            let now = self.place.time().await.ok()?;
            let (took, since) = (asked.elapsed(), opened.elapsed());
            if best.is_none_or(|(least, ..)| took < least) {
                best = Some((took, now, since));
            }
            if took < PRECISE {
                break;
            }
        }
        best.map(|(_, now, since)| (now, since))
    }

    /// Whether everything that came after `id` is there, but for what somebody deleted on its own.
    pub(super) async fn knows(&self, id: EntryId) -> Result<bool, SourceError> {
        let text = id.to_string();
        let is_there = match self.place.run(&self.command("XRANGE", &text, &text)).await {
            Ok(reply) => !self.entries(reply)?.is_empty(),
            Err(error) if error.cause == Cause::TooLarge => true,
            Err(error) => return Err(error),
        };
        if is_there {
            return Ok(true);
        }
        match self.info().await {
            Ok(info) => Ok(info.first.is_some_and(|first| first < id) && id <= info.last),
            Err(error) if error.cause == Cause::TooLarge => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn command(&self, name: &str, from: &str, to: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(&self.key).arg(from).arg(to);
        command
    }

    fn entries(&self, reply: redis::Value) -> Result<Vec<Entry>, SourceError> {
        let redis::Value::Array(entries) = reply else {
            return Err(unexpected());
        };
        entries.into_iter().map(|entry| self.entry(entry)).collect()
    }

    fn entry(&self, entry: redis::Value) -> Result<Entry, SourceError> {
        let redis::Value::Array(parts) = entry else {
            return Err(unexpected());
        };
        let [id, fields] = <[_; 2]>::try_from(parts).map_err(|_| unexpected())?;
        let id = entry_id(&id).ok_or_else(unexpected)?;
        let data = pairs(fields).and_then(|fields| Content::Fields(fields).value(self.format));
        Ok(Entry { id, data })
    }
}

/// `last`, or, if that was added in the last `since` before `now` by the server's clock, what comes before the first entry that was.
/// Clocks in ids have no more than milliseconds: what was added in the first one may be a little older.
pub(super) fn new_since(last: EntryId, now: Duration, since: Duration) -> EntryId {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let opened = ms(now.saturating_sub(since));
    // An id of the future is no time.
    match (opened..=ms(now)).contains(&last.ms) {
        true => EntryId {
            ms: opened.saturating_sub(1),
            seq: u64::MAX,
        },
        false => last,
    }
}

/// Of XINFO STREAM: names and values in turn.
fn info(reply: redis::Value) -> Option<Info> {
    let redis::Value::Array(parts) = reply else {
        return None;
    };
    let value = |name: &str| {
        let is_name = |part: &redis::Value| bytes(part) == Some(name.as_bytes());
        let at = parts.iter().step_by(2).position(is_name)?;
        parts.get(2 * at + 1)
    };
    let first = match value("first-entry")? {
        redis::Value::Array(entry) => Some(entry_id(entry.first()?)?),
        _ => None,
    };
    Some(Info {
        first,
        last: entry_id(value("last-generated-id")?)?,
    })
}

fn entry_id(value: &redis::Value) -> Option<EntryId> {
    EntryId::parse(bytes(value)?)
}

fn bytes(value: &redis::Value) -> Option<&[u8]> {
    match value {
        redis::Value::BulkString(bytes) => Some(bytes),
        redis::Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}
