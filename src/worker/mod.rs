//! The loop of a worker thread.
//!
//! For each lane in turn: take a chunk of at most [`CHUNK`] messages from the front, read the
//! policy once, and give each message its verdict. Then count, and only then take the chunk off the lane.
//!
//! Between chunks what is kept to be conflated is handed on, see [`conflation`], and some of what was spilled is replayed, if the level
//! allows, see [`overflow`].
//!
//! Nothing here locks, allocates, calls the system or reads a clock per message. The clock is read once a block
//! (and when work ends a wait) for the latency sample; a parked worker is woken by a system call.

mod conflation;
mod desk;
mod overflow;
mod tally;
mod tokens;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

use crate::degradation::published::Published;
use crate::degradation::{DegradationLevel, ShedReason};
use crate::handler::Handler;
use crate::holes::{Holes, LastHoles};
use crate::lane::{Chunk, Receiver, WaitStrategy, Waiter, Waker};
use crate::ledger::WorkerCounters;
use crate::message::Message;
use crate::symbols::Symbols;

pub(crate) use conflation::Conflation;
pub(crate) use conflation::bytes_of as conflation_bytes;
use desk::Desk;
pub(crate) use overflow::{CATCH_UP, Overflow};

/// Messages per look at the policy.
pub(crate) const CHUNK: usize = 128;
/// Messages that are replayed without a look at the lanes, when there was nothing in them.
const REPLAY: usize = 32;
/// Messages that were kept to be conflated, and are handed on without a look at the lanes, when there was nothing in them.
const HAND_ON: usize = 8;
const _: () = assert!(CHUNK <= tally::CHUNK_MAX);

/// What a worker thread is made from.
pub(crate) struct WorkerParts<M: Message> {
    pub(crate) id: usize,
    pub(crate) receivers: Vec<Receiver<M>>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) published: Arc<Published>,
    pub(crate) counters: Arc<CachePadded<WorkerCounters>>,
    pub(crate) overflow: Overflow<M>,
    pub(crate) conflation: Conflation<M>,
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
        let Self { id, mut receivers, symbols, published, counters, overflow, conflation, last_holes, waker, wait } =
            self;
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
            conflation,
            lanes: receivers.iter().map(|receiver| Arc::clone(receiver.counters())).collect(),
            handed_on: 0,
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
            desk.shed_held();
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

    /// Hands on some of what is kept, and replays some, after a look at all lanes; returns whether there was any. `is_busy`: there was something in
    /// the lanes. `last`: no more will come off them.
    fn replay(&mut self, is_busy: bool, last: bool) -> bool;

    /// Whether [`replay`](Self::replay) would do anything. For a worker that waits, and so keeps nothing.
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
            let Some(chunk) = receiver.front(CHUNK) else {
                receiver.counters().front.received_ns.store(0, Ordering::Relaxed);
                continue;
            };
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
        let has_replayed = work.replay(handled > 0, last);
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
    fn replay(&mut self, is_busy: bool, last: bool) -> bool {
        if self.desk.conflation.is_empty() {
            return self.desk.overflow.is_pending() && self.desk.replay(self.handler, REPLAY, last);
        }
        // One at least: a lane that is never empty must not hold them back for ever.
        let handed_on = self.desk.hand_on(self.handler, if is_busy { 1 } else { HAND_ON });
        if self.desk.overflow.is_pending() {
            self.desk.replay(self.handler, handed_on, last);
        }
        true
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

    fn replay(&mut self, _: bool, _: bool) -> bool {
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

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}
