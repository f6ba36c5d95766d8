//! Which messages are shed at which level, by name: for planning, tests and slow paths.

use super::level::DegradationLevel;
use super::policy::{Verdict, VerdictTable};
use crate::message::DataType;
use crate::symbols::{MessagePriority, SymbolTiers};

/// Why a message was shed: the metric label `reason`.
///
/// The first three are the reference's, which names the reason by the level that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ShedReason {
    /// Shed at GRACEFUL.
    LowPriority,
    /// Shed at AGGRESSIVE.
    NormalPriority,
    /// Shed at CIRCUIT_BREAK.
    NonCritical,
    /// Shed at NORMAL or SOFT, which only a verdict table of the user's does.
    Policy,
    /// It should have gone to the spill log, which had no room.
    SpillFull,
    /// The worker's handler panicked before it was done with the message.
    WorkerFailed,
    /// Its symbol is of the share that is shed by lag: see [`ProportionalShedding`](super::ProportionalShedding).
    Proportional,
    /// Its priority was over its [`Budget`](super::Budget).
    OverBudget,
}

impl ShedReason {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 8] = [
        Self::LowPriority,
        Self::NormalPriority,
        Self::NonCritical,
        Self::Policy,
        Self::SpillFull,
        Self::WorkerFailed,
        Self::Proportional,
        Self::OverBudget,
    ];

    /// The reason for a message that is shed at this level.
    pub const fn at(level: DegradationLevel) -> Self {
        match level {
            DegradationLevel::Normal | DegradationLevel::Soft => Self::Policy,
            DegradationLevel::Graceful => Self::LowPriority,
            DegradationLevel::Aggressive => Self::NormalPriority,
            DegradationLevel::CircuitBreak => Self::NonCritical,
        }
    }

    /// Its place in [`ALL`](Self::ALL), for tables.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label's value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::LowPriority => "low_priority",
            Self::NormalPriority => "normal_priority",
            Self::NonCritical => "non_critical",
            Self::Policy => "policy",
            Self::SpillFull => "spill_full",
            Self::WorkerFailed => "worker_failed",
            Self::Proportional => "proportional",
            Self::OverBudget => "over_budget",
        }
    }
}

/// Decides by symbol name whether a message would be processed.
///
/// The pipeline makes the same decision from ids and tables, message by message; this is the same rule for
/// whoever wants to ask it by hand.
///
/// ```
/// use plimsoll::{DataType, DegradationLevel, LoadShedder};
///
/// let mut shedder = LoadShedder::default();
/// assert!(shedder.should_process("BHP", DegradationLevel::CircuitBreak, DataType::Trades));
/// assert!(!shedder.should_process("BHP", DegradationLevel::Graceful, DataType::ReferenceData));
/// assert_eq!(shedder.shed_stats(["BHP", "XYZ"], DegradationLevel::Aggressive).shed, 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoadShedder {
    tiers: SymbolTiers,
    table: VerdictTable,
    stats: ShedderStats,
}

/// What a [`LoadShedder`] has decided so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShedderStats {
    /// Calls of [`LoadShedder::should_process`].
    pub total_checked: u64,
    /// Those that answered no.
    pub total_shed: u64,
}

impl ShedderStats {
    /// Shed among checked, in percent; 0 when nothing was checked.
    pub fn shed_rate_percent(&self) -> f64 {
        percent(self.total_shed, self.total_checked)
    }
}

/// What would be shed of a list of symbols.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShedStats {
    /// Length of the list.
    pub total: u64,
    /// How many would be processed.
    pub processed: u64,
    /// How many would not.
    pub shed: u64,
    /// Shed among total, in percent; 0 for an empty list.
    pub shed_percentage: f64,
}

impl LoadShedder {
    /// A shedder for these tiers and verdicts.
    pub fn new(tiers: SymbolTiers, table: VerdictTable) -> Self {
        Self { tiers, table, stats: ShedderStats::default() }
    }

    /// The priority of a message.
    pub fn priority(&self, symbol: &str, data_type: DataType) -> MessagePriority {
        self.tiers.priority(symbol, data_type)
    }

    /// Whether a message is processed at this level; counted in [`stats`](Self::stats).
    ///
    /// A message that would be spilled is not processed.
    pub fn should_process(&mut self, symbol: &str, level: DegradationLevel, data_type: DataType) -> bool {
        let processed = self.processes(symbol, level, data_type);
        self.stats.total_checked += 1;
        self.stats.total_shed += u64::from(!processed);
        processed
    }

    /// What would be shed if each symbol sent one trade at this level. Leaves [`stats`](Self::stats) alone.
    pub fn shed_stats<'a>(&self, symbols: impl IntoIterator<Item = &'a str>, level: DegradationLevel) -> ShedStats {
        let (mut total, mut processed) = (0, 0);
        for symbol in symbols {
            total += 1;
            processed += u64::from(self.processes(symbol, level, DataType::Trades));
        }
        let shed = total - processed;
        ShedStats { total, processed, shed, shed_percentage: percent(shed, total) }
    }

    /// Running totals.
    pub fn stats(&self) -> ShedderStats {
        self.stats
    }

    fn processes(&self, symbol: &str, level: DegradationLevel, data_type: DataType) -> bool {
        self.table.verdict(level, self.priority(symbol, data_type)).otherwise() == Verdict::Process
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}
