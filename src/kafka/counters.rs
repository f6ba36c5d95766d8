//! What a member of a group tells of itself, for the monitor and for metrics.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// No offset is known.
const UNKNOWN: i64 = -1;

/// What a source counts, and where its partitions stand: written by its thread, read by anybody.
#[derive(Debug)]
pub struct KafkaCounters {
    /// All partitions that were ever assigned.
    partitions: RwLock<Vec<Arc<PartitionCounters>>>,
    counts: [AtomicU64; KafkaCount::ALL.len()],
    is_paused: AtomicBool,
    start: Instant,
    /// For how long a high watermark is news.
    fresh_for: Duration,
}

/// Something that a source counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum KafkaCount {
    /// Records taken.
    Records,
    /// Bytes of their keys and payloads.
    Bytes,
    /// Messages that records were made into.
    Messages,
    /// Records that could not be decoded.
    Undecodable,
    /// Of these, those that are safe with the dead letters.
    DeadLetters,
    /// Rebalances in which partitions came or went.
    Rebalances,
    /// Partitions that went without notice, as the group had given up on this member.
    Lost,
    /// Records that were not finished when their partition was given up: another member gets them again.
    GivenUp,
    /// Offsets committed, as often as a broker said so.
    Commits,
    /// Commits that failed.
    CommitFailures,
    /// How often all partitions were paused.
    Pauses,
    /// Errors that the client reported and goes on after.
    Errors,
    /// Members of the group; 0 while not known. A gauge.
    Members,
}

impl KafkaCount {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Records,
        Self::Bytes,
        Self::Messages,
        Self::Undecodable,
        Self::DeadLetters,
        Self::Rebalances,
        Self::Lost,
        Self::GivenUp,
        Self::Commits,
        Self::CommitFailures,
        Self::Pauses,
        Self::Errors,
        Self::Members,
    ];

    /// Its name, in lower case, with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::Messages => "messages",
            Self::Undecodable => "undecodable",
            Self::DeadLetters => "dead_letters",
            Self::Rebalances => "rebalances",
            Self::Lost => "lost_partitions",
            Self::GivenUp => "given_up",
            Self::Commits => "commits",
            Self::CommitFailures => "commit_failures",
            Self::Pauses => "pauses",
            Self::Errors => "errors",
            Self::Members => "members",
        }
    }

    /// Whether it goes up and down.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Self::Members)
    }
}

impl KafkaCounters {
    pub(super) fn new(fresh_for: Duration) -> Self {
        Self {
            partitions: RwLock::default(),
            counts: Default::default(),
            is_paused: AtomicBool::new(false),
            start: Instant::now(),
            fresh_for,
        }
    }

    /// The count now.
    pub fn get(&self, count: KafkaCount) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// One thread at a time: the one that polls the client.
    pub(super) fn add(&self, count: KafkaCount, n: u64) {
        if n > 0 {
            self.set(count, self.get(count) + n);
        }
    }

    pub(super) fn set(&self, count: KafkaCount, n: u64) {
        self.counts[count as usize].store(n, Ordering::Relaxed);
    }

    /// All partitions that were ever assigned to this member.
    pub fn partitions(&self) -> Vec<Arc<PartitionCounters>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters of a partition, new or known.
    pub(super) fn partition(&self, topic: &str, partition: i32) -> Arc<PartitionCounters> {
        let is_it = |there: &&Arc<PartitionCounters>| there.partition == partition && *there.topic == *topic;
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = partitions.iter().find(is_it) {
            return Arc::clone(known);
        }
        let new = Arc::new(PartitionCounters::new(topic, partition));
        partitions.push(Arc::clone(&new));
        new
    }

    /// Messages that wait in the partitions that are assigned to this member: high watermark less position, as far as both are known.
    pub fn backlog(&self) -> u64 {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|partition| partition.lag()).sum()
    }

    /// Whether the high watermark of an assigned partition is old, so that the [backlog](Self::backlog) may be wrong: a broker is away, or
    /// the partition has just been assigned.
    pub fn is_stale(&self) -> bool {
        let now = self.now_ms();
        let fresh_for = self.fresh_for.as_millis() as u64;
        let is_old = |partition: &Arc<PartitionCounters>| {
            partition.is_assigned() && partition.high_at_ms.load(Ordering::Relaxed) + fresh_for < now
        };
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).iter().any(is_old)
    }

    /// Whether all partitions are paused, since the gate is shut or the lanes have no room.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.is_paused.store(paused, Ordering::Relaxed);
    }

    /// Milliseconds since the source was opened.
    pub(super) fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// Where a partition stands.
