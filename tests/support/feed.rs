//! A small recorded feed in the ASX layout, made by rule.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// Trades and quotes of the feed that [`feed`] makes.
pub(crate) const TRADES: u64 = 3 * 400;
pub(crate) const QUOTES: u64 = 3 * 200;
/// One message for each trade, quote and company.
pub(crate) const MESSAGES: u64 = TRADES + QUOTES + 3;

/// A directory with three companies, 400 trades and 200 quotes each, over ten minutes.
pub(crate) fn feed() -> TempDir {
    let dir = TempDir::new().unwrap();
    for sub in ["trades", "quotes", "reference-data"] {
        fs::create_dir(dir.path().join(sub)).unwrap();
    }
    let companies = "company_id,symbol\n1,BHP\n2,QAN\n3,XYZ\n";
    fs::write(dir.path().join("reference-data/company_info.csv"), companies).unwrap();
    for company in 1..=3 {
        let mut trades = String::new();
        for i in 0..400 {
            let (time, cents) = (time(i * 1500 + company), 1000 + (i * 7 + company) % 50);
            writeln!(trades, "03/10/2014,{time},{}.{:02},{},0,,", cents / 100, cents % 100, i % 9 + 1).unwrap();
        }
        let mut quotes = String::new();
        for i in 0..200 {
            let time = time(i * 3000);
            writeln!(quotes, "03/10/2014,{time},10.0{},10.5{},100,{}", i % 10, i % 7, i % 3).unwrap();
        }
        fs::write(dir.path().join(format!("trades/{company}.csv")), trades).unwrap();
        fs::write(dir.path().join(format!("quotes/{company}.csv")), quotes).unwrap();
    }
    dir
}

/// Ten o'clock and so many milliseconds.
fn time(ms: u32) -> String {
    format!("10:{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000)
}

/// Damages a file of the feed.
pub(crate) fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from:?}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
