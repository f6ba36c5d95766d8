//! `plimsoll run`: a recorded feed through the pipeline, into bars.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use plimsoll::source::{AsxSource, OnBadRow, Pace, PumpEnd, Source, pump};
use plimsoll::{BarsHandler, Ledger, Pinning, Pipeline, PipelineBuilder, Symbols, Telemetry, Tick, WaitStrategy};

use super::metrics_server::MetricsServer;
use super::output::OutputFile;
use super::progress::Progress;
use super::signal::StopFlag;
use super::{CliError, summary};
use crate::config::{Config, Pin};

/// Process a recorded feed into bars.
///
/// Merges the feed's files by time, runs them through the pinned workers under the live cascade, and accounts for every
/// message. Ctrl-C ends the feed, finishes what was accepted, and still writes all results; a second Ctrl-C ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll run --format asx --input ticks/ --bars bars.csv
  plimsoll run --format asx --input ticks/ --bars bars.csv --pace x100 --metrics 127.0.0.1:9100")]
pub(crate) struct Arguments {
    /// Layout of the input
    #[arg(long, value_enum)]
    format: Format,
    /// Directory that holds it
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Where to write the bars, as CSV
    #[arg(long, value_name = "FILE")]
    bars: PathBuf,
    /// Length of a bar: a number and ns, us, ms, s, m or h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = interval)]
    bar_interval: NonZeroU64,
    /// How fast to play the feed: max, realtime, xN (N times as fast as recorded), N/s (messages a second)
    ///
    /// At `max` the feed waits where the pipeline is behind. At any other pace it does not: what is not accepted is gone.
    #[arg(long, default_value = "max")]
    pace: Pace,
    /// What to do about a malformed row
    #[arg(long, value_enum, default_value = "stop")]
    on_bad_row: OnBadRow,
    /// Worker threads [default: 1]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Messages that a lane holds; must exceed lag_circuit_break [default: that, and a twentieth more]
    #[arg(long, value_name = "N")]
    lane_capacity: Option<usize>,
    /// How workers wait for messages [default: spin-then-park]
    #[arg(long, value_enum)]
    wait: Option<WaitStrategy>,
    /// Cores to pin workers to: off, auto, or a list as in 1,2 [default: auto]
    #[arg(long)]
    pin: Option<Pin>,
    /// Where to write the ledger, as JSON
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Address to serve Prometheus metrics on, at /metrics
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Thresholds, tiers and more; flags override it
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// CSV files by company, in trades/, quotes/ and reference-data/
    Asx,
}

/// A time such as `60s`, in nanoseconds.
fn interval(text: &str) -> Result<NonZeroU64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ns = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => 0,
    };
    let ns = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ns));
    ns.and_then(NonZeroU64::new)
        .ok_or_else(|| "give a whole number above 0 and a unit: ns, us, ms, s, m or h".to_owned())
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    if arguments.ledger.as_ref() == Some(&arguments.bars) {
        let path = arguments.bars.display();
        return Err(CliError::Usage(format!("--bars and --ledger are both {path}: give them a file each")));
    }
    let config = Config::load(arguments.config.as_deref())?;
    let stop = StopFlag::install()?;
    let telemetry = Telemetry::new(&config.labels).map_err(|error| CliError::Runtime(error.to_string()))?;
    let symbols = Arc::new(Symbols::new(config.symbol_tiers(), Symbols::DEFAULT_CAPACITY));
    let interval = arguments.bar_interval;
    let mut pipeline: Pipeline<Tick, BarsHandler> = builder(arguments, &config)
        .symbols(Arc::clone(&symbols))
        .telemetry(telemetry.clone())
        .start(|_| BarsHandler::new(interval))?;
    let Format::Asx = arguments.format;
    let mut source = AsxSource::open(&arguments.input, &symbols, arguments.on_bad_row)?;
    let bars_file = OutputFile::create(&arguments.bars)?;
    let ledger_file = arguments.ledger.as_deref().map(OutputFile::create).transpose()?;
    let server = arguments.metrics.map(|address| MetricsServer::start(address, telemetry)).transpose()?;
    if let Some(server) = &server {
        let _ = writeln!(io::stderr(), "metrics on http://{}/metrics", server.address());
    }

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut ingress = pipeline.ingress().expect("the builder's default is one producer");
    let moved = pump(&mut source, &mut ingress, arguments.pace, |source| {
        progress.show(source, || pipeline.level().to_string());
        if stop.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(ingress);
    progress.clear();
    let ended = pipeline.join();
    let elapsed = start.elapsed();

    // Each result for itself: a failure of one takes none of the others along.
    let ledger = match &ended {
        Ok(finished) => finished.ledger.clone(),
        Err(error) => (*error.ledger).clone(),
    };
    let ledger_written = ledger_file.map_or(Ok(()), |file| write_ledger(file, &ledger, &source));
    let mut text = summary::ledger(&ledger);
    let bars_written = match ended {
        Ok(finished) => {
            text += &summary::levels(finished.highest, finished.transition_count);
            text += &summary::latency(&finished.latency);
            write_bars(bars_file, finished.handlers, &symbols).map(|rows| {
                let rows = summary::grouped(rows as u64);
                text += &format!("bars             {rows} → {}\n", arguments.bars.display());
            })
        }
        Err(error) => Err(CliError::Runtime(error.to_string())),
    };
    if source.skipped_rows() > 0 {
        text += &format!("skipped rows     {}\n", summary::grouped(source.skipped_rows()));
    }
    text += &summary::rate(ledger.processed(), elapsed);
    let printed = io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout);
    bars_written.and(ledger_written).and(printed)?;
    match moved {
        Ok(PumpEnd::Finished | PumpEnd::PipelineClosed) => Ok(()),
        Ok(PumpEnd::Stopped) => {
            let _ = writeln!(io::stderr(), "plimsoll: stopped by a signal; results cover the stream up to there");
            Ok(())
        }
        Err(error) => Err(CliError::Runtime(format!("{error}\nplimsoll: results cover the stream up to there"))),
    }
}

