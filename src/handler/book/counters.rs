//! What a book handler counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one [`BookHandler`](super::BookHandler), which alone writes them; others read them while it runs.
#[derive(Debug, Default)]
pub struct BookCounters {
    pub(super) books: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) stale_ns: AtomicU64,
    pub(super) bbo_changes: AtomicU64,
    pub(super) unmatched: AtomicU64,
}

/// What [`BookCounters`] say, of one handler or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookCounts {
    /// Symbols that have a book.
    pub books: u64,
    /// Of these, stale ones.
    pub stale: u64,
    /// For how long books were stale, in nanoseconds of event time, all symbols together.
    pub stale_ns: u64,
    /// Changes of a best bid or offer.
    pub bbo_changes: u64,
    /// Messages that took from a level what was not there.
    pub unmatched: u64,
}

impl BookCounters {
    /// The counts now.
    pub fn get(&self) -> BookCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BookCounts {
            books: get(&self.books),
            stale: get(&self.stale),
            stale_ns: get(&self.stale_ns),
            bbo_changes: get(&self.bbo_changes),
            unmatched: get(&self.unmatched),
        }
    }
}

impl std::iter::Sum for BookCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            books: a.books + b.books,
            stale: a.stale + b.stale,
            stale_ns: a.stale_ns + b.stale_ns,
            bbo_changes: a.bbo_changes + b.bbo_changes,
            unmatched: a.unmatched + b.unmatched,
        })
    }
}
