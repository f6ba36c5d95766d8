//! What a record has to be like before the decoder may look at it: it takes for granted that records are aligned, and that those which it
//! upgrades are as long as their type, and panics or worse where they are not.

use std::mem::size_of;

use dbn::{v1, v2};

/// Lengths are counted in so many bytes: the specification's "length in 32-bit words".
const WORD: usize = 4;
/// All types of records have a multiple of this many bytes, by which they are aligned in the decoder's buffer.
const ALIGNMENT: usize = 8;
/// Bytes that follow a record where the file has the time of sending.
const TS_OUT: usize = 8;

/// Of which version a file is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    version: u8,
    has_ts_out: bool,
}

/// What is wrong with a record's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misshapen {
    /// It is too short for its type: this many bytes can be left out.
    Short(usize, String),
    /// What follows it cannot be read.
    Unaligned(String),
}

impl Shape {
    pub(super) fn new(version: u8, has_ts_out: bool) -> Self {
        Self { version, has_ts_out }
    }

    /// Looks at the next record, if all of it is there.
    #[inline]
    pub(super) fn check(self, data: &[u8]) -> Result<(), Misshapen> {
        let [length, kind, ..] = *data else { return Ok(()) };
        let bytes = usize::from(length) * WORD;
        if !bytes.is_multiple_of(ALIGNMENT) {
            return Err(Misshapen::Unaligned(format!("it has {bytes} bytes, which no record has")));
        }
        match self.least(kind) {
            Some(least) if bytes < least && bytes > 0 && data.len() >= bytes => Err(self.short(bytes, least)),
            _ => Ok(()),
        }
    }

    #[cold]
    fn short(self, bytes: usize, least: usize) -> Misshapen {
        Misshapen::Short(bytes, format!("it has {bytes} bytes, and not {least} as in version {}", self.version))
    }

    /// The least bytes of a record that is upgraded.
    fn least(self, kind: u8) -> Option<usize> {
        use dbn::rtype::{ERROR, INSTRUMENT_DEF, STATISTICS, SYMBOL_MAPPING, SYSTEM};
        let bytes = match (self.version, kind) {
            (1, INSTRUMENT_DEF) => size_of::<v1::InstrumentDefMsg>(),
            (2, INSTRUMENT_DEF) => size_of::<v2::InstrumentDefMsg>(),
            (1 | 2, STATISTICS) => size_of::<v1::StatMsg>(),
            (1, SYMBOL_MAPPING) => size_of::<v1::SymbolMappingMsg>(),
            (1, ERROR) => size_of::<v1::ErrorMsg>(),
            (1, SYSTEM) => size_of::<v1::SystemMsg>(),
            _ => return None,
        };
        Some(bytes + if self.has_ts_out { TS_OUT } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_aligned_and_as_long_as_their_type() {
        let of = |version, has_ts_out, length: u8, kind, there| {
            let mut data = vec![0; there];
            data[..2].copy_from_slice(&[length, kind]);
            Shape::new(version, has_ts_out).check(&data)
        };
        let definition = dbn::rtype::INSTRUMENT_DEF;
        assert_eq!(of(3, false, 14, dbn::rtype::MBO, 56), Ok(()));
        assert!(matches!(of(3, false, 13, dbn::rtype::MBO, 16), Err(Misshapen::Unaligned(_))));
        assert_eq!(of(1, false, 90, definition, 360), Ok(()), "360 bytes in version 1");
        assert!(
            matches!(of(1, true, 90, definition, 360), Err(Misshapen::Short(360, _))),
            "and 8 for the time of sending"
        );
        assert!(matches!(of(2, false, 4, definition, 16), Err(Misshapen::Short(16, _))));
        assert_eq!(of(2, false, 6, definition, 16), Ok(()), "not all of it is there");
        assert_eq!(of(3, false, 4, definition, 16), Ok(()), "the decoder looks at that itself");
        assert_eq!(Shape::new(1, false).check(&[]), Ok(()));
    }
}
