//! Which old element each new element of an array continues: by key, or by content.

use std::collections::HashMap;
use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::align;
use crate::value::{Json, Number};

/// What a new element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// None of the old ones.
    New,
    /// Equal to the old one with this index.
    Same(usize),
    /// Continues the old one with this index, perhaps with changes inside.
    Like(usize),
}

/// The elements between `start` and the equal ones at the end. Indexes count from `start`.
#[derive(Debug)]
pub(super) struct Alignment {
    pub(super) start: usize,
    /// How many old elements are in between.
    pub(super) old_length: usize,
    /// For each new element in between: where it comes from. No old one is named twice.
    pub(super) origins: Vec<Origin>,
    /// For each new element in between: whether it continues an old one in place. The old indexes of those ascend.
    pub(super) stays: Vec<bool>,
}

impl Origin {
    pub(super) fn old(&self) -> Option<usize> {
        match *self {
            Self::New => None,
            Self::Same(old) | Self::Like(old) => Some(old),
        }
    }
}

impl Alignment {
    /// Old indexes of the elements that change places.
    pub(super) fn movers(&self) -> Vec<usize> {
        let places = self.origins.iter().zip(&self.stays);
        places
            .filter(|(_, stays)| !**stays)
            .filter_map(|(origin, _)| origin.old())
            .collect()
    }

    /// Old and new indexes of the elements that stay; both ascend.
    pub(super) fn staying(&self) -> Vec<(usize, usize)> {
        let places = self.origins.iter().zip(&self.stays).enumerate();
        places
            .filter(|(_, (_, stays))| **stays)
            .filter_map(|(new, (origin, _))| Some((origin.old()?, new)))
            .collect()
    }
}

/// `None` when some element has no key, or not alone.
pub(super) fn by_key(old: &[Json], new: &[Json], member: &str) -> Option<Alignment> {
    let mut places = HashMap::with_capacity(old.len());
    for (index, element) in old.iter().enumerate() {
        if places
            .insert(Key::of(element, member)?, Some(index))
            .is_some()
        {
            return None;
        }
    }
    let mut taken = HashMap::with_capacity(new.len());
    let mut origins = Vec::with_capacity(new.len());
    for element in new {
        let key = Key::of(element, member)?;
        origins.push(
            places
                .get(&key)
                .copied()
                .flatten()
                .map_or(Origin::New, Origin::Like),
        );
        if taken.insert(key, ()).is_some() {
            return None;
        }
    }
    let continued: Vec<(usize, usize)> = origins
        .iter()
        .enumerate()
        .filter_map(|(new, origin)| Some((origin.old()?, new)))
        .collect();
    let mut stays = vec![false; new.len()];
    for (_, new) in align::longest_ascending(&continued) {
        stays[new] = true;
    }
    Some(Alignment {
        start: 0,
        old_length: old.len(),
        origins,
        stays,
    })
}

/// What an element is recognised by. A number and a string are never the same.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Text(&'a str),
    Number(Vec<u8>),
}

impl<'a> Key<'a> {
    fn of(element: &'a Json, member: &str) -> Option<Self> {
        match element.as_object()?.get(member)? {
            Json::String(text) => Some(Self::Text(text)),
            Json::Number(number) => Some(Self::Number(normal_form(number))),
            _ => None,
        }
    }
}

