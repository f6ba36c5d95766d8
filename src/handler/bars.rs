//! Bars: open, high, low, close, volume, trades and vwap by symbol and interval, in exact arithmetic.

use std::num::NonZeroU64;

use super::{Context, Handler};
use crate::message::SymbolId;
use crate::price::{Price, divide_half_even};
use crate::tick::{Tick, TickKind, flags};

/// Makes bars from trades, by event time. Enrichment adds the quote that was in force.
///
/// A trade belongs to the interval that its event time falls into: `start ≤ event < start + interval`, starts
/// being multiples of the interval since the Unix epoch. All trades count but those that are not
/// [printable](crate::flags::NOT_PRINTABLE). Bars stay in memory until
/// they are taken with [`into_bars`](Self::into_bars); its tables are as long as the highest symbol id.
///
/// Quotes are remembered by [`enrich`](Handler::enrich) alone. So a bar tells mid, spread and the vwap's deviation only if
/// enrichment ran for each of its trades, and a two-sided quote was in force at the last of them. A quote that came
/// without enrichment, or a hole in the symbol's stream, puts the quote out of force.
#[derive(Debug)]
pub struct BarsHandler {
    interval_ns: NonZeroU64,
    /// By symbol id.
    symbols: Vec<SymbolBars>,
}

#[derive(Clone, Debug, Default)]
struct SymbolBars {
    /// Ascending by start; the last one is in the making.
    bars: Vec<Bar>,
    /// Bid and ask in force, both sides present.
    quote: Option<(Price, Price)>,
}

/// One bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Begin of the interval, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Price of the earliest trade.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Price of the latest trade.
    pub close: Price,
    /// Sum of sizes.
    pub volume: u128,
    /// Number of trades.
    pub trades: u64,
    /// Event times of the earliest and the latest trade.
    span: (u64, u64),
    /// Σ price × size in billionths; `None` beyond 127 bits.
    turnover: Option<i128>,
    /// Enrichment ran for every trade.
    enriched: bool,
    /// The quote in force at the latest trade.
    quote: Option<(Price, Price)>,
}

impl Bar {
    fn new(start_ns: u64, trade: &Tick) -> Self {
        Self {
            start_ns,
            open: trade.price,
            high: trade.price,
            low: trade.price,
            close: trade.price,
            volume: 0,
            trades: 0,
            span: (trade.event_ns, trade.event_ns),
            turnover: Some(0),
            enriched: true,
            quote: None,
        }
    }

    fn add(&mut self, trade: &Tick, enriched: bool, quote: Option<(Price, Price)>) {
        if trade.event_ns < self.span.0 {
            self.open = trade.price;
            self.span.0 = trade.event_ns;
        }
        if trade.event_ns >= self.span.1 {
            self.close = trade.price;
            self.span.1 = trade.event_ns;
            self.quote = quote;
        }
        self.high = self.high.max(trade.price);
        self.low = self.low.min(trade.price);
        self.volume += u128::from(trade.size);
        self.trades += 1;
        self.enriched &= enriched;
        let value = i128::from(trade.price.billionths()) * i128::from(trade.size);
        self.turnover = self.turnover.and_then(|turnover| turnover.checked_add(value));
    }

    /// Volume-weighted average price, rounded half-even to the billionth; `None` when the volume is 0, or beyond
    /// what 127 bits hold.
    pub fn vwap(&self) -> Option<Price> {
        ratio(self.turnover?, i128::try_from(self.volume).ok()?)
    }

    /// Mid-price of the quote in force at the last trade, rounded half-even; `None` without enrichment.
    pub fn mid(&self) -> Option<Price> {
        let (bid, ask) = self.enrichment()?;
        ratio(i128::from(bid.billionths()) + i128::from(ask.billionths()), 2)
    }

    /// Ask less bid of the quote in force at the last trade; negative for a crossed market, as in an auction; `None` without
    /// enrichment.
    pub fn spread(&self) -> Option<Price> {
        let (bid, ask) = self.enrichment()?;
        ask.billionths().checked_sub(bid.billionths()).map(Price::from_billionths)
    }

