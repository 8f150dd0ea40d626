//! Applies RFC 6902 and RFC 7396 to documents that keep their number text, and tells what each operation did. Pure.
//!
//! A stream may be hostile: an operation cannot make the document deeper than what the parser takes, nor can a patch
//! make it larger than [`MAX_WEIGHT`], however often it copies the document into itself.

use crate::value::Json;

/// What changed at one place. Paths are RFC 6901 pointers, values are JSON on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There was nothing.
    Added { path: String, value: String },
    /// There was something else.
    Replaced {
        path: String,
        old: String,
        new: String,
    },
    /// There is nothing any more.
    Removed { path: String, old: String },
}

/// Why a patch cannot be applied: one lowercase sentence, which may quote the patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unfit(String);

impl Unfit {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// Bytes of strings, and [`NODE`] for each value, of a document and of all that one patch brings.
const MAX_WEIGHT: usize = 64 << 20;
const NODE: usize = 32;
/// As deep as a parsed document can be.
const MAX_DEPTH: usize = 64;

/// Applies a JSON Patch in place. After an error the document is no state that ever was.
pub(super) fn apply(document: &mut Json, patch: &Json) -> Result<Vec<Change>, Unfit> {
    let Some(operations) = patch.as_array() else {
        return Err(Unfit::new("a patch is an array of operations"));
    };
    let mut patcher = Patcher {
        document,
        brought: 0,
        changes: Vec::new(),
    };
    for operation in operations {
        patcher.operation(operation)?;
    }
    let Patcher {
        document, changes, ..
    } = patcher;
    match weight(document, MAX_DEPTH) {
        Some(weight) if weight <= MAX_WEIGHT => Ok(changes),
        _ => Err(Unfit::new("the patch makes the document too large")),
    }
}

/// The document that a merge patch makes of `document`.
pub(super) fn merge(document: &Json, patch: &Json) -> Json {
    let Json::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = document.as_object().cloned().unwrap_or_default();
    for (name, change) in patch {
        match change {
            Json::Null => drop(merged.shift_remove(name)),
            change => {
                let member = merge(merged.get(name).unwrap_or(&Json::Null), change);
                merged.insert(name.clone(), member);
            }
        }
    }
    Json::Object(merged)
}

struct Patcher<'a> {
    document: &'a mut Json,
    /// Weight of all that the patch has put into the document.
    brought: usize,
    changes: Vec<Change>,
}

impl Patcher<'_> {
    fn operation(&mut self, operation: &Json) -> Result<(), Unfit> {
        let member = |name: &str| operation.as_object().and_then(|members| members.get(name));
        let text = |name: &str| {
            let text = member(name).and_then(Json::as_str);
            text.ok_or_else(|| Unfit::new(format!("an operation has no `{name}`")))
        };
        let value = || member("value").ok_or_else(|| Unfit::new("an operation has no `value`"));
        let path = text("path")?;
        match text("op")? {
            "add" => self.add(path, value()?.clone()),
            "remove" => self.remove(path).map(drop),
            "replace" => self.replace(path, value()?.clone()),
            "copy" => {
                let copied = self.get(text("from")?)?.clone();
                self.add(path, copied)
            }
            "move" => {
                let from = text("from")?;
                if path
                    .strip_prefix(from)
                    .is_some_and(|rest| rest.starts_with('/'))
                {
                    return Err(Unfit::new("a value cannot be moved into itself"));
                }
                let moved = self.remove(from)?;
                self.add(path, moved)
            }
            "test" => match self.get(path)? == value()? {
                true => Ok(()),
                false => Err(Unfit::new(format!("the test of `{path}` fails"))),
            },
            other => Err(Unfit::new(format!("`{other}` is no operation"))),
        }
    }

    fn add(&mut self, path: &str, value: Json) -> Result<(), Unfit> {
        self.admit(path, &value)?;
        let new = value.to_string();
        let (mut place, mut replaced) = (path.to_owned(), None);
        match split(path)? {
            None => replaced = Some(std::mem::replace(self.document, value)),
            Some((parent, last)) => match find_mut(self.document, parent)? {
                Json::Object(members) => replaced = members.insert(last.into(), value),
                Json::Array(elements) => {
                    let at = match last.as_str() {
                        "-" => elements.len(),
                        index => element(index, elements.len() + 1).ok_or_else(|| nowhere(path))?,
                    };
                    elements.insert(at, value);
                    place = format!("{parent}/{at}");
                }
                _ => return Err(nowhere(path)),
            },
        }
        self.changes.push(match replaced {
            Some(old) => Change::Replaced {
                path: place,
                old: old.to_string(),
                new,
            },
            None => Change::Added {
                path: place,
                value: new,
            },
        });
        Ok(())
    }

    fn replace(&mut self, path: &str, value: Json) -> Result<(), Unfit> {
        self.admit(path, &value)?;
        let new = value.to_string();
        let old = std::mem::replace(find_mut(self.document, path)?, value);
        self.changes.push(Change::Replaced {
            path: path.to_owned(),
            old: old.to_string(),
            new,
        });
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<Json, Unfit> {
        let (parent, last) =
            split(path)?.ok_or_else(|| Unfit::new("the whole document cannot be removed"))?;
        let removed = match find_mut(self.document, parent)? {
            Json::Object(members) => members.shift_remove(&*last),
            Json::Array(elements) => element(&last, elements.len()).map(|at| elements.remove(at)),
            _ => None,
        };
        let removed = removed.ok_or_else(|| nowhere(path))?;
        self.changes.push(Change::Removed {
            path: path.to_owned(),
            old: removed.to_string(),
        });
        Ok(removed)
    }

    fn get(&mut self, path: &str) -> Result<&Json, Unfit> {
        find_mut(self.document, path).map(|found| &*found)
    }

    /// Whether the document may take `value` at `path`.
    fn admit(&mut self, path: &str, value: &Json) -> Result<(), Unfit> {
        let depth = path.matches('/').count();
        let weight = MAX_DEPTH
            .checked_sub(depth)
            .and_then(|levels| weight(value, levels));
        self.brought = self
            .brought
            .saturating_add(weight.ok_or_else(|| Unfit::new("the document becomes too deep"))?);
        match self.brought <= MAX_WEIGHT {
            true => Ok(()),
            false => Err(Unfit::new("the patch makes the document too large")),
        }
    }
}

