//! `plimsoll spill dump`: the messages that wait in a spill log, as text.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use plimsoll::spill::{Record, read_records};
use plimsoll::{Price, Side, Tick, TickKind};
use serde::{Serialize, Serializer};

use super::{SpillDir, utc};
use crate::cli::CliError;

/// Print the messages that wait to be replayed.
///
/// Worker by worker, oldest first. `missed` is how many messages of the symbol are missing before it; `spilled` is when it was
/// written, to about a millisecond. A symbol whose name is lost is shown by its number.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plimsoll spill dump /var/spool/plimsoll --symbol BHP --limit 10")]
pub(crate) struct Arguments {
    /// Directory of the log
    dir: PathBuf,
    /// Layout of the output
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Only of this worker's log
    #[arg(long, value_name = "N")]
    worker: Option<u32>,
    /// Only of this symbol
    #[arg(long, value_name = "NAME")]
    symbol: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Comma-separated, with a header
    Csv,
    /// An object of JSON a line
    Ndjson,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let dir = SpillDir::open(&arguments.dir)?;
    dir.tell_use();
    let mut out = Output::new(arguments.format)?;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut written = Ok(());
    read_records::<Tick>(&arguments.dir, |record| {
        if left > 0 && written.is_ok() && arguments.wants(&record) {
            left -= 1;
            written = out.write(&Row::of(&record));
        }
    })?;
    written.and_then(|()| out.finish())
}

impl Arguments {
    fn wants(&self, record: &Record<'_, Tick>) -> bool {
        let is_worker = self.worker.is_none_or(|worker| worker == record.worker);
        is_worker && self.symbol.as_deref().is_none_or(|symbol| record.symbol == Some(symbol))
    }
}

/// The columns of a [`Row`].
const HEADER: [&str; 15] = [
    "worker",
    "sequence",
    "missed",
    "spilled",
    "symbol",
    "kind",
    "event_ns",
    "receive_ns",
    "feed_sequence",
    "price",
    "size",
    "ask_price",
    "ask_size",
    "side",
    "flags",
];

/// A message, as it is printed. Prices are exact decimals.
#[derive(Serialize)]
struct Row<'a> {
    worker: u32,
    sequence: u64,
    missed: u32,
    spilled: String,
    symbol: Name<'a>,
    kind: &'static str,
    event_ns: u64,
    receive_ns: u64,
    feed_sequence: u64,
    #[serde(serialize_with = "as_text")]
    price: Price,
    size: u64,
    #[serde(serialize_with = "as_text")]
    ask_price: Price,
    ask_size: u64,
    side: &'static str,
    flags: u16,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Name<'a> {
    Known(&'a str),
    Lost(String),
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl<'a> Row<'a> {
    fn of(record: &Record<'a, Tick>) -> Self {
        let tick = &record.message;
        Self {
            worker: record.worker,
            sequence: record.sequence,
            missed: record.missed,
            spilled: utc(record.spilled_ns),
            symbol: record.symbol.map_or_else(|| Name::Lost(tick.symbol.to_string()), Name::Known),
            kind: match tick.kind {
                TickKind::Trade => "trade",
                TickKind::Quote => "quote",
                TickKind::Reference => "reference",
                TickKind::Order => "order",
                TickKind::TradeBreak => "trade_break",
            },
            event_ns: tick.event_ns,
            receive_ns: tick.receive_ns,
            feed_sequence: tick.sequence,
            price: tick.price,
            size: tick.size,
            ask_price: tick.ask_price,
            ask_size: tick.ask_size,
            side: match tick.side {
                Side::Unknown => "unknown",
                Side::Buy => "buy",
                Side::Sell => "sell",
            },
            flags: tick.flags,
        }
    }
}

/// Standard output, in one of the formats.
enum Output {
    Csv(Box<csv::Writer<io::Stdout>>),
    Ndjson(BufWriter<io::Stdout>),
}

impl Output {
    fn new(format: Format) -> Result<Self, CliError> {
        match format {
            Format::Csv => {
                let mut out = csv::WriterBuilder::new().has_headers(false).from_writer(io::stdout());
                out.write_record(HEADER).map_err(in_csv)?;
                Ok(Self::Csv(Box::new(out)))
            }
            Format::Ndjson => Ok(Self::Ndjson(BufWriter::new(io::stdout()))),
        }
    }

    fn write(&mut self, row: &Row<'_>) -> Result<(), CliError> {
        match self {
            Self::Csv(out) => out.serialize(row).map_err(in_csv),
            Self::Ndjson(out) => serde_json::to_writer(&mut *out, row)
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(CliError::stdout),
        }
    }

    fn finish(self) -> Result<(), CliError> {
        match self {
            Self::Csv(mut out) => out.flush(),
            Self::Ndjson(mut out) => out.flush(),
        }
        .map_err(CliError::stdout)
    }
}

fn in_csv(error: csv::Error) -> CliError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => CliError::stdout(error),
        kind => CliError::Runtime(format!("standard output: {kind:?}")),
    }
}
