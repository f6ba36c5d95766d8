//! What is simulated, and under which conditions.

use std::time::Duration;

use crate::degradation::{DegradationThresholds, Gradual, GradualError};
use crate::symbols::MessagePriority;

/// A pipeline: its workers, what messages cost them, its lane, its spill disk and its memory.
///
/// The defaults: a handler that takes 6.5 µs a message with enrichment and 4 µs without, so that one worker manages 153 846 messages a second
/// at NORMAL and 250 000 at SOFT; a lane that holds the default `lag_circuit_break` and a twentieth more; a spill disk without an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Worker threads, 1 or more. They share one lane here.
    pub workers: usize,
    /// What the handler takes for a message, in nanoseconds.
    pub process_ns: f64,
    /// What enrichment takes beside that.
    pub enrich_ns: f64,
    /// What it takes to spill a message.
    pub spill_ns: f64,
    /// What it takes to read a message back, beside what the handler takes for it.
    pub replay_ns: f64,
    /// What it takes to shed a message.
    pub shed_ns: f64,
    /// What it takes to keep a message that is conflated.
    pub conflate_ns: f64,
    /// Of each priority, the share of messages that tell a [state](crate::Message::conflation_class), such as quotes: 0 to 1.
    pub states: [f64; 4],
    /// Of each priority, how many states there are: symbols, as a rule.
    pub keys: [u64; 4],
    /// What each priority gets beside its verdicts.
    pub gradual: [Gradual; 4],
    /// Messages that the lane holds.
    pub lane_capacity: u64,
    /// How much of a busy worker's work replay may be, above 0 and below 1.
    pub replay_share: f64,
    /// The spill log; without one, what would be spilled is shed.
    pub spill: Option<SpillModel>,
    /// Memory in percent when the lane is empty.
    pub memory_base_pct: f64,
    /// Memory in percent, beside that, for each million messages in the lane.
    pub memory_pct_per_million: f64,
    /// The monitor's interval, which is the step of the simulation.
    pub sample_interval: Duration,
}

/// A spill log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillModel {
    /// Messages that it may hold.
    pub capacity: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            workers: 1,
            process_ns: 4_000.0,
            enrich_ns: 2_500.0,
            spill_ns: 200.0,
            replay_ns: 200.0,
            shed_ns: 20.0,
            conflate_ns: 20.0,
            states: [0.0; 4],
            keys: [20, 40, 2_000, 0],
            gradual: [Gradual::default(); 4],
            lane_capacity: 5_250_000,
            replay_share: 0.5,
            spill: Some(SpillModel { capacity: u64::MAX }),
            memory_base_pct: 20.0,
            memory_pct_per_million: 4.0,
            sample_interval: Duration::from_millis(10),
        }
    }
}

/// What a pipeline is up against, at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Messages offered a second, by priority: CRITICAL, HIGH, NORMAL, LOW.
    pub offered_per_second: [f64; 4],
    /// The handler takes so many times as long: 1 as a rule, more when what it writes to is slow.
    pub slowdown: f64,
    /// The spill disk takes nothing.
    pub disk_full: bool,
    /// Memory in percent that others take, beside what the model says.
    pub memory_pct: f64,
}

impl Conditions {
    /// How messages spread over priorities where nothing else is said: in ten, three of tier 1, two of tier 2, four of tier 3, one of reference data.
    pub const MIX: [f64; 4] = [0.3, 0.2, 0.4, 0.1];

    /// So many messages a second, spread as [`MIX`](Self::MIX); all else as in calm weather.
    pub fn offered(per_second: f64) -> Self {
        let offered_per_second = Self::MIX.map(|share| share * per_second);
        Self { offered_per_second, slowdown: 1.0, disk_full: false, memory_pct: 0.0 }
    }
}

/// A model that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A value outside its range, or not a number.
    #[error("{field} = {value} is out of range: {expected}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What would be in range.
        expected: &'static str,
    },
    /// What a priority gets beside its verdicts makes no sense.
    #[error("{0}")]
    Gradual(#[from] GradualError),
    /// The lane would be full before the gate is shut.
    #[error(
        "lane_capacity = {lane_capacity} must exceed lag_circuit_break = {lag_circuit_break}: else the lane is full before the gate is shut"
    )]
    LaneTooSmall {
        /// The lane's capacity.
        lane_capacity: u64,
        /// The threshold.
        lag_circuit_break: u64,
    },
}

impl Model {
    pub(super) fn check(&self, thresholds: &DegradationThresholds) -> Result<(), ModelError> {
        let check = |field, value: f64, ok: bool, expected| {
            if ok { Ok(()) } else { Err(ModelError::OutOfRange { field, value, expected }) }
        };
        check("workers", self.workers as f64, self.workers > 0, "1 or more")?;
        for (priority, gradual) in MessagePriority::ALL.into_iter().zip(&self.gradual) {
            gradual.check(priority)?;
        }
        let cost = |ns: f64| ns.is_finite() && ns >= 0.0;
        check("process_ns", self.process_ns, self.process_ns.is_finite() && self.process_ns > 0.0, "above 0")?;
        for (field, value) in [
            ("enrich_ns", self.enrich_ns),
            ("spill_ns", self.spill_ns),
            ("replay_ns", self.replay_ns),
            ("shed_ns", self.shed_ns),
            ("conflate_ns", self.conflate_ns),
            ("memory_base_pct", self.memory_base_pct),
            ("memory_pct_per_million", self.memory_pct_per_million),
        ] {
            check(field, value, cost(value), "0 or more")?;
        }
        for share in self.states {
            check("states", share, (0.0..=1.0).contains(&share), "a share from 0 to 1")?;
        }
        let share = self.replay_share;
        check("replay_share", share, share > 0.0 && share < 1.0, "more than 0 and less than 1")?;
        let interval = self.sample_interval;
        check("sample_interval", interval.as_secs_f64(), !interval.is_zero(), "more than 0 seconds")?;
        let (lane_capacity, lag_circuit_break) = (self.lane_capacity, thresholds.lag_circuit_break);
        if lane_capacity <= lag_circuit_break {
            return Err(ModelError::LaneTooSmall { lane_capacity, lag_circuit_break });
        }
        Ok(())
    }

    pub(super) fn memory_pct(&self, lag: u64) -> f64 {
        self.memory_base_pct + lag as f64 / 1e6 * self.memory_pct_per_million
    }
}
