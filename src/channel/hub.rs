//! Stream and parameters to channel, with a cap a stream. Channels are made on first use and dropped when nobody can
//! resume on them any more.
//!
//! Streams come and go with the configuration. Each definition of a stream has an id of its own for as long as it stands,
//! so that nobody who knows an earlier one reaches a later one's channels.
#![expect(
    clippy::mutable_key_type,
    reason = "a channel is found by its key, which never changes"
)]

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::{Channel, Subscription};
use crate::params::{Forwarded, Params};

/// One definition of a stream, as long as it stands in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// One that no definition had before.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for StreamId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that can change what a source answers (EDGE I1): the stream, its parameters, and what the client sent in the
/// headers that the stream forwards. Nothing else of who asks reaches a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Which stream.
    pub stream: StreamId,
    /// In the order of the path.
    pub params: Params,
    /// `None`: the stream forwards nothing, and whoever asks shares the channel.
    pub forwarded: Option<Arc<Forwarded>>,
}

impl ChannelKey {
    /// Of a stream that forwards no header.
    pub fn shared(stream: StreamId, params: Params) -> Self {
        Self {
            stream,
            params,
            forwarded: None,
        }
    }
}

/// Why a resource cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The stream has as many channels as it may have, and all are in use.
    #[error("too many distinct resources")]
    Full,
    /// The stream's definition does not stand any more: the configuration has changed.
    #[error("the stream is gone")]
    Retired,
}

/// Makes a channel and starts what feeds it.
pub type OpenChannel = Box<dyn Fn(&ChannelKey) -> Arc<Channel> + Send + Sync>;

/// All channels.
#[derive(Default)]
pub struct Hub {
    streams: RwLock<HashMap<StreamId, Arc<StreamChannels>>>,
}

struct StreamChannels {
    max: usize,
    open: OpenChannel,
    remark: OnceLock<&'static str>,
    /// `None`: retired.
    channels: Mutex<Option<HashSet<ByKey>>>,
}

/// A channel that is found by its key.
struct ByKey(Arc<Channel>);

impl Borrow<ChannelKey> for ByKey {
    fn borrow(&self) -> &ChannelKey {
        self.0.key()
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl Hub {
    /// Lets a stream have up to `max` channels, which `open` makes.
    pub fn add(&self, stream: StreamId, max: usize, open: OpenChannel) {
        let channels = StreamChannels {
            max,
            open,
            remark: OnceLock::new(),
            channels: Mutex::new(Some(HashSet::new())),
        };
        self.streams.write().insert(stream, Arc::new(channels));
    }

    /// Takes a stream away: its channels are retired, and nobody gets a new one.
    pub fn retire(&self, stream: StreamId) {
        let Some(stream) = self.streams.write().remove(&stream) else {
            return;
        };
        // Taken under the lock that channels are made under: none is missed.
        let channels = stream.channels.lock().take();
        for ByKey(channel) in channels.unwrap_or_default() {
            channel.retire();
        }
    }

    /// Subscribes to the channel of `key`, made if there is none.
    pub fn subscribe(&self, key: &ChannelKey) -> Result<Subscription, Unavailable> {
        self.with_channel(key, Channel::subscribe)
    }

    /// Makes the channel of `key` if there is none, without reading it.
    pub fn open(&self, key: &ChannelKey) -> Result<(), Unavailable> {
        self.with_channel(key, |_| ())
    }

    /// Runs `act` while the channel cannot leave the hub.
    fn with_channel<T>(
        &self,
        key: &ChannelKey,
        act: impl FnOnce(&Arc<Channel>) -> T,
    ) -> Result<T, Unavailable> {
        let stream = self.stream(key.stream).ok_or(Unavailable::Retired)?;
        let mut channels = stream.channels.lock();
        let channels = channels.as_mut().ok_or(Unavailable::Retired)?;
        if let Some(ByKey(channel)) = channels.get(key) {
            return Ok(act(channel));
        }
        if channels.len() >= stream.max {
            evict_idle(channels).ok_or(Unavailable::Full)?;
        }
        let channel = (stream.open)(key);
        let result = act(&channel);
        channels.insert(ByKey(channel));
        Ok(result)
    }

    /// Drops the channel if nobody has read it for `age`, and nothing in it is worth keeping. Returns whether it is gone from
    /// the hub; decided under the lock that [`Hub::subscribe`] holds, so nobody can come in between.
    pub fn remove_unread(&self, channel: &Arc<Channel>, age: Duration) -> bool {
        let key = channel.key();
        let Some(stream) = self.stream(key.stream) else {
            return true;
        };
        let mut channels = stream.channels.lock();
        let Some(channels) = channels.as_mut() else {
            return true;
        };
        match channels.get(key) {
            Some(ByKey(known)) if Arc::ptr_eq(known, channel) => {
                let unread = !channel.wanted(age) && !channel.retains();
                if unread {
                    channels.remove(key);
                }
                unread
            }
            _ => true,
        }
    }

    /// Runs `act` for every channel of a stream.
    pub fn each(&self, stream: StreamId, act: impl Fn(&Channel)) {
        let channels = self.channels(stream);
        channels.iter().for_each(|channel| act(channel));
    }

    /// The channels that a stream has now.
    pub fn channels(&self, stream: StreamId) -> Vec<Arc<Channel>> {
        let Some(stream) = self.stream(stream) else {
            return Vec::new();
        };
        let channels = stream.channels.lock();
        let channels = channels.iter().flatten();
        channels.map(|ByKey(channel)| channel.clone()).collect()
    }

    /// Keeps what the first reading of a stream gave an operator to think about. Returns whether it is the first.
    pub fn remark(&self, stream: StreamId, remark: &'static str) -> bool {
        self.stream(stream)
            .is_some_and(|stream| stream.remark.set(remark).is_ok())
    }

    /// What an operator should know about a stream's source.
    pub fn remarked(&self, stream: StreamId) -> Option<&'static str> {
        self.stream(stream)?.remark.get().copied()
    }

    /// How many channels a stream has.
    pub fn len(&self, stream: StreamId) -> usize {
        self.stream(stream)
            .and_then(|stream| stream.channels.lock().as_ref().map(HashSet::len))
            .unwrap_or_default()
    }

    fn stream(&self, stream: StreamId) -> Option<Arc<StreamChannels>> {
        self.streams.read().get(&stream).cloned()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self.streams.read().keys().copied().collect();
        let counts = streams.into_iter().map(|stream| (stream, self.len(stream)));
        f.debug_map().entries(counts).finish()
    }
}

/// Makes room: of the channels that nobody wants any more, the one left longest ago. What feeds it rests, and ends when
/// it finds that its channel has left.
fn evict_idle(channels: &mut HashSet<ByKey>) -> Option<()> {
    let oldest = channels
        .iter()
        .filter(|ByKey(channel)| channel.is_idle())
        .filter_map(|ByKey(channel)| Some((channel.unread_since()?, channel)))
        .min_by_key(|(since, _)| *since)
        .map(|(_, channel)| channel.key().clone())?;
    channels.remove(&oldest).then_some(())
}
