//! `plimsoll simulate`: what thresholds would have made of a recorded trace, or make of a storm.

mod csv;
mod model;
pub(super) mod outcome;
mod prometheus;
mod trace;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use plimsoll::simulation::{Conditions, Model, Scenario, Simulation};
use plimsoll::{DegradationManager, DegradationThresholds, Transition};

use super::CliError;
use super::output::OutputFile;
use super::picture::{self, Marks, Size, Watched, standalone, svg};
use crate::config::{Config, Loader};
pub(super) use model::ModelFlags;
use outcome::{Outcome, of_simulation, of_trace};
pub(super) use trace::Trace;

/// Try thresholds on a recorded trace, or in a storm.
///
/// A trace has lag and memory over time: a CSV file with the columns t_ms, lag and heap_pct, or what a Prometheus range query gives of `k2_*`. Plainly
/// it is printed with the level (0 to 4) that each sample leads to; with --summary, or several sets of thresholds, what each of them
/// would have come to. The very state machine of `run`, on the trace's clock.
///
/// Signals of a trace are what they were, whatever the level. In closed loop (--closed, --scenario) they follow from it: what was
/// offered goes through a model of the pipeline, in simulated time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll simulate --trace incident.csv --config candidate.toml > levels.csv
  plimsoll simulate --trace incident.csv --config now.toml --config candidate.toml --svg incident.svg
  curl -G http://prometheus:9090/api/v1/query_range --data-urlencode 'query={__name__=~\"k2_.+\"}' \\
      -d start=2026-03-02T09:55:00Z -d end=2026-03-02T10:30:00Z -d step=1s > incident.json
  plimsoll simulate --trace incident.json --summary
  plimsoll simulate --scenario flash-crash --cost 8us --workers 2 --config plimsoll.toml --defaults")]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: LoadFlags,
    /// Thresholds and verdicts, as in a configuration file; may be given several times [default: the defaults, and those that the trace tells of]
    #[arg(long, value_name = "FILE.toml")]
    config: Vec<PathBuf>,
    /// The default thresholds beside those of --config
    #[arg(long)]
    defaults: bool,
    /// What each set would have come to, in place of samples
    #[arg(long)]
    summary: bool,
    /// The same as JSON
    #[arg(long, conflicts_with = "samples")]
    json: bool,
    /// Samples with their levels, in place of a summary
    #[arg(long, conflicts_with = "summary")]
    samples: bool,
    /// Where to draw the signals, and the level of each set over time
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Offer what the trace tells was offered to a model of the pipeline
    #[arg(long, requires = "trace")]
    closed: bool,
    #[command(flatten)]
    model: ModelFlags,
}

/// What a pipeline is up against.
#[derive(Debug, clap::Args)]
pub(super) struct LoadFlags {
    /// A recorded trace: CSV with t_ms in milliseconds, ascending; lag in messages; heap_pct in percent. Or a Prometheus range query's JSON
    #[arg(long, value_name = "FILE", required_unless_present = "scenario", conflicts_with = "scenario")]
    pub(super) trace: Option<PathBuf>,
    /// Of the trace's processes, the one with this label `instance`
    #[arg(long, value_name = "HOST:PORT", requires = "trace")]
    pub(super) instance: Option<String>,
    /// A storm, in closed loop
    #[arg(long, value_name = "NAME")]
    pub(super) scenario: Option<ScenarioName>,
}

/// A scenario, as the command line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScenarioName(pub(super) Scenario);

