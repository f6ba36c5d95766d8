//! Finer than five steps: a share of a priority's symbols that is shed while the lag is between two marks, and a budget of messages a second.

use std::time::Duration;

use crate::message::SymbolId;
use crate::symbols::MessagePriority;

/// Steps of a share: symbols fall into so many parts.
pub(crate) const PARTS: u8 = 64;

/// A share of a priority's symbols that is shed, from one lag to another: so the load falls smoothly, and books stay whole, since a symbol is
/// out or in, not every other message of it. Which ones are out first is the same all the time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(deny_unknown_fields))]
pub struct ProportionalShedding {
    /// Lag, in messages, from which symbols are shed.
    pub from_lag: u64,
    /// Lag from which `to_percent` are.
    pub to_lag: u64,
    /// Percent of the symbols at `from_lag`, 0 to 100.
    #[cfg_attr(feature = "cli", serde(default))]
    pub from_percent: f64,
    /// Percent of the symbols from `to_lag` on, 0 to 100, and no less than `from_percent`.
    #[cfg_attr(feature = "cli", serde(default = "all"))]
    pub to_percent: f64,
}

#[cfg(feature = "cli")]
fn all() -> f64 {
    100.0
}

/// Messages of a priority, above which its verdict is that of the next level.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(deny_unknown_fields))]
pub struct Budget {
    /// In the long run, all workers together. Above 0.
    pub messages_per_second: f64,
    /// At once, after a while with less: 1 or more.
    pub burst: u64,
}

/// What a priority gets beside its row of the verdict table. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gradual {
    /// Symbols that are shed, by lag.
    pub shed: Option<ProportionalShedding>,
    /// Messages a second, above which it is stricter.
    pub budget: Option<Budget>,
}

/// Settings that make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GradualError {
    /// The lags are in the wrong order.
    #[error("{priority}: from_lag = {from_lag} must be below to_lag = {to_lag}")]
    NotRising {
        /// The priority.
        priority: &'static str,
        /// Its value.
        from_lag: u64,
        /// Its value.
        to_lag: u64,
    },
    /// A value outside its range, or not a number.
    #[error("{priority}: {field} = {value} is out of range: {expected}")]
    OutOfRange {
        /// The priority.
        priority: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What would be in range.
        expected: &'static str,
    },
}

impl Gradual {
    /// The same, if it makes sense for this priority, which errors name.
    ///
    /// # Errors
    /// Lags must rise, percentages lie in 0–100 and not fall, and budgets be above 0.
    pub fn checked(self, priority: MessagePriority) -> Result<Self, GradualError> {
        self.check(priority).map(|()| self)
    }

    pub(crate) fn check(&self, priority: MessagePriority) -> Result<(), GradualError> {
        let priority = priority.name();
        let check = |field, value, ok: bool, expected| {
            if ok { Ok(()) } else { Err(GradualError::OutOfRange { priority, field, value, expected }) }
        };
        if let Some(ProportionalShedding { from_lag, to_lag, from_percent, to_percent }) = self.shed {
            if from_lag >= to_lag {
                return Err(GradualError::NotRising { priority, from_lag, to_lag });
            }
            for (field, value) in [("from_percent", from_percent), ("to_percent", to_percent)] {
                check(field, value, (0.0..=100.0).contains(&value), "a percentage from 0 to 100")?;
            }
            check("to_percent", to_percent, to_percent >= from_percent, "no less than from_percent")?;
        }
        if let Some(Budget { messages_per_second, burst }) = self.budget {
            let is_right = messages_per_second.is_finite() && messages_per_second > 0.0;
            check("messages_per_second", messages_per_second, is_right, "above 0")?;
            check("burst", burst as f64, burst > 0, "1 or more")?;
        }
        Ok(())
    }
}

/// What a budget comes to over time, in whole messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BudgetClock {
    /// When it was asked last; `None`: never.
    last: Option<Duration>,
    /// Beside whole messages.
    part: f64,
}

impl BudgetClock {
    /// Messages since the last time; at first all that may come at once.
    pub(crate) fn due(&mut self, now: Duration, budget: &Budget) -> u64 {
        let Some(last) = self.last.replace(now) else { return budget.burst };
        let due = self.part + budget.messages_per_second * now.saturating_sub(last).as_secs_f64();
        self.part = due.fract();
        due as u64
    }
}

/// What the workers are told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GradualPolicy {
    /// By priority: symbols of the parts below this are shed.
    pub(crate) shed_parts: [u8; 4],
    /// By priority: whether there is a budget.
    pub(crate) has_budget: [bool; 4],
}

