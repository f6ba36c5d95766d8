//! A handle on a running pipeline for whoever watches and steers it: an operator's socket, a status page, a supervisor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::StartError;
use super::settings::{Limits, Settings};
use crate::degradation::published::Published;
use crate::degradation::{DegradationLevel, DegradationStatus, Explanation, Mode, Pin, Policy, Transition};
use crate::ledger::{Counters, Ledger, Observed};
use crate::monitor::MonitorShared;
use crate::signals::MemoryUse;
use crate::symbols::{MessagePriority, Symbols};
use crate::telemetry::LatencySnapshot;

/// How long a change may take to be in force.
const PATIENCE: Duration = Duration::from_secs(2);
/// A monitor that has not sampled for so long, and three intervals, stands still.
const MONITOR_STALL: Duration = Duration::from_secs(1);

/// A handle on a running [`Pipeline`](crate::Pipeline), from [`Pipeline::control`](crate::Pipeline::control). Any thread may have one, and
/// it does not keep the pipeline from ending.
///
/// Nothing that it does is waited for by a worker or a producer.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) shared: Arc<MonitorShared>,
    pub(super) published: Arc<Published>,
    pub(super) counters: Arc<Counters>,
    pub(super) symbols: Arc<Symbols>,
    pub(super) start: Instant,
    pub(super) limits: Limits,
}

/// Why a change did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The settings are wrong; the old ones stay.
    #[error("{0}")]
    Settings(#[from] StartError),
    /// The monitor, whose part it is, did not answer: it has ended, has panicked, or hangs in a signal source.
    #[error("the monitor does not answer: the level is frozen, and nothing can be changed")]
    MonitorGone,
}

/// Whether a pipeline is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The monitor has panicked, so that the level is frozen.
    pub monitor_dead: bool,
    /// The monitor has not sampled for a while, so that the level is frozen.
    pub monitor_stalled: bool,
    /// Workers that have messages waiting and finish none.
    pub stalled_workers: Vec<usize>,
    /// A worker's handler has panicked, and was not made anew.
    pub worker_failed: bool,
    /// Intake is closed for good: the pipeline is ending.
    pub closed: bool,
}

impl Health {
    /// Whether all threads do their work. A pipeline that is ending in good order is well.
    pub fn is_well(&self) -> bool {
        !(self.monitor_dead || self.monitor_stalled || self.worker_failed) && self.stalled_workers.is_empty()
    }
}

/// What a pipeline looks like at a moment. Figures are read one after the other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Time since the start; transitions are told in it.
    pub uptime: Duration,
    /// The level: in a dry run the one that would be in force.
    pub level: DegradationLevel,
    /// Whether the level has any effect.
    pub mode: Mode,
    /// The level that is held by hand, if one is.
    pub pinned: Option<Pin>,
    /// The level that the shadow thresholds would have given, if there are any.
    pub shadow: Option<DegradationLevel>,
    /// Lag, in messages, as of the last sample.
    pub lag: u64,
    /// Memory, as of the last sample.
    pub memory: MemoryUse,
    /// Samples that the monitor has taken.
    pub samples: u64,
    /// Why the level is what it is.
    pub explanation: Explanation,
    /// Whether it is well.
    pub health: Health,
    /// The last 100 transitions, oldest first.
    pub transitions: Vec<Transition>,
    /// How often the level has changed in all.
    pub transition_count: u64,
    /// Where every message is.
    pub ledger: Ledger,
    /// What would have become of messages in a dry run.
    pub observed: Observed,
    /// Each worker.
    pub workers: Vec<WorkerSnapshot>,
    /// Bytes of the spill log on disk.
    pub spill_bytes: u64,
}

/// One worker of a [`Snapshot`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// The core that it is pinned to, if it is.
    pub core: Option<usize>,
    /// Share of the last second in which it had messages to work on.
    pub busy: f64,
    /// Messages in its lanes, and how many fit.
    pub in_flight: u64,
    /// Messages that fit into its lanes.
    pub capacity: u64,
    /// It has messages waiting and finishes none.
    pub is_stalled: bool,
}

impl Control {
    /// The level: in a [dry run](Mode::Observe) the one that would be in force.
    pub fn level(&self) -> DegradationLevel {
        let Policy { level, observed, .. } = self.published.policy();
        observed.unwrap_or(level)
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.published.policy()
    }

    /// The manager's summary.
    pub fn status(&self) -> DegradationStatus {
        self.shared.manager().status()
    }

    /// The last 100 transitions, oldest first. Times are since the start.
    pub fn history(&self) -> Vec<Transition> {
        self.shared.manager().history().copied().collect()
    }

    /// Where every message is. Exact at quiet moments; see [`Ledger`].
    pub fn ledger(&self) -> Ledger {
        self.counters.ledger()
    }

    /// Receive to processed, by priority, most valuable first: sampled since the start. Two of them, one
    /// [since](LatencySnapshot::since) the other, tell of the time between.
    pub fn latency(&self) -> [LatencySnapshot; 4] {
        MessagePriority::ALL.map(|priority| self.counters.latency(priority))
    }

