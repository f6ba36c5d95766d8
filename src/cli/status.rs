//! What a running process tells of itself: as JSON over HTTP and the control socket, and read again by `top` and `ctl`.

use std::sync::Arc;

use plimsoll::source::{FeedCount, FeedCounters};
use plimsoll::{
    Control, DegradationLevel, Ledger, Mode, Observed, ShedCounts, SignalStatus, Snapshot, Tier, Transition,
};
use serde::{Deserialize, Serialize};

use super::feeds::Counts;
use super::version::VERSION;
use crate::config::NotReady;

/// The answer of `/status.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: f64,
    /// Whether the process is well: what `/livez` says.
    pub(crate) live: bool,
    /// Whether it takes work: what `/readyz` says.
    pub(crate) ready: bool,
    /// In words, why it is not well.
    pub(crate) troubles: Vec<String>,
    pub(crate) level: LevelStatus,
    pub(crate) lag: Signal,
    pub(crate) memory: MemorySignal,
    pub(crate) signals: Vec<OtherSignal>,
    /// Why the level is what it is, and what must happen for it to go down.
    pub(crate) explanation: Vec<String>,
    pub(crate) totals: Totals,
    pub(crate) observed: ObservedTotals,
    pub(crate) spill_bytes: u64,
    pub(crate) workers: Vec<WorkerStatus>,
    pub(crate) feeds: Vec<FeedStatus>,
    /// The last ones, newest first.
    pub(crate) transitions: Vec<TransitionStatus>,
    pub(crate) transition_count: u64,
    pub(crate) monitor_samples: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LevelStatus {
    pub(crate) name: String,
    pub(crate) value: u8,
    /// Since the last change, or the start.
    pub(crate) for_seconds: f64,
    /// Of the last change.
    pub(crate) cause: Option<String>,
    /// `enforce` or `observe`.
    pub(crate) mode: String,
    pub(crate) pinned: bool,
    /// What is left of the pin; `None` for a pin without an end.
    pub(crate) pin_left_seconds: Option<f64>,
    /// The level that the shadow thresholds would give.
    pub(crate) shadow: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Signal {
    /// In messages.
    pub(crate) messages: u64,
    /// From SOFT to CIRCUIT_BREAK.
    pub(crate) thresholds: [u64; 4],
}

/// A signal beside lag and memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OtherSignal {
    pub(crate) name: String,
    pub(crate) unit: String,
    /// `None` where it is not known.
    pub(crate) value: Option<f64>,
    pub(crate) stale: bool,
    /// From SOFT to CIRCUIT_BREAK.
    pub(crate) thresholds: [f64; 4],
    /// The level that it asks for.
    pub(crate) asks: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemorySignal {
    pub(crate) used_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// `None` where it is not known.
    pub(crate) percent: Option<f64>,
    /// From SOFT to CIRCUIT_BREAK, in percent.
    pub(crate) thresholds: [f64; 4],
}

/// Where messages went, since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) full: u64,
    pub(crate) processed_live: u64,
    pub(crate) spilled: u64,
    pub(crate) conflated: u64,
    pub(crate) replayed: u64,
    pub(crate) shed: u64,
    /// Tier 1 to 3.
    pub(crate) shed_by_tier: [u64; 3],
    pub(crate) in_flight: u64,
    pub(crate) spill_pending: u64,
    pub(crate) spill_lost: u64,
    pub(crate) redelivered: u64,
}