impl ValueEnum for ScenarioName {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [ScenarioName; 5] = {
            let [a, b, c, d, e] = Scenario::ALL;
            [ScenarioName(a), ScenarioName(b), ScenarioName(c), ScenarioName(d), ScenarioName(e)]
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            Scenario::TenTimesLoad => "100 000 → 1 million messages a second for an hour",
            Scenario::FlashCrash => "100 000 → 10 million messages a second for ten seconds",
            Scenario::SlowDownstream => "The handler takes ten times as long for five minutes",
            Scenario::DiskFull => "Ten times the load for a minute, and no room for what is spilled",
            Scenario::Oscillating => "260 000 and 60 000 messages a second in turn, for ten minutes",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

/// A set of thresholds, and what goes with it.
struct Set {
    name: String,
    config: Config,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let is_plain = arguments.config.len() <= 1
        && !(arguments.defaults || arguments.summary || arguments.json || arguments.closed || arguments.svg.is_some());
    match &arguments.load.trace {
        Some(path) if is_plain && !trace::is_json(path)? => {
            return stream(path, arguments.config.first().map(PathBuf::as_path));
        }
        _ => {}
    }
    let picture = arguments.svg.as_deref().map(OutputFile::create).transpose()?;
    let load = Load::open(&arguments.load)?;
    let sets = sets(arguments, &load)?;
    let is_closed = arguments.closed || arguments.load.scenario.is_some();
    let with_samples = arguments.samples || (is_plain && !is_closed);
    if with_samples && sets.len() > 1 {
        return Err(CliError::Usage(
            "samples are of one set of thresholds, and there are several: leave --samples away".to_owned(),
        ));
    }
    let mut samples = String::from("t_ms,lag,heap_pct,level\n");
    // Of the first set; a closed loop makes its own.
    let mut water = Vec::new();
    let mut outcomes = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        let mut note = |at: Duration, lag: u64, memory_pct: f64, level: u8| {
            if with_samples {
                samples += &format!("{},{lag},{memory_pct},{level}\n", at.as_secs_f64() * 1000.0);
            }
            if i == 0 {
                water.push((at.as_secs_f64(), lag as f64, memory_pct));
            }
        };
        outcomes.push(if is_closed {
            load.closed(set, &arguments.model, &mut note)?
        } else {
            load.open_loop(set, &mut note)?
        });
    }
    let text = match (with_samples, arguments.json) {
        (true, _) => samples,
        (false, true) => outcome::json(&outcomes),
        (false, false) => outcome::table(&outcomes),
    };
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)?;
    match (picture, sets.first()) {
        (Some(file), Some(first)) => {
            let text = drawn(&load.name(), &water, &first.config.thresholds, &outcomes);
            file.finish(|out| out.write_all(text.as_bytes()))
        }
        _ => Ok(()),
    }
}

/// A trace in CSV, sample by sample, however long it is.
fn stream(path: &Path, config: Option<&Path>) -> Result<(), CliError> {
    let config = Loader::new(config).load()?.config;
    let mut manager = manager(&config)?;
    let mut rows = csv::Rows::open(path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "t_ms,lag,heap_pct,level").map_err(CliError::stdout)?;
    while let Some(point) = rows.next()? {
        let level = manager.check_and_degrade(point.at, point.lag, point.memory_pct);
        let [t_ms, lag, heap_pct] = rows.texts();
        writeln!(out, "{t_ms},{lag},{heap_pct},{}", level.value()).map_err(CliError::stdout)?;
    }
    out.flush().map_err(CliError::stdout)
}

fn manager(config: &Config) -> Result<DegradationManager, CliError> {
    let manager = DegradationManager::new(config.thresholds, config.symbol_tiers());
    let mut manager = manager.map_err(|error| CliError::Config(error.to_string()))?;
    manager.set_signals(config.signals.signals()).map_err(|error| CliError::Config(error.to_string()))?;
    Ok(manager)
}

/// The sets to compare: those that are given, what the trace tells of, the defaults.
fn sets(arguments: &Arguments, load: &Load) -> Result<Vec<Set>, CliError> {
    let mut sets = Vec::new();
    for path in &arguments.config {
        let config = Loader::new(Some(path)).load()?.config;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        sets.push(Set { name, config });
    }
    let recorded = match load {
        Load::Trace { trace, .. } if sets.is_empty() => trace.thresholds,
        _ => None,
    };
    if let Some(thresholds) = recorded {
        let mut config = Loader::new(None).load()?.config;
        config.thresholds = thresholds;
        sets.push(Set { name: "as recorded".to_owned(), config });
    }
    if sets.is_empty() || arguments.defaults {
        sets.push(Set { name: "defaults".to_owned(), config: Loader::new(None).load()?.config });
    }
    Ok(sets)
}

/// What a pipeline is up against, read.
pub(super) enum Load {
    Scenario(Scenario),
    Trace { name: String, trace: Trace },
}

/// Called with each sample: when, lag, memory in percent, level.
type Note<'a> = &'a mut dyn FnMut(Duration, u64, f64, u8);

impl Load {
    pub(super) fn open(flags: &LoadFlags) -> Result<Self, CliError> {
        match (&flags.trace, flags.scenario) {
            (Some(path), _) => Self::of_trace(path, flags.instance.as_deref()),
            (None, Some(ScenarioName(scenario))) => Ok(Self::Scenario(scenario)),
            (None, None) => Err(CliError::Usage("there is nothing to simulate: give --trace or --scenario".to_owned())),
        }
    }

