//! What a run writes: bars and the ledger.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "kafka")]
use std::sync::{Mutex, PoisonError};

use plimsoll::source::{FeedCount, FeedCounters};
use plimsoll::{BarsHandler, BookHandler, Context, Handler, Ledger, SymbolId, Symbols, Tick};

use super::books::{BboFile, BookMaker, Books, Tell, symbol_name, write_books};
use super::feeds::Counts;
use super::output::OutputFile;
use super::{CliError, summary};
use crate::config::units;

/// A worker of a run: makes whatever is wanted.
pub(crate) struct Worker {
    pub(crate) bars: Option<BarsHandler>,
    pub(crate) books: Option<BookHandler<Tell>>,
    #[cfg(feature = "kafka")]
    pub(crate) sink: Option<plimsoll::kafka::SinkHandler>,
}

impl Handler<Tick> for Worker {
    #[inline]
    fn enrich(&mut self, tick: &mut Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.enrich(tick, context);
        }
        #[cfg(feature = "kafka")]
        if let Some(sink) = &mut self.sink {
            sink.enrich(tick, context);
        }
    }

    #[inline]
    fn process(&mut self, tick: &Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.process(tick, context);
        }
        if let Some(books) = &mut self.books {
            books.process(tick, context);
        }
        #[cfg(feature = "kafka")]
        if let Some(sink) = &mut self.sink {
            sink.process(tick, context);
        }
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        if let Some(bars) = &mut self.bars {
            Handler::<Tick>::on_gap(bars, symbol, missed);
        }
        if let Some(books) = &mut self.books {
            books.on_gap(symbol, missed);
        }
        #[cfg(feature = "kafka")]
        if let Some(sink) = &mut self.sink {
            sink.on_gap(symbol, missed);
        }
    }

    fn on_feed_gap(&mut self, missed: u64) {
        if let Some(bars) = &mut self.bars {
            Handler::<Tick>::on_feed_gap(bars, missed);
        }
        if let Some(books) = &mut self.books {
            books.on_feed_gap(missed);
        }
    }
}

/// Makes workers, and makes them anew.
pub(crate) struct WorkerMaker {
    bar_interval: Option<NonZeroU64>,
    books: Option<BookMaker>,
    /// Of workers, in their order; each is there once.
    #[cfg(feature = "kafka")]
    sinks: Mutex<Vec<Option<plimsoll::kafka::SinkHandler>>>,
}

impl WorkerMaker {
    /// The same, whose workers hand what they get to a sink, too.
    #[cfg(feature = "kafka")]
    pub(crate) fn with_sinks(self, sinks: Vec<plimsoll::kafka::SinkHandler>) -> Self {
        Self { sinks: Mutex::new(sinks.into_iter().map(Some).collect()), ..self }
    }

    pub(crate) fn worker(&self, number: usize) -> Worker {
        Worker {
            bars: self.bar_interval.map(BarsHandler::new),
            books: self.books.as_ref().map(|books| books.handler(number)),
            #[cfg(feature = "kafka")]
            sink: {
                let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
                sinks.get_mut(number).and_then(Option::take)
            },
        }
    }
}

/// Files that a run is to write.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct ResultFlags {
    /// Where to write the bars, as CSV; `-` is standard output for this and the others, and the summary goes to standard error then
    #[arg(long, value_name = "FILE")]
    bars: Option<PathBuf>,
    /// Length of a bar: a number and ns, us, ms, s, m or h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::time)]
    pub(crate) bar_interval: NonZeroU64,
    /// Where to write each change of a best bid or offer, as NDJSON if the name ends with .ndjson or .jsonl, else as CSV
    #[arg(long, value_name = "FILE")]
    bbo: Option<PathBuf>,
    /// Where to write the price levels of all books at the end, as CSV
    #[arg(long, value_name = "FILE")]
    book: Option<PathBuf>,
    /// Levels of a side that --book shows at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    book_depth: usize,
    /// Where to write the ledger, as JSON
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl ResultFlags {
    /// Whether one of them goes to standard output.
    pub(crate) fn use_stdout(&self) -> bool {
        [&self.bars, &self.bbo, &self.book, &self.ledger].into_iter().flatten().any(|path| path == Path::new("-"))
    }

    /// Two results in one file would be none.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let all = [("--bars", &self.bars), ("--bbo", &self.bbo), ("--book", &self.book), ("--ledger", &self.ledger)];
        let given: Vec<_> = all.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))).collect();
        for (i, (flag, path)) in given.iter().enumerate() {
            if let Some((other, _)) = given[..i].iter().find(|(_, before)| before == path) {
                let path = path.display();
                return Err(CliError::Usage(format!("{other} and {flag} are both {path}: give them a file each")));
            }
        }
        Ok(())
    }
}

/// A file to write, and its path.
type Out = (OutputFile, PathBuf);

fn create(path: Option<&PathBuf>) -> Result<Option<Out>, CliError> {
    path.map(|path| Ok((OutputFile::create(path)?, path.clone()))).transpose()
}

