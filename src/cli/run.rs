//! `plimsoll run`: a recorded feed through the pipeline, into bars.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use plimsoll::source::{AsxSource, FeedCount, FeedCounters, OnMalformed, Pace, PumpEnd, Source, pump};
use plimsoll::{BarsHandler, Ledger, Pinning, Pipeline, PipelineBuilder, Symbols, Telemetry, Tick, WaitStrategy};

use super::metrics_server::MetricsServer;
use super::output::OutputFile;
use super::progress::Progress;
use super::signal::StopFlag;
use super::{CliError, spilling, summary};
use crate::config::{Config, Pin, SpillFlags, spill_settings, units};

/// Process a recorded feed into bars.
///
/// Merges the feed's files by time, runs them through the pinned workers under the live cascade, and accounts for every
/// message. Ctrl-C ends the feed, finishes what was accepted, and still writes all results; a second Ctrl-C ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll run --format asx --input ticks/ --bars bars.csv
  plimsoll run --format asx --input ticks/ --bars bars.csv --pace x100 --metrics 127.0.0.1:9100
  plimsoll run --format asx --input ticks/ --bars bars.csv --pace x100 --spill /var/spool/plimsoll")]
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
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::time)]
    bar_interval: NonZeroU64,
    /// How fast to play the feed: max, realtime, xN (N times as fast as recorded), N/s (messages a second)
    ///
    /// At `max` the feed waits where the pipeline is behind. At any other pace it does not: what is not accepted is gone.
    #[arg(long, default_value = "max")]
    pace: Pace,
    /// What to do about a malformed message or row
    #[arg(long, value_enum, default_value = "stop", alias = "on-bad-row")]
    on_malformed: OnMalformed,
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
    #[command(flatten)]
    spill: SpillFlags,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// CSV files by company, in trades/, quotes/ and reference-data/
    Asx,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    if arguments.ledger.as_ref() == Some(&arguments.bars) {
        let path = arguments.bars.display();
        return Err(CliError::Usage(format!("--bars and --ledger are both {path}: give them a file each")));
    }
    let config = Config::load(arguments.config.as_deref())?;
    let spill = spill_settings(config.spill.as_ref(), &arguments.spill)?;
    let stop = StopFlag::install()?;
    let telemetry = Telemetry::new(&config.labels).map_err(|error| CliError::Runtime(error.to_string()))?;
    let symbols = Arc::new(Symbols::new(config.symbol_tiers(), Symbols::DEFAULT_CAPACITY));
    let Format::Asx = arguments.format;
    // All that can fail comes before the start, which begins to replay what an earlier run has left in the spill log.
    let mut source = AsxSource::open(&arguments.input, &symbols, arguments.on_malformed)?;
    let bars_file = OutputFile::create(&arguments.bars)?;
    let ledger_file = arguments.ledger.as_deref().map(OutputFile::create).transpose()?;
    let server = arguments.metrics.map(|address| MetricsServer::start(address, telemetry.clone())).transpose()?;
    let interval = arguments.bar_interval;
    let mut pipeline: Pipeline<Tick, BarsHandler> = spilling::with(builder(arguments, &config), spill.as_ref())
        .symbols(Arc::clone(&symbols))
        .telemetry(telemetry)
        .start(|_| BarsHandler::new(interval))?;
    if let Some(server) = &server {
        let _ = writeln!(io::stderr(), "metrics on http://{}/metrics", server.address());
    }
    if let (Some(spill), Some(recovery)) = (&spill, pipeline.recovery()) {
        let _ = io::stderr().write_all(spilling::found(&spill.dir, recovery).as_bytes());
    }

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut ingress = pipeline.ingress().expect("the builder's default is one producer");
    let counters = Arc::clone(source.counters());
    let moved = pump(&mut source, &mut ingress, arguments.pace, || {
        progress.show(&counters, || pipeline.level().to_string());
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
    let ledger_written = ledger_file.map_or(Ok(()), |file| write_ledger(file, &ledger, &counters));
    let mut text = summary::ledger(&ledger, spill.is_some());
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
    if let Some(spill) = &spill {
        text += &spilling::left(&spill.dir, &ledger);
    }
    if counters.get(FeedCount::Malformed) > 0 {
        text += &format!("skipped rows     {}\n", summary::grouped(counters.get(FeedCount::Malformed)));
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
pub(super) fn write_bars(file: OutputFile, handlers: Vec<BarsHandler>, symbols: &Symbols) -> Result<usize, CliError> {
    let name = |id| symbols.name(id).map_or_else(|| format!("{id}"), |name| name.to_string());
    let bars = handlers.into_iter().flat_map(BarsHandler::into_bars).map(|(id, bars)| (name(id), bars));
    file.finish(|out| plimsoll::write_bars(out, bars).map_err(io::Error::from))
}

fn write_ledger(file: OutputFile, ledger: &Ledger, counters: &FeedCounters) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(&LedgerFile::of(ledger, counters));
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
    fn of(ledger: &'a Ledger, counters: &FeedCounters) -> Self {
        let mut shed_by: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (tier, reason, count) in ledger.shed_by.iter().filter(|cell| cell.2 > 0) {
            shed_by.entry(tier.label()).or_default().insert(reason.label(), count);
        }
        Self {
            ledger,
            processed: ledger.processed(),
            balanced: ledger.check().is_ok(),
            skipped_rows: counters.get(FeedCount::Malformed),
            shed_by,
        }
    }
}
