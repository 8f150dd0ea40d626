//! A scripted source: whatever it does, readers end on what it last said, and it is read once at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::channel::{ChannelKey, Snapshot, Spec, StreamId};
use crate::params::Params;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Value(u32),
    Unchanged,
    NotModified,
    Absent,
    NoMatch,
    Fail,
    Linger,
    Panic,
}

#[derive(Debug, Default)]
struct Stage {
    script: Mutex<VecDeque<Act>>,
    reads: AtomicUsize,
    forgotten: AtomicUsize,
    busy: AtomicBool,
    /// Whether what was read is known to hold, and how often that was asked.
    holds: AtomicBool,
    asked: AtomicUsize,
}

struct Actor(Arc<Stage>);

/// Leaves the stage, however the read ends.
struct Exit<'a>(&'a Stage);

impl Drop for Exit<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::SeqCst);
    }
}

impl Source for Actor {
    async fn read(&mut self) -> Result<Answer, SourceError> {
        assert!(
            !self.0.busy.swap(true, Ordering::SeqCst),
            "two reads at once"
        );
        let _exit = Exit(&self.0);
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let act = self.0.script.lock().pop_front().unwrap_or(Act::Unchanged);
        let reading = match act {
            Act::Value(n) => Reading::Value(json(&format!(r#"{{"n":{n}}}"#))),
            Act::NoMatch => Reading::Value(json(r#"{"other":1}"#)),
            Act::Unchanged => Reading::Unchanged,
            Act::NotModified => Reading::NotModified,
            Act::Absent => Reading::Absent,
            Act::Fail => return Err(SourceError::new(Cause::Status, "as told")),
            Act::Linger => {
                sleep(Duration::from_millis(30)).await;
                Reading::Unchanged
            }
            Act::Panic => panic!("as told"),
        };
        Ok(Answer {
            reading,
            not_before: None,
            status: None,
        })
    }

    fn forget(&mut self) {
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    fn holds(&self) -> Option<Instant> {
        // Before the first reading there is nothing to hold.
        let was_read = self.0.reads.load(Ordering::SeqCst) > 0;
        let holds = was_read && self.0.holds.load(Ordering::SeqCst);
        holds.then(|| {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            Instant::now()
        })
    }
}

fn json(text: &str) -> Value {
    Value::parse_json(text.as_bytes()).expect("JSON")
}

struct Play {
    stage: Arc<Stage>,
    hub: Arc<Hub>,
    key: ChannelKey,
}

impl Play {
    fn begin(script: &[Act], linger: Duration) -> Self {
        let stage = Arc::new(Stage::default());
        stage.script.lock().extend(script.iter().copied());
        let acting = stage.clone();
        let stream = StreamId::new();
        let hub = Arc::new_cyclic(|hub: &std::sync::Weak<Hub>| {
            let hub = hub.clone();
            let open = move |key: &ChannelKey| {
                let channel = Arc::new(Channel::new(key.clone(), spec(linger)));
                let plan = Plan {
                    select: Selector::parse("$.n").expect("a path"),
                    always: false,
                    linger,
                    keep: Duration::from_secs(60),
                    stale_after: Duration::from_millis(10),
                    gate: None,
                };
                let schedule = Schedule::new(Duration::from_millis(2), None, 0);
                let hub = hub.upgrade().expect("in use");
                tokio::spawn(run(
                    Actor(acting.clone()),
                    channel.clone(),
                    hub,
                    schedule,
                    plan,
                ));
                channel
            };
            let hub = Hub::default();
            hub.add(stream, 10, Box::new(open));
            hub
        });
        let key = ChannelKey::shared(stream, Params::default());
        Self { stage, hub, key }
    }

    /// Waits until the script is played and the source is read some more.
    async fn end(&self) {
        while !self.stage.script.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let reads = self.stage.reads.load(Ordering::SeqCst);
        while self.stage.reads.load(Ordering::SeqCst) < reads + 2 {
            tokio::task::yield_now().await;
        }
    }
}

fn spec(linger: Duration) -> Spec {
    Spec {
        linger,
        ..Spec::plain("/test")
    }
}

/// What the channel must end on: the last act that says something about the value.
fn said(script: &[Act]) -> Option<Option<u32>> {
    script.iter().rev().find_map(|act| match act {
        Act::Value(n) => Some(Some(*n)),
        Act::Absent => Some(None),
        _ => None,
    })
}

/// EDGE U6, U16: failures, panics and slowness included.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_source_does_the_channel_ends_on_what_it_said() {
    let acts = [
        Act::Value(1),
        Act::Value(2),
        Act::Unchanged,
        Act::NotModified,
        Act::Absent,
        Act::NoMatch,
        Act::Fail,
        Act::Linger,
        Act::Panic,
    ];
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let script: Vec<Act> = (0..12).map(|_| acts[random.usize(..acts.len())]).collect();
        let play = Play::begin(&script, Duration::from_secs(60));
        let reader = play.hub.subscribe(&play.key).expect("room");
        let ended = tokio::time::timeout(Duration::from_secs(20), play.end()).await;
        assert!(ended.is_ok(), "seed {seed}: polling stopped: {script:?}");
        let snapshot = reader.channel().snapshot();
        match said(&script) {
            Some(Some(n)) => {
                let is = matches!(&snapshot, Snapshot::Value { value, stale: false, .. } if value.encoded() == n.to_string());
                assert!(is, "seed {seed}: {script:?}: {snapshot:?}");
            }
            Some(None) => assert!(
                matches!(snapshot, Snapshot::Gone),
                "seed {seed}: {script:?}: {snapshot:?}"
            ),
            None => assert!(
                !matches!(snapshot, Snapshot::Value { .. }),
                "seed {seed}: {script:?}: {snapshot:?}"
            ),
        }
        let unusable = script.iter().filter(|act| **act == Act::NoMatch).count();
        assert_eq!(
            play.stage.forgotten.load(Ordering::SeqCst),
            unusable,
            "seed {seed}"
        );
    }
}

/// A value that is old by the time somebody comes is read again before it is given.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_after_a_rest_gets_a_new_reading() {
    let play = Play::begin(&[Act::Value(1)], Duration::from_millis(5));
    drop(play.hub.subscribe(&play.key).expect("room"));
    // Polling rests when two looks with more than the linger between them see the same count.
    let mut before = usize::MAX;
    while before != play.stage.reads.load(Ordering::SeqCst) {
        before = play.stage.reads.load(Ordering::SeqCst);
        sleep(Duration::from_millis(50)).await;
    }
    play.stage.script.lock().push_back(Act::Value(2));
    let reader = play.hub.subscribe(&play.key).expect("room");
    let mut version = reader.channel().version();
    loop {
        version.mark_unchanged();
        match reader.channel().snapshot() {
            Snapshot::Unsettled => version.changed().await,
            Snapshot::Value { value, .. } => return assert_eq!(value.encoded(), "2"),
            other => panic!("{other:?}"),
        }
    }
}

/// While the source knows that its value holds, nine polls of ten are left out, and the value is confirmed all the same; a poll that
/// failed is made again.
#[tokio::test(flavor = "multi_thread")]
async fn polls_are_left_out_while_the_source_knows() {
    let play = Play::begin(&[Act::Fail, Act::Value(1)], Duration::from_secs(60));
    play.stage.holds.store(true, Ordering::SeqCst);
    let reader = play.hub.subscribe(&play.key).expect("room");
    let asked = || play.stage.asked.load(Ordering::SeqCst);
    while asked() < 4 * LEFT_OUT as usize {
        tokio::task::yield_now().await;
    }
    let reads = play.stage.reads.load(Ordering::SeqCst) - 2;
    assert!((3..=4).contains(&reads), "{reads} in {}", asked());
    let live = matches!(
        reader.channel().snapshot(),
        Snapshot::Value { stale: false, .. }
    );
    assert!(live);
    let polls = &reader.channel().metrics().polls;
    let counted = polls.get(PollResult::Unchanged) as usize;
    assert!(
        counted <= reads + 1,
        "{counted}: what is left out is no poll"
    );
    let confirmed = reader.channel().confirmed_at();
    while reader.channel().confirmed_at() == confirmed {
        tokio::task::yield_now().await;
    }

    play.stage.holds.store(false, Ordering::SeqCst);
    let reads = play.stage.reads.load(Ordering::SeqCst);
    let asked = asked();
    while play.stage.reads.load(Ordering::SeqCst) < reads + 20 {
        tokio::task::yield_now().await;
    }
    assert!(play.stage.asked.load(Ordering::SeqCst) <= asked + 1);
}

/// There is one for each channel: what it waits with must not grow unnoticed.
#[test]
fn a_wait_is_small() {
    let play = Play {
        stage: Arc::default(),
        hub: Arc::default(),
        key: ChannelKey::shared(StreamId::new(), Params::default()),
    };
    let waiting = run(
        Actor(play.stage),
        Arc::new(Channel::new(play.key, Spec::plain("/test"))),
        play.hub,
        Schedule::new(Duration::from_secs(1), None, 0),
        Plan {
            select: Selector::parse("$").expect("a path"),
            always: false,
            linger: Duration::ZERO,
            keep: Duration::ZERO,
            stale_after: Duration::from_secs(5),
            gate: None,
        },
    );
    let size = size_of_val(&waiting);
    assert!(size <= 896, "{size} bytes");
}
