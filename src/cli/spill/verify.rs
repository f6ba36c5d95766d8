//! `plimsoll spill verify`: whether a spill log is whole, and if not, exactly what is lost.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plimsoll::spill::{Fault, LogSummary};

use super::SpillDir;
use crate::cli::CliError;
use crate::cli::summary::{bytes, counted, grouped};

/// Read a whole spill log and say what is wrong with it.
///
/// Prints each fault with its file and place, and which records are lost by it. The exit code is 1 if there is any.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory of the log
    dir: PathBuf,
    /// Print a report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let dir = SpillDir::open(&arguments.dir)?;
    dir.tell_use();
    let start = Instant::now();
    let logs = dir.inspect()?;
    let report = Report::of(&dir, &logs);
    let text = if arguments.json { report.json()? } else { text(&report, &logs) };
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)?;
    tell_rate(dir.bytes, start.elapsed());
    if report.ok { Ok(()) } else { Err(CliError::Said) }
}

/// What was found, as it is printed in JSON.
#[derive(serde::Serialize)]
struct Report<'a> {
    dir: &'a Path,
    in_use_by: Option<&'a str>,
    ok: bool,
    bytes: u64,
    segments: usize,
    records: u64,
    pending: u64,
    lost: u64,
    faults: Vec<FaultReport<'a>>,
}

#[derive(serde::Serialize)]
struct FaultReport<'a> {
    worker: u32,
    file: &'a Path,
    offset: u64,
    bytes: u64,
    lost: u64,
    /// Sequence numbers of the first and the last record lost.
    lost_first: Option<u64>,
    lost_last: Option<u64>,
    exact: bool,
    was_durable: bool,
    text: String,
}

impl<'a> FaultReport<'a> {
    fn of(worker: u32, fault: &'a Fault) -> Self {
        let is_lost = fault.lost_records() > 0;
        Self {
            worker,
            file: &fault.path,
            offset: fault.offset,
            bytes: fault.bytes,
            lost: fault.lost_records(),
            lost_first: is_lost.then_some(fault.lost.start),
            lost_last: is_lost.then(|| fault.lost.end - 1),
            exact: fault.exact,
            was_durable: fault.was_durable,
            text: fault.to_string(),
        }
    }
}

impl<'a> Report<'a> {
    fn of(dir: &'a SpillDir<'_>, logs: &'a [LogSummary]) -> Self {
        let sum = |pick: fn(&LogSummary) -> u64| logs.iter().map(pick).sum::<u64>();
        let of_log = |log: &'a LogSummary| log.faults.iter().map(|fault| FaultReport::of(log.worker, fault));
        let faults: Vec<_> = logs.iter().flat_map(of_log).collect();
        Self {
            dir: dir.dir,
            in_use_by: dir.in_use_by.as_deref(),
            ok: faults.is_empty(),
            bytes: dir.bytes,
            segments: logs.iter().map(|log| log.segments.len()).sum(),
            records: sum(|log| log.segments.iter().map(|segment| segment.records).sum()),
            pending: sum(|log| log.pending),
            lost: sum(LogSummary::lost),
            faults,
        }
    }

    fn json(&self) -> Result<String, CliError> {
        let json = serde_json::to_string_pretty(self);
        json.map(|json| json + "\n").map_err(|error| CliError::Runtime(format!("report: {error}")))
    }
}

fn text(report: &Report<'_>, logs: &[LogSummary]) -> String {
    let mut out = String::new();
    for fault in &report.faults {
        let _ = writeln!(out, "{}", fault.text);
    }
    for log in logs.iter().filter(|log| log.lost() > 0) {
        let lost = ranges(log.faults.iter().map(|fault| fault.lost.clone()));
        let _ = writeln!(out, "worker {}: lost {} records: {lost}", log.worker, grouped(log.lost()));
    }
    let whole = format!("{} records in {}", grouped(report.records), counted(report.segments, "segment"));
    let _ = match report.ok {
        true => writeln!(out, "ok: {whole}, {} of them to be replayed", grouped(report.pending)),
        false => {
            let (faults, lost) = (counted(report.faults.len(), "fault"), grouped(report.lost));
            writeln!(
                out,
                "damaged: {faults}, {lost} records lost; whole: {whole}, {} of them to be replayed",
                grouped(report.pending)
            )
        }
    };
    out
}

/// Sequence numbers, first to last; ranges that touch are one.
fn ranges(lost: impl Iterator<Item = Range<u64>>) -> String {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in lost.filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    let text = |range: &Range<u64>| match range.end - range.start {
        1 => range.start.to_string(),
        _ => format!("{} to {}", range.start, range.end - 1),
    };
    joined.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// How fast it was.
fn tell_rate(read: u64, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let rate = (read as f64 / seconds.max(f64::MIN_POSITIVE)) as u64;
    let _ = writeln!(io::stderr(), "read {} in {seconds:.2} s, {}/s", bytes(read), bytes(rate));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let text = |list: &[(u64, u64)]| ranges(list.iter().map(|&(start, end)| start..end));
        assert_eq!(text(&[(0, 59), (59, 118), (200, 201), (300, 300), (400, 402)]), "0 to 117, 200, 400 to 401");
        assert_eq!(text(&[]), "");
    }
}
