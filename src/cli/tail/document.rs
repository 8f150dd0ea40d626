//! The value that a stream's events add up to, and what each event changed of it. Pure.

use super::patch::{self, Change, Unfit};
use crate::diff::{self, ArrayKeys};
use crate::sse::parser::Event;
use crate::value::{Json, Value};

/// The value so far.
#[derive(Debug, Default)]
pub(super) struct Document(Option<Value>);

/// What an event was to the document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The first value that is known, or one that has too little in common with the one before.
    Whole(Value),
    /// In the order in which they are to be applied; none when the value is what it was.
    Changes(Vec<Change>),
    /// It says something about the stream or the source, and nothing about the value.
    Notice,
}

impl Document {
    /// Takes the next event. After an error nothing is known until the next whole value.
    ///
    /// `snapshot`, `patch` and `merge` are those of CONTRACT.md §3, as are the notices; any other event is a value.
    pub(super) fn take(&mut self, event: &Event) -> Result<Step, Unfit> {
        let before = self.0.take();
        let (step, after) = match event.name.as_str() {
            "stale" | "fresh" | "closing" | "reset" => (Step::Notice, before),
            // What comes back is a new thing.
            "gone" => (Step::Notice, None),
            "patch" => {
                let (changes, after) = patched(before, &event.data)?;
                (Step::Changes(changes), Some(after))
            }
            "merge" => {
                let before =
                    before.ok_or_else(|| Unfit::new("there is no value that it could change"))?;
                let merged = patch::merge(json(&before)?, json(&parse(&event.data)?)?);
                let after = Value::from_json(merged);
                (between(&before, &after), Some(after))
            }
            _ => {
                let after = Value::parse_auto(event.data.as_bytes())
                    .map_err(|error| Unfit::new(error.to_string()))?;
                let step = match &before {
                    Some(before) => between(before, &after),
                    None => Step::Whole(after.clone()),
                };
                (step, Some(after))
            }
        };
        self.0 = after;
        Ok(step)
    }
}

fn patched(before: Option<Value>, data: &str) -> Result<(Vec<Change>, Value), Unfit> {
    let before = before.ok_or_else(|| Unfit::new("there is no value that it could change"))?;
    let mut after = json(&before)?.clone();
    let changes = patch::apply(&mut after, json(&parse(data)?)?)?;
    Ok((changes, Value::from_json(after)))
}

/// How one value became the other.
fn between(before: &Value, after: &Value) -> Step {
    if before == after {
        return Step::Changes(Vec::new());
    }
    let (Some(old), Some(_)) = (before.as_json(), after.as_json()) else {
        let (old, new) = (before.encoded().to_owned(), after.encoded().to_owned());
        let path = String::new();
        return Step::Changes(vec![Change::Replaced { path, old, new }]);
    };
    let changes =
        diff::json_patch(before, after, &ArrayKeys::default(), usize::MAX).and_then(|patch| {
            let mut document = old.clone();
            patch::apply(&mut document, json(&parse(&patch).ok()?).ok()?).ok()
        });
    changes.map_or_else(|| Step::Whole(after.clone()), Step::Changes)
}

fn parse(data: &str) -> Result<Value, Unfit> {
    Value::parse_json(data.as_bytes()).map_err(|error| Unfit::new(error.to_string()))
}

fn json(value: &Value) -> Result<&Json, Unfit> {
    value
        .as_json()
        .ok_or_else(|| Unfit::new("the value is text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
            id: String::new(),
        }
    }

    fn replaced(path: &str, old: &str, new: &str) -> Change {
        Change::Replaced {
            path: path.into(),
            old: old.into(),
            new: new.into(),
        }
    }

    fn whole(text: &str) -> Step {
        Step::Whole(Value::parse_auto(text.as_bytes()).expect("a value"))
    }

    fn run(events: &[(&str, &str)]) -> Vec<Result<Step, Unfit>> {
        let mut document = Document::default();
        events
            .iter()
            .map(|(name, data)| document.take(&event(name, data)))
            .collect()
    }

    #[test]
    fn patches_build_upon_a_snapshot() {
        let steps = run(&[
            ("snapshot", r#"{"a":1,"b":[1]}"#),
            ("patch", r#"[{"op":"replace","path":"/a","value":2}]"#),
            ("merge", r#"{"a":3}"#),
            ("snapshot", r#"{"b":[1],"a":4}"#),
            ("snapshot", r#"{"a":4.0,"b":[1]}"#),
        ]);
        assert_eq!(
            steps,
            [
                Ok(whole(r#"{"a":1,"b":[1]}"#)),
                Ok(Step::Changes(vec![replaced("/a", "1", "2")])),
                Ok(Step::Changes(vec![replaced("/a", "2", "3")])),
                Ok(Step::Changes(vec![replaced("/a", "3", "4")])),
                Ok(Step::Changes(vec![])),
            ]
        );
    }

    #[test]
    fn values_are_compared_with_the_one_before_whatever_their_name() {
        let steps = run(&[
            ("message", "1"),
            ("price", "2"),
            ("message", "two"),
            ("message", "two"),
        ]);
        assert_eq!(
            steps,
            [
                Ok(whole("1")),
                Ok(Step::Changes(vec![replaced("", "1", "2")])),
                Ok(Step::Changes(vec![replaced("", "2", "two")])),
                Ok(Step::Changes(vec![])),
            ]
        );
    }

    #[test]
    fn notices_leave_the_value_but_gone_ends_it() {
        let steps = run(&[
            ("message", "1"),
            ("stale", "{}"),
            ("reset", "{}"),
            ("message", "1"),
            ("gone", "{}"),
            ("message", "1"),
        ]);
        let notice = || Ok(Step::Notice);
        assert_eq!(
            steps,
            [
                Ok(whole("1")),
                notice(),
                notice(),
                Ok(Step::Changes(vec![])),
                notice(),
                Ok(whole("1"))
            ]
        );
    }

    #[test]
    fn after_a_patch_that_does_not_fit_nothing_is_known() {
        let patch = r#"[{"op":"remove","path":"/x"}]"#;
        let steps = run(&[
            ("patch", "[]"),
            ("snapshot", "{}"),
            ("patch", patch),
            ("merge", "{}"),
            ("snapshot", "{}"),
            ("merge", "{"),
        ]);
        let ok: Vec<bool> = steps.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [false, true, false, false, true, false]);
        assert_eq!(steps[4], Ok(whole("{}")));
    }
}
