//! The whole pipeline in simulated time: a day in seconds, the same on every machine.
//!
//! [`Simulation`] is a model of a feed, a lane, a handler that takes its time, and a spill disk, around the very [`DegradationManager`],
//! [`Policy`] and [`VerdictTable`] that a pipeline runs with. The loop is closed: what a level gives up makes the lag smaller, and so the
//! level lower. Thresholds can be tried against a storm before there is one; [`Scenario`] has five of them.
//!
//! # What is modelled
//!
//! Time goes in steps of the monitor's sample interval. In each step
//!
//! 1. messages are offered: refused where the gate is shut, turned away where the lane is full, else behind what waits;
//! 2. the workers take them off the lane in order, as many as they have time for: each costs what its verdict costs. A message whose
//!    priority has messages in the spill log goes behind those, as a symbol's do in a pipeline. Below AGGRESSIVE what was spilled is
//!    replayed, oldest first: between live messages by the same rule as in a pipeline, and alone where the lane is empty;
//!    What tells a state, and is to be conflated, takes the place of what waits of the same state, and is handed on where the lane is empty;
//! 3. lag and memory are sampled, and the manager decides the level of the next step.
//!
//! Messages are counts, by priority and step of arrival, not single ones: so ten million a second cost no more than ten thousand. What that
//! leaves out: symbols (a priority keeps its order as one), the order of priorities within a step, latencies below a step, and what a machine does
//! to threads.
//!
//! ```
//! use plimsoll::simulation::{Model, Scenario, Simulation};
//! use plimsoll::{DegradationLevel, DegradationThresholds, VerdictTable};
//!
//! let storm = Scenario::FlashCrash;
//! let mut simulation = Simulation::new(Model::default(), DegradationThresholds::default(), VerdictTable::default())?;
//! simulation.run(storm.length(), |at| storm.conditions(at));
//! assert_eq!(simulation.timeline().highest(), DegradationLevel::CircuitBreak);
//! assert_eq!(simulation.level(), DegradationLevel::Normal);
//! simulation.ledger().check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod model;
mod queue;
mod scenario;
mod timeline;
mod work;

use std::time::Duration;

pub use model::{Conditions, Model, ModelError, SpillModel};
use queue::{Cohort, Queue};
pub use scenario::Scenario;
pub use timeline::Timeline;

use crate::degradation::gradual::GradualPolicy;
use crate::degradation::published::Published;
use crate::degradation::{
    Budget, DegradationLevel, DegradationManager, DegradationThresholds, Policy, Signal, SignalError, SignalName,
    SignalStatus, ThresholdError, VerdictTable,
};
use crate::ledger::{Ledger, PriorityLedger};
use crate::symbols::SymbolTiers;
use crate::telemetry::LatencySnapshot;

/// Why a simulation cannot begin.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The model makes no sense.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The thresholds contradict themselves.
    #[error("{0}")]
    Thresholds(#[from] ThresholdError),
}

/// A pipeline in simulated time: see the [module](self).
#[derive(Clone, Debug)]
pub struct Simulation {
    model: Model,
    manager: DegradationManager,
    policy: Policy,
    /// Steps done.
    steps: u64,
    lane: Queue,
    spilled: Queue,
    /// What is kept to be conflated: of each state one.
    held: Queue,
    /// What is left of each priority's budget.
    tokens: [f64; 4],
    /// Parts of messages that tell a state.
    state_parts: [f64; 4],
    /// Parts of messages that were offered and are not whole ones yet.
    offered_parts: [f64; 4],
    /// Nanoseconds of work that the workers have and could not use, for want of a message so cheap.
    credit: f64,
    ledger: Ledger,
    latency: [LatencySnapshot; 4],
    timeline: Timeline,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The end of the step, since the beginning.
    pub at: Duration,
    /// The level from now on.
    pub level: DegradationLevel,
    /// Lag, in messages.
    pub lag: u64,
    /// Memory, in percent.
    pub memory_pct: f64,
    /// Messages that wait in the spill log.
    pub spill_pending: u64,
    /// How long ago the oldest message in the lane arrived.
    pub age: Duration,
}

impl Simulation {
    /// A pipeline at NORMAL with nothing in it.
    ///
    /// # Errors
    /// When the model or the thresholds make no sense, or do not fit together.
    pub fn new(
        model: Model,
        thresholds: DegradationThresholds,
        verdicts: VerdictTable,
    ) -> Result<Self, SimulationError> {
        model.check(&thresholds)?;
        let manager = DegradationManager::new(thresholds, SymbolTiers::default())?;
        Ok(Self {
            model,
            manager,
            policy: Published::new(verdicts).policy(),
            steps: 0,
            lane: Queue::default(),
            spilled: Queue::default(),
            held: Queue::default(),
            tokens: [0.0; 4],
            state_parts: [0.0; 4],
            offered_parts: [0.0; 4],
            credit: 0.0,
            ledger: Ledger::default(),
            latency: Default::default(),
            timeline: Timeline::default(),
        })
    }

