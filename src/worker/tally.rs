//! What becomes of the messages of a chunk, counted in registers.

use std::cell::Cell;

use crate::degradation::ShedReason;
use crate::ledger::WorkerCounters;
use crate::message::{DataType, Message};
use crate::symbols::{MessagePriority, Tier, TierTable};

/// Bits of a count; a word holds one for each priority, or for each tier.
const BITS: usize = 16;
/// The most messages that a chunk may have.
pub(super) const CHUNK_MAX: usize = (1 << BITS) - 1;

/// By a tier's number, which is that of its priority, a 1 in the place of its count.
///
/// As long as there are values of a byte, so that a tier's number needs no check.
static ONE: [u64; 256] = {
    let mut one = [0; 256];
    (one[0], one[1], one[2], one[3]) = (1, 1 << BITS, 1 << (2 * BITS), 1 << (3 * BITS));
    one
};
/// The same for reference data, which is of one priority whatever the tier.
static ONE_LOW: [u64; 256] = [1 << (MessagePriority::Low.index() * BITS); 256];

/// A 1 in the place of the count of a message's priority.
///
/// For the loop that does nothing but hand on and count; the priority's number by itself would take a few instructions more.
#[inline(always)]
pub(super) fn one_of<M: Message>(message: &M, tiers: TierTable<'_>) -> u64 {
    let ones = if matches!(message.data_type(), DataType::ReferenceData) { &ONE_LOW } else { &ONE };
    ones[usize::from(tiers.tier_number(tiers.slot(message.symbol())))]
}

/// A 1 in the place of this priority's, or tier's, count.
#[inline(always)]
pub(super) fn one(index: usize) -> u64 {
    ONE[index & 3]
}

/// Counts of a chunk. They are added to the worker's counters when the chunk ends, be it by a panic.
pub(super) struct ChunkTally<'a> {
    counters: &'a WorkerCounters,
    /// Told how many messages are done with.
    done: &'a Cell<usize>,
    /// Why messages are shed.
    reason: ShedReason,
    /// Whether processed messages are enriched.
    enriching: bool,
    /// By priority.
    pub(super) processed: u64,
    /// By tier, and by priority.
    shed: u64,
    shed_by_priority: u64,
    /// Neither processed nor shed for that reason, and counted elsewhere.
    pub(super) others: u64,
}

impl<'a> ChunkTally<'a> {
    pub(super) fn new(
        counters: &'a WorkerCounters,
        done: &'a Cell<usize>,
        reason: ShedReason,
        enriching: bool,
    ) -> Self {
        Self { counters, done, reason, enriching, processed: 0, shed: 0, shed_by_priority: 0, others: 0 }
    }

    /// Counts a message that is shed.
    #[inline(always)]
    pub(super) fn shed(&mut self, tier: u8, priority: usize) {
        self.shed += one(tier.into());
        self.shed_by_priority += one(priority);
    }
}

impl Drop for ChunkTally<'_> {
    #[inline]
    fn drop(&mut self) {
        let count_of = |word: u64, i: usize| word >> (BITS * i) & CHUNK_MAX as u64;
        let mut processed = 0;
        for (i, counter) in self.counters.processed.iter().enumerate() {
            let count = count_of(self.processed, i);
            counter.add(count);
            processed += count;
        }
        if self.enriching {
            self.counters.enriched.add(processed);
        }
        let mut shed = 0;
        if self.shed > 0 {
            for tier in Tier::ALL {
                let count = count_of(self.shed, tier.index());
                self.counters.shed(tier, self.reason).add(count);
                shed += count;
            }
            for (i, counter) in self.counters.shed_by_priority.iter().enumerate() {
                counter.add(count_of(self.shed_by_priority, i));
            }
        }
        self.done.set((processed + shed + self.others) as usize);
    }
}
