//! One stream's source, read by hand: what it gives, and what a client would get. No listener, no poller, no client.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::feeds::spec;
use super::{StartError, http_client, redis_client};
use crate::channel::{Channel, ChannelKey, Cursor, Form, StreamId};
use crate::config::field::Match;
use crate::config::{self, Config, PubSubName, RedisShape, Stream, Upstream};
use crate::params::{Escape, ParamText, Params};
use crate::source::http::{EventFeed, HttpSource};
use crate::source::redis_key::RedisKeySource;
use crate::source::redis_pubsub::PubSubFeed;
use crate::source::redis_stream::StreamFeed;
use crate::source::{Answer, Cause, Feed, FeedItem, Reading, Source, SourceError};
use crate::sse::EventName;
use crate::value::{Selector, Value};

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The source answered, or there is nothing to read.
    Answered,
    /// A reading failed, or nobody could listen.
    Failed,
    /// No stream serves the path.
    NoStream,
}

/// What happened, in order. Texts may hold what the source sent, raw.
#[derive(Debug)]
pub enum Step {
    /// No stream serves the path.
    NoStream {
        /// The stream that would, if its patterns took the parameters.
        refused_by: Option<String>,
        /// The paths of all streams.
        known: Vec<String>,
    },
    /// A stream serves the path.
    Stream {
        /// As it is configured.
        path: String,
        /// Names and values.
        params: Vec<(String, String)>,
        /// What is read, without anything secret.
        source: String,
    },
    /// Nobody can read: the client cannot be made.
    NoClient(StartError),
    /// A reading was taken.
    Reading {
        /// From 1.
        number: usize,
        /// From its start to its end.
        took: Duration,
        /// The HTTP status of an answer, where there is one.
        status: Option<u16>,
        /// What it gave.
        result: Result<Seen, SourceError>,
    },
    /// The next reading is awaited.
    Wait {
        /// Since the start of the reading before.
        wait: Duration,
        /// The stream's interval.
        every: Duration,
        /// The source asked to be left alone for so long.
        wish: Option<Duration>,
    },
    /// Messages are listened to from now on.
    Listening {
        /// Until then.
        took: Duration,
    },
    /// A message came.
    Message {
        /// From 1.
        number: usize,
        /// Since listening began.
        after: Duration,
        /// The event name that it asks for.
        name: Option<EventName>,
        /// What clients get.
        data: Value,
    },
    /// A message came that clients never see.
    Dropped {
        /// The reason.
        why: String,
    },
    /// No more messages came in time.
    Silent {
        /// How many did.
        messages: usize,
        /// Whether anybody was listening.
        listening: bool,
        /// Since the wait began.
        waited: Duration,
    },
    /// Listening failed.
    Down(SourceError),
    /// There is nothing to read: the stream gives what is sent to this path.
    Published {
        /// As it is configured.
        path: String,
    },
    /// What a client that is there from the start gets now, to the byte. `None`: nothing.
    Events(Option<String>),
}

/// What a reading that did not fail gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A value.
    Value {
        /// Bytes of all of it: of a text, or of JSON on one line.
        size: usize,
        /// What the stream selects of it.
        selected: Value,
    },
    /// The same bytes as before.
    Unchanged,
    /// The source said that nothing changed.
    NotModified,
    /// No such resource or key.
    Absent,
}

/// How many readings or messages.
const TIMES: usize = 2;
/// The longest wait between two readings, whatever the interval.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long messages are waited for.
const LISTEN: Duration = Duration::from_secs(10);

/// Takes two readings, one interval apart, of what serves `path`; of what only tells, such as a pub/sub channel or an event
/// stream, waits for two messages.
/// `tell` is told each step at once. Must be called within a runtime.
pub async fn probe(config: &Config, path: &str, tell: &mut dyn FnMut(Step)) -> Outcome {
    let (index, params) = match find(config, path) {
        Ok(found) => found,
        Err(refused_by) => {
            let known = config
                .streams
                .iter()
                .map(|stream| stream.path.to_string())
                .collect();
            tell(Step::NoStream { refused_by, known });
            return Outcome::NoStream;
        }
    };
    let stream = &config.streams[index];
    let names = stream.path.param_names().map(str::to_owned);
    tell(Step::Stream {
        path: stream.path.to_string(),
        params: names
            .zip(params.0.iter().map(|value| value.to_string()))
            .collect(),
        source: describe(&stream.source, &params),
    });
    let probed = match &stream.source {
        config::Source::Publish(publish) => {
            tell(Step::Published {
                path: publish.path.to_string(),
            });
            return Outcome::Answered;
        }
        _ => with_source(stream, &params, tell).await,
    };
    probed.unwrap_or_else(|error| {
        tell(Step::NoClient(error));
        Outcome::Failed
    })
}

