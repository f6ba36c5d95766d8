//! Where every message went: the counters that the threads keep, and the [`Ledger`] that adds them up.
//!
//! Each counter has one writer, which adds with a relaxed load and a relaxed store: no locked
//! instruction. They are monotonic and stand for themselves; what orders them for a reader is that a
//! worker finishes messages (release) only after it has counted them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

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

const TIERS: usize = Tier::ALL.len();
const REASONS: usize = ShedReason::ALL.len();
const PRIORITIES: usize = MessagePriority::ALL.len();

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) processed: [Tally; PRIORITIES],
    pub(crate) enriched: Tally,
    shed: [[Tally; REASONS]; TIERS],
    /// In a dry run: what would have been shed and spilled.
    would_shed: [[Tally; REASONS]; TIERS],
    pub(crate) would_spill: Tally,
    /// How often the handler was made anew after it had panicked.
    pub(crate) restarts: Tally,
    /// Calls of `on_gap`.
    pub(crate) gaps: Tally,
    /// Written to the spill log; read back from it and handed to the handler; waiting in it; lost from it.
    pub(crate) spilled: Tally,
    pub(crate) replayed: Tally,
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
    /// Messages published and not finished, over all lanes.
    pub(crate) fn in_flight(&self) -> u64 {
        self.lanes.iter().flatten().map(|lane| lane.in_flight()).sum()
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
            shed: sum(|w| w.shed),
            in_flight: sum(|w| w.in_flight),
            recovered: sum(|w| w.recovered),
            replayed: sum(|w| w.replayed),
            spill_pending: sum(|w| w.spill_pending),
            spill_lost: sum(|w| w.spill_lost),
            processed_by_priority: std::array::from_fn(|i| self.workers.iter().map(|w| w.processed[i].get()).sum()),
            shed_by,
            workers,
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

/// Messages shed, by the symbol's tier and the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShedCounts([[u64; REASONS]; TIERS]);

/// What would have become of messages in a [dry run](crate::Mode::Observe).
///
/// The level is the one that the pipeline would have had if it had given nothing up, so that these counts are an upper bound: what would
/// have been given up would have made the lag smaller. A message that would have been refused is met by a worker all the same, and may count as shed or spilled, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Observed {
    /// Would have been refused by the intake gate.
    pub refused: u64,
    /// Would have been spilled.
    pub spilled: u64,
    /// Would have been shed.
    pub shed: u64,
    /// The same, broken down.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub shed_by: ShedCounts,
}

impl ShedCounts {
    fn of(counters: &[[Tally; REASONS]; TIERS]) -> Self {
        Self(counters.each_ref().map(|reasons| reasons.each_ref().map(Tally::get)))
    }

    /// How many of this tier were shed for this reason.
    pub fn get(&self, tier: Tier, reason: ShedReason) -> u64 {
        self.0[tier.index()][reason.index()]
    }

    /// How many were shed in all.
    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    /// All cells.
    pub fn iter(&self) -> impl Iterator<Item = (Tier, ShedReason, u64)> + '_ {
        Tier::ALL
            .into_iter()
            .flat_map(move |tier| ShedReason::ALL.into_iter().map(move |reason| (tier, reason, self.get(tier, reason))))
    }

    fn add(&mut self, other: &Self) {
        let cells = self.0.iter_mut().flatten();
        cells.zip(other.0.iter().flatten()).for_each(|(a, b)| *a += b);
    }
}

/// Where every message went.
///
/// At every quiet moment (nothing being offered, producers flushed) these hold in sum, and the second and third for each
/// worker; the left and right sides are counted apart, so that [`check`](Self::check) can fail:
///
/// ```text
/// offered             = accepted + refused + full
/// accepted            = processed_live + spilled + shed + in_flight
/// spilled + recovered = replayed + spill_pending + spill_lost
/// processed           = processed_live + replayed
/// ```
///
/// Without a spill log, `spilled` and the figures of the third line are 0. `recovered` is what an earlier process had left in
/// the log; after a crash that includes some that it had replayed already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Ledger {
    /// Messages that producers offered.
    pub offered: u64,
    /// Of these, those that the source knows to have been offered before, by this process or another: a source that delivers at least
    /// once, such as Kafka, says so.
    pub redelivered: u64,
    /// Taken in and flushed.
    pub accepted: u64,
    /// Refused since the gate was shut.
    pub refused: u64,
    /// Turned away since the lane was full.
    pub full: u64,
    /// Handed to the handler as they came.
    pub processed_live: u64,
    /// Written to the spill log.
    pub spilled: u64,
    /// Dropped, by policy or because a worker failed.
    pub shed: u64,
    /// In a lane, not yet finished.
    pub in_flight: u64,
    /// Found in the spill log at the start, what was lost of it included.
    pub recovered: u64,
    /// Read back from the spill log and handed to the handler.
    pub replayed: u64,
    /// In the spill log.
    pub spill_pending: u64,
    /// Lost from the spill log by a fault that was reported.
    pub spill_lost: u64,
    /// `processed_live`, by priority, most valuable first.
    pub processed_by_priority: [u64; PRIORITIES],
    /// `shed`, broken down.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub shed_by: ShedCounts,
    /// The same figures by worker.
    pub workers: Vec<WorkerLedger>,
}

