//! `[shadow]`, `[supervision]`, `[http]`, `[control]`, `[log]`: running it for real.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use plimsoll::{DegradationLevel, DegradationThresholds, OnStall, Restarts, Shadow, Supervision};
use serde::Deserialize;

use super::feed::TimeText;

/// `[shadow]`: thresholds that are tried out.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ShadowSection {
    component: String,
    thresholds: SomeThresholds,
}

impl Default for ShadowSection {
    fn default() -> Self {
        Self { component: "plimsoll-shadow".to_owned(), thresholds: SomeThresholds::default() }
    }
}

/// Thresholds of which each may be left out.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SomeThresholds {
    lag_soft: Option<u64>,
    lag_graceful: Option<u64>,
    lag_aggressive: Option<u64>,
    lag_circuit_break: Option<u64>,
    heap_soft: Option<f64>,
    heap_graceful: Option<f64>,
    heap_aggressive: Option<f64>,
    heap_circuit_break: Option<f64>,
    recovery_lag_factor: Option<f64>,
    recovery_heap_factor: Option<f64>,
    recovery_cooldown_seconds: Option<f64>,
}

impl ShadowSection {
    /// The thresholds, with those of the real ones that are not given.
    pub(super) fn thresholds(&self, real: &DegradationThresholds) -> DegradationThresholds {
        let some = &self.thresholds;
        DegradationThresholds {
            lag_soft: some.lag_soft.unwrap_or(real.lag_soft),
            lag_graceful: some.lag_graceful.unwrap_or(real.lag_graceful),
            lag_aggressive: some.lag_aggressive.unwrap_or(real.lag_aggressive),
            lag_circuit_break: some.lag_circuit_break.unwrap_or(real.lag_circuit_break),
            heap_soft: some.heap_soft.unwrap_or(real.heap_soft),
            heap_graceful: some.heap_graceful.unwrap_or(real.heap_graceful),
            heap_aggressive: some.heap_aggressive.unwrap_or(real.heap_aggressive),
            heap_circuit_break: some.heap_circuit_break.unwrap_or(real.heap_circuit_break),
            recovery_lag_factor: some.recovery_lag_factor.unwrap_or(real.recovery_lag_factor),
            recovery_heap_factor: some.recovery_heap_factor.unwrap_or(real.recovery_heap_factor),
            recovery_cooldown_seconds: some.recovery_cooldown_seconds.unwrap_or(real.recovery_cooldown_seconds),
        }
    }

    pub(super) fn shadow(&self, real: &DegradationThresholds) -> Shadow {
        Shadow { thresholds: self.thresholds(real), component: self.component.clone() }
    }
}

/// `[supervision]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SupervisionSection {
    pub(crate) on_panic: OnPanic,
    restarts_max: Option<u32>,
    restart_window: Option<TimeText>,
    stall_after: Option<TimeText>,
    on_stall: OnStall,
    stuck_after: Option<TimeText>,
}

/// What is done when a handler or the monitor panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnPanic {
    #[default]
    Stop,
    RestartWorker,
}

impl SupervisionSection {
    pub(crate) fn supervision(&self) -> Supervision {
        let default = Supervision::default();
        let restarts = Restarts {
            max: self.restarts_max.unwrap_or(default.restarts.max),
            within: self.restart_window.map_or(default.restarts.within, TimeText::duration),
        };
        let stall_after = self.stall_after.map(TimeText::duration).or(default.stall_after);
        Supervision { stall_after, on_stall: self.on_stall, restarts }
    }

    /// For how long the level may be CIRCUIT_BREAK before the run ends; `None`: for ever.
    pub(crate) fn stuck_after(&self) -> Option<Duration> {
        self.stuck_after.map(TimeText::duration)
    }
}

/// `[http]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) not_ready_from: NotReady,
}

/// From which level on the process counts as not ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotReady {
    Soft,
    Graceful,
    Aggressive,
    #[default]
    CircuitBreak,
    Never,
}

impl NotReady {
    /// Whether it is ready at a level.
    pub(crate) fn is_ready_at(self, level: DegradationLevel) -> bool {
        match self {
            Self::Soft => level < DegradationLevel::Soft,
            Self::Graceful => level < DegradationLevel::Graceful,
            Self::Aggressive => level < DegradationLevel::Aggressive,
            Self::CircuitBreak => level < DegradationLevel::CircuitBreak,
            Self::Never => true,
        }
    }
}

/// `[control]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ControlSection {
    pub(crate) socket: Option<PathBuf>,
}

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    pub(crate) format: LogFormat,
    pub(crate) filter: Option<String>,
}

impl LogSection {
    /// What a run logs: what is wrong, and changes of level both ways.
    pub(crate) const FILTER: &str = "warn,plimsoll::monitor=info";
}

/// How log events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text
    #[default]
    Auto,
    /// For people
    Text,
    /// One object a line
    Json,
}
