//! Durations, sizes and rates as they are written. Pure.

use std::time::Duration;

use crate::config::field::Rate;

const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];
const PERIODS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// What to write for a duration.
pub(super) const DURATION_HINT: &str = "250ms, 2s, 5m, 1h or 1d";
/// What to write for a size.
pub(super) const SIZE_HINT: &str = "64KiB, 1MiB, 1GiB or a number of bytes";
/// What to write for a rate.
pub(super) const RATE_HINT: &str = "20/s, 600/m or 5000/h";

/// Milliseconds of `250ms`, `2s`, `5m`, `1h`, `1d`.
pub(super) fn duration(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    scaled(number, unit, &DURATIONS)
}

/// Bytes of `64KiB`, `1MiB`, `1GiB`, `1024`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    scaled(number, unit, &SIZES)
}

/// `20/s`, `600/m`, `5000/h`; at least one.
pub(super) fn rate(text: &str) -> Option<Rate> {
    let (count, period) = text.split_once('/')?;
    let (number, "") = split(count)? else {
        return None;
    };
    let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == period)?;
    Some(Rate {
        count: number.parse().ok().filter(|&count| count > 0)?,
        per: Duration::from_secs(*seconds),
    })
}

/// As [`duration`] reads it, in the largest unit that fits.
pub(super) fn show_duration(milliseconds: u64) -> String {
    let fits =
        |(_, scale): &&(&str, u64)| milliseconds >= *scale && milliseconds.is_multiple_of(*scale);
    let (unit, scale) = DURATIONS.iter().rev().find(fits).unwrap_or(&("s", 1000));
    format!("{}{unit}", milliseconds / scale)
}

/// As [`size`] reads it, in the largest unit that fits.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = |(_, scale): &&(&str, u64)| bytes >= *scale && bytes.is_multiple_of(*scale);
    let (unit, scale) = SIZES.iter().find(fits).unwrap_or(&("", 1));
    format!("{}{unit}", bytes / scale)
}

/// Digits and what follows them.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn scaled(number: &str, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_as_the_contract_writes_them() {
        let ms = ["250ms", "2s", "5m", "1h", "1d", "0s"].map(duration);
        assert_eq!(ms, [250, 2000, 300_000, 3_600_000, 86_400_000, 0].map(Some));
        assert_eq!(
            ["64KiB", "1MiB", "1024"].map(size),
            [65_536, 1 << 20, 1024].map(Some)
        );
        let per_minute = rate("600/m").expect("a rate");
        assert_eq!(
            (per_minute.count, per_minute.per),
            (600, Duration::from_secs(60))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2",
            "s",
            "2 s",
            "1.5s",
            "-1s",
            "+1s",
            "2S",
            "2sec",
            "1m30s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in [
            "",
            "KiB",
            "1KB",
            "1k",
            "1 MiB",
            "-1",
            "1.5MiB",
            "18446744073709551615KiB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
        for text in [
            "",
            "20",
            "20/",
            "/s",
            "0/s",
            "20/d",
            "20 /s",
            "+1/s",
            "2x/s",
            "4294967296/s",
        ] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_the_same(number in 0..u64::MAX / 2) {
            prop_assert_eq!(duration(&show_duration(number)), Some(number));
            prop_assert_eq!(size(&show_size(number)), Some(number));
        }
    }
}
