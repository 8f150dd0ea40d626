//! Reads pages of the past for clients that have missed more than the channel has, beside what happens now.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::debug;

use crate::channel::{Channel, Event, Found, Resume};
use crate::source::{Archive, Extent, Past};
use crate::sse::EntryId;
use crate::value::{Selector, Value};

/// Until a source that does not answer is asked again. Whoever listens to it tells clients meanwhile.
const RETRY: Duration = Duration::from_millis(250);

/// Reads what readers of `channel` want of `archive`, for as long as it is polled.
pub async fn run(
    archive: impl Archive,
    channel: &Channel,
    select: &Selector,
    resume: Resume,
) -> Infallible {
    let extent = match resume {
        Resume::Replay => Extent::Page,
        Resume::Latest => Extent::Newest,
    };
    loop {
        let wanted = channel.wanted_pages().await;
        let pages = wanted
            .after
            .iter()
            .map(|after| archive.after(*after, extent));
        let mut has_failed = false;
        for (after, past) in wanted.after.iter().zip(join_all(pages).await) {
            let found = match past {
                Ok(past) => Some(found(past, select)),
                Err(error) => {
                    debug!(channel = channel.name(), %error, "the past cannot be read");
                    has_failed = true;
                    None
                }
            };
            channel.found(&wanted, *after, found);
        }
        if has_failed {
            sleep(RETRY).await;
        }
    }
}

fn found(past: Past, select: &Selector) -> Found {
    let now = Instant::now();
    let event = |(id, data): (EntryId, Value)| {
        let value = select.select(&data).ok()?;
        Some(Arc::new(Event::of_past(id, value, now)))
    };
    match past {
        Past::Unknown => Found::Unknown,
        Past::Entries {
            entries,
            last,
            is_all,
        } => Found::Page {
            events: entries.into_iter().filter_map(event).collect(),
            last,
            is_all,
        },
    }
}
