//! When to degrade and when to recover.

use std::time::Duration;

use super::level::DegradationLevel;

/// Triggers of the four degraded levels, and the hysteresis of the way back.
///
/// Field names and defaults are the reference's. The fields are open so that a struct literal with
/// `..Default::default()` works; whoever takes thresholds checks them with
/// [`validated`](Self::validated).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "cli", serde(default, deny_unknown_fields))]
pub struct DegradationThresholds {
    /// Lag, in messages, from which the level is at least SOFT.
    pub lag_soft: u64,
    /// Lag, in messages, from which the level is at least GRACEFUL.
    pub lag_graceful: u64,
    /// Lag, in messages, from which the level is at least AGGRESSIVE.
    pub lag_aggressive: u64,
    /// Lag, in messages, from which the level is CIRCUIT_BREAK.
    pub lag_circuit_break: u64,
    /// Memory, in percent (0–100), from which the level is at least SOFT.
    pub heap_soft: f64,
    /// Memory, in percent (0–100), from which the level is at least GRACEFUL.
    pub heap_graceful: f64,
    /// Memory, in percent (0–100), from which the level is at least AGGRESSIVE.
    pub heap_aggressive: f64,
    /// Memory, in percent (0–100), from which the level is CIRCUIT_BREAK.
    pub heap_circuit_break: f64,
    /// The lag must be below its trigger times this, in (0, 1], for the level to go down.
    pub recovery_lag_factor: f64,
    /// Memory must be below its trigger times this, in (0, 1], for the level to go down.
    pub recovery_heap_factor: f64,
    /// Seconds, 0 or more, that must have passed since the last transition before the level goes down.
    pub recovery_cooldown_seconds: f64,
}

impl Default for DegradationThresholds {
    fn default() -> Self {
        Self {
            lag_soft: 100_000,
            lag_graceful: 500_000,
            lag_aggressive: 1_000_000,
            lag_circuit_break: 5_000_000,
            heap_soft: 70.0,
            heap_graceful: 80.0,
            heap_aggressive: 90.0,
            heap_circuit_break: 95.0,
            recovery_lag_factor: 0.5,
            recovery_heap_factor: 0.9,
            recovery_cooldown_seconds: 30.0,
        }
    }
}

/// Thresholds that contradict themselves.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// A higher level would be reached before, or together with, a lower one.
    #[error(
        "{lower} = {lower_value} must be below {higher} = {higher_value}: thresholds rise strictly from level to level"
    )]
    NotRising {
        /// Field of the lower level.
        lower: &'static str,
        /// Its value.
        lower_value: f64,
        /// Field of the next level.
        higher: &'static str,
        /// Its value.
        higher_value: f64,
    },
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
}

impl DegradationThresholds {
    /// Lag thresholds as shares of a lane's capacity, all else as in [`Default`].
    ///
    /// `shares` are those of SOFT, GRACEFUL, AGGRESSIVE and CIRCUIT_BREAK, each in (0, 1). A capacity too
    /// small to keep the levels apart is refused.
    ///
    /// # Errors
    /// As [`validated`](Self::validated), or when a share is not in (0, 1).
    pub fn of_capacity(lane_capacity: u64, shares: [f64; 4]) -> Result<Self, ThresholdError> {
        if let Some(&value) = shares.iter().find(|&&s| !(s > 0.0 && s < 1.0)) {
            let expected = "a share of the lane's capacity lies between 0 and 1";
            return Err(ThresholdError::OutOfRange { field: "shares", value, expected });
        }
        let [lag_soft, lag_graceful, lag_aggressive, lag_circuit_break] =
            shares.map(|share| (lane_capacity as f64 * share) as u64);
        if lag_soft == 0 {
            let expected = "a share of SOFT that is at least one message";
            return Err(ThresholdError::OutOfRange { field: "lag_soft", value: 0.0, expected });
        }
        Self { lag_soft, lag_graceful, lag_aggressive, lag_circuit_break, ..Self::default() }.validated()
    }

    /// The same thresholds, if they make sense.
    ///
    /// # Errors
    /// Lag and memory triggers must rise strictly from level to level, memory must lie in 0–100,
    /// factors in (0, 1], and the cooldown must be finite and not negative.
    pub fn validated(self) -> Result<Self, ThresholdError> {
        const LAG: [&str; 4] = ["lag_soft", "lag_graceful", "lag_aggressive", "lag_circuit_break"];
        const HEAP: [&str; 4] = ["heap_soft", "heap_graceful", "heap_aggressive", "heap_circuit_break"];

        let check = |field, value, ok: bool, expected| {
            if ok { Ok(()) } else { Err(ThresholdError::OutOfRange { field, value, expected }) }
        };
        let heap = self.heap();
        for (field, value) in HEAP.into_iter().zip(heap) {
            check(field, value, (0.0..=100.0).contains(&value), "a percentage from 0 to 100")?;
        }
        for (field, value) in
            [("recovery_lag_factor", self.recovery_lag_factor), ("recovery_heap_factor", self.recovery_heap_factor)]
        {
            check(field, value, value > 0.0 && value <= 1.0, "a factor above 0 and up to 1")?;
        }
        let cooldown = self.recovery_cooldown_seconds;
        check(
            "recovery_cooldown_seconds",
            cooldown,
            Duration::try_from_secs_f64(cooldown).is_ok(),
            "seconds, 0 or more",
        )?;
        let lag = self.lag();
        for i in 0..3 {
            let rising = |names: [&'static str; 4], values: [f64; 4], ok: bool| {
                if ok {
                    return Ok(());
                }
                Err(ThresholdError::NotRising {
                    lower: names[i],
                    lower_value: values[i],
                    higher: names[i + 1],
                    higher_value: values[i + 1],
                })
            };
            rising(LAG, lag.map(|n| n as f64), lag[i] < lag[i + 1])?;
            rising(HEAP, heap, heap[i] < heap[i + 1])?;
        }
        Ok(self)
    }

