use std::ffi::c_char;
use std::io::Cursor;

use dbn::decode::{DbnMetadata, DecodeRecordRef, DynDecoder};
use dbn::encode::EncodeRecord;
use dbn::encode::dbn::Encoder;
use dbn::{
    BboMsg, BidAskPair, FlagSet, InstrumentDefMsg, MappingInterval, MboMsg, Mbp1Msg, Metadata, OhlcvMsg, Record,
    RecordHeader, SType, Schema, SymbolMapping, TradeMsg, UNDEF_PRICE, VersionUpgradePolicy, rtype,
};
use proptest::prelude::*;
use time::macros::date;

use super::*;
use crate::message::SymbolId;
use crate::price::Price;
use crate::tick::{Side, Tick, TickKind, flags};

/// 30 January 2026, 00:00 UTC.
const DAY: u64 = 1_769_731_200_000_000_000;
const NEXT: u64 = DAY + 86_400_000_000_000;

fn metadata(schema: Schema, version: u8) -> Metadata {
    let interval =
        |start_date, end_date, symbol: &str| MappingInterval { start_date, end_date, symbol: symbol.to_owned() };
    let mapping = |raw_symbol: &str, intervals| SymbolMapping { raw_symbol: raw_symbol.to_owned(), intervals };
    // The instrument with the number 7 is another one from the second day on.
    let mappings = vec![
        mapping("ESH6", vec![interval(date!(2026 - 01 - 30), date!(2026 - 01 - 31), "7")]),
        mapping("ESM6", vec![interval(date!(2026 - 01 - 31), date!(2026 - 02 - 01), "7")]),
        mapping("NQ", vec![interval(date!(2026 - 01 - 30), date!(2026 - 02 - 01), "8")]),
    ];
    let builder = Metadata::builder().dataset(dbn::Dataset::GlbxMdp3.to_string()).schema(Some(schema)).start(DAY);
    builder.stype_in(Some(SType::RawSymbol)).stype_out(SType::InstrumentId).mappings(mappings).version(version).build()
}

fn header<T: dbn::HasRType<Header = RecordHeader>>(rtype: u8, instrument: u32, ts: u64) -> RecordHeader {
    RecordHeader::new::<T>(rtype, 1, instrument, ts)
}

fn trade(instrument: u32, ts: u64, side: u8) -> TradeMsg {
    let hd = header::<TradeMsg>(rtype::MBP_0, instrument, ts);
    let (price, size, side) = (1_500_000_000, 3, side as c_char);
    TradeMsg { hd, price, size, side, action: b'T' as c_char, ts_recv: ts + 5, ..TradeMsg::default() }
}

fn mbo(action: u8, side: u8, order_id: u64, price: i64, size: u32, flags: u8) -> MboMsg {
    MboMsg {
        hd: header::<MboMsg>(rtype::MBO, 7, DAY),
        order_id,
        price,
        size,
        flags: FlagSet::new(flags),
        action: action as c_char,
        side: side as c_char,
        ts_recv: DAY + 5,
        ..MboMsg::default()
    }
}

fn file<R: dbn::encode::DbnEncodable>(schema: Schema, records: &[R]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, &metadata(schema, 3)).unwrap();
    records.iter().for_each(|record| encoder.encode_record(record).unwrap());
    bytes
}

fn source(bytes: &[u8], on_malformed: OnMalformed) -> Result<(DbnSource, Arc<Symbols>), SourceError> {
    let symbols = Arc::new(Symbols::default());
    let input = Input::new(Path::new("d.dbn"), Box::new(Cursor::new(bytes.to_vec())), &Arc::default()).unwrap();
    let config = DbnConfig { orders_max: 100, on_malformed, ..DbnConfig::default() };
    Ok((DbnSource::new(input, Arc::clone(&symbols), config, Arc::default())?, symbols))
}

