//! The two ends of a lane.
#![allow(unsafe_code, reason = "calls the pool under the protocol that this module implements")]

use std::collections::TryReserveError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::block::{BLOCK, Pool};
use super::wait::Waker;
use crate::ledger::Tally;

/// What the monitor and the ledger see of a lane. Each counter has one writer.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// Messages ever published. Written by the sender; the hand-off itself.
    pub(crate) published: CachePadded<AtomicU64>,
    /// Messages that the receiver is done with. Written by the receiver.
    pub(crate) finished: CachePadded<AtomicU64>,
    /// Offers refused by the gate. Written by the sender.
    pub(crate) refused: CachePadded<Tally>,
    /// Offers that found the lane full. Written by the sender.
    pub(crate) full: Tally,
    /// The sender is gone; nothing will follow. Written by the sender, once.
    closed: AtomicBool,
    /// Messages that fit.
    pub(crate) capacity: u64,
}

impl LaneCounters {
    /// Messages published and not yet finished.
    pub fn in_flight(&self) -> u64 {
        // Finished first: it can only have grown by the time `published` is read.
        let finished = self.finished.load(Ordering::Acquire);
        self.published.load(Ordering::Acquire).saturating_sub(finished)
    }
}

struct Shared<M> {
    pool: Pool<M>,
    full: ArrayQueue<u32>,
    empty: ArrayQueue<u32>,
    counters: Arc<LaneCounters>,
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
    // One block more, for the one that the receiver has read in part.
    let blocks = capacity.div_ceil(BLOCK) + 1;
    let mut pool = Pool::new(blocks)?;
    if prefault {
        pool.prefault();
    }
    let counters = Arc::new(LaneCounters { capacity: capacity as u64, ..Default::default() });
    let shared = Arc::new(Shared { pool, full: ArrayQueue::new(blocks), empty: ArrayQueue::new(blocks), counters });
    let sender = Sender {
        spare: (0..blocks as u32).rev().collect(),
        shared: Arc::clone(&shared),
        waker,
        block: 0,
        offset: BLOCK,
        sent: 0,
        published: 0,
    };
    let receiver = Receiver { shared, block: 0, offset: BLOCK, taken: 0, seen: 0 };
    Ok((sender, receiver))
}

/// The producer's end.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
    waker: Arc<Waker>,
    /// Empty blocks; the one that came back last is on top.
    spare: Vec<u32>,
    /// The open block.
    block: u32,
    /// The next free slot of the open block; `BLOCK` when none is open.
    offset: usize,
    /// Messages ever written.
    sent: u64,
    /// Messages ever published, ≤ `sent`.
    published: u64,
}

impl<M: Copy + Send> Sender<M> {
    /// Makes sure that there is a slot for the next message; `false` when the lane is full.
    #[inline]
    pub fn reserve(&mut self) -> bool {
        self.offset < BLOCK || self.open_block()
    }

    /// Notes that `missed` messages of its symbol are missing before the next one. After [`reserve`](Self::reserve).
    pub fn note_missed(&mut self, missed: u32) {
        self.shared.pool.note(self.block, self.offset, missed);
    }

    /// Writes a message into the reserved slot. `true` when that fills the block: then [`publish`](Self::publish).
    ///
    /// # Panics
    /// When no slot is reserved.
    #[inline(always)] // so that the message is built in its slot, not on the stack and then copied
    #[must_use]
    pub fn write(&mut self, message: M) -> bool {
        assert!(self.offset < BLOCK, "reserve a slot first");
        // SAFETY: this is the sender; the block is open and slots from `offset` on are not published.
        unsafe { self.shared.pool.write(self.block, self.offset, message) };
        self.offset += 1;
        self.sent += 1;
        self.offset == BLOCK
    }

