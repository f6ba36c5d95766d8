//! `plimsoll run`: feeds through the pipeline, into bars and books.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use plimsoll::source::PumpEnd;
use plimsoll::{
    DegradationLevel, MessagePriority, Pinning, Pipeline, PipelineBuilder, Symbols, Telemetry, Tick, WaitStrategy,
};

#[cfg(feature = "kafka")]
use super::kafka::Kafka;
use super::output::OutputFile;
use super::progress::Progress;
use super::recording::Recorder;
use super::report::Report;
use super::results::{ResultFlags, Results, Worker};
use super::service::{Reloader, Service, Shared};
use super::signal::StopFlag;
use super::supervise::Supervisor;
use super::{CliError, feeds, log, spilling, summary};
#[cfg(feature = "kafka")]
use crate::config::kafka::{self, KafkaFlags};
use crate::config::{
    Config, Feed, FeedFlags, FeedSection, Loaded, Loader, LogFormat, LogSection, OnPanic, Pin, SpillFlags,
    spill_settings,
};

/// Run feeds into bars, best bids and offers, and books.
///
/// Runs what the feeds bring through the pinned workers under the live cascade, and accounts for every
/// message. Ctrl-C ends the feeds, finishes what was accepted, and still writes all results; a second Ctrl-C ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll run --format itch --input day.itch.gz --bars bars.csv --bbo bbo.csv
  plimsoll run --format pcap --input day.pcap --port 26400 --port 26401 --pace realtime --bars bars.csv
  plimsoll run --format mold --listen 233.54.12.111:26477 --listen 233.49.196.111:26477 --bbo -
  plimsoll run --format csv --input - --column price=Px --time rfc3339 --bars bars.csv
  plimsoll run --format asx --input ticks/ --bars bars.csv --pace x100 --spill /var/spool/plimsoll
  plimsoll run --config plimsoll.toml --ledger ledger.json --metrics 127.0.0.1:9100")]
pub(crate) struct Arguments {
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
    /// Address to serve metrics, status and the live page on: /, /metrics, /status.json, /livez, /readyz
    #[arg(long, alias = "http", value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Where to make the socket for `plimsoll ctl`
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// How log events are written
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Thresholds, tiers and more, see `plimsoll init`; flags override it
    #[arg(long, value_name = "FILE.toml", env = "PLIMSOLL_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    feed: FeedFlags,
    #[cfg(feature = "kafka")]
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    results: ResultFlags,
    /// Where to write a report of the run, when it is over: one page with pictures and figures
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    spill: SpillFlags,
}

