//! The two ends of a lane.
#![allow(unsafe_code, reason = "calls the pool under the protocol that this module implements")]

use std::collections::TryReserveError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::block::{BLOCK, Pool};
use super::supply::Supply;
use super::wait::Waker;
use crate::ledger::{PriorityTallies, Tally};

/// What the monitor and the ledger see of a lane. Each counter has one writer.
#[derive(Debug, Default)]
pub(crate) struct LaneCounters {
    /// Written by the sender; the hand-off itself.
    pub(crate) sent: CachePadded<SentCounters>,
    /// Messages that the receiver is done with. Written by the receiver.
    pub(crate) finished: CachePadded<AtomicU64>,
    /// Offers refused by the gate, by priority. Written by the sender.
    pub(crate) refused: CachePadded<PriorityTallies>,
    /// Offers that found the lane full, by priority. Written by the sender.
    pub(crate) full: PriorityTallies,
    /// Offers that the gate would have refused, were this no dry run. Written by the sender.
    pub(crate) would_refuse: Tally,
    /// Written by the receiver, too, and not looked at by the sender.
    pub(crate) front: CachePadded<FrontCounters>,
    /// The sender is gone; nothing will follow. Written by the sender, once.
    closed: AtomicBool,
    /// Messages that fit.
    pub(crate) capacity: u64,
}

/// What is at the front of a lane, and before it.
#[derive(Debug, Default)]
pub(crate) struct FrontCounters {
    /// When the first message of the chunk in hand was received, in nanoseconds of wall clock; 0: nothing is in hand, or it does not tell.
    pub(crate) received_ns: AtomicU64,
    /// The number of the first message, from 1, that is off the lane and kept to be conflated; 0: none is. Written before messages are
    /// finished.
    pub(crate) held_from: AtomicU64,
}

/// What a receiver that waits looks at: one cache line.
#[derive(Debug, Default)]
pub(crate) struct SentCounters {
    /// Messages ever published.
    pub(crate) published: AtomicU64,
    /// Messages that the feed has lost, nobody knows whose.
    feed_missed: AtomicU64,
    /// How many messages were sent before its last hole, and one more; 0: there was none.
    feed_gap_at: AtomicU64,
}

impl LaneCounters {
    /// Messages published and not yet finished.
    pub(crate) fn in_flight(&self) -> u64 {
        // Finished first: it can only have grown by the time `published` is read.
        let finished = self.finished.load(Ordering::Acquire);
        self.sent.published.load(Ordering::Acquire).saturating_sub(finished)
    }
}

struct Shared<M> {
    pool: Pool<M>,
    /// The block of each run of [`BLOCK`] messages, round and round: run r is in block `route[r % blocks]`. Written by the
    /// sender when it opens the run, and not again before the receiver is done with it.
    route: Box<[AtomicU32]>,
    counters: Arc<LaneCounters>,
}

impl<M> Shared<M> {
    /// The block of the run that begins with this message. A division for each block.
    fn route(&self, first: u64) -> &AtomicU32 {
        &self.route[(first / BLOCK as u64 % self.route.len() as u64) as usize]
    }
}

/// Makes a lane that takes at least `capacity` messages before it is full.
///
/// Memory is `(⌈capacity / 256⌉ + 1) × 256 × (size_of::<M>() + 4)` bytes, touched as it is needed, or now if
/// `prefault` says so.
///
/// # Errors
/// When the system has no such memory.
pub fn lane<M: Copy + Send>(
    capacity: usize,
    prefault: bool,
    waker: Arc<Waker>,
) -> Result<(Sender<M>, Receiver<M>), TryReserveError> {
    let blocks = blocks_of(capacity);
    let mut pool = Pool::new(blocks)?;
    if prefault {
        pool.prefault();
    }
    let counters = Arc::new(LaneCounters { capacity: capacity as u64, ..Default::default() });
    let route = (0..blocks).map(|_| AtomicU32::new(0)).collect();
    let shared = Arc::new(Shared { pool, route, counters });
    let supply = Supply::new(blocks, WARM_BYTES.div_ceil(BLOCK * size_of::<M>()));
    let sender = Sender {
        shared: Arc::clone(&shared),
        waker,
        supply,
        first: 0,
        end: 0,
        sent: 0,
        published: 0,
        finished: 0,
        feed_missed: 0,
    };
    let receiver = Receiver { shared, block: 0, taken: 0, seen: 0, told: Told::default() };
    Ok((sender, receiver))
}

