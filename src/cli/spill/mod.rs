//! `plimsoll spill`: a look into a spill log, and what waits in it made into bars.

mod dump;
mod ls;
mod replay;
mod verify;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use plimsoll::spill::{LogSummary, inspect};

use super::CliError;
use super::progress::Progress;

/// Look into a spill log, or replay it.
///
/// A spill log is the directory given to `plimsoll run --spill`. `ls`, `verify` and `dump` change nothing, and work beside a process
/// that uses the log, too.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Arguments),
    Verify(verify::Arguments),
    Dump(dump::Arguments),
    Replay(replay::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    match &arguments.command {
        Command::Ls(arguments) => ls::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Dump(arguments) => dump::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
    }
}

/// A directory that is a spill log.
struct SpillDir<'a> {
    dir: &'a Path,
    /// Numbers of the workers that have a log in it.
    workers: Vec<u32>,
    /// Bytes of all segments.
    bytes: u64,
    /// The process that uses it.
    in_use_by: Option<String>,
}

impl<'a> SpillDir<'a> {
    /// # Errors
    /// When it cannot be read, or is something else.
    fn open(dir: &'a Path) -> Result<Self, CliError> {
        let lock = dir.join("lock");
        let mut workers = Vec::new();
        for name in names(dir)? {
            workers.extend(name.strip_prefix("worker-").and_then(|digits| digits.parse::<u32>().ok()));
        }
        if workers.is_empty() && !lock.exists() {
            let dir = dir.display();
            return Err(CliError::Runtime(format!(
                "{dir}: is no spill log: it has no `lock` and no `worker-0`; give the directory that `run --spill` was given"
            )));
        }
        let mut bytes = 0;
        for worker in &workers {
            let worker = dir.join(format!("worker-{worker}"));
            let segments = names(&worker)?.into_iter().filter(|name| name.ends_with(".spill"));
            bytes += segments.map(|name| worker.join(name).metadata().map_or(0, |meta| meta.len())).sum::<u64>();
        }
        Ok(Self { dir, workers, bytes, in_use_by: holder(&lock)? })
    }

    /// Reads all of it, with a progress bar.
    fn inspect(&self) -> Result<Vec<LogSummary>, CliError> {
        let (mut progress, mut read) = (Progress::new(), 0);
        let logs = inspect(self.dir, |bytes| {
            read += bytes;
            progress.show_bytes(read, self.bytes, "");
        });
        progress.clear();
        Ok(logs?)
    }

    /// Says that a process uses the log, if one does.
    fn tell_use(&self) {
        if let Some(pid) = &self.in_use_by {
            let dir = self.dir.display();
            let _ = writeln!(
                io::stderr(),
                "plimsoll: {dir} is in use by process {pid}: what it is writing or deleting just now may look damaged"
            );
        }
    }
}

fn names(dir: &Path) -> Result<Vec<String>, CliError> {
    let wrong = |error| CliError::io(&dir.display(), &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrong)? {
        names.extend(entry.map_err(wrong)?.file_name().into_string());
    }
    Ok(names)
}

/// The process that holds the lock; `None` if none does.
fn holder(lock: &Path) -> Result<Option<String>, CliError> {
    let wrong = |error: &io::Error| CliError::io(&lock.display(), error);
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let pid = io::read_to_string(&file).unwrap_or_default();
            Ok(Some(if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() }))
        }
        Err(TryLockError::Error(error)) => Err(wrong(&error)),
    }
}

/// A point in time, in UTC, to the millisecond.
fn utc(ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(ns));
    time.map_or_else(|_| format!("{ns} ns"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_to_the_millisecond() {
        assert_eq!(utc(1_412_330_400_123_456_789), "2014-10-03T10:00:00.123Z");
        assert_eq!(utc(u64::MAX), "2554-07-21T23:34:33.709Z");
    }
}
