//! The loop of a worker thread.
//!
//! For each lane in turn: take a chunk of at most [`CHUNK`] messages from the front, read the
//! policy once, and give each message its verdict. Then count, and only then take the chunk off the lane.
//!
//! Nothing here locks, allocates, calls the system or reads a clock per message. The clock is read once a block
//! (and when work ends a wait) for the latency sample; a parked worker is woken by a system call.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

use crate::degradation::published::{PolicyReader, Published};
use crate::degradation::{Policy, ShedReason, Verdict};
use crate::handler::{Context, Handler};
use crate::holes::Holes;
use crate::lane::{Chunk, Receiver, WaitStrategy, Waiter, Waker};
use crate::ledger::WorkerCounters;
use crate::message::{Message, wall_clock_ns};
use crate::symbols::Symbols;

/// Messages per look at the policy.
const CHUNK: usize = 128;

/// What a worker thread is made from.
pub(crate) struct WorkerParts<M> {
    pub(crate) id: usize,
    pub(crate) receivers: Vec<Receiver<M>>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) published: Arc<Published>,
    pub(crate) counters: Arc<CachePadded<WorkerCounters>>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) wait: WaitStrategy,
}

impl<M: Message> WorkerParts<M> {
    /// Runs until every producer is gone and every lane is empty.
    ///
    /// If the handler panics, the gate is shut for good, `report` is told what the panic said, and what the worker
    /// still gets is shed as [`ShedReason::WorkerFailed`].
    pub(crate) fn run<H: Handler<M>>(self, handler: &mut H, report: impl FnOnce(String)) {
        let Self { id, mut receivers, symbols, published, counters, waker, wait } = self;
        let mut waiter = Waiter::new(wait, &waker);
        let progress = Progress { lane: Cell::new(0), done: Cell::new(0) };
        let mut desk = Desk {
            id,
            policy: published.reader(),
            holes: Holes::new(symbols.capacity() + 1),
            symbols: &symbols,
            counters: &counters,
            progress: &progress,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            serve(&mut receivers, &mut waiter, &counters, &progress, |chunk, woke| {
                desk.process(handler, chunk, woke);
            });
        }));
        if let Err(panic) = outcome {
            published.close();
            report(panic_message(&*panic));
            receivers[progress.lane.get()].finish(progress.done.get());
            serve(&mut receivers, &mut waiter, &counters, &progress, |chunk, _| {
                for message in chunk.messages.iter() {
                    let tier = symbols.tier(message.symbol());
                    counters.shed(tier, ShedReason::WorkerFailed).add(1);
                }
            });
        }
    }
}

/// Where the worker is: what a panic leaves behind.
struct Progress {
    /// The lane of the chunk in hand.
    lane: Cell<usize>,
    /// How many of the chunk's messages are done with and counted.
    done: Cell<usize>,
}

/// Takes chunks off the lanes in turn until all lanes are done, and waits where there are none.
fn serve<M: Message>(
    receivers: &mut [Receiver<M>],
    waiter: &mut Waiter<'_>,
    counters: &WorkerCounters,
    progress: &Progress,
    mut work: impl FnMut(Chunk<'_, M>, bool),
) {
    loop {
        let mut worked = false;
        for (lane, receiver) in receivers.iter_mut().enumerate() {
            progress.done.set(0);
            progress.lane.set(lane);
            let Some(chunk) = receiver.front(CHUNK) else { continue };
            let count = chunk.messages.len();
            let woke = waiter.is_waiting();
            if woke {
                counters.idle.store(false, Ordering::Relaxed);
                waiter.reset();
            }
            worked = true;
            work(chunk, woke);
            receiver.finish(count);
        }
        if worked {
            continue;
        }
        if receivers.iter().all(Receiver::is_done) {
            counters.idle.store(true, Ordering::Relaxed);
            return;
        }
        if !waiter.is_waiting() {
            counters.idle.store(true, Ordering::Relaxed);
        }
        waiter.wait(|| receivers.iter().any(Receiver::is_ready) || receivers.iter().all(Receiver::is_done));
    }
}

/// What a worker needs to decide about messages.
struct Desk<'a> {
    id: usize,
    policy: PolicyReader,
    holes: Holes,
    symbols: &'a Symbols,
    counters: &'a WorkerCounters,
    progress: &'a Progress,
}

