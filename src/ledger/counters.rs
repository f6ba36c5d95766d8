//! The counters that the threads keep.
//!
//! Each counter has one writer, which adds with a relaxed load and a relaxed store: no locked
//! instruction. They are monotonic and stand for themselves; what orders them for a reader is that a
//! worker finishes messages (release) only after it has counted them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::{Ledger, Observed, PRIORITIES, PriorityLedger, REASONS, ShedCounts, TIERS, WorkerLedger};
use crate::degradation::ShedReason;
use crate::lane::LaneCounters;
use crate::spill::SpillStats;
use crate::symbols::{MessagePriority, Tier};
use crate::telemetry::{LatencyHistogram, LatencySnapshot};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        if n > 0 {
            self.0.store(self.get() + n, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each priority, by [`MessagePriority::index`].
pub(crate) type PriorityTallies = [Tally; PRIORITIES];

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) processed: PriorityTallies,
    pub(crate) enriched: Tally,
    pub(super) shed: [[Tally; REASONS]; TIERS],
    pub(crate) shed_by_priority: PriorityTallies,
    /// In a dry run: what would have been shed and spilled.
    pub(super) would_shed: [[Tally; REASONS]; TIERS],
    pub(crate) would_spill: Tally,
    pub(crate) would_conflate: Tally,
    /// Over their priority's budget.
    pub(crate) over_budget: PriorityTallies,
    /// What is left of each priority's budget. The monitor adds, the worker takes.
    pub(crate) tokens: [AtomicI64; PRIORITIES],
    /// How often the handler was made anew after it had panicked.
    pub(crate) restarts: Tally,
    /// Calls of `on_gap`.
    pub(crate) gaps: Tally,
    /// Written to the spill log; read back from it and handed to the handler; waiting in it; lost from it.
    pub(crate) spilled: Tally,
    pub(crate) spilled_by_priority: PriorityTallies,
    /// Left out for a newer one.
    pub(crate) conflated: PriorityTallies,
    /// Off their lanes, and waiting for the handler or a newer one.
    pub(crate) held: Tally,
    pub(crate) replayed: PriorityTallies,
    pub(crate) spill_pending: Tally,
    pub(crate) spill_lost: Tally,
    /// Found in the spill log at the start.
    pub(crate) recovered: Tally,
    /// Receive to processed, by priority.
    pub(crate) latency: [LatencyHistogram; PRIORITIES],
    /// Nothing to do at the moment. The monitor samples it for the busy share.
    pub(crate) idle: AtomicBool,
}

impl WorkerCounters {
    #[inline]
    pub(crate) fn shed(&self, tier: Tier, reason: ShedReason) -> &Tally {
        &self.shed[tier.index()][reason.index()]
    }

    /// Counts a message that is shed for a reason of its own, not the chunk's.
    #[cold]
    pub(crate) fn shed_one(&self, tier: Tier, priority: usize, reason: ShedReason) {
        self.shed(tier, reason).add(1);
        self.shed_by_priority[priority].add(1);
    }

    /// Messages read back from the spill log and handed to the handler.
    pub(crate) fn replayed(&self) -> u64 {
        self.replayed.iter().map(Tally::get).sum()
    }

    #[inline]
    pub(crate) fn would_shed(&self, tier: Tier, reason: ShedReason) -> &Tally {
        &self.would_shed[tier.index()][reason.index()]
    }
}

/// All counters of a pipeline.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) workers: Vec<Arc<CachePadded<WorkerCounters>>>,
    /// By worker, then by producer.
    pub(crate) lanes: Vec<Vec<Arc<LaneCounters>>>,
    /// Messages offered, by producer.
    pub(crate) offered: Vec<Arc<CachePadded<Tally>>>,
    /// Of these, those that had been offered before, by producer.
    pub(crate) redelivered: Vec<Arc<CachePadded<Tally>>>,
    /// Of the workers' spill logs; empty without.
    pub(crate) spill: Vec<Arc<SpillStats>>,
}

impl Counters {
    /// Messages that were over their priority's budget.
    pub(crate) fn over_budget(&self, priority: MessagePriority) -> u64 {
        self.workers.iter().map(|worker| worker.over_budget[priority.index()].get()).sum()
    }

    /// Gives each worker its part of what a budget comes to in a while: so many messages in all, up to so many at once.
    pub(crate) fn refill(&self, priority: usize, messages: u64, burst: u64) {
        let workers = self.workers.len() as i64;
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        let most = (i64::try_from(burst).unwrap_or(i64::MAX) / workers).max(1);
        for (i, worker) in (0..).zip(&self.workers) {
            // What cannot be divided goes round.
            let part = messages / workers + i64::from(i < messages % workers);
            let tokens = &worker.tokens[priority];
            let more = tokens.load(Ordering::Relaxed).saturating_add(part).min(most) - tokens.load(Ordering::Relaxed);
            tokens.fetch_add(more.max(0), Ordering::Relaxed);
        }
    }

    /// Messages that are off their lanes, and kept to be conflated.
    pub(crate) fn held(&self) -> u64 {
        self.workers.iter().map(|worker| worker.held.get()).sum()
    }

