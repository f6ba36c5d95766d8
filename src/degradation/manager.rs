//! The state machine that decides the level. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use super::level::DegradationLevel;
use super::signal::{Signal, SignalError, SignalStatus, check_all as check_signals};
use super::thresholds::{DegradationThresholds, ThresholdError};
use super::transition::{Cause, Transition};
use crate::symbols::{SymbolTiers, Tier};

/// How many transitions [`DegradationManager::history`] keeps.
const HISTORY_MAX: usize = 100;

/// Decides the level from lag and memory, and from whatever else it is [told to watch](Self::set_signals).
///
/// * **Up at once**: the first sample that reaches a higher level's trigger (`≥`) takes the level there.
/// * **Down with hysteresis**: only when the cooldown has passed since the last transition of either
///   direction, and both signals are below (`<`) the current level's triggers times their
///   recovery factors. Then straight to the level that the triggers give now.
///
/// The manager has no clock, no thread and does no I/O: the same calls give the same answers, which is
/// what lets recorded traces and simulations run through the very code that production runs.
///
/// ```
/// use std::time::Duration;
/// use plimsoll::{DegradationLevel, DegradationManager};
///
/// let mut manager = DegradationManager::default();
/// let at = Duration::from_secs;
/// assert_eq!(manager.check_and_degrade(at(0), 500_000, 40.0), DegradationLevel::Graceful);
/// // Calm again, but the cooldown of 30 s has not passed.
/// assert_eq!(manager.check_and_degrade(at(29), 0, 40.0), DegradationLevel::Graceful);
/// assert_eq!(manager.check_and_degrade(at(30), 0, 40.0), DegradationLevel::Normal);
/// ```
#[derive(Clone, Debug)]
pub struct DegradationManager {
    thresholds: DegradationThresholds,
    tiers: SymbolTiers,
    level: DegradationLevel,
    /// When the level last changed; `None` before the first change and after a reset.
    last_transition: Option<Duration>,
    history: VecDeque<Transition>,
    transitions: [[u64; 5]; 5],
    pin: Option<Pin>,
    /// Beside lag and memory.
    signals: Vec<SignalStatus>,
}

/// A level that is held by hand, whatever the signals say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The level.
    pub level: DegradationLevel,
    /// When it runs out, on the caller's clock; `None` for never.
    pub until: Option<Duration>,
}

/// A summary of a [`DegradationManager`].
#[derive(Clone, Debug, PartialEq)]
pub struct DegradationStatus {
    /// The level.
    pub level: DegradationLevel,
    /// Whether intake is open.
    pub is_accepting_data: bool,
    /// How many symbols are critical (tier 1).
    pub critical_symbols_count: usize,
    /// When the level last changed, on the caller's clock.
    pub last_transition: Option<Duration>,
    /// How many transitions the history holds, 100 at most.
    pub history_count: usize,
}

impl DegradationManager {
    /// A manager at NORMAL.
    ///
    /// # Errors
    /// When the thresholds contradict themselves: see [`DegradationThresholds::validated`].
    pub fn new(thresholds: DegradationThresholds, tiers: SymbolTiers) -> Result<Self, ThresholdError> {
        Ok(Self::with_valid(thresholds.validated()?, tiers))
    }

    fn with_valid(thresholds: DegradationThresholds, tiers: SymbolTiers) -> Self {
        Self {
            thresholds,
            tiers,
            level: DegradationLevel::Normal,
            last_transition: None,
            history: VecDeque::with_capacity(HISTORY_MAX),
            transitions: [[0; 5]; 5],
            pin: None,
            signals: Vec::new(),
        }
    }

    /// Takes one sample and returns the level after it.
    ///
    /// `now` is the time since any fixed moment, the same for all calls; `lag` is in messages,
    /// `memory_pct` in percent. A memory of not-a-number never raises the level and never
    /// lets it go down. While a level is [pinned](Self::pin), that is the level.
    pub fn check_and_degrade(&mut self, now: Duration, lag: u64, memory_pct: f64) -> DegradationLevel {
        self.check_all(now, lag, memory_pct, [])
    }

