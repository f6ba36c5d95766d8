//! How rows are to be read.

use std::collections::BTreeMap;

use super::fields::Role;
use super::time::TimeFormat;
use crate::source::OnMalformed;
use crate::tick::TickKind;

/// What a row looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// RFC 4180, a row a line: fields may be quoted, but no field goes on in the next line.
    Csv {
        /// What stands between fields: `,`, or another ASCII character.
        delimiter: u8,
    },
    /// A JSON object a line.
    Ndjson,
}

/// How rows are to be read.
#[derive(Clone, Debug)]
pub struct RowsConfig {
    /// What a row looks like.
    pub format: RowFormat,
    /// The names of columns that are not called as [`Role::name`] is.
    pub columns: BTreeMap<Role, String>,
    /// The names of all columns, from the first; empty: the first line has them. For CSV.
    pub header: Vec<String>,
    /// How [`Role::Ts`] and [`Role::ReceiveTs`] tell the time.
    pub time: TimeFormat,
    /// The symbol of all rows, if they do not name one.
    pub symbol: Option<String>,
    /// What all rows are, if they do not say it: [`TickKind::Trade`] or [`TickKind::Quote`]. `None`: a row with a price is a trade, and one
    /// without is a quote.
    pub kind: Option<TickKind>,
    /// What stands before every symbol's name.
    pub prefix: String,
    /// What to do about a row that is malformed.
    pub on_malformed: OnMalformed,
}

impl RowsConfig {
    /// Rows with a header, if they are CSV, columns named by their roles, and times in nanoseconds.
    pub fn new(format: RowFormat) -> Self {
        Self {
            format,
            columns: BTreeMap::new(),
            header: Vec::new(),
            time: TimeFormat::Nanos,
            symbol: None,
            kind: None,
            prefix: String::new(),
            on_malformed: OnMalformed::default(),
        }
    }

    /// What a column is called.
    pub fn column(&self, role: Role) -> &str {
        self.columns.get(&role).map_or(role.name(), String::as_str)
    }
}