/// Blocks of a lane: one more than the messages fill, for the one that the receiver has read in part.
fn blocks_of(capacity: usize) -> usize {
    capacity.div_ceil(BLOCK) + 1
}

/// Bytes that a lane takes on the heap, but for what does not depend on its capacity.
pub(crate) fn lane_bytes<M: Copy>(capacity: usize) -> u64 {
    // Beside its block, the place in the route and the one in the supply.
    let block = Pool::<M>::BLOCK_BYTES + size_of::<AtomicU32>() + Supply::BLOCK_BYTES;
    (blocks_of(capacity) as u64).saturating_mul(block as u64)
}

/// How much memory a lane goes through while the receiver keeps up: what fits into a core's own cache.
const WARM_BYTES: usize = 1 << 20;

/// How many slots ahead of its writing a sender has lines fetched. The receiver has read them, so each has to come back from
/// another core; and a core keeps only so many stores waiting, a handful of messages' worth.
const PREFETCH: usize = 16;

/// The producer's end.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
    waker: Arc<Waker>,
    supply: Supply,
    /// The first slot of the open block.
    first: usize,
    /// Messages written when the open block is full; what is written already, when none is open.
    end: u64,
    /// Messages ever written.
    sent: u64,
    /// Messages ever published, ≤ `sent`.
    published: u64,
    /// Messages that the receiver had finished at the last look, ≤ `sent`.
    finished: u64,
    /// Messages that the feed has lost, as far as the receiver was told.
    feed_missed: u64,
}

impl<M: Copy + Send> Sender<M> {
    /// The free slots of the open block, at least one; `None` when the lane is full.
    #[inline(always)]
    pub fn reserve(&mut self) -> Option<Reserved<'_, M>> {
        (self.sent < self.end || self.open_block()).then_some(Reserved { sender: self })
    }

    /// Whether fewer than `window` messages are on their way. Looks at the receiver's count only when it may matter.
    #[inline]
    pub(crate) fn is_within(&mut self, window: u64) -> bool {
        self.sent - self.finished < window || {
            self.see_finished();
            self.sent - self.finished < window
        }
    }

    fn see_finished(&mut self) {
        // Acquire: pairs with the release in `finish`, so that the receiver's last look at those messages is over.
        self.finished = self.shared.counters.finished.load(Ordering::Acquire);
    }

    /// Messages ever written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn counters(&self) -> &Arc<LaneCounters> {
        &self.shared.counters
    }

    /// Takes an empty block, and says that the next messages are in it.
    #[cold]
    fn open_block(&mut self) -> bool {
        if self.supply.is_dry() {
            self.see_finished();
            let shared = &self.shared;
            let block_of = |run| shared.route(run * BLOCK as u64).load(Ordering::Relaxed);
            self.supply.take_back(self.finished / BLOCK as u64, block_of);
        }
        let Some(block) = self.supply.next() else { return false };
        // Relaxed: the receiver looks at it only after it has seen a message of this block published.
        self.shared.route(self.sent).store(block, Ordering::Relaxed);
        self.first = block as usize * BLOCK;
        self.end = self.sent + BLOCK as u64;
        true
    }
}

/// The free slots at the end of a sender's open block: at least one.
pub struct Reserved<'a, M> {
    sender: &'a mut Sender<M>,
}

