//! What is measured: the handler's capacity, and the spill log's.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::market::{Market, MarketConfig};
use plimsoll::source::itch::{ItchConfig, ItchDecoder};
use plimsoll::source::{Burst, Decode, Stamp};
use plimsoll::spill::SpillConfig;
use plimsoll::{
    BarsHandler, Bbo, BookHandler, Context, DegradationLevel, Handler, Ingress, MemorySource, PipelineBuilder,
    ProcessMemory, SymbolTiers, Symbols, Tick,
};

use super::HandlerKind;
use crate::cli::CliError;
use crate::config::Config;

/// Messages of the market, which go round.
const MESSAGES: u64 = 500_000;
/// As `run` has it.
const BAR: NonZeroU64 = NonZeroU64::new(60_000_000_000).expect("a minute is not nothing");
/// A frame of the spill log, and ticks in it.
const FRAME: (f64, f64) = (4096.0, 59.0);

/// Messages a second, the feed's work included: the median of the rounds.
pub(super) struct Capacity {
    pub(super) per_second: f64,
    pub(super) rounds: [f64; 3],
    /// Anonymous memory of the process at the end of the last round.
    pub(super) memory_used: u64,
}

/// What the spill log takes.
pub(super) struct Disk {
    pub(super) per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) budget_bytes: u64,
}

/// The handler under test.
struct Measured {
    bars: Option<BarsHandler>,
    books: Option<BookHandler<fn(&Bbo)>>,
}

impl Measured {
    fn new(kind: HandlerKind) -> Self {
        let books = || BookHandler::new((|_: &Bbo| ()) as fn(&Bbo));
        Self {
            bars: (kind != HandlerKind::Books).then(|| BarsHandler::new(BAR)),
            books: (kind != HandlerKind::Bars).then(books),
        }
    }
}

impl Handler<Tick> for Measured {
    fn enrich(&mut self, tick: &mut Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.enrich(tick, context);
        }
        if let Some(books) = &mut self.books {
            books.enrich(tick, context);
        }
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.process(tick, context);
        }
        if let Some(books) = &mut self.books {
            books.process(tick, context);
        }
    }
}

/// How much goes through the pipeline.
pub(super) fn capacity(config: &Config, kind: HandlerKind, round: Duration) -> Result<Capacity, CliError> {
    let symbols = Arc::new(Symbols::new(config.symbol_tiers(), Symbols::DEFAULT_CAPACITY));
    let ticks = ticks(&symbols)?;
    let mut pipeline = builder(config, &symbols).start(|_| Measured::new(kind))?;
    let mut feed = pipeline.ingress().ok_or_else(no_ingress)?;
    let mut measure = || {
        let (start, before) = (Instant::now(), pipeline.ledger().processed_live);
        offer_for(&mut feed, &ticks, round);
        (pipeline.ledger().processed_live - before) as f64 / start.elapsed().as_secs_f64()
    };
    // The first time everything is cold.
    measure();
    let rounds = [measure(), measure(), measure()];
    let memory_used = ProcessMemory::new().sample().used_bytes;
    drop(feed);
    pipeline.join().map_err(|error| CliError::Runtime(error.to_string()))?;
    Ok(Capacity { per_second: median(rounds), rounds, memory_used })
}

/// How much goes into the spill log, in a directory of its own.
pub(super) fn disk(config: &Config, spill: &SpillConfig, round: Duration) -> Result<Disk, CliError> {
    // All of it may be spilled.
    let symbols = Arc::new(Symbols::new(SymbolTiers::new([] as [&str; 0], []), Symbols::DEFAULT_CAPACITY));
    let ticks = ticks(&symbols)?;
    let dir = spill.dir.join(format!("calibrate-{}", std::process::id()));
    let own = SpillConfig { dir: dir.clone(), ..spill.clone() };
    let mut pipeline = builder(config, &symbols).spill(own).start(|_| |_: &Tick, _: &Context| ())?;
    // The pipeline's end comes before its.
    let scratch = Scratch(dir);
    let control = pipeline.control();
    let pinned = control.pin(DegradationLevel::Aggressive, None);
    pinned.map_err(|error| CliError::Runtime(error.to_string()))?;
    let mut feed = pipeline.ingress().ok_or_else(no_ingress)?;
    let mut measure = || {
        let (start, before) = (Instant::now(), pipeline.ledger().spilled);
        offer_for(&mut feed, &ticks, round);
        (pipeline.ledger().spilled - before) as f64 / start.elapsed().as_secs_f64()
    };
    let per_second = median([measure(), measure(), measure()]);
    drop(feed);
    pipeline.join().map_err(|error| CliError::Runtime(error.to_string()))?;
    drop(scratch);
    Ok(Disk { per_second, bytes_per_second: per_second / FRAME.1 * FRAME.0, budget_bytes: spill.budget_bytes })
}

fn no_ingress() -> CliError {
    CliError::Runtime("the pipeline has no producer's end".to_owned())
}

/// The pipeline as it is configured; thresholds do not matter, as a feed that waits raises no level.
fn builder(config: &Config, symbols: &Arc<Symbols>) -> PipelineBuilder {
    let settings = &config.pipeline;
    let builder = PipelineBuilder::new().workers(settings.workers.unwrap_or(1)).symbols(Arc::clone(symbols));
    let builder = builder.pinning(settings.pin.as_ref().map_or(plimsoll::Pinning::Auto, |pin| pin.0.clone()));
    match settings.wait {
        Some(wait) => builder.wait_strategy(wait),
        None => builder,
    }
}

/// Offers ticks round and round, as fast as they are taken.
fn offer_for(feed: &mut Ingress<Tick>, ticks: &[Tick], time: Duration) {
    let end = Instant::now() + time;
    for chunk in ticks.chunks(1024).cycle() {
        for tick in chunk {
            feed.offer_wait(*tick, || Instant::now() >= end);
        }
        feed.flush();
        if Instant::now() >= end {
            return;
        }
    }
}

/// A market's ticks, as a feed makes them.
fn ticks(symbols: &Arc<Symbols>) -> Result<Vec<Tick>, CliError> {
    let config = MarketConfig { messages: MESSAGES, ..MarketConfig::default() };
    let mut market = Market::new(&config).map_err(CliError::Runtime)?;
    let mut decoder = ItchDecoder::new(Arc::clone(symbols), ItchConfig::default());
    let (mut burst, mut ticks) = (Burst::new(), Vec::with_capacity(MESSAGES as usize));
    let mut sequence = 0;
    while let Some(message) = market.next_message() {
        sequence += 1;
        burst.clear();
        let stamp = Stamp { sequence, receive_ns: 0 };
        decoder
            .decode(message, stamp, &mut burst)
            .map_err(|_| CliError::Runtime("the made-up market is malformed".to_owned()))?;
        ticks.extend_from_slice(burst.ticks());
    }
    Ok(ticks)
}

fn median(mut rounds: [f64; 3]) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[1]
}

/// A directory that goes with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "the measurement's directory could not be removed");
        }
    }
}