/// All ticks with their symbols' names, and what ended it.
fn drain(source: &mut DbnSource, symbols: &Symbols) -> (Vec<(String, Tick)>, Option<String>) {
    let (mut ticks, mut burst) = (Vec::new(), Burst::new());
    loop {
        burst.clear();
        let flow = source.next_burst(&mut burst);
        ticks.extend(burst.ticks().iter().map(|tick| (symbols.name(tick.symbol).unwrap().to_string(), *tick)));
        match flow {
            Ok(Flow::End) => return (ticks, None),
            Ok(_) => {}
            Err(error) => return (ticks, Some(error.to_string())),
        }
    }
}

fn read(bytes: &[u8], on_malformed: OnMalformed) -> (Vec<(String, Tick)>, Arc<FeedCounters>, Option<String>) {
    match source(bytes, on_malformed) {
        Ok((mut source, symbols)) => {
            let (ticks, error) = drain(&mut source, &symbols);
            (ticks, Arc::clone(source.counters()), error)
        }
        Err(error) => (Vec::new(), Arc::default(), Some(error.to_string())),
    }
}

fn ticks<R: dbn::encode::DbnEncodable>(schema: Schema, records: &[R]) -> Vec<(String, Tick)> {
    let (ticks, _, error) = read(&file(schema, records), OnMalformed::Stop);
    assert_eq!(error, None);
    ticks
}

#[test]
fn trades_have_the_symbol_of_their_day() {
    let found = ticks(
        Schema::Trades,
        &[trade(7, DAY, b'B'), trade(8, DAY + 1, b'A'), trade(7, NEXT, b'N'), trade(9, NEXT, b'N')],
    );
    let names: Vec<_> = found.iter().map(|(name, tick)| (name.as_str(), tick.side, tick.sequence)).collect();
    let expected =
        [("ESH6", Side::Buy, 1), ("NQ", Side::Sell, 2), ("ESM6", Side::Unknown, 3), ("#9", Side::Unknown, 4)];
    assert_eq!(names, expected);
    let tick = found[0].1;
    let told = (tick.kind, tick.price.to_string(), tick.size, tick.event_ns, tick.receive_ns, tick.flags);
    assert_eq!(told, (TickKind::Trade, "1.5".to_owned(), 3, DAY, DAY + 5, 0));
}

#[test]
fn mbp_1_is_a_quote_after_a_trade_if_there_was_one_and_bbo_a_quote() {
    let level =
        BidAskPair { bid_px: 1_000_000_000, bid_sz: 4, ask_px: UNDEF_PRICE, ask_sz: 9, ..BidAskPair::default() };
    let record = |action: u8, flags| Mbp1Msg {
        hd: header::<Mbp1Msg>(rtype::MBP_1, 8, DAY),
        price: 1_500_000_000,
        size: 3,
        action: action as c_char,
        side: b'A' as c_char,
        flags: FlagSet::new(flags),
        ts_recv: DAY,
        levels: [level.clone()],
        ..Mbp1Msg::default()
    };
    let found = ticks(Schema::Mbp1, &[record(b'A', 0), record(b'T', dbn::flags::MAYBE_BAD_BOOK)]);
    let id = SymbolId::new(0);
    let quote = Tick {
        receive_ns: DAY,
        sequence: 1,
        ..Tick::quote(id, DAY, (Price::from_billionths(1_000_000_000), 4), (Price::ZERO, 0))
    };
    let traded = Tick {
        receive_ns: DAY,
        sequence: 2,
        side: Side::Sell,
        ..Tick::trade(id, DAY, Price::from_billionths(1_500_000_000), 3)
    };
    let found: Vec<_> = found.into_iter().map(|(_, tick)| tick).collect();
    assert_eq!(found, [quote, traded, Tick { sequence: 2, flags: flags::INCOMPLETE, ..quote }]);
    let bbo = BboMsg {
        hd: header::<BboMsg>(rtype::BBO_1S, 8, DAY),
        ts_recv: DAY,
        levels: [level],
        ..BboMsg::default_for_schema(Schema::Bbo1S)
    };
    assert_eq!(ticks(Schema::Bbo1S, &[bbo]).into_iter().map(|(_, tick)| tick).collect::<Vec<_>>(), [quote]);
}

