//! `plimsoll spill replay`: what waits in a spill log, made into bars.
//!
//! The messages are taken off the log only when the bars are in their file: until then the log stays as it is, whatever
//! fails.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::spill::{self, RecoveryReport, SpillConfig, SpillLog, read_records};
use plimsoll::{BarsHandler, Ingress, MemoryUse, Pipeline, PipelineBuilder, Price, Symbols, Tick};

use super::SpillDir;
use crate::cli::output::OutputFile;
use crate::cli::progress::Progress;
use crate::cli::results::write_bars;
use crate::cli::summary::grouped;
use crate::cli::{CliError, spilling, summary};
use crate::config::units;

/// Make bars of the messages that wait to be replayed, and take them off the log.
///
/// The bars cover only what was spilled: messages of the same minutes that were processed live are in the bars of the run that
/// spilled them. The messages are taken off when the bars are written, not before. No other process may use the log meanwhile. The
/// exit code is 1 if messages are lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plimsoll spill replay /var/spool/plimsoll --bars spilled.csv")]
pub(crate) struct Arguments {
    /// Directory of the log
    dir: PathBuf,
    /// Where to write the bars, as CSV
    #[arg(long, value_name = "FILE")]
    bars: PathBuf,
    /// Length of a bar: a number and ns, us, ms, s, m or h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::time)]
    bar_interval: NonZeroU64,
}

/// Messages that are taken off the log at a time.
const BATCH: usize = 4096;
/// Bytes of a message.
const RECORD: u64 = size_of::<Tick>() as u64;
/// How long taking messages off may stand still, when the disk is slow.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let dir = SpillDir::open(&arguments.dir)?;
    let bars_file = OutputFile::create(&arguments.bars)?;
    let symbols = Arc::new(Symbols::default());
    let start = Instant::now();
    let (logs, report) = spill::open::<Tick>(&config(&dir), &symbols, workers(&dir))?;
    tell(&dir, &report);
    let handlers = handle_all(arguments, &dir, &symbols, &report)?;
    let rows = write_bars(bars_file, handlers, &symbols)?;
    let lost_late = take_off(logs)?;
    let text = told(&report, lost_late, rows, arguments, start.elapsed());
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)?;
    match report.lost() + lost_late {
        0 => Ok(()),
        lost => Err(CliError::Runtime(format!("{}: {} messages are lost", dir.dir.display(), grouped(lost)))),
    }
}

/// Says what the log was found to be like.
fn tell(dir: &SpillDir<'_>, report: &RecoveryReport) {
    let mut err = io::stderr().lock();
    let faults = report.faults().try_for_each(|fault| writeln!(err, "spill: {fault}"));
    let _ = faults.and_then(|()| err.write_all(spilling::found(dir.dir, report).as_bytes()));
}

/// Settings under which nothing is refused for lack of room: nothing is spilled.
fn config(dir: &SpillDir<'_>) -> SpillConfig {
    SpillConfig {
        segment_bytes: 4 << 20,
        budget_bytes: u64::MAX,
        free_space_floor_bytes: 0,
        ..SpillConfig::new(dir.dir)
    }
}

/// As many as the log was written by, so that no messages have to move from one worker's log to another's.
fn workers(dir: &SpillDir<'_>) -> usize {
    dir.workers.iter().max().map_or(1, |last| *last as usize + 1)
}

/// Runs all messages that wait through a pipeline, and leaves them in the log.
fn handle_all(
    arguments: &Arguments,
    dir: &SpillDir<'_>,
    symbols: &Arc<Symbols>,
    report: &RecoveryReport,
) -> Result<Vec<BarsHandler>, CliError> {
    let mut pipeline: Pipeline<Tick, BarsHandler> = PipelineBuilder::new()
        .symbols(Arc::clone(symbols))
        // There is no hurry: the level shall stay at NORMAL, and all messages be enriched.
        .memory_source(|| MemoryUse { used_bytes: 0, limit_bytes: 1 })
        .start(|_| BarsHandler::new(arguments.bar_interval))?;
    let ingress = pipeline.ingress().expect("the builder's default is one producer");
    let pending = report.pending();
    let mut feed = Feed { ingress, symbols, progress: Progress::new(), pending, done: 0 };
    read_records::<Tick>(dir.dir, |record| feed.offer(record.message, record.missed, record.symbol))?;
    let done = feed.done;
    drop(feed);
    let finished = pipeline.join().map_err(|error| CliError::Runtime(error.to_string()))?;
    if done != pending {
        let dir = dir.dir.display();
        let text = format!("{dir}: {done} of {pending} messages can be read: nothing was taken off the log");
        return Err(CliError::Runtime(text));
    }
    Ok(finished.handlers)
}

/// From the log into the pipeline.
struct Feed<'a> {
    ingress: Ingress<Tick>,
    symbols: &'a Symbols,
    progress: Progress,
    pending: u64,
    done: u64,
}

impl Feed<'_> {
    fn offer(&mut self, mut tick: Tick, missed: u32, name: Option<&str>) {
        self.done += 1;
        self.progress.show_bytes(self.done * RECORD, self.pending * RECORD, "replaying");
        // Symbols that never had a name keep their numbers.
        if let Some(id) = name.and_then(|name| self.symbols.id(name)) {
            tick.symbol = id;
        }
        if missed > 0 {
            // After a hole no quote is known: an empty one says that.
            let none = (Price::ZERO, 0);
            self.ingress.offer_wait(Tick::quote(tick.symbol, tick.event_ns, none, none), || false);
        }
        self.ingress.offer_wait(tick, || false);
    }
}

/// Takes all messages off the logs; returns how many turned out to be lost meanwhile.
fn take_off(logs: Vec<SpillLog<Tick>>) -> Result<u64, CliError> {
    let mut lost = 0;
    for mut log in logs {
        let mut last = Instant::now();
        while log.is_pending() {
            let taken = log.replay(BATCH, |_| {});
            lost += log.take_lost();
            if taken > 0 {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                let left = grouped(log.pending());
                let text = format!(
                    "the bars are written, but {left} messages could not be taken off the log: they will be replayed again"
                );
                return Err(CliError::Runtime(text));
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
    Ok(lost)
}

fn told(report: &RecoveryReport, lost_late: u64, rows: u64, arguments: &Arguments, elapsed: Duration) -> String {
    let replayed = report.pending() - lost_late.min(report.pending());
    let [replayed_text, lost, rows] = [replayed, report.lost() + lost_late, rows].map(grouped);
    format!(
        "replayed         {replayed_text}\nlost             {lost}\nbars             {rows} → {}\n{}",
        arguments.bars.display(),
        summary::rate(replayed, elapsed)
    )
}
