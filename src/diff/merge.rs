//! Writing a merge patch (RFC 7396).

use std::fmt::{self, Write};

use indexmap::IndexMap;

use super::text::Bounded;
use crate::value::{self, Json};

type Members = IndexMap<Box<str>, Json>;

/// The patch, or `None` past `limit` bytes or where it cannot be said.
pub(super) fn patch(old: &Members, new: &Members, limit: usize) -> Option<String> {
    let mut out = Bounded::new(limit);
    object(&mut out, old, new).ok()?;
    Some(out.into_text())
}

/// Writes what changed as an object; tells whether anything did. An error: too long, or not to be said.
fn object(out: &mut Bounded, old: &Members, new: &Members) -> Result<bool, fmt::Error> {
    let mut changed = false;
    out.write_char('{')?;
    for (index, (name, before)) in old.iter().enumerate() {
        let start = out.len();
        let differs = match (before, value::counterpart(new, index, name)) {
            (_, None) => {
                begin_member(out, name, changed)?;
                out.write_str("null")?;
                true
            }
            (Json::Object(before), Some(Json::Object(after))) => {
                begin_member(out, name, changed)?;
                object(out, before, after)?
            }
            (before, Some(after)) if before == after => false,
            (_, Some(after)) => {
                begin_member(out, name, changed)?;
                whole(out, after)?;
                true
            }
        };
        if !differs {
            out.cut_back(start);
        }
        changed |= differs;
    }
    for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        begin_member(out, name, changed)?;
        whole(out, after)?;
        changed = true;
    }
    out.write_char('}')?;
    Ok(changed)
}

fn begin_member(out: &mut Bounded, name: &str, is_further: bool) -> fmt::Result {
    if is_further {
        out.write_char(',')?;
    }
    value::write_string(out, name)?;
    out.write_char(':')
}

/// Writes a value that came, or that takes another's place.
fn whole(out: &mut Bounded, json: &Json) -> fmt::Result {
    if is_sayable(json) {
        value::write(out, json)
    } else {
        Err(fmt::Error)
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