#[test]
fn mbo_follows_orders_and_shows_pictures() {
    let (snapshot, last) = (dbn::flags::SNAPSHOT, dbn::flags::LAST);
    let records = [
        mbo(b'R', b'N', 0, UNDEF_PRICE, 0, snapshot),
        mbo(b'A', b'B', 1, 100, 10, snapshot),
        mbo(b'A', b'A', 2, 110, 5, snapshot | last),
        mbo(b'T', b'A', 0, 100, 4, 0),
        mbo(b'F', b'B', 1, 100, 4, 0),
        mbo(b'C', b'B', 1, 100, 4, last),
        mbo(b'M', b'B', 1, 99, 6, last),
        mbo(b'M', b'B', 3, 98, 1, last),
        mbo(b'C', b'A', 2, 110, 5, last),
        mbo(b'C', b'A', 2, 110, 5, last),
        mbo(b'A', b'B', 1, 50, 1, last),
        mbo(b'A', b'A', 4, 120, 1, dbn::flags::TOB),
        mbo(b'R', b'N', 0, UNDEF_PRICE, 0, last),
        mbo(b'C', b'B', 1, 99, 1, last),
    ];
    let (mut source, symbols) = source(&file(Schema::Mbo, &records), OnMalformed::Stop).unwrap();
    let (found, error) = drain(&mut source, &symbols);
    assert_eq!(error, None);
    let p = |n: i64| Price::from_billionths(n);
    let nothing = (Price::ZERO, 0);
    let order = |side, gained, lost, flags| Tick { flags, ..Tick::order(SymbolId::new(0), DAY, side, gained, lost) };
    use flags::{CLEAR, INCOMPLETE, ORDER_DONE, SNAPSHOT, SNAPSHOT_END};
    let expected = [
        (1, order(Side::Unknown, nothing, nothing, CLEAR | SNAPSHOT)),
        (2, order(Side::Buy, (p(100), 10), nothing, SNAPSHOT)),
        (3, order(Side::Sell, (p(110), 5), nothing, SNAPSHOT | SNAPSHOT_END)),
        (4, Tick { side: Side::Sell, ..Tick::trade(SymbolId::new(0), DAY, p(100), 4) }),
        (6, order(Side::Buy, nothing, (p(100), 4), 0)),
        (7, order(Side::Buy, (p(99), 6), (p(100), 6), ORDER_DONE)),
        (8, order(Side::Buy, (p(98), 1), nothing, INCOMPLETE)),
        (9, order(Side::Sell, nothing, (p(110), 5), ORDER_DONE)),
        (10, order(Side::Unknown, nothing, nothing, INCOMPLETE)),
        (11, order(Side::Buy, (p(50), 1), nothing, INCOMPLETE)),
        (12, order(Side::Sell, (p(120), 1), nothing, INCOMPLETE)),
        (13, order(Side::Unknown, nothing, nothing, CLEAR)),
        (14, order(Side::Unknown, nothing, nothing, INCOMPLETE)),
    ];
    let found: Vec<_> =
        found.into_iter().map(|(_, tick)| (tick.sequence, Tick { sequence: 0, receive_ns: 0, ..tick })).collect();
    assert_eq!(found, expected);
    assert_eq!((source.counters().get(FeedCount::Foreign), source.counters().get(FeedCount::Unresolved)), (1, 4));
    assert_eq!((source.counters().get(FeedCount::Orders), source.counters().get(FeedCount::Messages)), (0, 14));
}

#[test]
fn a_full_table_is_counted_and_shows_no_picture() {
    let adds: Vec<_> = (0..101).map(|n| mbo(b'A', b'B', n, 100, 1, 0)).collect();
    let (mut source, symbols) = source(&file(Schema::Mbo, &adds), OnMalformed::Stop).unwrap();
    let stale = SymbolSet::new(10);
    stale.insert(SymbolId::new(0));
    let mut burst = Burst::new();
    assert!(source.snapshot(&stale, &mut burst) && burst.is_empty(), "nothing is known yet");
    let (found, _) = drain(&mut source, &symbols);
    assert_eq!((found[99].1.flags, found[100].1.flags), (0, flags::INCOMPLETE));
    assert_eq!(source.counters().get(FeedCount::Untracked), 1);
    assert!(!source.snapshot(&stale, &mut burst));
}

