//! `plimsoll demo`: a market day in a minute, without any input.
//!
//! The [`script`] feeds a pipeline with a slow handler; what happens is shown on a [`screen`], or in lines where there is no terminal; and it
//! ends with a verdict, the ledger, and a report.

mod screen;
mod script;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use plimsoll::spill::{AtShutdown, SpillConfig};
use plimsoll::{
    Context, DegradationThresholds, Handler, MemorySource, MemoryUse, Pipeline, PipelineBuilder, ProcessMemory,
    StartError, Symbols, Tick,
};

use super::output::OutputFile;
use super::recording::{Recorder, Recording, Row};
use super::report::Report;
use super::signal::StopFlag;
use super::{CliError, summary, verdict};
use screen::Screen;
use script::{CHAPTERS, News, Script};

/// Show a market day in a minute: the cascade at work.
///
/// A feed of all tiers, and a worker that manages 50 000 messages a second. The open, the news, a batch job that takes memory, a flash crash and the close take the
/// level up to CIRCUIT_BREAK and back to NORMAL; each transition is shown with its cause, and what is spilled is replayed. It needs no input, and ends
/// with a verdict and a report. Thresholds are scaled down, as are the cooldown and the memory; the spill log is in a
/// temporary directory, which is removed at the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// In a quarter of the time
    #[arg(long)]
    quick: bool,
    /// Plain lines, also on a terminal
    #[arg(long)]
    plain: bool,
    /// Where to write the report
    #[arg(long, value_name = "FILE.html", default_value = DEFAULT_REPORT)]
    report: PathBuf,
    /// No report
    #[arg(long, conflicts_with = "report")]
    no_report: bool,
}

const DEFAULT_REPORT: &str = "plimsoll-demo.html";

/// What the handler takes for a message, and what enrichment takes beside that: 50 000 messages a second at NORMAL, 83 000 from SOFT on.
const PROCESS: Duration = Duration::from_micros(12);
const ENRICH: Duration = Duration::from_micros(8);

/// How fast the day goes by: everything that is a time, or a number of messages that wait, is so much smaller.
#[derive(Clone, Copy, Debug)]
struct Pace(f64);

impl Pace {
    fn time(self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.0)
    }

    fn thresholds(self) -> DegradationThresholds {
        let [lag_soft, lag_graceful, lag_aggressive, lag_circuit_break] =
            [20_000.0, 60_000.0, 120_000.0, 300_000.0].map(|lag| (lag * self.0) as u64);
        DegradationThresholds {
            lag_soft,
            lag_graceful,
            lag_aggressive,
            lag_circuit_break,
            recovery_cooldown_seconds: 2.0 * self.0,
            ..DegradationThresholds::default()
        }
    }
}

/// A handler that takes its time, until an end is asked for.
struct SlowHandler(StopFlag);

impl SlowHandler {
    fn work(&self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time && !self.0.is_raised() {
            std::hint::spin_loop();
        }
    }
}

impl Handler<Tick> for SlowHandler {
    fn enrich(&mut self, _: &mut Tick, _: &Context) {
        self.work(ENRICH);
    }

    fn process(&mut self, _: &Tick, _: &Context) {
        self.work(PROCESS);
    }
}

/// A directory for the spill log, gone when the demo is.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("plimsoll-demo-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process's own memory, against a limit that is as much larger as makes the day's batch job a trouble.
struct DemoMemory {
    process: ProcessMemory,
    limit_bytes: u64,
}

/// Share of the limit that is in use before the day begins.
const MEMORY_AT_FIRST: f64 = 0.35;

impl MemorySource for DemoMemory {
    fn sample(&mut self) -> MemoryUse {
        let used_bytes = self.process.sample().used_bytes;
        if self.limit_bytes == 0 {
            self.limit_bytes = (used_bytes as f64 / MEMORY_AT_FIRST) as u64;
        }
        MemoryUse { used_bytes, limit_bytes: self.limit_bytes }
    }
}

type DemoPipeline = Pipeline<Tick, SlowHandler>;

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let stop = StopFlag::install()?;
    let report = open_report(arguments)?;
    let pace = Pace(if arguments.quick { 0.25 } else { 1.0 });
    let symbols = Arc::new(Symbols::default());
    let script = Script::new(&symbols, pace)?;
    // Declared before the pipeline, so that it goes after it.
    let scratch = Scratch::create();
    let (mut pipeline, spills) = start(&symbols, pace, &stop, &scratch)?;
    let begun = SystemTime::now();
    let recorder = Recorder::start(pipeline.control(), pace.time(0.2))?;
    let ingress = pipeline.ingress().expect("the builder's default is one producer");
    let (control, told) = (pipeline.control(), stop.clone());
    let (feed, news) = script.play(ingress, control, told)?;
    let use_screen = !arguments.plain && io::stdout().is_terminal();
    let shown = if use_screen { watch(&recorder, &news, pace, &stop) } else { tell(&recorder, &news, pace) };
    let played = feed.join().unwrap_or_else(|_| Err("the feed's thread has panicked".to_owned()));
    let finished = pipeline.join().map_err(|error| CliError::Runtime(error.to_string()))?;
    let recording = recorder.finish();
    shown?;
    let mut text = String::new();
    if use_screen {
        text = recording.transitions.iter().map(|transition| summary::transition(transition) + "\n").collect();
    }
    text += &format!("\n{}\n{}", summary::ledger(&finished.ledger, spills), verdict::table(&finished.ledger));
    text += &format!("\n{}\n", verdict::sentence(&finished.ledger));
    if let Some((path, file)) = report {
        let subject = format!("a market day in {:.0} s", 60.0 * pace.0);
        let configuration = configuration(&recording.thresholds);
        Report { title: "Plimsoll demo", subject, begun, recording: &recording, configuration }.write(file)?;
        text += &format!("Pictures and figures: {}\n", path.display());
    }
    say(&text)?;
    if stop.is_raised() {
        say("Stopped by a signal.\n")?;
        return finished.ledger.check().map_err(|error| CliError::Runtime(error.to_string()));
    }
    played.map_err(CliError::Runtime)?;
    finished.ledger.check().map_err(|error| CliError::Runtime(error.to_string()))
}