/// What would have become of messages, were this no dry run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ObservedTotals {
    pub(crate) refused: u64,
    pub(crate) spilled: u64,
    pub(crate) conflated: u64,
    pub(crate) shed: u64,
    pub(crate) shed_by_tier: [u64; 3],
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    pub(crate) worker: usize,
    pub(crate) core: Option<usize>,
    pub(crate) busy: f64,
    pub(crate) in_flight: u64,
    pub(crate) capacity: u64,
    pub(crate) stalled: bool,
    pub(crate) restarts: u64,
    pub(crate) processed: u64,
    pub(crate) shed: u64,
    pub(crate) spill_pending: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeedStatus {
    pub(crate) name: String,
    pub(crate) messages: u64,
    pub(crate) backlog: u64,
    pub(crate) malformed: u64,
    pub(crate) missed: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TransitionStatus {
    pub(crate) ago_seconds: f64,
    pub(crate) from: String,
    pub(crate) to: String,
    /// The new level's number.
    pub(crate) value: u8,
    pub(crate) is_up: bool,
    pub(crate) lag: u64,
    pub(crate) memory_percent: Option<f64>,
    pub(crate) cause: String,
}

/// Of not-a-number, which JSON does not know, nothing is left.
fn known(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

fn by_tier(counts: &ShedCounts) -> [u64; 3] {
    Tier::ALL.map(|tier| counts.iter().filter(|(of, ..)| *of == tier).map(|(.., count)| count).sum())
}

impl From<&SignalStatus> for OtherSignal {
    fn from(status: &SignalStatus) -> Self {
        Self {
            name: status.signal.name.to_string(),
            unit: status.signal.unit.clone(),
            value: status.value.and_then(known),
            stale: status.is_stale,
            thresholds: status.signal.thresholds,
            asks: status.asks.to_string(),
        }
    }
}

impl From<&Ledger> for Totals {
    fn from(ledger: &Ledger) -> Self {
        Self {
            offered: ledger.offered,
            accepted: ledger.accepted,
            refused: ledger.refused,
            full: ledger.full,
            processed_live: ledger.processed_live,
            spilled: ledger.spilled,
            conflated: ledger.conflated,
            replayed: ledger.replayed,
            shed: ledger.shed,
            shed_by_tier: by_tier(&ledger.shed_by),
            in_flight: ledger.in_flight,
            spill_pending: ledger.spill_pending,
            spill_lost: ledger.spill_lost,
            redelivered: ledger.redelivered,
        }
    }
}

impl From<&Observed> for ObservedTotals {
    fn from(observed: &Observed) -> Self {
        let Observed { refused, spilled, conflated, shed, .. } = *observed;
        Self { refused, spilled, conflated, shed, shed_by_tier: by_tier(&observed.shed_by) }
    }
}

impl TransitionStatus {
    fn new(transition: &Transition, uptime: f64) -> Self {
        Self {
            ago_seconds: (uptime - transition.at.as_secs_f64()).max(0.0),
            from: transition.from.to_string(),
            to: transition.to.to_string(),
            value: transition.to.value(),
            is_up: transition.is_degradation(),
            lag: transition.lag,
            memory_percent: known(transition.memory_pct),
            cause: transition.cause.to_string(),
        }
    }
}

impl Status {
    /// Of a pipeline that runs, and its feeds.
    pub(crate) fn of(control: &Control, feeds: &Counts, not_ready_from: NotReady) -> Self {
        let snapshot = control.snapshot();
        let troubles = troubles(&snapshot);
        let Snapshot { ledger, explanation, memory, .. } = &snapshot;
        let thresholds = &explanation.thresholds;
        let triggers = |level: DegradationLevel| thresholds.triggers(level).unwrap_or_default();
        let degraded: [DegradationLevel; 4] = std::array::from_fn(|i| DegradationLevel::ALL[i + 1]);
        let uptime = snapshot.uptime.as_secs_f64();
        let workers = snapshot.workers.iter().zip(&ledger.workers).enumerate();
        let feed = |(name, counters): &(String, Arc<FeedCounters>)| FeedStatus {
            name: name.clone(),
            messages: counters.get(FeedCount::Messages),
            backlog: counters.get(FeedCount::Backlog),
            malformed: counters.get(FeedCount::Malformed),
            missed: counters.get(FeedCount::Missed),
        };
        let pin_left = snapshot.pinned.and_then(|pin| pin.until).map(|until| until.as_secs_f64() - uptime);
        let observing = snapshot.mode == Mode::Observe;
        let level_in_force = if observing { DegradationLevel::Normal } else { snapshot.level };
        Self {
            version: VERSION.to_owned(),
            pid: std::process::id(),
            uptime_seconds: uptime,
            live: troubles.is_empty(),
            ready: troubles.is_empty() && !snapshot.health.closed && not_ready_from.is_ready_at(level_in_force),
            troubles,
            level: LevelStatus {
                name: snapshot.level.to_string(),
                value: snapshot.level.value(),
                for_seconds: explanation.for_time.unwrap_or(snapshot.uptime).as_secs_f64(),
                cause: explanation.transition.map(|transition| transition.cause.to_string()),
                mode: if observing { "observe" } else { "enforce" }.to_owned(),
                pinned: snapshot.pinned.is_some(),
                pin_left_seconds: pin_left.map(|left| left.max(0.0)),
                shadow: snapshot.shadow.map(|level| level.to_string()),
            },
            lag: Signal { messages: snapshot.lag, thresholds: degraded.map(|level| triggers(level).0) },
            memory: MemorySignal {
                used_bytes: memory.used_bytes,
                limit_bytes: memory.limit_bytes,
                percent: known(memory.percent()),
                thresholds: degraded.map(|level| triggers(level).1),
            },
            signals: explanation.signals.iter().map(OtherSignal::from).collect(),
            explanation: explanation.to_string().lines().map(str::to_owned).collect(),
            totals: ledger.into(),
            observed: (&snapshot.observed).into(),
            spill_bytes: snapshot.spill_bytes,
            workers: workers
                .map(|(worker, (state, ledger))| WorkerStatus {
                    worker,
                    core: state.core,
                    busy: state.busy,
                    in_flight: state.in_flight,
                    capacity: state.capacity,
                    stalled: state.is_stalled,
                    restarts: ledger.restarts,
                    processed: ledger.processed_live + ledger.replayed,
                    shed: ledger.shed,
                    spill_pending: ledger.spill_pending,
                })
                .collect(),
            feeds: feeds.iter().map(feed).collect(),
            transitions: snapshot.transitions.iter().rev().map(|t| TransitionStatus::new(t, uptime)).collect(),
            transition_count: snapshot.transition_count,
            monitor_samples: snapshot.samples,
        }
    }
}

/// In words, what is not well.
fn troubles(snapshot: &Snapshot) -> Vec<String> {
    let health = &snapshot.health;
    let mut troubles = Vec::new();
    if health.monitor_dead {
        troubles.push("the monitor has panicked: the level is frozen".to_owned());
    } else if health.monitor_stalled {
        troubles.push("the monitor stands still: the level is frozen".to_owned());
    }
    for worker in &health.stalled_workers {
        troubles.push(format!("worker {worker} stands still: it has messages waiting, and finishes none"));
    }
    if health.worker_failed {
        troubles.push("a worker's handler has panicked: intake is closed".to_owned());
    }
    troubles
}