#[test]
fn definitions_name_instruments_that_the_metadata_does_not() {
    let mut definition = InstrumentDefMsg {
        hd: header::<InstrumentDefMsg>(rtype::INSTRUMENT_DEF, 99, DAY),
        min_price_increment: 250_000_000,
        display_factor: 1_000_000_000,
        ts_recv: DAY,
        ..InstrumentDefMsg::default()
    };
    for (to, from) in definition.raw_symbol.iter_mut().zip(b"SI") {
        *to = *from as c_char;
    }
    let found = ticks(Schema::Definition, &[definition.clone()]);
    let (name, tick) = &found[0];
    let told = (tick.kind, tick.price.to_string(), tick.ask_price.to_string(), tick.flags);
    assert_eq!(
        (name.as_str(), told),
        ("SI", (TickKind::Reference, "0.25".to_owned(), "1".to_owned(), rtype::INSTRUMENT_DEF.into()))
    );
}

#[test]
fn malformed_records_stop_the_stream_with_offset_and_type_or_are_left_out() {
    let good = trade(7, DAY, b'B');
    for (bad, reason) in [
        (TradeMsg { price: UNDEF_PRICE, ..good.clone() }, "it has no price"),
        (TradeMsg { side: b'x' as c_char, ..good.clone() }, "side 'x' is unknown"),
    ] {
        let bytes = file(Schema::Trades, &[good.clone(), bad, good.clone()]);
        let begin = bytes.len() - 2 * size_of::<TradeMsg>();
        let (found, _, error) = read(&bytes, OnMalformed::Stop);
        assert_eq!((found.len(), error.unwrap()), (1, format!("d.dbn: at byte {begin}: DBN mbp-0: {reason}")));
        let (found, counters, error) = read(&bytes, OnMalformed::Skip);
        assert_eq!((found.len(), counters.get(FeedCount::Malformed), error), (2, 1, None));
    }
    let bytes = file(Schema::Trades, &[good.clone(), good.clone()]);
    let begin = bytes.len() - size_of::<TradeMsg>();
    // The file ends within a record; a record has no length.
    let (found, _, error) = read(&bytes[..bytes.len() - 1], OnMalformed::Stop);
    let reason = format!(
        "d.dbn: at byte {begin}: DBN record: the file ends within it: {} of its bytes are there",
        size_of::<TradeMsg>() - 1
    );
    assert_eq!((found.len(), error.unwrap()), (1, reason));
    // A record is one, by its length, but too short for its type.
    let mut short = bytes.clone();
    short[begin] -= 2;
    let (found, _, error) = read(&short, OnMalformed::Stop);
    let reason = format!("d.dbn: at byte {begin}: DBN mbp-0: it is not as long as one of its type is");
    assert_eq!((found.len(), error.unwrap()), (1, reason));
    let mut endless = bytes.clone();
    endless[begin] = 0;
    let (found, _, error) = read(&endless, OnMalformed::Stop);
    assert!(found.len() == 1 && error.unwrap().starts_with(&format!("d.dbn: at byte {begin}: DBN record: ")));
    let (found, counters, error) = read(&endless, OnMalformed::Skip);
    assert_eq!((found.len(), counters.get(FeedCount::Malformed), error), (1, 1, None));
}

