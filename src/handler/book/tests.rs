use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::degradation::DegradationLevel;

const CONTEXT: Context =
    Context { level: DegradationLevel::Normal, worker: 0, enriched: false, replayed: false, conflated: 0 };
const NOTHING: (Price, u64) = (Price::ZERO, 0);

type Tell = Box<dyn FnMut(&Bbo) + Send>;

struct Bench {
    handler: BookHandler<Tell>,
    told: Receiver<Bbo>,
    now_ns: u64,
}

impl Bench {
    fn new() -> Self {
        let (tell, told) = channel();
        let handler = BookHandler::new(Box::new(move |bbo: &Bbo| tell.send(*bbo).unwrap()) as Tell);
        Self { handler, told, now_ns: 1000 }
    }

    /// Processes a tick, a second later than the one before, and returns what is told.
    fn process(&mut self, tick: Tick) -> Option<Bbo> {
        self.now_ns += 1;
        self.handler.process(&Tick { event_ns: self.now_ns, sequence: self.now_ns - 1000, ..tick }, &CONTEXT);
        let told = self.told.try_recv().ok();
        assert!(self.told.try_recv().is_err(), "once a message at most");
        told
    }

    fn levels(&self, symbol: u32, side: Side) -> Vec<(i64, u64, u32)> {
        let levels = self.handler.book(id(symbol)).unwrap().levels(side);
        levels.map(|level| (level.price.billionths(), level.size, level.orders)).collect()
    }

    fn counts(&mut self) -> BookCounts {
        self.handler.count();
        self.handler.counters().get()
    }
}

fn id(symbol: u32) -> SymbolId {
    SymbolId::new(symbol)
}

fn at(price: i64, size: u64) -> (Price, u64) {
    (Price::from_billionths(price), size)
}

fn order(symbol: u32, side: Side, gained: (Price, u64), lost: (Price, u64), flags: u16) -> Tick {
    Tick { flags, ..Tick::order(id(symbol), 0, side, gained, lost) }
}

fn add(symbol: u32, side: Side, price: i64, size: u64) -> Tick {
    order(symbol, side, at(price, size), NOTHING, 0)
}

/// Best bid, best offer, stale.
fn top(bbo: Bbo) -> ((i64, u64), (i64, u64), bool) {
    ((bbo.bid.0.billionths(), bbo.bid.1), (bbo.ask.0.billionths(), bbo.ask.1), bbo.stale)
}