    /// Messages published and not finished, over all lanes, and those that are held.
    pub(crate) fn in_flight(&self) -> u64 {
        self.held() + self.lanes.iter().flatten().map(|lane| lane.in_flight()).sum::<u64>()
    }

    /// How long the oldest message that a worker has in hand has waited since it was received, as of this wall clock; 0 where there is none, or where
    /// messages do not tell.
    pub(crate) fn age_ns(&self, now_ns: u64) -> u64 {
        let age = |lane: &Arc<LaneCounters>| {
            let received_ns = lane.front.received_ns.load(Ordering::Relaxed);
            if received_ns == 0 || lane.in_flight() == 0 { 0 } else { now_ns.saturating_sub(received_ns) }
        };
        self.lanes.iter().flatten().map(age).max().unwrap_or_default()
    }

    /// Bytes of all spill logs on disk.
    pub(crate) fn spill_bytes(&self) -> u64 {
        self.spill.iter().map(|stats| stats.bytes.load(Ordering::Relaxed)).sum()
    }

    /// What would have become of messages, were this no dry run.
    pub(crate) fn observed(&self) -> Observed {
        let mut shed_by = ShedCounts::default();
        self.workers.iter().for_each(|worker| shed_by.add(&ShedCounts::of(&worker.would_shed)));
        Observed {
            refused: self.lanes.iter().flatten().map(|lane| lane.would_refuse.get()).sum(),
            spilled: self.workers.iter().map(|worker| worker.would_spill.get()).sum(),
            conflated: self.workers.iter().map(|worker| worker.would_conflate.get()).sum(),
            shed: shed_by.total(),
            shed_by,
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let workers: Vec<_> =
            self.workers.iter().zip(&self.lanes).map(|(worker, lanes)| WorkerLedger::of(worker, lanes)).collect();
        let sum = |pick: fn(&WorkerLedger) -> u64| workers.iter().map(pick).sum();
        let mut shed_by = ShedCounts::default();
        workers.iter().for_each(|w| shed_by.add(&w.shed_by));
        Ledger {
            offered: self.offered.iter().map(|o| o.get()).sum(),
            redelivered: self.redelivered.iter().map(|r| r.get()).sum(),
            accepted: sum(|w| w.accepted),
            refused: sum(|w| w.refused),
            full: sum(|w| w.full),
            processed_live: sum(|w| w.processed_live),
            spilled: sum(|w| w.spilled),
            conflated: sum(|w| w.conflated),
            shed: sum(|w| w.shed),
            in_flight: sum(|w| w.in_flight),
            recovered: sum(|w| w.recovered),
            replayed: sum(|w| w.replayed),
            spill_pending: sum(|w| w.spill_pending),
            spill_lost: sum(|w| w.spill_lost),
            by_priority: std::array::from_fn(|i| self.of_priority(i)),
            shed_by,
            workers,
        }
    }

    fn of_priority(&self, i: usize) -> PriorityLedger {
        let workers = |pick: fn(&WorkerCounters) -> &PriorityTallies| -> u64 {
            self.workers.iter().map(|worker| pick(worker)[i].get()).sum()
        };
        let lanes = |pick: fn(&LaneCounters) -> &PriorityTallies| -> u64 {
            self.lanes.iter().flatten().map(|lane| pick(lane)[i].get()).sum()
        };
        PriorityLedger {
            refused: lanes(|lane| &lane.refused),
            full: lanes(|lane| &lane.full),
            processed_live: workers(|worker| &worker.processed),
            spilled: workers(|worker| &worker.spilled_by_priority),
            conflated: workers(|worker| &worker.conflated),
            shed: workers(|worker| &worker.shed_by_priority),
            replayed: workers(|worker| &worker.replayed),
        }
    }

    /// Latencies of all workers, by priority.
    pub(crate) fn latency(&self, priority: MessagePriority) -> LatencySnapshot {
        let mut all = LatencySnapshot::default();
        for worker in &self.workers {
            all.add(&worker.latency[priority.index()].snapshot());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_divided_among_workers_and_none_has_more_than_its_part_at_once() {
        let workers = (0..3).map(|_| Arc::default()).collect();
        let counters = Counters {
            workers,
            lanes: vec![Vec::new(); 3],
            offered: Vec::new(),
            redelivered: Vec::new(),
            spill: Vec::new(),
        };
        let tokens = || counters.workers.iter().map(|w| w.tokens[2].load(Ordering::Relaxed)).collect::<Vec<_>>();
        counters.refill(2, 8, 30);
        assert_eq!(tokens(), [3, 3, 2]);
        counters.refill(2, 24, 30);
        assert_eq!(tokens(), [10, 10, 10]);
        counters.workers[1].tokens[2].fetch_sub(9, Ordering::Relaxed);
        counters.refill(2, 3, 30);
        assert_eq!(tokens(), [10, 2, 10]);
        // A budget that has become smaller takes nothing back.
        counters.refill(2, 3, 6);
        assert_eq!(tokens(), [10, 2, 10]);
    }
}
