//! What a feed counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that a feed counts.
///
/// Each says what it is for any feed; a feed leaves those that it does not know at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum FeedCount {
    /// Bytes read: of a file as it is on disk, of packets as they came.
    Bytes,
    /// Bytes there are to read; 0 where nobody knows.
    BytesTotal,
    /// Packets received, all lines together.
    Packets,
    /// Messages decoded, or rows read.
    Messages,
    /// Messages and rows that were malformed and left out.
    Malformed,
    /// Packets that were left out since they are not the feed's, such as fragments and other protocols; and records of kinds that make no
    /// tick.
    Foreign,
    /// Messages that came again, on the same line or another, and were dropped.
    Duplicates,
    /// Messages that came out of order, and were put in their place.
    Reordered,
    /// Holes that were announced.
    Gaps,
    /// Messages in announced holes.
    Missed,
    /// Messages that were asked for again.
    Requested,
    /// Messages that came since they were asked for again.
    Recovered,
    /// Datagrams that the kernel dropped for lack of room in a receive buffer.
    KernelDrops,
    /// Messages about orders or symbols that the feed does not know.
    Unresolved,
    /// Orders that found the order table full.
    Untracked,
    /// Orders in the order table. A gauge.
    Orders,
    /// Messages that have arrived, and wait for the feed. A gauge, part of the lag.
    Backlog,
}

impl FeedCount {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Bytes,
        Self::BytesTotal,
        Self::Packets,
        Self::Messages,
        Self::Malformed,
        Self::Foreign,
        Self::Duplicates,
        Self::Reordered,
        Self::Gaps,
        Self::Missed,
        Self::Requested,
        Self::Recovered,
        Self::KernelDrops,
        Self::Unresolved,
        Self::Untracked,
        Self::Orders,
        Self::Backlog,
    ];

    /// Its name, in lower case, with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::BytesTotal => "bytes_total",
            Self::Packets => "packets",
            Self::Messages => "messages",
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Duplicates => "duplicates",
            Self::Reordered => "reordered",
            Self::Gaps => "gaps",
            Self::Missed => "missed",
            Self::Requested => "requested",
            Self::Recovered => "recovered",
            Self::KernelDrops => "kernel_drops",
            Self::Unresolved => "unresolved",
            Self::Untracked => "untracked",
            Self::Orders => "orders",
            Self::Backlog => "backlog",
        }
    }

    /// Whether it goes up and down.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Self::BytesTotal | Self::Orders | Self::Backlog)
    }
}

/// A feed's counts: written by the feed, read by anybody.
#[derive(Debug, Default)]
pub struct FeedCounters([AtomicU64; FeedCount::ALL.len()]);

impl FeedCounters {
    /// The count now.
    pub fn get(&self, count: FeedCount) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    /// Adds to a count. Once a burst, rather than once a message.
    pub fn add(&self, count: FeedCount, n: u64) {
        if n > 0 {
            self.0[count as usize].fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Sets a count.
    pub fn set(&self, count: FeedCount, n: u64) {
        self.0[count as usize].store(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_its_own_place_and_name() {
        let counters = FeedCounters::default();
        let mut names: Vec<_> = FeedCount::ALL.iter().map(|count| count.name()).collect();
        for (i, count) in FeedCount::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, i);
            counters.add(count, i as u64);
            counters.set(count, counters.get(count) + 1);
        }
        assert!(FeedCount::ALL.iter().enumerate().all(|(i, count)| counters.get(*count) == i as u64 + 1));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FeedCount::ALL.len());
    }
}
