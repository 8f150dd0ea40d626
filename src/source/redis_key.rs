//! Reads a Redis key.

pub(in crate::source) mod reply;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use redis::Cmd;

use super::redis_server::{Place, RedisClient};
use super::{Answer, Reading, Source, SourceError};
use crate::config;
use crate::config::{RedisFormat, RedisShape, RedisWatch};
use crate::params::{Escape, Params};
use crate::value::{Malformed, Value};
pub(in crate::source) use watch::KeyWatch;

/// One key of a Redis server: one read command a reading (EDGE R1), no write, no script (EDGE R4). In between the key is watched,
/// if the file wants that and the server allows it.
#[derive(Debug)]
pub struct RedisKeySource {
    client: RedisClient,
    key: String,
    command: Cmd,
    shape: RedisShape,
    format: RedisFormat,
    wish: RedisWatch,
    /// While readings are wanted.
    watch: Option<KeyWatch>,
    /// Kept from the first reading on, so that the connection is kept as well.
    place: Option<Place>,
    /// Of the last value that was read.
    fingerprint: Option<u128>,
}

impl RedisKeySource {
    /// The key is `spec.key` with `params` in their places. Connects to nothing yet.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a source owns its part of the configuration"
    )]
    pub fn new(client: RedisClient, spec: config::RedisKeySource, params: &Params) -> Self {
        let key = spec.key.render(params, Escape::Verbatim);
        Self {
            client,
            command: command(spec.shape, &key),
            key,
            shape: spec.shape,
            format: spec.format,
            wish: spec.watch,
            watch: None,
            place: None,
            fingerprint: None,
        }
    }

    fn place(&mut self) -> &Place {
        let make = || self.client.place(&self.key);
        self.place.get_or_insert_with(make)
    }

    /// What watches the key, where it is now.
    fn watch(&mut self) -> Option<&mut KeyWatch> {
        if self.wish == RedisWatch::Poll {
            return None;
        }
        let class = class(self.shape);
        let pushes = self.place().pushes();
        if self.watch.as_ref().map(KeyWatch::pushes) != pushes.as_ref().map(Arc::as_ptr) {
            let begin = |pushes| KeyWatch::begin(&self.client, pushes, self.wish, class, &self.key);
            self.watch = pushes.map(begin);
        }
        self.watch.as_mut()
    }

    async fn take_reading(&mut self) -> Result<Reading, SourceError> {
        let place = self
            .place
            .get_or_insert_with(|| self.client.place(&self.key));
        let answer = place.run(&self.command).await;
        let Some(content) = reply::content(self.shape, answer?)? else {
            self.fingerprint = None;
            return Ok(Reading::Absent);
        };
        let fingerprint = content.fingerprint();
        if self.fingerprint == Some(fingerprint) {
            return Ok(Reading::Unchanged);
        }
        let value = content.value(self.format)?;
        self.fingerprint = Some(fingerprint);
        Ok(Reading::Value(value))
    }
}

impl Source for RedisKeySource {
    async fn read(&mut self) -> Result<Answer, SourceError> {
        // The connection for commands is made meanwhile. What is wrong is told by the command.
        let _ = self.place().locate().await;
        if let Some(watch) = self.watch() {
            watch.reading().await;
        }
        let reading = self.take_reading().await;
        if let Some(watch) = &mut self.watch {
            watch.found(matches!(reading, Ok(Reading::Value(_))));
        }
        Ok(Answer {
            reading: reading?,
            not_before: None,
            status: None,
        })
    }

    fn forget(&mut self) {
        self.fingerprint = None;
    }

    /// Completes when the server is back on a connection that no reading was taken on (EDGE R6), when another server has the key,
    /// and when the key that is watched may have changed.
    async fn hint(&mut self) {
        self.watch();
        let Self { place, watch, .. } = self;
        let changed = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let elsewhere = async {
            match place {
                Some(place) => place.changes().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = elsewhere => {}
            () = changed => {}
        }
    }

    fn holds(&self) -> Option<Instant> {
        self.watch.as_ref()?.holds()
    }

    fn rest(&mut self) {
        self.watch = None;
    }
}

/// Reads a string, or a message, as `format` says.
pub(super) fn read(bytes: &[u8], format: RedisFormat) -> Result<Value, Malformed> {
    match format {
        RedisFormat::Auto => Value::parse_auto(bytes),
        RedisFormat::Json => Value::parse_json(bytes),
        RedisFormat::Text => Value::parse_text(bytes),
    }
}

/// The class of notifications that tells of commands for the type (Redis documentation, "Redis keyspace notifications").
fn class(shape: RedisShape) -> char {
    match shape {
        RedisShape::String => '$',
        RedisShape::Hash => 'h',
        RedisShape::List => 'l',
        RedisShape::Set => 's',
        RedisShape::SortedSet => 'z',
        RedisShape::Json => 'd',
    }
}

fn command(shape: RedisShape, key: &str) -> Cmd {
    let mut command = redis::cmd(match shape {
        RedisShape::String => "GET",
        RedisShape::Hash => "HGETALL",
        RedisShape::List => "LRANGE",
        RedisShape::Set => "SMEMBERS",
        RedisShape::SortedSet => "ZRANGE",
        RedisShape::Json => "JSON.GET",
    });
    command.arg(key);
    match shape {
        RedisShape::List => command.arg(0).arg(-1),
        RedisShape::SortedSet => command.arg(0).arg(-1).arg("WITHSCORES"),
        RedisShape::Json => command.arg("."),
        RedisShape::String | RedisShape::Hash | RedisShape::Set => &mut command,
    };
    command
}

#[cfg(test)]
mod tests;
