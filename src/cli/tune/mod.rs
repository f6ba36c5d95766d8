//! `plimsoll tune`: thresholds for stated goals, found by trying them on traces and storms in closed loop.

mod search;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use plimsoll::DegradationThresholds;

use super::CliError;
use super::output::OutputFile;
use super::simulate::{Load, ModelFlags, ScenarioName};
use super::summary::{duration, grouped};
use crate::config::{Config, Loader, units};
use search::{Score, Trial, candidates, front, search};

/// Find thresholds for stated goals.
///
/// Tries some hundred sets of lag thresholds, recovery factors and cooldowns in closed loop, in simulated time, on traces and storms; memory thresholds stay
/// as they are. Of those that keep the goals it takes the one that sheds and refuses least, then spills least; and it shows what else there is to choose.
/// The same input gives the same answer. Try the answer in a dry run, or as shadow thresholds, before it is in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll tune --trace incident.json --critical-p99 50ms --transitions 20 --out tuned.toml
  plimsoll tune --scenario flash-crash --scenario oscillating --cost 8us --critical-p99 100ms --out tuned.toml")]
pub(crate) struct Arguments {
    /// A trace that tells what was offered, or from whose lag that can be made up: as of `simulate`; may be given several times
    #[arg(long, value_name = "FILE", required_unless_present = "scenario")]
    trace: Vec<PathBuf>,
    /// Of the traces' processes, the one with this label `instance`
    #[arg(long, value_name = "HOST:PORT")]
    instance: Option<String>,
    /// A storm; may be given several times
    #[arg(long, value_name = "NAME")]
    scenario: Vec<ScenarioName>,
    /// Goal: 99 of 100 CRITICAL messages are processed within this time
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    critical_p99: Option<NonZeroU64>,
    /// Goal: no more changes of level an hour, on average
    #[arg(long, value_name = "N")]
    transitions: Option<f64>,
    /// What is in force now: verdicts, memory thresholds, workers
    #[arg(long, value_name = "FILE.toml", env = "PLIMSOLL_CONFIG")]
    config: Option<PathBuf>,
    /// Where to write the thresholds, as a configuration
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelFlags,
}

/// Rows of the trade-off that are shown.
const SHOWN: usize = 12;
/// After a storm, so much of the calm is of interest; what was spilled may take longer.
const CALM: Duration = Duration::from_secs(120);

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let out = arguments.out.as_deref().map(OutputFile::create).transpose()?;
    let config = Loader::new(arguments.config.as_deref()).load()?.config;
    let loads = loads(arguments)?;
    let trials = loads.iter().map(|load| trial(load, &config, arguments)).collect::<Result<Vec<_>, _>>()?;
    let candidates = candidates(&config.thresholds);
    let bar = ProgressBar::new(candidates.len() as u64);
    let scores = search(&trials, &candidates, &config.verdicts.table(), |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    let scores = scores.map_err(|error| CliError::Config(error.to_string()))?;
    let keeps = |score: &Score| {
        arguments.critical_p99.is_none_or(|limit| score.critical_p99 <= limit.get())
            && arguments.transitions.is_none_or(|limit| score.transitions_per_hour <= limit)
    };
    let kept = (0..scores.len()).filter(|&i| keeps(&scores[i]));
    let best = kept.min_by(|&a, &b| scores[a].rank(&scores[b]).then(a.cmp(&b)));
    let names: Vec<_> = loads.iter().map(Load::name).collect();
    let mut text = format!(
        "{} sets of thresholds, tried on {}; goals: {}\n\n",
        grouped(candidates.len() as u64),
        names.join(", "),
        goals(arguments)
    );
    text += &table(&candidates, &scores, best, &keeps);
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)?;
    let Some(best) = best else {
        return Err(CliError::Runtime(
            "no set of thresholds keeps the goals: see above what there is to choose from, and give up one of them, or make the handler faster"
                .to_owned(),
        ));
    };
    match out {
        Some(file) => {
            let text = tuned(&candidates[best], &scores[best], &names, &goals(arguments));
            file.finish(|out| out.write_all(text.as_bytes()))
        }
        None => {
            let text = format!("\n{}", section(&candidates[best]));
            io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)
        }
    }
}