/// One worker's part of the [`Ledger`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct WorkerLedger {
    /// Taken in and flushed.
    pub accepted: u64,
    /// Refused since the gate was shut.
    pub refused: u64,
    /// Turned away since the worker's lane was full.
    pub full: u64,
    /// Handed to the handler as they came.
    pub processed_live: u64,
    /// Messages that were enriched, replayed ones included.
    pub enriched: u64,
    /// Written to the spill log.
    pub spilled: u64,
    /// Dropped.
    pub shed: u64,
    /// In a lane, not yet finished.
    pub in_flight: u64,
    /// Found in the worker's spill log at the start, what was lost of it included.
    pub recovered: u64,
    /// Read back from the spill log and handed to the handler.
    pub replayed: u64,
    /// In the worker's spill log.
    pub spill_pending: u64,
    /// Lost from the spill log by a fault that was reported.
    pub spill_lost: u64,
    /// How often `on_gap` was called.
    pub gaps: u64,
    /// How often the handler was made anew after a panic.
    pub restarts: u64,
    /// `shed`, broken down.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub shed_by: ShedCounts,
}

impl WorkerLedger {
    fn of(worker: &WorkerCounters, lanes: &[Arc<LaneCounters>]) -> Self {
        let sum = |pick: fn(&LaneCounters) -> u64| lanes.iter().map(|lane| pick(lane)).sum();
        let in_flight = sum(LaneCounters::in_flight);
        let shed_by = ShedCounts::of(&worker.shed);
        Self {
            accepted: sum(|lane| lane.sent.published.load(Ordering::Acquire)),
            refused: sum(|lane| lane.refused.get()),
            full: sum(|lane| lane.full.get()),
            processed_live: worker.processed.iter().map(Tally::get).sum(),
            enriched: worker.enriched.get(),
            spilled: worker.spilled.get(),
            shed: shed_by.total(),
            in_flight,
            recovered: worker.recovered.get(),
            replayed: worker.replayed.get(),
            spill_pending: worker.spill_pending.get(),
            spill_lost: worker.spill_lost.get(),
            gaps: worker.gaps.get(),
            restarts: worker.restarts.get(),
            shed_by,
        }
    }

    /// What this worker's messages ended as.
    fn accounted(&self) -> u64 {
        self.processed_live + self.spilled + self.shed + self.in_flight
    }

    /// What those in its spill log ended as.
    fn spill_accounted(&self) -> u64 {
        self.replayed + self.spill_pending + self.spill_lost
    }
}

/// A ledger whose sides differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger does not balance: {identity}: {left} ≠ {right}")]
pub struct Imbalance {
    /// The identity that does not hold.
    pub identity: String,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

impl Ledger {
    /// All messages that a handler got.
    pub fn processed(&self) -> u64 {
        self.processed_live + self.replayed
    }

    /// Checks the identities, in sum and for each worker.
    ///
    /// # Errors
    /// The first identity that does not hold, with its two sides. While messages are moving, that is no fault: the
    /// counters are read one after the other.
    pub fn check(&self) -> Result<(), Imbalance> {
        let check = |identity: &str, left, right| {
            if left == right {
                return Ok(());
            }
            Err(Imbalance { identity: identity.to_owned(), left, right })
        };
        check("offered = accepted + refused + full", self.offered, self.accepted + self.refused + self.full)?;
        check(
            "accepted = processed_live + spilled + shed + in_flight",
            self.accepted,
            self.processed_live + self.spilled + self.shed + self.in_flight,
        )?;
        check(
            "spilled + recovered = replayed + spill_pending + spill_lost",
            self.spilled + self.recovered,
            self.replayed + self.spill_pending + self.spill_lost,
        )?;
        for (i, worker) in self.workers.iter().enumerate() {
            let identity = format!("worker {i}: accepted = processed_live + spilled + shed + in_flight");
            check(&identity, worker.accepted, worker.accounted())?;
            let identity = format!("worker {i}: spilled + recovered = replayed + spill_pending + spill_lost");
            check(&identity, worker.spilled + worker.recovered, worker.spill_accounted())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imbalance_is_found_and_named() {
        let worker = WorkerLedger { accepted: 5, processed_live: 3, shed: 2, ..Default::default() };
        let good = Ledger {
            offered: 7,
            accepted: 5,
            refused: 1,
            full: 1,
            processed_live: 3,
            shed: 2,
            workers: vec![worker],
            ..Default::default()
        };
        assert_eq!(good.check(), Ok(()));
        for (broken, identity) in [
            (Ledger { offered: 8, ..good.clone() }, "offered"),
            (Ledger { in_flight: 1, ..good.clone() }, "accepted"),
            (Ledger { replayed: 1, ..good.clone() }, "spilled"),
        ] {
            assert!(broken.check().unwrap_err().identity.starts_with(identity));
        }
        let mut broken = good;
        broken.workers[0].shed = 1;
        assert!(broken.check().unwrap_err().identity.starts_with("worker 0"));
    }
}
