//! What is published to the workers: the level and what it means for each priority.

use super::gradual::GradualPolicy;
use super::level::DegradationLevel;
use crate::symbols::MessagePriority;

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// The handler gets it.
    Process,
    /// It goes to the spill log, to be replayed later; where there is none, it is shed.
    Spill,
    /// It is dropped and counted.
    Shed,
    /// Only the newest of its kind is kept for the handler, where it tells a [state](crate::Message::conflation_class); all others are processed.
    Conflate,
    /// As [`Conflate`](Self::Conflate), and all others are spilled.
    ConflateElseSpill,
    /// As [`Conflate`](Self::Conflate), and all others are shed.
    ConflateElseShed,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Process, Self::Conflate, Self::ConflateElseSpill, Self::ConflateElseShed, Self::Spill, Self::Shed];

    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Conflate => "conflate",
            Self::ConflateElseSpill => "conflate-else-spill",
            Self::ConflateElseShed => "conflate-else-shed",
            Self::Spill => "spill",
            Self::Shed => "shed",
        }
    }

    /// Whether messages that tell a state are conflated.
    #[inline]
    pub const fn conflates(self) -> bool {
        matches!(self, Self::Conflate | Self::ConflateElseSpill | Self::ConflateElseShed)
    }

    /// What happens to a message that tells no state: processed, spilled or shed.
    #[inline]
    #[must_use]
    pub const fn otherwise(self) -> Self {
        match self {
            Self::Process | Self::Conflate => Self::Process,
            Self::Spill | Self::ConflateElseSpill => Self::Spill,
            Self::Shed | Self::ConflateElseShed => Self::Shed,
        }
    }
}

/// The verdict for each level and priority.
///
/// | level | CRITICAL | HIGH | NORMAL | LOW |
/// |---|---|---|---|---|
/// | NORMAL, SOFT | process | process | process | process |
/// | GRACEFUL | process | process | process | shed |
/// | AGGRESSIVE | process | process | spill | shed |
/// | CIRCUIT_BREAK | process | spill | spill | shed |
///
/// That is [`Default`]; [`with`](Self::with) changes single cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictTable {
    rows: [[Verdict; 4]; 5],
}

impl VerdictTable {
    /// The reference's other rule: from GRACEFUL up, CRITICAL is processed and all else is shed.
    pub const fn critical_only() -> Self {
        use Verdict::{Process as P, Shed as X};
        Self { rows: [[P; 4], [P; 4], [P, X, X, X], [P, X, X, X], [P, X, X, X]] }
    }

    /// The default with quotes conflated, and what else tells a state: of HIGH and NORMAL from GRACEFUL up, of CRITICAL too from AGGRESSIVE up.
    ///
    /// | level | CRITICAL | HIGH | NORMAL | LOW |
    /// |---|---|---|---|---|
    /// | GRACEFUL | process | conflate | conflate | shed |
    /// | AGGRESSIVE | conflate | conflate | conflate, else spill | shed |
    /// | CIRCUIT_BREAK | conflate | conflate, else spill | conflate, else spill | shed |
    pub const fn conflate() -> Self {
        use Verdict::{Conflate as C, ConflateElseSpill as CS, Process as P, Shed as X};
        Self { rows: [[P; 4], [P; 4], [P, C, C, X], [C, C, CS, X], [C, CS, CS, X]] }
    }

    /// Whether it conflates anything at any level.
    pub fn conflates(&self) -> bool {
        self.rows.iter().flatten().any(|verdict| verdict.conflates())
    }

    /// The verdict for a message of this priority at this level.
    #[inline]
    pub const fn verdict(&self, level: DegradationLevel, priority: MessagePriority) -> Verdict {
        self.rows[level.index()][priority.index()]
    }

    /// The same table with one cell changed.
    #[must_use]
    pub const fn with(mut self, level: DegradationLevel, priority: MessagePriority, verdict: Verdict) -> Self {
        self.rows[level.index()][priority.index()] = verdict;
        self
    }

