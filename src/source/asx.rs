//! Recorded ASX ticks: a directory of CSV files, merged by time.
//!
//! ```text
//! DIR/trades/ID.csv    no header: date MM/DD/YYYY, time HH:MM:SS.mmm, price, volume, qualifiers, venue, buyer
//! DIR/quotes/ID.csv    no header: date, time, bid, ask, bid volume, ask volume
//! DIR/reference-data/company_info.csv    header: company_id,symbol,…
//! ```
//!
//! `ID` is a company id; each file is ascending by time. Times are local, and read as if they were UTC. A quote whose
//! price or volume is zero on one side has that side empty. Rows are lines; there is no quoting.
//!
//! The stream is: one reference-data record for each company, in the order of `company_info.csv`; then all ticks by
//! time, at the same instant trades before quotes, then by company id, then as they stand in their file.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::{ReaderBuilder, Terminator, Trim};
use jiff::tz::TimeZone;

use super::lines::{self, LineError, Lines};
use super::rows::{DateFrom, Fields, Parser, Role, TimeFormat};
use super::{Burst, Facts, FeedCount, FeedCounters, Flow, OnMalformed, Source, SourceError};
use crate::message::SymbolId;
use crate::symbols::Symbols;
use crate::tick::{Tick, TickKind};

const LAYOUT: &str = "the layout is trades/ID.csv, quotes/ID.csv and reference-data/company_info.csv";

