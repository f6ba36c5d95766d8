//! `plimsoll spill ls`: what is in a spill log.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use plimsoll::spill::{LogSummary, SegmentSummary};

use super::{SpillDir, utc};
use crate::cli::CliError;
use crate::cli::summary::{bytes, counted, grouped};

/// List a spill log's segments, and what waits to be replayed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory of the log
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let dir = SpillDir::open(&arguments.dir)?;
    dir.tell_use();
    let logs = dir.inspect()?;
    io::stdout().write_all(table(&logs).as_bytes()).map_err(CliError::stdout)
}

fn table(logs: &[LogSummary]) -> String {
    let mut out = String::new();
    if logs.iter().any(|log| !log.segments.is_empty()) {
        out += &row(["worker", "segment", "created", "size", "frames", "records", "sequence numbers", "record"]);
    }
    for log in logs {
        for segment in &log.segments {
            out += &segment_row(log.worker, segment);
        }
    }
    for log in logs {
        let LogSummary { worker, replay_from, end, pending, .. } = log;
        let [from, end, pending, lost] = [*replay_from, *end, *pending, log.lost()].map(grouped);
        let faults = faults(log.faults.len());
        let _ = writeln!(out, "worker {worker}: replay from {from}, end {end}, {pending} pending, {lost} lost{faults}");
    }
    let sum = |pick: fn(&LogSummary) -> u64| logs.iter().map(pick).sum::<u64>();
    let segments = counted(logs.iter().map(|log| log.segments.len()).sum(), "segment");
    let (size, pending, lost) =
        (bytes(sum(LogSummary::allocated_bytes)), grouped(sum(|log| log.pending)), grouped(sum(LogSummary::lost)));
    let _ = writeln!(out, "total: {segments}, {size} on disk, {pending} pending, {lost} lost");
    out
}

fn segment_row(worker: u32, segment: &SegmentSummary) -> String {
    let sequences = match segment.records {
        0 => "none".to_owned(),
        _ => format!("{} to {}", segment.sequences.start, segment.sequences.end - 1),
    };
    let [worker, number] = [worker, segment.number].map(|number| number.to_string());
    let [frames, records] = [u64::from(segment.frames), segment.records].map(grouped);
    let (created, size) = (utc(segment.created_ns), bytes(segment.allocated_bytes));
    row([&worker, &number, &created, &size, &frames, &records, &sequences, &segment.record.to_string()])
}

fn row([worker, number, created, size, frames, records, sequences, record]: [&str; 8]) -> String {
    format!("{worker:>6} {number:>8}  {created:<24} {size:>10} {frames:>9} {records:>12}  {sequences:<22}  {record}\n")
}

fn faults(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(", {}: see `plimsoll spill verify`", counted(count, "fault")),
    }
}
