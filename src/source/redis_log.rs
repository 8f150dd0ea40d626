//! A log that replicas share in Redis, and the lease of the one that writes it.
//!
//! The log is a Redis stream; each entry is also sent to all who follow, over pub/sub. An entry says which change it comes
//! after, so that whoever missed one knows. Only the holder of the lease appends (or, where there is none, each publisher, under the
//! id that the server gives it): the server checks that in the same step, and also that the writer knows the newest change, so a
//! writer that was away and does not know that it has lost the lease can write nothing (fencing), and one whose server lost what it
//! had confirmed notices.
//!
//! Times are the server's; no two replicas' clocks are compared.

mod scripts;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::Value;
use ring::digest::{Context, SHA256};

use super::redis_server::{Delivery, Place, RedisClient, Subscription, Topic};
use super::{Cause, SourceError};
use crate::sse::EntryId;
use scripts::Script;

/// Entries that are read at once.
const PAGE: usize = 64;

/// Bytes of one entry; a reply has room for twice that.
pub const MAX_ENTRY: usize = 32 << 20;

/// One resource's log. Cheap to clone.
#[derive(Clone)]
pub struct SharedLog(Arc<Shared>);

struct Shared {
    client: RedisClient,
    /// Kept from the first use on, with the connections.
    place: OnceLock<Place>,
    keys: [String; 3],
    topic: String,
    bounds: Bounds,
}

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Bytes of them; the newest change is kept all the same.
    pub bytes: usize,
    /// How long the log is kept when nobody writes it any more; `None`: for ever.
    pub keep: Option<Duration>,
}

/// What is written at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub at: EntryId,
    /// The id of the change before it.
    pub base: String,
    /// What is told, in the words of who wrote it.
    pub past: String,
    /// How long ago it was written.
    pub age: Duration,
}

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Everything is told from now on; what was before is to be read.
    Up,
    /// A new entry.
    Entry(Entry),
    /// The lease is free.
    Released,
    /// Something was lost: what is missing is to be read.
    Missed,
    /// Nothing is told any more.
    Down(SourceError),
}

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It stands there.
    At(EntryId),
    /// Nothing was written: the lease is another's, or nobody's.
    Fenced,
    /// Nothing was written: the log is not as the writer knows it.
    Moved,
}

/// How a claim ended, and what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Whether the lease is ours.
    pub won: bool,
    /// When it may be free, if it is another's.
    pub left: Duration,
    /// The id of the newest change; empty: there is none.
    pub newest: String,
    /// The newest entry.
    pub at: EntryId,
    /// Since the source last confirmed what there is.
    pub age: Option<Duration>,
}

/// Tells one writer from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// One that nobody else has: 128 random bits.
    pub fn new() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// The newest change that the writer knows to be in the log; empty: none.
    pub known: &'a str,
    /// The change that this comes after.
    pub base: &'a str,
    /// The newest change with it.
    pub newest: &'a str,
    /// What is told.
    pub past: &'a str,
    /// Since the source confirmed it.
    pub age: Option<Duration>,
}

impl SharedLog {
    /// The log of what `parts` name together, in the space `space`. Parts may be anything; they do not appear in a key.
    pub fn new(client: RedisClient, space: &str, parts: &[&str], bounds: Bounds) -> Self {
        let mut identity = Context::new(&SHA256);
        for part in parts {
            identity.update(&(part.len() as u64).to_be_bytes());
            identity.update(part.as_bytes());
        }
        let digest = identity.finish();
        let identity = digest.as_ref().iter().take(16);
        let identity: String = identity.map(|byte| format!("{byte:02x}")).collect();
        // In braces: what a cluster of servers chooses the slot by.
        let name = format!("wellspring:{space}:{{{identity}}}");
        Self(Arc::new(Shared {
            client,
            place: OnceLock::new(),
            keys: ["log", "state", "lease"].map(|key| format!("{name}:{key}")),
            topic: format!("{name}:news"),
            bounds,
        }))
    }

