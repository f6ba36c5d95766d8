use std::io::{Cursor, Read};

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::price::Price;
use crate::tick::{Side, TickKind};

const CSV: RowFormat = RowFormat::Csv { delimiter: b',' };

fn source(text: &[u8], config: RowsConfig) -> Result<(RowsSource, Arc<Symbols>), SourceError> {
    let symbols = Arc::new(Symbols::default());
    let reader: Box<dyn Read + Send> = Box::new(Cursor::new(text.to_vec()));
    let input = Input::new(Path::new("r"), reader, &Arc::default()).unwrap();
    Ok((RowsSource::new(input, Arc::clone(&symbols), config, Arc::default())?, symbols))
}

/// All ticks, how many rows were malformed, and what ended it.
fn read(text: &[u8], config: RowsConfig) -> (Vec<(String, Tick)>, u64, Option<String>) {
    let (mut source, symbols) = match source(text, config) {
        Ok(source) => source,
        Err(error) => return (Vec::new(), 0, Some(error.to_string())),
    };
    let (mut ticks, mut burst) = (Vec::new(), Burst::new());
    let error = loop {
        burst.clear();
        let flow = source.next_burst(&mut burst);
        ticks.extend(burst.ticks().iter().map(|tick| (symbols.name(tick.symbol).unwrap().to_string(), *tick)));
        match flow {
            Ok(Flow::End) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    let counters = source.counters();
    (ticks, counters.get(FeedCount::Malformed), error)
}

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

/// What both texts below say.
fn expected() -> Vec<(String, Tick)> {
    let id = crate::message::SymbolId::new;
    let trade = Tick { side: Side::Buy, ask_size: 77, ..Tick::trade(id(0), 5, price("36.667"), 100) };
    let quote = Tick::quote(id(1), 6, (price("1.5"), 7), (Price::ZERO, 0));
    let later = Tick { receive_ns: 9, ..Tick::trade(id(0), 8, price("-0.000000001"), 0) };
    let name = |name: &str, tick, sequence| (name.to_owned(), Tick { sequence, ..tick });
    vec![name("BHP", trade, 1), name("R\"I,O", quote, 2), name("BHP", later, 3)]
}

const ROWS: &str = "\u{feff}junk,symbol,ts,price,size,side,trade_id,bid,bid_size,ask,ask_size,receive_ts\n\
    x,BHP,5,36.667,100,B,77,,,,,\n\n\
    x,\"R\"\"I,O\", 6 ,,,,,1.50,7,,0,\r\n\
    \"x,y\",BHP,8,-0.000000001,0,,,,,,,9";

const OBJECTS: &str = r#"{"symbol":"BHP","ts":5,"price":"36.667","size":100,"side":"buy","trade_id":77,"junk":[1,{"a":null}]}
{"ts":"6","symbol":"R\"I\u002cO","bid":1.50,"bid_size":7,"ask":null}

{"symbol":"BHP","ts":8,"price":-0.000000001,"size":0,"receive_ts":9}"#;

#[test]
fn rows_become_ticks_whether_csv_or_json_and_whatever_packs_them() {
    for (format, text) in [(CSV, ROWS), (RowFormat::Ndjson, OBJECTS)] {
        let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
        for bytes in [text.as_bytes(), &packed] {
            let (ticks, malformed, error) = read(bytes, RowsConfig::new(format));
            assert_eq!((error, malformed), (None, 0));
            assert_eq!(ticks, expected());
        }
    }
}

#[test]
fn columns_have_the_names_that_the_configuration_says() {
    let text = "Time;Day;Ticker;Px;Qty;What\n09:30:00.5;30.01.2026;A;1.5;3;T\n";
    let names =
        [(Role::Ts, "Time"), (Role::Date, "Day"), (Role::Symbol, "Ticker"), (Role::Price, "Px"), (Role::Size, "Qty")];
    let columns = names.map(|(role, name)| (role, name.to_owned())).into();
    let zone = TimeZone::get("America/New_York").unwrap();
    let date = DateFrom::Column("%d.%m.%Y".to_owned());
    let time = TimeFormat::Local { pattern: "%H:%M:%S%.f".to_owned(), date, zone };
    let config =
        RowsConfig { columns, time, prefix: "X:".to_owned(), ..RowsConfig::new(RowFormat::Csv { delimiter: b';' }) };
    let (ticks, _, error) = read(text.as_bytes(), config);
    assert_eq!(error, None);
    assert_eq!((ticks[0].0.as_str(), ticks[0].1.event_ns), ("X:A", 1_769_783_400_500_000_000));

    // Without a header, of one symbol and one kind.
    let header = ["ts", "bid", "ask", "bid_size", "ask_size"].map(str::to_owned).into();
    let (symbol, kind) = (Some("RIO".to_owned()), Some(TickKind::Quote));
    let config = RowsConfig { header, symbol, kind, ..RowsConfig::new(CSV) };
    let (ticks, _, error) = read("\u{feff}1,2,3,4,5\n2,,,,\n".as_bytes(), config);
    assert_eq!((error, ticks.len(), ticks[0].0.as_str()), (None, 2, "RIO"));
    assert_eq!((ticks[0].1.price, ticks[0].1.ask_size), (price("2"), 5));
    assert_eq!((ticks[1].1.kind, ticks[1].1.size, ticks[1].1.ask_size), (TickKind::Quote, 0, 0));
}

#[test]
fn a_header_that_lacks_a_column_is_told() {
    let error = |text: &str, config: RowsConfig| read(text.as_bytes(), config).2.unwrap();
    let plain = || RowsConfig::new(CSV);
    assert_eq!(error("", plain()), "r: its header: it is empty; the first line names the columns");
    assert_eq!(error("a,b\n", plain()), "r: there is no column \"symbol\", which has the symbol; there are: a, b");
    assert_eq!(
        error("symbol,ts,b\n", plain()),
        "r: there is none of the columns price, bid, ask; there are: symbol, ts, b"
    );
    assert_eq!(
        error("symbol,ts,bid\n", plain()),
        "r: there is a column \"bid\", but no \"bid_size\", which is to have its size"
    );
    assert_eq!(error("symbol,ts,ts\n", plain()), "r: there are two columns \"ts\"");
    let columns = [(Role::Side, "Aggressor".to_owned())].into();
    let mapped = RowsConfig { columns, ..plain() };
    assert!(error("symbol,ts,price,size\n", mapped).contains("no column \"Aggressor\", which has the side"));
}

#[test]
fn malformed_rows_stop_the_stream_with_line_column_and_value_or_are_skipped() {
    let rows = [
        ("BHP,5,x,1,", "price: \"x\": not a price: not a decimal number"),
        ("BHP,5,1.5,-1,", "size: \"-1\": not a whole number of 0 or more"),
        ("BHP,5,1.5,,", "size: \"\": it is missing"),
        ("BHP,,1.5,1,", "ts: \"\": it is missing"),
        ("BHP,5.5,1.5,1,", "ts: \"5.5\": not nanoseconds since 1970, with no decimals, before 2554"),
        (",5,1.5,1,", "symbol: \"\": it is missing"),
        ("BHP,5,,1,", "price: \"\": it is missing, and so are bid and ask"),
        ("BHP,5,1.5,1,up", "side: \"up\": neither buy nor sell"),
        ("BHP,5,1.5,1", "the row has 4 columns, and the header 5"),
        ("\"BHP,5,1.5,1,", "a quote is not closed; a field does not go on in the next line"),
    ];
    for (row, reason) in rows {
        let text = format!("symbol,ts,price,size,side\nBHP,4,1,1,\n{row}\nBHP,6,2,2,sell\n");
        let (ticks, _, error) = read(text.as_bytes(), RowsConfig::new(CSV));
        assert_eq!((ticks.len(), error.unwrap()), (1, format!("r: at line 3: row: {reason}")));
        let skip = RowsConfig { on_malformed: OnMalformed::Skip, ..RowsConfig::new(CSV) };
        let (ticks, malformed, error) = read(text.as_bytes(), skip);
        assert_eq!((ticks.len(), malformed, error), (2, 1, None));
        assert_eq!(ticks[1].1.sequence, 3, "a row has its number, whether the one before was good or not");
    }
    let objects = [
        ("[1]", "invalid type: sequence, expected an object"),
        (r#"{"symbol":"A","ts":1,"price":true}"#, "price is neither a text nor a number (column 34)"),
        (r#"{"symbol":"A","ts":1,"ts":2}"#, "ts is there twice (column 25)"),
        (r#"{"symbol":"A"} x"#, "trailing characters (column 16)"),
        (r#"{"symbol":"A","ts":1,"price":1e3,"size":1}"#, "price: \"1e3\": not a price: not a decimal number"),
    ];
    for (row, reason) in objects {
        let error = read(row.as_bytes(), RowsConfig::new(RowFormat::Ndjson)).2.unwrap();
        assert_eq!(error, format!("r: at line 1: row: {reason}"));
    }
    let long = [b"symbol,ts,price,size\n".to_vec(), vec![b'x'; 3 << 20], b"\nA,1,2,3\n".to_vec()].concat();
    let skip = RowsConfig { on_malformed: OnMalformed::Skip, ..RowsConfig::new(CSV) };
    assert_eq!(
        (read(&long, skip).0.len(), read(&long, RowsConfig::new(CSV)).2.unwrap()),
        (1, "r: at line 2: row: it is longer than 1 MiB".to_owned())
    );
}

#[test]
fn what_is_written_is_read_again() {
    let id = crate::message::SymbolId::new;
    let ticks = [
        Tick { side: Side::Sell, ..Tick::trade(id(0), 5, price("36.667"), 100) },
        Tick::quote(id(0), 6, (price("1.5"), 7), (Price::ZERO, 0)),
        Tick::quote(id(0), 7, (Price::ZERO, 0), (price("1.5"), 7)),
        Tick::quote(id(0), 8, (price("1.25"), 1), (price("1.5"), 7)),
    ];
    for format in [CSV, RowFormat::Csv { delimiter: b';' }, RowFormat::Ndjson] {
        let mut writer = RowWriter::new(Vec::new(), format).unwrap();
        assert!(ticks.iter().all(|tick| writer.tick("BHP", tick).unwrap()));
        assert!(!writer.tick("BHP", &Tick::reference(id(0), 1)).unwrap());
        let (found, _, error) = read(&writer.finish().unwrap(), RowsConfig::new(format));
        let found: Vec<_> = found.into_iter().map(|(_, tick)| Tick { sequence: 0, ..tick }).collect();
        assert_eq!((found, error), (ticks.to_vec(), None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_a_panic(
        is_json: bool,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..12),
    ) {
        let (text, format) = if is_json { (OBJECTS, RowFormat::Ndjson) } else { (ROWS, CSV) };
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte, what) in changes {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => _ = bytes.remove(at),
            }
        }
        let skip = RowsConfig { on_malformed: OnMalformed::Skip, ..RowsConfig::new(format) };
        let (ticks, malformed, _) = read(&bytes, skip);
        prop_assert!(ticks.len() as u64 + malformed <= bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1);
        let _ = read(&bytes, RowsConfig::new(format));
    }
}
