//! What a reader is owed, and how it becomes bytes: decided under the channel's lock, encoded without it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::event::{Event, EventId, Form, Look, Notice};
use super::{Cursor, Delivery, DeliveryCount};
use crate::metrics::Resumption;
use crate::sse::Frame;

/// So many one-patch ways to one value are worked out; who comes from elsewhere is replayed.
const MAX_SHORTCUTS: usize = 16;

/// One thing to tell.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// To a reader that has the event before.
    Next(Arc<Event>),
    /// To a reader that has nothing, or something else.
    Whole(Arc<Event>),
    /// To anybody.
    Notice(Notice),
}

/// What a reader is owed, in order.
#[derive(Debug)]
pub(super) struct Owed {
    pieces: Vec<Piece>,
    then: Cursor,
    /// Instead, when the pieces are more than the reader may be behind.
    otherwise: Option<Vec<Piece>>,
    /// The changes among the pieces, oldest first, when one patch may stand for all of them.
    missed: Vec<Arc<Event>>,
    /// For a reader that has named an id.
    resumed: Option<Resumption>,
    conflated: bool,
}

impl Owed {
    /// These, after which the reader stands at `then`.
    pub(super) fn new(pieces: Vec<Piece>, then: Cursor) -> Self {
        Self {
            pieces,
            then,
            otherwise: None,
            missed: Vec::new(),
            resumed: None,
            conflated: false,
        }
    }

    /// Where the reader stands then.
    pub(super) fn then(&self) -> &Cursor {
        &self.then
    }

    /// For a reader that has named an id.
    pub(super) fn resumed(self, resumed: Resumption) -> Self {
        Self {
            resumed: Some(resumed),
            ..self
        }
    }

    /// For a reader that has fallen off the log.
    pub(super) fn conflated(self) -> Self {
        Self {
            conflated: true,
            ..self
        }
    }

    /// Rather `pieces` when these are more bytes than the reader may be behind.
    pub(super) fn or_conflated(self, pieces: Vec<Piece>) -> Self {
        Self {
            otherwise: Some(pieces),
            ..self
        }
    }

    /// Rather one patch over all of `missed` when that is smaller.
    pub(super) fn or_shortcut(self, missed: Vec<Arc<Event>>) -> Self {
        Self { missed, ..self }
    }

    /// The bytes, in `form`.
    pub(super) fn encode(
        self,
        form: Form,
        queue: usize,
        look: Look<'_>,
        known: &Mutex<Shortcuts>,
    ) -> Delivery {
        let mut frames = encode(&self.pieces, form, look);
        let mut patch_savings = patch_savings(&self.pieces, &frames, form);
        if let Some(shortcut) = self.shortcut(&frames, form, look, known) {
            let whole = self.missed.last().map_or(0, |newest| length(newest));
            patch_savings = whole.saturating_sub(shortcut.len());
            frames.splice(..self.missed.len(), [shortcut]);
        }
        let bytes: usize = frames.iter().map(Frame::len).sum();
        let mut conflated = self.conflated;
        if frames.len() > 1
            && bytes > queue
            && let Some(pieces) = &self.otherwise
        {
            frames = encode(pieces, form, look);
            patch_savings = 0;
            conflated = self.resumed.is_none();
        }
        let happened = self.pieces.iter().rev().find_map(|piece| match piece {
            Piece::Next(event) if self.resumed.is_none() => Some(event.at()),
            _ => None,
        });
        Delivery {
            events: frames.len() as u32,
            frame: (!frames.is_empty()).then(|| Frame::join(&frames)),
            cursor: self.then,
            count: DeliveryCount {
                patch_savings: patch_savings as u64,
                conflated,
                resumed: self.resumed,
                happened,
            },
        }
    }

    /// One patch from what the reader has to the newest value, if it is smaller than the frames of the changes between
    /// and than the value itself.
    fn shortcut(
        &self,
        frames: &[Frame],
        form: Form,
        look: Look<'_>,
        known: &Mutex<Shortcuts>,
    ) -> Option<Frame> {
        let (first, newest) = (self.missed.first()?, self.missed.last()?);
        let unbroken = || self.missed.iter().all(|event| event.base().is_some());
        if form == Form::Value || self.missed.len() < 2 || !unbroken() {
            return None;
        }
        let from = (first.id(), form);
        match known.lock().get(newest.id(), from) {
            Known::Worked(frame) => return frame,
            Known::Enough => return None,
            Known::NotYet => {}
        }
        let bytes = frames
            .iter()
            .take(self.missed.len())
            .map(Frame::len)
            .sum::<usize>();
        let limit = bytes.min(newest.whole(form, look).len());
        let frame = newest.patch_from(first.base()?, form, look, limit);
        known.lock().put(newest.id(), from, frame.clone());
        frame
    }
}

fn encode(pieces: &[Piece], form: Form, look: Look<'_>) -> Vec<Frame> {
    let frame = |piece: &Piece| match piece {
        Piece::Next(event) => event.frame(form, look).clone(),
        Piece::Whole(event) => event.whole(form, look).clone(),
        Piece::Notice(notice) => notice.frame().clone(),
    };
    pieces.iter().map(frame).collect()
}

/// By how much the patches among the frames are shorter than the values they stand for.
fn patch_savings(pieces: &[Piece], frames: &[Frame], form: Form) -> usize {
    let saved = |(piece, frame): (&Piece, &Frame)| match (piece, form) {
        (_, Form::Value) | (Piece::Whole(_) | Piece::Notice(_), _) => 0,
        (Piece::Next(event), _) => length(event).saturating_sub(frame.len()),
    };
    pieces.iter().zip(frames).map(saved).sum()
}

/// Of the whole value.
fn length(event: &Event) -> usize {
    event.value().encoded().len()
}

/// Patches over several events to one newest value, worked out once each.
#[derive(Debug, Default)]
pub(super) struct Shortcuts {
    newest: Option<EventId>,
    known: Vec<((EventId, Form), Option<Frame>)>,
}

impl Shortcuts {
    fn get(&mut self, newest: EventId, from: (EventId, Form)) -> Known {
        if self.newest != Some(newest) {
            self.newest = Some(newest);
            self.known.clear();
        }
        match self.known.iter().find(|(known, _)| *known == from) {
            Some((_, frame)) => Known::Worked(frame.clone()),
            None if self.known.len() < MAX_SHORTCUTS => Known::NotYet,
            None => Known::Enough,
        }
    }

    fn put(&mut self, newest: EventId, from: (EventId, Form), frame: Option<Frame>) {
        if self.newest == Some(newest) {
            self.known.push((from, frame));
        }
    }
}

/// What is known of one way.
enum Known {
    /// It was worked out; `None`: it is no shortcut.
    Worked(Option<Frame>),
    /// It may be worked out.
    NotYet,
    /// No more are worked out for this value.
    Enough,
}