    /// Follows it, until the follower is dropped.
    pub fn follow(&self) -> Follower {
        let topic = Topic::Channel(self.0.topic.clone());
        Follower(self.0.client.pushes().subscribe(topic))
    }

    /// The entries after `at`, oldest first.
    pub async fn after(&self, at: EntryId) -> Result<Vec<Entry>, SourceError> {
        let now = ms(self.place().time().await?);
        let mut entries: Vec<Entry> = Vec::new();
        let mut count = PAGE;
        loop {
            let Some(start) = entries.last().map_or(at, |last| last.at).next() else {
                return Ok(entries);
            };
            let mut command = redis::cmd("XRANGE");
            command.arg(&self.0.keys[0]).arg(start.to_string());
            command.arg("+").arg("COUNT").arg(count);
            let page = match self.run(&command).await {
                Ok(Value::Array(page)) => page,
                Ok(_) => return Err(unexpected("XRANGE")),
                Err(error) if error.cause == Cause::TooLarge && count > 1 => {
                    count /= 4;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_last = page.len() < count;
            for entry in page {
                entries.push(read_entry(entry, now).ok_or_else(|| unexpected("XRANGE"))?);
            }
            if is_last {
                return Ok(entries);
            }
        }
    }

    /// Takes the lease for `lasts`, if it is free or the token's own.
    pub async fn claim(&self, token: &Token, lasts: Duration) -> Result<Claimed, SourceError> {
        let mut command = self.script(Script::Claim);
        command.arg(&token.0).arg(ms(lasts));
        let Value::Array(answer) = self.run(&command).await? else {
            return Err(unexpected("a claim"));
        };
        let [Value::Int(won), Value::Int(left), newest, at, age] = answer.as_slice() else {
            return Err(unexpected("a claim"));
        };
        let text = |value| text(value).ok_or_else(|| unexpected("a claim"));
        Ok(Claimed {
            won: *won == 1,
            left: Duration::from_millis(u64::try_from(*left).unwrap_or_default()),
            newest: text(newest)?.to_owned(),
            at: EntryId::parse(text(at)?.as_bytes()).unwrap_or_default(),
            age: text(age)?.parse().ok().map(Duration::from_millis),
        })
    }

    /// Keeps the lease for `lasts` more. `age`: since the source confirmed what there is, up to the change `known`. Returns whether
    /// it is still ours, and the log as we know it.
    pub async fn renew(
        &self,
        token: &Token,
        lasts: Duration,
        age: Option<Duration>,
        known: &str,
    ) -> Result<bool, SourceError> {
        let mut command = self.script(Script::Renew);
        command.arg(&token.0).arg(ms(lasts));
        command.arg(optional(age)).arg(self.keep()).arg(known);
        Ok(self.run(&command).await? == Value::Int(1))
    }

    /// Gives the lease up.
    pub async fn release(&self, token: &Token) -> Result<(), SourceError> {
        let mut command = self.script(Script::Release);
        command.arg(&token.0).arg(&self.0.topic);
        self.run(&command).await.map(drop)
    }

    /// Appends as the holder of the lease. After an error it may have been written or not; not when it is larger than 32 MiB, which
    /// is [`Cause::TooLarge`].
    pub async fn append(&self, token: &Token, news: News<'_>) -> Result<Appended, SourceError> {
        refuse_too_large(news.past)?;
        let mut command = self.script(Script::Append);
        command.arg(&token.0).arg(news.known);
        command.arg(news.base).arg(news.newest).arg(news.past);
        command.arg(optional(news.age));
        self.add_bounds(&mut command);
        match text(&self.run(&command).await?) {
            Some("lease") => Ok(Appended::Fenced),
            Some("moved") => Ok(Appended::Moved),
            Some(at) => EntryId::parse(at.as_bytes())
                .map(Appended::At)
                .ok_or_else(|| unexpected("an append")),
            None => Err(unexpected("an append")),
        }
    }

    /// Appends one change as its publisher; there must be no lease. Returns its id: `epoch`, a hyphen and the next number. After an error it
    /// may have been written or not.
    pub async fn publish(&self, epoch: &str, past: &str) -> Result<String, SourceError> {
        refuse_too_large(past)?;
        let mut command = self.script(Script::Publish);
        command.arg(epoch).arg(past);
        self.add_bounds(&mut command);
        let answer = self.run(&command).await?;
        text(&answer)
            .map(str::to_owned)
            .ok_or_else(|| unexpected("a message"))
    }

    /// Writes what there was before the server lost it, if nobody else has written since.
    pub async fn found(&self, base: &str, newest: &str, past: &str) -> Result<(), SourceError> {
        let mut command = self.script(Script::Found);
        command.arg(base).arg(newest).arg(past);
        self.add_bounds(&mut command);
        self.run(&command).await.map(drop)
    }

    async fn run(&self, command: &redis::Cmd) -> Result<Value, SourceError> {
        self.place().run(command).await
    }

    fn place(&self) -> &Place {
        let Shared { client, keys, .. } = &*self.0;
        self.0.place.get_or_init(|| client.place(&keys[0]))
    }

    fn script(&self, script: Script) -> redis::Cmd {
        script.command(&self.0.keys)
    }

    fn add_bounds(&self, command: &mut redis::Cmd) {
        let Bounds { entries, bytes, .. } = self.0.bounds;
        command.arg(entries).arg(bytes).arg(self.keep());
        command.arg(&self.0.topic);
    }

    fn keep(&self) -> u64 {
        self.0.bounds.keep.map_or(0, |keep| ms(keep).max(1))
    }
}

impl fmt::Debug for SharedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedLog").field(&self.0.keys[0]).finish()
    }
}

