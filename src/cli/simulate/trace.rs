//! What was recorded: signals over time, and what was offered.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use plimsoll::DegradationThresholds;
use plimsoll::simulation::Conditions;

use super::{csv, prometheus};
use crate::cli::CliError;

/// A moment of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Since the first one, or as the trace has it.
    pub(crate) at: Duration,
    pub(crate) lag: u64,
    /// Not-a-number where it is not known.
    pub(crate) memory_pct: f64,
    /// How long the oldest message had waited, in milliseconds, if the trace tells of it.
    pub(crate) age_ms: Option<f64>,
    /// That was in force, if the trace tells of it.
    pub(crate) level: Option<u8>,
    /// Messages offered a second since the point before, by priority, if the trace tells of them.
    pub(crate) offered: Option<[f64; 4]>,
    /// Messages that handlers got a second, if the trace tells of them.
    pub(crate) finished: Option<f64>,
}

/// A trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) points: Vec<Point>,
    /// Those that were in force, if the trace tells of them.
    pub(crate) thresholds: Option<DegradationThresholds>,
}

impl Trace {
    /// A CSV file, or the JSON of a Prometheus range query: what it is shows in its first character.
    pub(crate) fn read(path: &Path, instance: Option<&str>) -> Result<Self, CliError> {
        let trace = if is_json(path)? { prometheus::read(path, instance)? } else { csv::read(path)? };
        if trace.points.is_empty() {
            return Err(CliError::Runtime(format!("{}: the trace has no samples", path.display())));
        }
        Ok(trace)
    }

    pub(crate) fn length(&self) -> Duration {
        self.points.last().map_or(Duration::ZERO, |point| point.at)
    }

    /// How many messages a second the handlers managed at most while there was enough to do: the lag was growing, or at SOFT and above.
    pub(crate) fn capacity(&self) -> Option<f64> {
        let busy = self.points.windows(2).filter(|pair| pair[0].lag > 0 && pair[1].lag > 0);
        busy.filter_map(|pair| pair[1].finished).max_by(f64::total_cmp).filter(|rate| *rate > 0.0)
    }

    /// What a pipeline is up against at a time. What the trace does not tell is made up from its lag: what came is what was managed, and
    /// what the lag grew by.
    pub(crate) fn conditions(&self, at: Duration, capacity: f64) -> Conditions {
        // The point whose span the time is in.
        let i = self.points.partition_point(|point| point.at <= at).clamp(1, self.points.len().max(2) - 1);
        let (Some(before), Some(now)) = (self.points.get(i - 1), self.points.get(i)) else {
            return Conditions::offered(0.0);
        };
        let memory_pct = if before.memory_pct.is_finite() { before.memory_pct } else { 0.0 };
        if at >= self.length() {
            return Conditions { memory_pct, ..Conditions::offered(0.0) };
        }
        let seconds = (now.at - before.at).as_secs_f64().max(1e-9);
        let grown = (now.lag as f64 - before.lag as f64) / seconds;
        let managed = if before.lag > 0 || now.lag > 0 { capacity } else { 0.0 };
        let calm = Conditions { memory_pct, ..Conditions::offered((managed + grown).max(0.0)) };
        Conditions { offered_per_second: now.offered.unwrap_or(calm.offered_per_second), ..calm }
    }
}

/// Whether the first character that is no space is a brace.
pub(super) fn is_json(path: &Path) -> Result<bool, CliError> {
    let mut begin = [0; 64];
    let file = File::open(path).map_err(|error| CliError::io(&path.display(), &error))?;
    let read = file.take(64).read(&mut begin).map_err(|error| CliError::io(&path.display(), &error))?;
    Ok(begin[..read].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'))
}
