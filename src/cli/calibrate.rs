//! `plimsoll calibrate`: measures this host, and proposes thresholds with its reasons.

mod measure;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use plimsoll::{DegradationThresholds, PipelineBuilder, ProcessMemory, Tick};

use super::CliError;
use super::output::write_new;
use super::summary::{bytes, grouped};
use crate::config::{Config, Loader, SpillFlags, spill_settings, units};
use measure::{Capacity, Disk};

/// Measure this host and the configured handler, and propose thresholds.
///
/// A made-up market goes through the pipeline as fast as it will, into bars and books as chosen, with the workers, cores and wait strategy
/// of the configuration; then into its spill log, if there is one (in a directory of its own, which is removed). What comes out is a
/// configuration's [thresholds], with the reasoning as comments. Run it on the machine that it is for, while nothing else runs
/// there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll calibrate                                   # prints [thresholds]
  plimsoll calibrate --config plimsoll.toml --wait 5ms --handler bars
  plimsoll calibrate --spill /var/spool/plimsoll --out thresholds.toml")]
pub(crate) struct Arguments {
    /// Workers, cores, wait strategy and spill log
    #[arg(long, value_name = "FILE.toml", env = "PLIMSOLL_CONFIG")]
    config: Option<PathBuf>,
    /// What handles a message
    #[arg(long, value_enum, default_value_t = HandlerKind::Both)]
    handler: HandlerKind,
    /// How long a message may wait before anything is given up: SOFT begins there, GRACEFUL at 5 times, AGGRESSIVE at 10 times,
    /// CIRCUIT_BREAK at 50 times
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = units::time)]
    wait: NonZeroU64,
    /// How long each of three rounds of a measurement takes
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    round: NonZeroU64,
    /// Write it to a file, which must not be there, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    spill: SpillFlags,
}

/// What `run` makes of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HandlerKind {
    /// As run --bars
    Bars,
    /// As run --bbo or --book
    Books,
    /// Both
    Both,
}

/// Levels begin so many times the wait apart, as in the defaults.
const RATIOS: [u64; 4] = [1, 5, 10, 50];
/// Of the memory limit, what lanes may take when they are full.
const LANES_SHARE: f64 = 0.25;
/// Two blocks of a lane: below that a level would come and go with every burst.
const LAG_MIN: u64 = 512;

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let config = Loader::new(arguments.config.as_deref()).load()?.config;
    let spill = spill_settings(config.spill.as_ref(), &arguments.spill)?;
    let round = Duration::from_nanos(arguments.round.get());
    let mut err = io::stderr();
    let _ = writeln!(err, "measuring how much the handler takes: 3 rounds of {round:?} …");
    let capacity = measure::capacity(&config, arguments.handler, round)?;
    let disk = match &spill {
        None => None,
        Some(spill) => {
            let _ = writeln!(err, "measuring how much the spill log takes: 3 rounds of {round:?} …");
            Some(measure::disk(&config, spill, round)?)
        }
    };
    let proposal = Proposal::of(&config, capacity, Duration::from_nanos(arguments.wait.get()));
    let text = proposal.text(arguments, disk.as_ref())?;
    match &arguments.out {
        None => io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout),
        Some(path) => write_new(path, &text),
    }
}

/// What is proposed, and why.
struct Proposal {
    capacity: Capacity,
    wait: Duration,
    workers: usize,
    memory_limit: u64,
    memory_used: u64,
    /// Bytes of the lanes when they are full.
    lanes_bytes: u64,
    /// By how much lag thresholds were made smaller, so that the lanes fit.
    shrunk: Option<f64>,
    thresholds: DegradationThresholds,
}

