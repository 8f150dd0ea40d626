//! Stream and parameters to channel, with a cap a stream. Channels are made on first use and dropped when nobody can
//! resume on them any more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{Channel, Subscription};
use crate::params::{Forwarded, Params};

/// Everything that can change what a source answers (EDGE I1): the stream, by its index in the configuration, its
/// parameters, and what the client sent in the headers that the stream forwards. Nothing else of who asks reaches a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Index of the stream.
    pub stream: usize,
    /// In the order of the path.
    pub params: Params,
    /// `None`: the stream forwards nothing, and whoever asks shares the channel.
    pub forwarded: Option<Arc<Forwarded>>,
}

impl ChannelKey {
    /// Of a stream that forwards no header.
    pub fn shared(stream: usize, params: Params) -> Self {
        Self {
            stream,
            params,
            forwarded: None,
        }
    }
}

/// The stream has as many channels as it may have, and all are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many distinct resources")]
pub struct Full;

/// Makes a channel and starts what feeds it.
pub type OpenChannel = Box<dyn Fn(&ChannelKey) -> Arc<Channel> + Send + Sync>;

/// All channels.
pub struct Hub {
    streams: Vec<StreamChannels>,
}

struct StreamChannels {
    max: usize,
    open: OpenChannel,
    remark: OnceLock<&'static str>,
    channels: Mutex<HashMap<ChannelKey, Arc<Channel>>>,
}

impl Hub {
    /// A hub of streams, each with its cap and its way to open a channel.
    pub fn new(streams: Vec<(usize, OpenChannel)>) -> Self {
        let streams = streams
            .into_iter()
            .map(|(max, open)| StreamChannels {
                max,
                open,
                remark: OnceLock::new(),
                channels: Mutex::default(),
            })
            .collect();
        Self { streams }
    }

    /// Subscribes to the channel of `key`, made if there is none.
    pub fn subscribe(&self, key: &ChannelKey) -> Result<Subscription, Full> {
        self.with_channel(key, Channel::subscribe)
    }

    /// Makes the channel of `key` if there is none, without reading it.
    pub fn open(&self, key: &ChannelKey) -> Result<(), Full> {
        self.with_channel(key, |_| ())
    }

    /// Runs `act` while the channel cannot leave the hub.
    fn with_channel<T>(
        &self,
        key: &ChannelKey,
        act: impl FnOnce(&Arc<Channel>) -> T,
    ) -> Result<T, Full> {
        let stream = &self.streams[key.stream];
        let mut channels = stream.channels.lock();
        if let Some(channel) = channels.get(key) {
            return Ok(act(channel));
        }
        if channels.len() >= stream.max {
            evict_idle(&mut channels).ok_or(Full)?;
        }
        let channel = (stream.open)(key);
        let result = act(&channel);
        channels.insert(key.clone(), channel);
        Ok(result)
    }

    /// Drops the channel if nobody reads it. Returns whether it is gone from the hub; decided under the lock that
    /// [`Hub::subscribe`] holds, so nobody can come in between.
    pub fn remove_unread(&self, channel: &Arc<Channel>) -> bool {
        let key = channel.key();
        let mut channels = self.streams[key.stream].channels.lock();
        match channels.get(key) {
            Some(known) if Arc::ptr_eq(known, channel) => {
                let unread = channel.readers() == 0;
                if unread {
                    channels.remove(key);
                }
                unread
            }
            _ => true,
        }
    }

    /// Runs `act` for every channel of a stream.
    pub fn each(&self, stream: usize, act: impl Fn(&Channel)) {
        let channels: Vec<_> = self.streams[stream]
            .channels
            .lock()
            .values()
            .cloned()
            .collect();
        channels.iter().for_each(|channel| act(channel));
    }

    /// The channels of a stream.
    pub fn channels(&self, stream: usize) -> Vec<Arc<Channel>> {
        let channels = self.streams[stream].channels.lock();
        channels.values().cloned().collect()
    }

    /// Keeps what the first reading of a stream gave an operator to think about. Returns whether it is the first.
    pub fn remark(&self, stream: usize, remark: &'static str) -> bool {
        self.streams[stream].remark.set(remark).is_ok()
    }

    /// What an operator should know about a stream's source.
    pub fn remarked(&self, stream: usize) -> Option<&'static str> {
        self.streams[stream].remark.get().copied()
    }

    /// How many channels a stream has.
    pub fn len(&self, stream: usize) -> usize {
        self.streams[stream].channels.lock().len()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (0..self.streams.len()).map(|stream| self.len(stream));
        f.debug_list().entries(counts).finish()
    }
}

/// Makes room: of the channels that nobody wants any more, the one left longest ago. What feeds it rests, and ends when
/// it finds that its channel has left.
fn evict_idle(channels: &mut HashMap<ChannelKey, Arc<Channel>>) -> Option<()> {
    let oldest = channels
        .iter()
        .filter(|(_, channel)| channel.is_idle())
        .filter_map(|(key, channel)| Some((channel.unread_since()?, key)))
        .min_by_key(|(since, _)| *since)
        .map(|(_, key)| key.clone())?;
    channels.remove(&oldest).map(drop)
}