impl<M: Copy + Send> Reserved<'_, M> {
    /// How many there are.
    #[inline]
    pub fn room(&self) -> usize {
        (self.sender.end - self.sender.sent) as usize
    }

    /// The next slot to be written.
    #[inline(always)]
    fn slot(&self) -> usize {
        self.sender.first + self.sender.sent as usize % BLOCK
    }

    /// Notes that `missed` messages of its symbol are missing before the next one, and whether a hole in the whole feed is.
    pub(crate) fn note(&mut self, missed: u32, feed_gap: bool) {
        let flag = if feed_gap { FEED_GAP } else { 0 };
        self.sender.shared.pool.note(self.slot(), missed.min(FEED_GAP - 1) | flag);
    }

    /// Writes a message. `true` when that fills the block: then [`publish`](Sender::publish).
    #[inline(always)] // so that the message is built in its slot, not on the stack and then copied
    #[must_use]
    pub fn write(self, message: M) -> bool {
        let slot = self.slot();
        self.sender.shared.pool.prefetch(slot + PREFETCH);
        // SAFETY: this is the sender, a block is open, and its slots from the next one to the end are not published.
        unsafe { self.sender.shared.pool.write(slot, message) };
        self.sender.sent += 1;
        self.sender.sent == self.sender.end
    }

    /// Writes `count` messages, or as many as there is room for. Returns how many; a full block wants [`publish`](Sender::publish).
    #[inline(always)]
    #[must_use]
    pub fn write_some(self, count: usize, mut message: impl FnMut(usize) -> M) -> usize {
        let (slot, count) = (self.slot(), count.min(self.room()));
        for i in 0..count {
            // SAFETY: as above; there are so many slots.
            unsafe { self.sender.shared.pool.write(slot + i, message(i)) };
        }
        self.sender.sent += count as u64;
        count
    }
}

impl<M> Sender<M> {
    /// Lets the receiver see all that was written.
    #[inline]
    pub fn publish(&mut self) {
        // Not read from the shared counter: its line is with the receiver, and to read it first costs 60 ns more than to write it.
        if self.published != self.sent {
            self.published = self.sent;
            // Release: the receiver that acquires this count sees the slots, their notes, and the route to their blocks.
            self.shared.counters.sent.published.store(self.sent, Ordering::Release);
            self.waker.wake_if_parked();
        }
    }
}

impl<M> Sender<M> {
    /// Publishes, and tells the receiver that the feed has lost `missed` messages after what was sent, nobody knows whose. The
    /// next message is to be [noted](Reserved::note) as the one after the hole.
    pub(crate) fn tell_feed_gap(&mut self, missed: u64) {
        self.publish();
        self.feed_missed += missed;
        self.shared.counters.sent.feed_gap_at.store(self.sent + 1, Ordering::Relaxed);
        // Release: a receiver that acquires this count, and then finds nothing published, has finished all before the hole.
        self.shared.counters.sent.feed_missed.store(self.feed_missed, Ordering::Release);
        self.waker.wake_if_parked();
    }
}

/// Publishes the rest and tells the receiver that nothing will follow.
impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        self.publish();
        // Release: who sees the lane closed sees the last count, too.
        self.shared.counters.closed.store(true, Ordering::Release);
        self.waker.wake_if_parked();
    }
}

/// The worker's end.
pub struct Receiver<M> {
    shared: Arc<Shared<M>>,
    /// The block being read, if it was begun.
    block: u32,
    /// Messages finished.
    taken: u64,
    /// Messages known to be published, ≥ `taken`.
    seen: u64,
    /// What was told of holes in the feed.
    told: Told,
}

/// What a receiver has told of holes in the feed.
#[derive(Default)]
struct Told {
    /// Messages that were lost.
    missed: u64,
    /// Where the last hole was, as the sender counts it.
    at: u64,
}

impl Told {
    /// Whether there is a hole that was not told of, after so many messages, which are all that were sent.
    fn is_behind(&self, sent: &SentCounters, messages: u64) -> bool {
        // Acquire: pairs with the release in `tell_feed_gap`, so that the place is seen, and all messages before it.
        let missed = sent.feed_missed.load(Ordering::Acquire);
        let at = sent.feed_gap_at.load(Ordering::Relaxed);
        missed != self.missed || (at == messages + 1 && at != self.at)
    }

    /// Tells of a hole after so many messages: how many are missing that was not told yet.
    fn tell(&mut self, sent: &SentCounters, messages: u64) -> u64 {
        self.at = messages + 1;
        let missed = sent.feed_missed.load(Ordering::Acquire);
        missed - std::mem::replace(&mut self.missed, missed)
    }
}

/// In a note: the feed has a hole before this message.
const FEED_GAP: u32 = 1 << 31;

/// Some messages at the front of a lane.
pub struct Chunk<'a, M> {
    /// The feed has a hole before these: how many messages it has lost that no chunk has told of yet, nobody knows whose.
    pub feed_gap: Option<u64>,
    /// The messages, at least one; none, if the chunk only tells of a hole.
    pub messages: &'a mut [M],
    /// For each message how many of its symbol are missing before it; `None`: none are.
    pub missed: Option<&'a [AtomicU32]>,
    /// The chunk begins a block.
    pub begins_block: bool,
}

