//! The five levels.

use std::fmt;

/// How far the pipeline has degraded. Ordered: higher gives up more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DegradationLevel {
    /// Everything is processed.
    #[default]
    Normal = 0,
    /// Enrichment is skipped.
    Soft = 1,
    /// LOW is shed.
    Graceful = 2,
    /// NORMAL is spilled to disk (shed where there is no spill log), LOW is shed.
    Aggressive = 3,
    /// Intake refuses; of what is inside only CRITICAL is processed.
    CircuitBreak = 4,
}

impl DegradationLevel {
    /// All five, in order.
    pub const ALL: [Self; 5] = [Self::Normal, Self::Soft, Self::Graceful, Self::Aggressive, Self::CircuitBreak];

    /// The level of this number, 0 to 4.
    pub const fn from_value(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Normal),
            1 => Some(Self::Soft),
            2 => Some(Self::Graceful),
            3 => Some(Self::Aggressive),
            4 => Some(Self::CircuitBreak),
            _ => None,
        }
    }

    /// Its number, 0 to 4.
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Its number as an index, for tables.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Upper-case name, as in logs: `CIRCUIT_BREAK`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Soft => "SOFT",
            Self::Graceful => "GRACEFUL",
            Self::Aggressive => "AGGRESSIVE",
            Self::CircuitBreak => "CIRCUIT_BREAK",
        }
    }

    /// Lower-case name, as in metric labels: `circuit_break`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Soft => "soft",
            Self::Graceful => "graceful",
            Self::Aggressive => "aggressive",
            Self::CircuitBreak => "circuit_break",
        }
    }
}

impl fmt::Display for DegradationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
