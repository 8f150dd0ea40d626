//! Running a query over a document (RFC 9535 §2), with a bound on the work (EDGE J7).

use std::borrow::Cow;

use super::location::{Location, Step};
use super::query::{Operand, Order, Pattern, Pick, Query, Segment, Test};
use super::regexp;
use crate::value::{Json, Number};

/// How many nodes one run may look at, those inside filters included.
const MAX_WORK: usize = 1_000_000;

/// What compiling a regular expression that stands in the document costs, in nodes. Measured: tens of microseconds.
const COMPILING: usize = 2_000;

/// The selected nodes in order; `None` when the bound was reached.
pub(super) fn nodes<'a>(query: &Query, root: &'a Json) -> Option<Vec<&'a Json>> {
    let found = found(query, root)?;
    let node = |at: &usize| found.trail[*at].json;
    Some(found.selected.iter().map(node).collect())
}

/// Where the selected nodes are; `None` when the bound was reached.
pub(super) fn locations(query: &Query, root: &Json) -> Option<Vec<Location>> {
    let found = found(query, root)?;
    let location = |at: &usize| found.location(*at);
    Some(found.selected.iter().map(location).collect())
}

fn found<'a>(query: &Query, root: &'a Json) -> Option<Found<'a>> {
    let mut run = Run {
        root,
        left: MAX_WORK,
    };
    run.query(query, root)
}

struct Run<'a> {
    root: &'a Json,
    left: usize,
}

/// Every node that was passed, each with the one it was reached from.
struct Found<'a> {
    trail: Vec<Passed<'a>>,
    selected: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Passed<'a> {
    json: &'a Json,
    from: usize,
    by: By<'a>,
}

#[derive(Clone, Copy)]
enum By<'a> {
    Start,
    Member(&'a str),
    Index(usize),
}

impl<'a> Found<'a> {
    fn start(json: &'a Json) -> Self {
        Self {
            trail: vec![Passed {
                json,
                from: 0,
                by: By::Start,
            }],
            selected: vec![0],
        }
    }

    fn pass(&mut self, from: usize, by: By<'a>, json: &'a Json) -> usize {
        self.trail.push(Passed { json, from, by });
        self.trail.len() - 1
    }

    fn location(&self, mut at: usize) -> Location {
        let mut steps = Vec::new();
        loop {
            let passed = self.trail[at];
            match passed.by {
                By::Start => break,
                By::Member(name) => steps.push(Step::Member(name.into())),
                By::Index(index) => steps.push(Step::Index(index)),
            }
            at = passed.from;
        }
        steps.reverse();
        Location(steps)
    }
}

