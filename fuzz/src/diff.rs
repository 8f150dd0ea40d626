//! A patch turns the old value into the new one, as two other implementations apply it, and is no longer than asked for
//! (EDGE J1, J4, J5).
//!
//! Input: two or three lines of JSON (old, new, and an object of JSONPaths to the members that are keys of arrays); any
//! other bytes are dice that build an old document and edit it.

use wellspring::diff::{ArrayKeys, json_patch, merge_patch};
use wellspring::value::{Selector, Value};

use super::dice::Dice;

pub fn holds(bytes: &[u8]) {
    let (old, new, keys) = lines(bytes).unwrap_or_else(|| thrown(bytes));
    law(&old, &new, &keys);
    law(&new, &old, &keys);
    law(&old, &old.clone(), &keys);
}

fn law(old: &Value, new: &Value, keys: &ArrayKeys) {
    let patch = json_patch(old, new, keys, usize::MAX);
    if let Some(patch) = &patch {
        assert_eq!(
            json_patch(old, new, keys, patch.len()).as_ref(),
            Some(patch),
            "it fits"
        );
        let shorter = json_patch(old, new, keys, patch.len().saturating_sub(1));
        assert!(
            shorter.is_none_or(|shorter| shorter.len() < patch.len()),
            "{patch}"
        );
        assert_eq!(patch == "[]", old == new, "{patch}");
        assert!(!patch.contains(['\n', '\r']), "{patch}");
    }
    let merge = merge_patch(old, new, usize::MAX);
    if let Some(merge) = &merge {
        assert_eq!(
            merge_patch(old, new, merge.len()).as_ref(),
            Some(merge),
            "it fits"
        );
        assert_eq!(merge_patch(old, new, merge.len() - 1), None, "{merge}");
    }
    let (Some(before), Some(_)) = (foreign(old), foreign(new)) else {
        return;
    };
    assert_eq!(
        patch.is_some(),
        old.as_json().is_some() && new.as_json().is_some()
    );
    if let Some(patch) = patch {
        let operations: json_patch::Patch = serde_json::from_str(&patch).expect("RFC 6902");
        let mut document = before.clone();
        json_patch::patch(&mut document, &operations).expect("it applies");
        assert_eq!(&value(&document), new, "{patch}");
    }
    if let Some(merge) = merge {
        let mut document = before;
        json_patch::merge(&mut document, &serde_json::from_str(&merge).expect("JSON"));
        assert_eq!(&value(&document), new, "{merge}");
    }
}

/// As the other implementation has it, whose numbers are binary floats; `None` where that says something else.
fn foreign(document: &Value) -> Option<serde_json::Value> {
    let foreign = serde_json::from_str(document.encoded()).ok()?;
    (&value(&foreign) == document).then_some(foreign)
}

fn value(foreign: &serde_json::Value) -> Value {
    Value::parse_json(foreign.to_string().as_bytes()).expect("what another wrote is JSON")
}

fn lines(bytes: &[u8]) -> Option<(Value, Value, ArrayKeys)> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let (old, new) = (lines.next()?, lines.next()?);
    let keys = match lines.next().filter(|line| !line.is_empty()) {
        Some(line) => keys(&Value::parse_json(line).ok()?)?,
        None => ArrayKeys::default(),
    };
    Some((
        Value::parse_json(old).ok()?,
        Value::parse_json(new).ok()?,
        keys,
    ))
}

fn keys(members: &Value) -> Option<ArrayKeys> {
    let pairs = members
        .as_json()?
        .as_object()?
        .iter()
        .map(|(path, member)| Some((Selector::parse(path).ok()?, member.as_str()?.to_owned())));
    Some(ArrayKeys::new(pairs.collect::<Option<_>>()?))
}

fn thrown(bytes: &[u8]) -> (Value, Value, ArrayKeys) {
    // More dice make the search slower, not better.
    let mut dice = Dice(&bytes[..bytes.len().min(150)]);
    let keys = match dice.throw() % 3 {
        0 => Vec::new(),
        1 => vec![("$", "id")],
        _ => vec![("$..*", "id"), ("$", "a")],
    };
    let keys = keys
        .into_iter()
        .map(|(path, member)| (Selector::parse(path).expect("a query"), member.to_owned()))
        .collect();
    let old = dice.json(4);
    let new = dice.edited(&old, 4);
    (
        Value::from_json(old),
        Value::from_json(new),
        ArrayKeys::new(keys),
    )
}