fn loads(arguments: &Arguments) -> Result<Vec<Load>, CliError> {
    let traces = arguments.trace.iter().map(|path| Load::of_trace(path, arguments.instance.as_deref()));
    let scenarios = arguments.scenario.iter().map(|ScenarioName(scenario)| Ok(Load::Scenario(*scenario)));
    traces.chain(scenarios).collect()
}

fn trial<'a>(load: &'a Load, config: &Config, arguments: &Arguments) -> Result<Trial<'a>, CliError> {
    let (model, capacity) = load.model(config, &arguments.model)?;
    let length = match load {
        Load::Scenario(scenario) => scenario.storm_end() + CALM,
        Load::Trace { .. } => load.length(),
    };
    Ok(Trial { model, length, conditions: Box::new(move |at| load.conditions(at, capacity)) })
}

fn goals(arguments: &Arguments) -> String {
    let mut goals = Vec::new();
    if let Some(limit) = arguments.critical_p99 {
        goals.push(format!("CRITICAL p99 ≤ {}", duration(limit.get())));
    }
    if let Some(limit) = arguments.transitions {
        goals.push(format!("transitions ≤ {limit} an hour"));
    }
    goals.push("shed and refuse as little as possible".to_owned());
    goals.join(", ")
}

/// The trade-off: the choice, what is in force now, and what none other beats.
fn table(
    candidates: &[DegradationThresholds],
    scores: &[Score],
    best: Option<usize>,
    keeps: &dyn Fn(&Score) -> bool,
) -> String {
    let mut rows: Vec<usize> = front(scores);
    // Spread over the whole of the trade-off, where it is long.
    let step = rows.len().div_ceil(SHOWN).max(1);
    rows = rows.into_iter().step_by(step).collect();
    rows.retain(|&i| Some(i) != best && i != 0);
    rows.splice(0..0, best.into_iter().filter(|&i| i != 0).chain([0]));
    let mut text = format!(
        "{:>9} {:>9} {:>10} {:>13} {:>6} {:>8} {:>11} {:>10} {:>8} {:>8} {:>9}\n",
        "soft",
        "graceful",
        "aggressive",
        "circuit_break",
        "factor",
        "cooldown",
        "CRIT p99",
        "changes/h",
        "given up",
        "spilled",
        "CRIT kept"
    );
    for i in rows {
        let (candidate, score) = (&candidates[i], &scores[i]);
        let note = match i {
            _ if Some(i) == best => "  ← the choice",
            0 if keeps(score) => "  now",
            0 => "  now: misses the goals",
            _ if keeps(score) => "",
            _ => "  misses the goals",
        };
        let p99 = if score.critical_p99 == 0 { "< 1 sample".to_owned() } else { duration(score.critical_p99) };
        let _ = writeln!(
            text,
            "{:>9} {:>9} {:>10} {:>13} {:>6} {:>6} s {p99:>11} {:>10.1} {:>6.2} % {:>6.2} % {:>7.2} %{note}",
            grouped(candidate.lag_soft),
            grouped(candidate.lag_graceful),
            grouped(candidate.lag_aggressive),
            grouped(candidate.lag_circuit_break),
            candidate.recovery_lag_factor,
            candidate.recovery_cooldown_seconds,
            score.transitions_per_hour,
            score.given_up * 100.0,
            score.spilled * 100.0,
            score.critical_kept * 100.0,
        );
    }
    text
}

fn section(thresholds: &DegradationThresholds) -> String {
    format!("[thresholds]\n{}\n", toml::to_string(thresholds).unwrap_or_default().trim_end())
}

/// A configuration with the choice.
fn tuned(thresholds: &DegradationThresholds, score: &Score, names: &[String], goals: &str) -> String {
    format!(
        "# Found by plimsoll tune on {}.\n# Goals: {goals}.\n# In simulation: CRITICAL p99 {}, {:.1} transitions an hour, {:.2} % of what was offered given up, {:.2} % \
         spilled.\n# Try it with `[pipeline] mode = \"observe\"`, or under [shadow.thresholds], first.\n{}",
        names.join(", "),
        if score.critical_p99 == 0 { "below a sample interval".to_owned() } else { duration(score.critical_p99) },
        score.transitions_per_hour,
        score.given_up * 100.0,
        score.spilled * 100.0,
        section(thresholds)
    )
}
