//! The producer's end of a pipeline.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::utils::{Backoff, CachePadded};

use crate::degradation::published::Published;
use crate::holes::{Holes, LastHoles};
use crate::lane::{Reserved, Sender};
use crate::ledger::Tally;
use crate::message::{DataType, Message, SymbolId};
use crate::settled::Settled;
use crate::symbols::Symbols;

/// The answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message that was not accepted is gone"]
pub enum Offer {
    /// It is in a lane, and will be seen by its worker at the next flush at the latest.
    Accepted,
    /// The gate is shut: the level is CIRCUIT_BREAK, or the pipeline is ending.
    Refused,
    /// The symbol's lane is full.
    Full,
}

/// Answers to a slice of offers, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Messages accepted.
    pub accepted: usize,
    /// Messages refused.
    pub refused: usize,
    /// Messages that found their lane full.
    pub full: usize,
}

/// Where an accepted message is: see [`Ingress::try_offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The lane, which is also the worker: from 0.
    pub lane: usize,
    /// The message's number in the lane, from 1.
    pub number: u64,
}

/// The producer's end: takes messages, routes them by symbol. One thread's own; other threads open others.
///
/// [`offer`](Self::offer) never blocks. It is the call of a live feed, for which a message that was not accepted is
/// over: the symbol's handler is told of the hole. A source that can wait uses
/// [`offer_wait`](Self::offer_wait), which leaves no holes.
///
/// Messages become visible to workers when a block of 256 is full and at [`flush`](Self::flush): call that at the end
/// of each burst. Dropping the ingress flushes and says that no more will come.
pub struct Ingress<M: Message> {
    /// By worker.
    lanes: Box<[Sender<M>]>,
    published: Arc<Published>,
    symbols: Arc<Symbols>,
    /// Messages of each symbol that were not accepted since its last accepted one.
    holes: Holes,
    /// Lanes, by worker, whose next message is the first after a hole in the feed; and how many lanes that are.
    feed_gaps: Box<[bool]>,
    open_feed_gaps: usize,
    offered: u64,
    offered_total: Arc<CachePadded<Tally>>,
    /// Where what is left of `holes` goes at the end.
    last_holes: LastHoles,
    /// By lane.
    settled: Box<[Settled]>,
    redelivered: Arc<CachePadded<Tally>>,
}

/// What an ingress shares with the rest of a pipeline.
pub(crate) struct IngressParts {
    pub(crate) published: Arc<Published>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) offered: Arc<CachePadded<Tally>>,
    pub(crate) redelivered: Arc<CachePadded<Tally>>,
    pub(crate) last_holes: LastHoles,
    /// By worker.
    pub(crate) settled: Vec<Settled>,
}

/// The worker, of so many, that a symbol's messages go to: Fibonacci hashing, so that neighbours spread out.
#[inline]
pub fn worker_of(symbol: SymbolId, workers: usize) -> usize {
    let hash = u64::from(symbol.get().wrapping_mul(0x9E37_79B9));
    ((hash * workers as u64) >> 32) as usize
}

impl<M: Message> Ingress<M> {
    pub(crate) fn new(lanes: Vec<Sender<M>>, parts: IngressParts) -> Self {
        let IngressParts { published, symbols, offered: offered_total, redelivered, last_holes, settled } = parts;
        let holes = Holes::new(symbols.capacity() + 1);
        let feed_gaps = vec![false; lanes.len()].into_boxed_slice();
        let lanes = lanes.into_boxed_slice();
        let open_feed_gaps = 0;
        Self {
            lanes,
            published,
            symbols,
            holes,
            feed_gaps,
            open_feed_gaps,
            offered: 0,
            offered_total,
            last_holes,
            settled: settled.into_boxed_slice(),
            redelivered,
        }
    }

