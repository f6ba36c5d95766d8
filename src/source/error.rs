//! What can be wrong with an input, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

#[cfg(feature = "feeds")]
use super::{FeedCount, FeedCounters};
use crate::symbols::SymbolsFull;

/// What to do about a message or a row that is malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[cfg_attr(feature = "feeds", derive(serde::Deserialize))]
#[cfg_attr(feature = "feeds", serde(rename_all = "lowercase"))]
pub enum OnMalformed {
    /// End the stream with an error that names it.
    #[default]
    Stop,
    /// Leave it out and count it.
    Skip,
}

/// How many malformed messages and rows of a feed are told of one by one.
#[cfg(feature = "feeds")]
pub(crate) const MALFORMED_TOLD: u64 = 10;

#[cfg(feature = "feeds")]
impl OnMalformed {
    /// Does it: returns the error, or counts it, and tells of it the first times.
    #[cold]
    pub(super) fn deal_with(self, error: SourceError, counters: &FeedCounters) -> Result<(), SourceError> {
        if self == Self::Stop {
            return Err(error);
        }
        counters.add(FeedCount::Malformed, 1);
        if counters.get(FeedCount::Malformed) <= MALFORMED_TOLD {
            tracing::warn!(%error, "left out");
        }
        Ok(())
    }
}

/// What is wrong with an input, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or directory of the layout is not there.
    #[error("{path}: not found: {expected}", path = path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// The system could not read it.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A row that cannot be read.
    #[error("{path}:{line}: column {column} ({name}): {value:?}: {reason}", path = path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: usize,
        /// The column's name.
        name: &'static str,
        /// What stands there.
        value: String,
        /// Why that will not do.
        reason: String,
    },
    /// A message that cannot be read.
    #[error("{feed}: at {offset}: {kind}: {reason}")]
    Malformed {
        /// The file, or the feed's address.
        feed: String,
        /// Where: `byte 123` of the unpacked file, `packet 7`, `sequence 12`.
        offset: Offset,
        /// What kind of message it is, as far as that is known.
        kind: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that the feed cannot do as it is asked to.
    #[error("{feed}: {reason}")]
    Unsupported {
        /// The file, or the feed's address.
        feed: String,
        /// What it is, and what to do.
        reason: String,
    },
    /// The network would not do something.
    #[error("{address}: cannot {action}: {error}")]
    Network {
        /// The address.
        address: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A tick file of a company that the reference data does not know.
    #[error("{path}: company {id} is not in reference-data/company_info.csv, so its symbol is unknown", path = path.display())]
    UnknownCompany {
        /// The tick file.
        path: PathBuf,
        /// The company's id: the file's name.
        id: String,
    },
    /// More symbols than the registry has room for.
    #[error(transparent)]
    Symbols(#[from] SymbolsFull),
}

/// Where in a stream something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// So many bytes into the unpacked file.
    Byte(u64),
    /// In this line, from 1.
    Line(u64),
    /// In this packet of a capture, from 1.
    Packet(u64),
    /// In the message of this sequence number.
    Sequence(u64),
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(n) => write!(f, "byte {n}"),
            Self::Line(n) => write!(f, "line {n}"),
            Self::Packet(n) => write!(f, "packet {n}"),
            Self::Sequence(n) => write!(f, "sequence {n}"),
        }
    }
}
