//! What changed between two values, in words that clients know: JSON Patch (RFC 6902) and merge patch (RFC 7396). Pure.
//!
//! The law of both: applied to the old value, the patch gives one that equals the new value as change detection sees it
//! (EDGE J1). So a number that is only written differently (`1`, `1.0`) is no difference; one that differs is sent with
//! the new text. Both are deterministic, bounded in bytes by the caller and in work by themselves (EDGE J5): `None` means
//! that the new value is to be sent whole.
//!
//! Reading order: `document` walks, `alignment` finds what became of an array's elements with the algorithms of `align`,
//! `array` says it, `text` and `pointer` write. `merge` stands alone.

mod align;
mod alignment;
mod array;
mod document;
mod merge;
mod pointer;
mod text;

use crate::value::{Json, Located, Selector, Value};

/// By which member the elements of an array are recognised: for each array that a selector finds, a member's name.
///
/// It holds for an array that the selector finds in both documents, as long as in both every element is an object that
/// has the member, as a string or number that no other element has; otherwise elements are compared as wholes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArrayKeys(Vec<(Selector, String)>);

impl ArrayKeys {
    /// Where several selectors find one array the first counts.
    pub fn new(keys: Vec<(Selector, String)>) -> Self {
        Self(keys)
    }

    /// Whether no array has a key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn locate(&self, json: &Json) -> Option<Located<&str>> {
        if self.is_empty() {
            return None;
        }
        let mut located = Located::new();
        for (selector, member) in &self.0 {
            for location in selector.locate(json) {
                located.at(location).get_or_insert(member.as_str());
            }
        }
        Some(located)
    }
}

/// The RFC 6902 patch that turns `old` into `new`: an array of operations on one line, `[]` for equal values.
///
/// `None` when either is text and they differ, and when the patch would be longer than `limit` bytes.
pub fn json_patch(old: &Value, new: &Value, keys: &ArrayKeys, limit: usize) -> Option<String> {
    match (old.as_json(), new.as_json()) {
        (Some(old), Some(new)) => {
            let (in_old, in_new) = (keys.locate(old), keys.locate(new));
            document::patch(old, new, in_old.as_ref(), in_new.as_ref(), limit)
        }
        _ => (old == new && limit >= 2).then(|| "[]".to_owned()),
    }
}

