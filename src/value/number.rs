//! Numbers as text, compared as decimals: exact at any size, never through binary floats (EDGE U11).

use std::cmp::Ordering;
use std::fmt;

/// A number as the source wrote it (RFC 8259 §6).
///
/// Two numbers are equal when they are the same decimal: `1`, `1.0` and `10e-1` are, and so are `-0` and `0`;
/// 9007199254740992 and 9007199254740993 are not. Exponents of more than 18 digits are equal only as text.
#[derive(Clone, Debug)]
pub struct Number(Box<str>);

impl Number {
    /// Takes `text` when it is exactly one number in the grammar of RFC 8259 §6.
    pub fn parse(text: &str) -> Option<Self> {
        (scan(text.as_bytes()) == Some(text.len())).then(|| Self(text.into()))
    }

    /// The shortest decimal that reads back as `value`; `None` when it is not finite.
    pub fn from_f64(value: f64) -> Option<Self> {
        let text = format!("{value:?}");
        value
            .is_finite()
            .then(|| Self(text.strip_suffix(".0").unwrap_or(&text).into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest binary float; infinite when there is none.
    pub fn as_f64(&self) -> f64 {
        // The grammar of JSON numbers is a subset of what Rust reads, so the default is never taken.
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// Whether the two are further apart than `band`. Exact while all fit into 38 digits of one scale, as prices and
    /// readings do, so 0.3 is no further than 0.1 from 0.2; beyond that, in binary floats.
    pub(crate) fn is_further_from(&self, other: &Self, band: &Self) -> bool {
        exact_distance(self, other, band)
            .unwrap_or_else(|| (self.as_f64() - other.as_f64()).abs() > band.as_f64())
    }

    /// Appends bytes that are the same for equal numbers, and different for different ones.
    pub(crate) fn push_normal_form(&self, out: &mut Vec<u8>) {
        match Decimal::of(&self.0) {
            Some(decimal) => {
                out.push(if decimal.negative { b'-' } else { b'+' });
                out.extend(decimal.digits());
                out.push(b'e');
                out.extend_from_slice(&decimal.point.to_le_bytes());
            }
            None => out.extend_from_slice(self.0.as_bytes()),
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(value.to_string().into())
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
            || match (Decimal::of(&self.0), Decimal::of(&other.0)) {
                (Some(a), Some(b)) => a.cmp(&b).is_eq(),
                _ => false,
            }
    }
}

impl Eq for Number {}

/// Exact; `None` only between two different numbers with exponents of more than 18 digits.
impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self.0 == other.0 {
            return Some(Ordering::Equal);
        }
        let (a, a_is_exact) = Decimal::nearest(&self.0);
        let (b, b_is_exact) = Decimal::nearest(&other.0);
        (a_is_exact || b_is_exact).then(|| a.cmp(&b))
    }
}

/// The length of the number that `bytes` begin with.
pub(super) fn scan(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        bytes[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at += match bytes.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        let count = digits(at + 1);
        if count == 0 {
            return None;
        }
        at += 1 + count;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let count = digits(at + 1 + sign);
        if count == 0 {
            return None;
        }
        at += 1 + sign + count;
    }
    Some(at)
}

/// For text that [`scan`] accepted whole.
pub(super) fn from_scanned(text: &str) -> Number {
    Number(text.into())
}

/// ±0.DIGITS × 10^point, the digits without zeros at either end; zero has no digits, no sign and point 0.
struct Decimal<'a> {
    negative: bool,
    /// The digits, in two pieces: those before and those after the dot.
    head: &'a [u8],
    tail: &'a [u8],
    point: i64,
}

impl<'a> Decimal<'a> {
    /// `None` when the exponent has more than 18 digits and matters.
    fn of(text: &'a str) -> Option<Self> {
        let (decimal, is_exact) = Self::nearest(text);
        is_exact.then_some(decimal)
    }

    /// The decimal, and whether it is exact. One that is not has an exponent beyond all that are.
    fn nearest(text: &'a str) -> (Self, bool) {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut head = whole.trim_start_matches('0');
        let mut tail = fraction.trim_end_matches('0');
        let mut point = head.len() as i64;
        if head.is_empty() {
            let significant = tail.trim_start_matches('0');
            point = -((tail.len() - significant.len()) as i64);
            tail = significant;
        }
        if tail.is_empty() {
            head = head.trim_end_matches('0');
        }
        if head.is_empty() && tail.is_empty() {
            return (
                Self {
                    negative: false,
                    head: b"",
                    tail: b"",
                    point: 0,
                },
                true,
            );
        }
        let (exponent, is_exact) = exponent_of(exponent);
        let decimal = Self {
            negative,
            head: head.as_bytes(),
            tail: tail.as_bytes(),
            point: point + exponent,
        };
        (decimal, is_exact)
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.head.iter().chain(self.tail).copied()
    }

    fn is_zero(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |decimal: &Self| match (decimal.is_zero(), decimal.negative) {
            (true, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| {
            let size = self
                .point
                .cmp(&other.point)
                .then_with(|| self.digits().cmp(other.digits()));
            if self.negative { size.reverse() } else { size }
        })
    }

    /// The value as an integer × 10^scale, when `scale` and size allow it.
    fn scaled(&self, scale: i64) -> Option<i128> {
        let mut value: i128 = 0;
        let zeros = self
            .scale()
            .checked_sub(scale)
            .filter(|zeros| *zeros >= 0)?;
        for digit in self.digits() {
            value = value
                .checked_mul(10)?
                .checked_add(i128::from(digit - b'0'))?;
        }
        value = value.checked_mul(10_i128.checked_pow(u32::try_from(zeros).ok()?)?)?;
        Some(if self.negative { -value } else { value })
    }

    /// The power of ten of the last digit.
    fn scale(&self) -> i64 {
        self.point - (self.head.len() + self.tail.len()) as i64
    }
}

/// The exponent, and whether it is that and not a stand-in for one that is out of reach.
fn exponent_of(text: &str) -> (i64, bool) {
    /// Above 18 digits plus the length of any text in memory, and with room for that length above it.
    const OUT_OF_REACH: i64 = i64::MAX / 2;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.trim_start_matches('0');
    let (size, is_exact) = match digits.len() {
        0 => (0, true),
        // 18 digits always fit, so the stand-in is never taken here.
        1..=18 => (digits.parse().unwrap_or(OUT_OF_REACH), true),
        _ => (OUT_OF_REACH, false),
    };
    (if negative { -size } else { size }, is_exact)
}

fn exact_distance(a: &Number, b: &Number, band: &Number) -> Option<bool> {
    let all = [
        Decimal::of(&a.0)?,
        Decimal::of(&b.0)?,
        Decimal::of(&band.0)?,
    ];
    let scale = all
        .iter()
        .filter(|decimal| !decimal.is_zero())
        .map(Decimal::scale)
        .min()
        .unwrap_or(0);
    let [a, b, band] = all.map(|decimal| {
        if decimal.is_zero() {
            Some(0)
        } else {
            decimal.scaled(scale)
        }
    });
    Some(a?.checked_sub(b?)?.checked_abs()? > band?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::json::testing::any_number;

    fn number(text: &str) -> Number {
        Number::parse(text).expect("a number")
    }

    fn normal(number: &Number) -> Vec<u8> {
        let mut out = Vec::new();
        number.push_normal_form(&mut out);
        out
    }

    /// EDGE U11.
    #[test]
    fn equal_is_what_denotes_the_same_decimal() {
        for (a, b) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("1", "10E-1"),
            ("-0", "0"),
            ("0.00", "-0e9"),
            ("1200", "1.2e3"),
            ("0.05", "5e-2"),
            ("100e-4", "0.010"),
            ("1e+2", "100"),
            ("0e99999999999999999999", "0"),
            ("1e00000000000000000000001", "10"),
        ] {
            assert_eq!(number(a), number(b));
            assert_eq!(
                number(a).partial_cmp(&number(b)),
                Some(Ordering::Equal),
                "{a} {b}"
            );
        }
        for (a, b) in [
            ("9007199254740993", "9007199254740992"),
            ("1", "-1"),
            ("0.1", "0.10000000000000000001"),
            ("18446744073709551616", "18446744073709551617"),
            ("1e400", "1e401"),
            ("1e-400", "0"),
            ("10", "1"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("1e99999999999999999999", "1"),
            ("-1e-99999999999999999999", "0"),
        ] {
            assert_ne!(number(a), number(b));
        }
    }

    #[test]
    fn order_is_exact() {
        let ascending = [
            "-1e99999999999999999999",
            "-1e400",
            "-10",
            "-9.99",
            "-1e-400",
            "-1e-99999999999999999999",
            "0",
            "1e-99999999999999999999",
            "1e-400",
            "0.099",
            "0.1",
            "1",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "1e99999999999999999999",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
            assert!(number(pair[1]) > number(pair[0]), "{pair:?}");
        }
    }

    #[test]
    fn only_the_grammar_of_rfc_8259_is_a_number() {
        for text in [
            "", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1", "1_000", "NaN", "Infinity",
            "1 ", " 1", "1.5.", "٣",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_tenth_is_a_tenth() {
        let tenth = Number::from_f64(0.1).expect("finite");
        for (a, b, further) in [
            ("0.3", "0.2", false),
            ("0.2", "0.3", false),
            ("0.30001", "0.2", true),
            ("-0.05", "0.05", false),
            ("0", "0.1", false),
            ("1e30", "1.1e30", true),
            ("1e400", "1e-400", true),
            ("1e400", "1e400", false),
            ("100000000000000000.1", "100000000000000000.2", false),
        ] {
            assert_eq!(
                number(a).is_further_from(&number(b), &tenth),
                further,
                "{a} {b}"
            );
        }
    }

    #[test]
    fn floats_print_short() {
        let text = |value| Number::from_f64(value).map(|number| number.to_string());
        assert_eq!(text(3.0).as_deref(), Some("3"));
        assert_eq!(text(0.1).as_deref(), Some("0.1"));
        assert_eq!(text(f64::INFINITY), None);
        assert_eq!(text(f64::NAN), None);
    }

    proptest! {
        #[test]
        fn equality_order_and_normal_form_agree(a in any_number(99), b in any_number(99)) {
            prop_assert_eq!(a == b, a.partial_cmp(&b) == Some(Ordering::Equal));
            prop_assert_eq!(a == b, normal(&a) == normal(&b));
            prop_assert_eq!(a.partial_cmp(&b), b.partial_cmp(&a).map(Ordering::reverse));
            // These are small enough for floats to tell apart all that differ, and to order them.
            prop_assert_eq!(a.partial_cmp(&b), a.as_f64().partial_cmp(&b.as_f64()));
        }

        #[test]
        fn a_zero_more_changes_nothing(number in -1_000_000_i64..1_000_000, shift in 0_i64..30) {
            let plain = Number::from(number);
            let shifted = Number::parse(&format!("{number}{}.0e-{shift}", "0".repeat(shift as usize))).expect("a number");
            if number != 0 { prop_assert_eq!(plain, shifted); }
        }

        #[test]
        fn any_finite_float_is_a_number(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO) {
            let number = Number::from_f64(value).expect("finite");
            prop_assert_eq!(scan(number.as_str().as_bytes()), Some(number.as_str().len()));
            prop_assert_eq!(number.as_f64(), value);
        }
    }
}