    /// Messages written that the receiver has not finished.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.shared.counters.finished.load(Ordering::Acquire)
    }

    pub fn counters(&self) -> &Arc<LaneCounters> {
        &self.shared.counters
    }

    /// Takes the emptied block that came back last and puts it on its way.
    #[cold]
    fn open_block(&mut self) -> bool {
        while let Some(block) = self.shared.empty.pop() {
            self.spare.push(block);
        }
        let Some(block) = self.spare.pop() else { return false };
        self.block = block;
        self.offset = 0;
        let pushed = self.shared.full.push(block);
        debug_assert!(pushed.is_ok(), "the queue has room for every block there is");
        true
    }
}

impl<M> Sender<M> {
    /// Lets the receiver see all that was written.
    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.sent {
            self.published = self.sent;
            // Release: the receiver that acquires this count sees the slots, their notes, and the
            // block numbers in the queue of full blocks.
            self.shared.counters.published.store(self.sent, Ordering::Release);
            self.waker.wake_if_parked();
        }
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
    /// The block being read.
    block: u32,
    /// The next slot to read of it; `BLOCK` when the next message is in the next block.
    offset: usize,
    /// Messages finished.
    taken: u64,
    /// Messages known to be published, ≥ `taken`.
    seen: u64,
}

/// Some messages at the front of a lane.
pub struct Chunk<'a, M> {
    /// The messages, at least one.
    pub messages: &'a mut [M],
    /// For each message how many of its symbol are missing before it; `None`: none are.
    pub missed: Option<&'a [AtomicU32]>,
    /// The chunk begins a block.
    pub begins_block: bool,
}

impl<M: Copy + Send> Receiver<M> {
    /// The messages at the front, at most `max`, all of one block; `None` when none are published.
    ///
    /// They stay at the front until [`finish`](Self::finish) takes them off.
    #[inline]
    pub fn front(&mut self, max: usize) -> Option<Chunk<'_, M>> {
        if self.taken == self.seen {
            // Acquire: pairs with the sender's release in `publish`.
            self.seen = self.shared.counters.published.load(Ordering::Acquire);
            if self.taken == self.seen {
                return None;
            }
        }
        if self.offset == BLOCK {
            // A block's number was pushed before any message in it was published.
            self.block = self.shared.full.pop().expect("a published message is in a block");
            self.offset = 0;
        }
        let available = (self.seen - self.taken).min(max as u64) as usize;
        let count = available.min(BLOCK - self.offset);
        let pool = &self.shared.pool;
        // SAFETY: this is the receiver. Slots up to `seen` are published (acquire above), the block is given
        // back only in `finish`, and the chunk borrows the receiver, so there is one reference at a time.
        let messages = unsafe { pool.read(self.block, self.offset, count) };
        let missed = pool.notes(self.block).map(|notes| &notes[self.offset..self.offset + count]);
        Some(Chunk { messages, missed, begins_block: self.offset == 0 })
    }

    /// Takes `count` messages off the front; the caller has seen them there.
    #[inline]
    pub fn finish(&mut self, count: usize) {
        debug_assert!(self.offset + count <= BLOCK && count as u64 <= self.seen - self.taken);
        self.offset += count;
        self.taken += count as u64;
        if count > 0 && self.offset == BLOCK {
            self.shared.pool.wipe_notes(self.block);
            let returned = self.shared.empty.push(self.block);
            debug_assert!(returned.is_ok(), "the queue has room for every block there is");
        }
        // Release: who acquires this count sees the worker's counters of these messages.
        self.shared.counters.finished.store(self.taken, Ordering::Release);
    }

    /// Whether a message is waiting.
    pub fn is_ready(&self) -> bool {
        self.taken != self.shared.counters.published.load(Ordering::Acquire)
    }

    /// Whether the sender is gone and all it sent is finished.
    pub fn is_done(&self) -> bool {
        // Closed first: what was published before closing is then seen by `is_ready`.
        self.shared.counters.closed.load(Ordering::Acquire) && !self.is_ready()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