/// One follower of a log.
pub struct Follower(Subscription);

impl Follower {
    /// Waits for what is told next. Cancel-safe. Reconnects by itself, without end.
    pub async fn next(&mut self) -> Told {
        match self.0.next().await {
            Delivery::Up => Told::Up,
            Delivery::Down(error) => Told::Down(error),
            Delivery::Message(message) if message.is_empty() => Told::Released,
            Delivery::Message(message) => read_news(&message).map_or(Told::Missed, Told::Entry),
            Delivery::TooLarge | Delivery::Missed(_) => Told::Missed,
        }
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

fn read_news(message: &[u8]) -> Option<Entry> {
    let message = std::str::from_utf8(message).ok()?;
    let (at, rest) = message.split_once(' ')?;
    let (base, past) = rest.split_once(' ')?;
    Some(Entry {
        at: EntryId::parse(at.as_bytes())?,
        base: base.to_owned(),
        past: past.to_owned(),
        age: Duration::ZERO,
    })
}

fn read_entry(entry: Value, now: u64) -> Option<Entry> {
    let Value::Array(entry) = entry else {
        return None;
    };
    let [at, Value::Array(fields)] = entry.as_slice() else {
        return None;
    };
    let [_, base, _, past] = fields.as_slice() else {
        return None;
    };
    let at = EntryId::parse(text(at)?.as_bytes())?;
    Some(Entry {
        at,
        base: text(base)?.to_owned(),
        past: text(past)?.to_owned(),
        age: Duration::from_millis(now.saturating_sub(at.ms)),
    })
}

/// What was written must be readable.
fn refuse_too_large(past: &str) -> Result<(), SourceError> {
    match past.len() > MAX_ENTRY {
        true => Err(SourceError::new(
            Cause::TooLarge,
            "the value is too large to be shared",
        )),
        false => Ok(()),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn unexpected(what: &str) -> SourceError {
    SourceError::new(
        Cause::Redis,
        format!("the server answered {what} with something else"),
    )
}

fn optional(age: Option<Duration>) -> String {
    age.map(|age| ms(age).to_string()).unwrap_or_default()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
