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

use std::time::Duration;

pub use model::{Conditions, Model, ModelError, SpillModel};
use queue::{Cohort, Queue, Standing};
pub use scenario::Scenario;
pub use timeline::Timeline;

use crate::degradation::gradual::{GradualPolicy, PARTS};
use crate::degradation::published::Published;
use crate::degradation::{
    Budget, DegradationLevel, DegradationManager, DegradationThresholds, Policy, ShedReason, Signal, SignalError,
    SignalName, SignalStatus, ThresholdError, Verdict, VerdictTable,
};
use crate::ledger::Ledger;
use crate::symbols::{MessagePriority, SymbolTiers, Tier};
use crate::telemetry::LatencySnapshot;
use crate::worker::{CATCH_UP, CHUNK, replays_at};

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
    memory_pct: f64,
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
            memory_pct: model.memory_pct(0),
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

    fn by_priority(&mut self, cohort: &Cohort, add: impl Fn(&mut crate::ledger::PriorityLedger, u64)) {
        for (part, count) in self.ledger.by_priority.iter_mut().zip(cohort.counts) {
            add(part, count);
        }
    }

    /// Takes messages off the lane, and out of the spill log, for as long as the step lasts.
    fn work(&mut self, conditions: &Conditions) {
        let step = self.model.sample_interval.as_nanos() as f64 * self.model.workers as f64;
        let mut time = self.credit + step;
        while time > 0.0 {
            let Some(front) = self.lane.front().copied() else { break };
            if self.policy.is_gradual && front.standing == Standing::New {
                time -= self.sort(&front);
                continue;
            }
            let verdicts = self.verdicts(conditions, front.standing == Standing::Over);
            let replays = self.replays_for(&front, &verdicts);
            let live_ns: f64 = self.live_cost(&front, &verdicts, conditions);
            let cost = live_ns + replays as f64 * self.replay_cost(conditions);
            let share = if cost > 0.0 { (time / cost).min(1.0) } else { 1.0 };
            let taken = front.share(share);
            if taken.total() == 0 {
                // Not even one of the cheapest.
                break;
            }
            self.lane.take(&taken);
            time -= self.live_cost(&taken, &verdicts, conditions);
            self.finish(&taken, &verdicts);
            time -= self.replay((replays as f64 * share) as u64, conditions);
        }
        if self.lane.is_empty() {
            time -= self.hand_on(time, conditions);
            if replays_at(self.policy.level) {
                let affordable = (time.max(0.0) / self.replay_cost(conditions)) as u64;
                self.replay(affordable, conditions);
            }
            // Time that nobody wanted is gone.
            time = 0.0;
        }
        self.credit = time.min(step);
    }

    /// Sheds the share of the front's symbols that is out, and tells apart what is within budget and what is over; returns the nanoseconds that it
    /// took.
    fn sort(&mut self, front: &Cohort) -> f64 {
        let mut within = Cohort { standing: Standing::Within, ..*front };
        let mut over = Cohort { counts: [0; 4], standing: Standing::Over, ..*front };
        let mut out = 0;
        for priority in MessagePriority::ALL {
            let i = priority.index();
            let is_shed = self.policy.row()[i].otherwise() == Verdict::Shed;
            if !is_shed {
                let share = f64::from(self.policy.gradual.shed_parts[i]) / f64::from(PARTS);
                let shed = (within.counts[i] as f64 * share).round() as u64;
                within.counts[i] -= shed;
                self.ledger.shed += shed;
                self.ledger.by_priority[i].shed += shed;
                self.ledger.shed_by.count(tier_of(priority), ShedReason::Proportional, shed);
                out += shed;
            }
            if self.policy.gradual.has_budget[i] {
                let allowed = within.counts[i].min(self.tokens[i] as u64);
                over.counts[i] = within.counts[i] - allowed;
                within.counts[i] = allowed;
                self.tokens[i] -= allowed as f64;
            }
        }
        self.lane.replace_front([within, over]);
        out as f64 * self.model.shed_ns
    }

    /// What becomes of a message of each priority now. `over`: of those over budget.
    fn verdicts(&self, conditions: &Conditions, over: bool) -> [Fate; 4] {
        let waiting = self.spilled.counts();
        let has_budget = self.policy.gradual.has_budget;
        let verdict = |i: usize| if over && has_budget[i] { self.policy.row_above()[i] } else { self.policy.row()[i] };
        let reason = |i: usize| match self.policy.row()[i].otherwise() {
            Verdict::Process | Verdict::Spill if verdict(i) == Verdict::Shed => ShedReason::OverBudget,
            _ => ShedReason::at(self.policy.level),
        };
        let rest: [Outcome; 4] = std::array::from_fn(|i| match verdict(i).otherwise() {
            Verdict::Shed => Outcome::Shed(reason(i)),
            Verdict::Process if waiting[i] == 0 => Outcome::Process,
            _ => match self.model.spill {
                None => Outcome::Shed(ShedReason::at(self.policy.level)),
                Some(spill) if conditions.disk_full || self.spilled.len() >= spill.capacity => {
                    Outcome::Shed(ShedReason::SpillFull)
                }
                Some(_) => Outcome::Spill,
            },
        });
        std::array::from_fn(|i| {
            let verdict = verdict(i);
            let is_behind = verdict == Verdict::Process && self.policy.conflates && waiting[i] > 0;
            Fate { states: if verdict.conflates() || is_behind { self.model.states[i] } else { 0.0 }, rest: rest[i] }
        })
    }

    /// How many messages a worker replays while it works on these: see `worker::overflow`.
    fn replays_for(&self, live: &Cohort, verdicts: &[Fate; 4]) -> u64 {
        if self.spilled.is_empty() || !replays_at(self.policy.level) {
            return 0;
        }
        let spills = |i: &usize| verdicts[*i].rest == Outcome::Spill;
        let rest = |i: usize| (live.counts[i] as f64 * (1.0 - verdicts[i].states)) as u64;
        let spilled: u64 = (0..4).filter(spills).map(rest).sum();
        let share = self.model.replay_share;
        let allowed = (live.total() - spilled) as f64 * (share / (1.0 - share));
        let catch_up = spilled as f64 + live.total() as f64 * (CATCH_UP as f64 / CHUNK as f64);
        (allowed.max(catch_up) as u64).min(self.spilled.len())
    }

    /// Nanoseconds.
    fn live_cost(&self, cohort: &Cohort, verdicts: &[Fate; 4], conditions: &Conditions) -> f64 {
        let model = &self.model;
        let one = |i: usize| {
            let rest = match verdicts[i].rest {
                Outcome::Process => self.handler_cost(conditions),
                Outcome::Spill => model.spill_ns,
                Outcome::Shed(_) => model.shed_ns,
            };
            verdicts[i].states * model.conflate_ns + (1.0 - verdicts[i].states) * rest
        };
        (0..4).map(|i| cohort.counts[i] as f64 * one(i)).sum()
    }

    fn handler_cost(&self, conditions: &Conditions) -> f64 {
        let enrich = if self.policy.enriches() { self.model.enrich_ns } else { 0.0 };
        (self.model.process_ns + enrich) * conditions.slowdown
    }

    fn replay_cost(&self, conditions: &Conditions) -> f64 {
        self.handler_cost(conditions) + self.model.replay_ns
    }

    fn finish(&mut self, taken: &Cohort, verdicts: &[Fate; 4]) {
        let age = self.model.sample_interval.saturating_mul((self.steps - taken.step) as u32);
        for priority in MessagePriority::ALL {
            let i = priority.index();
            let count = taken.counts[i] - self.conflate(i, taken, verdicts[i].states);
            if count == 0 {
                continue;
            }
            let part = &mut self.ledger.by_priority[i];
            match verdicts[i].rest {
                Outcome::Process => {
                    part.processed_live += count;
                    self.ledger.processed_live += count;
                    self.latency[i].record(age.as_nanos() as u64, count);
                }
                Outcome::Spill => {
                    part.spilled += count;
                    self.ledger.spilled += count;
                    let mut counts = [0; 4];
                    counts[i] = count;
                    self.spilled.push(Cohort { step: taken.step, counts, ..Cohort::default() });
                }
                Outcome::Shed(reason) => {
                    part.shed += count;
                    self.ledger.shed += count;
                    self.ledger.shed_by.count(tier_of(priority), reason, count);
                }
            }
        }
    }

    /// Keeps this share of a priority's messages, one of each state, and leaves out the others; returns how many that were.
    fn conflate(&mut self, i: usize, taken: &Cohort, share: f64) -> u64 {
        if share == 0.0 {
            return 0;
        }
        self.state_parts[i] += taken.counts[i] as f64 * share;
        let count = (self.state_parts[i] as u64).min(taken.counts[i]);
        self.state_parts[i] -= count as f64;
        // So many states of those that do not wait yet are met, if all are equally likely.
        let keys = self.model.keys[i].max(1) as f64;
        let free = (keys - self.held.counts()[i] as f64).max(0.0);
        let fresh = ((free * (1.0 - (-(count as f64) / keys).exp())).round() as u64).min(count);
        let mut counts = [0; 4];
        counts[i] = fresh;
        self.held.push(Cohort { step: taken.step, counts, ..Cohort::default() });
        self.ledger.conflated += count - fresh;
        self.ledger.by_priority[i].conflated += count - fresh;
        count
    }

    /// Hands on what is kept, for so many nanoseconds; returns how many it took.
    fn hand_on(&mut self, time: f64, conditions: &Conditions) -> f64 {
        let cost = self.handler_cost(conditions);
        let (mut count, mut handed_on) = ((time.max(0.0) / cost) as u64, 0);
        while count > 0 {
            let Some(front) = self.held.front().copied() else { break };
            let taken = front.first(count);
            self.held.take(&taken);
            let place = self.model.sample_interval.saturating_mul((self.steps - taken.step) as u32).as_nanos() as u64;
            for (i, count) in taken.counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                // What is in the place came last, and so not longer ago than a state takes to change.
                let rate = conditions.offered_per_second[i] * self.model.states[i];
                let change = self.model.keys[i] as f64 / rate.max(1e-9) * 1e9;
                self.latency[i].record(place.min(change as u64), count);
            }
            self.by_priority(&taken, |part, count| part.processed_live += count);
            (count, handed_on) = (count - taken.total(), handed_on + taken.total());
        }
        self.ledger.processed_live += handed_on;
        handed_on as f64 * cost
    }

    /// Replays so many, oldest first; returns the nanoseconds that it took.
    fn replay(&mut self, mut count: u64, conditions: &Conditions) -> f64 {
        let mut replayed = 0;
        while count > 0 {
            let Some(front) = self.spilled.front().copied() else { break };
            let taken = front.first(count);
            self.spilled.take(&taken);
            self.by_priority(&taken, |part, count| part.replayed += count);
            (count, replayed) = (count - taken.total(), replayed + taken.total());
        }
        self.ledger.replayed += replayed;
        replayed as f64 * self.replay_cost(conditions)
    }

    /// Lag and memory in, level out.
    fn sample(&mut self, conditions: &Conditions) -> Step {
        (self.ledger.in_flight, self.ledger.spill_pending) = (self.lag(), self.spilled.len());
        let (at, lag) = (self.now(), self.lag());
        self.memory_pct = self.model.memory_pct(lag) + conditions.memory_pct;
        let age = self.lane.front().map_or(0, |front| self.steps - front.step);
        let age = self.model.sample_interval.saturating_mul(age as u32);
        let capacity = self.model.spill.map(|spill| spill.capacity as f64);
        let reading = |status: &SignalStatus| match status.signal.name.as_str() {
            SignalName::AGE => Some(age.as_secs_f64() * 1e3),
            SignalName::SPILL_DISK => capacity.map(|capacity| self.spilled.len() as f64 / capacity * 100.0),
            _ => None,
        };
        let readings: Vec<_> = self.manager.signals().iter().map(reading).collect();
        let level = self.manager.check_all(at, lag, self.memory_pct, readings);
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
        Step { at, level, lag, memory_pct: self.memory_pct, spill_pending: self.spilled.len(), age }
    }
}

/// What becomes of a priority's messages: this share is conflated, and the rest has an outcome.
#[derive(Clone, Copy, Debug)]
struct Fate {
    states: f64,
    rest: Outcome,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Process,
    Spill,
    Shed(ShedReason),
}

/// The symbol tier that messages of a priority are of; reference data is of any, and counts as the third.
fn tier_of(priority: MessagePriority) -> Tier {
    match priority {
        MessagePriority::Critical => Tier::Tier1,
        MessagePriority::High => Tier::Tier2,
        MessagePriority::Normal | MessagePriority::Low => Tier::Tier3,
    }
}
