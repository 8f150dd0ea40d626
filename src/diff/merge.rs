//! Writing a merge patch (RFC 7396).

use std::fmt::{self, Write};

use indexmap::IndexMap;

use super::text::Bounded;
use crate::value::{self, Json};

type Members = IndexMap<Box<str>, Json>;

/// The patch, or `None` past `limit` bytes or where it cannot be said.
pub(super) fn patch(old: &Members, new: &Members, limit: usize) -> Option<String> {
    let mut writer = Writer {
        out: Bounded::new(limit),
        objects: Vec::new(),
    };
    writer.object(None, old, new).ok()?;
    match writer.out.len() {
        0 => (limit >= 2).then(|| "{}".to_owned()),
        _ => Some(writer.out.into_text()),
    }
}

/// Writes an object when something in it has changed, and not before: so the limit is that of what is said, and nothing else.
struct Writer<'a> {
    out: Bounded,
    /// From the outermost to the one under way.
    objects: Vec<Object<'a>>,
}

struct Object<'a> {
    /// As a member of the one around it; `None`: the outermost.
    name: Option<&'a str>,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unwritten,
    Begun,
    HasMembers,
}

impl<'a> Writer<'a> {
    /// An error: too long, or not to be said.
    fn object(&mut self, name: Option<&'a str>, old: &'a Members, new: &'a Members) -> fmt::Result {
        self.objects.push(Object {
            name,
            state: State::Unwritten,
        });
        for (index, (name, before)) in old.iter().enumerate() {
            match (before, value::counterpart(new, index, name)) {
                (_, None) => {
                    self.begin_member(name)?;
                    self.out.write_str("null")?;
                }
                (Json::Object(before), Some(Json::Object(after))) => {
                    self.object(Some(name), before, after)?;
                }
                (before, Some(after)) if before == after => {}
                (_, Some(after)) => self.member(name, after)?,
            }
        }
        for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            self.member(name, after)?;
        }
        match self.objects.pop() {
            Some(object) if object.state != State::Unwritten => self.out.write_char('}'),
            _ => Ok(()),
        }
    }

    /// Writes a value that came, or that takes another's place.
    fn member(&mut self, name: &str, json: &Json) -> fmt::Result {
        if !is_sayable(json) {
            return Err(fmt::Error);
        }
        self.begin_member(name)?;
        value::write(&mut self.out, json)
    }

    /// Of the object under way, which begins with it if it has not begun.
    fn begin_member(&mut self, name: &str) -> fmt::Result {
        let first = self
            .objects
            .iter()
            .position(|object| object.state == State::Unwritten)
            .unwrap_or(self.objects.len());
        for at in first..self.objects.len() {
            if let Some(name) = self.objects[at].name {
                self.name(at - 1, name)?;
            }
            self.out.write_char('{')?;
            self.objects[at].state = State::Begun;
        }
        self.name(self.objects.len() - 1, name)
    }

    /// Writes the name of a member of the object with this index.
    fn name(&mut self, object: usize, name: &str) -> fmt::Result {
        if self.objects[object].state == State::HasMembers {
            self.out.write_char(',')?;
        }
        self.objects[object].state = State::HasMembers;
        value::write_string(&mut self.out, name)?;
        self.out.write_char(':')
    }
}

/// Whether it survives being merged: a null deletes, as the value of a member at any depth of objects (EDGE J4). Inside
/// arrays nothing is merged.
fn is_sayable(json: &Json) -> bool {
    match json {
        Json::Null => false,
        Json::Object(members) => members.values().all(is_sayable),
        Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => true,
    }
}
