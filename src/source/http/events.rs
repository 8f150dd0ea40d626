//! Follows an event stream of an upstream: one connection however many read, what comes is parsed and never spliced (EDGE U20).
//!
//! Like a browser's EventSource (WHATWG HTML, "Server-sent events") it comes back with `Last-Event-ID` whenever the stream
//! ends. Unlike one it never gives up: whoever reads is told what is wrong, and it tries again, ever more slowly.

mod pace;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::Response;
use tokio::time::{Instant, sleep_until, timeout};

use self::pace::Pace;
use super::coding::Coding;
use super::request::Order;
use super::{HttpClient, failure, media, refusal};
use crate::config;
use crate::params::Params;
use crate::source::{Cause, Feed, FeedItem, Message, SourceError};
use crate::sse::EventName;
use crate::sse::parser::{Event, Item, Parser};
use crate::value::Value;

/// Silence after which a connection is given up. Servers send something every 15 s or so, as proxies would cut the stream else.
const LONGEST_SILENCE: Duration = Duration::from_secs(90);
/// An upstream that says "never again" (204, EDGE L2) is asked again after so long: nobody would restart us for it.
const AFTER_STOP: Duration = Duration::from_secs(300);
/// Bytes of an id that is sent back. A longer one is as none.
const MAX_ID: usize = 4096;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The events of one event stream of an upstream.
pub struct EventFeed {
    client: HttpClient,
    spec: Arc<config::SseSource>,
    params: Params,
    /// Whether events keep the names that they come with.
    keeps_names: bool,
    line: Line,
    pace: Pace,
    /// Of the last whole event; empty: none.
    last_id: String,
    /// What came at once and is told one by one.
    ready: VecDeque<FeedItem>,
    /// Shorter in tests.
    pub(super) longest_silence: Duration,
}

enum Line {
    /// Not before then.
    Down(Instant),
    Up(Box<Open>),
}

struct Open {
    response: Response,
    parser: Parser,
    since: Instant,
}

impl EventFeed {
    /// What `spec` says, for the resource that `params` name. `client` is that of `spec.upstream`. Connects with the first call of
    /// [`next`](Feed::next), and hangs up on `Drop`. Names of events pass when they are names (EDGE E6), unless `keeps_names` is
    /// `false`; ids do not pass, nor does `retry` (CONTRACT.md §6).
    pub fn new(
        client: HttpClient,
        spec: Arc<config::SseSource>,
        params: Params,
        keeps_names: bool,
    ) -> Self {
        Self {
            client,
            spec,
            params,
            keeps_names,
            line: Line::Down(Instant::now()),
            pace: Pace::default(),
            last_id: String::new(),
            ready: VecDeque::new(),
            longest_silence: LONGEST_SILENCE,
        }
    }

    /// A stream whose head is right, and whether it goes on where the last one ended, as far as its server can.
    async fn connect(&mut self) -> Result<(Response, bool), SourceError> {
        let mut order = Order::for_events(&self.spec, &self.params)?;
        let id = match self.last_id.len() {
            1..=MAX_ID => HeaderValue::from_bytes(self.last_id.as_bytes()).ok(),
            _ => None,
        };
        let resumes = id.is_some();
        if let Some(id) = id {
            order.headers_mut().insert(LAST_EVENT_ID, id);
        }
        let response = self.client.send(order).await?;
        judge(&response)?;
        Ok((response, resumes))
    }

    fn open(&mut self, response: Response, resumes: bool) {
        let parser = Parser::resuming(self.last_id.clone());
        self.line = Line::Up(Box::new(Open {
            response,
            parser: parser.with_limit(self.client.upstream().max_body),
            since: Instant::now(),
        }));
        self.ready.push_back(match resumes {
            true => FeedItem::Resumed,
            false => FeedItem::Up,
        });
    }

    fn receive(&mut self, bytes: &[u8]) {
        let Line::Up(open) = &mut self.line else {
            return;
        };
        for item in open.parser.push(bytes) {
            match item {
                Item::Event(event) => {
                    self.pace.progress();
                    self.ready.push_back(message(&event, self.keeps_names));
                }
                Item::TooLarge => {
                    self.pace.progress();
                    let limit = self.client.upstream().max_body;
                    let why = format!("an event of more than {limit} bytes");
                    self.ready.push_back(FeedItem::Refused(why));
                }
                Item::Retry(milliseconds) => self.pace.ask(Duration::from_millis(milliseconds)),
                Item::Comment(_) => {}
            }
        }
        if open.parser.last_event_id() != self.last_id {
            open.parser.last_event_id().clone_into(&mut self.last_id);
        }
    }

    fn lose(&mut self, error: SourceError) {
        if let Line::Up(open) = &self.line {
            self.pace.stood(open.since.elapsed());
        }
        let wish = error.retry_after.unwrap_or_default();
        self.line = Line::Down(Instant::now() + self.pace.pause().max(wish));
        self.ready.push_back(FeedItem::Down(error));
    }
}

impl Feed for EventFeed {
    async fn next(&mut self) -> FeedItem {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            let open = match &mut self.line {
                Line::Up(open) => open,
                Line::Down(until) => {
                    sleep_until(*until).await;
                    match self.connect().await {
                        Ok((response, resumes)) => self.open(response, resumes),
                        Err(error) => self.lose(error),
                    }
                    continue;
                }
            };
            let why = match timeout(self.longest_silence, open.response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    self.receive(&bytes);
                    continue;
                }
                Ok(Ok(None)) => {
                    SourceError::new(Cause::Connect, "the upstream ended the event stream")
                }
                Ok(Err(error)) => {
                    let why = failure::describe(&error);
                    SourceError::new(Cause::Connect, format!("the event stream was cut: {why}"))
                }
                Err(_) => SourceError::new(
                    Cause::Timeout,
                    format!(
                        "not a byte of the event stream within {:?}",
                        self.longest_silence
                    ),
                ),
            };
            self.lose(why);
        }
    }
}

/// What is asked and the id are left out: they may hold secrets.
impl fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFeed")
            .field("upstream", &self.client.upstream().name)
            .field("keeps_names", &self.keeps_names)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// Whether a response is an event stream, by its head (EDGE U13).
fn judge(response: &Response) -> Result<(), SourceError> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => {
            let detail = "status 204: the upstream wants no more connections";
            return Err(SourceError {
                retry_after: Some(AFTER_STOP),
                ..SourceError::new(Cause::Status, detail)
            });
        }
        status => return Err(refusal(status, response.headers(), SystemTime::now())),
    }
    media::check_events(response.headers())?;
    match Coding::of(response.headers())? {
        Coding::Identity => Ok(()),
        Coding::Gzip | Coding::Deflate | Coding::Zstd => Err(SourceError::new(
            Cause::Malformed,
            "the event stream is compressed, though it was not to be",
        )),
    }
}

fn message(event: &Event, keeps_names: bool) -> FeedItem {
    let name = match event.name.as_str() {
        "message" => None,
        name if keeps_names => EventName::parse(name).ok(),
        _ => None,
    };
    match Value::parse_auto(event.data.as_bytes()) {
        Ok(data) => FeedItem::Message(Message { data, event: name }),
        Err(error) => FeedItem::Refused(error.to_string()),
    }
}