    /// One level's verdicts, indexed by [`MessagePriority::index`].
    #[inline]
    pub(crate) const fn row(&self, level: DegradationLevel) -> &[Verdict; 4] {
        &self.rows[level.index()]
    }
}

impl Default for VerdictTable {
    fn default() -> Self {
        use Verdict::{Process as P, Shed as X, Spill as S};
        Self { rows: [[P; 4], [P; 4], [P, P, P, X], [P, P, S, X], [P, S, S, X]] }
    }
}

/// Whether the level has any effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "lowercase"))]
pub enum Mode {
    /// Each level does what it says.
    #[default]
    Enforce,
    /// A dry run: levels are computed, exported and told of, and counters say what would have been refused, spilled and shed; but
    /// nothing is.
    Observe,
}

/// The immutable thing that the monitor publishes and the workers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The level in force: NORMAL in a [dry run](Mode::Observe).
    pub level: DegradationLevel,
    /// In a [dry run](Mode::Observe) the level that would be in force.
    pub observed: Option<DegradationLevel>,
    /// Counts publications, from 0.
    pub epoch: u64,
    /// What each level does to each priority.
    pub table: VerdictTable,
    /// Whether that conflates anything at any level.
    pub(crate) conflates: bool,
    /// What is finer than the table.
    pub(crate) gradual: GradualPolicy,
    /// Whether there is any of that.
    pub(crate) is_gradual: bool,
}

const PROCESS_ALL: [Verdict; 4] = [Verdict::Process; 4];

impl Policy {
    /// The verdicts at the level in force, indexed by [`MessagePriority::index`].
    #[inline]
    pub(crate) const fn row(&self) -> &[Verdict; 4] {
        match self.observed {
            None => self.table.row(self.level),
            // Whatever the table says of NORMAL.
            Some(_) => &PROCESS_ALL,
        }
    }

    /// Whether every priority is processed at the level in force.
    #[inline]
    pub(crate) fn processes_all(&self) -> bool {
        !self.is_gradual && *self.row() == PROCESS_ALL
    }

    /// The verdicts of the next level, for what is over budget.
    #[inline]
    pub(crate) fn row_above(&self) -> &[Verdict; 4] {
        let next = DegradationLevel::from_value(self.level.value() + 1).unwrap_or(DegradationLevel::CircuitBreak);
        self.table.row(next)
    }

    /// In a dry run, at a level that would not process everything: the level.
    #[inline]
    pub(crate) fn would_not_process_all(&self) -> Option<DegradationLevel> {
        self.observed.filter(|level| *self.table.row(*level) != PROCESS_ALL)
    }

    /// Whether enrichment runs: at NORMAL only.
    #[inline]
    pub const fn enriches(&self) -> bool {
        matches!(self.level, DegradationLevel::Normal)
    }

    /// Whether intake is open: below CIRCUIT_BREAK.
    #[inline]
    pub const fn accepts(&self) -> bool {
        !matches!(self.level, DegradationLevel::CircuitBreak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DegradationLevel::{Aggressive, CircuitBreak, Graceful, Normal, Soft};

    #[test]
    fn the_preset_that_conflates_is_the_default_but_for_states() {
        let (default, conflate) = (VerdictTable::default(), VerdictTable::conflate());
        for level in DegradationLevel::ALL {
            for priority in MessagePriority::ALL {
                let (cell, usual) = (conflate.verdict(level, priority), default.verdict(level, priority));
                assert_eq!(cell.otherwise(), usual, "{level}, {priority:?}: what tells no state is as it was");
                let expected = match (level, priority) {
                    (Normal | Soft, _) | (_, MessagePriority::Low) | (Graceful, MessagePriority::Critical) => false,
                    (Graceful | Aggressive | CircuitBreak, _) => true,
                };
                assert_eq!(cell.conflates(), expected, "{level}, {priority:?}");
            }
        }
        assert!(conflate.conflates() && !default.conflates() && !VerdictTable::critical_only().conflates());
    }
}
