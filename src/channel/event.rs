//! What is sent: a change of value with its id, or a notice of the gateway. Each form is encoded at most once.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::diff::{self, ArrayKeys};
use crate::metrics::{EventForm, EventKind, Label, StreamMetrics};
use crate::params::Params;
use crate::sse::{self, EntryId, EventName, Frame};
use crate::value::{DataTemplate, Value};

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The whole value each time.
    Value,
    /// RFC 6902.
    JsonPatch,
    /// RFC 7396.
    MergePatch,
}

/// One life of one channel: ids of another never select events of this one (EDGE L10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch(pub(super) u64);

impl Epoch {
    /// A new life.
    pub fn new() -> Self {
        Self(fastrand::u64(..))
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self::new()
    }
}

/// `EPOCH-SEQ`: 16 hex digits, a hyphen, decimal digits (EDGE E7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventId {
    /// The channel's life.
    pub epoch: Epoch,
    /// Counts changes of value, from 1.
    pub seq: u64,
}

impl EventId {
    /// Reads what [`fmt::Display`] wrote; anything else, of any length and any bytes, is `None` (EDGE L6, L7).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..bytes.len().min(38))?).ok()?;
        let (epoch, seq) = text.split_once('-')?;
        let id = Self {
            epoch: Epoch(u64::from_str_radix(epoch, 16).ok()?),
            seq: seq.parse().ok()?,
        };
        // Only the one way of writing an id is that id: no sign, no leading zero, nothing behind it.
        (id.to_string().as_bytes() == bytes).then_some(id)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// How a stream's events look in each form.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// SSE event name in value form, unless the event has one of its own.
    pub event: Option<EventName>,
    /// Text of `data` in value form.
    pub template: Option<DataTemplate>,
    /// How array elements are matched in JSON Patch.
    pub array_keys: ArrayKeys,
    /// Where what is made is counted.
    pub metrics: Arc<StreamMetrics>,
}

/// How the events of one channel look.
#[derive(Clone, Copy, Debug)]
pub struct Look<'c> {
    /// As those of its stream.
    pub shape: &'c Shape,
    /// For the template.
    pub params: &'c Params,
}

/// A change of value.
#[derive(Debug)]
pub struct Event {
    id: EventId,
    /// Boxed: most sources give none.
    entry: Option<Box<EntryId>>,
    value: Value,
    base: Option<Value>,
    name: Option<EventName>,
    at: Instant,
    frames: [OnceLock<Frame>; 4],
}

/// Where the frame of the whole value for patch forms is kept, behind those of the three forms.
const SNAPSHOT: usize = 3;

impl Event {
    /// `base` is the value of the event before, when a patch from it makes sense.
    pub fn new(
        id: EventId,
        value: Value,
        base: Option<Value>,
        name: Option<EventName>,
        at: Instant,
    ) -> Self {
        Self {
            id,
            entry: None,
            value,
            base,
            name,
            at,
            frames: [const { OnceLock::new() }; 4],
        }
    }

    /// An entry of the source, which clients know by the source's own id.
    pub fn of_entry(id: EventId, entry: EntryId, value: Value, at: Instant) -> Self {
        Self {
            entry: Some(Box::new(entry)),
            ..Self::new(id, value, None, None, at)
        }
    }

    /// An entry of the past, which was read from the source and stands in no log.
    pub fn of_past(entry: EntryId, value: Value, at: Instant) -> Self {
        let none = EventId {
            epoch: Epoch(0),
            seq: 0,
        };
        Self::of_entry(none, entry, value, at)
    }

    /// What it is known by here.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// What its source knows it by, if that gives ids.
    pub fn entry(&self) -> Option<EntryId> {
        self.entry.as_deref().copied()
    }

    /// What clients know it by.
    pub fn told_id(&self) -> String {
        match &self.entry {
            Some(id) => id.to_string(),
            None => self.id.to_string(),
        }
    }

    /// The value from then on.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value before, when a patch from it makes sense.
    pub fn base(&self) -> Option<&Value> {
        self.base.as_ref()
    }

    /// The name that it has of its own.
    pub fn name(&self) -> Option<&EventName> {
        self.name.as_ref()
    }

    /// When it happened.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// For a client that has the event before.
    pub fn frame(&self, form: Form, look: Look<'_>) -> &Frame {
        let patch = |kind: EventKind, patch: Option<String>| match patch {
            Some(patch) => {
                // Kinds of patches are counted under the names of their events.
                let frame = encode(Some(kind.as_str()), &self.told_id(), &patch);
                made(kind, form, &frame, look);
                frame
            }
            None => self.whole(form, look).clone(),
        };
        self.frames[form as usize].get_or_init(|| match (form, &self.base) {
            (Form::Value, _) => {
                let name = self.name.as_ref().or(look.shape.event.as_ref());
                let name = name.map(EventName::as_str);
                let frame = match &look.shape.template {
                    Some(template) => encode(
                        name,
                        &self.told_id(),
                        &template.render(&self.value, look.params),
                    ),
                    None => encode(name, &self.told_id(), self.value.encoded()),
                };
                made(EventKind::Value, form, &frame, look);
                frame
            }
            (Form::JsonPatch | Form::MergePatch, None) => self.whole(form, look).clone(),
            (Form::JsonPatch, Some(base)) => {
                patch(EventKind::Patch, json_patch(base, &self.value, look))
            }
            (Form::MergePatch, Some(base)) => {
                patch(EventKind::Merge, merge_patch(base, &self.value))
            }
        })
    }

