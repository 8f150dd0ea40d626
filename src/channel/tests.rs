//! Whatever happens in whatever order: what a reader has folded together is what the source last said.

mod pages;
mod race;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Document;

use super::*;
use crate::params::Params;
use crate::sse::parser::{Item, Parser};

const QUEUE: usize = 600;

fn channel(history: usize, current: bool) -> Arc<Channel> {
    let key = ChannelKey::shared(StreamId::new(), Params::default());
    let spec = Spec {
        history: History {
            events: history,
            ..Spec::plain("").history
        },
        current,
        ..Spec::plain("/test")
    };
    Arc::new(Channel::new(key, spec))
}

fn json(text: &str) -> Value {
    Value::parse_json(text.as_bytes()).expect("JSON")
}

/// What a client makes of the events.
#[derive(Clone, Debug, Default, PartialEq)]
struct Folded {
    document: Option<Document>,
    id: String,
    stale: bool,
    gone: bool,
}

impl Folded {
    fn take(&mut self, delivery: &Delivery) {
        let Some(frame) = &delivery.frame else { return };
        for item in Parser::default().push(&frame.payload()) {
            let Item::Event(event) = item else {
                panic!("{item:?}")
            };
            let data = || serde_json::from_str::<Document>(&event.data).expect("JSON");
            match event.name.as_str() {
                "stale" => {
                    assert!(!self.stale, "told twice");
                    self.stale = true;
                }
                "fresh" => self.stale = false,
                "gone" => {
                    self.gone = true;
                    self.document = None;
                }
                "reset" => self.document = None,
                "patch" => {
                    let patch: json_patch::Patch = serde_json::from_value(data()).expect("a patch");
                    let document = self.document.as_mut().expect("a patch follows a value");
                    json_patch::patch(document, &patch).expect("the patch fits");
                }
                "merge" => {
                    let document = self.document.as_mut().expect("a patch follows a value");
                    json_patch::merge(document, &data());
                }
                "message" | "snapshot" => {
                    self.document = Some(data());
                    self.gone = false;
                }
                other => panic!("{other}"),
            }
            // Notices have no id of their own: the parser names the one before.
            if !matches!(event.name.as_str(), "stale" | "fresh" | "gone" | "reset") {
                assert_ne!(event.id, self.id, "an event twice");
                self.id = event.id;
            }
        }
    }
}

struct Reader {
    form: Form,
    cursor: Cursor,
    folded: Folded,
}

impl Reader {
    fn new(form: Form) -> Self {
        Self {
            form,
            cursor: Cursor::New,
            folded: Folded::default(),
        }
    }

    fn read(&mut self, channel: &Channel, queue: usize) {
        while let Some(delivery) = channel.deliver(&self.cursor, self.form, queue) {
            self.folded.take(&delivery);
            self.cursor = delivery.cursor;
        }
    }

