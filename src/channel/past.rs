//! What a channel tells another process that goes on in its place, or that follows it: its changes with their ids, and how
//! things stand. Ids stay known across it, and nobody is given an event twice or not at all (EDGE L15).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::demand::Readers;
use super::event::{Epoch, Event, EventId, Notice};
use super::log::Log;
use super::state::{Confirmed, Stale, State};
use super::{Channel, Spec};
use crate::sse::EventName;
use crate::value::{Malformed, Value};

/// A stretch of a channel's life. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// The change before all of these.
    base: EventId,
    /// Oldest first, without gaps: their sequences count on from the base.
    changes: Vec<Change>,
    gone: bool,
    /// Cause and Unix time since when.
    stale: Option<(String, u64)>,
    settled: bool,
    /// Since the source last confirmed it.
    confirmed: Option<u64>,
    /// Since the last reader left; `None`: somebody reads.
    unread: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    epoch: Epoch,
    /// What the value is: text, or else JSON.
    text: bool,
    data: String,
    name: Option<String>,
    /// No patch leads to it from the one before.
    whole: bool,
    age: u64,
}

impl Past {
    /// Bytes of the values in it.
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.data.len()).sum()
    }

    /// Whether there is nothing that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether somebody reads.
    pub fn is_read(&self) -> bool {
        self.unread.is_none()
    }

    /// What is known with it: the id of its newest change.
    pub fn known(&self) -> EventId {
        let ids = std::iter::once(self.base).chain(self.ids());
        ids.last().unwrap_or(self.base)
    }

    fn ids(&self) -> impl Iterator<Item = EventId> {
        let seqs = self.base.seq + 1..;
        seqs.zip(&self.changes).map(|(seq, change)| EventId {
            epoch: change.epoch,
            seq,
        })
    }

    /// The change that these come after.
    pub fn base(&self) -> EventId {
        self.base
    }

    /// Whether who was told `before` learns nothing from this.
    pub fn adds_nothing_to(&self, before: &Self) -> bool {
        let standing = |past: &Self| (past.gone, past.stale.is_some(), past.settled);
        self.is_empty() && self.base == before.known() && standing(self) == standing(before)
    }

    /// Whether anybody has read the source.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether the source does not confirm the value.
    pub fn is_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// How things stood, without what happened.
    #[must_use]
    pub fn standing(&self) -> Self {
        Self {
            base: self.known(),
            changes: Vec::new(),
            gone: self.gone,
            stale: self.stale.clone(),
            settled: self.settled,
            confirmed: self.confirmed,
            unread: self.unread,
        }
    }

    /// Nothing is said against it.
    #[must_use]
    pub fn fresh(self) -> Self {
        Self {
            stale: None,
            ..self
        }
    }

    /// It still holds; the source last confirmed it `age` ago.
    #[must_use]
    pub fn confirmed(self, age: Option<Duration>) -> Self {
        Self {
            settled: true,
            confirmed: age.map(ms).or(self.confirmed),
            ..self
        }
    }

    /// Nobody can say whether it still holds.
    #[must_use]
    pub fn unsettled(self) -> Self {
        Self {
            settled: false,
            ..self
        }
    }

    /// One message, of which only who takes it can say what it comes after. Its epoch is its own.
    pub fn message(value: &Value) -> (Epoch, Self) {
        let epoch = Epoch::new();
        let change = Change {
            epoch,
            text: value.is_text(),
            data: value.encoded().to_owned(),
            name: None,
            whole: false,
            age: 0,
        };
        let past = Self {
            base: EventId { epoch, seq: 0 },
            changes: vec![change],
            gone: false,
            stale: None,
            settled: true,
            confirmed: Some(0),
            unread: None,
        };
        (epoch, past)
    }

    /// As text that [`Past::read`] reads.
    pub fn write(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What [`Past::write`] wrote `age` ago, as what comes after `base`. `None`: it is nothing of the kind.
    pub fn read(base: &str, text: &str, age: Duration) -> Option<Self> {
        let past: Self = serde_json::from_str(text).ok()?;
        let age = ms(age);
        let mut changes = past.changes;
        for change in &mut changes {
            change.age = change.age.saturating_add(age);
        }
        Some(Self {
            base: EventId::parse(base.as_bytes())?,
            changes,
            confirmed: past.confirmed.map(|at| at.saturating_add(age)),
            ..past
        })
    }

    /// Only the newest change: the current value.
    #[must_use]
    pub fn newest_only(mut self) -> Self {
        let older = self.changes.len().saturating_sub(1);
        if let Some(last) = self.ids().take(older).last() {
            self.base = last;
        }
        self.changes.drain(..older);
        self
    }
}

