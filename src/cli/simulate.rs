//! `plimsoll simulate`: the level for each sample of a recorded trace.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use csv::StringRecord;
use plimsoll::DegradationManager;

use super::CliError;
use crate::config::Loader;

/// Compute the level for each sample of a recorded trace.
///
/// Reads a CSV trace with the columns t_ms, lag and heap_pct, and prints it with the level (0 to 4) that each sample leads
/// to. The very state machine of `run`, on the trace's clock.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plimsoll simulate --trace incident.csv --config candidate.toml > levels.csv")]
pub(crate) struct Arguments {
    /// The trace: t_ms in milliseconds, ascending; lag in messages; heap_pct in percent
    #[arg(long, value_name = "FILE.csv")]
    trace: PathBuf,
    /// Thresholds, as [thresholds] of a configuration file; the defaults without it
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

const COLUMNS: [&str; 3] = ["t_ms", "lag", "heap_pct"];

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let config = Loader::new(arguments.config.as_deref()).load()?.config;
    let manager = DegradationManager::new(config.thresholds, config.symbol_tiers());
    let mut manager = manager.map_err(|error| CliError::Config(error.to_string()))?;
    let mut trace = Trace::open(&arguments.trace)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "t_ms,lag,heap_pct,level").map_err(CliError::stdout)?;
    while let Some(sample) = trace.next()? {
        let level = manager.check_and_degrade(sample.at, sample.lag, sample.heap_pct);
        let [t_ms, lag, heap_pct] = trace.texts();
        writeln!(out, "{t_ms},{lag},{heap_pct},{}", level.value()).map_err(CliError::stdout)?;
    }
    out.flush().map_err(CliError::stdout)
}

/// A trace being read.
struct Trace<'a> {
    path: &'a Path,
    reader: csv::Reader<File>,
    /// Where in a row the three columns are.
    columns: [usize; 3],
    record: StringRecord,
    last: Duration,
}

/// One row.
struct Sample {
    at: Duration,
    lag: u64,
    heap_pct: f64,
}

impl<'a> Trace<'a> {
    fn open(path: &'a Path) -> Result<Self, CliError> {
        let file = File::open(path).map_err(|error| CliError::io(&path.display(), &error))?;
        // Lines end with a line feed; a carriage return before it is trimmed. Then the reader counts lines as editors do.
        let mut reader =
            csv::ReaderBuilder::new().terminator(csv::Terminator::Any(b'\n')).trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| in_file(path, &error))?.clone();
        let mut columns = [0; 3];
        for (place, name) in columns.iter_mut().zip(COLUMNS) {
            *place = header.iter().position(|column| column == name).ok_or_else(|| {
                let found = header.iter().collect::<Vec<_>>().join(",");
                CliError::Runtime(format!(
                    "{}:1: no column {name:?} in the header {found:?}: a trace has t_ms, lag and heap_pct",
                    path.display()
                ))
            })?;
        }
        Ok(Self { path, reader, columns, record: StringRecord::new(), last: Duration::ZERO })
    }

    fn next(&mut self) -> Result<Option<Sample>, CliError> {
        let read = self.reader.read_record(&mut self.record);
        if !read.map_err(|error| in_file(self.path, &error))? {
            return Ok(None);
        }
        let [t_ms, lag, heap_pct] = self.texts();
        let at = milliseconds(t_ms).ok_or_else(|| self.bad(0, "not milliseconds of 0 or more"))?;
        if at < self.last {
            return Err(self.bad(0, "earlier than the row before; a trace is ascending by time"));
        }
        let lag = lag.parse().map_err(|_| self.bad(1, "not a whole number of messages of 0 or more"))?;
        let heap_pct = heap_pct.parse().ok().filter(|pct: &f64| pct.is_finite());
        let heap_pct = heap_pct.ok_or_else(|| self.bad(2, "not a percentage"))?;
        self.last = at;
        Ok(Some(Sample { at, lag, heap_pct }))
    }

    /// The three columns of the row read last, as they stand there.
    fn texts(&self) -> [&str; 3] {
        self.columns.map(|column| self.record.get(column).unwrap_or_default())
    }

    fn bad(&self, which: usize, reason: &str) -> CliError {
        let line = self.record.position().map_or(0, csv::Position::line);
        let column = self.columns[which] + 1;
        CliError::Runtime(format!(
            "{}:{line}: column {column} ({}): {:?}: {reason}",
            self.path.display(),
            COLUMNS[which],
            self.texts()[which]
        ))
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(whole) => Some(Duration::from_millis(whole)),
        Err(_) => Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1000.0).ok(),
    }
}

fn in_file(path: &Path, error: &csv::Error) -> CliError {
    CliError::Runtime(format!("{}: {error}", path.display()))
}
