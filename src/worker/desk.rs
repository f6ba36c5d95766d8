//! Where a worker decides about messages, and hands them to the handler.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::conflation::{Conflation, Held};
use super::overflow::Overflow;
use super::tally::{self, ChunkTally};
use super::tokens::Tokens;
use super::{Doing, Progress, replays_at, shed_by_failure};
use crate::degradation::gradual::part_of;
use crate::degradation::published::{PolicyReader, Published};
use crate::degradation::{DegradationLevel, Policy, ShedReason, Verdict};
use crate::handler::{Context, Handler};
use crate::holes::Holes;
use crate::lane::{Chunk, LaneCounters, Receiver};
use crate::ledger::WorkerCounters;
use crate::message::{CONFLATION_CLASSES, Message, SymbolId, wall_clock_ns};
use crate::spill::Replayed;
use crate::symbols::{MessagePriority, Symbols, TierTable};

/// What a worker needs to decide about messages.
pub(super) struct Desk<'a, M: Message> {
    pub(super) id: usize,
    pub(super) policy: PolicyReader,
    /// Where that is read from, for slow paths.
    pub(super) published: &'a Published,
    pub(super) holes: Holes,
    pub(super) symbols: &'a Symbols,
    pub(super) counters: &'a WorkerCounters,
    pub(super) overflow: Overflow<M>,
    pub(super) conflation: Conflation<M>,
    /// The lanes that messages come off.
    pub(super) lanes: Vec<Arc<LaneCounters>>,
    /// Messages that were kept, and are with the handler by now.
    pub(super) handed_on: u64,
    pub(super) progress: &'a Progress,
}

/// Of so many messages that were kept, the latency of one is sampled.
const SAMPLED: u64 = 32;

