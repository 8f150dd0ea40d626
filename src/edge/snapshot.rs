//! The value alone: a plain GET, conditional, and held until it changes (CONTRACT.md §3).

use std::time::{Duration, Instant};

use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::proxy::Session;
use tokio::time::timeout_at;
use xxhash_rust::xxh3::xxh3_64;

use super::cors::Header;
use super::negotiate;
use super::reply::{self, Rejection};
use crate::channel::{Snapshot, Subscription};
use crate::value::Value;

/// How long a client is held for a first value.
const FIRST_VALUE: Duration = Duration::from_secs(15);

const STATE: HeaderName = HeaderName::from_static("x-wellspring-state");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What to answer.
struct Answer {
    value: Value,
    etag: String,
    age: Duration,
    stale: bool,
    /// The wait in force.
    waited: Option<Duration>,
}

/// Answers with the current value of the channel.
pub(super) async fn serve(
    session: &mut Session,
    subscription: Subscription,
    every: Duration,
    request_id: &str,
    headers: &[Header],
) -> pingora::Result<()> {
    let header = |name: HeaderName| {
        session
            .get_header(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let known = header(IF_NONE_MATCH);
    let wait = negotiate::wait(header(HeaderName::from_static("prefer")).as_deref())
        .filter(|_| known.is_some());
    let answer = tokio::select! {
        // An answer that is there needs no look at the client.
        biased;
        answer = current(&subscription, known.as_deref(), wait, every) => answer,
        // The client left: nobody is there to answer.
        _ = session.read_body_or_idle(true) => return Ok(()),
    };
    drop(subscription);
    match answer {
        Ok(answer) => give(session, &answer, known.as_deref(), request_id, headers).await,
        Err(rejection) => reply::reject(session, &rejection, request_id, headers).await,
    }
}

/// Waits for a first value, and then, with `wait`, for one that the client does not know.
async fn current(
    subscription: &Subscription,
    known: Option<&str>,
    wait: Option<Duration>,
    every: Duration,
) -> Result<Answer, Rejection> {
    let channel = subscription.channel();
    let mut version = channel.version();
    let began = Instant::now();
    let retry = every.max(Duration::from_secs(1));
    loop {
        version.mark_unchanged();
        let deadline = match channel.snapshot() {
            Snapshot::Gone => return Err(Rejection::Gone),
            Snapshot::Failing { cause } => return Err(Rejection::SourceFails { cause, retry }),
            // Nothing was published yet.
            Snapshot::Empty => return Err(Rejection::Gone),
            Snapshot::Unsettled => match began + FIRST_VALUE {
                deadline if deadline <= Instant::now() => return Err(Rejection::NotYet { retry }),
                deadline => deadline,
            },
            Snapshot::Value {
                value,
                delivered,
                age,
                stale,
            } => {
                let etag = etag(&value, &delivered);
                let deadline = began + wait.unwrap_or_default();
                let hold = negotiate::none_match(known, &etag) && Instant::now() < deadline;
                if !hold {
                    return Ok(Answer {
                        value,
                        etag,
                        age,
                        stale,
                        waited: wait,
                    });
                }
                deadline
            }
        };
        // Whether it changed or the time is over, the next round tells. The sender lives in the channel.
        let _ = timeout_at(deadline.into(), version.changed()).await;
    }
}

/// Changes with what counts as a change, and is weak when the value has changed in what does not (RFC 9110 §8.8.1).
fn etag(value: &Value, delivered: &Value) -> String {
    let weak = if value.encoded() == delivered.encoded() {
        ""
    } else {
        "W/"
    };
    format!("{weak}\"{:016x}\"", xxh3_64(delivered.encoded().as_bytes()))
}

async fn give(
    session: &mut Session,
    answer: &Answer,
    known: Option<&str>,
    request_id: &str,
    headers: &[Header],
) -> pingora::Result<()> {
    let state = if answer.stale { "stale" } else { "live" };
    let mut own = vec![
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (VARY, HeaderValue::from_static("Accept")),
        (AGE, HeaderValue::from(answer.age.as_secs())),
        (STATE, HeaderValue::from_static(state)),
    ];
    if let Ok(etag) = HeaderValue::from_str(&answer.etag) {
        own.push((ETAG, etag));
    }
    if let Some(waited) = answer.waited
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", waited.as_secs()))
    {
        own.push((PREFERENCE_APPLIED, applied));
    }
    own.extend_from_slice(headers);
    if negotiate::none_match(known, &answer.etag) {
        return reply::respond(session, StatusCode::NOT_MODIFIED, &own, None, request_id).await;
    }
    let content_type = match answer.value.is_text() {
        true => "text/plain; charset=utf-8",
        false => "application/json",
    };
    own.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
    let body = answer.value.encoded().to_owned().into();
    reply::respond(session, StatusCode::OK, &own, Some(body), request_id).await
}