    /// Comes back with what it has.
    fn reconnect(&mut self, channel: &Channel) {
        self.cursor = match self.folded.id.is_empty() {
            true => Cursor::New,
            false => channel.cursor_after(self.folded.id.as_bytes()),
        };
        // What is said besides the value is said again.
        self.folded.stale = false;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Observe(String),
    Confirm,
    Vanish,
    Fail,
    Break,
    Read(usize),
    Reconnect(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let document = prop_oneof![
        (0..4_u8, 0..4_u8)
            .prop_map(|(a, b)| format!(r#"{{"a":{a},"b":[{b},{a}],"pad":"{}"}}"#, "p".repeat(60))),
        (0..3_u8).prop_map(|a| format!("[{a},null]")),
        Just("null".to_owned()),
        (0..3_u8).prop_map(|a| format!(r#"{{"a":null,"n":{a}}}"#)),
    ];
    let step = prop_oneof![
        6 => document.prop_map(Step::Observe),
        1 => Just(Step::Confirm),
        1 => Just(Step::Vanish),
        1 => Just(Step::Fail),
        1 => Just(Step::Break),
        4 => (0..6_usize).prop_map(Step::Read),
        2 => (0..6_usize).prop_map(Step::Reconnect),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// EDGE B2, L8, L9, J1: readers of every form, that read when they like, fall behind, and reconnect.
    #[test]
    fn every_reader_ends_on_what_the_source_said(history in 1..6_usize, steps in steps()) {
        let channel = channel(history, true);
        let forms = [Form::Value, Form::JsonPatch, Form::MergePatch];
        let mut readers: Vec<Reader> = forms.iter().chain(&forms).map(|&form| Reader::new(form)).collect();
        let mut said: Option<Document> = None;
        let mut stale = false;
        for step in steps {
            match step {
                Step::Observe(text) => {
                    channel.observe(json(&text));
                    said = Some(serde_json::from_str(&text).expect("JSON"));
                    stale = false;
                }
                Step::Confirm => {
                    channel.confirm();
                    stale = false;
                }
                Step::Vanish => {
                    channel.vanish();
                    said = None;
                    stale = false;
                }
                Step::Fail => {
                    channel.stale("status");
                    stale = true;
                }
                Step::Break => channel.break_history(),
                Step::Read(at) => readers[at].read(&channel, QUEUE),
                Step::Reconnect(at) => readers[at].reconnect(&channel),
            }
        }
        for reader in &mut readers {
            reader.read(&channel, QUEUE);
            if said.is_some() {
                prop_assert_eq!(&reader.folded.document, &said, "{:?}", reader.form);
            }
            prop_assert_eq!(reader.folded.stale, stale, "{:?}", reader.form);
            prop_assert!(!(said.is_some() && reader.folded.gone));
        }
    }
}

/// A reader that nobody has told anything waits until there is something to tell.
#[test]
fn newcomers_wait_for_the_first_reading() {
    let channel = channel(8, true);
    assert!(channel.deliver(&Cursor::New, Form::Value, QUEUE).is_none());
    assert!(
        channel
            .deliver(&Cursor::After(None), Form::Value, QUEUE)
            .is_none()
    );
    channel.observe(json("1"));
    let delivery = channel
        .deliver(&Cursor::New, Form::Value, QUEUE)
        .expect("settled");
    assert!(delivery.frame.is_some());
}

/// `1` and `1.0` are the same number; a value after `gone` is news even when it is the old one.
#[test]
fn what_is_an_event() {
    let channel = channel(8, true);
    assert!(channel.observe(json("1")));
    assert!(!channel.observe(json("1.0")));
    assert!(channel.vanish());
    assert!(!channel.vanish());
    assert!(channel.observe(json("1")));
}

/// While nobody reads, what was confirmed stands for a while and then has to be read again.
#[test]
fn a_rest_unsettles_what_is_too_old() {
    let channel = channel(8, true);
    channel.observe(json("1"));
    assert!(channel.rest(Instant::now() + Duration::from_secs(60)));
    drop(channel.subscribe());
    assert!(matches!(channel.snapshot(), Snapshot::Value { .. }));
    assert!(channel.rest(Instant::now()));
    let reader = channel.subscribe();
    assert!(matches!(channel.snapshot(), Snapshot::Unsettled));
    assert!(!channel.rest(Instant::now()), "somebody reads");
    drop(reader);
}

/// Feeds have no current value: newcomers begin with what comes.
#[test]
fn a_feed_gives_newcomers_nothing() {
    let channel = channel(8, false);
    channel.append(json("1"), None);
    let delivery = channel
        .deliver(&Cursor::New, Form::Value, QUEUE)
        .expect("settled");
    assert!(delivery.frame.is_none());
    channel.append(json("2"), None);
    let delivery = channel
        .deliver(&delivery.cursor, Form::Value, QUEUE)
        .expect("news");
    let text =
        String::from_utf8(delivery.frame.expect("a frame").payload().to_vec()).expect("text");
    assert!(
        text.contains("data: 2\n") && !text.contains("data: 1\n"),
        "{text}"
    );
}

/// There may be very many: what all channels of a stream have in common is not kept in each.
#[test]
fn a_channel_is_small() {
    // With its counts of references, a size that the allocator has.
    assert!(size_of::<Channel>() <= 640 - 16, "{}", size_of::<Channel>());
}
