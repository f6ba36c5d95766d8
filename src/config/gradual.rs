//! `[proportional.PRIORITY]` and `[budget.PRIORITY]`: what is finer than the verdict table.

use plimsoll::{Budget, Gradual, ProportionalShedding};
use serde::Deserialize;

/// One of something for each priority, if it is given.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ByPriority<T> {
    critical: Option<T>,
    high: Option<T>,
    normal: Option<T>,
    low: Option<T>,
}

impl<T> Default for ByPriority<T> {
    fn default() -> Self {
        Self { critical: None, high: None, normal: None, low: None }
    }
}

/// Both, most valuable first.
pub(crate) fn gradual(shed: &ByPriority<ProportionalShedding>, budget: &ByPriority<Budget>) -> [Gradual; 4] {
    let shed = [shed.critical, shed.high, shed.normal, shed.low];
    let budget = [budget.critical, budget.high, budget.normal, budget.low];
    std::array::from_fn(|i| Gradual { shed: shed[i], budget: budget[i] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_has_its_own() {
        let shed =
            toml::from_str("[normal]\nfrom_lag = 10\nto_lag = 20\n[low]\nfrom_lag = 1\nto_lag = 2\nto_percent = 50")
                .unwrap();
        let budget = toml::from_str("[high]\nmessages_per_second = 1000.5\nburst = 7").unwrap();
        let found = gradual(&shed, &budget);
        let of = |from_lag, to_lag, to_percent| {
            Some(ProportionalShedding { from_lag, to_lag, from_percent: 0.0, to_percent })
        };
        assert_eq!(found[2], Gradual { shed: of(10, 20, 100.0), budget: None });
        assert_eq!(found[3], Gradual { shed: of(1, 2, 50.0), budget: None });
        assert_eq!(found[1].budget, Some(Budget { messages_per_second: 1000.5, burst: 7 }));
        assert_eq!(found[0], Gradual::default());
        for text in ["[usual]\nfrom_lag = 1", "[low]\nfrom = 1", "[low]\nfrom_lag = 1"] {
            assert!(toml::from_str::<ByPriority<ProportionalShedding>>(text).is_err(), "{text}");
        }
    }
}
