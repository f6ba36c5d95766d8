//! What the fuzz targets share.

pub mod rows;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use plimsoll::source::itch::{ItchConfig, ItchDecoder};
use plimsoll::source::{Burst, FeedCount, Flow, Input, Source, SourceError};
use plimsoll::{Bbo, BookHandler, Symbols};

/// An input of these bytes; `None` where not even the first of them can be unpacked.
pub fn input(bytes: &[u8]) -> Option<Input> {
    Input::new(Path::new("fuzz"), Box::new(Cursor::new(bytes.to_vec())), &Arc::default()).ok()
}

/// A registry that may well be full.
pub fn symbols() -> Arc<Symbols> {
    Arc::new(Symbols::new(Default::default(), 64))
}

/// A decoder whose table may well be full.
pub fn itch() -> ItchDecoder {
    ItchDecoder::new(symbols(), ItchConfig { orders_max: 64, ..ItchConfig::default() })
}

/// Reads a source to its end, and keeps books of what it gives. An error names where it is, and what; and nothing comes out of a few bytes that
/// would not fit into them.
pub fn drain(source: &mut dyn Source, bytes: usize) {
    let (mut burst, mut ticks) = (Burst::new(), 0);
    let mut books = BookHandler::new(|_: &Bbo| {});
    loop {
        burst.clear();
        let flow = source.next_burst(&mut burst);
        ticks += burst.len();
        burst.ticks().iter().for_each(|tick| books.apply(tick));
        for (at, missed) in burst.gaps() {
            assert!(*at <= burst.len() && *missed > 0);
        }
        // A day that begins clears up to 64 books.
        assert!(ticks <= 66 * (bytes + 1), "{ticks} ticks of {bytes} bytes");
        match flow {
            Ok(Flow::End) => break,
            Ok(_) => {}
            Err(SourceError::Malformed { kind, reason, .. }) => {
                assert!(!kind.is_empty() && !reason.is_empty());
                break;
            }
            Err(_) => break,
        }
    }
    let counters = source.counters();
    assert!(counters.get(FeedCount::Messages) <= bytes as u64 * 64 + 64);
    assert!(source.facts().memory_bytes > 0);
}