/// The RFC 7396 document that turns `old` into `new`, on one line; `{}` for equal objects.
///
/// `None` where a merge patch cannot say it (EDGE J4): one of the values is no object, or what came or changed holds a
/// member that is null; and when it would be longer than `limit` bytes.
pub fn merge_patch(old: &Value, new: &Value, limit: usize) -> Option<String> {
    let old = old.as_json()?.as_object()?;
    let new = new.as_json()?.as_object()?;
    merge::patch(old, new, limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::testing::any_json;

    const UNLIMITED: usize = usize::MAX;

    fn value(text: &str) -> Value {
        Value::parse_json(text.as_bytes()).expect("valid JSON")
    }

    fn keys(pairs: &[(&str, &str)]) -> ArrayKeys {
        let selector = |text: &str| Selector::parse(text).expect("a query");
        ArrayKeys::new(
            pairs
                .iter()
                .map(|(path, member)| (selector(path), (*member).to_owned()))
                .collect(),
        )
    }

    fn patch(old: &str, new: &str, by: &ArrayKeys) -> String {
        let (old, new) = (value(old), value(new));
        let patch = json_patch(&old, &new, by, UNLIMITED).expect("a patch");
        assert_eq!(apply(&old, &patch), new, "{patch}");
        patch
    }

    /// Applies with another's implementation. Its numbers are floats, so tests that use it keep to small ones.
    fn apply(old: &Value, patch: &str) -> Value {
        let mut document: serde_json::Value = serde_json::from_str(old.encoded()).expect("JSON");
        let patch: json_patch::Patch = serde_json::from_str(patch).expect("a patch");
        json_patch::patch(&mut document, &patch).expect("the patch applies");
        value(&document.to_string())
    }

    fn merge(old: &Value, patch: &str) -> Value {
        let mut document: serde_json::Value = serde_json::from_str(old.encoded()).expect("JSON");
        json_patch::merge(&mut document, &serde_json::from_str(patch).expect("JSON"));
        value(&document.to_string())
    }

    /// Makes every scalar long, so that saying what changed beats sending the whole again, and all operations are met.
    fn padded(json: Json) -> Json {
        match json {
            Json::Array(elements) => Json::Array(elements.into_iter().map(padded).collect()),
            Json::Object(members) => Json::Object(
                members
                    .into_iter()
                    .map(|(name, member)| (name, padded(member)))
                    .collect(),
            ),
            scalar => Json::Object(
                [
                    ("v".into(), scalar),
                    ("pad".into(), "x".repeat(90).as_str().into()),
                ]
                .into_iter()
                .collect(),
            ),
        }
    }

    /// A document after some edits: at each place the next of `dice` says what happens there.
    fn edited(json: &Json, fresh: &Json, dice: &mut impl Iterator<Item = u8>) -> Json {
        match (dice.next().unwrap_or(255) % 16, json) {
            (0, _) => fresh.clone(),
            (roll, Json::Array(elements)) => {
                let mut elements: Vec<Json> = elements
                    .iter()
                    .map(|element| edited(element, fresh, dice))
                    .collect();
                let at =
                    |die: Option<u8>, length: usize| usize::from(die.unwrap_or(0)) % length.max(1);
                match (roll, elements.len()) {
                    (1..=3, length) => elements.insert(at(dice.next(), length), fresh.clone()),
                    (4..=6, 1..) => drop(elements.remove(at(dice.next(), elements.len()))),
                    (7..=9, length @ 1..) => {
                        let moved = elements.remove(at(dice.next(), length));
                        elements.insert(at(dice.next(), length), moved);
                    }
                    (10, _) => elements.reverse(),
                    _ => {}
                }
                Json::Array(elements)
            }
            (roll, Json::Object(members)) => {
                let mut members: indexmap::IndexMap<_, _> = members
                    .iter()
                    .map(|(name, member)| (name.clone(), edited(member, fresh, dice)))
                    .collect();
                match roll {
                    1..=3 => drop(members.insert("a".into(), fresh.clone())),
                    4..=6 => drop(members.pop()),
                    7 => members.reverse(),
                    _ => {}
                }
                Json::Object(members)
            }
            _ => json.clone(),
        }
    }

    /// A document and what became of it.
    fn two_readings() -> impl Strategy<Value = (Value, Value)> {
        (
            any_json(),
            any_json(),
            proptest::collection::vec(any::<u8>(), 0..60),
        )
            .prop_map(|(old, fresh, dice)| {
                let (old, fresh) = (padded(old), padded(fresh));
                let new = edited(&old, &fresh, &mut dice.into_iter());
                (Value::from_json(old), Value::from_json(new))
            })
    }

    /// Arrays of records that come, go, move and change, some without or with doubtful keys.
    fn records() -> impl Strategy<Value = Json> {
        let id = prop_oneof![
            8 => (0..12_u64).prop_map(|id| Some(Json::Number(id.into()))),
            1 => (0..3_u64).prop_map(|id| Some(Json::from(id.to_string().as_str()))),
        ];
        let odd = prop_oneof![30 => id, 1 => Just(None), 1 => Just(Some(Json::Null))];
        let record = (odd, 0..3_u64, proptest::collection::vec(0..3_u64, 0..4)).prop_map(
            |(id, price, tags)| {
                let number = |n: u64| Json::Number(n.into());
                let mut members = indexmap::IndexMap::new();
                members.extend(id.map(|id| ("id".into(), id)));
                members.insert("price".into(), number(price));
                members.insert(
                    "tags".into(),
                    Json::Array(tags.into_iter().map(number).collect()),
                );
                Json::Object(members)
            },
        );
        proptest::collection::vec(record, 0..14).prop_map(|mut records| {
            // Most pairs of arrays should have unique keys.
            let mut seen = std::collections::HashSet::new();
            records.retain(|record| {
                seen.insert(
                    record
                        .as_object()
                        .and_then(|r| r.get("id"))
                        .map(Json::to_string),
                )
            });
            Json::Array(records)
        })
    }

    #[test]
    fn equal_values_need_nothing() {
        assert_eq!(
            patch(
                r#"{"a":[1,{"b":2}]}"#,
                r#"{"a":[1.0,{"b":20e-1}]}"#,
                &keys(&[])
            ),
            "[]"
        );
        assert_eq!(
            merge_patch(&value(r#"{"a":1}"#), &value(r#"{"a":1.0}"#), 2).as_deref(),
            Some("{}")
        );
    }

    /// EDGE U11: what changed is sent with the text that the source wrote.
    #[test]
    fn changed_numbers_keep_their_text() {
        let same = format!(r#""same":"{}""#, "x".repeat(99));
        let old = value(&format!(r#"{{"a":9007199254740992,"b":1,"c":1,{same}}}"#));
        let new = value(&format!(
            r#"{{"a":9007199254740993,"b":1.10,"c":1.0,{same}}}"#
        ));
        let patch = json_patch(&old, &new, &keys(&[]), UNLIMITED);
        assert_eq!(
            patch.as_deref(),
            Some(
                r#"[{"op":"replace","path":"/a","value":9007199254740993},{"op":"replace","path":"/b","value":1.10}]"#
            )
        );
        assert_eq!(
            merge_patch(&old, &new, UNLIMITED).as_deref(),
            Some(r#"{"a":9007199254740993,"b":1.10}"#)
        );
    }

    /// EDGE J2.
    #[test]
    fn pointers_are_escaped_and_the_root_is_empty() {
        assert_eq!(
            patch(
                r#"{"a/b~":{"":[0],"x":"a long text that makes it worth it to say less than all"}}"#,
                r#"{"a/b~":{"":[1],"x":"a long text that makes it worth it to say less than all"}}"#,
                &keys(&[])
            ),
            r#"[{"op":"replace","path":"/a~1b~0//0","value":1}]"#
        );
        assert_eq!(
            patch("1", "[]", &keys(&[])),
            r#"[{"op":"replace","path":"","value":[]}]"#
        );
    }

    #[test]
    fn whatever_is_shorter_is_said() {
        assert_eq!(
            patch(
                r#"{"k":{"a":1,"b":2,"c":3}}"#,
                r#"{"k":{"d":4}}"#,
                &keys(&[])
            ),
            r#"[{"op":"replace","path":"/k","value":{"d":4}}]"#
        );
    }

    /// EDGE J5.
    #[test]
    fn a_patch_is_never_longer_than_the_limit() {
        let (old, new) = (
            value(r#"{"a":1,"b":[1,2,3]}"#),
            value(r#"{"a":2,"b":[1,3]}"#),
        );
        let whole = json_patch(&old, &new, &keys(&[]), UNLIMITED).expect("a patch");
        assert_eq!(
            json_patch(&old, &new, &keys(&[]), whole.len()).as_deref(),
            Some(whole.as_str())
        );
        assert_eq!(json_patch(&old, &new, &keys(&[]), whole.len() - 1), None);
        let whole = merge_patch(&old, &new, UNLIMITED).expect("a patch");
        assert_eq!(
            merge_patch(&old, &new, whole.len()).as_deref(),
            Some(whole.as_str())
        );
        assert_eq!(merge_patch(&old, &new, whole.len() - 1), None);
    }

    #[test]
    fn text_has_no_patch() {
        let (a, b) = (Value::from_text("a"), Value::from_text("b"));
        assert_eq!(json_patch(&a, &b, &keys(&[]), UNLIMITED), None);
        assert_eq!(json_patch(&a, &value("1"), &keys(&[]), UNLIMITED), None);
        assert_eq!(
            json_patch(&a, &a, &keys(&[]), UNLIMITED).as_deref(),
            Some("[]")
        );
        assert_eq!(merge_patch(&a, &a, UNLIMITED), None);
    }

    /// EDGE J4.
    #[test]
    fn a_merge_patch_is_not_given_where_it_cannot_say_it() {
        let some = |old: &str, new: &str| merge_patch(&value(old), &value(new), UNLIMITED);
        for (old, new) in [
            ("{}", r#"{"a":null}"#),
            (r#"{"a":1}"#, r#"{"a":null}"#),
            (r#"{"a":1}"#, r#"{"a":{"b":null}}"#),
            (r#"{"a":{}}"#, r#"{"a":{"b":{"c":null}}}"#),
            ("[]", "[]"),
            ("{}", "1"),
            ("1", "{}"),
        ] {
            assert_eq!(some(old, new), None, "{old} {new}");
        }
        for (old, new, patch) in [
            (r#"{"a":null,"b":1}"#, r#"{"a":null,"b":2}"#, r#"{"b":2}"#),
            (r#"{"a":null}"#, "{}", r#"{"a":null}"#),
            (
                r#"{"a":1}"#,
                r#"{"a":[null,{"b":null}]}"#,
                r#"{"a":[null,{"b":null}]}"#,
            ),
            (
                r#"{"a":{"b":1},"c":{"d":1}}"#,
                r#"{"a":{},"c":{"d":1}}"#,
                r#"{"a":{"b":null}}"#,
            ),
            (r#"{"a":1}"#, r#"{"a":{}}"#, r#"{"a":{}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":2}"#, r#"{"a":2}"#),
        ] {
            assert_eq!(some(old, new).as_deref(), Some(patch), "{old} {new}");
            assert_eq!(merge(&value(old), patch), value(new));
        }
    }

    fn rows(ids: impl Iterator<Item = u32>) -> String {
        let rows: Vec<String> = ids
            .map(|id| format!(r#"{{"id":{id},"name":"row number {id}","price":{id}.5,"tags":["a","b"],"open":true}}"#))
            .collect();
        format!("[{}]", rows.join(","))
    }

    #[test]
    fn one_insertion_into_a_thousand_is_one_add() {
        let by_id = keys(&[("$", "id")]);
        for by in [&keys(&[]), &by_id] {
            for at in [0, 500, 1_000] {
                let new = rows((0..at).chain([5_000]).chain(at..1_000));
                let patch = patch(&rows(0..1_000), &new, by);
                assert!(
                    patch.starts_with(&format!(
                        r#"[{{"op":"add","path":"/{at}","value":{{"id":5000"#
                    )),
                    "{patch}"
                );
                assert_eq!(patch.matches(r#""op":"#).count(), 1);
            }
        }
    }

    #[test]
    fn one_element_moved_is_one_move() {
        let by_id = keys(&[("$", "id")]);
        for by in [&keys(&[]), &by_id] {
            assert_eq!(
                patch(&rows(0..100), &rows((1..100).chain([0])), by),
                r#"[{"op":"move","from":"/0","path":"/99"}]"#
            );
            assert_eq!(
                patch(&rows(0..100), &rows([99].into_iter().chain(0..99)), by),
                r#"[{"op":"move","from":"/99","path":"/0"}]"#
            );
        }
    }

    /// Numbers repeat, so only a true longest common subsequence sees that a window slid.
    #[test]
    fn a_sliding_window_of_repeating_numbers_is_two_operations() {
        let window = |from: usize| {
            let numbers: Vec<String> = (from..from + 300)
                .map(|n| (n * n % 7).to_string())
                .collect();
            format!("[{}]", numbers.join(","))
        };
        assert_eq!(
            patch(&window(0), &window(1), &keys(&[])),
            r#"[{"op":"remove","path":"/0"},{"op":"add","path":"/299","value":1}]"#
        );
    }

    #[test]
    fn reversal_by_key_is_moves_alone() {
        let patch = patch(&rows(0..200), &rows((0..200).rev()), &keys(&[("$", "id")]));
        assert_eq!(patch.matches(r#"{"op":"move""#).count(), 199);
        assert_eq!(patch.matches(r#""op":"#).count(), 199);
    }

    #[test]
    fn a_changed_element_is_told_by_its_key_wherever_it_moved() {
        let by_id = keys(&[("$.groups[*].items", "id"), ("$.groups", "name")]);
        let padding = "x".repeat(60);
        let old = format!(
            r#"{{"groups":[{{"name":"a","items":[{{"id":1,"p":1,"x":"{padding}"}},{{"id":"1","p":2,"x":"{padding}"}}]}},{{"name":"b","items":[]}}]}}"#
        );
        let new = format!(
            r#"{{"groups":[{{"name":"b","items":[]}},{{"name":"a","items":[{{"id":"1","p":3,"x":"{padding}"}},{{"id":1.0,"p":1,"x":"{padding}"}}]}}]}}"#
        );
        assert_eq!(
            patch(&old, &new, &by_id),
            concat!(
                r#"[{"op":"move","from":"/groups/1","path":"/groups/0"},"#,
                r#"{"op":"move","from":"/groups/1/items/1","path":"/groups/1/items/0"},"#,
                r#"{"op":"replace","path":"/groups/1/items/0/p","value":3}]"#
            )
        );
    }

    #[test]
    fn a_selector_may_find_an_array_at_another_index() {
        let row = |id: u32, p: u32| format!(r#"{{"id":{id},"p":{p},"x":"{}"}}"#, "x".repeat(60));
        let old = format!(
            r#"[{{"n":"a","rows":[{},{}]}},{{"n":"b"}}]"#,
            row(1, 1),
            row(2, 1)
        );
        let new = format!(
            r#"[{{"n":"b"}},{{"n":"a","rows":[{},{}]}}]"#,
            row(2, 5),
            row(1, 5)
        );
        assert_eq!(
            patch(
                &old,
                &new,
                &keys(&[("$", "n"), ("$[?@.n == 'a'].rows", "id")])
            ),
            concat!(
                r#"[{"op":"move","from":"/1","path":"/0"},{"op":"move","from":"/1/rows/1","path":"/1/rows/0"},"#,
                r#"{"op":"replace","path":"/1/rows/0/p","value":5},{"op":"replace","path":"/1/rows/1/p","value":5}]"#
            )
        );
    }

    #[test]
    fn doubtful_keys_fall_back_to_whole_elements() {
        let by_id = keys(&[("$", "id")]);
        for (old, new) in [
            (r#"[{"id":1},{"id":1}]"#, r#"[{"id":1}]"#),
            (r#"[{"id":1},{"no":1}]"#, r#"[{"no":1},{"id":1}]"#),
            (r#"[{"id":1},2]"#, r#"[2,{"id":1}]"#),
            (r#"[{"id":null}]"#, r#"[{"id":null},{"id":3}]"#),
            (r#"[{"id":[1]}]"#, r#"[{"id":[1]},{"id":1}]"#),
        ] {
            patch(old, new, &by_id);
        }
        let row =
            |id: u32, letter: &str| format!(r#"{{"id":{id},"text":"{}"}}"#, letter.repeat(90));
        assert_eq!(
            patch(
                &format!("[{},{}]", row(1, "a"), row(1, "b")),
                &format!("[{}]", row(1, "a")),
                &by_id
            ),
            r#"[{"op":"remove","path":"/1"}]"#
        );
    }

    /// EDGE J5: time does not explode where everything differs; a snapshot is the answer.
    #[test]
    fn hopeless_pairs_end_soon() {
        let numbers = |multiplier: u64| {
            let numbers: Vec<String> = (0..60_000_u64)
                .map(|n| (n * multiplier % 7_919 % 97).to_string())
                .collect();
            value(&format!("[{}]", numbers.join(",")))
        };
        let (old, new) = (numbers(31), numbers(17));
        let limit = new.encoded().len();
        let patch = json_patch(&old, &new, &keys(&[]), limit);
        assert!(patch.is_none_or(|patch| patch.len() <= limit && apply(&old, &patch) == new));
    }

    #[test]
    fn equal_input_gives_equal_patches() {
        let (old, new) = (value(&rows(0..50)), value(&rows((10..60).rev())));
        let again = || {
            json_patch(
                &value(old.encoded()),
                &value(new.encoded()),
                &keys(&[]),
                UNLIMITED,
            )
        };
        assert_eq!(again(), again());
    }

    proptest! {
        /// EDGE J1, J3.
        #[test]
        fn a_patch_turns_old_into_new(old in any_json(), new in any_json()) {
            let (old, new) = (Value::from_json(old), Value::from_json(new));
            let patch = json_patch(&old, &new, &keys(&[("$..*", "id"), ("$", "id")]), UNLIMITED).expect("a patch");
            prop_assert_eq!(&apply(&old, &patch), &new, "{}", patch);
            prop_assert_eq!(patch == "[]", old == new);
            prop_assert!(!patch.contains('\n'), "EDGE E12");
        }

        /// EDGE J1, J3.
        #[test]
        fn edits_in_depth_are_told((old, new) in two_readings()) {
            for by in [&keys(&[]), &keys(&[("$..*", "v"), ("$", "v")])] {
                let patch = json_patch(&old, &new, by, UNLIMITED).expect("a patch");
                prop_assert_eq!(&apply(&old, &patch), &new, "{}", patch);
                for limit in [patch.len() / 2, patch.len() - 1] {
                    if let Some(shorter) = json_patch(&old, &new, by, limit) {
                        prop_assert!(shorter.len() <= limit);
                        prop_assert_eq!(&apply(&old, &shorter), &new, "{}", shorter);
                    }
                }
            }
            if let Some(patch) = merge_patch(&old, &new, UNLIMITED) {
                prop_assert_eq!(&merge(&old, &patch), &new, "{}", patch);
            }
        }

        /// EDGE J1, J3.
        #[test]
        fn arrays_of_few_different_elements(
            old in proptest::collection::vec(0..4_u64, 0..12),
            new in proptest::collection::vec(0..4_u64, 0..12),
        ) {
            // Short elements are replaced, long ones are moved; what stands in front makes sending all again too long.
            let short = |numbers: &[u64]| {
                let texts: Vec<String> = numbers.iter().map(|n| format!(",{n}")).collect();
                format!("[\"{}\"{}]", "x".repeat(2_000), texts.concat())
            };
            patch(&short(&old), &short(&new), &keys(&[]));
            let long = |numbers: Vec<u64>| {
                let texts: Vec<String> = numbers.iter().map(|n| n.to_string().repeat(90)).collect();
                format!("{texts:?}")
            };
            patch(&long(old), &long(new), &keys(&[]));
        }

        /// EDGE J1, J3: moves, removals and changes together.
        #[test]
        fn records_by_key_and_without(old in records(), new in records()) {
            let (old, new) = (old.to_string(), new.to_string());
            patch(&old, &new, &keys(&[("$", "id")]));
            patch(&old, &new, &keys(&[]));
        }

        /// EDGE J1, J4.
        #[test]
        fn a_merge_patch_turns_old_into_new(old in any_json(), new in any_json()) {
            let (old, new) = (Value::from_json(old), Value::from_json(new));
            if let Some(patch) = merge_patch(&old, &new, UNLIMITED) {
                prop_assert_eq!(&merge(&old, &patch), &new, "{}", patch);
                prop_assert_eq!(patch == "{}", old == new);
            }
        }

        /// EDGE J5.
        #[test]
        fn limits_hold(old in any_json(), new in any_json(), limit in 0..200_usize) {
            let (old, new) = (Value::from_json(old), Value::from_json(new));
            if let Some(patch) = json_patch(&old, &new, &keys(&[]), limit) {
                prop_assert!(patch.len() <= limit);
                prop_assert_eq!(apply(&old, &patch), new.clone());
            }
            if let Some(patch) = merge_patch(&old, &new, limit) {
                prop_assert!(patch.len() <= limit);
            }
        }
    }

    /// EDGE J1: the documents of the public JSON Patch test suite, when `JSON_PATCH_SUITE` names its folder. It tests those
    /// who apply; of a case that works, we take both documents as a pair to tell apart.
    #[test]
    fn the_public_suites_pairs_round_trip() {
        let Some(folder) = std::env::var_os("JSON_PATCH_SUITE") else {
            return;
        };
        let mut seen = 0;
        for file in ["tests.json", "spec_tests.json"] {
            let path = std::path::Path::new(&folder).join(file);
            let text = std::fs::read(&path).expect("the suite is readable");
            let cases: Vec<serde_json::Value> =
                serde_json::from_slice(&text).expect("the suite is an array");
            for case in cases {
                let (Some(old), Some(new)) = (case.get("doc"), case.get("expected")) else {
                    continue;
                };
                patch(&old.to_string(), &new.to_string(), &keys(&[]));
                patch(&new.to_string(), &old.to_string(), &keys(&[("$..*", "id")]));
                seen += 1;
            }
        }
        assert!(seen > 40, "only {seen} cases in {folder:?}");
    }
}
