//! Ids that are not ours: those of the entries of a Redis stream. They order the entries, and mean the same in every process.

use std::fmt;

/// `MS-SEQ`, both decimal: at most 41 characters of the alphabet of ids (EDGE E7). Ordered as the entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// By habit the server's clock in milliseconds; whoever adds an entry may choose it.
    pub ms: u64,
    /// Tells entries of one millisecond apart.
    pub seq: u64,
}

impl EntryId {
    /// Before all entries; none has it.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };
    /// No entry can come after it.
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// Reads what [`fmt::Display`] writes; anything else, of any length and any bytes, is `None` (EDGE L6, L7).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..bytes.len().min(42))?).ok()?;
        let (ms, seq) = text.split_once('-')?;
        let id = Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        };
        // Only the one way of writing an id is that id: no sign, no leading zero, nothing behind it.
        (id.to_string().as_bytes() == bytes).then_some(id)
    }

    /// The smallest id that an entry after this one can have. `None`: there can be none.
    pub fn next(self) -> Option<Self> {
        let Self { ms, seq } = self;
        match seq.checked_add(1) {
            Some(seq) => Some(Self { ms, seq }),
            None => ms.checked_add(1).map(|ms| Self { ms, seq: 0 }),
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// EDGE L6: nothing but the way Redis writes an id is one.
    #[test]
    fn an_id_reads_back_and_nothing_else_is_one() {
        for text in [
            "0-0",
            "1700000000000-12",
            "18446744073709551615-18446744073709551615",
        ] {
            let id = EntryId::parse(text.as_bytes()).expect(text);
            assert_eq!(id.to_string(), text);
        }
        for other in [
            "",
            "-",
            "5",
            "5-",
            "-5",
            "05-1",
            "5-01",
            "+5-1",
            "5-+1",
            "5-1 ",
            "5-1-1",
            "5-*",
            "18446744073709551616-1",
            "18446744073709551615-184467440737095516150",
            "00000000000000ab-42",
        ] {
            assert_eq!(EntryId::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_next_id_is_the_smallest_larger_one() {
        let id = |ms, seq| EntryId { ms, seq };
        assert_eq!(id(5, 1).next(), Some(id(5, 2)));
        assert_eq!(id(5, u64::MAX).next(), Some(id(6, 0)));
        assert_eq!(EntryId::MAX.next(), None);
    }

    proptest! {
        /// EDGE L6, L7: any bytes are an unknown id, never a panic.
        #[test]
        fn any_bytes_are_no_id_or_print_as_themselves(bytes: Vec<u8>) {
            if let Some(id) = EntryId::parse(&bytes) {
                prop_assert_eq!(id.to_string().into_bytes(), bytes);
            }
        }

        #[test]
        fn ids_are_ordered_as_their_successors(ms: u64, seq: u64) {
            let id = EntryId { ms, seq };
            prop_assert_eq!(EntryId::parse(id.to_string().as_bytes()), Some(id));
            prop_assert!(id.next().is_none_or(|next| next > id));
        }
    }
}
