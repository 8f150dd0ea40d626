//! Real HTTP/2 connections in memory, and a clock that runs ahead while all wait.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use h2::{Reason as Code, RecvStream, client, server};
use http::{Request, Response};
use tokio::io::DuplexStream;

use super::*;
use crate::channel::{ChannelKey, History, Spec, StreamId};
use crate::fanout::end::told::observer;
use crate::fanout::{Carrier, End, Fanout, NewStream};
use crate::params::Params;
use crate::sse::parser::{Item, Parser};
use crate::sse::{self, Encoder};
use crate::value::Value;

const STALL: Duration = Duration::from_secs(15);

/// Far above any window.
const BIG: usize = 300_000;

fn channel() -> Arc<Channel> {
    let key = ChannelKey::shared(StreamId::new(), Params::default());
    let spec = Spec {
        history: History {
            bytes: 1 << 30,
            ..Spec::plain("").history
        },
        ..Spec::plain("/sound")
    };
    Arc::new(Channel::new(key, spec))
}

fn said(value: &str) -> Arc<Channel> {
    let channel = channel();
    say(&channel, value);
    channel
}

fn say(channel: &Channel, value: &str) {
    channel.observe(Value::parse_json(value.as_bytes()).expect("JSON"));
}

fn big(letter: &str) -> String {
    format!("\"{}\"", letter.repeat(BIG))
}

/// Both ends of a connection whose client gives each stream this window.
struct Pair {
    fanout: Fanout,
    server: tokio::sync::mpsc::UnboundedReceiver<server::SendResponse<Bytes>>,
    client: client::SendRequest<Bytes>,
    driven: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// A client's side of a stream.
struct Reader {
    body: RecvStream,
    told: Receiver<End>,
    parser: Parser,
}

impl Pair {
    async fn new(window: u32) -> Self {
        let limits = Limits {
            queue: 256 * 1024,
            write_stall: STALL,
        };
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (client, driven) = client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(16 << 20)
            .handshake(theirs)
            .await
            .expect("a connection");
        let driven = tokio::spawn(driven);
        let (streams, server) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(accept(ours, streams));
        Self {
            fanout: Fanout::start(1, limits).expect("starts"),
            server,
            client: client.ready().await.expect("ready"),
            driven,
        }
    }

    async fn open(&mut self, channel: &Arc<Channel>) -> Reader {
        self.open_with(channel, |_| {}).await
    }

    async fn open_with(
        &mut self,
        channel: &Arc<Channel>,
        change: impl FnOnce(&mut NewStream),
    ) -> Reader {
        let (response, _) = self
            .client
            .send_request(Request::new(()), true)
            .expect("sent");
        let mut respond = self.server.recv().await.expect("a request");
        let body = respond
            .send_response(Response::new(()), false)
            .expect("sent");
        let (observer, told) = observer();
        let mut stream = NewStream {
            carrier: Carrier::Http2(body),
            head: b"retry: 2000\n:\n\n".to_vec(),
            encoder: Encoder::new(None, false),
            subscription: channel.subscribe(),
            cursor: Cursor::New,
            form: Form::Value,
            heartbeat: Duration::from_secs(20),
            max_age: Duration::from_secs(3600),
            expires: None,
            permit: None,
            observer,
        };
        change(&mut stream);
        self.fanout.adopt(stream);
        Reader {
            body: response.await.expect("a head").into_body(),
            told,
            parser: Parser::default(),
        }
    }
}

async fn accept(
    ours: DuplexStream,
    streams: tokio::sync::mpsc::UnboundedSender<server::SendResponse<Bytes>>,
) {
    let mut connection = server::handshake(ours).await.expect("a connection");
    while let Some(Ok((_, respond))) = connection.accept().await {
        // The test may be over.
        let _ = streams.send(respond);
    }
}

impl Reader {
    /// The next DATA frame, whose window is opened again; `None`: END_STREAM.
    async fn data(&mut self) -> Option<Bytes> {
        let data = self.body.data().await?.expect("not reset");
        assert!(!data.is_empty(), "an empty DATA frame");
        let window = self.body.flow_control();
        window.release_capacity(data.len()).expect("ours");
        Some(data)
    }

    /// Names and data of the events up to the one with this data, or to the end.
    async fn events(&mut self, last: Option<&str>) -> Vec<(String, String)> {
        let mut events = Vec::new();
        while last.is_none_or(|last| events.last().is_none_or(|(_, data)| data != last)) {
            let Some(data) = self.data().await else {
                break;
            };
            for item in self.parser.push(&data) {
                if let Item::Event(event) = item {
                    events.push((event.name, event.data));
                }
            }
        }
        events
    }

