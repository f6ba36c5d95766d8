//! The loop of a worker thread.
//!
//! For each lane in turn: take a chunk of at most [`CHUNK`] messages from the front, read the
//! policy once, and give each message its verdict. Then count, and only then take the chunk off the lane.
//!
//! Between chunks some of what was spilled is replayed, if the level allows; see [`overflow`].
//!
//! Nothing here locks, allocates, calls the system or reads a clock per message. The clock is read once a block
//! (and when work ends a wait) for the latency sample; a parked worker is woken by a system call.

mod overflow;
mod tally;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

use crate::degradation::published::{PolicyReader, Published};
use crate::degradation::{DegradationLevel, Policy, ShedReason, Verdict};
use crate::handler::{Context, Handler};
use crate::holes::{Holes, LastHoles};
use crate::lane::{Chunk, Receiver, WaitStrategy, Waiter, Waker};
use crate::ledger::WorkerCounters;
use crate::message::{Message, SymbolId, wall_clock_ns};
use crate::spill::Replayed;
use crate::symbols::{MessagePriority, Symbols, TierTable};

use overflow::Spilled;
pub(crate) use overflow::{CATCH_UP, Overflow};
use tally::ChunkTally;

/// Messages per look at the policy.
pub(crate) const CHUNK: usize = 128;
/// Messages that are replayed without a look at the lanes, when there was nothing in them.
const REPLAY: usize = 32;
const _: () = assert!(CHUNK <= tally::CHUNK_MAX);

/// What a worker thread is made from.
pub(crate) struct WorkerParts<M: Message> {
    pub(crate) id: usize,
    pub(crate) receivers: Vec<Receiver<M>>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) published: Arc<Published>,
    pub(crate) counters: Arc<CachePadded<WorkerCounters>>,
    pub(crate) overflow: Overflow<M>,
    pub(crate) last_holes: LastHoles,
    pub(crate) waker: Arc<Waker>,
    pub(crate) wait: WaitStrategy,
}

impl<M: Message> WorkerParts<M> {
    /// Runs until every producer is gone, every lane is empty, and what is to be replayed is replayed.
    ///
    /// If the handler panics, `renew` is told what the panic said. If it puts a new handler in the place of the old one, which it says by
    /// `true`, the message in hand is shed as [`ShedReason::WorkerFailed`], and the new one goes on after it. If not, the gate is shut for
    /// good, `report` is told, and all that the worker still gets is shed for that reason; what is in the spill log stays there.
    pub(crate) fn run<H: Handler<M>>(
        self,
        handler: &mut H,
        mut renew: impl FnMut(&mut H, &str) -> bool,
        report: impl FnOnce(String),
    ) {
        let Self { id, mut receivers, symbols, published, counters, overflow, last_holes, waker, wait } = self;
        let mut waiter = Waiter::new(wait, &waker);
        let progress = Progress { doing: Cell::new(Doing::Else), done: Cell::new(0) };
        let mut desk = Desk {
            id,
            policy: published.reader(),
            published: &published,
            holes: Holes::new(symbols.capacity() + 1),
            symbols: &symbols,
            counters: &counters,
            overflow,
            progress: &progress,
        };
        loop {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let mut serving = Serving { desk: &mut desk, handler: &mut *handler };
                serve(&mut receivers, &mut waiter, &counters, &progress, &mut serving);
                last_holes.take(id).into_iter().for_each(|(slot, missed)| desk.holes.add(slot, missed));
                desk.tell_holes(handler);
            }));
            desk.overflow.settle(&counters);
            let Err(panic) = outcome else { return };
            let doing = progress.doing.replace(Doing::Else);
            let cause = panic_message(&*panic);
            if renew(handler, &cause) {
                counters.restarts.add(1);
                desk.give_up_in_hand(&mut receivers, doing);
                continue;
            }
            published.fail();
            report(cause);
            if let Doing::Chunk { lane } = doing {
                receivers[lane].finish(progress.done.get());
            }
            let mut failed = Failed { symbols: &symbols, counters: &counters };
            serve(&mut receivers, &mut waiter, &counters, &progress, &mut failed);
            return;
        }
    }
}

/// Where the worker is: what a panic leaves behind.
struct Progress {
    doing: Cell<Doing>,
    /// How many of the chunk's messages are done with and counted.
    done: Cell<usize>,
}

