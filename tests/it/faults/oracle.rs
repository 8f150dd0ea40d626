//! What must hold whatever goes wrong: nobody is given anything twice or out of order, nothing is left out that was promised,
//! whoever is given an id is given the same value by it, and in the end everybody has what the source has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

/// How often [`Subject::Calm`] is polled.
pub const CALM_EVERY: Duration = Duration::from_millis(500);

/// What can be followed. The number of each grows with every change at its source and never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Polled often.
    Polled,
    /// Polled seldom, by a storm of clients.
    Calm,
    /// Polled, and large: who stalls is behind soon.
    Large,
    /// A Redis key.
    Keyed,
    /// A Redis pub/sub channel.
    Messages,
    /// What is published through the gateway.
    Posted,
}

impl Subject {
    pub const ALL: [Self; 6] = [
        Self::Polled,
        Self::Calm,
        Self::Large,
        Self::Keyed,
        Self::Messages,
        Self::Posted,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Self::Polled => "/polled",
            Self::Calm => "/calm",
            Self::Large => "/large",
            Self::Keyed => "/keyed",
            Self::Messages => "/messages",
            Self::Posted => "/posted",
        }
    }

    /// What the source says at this number.
    pub fn document(self, n: u64) -> Value {
        // Each number changes one row, adds one to a window, and now and then makes a member come and go.
        let row = |id: u64| json!({"id": id, "at": n.saturating_sub((n + 20 - id) % 20)});
        let rows: Vec<Value> = (0..20).map(row).collect();
        let window: Vec<u64> = (n.saturating_sub(8)..n).collect();
        match self {
            Self::Calm => json!({ "n": n }),
            Self::Large => json!({"n": n, "padding": "p".repeat(60_000)}),
            _ => json!({"n": n, "rows": rows, "window": window, "odd": (n % 2 == 1).then_some(n)}),
        }
    }

    /// A slow reader may be moved to the newest value: the reader of anything else is never slow.
    pub fn may_skip(self) -> bool {
        self == Self::Large
    }
}

/// What may make an id unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Upheaval {
    /// The gateway's process was killed, and is gone.
    Death,
    /// A successor takes over, or has: what is only listened to begins anew.
    Upgrade,
    /// The definition of the stream of [`Subject::Keyed`] changes, or has.
    Redefinition,
    /// The Redis server fails, or is there again: messages may be lost until the gateway has noticed both.
    Redis,
    /// The Redis server forgot everything.
    Oblivion,
}

impl Upheaval {
    fn concerns(self, subject: Subject, is_shared: bool) -> bool {
        match self {
            Self::Death => !is_shared,
            Self::Upgrade => subject == Subject::Messages,
            Self::Redis => is_shared || subject == Subject::Messages,
            Self::Redefinition => subject == Subject::Keyed,
            Self::Oblivion => is_shared,
        }
    }

    /// How long after it a connection may still be given what was before it.
    fn lingers(self) -> Duration {
        match self {
            Self::Redis | Self::Oblivion => Duration::from_secs(8),
            _ => Duration::ZERO,
        }
    }
}

