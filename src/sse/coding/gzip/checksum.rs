//! The checksum that ends a gzip member, of a stream whose parts are shared: nobody goes through a part once for each client.
//!
//! A CRC is the remainder of a polynomial, so that of two parts follows from those of each: the first one's, multiplied by
//! the power of x that is as long as the second part, plus the second one's. The power is worked out once for each part; what
//! is left for each client is one multiplication.

use flate2::Crc;

/// CRC-32 (RFC 1952 §8), lowest power first.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// 1, and x to the 8: a byte.
const ONE: u32 = 1 << 31;
const BYTE: u32 = ONE >> 8;

/// Of all that a stream held so far.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sse) struct Checksum {
    crc: u32,
    /// Modulo 2^32, as RFC 1952 wants it.
    length: u32,
}

/// Of what is put behind something.
#[derive(Clone, Copy, Debug)]
pub(in crate::sse) struct Part {
    crc: u32,
    length: u32,
    /// What the checksum of what is before is multiplied by.
    shift: u32,
}

impl Part {
    pub(in crate::sse) fn of(bytes: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(bytes);
        Self {
            crc: crc.sum(),
            length: bytes.len() as u32,
            shift: power(BYTE, bytes.len()),
        }
    }
}

impl Checksum {
    /// `part` follows.
    pub(in crate::sse) fn add(&mut self, part: &Part) {
        self.crc = product(self.crc, part.shift) ^ part.crc;
        self.length = self.length.wrapping_add(part.length);
    }

    /// What a member ends with (RFC 1952 §2.3).
    pub(in crate::sse) fn trailer(self) -> [u8; 8] {
        let [a, b, c, d] = self.crc.to_le_bytes();
        let [e, f, g, h] = self.length.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// `base` to the `exponent`.
fn power(mut base: u32, mut exponent: usize) -> u32 {
    let mut power = ONE;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = product(power, base);
        }
        base = product(base, base);
        exponent >>= 1;
    }
    power
}

/// Of two remainders, its remainder.
fn product(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        // All ones or nothing: the bits of a checksum are as good as random, so that a branch would be guessed wrong.
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Parts added up have the checksum of the whole (RFC 1952 §2.3.1).
        #[test]
        fn parts_add_up(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..6)) {
            let mut sum = Checksum::default();
            parts.iter().for_each(|part| sum.add(&Part::of(part)));
            let whole = parts.concat();
            let mut crc = Crc::new();
            crc.update(&whole);
            let trailer = [crc.sum().to_le_bytes(), (whole.len() as u32).to_le_bytes()].concat();
            prop_assert_eq!(sum.trailer().to_vec(), trailer);
        }
    }
}