/// What the worker has in hand.
#[derive(Clone, Copy)]
enum Doing {
    /// A chunk of this lane.
    Chunk {
        lane: usize,
    },
    /// A message from the spill log.
    Replay,
    Else,
}

/// What is done with chunks, and between them.
trait Work<M> {
    /// A chunk off a lane; it may be empty. `woke`: it ends a wait.
    fn chunk(&mut self, chunk: Chunk<'_, M>, woke: bool);

    /// Replays some, after a look at all lanes; returns whether there was any. `last`: no more will come off the lanes.
    fn replay(&mut self, last: bool) -> bool;

    /// Whether [`replay`](Self::replay) would do anything. For a worker that waits.
    fn can_replay(&self, last: bool) -> bool;

    /// Whether nothing is left to do once no more will come off the lanes.
    fn is_finished(&self) -> bool;
}

/// Takes chunks off the lanes in turn, and replays in between, until all is done; waits where there is nothing to do.
fn serve<M: Message>(
    receivers: &mut [Receiver<M>],
    waiter: &mut Waiter<'_>,
    counters: &WorkerCounters,
    progress: &Progress,
    work: &mut impl Work<M>,
) {
    loop {
        let mut handled = 0;
        for (lane, receiver) in receivers.iter_mut().enumerate() {
            progress.done.set(0);
            progress.doing.set(Doing::Chunk { lane });
            let Some(chunk) = receiver.front(CHUNK) else { continue };
            let count = chunk.messages.len();
            let woke = count > 0 && handled == 0 && waiter.is_waiting();
            if woke {
                counters.idle.store(false, Ordering::Relaxed);
            }
            handled += count;
            work.chunk(chunk, woke);
            receiver.finish(count);
        }
        if handled > 0 {
            waiter.worked(handled);
        }
        progress.doing.set(Doing::Replay);
        let last = handled == 0 && receivers.iter().all(Receiver::is_done);
        let has_replayed = work.replay(last);
        progress.doing.set(Doing::Else);
        if has_replayed {
            counters.idle.store(false, Ordering::Relaxed);
            waiter.worked(usize::MAX);
            continue;
        }
        if handled > 0 {
            continue;
        }
        if last && work.is_finished() {
            counters.idle.store(true, Ordering::Relaxed);
            return;
        }
        if !waiter.is_waiting() {
            counters.idle.store(true, Ordering::Relaxed);
        }
        waiter.wait(|| {
            let last = receivers.iter().all(Receiver::is_done);
            receivers.iter().any(Receiver::is_ready) || work.can_replay(last) || (last && work.is_finished())
        });
    }
}

/// The work of a worker that is well.
struct Serving<'a, 'b, M: Message, H> {
    desk: &'a mut Desk<'b, M>,
    handler: &'a mut H,
}

impl<M: Message, H: Handler<M>> Work<M> for Serving<'_, '_, M, H> {
    fn chunk(&mut self, chunk: Chunk<'_, M>, woke: bool) {
        self.desk.process(self.handler, chunk, woke);
    }

    #[inline]
    fn replay(&mut self, last: bool) -> bool {
        self.desk.overflow.is_pending() && self.desk.replay(self.handler, last)
    }

    fn can_replay(&self, last: bool) -> bool {
        let overflow = &self.desk.overflow;
        let level_allows = || replays_at(self.desk.published.policy().level);
        overflow.can_replay() && if last { overflow.replays_at_end() } else { level_allows() }
    }

    fn is_finished(&self) -> bool {
        self.desk.overflow.is_finished()
    }
}

/// Whether messages are replayed at a level, which is where none are spilled by the default verdicts.
pub(crate) fn replays_at(level: DegradationLevel) -> bool {
    level < DegradationLevel::Aggressive
}

/// What is left to do for a worker whose handler has panicked.
struct Failed<'a> {
    symbols: &'a Symbols,
    counters: &'a WorkerCounters,
}

impl<M: Message> Work<M> for Failed<'_> {
    fn chunk(&mut self, chunk: Chunk<'_, M>, _: bool) {
        for message in chunk.messages.iter() {
            shed_by_failure(message, self.symbols, self.counters);
        }
    }

    fn replay(&mut self, _: bool) -> bool {
        false
    }

    fn can_replay(&self, _: bool) -> bool {
        false
    }

    fn is_finished(&self) -> bool {
        true
    }
}

