//! The value alone: a plain GET, conditional, and held until it changes (CONTRACT.md §3).

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::proxy::Session;
use tokio::sync::watch;
use tokio::time::timeout_at;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::access_log::RequestId;
use super::auth::Identity;
use super::cors::Header;
use super::negotiate::{self, Representation};
use super::reply::{self, Rejection};
use super::request;
use crate::channel::{Snapshot, Subscription};
use crate::value::Value;

/// How long a client is held for a first value.
const FIRST_VALUE: Duration = Duration::from_secs(15);

const STATE: HeaderName = HeaderName::from_static("x-wellspring-state");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// For how long a request that has no value yet may keep a gateway from stopping.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What a client asks for.
pub(super) struct Ask {
    representation: Representation,
    known: Option<String>,
    wait: Option<Duration>,
    /// Who asks decides about the answer.
    private: bool,
    /// Whoever asks may not know what happens later.
    until: Option<Instant>,
}

/// What to answer.
struct Answer {
    value: Value,
    etag: String,
    age: Duration,
    stale: bool,
}

impl Ask {
    /// Reads what the head says about it. There is nothing to wait for without a value that the client knows.
    pub(super) fn new(
        request: &HeaderMap,
        representation: Representation,
        identity: Option<&Identity>,
        private: bool,
    ) -> Self {
        let known = request::joined(request, IF_NONE_MATCH);
        let prefer = request::joined(request, HeaderName::from_static("prefer"));
        let expires = identity.and_then(|identity| identity.expires);
        // A clock that jumped back gives no more time.
        let left = expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let most = left.unwrap_or(Duration::MAX);
        Self {
            wait: negotiate::wait(prefer.as_deref())
                .filter(|_| known.is_some())
                .map(|wait| wait.min(most)),
            known,
            representation,
            private,
            until: left.and_then(|left| Instant::now().checked_add(left)),
        }
    }

    /// Whether the client wants to be held until the value changes.
    pub(super) fn waits(&self) -> bool {
        self.wait.is_some()
    }
}

/// Answers with the current value of the channel. A gateway that stops ends the wait for another one.
pub(super) async fn serve(
    session: &mut Session,
    subscription: Subscription,
    ask: Ask,
    every: Duration,
    mut stop: watch::Receiver<bool>,
    request_id: &RequestId,
    headers: &[Header],
) -> pingora::Result<()> {
    // Should the client send its next request while this one is held, it is kept for later instead of taking this one's place.
    session.set_pipelining_enabled(true);
    let answer = tokio::select! {
        // An answer that is there needs no look at the client.
        biased;
        answer = current(&subscription, &ask, every, &mut stop) => answer,
        // The client left: nobody is there to answer, and nothing more is to be read. (With `true` Pingora would not look for
        // the end of the request first, and lose what it keeps for later.)
        _ = session.read_body_or_idle(false) => {
            session.set_keepalive(None);
            return Ok(());
        }
    };
    drop(subscription);
    if *stop.borrow() {
        session.set_keepalive(None);
    }
    match answer {
        Ok(answer) => give(session, &answer, &ask, request_id, headers).await,
        Err(rejection) => reply::reject(session, &rejection, request_id, headers).await,
    }
}

