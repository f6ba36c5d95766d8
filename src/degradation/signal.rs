//! Signals beside lag and memory: how long messages wait, and whatever an embedder knows of.

use std::fmt;
use std::time::Duration;

use super::level::DegradationLevel;

/// A signal's name: 1 to 31 of the characters a–z, 0–9 and `_`. It is small, so that a [`Cause`](super::Cause) can hold it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalName {
    bytes: [u8; 31],
    length: u8,
}

impl SignalName {
    /// How long the oldest message has waited, in milliseconds: see [`Signal::age`].
    pub const AGE: &'static str = "age";

    /// How full the spill log's budget is, in percent: see [`Signal::spill_disk`].
    pub const SPILL_DISK: &'static str = "spill_disk";

    /// # Errors
    /// When it is empty, too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, SignalError> {
        let is_right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let mut bytes = [0; 31];
        if name.is_empty() || name.len() > bytes.len() || !name.bytes().all(is_right) {
            return Err(SignalError::Name { name: name.to_owned() });
        }
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { bytes, length: name.len() as u8 })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What becomes of a signal that was not refreshed in its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "lowercase"))]
pub enum OnStale {
    /// It asks for nothing, and holds no level.
    #[default]
    Ignore,
    /// Its last value counts on.
    Hold,
    /// It counts as if it had just reached SOFT's threshold: who cannot see takes care.
    Raise,
}

/// A signal that the level follows as it follows lag: up at once when a threshold is reached (`≥`), down when it is below (`<`) the level's threshold times
/// the recovery factor, as all other signals have to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: SignalName,
    /// Of its values, as people read it: `ms`.
    pub unit: String,
    /// From which on the level is at least SOFT, GRACEFUL, AGGRESSIVE and CIRCUIT_BREAK; rising.
    pub thresholds: [f64; 4],
    /// Above 0, up to 1.
    pub recovery_factor: f64,
    /// It is stale when it was not refreshed for longer; `None`: it never is.
    pub stale_after: Option<Duration>,
    /// And then?
    pub on_stale: OnStale,
}

/// A signal that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// Not a name.
    #[error("{name:?} is no name of a signal: 1 to 31 of the characters a-z, 0-9 and _")]
    Name {
        /// What was given.
        name: String,
    },
    /// Two signals of one name.
    #[error("there are two signals called {name}")]
    Twice {
        /// The name.
        name: SignalName,
    },
    /// Thresholds that do not rise, or are no numbers.
    #[error("signal {name}: thresholds {thresholds:?} must be numbers that rise strictly from level to level")]
    NotRising {
        /// The signal.
        name: SignalName,
        /// Its thresholds.
        thresholds: [f64; 4],
    },
    /// A factor outside its range.
    #[error("signal {name}: recovery_factor = {value} must be above 0 and up to 1")]
    Factor {
        /// The signal.
        name: SignalName,
        /// The value.
        value: f64,
    },
}

impl Signal {
    /// A signal with a recovery factor of 0.5 that is never stale.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(name: &str, unit: &str, thresholds: [f64; 4]) -> Result<Self, SignalError> {
        let (name, unit) = (SignalName::new(name)?, unit.to_owned());
        Ok(Self { name, unit, thresholds, recovery_factor: 0.5, stale_after: None, on_stale: OnStale::default() })
    }

    /// How long the oldest message in a lane has waited since it was received, in milliseconds: from the
    /// [receive time](crate::Message::receive_ns) of the message at the front to now. Lag counts messages, which mean little when rates differ a hundredfold;
    /// this is what whoever reads the results feels. A pipeline measures it by itself; messages without a receive time have no age.
    pub fn age(thresholds_ms: [f64; 4]) -> Self {
        Self::new(SignalName::AGE, "ms", thresholds_ms).expect("it is a name")
    }

    /// How full the spill log's budget is, in percent: so that intake is shut while there is still room for what is inside. A pipeline measures it by itself.
    pub fn spill_disk(thresholds_percent: [f64; 4]) -> Self {
        Self::new(SignalName::SPILL_DISK, "%", thresholds_percent).expect("it is a name")
    }

    /// Whether a pipeline measures it by itself.
    pub(crate) fn is_built_in(&self) -> bool {
        [SignalName::AGE, SignalName::SPILL_DISK].contains(&self.name.as_str())
    }

    fn check(&self) -> Result<(), SignalError> {
        let (name, thresholds) = (self.name, self.thresholds);
        let is_rising = thresholds.windows(2).all(|pair| pair[0] < pair[1]) && thresholds.iter().all(|t| t.is_finite());
        if !is_rising {
            return Err(SignalError::NotRising { name, thresholds });
        }
        let value = self.recovery_factor;
        if !(value > 0.0 && value <= 1.0) {
            return Err(SignalError::Factor { name, value });
        }
        Ok(())
    }
}

/// Checks signals that are to be watched together.
pub(crate) fn check_all(signals: &[Signal]) -> Result<(), SignalError> {
    for (i, signal) in signals.iter().enumerate() {
        signal.check()?;
        if signals[..i].iter().any(|before| before.name == signal.name) {
            return Err(SignalError::Twice { name: signal.name });
        }
    }
    Ok(())
}

