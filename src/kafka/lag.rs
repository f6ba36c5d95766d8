//! The lag of a member of a group: what is in its lanes, and what waits for it in its partitions.

use std::sync::Arc;

use super::KafkaCounters;
use crate::degradation::DegradationThresholds;
use crate::signals::LagSource;

/// Messages in the lanes, and the backlog of the assigned partitions: high watermark less position.
///
/// A circuit breaker that is tripped by a backlog cannot be closed by waiting: while intake is stopped, the backlog does not shrink. So it is
/// *half open* once it has done what it can: when CIRCUIT_BREAK has paused the partitions and the lanes have run empty, the
/// lag counts as just below the mark where CIRCUIT_BREAK may be left, until it is below that in truth. After the cooldown the level goes down
/// to AGGRESSIVE, and the backlog is worked off there; what is in the lanes counts in full, so that a process that cannot do even that trips
/// the breaker again.
#[derive(Debug)]
pub struct KafkaLag {
    counters: Arc<KafkaCounters>,
    /// Where CIRCUIT_BREAK begins, and the mark below which it may be left.
    trigger: u64,
    mark: u64,
    breaker: Breaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    Closed,
    /// The backlog has tripped it.
    Open,
    /// The lanes have run empty since.
    HalfOpen,
}

impl KafkaLag {
    /// The lag of the source that counts in `counters`, for a pipeline with these thresholds.
    pub fn new(counters: Arc<KafkaCounters>, thresholds: &DegradationThresholds) -> Self {
        let mut lag = Self { counters, trigger: 0, mark: 0, breaker: Breaker::Closed };
        lag.set_thresholds(thresholds);
        lag
    }

    fn of(&mut self, in_lanes: u64, backlog: u64, is_paused: bool) -> u64 {
        let lag = in_lanes.saturating_add(backlog);
        self.breaker = match self.breaker {
            Breaker::Closed if lag >= self.trigger => Breaker::Open,
            Breaker::Open if is_paused && in_lanes == 0 => Breaker::HalfOpen,
            _ if lag < self.mark => Breaker::Closed,
            unchanged => unchanged,
        };
        match self.breaker {
            Breaker::HalfOpen => lag.min(self.mark.saturating_sub(1)).max(in_lanes),
            Breaker::Closed | Breaker::Open => lag,
        }
    }
}

impl LagSource for KafkaLag {
    fn lag(&mut self, in_lanes: u64) -> u64 {
        let (backlog, is_paused) = (self.counters.backlog(), self.counters.is_paused());
        self.of(in_lanes, backlog, is_paused)
    }

    fn set_thresholds(&mut self, thresholds: &DegradationThresholds) {
        self.trigger = thresholds.lag_circuit_break;
        self.mark = (thresholds.lag_circuit_break as f64 * thresholds.recovery_lag_factor).ceil() as u64;
    }

    fn has_backlog(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::degradation::{DegradationLevel, DegradationManager};
    use crate::symbols::SymbolTiers;

    fn thresholds() -> DegradationThresholds {
        DegradationThresholds {
            lag_soft: 10,
            lag_graceful: 50,
            lag_aggressive: 100,
            lag_circuit_break: 500,
            recovery_cooldown_seconds: 1.0,
            ..Default::default()
        }
    }

    fn lag() -> KafkaLag {
        KafkaLag::new(Arc::new(KafkaCounters::new(Duration::from_secs(1))), &thresholds())
    }

    #[test]
    fn lanes_and_backlog_add_up() {
        let mut lag = lag();
        assert_eq!(lag.of(3, 40, false), 43);
        assert_eq!(lag.of(u64::MAX, 40, false), u64::MAX);
        assert!(lag.has_backlog());
    }

    #[test]
    fn a_backlog_that_trips_the_breaker_does_not_hold_it_open() {
        let mut lag = lag();
        let mut manager = DegradationManager::new(thresholds(), SymbolTiers::default()).unwrap();
        let mut backlog = 600u64;
        let mut levels = Vec::new();
        for step in 0..400 {
            let paused = manager.level() == DegradationLevel::CircuitBreak;
            let in_lanes = u64::from(!paused);
            let seen = lag.of(in_lanes, backlog, paused);
            let level = manager.check_and_degrade(Duration::from_millis(20 * step), seen, 10.0);
            if levels.last() != Some(&level) {
                levels.push(level);
            }
            if level != DegradationLevel::CircuitBreak {
                backlog = backlog.saturating_sub(10);
            }
        }
        use DegradationLevel::{Aggressive, CircuitBreak, Normal};
        assert_eq!((levels[0], levels[1], levels.last()), (CircuitBreak, Aggressive, Some(&Normal)), "{levels:?}");
        assert!(levels.is_sorted_by(|a, b| a > b), "once up, and down without flapping: {levels:?}");
        assert_eq!(backlog, 0);
    }

    #[test]
    fn what_is_in_the_lanes_trips_it_again_and_a_backlog_that_was_gone_does() {
        let mut lag = lag();
        lag.of(0, 600, false);
        assert_eq!(lag.of(0, 600, true), 249, "half open");
        assert_eq!(lag.of(700, 600, false), 700);
        assert_eq!(lag.of(0, 900, false), 249, "still half open");
        assert_eq!(lag.of(0, 100, false), 100, "closed");
        assert_eq!(lag.of(0, 900, false), 900);
        assert_eq!(lag.of(1, 900, true), 901, "the lanes are not empty yet");
    }
}