impl Channel {
    /// What there is, for who goes on in this process's place. From now on nothing is written here but what
    /// [`Channel::follow`] brings.
    pub fn hand_over(&self) -> Past {
        let readers = self.demand.readers();
        let mut state = self.state.lock();
        state.sealed = true;
        self.past(readers, &state, None)
    }

    /// What happened after what is `known`, and how things stand; everything that there is when nobody can say.
    pub fn since(&self, known: Option<EventId>) -> Past {
        let readers = self.demand.readers();
        self.past(readers, &self.state.lock(), known)
    }

    /// Whether the change `id` is known here.
    pub fn holds(&self, id: EventId) -> bool {
        self.state.lock().log.holds(id)
    }

    /// Another writer goes on from here: its ids are told from those that the one before would have given.
    pub fn change_writer(&self) {
        self.state.lock().log.change_writer();
    }

    /// Takes over what another process has written. Its readers are told. An error leaves out what cannot be read.
    pub fn follow(&self, past: &Past) -> Result<(), Malformed> {
        self.follow_all(std::iter::once(past))
    }

    /// The same for several stretches at once: readers see where they end, and what lies between only where it follows on what they have.
    pub fn follow_all<'a>(&self, pasts: impl Iterator<Item = &'a Past>) -> Result<(), Malformed> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut followed = Ok(());
        for past in pasts {
            let result = state.follow(past, now, &self.spec);
            followed = followed.and(result);
        }
        drop(state);
        self.tell();
        followed
    }

    /// Goes on where another process has stopped. What was read here meanwhile, before anybody was given it, comes after that.
    pub fn succeed(&self, past: &Past) -> Result<(), Malformed> {
        let now = Instant::now();
        let followed = self.state.lock().succeed(past, now, &self.spec);
        self.tell();
        followed
    }

    /// It was left when it was left in the other process, if nobody reads it here.
    pub fn backdate(&self, past: &Past) {
        let unread = past.unread.unwrap_or_default();
        self.demand.backdate(Duration::from_millis(unread));
    }

    fn past(&self, readers: Readers, state: &State, known: Option<EventId>) -> Past {
        let unread = match readers.now {
            0 => Some(readers.left.map_or(u64::MAX, |left| ms(left.elapsed()))),
            _ => None,
        };
        let stale = |stale: &Stale| {
            let since = state.confirmed.map_or(state.started, |at| at.wall);
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
            (stale.cause.to_owned(), ms(since))
        };
        let (base, events) = state.log.after(known, self.spec.current);
        Past {
            base,
            changes: events.into_iter().map(|event| Change::of(&event)).collect(),
            gone: state.gone.is_some(),
            stale: state.stale.as_deref().map(stale),
            settled: state.settled && readers.resting.is_none(),
            confirmed: state.confirmed.map(|confirmed| ms(confirmed.at.elapsed())),
            unread,
        }
    }
}

