//! Exact decimal prices: a count of billionths.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A price as a whole number of billionths (10⁻⁹) of the currency unit.
///
/// The range is about ±9.22 billion units. Parsing and printing are exact: `"36.667"` is
/// 36 667 000 000 billionths, and prints as `36.667` again, without trailing zeros.
///
/// ```
/// use plimsoll::Price;
/// let price: Price = "36.6670".parse()?;
/// assert_eq!(price.billionths(), 36_667_000_000);
/// assert_eq!(price.to_string(), "36.667");
/// # Ok::<(), plimsoll::PriceError>(())
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Price(i64);

/// Decimals that a [`Price`] holds.
const DECIMALS: usize = 9;
const SCALE: u64 = 1_000_000_000;

/// Why a text is not a [`Price`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// No digits at all.
    #[error("empty")]
    Empty,
    /// Something other than digits, one leading minus and one decimal point.
    #[error("not a decimal number")]
    NotDecimal,
    /// More than nine decimals that are not zero.
    #[error("more than 9 decimals")]
    TooPrecise,
    /// Beyond ±9 223 372 036.854775807.
    #[error("out of range (about ±9.22 billion)")]
    OutOfRange,
}

impl Price {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// A price of this many billionths.
    pub const fn from_billionths(billionths: i64) -> Self {
        Self(billionths)
    }

    /// The price as a count of billionths.
    pub const fn billionths(self) -> i64 {
        self.0
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(if text.is_empty() { PriceError::Empty } else { PriceError::NotDecimal });
        }
        if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(PriceError::NotDecimal);
        }
        let (kept, beyond) = fraction.split_at(fraction.len().min(DECIMALS));
        if beyond.bytes().any(|b| b != b'0') {
            return Err(PriceError::TooPrecise);
        }
        let padding = std::iter::repeat_n(b'0', DECIMALS - kept.len());
        let magnitude = whole
            .bytes()
            .chain(kept.bytes())
            .chain(padding)
            .try_fold(0i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b - b'0')));
        let magnitude = magnitude.ok_or(PriceError::OutOfRange)?;
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / SCALE, magnitude % SCALE);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// `numerator / denominator`, rounded to the nearest whole number, halves to even.
///
/// Returns `None` for a zero denominator or when the result does not fit.
pub(crate) fn divide_half_even(numerator: i128, denominator: i128) -> Option<i64> {
    let quotient = numerator.checked_div_euclid(denominator)?;
    let remainder = numerator.checked_rem_euclid(denominator)?.unsigned_abs();
    let rest = denominator.unsigned_abs() - remainder;
    let round_up = remainder > rest || (remainder == rest && quotient % 2 != 0);
    let step = i128::from(round_up) * denominator.signum();
    i64::try_from(quotient + step).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_no_price_say_why() {
        for (text, error) in [
            ("", PriceError::Empty),
            ("-", PriceError::NotDecimal),
            (".", PriceError::NotDecimal),
            ("1.2.3", PriceError::NotDecimal),
            ("+1", PriceError::NotDecimal),
            ("1e3", PriceError::NotDecimal),
            (" 1", PriceError::NotDecimal),
            ("0.0000000001", PriceError::TooPrecise),
            ("9223372036.854775808", PriceError::OutOfRange),
        ] {
            assert_eq!(text.parse::<Price>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn trailing_zeros_beyond_the_ninth_decimal_are_harmless() {
        assert_eq!("1.10000000000".parse(), Ok(Price::from_billionths(1_100_000_000)));
    }

    #[test]
    fn halves_go_to_the_even_neighbour_on_both_sides_of_zero() {
        for (n, d, rounded) in
            [(1, 2, 0), (3, 2, 2), (5, 2, 2), (-1, 2, 0), (-3, 2, -2), (-5, 2, -2), (7, 4, 2), (-7, 4, -2), (5, 4, 1)]
        {
            assert_eq!(divide_half_even(n, d), Some(rounded), "{n}/{d}");
        }
        assert_eq!(divide_half_even(1, 0), None);
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(billionths in (i64::MIN + 1)..=i64::MAX) {
            let price = Price::from_billionths(billionths);
            let text = price.to_string();
            prop_assert_eq!(text.parse::<Price>(), Ok(price));
            prop_assert!(!text.contains('.') || !text.ends_with('0'));
        }
    }
}