async fn with_source(
    stream: &Stream,
    params: &Params,
    tell: &mut dyn FnMut(Step),
) -> Result<Outcome, StartError> {
    let client = Client::new(stream, ChannelKey::shared(StreamId::new(), params.clone()));
    Ok(match &stream.source {
        config::Source::Http(source) => {
            let http = http_client(&source.upstream, Default::default())?;
            let reader = HttpSource::new(http, source.clone(), params.clone(), None);
            client.read_twice(reader, stream.every, tell).await
        }
        config::Source::RedisKey(source) => {
            // Two readings need no more than two commands.
            let source = config::RedisKeySource {
                watch: config::RedisWatch::Poll,
                ..source.clone()
            };
            let reader = RedisKeySource::new(redis_client(&source.server)?, source, params);
            client.read_twice(reader, stream.every, tell).await
        }
        config::Source::RedisPubSub(source) => {
            let feed = PubSubFeed::new(
                redis_client(&source.server)?,
                source.as_ref().clone(),
                params,
            );
            client.listen(feed, tell).await
        }
        config::Source::RedisStream(source) => {
            let redis = redis_client(&source.server)?;
            let feed = StreamFeed::new(&redis, source, params, stream.every);
            client.listen(feed, tell).await
        }
        config::Source::Sse(source) => {
            let http = http_client(&source.upstream, Default::default())?;
            let feed = EventFeed::new(http, source.clone(), params.clone(), stream.event.is_none());
            client.listen(feed, tell).await
        }
        config::Source::Publish(_) => Outcome::Answered,
    })
}

/// The stream that serves `path`, as the edge chooses it: of those that fit, the one with the fewest parameters.
/// Else, if there is one, the path of a stream whose patterns refuse the values.
fn find(config: &Config, path: &str) -> Result<(usize, Params), Option<String>> {
    let mut streams: Vec<_> = config.streams.iter().enumerate().collect();
    streams.sort_by_key(|(_, stream)| stream.path.param_names().len());
    let mut refused = None;
    for (index, stream) in streams {
        match stream.path.matches(path) {
            Some(Match::Params(params)) => return Ok((index, params)),
            Some(Match::Refused) => refused = Some(stream.path.to_string()),
            None => {}
        }
    }
    Err(refused)
}

/// Query, headers and body are left out: they may hold secrets.
fn describe(source: &config::Source, params: &Params) -> String {
    match source {
        config::Source::Http(http) => {
            let url = url(&http.upstream, &http.path, params);
            format!("{} {url} (upstream {})", http.method, http.upstream.name)
        }
        config::Source::Sse(sse) => {
            let url = url(&sse.upstream, &sse.path, params);
            format!("event stream {url} (upstream {})", sse.upstream.name)
        }
        config::Source::RedisKey(redis) => {
            let kind = match redis.shape {
                RedisShape::String => "string",
                RedisShape::Hash => "hash",
                RedisShape::List => "list",
                RedisShape::Set => "set",
                RedisShape::SortedSet => "zset",
                RedisShape::Json => "json",
            };
            let key = redis.key.render(params, Escape::Verbatim);
            format!("redis {kind} {key} (server {})", redis.server.name)
        }
        config::Source::RedisPubSub(redis) => {
            let name = match &redis.channel {
                PubSubName::Channel(name) => {
                    format!("channel {}", name.render(params, Escape::Verbatim))
                }
                PubSubName::Pattern(pattern) => format!("pattern {pattern}"),
            };
            format!("redis {name} (server {})", redis.server.name)
        }
        config::Source::RedisStream(redis) => {
            let key = redis.stream.render(params, Escape::Verbatim);
            format!("redis stream {key} (server {})", redis.server.name)
        }
        config::Source::Publish(publish) => format!("POST {}", publish.path),
    }
}

fn url(upstream: &Upstream, path: &ParamText, params: &Params) -> String {
    let base = upstream.url.as_str().trim_end_matches('/');
    format!("{base}{}", path.render(params, Escape::Percent))
}

/// A channel with one reader, who is there from the start.
struct Client {
    channel: Channel,
    cursor: Cursor,
    form: Form,
    select: Selector,
    stale_after: Duration,
}

impl Client {
    fn new(stream: &Stream, key: ChannelKey) -> Self {
        let spec = spec(stream, Default::default());
        Self {
            channel: Channel::new(key, spec),
            cursor: Cursor::New,
            // Never empty by its definition; value form is what there is when nothing is said.
            form: stream.deliver.first().copied().unwrap_or(Form::Value),
            select: stream.select.clone(),
            stale_after: stream.stale_after,
        }
    }

