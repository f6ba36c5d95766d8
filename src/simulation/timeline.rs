//! What a level did over time.

use std::time::Duration;

use crate::degradation::{DegradationLevel, DegradationManager, Transition};

/// Transitions, and how long each level was in force. Built up sample by sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    transitions: Vec<Transition>,
    time_at: [Duration; 5],
    last: Option<(Duration, DegradationLevel)>,
    flaps: u64,
}

impl Timeline {
    /// Notes a sample at this time, after the manager has seen it. Times ascend.
    pub fn add(&mut self, at: Duration, manager: &DegradationManager) {
        let (since, level) = self.last.unwrap_or((Duration::ZERO, DegradationLevel::Normal));
        self.time_at[level.index()] += at.saturating_sub(since);
        self.last = Some((at, manager.level()));
        if manager.level() == level {
            return;
        }
        let Some(transition) = manager.history().next_back() else { return };
        if transition.is_degradation()
            && let Some(before) = self.transitions.last()
            && !before.is_degradation()
            && at.saturating_sub(before.at) < manager.thresholds().cooldown()
        {
            self.flaps += 1;
        }
        self.transitions.push(*transition);
    }

    /// All transitions, in order.
    pub fn transitions(&self) -> &[Transition] {
        &self.transitions
    }

    /// How long a level was in force.
    pub fn time_at(&self, level: DegradationLevel) -> Duration {
        self.time_at[level.index()]
    }

    /// The time of the last sample.
    pub fn length(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(at, _)| at)
    }

    /// How often a recovery was taken back before a cooldown had passed.
    pub fn flaps(&self) -> u64 {
        self.flaps
    }

    /// The highest level there was.
    pub fn highest(&self) -> DegradationLevel {
        self.transitions.iter().map(|transition| transition.to).max().unwrap_or_default()
    }

    /// Transitions an hour, on average.
    pub fn transitions_per_hour(&self) -> f64 {
        let hours = self.length().as_secs_f64() / 3600.0;
        if hours > 0.0 { self.transitions.len() as f64 / hours } else { 0.0 }
    }

    /// When the level came back to NORMAL for good, if it ever left it and is there.
    pub fn recovered_at(&self) -> Option<Duration> {
        self.transitions.last().filter(|last| last.to == DegradationLevel::Normal).map(|last| last.at)
    }
}