/// What the decoder takes for granted is looked at first; found by fuzzing.
#[test]
fn records_that_the_decoder_would_not_survive_are_malformed() {
    let head = |version| {
        let mut head = Vec::new();
        dbn::encode::dbn::MetadataEncoder::new(&mut head).encode(&metadata(Schema::Definition, version)).unwrap();
        head
    };
    let good = trade(7, DAY, b'B').as_ref().to_vec();
    let mut record = vec![0; 16];
    record[..2].copy_from_slice(&[4, rtype::INSTRUMENT_DEF]);
    for version in [1, 2] {
        let bytes = [&head(version)[..], &record, &good].concat();
        let begin = head(version).len();
        let error = read(&bytes, OnMalformed::Stop).2.unwrap();
        assert!(
            error.starts_with(&format!("d.dbn: at byte {begin}: DBN record: it has 16 bytes, and not ")),
            "{error}"
        );
        let (found, counters, error) = read(&bytes, OnMalformed::Skip);
        assert_eq!((found.len(), counters.get(FeedCount::Malformed), error), (1, 1, None));
    }
    let mut odd = vec![0; 52];
    odd[..2].copy_from_slice(&[13, rtype::MBP_0]);
    let bytes = [&head(3)[..], &odd, &good].concat();
    let error = read(&bytes, OnMalformed::Stop).2.unwrap();
    assert!(error.ends_with("DBN record: it has 52 bytes, which no record has"), "{error}");
    let (found, counters, error) = read(&bytes, OnMalformed::Skip);
    assert_eq!(
        (found.len(), counters.get(FeedCount::Malformed), error),
        (0, 1, None),
        "nothing that could be read follows"
    );
}

#[test]
fn what_is_no_dbn_file_is_told() {
    let error = |bytes: &[u8]| read(bytes, OnMalformed::Stop).2.unwrap();
    assert_eq!(error(b""), "d.dbn: it is empty: give one, plain or packed");
    assert_eq!(error(b"symbol,price\n"), "d.dbn: it is no DBN file: give one, plain or packed");
    assert_eq!(error(b"DBN\x03\xff\xff\xff\xff"), "d.dbn: its metadata has 4294967295 bytes, more than 268435456");
    assert_eq!(error(b"DBN\x03\xff\xff\x00\x00abc"), "d.dbn: it ends within its metadata");
    assert!(error(b"DBN\x63\xff\x00\x00\x00abc").starts_with("d.dbn: its metadata (version 99): "));
}

/// Each file of real data, against what the format's own crate says of each record. They are looked for in `PLIMSOLL_DBN_FILES`, or beside the
/// project; where there are none, there is nothing to compare.
#[test]
fn recorded_files_are_what_their_publishers_crate_says() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/realdata/dbn");
    let dir = std::env::var_os("PLIMSOLL_DBN_FILES").map_or_else(beside, std::path::PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&dir) else { return };
    let mut files = 0;
    for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains(".dbn")) {
        let symbols = Arc::new(Symbols::default());
        let mut source = DbnSource::open(&path, Arc::clone(&symbols), DbnConfig::default()).unwrap();
        let (found, error) = drain(&mut source, &symbols);
        assert_eq!(error, None, "{}", path.display());
        let expected = official(&path);
        let found: Vec<_> = found.into_iter().map(|(name, tick)| told(&name, &tick)).collect();
        assert_eq!(found, expected, "{}", path.display());
        let records = official_count(&path);
        assert!(records > 0 && source.counters().get(FeedCount::Messages) == records, "{}", path.display());
        files += 1;
    }
    assert!(files >= 20, "{files} files in {}", dir.display());
}

/// Symbol, kind, event time, receive time, price, size, price and size of the ask, side; as text, to be read in a failure.
fn told(name: &str, tick: &Tick) -> String {
    let Tick { kind, event_ns, receive_ns, price, size, ask_price, ask_size, side, .. } = tick;
    format!("{name} {kind:?} {event_ns} {receive_ns} {price} {size} {ask_price} {ask_size} {side:?}")
}

fn official_count(path: &Path) -> u64 {
    let mut decoder = DynDecoder::from_file(path, VersionUpgradePolicy::UpgradeToV3).unwrap();
    let mut records = 0;
    while decoder.decode_record_ref().unwrap().is_some() {
        records += 1;
    }
    records
}

