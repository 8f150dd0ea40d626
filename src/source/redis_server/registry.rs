//! Who listens to what, and what of it is subscribed: the state of the connection for pushes, without the connection.
//!
//! A topic is subscribed once, however many listen. What the server confirms decides, in the order in which it
//! comes between the messages: a listener is told that it is up before the first message, and never while it could miss one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::mailbox::Mailbox;
use crate::source::SourceError;

/// Subscriptions that nobody needs and that the server does not let us give up, before a new connection is made.
const MAX_ORPHANS: usize = 1000;
/// After which a refused subscription is tried again: somebody may have changed the user's rights.
const RETRY_REFUSED: Duration = Duration::from_secs(10);

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::source) enum Topic {
    /// SUBSCRIBE
    Channel(String),
    /// PSUBSCRIBE
    Pattern(String),
}

/// A step towards what listeners want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Subscribe(Topic),
    Unsubscribe(Topic),
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    topics: HashMap<Topic, Topical>,
    /// Why there is no connection, after the first attempt.
    down: Option<SourceError>,
    orphans: usize,
}

#[derive(Debug, Default)]
struct Topical {
    listeners: Vec<Arc<Mailbox>>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Wanted,
    Joining,
    Active,
    Leaving,
    /// Active, and the server does not let us leave.
    Kept,
    Refused(SourceError, Instant),
}

impl Registry {
    /// Adds a listener, and tells it how things stand.
    pub(super) fn join(&mut self, topic: Topic, listener: Arc<Mailbox>) {
        let topical = self.topics.entry(topic).or_default();
        match (&self.down, &topical.state) {
            (Some(error), _) | (None, State::Refused(error, _)) => listener.down(error),
            (None, State::Active) => listener.up(),
            (None, State::Kept) => {
                listener.up();
                if topical.listeners.is_empty() {
                    self.orphans -= 1;
                }
            }
            (None, State::Wanted | State::Joining | State::Leaving) => {}
        }
        topical.listeners.push(listener);
    }

    pub(super) fn leave(&mut self, topic: &Topic, listener: &Arc<Mailbox>) {
        let Some(topical) = self.topics.get_mut(topic) else {
            return;
        };
        topical
            .listeners
            .retain(|other| !Arc::ptr_eq(other, listener));
        if !topical.listeners.is_empty() {
            return;
        }
        match topical.state {
            State::Wanted | State::Refused(..) => drop(self.topics.remove(topic)),
            State::Kept => self.orphans += 1,
            State::Joining | State::Active | State::Leaving => {}
        }
    }

    /// There is a connection on which nothing is subscribed yet.
    pub(super) fn connected(&mut self) {
        self.down = None;
    }

    /// There is none any more.
    pub(super) fn lost(&mut self, error: SourceError) {
        self.orphans = 0;
        self.topics.retain(|_, topical| {
            topical.state = State::Wanted;
            topical
                .listeners
                .iter()
                .for_each(|listener| listener.down(&error));
            !topical.listeners.is_empty()
        });
        self.down = Some(error);
    }

    /// What is to be done now. Each step is named once, until the server answers to it.
    pub(super) fn steps(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for (topic, topical) in &mut self.topics {
            let wanted = !topical.listeners.is_empty();
            match &topical.state {
                State::Wanted => {
                    topical.state = State::Joining;
                    steps.push(Step::Subscribe(topic.clone()));
                }
                State::Refused(_, until) if *until <= now => {
                    topical.state = State::Joining;
                    steps.push(Step::Subscribe(topic.clone()));
                }
                State::Active if !wanted => {
                    topical.state = State::Leaving;
                    steps.push(Step::Unsubscribe(topic.clone()));
                }
                _ => {}
            }
        }
        steps
    }