/// Elements are the same when they are equal; what changed between two of those is paired in order.
pub(super) fn by_content(
    old: &[Json],
    new: &[Json],
    work: &mut usize,
) -> Result<Alignment, fmt::Error> {
    let start = old
        .iter()
        .zip(new)
        .take_while(|(old, new)| old == new)
        .count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    let mut alignment = Alignment {
        start,
        old_length: old.len(),
        origins: vec![Origin::New; new.len()],
        stays: vec![false; new.len()],
    };
    if old.is_empty() || new.is_empty() {
        return Ok(alignment);
    }
    if let ([_], [_]) = (old, new) {
        // Nothing to find out, and nothing hashed at each level of a deep document.
        alignment.origins[0] = Origin::Like(0);
        alignment.stays[0] = true;
        return Ok(alignment);
    }
    let (old_names, new_names) = name(old, new, fingerprint, work)?;
    let anchors = align::common(&old_names, &new_names, work);
    let mut goes_on = vec![false; old.len()];
    for (old, new) in &anchors {
        alignment.origins[*new] = Origin::Same(*old);
        alignment.stays[*new] = true;
        goes_on[*old] = true;
    }
    // Large elements are moved rather than sent again; small ones are replaced in place where there is a place.
    alignment.find_again(&old_names, &new_names, &mut goes_on, |index| {
        is_large(&old[index])
    });
    alignment.pair_between(&anchors, &mut goes_on);
    alignment.find_again(&old_names, &new_names, &mut goes_on, |_| true);
    Ok(alignment)
}

impl Alignment {
    /// Recognises old elements that are left, among the `wanted`, in new ones that are left.
    fn find_again(
        &mut self,
        old: &[u32],
        new: &[u32],
        goes_on: &mut [bool],
        wanted: impl Fn(usize) -> bool,
    ) {
        let mut left: HashMap<u32, Vec<usize>> = HashMap::new();
        for index in (0..old.len())
            .rev()
            .filter(|index| !goes_on[*index] && wanted(*index))
        {
            left.entry(old[index]).or_default().push(index);
        }
        for (index, origin) in self.origins.iter_mut().enumerate() {
            if *origin == Origin::New
                && let Some(from) = left.get_mut(&new[index]).and_then(Vec::pop)
            {
                *origin = Origin::Same(from);
                goes_on[from] = true;
            }
        }
    }

    /// Between two anchors, pairs what is left of the old elements with what is left of the new ones, in order.
    fn pair_between(&mut self, anchors: &[(usize, usize)], goes_on: &mut [bool]) {
        let (mut old_from, mut new_from) = (0, 0);
        let end = (self.old_length, self.origins.len());
        for (old_to, new_to) in anchors.iter().copied().chain([end]) {
            let mut left = (old_from..old_to)
                .filter(|index| !goes_on[*index])
                .collect::<Vec<_>>()
                .into_iter();
            for new in (new_from..new_to)
                .filter(|new| self.origins[*new] == Origin::New)
                .collect::<Vec<_>>()
            {
                let Some(old) = left.next() else { break };
                self.origins[new] = Origin::Like(old);
                self.stays[new] = true;
                goes_on[old] = true;
            }
            (old_from, new_from) = (old_to + 1, new_to + 1);
        }
    }
}

