//! Where every message went: the [`Ledger`], which adds up what the threads count.

mod counters;

use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) use counters::{Counters, PriorityTallies, Tally, WorkerCounters};

use crate::degradation::ShedReason;
use crate::lane::LaneCounters;
use crate::symbols::{MessagePriority, Tier};

const TIERS: usize = Tier::ALL.len();
const REASONS: usize = ShedReason::ALL.len();
const PRIORITIES: usize = MessagePriority::ALL.len();

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
    /// Would have been conflated: have taken another's place, or have waited for another to take theirs.
    pub conflated: u64,
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

    pub(crate) fn count(&mut self, tier: Tier, reason: ShedReason, messages: u64) {
        self.0[tier.index()][reason.index()] += messages;
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
/// accepted            = processed_live + spilled + conflated + shed + in_flight
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
    /// Left out, since a newer message of the same state came before the handler had it: see [`Context::conflated`](crate::Context::conflated).
    pub conflated: u64,
    /// Dropped, by policy or because a worker failed.
    pub shed: u64,
    /// In a lane, or kept to be conflated; not yet finished.
    pub in_flight: u64,
    /// Found in the spill log at the start, what was lost of it included.
    pub recovered: u64,
    /// Read back from the spill log and handed to the handler.
    pub replayed: u64,
    /// In the spill log.
    pub spill_pending: u64,
    /// Lost from the spill log by a fault that was reported.
    pub spill_lost: u64,
    /// What each priority got, most valuable first.
    pub by_priority: [PriorityLedger; PRIORITIES],
    /// `shed`, broken down.
    #[cfg_attr(feature = "cli", serde(skip))]
    pub shed_by: ShedCounts,
    /// The same figures by worker.
    pub workers: Vec<WorkerLedger>,
}

/// What became of the messages of one [priority](MessagePriority), as far as it is decided: those in a lane are of none yet.
///
/// The figures of all four add up to the [`Ledger`]'s of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct PriorityLedger {
    /// Refused since the gate was shut.
    pub refused: u64,
    /// Turned away since the lane was full.
    pub full: u64,
    /// Handed to the handler as they came.
    pub processed_live: u64,
    /// Written to the spill log.
    pub spilled: u64,
    /// Left out for a newer one.
    pub conflated: u64,
    /// Dropped.
    pub shed: u64,
    /// Read back from the spill log and handed to the handler; what an earlier process had left in it included.
    pub replayed: u64,
}

/// A figure that is counted in all, and for each priority: its name, and how to get at both.
type Figure = (&'static str, fn(&Ledger) -> u64, fn(&PriorityLedger) -> u64);

impl PriorityLedger {
    pub(crate) const FIGURES: [Figure; 7] = [
        ("refused", |ledger| ledger.refused, |part| part.refused),
        ("full", |ledger| ledger.full, |part| part.full),
        ("processed_live", |ledger| ledger.processed_live, |part| part.processed_live),
        ("spilled", |ledger| ledger.spilled, |part| part.spilled),
        ("conflated", |ledger| ledger.conflated, |part| part.conflated),
        ("shed", |ledger| ledger.shed, |part| part.shed),
        ("replayed", |ledger| ledger.replayed, |part| part.replayed),
    ];

    /// All that was offered and is not in a lane.
    pub fn offered(&self) -> u64 {
        self.refused + self.full + self.processed_live + self.spilled + self.conflated + self.shed
    }

    /// All that a handler got.
    pub fn processed(&self) -> u64 {
        self.processed_live + self.replayed
    }
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
    /// Left out for a newer one.
    pub conflated: u64,
    /// Dropped.
    pub shed: u64,
    /// In a lane, or kept to be conflated, not yet finished.
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

fn total(counts: &PriorityTallies) -> u64 {
    counts.iter().map(Tally::get).sum()
}

impl WorkerLedger {
    fn of(worker: &WorkerCounters, lanes: &[Arc<LaneCounters>]) -> Self {
        let sum = |pick: fn(&LaneCounters) -> u64| lanes.iter().map(|lane| pick(lane)).sum();
        let in_flight = sum(LaneCounters::in_flight) + worker.held.get();
        let shed_by = ShedCounts::of(&worker.shed);
        Self {
            accepted: sum(|lane| lane.sent.published.load(Ordering::Acquire)),
            refused: sum(|lane| total(&lane.refused)),
            full: sum(|lane| total(&lane.full)),
            processed_live: total(&worker.processed),
            enriched: worker.enriched.get(),
            spilled: worker.spilled.get(),
            conflated: total(&worker.conflated),
            shed: shed_by.total(),
            in_flight,
            recovered: worker.recovered.get(),
            replayed: worker.replayed(),
            spill_pending: worker.spill_pending.get(),
            spill_lost: worker.spill_lost.get(),
            gaps: worker.gaps.get(),
            restarts: worker.restarts.get(),
            shed_by,
        }
    }

    /// What this worker's messages ended as.
    fn accounted(&self) -> u64 {
        self.processed_live + self.spilled + self.conflated + self.shed + self.in_flight
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
            "accepted = processed_live + spilled + conflated + shed + in_flight",
            self.accepted,
            self.processed_live + self.spilled + self.conflated + self.shed + self.in_flight,
        )?;
        check(
            "spilled + recovered = replayed + spill_pending + spill_lost",
            self.spilled + self.recovered,
            self.replayed + self.spill_pending + self.spill_lost,
        )?;
        for (name, total, pick) in PriorityLedger::FIGURES {
            let sum = self.by_priority.iter().map(pick).sum();
            check(&format!("{name} = the sum over priorities"), total(self), sum)?;
        }
        for (i, worker) in self.workers.iter().enumerate() {
            let identity = format!("worker {i}: accepted = processed_live + spilled + conflated + shed + in_flight");
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
        let high = PriorityLedger { refused: 1, processed_live: 3, ..Default::default() };
        let low = PriorityLedger { full: 1, shed: 2, ..Default::default() };
        let good = Ledger {
            offered: 7,
            accepted: 5,
            refused: 1,
            full: 1,
            processed_live: 3,
            shed: 2,
            by_priority: [PriorityLedger::default(), high, PriorityLedger::default(), low],
            workers: vec![worker],
            ..Default::default()
        };
        assert_eq!(good.check(), Ok(()));
        for (broken, identity) in [
            (Ledger { offered: 8, ..good.clone() }, "offered"),
            (Ledger { in_flight: 1, ..good.clone() }, "accepted"),
            (Ledger { replayed: 1, ..good.clone() }, "spilled"),
            (Ledger { by_priority: [high; 4], ..good.clone() }, "refused = the sum over priorities"),
        ] {
            assert!(broken.check().unwrap_err().identity.starts_with(identity));
        }
        let mut broken = good;
        broken.workers[0].shed = 1;
        assert!(broken.check().unwrap_err().identity.starts_with("worker 0"));
    }
}
