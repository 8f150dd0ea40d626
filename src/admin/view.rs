//! What runs, as JSON: streams and channels. Values of channels are not shown: they may be some client's own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::Running;
use crate::channel::{Channel, Event, Snapshot};
use crate::config::{Source, Stream};
use crate::metrics::{Label, Metrics, PollResult, StreamMetrics};

/// Events of a channel that are told.
const RECENT: usize = 50;

/// All streams, in the order of the file.
pub(super) fn streams(running: &Running, metrics: &Metrics) -> Value {
    let streams = running.config.streams.iter().enumerate();
    streams
        .map(|(index, stream)| {
            let counts = metrics.stream(stream.path.as_str());
            let mut told = of_source(stream);
            told.insert(
                "warnings".into(),
                warnings(stream, running.hub.remarked(running.ids[index])).into(),
            );
            told.extend(of_counts(&counts, &running.channels(index)));
            Value::Object(told)
        })
        .collect()
}

/// All channels.
pub(super) fn channels(running: &Running) -> Value {
    each(running)
        .map(|(stream, channel)| overview(stream, &channel))
        .collect()
}

/// One channel with its recent events, by its id.
pub(super) fn channel(running: &Running, id: &str) -> Option<Value> {
    let (stream, channel) = each(running).find(|(_, channel)| channel.id().to_string() == id)?;
    let mut told = overview(stream, &channel);
    let recent = channel.recent(RECENT);
    told["events"] = recent.iter().map(|event| of_event(event)).collect();
    Some(told)
}

fn each(running: &Running) -> impl Iterator<Item = (&Arc<Stream>, Arc<Channel>)> {
    let streams = running.config.streams.iter().enumerate();
    streams.flat_map(|(index, stream)| {
        let channels = running.channels(index);
        channels.into_iter().map(move |channel| (stream, channel))
    })
}

fn of_source(stream: &Stream) -> Map<String, Value> {
    let (source, from) = match &stream.source {
        Source::Http(http) => ("http", Some(&http.upstream.name)),
        Source::RedisKey(redis) => ("redis", Some(&redis.server.name)),
        Source::RedisPubSub(redis) => ("redis-pubsub", Some(&redis.server.name)),
        Source::RedisStream(redis) => ("redis-stream", Some(&redis.server.name)),
        Source::Sse(sse) => ("sse", Some(&sse.upstream.name)),
        Source::Publish(publish) => (
            "publish",
            publish.server.as_ref().map(|server| &server.name),
        ),
    };
    let polled = matches!(stream.source, Source::Http(_) | Source::RedisKey(_));
    let mut told = Map::new();
    told.insert("path".into(), stream.path.as_str().into());
    told.insert("source".into(), source.into());
    told.insert("from".into(), from.cloned().into());
    told.insert(
        "every_ms".into(),
        polled.then(|| milliseconds(stream.every)).into(),
    );
    told
}

/// What an operator should know (EDGE I3, X12).
fn warnings(stream: &Stream, remark: Option<&'static str>) -> Vec<String> {
    let upstream = match &stream.source {
        Source::Http(http) => &http.upstream,
        Source::Sse(sse) => &sse.upstream,
        Source::RedisKey(_)
        | Source::RedisPubSub(_)
        | Source::RedisStream(_)
        | Source::Publish(_) => return Vec::new(),
    };
    let mut warnings = Vec::new();
    if let Some(remark) = remark {
        warnings.push(format!("{remark}; values stay shared between clients"));
    }
    if upstream.tls.insecure {
        warnings.push("certificates of the upstream are not verified".to_owned());
    }
    warnings
}

fn of_counts(counts: &StreamMetrics, channels: &[Arc<Channel>]) -> Map<String, Value> {
    let polls = counts.polls.total();
    let share = |result| match polls {
        0 => Value::Null,
        _ => json!(counts.polls.get(result) as f64 / polls as f64),
    };
    let last = channels
        .iter()
        .filter_map(|channel| channel.polls().last)
        .max_by_key(|poll| poll.began);
    let subscribers: usize = channels.iter().map(|channel| channel.readers()).sum();
    let told = json!({
        "channels": channels.len(),
        "subscribers": subscribers,
        "streams_open": counts.open.get(),
        "polls": polls,
        "polls_failed": counts.polls.get(PollResult::Failed),
        "change_rate": share(PollResult::Changed),
        "not_modified_share": share(PollResult::NotModified),
        "last_poll": last.map(|poll| wall(poll.began)),
        "stale_channels": counts.stale.get(),
        "deliveries": counts.deliveries.get(),
        "requests_saved": counts.saved.get(),
        "bytes_saved": counts.patch_savings.get(),
    });
    match told {
        Value::Object(told) => told,
        _ => Map::new(),
    }
}

fn overview(stream: &Stream, channel: &Channel) -> Value {
    let names = stream.path.param_names();
    let params = names
        .zip(channel.key().params.0.iter())
        .map(|(name, value)| (name.to_owned(), json!(value)));
    let trouble = channel.trouble();
    let state = match channel.snapshot() {
        _ if trouble.is_some() => "stale",
        Snapshot::Unsettled => "starting",
        Snapshot::Gone => "gone",
        Snapshot::Empty => "empty",
        Snapshot::Failing { .. } | Snapshot::Value { stale: true, .. } => "stale",
        Snapshot::Value { .. } => "live",
    };
    let polls = channel.polls();
    let now = Instant::now();
    let polled = matches!(stream.source, Source::Http(_) | Source::RedisKey(_));
    json!({
        "id": channel.id().to_string(),
        "stream": stream.path.as_str(),
        "params": Map::from_iter(params),
        "subscribers": channel.readers(),
        "state": state,
        "cause": trouble.map(|(cause, _)| cause),
        "stale_ms": trouble.map(|(_, since)| milliseconds(since)),
        "version": channel.recent(1).first().map(|event| event.told_id()),
        "age_ms": channel.confirmed_at().map(|at| milliseconds(at.elapsed())),
        "interval_ms": polled.then(|| milliseconds(stream.every)),
        "next_poll_ms": polls.due.map(|due| milliseconds(due.saturating_duration_since(now))),
        "last_poll": polls.last.map(|poll| json!({
            "at": wall(poll.began),
            "ms": milliseconds(poll.took),
            "result": poll.result.as_str(),
            "cause": poll.cause,
        })),
    })
}

fn of_event(event: &Event) -> Value {
    json!({
        "id": event.told_id(),
        "at": wall(event.at()),
        "event": event.name().map(crate::config::EventName::as_str),
        "bytes": event.value().encoded().len(),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Clocks that count on know no date: as of now.
fn wall(at: Instant) -> String {
    let at = SystemTime::now()
        .checked_sub(at.elapsed())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(at).to_string()
}
