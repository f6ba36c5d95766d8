//! `plimsoll ctl`: asks a running process, over its control socket.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use plimsoll::DegradationLevel;

use super::CliError;
use super::service::{Answer, Request};
use super::status::Status;
use super::summary::{bytes, grouped};
use crate::config::units;

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Watch and steer a running process.
///
/// Over the control socket that the process was given, by `run --control PATH` or `[control] socket`. Only the socket's owner may open
/// it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll ctl --socket /run/plimsoll/control.sock status
  export PLIMSOLL_CONTROL_SOCKET=/run/plimsoll/control.sock
  plimsoll ctl explain
  plimsoll ctl pin graceful --for 10m     # and `unpin` to end it sooner
  plimsoll ctl reload                     # as SIGHUP does
  plimsoll ctl status --json | jq .lag")]
pub(crate) struct Arguments {
    /// The process's control socket
    #[arg(long, global = true, value_name = "PATH", env = "PLIMSOLL_CONTROL_SOCKET")]
    socket: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Level, signals and where messages went
    Status,
    /// Back to NORMAL without waiting for the cooldown; overload takes it up again at once
    Reset,
    /// Hold a level, whatever the signals say
    Pin {
        /// normal, soft, graceful, aggressive, circuit_break, or 0 to 4
        level: LevelText,
        /// For how long, as in 10m; until `unpin`, if not given
        #[arg(long = "for", value_name = "TIME", value_parser = units::time)]
        time: Option<std::num::NonZeroU64>,
    },
    /// Let the signals decide again
    Unpin,
    /// Read the configuration again, and put in force what needs no restart
    Reload,
    /// The last 100 changes of level, with their causes
    History,
    /// Why the level is what it is, and what must happen for it to go down
    Explain,
    /// End in good order, as SIGTERM does
    Drain,
}

/// A level by name or number.
#[derive(Clone, Copy, Debug)]
struct LevelText(DegradationLevel);

impl FromStr for LevelText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.replace('-', "_");
        let is_it = |level: &DegradationLevel| {
            level.label().eq_ignore_ascii_case(&wanted) || level.value().to_string() == wanted
        };
        let level = DegradationLevel::ALL.into_iter().find(is_it);
        level.map(Self).ok_or_else(|| "give normal, soft, graceful, aggressive, circuit_break, or 0 to 4".to_owned())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let socket = arguments.socket.as_deref().ok_or_else(|| {
        CliError::Usage("which process? Give its control socket, by --socket or PLIMSOLL_CONTROL_SOCKET".to_owned())
    })?;
    let request = match &arguments.command {
        Command::Status => Request::Status,
        Command::Reset => Request::Reset,
        Command::Pin { level, time } => {
            let for_seconds = time.map(|ns| Duration::from_nanos(ns.get()).as_secs_f64());
            Request::Pin { level: level.0.value(), for_seconds }
        }
        Command::Unpin => Request::Unpin,
        Command::Reload => Request::Reload,
        Command::History => Request::History,
        Command::Explain => Request::Explain,
        Command::Drain => Request::Drain,
    };
    let answer = ask(socket, &request)?;
    if !answer.ok {
        return Err(CliError::Runtime(answer.text));
    }
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&answer.data).map_err(|error| CliError::Runtime(error.to_string()))?,
        false => answer.text,
    };
    writeln!(io::stdout(), "{text}").map_err(CliError::stdout)
}

/// Sends a request, and waits for the answer.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Answer, CliError> {
    let failed = |error: io::Error| {
        let why = match error.kind() {
            ErrorKind::NotFound => "there is no such socket; does the process run, and with --control?".to_owned(),
            ErrorKind::ConnectionRefused => "the process that made it has ended".to_owned(),
            ErrorKind::PermissionDenied => "only its owner may open it".to_owned(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "the process does not answer".to_owned(),
            _ => error.to_string(),
        };
        CliError::Runtime(format!("{}: {why}", socket.display()))
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let line = serde_json::to_string(request).map_err(|error| CliError::Runtime(error.to_string()))?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    let unreadable = |error| CliError::Runtime(format!("{}: the answer makes no sense: {error}", socket.display()));
    serde_json::from_str(&answer).map_err(unreadable)
}

/// A status for people: a few lines.
pub(crate) fn status_text(status: &Status) -> String {
    let Status { level, lag, memory, totals, .. } = status;
    let mut text = format!("{} for {:.0} s", level.name, level.for_seconds);
    if let Some(cause) = &level.cause {
        let _ = write!(text, ": {cause}");
    }
    if level.pinned {
        let left = level.pin_left_seconds.map_or("until unpin".to_owned(), |left| format!("for another {left:.0} s"));
        let _ = write!(text, "\npinned {left}");
    }
    if level.mode == "observe" {
        let _ = write!(text, "\ndry run: levels have no effect");
    }
    if let Some(shadow) = &level.shadow {
        let _ = write!(text, "\nshadow thresholds would give {shadow}");
    }
    let memory_text = memory.percent.map_or("not known".to_owned(), |percent| {
        format!("{percent:.1} % ({} of {})", bytes(memory.used_bytes), bytes(memory.limit_bytes))
    });
    let ready = match (status.live, status.ready) {
        (false, _) => status.troubles.join("; "),
        (true, true) => "ready".to_owned(),
        (true, false) => "not ready".to_owned(),
    };
    let _ = write!(text, "\n{ready}\nlag        {:>18}\nmemory     {memory_text}", grouped(lag.messages));
    let rows = [
        ("offered", totals.offered),
        ("processed", totals.processed_live + totals.replayed),
        ("conflated", totals.conflated),
        ("spilled", totals.spilled),
        ("replayed", totals.replayed),
        ("waiting", totals.spill_pending),
        ("shed", totals.shed),
        ("refused", totals.refused),
        ("full", totals.full),
    ];
    for (name, count) in rows {
        let _ = write!(text, "\n{name:<11}{:>18}", grouped(count));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_given_by_name_or_number() {
        let level = |text: &str| text.parse::<LevelText>().map(|level| level.0);
        assert_eq!(level("CIRCUIT_BREAK"), Ok(DegradationLevel::CircuitBreak));
        assert_eq!(level("circuit-break"), Ok(DegradationLevel::CircuitBreak));
        assert_eq!(level("2"), Ok(DegradationLevel::Graceful));
        assert!(level("5").is_err() && level("").is_err() && level("softly").is_err());
    }
}
