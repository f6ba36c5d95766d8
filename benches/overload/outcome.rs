//! What a run has come to.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::feed::{Phase, Sent};
use crate::levels::Levels;
use crate::work::{Work, histogram};

/// Where messages went that were not handled as they came. The feed's calm phases are in here, too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    /// By a queue that was full.
    pub(crate) dropped: u64,
    /// By policy.
    pub(crate) shed: u64,
    /// At the gate.
    pub(crate) refused: u64,
    /// In front of a full lane.
    pub(crate) full: u64,
    /// Into the spill log.
    pub(crate) spilled: u64,
    /// When the time was up: in the spill log, or at a source whose queue blocks. Nothing of that is lost.
    pub(crate) waiting: u64,
}

pub(crate) struct Outcome {
    pub(crate) sent: Sent,
    pub(crate) work: Work,
    pub(crate) fates: Fates,
    /// Plimsoll's.
    pub(crate) levels: Option<Levels>,
}

impl Outcome {
    /// Whether every message is accounted for.
    pub(crate) fn check(&self) {
        let sum = |counts: &[[u64; 4]; 3]| counts.iter().flatten().sum::<u64>();
        let Fates { dropped, shed, refused, full, spilled, waiting } = self.fates;
        let (offered, live, replayed) = (sum(&self.sent.offered), sum(&self.work.live), sum(&self.work.replayed));
        assert_eq!(offered, live + replayed + dropped + shed + refused + full + waiting);
        if spilled > 0 {
            assert_eq!(spilled, replayed + waiting);
        }
    }

    /// Of the storm's messages of a priority: the shares handled as they came, and by the end of the run, in percent.
    pub(crate) fn goodput(&self, priority: usize) -> [f64; 2] {
        let at = Phase::Storm as usize;
        let (live, replayed) = (self.work.live[at][priority], self.work.replayed[at][priority]);
        [live, live + replayed].map(|count| count as f64 * 100.0 / self.sent.offered[at][priority] as f64)
    }

    /// Latency of CRITICAL messages of the storm that were handled, or that still waited at a source whose queue blocks: these
    /// with the time that they had waited by then, which is less than what it comes to.
    pub(crate) fn critical(&self) -> Histogram<u64> {
        let mut all = histogram();
        for part in [&self.work.latency[0], &self.sent.waits] {
            all.add(part).expect("the same bounds");
        }
        all
    }

    /// Whether latencies are at least, not exactly, what they are said to be.
    pub(crate) fn is_at_least(&self) -> bool {
        !self.sent.waits.is_empty()
    }

    pub(crate) fn to_json(&self) -> Value {
        let Fates { dropped, shed, refused, full, spilled, waiting } = self.fates;
        let goodput = |i| (0..4).map(|p| self.goodput(p)[i]).collect::<Vec<_>>();
        json!({
            "offered_by_phase_and_priority": self.sent.offered,
            "live_by_phase_and_priority": self.work.live,
            "replayed_by_phase_and_priority": self.work.replayed,
            "dropped": dropped,
            "shed": shed,
            "refused": refused,
            "full": full,
            "spilled": spilled,
            "waiting_at_end": waiting,
            "storm_goodput_live_percent": goodput(0),
            "storm_goodput_percent": goodput(1),
            "critical_latency_at_least": self.is_at_least(),
            "critical_latency_us": quantiles(&self.critical()),
            "live_latency_us": self.work.latency.iter().map(quantiles).collect::<Vec<_>>(),
            "critical_latency_after_storm_us": quantiles(&self.work.after),
            "replayed_latency_us": quantiles(&self.work.late),
            "handled_while_storm": self.work.handled_in_storm,
            "feed_late_max_us": self.sent.late_ns as f64 / 1e3,
            "levels": self.levels.as_ref().map(Levels::to_json),
        })
    }
}

/// Microseconds.
fn quantiles(histogram: &Histogram<u64>) -> Value {
    let at = |q| histogram.value_at_quantile(q) as f64 / 1e3;
    json!({ "count": histogram.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) })
}