/// Between two rows of a report, at first; of a long run they become fewer.
const ROW_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    arguments.results.check()?;
    let loader = Loader::new(arguments.config.as_deref());
    let loaded = loader.load()?;
    let report = arguments.report.as_deref().map(OutputFile::create).transpose()?;
    let configuration = super::config::show(&loaded, false);
    let Loaded { config, table, warnings, .. } = loaded;
    log::start(LogSection::FILTER, &config.log, arguments.log_format);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    #[cfg(feature = "kafka")]
    let kafka = kafka_settings(arguments, &config)?;
    #[cfg(feature = "kafka")]
    let has_kafka = kafka.is_some();
    #[cfg(not(feature = "kafka"))]
    let has_kafka = false;
    let sections = if has_kafka { Vec::new() } else { feed_sections(arguments, &config)? };
    let spill = spill_settings(config.spill.as_ref(), &arguments.spill)?;
    let stop = StopFlag::install()?;
    let telemetry = Telemetry::new(&config.labels).map_err(|error| CliError::Runtime(error.to_string()))?;
    let symbols = Arc::new(Symbols::new(config.symbol_tiers(), Symbols::DEFAULT_CAPACITY));
    // All that can fail comes before the start, which begins to replay what an earlier run has left in the spill log.
    let open = |(i, section): (usize, &FeedSection)| section.open(i + 1, &symbols);
    let feeds = sections.iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?;
    check_names(&feeds)?;
    let workers = arguments.workers.or(config.pipeline.workers).unwrap_or(1);
    #[cfg(feature = "kafka")]
    let has_sink = kafka.as_ref().is_some_and(|settings| settings.sink.is_some());
    #[cfg(feature = "kafka")]
    if config.supervision.on_panic == OnPanic::RestartWorker && has_sink {
        return Err(CliError::Config(
            "[supervision] on_panic = \"restart-worker\" is not for a run with a Kafka sink: what its handler had not handed over \
             would be missing from the topic; leave it at \"stop\", and let a supervisor start the process again"
                .to_owned(),
        ));
    }
    #[cfg(feature = "kafka")]
    let mut kafka = kafka.map(|settings| Kafka::open(settings, &symbols, workers)).transpose()?;
    let results = Results::open(&arguments.results, &symbols, workers)?;
    let books = results.books.as_ref();
    let listening: Vec<_> = feeds.iter().map(|feed| (feed.name.clone(), feed.listening.clone())).collect();
    let rebuilt = |feed| if let Some(books) = books { books.rebuild(feed) } else { feed };
    #[allow(unused_mut, reason = "not without Kafka")]
    let mut feeds: Vec<_> = feeds.into_iter().map(|feed| feeds::Runner::from(rebuilt(feed))).collect();
    #[cfg(feature = "kafka")]
    feeds.extend(kafka.as_mut().and_then(Kafka::runner));
    let counts = feeds::counts(&feeds);
    let reloader = Reloader::new(loader, table, config.http.not_ready_from);
    let shared = Shared::new(telemetry.clone(), counts.clone(), reloader, stop.clone())?;
    let socket = arguments.control.as_deref().or(config.control.socket.as_deref());
    let service = Service::start(arguments.metrics.or(config.http.listen), socket, shared)?;
    let mut builder = spilling::with(builder(arguments, &config).workers(workers), spill.as_ref())
        .producers(feeds.len())
        .symbols(Arc::clone(&symbols))
        .telemetry(telemetry);
    #[cfg(feature = "kafka")]
    if let Some(kafka) = &kafka {
        let lane_capacity = arguments.lane_capacity.or(config.pipeline.lane_capacity);
        builder = kafka.build(builder, &config.thresholds, lane_capacity);
    }
    for (name, counters) in &counts {
        builder = builder.feed(name, Arc::clone(counters));
    }
    for counters in books.iter().flat_map(|books| books.counters()) {
        builder = builder.books(Arc::clone(counters));
    }
    let make = results.maker();
    #[cfg(feature = "kafka")]
    let make = match &kafka {
        Some(kafka) => make.with_sinks(kafka.sinks(workers)),
        None => make,
    };
    let make = move |number| make.worker(number);
    let mut pipeline: Pipeline<Tick, Worker> = match config.supervision.on_panic {
        OnPanic::Stop => builder.start(make)?,
        OnPanic::RestartWorker => builder.start_restarting(make)?,
    };
    service.started(pipeline.control());
    let begun = SystemTime::now();
    let recorder = match report {
        Some(file) => Some((file, Recorder::start(pipeline.control(), ROW_INTERVAL)?)),
        None => None,
    };
    if let Some(address) = service.address() {
        let _ = writeln!(io::stderr(), "metrics on http://{address}/metrics\nlive page on http://{address}/");
    }
    if let Some(socket) = socket {
        let _ = writeln!(io::stderr(), "control socket: {}", socket.display());
    }
    for (name, addresses) in listening.iter().filter(|(_, addresses)| !addresses.is_empty()) {
        let addresses: Vec<_> = addresses.iter().map(|address| address.to_string()).collect();
        let _ = writeln!(io::stderr(), "feed {name} listens on {}", addresses.join(" and "));
    }
    if let (Some(spill), Some(recovery)) = (&spill, pipeline.recovery()) {
        let _ = io::stderr().write_all(spilling::found(&spill.dir, recovery).as_bytes());
    }

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut supervisor = Supervisor::new(pipeline.control(), stop.clone(), config.supervision.stuck_after());
    let moved = feeds::run(feeds, &mut pipeline, &stop, |pipeline| {
        if let Some(books) = books {
            books.set_calm(pipeline.policy().level == DegradationLevel::Normal);
        }
        supervisor.look();
        progress.show(&counts, || pipeline.level().to_string());
    });
    progress.clear();
    // What Kafka has is not lost by a bound, and it wants an end in time.
    let ended = if has_kafka { pipeline.shutdown() } else { pipeline.join() };
    let elapsed = start.elapsed();
    let reported = recorder.map_or(Ok(()), |(file, recorder)| {
        let names: Vec<_> = counts.iter().map(|(name, _)| name.as_str()).collect();
        let subject = format!("plimsoll run of {}", names.join(", "));
        let report = Report { title: "Plimsoll run", subject, begun, recording: &recorder.finish(), configuration };
        report.write(file)
    });

    let mut text = String::new();
    let (ledger, workers, has_run) = match ended {
        Ok(finished) => {
            text += &summary::levels(finished.highest, finished.transition_count);
            text += &summary::latency(&finished.latency);
            (finished.ledger, finished.handlers, Ok(()))
        }
        Err(error) => ((*error.ledger).clone(), Vec::new(), Err(CliError::Runtime(error.to_string()))),
    };
    #[cfg(feature = "kafka")]
    let (workers, sunk) = sink(workers, kafka, &mut text);
    #[cfg(not(feature = "kafka"))]
    let sunk = Ok(());
    let are_in_workers = results.are_in_workers();
    let (told, written) = results.write(workers, &ledger, &counts);
    text = summary::ledger(&ledger, spill.is_some()) + &text + &told;
    if let Some(spill) = &spill {
        text += &spilling::left(&spill.dir, &ledger);
    }
    text += &feeds::summary(&counts);
    text += &summary::rate(ledger.processed(), elapsed);
    let printed = if arguments.results.use_stdout() {
        let _ = io::stderr().write_all(text.as_bytes());
        Ok(())
    } else {
        io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)
    };
    let restarts = ledger.workers.iter().map(|worker| worker.restarts).sum();
    let whole = if are_in_workers { check_whole(restarts) } else { Ok(()) };
    has_run.and(whole).and(supervisor.verdict()).and(written).and(sunk).and(reported).and(printed)?;
    tell_ends(moved?)
}