/// Whether a `move` is shorter than saying it again.
fn is_large(json: &Json) -> bool {
    match json {
        Json::Array(_) | Json::Object(_) => true,
        Json::String(text) => text.len() > 24,
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Numbers the elements: equal ones, and only those, have the same number. `hash` only finds candidates, so nobody who
/// makes hashes collide makes a wrong patch; what that costs is counted as work.
fn name(
    old: &[Json],
    new: &[Json],
    hash: impl Fn(&Json, &mut usize) -> Option<u64>,
    work: &mut usize,
) -> Result<(Vec<u32>, Vec<u32>), fmt::Error> {
    let mut known: HashMap<u64, Vec<(u32, &Json)>> = HashMap::with_capacity(old.len());
    let mut next = 0;
    let mut names = Vec::with_capacity(old.len() + new.len());
    for element in old.iter().chain(new) {
        let hash = hash(element, work).ok_or(fmt::Error)?;
        let candidates = known.entry(hash).or_default();
        *work = work.checked_sub(candidates.len()).ok_or(fmt::Error)?;
        let found = candidates
            .iter()
            .find(|(_, candidate)| *candidate == element);
        let name = found.map_or(next, |(name, _)| *name);
        if name == next {
            candidates.push((name, element));
            next += 1;
        }
        names.push(name);
    }
    let of_new = names.split_off(old.len());
    Ok((names, of_new))
}

/// Equal documents have equal fingerprints. `None` when there is no more work to be had.
fn fingerprint(json: &Json, work: &mut usize) -> Option<u64> {
    *work = work.checked_sub(1)?;
    Some(match json {
        Json::Null => 1,
        Json::Bool(value) => 2 + u64::from(*value),
        Json::Number(number) => xxh3_64_with_seed(&normal_form(number), 4),
        Json::String(text) => xxh3_64_with_seed(text.as_bytes(), 5),
        Json::Array(elements) => {
            let mut sum = 6;
            for element in elements {
                sum = mix(sum, fingerprint(element, work)?);
            }
            sum
        }
        // A sum, as the order of members is no part of the value.
        Json::Object(members) => {
            let mut sum: u64 = 7;
            for (name, member) in members {
                let one = mix(xxh3_64(name.as_bytes()), fingerprint(member, work)?);
                sum = sum.wrapping_add(one);
            }
            sum
        }
    })
}

fn mix(a: u64, b: u64) -> u64 {
    // An odd constant without pattern: 2^64 divided by the golden ratio.
    let product = (a.rotate_left(23) ^ b).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
}

fn normal_form(number: &Number) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    number.push_normal_form(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::testing::any_json;

    fn print(json: &Json) -> Option<u64> {
        fingerprint(json, &mut usize::MAX.clone())
    }

    #[test]
    fn fingerprints_know_values_not_spellings() {
        let json = |text: &str| {
            crate::value::Value::parse_json(text.as_bytes())
                .ok()?
                .as_json()
                .cloned()
        };
        for (a, b) in [
            (r#"{"a":1,"b":[1.0]}"#, r#"{"b":[10e-1],"a":1e0}"#),
            ("-0", "0.0"),
        ] {
            assert_eq!(json(a).as_ref().map(print), json(b).as_ref().map(print));
        }
        for (a, b) in [
            ("[1,2]", "[2,1]"),
            ("[[]]", "[]"),
            (r#"{"a":"b"}"#, r#"{"b":"a"}"#),
            ("0", r#""0""#),
            ("{}", "[]"),
        ] {
            assert_ne!(
                json(a).as_ref().map(print),
                json(b).as_ref().map(print),
                "{a} {b}"
            );
        }
    }

    /// EDGE J5: hashing one big element at each of its levels would multiply size by depth.
    #[test]
    fn hashing_is_work() {
        let elements = [Json::Array(vec![Json::Null; 3])];
        assert!(name(&elements, &[], fingerprint, &mut 4).is_ok());
        assert!(name(&elements, &[], fingerprint, &mut 3).is_err());
    }

    /// EDGE J5: whoever makes all hashes collide gets a snapshot, neither a wrong patch nor a quadratic walk.
    #[test]
    fn collisions_are_work_and_nothing_worse() {
        let elements: Vec<Json> = (0..100_u64).map(|n| Json::Number(n.into())).collect();
        let all_alike = |_: &Json, _: &mut usize| Some(0);
        assert!(name(&elements, &[], all_alike, &mut 4_949).is_err());
        let (names, again) =
            name(&elements, &elements, all_alike, &mut 100_000).expect("work enough");
        assert_eq!(names, (0..100).collect::<Vec<u32>>());
        assert_eq!(again, names);
    }

    proptest! {
        #[test]
        fn equal_elements_and_only_those_share_a_name(elements in proptest::collection::vec(any_json(), 0..10)) {
            let (names, _) = name(&elements, &[], fingerprint, &mut usize::MAX.clone()).expect("work enough");
            for (i, a) in elements.iter().enumerate() {
                for (j, b) in elements.iter().enumerate() {
                    prop_assert_eq!(names[i] == names[j], a == b);
                }
            }
        }
    }
}
