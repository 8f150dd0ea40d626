//! Follows a Redis stream. Its entry ids are the event ids, and it keeps what was: who comes back is answered from the stream itself.
//!
//! New entries are read with XRANGE when the key is announced to have changed, as any watched key is, and at each interval
//! while nobody announces. The blocking XREAD was not taken: it needs a connection that does nothing else, which a newcomer's
//! key could not join before the block ends, and it never tells that the stream was deleted and begun anew.
//!
//! Whether something was lost is not asked while entries come: what was trimmed before it was read is lost for everybody.
//! When there is nothing new, the stream may be another one by now, whose ids are smaller; XINFO tells.

mod entries;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::redis_key::KeyWatch;
use super::redis_server::RedisClient;
use super::{Archive, Cause, Extent, Feed, FeedItem, Past, SourceError};
use crate::config::{self, RedisWatch};
use crate::params::Params;
use crate::sse::EntryId;
use entries::{Batch, Entry, Reader};

/// Entries that are read at once.
const BATCH: usize = 128;
/// Bytes of them that make a page of the past: as many as one client may be behind by default.
const PAGE: usize = 256 * 1024;
/// The class of keyspace notifications that tells of commands for streams.
const CLASS: char = 't';
/// So many of the newest entries are known by their ids.
const REMEMBERED: usize = 64;
/// How often a stream that cannot be read is tried at most.
const RETRY: Duration = Duration::from_secs(1);

/// The new entries of a stream.
#[derive(Debug)]
pub struct StreamFeed {
    client: RedisClient,
    reader: Reader,
    every: Duration,
    opened: Instant,
    watch: Option<KeyWatch>,
    /// The newest entries that were told, the last one last; before the first one, where the stream stood. Empty: that is not known yet.
    told: VecDeque<EntryId>,
    /// What was told last; `None`: nothing yet.
    is_up: Option<bool>,
    /// There may be more to read.
    is_due: bool,
    tried: Instant,
    /// What came at once and is told one by one.
    ready: VecDeque<FeedItem>,
}

/// What a reading gave.
enum Reading {
    /// The stream stands here, and what was told before is not of it.
    From(EntryId),
    /// All entries after the position, or some of them.
    Entries(Batch),
    /// There is an entry that is too large between the position and these.
    Behind(Batch),
    Nothing,
}

impl StreamFeed {
    /// The stream is `spec.stream` with `params` in their places; it is looked at every `every` when the server does not announce its
    /// changes. What was added before this call is not told. Must be called within a tokio runtime.
    pub fn new(
        client: &RedisClient,
        spec: &config::RedisStreamSource,
        params: &Params,
        every: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            client: client.clone(),
            reader: Reader::new(client, spec, params),
            every,
            opened: now,
            watch: None,
            told: VecDeque::new(),
            is_up: None,
            is_due: true,
            tried: now,
            ready: VecDeque::new(),
        }
    }

    /// What watches the stream, where it is now.
    fn watch(&mut self) -> Option<&mut KeyWatch> {
        let pushes = self.reader.place().pushes();
        if self.watch.as_ref().map(KeyWatch::pushes) != pushes.as_ref().map(Arc::as_ptr) {
            let (client, key) = (&self.client, self.reader.key());
            let begin = |pushes| KeyWatch::begin(client, pushes, RedisWatch::Auto, CLASS, key);
            self.watch = pushes.map(begin);
        }
        self.watch.as_mut()
    }

    /// Completes when a reading is worth taking. Cancel-safe.
    async fn due(&mut self) {
        self.watch();
        let Self { watch, reader, .. } = self;
        let pause = match self.is_up {
            Some(true) => self.every,
            _ => self.every.max(RETRY),
        };
        let changed = async {
            match watch {
                Some(watch) => {
                    let mut next = self.tried + pause;
                    loop {
                        tokio::select! {
                            () = watch.changed() => return,
                            () = sleep_until(next.into()) => {}
                        }
                        // Whoever would tell of a change says that there was none.
                        if self.is_up != Some(true) || watch.holds().is_none() {
                            return;
                        }
                        next = Instant::now() + pause;
                    }
                }
                None => sleep_until((self.tried + pause).into()).await,
            }
        };
        tokio::select! {
            () = reader.place().changes() => {}
            () = changed => {}
        }
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        // What is wrong is told by the command.
        let _ = self.reader.place().locate().await;
        let is_begun = !self.told.is_empty();
        if let Some(watch) = self.watch().filter(|_| is_begun) {
            watch.reading().await;
        }
        let Some(last) = self.told.back().copied() else {
            let start = self.reader.start(self.opened).await?;
            return Ok(Reading::From(start));
        };
        let Some(from) = last.next() else {
            return Ok(Reading::Nothing);
        };
        match self.reader.forward(from, BATCH).await {
            Ok(batch) if !batch.entries.is_empty() => Ok(Reading::Entries(batch)),
            Ok(_) => match self.reader.info().await {
                Ok(info) if info.last < last => {
                    Ok(Reading::From(start_anew(&self.told, info.last)))
                }
                Ok(_) => Ok(Reading::Nothing),
                // It says more than was asked for, such as the oldest entry.
                Err(error) if error.cause == Cause::TooLarge => Ok(Reading::Nothing),
                Err(error) => Err(error),
            },
            Err(error) if error.cause == Cause::TooLarge => {
                let batch = self.reader.backward(from, BATCH).await?;
                Ok(Reading::Behind(batch))
            }
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, reading: Result<Reading, SourceError>) {
        if let Some(watch) = &mut self.watch {
            watch.found(matches!(
                reading,
                Ok(Reading::Entries(_) | Reading::Behind(_))
            ));
        }
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                if self.is_up.replace(false) != Some(false) {
                    self.ready.push_back(FeedItem::Down(error));
                }
                return;
            }
        };
        let was_up = self.is_up.replace(true);
        if was_up != Some(true) && !matches!(reading, Reading::From(_)) {
            self.ready.push_back(FeedItem::Resumed);
        }
        match reading {
            Reading::From(start) => {
                self.told = VecDeque::from([start]);
                self.ready.push_back(FeedItem::From(start));
                self.is_due = true;
            }
            Reading::Behind(batch) => {
                let why = "an entry is larger than 1 MiB".to_owned();
                self.ready.push_back(FeedItem::Refused(why));
                self.tell(batch);
            }
            Reading::Entries(batch) => self.tell(batch),
            Reading::Nothing => {}
        }
    }

    fn remember(&mut self, id: EntryId) {
        if self.told.len() == REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back(id);
    }

    fn tell(&mut self, batch: Batch) {
        self.is_due = !batch.is_all;
        for Entry { id, data } in batch.entries {
            self.remember(id);
            self.ready.push_back(match data {
                Ok(data) => FeedItem::Entry(id, data),
                Err(error) => FeedItem::Refused(error.detail),
            });
        }
    }
}