/// Sees everything that clients see.
#[derive(Debug, Default)]
pub struct Oracle {
    upheavals: Mutex<Vec<(Upheaval, Instant)>>,
    /// Of which replica nobody is expected to answer connections.
    pub is_down: Vec<AtomicBool>,
    /// Messages of [`Subject::Posted`] that nobody said were accepted, and that may come all the same, sooner or later.
    uncertain: Mutex<HashSet<u64>>,
    /// Number by subject, life and sequence.
    told: Mutex<HashMap<(Subject, String, u64), u64>>,
    faults: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Oracle {
    pub fn of(replicas: usize) -> Self {
        let is_down = (0..replicas).map(|_| AtomicBool::new(false)).collect();
        Self {
            is_down,
            ..Self::default()
        }
    }

    /// Whether several replicas share what they have: then it outlives each of them, and is lost with Redis alone.
    fn is_shared(&self) -> bool {
        self.is_down.len() > 1
    }

    /// It happened now.
    pub fn upheaval(&self, upheaval: Upheaval) {
        self.upheavals.lock().push((upheaval, Instant::now()));
    }

    /// Whether anything happened that excuses an unknown id, since a connection that knew it began.
    fn excuses(&self, subject: Subject, since: Instant) -> bool {
        if self.is_shared() && subject == Subject::Messages {
            // What is only listened to is each replica's own.
            return true;
        }
        self.happened(since, |what| what.concerns(subject, self.is_shared()))
    }

    fn happened(&self, since: Instant, concerns: impl Fn(Upheaval) -> bool) -> bool {
        let upheavals = self.upheavals.lock();
        let mut since = upheavals
            .iter()
            .filter(|(what, at)| *at + what.lingers() >= since);
        since.any(|(what, _)| concerns(*what))
    }

    /// How often the gateway's process was killed.
    pub fn deaths(&self) -> usize {
        let upheavals = self.upheavals.lock();
        upheavals
            .iter()
            .filter(|(what, _)| *what == Upheaval::Death)
            .count()
    }

    /// How many processes of the gateway there may have been.
    pub fn processes(&self) -> usize {
        let begins = [Upheaval::Death, Upheaval::Upgrade];
        let upheavals = self.upheavals.lock();
        1 + upheavals
            .iter()
            .filter(|(what, _)| begins.contains(what))
            .count()
    }

    /// Something that must not be.
    pub fn fault(&self, what: String) {
        let mut faults = self.faults.lock();
        if faults.len() < 20 {
            faults.push(what);
        }
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().clone()
    }

    /// Something worth a number in the report.
    pub fn count(&self, what: &str) {
        *self.counts.lock().entry(what.to_owned()).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().clone()
    }

    fn tell(&self, subject: Subject, (life, seq): (&str, u64), n: u64) {
        let mut told = self.told.lock();
        let before = *told.entry((subject, life.to_owned(), seq)).or_insert(n);
        if before != n {
            self.fault(format!("{subject:?} {life}-{seq} is {before} and {n}"));
        }
    }

    /// Nobody said that this message was accepted.
    pub fn uncertain(&self, n: u64) {
        self.uncertain.lock().insert(n);
    }

    /// Whether this message, which was accepted under this id, is what others were given by it, if they were given it.
    pub fn accepted(&self, subject: Subject, id: &str, n: u64) {
        match parsed(id) {
            Some(at) => self.tell(subject, (&at.0, at.1), n),
            None => self.fault(format!("{subject:?}: accepted as {id}")),
        }
    }
}

/// What one client has of its subject, folded from everything it was given.
#[derive(Debug)]
pub struct Fold {
    name: String,
    subject: Subject,
    in_patches: bool,
    /// The value; `None`: none yet, or gone.
    pub state: Option<Value>,
    /// The newest number.
    pub n: u64,
    pub is_stale: bool,
    at: Option<(String, u64)>,
    /// When this connection began, and the one over which the last value came.
    connection: Instant,
    since: Instant,
    /// Any value is expected next, as the id was unknown.
    anew: bool,
    was_gone: bool,
    /// The first event of a connection that resumed.
    resumed: bool,
}

impl Fold {
    pub fn new(name: String, subject: Subject, in_patches: bool) -> Self {
        Self {
            name,
            subject,
            in_patches,
            state: None,
            n: 0,
            is_stale: false,
            at: None,
            connection: Instant::now(),
            since: Instant::now(),
            anew: true,
            was_gone: false,
            resumed: false,
        }
    }

    /// A connection began at `since`.
    pub fn connected(&mut self, since: Instant) {
        self.connection = since;
        self.resumed = true;
        self.is_stale = false;
    }

    /// Takes one event.
    pub fn take(&mut self, oracle: &Oracle, name: &str, data: &str, id: &str) {
        match name {
            "stale" => {
                self.is_stale = true;
                oracle.count("stale");
            }
            "fresh" => self.is_stale = false,
            "gone" => {
                self.state = None;
                self.was_gone = true;
                oracle.count("gone");
            }
            "closing" => oracle.count(&format!("closing {data}")),
            "reset" => {
                oracle.count("reset");
                if !oracle.excuses(self.subject, self.since) && !self.subject.may_skip() {
                    oracle.fault(format!("{self}: reset, though nothing was lost"));
                }
                self.anew = true;
            }
            "message" | "snapshot" | "patch" | "merge" => {
                self.value(oracle, name, data, id);
                self.since = self.connection;
            }
            other => oracle.fault(format!("{self}: an event {other}")),
        }
    }

    fn value(&mut self, oracle: &Oracle, name: &str, data: &str, id: &str) {
        let Some((life, seq)) = parsed(id) else {
            return oracle.fault(format!("{self}: an event with the id {id:?}"));
        };
        let follows = match &self.at {
            None => true,
            Some(_) if self.anew => true,
            Some((before, last)) => {
                // Who resumes with patches may be given one from there to now; what Redis has lost comes no more.
                let may_jump = self.subject.may_skip()
                    || (self.in_patches && self.resumed)
                    || (oracle.is_shared() && oracle.excuses(self.subject, self.since));
                let is_next = seq == last + 1 || (may_jump && seq > *last);
                // Replicas take turns in writing, each in its own name.
                let goes_on = (*before == life || oracle.is_shared()) && is_next;
                // What may have been lost begins a new life, also for who has been there all the time.
                let lost = *before != life && oracle.excuses(self.subject, self.since);
                goes_on || lost
            }
        };
        if !follows {
            oracle.fault(format!("{self}: then {name} {id}"));
        }
        let state = match self.folded(name, data) {
            Ok(state) => state,
            Err(why) => return oracle.fault(format!("{self}: {name} {id}: {why}: {data:.300}")),
        };
        let n = state["n"].as_u64().unwrap_or(0);
        // A life that begins anew begins with what is current, which the client may have.
        let is_behind = self.anew
            && oracle.is_shared()
            && oracle.happened(self.since, |what| {
                matches!(what, Upheaval::Redis | Upheaval::Oblivion)
            });
        let is_late = self.subject == Subject::Posted && oracle.uncertain.lock().contains(&n);
        // A value that was gone meanwhile is told again, also to who was away when it went.
        let is_again = self.anew
            || self.was_gone
            || (self.subject == Subject::Keyed
                && oracle.happened(self.since, |what| {
                    matches!(what, Upheaval::Redis | Upheaval::Oblivion)
                }));
        if (n < self.n && !is_behind && !is_late) || (n == self.n && !is_again) {
            oracle.fault(format!("{self}: then {n} by {name} {id}"));
        }
        if state != self.subject.document(n) {
            oracle.fault(format!(
                "{self}: no such value was ever there: {name} {id} {state:.300}"
            ));
        }
        oracle.tell(self.subject, (&life, seq), n);
        self.state = Some(state);
        self.n = n;
        self.at = Some((life, seq));
        self.anew = false;
        self.was_gone = false;
        self.resumed = false;
        self.is_stale = false;
        oracle.count(name);
    }

