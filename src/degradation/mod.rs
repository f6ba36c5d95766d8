//! The cascade: levels, thresholds, the state machine that moves between them, and what each level
//! does to a message.
//!
//! Everything here is pure but for [`published`], which carries the result to the workers. The
//! numbers in `tests/data/golden_*.csv` settle what "correct" means.

mod explain;
pub(crate) mod gradual;
mod level;
mod manager;
mod policy;
pub(crate) mod published;
mod shedder;
mod signal;
mod thresholds;
mod transition;

pub use explain::Explanation;
pub use gradual::{Budget, Gradual, GradualError, ProportionalShedding};
pub use level::DegradationLevel;
pub use manager::{DegradationManager, DegradationStatus, Pin};
pub use policy::{Mode, Policy, Verdict, VerdictTable};
pub use shedder::{LoadShedder, ShedReason, ShedStats, ShedderStats};
pub(crate) use signal::check_all as check_signals;
pub use signal::{OnStale, Signal, SignalError, SignalName, SignalStatus};
pub use thresholds::{DegradationThresholds, ThresholdError};
pub use transition::{Cause, Transition};
