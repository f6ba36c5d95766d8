use std::fs;

use tempfile::TempDir;

use super::*;

/// A small directory in the layout; `change` may damage it.
fn dir(change: impl FnOnce(&Path)) -> TempDir {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    for sub in ["trades", "quotes", "reference-data"] {
        fs::create_dir(dir.path().join(sub)).unwrap();
    }
    write("reference-data/company_info.csv", "company_id,symbol,x\n9,BHP,a\n10,RIO,b\n");
    write("trades/9.csv", "03/10/2014,10:00:00.001,36.667,100,0,,\n03/10/2014,10:00:00.002,36.7,5,3,X,\n");
    write("trades/10.csv", "03/10/2014,10:00:00.001,65.0,7,0,,\n");
    write("quotes/10.csv", "03/10/2014,10:00:00.001,64.9,65.0,800,0\n");
    write("quotes/9.csv", "03/10/2014,10:00:00.000,36.6,36.7,1,2\n03/11/2014,00:00:00.000,36.6,36.7,1,2\n");
    change(dir.path());
    dir
}

fn stream(dir: &TempDir, on_malformed: OnMalformed) -> Result<(Vec<Tick>, u64), SourceError> {
    let symbols = Symbols::default();
    let mut source = AsxSource::open(dir.path(), &symbols, on_malformed)?;
    let mut burst = Burst::new();
    while source.next_burst(&mut burst)? != Flow::End {}
    let counters = source.counters();
    assert_eq!(counters.get(FeedCount::Bytes), counters.get(FeedCount::BytesTotal));
    Ok((burst.ticks().to_vec(), counters.get(FeedCount::Malformed)))
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// 10 March 2014, 10:00 read as UTC.
const TEN: u64 = 1_394_445_600_000_000_000;
const MS: u64 = 1_000_000;

#[test]
fn the_stream_is_merged_by_time_then_kind_then_id_after_one_reference_record_each() {
    use TickKind::{Quote as Q, Reference as R, Trade as T};
    let (ticks, skipped) = stream(&dir(|_| ()), OnMalformed::Stop).unwrap();
    let order: Vec<_> = ticks.iter().map(|t| (t.kind, t.symbol.get(), t.event_ns)).collect();
    assert_eq!(
        order,
        [
            (R, 0, TEN),
            (R, 1, TEN),
            (Q, 0, TEN),
            (T, 0, TEN + MS),
            (T, 1, TEN + MS),
            (Q, 1, TEN + MS),
            (T, 0, TEN + 2 * MS),
            (Q, 0, TEN + 14 * 3_600_000 * MS),
        ]
    );
    assert_eq!(ticks.iter().map(|t| t.sequence).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let quote = ticks[5];
    assert_eq!((quote.price.to_string(), quote.size), ("64.9".to_owned(), 800));
    assert_eq!((quote.ask_price.to_string(), quote.ask_size), ("65".to_owned(), 0));
    assert_eq!((ticks[3].price.to_string(), ticks[3].size, skipped), ("36.667".to_owned(), 100, 0));
}

#[test]
fn a_malformed_row_is_named_to_the_column_and_can_be_skipped() {
    for (file, from, to, at) in [
        ("trades/9.csv", "36.7,", "abc,", ":2: column 3 (price): \"abc\": not a price: not a decimal number"),
        ("trades/9.csv", "36.7,", "-1,", ":2: column 3 (price): \"-1\": a price is not negative"),
        ("trades/9.csv", ",5,", ",5.5,", ":2: column 4 (volume): \"5.5\": not a whole number"),
        ("trades/9.csv", ",5,", ",+5,", ":2: column 4 (volume): \"+5\": not a whole number"),
        ("trades/9.csv", ",5,3,X,", ",5", ":2: column 5 (qualifiers): \"\": the row has 4 columns, not 7"),
        ("trades/9.csv", ",5,3,X,", ",5,3,X,,y", ":2: column 8 (surplus): \"y\": the row has 8 columns, not 7"),
        ("trades/9.csv", "00.002", "00.000", ":2: column 2 (time): \"10:00:00.000\": earlier than the row before"),
        ("trades/9.csv", "10:00:00.002", "25:00:00", ":2: column 2 (time): \"25:00:00\": not a time"),
        ("quotes/9.csv", "03/11/2014", "13/11/2014", ":2: column 1 (date): \"13/11/2014\": not a date"),
        ("quotes/9.csv", "03/11/2014", "03/11/1914", ":2: column 1 (date): \"03/11/1914\": not a date"),
        ("quotes/9.csv", "03/11/2014", "", ":2: column 1 (date): \"\": it is missing"),
    ] {
        for line_end in ["\n", "\r\n"] {
            let dir = dir(|root| {
                let path = root.join(file);
                replace(&path, from, to);
                fs::write(&path, fs::read_to_string(&path).unwrap().replace('\n', line_end)).unwrap();
            });
            let error = stream(&dir, OnMalformed::Stop).unwrap_err().to_string();
            let expected = format!("{}{at}", dir.path().join(file).display());
            assert!(error.starts_with(&expected), "{error}\nnot {expected}");
            let (ticks, skipped) = stream(&dir, OnMalformed::Skip).unwrap();
            assert_eq!((ticks.len(), skipped), (7, 1), "{to}");
        }
    }
}

#[test]
fn a_stray_quote_swallows_no_rows() {
    let good = stream(&dir(|_| ()), OnMalformed::Stop).unwrap();
    let buyer = dir(|root| replace(&root.join("trades/9.csv"), "36.667,100,0,,", "36.667,100,0,,\""));
    assert_eq!(stream(&buyer, OnMalformed::Stop).unwrap(), good);
    let price = dir(|root| replace(&root.join("trades/9.csv"), "36.667", "\"36.667"));
    let (ticks, skipped) = stream(&price, OnMalformed::Skip).unwrap();
    assert_eq!((ticks.len(), skipped), (7, 1));
}

#[test]
fn lines_of_reference_data_are_numbered_as_an_editor_does() {
    let twice = "company_id,symbol,x\r\n9,BHP,a\r\n10,RIO,b\r\n9,BHP,a\r\n";
    let dir = dir(|root| fs::write(root.join("reference-data/company_info.csv"), twice).unwrap());
    let error = stream(&dir, OnMalformed::Stop).unwrap_err().to_string();
    assert!(error.contains("company_info.csv:4: column 1 (company_id): \"9\""), "{error}");
}

#[test]
fn the_ticks_before_a_malformed_row_are_delivered_and_none_after_it() {
    let dir = dir(|root| replace(&root.join("trades/9.csv"), "36.7,", "abc,"));
    let symbols = Symbols::default();
    let mut source = AsxSource::open(dir.path(), &symbols, OnMalformed::Stop).unwrap();
    let mut burst = Burst::new();
    assert!(source.next_burst(&mut burst).is_err());
    assert_eq!(burst.ticks().iter().map(|t| t.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((source.next_burst(&mut burst).unwrap(), burst.len()), (Flow::End, 4));
}

#[test]
fn a_layout_that_is_incomplete_says_what_is_missing() {
    let missing = |change: fn(&Path)| stream(&dir(change), OnMalformed::Skip).unwrap_err().to_string();
    assert!(missing(|root| fs::remove_dir_all(root.join("quotes")).unwrap()).contains("quotes: not found: the layout"));
    let companies = "reference-data/company_info.csv";
    assert!(missing(|root| fs::remove_file(root.join("reference-data/company_info.csv")).unwrap()).contains(companies));
    assert!(missing(|root| fs::write(root.join("trades/77.csv"), "").unwrap()).contains("company 77 is not in"));
    let twice = missing(|root| replace(&root.join("reference-data/company_info.csv"), "10,RIO", "9,RIO"));
    assert!(
        twice.contains("company_info.csv:3: column 1 (company_id): \"9\": this company was listed before"),
        "{twice}"
    );
    let unnamed = missing(|root| replace(&root.join("reference-data/company_info.csv"), "RIO", ""));
    assert!(unnamed.contains("column 2 (symbol)"), "{unnamed}");
    let header = missing(|root| replace(&root.join("reference-data/company_info.csv"), "company_id", "id"));
    assert!(header.contains("company_info.csv:1: column 1 (company_id): \"id\""), "{header}");
    let symbols = Symbols::default();
    let nowhere = AsxSource::open(Path::new("/nowhere/at-all"), &symbols, OnMalformed::Stop).unwrap_err();
    assert_eq!(nowhere.to_string(), "/nowhere/at-all: not found: a directory of recorded ticks");
}

#[test]
fn an_empty_stream_still_has_its_reference_data() {
    let dir = dir(|root| {
        for file in ["trades/9.csv", "trades/10.csv", "quotes/9.csv", "quotes/10.csv"] {
            fs::write(root.join(file), "").unwrap();
        }
    });
    let (ticks, _) = stream(&dir, OnMalformed::Stop).unwrap();
    assert_eq!(ticks.len(), 2);
}
