//! What of a pipeline can be changed while it runs.

use std::time::Duration;

use super::error::StartError;
use crate::degradation::{
    DegradationManager, DegradationThresholds, Gradual, Mode, Signal, SignalName, VerdictTable, check_signals,
};
use crate::symbols::{MessagePriority, SymbolTiers};

/// A monitor that samples more often would take a core.
pub(crate) const SAMPLE_INTERVAL_MIN: Duration = Duration::from_micros(100);
/// The window of `offer_wait` at most: a few dozen blocks, which stay in cache.
const WINDOW_MAX: u64 = 16_384;

/// Settings that can be changed while a pipeline runs: see [`Control::apply`](crate::Control::apply).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// When to degrade and recover.
    pub thresholds: DegradationThresholds,
    /// Signals beside lag and memory. Which ones there are is settled when the pipeline is built; [`Signal::age`] and [`Signal::spill_disk`] may come and go.
    pub signals: Vec<Signal>,
    /// What each level does to each priority.
    pub verdicts: VerdictTable,
    /// What each priority gets beside that, most valuable first.
    pub gradual: [Gradual; 4],
    /// Which symbols belong to which tier. Tiers that were set by id ([`Symbols::set_tier`](crate::Symbols::set_tier)) are overwritten when
    /// these change.
    pub tiers: SymbolTiers,
    /// Whether the level has any effect.
    pub mode: Mode,
    /// How often the monitor samples the lag; 100 µs at least.
    pub sample_interval: Duration,
    /// How much of a busy worker's work replay may be: more than 0, less than 1.
    pub replay_share: f64,
    /// Thresholds that are tried out beside the others.
    pub shadow: Option<Shadow>,
}

/// A second set of thresholds: the level that they would give is computed from the same samples, and exported, and has no effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// The thresholds.
    pub thresholds: DegradationThresholds,
    /// The label `component` of its series.
    pub component: String,
}

/// What stays as it is while a pipeline runs, and settings have to fit.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Of workers and producers together.
    pub(crate) lanes: usize,
    pub(crate) lane_capacity: usize,
    /// Messages can wait before the lanes.
    pub(crate) has_backlog: bool,
    /// Names of signals that have a source.
    pub(crate) signals: Vec<SignalName>,
}

impl Shadow {
    /// What these thresholds give: from now on, or as the state machine goes on that has run so far.
    pub(crate) fn evaluate(
        &self,
        signals: &[Signal],
        running: Option<DegradationManager>,
    ) -> Option<DegradationManager> {
        let mut manager = match running {
            None => DegradationManager::new(self.thresholds, SymbolTiers::default()).ok()?,
            Some(mut running) => running.set_thresholds(self.thresholds).is_ok().then_some(running)?,
        };
        manager.set_signals(signals.to_vec()).is_ok().then_some(manager)
    }
}

impl Settings {
    /// Whether they make sense, and fit.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), StartError> {
        self.thresholds.validated()?;
        check_signals(&self.signals)?;
        for (priority, gradual) in MessagePriority::ALL.into_iter().zip(&self.gradual) {
            gradual.check(priority)?;
        }
        let has_source = |signal: &&Signal| signal.is_built_in() || limits.signals.contains(&signal.name);
        if let Some(signal) = self.signals.iter().find(|signal| !has_source(signal)) {
            let known = limits.signals.iter().map(SignalName::as_str).chain([SignalName::AGE, SignalName::SPILL_DISK]);
            return Err(StartError::UnknownSignal { name: signal.name, known: known.collect::<Vec<_>>().join(", ") });
        }
        if let Some(shadow) = &self.shadow {
            shadow.thresholds.validated().map_err(StartError::Shadow)?;
        }
        if !(self.replay_share > 0.0 && self.replay_share < 1.0) {
            return Err(StartError::ReplayShare { value: self.replay_share });
        }
        let lag_circuit_break = self.thresholds.lag_circuit_break;
        if limits.lane_capacity as u64 <= lag_circuit_break && !limits.has_backlog {
            return Err(StartError::LaneTooSmall { lane_capacity: limits.lane_capacity, lag_circuit_break });
        }
        Ok(())
    }

    /// What a lane may hold for a waiting producer: so little that all lanes together neither raise the level nor
    /// keep it from going down; one message, where `lag_soft` leaves no room for that.
    pub(crate) fn window(&self, limits: &Limits) -> u64 {
        let calm = self.thresholds.lag_soft as f64 * self.thresholds.recovery_lag_factor;
        let share = (calm.ceil() as u64).saturating_sub(1) / limits.lanes as u64;
        share.min(WINDOW_MAX).min(limits.lane_capacity as u64).max(1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings(thresholds: DegradationThresholds) -> Settings {
        Settings {
            thresholds,
            signals: Vec::new(),
            verdicts: VerdictTable::default(),
            gradual: [Gradual::default(); 4],
            tiers: SymbolTiers::default(),
            mode: Mode::Enforce,
            sample_interval: Duration::from_millis(10),
            replay_share: 0.5,
            shadow: None,
        }
    }

    #[test]
    fn the_waiting_window_stays_below_the_recovery_mark_of_soft() {
        let window = |lag_soft, lanes| {
            let thresholds = DegradationThresholds { lag_soft, ..Default::default() };
            settings(thresholds).window(&Limits {
                lanes,
                lane_capacity: 6_000_000,
                has_backlog: false,
                signals: Vec::new(),
            })
        };
        assert_eq!(window(100_000, 1), 16_384);
        assert_eq!(window(1_000, 4), 124); // 4 × 124 < 500
        assert_eq!(window(1, 4), 1);
    }
}