    /// For a client that has nothing, or something else: the whole value.
    pub fn whole(&self, form: Form, look: Look<'_>) -> &Frame {
        match form {
            Form::Value => self.frame(form, look),
            Form::JsonPatch | Form::MergePatch => self.frames[SNAPSHOT].get_or_init(|| {
                let frame = encode(Some("snapshot"), &self.told_id(), self.value.encoded());
                made(EventKind::Snapshot, form, &frame, look);
                frame
            }),
        }
    }

    /// For a client that has `old`: one patch from it to this event's value, where that can be said and is no longer
    /// than `limit` bytes. Encoded anew each time.
    pub fn patch_from(
        &self,
        old: &Value,
        form: Form,
        look: Look<'_>,
        limit: usize,
    ) -> Option<Frame> {
        let (kind, patch) = match form {
            Form::Value => return None,
            Form::JsonPatch => (EventKind::Patch, json_patch(old, &self.value, look)?),
            Form::MergePatch => (EventKind::Merge, merge_patch(old, &self.value)?),
        };
        let frame = encode(Some(kind.as_str()), &self.told_id(), &patch);
        let frame = Some(frame).filter(|frame| frame.len() <= limit)?;
        made(kind, form, &frame, look);
        Some(frame)
    }
}

/// An event of the gateway itself, without an id, the same in every form. What always says the same is made once.
#[derive(Clone, Debug)]
pub struct Notice(Frame);

impl Notice {
    /// The last good value is not confirmed any more.
    pub fn stale(since: SystemTime, cause: &str) -> Self {
        let since = humantime::format_rfc3339_millis(since);
        Self::new(
            "stale",
            &format!(r#"{{"since":"{since}","cause":"{cause}"}}"#),
        )
    }

    /// Confirmed again.
    pub fn fresh() -> Self {
        static FRESH: LazyLock<Notice> = LazyLock::new(|| Notice::new("fresh", "{}"));
        FRESH.clone()
    }

    /// The resource does not exist any more.
    pub fn gone() -> Self {
        static GONE: LazyLock<Notice> = LazyLock::new(|| Notice::new("gone", "{}"));
        GONE.clone()
    }

    /// The client's id means nothing here: what follows is a beginning.
    pub fn reset() -> Self {
        static RESET: LazyLock<Notice> =
            LazyLock::new(|| Notice::new("reset", r#"{"reason":"unknown-id"}"#));
        RESET.clone()
    }

    /// Its bytes.
    pub fn frame(&self) -> &Frame {
        &self.0
    }

    fn new(name: &str, data: &str) -> Self {
        let mut out = Vec::new();
        sse::push_event(&mut out, Some(name), None, data);
        Self(Frame::new(&out))
    }
}

fn encode(name: Option<&str>, id: &str, data: &str) -> Frame {
    let mut out = Vec::with_capacity(data.len() + 64);
    sse::push_event(&mut out, name, Some(id), data);
    Frame::new(&out)
}

/// Counts an event that was made.
fn made(kind: EventKind, form: Form, frame: &Frame, look: Look<'_>) {
    let form = match form {
        Form::Value => EventForm::Value,
        Form::JsonPatch => EventForm::JsonPatch,
        Form::MergePatch => EventForm::MergePatch,
    };
    look.shape.metrics.event(kind, form, frame.len());
}

fn json_patch(old: &Value, new: &Value, look: Look<'_>) -> Option<String> {
    diff::json_patch(old, new, &look.shape.array_keys, new.encoded().len())
}

fn merge_patch(old: &Value, new: &Value) -> Option<String> {
    // "Not smaller" already means a snapshot, hence one byte less than the whole.
    diff::merge_patch(old, new, new.encoded().len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_is_one() {
        let id = EventId {
            epoch: Epoch(0xab),
            seq: 42,
        };
        assert_eq!(id.to_string(), "00000000000000ab-42");
        assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
        for other in [
            "",
            "-",
            "ab-42",
            "00000000000000ab-042",
            "00000000000000ab-+2",
            "00000000000000AB-42",
            "00000000000000ab-42 ",
            "00000000000000ab-99999999999999999999",
            "00000000000000ab--1",
        ] {
            assert_eq!(EventId::parse(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        /// EDGE L6, L7: any bytes are an unknown id, never a panic.
        #[test]
        fn any_bytes_are_no_id_or_print_as_themselves(bytes: Vec<u8>) {
            if let Some(id) = EventId::parse(&bytes) {
                prop_assert_eq!(id.to_string().into_bytes(), bytes);
            }
        }
    }
}
