//! Exact percentiles, and medians with their spread.

use std::fmt;

/// Several repeats of one measurement. Never empty.
#[derive(Clone, Debug)]
pub(crate) struct Repeats {
    sorted: Vec<f64>,
}

impl Repeats {
    /// `None` when there is no number among `values`.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then_some(Self { sorted })
    }

    /// The middle one, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        match self.sorted.len() % 2 {
            0 => (self.sorted[middle - 1] + self.sorted[middle]) / 2.0,
            _ => self.sorted[middle],
        }
    }
}

/// `median (lowest–highest)`; a precision may be given, 2 digits without.
impl fmt::Display for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$}", self.median())?;
        match self.sorted.as_slice() {
            [_] => Ok(()),
            [low, .., high] => write!(f, " ({low:.digits$}–{high:.digits$})"),
            [] => Ok(()),
        }
    }
}

/// Percentiles of a latency, milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    /// Median.
    pub(crate) p50: f64,
    /// 99 of 100 are not later.
    pub(crate) p99: f64,
    /// The latest.
    pub(crate) max: f64,
}

impl Latency {
    /// From nanoseconds in any order, which it sorts; `None` without any.
    pub(crate) fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        let at = |share: f64| {
            // Nearest rank: the smallest sample that `share` of all do not exceed.
            let rank = (share * samples.len() as f64).ceil() as usize;
            samples
                .get(rank.max(1) - 1)
                .map(|&nanos| nanos as f64 / 1e6)
        };
        Some(Self {
            p50: at(0.50)?,
            p99: at(0.99)?,
            max: at(1.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of =
            |values: &[f64]| Repeats::new(values.iter().copied()).map(|repeats| repeats.median());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(of(&[f64::NAN]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn spread_is_shown_when_there_is_one() {
        let show = |values: &[f64]| {
            Repeats::new(values.iter().copied()).map(|repeats| format!("{repeats:.1}"))
        };
        assert_eq!(show(&[2.0]).as_deref(), Some("2.0"));
        assert_eq!(show(&[2.0, 9.0, 1.0]).as_deref(), Some("2.0 (1.0–9.0)"));
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut samples: Vec<u64> = (1..=100).rev().map(|n| n * 1_000_000).collect();
        let latency = Latency::of(&mut samples);
        assert_eq!(
            latency.map(|l| (l.p50, l.p99, l.max)),
            Some((50.0, 99.0, 100.0))
        );
        assert!(Latency::of(&mut []).is_none());
    }
}