    /// Offers a message. Never blocks, allocates or calls the system, except to wake a worker that is parked.
    #[inline(always)] // so that the message is built in its slot, not on the stack and then copied
    pub fn offer(&mut self, message: M) -> Offer {
        self.offered += 1;
        let worker = self.route(message.symbol());
        if !self.published.is_calm() && self.is_refused(worker) {
            return self.miss(worker, message.symbol(), message.data_type(), Offer::Refused);
        }
        self.push(worker, message)
    }

    /// Offers messages in order, and flushes.
    pub fn offer_slice(&mut self, messages: &[M]) -> Offered {
        let mut answers = Offered::default();
        for &message in messages {
            match self.offer(message) {
                Offer::Accepted => answers.accepted += 1,
                Offer::Refused => answers.refused += 1,
                Offer::Full => answers.full += 1,
            }
        }
        self.flush();
        answers
    }

    /// Waits until the gate is open and the lane has room to spare, then offers. For sources that can wait.
    ///
    /// Keeps so few messages on their way that it never raises the level by itself. `give_up` is asked now and
    /// then while it waits. Returns whether the message was accepted; if not, since `give_up` said so or the
    /// pipeline is ending, then it does not count as offered and leaves no hole.
    pub fn offer_wait(&mut self, message: M, mut give_up: impl FnMut() -> bool) -> bool {
        let worker = self.route(message.symbol());
        if !self.has_room(worker) {
            // What it waits for may be in the block that nobody has seen yet.
            self.flush();
            let backoff = Backoff::new();
            while !self.has_room(worker) {
                if self.published.is_closed() || give_up() {
                    return false;
                }
                if backoff.is_completed() {
                    std::thread::sleep(Duration::from_micros(50));
                } else {
                    backoff.snooze();
                }
            }
        }
        self.push_to_room(worker, message)
    }

    /// Offers a message if the gate is open and the lane has room to spare, as [`offer_wait`](Self::offer_wait) does, but without
    /// waiting: otherwise it does not count as offered, and leaves no hole.
    ///
    /// For a source that acknowledges what is done with, and has other things to do while it waits. It keeps the place, and the message
    /// is done with for good when [`settled`](Self::settled) has come to its number.
    #[inline]
    pub fn try_offer(&mut self, message: M) -> Option<Place> {
        let lane = self.route(message.symbol());
        let is_accepted = self.has_room(lane) && self.push_to_room(lane, message);
        is_accepted.then(|| Place { lane, number: self.lanes[lane].sent() })
    }

    /// How many messages of a lane are done with for good, from the first on, as of the last look: processed, or shed and counted, or
    /// spilled and as safe as the spill log's [durability](crate::spill::Durability) makes them; with
    /// [`Interval`](crate::spill::Durability::Interval) that is when they were written back. Once a worker has failed, no more
    /// are, as some were finished that no handler got.
    ///
    /// # Panics
    /// When there is no such lane.
    pub fn settled(&self, lane: usize) -> u64 {
        self.settled[lane].get()
    }

    /// Looks again how many messages are [settled](Self::settled). A few loads for each lane: call it once in a while, not for each message.
    pub fn look_settled(&mut self) {
        let published = &self.published;
        self.settled.iter_mut().for_each(|settled| settled.look(|| published.has_failed()));
    }

    /// How many lanes there are: one for each worker.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Says that `messages` of those offered had been offered before, by this process or another, as far as the source can tell. The
    /// [`Ledger`](crate::Ledger) has the sum.
    pub fn note_redelivered(&mut self, messages: u64) {
        self.redelivered.add(messages);
    }

    /// Whether a worker has failed, so that nothing more is [settled](Self::settled).
    pub fn has_failed(&self) -> bool {
        self.published.has_failed()
    }

    /// Whether the gate is open: the level is below CIRCUIT_BREAK, and the pipeline is not ending.
    pub fn is_open(&self) -> bool {
        self.published.is_open()
    }