    /// The same with a reading of each of the [signals](Self::set_signals), in their order; `None`, or none at all, where there is nothing new. The level is
    /// the highest that any signal asks for.
    pub fn check_all(
        &mut self,
        now: Duration,
        lag: u64,
        memory_pct: f64,
        readings: impl IntoIterator<Item = Option<f64>>,
    ) -> DegradationLevel {
        let readings = readings.into_iter().chain(std::iter::repeat(None));
        self.signals.iter_mut().zip(readings).for_each(|(signal, reading)| signal.take(now, reading));
        self.pin = self.pin.filter(|pin| pin.until.is_none_or(|until| now < until));
        let target = self.pin.map_or_else(|| self.target(lag, memory_pct), |pin| pin.level);
        let cause = if self.pin.is_some() {
            (target != self.level).then_some(Cause::Pinned)
        } else if target > self.level {
            Some(self.degradation_cause(target, lag, memory_pct))
        } else if target < self.level {
            self.recovery_cause(now, lag, memory_pct)
        } else {
            None
        };
        if let Some(cause) = cause {
            self.record(Transition { at: now, from: self.level, to: target, lag, memory_pct, cause });
            self.last_transition = Some(now);
        }
        self.level
    }

    /// The level that all signals ask for, without hysteresis.
    pub(super) fn target(&self, lag: u64, memory_pct: f64) -> DegradationLevel {
        let asked = self.signals.iter().map(|signal| signal.asks).max().unwrap_or_default();
        self.thresholds.target(lag, memory_pct).max(asked)
    }

    /// Signals to be watched beside lag and memory, from the next sample on. One that was watched before keeps its value.
    ///
    /// # Errors
    /// When one makes no sense, or two have the same name; the old ones stay then.
    pub fn set_signals(&mut self, signals: Vec<Signal>) -> Result<(), SignalError> {
        check_signals(&signals)?;
        let old = std::mem::take(&mut self.signals);
        let kept = |signal: Signal| match old.iter().find(|old| old.signal.name == signal.name) {
            Some(known) => SignalStatus { signal, ..known.clone() },
            None => SignalStatus::new(signal),
        };
        self.signals = signals.into_iter().map(kept).collect();
        Ok(())
    }

    /// Signals beside lag and memory, as of the last sample.
    pub fn signals(&self) -> &[SignalStatus] {
        &self.signals
    }

    /// The level.
    pub fn level(&self) -> DegradationLevel {
        self.level
    }

    /// Whether intake is open: below CIRCUIT_BREAK.
    pub fn is_accepting_data(&self) -> bool {
        self.level < DegradationLevel::CircuitBreak
    }

    /// Whether enrichment is skipped: from SOFT up.
    pub fn should_skip_enrichment(&self) -> bool {
        self.level >= DegradationLevel::Soft
    }

    /// Whether messages go to disk: from AGGRESSIVE up.
    pub fn should_spill_to_disk(&self) -> bool {
        self.level >= DegradationLevel::Aggressive
    }

    /// The reference's coarse rule: from GRACEFUL up, only critical symbols (tier 1).
    ///
    /// The pipeline goes by the finer [`VerdictTable`](super::VerdictTable); its preset
    /// [`critical_only`](super::VerdictTable::critical_only) is this rule.
    pub fn should_process_symbol(&self, symbol: &str) -> bool {
        self.level < DegradationLevel::Graceful || self.tiers.tier(symbol) == Tier::Tier1
    }

    /// A summary.
    pub fn status(&self) -> DegradationStatus {
        DegradationStatus {
            level: self.level,
            is_accepting_data: self.is_accepting_data(),
            critical_symbols_count: self.tiers.tier_1_count(),
            last_transition: self.last_transition,
            history_count: self.history.len(),
        }
    }