impl<'a> Run<'a> {
    fn query(&mut self, query: &Query, current: &'a Json) -> Option<Found<'a>> {
        let mut found = Found::start(if query.from_root { self.root } else { current });
        for segment in &query.steps {
            for at in std::mem::take(&mut found.selected) {
                self.segment(segment, at, &mut found)?;
            }
        }
        Some(found)
    }

    fn segment(&mut self, segment: &Segment, at: usize, found: &mut Found<'a>) -> Option<()> {
        for pick in &segment.picks {
            self.pick(pick, at, found)?;
        }
        if segment.descends {
            for child in self.children(at, found)? {
                self.segment(segment, child, found)?;
            }
        }
        Some(())
    }

    fn pick(&mut self, pick: &Pick, at: usize, found: &mut Found<'a>) -> Option<()> {
        self.spend(1)?;
        let json = found.trail[at].json;
        match (pick, json) {
            (Pick::Name(name), Json::Object(members)) => {
                if let Some((_, name, member)) = members.get_full(name) {
                    let child = found.pass(at, By::Member(name), member);
                    found.selected.push(child);
                }
            }
            (Pick::Index(index), Json::Array(elements)) => {
                if let Some(index) = from_either_end(*index, elements.len()) {
                    let child = found.pass(at, By::Index(index), &elements[index]);
                    found.selected.push(child);
                }
            }
            (Pick::Slice { start, end, step }, Json::Array(elements)) => {
                for index in slice(*start, *end, *step, elements.len()) {
                    self.spend(1)?;
                    let child = found.pass(at, By::Index(index), &elements[index]);
                    found.selected.push(child);
                }
            }
            (Pick::Wildcard, _) => {
                let children = self.children(at, found)?;
                found.selected.extend(children);
            }
            (Pick::Filter(test), _) => {
                for child in self.children(at, found)? {
                    if self.test(test, found.trail[child].json)? {
                        found.selected.push(child);
                    }
                }
            }
            (Pick::Name(_) | Pick::Index(_) | Pick::Slice { .. }, _) => {}
        }
        Some(())
    }

    fn children(&mut self, at: usize, found: &mut Found<'a>) -> Option<std::ops::Range<usize>> {
        let first = found.trail.len();
        match found.trail[at].json {
            Json::Array(elements) => {
                self.spend(elements.len())?;
                for (index, element) in elements.iter().enumerate() {
                    found.pass(at, By::Index(index), element);
                }
            }
            Json::Object(members) => {
                self.spend(members.len())?;
                for (name, member) in members {
                    found.pass(at, By::Member(name), member);
                }
            }
            _ => {}
        }
        Some(first..found.trail.len())
    }

    fn test(&mut self, test: &Test, current: &'a Json) -> Option<bool> {
        self.spend(1)?;
        Some(match test {
            Test::Or(tests) => {
                for test in tests {
                    if self.test(test, current)? {
                        return Some(true);
                    }
                }
                false
            }
            Test::And(tests) => {
                for test in tests {
                    if !self.test(test, current)? {
                        return Some(false);
                    }
                }
                true
            }
            Test::Not(test) => !self.test(test, current)?,
            Test::Exists(query) if query.is_singular() => self.singular(query, current)?.is_some(),
            Test::Exists(query) => !self.query(query, current)?.selected.is_empty(),
            Test::Compare(left, order, right) => {
                let left = self.operand(left, current)?;
                let right = self.operand(right, current)?;
                if let (Some(left), Some(right)) = (&left, &right) {
                    self.spend(weight(left).min(weight(right)))?;
                }
                compare(left.as_deref(), *order, right.as_deref())
            }
            Test::Regexp {
                subject,
                pattern,
                whole,
            } => {
                let subject = self.operand(subject, current)?;
                let Some(subject) = subject.as_deref().and_then(Json::as_str) else {
                    return Some(false);
                };
                self.spend(subject.len() / 16)?;
                match pattern {
                    Pattern::Fixed(regex) => regex.is_match(subject),
                    Pattern::Found(pattern) => {
                        let pattern = self.operand(pattern, current)?;
                        let Some(pattern) = pattern.as_deref().and_then(Json::as_str) else {
                            return Some(false);
                        };
                        self.spend(COMPILING)?;
                        // Something that is no I-Regexp matches nothing (RFC 9535 §2.4.6).
                        regexp::compile(pattern, *whole).is_ok_and(|regex| regex.is_match(subject))
                    }
                }
            }
        })
    }

    /// The inner `None` is RFC 9535's "Nothing".
    fn operand<'q>(
        &mut self,
        operand: &'q Operand,
        current: &'a Json,
    ) -> Option<Option<Cow<'q, Json>>>
    where
        'a: 'q,
    {
        self.spend(1)?;
        Some(match operand {
            Operand::Literal(json) => Some(Cow::Borrowed(json)),
            Operand::Query(query) => self.singular(query, current)?.map(Cow::Borrowed),
            Operand::Count(query) => Some(count(self.query(query, current)?.selected.len())),
            Operand::ValueOf(query) => {
                let found = self.query(query, current)?;
                match found.selected.as_slice() {
                    [one] => Some(Cow::Borrowed(found.trail[*one].json)),
                    _ => None,
                }
            }
            Operand::Length(of) => match self.operand(of, current)?.as_deref() {
                Some(Json::String(text)) => {
                    self.spend(text.len() / 16)?;
                    Some(count(text.chars().count()))
                }
                Some(Json::Array(elements)) => Some(count(elements.len())),
                Some(Json::Object(members)) => Some(count(members.len())),
                _ => None,
            },
        })
    }