/// The same, by the crate's types and accessors alone; what it says of an order's cancellation, the order itself says, too.
fn official(path: &Path) -> Vec<String> {
    let mut decoder = DynDecoder::from_file(path, VersionUpgradePolicy::UpgradeToV3).unwrap();
    let map = decoder.metadata().symbol_map().unwrap();
    let mut out = Vec::new();
    let decimal =
        |price: i64| if price == UNDEF_PRICE { "0".to_owned() } else { Price::from_billionths(price).to_string() };
    let side = |side: c_char| match side as u8 {
        b'A' => "Sell",
        b'B' => "Buy",
        _ => "Unknown",
    };
    let size_of = |price: i64, size: u32| if price == UNDEF_PRICE { 0 } else { size };
    while let Some(record) = decoder.decode_record_ref().unwrap() {
        let ts = record.raw_index_ts();
        let instrument = record.header().instrument_id;
        let mut name = map.get_for_ts(ts, instrument).cloned();
        if let Some(definition) = record.get::<InstrumentDefMsg>() {
            name = name.or_else(|| definition.raw_symbol().ok().map(str::to_owned));
        }
        let name = name.unwrap_or_else(|| format!("#{instrument}"));
        let event = |recv: u64| if record.header().ts_event == u64::MAX { recv } else { record.header().ts_event };
        let quote = |recv: u64, level: &BidAskPair| {
            let (bid, ask) = (decimal(level.bid_px), decimal(level.ask_px));
            let (bid_size, ask_size) = (size_of(level.bid_px, level.bid_sz), size_of(level.ask_px, level.ask_sz));
            format!("{name} Quote {} {recv} {bid} {bid_size} {ask} {ask_size} Unknown", event(recv))
        };
        if let Some(r) = record.get::<TradeMsg>() {
            out.push(format!(
                "{name} Trade {} {} {} {} 0 0 {}",
                event(r.ts_recv),
                r.ts_recv,
                decimal(r.price),
                r.size,
                side(r.side)
            ));
        } else if let Some(r) = record.get::<Mbp1Msg>() {
            if r.action as u8 == b'T' {
                out.push(format!(
                    "{name} Trade {} {} {} {} 0 0 {}",
                    event(r.ts_recv),
                    r.ts_recv,
                    decimal(r.price),
                    r.size,
                    side(r.side)
                ));
            }
            out.push(quote(r.ts_recv, &r.levels[0]));
        } else if let Some(r) = record.get::<BboMsg>() {
            out.push(quote(r.ts_recv, &r.levels[0]));
        } else if let Some(r) = record.get::<OhlcvMsg>() {
            out.push(format!(
                "{name} Reference {} 0 {} {} {} 0 Unknown",
                event(0),
                decimal(r.close),
                r.volume,
                decimal(r.open)
            ));
        } else if let Some(r) = record.get::<InstrumentDefMsg>() {
            let (increment, factor) = (decimal(r.min_price_increment), decimal(r.display_factor));
            out.push(format!("{name} Reference {} {} {increment} 0 {factor} 0 Unknown", event(r.ts_recv), r.ts_recv));
        } else if let Some(r) = record.get::<MboMsg>() {
            let begin = format!("{name} Order {} {}", event(r.ts_recv), r.ts_recv);
            match r.action as u8 {
                b'A' => out.push(format!("{begin} {} {} 0 0 {}", decimal(r.price), r.size, side(r.side))),
                // The files begin in the middle of a day: their orders are not known.
                b'C' => out.push(format!("{begin} 0 0 0 0 Unknown")),
                action => panic!("what is {:?}?", char::from(action)),
            }
        } else {
            panic!("{record:?}");
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_a_panic(
        of_orders: bool,
        cut in 0usize..2000,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let mut bytes = if of_orders {
            file(Schema::Mbo, &[mbo(b'A', b'B', 1, 100, 10, 0), mbo(b'M', b'B', 1, 99, 1, 0), mbo(b'C', b'B', 1, 99, 1, 0)])
        } else {
            file(Schema::Trades, &[trade(7, DAY, b'B'), trade(8, NEXT, b'A')])
        };
        bytes.truncate(cut.max(8));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (found, ..) = read(&bytes, OnMalformed::Skip);
        prop_assert!(found.len() < 10);
        let _ = read(&bytes, OnMalformed::Stop);
    }
}