/// A column's name, and what it means.
type Column = (&'static str, Option<Role>);

const TRADE_COLUMNS: [Column; 7] = [
    ("date", Some(Role::Date)),
    ("time", Some(Role::Ts)),
    ("price", Some(Role::Price)),
    ("volume", Some(Role::Size)),
    ("qualifiers", None),
    ("venue", None),
    ("buyer", None),
];
const QUOTE_COLUMNS: [Column; 6] = [
    ("date", Some(Role::Date)),
    ("time", Some(Role::Ts)),
    ("bid", Some(Role::Bid)),
    ("ask", Some(Role::Ask)),
    ("bid volume", Some(Role::BidSize)),
    ("ask volume", Some(Role::AskSize)),
];

/// Where in a row the trouble is: column from 0, and what it is.
type Trouble = (usize, String);

/// A directory in the layout above, as one stream.
#[derive(Debug)]
pub struct AsxSource {
    /// Reference-data records still to come, last first.
    reference: Vec<SymbolId>,
    files: Vec<TickFile>,
    /// The next tick of each file: time, and the file's number, which is its rank at the same instant.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    first_ns: u64,
    sequence: u64,
    on_malformed: OnMalformed,
    counters: Arc<FeedCounters>,
}

impl AsxSource {
    /// Opens a directory, and interns its companies' symbols.
    ///
    /// # Errors
    /// When a part of the layout is missing or unreadable, a company is unknown, or (with [`OnMalformed::Stop`]) the first row of
    /// a file is malformed. Malformed reference data is always an error.
    pub fn open(dir: &Path, symbols: &Symbols, on_malformed: OnMalformed) -> Result<Self, SourceError> {
        if !dir.is_dir() {
            return Err(SourceError::Missing { path: dir.to_owned(), expected: "a directory of recorded ticks" });
        }
        let companies = read_companies(&dir.join("reference-data/company_info.csv"))?;
        let mut reference = Vec::with_capacity(companies.len());
        let mut by_id = HashMap::with_capacity(companies.len());
        for (id, name) in &companies {
            let symbol = symbols.intern(name)?;
            reference.push(symbol);
            by_id.insert(id.as_str(), symbol);
        }
        reference.reverse();
        let mut files = Vec::new();
        for (kind, subdir) in [(TickKind::Trade, "trades"), (TickKind::Quote, "quotes")] {
            for (id, path) in list_csv(&dir.join(subdir))? {
                let Some(&symbol) = by_id.get(id.as_str()) else {
                    return Err(SourceError::UnknownCompany { path, id });
                };
                files.push(TickFile::open(path, kind, symbol)?);
            }
        }
        let counters = FeedCounters::default();
        counters.set(FeedCount::BytesTotal, files.iter().map(|file| file.bytes).sum());
        let heads = BinaryHeap::with_capacity(files.len());
        let mut source =
            Self { reference, files, heads, first_ns: 0, sequence: 0, on_malformed, counters: Arc::new(counters) };
        for number in 0..source.files.len() {
            source.advance(number)?;
        }
        source.first_ns = source.heads.peek().map_or(0, |Reverse((time, _))| *time);
        Ok(source)
    }

    /// Reads the next good row of a file and enters it among the heads.
    fn advance(&mut self, number: usize) -> Result<(), SourceError> {
        loop {
            match self.files[number].read_row(&self.counters) {
                Ok(Some(event_ns)) => {
                    self.heads.push(Reverse((event_ns, number)));
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(error @ SourceError::BadRow { .. }) => self.on_malformed.deal_with(error, &self.counters)?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Source for AsxSource {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        while burst.len() < Burst::TICKS {
            self.sequence += 1;
            if let Some(symbol) = self.reference.pop() {
                burst.push(Tick { sequence: self.sequence, ..Tick::reference(symbol, self.first_ns) });
            } else if let Some(Reverse((_, number))) = self.heads.pop() {
                burst.push(Tick { sequence: self.sequence, ..self.files[number].head });
                if let Err(error) = self.advance(number) {
                    self.heads.clear();
                    return Err(error);
                }
            } else {
                return Ok(Flow::End);
            }
            self.counters.add(FeedCount::Messages, 1);
        }
        Ok(Flow::More)
    }

    fn facts(&self) -> Facts {
        let memory_bytes = self.files.len() as u64 * Lines::<File>::MEMORY_BYTES;
        Facts { memory_bytes, burst: Burst::TICKS, can_wait: true }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }
}

/// One file of trades or quotes: rows without a header, whose columns are where they are.
#[derive(Debug)]
struct TickFile {
    path: PathBuf,
    bytes: u64,
    lines: Lines<File>,
    fields: Vec<Range<usize>>,
    columns: &'static [Column],
    parser: Parser,
    /// The row read last.
    head: Tick,
}

impl TickFile {
    fn open(path: PathBuf, kind: TickKind, symbol: SymbolId) -> Result<Self, SourceError> {
        let (file, bytes) = open(&path)?;
        let columns: &[Column] = if kind == TickKind::Trade { &TRADE_COLUMNS } else { &QUOTE_COLUMNS };
        let date = DateFrom::Column("%m/%d/%Y".to_owned());
        let time = TimeFormat::Local { pattern: "%H:%M:%S%.f".to_owned(), date, zone: TimeZone::UTC };
        let (parser, head) = (Parser::new(time, Some(kind), false), Tick { kind, ..Tick::reference(symbol, 0) });
        Ok(Self { path, bytes, lines: Lines::new(file), fields: Vec::new(), columns, parser, head })
    }

    /// Reads the next row into `head`; its time, or `None` at the end of the file.
    fn read_row(&mut self, counters: &FeedCounters) -> Result<Option<u64>, SourceError> {
        let before = self.lines.bytes();
        let read = self.lines.read();
        counters.add(FeedCount::Bytes, self.lines.bytes() - before);
        let parsed = match read {
            Ok(true) => self.parse(),
            Ok(false) => return Ok(None),
            Err(LineError::TooLong) => Err((0, LineError::TOO_LONG.to_owned())),
            Err(LineError::Io(error)) => return Err(SourceError::Io { path: self.path.clone(), error }),
        };
        let tick = parsed.map_err(|(column, reason)| SourceError::BadRow {
            path: self.path.clone(),
            line: self.lines.line(),
            column: column + 1,
            name: self.columns.get(column).map_or("surplus", |(name, _)| name),
            value: String::from_utf8_lossy(field(self.lines.text(), &self.fields, column)).into_owned(),
            reason,
        })?;
        self.head = tick;
        Ok(Some(tick.event_ns))
    }

    fn parse(&mut self) -> Result<Tick, Trouble> {
        lines::split(self.lines.text(), &mut self.fields);
        let (found, expected) = (self.fields.len(), self.columns.len());
        if found != expected {
            return Err((found.min(expected), format!("the row has {found} columns, not {expected}")));
        }
        let mut fields = Fields::default();
        let place = |role| self.columns.iter().position(|(_, of)| *of == Some(role)).unwrap_or_default();
        for (column, (_, role)) in self.columns.iter().enumerate() {
            if let Some(role) = role {
                let text = std::str::from_utf8(field(self.lines.text(), &self.fields, column));
                let text = text.map_err(|_| (column, "not UTF-8".to_owned()))?;
                fields.set(*role, text);
            }
        }
        let tick = self.parser.parse(self.head.symbol, &fields);
        let tick = tick.map_err(|trouble| (place(trouble.role), trouble.reason))?;
        if tick.event_ns < self.head.event_ns {
            return Err((1, "earlier than the row before; a file is ascending by time".to_owned()));
        }
        Ok(tick)
    }
}

fn field<'a>(line: &'a [u8], fields: &[Range<usize>], column: usize) -> &'a [u8] {
    fields.get(column).map_or(&[], |range| &line[range.clone()])
}

/// Company ids and symbols, in the order of the file.
fn read_companies(path: &Path) -> Result<Vec<(String, String)>, SourceError> {
    const COLUMNS: [&str; 2] = ["company_id", "symbol"];
    let (file, _) = open(path)?;
    // Lines end with a line feed; a carriage return before it is trimmed. Then the reader counts lines as editors do.
    let (line_feed, trim) = (Terminator::Any(b'\n'), Trim::All);
    let mut reader = ReaderBuilder::new().flexible(true).terminator(line_feed).trim(trim).from_reader(file);
    let bad = |line, column, name, value: &str, reason: &str| {
        let (path, value, reason) = (path.to_owned(), value.to_owned(), reason.to_owned());
        SourceError::BadRow { path, line, column, name, value, reason }
    };
    let header = reader.headers().map_err(|error| csv_error(path, error))?.clone();
    for (column, name) in COLUMNS.into_iter().enumerate() {
        let found = header.get(column).unwrap_or_default();
        if found != name {
            return Err(bad(1, column + 1, name, found, "the header begins with company_id,symbol"));
        }
    }
    let mut companies: Vec<(String, String)> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| csv_error(path, error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: usize| {
            let value = record.get(column).filter(|value| !value.is_empty());
            value.ok_or_else(|| bad(line, column + 1, COLUMNS[column], "", "must not be empty"))
        };
        let (id, symbol) = (field(0)?, field(1)?);
        if companies.iter().any(|(known, _)| known == id) {
            return Err(bad(line, 1, COLUMNS[0], id, "this company was listed before"));
        }
        companies.push((id.to_owned(), symbol.to_owned()));
    }
    Ok(companies)
}

/// The CSV files of a directory, as (id, path), by id: numbers by value, before all else.
fn list_csv(dir: &Path) -> Result<Vec<(String, PathBuf)>, SourceError> {
    let io = |error| SourceError::Io { path: dir.to_owned(), error };
    if !dir.is_dir() {
        return Err(SourceError::Missing { path: dir.to_owned(), expected: LAYOUT });
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.push((id, path));
        }
    }
    files.sort_by_cached_key(|(id, _)| (id.parse::<u64>().unwrap_or(u64::MAX), id.clone()));
    Ok(files)
}

fn open(path: &Path) -> Result<(File, u64), SourceError> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => SourceError::Missing { path: path.to_owned(), expected: LAYOUT },
        _ => SourceError::Io { path: path.to_owned(), error },
    })
}

/// An error of the CSV reader itself: of reading, or of UTF-8.
fn csv_error(path: &Path, error: csv::Error) -> SourceError {
    SourceError::Io { path: path.to_owned(), error: error.into() }
}

#[cfg(test)]
#[path = "asx_tests.rs"]
mod tests;
