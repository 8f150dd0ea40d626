//! The known word that a mistyped one is closest to. Pure.

/// The one of `known` that `word` was probably meant to be: at most a third of its letters differ.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let simple = |text: &str| text.to_lowercase().replace('-', "_");
    let word = simple(word);
    // Longer words have no key nearby, and the distance costs the product of both lengths.
    if word.len() > 64 {
        return None;
    }
    let (distance, best) = known
        .map(|candidate| (distance(&word, &simple(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= best.len().div_ceil(3)).then_some(best)
}

/// Single-character edits from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_key() {
        let find = |word| {
            nearest(
                word,
                ["every", "headers", "max_body", "heartbeat"].into_iter(),
            )
        };
        assert_eq!(find("evry"), Some("every"));
        assert_eq!(find("Header"), Some("headers"));
        assert_eq!(find("max-body"), Some("max_body"));
        assert_eq!(find("interval"), None);
        assert_eq!(find(&"every".repeat(1000)), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