impl<M: Message> Desk<'_, M> {
    pub(super) fn process<H: Handler<M>>(&mut self, handler: &mut H, chunk: Chunk<'_, M>, woke: bool) {
        if let Some(missed) = chunk.feed_gap {
            handler.on_feed_gap(missed);
        }
        if let Doing::Chunk { lane } = self.progress.doing.get() {
            let received_ns = chunk.messages.first().map_or(0, Message::receive_ns);
            self.lanes[lane].front.received_ns.store(received_ns, Ordering::Relaxed);
        }
        let policy = **self.policy.load();
        let context = self.context(&policy, false);
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

    /// The circumstances of a call, by the policy in force.
    #[inline]
    fn context(&self, policy: &Policy, replayed: bool) -> Context {
        Context { level: policy.level, worker: self.id, enriched: policy.enriches(), replayed, conflated: 0 }
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
        let calm = policy.processes_all()
            && chunk.missed.is_none()
            && !self.holes.any()
            && !self.overflow.is_pending()
            && self.conflation.is_empty();
        if calm {
            process_all::<_, _, ENRICH>(handler, chunk.messages, self.symbols.tier_table(), context, tally);
        } else if policy.conflates || policy.is_gradual || !self.conflation.is_empty() {
            if policy.conflates && !self.conflation.is_prepared() {
                self.conflation.prepare(self.symbols.capacity() + 1);
            }
            self.decide_each::<H, ENRICH, true>(handler, chunk, policy, context, tally);
            self.settle_held();
        } else {
            self.decide_each::<H, ENRICH, false>(handler, chunk, policy, context, tally);
        }
    }

    /// Counts what would become of messages, were this no dry run.
    #[cold]
    fn observe(&self, messages: &[M], policy: &Policy, level: DegradationLevel) {
        let verdict_of = |tier, message: &M| {
            let priority = MessagePriority::of(tier, message.data_type());
            policy.table.verdict(level, priority)
        };
        for message in messages {
            let tier = self.symbols.tier(message.symbol());
            let verdict = verdict_of(tier, message);
            if verdict.conflates() && message.conflation_class().is_some() {
                self.counters.would_conflate.add(1);
                continue;
            }
            match verdict.otherwise() {
                Verdict::Spill if self.overflow.exists() => self.counters.would_spill.add(1),
                Verdict::Spill | Verdict::Shed => self.counters.would_shed(tier, ShedReason::at(level)).add(1),
                _ => {}
            }
        }
    }

    /// After a panic: what was done with is done with, and the message in hand is given up.
    #[cold]
    pub(super) fn give_up_in_hand(&mut self, receivers: &mut [Receiver<M>], doing: Doing) {
        let symbols = self.symbols;
        if let Some(held) = self.conflation.take_in_hand() {
            shed_by_failure(&held.message, symbols, self.counters);
            self.holes.add(symbols.slot(held.message.symbol()), 1);
            self.settle_held();
            if let Doing::Chunk { lane } = doing {
                receivers[lane].finish(self.progress.done.get());
            }
            return;
        }
        self.settle_held();
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
    pub(super) fn tell_holes<H: Handler<M>>(&mut self, handler: &mut H) {
        let counters = self.counters;
        self.holes.drain(|slot, missed| {
            counters.gaps.add(1);
            handler.on_gap(SymbolId::new(slot as u32), u64::from(missed));
        });
    }

    /// The same, whatever the weather.
    #[inline(never)]
    fn decide_each<H: Handler<M>, const ENRICH: bool, const FINE: bool>(
        &mut self,
        handler: &mut H,
        chunk: Chunk<'_, M>,
        policy: &Policy,
        context: &Context,
        mut tally: ChunkTally<'_>,
    ) {
        let row = *policy.row();
        let tiers = self.symbols.tier_table();
        let (lane, first) = if FINE { self.origin() } else { (0, 0) };
        let mut budget = Tokens::new(if FINE { Some(&self.counters.tokens) } else { None });
        // Within a chunk messages can begin to wait in the spill log, but not cease to.
        let mut waiting = self.overflow.is_pending();
        let has_log = self.overflow.exists();
        for (i, message) in chunk.messages.iter_mut().enumerate() {
            let symbol = message.symbol();
            let slot = tiers.slot(symbol);
            let priority = tiers.priority_index(slot, message.data_type());
            if let Some(notes) = chunk.missed {
                self.holes.add(slot, notes[i].load(Ordering::Relaxed));
            }
            let mut verdict = row[priority];
            if FINE {
                let is_out = part_of(symbol) < policy.gradual.shed_parts[priority];
                if is_out && verdict.otherwise() != Verdict::Shed {
                    self.holes.add(slot, 1);
                    self.counters.shed_one(self.symbols.tier(symbol), priority, ShedReason::Proportional);
                    tally.others += 1;
                    continue;
                }
                if policy.gradual.has_budget[priority] && !budget.take(priority) {
                    self.counters.over_budget[priority].add(1);
                    verdict = policy.row_above()[priority];
                    if verdict == Verdict::Shed && row[priority] != Verdict::Shed {
                        self.holes.add(slot, 1);
                        self.counters.shed_one(self.symbols.tier(symbol), priority, ShedReason::OverBudget);
                        tally.others += 1;
                        continue;
                    }
                }
                let class = message.conflation_class();
                // A state is no history: it does not go behind what waits of its symbol.
                let is_behind =
                    || verdict == Verdict::Process && policy.conflates && waiting && self.overflow.holds(slot);
                if let Some(class) = class.filter(|_| verdict.conflates() || is_behind()) {
                    let missed = if self.holes.any() { self.holes.take(slot) } else { 0 };
                    if self.conflation.put(Conflation::<M>::key(slot, class), message, missed, (lane, first + i as u64))
                    {
                        self.counters.conflated[priority].add(1);
                    }
                    tally.others += 1;
                    continue;
                }
                verdict = verdict.otherwise();
            }
            if verdict != Verdict::Shed && waiting && self.overflow.holds(slot) {
                // Behind what was spilled.
                verdict = Verdict::Spill;
            }
            if verdict == Verdict::Spill && has_log {
                if self.overflow.spill(message, slot, &mut self.holes) {
                    waiting = true;
                    self.counters.spilled_by_priority[priority].add(1);
                } else {
                    self.counters.shed_one(self.symbols.tier(symbol), priority, ShedReason::SpillFull);
                }
                tally.others += 1;
                continue;
            }
            // Without a log what would be spilled is shed: the reference's rule.
            if verdict != Verdict::Process {
                self.holes.add(slot, 1);
                tally.shed(tiers.tier_number(slot), priority);
                continue;
            }
            if FINE && self.conflation.is_prepared() && self.conflation.holds(slot) {
                // What came before it goes before it.
                self.hand_on_symbol(handler, slot, context);
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

    /// The lane of the chunk in hand, and the number there of its first message, from 1.
    fn origin(&self) -> (usize, u64) {
        let Doing::Chunk { lane } = self.progress.doing.get() else { return (0, 0) };
        (lane, self.lanes[lane].finished.load(Ordering::Relaxed) + 1)
    }

    /// Hands some of the messages that are kept to the handler, oldest first; returns how many.
    pub(super) fn hand_on<H: Handler<M>>(&mut self, handler: &mut H, count: usize) -> usize {
        let policy = **self.policy.load();
        let context = self.context(&policy, false);
        let mut handed_on = 0;
        while handed_on < count
            && let Some(held) = self.conflation.take_next()
        {
            self.hand_over(handler, held, &context);
            handed_on += 1;
        }
        self.settle_held();
        handed_on
    }

    /// Hands those of a symbol to the handler.
    #[cold]
    fn hand_on_symbol<H: Handler<M>>(&mut self, handler: &mut H, slot: usize, context: &Context) {
        for class in 0..CONFLATION_CLASSES as u8 {
            if let Some(held) = self.conflation.take(Conflation::<M>::key(slot, class)) {
                self.hand_over(handler, held, context);
            }
        }
    }

    /// Hands one to the handler that was kept. It is the one in hand.
    fn hand_over<H: Handler<M>>(&mut self, handler: &mut H, held: Held<M>, context: &Context) {
        let Held { mut message, conflated, missed, .. } = held;
        let context = Context { conflated, ..*context };
        let tiers = self.symbols.tier_table();
        let priority = tiers.priority_index(tiers.slot(message.symbol()), message.data_type());
        if missed > 0 {
            self.counters.gaps.add(1);
            handler.on_gap(message.symbol(), u64::from(missed));
        }
        if context.enriched {
            handler.enrich(&mut message, &context);
        }
        handler.process(&message, &context);
        self.conflation.done();
        if context.enriched {
            self.counters.enriched.add(1);
        }
        self.counters.processed[priority].add(1);
        self.handed_on += 1;
        if self.handed_on.is_multiple_of(SAMPLED) {
            self.record_latency(&message, priority);
        }
    }

    /// Tells how many messages are kept, and which are the first of their lanes.
    fn settle_held(&self) {
        self.counters.held.set(self.conflation.len() as u64);
        for (lane, counters) in self.lanes.iter().enumerate() {
            counters.front.held_from.store(self.conflation.held_from(lane), Ordering::Release);
        }
    }

    /// Gives up what is kept, since there is no handler any more.
    #[cold]
    pub(super) fn shed_held(&mut self) {
        let in_hand = self.conflation.take_in_hand();
        let rest = std::iter::from_fn(|| self.conflation.take_next());
        in_hand.into_iter().chain(rest).for_each(|held| shed_by_failure(&held.message, self.symbols, self.counters));
        self.settle_held();
    }

    /// Hands some messages from the spill log to the handler, oldest first: so many, where there was nothing in the lanes.
    pub(super) fn replay<H: Handler<M>>(&mut self, handler: &mut H, portion: usize, last: bool) -> bool {
        let policy = **self.policy.load();
        let goes_on = if last { self.overflow.replays_at_end() } else { replays_at(policy.level) };
        if !goes_on {
            self.overflow.put_off();
            return false;
        }
        let context = self.context(&policy, true);
        let (counters, tiers) = (self.counters, self.symbols.tier_table());
        let portion = (portion, self.published.replays_per_live());
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
        if policy.row()[priority] == Verdict::Process {
            self.record_latency(message, priority);
        }
    }

    fn record_latency(&self, message: &M, priority: usize) {
        let received = message.receive_ns();
        if received == 0 {
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
