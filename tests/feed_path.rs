//! From bytes of a feed to books: nothing is allocated, once tables are as large as they get.
#![cfg(feature = "feeds")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/counting.rs"]
mod counting;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use counting::{COUNTING, MARKED, counted};
use plimsoll::market::{Market, MarketConfig, write_itch};
use plimsoll::source::itch::{ItchConfig, ItchDecoder, ItchFile};
use plimsoll::source::{Burst, Flow, Input, OnMalformed, Source};
use plimsoll::{Bbo, BookHandler, Symbols};

/// A day's file, read by a decoder that may have read others before.
fn file(day: &'static [u8], decoder: ItchDecoder) -> ItchFile<ItchDecoder> {
    let counters = Arc::default();
    let input = Input::new(Path::new("day"), Box::new(Cursor::new(day)), &counters).unwrap();
    ItchFile::new(input, decoder, OnMalformed::Stop, counters)
}

#[test]
fn decoding_and_books_do_not_allocate() {
    let config = MarketConfig { seed: 9, messages: 200_000, symbols: 50, ..MarketConfig::default() };
    let mut day = Vec::new();
    write_itch(&mut Market::new(&config).unwrap(), &mut day).unwrap();
    let day: &'static [u8] = day.leak();
    let itch = ItchConfig { orders_max: 10_000, ..ItchConfig::default() };
    let mut decoder = ItchDecoder::new(Arc::new(Symbols::default()), itch);
    let mut told = 0u64;
    let counted_changes = Box::leak(Box::new(std::sync::atomic::AtomicU64::new(0)));
    let counter: &'static std::sync::atomic::AtomicU64 = counted_changes;
    let mut books = BookHandler::new(move |_: &Bbo| _ = counter.fetch_add(1, Ordering::Relaxed));
    let mut burst = Burst::new();
    // The same day twice: the first makes all tables as large as they get.
    for pass in 0..2 {
        let mut source = file(day, decoder);
        let mut bursts = 0;
        loop {
            burst.clear();
            bursts += 1;
            // A day begins with symbols, and symbols are texts.
            let is_counted = pass == 1 && bursts > 10;
            MARKED.set(is_counted);
            COUNTING.store(is_counted, Ordering::Relaxed);
            let flow = source.next_burst(&mut burst).unwrap();
            burst.ticks().iter().for_each(|tick| books.apply(tick));
            if flow == Flow::End {
                break;
            }
        }
        COUNTING.store(false, Ordering::Relaxed);
        MARKED.set(false);
        assert!(bursts > 700, "{bursts}");
        let changes = counter.swap(0, Ordering::Relaxed);
        assert!(changes > 50_000 && (pass == 0 || changes >= told), "{changes}");
        told = changes;
        decoder = source.into_decoder();
    }
    assert_eq!(counted(), [0, 0, 0], "allocations, reallocations and deallocations");
    // And the count counts.
    MARKED.set(true);
    COUNTING.store(true, Ordering::Relaxed);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(10)));
    COUNTING.store(false, Ordering::Relaxed);
    assert_eq!(counted(), [1, 0, 1]);
}
