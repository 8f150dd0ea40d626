//! Which differences count as a change.

use super::{Json, Located, Number, Selector, Value};

/// The parts of a document whose differences do not count, and how large a numeric difference must be to count.
///
/// Equal values never differ, whatever is said here. A difference counts unless it lies at or below an ignored path, or
/// is one between two numbers at a path with a dead band that is not larger than the band. Paths are looked for in both
/// documents. What does not count is still delivered with the next event that does (CONTRACT.md §2).
#[derive(Clone, Debug, Default)]
pub struct Significance {
    ignore: Vec<Selector>,
    deadband: Vec<(Selector, Number)>,
}

impl Significance {
    /// Bands must be finite and not negative; others are as if absent. Where several bands meet, the narrowest counts.
    pub fn new(ignore: Vec<Selector>, deadband: Vec<(Selector, f64)>) -> Self {
        let deadband = deadband
            .into_iter()
            .filter(|(_, band)| *band >= 0.0)
            .filter_map(|(selector, band)| Some((selector, Number::from_f64(band)?)))
            .collect();
        Self { ignore, deadband }
    }

    /// Whether clients that have `delivered` should hear of `new`. Bands are measured from what was delivered last, so
    /// that a slow drift is heard of when it has left the band (CONTRACT.md §6).
    pub fn changed(&self, delivered: &Value, new: &Value) -> bool {
        if delivered == new {
            return false;
        }
        match (delivered.as_json(), new.as_json()) {
            (Some(old), Some(new)) if !self.ignore.is_empty() || !self.deadband.is_empty() => {
                differs(old, new, Some(&self.rules(old, new)))
            }
            _ => true,
        }
    }

    fn rules(&self, old: &Json, new: &Json) -> Located<Rule<'_>> {
        let mut rules = Located::new();
        let both =
            |selector: &Selector| selector.locate(old).into_iter().chain(selector.locate(new));
        for (selector, band) in &self.deadband {
            for location in both(selector) {
                let rule = rules.at(location);
                match rule {
                    Some(Rule::Band(narrower)) if *narrower <= band => {}
                    _ => *rule = Some(Rule::Band(band)),
                }
            }
        }
        for location in self.ignore.iter().flat_map(both) {
            *rules.at(location) = Some(Rule::Ignore);
        }
        rules
    }
}

#[derive(Debug)]
enum Rule<'a> {
    Ignore,
    Band(&'a Number),
}

type Rules<'a, 'r> = Option<&'r Located<Rule<'a>>>;

fn differs(old: &Json, new: &Json, rules: Rules<'_, '_>) -> bool {
    let Some(rules) = rules else {
        return old != new;
    };
    match (rules.here(), old, new) {
        (Some(Rule::Ignore), _, _) => false,
        (Some(Rule::Band(band)), Json::Number(old), Json::Number(new)) => {
            new.is_further_from(old, band)
        }
        (_, Json::Object(old), Json::Object(new)) => {
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            gone.into_iter().any(|name| !is_ignored(rules.member(name)))
                || new.iter().any(|(name, member)| match old.get(name) {
                    Some(before) => differs(before, member, rules.member(name)),
                    None => !is_ignored(rules.member(name)),
                })
        }
        (_, Json::Array(old), Json::Array(new)) => {
            let common = old.len().min(new.len());
            (common..old.len().max(new.len())).any(|index| !is_ignored(rules.element(index)))
                || (0..common).any(|index| differs(&old[index], &new[index], rules.element(index)))
        }
        _ => old != new,
    }
}

