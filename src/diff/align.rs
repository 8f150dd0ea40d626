//! Sequences of numbers: what two have in common, in order. Pure, deterministic, never quadratic.

use std::collections::HashMap;

/// Edits up to which the shortest script is looked for; it needs memory by the square of it (two megabytes).
const MAX_EDITS: usize = 1_000;

/// Pairs of indexes (into `old`, into `new`) of equal elements, both ascending: a longest common subsequence, or, where the
/// sequences repeat elements and differ much or `work` runs out, a common subsequence.
pub(super) fn common(old: &[u32], new: &[u32], work: &mut usize) -> Vec<(usize, usize)> {
    // Without repetitions, pairing by occurrence loses nothing and the longest ascending chain is the best there is.
    let shortest = (repeats(old) || repeats(new)).then(|| by_shortest_edit(old, new, work));
    if let Some(Some(pairs)) = shortest {
        return pairs;
    }
    longest_ascending(&by_occurrence(old, new))
}

/// The longest subsequence of `pairs` whose first members ascend, in O(n log n).
pub(super) fn longest_ascending(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // The pair that ends the best subsequence of each length, and for each pair the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (at, (value, _)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].0 < *value);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut chain: Vec<_> = std::iter::successors(ends.last().copied(), |at| before[*at])
        .map(|at| pairs[at])
        .collect();
    chain.reverse();
    chain
}

fn repeats(sequence: &[u32]) -> bool {
    let mut seen = std::collections::HashSet::with_capacity(sequence.len());
    !sequence.iter().all(|element| seen.insert(element))
}

/// Pairs the first of each element with the first equal one, the second with the second; in the order of `new`.
fn by_occurrence(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, element) in old.iter().enumerate().rev() {
        places.entry(*element).or_default().push(index);
    }
    let pair = |(index, element)| Some((places.get_mut(element)?.pop()?, index));
    new.iter().enumerate().filter_map(pair).collect()
}

/// The greedy algorithm of Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), with the furthest points of all
/// rounds kept. `None` past [`MAX_EDITS`] or without work.
fn by_shortest_edit(old: &[u32], new: &[u32], work: &mut usize) -> Option<Vec<(usize, usize)>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=MAX_EDITS {
        let mut reached = Vec::with_capacity(edits + 1);
        for lane in 0..=edits {
            *work = work.checked_sub(1)?;
            let (mut x, mut y) = entry(&rounds, edits, lane);
            while x < old.len() && y < new.len() && old[x] == new[y] {
                *work = work.checked_sub(1)?;
                (x, y) = (x + 1, y + 1);
            }
            reached.push(x);
            if (x, y) == (old.len(), new.len()) {
                return Some(trace_back(&rounds, edits, lane, x));
            }
        }
        rounds.push(reached);
    }
    None
}

/// Where lane `lane` of round `edits` begins: `x` elements of the old and `y` of the new sequence are behind it. Lanes are the
/// diagonals, numbered so that lane `l` of round `d` is the diagonal x - y = 2l - d.
fn entry(rounds: &[Vec<usize>], edits: usize, lane: usize) -> (usize, usize) {
    let Some(last) = edits.checked_sub(1).map(|round| &rounds[round]) else {
        return (0, 0);
    };
    let x = if came_by_addition(last, lane) {
        last[lane]
    } else {
        last[lane - 1] + 1
    };
    // y = x - (2 lane - edits), which is never negative: a lane above the middle was reached by removals.
    (x, x + edits - 2 * lane)
}

/// From the diagonal above (an element of `new` more), or from the one below (an element of `old` less)?
fn came_by_addition(last: &[usize], lane: usize) -> bool {
    lane == 0 || (lane < last.len() && last[lane - 1] < last[lane])
}

fn trace_back(
    rounds: &[Vec<usize>],
    mut edits: usize,
    mut lane: usize,
    mut x: usize,
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    loop {
        let (start, _) = entry(rounds, edits, lane);
        while x > start {
            x -= 1;
            pairs.push((x, x + edits - 2 * lane));
        }
        let Some(last) = edits.checked_sub(1).map(|round| &rounds[round]) else {
            break;
        };
        if !came_by_addition(last, lane) {
            lane -= 1;
        }
        x = last[lane];
        edits -= 1;
    }
    pairs.reverse();
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The textbook table: slow, and plainly right.
    fn longest_common(old: &[u32], new: &[u32]) -> usize {
        let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
        for i in 1..=old.len() {
            for j in 1..=new.len() {
                table[i][j] = if old[i - 1] == new[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        table[old.len()][new.len()]
    }

    fn is_common(old: &[u32], new: &[u32], pairs: &[(usize, usize)]) -> bool {
        pairs.iter().all(|(i, j)| old[*i] == new[*j])
            && pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1)
    }

    #[test]
    fn without_work_something_common_is_found_all_the_same() {
        let old: Vec<u32> = (0..500).map(|n| n % 50).collect();
        let new: Vec<u32> = (1..500).map(|n| n % 50).collect();
        let found = common(&old, &new, &mut 0);
        assert!(
            is_common(&old, &new, &found) && found.len() > 100,
            "{}",
            found.len()
        );
    }

    /// EDGE J5: ends by work, not by size.
    #[test]
    fn much_that_differs_ends_by_work() {
        let old: Vec<u32> = (0..200_000).map(|n| n % 1_000).collect();
        let new: Vec<u32> = (0..200_000).map(|n| n * 7 % 1_003).collect();
        let mut work = 50_000;
        let found = common(&old, &new, &mut work);
        assert!(is_common(&old, &new, &found));
        assert_eq!(by_shortest_edit(&old, &new, &mut 50_000), None);
    }

    proptest! {
        #[test]
        fn it_is_the_longest(
            old in proptest::collection::vec(0..5_u32, 0..14),
            new in proptest::collection::vec(0..5_u32, 0..14),
        ) {
            let pairs = common(&old, &new, &mut usize::MAX.clone());
            prop_assert!(is_common(&old, &new, &pairs), "{:?}", pairs);
            prop_assert_eq!(pairs.len(), longest_common(&old, &new));
        }

        #[test]
        fn it_is_the_longest_of_permutations(new in Just((0..12).collect::<Vec<u32>>()).prop_shuffle()) {
            let old: Vec<u32> = (0..12).collect();
            let pairs = common(&old, &new, &mut 0);
            prop_assert!(is_common(&old, &new, &pairs));
            prop_assert_eq!(pairs.len(), longest_common(&old, &new));
        }

        #[test]
        fn by_occurrence_is_common_too(
            old in proptest::collection::vec(0..5_u32, 0..14),
            new in proptest::collection::vec(0..5_u32, 0..14),
        ) {
            let pairs = longest_ascending(&by_occurrence(&old, &new));
            prop_assert!(is_common(&old, &new, &pairs), "{:?}", pairs);
        }
    }
}
