//! What can be wrong with an input.

use std::io;
use std::path::PathBuf;

use crate::symbols::SymbolsFull;

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
