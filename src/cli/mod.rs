//! The command line: one file a subcommand.

mod books;
mod calibrate;
mod completions;
mod config;
mod ctl;
mod demo;
mod feeds;
mod generate;
#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod output;
mod picture;
mod progress;
mod recording;
mod report;
mod results;
mod run;
mod service;
mod signal;
mod simulate;
mod spill;
mod spilling;
mod status;
mod summary;
mod supervise;
mod top;
mod tune;
mod verdict;
mod version;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use plimsoll::StartError;
use plimsoll::source::SourceError;
use plimsoll::spill::SpillError;

use crate::config::LogSection;

/// Processes market-data ticks and degrades gracefully under overload, in five announced steps.
///
/// Exit codes: 0 ok, 1 something failed while running, 2 wrong usage, 75 stuck at CIRCUIT_BREAK, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version = version::VERSION, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Calibrate(Box<calibrate::Arguments>),
    Config(config::ConfigArguments),
    Completions(completions::Arguments),
    Ctl(ctl::Arguments),
    Demo(demo::Arguments),
    #[command(name = "gen")]
    Generate(Box<generate::Arguments>),
    Init(config::InitArguments),
    Man(completions::ManArguments),
    Run(Box<run::Arguments>),
    Simulate(simulate::Arguments),
    Spill(spill::Arguments),
    Top(top::Arguments),
    Tune(Box<tune::Arguments>),
    Validate(config::ValidateArguments),
}

/// What went wrong: decides the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Settings that make no sense: 78, `EX_CONFIG` of sysexits(3).
    #[error("{0}")]
    Config(String),
    /// The same, with its place in the file.
    #[error("{0:?}")]
    Report(Box<miette::Report>),
    /// Arguments that contradict each other: 2.
    #[error("{0}")]
    Usage(String),
    /// What may go well when it is tried again: 75, `EX_TEMPFAIL` of sysexits(3).
    #[error("{0}")]
    Stuck(String),
    /// All else: 1.
    #[error("{0}")]
    Runtime(String),
    /// As above, and what there is to say was printed already.
    #[error("see above")]
    Said,
    /// Who read our output has gone; nothing to complain about.
    #[error("broken pipe")]
    BrokenPipe,
}

impl CliError {
    fn code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Report(_) => ExitCode::from(78),
            Self::Usage(_) => ExitCode::from(2),
            Self::Stuck(_) => ExitCode::from(75),
            Self::Runtime(_) | Self::Said => ExitCode::from(1),
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }

    /// An error of the named file or stream.
    fn io(what: &dyn std::fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Runtime(format!("{what}: {error}")),
        }
    }

    fn stdout(error: io::Error) -> Self {
        Self::io(&"standard output", &error)
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Thread { .. } => Self::Runtime(error.to_string()),
            StartError::Spill(error) => error.into(),
            _ => Self::Config(error.to_string()),
        }
    }
}

impl From<SpillError> for CliError {
    fn from(error: SpillError) -> Self {
        match error {
            SpillError::Config(_) => Self::Config(error.to_string()),
            _ => Self::Runtime(error.to_string()),
        }
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// Parses the command line and runs it.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // It fails when there is one already, which is as well.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).terminal_links(false).context_lines(1).build())
    }));
    match &arguments.command {
        // It has a configuration to look at.
        Command::Run(_) => {}
        // They tell of transitions themselves, or make them.
        Command::Demo(_) | Command::Calibrate(_) => log::start("error", &LogSection::default(), None),
        _ => log::start("warn", &LogSection::default(), None),
    }
    let result = match &arguments.command {
        Command::Calibrate(arguments) => calibrate::run(arguments),
        Command::Config(arguments) => config::config(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Ctl(arguments) => ctl::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Init(arguments) => config::init(arguments),
        Command::Man(arguments) => completions::man(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Spill(arguments) => spill::run(arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Tune(arguments) => tune::run(arguments),
        Command::Validate(arguments) => config::validate(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = match &error {
                CliError::BrokenPipe | CliError::Said => Ok(()),
                CliError::Report(report) => write!(io::stderr(), "plimsoll: the configuration is wrong\n{report:?}"),
                error => writeln!(io::stderr(), "plimsoll: {error}"),
            };
            error.code()
        }
    }
}

/// The command line's definition, for completions and the manual.
fn definition() -> clap::Command {
    Arguments::command()
}