impl Desk<'_> {
    fn process<M: Message, H: Handler<M>>(&mut self, handler: &mut H, chunk: Chunk<'_, M>, woke: bool) {
        let policy = **self.policy.load();
        let context = Context { level: policy.level, worker: self.id, enriched: policy.enriches(), replayed: false };
        let sampled = chunk.begins_block || woke;
        let last = sampled.then(|| chunk.messages.last().copied()).flatten();
        if context.enriched {
            self.decide::<M, H, true>(handler, chunk, &policy, &context);
        } else {
            self.decide::<M, H, false>(handler, chunk, &policy, &context);
        }
        if let Some(message) = last {
            self.sample_latency(&message, &policy);
        }
    }

    /// Gives each message of a chunk its verdict and carries it out.
    #[inline]
    fn decide<M: Message, H: Handler<M>, const ENRICH: bool>(
        &mut self,
        handler: &mut H,
        chunk: Chunk<'_, M>,
        policy: &Policy,
        context: &Context,
    ) {
        let row = *policy.row();
        let tiers = self.symbols.tier_table();
        let mut chunk_tally = ChunkTally {
            counters: self.counters,
            done: &self.progress.done,
            finished: 0,
            processed: 0,
            enriching: ENRICH,
        };
        for (i, message) in chunk.messages.iter_mut().enumerate() {
            let symbol = message.symbol();
            let slot = tiers.slot(symbol);
            let priority = tiers.priority_index(slot, message.data_type());
            if let Some(notes) = chunk.missed {
                self.holes.add(slot, notes[i].load(Ordering::Relaxed));
            }
            match row[priority] {
                Verdict::Process => {
                    if self.holes.any() {
                        let missed = self.holes.take(slot);
                        if missed > 0 {
                            self.counters.gaps.add(1);
                            handler.on_gap(symbol, u64::from(missed));
                        }
                    }
                    if ENRICH {
                        handler.enrich(message, context);
                    }
                    handler.process(message, context);
                    chunk_tally.processed += ChunkTally::one(priority);
                }
                // Without a spill log, what would be spilled is shed, which is the reference's rule.
                Verdict::Spill | Verdict::Shed => {
                    self.holes.add(slot, 1);
                    let reason = ShedReason::at(policy.level);
                    self.counters.shed(self.symbols.tier(symbol), reason).add(1);
                }
            }
            chunk_tally.finished += 1;
        }
    }

    #[cold]
    fn sample_latency<M: Message>(&self, message: &M, policy: &Policy) {
        let tiers = self.symbols.tier_table();
        let priority = tiers.priority_index(tiers.slot(message.symbol()), message.data_type());
        let received = message.receive_ns();
        if received == 0 || policy.row()[priority] != Verdict::Process {
            return;
        }
        // The wall clock, since that is what feeds and network cards stamp. A step back counts as 0.
        self.counters.latency[priority].record(wall_clock_ns().saturating_sub(received));
    }
}

/// Counts of a chunk, kept in registers and added to the worker's counters when the chunk ends, be it by a panic.
struct ChunkTally<'a> {
    counters: &'a WorkerCounters,
    done: &'a Cell<usize>,
    finished: usize,
    /// Four 16-bit counts, one for each priority: a chunk is far shorter than 65 536.
    processed: u64,
    enriching: bool,
}

const _: () = assert!(CHUNK <= u16::MAX as usize);

impl ChunkTally<'_> {
    #[inline]
    const fn one(priority: usize) -> u64 {
        1 << (16 * priority)
    }
}

impl Drop for ChunkTally<'_> {
    #[inline]
    fn drop(&mut self) {
        let mut total = 0;
        for (i, counter) in self.counters.processed.iter().enumerate() {
            let count = self.processed >> (16 * i) & 0xFFFF;
            counter.add(count);
            total += count;
        }
        if self.enriching {
            self.counters.enriched.add(total);
        }
        self.done.set(self.finished);
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}
