//! Times and sizes as people write them: `100ms`, `64MiB`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A time such as `60s`, in nanoseconds.
pub(crate) fn time(text: &str) -> Result<NonZeroU64, String> {
    let (number, unit) = split(text);
    let unit_ns = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => 0,
    };
    scaled(number, unit_ns)
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "give a whole number above 0 and a unit: ns, us, ms, s, m or h".to_owned())
}

/// A number of bytes: `67108864`, `64MiB`, `64 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let unit_bytes = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => 0,
        };
        let bytes = scaled(number, unit_bytes).filter(|_| unit_bytes > 0);
        bytes.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no size: give a whole number of bytes, or one with KiB, MiB, GiB or TiB, as in `64MiB`"
            )
        })
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"64MiB\"")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Bytes, E> {
                let bytes = u64::try_from(bytes);
                bytes.map(Bytes).map_err(|_| E::custom("a size in bytes cannot be less than 0"))
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

/// The digits at the begin of a text, and the rest.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len())
}

fn scaled(number: &str, unit: u64) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        assert_eq!(time("60s"), time("1m"));
        assert_eq!(time("250ms").map(NonZeroU64::get), Ok(250_000_000));
        for text in ["", "s", "60", "0s", "-1s", "1.5s", "60 s", "99999999999h"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_numbers_of_bytes_with_or_without_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("7B", 7), ("64KiB", 1 << 16), ("64 MiB", 1 << 26), ("16GiB", 1 << 34)]
        {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MiB", "64MB", "64M", "64mib", "1.5GiB", "-1", "64_000", "99999999TiB"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.starts_with(&format!("{text:?} is no size")), "{error}");
        }
    }
}
