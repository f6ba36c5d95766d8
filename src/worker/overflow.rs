//! A worker's spill log, if it has one: what goes in, and how much comes back.
//!
//! While messages of a symbol wait in the log, later ones go behind them, whatever their verdict (but for those that are shed): so a
//! symbol keeps its order across spill and replay. Other symbols go on live.

use crate::holes::Holes;
use crate::ledger::WorkerCounters;
use crate::message::Message;
use crate::spill::{AtShutdown, Replayed, SpillLog, SpillProgress};

/// A worker replays so many more messages than it spills meanwhile, so that there is an end to it.
pub(crate) const CATCH_UP: usize = 32;

pub(crate) struct Overflow<M: Message> {
    log: Option<SpillLog<M>>,
    at_shutdown: AtShutdown,
    /// Since the last replay: messages off the lanes, and of these the spilled ones.
    live: usize,
    spilled: usize,
    /// Records were lost since the log was last empty.
    has_lost: bool,
}

impl<M: Message> Overflow<M> {
    /// A worker without a log.
    pub(crate) fn none() -> Self {
        Self { log: None, at_shutdown: AtShutdown::Leave, live: 0, spilled: 0, has_lost: false }
    }

    pub(crate) fn new(log: SpillLog<M>, at_shutdown: AtShutdown) -> Self {
        Self { log: Some(log), at_shutdown, ..Self::none() }
    }

    /// As [`SpillLog::progress`].
    pub(crate) fn progress(&self) -> Option<SpillProgress> {
        self.log.as_ref().and_then(SpillLog::progress)
    }

    /// Whether any message waits.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.log.as_ref().is_some_and(SpillLog::is_pending)
    }

    /// Whether messages of a symbol wait.
    #[inline]
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_pending_at(slot))
    }

    /// Before each chunk of so many messages.
    #[inline]
    pub(super) fn begin(&mut self, messages: usize) {
        if let Some(log) = &mut self.log {
            log.refresh();
            if !log.is_pending() {
                (self.live, self.spilled) = (0, 0);
            }
            self.live += messages;
        }
    }

    /// Appends a message to the log, which is there, and beside it the hole before it. What found no place is a hole itself. Returns whether it
    /// found one.
    #[inline(never)]
    pub(super) fn spill(&mut self, message: &M, slot: usize, holes: &mut Holes) -> bool {
        let Some(log) = &mut self.log else { unreachable!("it was asked for before") };
        let missed = if holes.any() { holes.take(slot) } else { 0 };
        let has_place = log.append(message, missed);
        if !has_place {
            holes.add(slot, missed.saturating_add(1));
        }
        has_place
    }

    /// Commits what was appended, and counts it. After each chunk, and when the worker ends or fails.
    #[inline]
    pub(super) fn settle(&mut self, counters: &WorkerCounters) {
        if let Some(log) = &mut self.log {
            let spilled = log.commit();
            self.spilled += spilled as usize;
            counters.spilled.add(spilled);
            let lost = log.take_lost();
            self.has_lost |= lost > 0;
            counters.spill_lost.add(lost);
            counters.spill_pending.set(log.pending());
        }
    }

    pub(super) fn can_replay(&self) -> bool {
        self.log.as_ref().is_some_and(SpillLog::can_replay)
    }

    /// Whether replay goes on when no more messages will come off the lanes.
    pub(super) fn replays_at_end(&self) -> bool {
        self.at_shutdown == AtShutdown::Replay
    }

    /// Whether the worker may end.
    pub(super) fn is_finished(&self) -> bool {
        // Without its keeper, nothing more would come.
        let may_come = |log: &SpillLog<M>| log.is_pending() && log.is_kept();
        !(self.replays_at_end() && self.log.as_ref().is_some_and(may_come))
    }

    /// Whether there is a log.
    pub(super) fn exists(&self) -> bool {
        self.log.is_some()
    }

    /// Gives up the message that would be replayed next: it counts as lost, and is a hole of its symbol. What was appended is settled.
    pub(super) fn drop_next(&mut self, slot_of: impl Fn(&M) -> usize, counters: &WorkerCounters, holes: &mut Holes) {
        let Some(log) = &mut self.log else { return };
        let mut dropped = 0;
        log.replay(1, |Replayed { message, missed, .. }| {
            holes.add(slot_of(&message), missed.saturating_add(1));
            dropped += 1;
        });
        counters.spill_lost.add(dropped);
        self.settle(counters);
    }

    /// Nothing is replayed now, nor made up for later.
    pub(super) fn put_off(&mut self) {
        (self.live, self.spilled) = (0, 0);
    }

    /// Replays as much as the worker's share allows, or a portion where there is nothing else to do; returns whether there was
    /// anything to replay. `replays_per_live`: messages that may be replayed for each that was handled live.
    pub(super) fn replay(
        &mut self,
        counters: &WorkerCounters,
        holes: &mut Holes,
        (portion, replays_per_live): (usize, f64),
        deliver: impl FnMut(Replayed<M>),
    ) -> bool {
        let Some(log) = &mut self.log else { return false };
        let (live, spilled) = (std::mem::take(&mut self.live), std::mem::take(&mut self.spilled));
        let share = ((live - spilled.min(live)) as f64 * replays_per_live) as usize;
        let budget = if live == 0 { portion } else { share.max(spilled + CATCH_UP) };
        let (next, replayed) = (log.replay_next(), log.replay(budget, deliver));
        let passed = log.replay_next() > next;
        self.settle(counters);
        let Some(log) = &mut self.log else { return false };
        if !log.is_pending() && std::mem::take(&mut self.has_lost) {
            // By now it is known whose they were.
            log.take_lost_by_slot(|slot, count| holes.add(slot, u32::try_from(count).unwrap_or(u32::MAX)));
        }
        replayed > 0 || passed
    }
}
