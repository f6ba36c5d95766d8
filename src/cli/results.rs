//! What a run writes: bars and the ledger.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use plimsoll::source::{FeedCount, FeedCounters};
use plimsoll::{BarsHandler, Context, Handler, Ledger, SymbolId, Symbols, Tick};

use super::CliError;
use super::feeds::Counts;
use super::output::OutputFile;

/// A worker of a run: makes whatever is wanted.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) bars: Option<BarsHandler>,
}

impl Worker {
    pub(crate) fn new(bar_interval: Option<NonZeroU64>) -> Self {
        Self { bars: bar_interval.map(BarsHandler::new) }
    }
}

impl Handler<Tick> for Worker {
    #[inline]
    fn enrich(&mut self, tick: &mut Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.enrich(tick, context);
        }
    }

    #[inline]
    fn process(&mut self, tick: &Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.process(tick, context);
        }
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        if let Some(bars) = &mut self.bars {
            Handler::<Tick>::on_gap(bars, symbol, missed);
        }
    }

    fn on_feed_gap(&mut self, missed: u64) {
        if let Some(bars) = &mut self.bars {
            Handler::<Tick>::on_feed_gap(bars, missed);
        }
    }
}

/// Writes the bars; returns how many.
pub(crate) fn write_bars(
    file: OutputFile,
    handlers: impl IntoIterator<Item = BarsHandler>,
    symbols: &Symbols,
) -> Result<usize, CliError> {
    let name = |id| symbols.name(id).map_or_else(|| format!("{id}"), |name| name.to_string());
    let bars = handlers.into_iter().flat_map(BarsHandler::into_bars).map(|(id, bars)| (name(id), bars));
    file.finish(|out| plimsoll::write_bars(out, bars).map_err(io::Error::from))
}

/// Writes the ledger, and what the feeds count, as JSON.
pub(crate) fn write_ledger(file: OutputFile, ledger: &Ledger, feeds: &Counts) -> Result<(), CliError> {
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