/// Waits for a first value, and then, if asked to, for one that the client does not know.
async fn current(
    subscription: &Subscription,
    ask: &Ask,
    every: Duration,
    stop: &mut watch::Receiver<bool>,
) -> Result<Answer, Rejection> {
    let channel = subscription.channel();
    let mut version = channel.version();
    let began = Instant::now();
    let mut stopping = stop.borrow().then_some(began);
    let retry = every.max(Duration::from_secs(1));
    let mut waited = false;
    loop {
        version.mark_unchanged();
        // Nothing will happen any more: as when the gateway stops, what there is is the answer.
        if channel.is_retired() && stopping.is_none() {
            stopping = Some(began.min(Instant::now()));
        }
        let deadline = match channel.snapshot() {
            Snapshot::Gone => return Err(Rejection::Gone),
            Snapshot::Failing { cause } => return Err(Rejection::SourceFails { cause, retry }),
            // Nothing was published yet.
            Snapshot::Empty => return Err(Rejection::Gone),
            Snapshot::Unsettled => {
                let mut deadline = match stopping {
                    Some(since) => (began + FIRST_VALUE).min(since + LAST_MOMENT),
                    None => began + FIRST_VALUE,
                };
                if let Some(until) = ask.until {
                    deadline = deadline.min(until);
                }
                if deadline <= Instant::now() {
                    return Err(Rejection::NotYet { retry });
                }
                deadline
            }
            Snapshot::Value {
                value,
                delivered,
                age,
                stale,
            } => {
                let etag = etag(&value, &delivered, ask.representation);
                let deadline = began + ask.wait.unwrap_or_default();
                let hold = negotiate::none_match(ask.known.as_deref(), &etag)
                    && stopping.is_none()
                    && Instant::now() < deadline;
                if !hold {
                    if !waited {
                        // No poll was made for it.
                        channel.metrics().saved.inc();
                    }
                    return Ok(Answer {
                        value,
                        etag,
                        age,
                        stale,
                    });
                }
                deadline
            }
        };
        waited = true;
        // What happened, the next round tells.
        tokio::select! {
            _ = timeout_at(deadline.into(), version.changed()) => {}
            _ = stop.wait_for(|stop| *stop), if stopping.is_none() => stopping = Some(Instant::now()),
        }
    }
}

async fn give(
    session: &mut Session,
    answer: &Answer,
    ask: &Ask,
    request_id: &str,
    headers: &[Header],
) -> pingora::Result<()> {
    let state = if answer.stale { "stale" } else { "live" };
    let caching = match ask.private {
        true => "private, no-cache",
        false => "no-cache",
    };
    let mut own = vec![
        (CACHE_CONTROL, HeaderValue::from_static(caching)),
        (VARY, HeaderValue::from_static("Accept")),
        (AGE, HeaderValue::from(answer.age.as_secs())),
        (STATE, HeaderValue::from_static(state)),
    ];
    if let Ok(etag) = HeaderValue::from_str(&answer.etag) {
        own.push((ETAG, etag));
    }
    if let Some(waited) = ask.wait
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", waited.as_secs()))
    {
        own.push((PREFERENCE_APPLIED, applied));
    }
    own.extend_from_slice(headers);
    if negotiate::none_match(ask.known.as_deref(), &answer.etag) {
        return reply::respond(session, StatusCode::NOT_MODIFIED, &own, None, request_id).await;
    }
    let (content_type, body) = represent(&answer.value, ask.representation);
    own.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
    let body = body.into_owned().into();
    reply::respond(session, StatusCode::OK, &own, Some(body), request_id).await
}

/// The content type and the body.
fn represent(value: &Value, representation: Representation) -> (&'static str, Cow<'_, str>) {
    let text = value.encoded();
    match (value.is_text(), representation) {
        (false, _) => ("application/json", text.into()),
        (true, Representation::AsIs) => ("text/plain; charset=utf-8", text.into()),
        (true, Representation::Json) => (
            "application/json",
            serde_json::Value::from(text).to_string().into(),
        ),
    }
}

/// Changes with what counts as a change, and is weak when the value has changed in what does not (RFC 9110 §8.8.1). Two
/// representations of one value have two (§8.8.3).
fn etag(value: &Value, delivered: &Value, representation: Representation) -> String {
    let weak = if value.encoded() == delivered.encoded() {
        ""
    } else {
        "W/"
    };
    let (content_type, body) = represent(delivered, representation);
    let hash = xxh3_64_with_seed(body.as_bytes(), xxh3_64(content_type.as_bytes()));
    format!("{weak}\"{hash:016x}\"")
}