    async fn read_twice<S: Source>(
        mut self,
        mut source: S,
        every: Duration,
        tell: &mut dyn FnMut(Step),
    ) -> Outcome {
        let mut outcome = Outcome::Answered;
        for number in 1..=TIMES {
            let began = Instant::now();
            let answer = source.read().await;
            let took = began.elapsed();
            let status = answer.as_ref().ok().and_then(|answer| answer.status);
            let wish = match &answer {
                Ok(answer) => answer.not_before,
                Err(error) => error.retry_after,
            };
            let result = answer.and_then(|answer| self.observe(answer));
            if let Err(error) = &result {
                source.forget();
                outcome = Outcome::Failed;
                self.fail(error.cause);
            }
            tell(Step::Reading {
                number,
                took,
                status,
                result,
            });
            tell(Step::Events(self.events()));
            if number < TIMES {
                let wait = every.max(wish.unwrap_or_default()).min(MAX_WAIT);
                tell(Step::Wait { wait, every, wish });
                sleep_until(began + wait).await;
            }
        }
        outcome
    }

    async fn listen<F: Feed>(mut self, mut feed: F, tell: &mut dyn FnMut(Step)) -> Outcome {
        let mut since = Instant::now();
        let mut listening = false;
        let mut messages = 0;
        while messages < TIMES {
            let Ok(item) = timeout_at(since + LISTEN, feed.next()).await else {
                tell(Step::Silent {
                    messages,
                    listening,
                    waited: LISTEN,
                });
                return if listening {
                    Outcome::Answered
                } else {
                    Outcome::Failed
                };
            };
            match item {
                FeedItem::Up | FeedItem::Resumed | FeedItem::From(_) => {
                    let took = since.elapsed();
                    (since, listening) = (Instant::now(), true);
                    match item {
                        FeedItem::From(after) => self.channel.open_window(after),
                        _ => self.channel.confirm(),
                    }
                    tell(Step::Listening { took });
                    // A newcomer gets nothing, and is one no more.
                    let _ = self.events();
                }
                FeedItem::Message(message) => match self.select.select(&message.data) {
                    Ok(data) => {
                        messages += 1;
                        self.channel.append(data.clone(), message.event.clone());
                        let (number, after, name) = (messages, since.elapsed(), message.event);
                        tell(Step::Message {
                            number,
                            after,
                            name,
                            data,
                        });
                        tell(Step::Events(self.events()));
                    }
                    Err(error) => tell(Step::Dropped {
                        why: error.to_string(),
                    }),
                },
                FeedItem::Entry(id, data) => match self.select.select(&data) {
                    Ok(data) => {
                        messages += 1;
                        self.channel.append_entry(id, data.clone());
                        let (number, after) = (messages, since.elapsed());
                        tell(Step::Message {
                            number,
                            after,
                            name: None,
                            data,
                        });
                        tell(Step::Events(self.events()));
                    }
                    Err(error) => tell(Step::Dropped {
                        why: error.to_string(),
                    }),
                },
                FeedItem::Refused(why) | FeedItem::Missed(why) => tell(Step::Dropped { why }),
                FeedItem::Down(error) => {
                    self.channel.stale(error.cause.as_str());
                    tell(Step::Down(error));
                    tell(Step::Events(self.events()));
                    return Outcome::Failed;
                }
            }
        }
        Outcome::Answered
    }

    /// Does with an answer what polling does.
    fn observe(&self, answer: Answer) -> Result<Seen, SourceError> {
        Ok(match answer.reading {
            Reading::Value(value) => {
                let malformed = |error: crate::value::Malformed| {
                    SourceError::new(Cause::Malformed, error.to_string())
                };
                let size = value.encoded().len();
                let selected = match self.select.is_root() {
                    true => value,
                    false => self.select.select(&value).map_err(malformed)?,
                };
                self.channel.observe(selected.clone());
                Seen::Value { size, selected }
            }
            Reading::Absent => {
                self.channel.vanish();
                Seen::Absent
            }
            Reading::Unchanged => {
                self.channel.confirm();
                Seen::Unchanged
            }
            Reading::NotModified => {
                self.channel.confirm();
                Seen::NotModified
            }
        })
    }

    /// Clients are told of a failure when the last value is too old, or there is none.
    fn fail(&self, cause: Cause) {
        match self.channel.confirmed_at() {
            Some(at) if at.elapsed() < self.stale_after => self.channel.settle(),
            _ => self.channel.stale(cause.as_str()),
        }
    }

    fn events(&mut self) -> Option<String> {
        let delivery = self.channel.deliver(&self.cursor, self.form, usize::MAX)?;
        self.cursor = delivery.cursor;
        let payload = delivery.frame?.payload();
        Some(String::from_utf8_lossy(&payload).into_owned())
    }
}

#[cfg(test)]
mod tests;