    /// vwap less mid, rounded once, half-even; `None` without enrichment.
    pub fn vwap_deviation(&self) -> Option<Price> {
        let (bid, ask) = self.enrichment()?;
        let twice_mid = i128::from(bid.billionths()) + i128::from(ask.billionths());
        let volume = i128::try_from(self.volume).ok()?;
        let numerator = self.turnover?.checked_mul(2)?.checked_sub(twice_mid.checked_mul(volume)?)?;
        ratio(numerator, volume.checked_mul(2)?)
    }

    fn enrichment(&self) -> Option<(Price, Price)> {
        self.quote.filter(|_| self.enriched)
    }
}

fn ratio(numerator: i128, denominator: i128) -> Option<Price> {
    divide_half_even(numerator, denominator).map(Price::from_billionths)
}

impl BarsHandler {
    /// A handler for bars of this many nanoseconds.
    pub fn new(interval_ns: NonZeroU64) -> Self {
        Self { interval_ns, symbols: Vec::new() }
    }

    /// Takes away the bars of a symbol but the latest: no trade in order will add to them. A late one makes another bar of the same
    /// start.
    pub fn take_closed(&mut self, symbol: SymbolId) -> impl Iterator<Item = Bar> {
        let bars = self.symbols.get_mut(symbol.index()).map(|symbol| &mut symbol.bars);
        bars.into_iter().flat_map(|bars| bars.drain(..bars.len().saturating_sub(1)))
    }

    /// All bars by symbol, each symbol's ascending by start.
    pub fn into_bars(self) -> impl Iterator<Item = (SymbolId, Vec<Bar>)> {
        let numbered = self.symbols.into_iter().enumerate();
        numbered
            .filter(|(_, symbol)| !symbol.bars.is_empty())
            .map(|(id, symbol)| (SymbolId::new(id as u32), symbol.bars))
    }

    #[inline]
    fn symbol(&mut self, id: SymbolId) -> &mut SymbolBars {
        if id.index() >= self.symbols.len() {
            self.symbols.resize_with(id.index() + 1, SymbolBars::default);
        }
        &mut self.symbols[id.index()]
    }
}

impl SymbolBars {
    /// The bar of an interval, new if need be. Nearly always the last; a late trade finds, or makes, an earlier one.
    fn bar(&mut self, start_ns: u64, trade: &Tick) -> &mut Bar {
        let is_last = self.bars.last().is_some_and(|last| last.start_ns == start_ns);
        let index = if is_last {
            self.bars.len() - 1
        } else {
            let found = self.bars.binary_search_by_key(&start_ns, |bar| bar.start_ns);
            found.unwrap_or_else(|index| {
                self.bars.insert(index, Bar::new(start_ns, trade));
                index
            })
        };
        &mut self.bars[index]
    }
}

impl Handler<Tick> for BarsHandler {
    fn enrich(&mut self, tick: &mut Tick, _: &Context) {
        if tick.kind == TickKind::Quote {
            let sides = [(tick.price, tick.size), (tick.ask_price, tick.ask_size)];
            let two_sided = sides.iter().all(|(price, size)| *price != Price::ZERO && *size != 0);
            self.symbol(tick.symbol).quote = two_sided.then_some((tick.price, tick.ask_price));
        }
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        let start_ns = tick.event_ns - tick.event_ns % self.interval_ns;
        let symbol = self.symbol(tick.symbol);
        match tick.kind {
            TickKind::Trade if tick.has(flags::NOT_PRINTABLE) => {}
            TickKind::Trade => {
                let quote = symbol.quote;
                symbol.bar(start_ns, tick).add(tick, context.enriched(), quote);
            }
            TickKind::Quote if !context.enriched() => symbol.quote = None,
            TickKind::Quote | TickKind::Reference | TickKind::Order | TickKind::TradeBreak => {}
        }
    }

