//! Follows a stream as a browser's EventSource does (WHATWG HTML, "Server-sent events"): opens it, reads events, and when
//! it ends opens it again after the time that the stream asked for, with the last id.
//!
//! Where browsers differ among each other: a first connection that fails ends it (Firefox), a later one does not
//! (Chromium); redirects are followed within the origin only, because headers from the command line may hold secrets.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, Url};
use tracing::{info, warn};

use super::answer::{self, Refusal};
use super::print::Sense;
use crate::cli::screen::plain;
use crate::sse::parser::{Event, Item, Parser};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request {
    /// `http` or `https`.
    pub(super) url: Url,
    /// Asked for instead until it is answered with 406.
    pub(super) preferred: Option<Url>,
    /// Besides our own, which they replace.
    pub(super) headers: HeaderMap,
}

/// Why there is nothing more to follow.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nobody reads what is printed.
    Unread,
    /// In one sentence, safe to print.
    Failed(String),
}

/// Until the stream asks for something else. What it asks for is held within [`RETRY`].
const DEFAULT_RETRY: Duration = Duration::from_secs(3);
/// Bounds of EDGE E8: a stream can make this client neither hammer a server nor sleep for ever.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3600));
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Same as what browsers allow (WHATWG Fetch).
const MAX_HOPS: usize = 20;
/// Bytes without an event in them; a stream that sends more is none.
const MAX_EVENT: usize = 64 << 20;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Follows until there is nothing to follow any more; `print` takes each event.
pub(super) async fn follow(
    request: Request,
    mut print: impl FnMut(&Event) -> io::Result<Sense>,
) -> Ended {
    let mut follower = match Follower::new(request) {
        Ok(follower) => follower,
        Err(ended) => return ended,
    };
    let mut response = match follower.open(true).await {
        Ok(response) => response,
        Err(ended) => return ended,
    };
    loop {
        if let Some(response) = response {
            match follower.read(response, &mut print).await {
                Ok(()) => {}
                Err(ended) => return ended,
            }
        }
        info!(
            "connecting again in {}",
            humantime::format_duration(follower.retry)
        );
        tokio::time::sleep(follower.retry).await;
        response = match follower.open(false).await {
            Ok(response) => response,
            Err(ended) => return ended,
        };
    }
}

struct Follower {
    client: Client,
    request: Request,
    retry: Duration,
    /// Of the last event, not of the last `id` field: an event that did not arrive whole is to be sent again.
    last_id: String,
}

impl Follower {
    fn new(mut request: Request) -> Result<Self, Ended> {
        // An id from the command line is where to begin; later ones take its place.
        let from = request.headers.remove(LAST_EVENT_ID);
        let last_id = from.map_or_else(String::new, |id| {
            String::from_utf8_lossy(id.as_bytes()).into_owned()
        });
        let builder = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .redirect(Policy::custom(within_origin))
            .user_agent(concat!("wellspring/", env!("CARGO_PKG_VERSION")));
        let builder = match request.url.scheme() {
            // Without any authority, so that a system that has none is no obstacle.
            "http" => builder.tls_certs_only([]),
            _ => builder,
        };
        let client = builder
            .build()
            .map_err(|error| Ended::Failed(format!("no HTTP client: {}", causes(&error))))?;
        Ok(Self {
            client,
            request,
            retry: DEFAULT_RETRY,
            last_id,
        })
    }

    /// Opens the stream. `None`: no connection, which is not the end of it unless it is the first.
    async fn open(&mut self, first: bool) -> Result<Option<Response>, Ended> {
        loop {
            let url = self.request.preferred.as_ref().unwrap_or(&self.request.url);
            let sent = self
                .client
                .get(url.clone())
                .headers(self.headers())
                .send()
                .await;
            let response = match sent {
                Ok(response) => response,
                Err(error) => {
                    let sentence = format!(
                        "no connection to {}: {}",
                        answer::shown(url),
                        causes(&error)
                    );
                    if first {
                        return Err(Ended::Failed(sentence));
                    }
                    warn!("{sentence}");
                    return Ok(None);
                }
            };
            match answer::judge(response).await {
                Ok(response) => {
                    info!("connected to {}", answer::shown(response.url()));
                    return Ok(Some(response));
                }
                Err(Refusal { status, .. })
                    if status == StatusCode::NOT_ACCEPTABLE
                        && self.request.preferred.take().is_some() =>
                {
                    info!("the stream does not come as patches: values are compared instead");
                }
                Err(refusal) => return Err(Ended::Failed(refusal.sentence)),
            }
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for name in self.request.headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.request.headers {
            headers.append(name, value.clone());
        }
        // An id that fits no header cannot be sent; the stream then begins anew.
        if !self.last_id.is_empty()
            && let Ok(id) = HeaderValue::from_bytes(self.last_id.as_bytes())
        {
            headers.insert(LAST_EVENT_ID, id);
        }
        headers
    }

    /// Reads until the stream ends. Well means that it is to be opened again.
    async fn read(
        &mut self,
        mut response: Response,
        print: &mut impl FnMut(&Event) -> io::Result<Sense>,
    ) -> Result<(), Ended> {
        let mut parser = Parser::resuming(self.last_id.clone());
        let mut since_event = 0;
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    info!("the stream ended");
                    return Ok(());
                }
                Err(error) => {
                    warn!("the connection was lost: {}", causes(&error));
                    return Ok(());
                }
            };
            since_event += chunk.len();
            for item in parser.push(&chunk) {
                match item {
                    Item::Event(event) => {
                        since_event = 0;
                        match print(&event) {
                            Ok(Sense::Made) => self.last_id = event.id,
                            Ok(Sense::Lost(why)) => {
                                // Without an id the stream begins with the whole value.
                                warn!("the value is lost: {}", plain(&why));
                                self.last_id.clear();
                                return Ok(());
                            }
                            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                                return Err(Ended::Unread);
                            }
                            Err(error) => {
                                return Err(Ended::Failed(format!("cannot print: {error}")));
                            }
                        }
                    }
                    Item::Retry(millis) => {
                        self.retry = Duration::from_millis(millis).clamp(RETRY.0, RETRY.1);
                    }
                    // Without a limit nothing is too large.
                    Item::Comment(_) | Item::TooLarge => {}
                }
            }
            if since_event > MAX_EVENT {
                return Err(Ended::Failed(format!(
                    "no event within {MAX_EVENT} bytes: this is no event stream"
                )));
            }
        }
    }
}

fn within_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same = attempt
        .previous()
        .last()
        .is_some_and(|from| from.origin() == attempt.url().origin());
    match (same, attempt.previous().len() <= MAX_HOPS) {
        (true, true) => attempt.follow(),
        (true, false) => attempt.error("too many redirects"),
        (false, _) => attempt.stop(),
    }
}

/// What happened, the innermost cause last, safe to print. The URL is left out, as its query may hold a secret.
fn causes(error: &reqwest::Error) -> String {
    let links = successors(Some(error as &(dyn Error + 'static)), |&link| link.source());
    let mut parts: Vec<String> = Vec::new();
    for link in links.filter(|link| !link.is::<reqwest::Error>()) {
        let text = link.to_string();
        // Wrappers repeat what they wrap.
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
    }
    match parts.is_empty() {
        true if error.is_timeout() => "it took too long".to_owned(),
        true => "the request failed".to_owned(),
        false => plain(&parts.join(": ")).to_string(),
    }
}

#[cfg(test)]
mod tests;