    /// Watches signals beside lag and memory. It knows the values of [`Signal::age`], to within a step, and of [`Signal::spill_disk`]; others have none.
    ///
    /// # Errors
    /// When one makes no sense, or two have the same name.
    pub fn with_signals(mut self, signals: Vec<Signal>) -> Result<Self, SignalError> {
        self.manager.set_signals(signals)?;
        Ok(self)
    }

    /// Steps until this time, since the beginning, under the conditions that hold at the start of each step.
    pub fn run(&mut self, until: Duration, mut conditions: impl FnMut(Duration) -> Conditions) {
        while self.now() < until {
            self.step(&conditions(self.now()));
        }
    }

    /// One step.
    pub fn step(&mut self, conditions: &Conditions) -> Step {
        self.offer(conditions);
        self.work(conditions);
        self.steps += 1;
        self.sample(conditions)
    }

    /// The time, since the beginning.
    pub fn now(&self) -> Duration {
        self.model.sample_interval * u32::try_from(self.steps).unwrap_or(u32::MAX)
    }

    /// The length of a step.
    pub fn sample_interval(&self) -> Duration {
        self.model.sample_interval
    }

    /// The level.
    pub fn level(&self) -> DegradationLevel {
        self.policy.level
    }

    /// Lag, in messages.
    pub fn lag(&self) -> u64 {
        self.lane.len() + self.held.len()
    }

    /// Where every message is. It has no workers of its own.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Time from offer to processed, of live messages, by priority; to within a sample interval.
    pub fn latency(&self) -> &[LatencySnapshot; 4] {
        &self.latency
    }

    /// What the level did.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    fn offer(&mut self, conditions: &Conditions) {
        let seconds = self.model.sample_interval.as_secs_f64();
        let mut arrived = Cohort { step: self.steps, ..Cohort::default() };
        for (i, part) in self.offered_parts.iter_mut().enumerate() {
            *part += conditions.offered_per_second[i].max(0.0) * seconds;
            let count = *part as u64;
            *part -= count as f64;
            arrived.counts[i] = count;
        }
        self.ledger.offered += arrived.total();
        if !self.policy.accepts() {
            self.ledger.refused += arrived.total();
            self.by_priority(&arrived, |part, count| part.refused += count);
            return;
        }
        // What has come counts for a full lane, not how valuable it is.
        let room = self.model.lane_capacity.saturating_sub(self.lane.len());
        let taken = arrived.share(room as f64 / arrived.total().max(1) as f64);
        let counts = std::array::from_fn(|i| arrived.counts[i] - taken.counts[i]);
        let turned_away = Cohort { counts, ..arrived };
        self.ledger.full += turned_away.total();
        self.by_priority(&turned_away, |part, count| part.full += count);
        self.ledger.accepted += taken.total();
        self.lane.push(taken);
    }

    fn by_priority(&mut self, cohort: &Cohort, add: impl Fn(&mut PriorityLedger, u64)) {
        for (part, count) in self.ledger.by_priority.iter_mut().zip(cohort.counts) {
            add(part, count);
        }
    }

    /// Lag and memory in, level out.
    fn sample(&mut self, conditions: &Conditions) -> Step {
        (self.ledger.in_flight, self.ledger.spill_pending) = (self.lag(), self.spilled.len());
        let (at, lag) = (self.now(), self.lag());
        let memory_pct = self.model.memory_pct(lag) + conditions.memory_pct;
        let age = self.lane.front().map_or(0, |front| self.steps - front.step);
        let age = self.model.sample_interval.saturating_mul(age as u32);
        let capacity = self.model.spill.map(|spill| spill.capacity as f64);
        let reading = |status: &SignalStatus| match status.signal.name.as_str() {
            SignalName::AGE => Some(age.as_secs_f64() * 1e3),
            SignalName::SPILL_DISK => capacity.map(|capacity| self.spilled.len() as f64 / capacity * 100.0),
            _ => None,
        };
        let readings: Vec<_> = self.manager.signals().iter().map(reading).collect();
        let level = self.manager.check_all(at, lag, memory_pct, readings);
        let gradual = GradualPolicy::at(&self.model.gradual, lag, &self.policy.gradual);
        if level != self.policy.level || gradual != self.policy.gradual {
            let (epoch, is_gradual) = (self.policy.epoch + 1, gradual.is_any());
            self.policy = Policy { level, epoch, gradual, is_gradual, ..self.policy };
        }
        for (tokens, gradual) in self.tokens.iter_mut().zip(&self.model.gradual) {
            if let Some(Budget { messages_per_second, burst }) = gradual.budget {
                let more = messages_per_second * self.model.sample_interval.as_secs_f64();
                // It is full at first.
                *tokens = if self.steps == 1 { burst as f64 } else { (*tokens + more).min(burst as f64) };
            }
        }
        self.timeline.add(at, &self.manager);
        Step { at, level, lag, memory_pct, spill_pending: self.spilled.len(), age }
    }
}