impl Proposal {
    fn of(config: &Config, capacity: Capacity, wait: Duration) -> Self {
        let workers = config.pipeline.workers.unwrap_or(1);
        let (memory_limit, memory_used) = (ProcessMemory::new().limit_bytes(), capacity.memory_used);
        let wanted = RATIOS.map(|ratio| ((capacity.per_second * wait.as_secs_f64()) as u64).max(LAG_MIN) * ratio);
        let lanes_bytes = |lag_circuit_break: u64| {
            let (lag_soft, lag_graceful, lag_aggressive) = (1, 2, 3);
            let default = DegradationThresholds::default();
            let thresholds =
                DegradationThresholds { lag_soft, lag_graceful, lag_aggressive, lag_circuit_break, ..default };
            let builder = PipelineBuilder::new().workers(workers).thresholds(thresholds);
            builder.footprint::<Tick>().map_or(u64::MAX, |footprint| footprint.lanes)
        };
        let most = memory_limit as f64 * LANES_SHARE;
        let full = lanes_bytes(wanted[3]) as f64;
        let shrink = if memory_limit > 0 && full > most { most / full } else { 1.0 };
        let lag = RATIOS.map(|ratio| ((wanted[0] as f64 * shrink) as u64).max(LAG_MIN) * ratio);
        // Long enough to see whether a storm is over: ten times what it takes to work off a full lane.
        let drain = lag[3] as f64 / capacity.per_second;
        let thresholds = DegradationThresholds {
            lag_soft: round_to_two(lag[0]),
            lag_graceful: round_to_two(lag[1]),
            lag_aggressive: round_to_two(lag[2]),
            lag_circuit_break: round_to_two(lag[3]),
            recovery_cooldown_seconds: (10.0 * drain).ceil().clamp(5.0, 30.0),
            ..DegradationThresholds::default()
        };
        Self {
            capacity,
            wait,
            workers,
            memory_limit,
            memory_used,
            lanes_bytes: lanes_bytes(thresholds.lag_circuit_break),
            shrunk: (shrink < 1.0).then_some(shrink),
            thresholds,
        }
    }

    /// As a configuration.
    fn text(&self, arguments: &Arguments, disk: Option<&Disk>) -> Result<String, CliError> {
        let Self { capacity, wait, thresholds, .. } = self;
        thresholds
            .validated()
            .map_err(|error| CliError::Runtime(format!("what was measured makes no sense: {error}")))?;
        let handler = match arguments.handler {
            HandlerKind::Bars => "bars",
            HandlerKind::Books => "books",
            HandlerKind::Both => "bars and books",
        };
        let mut text = String::new();
        let mut say = |line: String| text += &format!("# {line}\n");
        say("Proposed by `plimsoll calibrate`, from what it measured on this machine.".to_owned());
        say(format!(
            "Capacity: {} messages/s through {} into {handler}, feed included (three rounds: {}).",
            grouped(capacity.per_second as u64),
            super::summary::counted(self.workers, "worker"),
            capacity.rounds.map(|rate| grouped(rate as u64)).join(", "),
        ));
        say(format!(
            "Memory: {} of {} were used meanwhile; a message that waits takes {} bytes of a lane.",
            bytes(self.memory_used),
            bytes(self.memory_limit),
            size_of::<Tick>() + 4,
        ));
        match disk {
            None => say("Disk: no spill log, so nothing was measured; give --spill DIR, or [spill] dir.".to_owned()),
            Some(disk) => say(format!(
                "Disk: the spill log takes {} messages/s, {}/s; its budget is full after {:.0} s of that.",
                grouped(disk.per_second as u64),
                bytes(disk.bytes_per_second as u64),
                disk.budget_bytes as f64 / disk.bytes_per_second.max(1.0),
            )),
        }
        text.push('\n');
        let mut say = |line: String| text += &format!("# {line}\n");
        say(format!(
            "A message waits for lag ÷ capacity. SOFT at {wait:?} of that is {} messages; the others as far apart as in the",
            grouped((capacity.per_second * wait.as_secs_f64()) as u64)
        ));
        say(format!(
            "defaults: 5, 10 and 50 times. At CIRCUIT_BREAK a message has waited for {:.2} s, and full lanes take {}.",
            thresholds.lag_circuit_break as f64 / capacity.per_second,
            bytes(self.lanes_bytes),
        ));
        if let Some(shrunk) = self.shrunk {
            say(format!(
                "They were made smaller, to {:.0} %, so that full lanes take no more than a quarter of the memory there is.",
                shrunk * 100.0
            ));
        }
        if thresholds.lag_soft == LAG_MIN {
            say(format!(
                "{LAG_MIN} is the least for SOFT: two blocks of a lane. With less, every burst would be a storm."
            ));
        }
        if let Some(disk) = disk.filter(|disk| disk.per_second < capacity.per_second) {
            say(format!(
                "The disk is slower than the handler: of a storm it keeps {} messages/s, and what is beyond that is shed.",
                grouped(disk.per_second as u64)
            ));
        }
        text.push_str("[thresholds]\n");
        let lag = [
            ("lag_soft", thresholds.lag_soft),
            ("lag_graceful", thresholds.lag_graceful),
            ("lag_aggressive", thresholds.lag_aggressive),
            ("lag_circuit_break", thresholds.lag_circuit_break),
        ];
        for (key, value) in lag {
            let _ = writeln!(text, "{key} = {}", grouped(value).replace(' ', "_"));
        }
        let share = (self.memory_used + self.lanes_bytes) as f64 / self.memory_limit.max(1) as f64 * 100.0;
        let calm = thresholds.heap_soft * thresholds.recovery_heap_factor;
        let _ = match share < calm {
            true => writeln!(
                text,
                "# With full lanes memory is at {share:.0} %, below the {calm:.0} % at which SOFT may be left: the defaults fit."
            ),
            false => writeln!(
                text,
                "# With full lanes memory is at {share:.0} %, and SOFT may be left below {calm:.0} %: give the process more memory."
            ),
        };
        for (key, value) in [
            ("heap_soft", thresholds.heap_soft),
            ("heap_graceful", thresholds.heap_graceful),
            ("heap_aggressive", thresholds.heap_aggressive),
            ("heap_circuit_break", thresholds.heap_circuit_break),
        ] {
            let _ = writeln!(text, "{key} = {value:.1}");
        }
        let drain = thresholds.lag_circuit_break as f64 / capacity.per_second;
        let _ = writeln!(
            text,
            "# Full lanes are worked off in {drain:.2} s; ten times that, but 5 s at least and 30 s at most."
        );
        let _ = writeln!(text, "recovery_cooldown_seconds = {:.1}", thresholds.recovery_cooldown_seconds);
        Ok(text)
    }
}

