//! Trades and quotes as rows: CSV and NDJSON, from a file or standard input.

mod config;
mod csv;
mod fields;
mod ndjson;
mod parse;
mod time;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

pub use config::{RowFormat, RowsConfig};
pub use fields::Role;
pub use time::{DateFrom, TimeFormat};
pub use writer::RowWriter;

use self::csv::{Cutter, Header};
pub(super) use fields::{Fields, Trouble};
use ndjson::Keys;
pub(super) use parse::Parser;

use super::lines::{LineError, Lines};
use super::{Burst, Facts, FeedCount, FeedCounters, Flow, Input, Offset, OnMalformed, Source, SourceError, Stamp};
use crate::message::SymbolId;
use crate::symbols::Symbols;
use crate::tick::Tick;

/// The longest value that is shown in an error.
const SHOWN: usize = 60;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Rows of a file, one tick each, in the order in which they are there.
#[derive(Debug)]
pub struct RowsSource {
    lines: Lines<Input>,
    name: String,
    path: std::path::PathBuf,
    rows: RowDecoder,
    on_malformed: OnMalformed,
    sequence: u64,
    counters: Arc<FeedCounters>,
}

/// Makes ticks of rows, one at a time, wherever they come from.
#[derive(Debug)]
pub(crate) struct RowDecoder {
    format: Format,
    decoder: Decoder,
}

#[derive(Debug)]
enum Format {
    Csv(Cutter, Header),
    Ndjson(Keys),
}

/// Makes ticks of fields.
#[derive(Debug)]
struct Decoder {
    config: RowsConfig,
    parser: Parser,
    symbols: Arc<Symbols>,
    known: HashMap<String, SymbolId>,
}

impl RowsSource {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, or its header lacks a column.
    pub fn open(path: &Path, symbols: Arc<Symbols>, config: RowsConfig) -> Result<Self, SourceError> {
        let counters = Arc::default();
        let input = Input::open(path, &counters)?;
        Self::new(input, symbols, config, counters)
    }

    /// Reads from an input that counts in `counters`.
    ///
    /// # Errors
    /// When it cannot be read, or its header lacks a column.
    pub fn new(
        input: Input,
        symbols: Arc<Symbols>,
        config: RowsConfig,
        counters: Arc<FeedCounters>,
    ) -> Result<Self, SourceError> {
        let (name, path) = (input.path().display().to_string(), input.path().to_owned());
        let mut lines = Lines::new(input);
        let (on_malformed, mut config) = (config.on_malformed, config);
        let unsupported = |reason| SourceError::Unsupported { feed: name.clone(), reason };
        if let RowFormat::Csv { delimiter } = config.format
            && config.header.is_empty()
        {
            let mut cutter = Cutter::new(delimiter);
            config.header = read_header(&mut lines, &mut cutter).map_err(|error| error.of(&path, unsupported))?;
        }
        let rows = RowDecoder::new(symbols, config).map_err(unsupported)?;
        Ok(Self { lines, name, path, rows, on_malformed, sequence: 0, counters })
    }

    fn read(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        while burst.len() < Burst::TICKS {
            // What is here does not wait for what may take its time to come, through a pipe for instance.
            if !burst.is_empty() && !self.lines.has_next() {
                break;
            }
            let problem = match self.lines.read() {
                Ok(true) => {
                    self.sequence += 1;
                    let stamp = Stamp { sequence: self.sequence, receive_ns: 0 };
                    match self.rows.decode(self.lines.text(), None, stamp) {
                        Ok(tick) => {
                            burst.push(tick);
                            continue;
                        }
                        Err(reason) => reason,
                    }
                }
                Ok(false) => return Ok(Flow::End),
                Err(LineError::TooLong) => LineError::TOO_LONG.to_owned(),
                Err(LineError::Io(error)) => return Err(SourceError::Io { path: self.path.clone(), error }),
            };
            self.leave_out(problem)?;
        }
        Ok(Flow::More)
    }

    #[cold]
    fn leave_out(&self, reason: String) -> Result<(), SourceError> {
        let (feed, offset, kind) = (self.name.clone(), Offset::Line(self.lines.line()), "row".to_owned());
        let error = SourceError::Malformed { feed, offset, kind, reason };
        self.on_malformed.deal_with(error, &self.counters)
    }
}

/// Why there is no header.
enum NoHeader {
    Line(LineError),
    Other(String),
}

