//! `limits` and `shutdown`

use super::super::read::Item;
use super::super::{Limits, Overload, Shutdown};
use super::{all, keys};

pub(super) fn limits(item: Item<'_>) -> Option<Limits> {
    let section = item.section(&keys::LIMITS)?;
    let overload = section.choice(
        "overload",
        &[("stream", Overload::Stream), ("status", Overload::Status)],
    );
    let queue = section.size("queue");
    let write_stall = section.duration("write_stall");
    let header_timeout = section.duration("header_timeout");
    let max_header_bytes = section.size("max_header_bytes");
    Some(Limits {
        overload: overload?,
        queue: queue?,
        write_stall: write_stall?,
        header_timeout: header_timeout?,
        max_header_bytes: max_header_bytes?,
    })
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