    /// The one node of a query of names and indexes.
    fn singular(&mut self, query: &Query, current: &'a Json) -> Option<Option<&'a Json>> {
        let mut json = if query.from_root { self.root } else { current };
        for segment in &query.steps {
            self.spend(1)?;
            let child = match (segment.picks.as_slice(), json) {
                ([Pick::Name(name)], Json::Object(members)) => members.get(name),
                ([Pick::Index(index)], Json::Array(elements)) => {
                    from_either_end(*index, elements.len()).map(|index| &elements[index])
                }
                _ => None,
            };
            match child {
                Some(child) => json = child,
                None => return Some(None),
            }
        }
        Some(Some(json))
    }

    fn spend(&mut self, work: usize) -> Option<()> {
        self.left = self.left.checked_sub(work)?;
        Some(())
    }
}

fn count<'q>(count: usize) -> Cow<'q, Json> {
    Cow::Owned(Json::Number(Number::from(count as u64)))
}

fn from_either_end(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(length as i64)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// RFC 9535 §2.3.4.2.
fn slice(
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
    length: usize,
) -> impl Iterator<Item = usize> {
    let length = length as i64;
    let normal = |index: i64| if index < 0 { length + index } else { index };
    let (first, last) = if step >= 0 {
        (
            normal(start.unwrap_or(0)).clamp(0, length),
            normal(end.unwrap_or(length)).clamp(0, length),
        )
    } else {
        (
            start.map_or(length - 1, normal).clamp(-1, length - 1),
            end.map_or(-1, normal).clamp(-1, length - 1),
        )
    };
    let mut at = first;
    std::iter::from_fn(move || {
        let inside = (step > 0 && at < last) || (step < 0 && at > last);
        inside.then(|| {
            let index = at as usize;
            at = at.saturating_add(step);
            index
        })
    })
}

/// What comparing it may cost, in nodes.
fn weight(json: &Json) -> usize {
    match json {
        Json::String(text) => text.len() / 64,
        Json::Array(elements) => elements.iter().map(|element| 1 + weight(element)).sum(),
        Json::Object(members) => members.values().map(|member| 1 + weight(member)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    }
}

/// RFC 9535 §2.3.5.2.2.
fn compare(left: Option<&Json>, order: Order, right: Option<&Json>) -> bool {
    match order {
        Order::Equal => left == right,
        Order::NotEqual => left != right,
        Order::Less => is_less(left, right),
        Order::LessOrEqual => is_less(left, right) || left == right,
        Order::Greater => is_less(right, left),
        Order::GreaterOrEqual => is_less(right, left) || left == right,
    }
}

fn is_less(left: Option<&Json>, right: Option<&Json>) -> bool {
    match (left, right) {
        (Some(Json::Number(left)), Some(Json::Number(right))) => left < right,
        (Some(Json::String(left)), Some(Json::String(right))) => left < right,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn run(query: &str, document: &str) -> Vec<String> {
        let document = Value::parse_json(document.as_bytes()).expect("valid JSON");
        let query = Query::parse(query).expect("a query");
        let found = nodes(&query, document.as_json().expect("JSON")).expect("within bounds");
        found.into_iter().map(Json::to_string).collect()
    }

    #[test]
    fn nested_filters_and_order_of_descendants() {
        assert_eq!(run("$[?@[?@>1]]", "[[0],[0,2],[1],[3]]"), ["[0,2]", "[3]"]);
        assert_eq!(
            run("$..['a','d']", r#"[{"a":1,"d":2},{"d":3,"a":{"d":4}}]"#),
            ["1", "2", r#"{"d":4}"#, "3", "4"]
        );
    }

    /// EDGE U11: filters see what the document says, not its nearest float.
    #[test]
    fn numbers_compare_as_decimals() {
        assert_eq!(
            run("$[?@ == 1]", "[1,1.0,10e-1,1.00000000000000000001]"),
            ["1", "1.0", "10e-1"]
        );
        assert_eq!(
            run(
                "$[?@ > 9007199254740991]",
                "[9007199254740991,9007199254740992.5]"
            ),
            ["9007199254740992.5"]
        );
        assert_eq!(run("$[?@ == 1e-17]", "[1e-17,2e-17,0]"), ["1e-17"]);
    }

    #[test]
    fn patterns_may_stand_in_the_document() {
        let document = r#"{"pattern":"b.?b","values":["bab","bb","x",3],"bad":"("}"#;
        assert_eq!(
            run("$.values[?match(@, $.pattern)]", document),
            [r#""bab""#, r#""bb""#]
        );
        assert_eq!(
            run("$.values[?search(@, $.bad)]", document),
            [] as [&str; 0]
        );
        assert_eq!(
            run("$.values[?search(@, $.values)]", document),
            [] as [&str; 0]
        );
    }

    /// EDGE J7: the JSONPath compliance test suite, when `JSONPATH_SUITE` names its `cts.json`.
    #[test]
    fn compliance_suite() {
        let Ok(path) = std::env::var("JSONPATH_SUITE") else {
            return;
        };
        let text = std::fs::read(&path).expect("the suite is readable");
        let suite: serde_json::Value = serde_json::from_slice(&text).expect("the suite is JSON");
        let cases = suite["tests"].as_array().expect("the suite has tests");
        assert!(cases.len() > 600, "only {} cases in {path}", cases.len());
        let mut failures = Vec::new();
        for case in cases {
            let text = case["selector"].as_str().expect("a selector");
            let outcome = Query::parse(text).map(|query| {
                let document =
                    Value::parse_json(case["document"].to_string().as_bytes()).expect("a document");
                let document = document.as_json().expect("JSON");
                let found = nodes(&query, document).expect("within bounds");
                let paths = locations(&query, document).expect("within bounds");
                let list = |texts: Vec<String>| serde_json::Value::from(texts);
                let values = found
                    .iter()
                    .map(|json| serde_json::from_str(&json.to_string()).expect("JSON"))
                    .collect();
                (
                    serde_json::Value::Array(values),
                    list(paths.iter().map(Location::to_string).collect()),
                )
            });
            let is = |values: &str, paths: &str| match &outcome {
                Ok((found, located)) => {
                    *found == case[values] && (case[paths].is_null() || *located == case[paths])
                }
                Err(_) => false,
            };
            let any = |values: &str, paths: &str| match &outcome {
                Ok((found, located)) => {
                    case[values]
                        .as_array()
                        .is_some_and(|all| all.contains(found))
                        && case[paths]
                            .as_array()
                            .is_none_or(|all| all.contains(located))
                }
                Err(_) => false,
            };
            let passed = match case["invalid_selector"].as_bool() {
                Some(true) => outcome.is_err(),
                _ => is("result", "result_paths") || any("results", "results_paths"),
            };
            if !passed {
                failures.push(format!("{}: {text}", case["name"]));
            }
        }
        assert!(
            failures.is_empty(),
            "{} of {}: {failures:#?}",
            failures.len(),
            cases.len()
        );
    }
}