/// The value at a pointer (RFC 6901 §4).
fn find_mut<'a>(document: &'a mut Json, pointer: &str) -> Result<&'a mut Json, Unfit> {
    let mut place = document;
    let Some((parent, last)) = split(pointer)? else {
        return Ok(place);
    };
    let steps = parent.split('/').skip(1).map(unescape).chain([Ok(last)]);
    for step in steps {
        let step = step?;
        let next = match place {
            Json::Object(members) => members.get_mut(&*step),
            Json::Array(elements) => {
                element(&step, elements.len()).and_then(|at| elements.get_mut(at))
            }
            _ => None,
        };
        place = next.ok_or_else(|| nowhere(pointer))?;
    }
    Ok(place)
}

/// The pointer to the parent, and the last step; `None` for the whole document.
fn split(pointer: &str) -> Result<Option<(&str, String)>, Unfit> {
    match pointer.rsplit_once('/') {
        _ if pointer.is_empty() => Ok(None),
        Some((parent, last)) if pointer.starts_with('/') => Ok(Some((parent, unescape(last)?))),
        _ => Err(Unfit::new(format!("`{pointer}` is no pointer"))),
    }
}

/// RFC 6901 §3: `~1` is a slash, `~0` is a tilde, and nothing else follows a tilde.
fn unescape(step: &str) -> Result<String, Unfit> {
    let stray = step
        .match_indices('~')
        .any(|(at, _)| !step[at + 1..].starts_with(['0', '1']));
    match stray {
        true => Err(Unfit::new("a pointer has a stray `~`")),
        false => Ok(step.replace("~1", "/").replace("~0", "~")),
    }
}

/// An array index below `end`: digits without a leading zero (RFC 6901 §4).
fn element(step: &str, end: usize) -> Option<usize> {
    let digits = step.bytes().all(|byte| byte.is_ascii_digit());
    let index: usize = step.parse().ok()?;
    (digits && (step == "0" || !step.starts_with('0')) && index < end).then_some(index)
}

/// `None`: more than `levels` containers within each other.
fn weight(json: &Json, levels: usize) -> Option<usize> {
    let mut sum = NODE;
    match json {
        Json::Null | Json::Bool(_) => {}
        Json::Number(number) => sum += number.as_str().len(),
        Json::String(text) => sum += text.len(),
        Json::Array(elements) => {
            let levels = levels.checked_sub(1)?;
            for element in elements {
                sum += weight(element, levels)?;
            }
        }
        Json::Object(members) => {
            let levels = levels.checked_sub(1)?;
            for (name, member) in members {
                sum += name.len() + weight(member, levels)?;
            }
        }
    }
    Some(sum)
}