impl Feed for StreamFeed {
    async fn next(&mut self) -> FeedItem {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            if !self.is_due {
                self.due().await;
                self.is_due = true;
            }
            let reading = self.read().await;
            (self.is_due, self.tried) = (false, Instant::now());
            self.take(reading);
        }
    }
}

/// Where to go on in a stream whose newest entry `last` is older than what was `told`. Ids only grow: an entry among those that were
/// told which is none of them is of another stream, of which nothing was told. Else the stream has lost its newest entries, as
/// by a fail-over.
fn start_anew(told: &VecDeque<EntryId>, last: EntryId) -> EntryId {
    let is_among = told.front().is_some_and(|first| *first < last);
    match is_among && !told.contains(&last) {
        true => EntryId::ZERO,
        false => last,
    }
}

/// The past of a stream.
#[derive(Debug)]
pub struct StreamArchive {
    reader: Reader,
}

impl StreamArchive {
    /// The same stream as a [`StreamFeed`] with the same arguments follows. Must be called within a tokio runtime.
    pub fn new(client: &RedisClient, spec: &config::RedisStreamSource, params: &Params) -> Self {
        Self {
            reader: Reader::new(client, spec, params),
        }
    }
}

impl Archive for StreamArchive {
    async fn after(&self, after: EntryId, extent: Extent) -> Result<Past, SourceError> {
        let Some(from) = after.next() else {
            return Ok(Past::Unknown);
        };
        let batch = match extent {
            Extent::Page => self.reader.forward(from, BATCH).await,
            Extent::Newest => self.reader.backward(from, 1).await,
        };
        let batch = match batch {
            Ok(batch) => batch,
            // There is an entry that nobody can be given.
            Err(error) if error.cause == Cause::TooLarge => return Ok(Past::Unknown),
            Err(error) => return Err(error),
        };
        // Asked last: trimming begins with the oldest, so as long as it is there nothing after it was missing before.
        if !self.reader.knows(after).await? {
            return Ok(Past::Unknown);
        }
        Ok(match extent {
            Extent::Page => page(batch),
            Extent::Newest => Past::Entries {
                last: batch.entries.last().map(|entry| entry.id),
                entries: deliverable(batch.entries),
                is_all: true,
            },
        })
    }
}

/// As much of it as makes a page.
fn page(mut batch: Batch) -> Past {
    let mut bytes = 0;
    let fitting = batch.entries.iter().take_while(|entry| {
        let fits = bytes < PAGE;
        bytes += entry.data.as_ref().map_or(0, |data| data.encoded().len());
        fits
    });
    let fitting = fitting.count();
    let is_all = batch.is_all && fitting == batch.entries.len();
    batch.entries.truncate(fitting);
    Past::Entries {
        last: batch.entries.last().map(|entry| entry.id),
        entries: deliverable(batch.entries),
        is_all,
    }
}

fn deliverable(entries: Vec<Entry>) -> Vec<(EntryId, crate::value::Value)> {
    let data = |entry: Entry| Some((entry.id, entry.data.ok()?));
    entries.into_iter().filter_map(data).collect()
}

#[cfg(test)]
mod tests;