#[test]
fn a_book_follows_its_orders_and_tells_when_its_top_changes() {
    let mut bench = Bench::new();
    let told = bench.process(add(3, Side::Buy, 100, 10)).unwrap();
    assert_eq!((told.symbol, told.event_ns, told.sequence), (id(3), 1001, 1));
    assert_eq!(top(told), ((100, 10), (0, 0), false));
    assert_eq!(bench.process(add(3, Side::Buy, 90, 5)), None, "behind the best");
    assert_eq!(top(bench.process(add(3, Side::Sell, 110, 7)).unwrap()), ((100, 10), (110, 7), false));
    assert_eq!(top(bench.process(add(3, Side::Buy, 100, 1)).unwrap()), ((100, 11), (110, 7), false));
    // A replaced order gains and loses at once: one change.
    let replaced = order(3, Side::Buy, at(105, 2), at(100, 10), flags::ORDER_DONE);
    assert_eq!(top(bench.process(replaced).unwrap()), ((105, 2), (110, 7), false));
    assert_eq!(bench.levels(3, Side::Buy), [(105, 2, 1), (100, 1, 1), (90, 5, 1)]);
    // A sale to a displayed buy order, at another price than its own.
    let trade = Tick::trade(id(3), 0, Price::from_billionths(106), 2);
    let flags = flags::FROM_BOOK | flags::ORDER_DONE;
    let executed = Tick { side: Side::Sell, ask_price: Price::from_billionths(105), flags, ..trade };
    assert_eq!(top(bench.process(executed).unwrap()), ((100, 1), (110, 7), false));
    assert_eq!(bench.process(Tick::trade(id(3), 0, Price::from_billionths(1), 50)), None, "not from the book");
    assert_eq!(bench.process(Tick::trade_break(id(3), 0, 5)), None);
    // Others have books of their own.
    assert_eq!(top(bench.process(add(0, Side::Sell, 7, 7)).unwrap()), ((0, 0), (7, 7), false));
    assert_eq!(bench.handler.books().map(|(symbol, _)| symbol.get()).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(bench.handler.book(id(1)).map(|_| ()), None);
    let clear = order(3, Side::Unknown, NOTHING, NOTHING, flags::CLEAR);
    assert_eq!(top(bench.process(clear).unwrap()), ((0, 0), (0, 0), false));
    assert_eq!(bench.process(clear), None);
    let counts = BookCounts { books: 2, bbo_changes: 7, ..BookCounts::default() };
    assert_eq!(bench.counts(), counts);
}

#[test]
fn a_quote_is_a_whole_book() {
    let mut bench = Bench::new();
    let quote = |bid, ask| Tick::quote(id(0), 0, bid, ask);
    assert_eq!(top(bench.process(quote(at(9, 1), at(11, 2))).unwrap()), ((9, 1), (11, 2), false));
    assert_eq!(bench.process(quote(at(9, 1), at(11, 2))), None);
    bench.handler.on_gap(id(0), 4);
    assert!(bench.handler.book(id(0)).unwrap().is_stale());
    assert_eq!(top(bench.process(quote(at(9, 1), NOTHING)).unwrap()), ((9, 1), (0, 0), false));
    assert_eq!(bench.counts().stale_ns, 1, "from the second quote to the third");
    assert_eq!(top(bench.process(quote((Price::ZERO, 5), at(3, 1))).unwrap()), ((0, 0), (3, 1), false));
    // But one that its feed does not trust.
    let doubtful = Tick { flags: flags::INCOMPLETE, ..quote(at(9, 1), at(11, 2)) };
    assert_eq!(top(bench.process(doubtful).unwrap()), ((9, 1), (11, 2), true));
    assert_eq!(bench.process(doubtful), None);
    assert_eq!(top(bench.process(quote(at(9, 1), at(11, 2))).unwrap()), ((9, 1), (11, 2), false));
}

#[test]
fn a_book_that_lost_messages_is_stale_until_it_is_rebuilt_and_its_time_is_counted() {
    let stale = Arc::new(SymbolSet::new(10));
    let mut bench = Bench::new();
    bench.handler = bench.handler.rebuilding(Arc::clone(&stale));
    bench.process(add(1, Side::Buy, 100, 10)); // 1001
    bench.process(add(2, Side::Buy, 50, 1)); // 1002
    bench.handler.on_gap(id(1), 3);
    bench.handler.on_gap(id(1), 2);
    assert_eq!((stale.iter().collect::<Vec<_>>(), bench.counts().stale), (vec![id(1)], 1));
    assert_eq!(bench.counts().stale_ns, 1, "1001 to 1002");
    let told = bench.process(add(1, Side::Sell, 200, 10)).unwrap(); // 1003
    assert_eq!(top(told), ((100, 10), (200, 10), true));
    assert_eq!(bench.process(add(2, Side::Buy, 49, 1)), None, "another symbol is not"); // 1004
    // A picture: nothing is told before it is complete.
    let picture = |gained, flags| order(1, Side::Buy, gained, NOTHING, flags::SNAPSHOT | flags);
    assert_eq!(bench.process(picture(NOTHING, flags::CLEAR)), None); // 1005
    assert_eq!(bench.process(picture(at(70, 7), 0)), None); // 1006
    assert!(bench.handler.book(id(1)).unwrap().is_stale());
    assert_eq!(top(bench.process(picture(NOTHING, flags::SNAPSHOT_END)).unwrap()), ((70, 7), (0, 0), false)); // 1007
    assert_eq!(bench.handler.book(id(1)).unwrap().stale_ns(), 6, "1001 to 1007");
    assert!(stale.is_empty() && bench.counts().stale == 0 && bench.counts().stale_ns == 6);

    // Of a picture that lost messages itself, nothing is believed.
    bench.handler.on_gap(id(1), 1);
    bench.process(picture(NOTHING, flags::CLEAR));
    bench.handler.on_gap(id(1), 1);
    let told = bench.process(picture(NOTHING, flags::SNAPSHOT_END)).unwrap(); // 1009
    assert!(told.stale && stale.contains(id(1)));
    // A new session is right from the start.
    let clear = order(1, Side::Unknown, NOTHING, NOTHING, flags::CLEAR);
    assert!(!bench.process(clear).unwrap().stale); // 1010
    assert_eq!((bench.counts().stale_ns, stale.is_empty()), (9, true), "6, and 1007 to 1010");
}

#[test]
fn a_hole_in_the_feed_makes_all_books_stale_and_so_do_messages_that_do_not_fit() {
    let mut bench = Bench::new();
    bench.process(add(1, Side::Buy, 100, 10));
    bench.process(add(2, Side::Buy, 100, 10));
    Handler::<Tick>::on_feed_gap(&mut bench.handler, 5);
    assert_eq!((bench.counts().books, bench.counts().stale), (2, 2));
    // The feed does not know an order; one that is not there is taken from; a trade of an unknown order.
    let mut bench = Bench::new();
    bench.process(add(1, Side::Buy, 100, 10));
    assert!(bench.process(order(1, Side::Unknown, NOTHING, NOTHING, flags::INCOMPLETE)).unwrap().stale);
    bench.process(add(2, Side::Buy, 100, 10));
    let told = bench.process(order(2, Side::Buy, NOTHING, at(101, 1), 0)).unwrap();
    assert_eq!((top(told), bench.counts().unmatched), (((100, 10), (0, 0), true), 1));
    let trade = Tick { flags: flags::INCOMPLETE, ..Tick::trade(id(3), 0, Price::from_billionths(1), 1) };
    assert!(bench.process(trade).unwrap().stale);
    assert_eq!(bench.counts().stale, 3);
}

#[test]
fn rows_are_csv_or_json() {
    let bbo = Bbo { symbol: id(0), event_ns: 5, sequence: 6, bid: at(1_500_000_000, 7), ask: NOTHING, stale: true };
    let row = |format, symbol, bbo: &Bbo| {
        let mut out = Vec::new();
        write_bbo(&mut out, format, symbol, bbo).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(row(BboFormat::Csv, "BHP", &bbo), "BHP,5,6,1.5,7,,,1\n");
    assert_eq!(row(BboFormat::Csv, "A,\"B", &Bbo { stale: false, ..bbo }), "\"A,\"\"B\",5,6,1.5,7,,,0\n");
    let json = row(BboFormat::Ndjson, "A\"\\\n", &bbo);
    assert_eq!(
        json,
        "{\"symbol\":\"A\\\"\\\\\\u000a\",\"event_ns\":5,\"sequence\":6,\"bid\":1.5,\"bid_size\":7,\"stale\":true}\n"
    );
    let columns = BboFormat::Csv.header().split(',').count();
    assert_eq!(row(BboFormat::Csv, "A", &bbo).split(',').count(), columns);
}

/// A whole generated day, against what the generator knows to be true.
#[cfg(feature = "feeds")]
mod generated_day {
    use super::*;
    use crate::market::{Market, MarketConfig};
    use crate::source::itch::{ItchConfig, ItchDecoder};
    use crate::source::{Burst, Decode, Stamp};
    use crate::symbols::Symbols;

    struct Day {
        market: Market,
        decoder: ItchDecoder,
        symbols: Arc<Symbols>,
        sequence: u64,
    }

    impl Day {
        fn new() -> Self {
            let config = MarketConfig { seed: 3, messages: 60_000, symbols: 40, ..MarketConfig::default() };
            let symbols = Arc::new(Symbols::default());
            let itch = ItchConfig { orders_max: 10_000, ..ItchConfig::default() };
            let decoder = ItchDecoder::new(Arc::clone(&symbols), itch);
            Self { market: Market::new(&config).unwrap(), decoder, symbols, sequence: 0 }
        }

        /// The ticks of the next message, after `burst`; `false` at the end.
        fn next(&mut self, burst: &mut Burst) -> bool {
            let Some(message) = self.market.next_message() else { return false };
            self.sequence += 1;
            self.decoder.decode(message, Stamp { sequence: self.sequence, receive_ns: 0 }, burst).unwrap();
            true
        }

        /// Whether all books are as the market is; `except` is not looked at.
        fn compare<T: FnMut(&Bbo) + Send + 'static>(&self, handler: &BookHandler<T>, except: Option<&str>) {
            for truth in self.market.truth().into_iter().filter(|truth| Some(truth.symbol.as_str()) != except) {
                let book = self.symbols.id(&truth.symbol).and_then(|id| handler.book(id));
                let Some(book) = book else {
                    assert_eq!(truth.orders, 0);
                    continue;
                };
                assert!(!book.is_stale(), "{}", truth.symbol);
                let best = |side| book.best(side).map(|best| (best.price.billionths(), best.size));
                let cents = |best: &crate::market::Best| (i64::from(best.cents) * 10_000_000, best.shares);
                assert_eq!(best(Side::Buy), truth.bid.as_ref().map(cents), "{}", truth.symbol);
                assert_eq!(best(Side::Sell), truth.ask.as_ref().map(cents), "{}", truth.symbol);
                let orders = [Side::Buy, Side::Sell].into_iter().flat_map(|side| book.levels(side)).map(|l| l.orders);
                assert_eq!(orders.sum::<u32>() as usize, truth.orders);
            }
        }
    }

    #[test]
    fn books_are_what_the_market_is_at_any_time() {
        let (mut day, mut handler, mut burst) = (Day::new(), BookHandler::new(|_: &Bbo| {}), Burst::new());
        while day.next(&mut burst) {
            burst.ticks().iter().for_each(|tick| handler.process(tick, &CONTEXT));
            burst.clear();
            if day.sequence.is_multiple_of(5000) {
                day.compare(&handler, None);
            }
        }
        day.compare(&handler, None);
        let counts = handler.counters().get();
        assert!(counts.books == 40 && counts.unmatched == 0 && counts.bbo_changes > 10_000, "{counts:?}");
    }

    #[test]
    fn a_book_that_lost_messages_is_right_again_after_a_picture() {
        let stale = Arc::new(SymbolSet::new(100));
        let mut handler = BookHandler::new(|_: &Bbo| {}).rebuilding(Arc::clone(&stale));
        let (mut day, mut burst) = (Day::new(), Burst::new());
        let lossy = &*day.market.truth()[0].symbol.clone();
        while day.next(&mut burst) {
            // A third of what the symbol has is shed.
            let id = day.symbols.id(lossy);
            for tick in burst.ticks() {
                let is_shed = Some(tick.symbol) == id && day.sequence.is_multiple_of(3);
                if is_shed && tick.kind == TickKind::Order {
                    handler.on_gap(tick.symbol, 1);
                } else {
                    handler.process(tick, &CONTEXT);
                }
            }
            burst.clear();
            if day.sequence.is_multiple_of(5000) {
                day.compare(&handler, Some(lossy));
                assert_eq!(stale.iter().collect::<Vec<_>>(), [id.unwrap()]);
                assert!(day.decoder.snapshot(&stale, &mut burst));
                burst.ticks().iter().for_each(|tick| handler.process(tick, &CONTEXT));
                burst.clear();
                assert!(stale.is_empty());
                day.compare(&handler, None);
            }
        }
        handler.count();
        assert!(handler.counters().get().stale_ns > 0);
    }
}