#[derive(Debug)]
pub struct PartitionCounters {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    is_assigned: AtomicBool,
    /// The next offset to be taken.
    position: AtomicI64,
    committed: AtomicI64,
    /// It begins with the first record there is, if nothing is committed.
    is_from_start: AtomicBool,
    /// The offset of the first record there is.
    low: AtomicI64,
    /// The high watermark: the offset that the next record to be written gets.
    high: AtomicI64,
    /// When it was news.
    high_at_ms: AtomicU64,
    redelivered: AtomicU64,
    skipped: AtomicU64,
}

impl PartitionCounters {
    fn new(topic: &str, partition: i32) -> Self {
        let unknown = || AtomicI64::new(UNKNOWN);
        Self {
            topic: topic.into(),
            partition,
            is_assigned: AtomicBool::new(false),
            position: unknown(),
            committed: unknown(),
            is_from_start: AtomicBool::new(false),
            low: unknown(),
            high: unknown(),
            high_at_ms: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// Whether it is assigned to this member.
    pub fn is_assigned(&self) -> bool {
        self.is_assigned.load(Ordering::Relaxed)
    }

    /// The offset of the next record to be taken, if it is known.
    pub fn position(&self) -> Option<i64> {
        known(&self.position)
    }

    /// The committed offset, as this member knows it.
    pub fn committed(&self) -> Option<i64> {
        known(&self.committed)
    }

    /// The offset that the next record to be written gets, as of the last answer of the partition's broker.
    pub fn high(&self) -> Option<i64> {
        known(&self.high)
    }

    /// Records that wait in it for this member; 0 when it is not assigned, or not enough is known.
    pub fn lag(&self) -> u64 {
        // Before the first record it stands where it will begin.
        let begin = || known(&self.low).filter(|_| self.is_from_start.load(Ordering::Relaxed));
        match (self.is_assigned(), self.high(), self.position().or_else(begin)) {
            (true, Some(high), Some(position)) => u64::try_from(high - position).unwrap_or(0),
            _ => 0,
        }
    }

    /// Messages of it that had been offered before.
    pub fn redelivered(&self) -> u64 {
        self.redelivered.load(Ordering::Relaxed)
    }

    /// Offsets that no record came for: markers of transactions, records that were compacted or deleted.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn set_assigned(&self, is_from_start: bool) {
        [&self.position, &self.low, &self.high].iter().for_each(|offset| offset.store(UNKNOWN, Ordering::Relaxed));
        self.high_at_ms.store(0, Ordering::Relaxed);
        self.is_from_start.store(is_from_start, Ordering::Relaxed);
        self.is_assigned.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_gone(&self) {
        self.is_assigned.store(false, Ordering::Relaxed);
    }

    pub(super) fn set_position(&self, offset: i64) {
        self.position.store(offset, Ordering::Relaxed);
    }

    pub(super) fn set_committed(&self, offset: i64) {
        self.committed.store(offset, Ordering::Relaxed);
    }

    /// What is not known of the two is less than 0.
    pub(super) fn set_watermarks(&self, low: i64, high: i64) {
        for (place, offset) in [(&self.low, low), (&self.high, high)] {
            if offset >= 0 {
                place.store(offset, Ordering::Relaxed);
            }
        }
    }

    /// The high watermark is news.
    pub(super) fn set_fresh(&self, at_ms: u64) {
        self.high_at_ms.store(at_ms, Ordering::Relaxed);
    }

    pub(super) fn add_redelivered(&self, n: u64) {
        self.redelivered.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn add_skipped(&self, n: u64) {
        self.skipped.fetch_add(n, Ordering::Relaxed);
    }
}

fn known(offset: &AtomicI64) -> Option<i64> {
    Some(offset.load(Ordering::Relaxed)).filter(|offset| *offset >= 0)
}
