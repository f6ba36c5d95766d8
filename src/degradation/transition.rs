//! A change of level and why it happened.

use std::fmt;
use std::time::Duration;

use super::level::DegradationLevel;
use super::signal::SignalName;

/// One change of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// When, on the caller's clock.
    pub at: Duration,
    /// The level before.
    pub from: DegradationLevel,
    /// The level after.
    pub to: DegradationLevel,
    /// The lag that was seen, in messages.
    pub lag: u64,
    /// The memory that was seen, in percent.
    pub memory_pct: f64,
    /// Why.
    pub cause: Cause,
}

impl Transition {
    /// Whether the level went up.
    pub fn is_degradation(&self) -> bool {
        self.to > self.from
    }
}

/// Why the level changed. `Display` says it in words.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The lag reached the new level's trigger.
    Lag {
        /// Lag, in messages.
        lag: u64,
        /// The trigger that it reached.
        trigger: u64,
    },
    /// Memory reached the new level's trigger.
    Memory {
        /// Memory, in percent.
        memory_pct: f64,
        /// The trigger that it reached.
        trigger: f64,
    },
    /// Both reached it in the same sample.
    LagAndMemory {
        /// Lag, in messages.
        lag: u64,
        /// Its trigger.
        lag_trigger: u64,
        /// Memory, in percent.
        memory_pct: f64,
        /// Its trigger.
        memory_trigger: f64,
    },
    /// A [signal](super::Signal) beside lag and memory reached the new level's threshold.
    Signal {
        /// Its name.
        name: SignalName,
        /// Its value.
        value: f64,
        /// The threshold that it reached.
        trigger: f64,
    },
    /// All signals were below the old level's recovery marks, and the cooldown was over.
    Recovered {
        /// Lag, in messages.
        lag: u64,
        /// It had to be below this.
        lag_mark: f64,
        /// Memory, in percent.
        memory_pct: f64,
        /// It had to be below this.
        memory_mark: f64,
    },
    /// Somebody called [`reset`](super::DegradationManager::reset).
    Reset,
    /// Somebody holds this level: see [`pin`](super::DegradationManager::pin).
    Pinned,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Lag { lag, trigger } => write!(f, "lag {lag} ≥ {trigger}"),
            Self::Memory { memory_pct, trigger } => {
                write!(f, "memory {memory_pct:.1} % ≥ {trigger} %")
            }
            Self::LagAndMemory { lag, lag_trigger, memory_pct, memory_trigger } => {
                write!(f, "lag {lag} ≥ {lag_trigger} and memory {memory_pct:.1} % ≥ {memory_trigger} %")
            }
            Self::Signal { name, value, trigger } => write!(f, "{name} {value:.1} ≥ {trigger}"),
            Self::Recovered { lag, lag_mark, memory_pct, memory_mark } => {
                write!(f, "recovered: lag {lag} < {lag_mark:.0} and memory {memory_pct:.1} % < {memory_mark:.1} %")
            }
            Self::Reset => f.write_str("reset by hand"),
            Self::Pinned => f.write_str("pinned by hand"),
        }
    }
}