impl<M: Copy + Send> Receiver<M> {
    /// What others see of the lane.
    pub(crate) fn counters(&self) -> &Arc<LaneCounters> {
        &self.shared.counters
    }

    /// The messages at the front, at most `max`, all of one block; `None` when none are published.
    ///
    /// They stay at the front until [`finish`](Self::finish) takes them off.
    #[inline]
    pub fn front(&mut self, max: usize) -> Option<Chunk<'_, M>> {
        if self.taken == self.seen {
            let sent = &self.shared.counters.sent;
            // Before the look at the count: then all that came before a hole seen here is finished, if nothing is published.
            let has_gap = self.told.is_behind(sent, self.taken);
            // Acquire: pairs with the sender's release in `publish`.
            self.seen = sent.published.load(Ordering::Acquire);
            if self.taken == self.seen {
                let gap = has_gap.then(|| self.told.tell(sent, self.taken));
                return gap.map(|missed| Chunk {
                    feed_gap: Some(missed),
                    messages: &mut [],
                    missed: None,
                    begins_block: false,
                });
            }
        }
        let offset = self.taken as usize % BLOCK;
        if offset == 0 {
            // Relaxed: it was stored before any message in the block was published.
            self.block = self.shared.route(self.taken).load(Ordering::Relaxed);
        }
        let available = (self.seen - self.taken).min(max as u64) as usize;
        let mut count = available.min(BLOCK - offset);
        let pool = &self.shared.pool;
        let mut missed = pool.notes(self.block).map(|notes| &notes[offset..offset + count]);
        let mut feed_gap = None;
        if let Some(notes) = &mut missed {
            let (until, begins) = until_feed_gap(notes);
            count = until;
            feed_gap = begins.then(|| self.told.tell(&self.shared.counters.sent, self.taken));
            *notes = &notes[..count];
        }
        // SAFETY: this is the receiver. Slots up to `seen` are published (acquire above), the block is given
        // back only in `finish`, and the chunk borrows the receiver, so there is one reference at a time.
        let messages = unsafe { pool.read(self.block as usize * BLOCK + offset, count) };
        Some(Chunk { feed_gap, messages, missed, begins_block: offset == 0 })
    }

    /// Takes `count` messages off the front, which has shown so many. The last one of a block gives the block back.
    ///
    /// # Panics
    /// When there are not so many that were seen, or they are not all of one block.
    #[inline]
    pub fn finish(&mut self, count: usize) {
        // What `front` may hand out rests on it.
        assert!(
            count <= BLOCK - self.taken as usize % BLOCK && count as u64 <= self.seen - self.taken,
            "not that many"
        );
        self.taken += count as u64;
        if count > 0 && self.taken.is_multiple_of(BLOCK as u64) {
            self.shared.pool.wipe_notes(self.block);
        }
        // Release: who acquires this count sees the worker's counters of these messages, and may write to the blocks before it.
        self.shared.counters.finished.store(self.taken, Ordering::Release);
    }

    /// Whether a message, or a hole, is waiting.
    pub fn is_ready(&self) -> bool {
        let sent = &self.shared.counters.sent;
        self.taken != sent.published.load(Ordering::Acquire) || self.told.is_behind(sent, self.taken)
    }

    /// Whether the sender is gone and all it sent is finished.
    pub fn is_done(&self) -> bool {
        // Closed first: what was published before closing is then seen by `is_ready`.
        self.shared.counters.closed.load(Ordering::Acquire) && !self.is_ready()
    }
}

/// How many messages there are before the next hole in the feed, and whether they begin with one.
#[cold]
fn until_feed_gap(notes: &[AtomicU32]) -> (usize, bool) {
    let is_gap = |note: &AtomicU32| note.load(Ordering::Relaxed) & FEED_GAP != 0;
    let begins = notes.first().is_some_and(is_gap);
    if begins {
        notes[0].fetch_and(!FEED_GAP, Ordering::Relaxed);
    }
    (notes.iter().position(is_gap).unwrap_or(notes.len()), begins)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
