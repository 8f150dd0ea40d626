//! `limits`, `compression` and `shutdown`

use super::super::read::{Item, Section};
use super::super::{Coding, Limits, Overload, Shutdown, StreamLimits};
use super::{all, keys};

const OVERLOAD: [(&str, Overload); 2] =
    [("stream", Overload::Stream), ("status", Overload::Status)];

pub(super) fn limits(item: Item<'_>) -> Option<Limits> {
    let section = item.section(&keys::LIMITS)?;
    let requests = section.get("requests").or_null(|item| item.rate());
    let connects = section.get("connects").rate();
    let streams_per_client = section.integer("streams_per_client");
    let streams = section.integer("streams");
    let overload = section.choice("overload", &OVERLOAD);
    let queue = section.size("queue");
    let write_stall = section.duration("write_stall");
    let header_timeout = section.duration("header_timeout");
    let max_header_bytes = section.size("max_header_bytes");
    Some(Limits {
        requests: requests?,
        connects: connects?,
        streams_per_client: streams_per_client?,
        streams: streams?,
        overload: overload?,
        queue: queue?,
        write_stall: write_stall?,
        header_timeout: header_timeout?,
        max_header_bytes: max_header_bytes?,
    })
}

/// `limits` of one stream.
pub(super) fn stream_limits(item: Item<'_>) -> Option<StreamLimits> {
    let section = item.section(&keys::STREAM_LIMITS)?;
    let requests = own(&section, "requests", |item| item.rate());
    let connects = own(&section, "connects", |item| item.rate());
    let streams_per_client = own(&section, "streams_per_client", |_| {
        section.integer("streams_per_client")
    });
    let streams = own(&section, "streams", |_| section.integer("streams"));
    let overload = own(&section, "overload", |_| {
        section.choice("overload", &OVERLOAD)
    });
    Some(StreamLimits {
        requests: requests?,
        connects: connects?,
        streams_per_client: streams_per_client?,
        streams: streams?,
        overload: overload?,
    })
}

/// What the stream says for itself. The outer `None`: a problem.
fn own<'a, T>(
    section: &Section<'a>,
    name: &'static str,
    read: impl FnOnce(&Item<'a>) -> Option<T>,
) -> Option<Option<T>> {
    match section.given(name) {
        Some(item) => read(&item).map(Some),
        None => Some(None),
    }
}

/// The inner `None`: off.
pub(super) fn compression(root: &Section<'_>) -> Option<Option<Coding>> {
    let item = root.get("compression");
    if item.is_off() || item.is_null() {
        return Some(None);
    }
    let codings = [
        ("off", None),
        ("gzip", Some(Coding::Gzip)),
        ("zstd", Some(Coding::Zstd)),
    ];
    root.choice("compression", &codings)
}

pub(super) fn shutdown(item: Item<'_>) -> Option<Shutdown> {
    let section = item.section(&keys::SHUTDOWN)?;
    let drain = section.duration("drain");
    let retry = section.get("retry");
    let bounds = retry
        .list()
        .and_then(|items| all(items.iter().map(|item| section.duration_of("retry", item))));
    let bounds = match bounds?.as_slice() {
        &[min, max] if min <= max => (min, max),
        _ => {
            retry.problem("these are not a shortest and a longest time (write [1s, 30s])");
            return None;
        }
    };
    Some(Shutdown {
        drain: drain?,
        retry: bounds,
    })
}