impl GradualPolicy {
    /// By this lag; `before`: what they were told last. It goes up at once, and down by two parts at least, so that it does not swing with the lag.
    pub(crate) fn at(settings: &[Gradual; 4], lag: u64, before: &Self) -> Self {
        let parts = |i: usize| {
            let (Some(shed), before) = (settings[i].shed, before.shed_parts[i]) else { return 0 };
            if lag < shed.from_lag {
                return 0;
            }
            let way = (lag - shed.from_lag) as f64 / (shed.to_lag - shed.from_lag) as f64;
            let percent = shed.from_percent + (shed.to_percent - shed.from_percent) * way.min(1.0);
            let parts = (percent / 100.0 * f64::from(PARTS)).ceil() as u8;
            if parts < before && parts + 2 > before { before } else { parts }
        };
        Self { shed_parts: std::array::from_fn(parts), has_budget: settings.map(|one| one.budget.is_some()) }
    }

    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// The part that a symbol is of, below [`PARTS`]. It has nothing to do with the worker that the symbol goes to.
#[inline]
pub(crate) fn part_of(symbol: SymbolId) -> u8 {
    // The finalizer of MurmurHash3 (Austin Appleby, in the public domain).
    let mut hash = symbol.get();
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    ((hash ^ (hash >> 16)) % u32::from(PARTS)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shedding(from_lag: u64, to_lag: u64) -> Gradual {
        let shed = ProportionalShedding { from_lag, to_lag, from_percent: 0.0, to_percent: 100.0 };
        Gradual { shed: Some(shed), budget: None }
    }

    #[test]
    fn a_share_rises_with_the_lag_and_falls_with_hysteresis() {
        let settings = [Gradual::default(), Gradual::default(), shedding(100, 740), Gradual::default()];
        let mut policy = GradualPolicy::default();
        let mut parts = |lag| {
            policy = GradualPolicy::at(&settings, lag, &policy);
            assert_eq!((policy.shed_parts[0], policy.shed_parts[3]), (0, 0));
            policy.shed_parts[2]
        };
        // Ten messages a part.
        let found = [0, 99, 100, 101, 110, 111, 420, 739, 740, 9999].map(&mut parts);
        assert_eq!(found, [0, 0, 0, 1, 1, 2, 32, 64, 64, 64]);
        let found = [735, 725, 715, 705, 101, 95].map(&mut parts);
        assert_eq!(found, [64, 64, 62, 62, 1, 0], "one part less is no less");
    }

    #[test]
    fn a_budget_comes_to_what_it_says_however_often_it_is_asked() {
        let budget = Budget { messages_per_second: 333.3, burst: 40 };
        let mut clock = BudgetClock::default();
        assert_eq!(clock.due(Duration::from_secs(7), &budget), 40);
        let due = |clock: &mut BudgetClock, millis| {
            clock.due(Duration::from_secs(7) + Duration::from_millis(millis), &budget)
        };
        let sum: u64 = (1..=1_000).map(|millis| due(&mut clock, millis)).sum();
        assert_eq!(sum, 333);
        assert_eq!(due(&mut clock, 1_000), 0);
        assert_eq!(due(&mut clock, 11_000), 3_333, "and the parts are kept");
    }

    #[test]
    fn symbols_spread_over_the_parts_whatever_worker_they_are_of() {
        for workers in [1, 2, 4] {
            let mut counts = vec![[0; PARTS as usize]; workers];
            for id in 0..64_000 {
                let symbol = SymbolId::new(id);
                counts[crate::ingress::worker_of(symbol, workers)][usize::from(part_of(symbol))] += 1;
            }
            let expected = 1000 / workers;
            let is_even = |count: &usize| count.abs_diff(expected) < expected / 3;
            assert!(counts.iter().flatten().all(is_even), "{workers}: {counts:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let error = |gradual: Gradual| gradual.check(MessagePriority::Normal).unwrap_err().to_string();
        let shed = |change: fn(&mut ProportionalShedding)| {
            let mut gradual = shedding(1, 2);
            change(gradual.shed.as_mut().unwrap());
            error(gradual)
        };
        assert_eq!(shed(|shed| shed.to_lag = 1), "NORMAL: from_lag = 1 must be below to_lag = 1");
        assert!(shed(|shed| shed.to_percent = 100.5).starts_with("NORMAL: to_percent = 100.5 is out of range"));
        assert!(shed(|shed| shed.from_percent = -1.0).contains("a percentage from 0 to 100"));
        assert!(shed(|shed| (shed.from_percent, shed.to_percent) = (50.0, 40.0)).contains("no less than from_percent"));
        let budget = |messages_per_second, burst| {
            error(Gradual { shed: None, budget: Some(Budget { messages_per_second, burst }) })
        };
        assert!(budget(0.0, 1).contains("messages_per_second = 0 is out of range: above 0"));
        assert!(budget(1.0, 0).contains("burst = 0 is out of range: 1 or more"));
        assert_eq!(Gradual::default().check(MessagePriority::Normal), Ok(()));
    }
}
