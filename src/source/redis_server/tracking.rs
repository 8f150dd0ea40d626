//! Keys whose next change the server announces: the state of client tracking, without the connection.
//!
//! Tracking in its default mode: the server remembers a key that the connection has asked for, announces its next change
//! and forgets it (Redis documentation, "Client-side caching"). EXISTS does the asking, so that the connection for
//! commands goes on reading values as it always does; a value that is read after a key was *armed* is followed by an announcement of
//! whatever changes it. The broadcasting mode was not taken: the server compares each write of anybody with each prefix, and
//! prefixes must not overlap.
//!
//! An announcement can come before the answer that it follows has been looked at: then the key is armed once more. The
//! server also forgets keys without a change, when its table is full; so an announcement is a hint and no more.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

/// How a key stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) enum Mark {
    /// Its next change is not announced: it has just changed, or nobody asked yet.
    #[default]
    Unarmed,
    /// Its next change is announced. No two armings have the same number.
    Armed(u64),
    /// The server does not let us ask.
    Refused,
    /// The server sends us to another one.
    Elsewhere,
}

/// All keys of one connection that anybody watches.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    keys: HashMap<Arc<str>, Tracked>,
    /// To be armed; the one who arms them looks whether that still holds.
    pending: Vec<Arc<str>>,
    armings: u64,
}

#[derive(Debug, Default)]
struct Tracked {
    holders: usize,
    phase: Phase,
    mark: watch::Sender<Mark>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Unarmed,
    Pending,
    Arming {
        number: u64,
        /// Changed since the question was sent, so its answer means nothing.
        overtaken: bool,
    },
    Armed,
}

/// A question under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arming {
    pub(super) key: Arc<str>,
    number: u64,
}

impl Tracking {
    /// Somebody watches `key` from now on, until [`release`](Self::release).
    pub(super) fn hold(&mut self, key: &Arc<str>) -> watch::Receiver<Mark> {
        let tracked = self.keys.entry(key.clone()).or_default();
        tracked.holders += 1;
        tracked.mark.subscribe()
    }

    pub(super) fn release(&mut self, key: &str) {
        if let Some(tracked) = self.keys.get_mut(key) {
            tracked.holders -= 1;
            if tracked.holders == 0 {
                self.keys.remove(key);
            }
        }
    }

    /// The next change of `key` is to be announced.
    pub(super) fn arm(&mut self, key: &Arc<str>) {
        if let Some(tracked) = self.keys.get_mut(key)
            && tracked.phase == Phase::Unarmed
        {
            tracked.set(Phase::Pending, Mark::Unarmed);
            self.pending.push(key.clone());
        }
    }

    /// What is to be asked now. Each question is named once, until it is answered.
    pub(super) fn questions(&mut self) -> Vec<Arming> {
        let mut questions = Vec::new();
        for key in std::mem::take(&mut self.pending) {
            if let Some(tracked) = self.keys.get_mut(&key)
                && tracked.phase == Phase::Pending
            {
                self.armings += 1;
                let number = self.armings;
                tracked.phase = Phase::Arming {
                    number,
                    overtaken: false,
                };
                questions.push(Arming { key, number });
            }
        }
        questions
    }

    /// Whether there is anything to be asked.
    pub(super) fn has_questions(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The server answered.
    pub(super) fn answered(&mut self, arming: &Arming) {
        let Some((tracked, overtaken)) = self.under_way(arming) else {
            return;
        };
        if overtaken {
            tracked.phase = Phase::Pending;
            self.pending.push(arming.key.clone());
        } else {
            tracked.set(Phase::Armed, Mark::Armed(arming.number));
        }
    }

    /// The server answered with an error, or not at all: how the key stands now.
    pub(super) fn failed(&mut self, arming: &Arming, mark: Mark) {
        if let Some((tracked, _)) = self.under_way(arming) {
            tracked.set(Phase::Unarmed, mark);
        }
    }

    /// The server announced a change of `key`, or forgot it.
    pub(super) fn changed(&mut self, key: &str) {
        if let Some(tracked) = self.keys.get_mut(key) {
            tracked.changed();
        }
    }

    /// The server announced a change of everything (FLUSHALL, or FLUSHDB of any database).
    pub(super) fn all_changed(&mut self) {
        self.keys.values_mut().for_each(Tracked::changed);
    }

    /// There is no connection any more, and so no tracking.
    pub(super) fn lost(&mut self) {
        self.pending.clear();
        for tracked in self.keys.values_mut() {
            tracked.set(Phase::Unarmed, Mark::Unarmed);
        }
    }

    /// What `arming` asks for, unless it is not waited for any more; and whether it was overtaken.
    fn under_way(&mut self, arming: &Arming) -> Option<(&mut Tracked, bool)> {
        let tracked = self.keys.get_mut(&arming.key)?;
        match tracked.phase {
            Phase::Arming { number, overtaken } if number == arming.number => {
                Some((tracked, overtaken))
            }
            _ => None,
        }
    }
}

impl Tracked {
    fn changed(&mut self) {
        match &mut self.phase {
            Phase::Armed => self.set(Phase::Unarmed, Mark::Unarmed),
            Phase::Arming { overtaken, .. } => *overtaken = true,
            Phase::Unarmed | Phase::Pending => {}
        }
    }