fn nowhere(path: &str) -> Unfit {
    Unfit::new(format!("there is nothing at `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use proptest::prelude::*;

    fn json(text: &str) -> Json {
        Value::parse_json(text.as_bytes())
            .expect("valid JSON")
            .as_json()
            .expect("JSON")
            .clone()
    }

    fn applied(document: &str, patch: &str) -> Result<(String, Vec<Change>), Unfit> {
        let mut document = json(document);
        let changes = apply(&mut document, &json(patch))?;
        Ok((document.to_string(), changes))
    }

    fn replaced(path: &str, old: &str, new: &str) -> Change {
        Change::Replaced {
            path: path.into(),
            old: old.into(),
            new: new.into(),
        }
    }

    fn added(path: &str, value: &str) -> Change {
        Change::Added {
            path: path.into(),
            value: value.into(),
        }
    }

    fn removed(path: &str, old: &str) -> Change {
        Change::Removed {
            path: path.into(),
            old: old.into(),
        }
    }

    /// EDGE U11: a document that is only followed keeps its number text.
    #[test]
    fn numbers_keep_their_text() {
        let patch = r#"[{"op":"replace","path":"/n","value":1.20},{"op":"add","path":"/b","value":18446744073709551617}]"#;
        let (document, changes) = applied(r#"{"z":1.0,"n":1.10}"#, patch).expect("fits");
        assert_eq!(document, r#"{"z":1.0,"n":1.20,"b":18446744073709551617}"#);
        assert_eq!(
            changes,
            [
                replaced("/n", "1.10", "1.20"),
                added("/b", "18446744073709551617")
            ]
        );
    }

    #[test]
    fn each_operation_tells_what_it_did() {
        let cases = [
            (
                r#"{"a":1}"#,
                r#"[{"op":"add","path":"/a","value":2}]"#,
                r#"{"a":2}"#,
                vec![replaced("/a", "1", "2")],
            ),
            (
                "[1,2]",
                r#"[{"op":"add","path":"/-","value":3}]"#,
                "[1,2,3]",
                vec![added("/2", "3")],
            ),
            (
                "[1,2]",
                r#"[{"op":"add","path":"/0","value":0}]"#,
                "[0,1,2]",
                vec![added("/0", "0")],
            ),
            (
                "[1,2]",
                r#"[{"op":"remove","path":"/0"}]"#,
                "[2]",
                vec![removed("/0", "1")],
            ),
            (
                "[1,2]",
                r#"[{"op":"move","from":"/0","path":"/1"}]"#,
                "[2,1]",
                vec![removed("/0", "1"), added("/1", "1")],
            ),
            (
                r#"{"a":{}}"#,
                r#"[{"op":"copy","from":"","path":"/a/b"}]"#,
                r#"{"a":{"b":{"a":{}}}}"#,
                vec![added("/a/b", r#"{"a":{}}"#)],
            ),
            (
                r#"{"":1,"a/b":2,"~":3}"#,
                r#"[{"op":"remove","path":"/"},{"op":"remove","path":"/a~1b"},{"op":"test","path":"/~0","value":3.0}]"#,
                r#"{"~":3}"#,
                vec![removed("/", "1"), removed("/a~1b", "2")],
            ),
            (
                "1",
                r#"[{"op":"replace","path":"","value":2}]"#,
                "2",
                vec![replaced("", "1", "2")],
            ),
        ];
        for (document, patch, after, changes) in cases {
            assert_eq!(
                applied(document, patch),
                Ok((after.into(), changes)),
                "{patch}"
            );
        }
    }

    #[test]
    fn what_cannot_be_applied_is_told() {
        for (document, patch) in [
            ("{}", "{}"),
            ("{}", "[1]"),
            ("{}", r#"[{"op":"add","path":"/a"}]"#),
            ("{}", r#"[{"op":"replace","path":"/a","value":1}]"#),
            ("{}", r#"[{"op":"remove","path":""}]"#),
            ("{}", r#"[{"op":"add","path":"a","value":1}]"#),
            ("{}", r#"[{"op":"add","path":"/a/b","value":1}]"#),
            ("{}", r#"[{"op":"add","path":"/~2","value":1}]"#),
            ("{}", r#"[{"op":"jump","path":"/a","value":1}]"#),
            ("[1]", r#"[{"op":"add","path":"/2","value":1}]"#),
            ("[1]", r#"[{"op":"remove","path":"/1"}]"#),
            ("[1]", r#"[{"op":"remove","path":"/-"}]"#),
            ("[1]", r#"[{"op":"remove","path":"/00"}]"#),
            ("[1]", r#"[{"op":"remove","path":"/+0"}]"#),
            ("1", r#"[{"op":"add","path":"/0","value":1}]"#),
            (
                r#"{"a":{}}"#,
                r#"[{"op":"move","from":"/a","path":"/a/b"}]"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#),
        ] {
            assert!(applied(document, patch).is_err(), "{patch} on {document}");
        }
    }

    /// Forty copies of a document into itself would be a terabyte.
    #[test]
    fn a_patch_cannot_blow_the_document_up() {
        let doubling = format!(
            "[{}]",
            vec![r#"{"op":"copy","from":"","path":"/-"}"#; 30].join(",")
        );
        assert!(applied("[[1]]", &doubling).is_err());
        let wide: Vec<String> = (0..40)
            .map(|at| format!(r#"{{"op":"copy","from":"/a","path":"/a/x{at}"}}"#))
            .collect();
        assert!(applied(r#"{"a":{}}"#, &format!("[{}]", wide.join(","))).is_err());
        let long = format!(
            r#"[{{"op":"add","path":"/a","value":"{}"}},{}]"#,
            "x".repeat(1 << 20),
            (0..100)
                .map(|at| format!(r#"{{"op":"copy","from":"/a","path":"/b{at}"}}"#))
                .collect::<Vec<_>>()
                .join(",")
        );
        assert!(applied("{}", &long).is_err());
    }

    /// However deep a document is in between, walks over it are recursive.
    #[test]
    fn a_patch_cannot_dig_a_document_deep() {
        let dig = r#"{"op":"add","path":"/b","value":[]},{"op":"move","from":"/a","path":"/b/0"},{"op":"move","from":"/b","path":"/a"}"#;
        let dug = |times: usize| {
            format!(
                "[{},{}]",
                vec![dig; times].join(","),
                r#"{"op":"remove","path":"/a"}"#
            )
        };
        assert!(applied(r#"{"a":1}"#, &dug(60)).is_ok());
        let error = Unfit::new("the document becomes too deep");
        assert_eq!(applied(r#"{"a":1}"#, &dug(100)), Err(error));
    }

    #[test]
    fn the_examples_of_rfc_7396() {
        for (document, patch, after) in [
            (
                r#"{"a":"b","c":{"d":"e","f":"g"}}"#,
                r#"{"a":"z","c":{"f":null}}"#,
                r#"{"a":"z","c":{"d":"e"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a":"foo"}"#, "null", "null"),
        ] {
            assert_eq!(merge(&json(document), &json(patch)).to_string(), after);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i8>().prop_map(Into::into),
            "[ab~/]{0,2}".prop_map(Into::into),
            Just(serde_json::Value::Null)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[ab01~/]{0,2}", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_operation() -> impl Strategy<Value = serde_json::Value> {
        let op = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
        let pointer = "(/([ab01-]|~0|~1){0,2}){0,2}";
        (op, pointer, pointer, any_json()).prop_map(|(op, path, from, value)| {
            serde_json::json!({"op": op, "path": path, "from": from, "value": value})
        })
    }

    proptest! {
        /// RFC 6902, with another implementation as the judge.
        #[test]
        fn patches_do_what_others_say(document in any_json(), patch in prop::collection::vec(any_operation(), 0..4)) {
            let patch = serde_json::Value::from(patch);
            let mut theirs = document.clone();
            let parsed: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a patch");
            // Not `patch`, which panics when it cannot roll back.
            let their_result = json_patch::patch_unsafe(&mut theirs, &parsed);
            let removes_all = parsed.0.iter().any(|operation| match operation {
                json_patch::PatchOperation::Remove(operation) => operation.path.is_root(),
                json_patch::PatchOperation::Move(operation) => operation.from.is_root(),
                _ => false,
            });
            let ours = applied(&document.to_string(), &patch.to_string());
            // Removing the whole document is where implementations differ.
            if !removes_all {
                match (ours, their_result) {
                    (Ok((ours, _)), Ok(())) => prop_assert_eq!(json(&ours), json(&theirs.to_string())),
                    (Err(_), Err(_)) => {}
                    (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours, theirs),
                }
            }
        }

        /// RFC 7396, with another implementation as the judge.
        #[test]
        fn merges_do_what_others_say(document in any_json(), patch in any_json()) {
            let mut theirs = document.clone();
            json_patch::merge(&mut theirs, &patch);
            prop_assert_eq!(merge(&json(&document.to_string()), &json(&patch.to_string())), json(&theirs.to_string()));
        }
    }
}