    /// The one end that is told.
    async fn end(&self) -> End {
        loop {
            match self.told.try_recv() {
                Ok(end) => return end,
                Err(std::sync::mpsc::TryRecvError::Empty) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn message(data: impl Into<String>) -> (String, String) {
    ("message".into(), data.into())
}

fn closing(reason: &str) -> (String, String) {
    ("closing".into(), format!(r#"{{"reason":"{reason}"}}"#))
}

/// E15, E17, L8, T1: the prelude first, then what the cursor is owed, then what happens, then heartbeats; no empty frame.
#[tokio::test(start_paused = true)]
async fn a_stream_begins_goes_on_and_beats() {
    let mut pair = Pair::new(1 << 20).await;
    let channel = said("1");
    let mut reader = pair.open(&channel).await;
    let first = reader.data().await.expect("open");
    let text = std::str::from_utf8(&first).expect("text");
    assert!(text.starts_with("retry: 2000\n:\n\nid: "), "{text}");
    assert!(text.ends_with("\ndata: 1\n\n"), "{text}");
    say(&channel, "2");
    assert_eq!(reader.events(Some("2")).await, [message("2")]);
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(&reader.data().await.expect("open")[..], sse::HEARTBEAT);
    }
    let beat = began.elapsed() / 3;
    let near = Duration::from_secs(18)..=Duration::from_millis(22_010);
    assert!(near.contains(&beat), "{beat:?}");
}

/// B1: a large first event is shared with everybody, not copied behind the first bytes.
#[tokio::test(start_paused = true)]
async fn a_large_first_event_is_a_frame_of_its_own() {
    let mut pair = Pair::new(1 << 20).await;
    let channel = said(&big("a"));
    let mut reader = pair.open(&channel).await;
    let first = reader.data().await.expect("open");
    assert_eq!(&first[..], b"retry: 2000\n:\n\n");
    assert!(reader.events(Some(&big("a"))).await == [message(big("a"))]);
}

/// X7, B1, B2: a stream whose client opens no window costs the others of its connection nothing, is owed nothing
/// meanwhile, and is moved to the newest when it opens one.
#[tokio::test(start_paused = true)]
async fn a_closed_window_holds_nobody_up() {
    let mut pair = Pair::new(100_000).await;
    let channel = said("0");
    let mut slow = pair.open(&channel).await;
    let mut fast = pair.open(&channel).await;
    assert_eq!(fast.events(Some("0")).await, [message("0")]);
    for letter in ["a", "b", "c", "d", "e"] {
        say(&channel, &big(letter));
        let got = fast.events(Some(&big(letter))).await;
        assert!(got == [message(big(letter))], "{} events", got.len());
    }
    let got = slow.events(Some(&big("e"))).await;
    // What it was being given when its window closed, and the newest.
    assert!(
        got == [message("0"), message(big("a")), message(big("e"))],
        "{} events",
        got.len()
    );
}

/// X5: a client that opens no window is reset after the stall time, not before, and nobody else is.
#[tokio::test(start_paused = true)]
async fn a_window_that_stays_closed_is_reset() {
    let mut pair = Pair::new(100_000).await;
    let channel = said(&big("a"));
    let mut stalls = pair.open(&channel).await;
    let mut reads = pair.open(&channel).await;
    let began = Instant::now();
    assert!(reads.events(Some(&big("a"))).await == [message(big("a"))]);
    let mut open = pair.fanout.open.subscribe();
    open.wait_for(|open| *open == 1).await.expect("ours");
    let stalled = began.elapsed();
    let near = STALL..=STALL + Duration::from_millis(100);
    assert!(near.contains(&stalled), "{stalled:?}");
    let end = stalls.end().await;
    assert_eq!(end.reason, Reason::Stalled);
    assert!(
        end.bytes <= 100_000,
        "{} bytes for a closed window",
        end.bytes
    );
    let reset = loop {
        match stalls.body.data().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(reset.reason(), Some(Code::CANCEL));
    say(&channel, "2");
    assert_eq!(reads.events(Some("2")).await, [message("2")]);
}

/// L17: who resets its stream, or whose connection breaks, has left at once.
#[tokio::test(start_paused = true)]
async fn who_resets_has_left() {
    let mut pair = Pair::new(1 << 20).await;
    let channel = said("1");
    let mut stays = pair.open(&channel).await;
    let mut leaves = pair.open(&channel).await;
    assert_eq!(leaves.events(Some("1")).await, [message("1")]);
    let began = Instant::now();
    let Reader { body, told, .. } = leaves;
    drop(body);
    let mut open = pair.fanout.open.subscribe();
    open.wait_for(|open| *open == 1).await.expect("ours");
    assert_eq!(told.try_recv().expect("told").reason, Reason::ClientLeft);
    assert_eq!(channel.readers(), 1);
    say(&channel, "2");
    assert_eq!(stays.events(Some("2")).await, [message("1"), message("2")]);
    assert!(began.elapsed() < Duration::from_secs(1));
    let Reader { told, .. } = stays;
    pair.driven.abort();
    open.wait_for(|open| *open == 0).await.expect("ours");
    assert_eq!(told.try_recv().expect("told").reason, Reason::ClientLeft);
}

/// L14, L16, A6: each end is whole: what is owed, `closing` with its reason, END_STREAM.
#[tokio::test(start_paused = true)]
async fn each_end_of_ours_is_whole() {
    for reason in [Closing::MaxAge, Closing::Drain, Closing::Reload] {
        let mut pair = Pair::new(1 << 20).await;
        let channel = said("1");
        let mut reader = pair.open(&channel).await;
        assert_eq!(reader.events(Some("1")).await, [message("1")]);
        let began = Instant::now();
        let mut drained = None;
        match reason {
            Closing::Drain => {
                let window = Duration::from_secs(30);
                let retry = (Duration::from_secs(7), Duration::from_secs(7));
                let fanout = pair.fanout;
                drained = Some(tokio::spawn(
                    async move { fanout.drain(window, retry).await },
                ));
            }
            Closing::Reload => channel.retire(),
            _ => {}
        }
        let mut whole = String::new();
        while let Some(data) = reader.data().await {
            whole.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
        let whole = whole.replace(":\n\n", "");
        let retry = if reason == Closing::Drain {
            "retry: 7000\n"
        } else {
            ""
        };
        let closing = format!("{{\"reason\":\"{}\"}}", reason.as_str());
        assert_eq!(whole, format!("{retry}event: closing\ndata: {closing}\n\n"));
        let end = reader.end().await;
        assert_eq!((end.reason, end.events), (Reason::Closed(reason), 1));
        let took = began.elapsed().as_secs();
        let near = match reason {
            Closing::MaxAge => 3240..=3960,
            Closing::Drain => 0..=30,
            _ => 0..=0,
        };
        assert!(near.contains(&took), "{took} s");
        if let Some(drained) = drained {
            drained.await.expect("no panic");
        }
    }
}

/// A6: the stream ends when its token does. The end gives no right to what came since.
#[tokio::test(start_paused = true)]
async fn a_token_that_expires_ends_its_stream() {
    let mut pair = Pair::new(100_000).await;
    let channel = said(&big("a"));
    // The wall's clock does not run ahead with the test's, and a busy machine takes its time to open streams.
    let expires = Some(SystemTime::now() + Duration::from_secs(3));
    let set = |stream: &mut NewStream| stream.expires = expires;
    let mut behind = pair.open_with(&channel, set).await;
    let mut cut = pair.open_with(&channel, set).await;
    let mut stays = pair.open(&channel).await;
    tokio::task::spawn_blocking(move || {
        let left = || expires?.duration_since(SystemTime::now()).ok();
        while let Some(left) = left() {
            std::thread::sleep(left + Duration::from_millis(1));
        }
    })
    .await
    .expect("no panic");
    tokio::time::advance(WALL).await;
    say(&channel, "\"secret\"");
    let got = behind.events(None).await;
    assert!(
        got == [message(big("a")), closing("token-expired")],
        "{} events",
        got.len()
    );
    let reason = Reason::Closed(Closing::TokenExpired);
    assert_eq!(behind.end().await.reason, reason);
    let began = Instant::now();
    let mut open = pair.fanout.open.subscribe();
    open.wait_for(|open| *open == 1).await.expect("ours");
    assert!(began.elapsed() <= Duration::from_secs(1));
    assert_eq!(cut.end().await.reason, reason);
    while let Some(Ok(_)) = cut.body.data().await {}
    assert!(stays.events(Some("\"secret\"")).await.len() > 1);
}

/// When the fan-out goes, so do its streams.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_is_left() {
    let mut pair = Pair::new(1 << 20).await;
    let channel = said("1");
    let mut reader = pair.open(&channel).await;
    assert_eq!(reader.events(Some("1")).await, [message("1")]);
    drop(pair.fanout);
    let reset = reader.body.data().await.expect("no clean end");
    assert!(reset.is_err());
    assert_eq!(reader.end().await.reason, Reason::Stopped);
    assert_eq!(channel.readers(), 0);
}
