//! Best bids and offers, as rows.

use std::fmt;
use std::io::{self, Write};

use crate::message::SymbolId;
use crate::price::Price;

/// The best bid and offer of a symbol, after a message has changed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bbo {
    /// The symbol.
    pub symbol: SymbolId,
    /// The message's event time: nanoseconds since the Unix epoch.
    pub event_ns: u64,
    /// The message's number in its feed.
    pub sequence: u64,
    /// Best bid: price, and the size there; (0, 0) when nobody buys.
    pub bid: (Price, u64),
    /// Best offer: price, and the size there; (0, 0) when nobody sells.
    pub ask: (Price, u64),
    /// The symbol has lost messages, so that this is a guess.
    pub stale: bool,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BboFormat {
    /// With a header; an empty side has empty fields; `stale` is 0 or 1.
    Csv,
    /// An object a line; an empty side is left out; `stale` is there when it is true. Prices are exact decimals.
    Ndjson,
}

impl BboFormat {
    /// What stands before the first row.
    pub fn header(self) -> &'static str {
        match self {
            Self::Csv => "symbol,event_ns,sequence,bid,bid_size,ask,ask_size,stale\n",
            Self::Ndjson => "",
        }
    }
}

/// Writes one row; `symbol` is the symbol's name.
///
/// # Errors
/// What the writer reports.
pub fn write_bbo(out: &mut (impl Write + ?Sized), format: BboFormat, symbol: &str, bbo: &Bbo) -> io::Result<()> {
    let Bbo { event_ns, sequence, bid, ask, stale, .. } = *bbo;
    match format {
        BboFormat::Csv => {
            let (bid, ask, stale) = (Side(bid), Side(ask), u8::from(stale));
            writeln!(out, "{},{event_ns},{sequence},{bid},{ask},{stale}", Quoted::csv(symbol))
        }
        BboFormat::Ndjson => {
            write!(out, r#"{{"symbol":{},"event_ns":{event_ns},"sequence":{sequence}"#, Quoted::json(symbol))?;
            for (name, (price, size)) in [("bid", bid), ("ask", ask)] {
                if size > 0 {
                    write!(out, r#","{name}":{price},"{name}_size":{size}"#)?;
                }
            }
            out.write_all(if stale { b",\"stale\":true}\n" } else { b"}\n" })
        }
    }
}

/// Price and size of a side, or two empty fields.
struct Side((Price, u64));

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            (_, 0) => f.write_str(","),
            (price, size) => write!(f, "{price},{size}"),
        }
    }
}

/// A text as CSV (RFC 4180, section 2) or as JSON (RFC 8259, section 7) wants it.
struct Quoted<'a> {
    text: &'a str,
    is_json: bool,
}

impl<'a> Quoted<'a> {
    fn csv(text: &'a str) -> Self {
        Self { text, is_json: false }
    }

    fn json(text: &'a str) -> Self {
        Self { text, is_json: true }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_json && !self.text.contains(['"', ',', '\n', '\r']) {
            return f.write_str(self.text);
        }
        f.write_str("\"")?;
        for c in self.text.chars() {
            match (self.is_json, c) {
                (true, '"' | '\\') => write!(f, "\\{c}")?,
                (true, c) if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
                (false, '"') => f.write_str("\"\"")?,
                _ => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}