    fn set(&mut self, phase: Phase, mark: Mark) {
        self.phase = phase;
        self.mark
            .send_if_modified(|known| std::mem::replace(known, mark) != mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Arc<str> {
        "k".into()
    }

    /// A table in which `k` is held and asked for.
    fn asked() -> (Tracking, watch::Receiver<Mark>, Arming) {
        let mut tracking = Tracking::default();
        let mark = tracking.hold(&key());
        tracking.arm(&key());
        let questions = tracking.questions();
        assert_eq!(questions.len(), 1);
        assert_eq!(*mark.borrow(), Mark::Unarmed);
        (tracking, mark, questions[0].clone())
    }

    /// DEPENDENCIES: tracking is one-shot, so a key is asked for again after each announcement.
    #[test]
    fn a_key_is_armed_once_for_each_change() {
        let (mut tracking, mark, question) = asked();
        tracking.arm(&key());
        assert_eq!(tracking.questions(), [], "it is asked for already");
        tracking.answered(&question);
        assert_eq!(*mark.borrow(), Mark::Armed(1));
        tracking.arm(&key());
        assert_eq!(tracking.questions(), [], "it is armed");
        tracking.changed("k");
        tracking.changed("other");
        assert_eq!(*mark.borrow(), Mark::Unarmed);
        tracking.arm(&key());
        let again = tracking.questions();
        tracking.answered(&again[0]);
        assert_eq!(*mark.borrow(), Mark::Armed(2));
    }

    /// DEPENDENCIES: an announcement may overtake the answer to the question that it follows.
    #[test]
    fn an_answer_that_was_overtaken_means_nothing() {
        let (mut tracking, mark, question) = asked();
        tracking.changed("k");
        tracking.answered(&question);
        assert_eq!(*mark.borrow(), Mark::Unarmed);
        let again = tracking.questions();
        assert_eq!(again.len(), 1, "it is asked for again by itself");
        tracking.answered(&again[0]);
        assert_eq!(*mark.borrow(), Mark::Armed(2));
    }

    /// An answer to a question of before is no answer to one of now.
    #[test]
    fn an_answer_from_before_means_nothing() {
        let (mut tracking, mark, old) = asked();
        drop(mark);
        tracking.release("k");
        let mark = tracking.hold(&key());
        tracking.arm(&key());
        let new = tracking.questions();
        tracking.answered(&old);
        assert_eq!(*mark.borrow(), Mark::Unarmed);
        tracking.answered(&new[0]);
        assert_eq!(*mark.borrow(), Mark::Armed(2));

        tracking.lost();
        tracking.answered(&new[0]);
        assert_eq!(*mark.borrow(), Mark::Unarmed);
    }

    #[test]
    fn a_flush_changes_every_key() {
        let (mut tracking, mark, question) = asked();
        let other: Arc<str> = "other".into();
        let _other = tracking.hold(&other);
        tracking.arm(&other);
        let asked = tracking.questions();
        tracking.answered(&question);
        tracking.all_changed();
        tracking.answered(&asked[0]);
        assert_eq!(*mark.borrow(), Mark::Unarmed);
        assert_eq!(
            tracking.questions().len(),
            1,
            "the one under way was overtaken"
        );
    }

    #[test]
    fn a_refused_key_is_asked_for_again_only_on_demand() {
        let (mut tracking, mark, question) = asked();
        tracking.failed(&question, Mark::Refused);
        assert_eq!(*mark.borrow(), Mark::Refused);
        assert_eq!(tracking.questions(), []);
        tracking.arm(&key());
        assert_eq!(*mark.borrow(), Mark::Unarmed);
        assert_eq!(tracking.questions().len(), 1);
    }

    #[test]
    fn who_leaves_takes_the_key_along_unless_others_stay() {
        let (mut tracking, _mark, question) = asked();
        let second = tracking.hold(&key());
        tracking.release("k");
        tracking.answered(&question);
        assert_eq!(*second.borrow(), Mark::Armed(1));
        tracking.release("k");
        assert!(tracking.keys.is_empty());
        tracking.changed("k");
    }
}