    /// Lets the workers see all messages accepted so far.
    #[inline]
    pub fn flush(&mut self) {
        self.offered_total.set(self.offered);
        for lane in &mut self.lanes {
            lane.publish();
        }
    }

    /// Says that the feed has lost `missed` messages here, before it could tell whose they are: every worker's handler is told, by
    /// [`Handler::on_feed_gap`](crate::Handler::on_feed_gap), after it has finished what was offered before, and before it gets
    /// anything that is offered after this.
    pub fn note_gap(&mut self, missed: u64) {
        if missed == 0 {
            return;
        }
        self.flush();
        for lane in &mut self.lanes {
            lane.tell_feed_gap(missed);
        }
        self.feed_gaps.fill(true);
        self.open_feed_gaps = self.feed_gaps.len();
    }

    /// Whether the pipeline is ending, so that nothing will be accepted any more.
    pub fn is_closed(&self) -> bool {
        self.published.is_closed()
    }

    #[inline]
    fn route(&self, symbol: SymbolId) -> usize {
        worker_of(symbol, self.lanes.len())
    }

    fn has_room(&mut self, worker: usize) -> bool {
        self.published.is_open() && self.lanes[worker].is_within(self.published.window())
    }

    /// Offers to a lane that has room: for a window, and so in the lane, which is at least as large.
    fn push_to_room(&mut self, worker: usize, message: M) -> bool {
        self.offered += 1;
        matches!(self.push(worker, message), Offer::Accepted)
    }

    #[inline(always)]
    fn push(&mut self, worker: usize, message: M) -> Offer {
        let symbol = message.symbol();
        let Some(mut reserved) = self.lanes[worker].reserve() else {
            return self.miss(worker, symbol, message.data_type(), Offer::Full);
        };
        if self.holes.any() | (self.open_feed_gaps > 0) {
            let feed_gap = std::mem::take(&mut self.feed_gaps[worker]);
            self.open_feed_gaps -= usize::from(feed_gap);
            note_hole(&mut reserved, &mut self.holes, self.symbols.slot(symbol), feed_gap);
        }
        if reserved.write(message) {
            self.flush();
        }
        Offer::Accepted
    }

    /// Whether a gate that is not as in calm weather refuses messages; if not, it would, were this no dry run, and that is counted.
    #[cold]
    fn is_refused(&mut self, worker: usize) -> bool {
        let is_refused = !self.published.is_open();
        if !is_refused {
            self.lanes[worker].counters().would_refuse.add(1);
        }
        is_refused
    }

    #[cold]
    fn miss(&mut self, worker: usize, symbol: SymbolId, data_type: DataType, answer: Offer) -> Offer {
        let (tiers, slot) = (self.symbols.tier_table(), self.symbols.slot(symbol));
        self.holes.add(slot, 1);
        let counters = self.lanes[worker].counters();
        let counter = if answer == Offer::Full { &counters.full } else { &counters.refused };
        counter[tiers.priority_index(slot, data_type)].add(1);
        // So that both sides of the ledger tell of it, and a full lane of all that makes it full.
        self.flush();
        answer
    }
}

/// Notes what a symbol, or the feed, has missed beside the next message.
#[cold]
fn note_hole<M: Message>(reserved: &mut Reserved<'_, M>, holes: &mut Holes, slot: usize, feed_gap: bool) {
    let missed = holes.take(slot);
    if missed > 0 || feed_gap {
        reserved.note(missed, feed_gap);
    }
}

impl<M: Message> std::fmt::Debug for Ingress<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingress").field("offered", &self.offered).finish_non_exhaustive()
    }
}

impl<M: Message> Drop for Ingress<M> {
    fn drop(&mut self) {
        self.flush();
        let (lanes, last_holes) = (self.lanes.len(), &self.last_holes);
        self.holes.drain(|slot, missed| {
            last_holes.leave(worker_of(SymbolId::new(slot as u32), lanes), slot, missed);
        });
    }
}