/// Two digits that count, so that nobody takes a measurement for more than it is.
fn round_to_two(n: u64) -> u64 {
    let digits = n.max(1).ilog10();
    let unit = 10u64.pow(digits.saturating_sub(1));
    if n <= LAG_MIN * RATIOS[3] { n } else { (n + unit / 2) / unit * unit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(per_second: f64, wait: Duration) -> Proposal {
        let capacity = Capacity { per_second, rounds: [per_second; 3], memory_used: 0 };
        Proposal::of(&Config::default(), capacity, wait)
    }

    #[test]
    fn thresholds_follow_from_capacity_and_wait() {
        let thresholds = proposal(4_000_000.0, Duration::from_millis(10)).thresholds;
        let lag =
            [thresholds.lag_soft, thresholds.lag_graceful, thresholds.lag_aggressive, thresholds.lag_circuit_break];
        assert_eq!(lag, [40_000, 200_000, 400_000, 2_000_000]);
        assert_eq!(thresholds.recovery_cooldown_seconds, 5.0);
    }

    #[test]
    fn what_is_proposed_is_valid_from_the_slowest_to_the_fastest() {
        for per_second in [1.0, 1e3, 1e5, 12_345_678.0, 1e9, 1e12] {
            for wait in [Duration::from_nanos(1), Duration::from_millis(10), Duration::from_secs(3600)] {
                let proposal = proposal(per_second, wait);
                assert!(proposal.thresholds.validated().is_ok(), "{per_second} {wait:?}: {:?}", proposal.thresholds);
                assert!(proposal.shrunk.is_none() || proposal.lanes_bytes as f64 <= 0.3 * proposal.memory_limit as f64);
            }
        }
    }
}