    fn folded(&self, name: &str, data: &str) -> Result<Value, String> {
        let data: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
        match (name, self.in_patches, &self.state) {
            ("message", false, _) | ("snapshot", true, _) => Ok(data),
            ("patch", true, Some(state)) => {
                let operations: json_patch::Patch =
                    serde_json::from_value(data).map_err(|error| error.to_string())?;
                let mut state = state.clone();
                json_patch::patch(&mut state, &operations).map_err(|error| error.to_string())?;
                Ok(state)
            }
            ("merge", true, Some(state)) => {
                let mut state = state.clone();
                json_patch::merge(&mut state, &data);
                Ok(state)
            }
            _ => Err("not in this form, or of nothing".into()),
        }
    }
}

impl std::fmt::Display for Fold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?} with {}", self.name, self.at, self.n)?;
        for (is, what) in [
            (self.anew, " anew"),
            (self.was_gone, " gone"),
            (self.resumed, " resumed"),
            (self.is_stale, " stale"),
        ] {
            f.write_str(if is { what } else { "" })?;
        }
        Ok(())
    }
}

fn parsed(id: &str) -> Option<(String, u64)> {
    let (life, seq) = id.split_once('-')?;
    Some((life.to_owned(), seq.parse().ok()?))
}

/// What must not be is seen: an event twice, one left out, an older number, another value by the same id, a value that never was,
/// a patch of something else, a reset for nothing.
#[test]
fn the_oracle_sees_what_must_not_be() {
    let life = "00000000000000aa";
    let given = |events: &[(&str, u64, u64)]| {
        let oracle = Oracle::of(1);
        let mut fold = Fold::new("client".into(), Subject::Posted, false);
        for (name, seq, n) in events {
            let data = Subject::Posted.document(*n).to_string();
            fold.take(&oracle, name, &data, &format!("{life}-{seq}"));
        }
        oracle.faults().len()
    };
    assert_eq!(
        given(&[("message", 1, 5), ("message", 2, 7), ("message", 3, 8)]),
        0
    );
    assert_eq!(given(&[("message", 1, 5), ("message", 1, 5)]), 2);
    assert_eq!(given(&[("message", 1, 5), ("message", 3, 6)]), 1);
    assert_eq!(given(&[("message", 1, 5), ("message", 2, 4)]), 1);
    assert_eq!(given(&[("message", 1, 5), ("reset", 0, 0)]), 1);
    assert_eq!(given(&[("snapshot", 1, 5)]), 1, "not its form");

    let oracle = Oracle::of(1);
    let mut folds = [(); 2].map(|()| Fold::new("client".into(), Subject::Posted, true));
    let [one, other] = &mut folds;
    let document = |n| Subject::Posted.document(n).to_string();
    let id = |seq: u64| format!("{life}-{seq}");
    one.take(&oracle, "snapshot", &document(5), &id(1));
    one.take(&oracle, "merge", r#"{"n":6}"#, &id(2));
    assert_eq!(oracle.faults().len(), 1, "half a change");
    other.take(&oracle, "snapshot", &document(4), &id(1));
    assert_eq!(oracle.faults().len(), 2, "another value by the same id");
    other.take(
        &oracle,
        "patch",
        r#"[{"op":"test","path":"/n","value":9}]"#,
        &id(2),
    );
    assert_eq!(oracle.faults().len(), 3, "a patch of something else");

    let died = Oracle::of(1);
    let mut fold = Fold::new("client".into(), Subject::Posted, false);
    fold.take(&died, "message", &document(5), &id(7));
    died.upheaval(Upheaval::Death);
    fold.take(&died, "reset", "{}", "");
    fold.take(&died, "message", &document(5), "00000000000000bb-1");
    assert_eq!(died.faults(), [""; 0], "a reason, and what is current");
}
