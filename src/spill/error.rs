//! Why a spill log cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use super::scan::ScanError;
use super::summary::Fault;
use crate::symbols::SymbolsFull;

/// Why a spill log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// A setting makes no sense.
    #[error("spill log: {0}")]
    Config(String),
    /// A file or directory cannot be made, read or written.
    #[error("spill log: {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error("spill log: {} is in use by process {pid}: stop it, or give each process a directory of its own", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, as far as its lock file tells.
        pid: String,
    },
    /// A segment is of another version, or holds other messages. It was left as it is.
    #[error(
        "spill log: {}: {why}; the segment was left as it is: replay it with the program that wrote it, or move it away",
        path.display()
    )]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// What it is, and what is wanted.
        why: String,
    },
    /// The log is damaged, and [`OnDamage::Fail`](super::OnDamage::Fail) is set. It was left as it is.
    #[error("spill log: damaged, and on_damage is `fail`: {}", list(faults))]
    Damaged {
        /// What is wrong.
        faults: Vec<Fault>,
    },
    /// The registry has no room for the log's symbols.
    #[error("spill log: {0}")]
    Symbols(#[from] SymbolsFull),
    /// Records have to move to other workers' logs, as the number of workers or the ids of symbols have changed.
    #[error(
        "spill log: no room to move records to the workers that their symbols have now: {} of {bytes} bytes: {error}; make \
         room, or start with as many workers as before",
        path.display()
    )]
    NoRoomToMove {
        /// The segment that could not be made.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

impl From<ScanError> for SpillError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io(path, error) => Self::Io { path, error },
            ScanError::Foreign(path, why) => Self::Foreign { path, why },
        }
    }
}

/// Names the file that an error is about.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> SpillError {
    let path = path.to_owned();
    move |error| SpillError::Io { path: path.clone(), error }
}