fn builder(arguments: &Arguments, config: &Config) -> PipelineBuilder {
    let settings = &config.pipeline;
    let pin = arguments.pin.as_ref().or(settings.pin.as_ref());
    let mut builder = PipelineBuilder::new()
        .workers(arguments.workers.or(settings.workers).unwrap_or(1))
        .thresholds(config.thresholds)
        .verdicts(settings.verdicts.table())
        .pinning(pin.map_or(Pinning::Auto, |pin| pin.0.clone()))
        .prefault(settings.prefault);
    if let Some(capacity) = arguments.lane_capacity.or(settings.lane_capacity) {
        builder = builder.lane_capacity(capacity);
    }
    if let Some(wait) = arguments.wait.or(settings.wait) {
        builder = builder.wait_strategy(wait);
    }
    builder
}

/// Writes the bars; returns how many.
fn write_bars(file: OutputFile, handlers: Vec<BarsHandler>, symbols: &Symbols) -> Result<usize, CliError> {
    let name = |id| symbols.name(id).map_or_else(|| format!("{id}"), |name| name.to_string());
    let bars = handlers.into_iter().flat_map(BarsHandler::into_bars).map(|(id, bars)| (name(id), bars));
    file.finish(|out| plimsoll::write_bars(out, bars).map_err(io::Error::from))
}

fn write_ledger(file: OutputFile, ledger: &Ledger, source: &dyn Source) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(&LedgerFile::of(ledger, source));
    let json = json.map_err(|error| CliError::Runtime(format!("ledger: {error}")))?;
    file.finish(|out| writeln!(out, "{json}"))
}

/// The ledger as it is written to a file.
#[derive(serde::Serialize)]
struct LedgerFile<'a> {
    #[serde(flatten)]
    ledger: &'a Ledger,
    processed: u64,
    balanced: bool,
    skipped_rows: u64,
    /// By tier, then by reason; zeros left out.
    shed_by: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

impl<'a> LedgerFile<'a> {
    fn of(ledger: &'a Ledger, source: &dyn Source) -> Self {
        let mut shed_by: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (tier, reason, count) in ledger.shed_by.iter().filter(|cell| cell.2 > 0) {
            shed_by.entry(tier.label()).or_default().insert(reason.label(), count);
        }
        Self {
            ledger,
            processed: ledger.processed(),
            balanced: ledger.check().is_ok(),
            skipped_rows: source.skipped_rows(),
            shed_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_number_and_a_unit() {
        assert_eq!(interval("60s"), interval("1m"));
        assert_eq!(interval("250ms").map(NonZeroU64::get), Ok(250_000_000));
        for text in ["", "s", "60", "0s", "-1s", "1.5s", "60 s", "99999999999h"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