    /// When [`steps`](Self::steps) is worth asking again though nothing happened.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let until = |topical: &Topical| match topical.state {
            State::Refused(_, until) => Some(until),
            _ => None,
        };
        self.topics.values().filter_map(until).min()
    }

    /// The server confirmed the subscription.
    pub(super) fn subscribed(&mut self, topic: &Topic) {
        if let Some(topical) = self.topics.get_mut(topic) {
            topical.state = State::Active;
            topical.listeners.iter().for_each(|listener| listener.up());
        }
    }

    /// The server refused the subscription, or did not answer.
    pub(super) fn refused(&mut self, topic: &Topic, error: SourceError, now: Instant) {
        let Entry::Occupied(mut entry) = self.topics.entry(topic.clone()) else {
            return;
        };
        let topical = entry.get_mut();
        if topical.listeners.is_empty() {
            entry.remove();
        } else if matches!(topical.state, State::Joining) {
            topical
                .listeners
                .iter()
                .for_each(|listener| listener.down(&error));
            topical.state = State::Refused(error, now + RETRY_REFUSED);
        }
    }

    /// The server confirmed that the subscription is given up.
    pub(super) fn unsubscribed(&mut self, topic: &Topic) {
        let Entry::Occupied(mut entry) = self.topics.entry(topic.clone()) else {
            return;
        };
        if entry.get().listeners.is_empty() {
            entry.remove();
        } else {
            // Somebody came while it was on its way.
            entry.get_mut().state = State::Wanted;
        }
    }

    /// The server does not let us give the subscription up: UNSUBSCRIBE is a right of its own (EDGE R4).
    pub(super) fn kept(&mut self, topic: &Topic) {
        let Some(topical) = self.topics.get_mut(topic) else {
            return;
        };
        topical.state = State::Kept;
        topical.listeners.iter().for_each(|listener| listener.up());
        if topical.listeners.is_empty() {
            self.orphans += 1;
        }
    }

    /// Whether what is kept for nobody is too much.
    pub(super) fn is_clogged(&self) -> bool {
        self.orphans > MAX_ORPHANS
    }

    /// A message came; `None` stands for one that is too large.
    pub(super) fn message(&self, topic: &Topic, payload: Option<&Bytes>) {
        if let Some(topical) = self.topics.get(topic)
            && matches!(topical.state, State::Active | State::Kept)
        {
            topical
                .listeners
                .iter()
                .for_each(|listener| listener.message(payload.cloned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::mailbox::Delivery;
    use super::*;
    use crate::source::Cause;

    fn topic() -> Topic {
        Topic::Channel("c".into())
    }

    fn error() -> SourceError {
        SourceError::new(Cause::Redis, "away")
    }

    fn told(mailbox: &Mailbox) -> String {
        std::iter::from_fn(|| mailbox.next().now_or_never())
            .map(|delivery| match delivery {
                Delivery::Up => 'u',
                Delivery::Down(_) => 'd',
                _ => 'm',
            })
            .collect()
    }

    /// A registry in which `topic()` is subscribed, with its one listener.
    fn listening() -> (Registry, Arc<Mailbox>) {
        let (mut registry, mailbox) = (Registry::default(), Arc::new(Mailbox::default()));
        registry.connected();
        registry.join(topic(), mailbox.clone());
        assert_eq!(registry.steps(Instant::now()), [Step::Subscribe(topic())]);
        assert_eq!(told(&mailbox), "");
        registry.subscribed(&topic());
        assert_eq!(told(&mailbox), "u");
        (registry, mailbox)
    }

    #[test]
    fn a_topic_is_subscribed_once_for_all_listeners() {
        let (mut registry, first) = listening();
        let second = Arc::new(Mailbox::default());
        registry.join(topic(), second.clone());
        assert_eq!(registry.steps(Instant::now()), []);
        registry.message(&topic(), Some(&Bytes::from_static(b"x")));
        assert_eq!((told(&first), told(&second)), ("m".into(), "um".into()));

        registry.leave(&topic(), &first);
        assert_eq!(registry.steps(Instant::now()), []);
        registry.leave(&topic(), &second);
        assert_eq!(registry.steps(Instant::now()), [Step::Unsubscribe(topic())]);
        registry.unsubscribed(&topic());
        assert!(registry.topics.is_empty());
    }

    /// Who joins while the subscription is being given up is told that it is up only after it was made again.
    #[test]
    fn a_listener_that_meets_an_unsubscribe_gets_a_new_subscription() {
        let (mut registry, first) = listening();
        registry.leave(&topic(), &first);
        assert_eq!(registry.steps(Instant::now()), [Step::Unsubscribe(topic())]);
        let second = Arc::new(Mailbox::default());
        registry.join(topic(), second.clone());
        registry.message(
            &topic(),
            Some(&Bytes::from_static(b"of the old subscription")),
        );
        assert_eq!(registry.steps(Instant::now()), []);
        registry.unsubscribed(&topic());
        assert_eq!(told(&second), "");
        assert_eq!(registry.steps(Instant::now()), [Step::Subscribe(topic())]);
        registry.subscribed(&topic());
        assert_eq!(told(&second), "u");
    }

    /// EDGE R6: everything is subscribed anew on a new connection.
    #[test]
    fn a_lost_connection_is_told_and_all_is_wanted_again() {
        let (mut registry, mailbox) = listening();
        registry.lost(error());
        registry.lost(error());
        let late = Arc::new(Mailbox::default());
        registry.join(topic(), late.clone());
        assert_eq!((told(&mailbox), told(&late)), ("d".into(), "d".into()));
        registry.connected();
        assert_eq!(registry.steps(Instant::now()), [Step::Subscribe(topic())]);
        registry.subscribed(&topic());
        assert_eq!((told(&mailbox), told(&late)), ("u".into(), "u".into()));
    }

    #[test]
    fn a_refused_subscription_is_told_once_and_tried_again() {
        let (mut registry, mailbox) = (Registry::default(), Arc::new(Mailbox::default()));
        registry.join(topic(), mailbox.clone());
        let now = Instant::now();
        for round in 0..3 {
            let then = now + RETRY_REFUSED * round;
            assert_eq!(registry.steps(then), [Step::Subscribe(topic())]);
            registry.refused(&topic(), error(), then);
            assert_eq!(registry.steps(then), []);
            assert_eq!(registry.next_retry(), Some(then + RETRY_REFUSED));
        }
        assert_eq!(told(&mailbox), "d");
        registry.leave(&topic(), &mailbox);
        assert!(registry.topics.is_empty());
    }

    /// EDGE R4: a user without UNSUBSCRIBE costs memory for what was once subscribed, but only so much.
    #[test]
    fn subscriptions_that_cannot_be_given_up_are_used_again_and_bounded() {
        let (mut registry, mailbox) = listening();
        registry.leave(&topic(), &mailbox);
        assert_eq!(registry.steps(Instant::now()), [Step::Unsubscribe(topic())]);
        registry.kept(&topic());
        assert_eq!(
            (registry.orphans, registry.steps(Instant::now())),
            (1, vec![])
        );

        let again = Arc::new(Mailbox::default());
        registry.join(topic(), again.clone());
        registry.message(&topic(), None);
        assert_eq!((registry.orphans, told(&again)), (0, "um".into()));
        registry.leave(&topic(), &again);
        assert_eq!((registry.orphans, registry.is_clogged()), (1, false));

        registry.orphans = MAX_ORPHANS + 1;
        assert!(registry.is_clogged());
        registry.lost(error());
        assert!(registry.topics.is_empty() && !registry.is_clogged());
    }
}