/// A signal as of the last sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalStatus {
    /// What it is.
    pub signal: Signal,
    /// Its last value; `None`: it never had one.
    pub value: Option<f64>,
    /// Whether it was not refreshed in its time.
    pub is_stale: bool,
    /// The level that it asks for by itself.
    pub asks: DegradationLevel,
    pub(super) refreshed: Duration,
}

impl SignalStatus {
    pub(super) fn new(signal: Signal) -> Self {
        Self { signal, value: None, is_stale: false, asks: DegradationLevel::Normal, refreshed: Duration::ZERO }
    }

    /// Takes a sample; `None`: there is nothing new.
    pub(super) fn take(&mut self, now: Duration, reading: Option<f64>) {
        if let Some(value) = reading.filter(|value| !value.is_nan()) {
            (self.value, self.refreshed) = (Some(value), now);
        }
        let since = now.saturating_sub(self.refreshed);
        self.is_stale = self.signal.stale_after.is_some_and(|after| since > after);
        let thresholds = self.signal.thresholds;
        let reached = self.counts().and_then(|value| thresholds.iter().rposition(|threshold| value >= *threshold));
        self.asks = reached.map_or(DegradationLevel::Normal, |i| DegradationLevel::ALL[i + 1]);
    }

    /// The value that counts, if one does.
    fn counts(&self) -> Option<f64> {
        match (self.is_stale, self.signal.on_stale) {
            (false, _) | (true, OnStale::Hold) => self.value,
            (true, OnStale::Ignore) => None,
            (true, OnStale::Raise) => Some(self.signal.thresholds[0]),
        }
    }

    /// The threshold of the level that it asks for, and the value that reached it.
    pub(super) fn reached(&self) -> Option<(f64, f64)> {
        let index = self.asks.index().checked_sub(1)?;
        Some((self.counts()?, self.signal.thresholds[index]))
    }

    /// Below which it must be for a level to be left; `None` for NORMAL.
    pub fn recovery_mark(&self, level: DegradationLevel) -> Option<f64> {
        let index = level.index().checked_sub(1)?;
        Some(self.signal.thresholds[index] * self.signal.recovery_factor)
    }

    /// Whether it lets a level be left.
    pub(super) fn is_calm(&self, level: DegradationLevel) -> bool {
        let mark = self.recovery_mark(level).unwrap_or(f64::INFINITY);
        self.counts().is_none_or(|value| value < mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_signal_asks_for_the_highest_level_whose_threshold_it_has_reached() {
        let mut status = SignalStatus::new(Signal::age([10.0, 20.0, 40.0, 80.0]));
        assert_eq!((status.asks, status.reached()), (DegradationLevel::Normal, None));
        for (value, level) in [(9.9, 0), (10.0, 1), (39.9, 2), (40.0, 3), (1e9, 4)] {
            status.take(at(1), Some(value));
            assert_eq!(status.asks, DegradationLevel::ALL[level], "{value}");
        }
        assert_eq!(status.reached(), Some((1e9, 80.0)));
        status.take(at(2), Some(f64::NAN));
        assert_eq!(status.value, Some(1e9), "not a number is no reading");
    }

    #[test]
    fn what_is_stale_is_ignored_held_or_raises() {
        for (on_stale, asks, calm) in [
            (OnStale::Ignore, DegradationLevel::Normal, true),
            (OnStale::Hold, DegradationLevel::Graceful, false),
            (OnStale::Raise, DegradationLevel::Soft, false),
        ] {
            let signal = Signal { stale_after: Some(at(100)), on_stale, ..Signal::age([10.0, 20.0, 40.0, 80.0]) };
            let mut status = SignalStatus::new(signal);
            status.take(at(0), Some(25.0));
            status.take(at(100), None);
            assert!(!status.is_stale && status.asks == DegradationLevel::Graceful);
            status.take(at(101), None);
            assert!(status.is_stale, "{on_stale:?}");
            assert_eq!((status.asks, status.is_calm(DegradationLevel::Soft)), (asks, calm), "{on_stale:?}");
            status.take(at(102), Some(1.0));
            assert!(!status.is_stale && status.is_calm(DegradationLevel::Soft));
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let age = Signal::age([10.0, 20.0, 40.0, 80.0]);
        let error = |signal: Signal| check_all(&[signal]).unwrap_err().to_string();
        for (signal, said) in [
            (Signal { thresholds: [10.0, 10.0, 40.0, 80.0], ..age.clone() }, "signal age: thresholds [10.0, 10.0,"),
            (Signal { thresholds: [10.0, 20.0, 40.0, f64::NAN], ..age.clone() }, "must be numbers that rise"),
            (Signal { recovery_factor: 0.0, ..age.clone() }, "signal age: recovery_factor = 0 "),
        ] {
            assert!(error(signal.clone()).contains(said), "{}", error(signal));
        }
        assert_eq!(check_all(&[age.clone(), age]).unwrap_err().to_string(), "there are two signals called age");
        for name in ["", "a b", "Age", &"a".repeat(32)] {
            assert!(SignalName::new(name).is_err(), "{name}");
        }
        assert_eq!(SignalName::new("spill_disk_2").unwrap().to_string(), "spill_disk_2");
    }
}