/// Whether it does not count that something came or went here.
fn is_ignored(rules: Rules<'_, '_>) -> bool {
    rules.is_some_and(|rules| matches!(rules.here(), Some(Rule::Ignore)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::json::testing::any_json;

    fn changed(ignore: &[&str], deadband: &[(&str, f64)], old: &str, new: &str) -> bool {
        let selector = |text: &str| Selector::parse(text).expect("a query");
        let value = |text: &str| Value::parse_json(text.as_bytes()).expect("valid JSON");
        Significance::new(
            ignore.iter().map(|text| selector(text)).collect(),
            deadband
                .iter()
                .map(|(text, band)| (selector(text), *band))
                .collect(),
        )
        .changed(&value(old), &value(new))
    }

    #[test]
    fn without_rules_every_difference_counts() {
        assert!(changed(&[], &[], r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!changed(
            &[],
            &[],
            r#"{"a":1,"b":2}"#,
            r#"{"b":2.0,"a":1e0}"#
        ));
        assert!(Significance::default().changed(&Value::from_text("a"), &Value::from_text("b")));
        assert!(
            Significance::default().changed(&Value::from_text("1"), &Value::from_json(Json::Null))
        );
    }

    #[test]
    fn ignored_paths_do_not_count_whether_they_change_come_or_go() {
        let ignore = ["$.at", "$.items[*].seen"];
        for (old, new, counts) in [
            (r#"{"at":1,"v":1}"#, r#"{"at":2,"v":1}"#, false),
            (r#"{"v":1}"#, r#"{"at":{"deep":[1]},"v":1}"#, false),
            (r#"{"at":1,"v":1}"#, r#"{"v":1}"#, false),
            (r#"{"at":1,"v":1}"#, r#"{"at":2,"v":2}"#, true),
            (
                r#"{"items":[{"id":1,"seen":1}]}"#,
                r#"{"items":[{"id":1,"seen":2}]}"#,
                false,
            ),
            (
                r#"{"items":[{"id":1}]}"#,
                r#"{"items":[{"id":1,"seen":2}]}"#,
                false,
            ),
            (
                r#"{"items":[{"id":1,"seen":1}]}"#,
                r#"{"items":[{"id":2,"seen":1}]}"#,
                true,
            ),
            (
                r#"{"items":[{"seen":1}]}"#,
                r#"{"items":[{"seen":1},{"seen":1}]}"#,
                true,
            ),
            (r#"{"items":[1]}"#, r#"{"items":{"0":1}}"#, true),
        ] {
            assert_eq!(changed(&ignore, &[], old, new), counts, "{old} {new}");
        }
        assert!(!changed(&["$[1]"], &[], "[1]", "[1,2]"));
        assert!(!changed(&["$"], &[], "[1]", "{}"));
    }

    /// CONTRACT §6.
    #[test]
    fn a_change_must_be_larger_than_the_band() {
        let band = [("$.price", 0.1)];
        for (old, new, counts) in [
            (r#"{"price":0.2}"#, r#"{"price":0.3}"#, false),
            (r#"{"price":0.3}"#, r#"{"price":0.2}"#, false),
            (r#"{"price":1.1}"#, r#"{"price":1.2}"#, false),
            (r#"{"price":1.1}"#, r#"{"price":1.20001}"#, true),
            (r#"{"price":1}"#, r#"{"price":null}"#, true),
            (r#"{"price":1}"#, r#"{}"#, true),
            (r#"{"price":1,"x":1}"#, r#"{"price":1.05,"x":1.05}"#, true),
        ] {
            assert_eq!(changed(&[], &band, old, new), counts, "{old} {new}");
        }
        assert!(changed(
            &[],
            &[("$.price", f64::NAN)],
            r#"{"price":1}"#,
            r#"{"price":2}"#
        ));
    }

    #[test]
    fn the_narrowest_band_counts_and_ignoring_beats_it() {
        for bands in [[("$.*", 10.0), ("$.a", 1.0)], [("$.a", 1.0), ("$.*", 10.0)]] {
            assert!(changed(&[], &bands, r#"{"a":0,"b":0}"#, r#"{"a":2,"b":0}"#));
            assert!(!changed(
                &[],
                &bands,
                r#"{"a":0,"b":0}"#,
                r#"{"a":0,"b":9}"#
            ));
            assert!(!changed(&["$.a"], &bands, r#"{"a":0}"#, r#"{"a":100}"#));
        }
    }

    proptest! {
        /// Rules can only take changes away.
        #[test]
        fn what_counts_is_a_difference(old in any_json(), new in any_json()) {
            let rules = Significance::new(
                vec![Selector::parse("$..a").expect("a query")],
                vec![(Selector::parse("$..*").expect("a query"), 1.0)],
            );
            let (old, new) = (Value::from_json(old), Value::from_json(new));
            prop_assert!(!rules.changed(&old, &new) || old != new);
            prop_assert_eq!(Significance::default().changed(&old, &new), old != new);
            prop_assert!(!rules.changed(&old, &old.clone()));
        }
    }
}