/// The settings of Kafka, if there are any; beside them, there are no feeds.
#[cfg(feature = "kafka")]
fn kafka_settings(arguments: &Arguments, config: &Config) -> Result<Option<kafka::KafkaSettings>, CliError> {
    let (source, sink) = (config.source.kafka.as_ref(), config.sink.kafka.as_ref());
    let (rows, interval) = (arguments.feed.section(), arguments.results.bar_interval);
    let settings = kafka::settings(source, sink, &arguments.kafka, rows, interval)?;
    if settings.is_some() && !config.feed.is_empty() {
        return Err(CliError::Usage(
            "the configuration has feeds, and there is Kafka: give one or the other".to_owned(),
        ));
    }
    Ok(settings)
}

/// Has the sink write what is left, now that no more ticks come.
#[cfg(feature = "kafka")]
fn sink(mut workers: Vec<Worker>, kafka: Option<Kafka>, text: &mut String) -> (Vec<Worker>, Result<(), CliError>) {
    workers.iter_mut().filter_map(|worker| worker.sink.as_mut()).for_each(|sink| sink.close_bars());
    let Some(kafka) = kafka else { return (workers, Ok(())) };
    let (counts, finished) = kafka.finish();
    *text += &counts;
    (workers, finished)
}

/// Whether results that workers make are whole.
fn check_whole(restarts: u64) -> Result<(), CliError> {
    if restarts == 0 {
        return Ok(());
    }
    Err(CliError::Runtime(format!(
        "handlers were made anew after a panic, {restarts} in all: bars and books of their workers begin there, and what came before is lost"
    )))
}

/// Says how the feeds ended, if not at their end.
fn tell_ends(ended: Vec<feeds::Ended>) -> Result<(), CliError> {
    if ended.iter().any(|(_, end)| matches!(end, Ok(PumpEnd::Stopped))) {
        let _ = writeln!(io::stderr(), "plimsoll: stopped when told to; results cover the stream up to there");
    }
    let several = ended.len() > 1;
    let failed = ended.into_iter().filter_map(|(name, end)| end.err().map(|error| (name, error)));
    let texts = failed.map(|(name, error)| if several { format!("feed {name}: {error}") } else { error.to_string() });
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() {
        return Ok(());
    }
    Err(CliError::Runtime(format!("{}\nplimsoll: results cover the stream up to there", texts.join("\nplimsoll: "))))
}

/// Two feeds of the same name could not be told apart in metrics and the ledger.
fn check_names(feeds: &[Feed]) -> Result<(), CliError> {
    for (i, feed) in feeds.iter().enumerate() {
        if feeds[..i].iter().any(|before| before.name == feed.name) {
            return Err(CliError::Config(format!("two feeds are called {}: give one another name", feed.name)));
        }
    }
    Ok(())
}

/// The feeds of the configuration, or the one of the flags.
fn feed_sections(arguments: &Arguments, config: &Config) -> Result<Vec<FeedSection>, CliError> {
    match (arguments.feed.section(), config.feed.is_empty()) {
        (Some(section), true) => Ok(vec![section]),
        (Some(_), false) => Err(CliError::Usage(
            "the configuration has feeds, and the flags tell of another: give one or the other".to_owned(),
        )),
        (None, false) => Ok(config.feed.clone()),
        (None, true) => {
            Err(CliError::Usage("there is no feed: give --format and --input, or a --config with [[feed]]".to_owned()))
        }
    }
}

fn builder(arguments: &Arguments, config: &Config) -> PipelineBuilder {
    let settings = &config.pipeline;
    let pin = arguments.pin.as_ref().or(settings.pin.as_ref());
    let mut builder = PipelineBuilder::new()
        .thresholds(config.thresholds)
        .verdicts(config.verdicts.table())
        .mode(settings.mode)
        .sample_interval(settings.sample_interval())
        .drain_timeout(settings.drain_timeout())
        .supervision(config.supervision.supervision())
        .pinning(pin.map_or(Pinning::Auto, |pin| pin.0.clone()))
        .prefault(settings.prefault);
    if let Some(capacity) = arguments.lane_capacity.or(settings.lane_capacity) {
        builder = builder.lane_capacity(capacity);
    }
    for (priority, gradual) in MessagePriority::ALL.into_iter().zip(config.gradual()) {
        builder = builder.gradual(priority, gradual);
    }
    builder = config.signals.signals().into_iter().fold(builder, PipelineBuilder::own_signal);
    if let Some(shadow) = config.shadow() {
        builder = builder.shadow(shadow);
    }
    if let Some(wait) = arguments.wait.or(settings.wait) {
        builder = builder.wait_strategy(wait);
    }
    builder
}