    /// The last 100 transitions, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Transition> + ExactSizeIterator {
        self.history.iter()
    }

    /// How often the level went from one to another, since the manager was made.
    pub fn transitions_total(&self, from: DegradationLevel, to: DegradationLevel) -> u64 {
        self.transitions[from.index()][to.index()]
    }

    /// How often the level changed at all.
    pub fn transition_count(&self) -> u64 {
        self.transitions.iter().flatten().sum()
    }

    /// The highest level that was ever reached.
    pub fn highest(&self) -> DegradationLevel {
        let reached = |to: &DegradationLevel| self.transitions.iter().any(|row| row[to.index()] > 0);
        DegradationLevel::ALL.into_iter().rev().find(reached).unwrap_or_default()
    }

    /// The thresholds in force.
    pub fn thresholds(&self) -> &DegradationThresholds {
        &self.thresholds
    }

    /// When the level last changed, on the caller's clock; `None` before the first change and after a reset.
    pub fn last_transition(&self) -> Option<Duration> {
        self.last_transition
    }

    /// Other thresholds, from the next sample on. The level, the cooldown and the history stay as they are.
    ///
    /// # Errors
    /// As [`new`](Self::new); the old ones stay then.
    pub fn set_thresholds(&mut self, thresholds: DegradationThresholds) -> Result<(), ThresholdError> {
        self.thresholds = thresholds.validated()?;
        Ok(())
    }

    /// Other tiers, for [`should_process_symbol`](Self::should_process_symbol) and the summary.
    pub fn set_tiers(&mut self, tiers: SymbolTiers) {
        self.tiers = tiers;
    }

    /// Holds a level from the next sample on, whatever the signals say, until then or until [`unpin`](Self::unpin). When it is over the usual
    /// rules go on from that level: up at once, down when the cooldown since the pin took effect has passed and the signals are calm.
    pub fn pin(&mut self, level: DegradationLevel, until: Option<Duration>) {
        self.pin = Some(Pin { level, until });
    }

    /// Lets go of a pinned level; returns whether there was one.
    pub fn unpin(&mut self) -> bool {
        self.pin.take().is_some()
    }

    /// The level that is held by hand, if one is, as of the last sample.
    pub fn pinned(&self) -> Option<Pin> {
        self.pin
    }

    /// Back to NORMAL, without a cooldown, and without a pin. The history tells of it where the level changes by it.
    pub fn reset(&mut self, now: Duration) {
        if self.level != DegradationLevel::Normal {
            let (lag, memory_pct) = (0, f64::NAN);
            let (from, to, cause) = (self.level, DegradationLevel::Normal, Cause::Reset);
            self.record(Transition { at: now, from, to, lag, memory_pct, cause });
        }
        self.last_transition = None;
        self.pin = None;
    }

    fn record(&mut self, transition: Transition) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(transition);
        self.transitions[transition.from.index()][transition.to.index()] += 1;
        self.level = transition.to;
    }

    fn degradation_cause(&self, target: DegradationLevel, lag: u64, memory_pct: f64) -> Cause {
        if self.thresholds.target(lag, memory_pct) < target
            && let Some(signal) = self.signals.iter().find(|signal| signal.asks == target)
            && let Some((value, trigger)) = signal.reached()
        {
            return Cause::Signal { name: signal.signal.name, value, trigger };
        }
        let (lag_trigger, memory_trigger) =
            self.thresholds.triggers(target).expect("a level above another is not NORMAL");
        match (lag >= lag_trigger, memory_pct >= memory_trigger) {
            (true, true) => Cause::LagAndMemory { lag, lag_trigger, memory_pct, memory_trigger },
            (true, false) => Cause::Lag { lag, trigger: lag_trigger },
            (false, _) => Cause::Memory { memory_pct, trigger: memory_trigger },
        }
    }

    /// Why the level may go down, or `None` if it may not.
    fn recovery_cause(&self, now: Duration, lag: u64, memory_pct: f64) -> Option<Cause> {
        let since = self.last_transition.map(|last| now.saturating_sub(last));
        if since.is_some_and(|elapsed| elapsed < self.thresholds.cooldown()) {
            return None;
        }
        let (lag_mark, memory_mark) = self.thresholds.recovery_marks(self.level)?;
        let others_are_calm = self.signals.iter().all(|signal| signal.is_calm(self.level));
        let calm = (lag as f64) < lag_mark && memory_pct < memory_mark && others_are_calm;
        calm.then_some(Cause::Recovered { lag, lag_mark, memory_pct, memory_mark })
    }
}

/// Default thresholds and tiers.
impl Default for DegradationManager {
    fn default() -> Self {
        Self::with_valid(DegradationThresholds::default(), SymbolTiers::default())
    }
}