    fn on_gap(&mut self, symbol: SymbolId, _: u64) {
        self.symbol(symbol).quote = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::degradation::DegradationLevel;
    use proptest::prelude::*;

    const BHP: SymbolId = SymbolId::new(0);

    fn price(text: &str) -> Price {
        text.parse().unwrap()
    }

    /// What a worker does at a level.
    fn feed(handler: &mut BarsHandler, level: DegradationLevel, mut tick: Tick) {
        let enriched = level == DegradationLevel::Normal;
        let context = Context { level, worker: 0, enriched, replayed: false, conflated: 0 };
        if enriched {
            handler.enrich(&mut tick, &context);
        }
        handler.process(&tick, &context);
    }

    fn trade(at: u64, at_price: &str, size: u64) -> Tick {
        Tick::trade(BHP, at, price(at_price), size)
    }

    fn quote(at: u64, bid: &str, ask: &str) -> Tick {
        Tick::quote(BHP, at, (price(bid), 100), (price(ask), 100))
    }

    fn bars(handler: BarsHandler) -> Vec<Bar> {
        handler.into_bars().flat_map(|(_, bars)| bars).collect()
    }

    fn handler() -> BarsHandler {
        BarsHandler::new(NonZeroU64::new(100).unwrap())
    }

    #[test]
    fn a_bar_sums_up_its_interval_and_no_more() {
        let mut h = handler();
        for tick in [trade(100, "10.5", 1), trade(150, "12", 2), trade(199, "9.25", 4), trade(200, "50", 1)] {
            feed(&mut h, DegradationLevel::Normal, tick);
        }
        let bars = bars(h);
        assert_eq!(bars.len(), 2);
        let bar = &bars[0];
        assert_eq!([bar.open, bar.high, bar.low, bar.close].map(|p| p.to_string()), ["10.5", "12", "9.25", "9.25"]);
        assert_eq!((bar.start_ns, bar.volume, bar.trades), (100, 7, 3));
        // (10.5 + 24 + 37) / 7 = 10.2142857142857…
        assert_eq!(bar.vwap().unwrap().to_string(), "10.214285714");
    }

    #[test]
    fn a_late_trade_joins_its_own_bar_without_taking_the_close() {
        let mut h = handler();
        for tick in [trade(150, "10", 1), trade(250, "20", 1), trade(120, "11", 1), trade(20, "5", 1)] {
            feed(&mut h, DegradationLevel::Normal, tick);
        }
        let bars = bars(h);
        let starts: Vec<_> = bars.iter().map(|b| b.start_ns).collect();
        assert_eq!(starts, [0, 100, 200]);
        assert_eq!((bars[1].open, bars[1].close, bars[1].trades), (price("11"), price("10"), 2));
    }

    #[test]
    fn enrichment_tells_the_quote_in_force_at_the_last_trade() {
        let mut h = handler();
        for tick in [
            quote(100, "10", "10.03"),
            trade(110, "10.02", 3),
            quote(120, "10.01", "10.02"),
            trade(130, "10.01", 1),
            quote(140, "9", "11"),
        ] {
            feed(&mut h, DegradationLevel::Normal, tick);
        }
        let bar = &bars(h)[0];
        assert_eq!(bar.mid(), Some(price("10.015")));
        assert_eq!(bar.spread(), Some(price("0.01")));
        assert_eq!(bar.vwap_deviation(), Some(price("0.0025"))); // 10.0175 − 10.015
    }

    #[test]
    fn columns_stay_empty_where_enrichment_was_skipped_and_quotes_are_not_kept_stale() {
        let mut h = handler();
        feed(&mut h, DegradationLevel::Normal, quote(100, "10", "11"));
        feed(&mut h, DegradationLevel::Normal, trade(110, "10", 1));
        feed(&mut h, DegradationLevel::Soft, trade(120, "10", 1)); // spoils the bar at 100
        feed(&mut h, DegradationLevel::Normal, trade(210, "10", 1)); // the quote still holds
        feed(&mut h, DegradationLevel::Soft, quote(220, "12", "13")); // not seen
        feed(&mut h, DegradationLevel::Normal, trade(310, "10", 1));
        feed(&mut h, DegradationLevel::Normal, quote(320, "10", "11"));
        Handler::<Tick>::on_gap(&mut h, BHP, 1);
        feed(&mut h, DegradationLevel::Normal, trade(410, "10", 1));
        let mids: Vec<_> = bars(h).iter().map(|bar| bar.mid().is_some()).collect();
        assert_eq!(mids, [false, true, false, false]);
    }

    #[test]
    fn a_one_sided_quote_has_no_mid() {
        for empty in [
            Tick::quote(BHP, 100, (price("10"), 0), (price("11"), 5)),
            Tick::quote(BHP, 100, (price("10"), 5), (Price::ZERO, 5)),
        ] {
            let mut h = handler();
            feed(&mut h, DegradationLevel::Normal, quote(100, "1", "2"));
            feed(&mut h, DegradationLevel::Normal, empty);
            feed(&mut h, DegradationLevel::Normal, trade(110, "10", 1));
            assert_eq!(bars(h)[0].mid(), None);
        }
    }

    #[test]
    fn a_bar_without_volume_has_no_vwap_and_extremes_do_not_panic() {
        let mut h = handler();
        feed(&mut h, DegradationLevel::Normal, trade(0, "10", 0));
        for _ in 0..3 {
            let huge = Tick::trade(BHP, 100, Price::from_billionths(i64::MAX), u64::MAX);
            feed(&mut h, DegradationLevel::Normal, huge);
        }
        let bars = bars(h);
        assert_eq!(bars[0].vwap(), None);
        assert_eq!(bars[1].vwap(), None);
        assert_eq!(bars[1].volume, 3 * u128::from(u64::MAX));
    }

    proptest! {
        /// Against sums over the whole list, for any order of trades.
        #[test]
        fn bars_equal_a_computation_by_interval(
            trades in proptest::collection::vec((0u64..1000, 1i64..1_000_000_000_000, 1u64..1_000_000), 1..200),
        ) {
            let mut h = handler();
            for &(at, p, size) in &trades {
                let tick = Tick::trade(BHP, at, Price::from_billionths(p), size);
                feed(&mut h, DegradationLevel::Soft, tick);
            }
            let bars = bars(h);
            let mut starts: Vec<u64> = trades.iter().map(|t| t.0 / 100 * 100).collect();
            starts.sort_unstable();
            starts.dedup();
            prop_assert_eq!(bars.iter().map(|b| b.start_ns).collect::<Vec<_>>(), starts);
            for bar in bars {
                let mine: Vec<_> = trades.iter().filter(|t| t.0 / 100 * 100 == bar.start_ns).collect();
                // Stable sort: at equal times, the first to come opens and the last to come closes.
                let mut sorted = mine.clone();
                sorted.sort_by_key(|t| t.0);
                prop_assert_eq!(bar.open.billionths(), sorted[0].1);
                prop_assert_eq!(bar.close.billionths(), sorted[sorted.len() - 1].1);
                prop_assert_eq!(bar.high.billionths(), mine.iter().map(|t| t.1).max().unwrap());
                prop_assert_eq!(bar.low.billionths(), mine.iter().map(|t| t.1).min().unwrap());
                let volume: u128 = mine.iter().map(|t| u128::from(t.2)).sum();
                prop_assert_eq!(bar.volume, volume);
                let turnover: i128 = mine.iter().map(|t| i128::from(t.1) * i128::from(t.2)).sum();
                // |vwap − turnover/volume| ≤ ½ billionth
                let vwap = i128::from(bar.vwap().unwrap().billionths());
                prop_assert!((2 * (vwap * volume as i128 - turnover)).unsigned_abs() <= volume);
            }
        }
    }
}