impl State {
    fn follow(&mut self, past: &Past, now: Instant, spec: &Spec) -> Result<(), Malformed> {
        let mut result = Ok(());
        // Before what the source gave then.
        if past.stale.is_none() && past.settled && self.stale.is_some() {
            self.tell_fresh(spec);
        }
        let before = std::iter::once(past.base).chain(past.ids());
        for (ids, change) in before.zip(past.ids()).zip(&past.changes) {
            let (_, id) = ids;
            if self.log.holds(id) {
                continue;
            }
            let value = match change.value() {
                Ok(value) => value,
                Err(error) => {
                    result = Err(error);
                    continue;
                }
            };
            self.gone = None;
            self.latest = None;
            let at = now.checked_sub(Duration::from_millis(change.age));
            let name = change
                .name
                .as_deref()
                .and_then(|name| EventName::parse(name).ok());
            if change.whole {
                self.log.unchain();
            }
            self.log.follow(ids, value, name, at.unwrap_or(now));
        }
        if past.is_empty() && !self.log.holds(past.base) {
            self.latest = None;
            self.log.begin_after(past.base);
        }
        if past.gone != self.gone.is_some() {
            self.gone = past.gone.then(|| self.log.end());
            if past.gone {
                self.log.unchain();
                self.log.push_notice(Notice::gone());
            }
        }
        self.confirmed = past.confirmed.map(|age| {
            let age = Duration::from_millis(age);
            Confirmed {
                wall: SystemTime::now() - age,
                at: now.checked_sub(age).unwrap_or(now),
            }
        });
        self.settled |= past.settled;
        if let Some((cause, since)) = &past.stale
            && self.stale.is_none()
        {
            let known = CAUSES.iter().find(|known| *known == cause);
            let since = UNIX_EPOCH + Duration::from_millis(*since);
            self.tell_stale(known.copied().unwrap_or(CAUSES[0]), since, spec);
        }
        result
    }

    fn succeed(&mut self, past: &Past, now: Instant, spec: &Spec) -> Result<(), Malformed> {
        let own = std::mem::replace(&mut self.log, Log::new(spec.history));
        // What was said about it stood in the other log; there is no reader who has heard it.
        (self.gone, self.stale, self.latest, self.refreshed) = (None, None, None, None);
        let followed = self.follow(past, now, spec);
        if let Some(newest) = own.newest() {
            self.observe(newest.value().clone(), now, spec);
        }
        followed
    }
}

impl Change {
    fn of(event: &Event) -> Self {
        Self {
            epoch: event.id().epoch,
            text: event.value().is_text(),
            data: event.value().encoded().to_owned(),
            name: event.name().map(ToString::to_string),
            whole: event.base().is_none(),
            age: ms(event.at().elapsed()),
        }
    }

    fn value(&self) -> Result<Value, Malformed> {
        match self.text {
            true => Ok(Value::from_text(self.data.as_str())),
            false => Value::parse_json(self.data.as_bytes()),
        }
    }
}

