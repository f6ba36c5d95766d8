//! How fast a recorded stream is played.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast a recorded stream is played.
///
/// As text: `max`, `realtime`, `x10` (ten times as fast as recorded), `50000/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the pipeline takes it. The source waits where it has to, so it never causes degradation by itself.
    Max,
    /// This many times as fast as it was recorded. An open loop, as a live feed is: what is not accepted is gone.
    Times(f64),
    /// This many messages a second, evenly. An open loop.
    PerSecond(f64),
}

impl Pace {
    /// When a message is due, since the start: the `index`-th from 0, recorded `event` after the first. `None`: at once.
    pub(crate) fn due(self, index: u64, event: Duration) -> Option<Duration> {
        let seconds = match self {
            Self::Max => return None,
            Self::Times(speed) => event.as_secs_f64() / speed,
            Self::PerSecond(rate) => index as f64 / rate,
        };
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// A text that is no [`Pace`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pace: give `max`, `realtime`, `xN` (N times as fast as recorded) or `N/s` (messages a second), N above 0"
)]
pub struct PaceError(String);

impl FromStr for Pace {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, PaceError> {
        let error = || PaceError(text.to_owned());
        let number = |n: &str| n.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0).ok_or_else(error);
        match text {
            "max" => Ok(Self::Max),
            "realtime" => Ok(Self::Times(1.0)),
            _ => match (text.strip_prefix('x'), text.strip_suffix("/s")) {
                (Some(n), None) => number(n).map(Self::Times),
                (None, Some(n)) => number(n).map(Self::PerSecond),
                _ => Err(error()),
            },
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Times(1.0) => f.write_str("realtime"),
            Self::Times(speed) => write!(f, "x{speed}"),
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_read_and_printed() {
        for text in ["max", "realtime", "x10", "x0.5", "50000/s"] {
            assert_eq!(text.parse::<Pace>().unwrap().to_string(), text);
        }
        for text in ["", "x", "x0", "x-1", "/s", "0/s", "xinf", "fast", "x1/s", "10", "NaN/s"] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
    }

    #[test]
    fn messages_are_due_by_event_time_or_by_index() {
        let second = Duration::from_secs(1);
        assert_eq!(Pace::Max.due(7, second), None);
        assert_eq!(Pace::Times(4.0).due(7, second), Some(second / 4));
        assert_eq!(Pace::PerSecond(2.0).due(7, second), Some(second * 7 / 2));
        assert_eq!(Pace::PerSecond(1e-300).due(7, second), Some(Duration::MAX));
    }
}
