//! `[signals.age]` and `[signals.spill_disk]`: what the level follows beside lag and memory.

use plimsoll::Signal;
use serde::Deserialize;

/// Those that there are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SignalsSection {
    age: Option<SignalSection>,
    spill_disk: Option<SignalSection>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalSection {
    soft: f64,
    graceful: f64,
    aggressive: f64,
    circuit_break: f64,
    recovery_factor: Option<f64>,
}

impl SignalSection {
    fn signal(self, make: fn([f64; 4]) -> Signal) -> Signal {
        let signal = make([self.soft, self.graceful, self.aggressive, self.circuit_break]);
        Signal { recovery_factor: self.recovery_factor.unwrap_or(signal.recovery_factor), ..signal }
    }
}

impl SignalsSection {
    pub(crate) fn signals(&self) -> Vec<Signal> {
        let age = self.age.map(|section| section.signal(Signal::age));
        age.into_iter().chain(self.spill_disk.map(|section| section.signal(Signal::spill_disk))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_a_signal_and_another_is_none() {
        let text = "[age]\nsoft = 50\ngraceful = 100\naggressive = 500\ncircuit_break = 2000.5\nrecovery_factor = 0.25";
        let section: SignalsSection = toml::from_str(text).unwrap();
        let expected = Signal { recovery_factor: 0.25, ..Signal::age([50.0, 100.0, 500.0, 2000.5]) };
        assert_eq!(section.signals(), [expected]);
        for (text, said) in [
            ("[error_rate]\nsoft = 1", "unknown field `error_rate`, expected `age` or `spill_disk`"),
            ("[age]\nsoft = 1", "missing field `graceful`"),
            ("[spill_disk]\nhard = 1", "unknown field `hard`"),
        ] {
            let error = toml::from_str::<SignalsSection>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