/// The report's file. One that was not asked for is done without where it cannot be written.
fn open_report(arguments: &Arguments) -> Result<Option<(&Path, OutputFile)>, CliError> {
    if arguments.no_report {
        return Ok(None);
    }
    match OutputFile::create(&arguments.report) {
        Ok(file) => Ok(Some((&arguments.report, file))),
        Err(error) if arguments.report == Path::new(DEFAULT_REPORT) => {
            say(&format!("There will be no report, since it cannot be written here: {error}\n\n"))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// With a spill log in the directory, if that can be had, else without; returns whether with.
fn start(
    symbols: &Arc<Symbols>,
    pace: Pace,
    stop: &StopFlag,
    scratch: &io::Result<Scratch>,
) -> Result<(DemoPipeline, bool), CliError> {
    let start = |spill: Option<SpillConfig>| {
        let builder = match spill {
            Some(config) => PipelineBuilder::new().spill(config),
            None => PipelineBuilder::new(),
        };
        builder
            .thresholds(pace.thresholds())
            .symbols(Arc::clone(symbols))
            // So that the memory does not tell of lanes that fill for the first time.
            .prefault(true)
            .memory_source(DemoMemory { process: ProcessMemory::new(), limit_bytes: 0 })
            .start(|_| SlowHandler(stop.clone()))
    };
    let why = match scratch {
        Ok(Scratch(dir)) => match start(Some(spill_config(dir.clone()))) {
            Ok(pipeline) => return Ok((pipeline, true)),
            Err(StartError::Spill(error)) => error.to_string(),
            Err(error) => return Err(error.into()),
        },
        Err(error) => format!("{}: {error}", std::env::temp_dir().display()),
    };
    say(&format!("There is no spill log, so what would be spilled is shed: {why}\n\n"))?;
    Ok((start(None)?, false))
}

fn spill_config(dir: PathBuf) -> SpillConfig {
    SpillConfig {
        segment_bytes: 4 << 20,
        budget_bytes: 192 << 20,
        free_space_floor_bytes: 0,
        at_shutdown: AtShutdown::Replay,
        ..SpillConfig::new(dir)
    }
}

/// What the demo runs with, as a file would have it.
fn configuration(thresholds: &DegradationThresholds) -> String {
    let section = toml::to_string(thresholds).unwrap_or_default();
    format!("[thresholds]\n{section}\n# The handler takes 12 µs a message, and 8 µs more with enrichment.\n")
}

/// Shows the day on a screen until it is over.
fn watch(recorder: &Recorder, news: &Receiver<News>, pace: Pace, stop: &StopFlag) -> Result<(), CliError> {
    let mut terminal = ratatui::try_init().map_err(CliError::stdout)?;
    let mut screen = Screen::new(pace);
    let shown = loop {
        let is_over = match news.recv_timeout(screen::INTERVAL) {
            Ok(News::Chapter(number)) => {
                screen.chapter(number);
                false
            }
            Ok(News::Replay) => {
                screen.replay();
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        let drawn = terminal.draw(|frame| screen.draw(frame, &recorder.recording()));
        if let Err(error) = drawn.and_then(|_| screen::wants_end().map(|wants_end| wants_end.then(|| stop.raise()))) {
            stop.raise();
            break Err(CliError::stdout(error));
        }
        if is_over {
            break Ok(());
        }
    };
    ratatui::restore();
    shown
}

/// Tells of the day in lines until it is over.
fn tell(recorder: &Recorder, news: &Receiver<News>, pace: Pace) -> Result<(), CliError> {
    say("A market day: one worker that manages 50 000 messages/s, and a feed of all tiers.\n")?;
    let interval = pace.time(1.0);
    let (mut told, mut next_line) = (0, Instant::now() + interval);
    loop {
        let heard = news.recv_timeout(Duration::from_millis(50));
        for transition in recorder.recording().transitions.split_at(told).1 {
            told += 1;
            say(&format!("{}\n", summary::transition(transition)))?;
        }
        match heard {
            Ok(News::Chapter(number)) => say(&format!("{}\n", CHAPTERS[number].headline()))?,
            Ok(News::Replay) => say(&format!("{}\n", script::REPLAY))?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if Instant::now() >= next_line {
            next_line += interval;
            let line = recorder.recording().rows.last().map(state);
            say(&line.unwrap_or_default())?;
        }
    }
}

/// Where everything is, in a line.
fn state(row: &Row) -> String {
    let sum = |pick: fn(&plimsoll::PriorityLedger) -> u64| row.by_priority.iter().map(pick).sum::<u64>();
    let counts = [
        row.lag,
        sum(plimsoll::PriorityLedger::processed),
        row.spill_pending,
        sum(|part| part.shed),
        sum(|part| part.refused),
    ];
    let [lag, processed, pending, shed, refused] = counts.map(summary::grouped);
    let (at, level, memory) = (row.at.as_secs_f64(), row.level, row.memory_pct);
    format!(
        "{at:>8.2} s    {level:<13} lag {lag:>7}  memory {memory:>4.0} %  processed {processed:>9}  spilled, waiting {pending:>7}  shed \
         {shed:>7}  refused {refused:>9}\n"
    )
}

fn say(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::stdout)
}