    /// The highest level that these signals ask for, without hysteresis.
    pub(super) fn target(&self, lag: u64, memory_pct: f64) -> DegradationLevel {
        self.lag_target(lag).max(self.memory_target(memory_pct))
    }

    /// The highest level that the lag alone asks for.
    pub(super) fn lag_target(&self, lag: u64) -> DegradationLevel {
        highest_reached(self.lag(), |trigger| lag >= trigger)
    }

    /// The highest level that memory alone asks for. Not-a-number asks for none.
    pub(super) fn memory_target(&self, memory_pct: f64) -> DegradationLevel {
        highest_reached(self.heap(), |trigger| memory_pct >= trigger)
    }

    /// Lag and memory triggers of a level; `None` for NORMAL, which has none.
    pub fn triggers(&self, level: DegradationLevel) -> Option<(u64, f64)> {
        let index = level.index().checked_sub(1)?;
        Some((self.lag()[index], self.heap()[index]))
    }

    /// Below which lag and memory a level may be left; `None` for NORMAL.
    pub fn recovery_marks(&self, level: DegradationLevel) -> Option<(f64, f64)> {
        let (lag, heap) = self.triggers(level)?;
        Some((lag as f64 * self.recovery_lag_factor, heap * self.recovery_heap_factor))
    }

    /// The cooldown as a duration; zero where it is not a valid one.
    pub(crate) fn cooldown(&self) -> Duration {
        Duration::try_from_secs_f64(self.recovery_cooldown_seconds).unwrap_or_default()
    }

    fn lag(&self) -> [u64; 4] {
        [self.lag_soft, self.lag_graceful, self.lag_aggressive, self.lag_circuit_break]
    }

    fn heap(&self) -> [f64; 4] {
        [self.heap_soft, self.heap_graceful, self.heap_aggressive, self.heap_circuit_break]
    }
}

/// The highest degraded level whose trigger is reached, or NORMAL.
fn highest_reached<T: Copy>(triggers: [T; 4], reached: impl Fn(T) -> bool) -> DegradationLevel {
    let highest = triggers.iter().rposition(|&trigger| reached(trigger));
    highest.map_or(DegradationLevel::Normal, |i| DegradationLevel::ALL[i + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut DegradationThresholds)) -> Result<(), ThresholdError> {
        let mut thresholds = DegradationThresholds::default();
        change(&mut thresholds);
        thresholds.validated().map(drop)
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(with(|_| ()), Ok(()));
    }

    #[test]
    fn levels_must_rise_strictly_and_the_error_names_both_numbers() {
        let error = with(|t| t.lag_graceful = 100_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "lag_soft = 100000 must be below lag_graceful = 100000: thresholds rise strictly from level to level"
        );
        assert!(with(|t| t.lag_circuit_break = 999_999).is_err());
        assert!(with(|t| t.heap_aggressive = 80.0).is_err());
        assert!(with(|t| t.heap_soft = 80.5).is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (field, result) in [
            ("heap_circuit_break", with(|t| t.heap_circuit_break = 100.1)),
            ("heap_soft", with(|t| t.heap_soft = -0.1)),
            ("heap_soft", with(|t| t.heap_soft = f64::NAN)),
            ("recovery_lag_factor", with(|t| t.recovery_lag_factor = 0.0)),
            ("recovery_lag_factor", with(|t| t.recovery_lag_factor = 1.01)),
            ("recovery_heap_factor", with(|t| t.recovery_heap_factor = f64::NAN)),
            ("recovery_cooldown_seconds", with(|t| t.recovery_cooldown_seconds = -1.0)),
            ("recovery_cooldown_seconds", with(|t| t.recovery_cooldown_seconds = f64::INFINITY)),
        ] {
            let error = result.unwrap_err();
            assert!(error.to_string().starts_with(&format!("{field} = ")), "{error}");
        }
        assert_eq!(with(|t| t.recovery_lag_factor = 1.0), Ok(()));
        assert_eq!(with(|t| t.recovery_cooldown_seconds = 0.0), Ok(()));
    }

    #[test]
    fn shares_of_capacity_become_message_counts() {
        let thresholds = DegradationThresholds::of_capacity(1_000, [0.02, 0.1, 0.2, 0.9]).unwrap();
        assert_eq!(thresholds.lag(), [20, 100, 200, 900]);
        assert!(DegradationThresholds::of_capacity(10, [0.02, 0.03, 0.2, 0.9]).is_err());
        assert!(DegradationThresholds::of_capacity(10, [0.05, 0.1, 0.2, 0.9]).is_err());
        assert!(DegradationThresholds::of_capacity(1_000, [0.1, 0.2, 0.3, 1.0]).is_err());
    }
}
