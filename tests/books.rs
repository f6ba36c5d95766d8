//! Books behind a pipeline that sheds: what is stale is told, and rebuilt from the feed's order table when it is calm again.
#![cfg(feature = "feeds")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll::market::{Market, MarketConfig};
use plimsoll::source::itch::{ItchConfig, ItchDecoder};
use plimsoll::source::{
    Burst, Decode, Facts, FeedCounters, Flow, Pace, Rebuild, Source, SourceError, Stamp, SymbolSet, pump,
};
use plimsoll::{Bbo, BookHandler, DegradationLevel, Pipeline, PipelineBuilder, Side, SymbolTiers, Symbols, Tick};
use support::{ForcedLag, calm_memory, thresholds, wait_until};

/// A market as a feed, a few messages at a time.
struct Feed {
    market: Market,
    decoder: ItchDecoder,
    sequence: u64,
    /// Bursts so far.
    bursts: Arc<AtomicU64>,
    counters: Arc<FeedCounters>,
}

impl Source for Feed {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        self.bursts.fetch_add(1, Ordering::Relaxed);
        for _ in 0..100 {
            let Some(message) = self.market.next_message() else { return Ok(Flow::End) };
            self.sequence += 1;
            self.decoder.decode(message, Stamp { sequence: self.sequence, receive_ns: 0 }, burst).unwrap();
        }
        Ok(Flow::More)
    }

    fn facts(&self) -> Facts {
        Facts { memory_bytes: 0, burst: 100, can_wait: true }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        self.decoder.snapshot(symbols, burst)
    }
}

type Books = BookHandler<fn(&Bbo)>;

#[test]
fn books_that_lost_messages_to_shedding_are_rebuilt_when_it_is_calm_again() {
    let config = MarketConfig { seed: 4, messages: 60_000, symbols: 100, ..MarketConfig::default() };
    let tiers = SymbolTiers::new(["BHP"], ["RIO"]);
    let symbols = Arc::new(Symbols::new(tiers, Symbols::DEFAULT_CAPACITY));
    let itch = ItchConfig { orders_max: 20_000, ..ItchConfig::default() };
    let decoder = ItchDecoder::new(Arc::clone(&symbols), itch);
    let bursts = Arc::new(AtomicU64::new(0));
    let market = Market::new(&config).unwrap();
    let feed = Feed { market, decoder, sequence: 0, bursts: Arc::clone(&bursts), counters: Arc::default() };
    let truth = {
        let mut market = Market::new(&config).unwrap();
        while market.next_message().is_some() {}
        market.truth()
    };

    let (lag, stale) = (ForcedLag::default(), Arc::new(SymbolSet::new(symbols.capacity())));
    let mut pipeline: Pipeline<Tick, Books> = PipelineBuilder::default()
        .thresholds(thresholds())
        .lag_source(lag.clone())
        .memory_source(calm_memory)
        .sample_interval(Duration::from_millis(1))
        .symbols(Arc::clone(&symbols))
        .lane_capacity(1 << 14)
        .start(|_| BookHandler::new((|_: &Bbo| {}) as fn(&Bbo)).rebuilding(Arc::clone(&stale)))
        .unwrap();
    let mut ingress = pipeline.ingress().unwrap();
    let is_calm = Arc::new(AtomicBool::new(true));
    let calm = Arc::clone(&is_calm);
    let mut source = Rebuild::new(feed, Arc::clone(&stale), Duration::ZERO, move || calm.load(Ordering::Acquire));
    let quiet = || wait_until("an empty lane", || pipeline.ledger().in_flight == 0);
    let mut stage = 0;
    let end = pump(&mut source, &mut ingress, Pace::Max, || {
        match (stage, bursts.load(Ordering::Relaxed)) {
            // All but the critical is shed for a while, and pictures are not asked for.
            (0, 200..) => {
                is_calm.store(false, Ordering::Release);
                quiet();
                assert!(stale.is_empty(), "nothing was lost yet");
                lag.reach(&pipeline, DegradationLevel::Aggressive);
            }
            (1, 350..) => {
                quiet();
                lag.reach(&pipeline, DegradationLevel::Normal);
            }
            // Who has had a message since is known to be stale.
            (2, 450..) => {
                quiet();
                assert!(stale.len() > 20, "{} symbols are stale", stale.len());
                is_calm.store(true, Ordering::Release);
            }
            // Each burst is waited for from here on, so that a picture is there before it is asked for again.
            (3, _) => {
                quiet();
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        }
        stage += 1;
        ControlFlow::Continue(())
    });
    end.unwrap();
    drop(ingress);
    let finished = pipeline.join().unwrap();
    finished.ledger.check().unwrap();
    assert!(finished.ledger.shed > 10_000, "{:?}", finished.ledger);

    let books = &finished.handlers[0];
    let (mut fresh, mut were_stale) = (0, 0);
    for truth in truth {
        let Some(book) = symbols.id(&truth.symbol).and_then(|id| books.book(id)) else { continue };
        were_stale += u64::from(book.stale_ns() > 0);
        if book.is_stale() {
            continue;
        }
        fresh += 1;
        let best = |side| book.best(side).map(|best| (best.price.billionths(), best.size));
        let cents = |best: plimsoll::market::Best| (i64::from(best.cents) * 10_000_000, best.shares);
        assert_eq!(best(Side::Buy), truth.bid.map(cents), "{}", truth.symbol);
        assert_eq!(best(Side::Sell), truth.ask.map(cents), "{}", truth.symbol);
    }
    // Whoever had no message after the shedding is told of at the end, and is stale then; no book is wrong without saying so.
    assert!(were_stale > 20 && fresh > 80, "{were_stale} were stale, {fresh} are right");
    assert_eq!(stale.len() + fresh, books.books().count() as u64);
}
