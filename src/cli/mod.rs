//! The command line: one file a subcommand.

mod books;
mod demo;
mod feeds;
mod generate;
#[cfg(feature = "kafka")]
mod kafka;
mod metrics_server;
mod output;
mod progress;
mod results;
mod run;
mod signal;
mod simulate;
mod spill;
mod spilling;
mod summary;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use plimsoll::StartError;
use plimsoll::source::SourceError;
use plimsoll::spill::SpillError;

/// Processes market-data ticks and degrades gracefully under overload, in five announced steps.
///
/// Exit codes: 0 ok, 1 something failed while running, 2 wrong usage, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    #[command(name = "gen")]
    Generate(Box<generate::Arguments>),
    Run(Box<run::Arguments>),
    Simulate(simulate::Arguments),
    Spill(spill::Arguments),
}

/// What went wrong: decides the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Settings that make no sense: 78, `EX_CONFIG` of sysexits(3).
    #[error("{0}")]
    Config(String),
    /// Arguments that contradict each other: 2.
    #[error("{0}")]
    Usage(String),
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
            Self::Config(_) => ExitCode::from(78),
            Self::Usage(_) => ExitCode::from(2),
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
    start_logging(&arguments.command);
    let result = match &arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Spill(arguments) => spill::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::BrokenPipe | CliError::Said) {
                let _ = writeln!(io::stderr(), "plimsoll: {error}");
            }
            error.code()
        }
    }
}

/// Log events go to standard error: warnings and errors, unless `RUST_LOG` says otherwise. The demo tells of transitions
/// itself.
fn start_logging(command: &Command) {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::filter::LevelFilter;
    let default = if matches!(command, Command::Demo(_)) { LevelFilter::ERROR } else { LevelFilter::WARN };
    let filter = EnvFilter::builder().with_default_directive(default.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        .init();
}