/// Counts a message that no handler gets, since one has panicked.
fn shed_by_failure<M: Message>(message: &M, symbols: &Symbols, counters: &WorkerCounters) {
    let (tiers, symbol) = (symbols.tier_table(), message.symbol());
    let priority = tiers.priority_index(tiers.slot(symbol), message.data_type());
    counters.shed_one(symbols.tier(symbol), priority, ShedReason::WorkerFailed);
}

/// What a worker needs to decide about messages.
struct Desk<'a, M: Message> {
    id: usize,
    policy: PolicyReader,
    /// Where that is read from, for slow paths.
    published: &'a Published,
    holes: Holes,
    symbols: &'a Symbols,
    counters: &'a WorkerCounters,
    overflow: Overflow<M>,
    progress: &'a Progress,
}

impl<M: Message> Desk<'_, M> {
    fn process<H: Handler<M>>(&mut self, handler: &mut H, chunk: Chunk<'_, M>, woke: bool) {
        if let Some(missed) = chunk.feed_gap {
            handler.on_feed_gap(missed);
        }
        let policy = **self.policy.load();
        let context = Context { level: policy.level, worker: self.id, enriched: policy.enriches(), replayed: false };
        if let Some(level) = policy.would_not_process_all() {
            self.observe(chunk.messages, &policy, level);
        }
        let sampled = chunk.begins_block || woke;
        let last = sampled.then(|| chunk.messages.last().copied()).flatten();
        if context.enriched {
            self.decide::<H, true>(handler, chunk, &policy, &context);
        } else {
            self.decide::<H, false>(handler, chunk, &policy, &context);
        }
        self.overflow.settle(self.counters);
        if let Some(message) = last {
            self.sample_latency(&message, &policy);
        }
    }

    /// Gives each message of a chunk its verdict and carries it out.
    #[inline]
    fn decide<H: Handler<M>, const ENRICH: bool>(
        &mut self,
        handler: &mut H,
        chunk: Chunk<'_, M>,
        policy: &Policy,
        context: &Context,
    ) {
        self.overflow.begin(chunk.messages.len());
        let reason = ShedReason::at(policy.level);
        let tally = ChunkTally::new(self.counters, &self.progress.done, reason, ENRICH);
        // In calm weather nothing is shed, no hole is open, and nothing waits in the spill log; and none of that can
        // begin within such a chunk.
        let calm = policy.processes_all() && chunk.missed.is_none() && !self.holes.any() && !self.overflow.is_pending();
        if calm {
            process_all::<_, _, ENRICH>(handler, chunk.messages, self.symbols.tier_table(), context, tally);
        } else {
            self.decide_each::<H, ENRICH>(handler, chunk, policy, context, tally);
        }
    }

    /// Counts what would become of messages, were this no dry run.
    #[cold]
    fn observe(&self, messages: &[M], policy: &Policy, level: DegradationLevel) {
        let verdict_of = |tier, message: &M| {
            let priority = MessagePriority::of(tier, message.data_type());
            match policy.table.verdict(level, priority) {
                Verdict::Spill if !self.overflow.exists() => Verdict::Shed,
                verdict => verdict,
            }
        };
        for message in messages {
            let tier = self.symbols.tier(message.symbol());
            match verdict_of(tier, message) {
                Verdict::Process => {}
                Verdict::Spill => self.counters.would_spill.add(1),
                Verdict::Shed => self.counters.would_shed(tier, ShedReason::at(level)).add(1),
            }
        }
    }

    /// After a panic: what was done with is done with, and the message in hand is given up.
    #[cold]
    fn give_up_in_hand(&mut self, receivers: &mut [Receiver<M>], doing: Doing) {
        let symbols = self.symbols;
        match doing {
            Doing::Chunk { lane } => {
                let receiver = &mut receivers[lane];
                receiver.finish(self.progress.done.get());
                let Some(chunk) = receiver.front(1) else { return };
                if let Some(message) = chunk.messages.first() {
                    shed_by_failure(message, symbols, self.counters);
                    self.holes.add(symbols.slot(message.symbol()), 1);
                    receiver.finish(1);
                }
            }
            Doing::Replay => {
                let slot_of = |message: &M| symbols.slot(message.symbol());
                self.overflow.drop_next(slot_of, self.counters, &mut self.holes);
            }
            Doing::Else => {}
        }
    }

    /// Tells of the holes of symbols that had no further message.
    #[cold]
    fn tell_holes<H: Handler<M>>(&mut self, handler: &mut H) {
        let counters = self.counters;
        self.holes.drain(|slot, missed| {
            counters.gaps.add(1);
            handler.on_gap(SymbolId::new(slot as u32), u64::from(missed));
        });
    }

    /// The same, whatever the weather.
    #[inline(never)]
    fn decide_each<H: Handler<M>, const ENRICH: bool>(
        &mut self,
        handler: &mut H,
        chunk: Chunk<'_, M>,
        policy: &Policy,
        context: &Context,
        mut tally: ChunkTally<'_>,
    ) {
        let row = *policy.row();
        let tiers = self.symbols.tier_table();
        // Within a chunk messages can begin to wait in the spill log, but not cease to.
        let mut waiting = self.overflow.is_pending();
        for (i, message) in chunk.messages.iter_mut().enumerate() {
            let symbol = message.symbol();
            let slot = tiers.slot(symbol);
            let priority = tiers.priority_index(slot, message.data_type());
            if let Some(notes) = chunk.missed {
                self.holes.add(slot, notes[i].load(Ordering::Relaxed));
            }
            let mut verdict = row[priority];
            if verdict != Verdict::Shed && waiting && self.overflow.holds(slot) {
                // Behind what was spilled.
                verdict = Verdict::Spill;
            }
            if verdict == Verdict::Spill {
                match self.overflow.spill(message, slot, &mut self.holes) {
                    Spilled::Yes => {
                        (waiting, tally.others) = (true, tally.others + 1);
                        self.counters.spilled_by_priority[priority].add(1);
                    }
                    Spilled::NoRoom => {
                        self.counters.shed_one(self.symbols.tier(symbol), priority, ShedReason::SpillFull);
                        tally.others += 1;
                    }
                    // The reference's rule.
                    Spilled::NoLog => tally.shed(tiers.tier_number(slot), priority),
                }
                continue;
            }
            if verdict == Verdict::Shed {
                self.holes.add(slot, 1);
                tally.shed(tiers.tier_number(slot), priority);
                continue;
            }
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
            tally.processed += tally::one(priority);
        }
    }

    /// Hands some messages from the spill log to the handler, oldest first.
    fn replay<H: Handler<M>>(&mut self, handler: &mut H, last: bool) -> bool {
        let policy = **self.policy.load();
        let goes_on = if last { self.overflow.replays_at_end() } else { replays_at(policy.level) };
        if !goes_on {
            self.overflow.put_off();
            return false;
        }
        let context = Context { level: policy.level, worker: self.id, enriched: policy.enriches(), replayed: true };
        let (counters, tiers) = (self.counters, self.symbols.tier_table());
        let portion = (REPLAY, self.published.replays_per_live());
        self.overflow.replay(counters, &mut self.holes, portion, |Replayed { mut message, missed, .. }| {
            if missed > 0 {
                counters.gaps.add(1);
                handler.on_gap(message.symbol(), u64::from(missed));
            }
            if context.enriched {
                handler.enrich(&mut message, &context);
                counters.enriched.add(1);
            }
            handler.process(&message, &context);
            let priority = tiers.priority_index(tiers.slot(message.symbol()), message.data_type());
            counters.replayed[priority].add(1);
        })
    }

    #[cold]
    fn sample_latency(&self, message: &M, policy: &Policy) {
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

/// Hands all messages of a chunk to the handler, and counts them.
///
/// A function of its own: within the thread's, its loop would run short of registers.
#[inline(never)]
fn process_all<M: Message, H: Handler<M>, const ENRICH: bool>(
    handler: &mut H,
    messages: &mut [M],
    tiers: TierTable<'_>,
    context: &Context,
    mut tally: ChunkTally<'_>,
) {
    for message in messages {
        let one = tally::one_of(message, tiers);
        if ENRICH {
            handler.enrich(message, context);
        }
        handler.process(message, context);
        tally.processed += one;
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}
