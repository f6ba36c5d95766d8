use super::*;
use crate::source::FeedCount;
use crate::tick::TickKind;

/// A message of a type: what it begins with, for security 7 at 1000 ns, and then these bytes.
fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 7, 0, 0];
    bytes.extend_from_slice(&1000u64.to_be_bytes()[2..]);
    body.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

const STOCK: &[u8] = b"BHP     ";

fn n8(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn n4(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

fn add(reference: u64, side: u8, shares: u32, price: u32) -> Vec<u8> {
    message(b'A', &[&n8(reference), &[side], &n4(shares), STOCK, &n4(price)])
}

struct Bench {
    decoder: ItchDecoder,
    symbols: Arc<Symbols>,
    sequence: u64,
}

impl Bench {
    fn new(orders_max: usize) -> Self {
        let symbols = Arc::new(Symbols::default());
        let config = ItchConfig { midnight_ns: 50_000, orders_max, ..ItchConfig::default() };
        Self { decoder: ItchDecoder::new(Arc::clone(&symbols), config), symbols, sequence: 0 }
    }

    fn ticks(&mut self, message: &[u8]) -> Result<Vec<Tick>> {
        let mut burst = Burst::new();
        self.sequence += 1;
        self.decoder.decode(message, Stamp { sequence: self.sequence, receive_ns: 3 }, &mut burst)?;
        Ok(burst.ticks().to_vec())
    }

    /// The one tick of a message.
    fn tick(&mut self, message: &[u8]) -> Tick {
        let ticks = self.ticks(message).unwrap();
        assert_eq!(ticks.len(), 1, "{ticks:?}");
        ticks[0]
    }

    fn counts(&mut self) -> [u64; 3] {
        let counters = FeedCounters::default();
        self.decoder.count(&counters);
        [FeedCount::Orders, FeedCount::Unresolved, FeedCount::Untracked].map(|count| counters.get(count))
    }
}

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

/// What the book gains and loses by a tick.
fn change(tick: &Tick) -> ((String, u64), (String, u64)) {
    ((tick.price.to_string(), tick.size), (tick.ask_price.to_string(), tick.ask_size))
}

#[test]
fn an_order_lives_from_its_add_to_its_end_and_each_message_is_one_tick() {
    let mut bench = Bench::new(10);
    let tick = bench.tick(&add(1, b'B', 100, 366_700));
    assert_eq!((tick.kind, tick.side, tick.flags), (TickKind::Order, Side::Buy, 0));
    assert_eq!((tick.event_ns, tick.receive_ns, tick.sequence), (51_000, 3, 1));
    assert_eq!(bench.symbols.name(tick.symbol).as_deref(), Some("BHP"));
    assert_eq!(change(&tick), (("36.67".into(), 100), ("0".into(), 0)));

    let tick = bench.tick(&message(b'X', &[&n8(1), &n4(30)]));
    assert_eq!((change(&tick), tick.side, tick.flags), ((("0".into(), 0), ("36.67".into(), 30)), Side::Buy, 0));

    let tick = bench.tick(&message(b'U', &[&n8(1), &n8(2), &n4(50), &n4(366_800)]));
    assert_eq!(change(&tick), (("36.68".into(), 50), ("36.67".into(), 70)));
    assert_eq!((tick.side, tick.flags), (Side::Buy, flags::ORDER_DONE));

    let tick = bench.tick(&message(b'E', &[&n8(2), &n4(20), &n8(900)]));
    assert_eq!((tick.kind, tick.side, tick.flags), (TickKind::Trade, Side::Sell, flags::FROM_BOOK));
    assert_eq!(change(&tick), (("36.68".into(), 20), ("36.68".into(), 900)));

    let tick = bench.tick(&message(b'C', &[&n8(2), &n4(30), &n8(901), b"N", &n4(366_600)]));
    assert_eq!(tick.flags, flags::FROM_BOOK | flags::ORDER_DONE | flags::NOT_PRINTABLE);
    assert_eq!(change(&tick), (("36.66".into(), 30), ("36.68".into(), 901)));
    assert_eq!(bench.counts(), [0, 0, 0]);

    bench.tick(&message(b'F', &[&n8(3), b"S", &n4(5), STOCK, &n4(400_000), b"GSCO"]));
    let tick = bench.tick(&message(b'D', &[&n8(3)]));
    assert_eq!((change(&tick), tick.side), ((("0".into(), 0), ("40".into(), 5)), Side::Sell));
    assert_eq!((tick.flags, bench.counts()), (flags::ORDER_DONE, [0, 0, 0]));
}

#[test]
fn trades_without_an_order_tell_what_they_are() {
    let mut bench = Bench::new(10);
    let tick = bench.tick(&message(b'P', &[&n8(0), b"B", &n4(7), STOCK, &n4(366_700), &n8(55)]));
    assert_eq!((tick.kind, tick.side, tick.flags), (TickKind::Trade, Side::Unknown, flags::HIDDEN));
    assert_eq!(change(&tick), (("36.67".into(), 7), ("0".into(), 55)));
    let cross = |shares| message(b'Q', &[&n8(shares), STOCK, &n4(366_700), &n8(56), b"O"]);
    let tick = bench.tick(&cross(5_000_000_000));
    assert_eq!((tick.kind, tick.size, tick.ask_size, tick.flags), (TickKind::Trade, 5_000_000_000, 56, flags::CROSS));
    let tick = bench.tick(&cross(0));
    assert_eq!((tick.kind, tick.flags), (TickKind::Reference, u16::from(b'Q')));
    let tick = bench.tick(&message(b'B', &[&n8(55)]));
    assert_eq!((tick.kind, tick.ask_size, tick.size), (TickKind::TradeBreak, 55, 0));
}

#[test]
fn what_the_table_does_not_know_is_incomplete_and_counted() {
    let mut bench = Bench::new(2);
    // Nothing is known, not even the security.
    for unknown in [message(b'D', &[&n8(1)]), message(b'B', &[&n8(1)])] {
        assert_eq!(bench.ticks(&unknown), Ok(vec![]));
    }
    assert_eq!(bench.counts(), [0, 2, 0]);
    bench.tick(&add(1, b'B', 100, 10_000));
    let unknown = [
        message(b'D', &[&n8(9)]),
        message(b'X', &[&n8(9), &n4(1)]),
        message(b'E', &[&n8(9), &n4(1), &n8(1)]),
        message(b'U', &[&n8(9), &n8(10), &n4(50), &n4(10_000)]),
    ];
    for message in &unknown {
        let tick = bench.tick(message);
        assert_eq!((tick.kind, tick.flags), (TickKind::Order, flags::INCOMPLETE));
        assert_eq!((tick.size, tick.ask_size, tick.symbol.get()), (0, 0, 0));
    }
    // With its price it is a trade all the same, though not one that the book can lose from.
    let tick = bench.tick(&message(b'C', &[&n8(9), &n4(4), &n8(77), b"N", &n4(12_000)]));
    assert_eq!((tick.kind, tick.price, tick.size, tick.ask_size), (TickKind::Trade, price("1.2"), 4, 77));
    assert_eq!(tick.flags, flags::INCOMPLETE | flags::NOT_PRINTABLE);
    assert_eq!(bench.counts(), [1, 7, 0]);
    // A reference that comes twice, and a table that is full.
    assert_eq!(bench.tick(&add(1, b'B', 50, 10_000)).flags, flags::INCOMPLETE);
    assert_eq!(bench.tick(&add(2, b'B', 50, 10_000)).flags, 0);
    assert_eq!(bench.tick(&add(3, b'B', 50, 10_000)).flags, flags::INCOMPLETE);
    assert_eq!(bench.counts(), [2, 8, 1]);
}

#[test]
fn reference_data_tells_its_type_and_what_the_table_promises() {
    let mut bench = Bench::new(10);
    let directory = [STOCK, b"QN", &n4(100), b"NCZ P N1N", &n4(0), b"N"];
    let collar = [STOCK, &n4(10_000), &n4(11_000), &n4(9_000), &n4(2)];
    let imbalance = [&n8(5)[..], &n8(6), b"S", STOCK, &n4(1), &n4(20_000), &n4(30_000), b"OL"];
    let listing = [STOCK, b"Y", &n4(1), &n4(2), &n4(10_000), &n8(99), &n4(3), &n4(40_000)];
    for (kind, body, expected, symbol) in [
        (b'S', &[&b"Q"[..]][..], ("0", 81, "0", 0), "*"),
        (b'R', &directory, ("0", 100, "0", 0), "BHP"),
        (b'H', &[STOCK, b"H T1  "], ("0", 72, "0", 0), "BHP"),
        (b'Y', &[STOCK, b"1"], ("0", 49, "0", 0), "BHP"),
        (b'L', &[b"GSCO", STOCK, b"YNA"], ("0", 65, "0", 0), "BHP"),
        (b'V', &[&n8(100_000_000), &n8(2), &n8(50_000_000)], ("1", 0, "0.5", 0), "*"),
        (b'W', &[b"2"], ("0", 50, "0", 0), "*"),
        (b'K', &[STOCK, &n4(34_200), b"A", &n4(250_000)], ("25", 34_200, "0", 65), "BHP"),
        (b'J', &collar, ("0.9", 2, "1.1", 0), "BHP"),
        (b'h', &[STOCK, b"QH"], ("0", 72, "0", 0), "BHP"),
        (b'I', &imbalance, ("3", 5, "2", 6), "BHP"),
        (b'N', &[STOCK, b"A"], ("0", 65, "0", 0), "BHP"),
        (b'O', &listing, ("1", 99, "4", 0), "BHP"),
    ] {
        let tick = bench.tick(&message(kind, body));
        let what = kind as char;
        assert_eq!((tick.kind, tick.flags), (TickKind::Reference, u16::from(kind)), "{what}");
        let found = (tick.price.to_string(), tick.size, tick.ask_price.to_string(), tick.ask_size);
        assert_eq!(found, (expected.0.to_owned(), expected.1, expected.2.to_owned(), expected.3), "{what}");
        assert_eq!(bench.symbols.name(tick.symbol).as_deref(), Some(symbol), "{what}");
        assert_eq!(tick.side, if kind == b'I' { Side::Sell } else { Side::Unknown }, "{what}");
    }
}

#[test]
fn a_day_and_a_session_begin_with_empty_books_and_new_numbers_for_securities() {
    for by_event in [true, false] {
        let mut bench = Bench::new(10);
        let start = message(b'S', &[b"O"]);
        assert_eq!(bench.ticks(&start).unwrap().len(), 1, "no book to clear");
        let bhp = bench.tick(&add(1, b'B', 100, 10_000)).symbol;
        let rio = add(2, b'B', 100, 10_000);
        let rio = [&rio[..24], b"RIO     ", &rio[32..]].concat();
        if !by_event {
            bench.decoder.begin_session();
        }
        let ticks = bench.ticks(if by_event { &start } else { &rio }).unwrap();
        let clear = (TickKind::Order, bhp, flags::CLEAR);
        assert_eq!((ticks[0].kind, ticks[0].symbol, ticks[0].flags), clear);
        assert_eq!(ticks.len(), 2);
        let ticks = if by_event { bench.ticks(&rio).unwrap() } else { ticks };
        // The same number, another security.
        assert_eq!(bench.symbols.name(ticks[ticks.len() - 1].symbol).as_deref(), Some("RIO"));
        assert_eq!(bench.counts()[0], 1);
    }
}

#[test]
fn malformed_messages_are_told_and_change_nothing() {
    let mut bench = Bench::new(10);
    let error = |bench: &mut Bench, message: &[u8]| {
        let Malformed { kind, reason } = bench.ticks(message).unwrap_err();
        format!("{kind}: {reason}")
    };
    for (message, said) in [
        (add(1, b'?', 1, 1), "add order ('A'): '?' is no side (B, S)"),
        (message(b'A', &[&n8(1), b"B", &n4(1), b"        ", &n4(1)]), "add order ('A'): \"\" is no symbol"),
        (message(b'A', &[&n8(1), b"B", &n4(1), b"\xff       ", &n4(1)]), "add order ('A'): \"\u{fffd}\" is no symbol"),
        (
            message(b'C', &[&n8(1), &n4(1), &n8(1), b"?", &n4(1)]),
            "order executed with price ('C'): '?' is no printable (Y, N)",
        ),
        (message(b'!', &[]), "type '!': ITCH 5.0 has no such message"),
        (add(1, b'B', 1, 1)[..30].to_vec(), "add order ('A'): it has 30 bytes, not 36"),
    ] {
        assert_eq!(error(&mut bench, &message), said);
    }
    assert_eq!((bench.counts(), bench.symbols.len()), ([0, 0, 0], 0));
    bench.tick(&add(1, b'B', 1, 1));
}

#[test]
fn a_full_registry_is_named() {
    let symbols = Arc::new(Symbols::new(Default::default(), 1));
    symbols.intern("RIO").unwrap();
    let mut decoder = ItchDecoder::new(symbols, ItchConfig { orders_max: 10, ..ItchConfig::default() });
    let mut burst = Burst::new();
    let error = decoder.decode(&add(1, b'B', 1, 1), Stamp { sequence: 1, receive_ns: 0 }, &mut burst).unwrap_err();
    assert!(error.reason.contains("BHP"), "{error:?}");
}

/// A table of what a symbol's book has, by side and price.
fn levels(ticks: &[Tick]) -> std::collections::BTreeMap<(bool, Price), u64> {
    let mut levels = std::collections::BTreeMap::new();
    for tick in ticks.iter().filter(|tick| tick.size > 0) {
        *levels.entry((tick.side == Side::Buy, tick.price)).or_default() += tick.size;
    }
    levels
}

#[test]
fn a_picture_clears_the_books_asked_for_and_shows_all_their_orders() {
    let mut bench = Bench::new(100);
    let rio = |reference| {
        let add = add(reference, b'S', 5, 20_000);
        [&add[..2], &[8], &add[3..24], b"RIO     ", &add[32..]].concat()
    };
    for message in [add(1, b'B', 100, 10_000), add(2, b'B', 50, 10_000), rio(3), add(4, b'S', 7, 11_000)] {
        bench.tick(&message);
    }
    bench.tick(&message(b'X', &[&n8(2), &n4(20)]));
    let (bhp, stale) = (SymbolId::new(0), SymbolSet::new(10));
    stale.insert(bhp);
    let mut burst = Burst::new();
    assert!(bench.decoder.snapshot(&stale, &mut burst));
    let ticks = burst.ticks();
    assert_eq!((ticks.len(), ticks[0].flags), (5, flags::CLEAR | flags::SNAPSHOT));
    assert_eq!(ticks[4].flags, flags::SNAPSHOT | flags::SNAPSHOT_END);
    assert!(ticks.iter().all(|t| t.symbol == bhp && t.has(flags::SNAPSHOT) && t.sequence == 5 && t.event_ns == 51_000));
    let expected = [((false, price("1.1")), 7), ((true, price("1")), 130)];
    assert_eq!(levels(ticks), expected.into_iter().collect());
    // After a hole the table may be wrong; a new session is a new table.
    bench.decoder.note_gap();
    assert!(!bench.decoder.snapshot(&stale, &mut Burst::new()));
    bench.decoder.begin_session();
    assert!(bench.decoder.snapshot(&stale, &mut Burst::new()));
    // A symbol of another feed is none of its business.
    let (others, mut burst) = (SymbolSet::new(10), Burst::new());
    others.insert(SymbolId::new(7));
    assert!(bench.decoder.snapshot(&others, &mut burst) && burst.is_empty());
}