    pub(super) fn of_trace(path: &Path, instance: Option<&str>) -> Result<Self, CliError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self::Trace { name, trace: Trace::read(path, instance)? })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Scenario(scenario) => scenario.name().to_owned(),
            Self::Trace { name, .. } => name.clone(),
        }
    }

    /// How long it takes.
    pub(super) fn length(&self) -> Duration {
        match self {
            Self::Scenario(scenario) => scenario.length(),
            Self::Trace { trace, .. } => trace.length(),
        }
    }

    /// Messages a second that a pipeline was seen to manage.
    pub(super) fn capacity(&self) -> Option<f64> {
        match self {
            Self::Scenario(_) => None,
            Self::Trace { trace, .. } => trace.capacity(),
        }
    }

    /// `capacity`: messages a second that the pipeline manages.
    pub(super) fn conditions(&self, at: Duration, capacity: f64) -> Conditions {
        match self {
            Self::Scenario(scenario) => scenario.conditions(at),
            Self::Trace { trace, .. } => trace.conditions(at, capacity),
        }
    }

    /// The model of a pipeline with these settings, and the messages a second that it manages.
    pub(super) fn model(&self, config: &Config, flags: &ModelFlags) -> Result<(Model, f64), CliError> {
        let mut model = flags.model(config, self.capacity());
        if let Self::Trace { trace, .. } = self {
            if flags.cost.is_none() && trace.capacity().is_none() {
                return Err(CliError::Usage(
                    "the trace does not tell how many messages a second were processed: say what one takes, by --cost"
                        .to_owned(),
                ));
            }
            // The memory is the trace's.
            (model.memory_base_pct, model.memory_pct_per_million) = (0.0, 0.0);
        }
        let capacity = 1e9 * model.workers as f64 / (model.process_ns + model.enrich_ns);
        Ok((model, capacity))
    }

    fn closed(&self, set: &Set, flags: &ModelFlags, note: Note<'_>) -> Result<Outcome, CliError> {
        let (model, capacity) = self.model(&set.config, flags)?;
        let simulation = Simulation::new(model, set.config.thresholds, set.config.verdicts.table());
        let simulation = simulation.map_err(|error| CliError::Config(error.to_string()))?;
        let simulation = simulation.with_signals(set.config.signals.signals());
        let mut simulation = simulation.map_err(|error| CliError::Config(error.to_string()))?;
        let (length, mut peak_lag) = (self.length(), 0);
        while simulation.now() < length {
            let step = simulation.step(&self.conditions(simulation.now(), capacity));
            peak_lag = peak_lag.max(step.lag);
            note(step.at, step.lag, step.memory_pct, step.level.value());
        }
        Ok(of_simulation(set.name.clone(), &simulation, peak_lag))
    }

    fn open_loop(&self, set: &Set, note: Note<'_>) -> Result<Outcome, CliError> {
        let Self::Trace { trace, .. } = self else { unreachable!("a scenario is a closed loop") };
        let mut points = trace.points.iter();
        let mut manager = manager(&set.config)?;
        Ok(of_trace(set.name.clone(), trace, &mut manager, &set.config.verdicts.table(), |level| {
            if let Some(point) = points.next() {
                note(point.at, point.lag, point.memory_pct, level.value());
            }
        }))
    }
}

/// Signals on top, and a level's row for each set.
fn drawn(name: &str, water: &[(f64, f64, f64)], thresholds: &DegradationThresholds, outcomes: &[Outcome]) -> String {
    const WIDTH: u32 = 1060;
    let thin = thinned(water, 2 * WIDTH as usize);
    let first = outcomes.first().map_or("", |outcome| outcome.name.as_str());
    let size = Size { width: WIDTH, height: 280 };
    let points =
        |pick: fn(&(f64, f64, f64)) -> f64| -> Vec<_> { thin.iter().map(|point| (point.0, pick(point))).collect() };
    let (lag, memory) = (points(|point| point.1), points(|point| point.2));
    let first_signal = Watched { marks: Marks::of_lag(thresholds), points: &lag };
    let second = Watched { marks: Marks::of_memory(thresholds), points: &memory };
    let length = water.last().map_or(0.0, |point| point.0);
    let picture = svg(size, "lag and memory", |area| picture::water(area, size, length, first_signal, Some(second)));
    let heading = format!("Lag (line, marks at the left) and memory (dashes, marks at the right), thresholds: {first}");
    let mut parts = vec![(heading, size.height, picture)];
    for outcome in outcomes {
        let size = Size { width: WIDTH, height: 160 };
        let transitions: &[Transition] = outcome.timeline.transitions();
        let picture = svg(size, &outcome.name, |area| picture::levels(area, size, length, transitions));
        let heading =
            format!("{}: {} transitions, {} flaps", outcome.name, transitions.len(), outcome.timeline.flaps());
        parts.push((heading, size.height, picture));
    }
    standalone(&format!("plimsoll simulate: {name}"), WIDTH, &parts)
}

/// So many points at most: of each run of them the one with the highest lag, so that no peak goes.
fn thinned(points: &[(f64, f64, f64)], count: usize) -> Vec<(f64, f64, f64)> {
    let run = points.len().div_ceil(count).max(1);
    let highest = |run: &[(f64, f64, f64)]| run.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(run).filter_map(highest).collect()
}