/// Cause classes of CONTRACT.md §3.
const CAUSES: [&str; 9] = [
    "connect",
    "timeout",
    "tls",
    "status",
    "too-large",
    "malformed",
    "redis",
    "unauthorized",
    "rate-limited",
];

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::channel::{ChannelKey, StreamId};
    use crate::params::Params;

    #[derive(Clone, Debug)]
    enum Step {
        Observe(u8),
        Append(u8),
        Vanish,
        Fail,
        Confirm,
        Break,
        Change,
        Tell,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => any::<u8>().prop_map(|n| Step::Observe(n % 4)),
            2 => any::<u8>().prop_map(|n| Step::Append(n % 4)),
            1 => Just(Step::Vanish),
            1 => Just(Step::Fail),
            1 => Just(Step::Confirm),
            1 => Just(Step::Break),
            1 => Just(Step::Change),
            3 => Just(Step::Tell),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn channel() -> Arc<Channel> {
        let key = ChannelKey::shared(StreamId::new(), Params::default());
        Arc::new(Channel::new(key, Spec::plain("/test")))
    }

    fn play(channel: &Channel, step: &Step) {
        let value = |n: &u8| Value::parse_json(format!(r#"{{"n":{n}}}"#).as_bytes()).expect("JSON");
        match step {
            Step::Observe(n) => drop(channel.observe(value(n))),
            Step::Append(n) => drop(channel.append(value(n), None)),
            Step::Vanish => drop(channel.vanish()),
            Step::Fail => channel.stale("tls"),
            Step::Confirm => channel.confirm(),
            Step::Break => channel.break_history(),
            Step::Change => channel.change_writer(),
            Step::Tell => {}
        }
    }

    /// Through the wire and back.
    fn sent(past: &Past) -> Past {
        let text = serde_json::to_string(past).expect("written");
        let back = serde_json::from_str(&text).expect("read");
        assert_eq!(past, &back);
        back
    }

    /// Id and text of the current value, and what is said besides it.
    fn state(channel: &Channel) -> (Option<(EventId, String)>, bool, Option<&'static str>) {
        let state = channel.state.lock();
        let newest = state
            .log
            .newest()
            .map(|event| (event.id(), event.value().encoded().to_owned()));
        (
            newest,
            state.gone.is_some(),
            state.stale.as_ref().map(|stale| stale.cause),
        )
    }

    fn tail(channel: &Channel, id: EventId) -> Option<Vec<(EventId, String)>> {
        use crate::channel::log::Since;
        match channel.state.lock().log.since(id) {
            Since::Current => Some(Vec::new()),
            Since::Tail(events) => Some(
                events
                    .iter()
                    .map(|event| (event.id(), event.value().encoded().to_owned()))
                    .collect(),
            ),
            Since::Unknown => None,
        }
    }

    proptest! {
        /// EDGE L8, L15: whatever happens and whenever it is told, the follower ends where the writer is; what it replays for
        /// an id is what the writer replays.
        #[test]
        fn a_follower_ends_where_the_writer_is(before in steps(), after in steps()) {
            let (writer, follower) = (channel(), channel());
            before.iter().for_each(|step| play(&writer, step));
            let past = sent(&writer.since(None));
            follower.succeed(&past).expect("taken over");
            let mut known = past.known();
            let mut ids: Vec<_> = state(&writer).0.into_iter().map(|(id, _)| id).collect();
            for step in &after {
                play(&writer, step);
                ids.extend(state(&writer).0.map(|(id, _)| id));
                if matches!(step, Step::Tell) {
                    let past = sent(&writer.since(Some(known)));
                    follower.follow(&past).expect("followed");
                    known = past.known();
                }
            }
            follower.follow(&sent(&writer.since(Some(known)))).expect("followed");
            prop_assert_eq!(state(&writer), state(&follower));
            for id in ids {
                if let Some(replayed) = tail(&follower, id) {
                    prop_assert_eq!(Some(replayed), tail(&writer, id));
                }
            }
        }
    }

    /// What was handed over is not written any more, whoever still tries; what the successor tells is.
    #[test]
    fn what_was_handed_over_is_sealed() {
        let (old, new) = (channel(), channel());
        play(&old, &Step::Observe(1));
        let past = sent(&old.hand_over());
        play(&old, &Step::Observe(2));
        assert_eq!(old.append(Value::from_text("x"), None), None);
        new.succeed(&past).expect("taken over");
        assert_eq!(state(&old), state(&new));
        play(&new, &Step::Observe(3));
        old.follow(&sent(&new.since(Some(past.known()))))
            .expect("followed");
        assert_eq!(state(&old), state(&new));
    }

    /// Who has read something meanwhile goes on with it, under the next id.
    #[test]
    fn an_own_reading_comes_after_what_was_taken_over() {
        let (old, new) = (channel(), channel());
        play(&old, &Step::Observe(1));
        let (first, ..) = state(&old);
        let (id, _) = first.expect("a value");
        play(&new, &Step::Observe(2));
        new.succeed(&old.hand_over()).expect("taken over");
        let next = EventId {
            seq: id.seq + 1,
            ..id
        };
        assert_eq!(tail(&new, id), Some(vec![(next, r#"{"n":2}"#.to_owned())]));
    }
}