/// What a run is to write: the files are begun, and wait for their content.
pub(crate) struct Results {
    bars: Option<Out>,
    bar_interval: NonZeroU64,
    book: Option<Out>,
    book_depth: usize,
    ledger: Option<Out>,
    /// What the workers' books share, if there are any.
    pub(crate) books: Option<Books>,
    symbols: Arc<Symbols>,
}

impl Results {
    pub(crate) fn open(flags: &ResultFlags, symbols: &Arc<Symbols>, workers: usize) -> Result<Self, CliError> {
        let (bars, book) = (create(flags.bars.as_ref())?, create(flags.book.as_ref())?);
        let ledger = create(flags.ledger.as_ref())?;
        let bbo = flags.bbo.as_ref().map(|path| BboFile::start(path, symbols)).transpose()?;
        let wants_books = bbo.is_some() || book.is_some();
        Ok(Self {
            bars,
            bar_interval: flags.bar_interval,
            book,
            book_depth: flags.book_depth,
            ledger,
            books: wants_books.then(|| Books::new(bbo, symbols, workers)),
            symbols: Arc::clone(symbols),
        })
    }

    /// What makes workers that make all of it.
    pub(crate) fn maker(&self) -> WorkerMaker {
        WorkerMaker {
            bar_interval: self.bars.as_ref().map(|_| self.bar_interval),
            books: self.books.as_ref().map(Books::maker),
            #[cfg(feature = "kafka")]
            sinks: Mutex::default(),
        }
    }

    /// Whether any of it is made within the workers, and lost with one that is made anew.
    pub(crate) fn are_in_workers(&self) -> bool {
        self.bars.is_some() || self.books.is_some()
    }

    /// Writes everything, each result for itself: a failure of one takes none of the others along. `workers` is empty when they
    /// have failed; bars and books are then left out. Returns what there is to say, and the first failure.
    pub(crate) fn write(self, workers: Vec<Worker>, ledger: &Ledger, feeds: &Counts) -> (String, Result<(), CliError>) {
        let mut text = String::new();
        let has_failed = workers.is_empty();
        let (bars, books): (Vec<_>, Vec<_>) = workers.into_iter().map(|worker| (worker.bars, worker.books)).unzip();
        let mut wrote =
            |name: &str, what: &str, out: Out, write: &mut dyn FnMut(OutputFile) -> Result<u64, CliError>| {
                let rows = write(out.0)?;
                text += &format!("{name:<17}{:>16} {what} → {}\n", summary::grouped(rows), out.1.display());
                Ok(())
            };
        let written = [
            self.bars.filter(|_| !has_failed).map_or(Ok(()), |out| {
                let mut bars = Some(bars.into_iter().flatten());
                wrote("bars", "bars", out, &mut |file| {
                    write_bars(file, bars.take().into_iter().flatten(), &self.symbols)
                })
            }),
            self.book.filter(|_| !has_failed).map_or(Ok(()), |out| {
                let books: Vec<_> = books.iter().flatten().collect();
                wrote("book", "levels", out, &mut |file| write_books(file, &books, &self.symbols, self.book_depth))
            }),
            self.books.map_or(Ok(()), |books| books.finish().map(|told| text += &told)),
            self.ledger.map_or(Ok(()), |(file, _)| write_ledger(file, ledger, feeds)),
        ];
        (text, written.into_iter().collect())
    }
}

/// Writes the bars; returns how many.
pub(crate) fn write_bars(
    file: OutputFile,
    handlers: impl IntoIterator<Item = BarsHandler>,
    symbols: &Symbols,
) -> Result<u64, CliError> {
    let bars = handlers.into_iter().flat_map(BarsHandler::into_bars);
    let bars = bars.map(|(id, bars)| (symbol_name(symbols, id), bars));
    file.finish(|out| plimsoll::write_bars(out, bars).map(|rows| rows as u64).map_err(io::Error::from))
}

/// Writes the ledger, and what the feeds count, as JSON.
fn write_ledger(file: OutputFile, ledger: &Ledger, feeds: &Counts) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(&LedgerFile::of(ledger, feeds));
    let json = json.map_err(|error| CliError::Runtime(format!("ledger: {error}")))?;
    file.finish(|out| writeln!(out, "{json}"))
}

/// The ledger as it is written to a file.
#[derive(serde::Serialize)]
struct LedgerFile<'a> {
    #[serde(flatten)]
    ledger: &'a Ledger,
    processed: u64,
    balanced: bool,
    /// By tier, then by reason; zeros left out.
    shed_by: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// By the feed's name, then by what is counted.
    feeds: BTreeMap<&'a str, BTreeMap<&'static str, u64>>,
}

impl<'a> LedgerFile<'a> {
    fn of(ledger: &'a Ledger, feeds: &'a Counts) -> Self {
        let mut shed_by: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (tier, reason, count) in ledger.shed_by.iter().filter(|cell| cell.2 > 0) {
            shed_by.entry(tier.label()).or_default().insert(reason.label(), count);
        }
        let all = |counters: &Arc<FeedCounters>| FeedCount::ALL.map(|c| (c.name(), counters.get(c))).into();
        Self {
            ledger,
            processed: ledger.processed(),
            balanced: ledger.check().is_ok(),
            shed_by,
            feeds: feeds.iter().map(|(name, counters)| (name.as_str(), all(counters))).collect(),
        }
    }
}