impl NoHeader {
    fn of(self, path: &Path, unsupported: impl Fn(String) -> SourceError) -> SourceError {
        match self {
            Self::Line(LineError::Io(error)) => SourceError::Io { path: path.to_owned(), error },
            Self::Line(LineError::TooLong) => unsupported(format!("its header: {}", LineError::TOO_LONG)),
            Self::Other(reason) => unsupported(format!("its header: {reason}")),
        }
    }
}

fn read_header(lines: &mut Lines<Input>, cutter: &mut Cutter) -> Result<Vec<String>, NoHeader> {
    if !lines.read().map_err(NoHeader::Line)? {
        return Err(NoHeader::Other("it is empty; the first line names the columns".to_owned()));
    }
    let line = lines.text();
    cutter.cut(line.strip_prefix(BOM).unwrap_or(line)).map_err(NoHeader::Other)?;
    let name = |index| String::from_utf8_lossy(cutter.field(index)).trim().to_owned();
    Ok((0..cutter.count()).map(name).collect())
}

impl RowDecoder {
    /// A decoder of rows whose columns the configuration names, if they are CSV.
    pub(crate) fn new(symbols: Arc<Symbols>, config: RowsConfig) -> Result<Self, String> {
        let format = match config.format {
            RowFormat::Ndjson => Format::Ndjson(Keys::new(&config)),
            RowFormat::Csv { delimiter } => Format::Csv(Cutter::new(delimiter), Header::find(&config.header, &config)?),
        };
        let parser = Parser::new(config.time.clone(), config.kind, true);
        Ok(Self { format, decoder: Decoder { config, parser, symbols, known: HashMap::new() } })
    }

    /// The tick of a row, which is of `symbol`, if that is told beside it.
    pub(crate) fn decode(&mut self, line: &[u8], symbol: Option<&str>, stamp: Stamp) -> Result<Tick, String> {
        // A file may begin with it, as those of some editors do.
        let line = line.strip_prefix(BOM).unwrap_or(line);
        match &mut self.format {
            Format::Csv(cutter, header) => {
                cutter.cut(line)?;
                self.decoder.tick(&header.fields(cutter)?.of(symbol), stamp)
            }
            Format::Ndjson(keys) => {
                let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
                self.decoder.tick(&ndjson::fields(&keys.read(line)?).of(symbol), stamp)
            }
        }
    }
}

impl Decoder {
    fn tick(&mut self, fields: &Fields<'_>, stamp: Stamp) -> Result<Tick, String> {
        let told = |trouble: Trouble, config: &RowsConfig| {
            let (column, value) = (config.column(trouble.role), fields.get(trouble.role).unwrap_or_default());
            let end = value.char_indices().nth(SHOWN).map_or(value.len(), |(at, _)| at);
            format!("{column}: {:?}: {}", &value[..end], trouble.reason)
        };
        let symbol = match (fields.get(Role::Symbol), &self.config.symbol) {
            (Some(name), _) => name,
            (None, Some(name)) => name,
            (None, None) => return Err(told(Trouble::new(Role::Symbol, "it is missing"), &self.config)),
        };
        // The row is read first, so that a bad one leaves no symbol behind.
        let known = self.known.get(symbol).copied();
        let tick = self.parser.parse(known.unwrap_or(SymbolId::new(0)), fields);
        let tick = tick.map_err(|trouble| told(trouble, &self.config))?;
        let symbol = match known {
            Some(symbol) => symbol,
            None => {
                let id = self.symbols.intern(&format!("{}{symbol}", self.config.prefix));
                let id = id.map_err(|error| told(Trouble::new(Role::Symbol, error.to_string()), &self.config))?;
                self.known.insert(symbol.to_owned(), id);
                id
            }
        };
        let receive_ns = if tick.receive_ns == 0 { stamp.receive_ns } else { tick.receive_ns };
        Ok(Tick { symbol, sequence: stamp.sequence, receive_ns, ..tick })
    }
}

impl Source for RowsSource {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        let before = self.sequence;
        let flow = self.read(burst);
        self.counters.add(FeedCount::Messages, self.sequence - before);
        flow
    }

    fn facts(&self) -> Facts {
        let names = (self.rows.decoder.symbols.capacity() * 64) as u64;
        let memory_bytes = Input::MEMORY_BYTES + 3 * Lines::<Input>::MEMORY_BYTES + names;
        Facts { memory_bytes, burst: Burst::TICKS, can_wait: true }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