    /// What would have become of messages in a [dry run](Mode::Observe).
    pub fn observed(&self) -> Observed {
        self.counters.observed()
    }

    /// Why the level is what it is, and what must happen for it to go down.
    pub fn explain(&self) -> Explanation {
        let last = self.shared.last();
        let explanation = self.shared.manager().explain(self.start.elapsed(), last.lag, last.memory.percent());
        Explanation { shed_shares: last.shed_shares(), ..explanation }
    }

    /// Whether all threads do their work.
    pub fn health(&self) -> Health {
        let last = self.shared.last();
        let stall = self.settings().sample_interval.saturating_mul(3).saturating_add(MONITOR_STALL);
        let stalled = last.stalled.iter().enumerate().filter(|(_, is_stalled)| **is_stalled);
        let has_ended = self.shared.has_ended();
        Health {
            monitor_dead: self.shared.is_dead(),
            monitor_stalled: !has_ended && self.start.elapsed().saturating_sub(last.at) > stall,
            stalled_workers: stalled.map(|(worker, _)| worker).collect(),
            worker_failed: self.published.has_failed(),
            closed: self.published.is_closed(),
        }
    }

    /// What there is to see, all of it.
    pub fn snapshot(&self) -> Snapshot {
        let last = self.shared.last();
        let uptime = self.start.elapsed();
        let manager = self.shared.manager();
        let explanation = manager.explain(uptime, last.lag, last.memory.percent());
        let explanation = Explanation { shed_shares: last.shed_shares(), ..explanation };
        let (level, pinned) = (manager.level(), manager.pinned());
        let (transitions, transition_count) = (manager.history().copied().collect(), manager.transition_count());
        drop(manager);
        let worker = |(id, lanes): (usize, &Vec<Arc<crate::lane::LaneCounters>>)| WorkerSnapshot {
            core: self.shared.pinned_core(id),
            busy: last.busy.get(id).copied().unwrap_or_default(),
            in_flight: lanes.iter().map(|lane| lane.in_flight()).sum(),
            capacity: lanes.iter().map(|lane| lane.capacity).sum(),
            is_stalled: last.stalled.get(id).copied().unwrap_or_default(),
        };
        Snapshot {
            uptime,
            level,
            mode: self.settings().mode,
            pinned,
            shadow: last.shadow,
            lag: last.lag,
            memory: last.memory,
            samples: last.count,
            explanation,
            health: self.health(),
            transitions,
            transition_count,
            ledger: self.ledger(),
            observed: self.observed(),
            workers: self.counters.lanes.iter().enumerate().map(worker).collect(),
            spill_bytes: self.counters.spill_bytes(),
        }
    }

    /// The settings in force, as far as they can be changed.
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    /// Puts other settings in force, all of them at once, and waits until they are. On an error the old ones stay.
    ///
    /// No message is lost or reordered by it: a symbol whose tier changes keeps its worker, and what waits of it in the spill log stays
    /// before what comes later.
    ///
    /// # Errors
    /// When the settings contradict themselves, or do not fit the lanes, which stay as large as they are; or when the monitor does not
    /// answer.
    pub fn apply(&self, settings: Settings) -> Result<(), ControlError> {
        if let Err(error) = settings.check(&self.limits) {
            self.note_failed_reload();
            return Err(error.into());
        }
        self.shared.set_settings(settings);
        self.poke()?;
        self.shared.count_reload(true);
        Ok(())
    }

    /// Counts an attempt to change settings that failed before it came here: they could not be read, for instance.
    pub fn note_failed_reload(&self) {
        self.shared.count_reload(false);
    }

    /// Back to NORMAL, without waiting for the cooldown, and without a pin. The next sample may well degrade again.
    ///
    /// # Errors
    /// When the monitor does not answer.
    pub fn reset(&self) -> Result<(), ControlError> {
        self.shared.manager().reset(self.start.elapsed());
        self.poke()
    }

    /// Holds a level, whatever the signals say, for this long or until [`unpin`](Self::unpin); and waits until it is in force.
    ///
    /// # Errors
    /// When the monitor does not answer.
    pub fn pin(&self, level: DegradationLevel, time: Option<Duration>) -> Result<(), ControlError> {
        let until = time.and_then(|time| self.start.elapsed().checked_add(time));
        self.shared.manager().pin(level, until);
        self.poke()
    }

    /// Lets the signals decide again; returns whether a level was held.
    ///
    /// # Errors
    /// When the monitor does not answer.
    pub fn unpin(&self) -> Result<bool, ControlError> {
        let was_pinned = self.shared.manager().unpin();
        self.poke()?;
        Ok(was_pinned)
    }

    /// The symbols.
    pub fn symbols(&self) -> &Arc<Symbols> {
        &self.symbols
    }

    /// Has the monitor take a sample now, and waits for it.
    fn poke(&self) -> Result<(), ControlError> {
        if self.shared.poke(PATIENCE) { Ok(()) } else { Err(ControlError::MonitorGone) }
    }
}
