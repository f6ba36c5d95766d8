//! Bars as CSV.

use std::io::Write;

use super::bars::Bar;
use crate::price::Price;

/// The columns. The last three are enrichment, empty where it was skipped.
const HEADER: [&str; 12] = [
    "symbol",
    "start_ns",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trades",
    "vwap",
    "mid",
    "spread",
    "vwap_deviation",
];

/// Writes bars, with a header, ordered by start and then by symbol. Returns how many.
///
/// Prices are exact decimals without trailing zeros.
///
/// # Errors
/// What the writer reports.
pub fn write_bars<S: AsRef<str>>(
    out: impl Write,
    bars: impl IntoIterator<Item = (S, Vec<Bar>)>,
) -> Result<usize, csv::Error> {
    let mut symbols: Vec<(S, Vec<Bar>)> = bars.into_iter().collect();
    symbols.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
    // Symbols are in order, so a stable sort by start alone is enough.
    let mut rows: Vec<(&str, &Bar)> =
        symbols.iter().flat_map(|(name, bars)| bars.iter().map(|bar| (name.as_ref(), bar))).collect();
    rows.sort_by_key(|(_, bar)| bar.start_ns);

    let text = |price: Option<Price>| price.map_or_else(String::new, |p| p.to_string());
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(HEADER)?;
    for (symbol, bar) in &rows {
        csv.write_record([
            (*symbol).to_owned(),
            bar.start_ns.to_string(),
            bar.open.to_string(),
            bar.high.to_string(),
            bar.low.to_string(),
            bar.close.to_string(),
            bar.volume.to_string(),
            bar.trades.to_string(),
            text(bar.vwap()),
            text(bar.mid()),
            text(bar.spread()),
            text(bar.vwap_deviation()),
        ])?;
    }
    csv.flush()?;
    Ok(rows.len())
}
